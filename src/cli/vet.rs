//! `mainstay vet <dir>`

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Error, Format, output, text};
use crate::{model::Problem, render};

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
    let mut files = Vec::new();
    collect(dir, "", 0, &mut files)?;
    files.sort();
    let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    let options = render::Options { live_namespaces: live_namespaces.iter().cloned().collect() };
    let rendered = render::render(files, &options);
    Ok(VetReport {
        objects: rendered.objects.len(),
        problems: rendered.problems,
        warnings: rendered.warnings,
    })
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
