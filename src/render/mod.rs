//! From the files of a commit to objects and problems.
//!
//! Bytes by path come in; objects with the place they were written at, and every problem of the
//! commit at once, go out. Called by `server::import` (and by `mainstay vet` and `plan`). Two
//! levels, so that an unchanged file costs nothing: [`render_file`] depends on path and bytes alone
//! and may be kept by path and blob id, as [`render_kustomization`] may by the paths it asked for;
//! a [`Layout`] says which of the two a path is for. A [`Picture`] puts the files of one commit
//! together and takes those of the next one in place of them ([`combine()`] does it in one go).
//! [`prune_guard`] says what may be deleted. Never reads a disk or Git, never panics on any bytes:
//! what is wrong with a file is a [`Problem`], not a failure.

mod combine;
pub mod edit;
mod file;
mod ignore;
mod kustomize;
mod picture;
mod prune;
pub mod sealed;
mod suggest;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeMap;

pub use combine::{Options, apply_order, combine};
pub use file::{FileObject, FileResult, Unknown, render_file};
pub use ignore::{IGNORE_FILE, Ignore};
pub use kustomize::{Files, Found, Held, Layout, build_values, render_kustomization};
pub use picture::Picture;
pub use prune::{PruneOptions, TRAILER, prune_guard};
pub use yaml::{BYTES_MAX, Fault, documents};

use crate::model::{Key, Object, Problem};

/// One object of a commit and where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedObject {
    /// Defaulted and valid; without uid, times and status.
    pub object: Object,
    /// The path of its file.
    pub file: String,
    /// The line its document starts at, from 1.
    pub line: u32,
    /// The kustomization that made it out of what its file says; absent for what is written as it
    /// is.
    pub made_by: Option<String>,
    /// The first 128 bits of the SHA-256 of its canonical JSON: equal digests need no comparison.
    pub digest: u128,
    /// Whether its file says no `spec.replicas` where its kind has one: the number is left to
    /// whoever scales it while it runs.
    pub open: bool,
}

/// What a commit says. It may be admitted when `problems` is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// Every object that could be read, by key.
    pub objects: BTreeMap<Key, RenderedObject>,
    /// Why the commit cannot be admitted, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// What its author should know all the same.
    pub warnings: Vec<Problem>,
}

/// Renders a whole commit: [`render_file`] for each file that stands for itself,
/// [`render_kustomization`] for each folder that is rendered, then [`combine()`].
pub fn render<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    options: &Options,
) -> Rendered {
    let files: Vec<(&str, &[u8])> = files.into_iter().collect();
    let mut held: Held<'_> = files.iter().copied().collect();
    combine(&render_files(&files, &mut held), options)
}

/// What the files of a commit say; kustomizations may name others, which `all` has too.
pub fn render_files(files: &[(&str, &[u8])], all: &mut dyn Files) -> Vec<FileResult> {
    let rules = files.iter().find(|(path, _)| *path == IGNORE_FILE);
    let ignore = Ignore::parse(rules.map_or(&[][..], |(_, bytes)| bytes));
    let wanted = || files.iter().filter(|(path, _)| ignore.is_manifest(path));
    let mut layout = Layout::default();
    for (path, bytes) in wanted().filter(|(path, _)| Layout::is_kustomization(path)) {
        layout.put(path, bytes);
    }
    let plain = wanted().filter(|(path, _)| layout.is_plain(path));
    let mut results: Vec<FileResult> =
        plain.map(|(path, bytes)| render_file(path, bytes)).collect();
    results.extend(layout.roots().iter().map(|folder| render_kustomization(folder, all)));
    results
}
