//! Kustomizations: what `kubectl kustomize` makes of a folder, made here.
//!
//! In: the folder of a kustomization and the files of its commit, asked for by path. Out: the
//! objects with the lines they come from, and every problem. [`Layout`] says which folders are
//! rendered. Called by `server::import`, `mainstay vet` and `plan`. Nothing is fetched, nothing is
//! run, and no path leads out of the repository; what is not done is refused by name. The order
//! of things and their details are those of the kustomize inside kubectl (kubectl.docs.kubernetes.
//! io/references/kustomize), and tests/kustomize holds the two against each other.

mod build;
mod fields;
mod file;
mod generate;
mod layout;
mod merge;
mod patch;
mod paths;
mod references;
mod replace;
mod resource;
mod select;
mod specs;
#[cfg(test)]
mod tests;
mod transform;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

pub use layout::Layout;

use super::{FileResult, file as plain, sealed};
use crate::model::Problem;

/// What is at a path of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file, with its bytes.
    File(Arc<[u8]>),
    /// A folder.
    Folder,
    /// Nothing.
    Nothing,
    /// Something that is not read, and why: a link, a file that is too large.
    Unusable(String),
}

/// The files of one commit, by path. Whoever implements it sees which paths a rendering depends on.
pub trait Files {
    /// What is at a path; `/` between its parts, the empty path is the top of the repository.
    fn find(&mut self, path: &str) -> Found;
}

/// Files that are all at hand.
#[derive(Debug, Default)]
pub struct Held<'a>(BTreeMap<&'a str, &'a [u8]>);

impl<'a> FromIterator<(&'a str, &'a [u8])> for Held<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(files: I) -> Self {
        Self(files.into_iter().collect())
    }
}

impl Files for Held<'_> {
    fn find(&mut self, path: &str) -> Found {
        if let Some(bytes) = self.0.get(path) {
            return Found::File(Arc::from(*bytes));
        }
        let prefix = build::join(path, "");
        let first = self.0.range(prefix.as_str()..).next();
        match path.is_empty() || first.is_some_and(|(found, _)| found.starts_with(&prefix)) {
            true => Found::Folder,
            false => Found::Nothing,
        }
    }
}

/// Renders the kustomization of a folder with everything it refers to.
///
/// Depends on the paths that `files` is asked for, and on nothing else. A kustomization with
/// problems gives no objects: half of one is something else than its author wrote.
pub fn render_kustomization(folder: &str, files: &mut dyn Files) -> FileResult {
    let path = build::join(folder, name_in(folder, files));
    let mut result = FileResult { path, built: true, ..FileResult::default() };
    if is_component(&result.path, files) {
        let message = "this Component is named by no kustomization of the source: nothing of it \
                       is read";
        let (file, line) = (result.path.clone(), 1);
        result.warnings.push(Problem { file, line, field: "kind".into(), message: message.into() });
        return result;
    }
    let made = build::build(files, folder);
    if made.problems.is_empty() {
        result.sealed = made.sealed;
        admit(made.set, &mut result);
    } else {
        result.problems = made.problems;
        plain::finish(&mut result, 0);
    }
    result.problems.dedup();
    result
}

/// What the kustomization of a folder makes, before defaults and validation; for tests that
/// compare it.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn build_values(folder: &str, files: &mut dyn Files) -> Result<Vec<Value>, Vec<Problem>> {
    let made = build::build(files, folder);
    match made.problems.is_empty() {
        true => Ok(made.set.into_iter().map(|resource| resource.value).collect()),
        false => Err(made.problems),
    }
}

/// How the kustomization of a folder is called.
fn name_in(folder: &str, files: &mut dyn Files) -> &'static str {
    let is_there = |name: &&&str| matches!(files.find(&build::join(folder, name)), Found::File(_));
    file::NAMES.iter().find(is_there).unwrap_or(&file::NAMES[0])
}

fn is_component(path: &str, files: &mut dyn Files) -> bool {
    let Found::File(bytes) = files.find(path) else { return false };
    let source = resource::Source { path: path.to_owned(), bytes };
    file::Kustomization::read(Arc::new(source)).is_ok_and(|file| file.is_component())
}

/// Takes the objects through the one door; what is wrong is told at the lines they come from.
fn admit(set: Vec<resource::Resource>, result: &mut FileResult) {
    let sources: Vec<Arc<resource::Source>> =
        set.iter().map(|resource| resource.place.source.clone()).collect();
    let mut readers: BTreeMap<&str, plain::Reader<'_>> = BTreeMap::new();
    for source in &sources {
        let reader = || plain::Reader::new(&source.path, &source.bytes);
        readers.entry(source.path.as_str()).or_insert_with(reader);
    }
    for (resource, source) in set.into_iter().zip(&sources) {
        let reader = &readers[source.path.as_str()];
        let resource::Place { document, prefix, line, .. } = resource.place;
        let spot = plain::Spot { document, prefix, line, reader };
        plain::read_object(&spot, resource.value, result);
    }
    sealed::check(result);
    let built = format!(" (as {} makes it)", result.path);
    for problem in result.problems.iter_mut().chain(&mut result.warnings) {
        problem.message.push_str(&built);
    }
    let more = readers.values().map(plain::Reader::more).sum();
    plain::finish(result, more);
}
