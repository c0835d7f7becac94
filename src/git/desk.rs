//! The repository that somebody works in: its files as they are, and its commits, as something that
//! can be shown to a cluster before it is pushed.
//!
//! What is made here is kept in memory: neither the index nor the objects of the repository change.

use std::path::Path;

use git2::{ErrorCode, IndexAddOption, Oid, Repository, RepositoryInitOptions};
use tempfile::TempDir;

use super::{
    commit::Person,
    error::{Error, Result},
    mirror::{commit_id, find_commit},
    receive::pack,
};
use crate::model::CommitId;

/// Before the backends of the disk (loose objects have 1, packs 2), so that nothing is written
/// there.
const MEMORY_PRIORITY: i32 = 1000;

/// The words of a commit that nobody made.
const MESSAGE: &str = "Working tree\n";

/// Where somebody works.
pub struct Desk {
    repo: Repository,
    /// Holds what Git needs beside a folder that is in no repository.
    _beside: Option<TempDir>,
}

impl Desk {
    /// The repository that a folder is in; none when it is in none.
    pub fn around(dir: &Path) -> Result<Option<Self>> {
        match Repository::discover(dir) {
            Ok(repo) => Self::of(repo, None).map(Some),
            Err(cause) if cause.code() == ErrorCode::NotFound => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }

    /// A folder by itself, as if it were all of a repository without commits.
    pub fn alone(dir: &Path) -> Result<Self> {
        let beside = tempfile::tempdir().map_err(|cause| Error::disk(dir, &cause))?;
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false);
        let repo = Repository::init_opts(beside.path(), &options)?;
        let full = dir.canonicalize().map_err(|cause| Error::disk(dir, &cause))?;
        repo.set_workdir(&full, false)?;
        Self::of(repo, Some(beside))
    }

    fn of(repo: Repository, beside: Option<TempDir>) -> Result<Self> {
        repo.odb()?.add_new_mempack_backend(MEMORY_PRIORITY)?;
        Ok(Self { repo, _beside: beside })
    }

    /// The folder of its files; none when it has only commits.
    pub fn files(&self) -> Option<&Path> {
        self.repo.workdir()
    }

    /// Whether a commit is here.
    pub fn has(&self, commit: &CommitId) -> bool {
        find_commit(&self.repo, commit).is_ok()
    }

    /// The commit that a person names, when it is here.
    pub fn revision(&self, text: &str) -> Option<CommitId> {
        let object = self.repo.revparse_single(text).ok()?;
        Some(commit_id(object.peel_to_commit().ok()?.id()))
    }

    /// The files as they are, as a commit on top of the one that was checked out: what `git add
    /// --all` would take, committed or not. That commit itself when nothing differs.
    pub fn draft(&self, who: &Person) -> Result<CommitId> {
        let tree = self.tree()?;
        let head = match self.repo.head() {
            Ok(head) => Some(head.peel_to_commit()?),
            Err(cause) if cause.code() == ErrorCode::UnbornBranch => None,
            Err(cause) => return Err(cause.into()),
        };
        if let Some(head) = head.as_ref().filter(|head| head.tree_id() == tree) {
            return Ok(commit_id(head.id()));
        }
        let (who, tree) = (who.signature()?, self.repo.find_tree(tree)?);
        let parents: Vec<_> = head.iter().collect();
        Ok(commit_id(self.repo.commit(None, &who, &who, MESSAGE, &tree, &parents)?))
    }

    fn tree(&self) -> Result<Oid> {
        let unusable = |reason: &str| Error::Argument {
            what: self.repo.path().display().to_string(),
            reason: reason.to_owned(),
        };
        if self.repo.is_bare() {
            return Err(unusable("it has no working tree; name a revision"));
        }
        let mut index = self.repo.index()?;
        if index.has_conflicts() {
            return Err(unusable("its working tree has conflicts; resolve them first"));
        }
        index.add_all(["*"], IndexAddOption::DEFAULT, None)?;
        Ok(index.write_tree()?)
    }

    /// Packs everything that `new` reaches and `old` does not.
    pub fn pack(&self, old: Option<&CommitId>, new: &CommitId) -> Result<Vec<u8>> {
        pack(&self.repo, old, new)
    }
}
