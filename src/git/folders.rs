//! What stands directly in a folder, and ids by which a folder is known to be as it was.

use std::collections::BTreeMap;

use git2::Oid;

use super::{
    error::Result,
    mirror::Reader,
    tree::{File, Kind, Limits, Walk, root_prefix},
};
use crate::model::{CommitId, Problem};

/// The id of a folder with all that is in it: equal ids, equal files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderId(Oid);

/// What stands directly in a folder.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The folders in it, by name.
    pub folders: BTreeMap<String, FolderId>,
    /// The paths of the files in it, in order.
    pub files: Vec<String>,
    /// What in it cannot be used.
    pub problems: Vec<Problem>,
}

impl Reader {
    /// What stands directly in a folder of a commit; none when there is no such folder.
    pub fn listing(&self, commit: &CommitId, root: &str) -> Result<Option<Listing>> {
        let Some(id) = self.tree_at(commit, root)? else { return Ok(None) };
        let tree = self.repo.find_tree(id).map_err(|cause| self.meaning(cause))?;
        let (prefix, limits, none) = (root_prefix(root), Limits::default(), |_: &str| false);
        let mut walk = Walk::new(self, &none, &limits);
        let mut listing = Listing::default();
        for entry in &tree {
            match walk.usable(&entry, &prefix) {
                Some((path, Kind::Folder)) => {
                    let name = path[prefix.len()..].to_owned();
                    listing.folders.insert(name, FolderId(entry.id()));
                }
                Some((path, _)) => listing.files.push(path),
                None => {}
            }
        }
        listing.problems = walk.finish().problems;
        Ok(Some(listing))
    }

    /// The id of a folder of a commit; none when there is no such folder.
    pub fn folder(&self, commit: &CommitId, path: &str) -> Result<Option<FolderId>> {
        Ok(self.tree_at(commit, path)?.map(FolderId))
    }

    /// The files in a folder at `path` and below it that `wanted` accepts. What cannot be used is
    /// left out: whoever reads the folder is told.
    pub fn files_in(
        &self,
        folder: FolderId,
        path: &str,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<File>> {
        let limits = Limits::default();
        let mut walk = Walk::new(self, wanted, &limits);
        walk.folder(folder.0, &root_prefix(path), 0)?;
        Ok(walk.finish().files)
    }
}
