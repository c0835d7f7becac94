//! The first fetch of a repository on this machine: its object store, copied as it lies on disk.
//!
//! libgit2's own way packs every object anew, looking for deltas, and that takes as long as reading
//! and judging the files takes afterwards. What is copied is not looked into: an object is checked
//! against its id whenever it is read, and one that is damaged has the mirror cloned afresh, which
//! goes libgit2's way. Whatever is unusual here is left to libgit2 as well.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use git2::Repository;

/// Most loose objects that are copied one by one; with more, one pack of what is wanted is cheaper
/// and tidier.
const LOOSE_MAX: usize = 2000;

/// What makes an object store more, or less, than its own files: others it borrows from, a cut
/// history.
const UNUSUAL: [&str; 3] = ["objects/info/alternates", "objects/info/http-alternates", "shallow"];

/// Copies every object of the repository at `path` into one that has none yet. False when that is
/// not done, for whatever reason; nothing is left behind then.
pub(super) fn everything(path: &Path, to: &Repository, bytes_max: u64) -> bool {
    let Ok(from) = Repository::open(path) else { return false };
    let from = from.commondir();
    if UNUSUAL.iter().any(|name| from.join(name).exists()) {
        return false;
    }
    let (from, to) = (from.join("objects"), to.path().join("objects"));
    let mut copied = Vec::new();
    let done = copy(&from, &to, bytes_max, &mut copied);
    if let Err(error) = &done {
        tracing::debug!(event = "objects not copied", from = %from.display(), %error);
        // What stays of a failure is found and repaired when it is read.
        copied.iter().for_each(|path| drop(fs::remove_file(path)));
    }
    done.is_ok()
}

/// Loose objects before packs: one that is packed meanwhile is in a pack that is listed later.
fn copy(from: &Path, to: &Path, bytes_max: u64, copied: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut bytes_left = bytes_max;
    let mut take = |files: Vec<PathBuf>| {
        for file in files {
            let bytes = fs::metadata(from.join(&file))?.len();
            bytes_left = bytes_left.checked_sub(bytes).ok_or_else(|| unusual("too large"))?;
            put(&from.join(&file), &to.join(&file), copied)?;
        }
        Ok::<_, io::Error>(())
    };
    take(loose(from)?)?;
    take(packs(from)?)
}

/// A file appears whole or not at all.
fn put(from: &Path, to: &Path, copied: &mut Vec<PathBuf>) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = to.with_extension("partial");
    copied.push(partial.clone());
    fs::copy(from, &partial)?;
    fs::rename(&partial, to)?;
    copied.push(to.to_owned());
    Ok(())
}

/// The loose objects, by their paths in the store.
fn loose(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in names(store)?.into_iter().filter(|name| is_hexadecimal(name, 2)) {
        let objects = names(&store.join(&folder))?;
        let objects = objects.into_iter().filter(|name| is_hexadecimal(name, 38));
        found.extend(objects.map(|name| Path::new(&folder).join(name)));
        if found.len() > LOOSE_MAX {
            return Err(unusual("many loose objects"));
        }
    }
    Ok(found)
}

/// The packs, each before its index: a pack is there once its index is.
fn packs(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in names(&store.join("pack"))? {
        let index = Path::new("pack").join(name);
        match index.extension().and_then(OsStr::to_str) {
            Some("promisor") => return Err(unusual("objects are elsewhere")),
            Some("idx") => found.extend([index.with_extension("pack"), index]),
            _ => {}
        }
    }
    Ok(found)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
    entries.filter_map(|entry| name(entry).transpose()).collect()
}

fn is_hexadecimal(name: &str, length: usize) -> bool {
    name.len() == length && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn unusual(words: &str) -> io::Error {
    io::Error::other(words)
}
