//! `mainstay vet <dir>`

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Error, Format, output, text};
use crate::{
    model::Problem,
    render::{self, Files, Found},
};

/// Deepest folder that is read. Git has no such limit; nobody nests manifests so deep.
const DEPTH_MAX: usize = 64;

/// Check the manifests of a folder as the cluster would, without a cluster
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// The folder that the cluster would read
    dir: PathBuf,
    /// A namespace that the cluster has beside those in the folder; may be given several times
    #[arg(long = "live-namespace")]
    live_namespaces: Vec<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

/// What `mainstay vet` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct VetReport {
    /// How many objects the folder holds.
    pub(super) objects: usize,
    /// Why the commit would be refused.
    pub(super) problems: Vec<Problem>,
    /// What its author should know all the same.
    pub(super) warnings: Vec<Problem>,
}

pub(super) fn run(verb: &Verb) -> Result<(), Error> {
    let report = vet(&verb.dir, &verb.live_namespaces)?;
    output::print(verb.output, &report, text::vet)?;
    match report.problems.len() {
        0 => Ok(()),
        n => Err(Error::no(format!("{n} problems"))),
    }
}

fn vet(dir: &Path, live_namespaces: &[String]) -> Result<VetReport, Error> {
    let (top, prefix) = repository(dir);
    let mut files = Vec::new();
    collect(dir, &prefix, 0, &mut files)?;
    if !prefix.is_empty() {
        let rules = std::fs::read(top.join(render::IGNORE_FILE)).unwrap_or_default();
        files.push((render::IGNORE_FILE.to_owned(), rules));
    }
    files.sort();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let options = render::Options { live_namespaces: live_namespaces.iter().cloned().collect() };
    let results = render::render_files(&files, &mut Disk { top });
    let rendered = render::combine(&results, &options);
    Ok(VetReport {
        objects: rendered.objects.len(),
        problems: below(&prefix, rendered.problems),
        warnings: below(&prefix, rendered.warnings),
    })
}

/// The repository that a folder is in, and where in there; the folder itself when it is in none.
fn repository(dir: &Path) -> (PathBuf, String) {
    let whole = || (dir.to_owned(), String::new());
    let Ok(full) = dir.canonicalize() else { return whole() };
    let Some(top) = full.ancestors().find(|path| path.join(".git").exists()) else {
        return whole();
    };
    match full.strip_prefix(top).ok().and_then(Path::to_str) {
        Some(prefix) => (top.to_owned(), prefix.to_owned()),
        None => whole(),
    }
}

/// Problems as they are seen from the folder that was asked about.
fn below(prefix: &str, mut problems: Vec<Problem>) -> Vec<Problem> {
    for problem in &mut problems {
        let inside = problem.file.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
        if let Some(inside) = inside.map(str::to_owned) {
            problem.file = inside;
        }
    }
    problems
}

/// The files of a repository on disk, which kustomizations name.
struct Disk {
    top: PathBuf,
}

impl Files for Disk {
    fn find(&mut self, path: &str) -> Found {
        // No part on the way may be a link, as in a commit.
        let mut here = self.top.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            here.push(part);
            let Ok(meta) = std::fs::symlink_metadata(&here) else { return Found::Nothing };
            if meta.is_symlink() {
                return Found::Unusable("is a link, which is not followed".to_owned());
            }
        }
        match here.is_dir() {
            true => Found::Folder,
            false => match read(&here) {
                Ok(bytes) => Found::File(bytes.into()),
                Err(error) => Found::Unusable(format!("cannot be read: {error}")),
            },
        }
    }
}

/// The files under a folder by path, as a commit of it would hold them: no `.git`, and links are
/// not followed.
fn collect(
    dir: &Path,
    prefix: &str,
    depth: usize,
    files: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), Error> {
    let wrong = |path: &Path, e: std::io::Error| Error::yours(format!("{}: {e}", path.display()));
    if depth > DEPTH_MAX {
        let text = format!("{}: deeper than {DEPTH_MAX} folders", dir.display());
        return Err(Error::yours(text));
    }
    for entry in std::fs::read_dir(dir).map_err(|e| wrong(dir, e))? {
        let entry = entry.map_err(|e| wrong(dir, e))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(|e| wrong(dir, e))?);
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == ".git" {
            continue;
        }
        let inside = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if kind.is_dir() {
            collect(&path, &inside, depth + 1, files)?;
        } else if kind.is_file() {
            files.push((inside, read(&path).map_err(|e| wrong(&path, e))?));
        }
    }
    Ok(())
}

/// One byte more than `render` takes is enough for it to say that a file is too large.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let most = u64::try_from(render::BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) fn vet_for_test(dir: &Path) -> VetReport {
    vet(dir, &["shop".to_owned()]).unwrap()
}
