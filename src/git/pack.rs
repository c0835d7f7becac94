//! Keeps the mirror small: many loose objects and packs become one pack.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use git2::Repository;

use super::{
    error::{Error, Result},
    mirror::{Mirror, find_commit},
};
use crate::model::CommitId;

/// Loose objects above which the mirror is packed. A status commit makes three or four; Git's own
/// `gc --auto` waits for 6,700.
pub const LOOSE_OBJECTS_MAX: usize = 2_000;

/// Packs above which the mirror is packed; each fetch brings one. Git's `gc.autoPackLimit`.
pub const PACKS_MAX: usize = 50;

impl Mirror {
    /// Packs the mirror when it holds more than [`LOOSE_OBJECTS_MAX`] or [`PACKS_MAX`]; says
    /// whether it did.
    ///
    /// What no ref reaches is dropped, but for the commits to `keep` and theirs: a branch may have
    /// left behind what still runs. Fetches and writes wait meanwhile: call it from time to time.
    pub fn tidy(&self, keep: &[CommitId]) -> Result<bool> {
        self.tidy_above((LOOSE_OBJECTS_MAX, PACKS_MAX), keep)
    }

    pub(super) fn tidy_above(
        &self,
        (loose_max, packs_max): (usize, usize),
        keep: &[CommitId],
    ) -> Result<bool> {
        let _alone = self.swap.write().unwrap_or_else(PoisonError::into_inner);
        let objects = self.dir.join("objects");
        let loose = loose_objects(&objects)?;
        let packs = packs(&objects.join("pack"))?;
        if loose.len() <= loose_max && packs.len() / 2 <= packs_max {
            return Ok(false);
        }
        let repo = self.repository()?;
        let kept = write_pack(&repo, &objects.join("pack"), keep)?;
        // The new pack is complete and named by its checksum: only now may the old ones go.
        let old = packs.into_iter().filter(|path| !kept.contains(path));
        for path in loose.into_iter().chain(old) {
            fs::remove_file(&path).map_err(|cause| Error::disk(&path, &cause))?;
        }
        Ok(true)
    }
}

/// Writes everything that refs and the commits to keep reach; gives the files of the new pack (none
/// when there is nothing).
fn write_pack(repo: &Repository, dir: &Path, keep: &[CommitId]) -> Result<BTreeSet<PathBuf>> {
    let mut builder = repo.packbuilder()?;
    let mut walk = repo.revwalk()?;
    // One that is not here cannot be lost.
    for commit in keep.iter().filter_map(|id| find_commit(repo, id).ok()) {
        walk.push(commit.id())?;
    }
    for reference in repo.references()? {
        let Some(id) = reference?.target() else { continue };
        builder.insert_object(id, None)?;
        let object = repo.find_object(id, None)?;
        match object.peel_to_commit() {
            Ok(commit) => walk.push(commit.id())?,
            Err(_) => builder.insert_recursive(id, None)?,
        }
    }
    builder.insert_walk(&mut walk)?;
    if builder.object_count() == 0 {
        return Ok(BTreeSet::new());
    }
    builder.write(dir, 0o444)?;
    let name = builder.name()?.unwrap_or_default().to_owned();
    Ok(["pack", "idx"].map(|ending| dir.join(format!("pack-{name}.{ending}"))).into())
}

fn loose_objects(objects: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in entries(objects)? {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            found.extend(entries(&folder)?);
        }
    }
    Ok(found)
}

fn packs(dir: &Path) -> Result<Vec<PathBuf>> {
    let pack = |path: &PathBuf| path.extension().is_some_and(|e| e == "pack" || e == "idx");
    let mut found: Vec<PathBuf> = entries(dir)?.into_iter().filter(pack).collect();
    // Each `.idx` before its `.pack`, so that a crash in between leaves no index without its pack.
    found.sort_by_key(|path| path.extension().is_some_and(|e| e == "pack"));
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let disk = |cause: std::io::Error| Error::disk(dir, &cause);
    let read = fs::read_dir(dir).map_err(disk)?;
    read.map(|entry| entry.map(|entry| entry.path()).map_err(disk)).collect()
}
