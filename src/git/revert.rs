//! The only two ways in which mainstay writes the desired branch by itself: taking one commit back,
//! and going back to what a commit had.

use std::time::Duration;

use git2::{Oid, Repository};

use super::{
    commit::{Message, Person},
    error::{Error, Result},
    mirror::{Mirror, find_commit},
    publish::{Pushed, Step},
    remote::Reference,
    status::commit,
};
use crate::model::CommitId;

impl Mirror {
    /// Pushes a commit onto the desired branch that takes `bad` back.
    ///
    /// A merge is taken back against its first parent. When the branch has it taken back already (a
    /// human was faster), nothing is written. Lines that later commits changed are an
    /// [`Error::Conflict`].
    pub fn revert(
        &self,
        bad: &CommitId,
        message: &Message,
        author: &Person,
        committer: &Person,
        within: Duration,
    ) -> Result<Pushed> {
        self.on_desired(message, author, committer, within, |repo, tip| {
            let bad_commit = find_commit(repo, bad)?;
            if bad_commit.id() != tip && !repo.graph_descendant_of(tip, bad_commit.id())? {
                let reason = format!("is not on {}", self.remote.reference);
                return Err(Error::Argument { what: format!("commit {bad}"), reason });
            }
            let mainline = u32::from(bad_commit.parent_count() > 1);
            let ours = repo.find_commit(tip)?;
            let mut index = repo.revert_commit(&bad_commit, &ours, mainline, None)?;
            if index.has_conflicts() {
                let paths = conflicts(&index)?;
                return Err(Error::Conflict { commit: bad.clone(), paths });
            }
            Ok(index.write_tree_to(repo)?)
        })
    }

    /// Pushes a commit onto the desired branch that has exactly the files of `to`.
    pub fn restore(
        &self,
        to: &CommitId,
        message: &Message,
        author: &Person,
        committer: &Person,
        within: Duration,
    ) -> Result<Pushed> {
        self.on_desired(message, author, committer, within, |repo, _| {
            Ok(find_commit(repo, to)?.tree_id())
        })
    }

    fn on_desired(
        &self,
        message: &Message,
        author: &Person,
        committer: &Person,
        within: Duration,
        tree: impl Fn(&Repository, Oid) -> Result<Oid>,
    ) -> Result<Pushed> {
        let Reference::Branch(branch) = &self.remote.reference else {
            let name = self.remote.reference.to_string();
            let reason = "stands still; a rollback needs a branch as desired reference".into();
            return Err(Error::Reference { name, reason });
        };
        let (author, committer) = (author.signature()?, committer.signature()?);
        self.publish(&format!("refs/heads/{branch}"), within, |repo, tip| {
            let Some(tip) = tip else {
                let reference = self.remote.reference.to_string();
                return Err(Error::Missing { url: self.remote.url.clone(), reference });
            };
            let tree = tree(repo, tip)?;
            if repo.find_commit(tip)?.tree_id() == tree {
                return Ok(Step::Already(tip));
            }
            commit(repo, Some(tip), tree, message, (&author, &committer), self.key.as_ref())
                .map(Step::Commit)
        })
    }
}

fn conflicts(index: &git2::Index) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for conflict in index.conflicts()? {
        let conflict = conflict?;
        let entry = conflict.our.or(conflict.their).or(conflict.ancestor);
        paths.extend(entry.map(|entry| String::from_utf8_lossy(&entry.path).into_owned()));
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}
