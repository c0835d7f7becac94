//! How mainstay writes the desired branch: taking one commit back, going back to what a
//! commit had, because a person asked or because a rollout failed, and a change of files that
//! somebody asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use git2::{Oid, Repository};

use super::{
    commit::{Commit, Message, Person},
    error::{Error, Result},
    mirror::{Mirror, commit_id, find_commit},
    publish::{Pushed, Step},
    remote::Reference,
    status::{changed, check_path, commit, merge},
    tree::{Kind, kind, root_prefix},
};
use crate::model::CommitId;

/// Most commits that are looked through for the one to take back: a push of more is taken back
/// whole.
const PUSH_COMMITS_MAX: usize = 1000;

/// A commit whose rollout failed, and what it takes to undo it.
#[derive(Clone, Debug)]
pub struct Undo {
    /// The commit that failed.
    pub bad: CommitId,
    /// The commit that ran before.
    pub good: CommitId,
    /// Commits of the same content: with one of them as the tip it is undone as well.
    pub same: BTreeSet<CommitId>,
    /// The files of the objects that failed.
    pub files: Vec<String>,
    /// The folder whose files are undone; others may be somebody else's. Empty for all of them.
    pub path: String,
    /// The trailer by which people run again what failed: a tip that has it is theirs.
    pub retry: String,
    /// The trailer, and what it says, by which the commit that undoes it is found.
    pub trailer: (String, String),
}

/// What became of an undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// This commit undoes it; it may have been there before.
    Pushed(CommitId),
    /// Somebody else's commit is the tip, and nothing was written.
    Overtaken(CommitId),
}

impl Mirror {
    /// Pushes a commit onto the desired branch that undoes a failed one: it takes the newest commit
    /// back that touched the files that failed, or restores what ran before where that is not
    /// possible.
    ///
    /// A commit on the branch that has the trailer already is found, and the branch is left alone
    /// when somebody else has pushed meanwhile. `words` is given the commit that is taken back.
    pub fn undo(
        &self,
        undo: &Undo,
        words: &dyn Fn(Option<&Commit>) -> Result<Message>,
        who: &Person,
        within: Duration,
    ) -> Result<Undone> {
        let branch = self.desired_branch()?;
        let mut overtaken = false;
        let pushed = self.publish(&format!("refs/heads/{branch}"), within, |repo, tip| {
            let reference = self.remote.reference.to_string();
            let missing = || Error::Missing { url: self.remote.url.clone(), reference };
            let tip = tip.ok_or_else(missing)?;
            if let Some(found) = undone(repo, tip, undo)? {
                return Ok(Step::Already(found));
            }
            let id = commit_id(tip);
            let is_bad = id == undo.bad || undo.same.contains(&id);
            overtaken = !is_bad && !is_as_bad(repo, tip, undo)?;
            if overtaken {
                return Ok(Step::Already(tip));
            }
            self.undoing(repo, tip, undo, words, who).map(Step::Commit)
        })?;
        Ok(if overtaken { Undone::Overtaken(pushed.commit) } else { Undone::Pushed(pushed.commit) })
    }

    /// Pushes the commit that would undo a failed one onto a branch of its own, where people find
    /// it. A branch that is there already is left as it is.
    pub fn propose_undo(
        &self,
        undo: &Undo,
        branch: &str,
        words: &dyn Fn(Option<&Commit>) -> Result<Message>,
        who: &Person,
        within: Duration,
    ) -> Result<CommitId> {
        let pushed =
            self.publish(&format!("refs/heads/{branch}"), within, |repo, tip| match tip {
                Some(there) => Ok(Step::Already(there)),
                None => {
                    let bad = find_commit(repo, &undo.bad)?.id();
                    self.undoing(repo, bad, undo, words, who).map(Step::Commit)
                }
            })?;
        Ok(pushed.commit)
    }

    /// Makes the commit that undoes a failed one, on top of `tip`.
    fn undoing(
        &self,
        repo: &Repository,
        tip: Oid,
        undo: &Undo,
        words: &dyn Fn(Option<&Commit>) -> Result<Message>,
        who: &Person,
    ) -> Result<Oid> {
        let ours = repo.find_commit(tip)?;
        let mut tree = find_commit(repo, &undo.good)?.tree_id();
        let mut taken = None;
        if let Some(culprit) = culprit(repo, undo)? {
            let mainline = u32::from(culprit.parent_count() > 1);
            let mut index = repo.revert_commit(&culprit, &ours, mainline, None)?;
            if !index.has_conflicts() {
                tree = index.write_tree_to(repo)?;
                taken = Some(Commit::of(&culprit)?);
            }
        }
        let tree = within(repo, ours.tree_id(), tree, &undo.path)?;
        if tree == ours.tree_id() {
            let reason = format!("changed nothing below {:?} that can be undone", undo.path);
            return Err(Error::Argument { what: format!("commit {}", undo.bad), reason });
        }
        let who = who.signature()?;
        commit(repo, Some(tip), tree, &words(taken.as_ref())?, (&who, &who), self.key.as_ref())
    }

    pub(super) fn desired_branch(&self) -> Result<&str> {
        match &self.remote.reference {
            Reference::Branch(branch) => Ok(branch),
            reference => {
                let name = reference.to_string();
                let reason = "stands still; a rollback needs a branch as desired reference".into();
                Err(Error::Reference { name, reason })
            }
        }
    }

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

    /// Brings a commit into the desired branch: moves it forward where the commit follows the tip,
    /// else pushes a merge. What is part of the branch already is left alone; what both changed is
    /// an [`Error::Conflict`].
    pub fn promote(
        &self,
        from: &CommitId,
        message: &Message,
        author: &Person,
        committer: &Person,
        within: Duration,
    ) -> Result<Pushed> {
        let branch = self.desired_branch()?;
        let (author, committer) = (author.signature()?, committer.signature()?);
        self.publish(&format!("refs/heads/{branch}"), within, |repo, tip| {
            let theirs = find_commit(repo, from)?;
            let Some(tip) = tip else { return Ok(Step::Commit(theirs.id())) };
            if tip == theirs.id() || repo.graph_descendant_of(tip, theirs.id())? {
                return Ok(Step::Already(tip));
            }
            if repo.graph_descendant_of(theirs.id(), tip)? {
                return Ok(Step::Commit(theirs.id()));
            }
            let ours = repo.find_commit(tip)?;
            let mut index = repo.merge_commits(&ours, &theirs, None)?;
            if index.has_conflicts() {
                let paths = conflicts(&index)?;
                return Err(Error::Conflict { commit: from.clone(), paths });
            }
            let (tree, both) = (index.write_tree_to(repo)?, [tip, theirs.id()]);
            merge(repo, &both, tree, message, (&author, &committer), self.key.as_ref())
                .map(Step::Commit)
        })
    }

    /// Pushes a commit onto the desired branch that changes files of its tip (`None` removes one).
    ///
    /// The changes were thought of at `expected`: a branch that stands elsewhere is
    /// [`Error::Moved`], and nothing is pushed.
    pub fn change(
        &self,
        expected: &CommitId,
        changes: &BTreeMap<String, Option<Vec<u8>>>,
        message: &Message,
        author: &Person,
        committer: &Person,
        within: Duration,
    ) -> Result<Pushed> {
        changes.keys().try_for_each(|path| check_path(path))?;
        self.on_desired(message, author, committer, within, |repo, tip| {
            if tip.to_string() != expected.as_str() {
                let reference = self.remote.reference.to_string();
                return Err(Error::Moved { reference, attempts: 1 });
            }
            changed(repo, Some(tip), changes)
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
        let branch = self.desired_branch()?;
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

/// Whether a tip has the files that failed just as they were, and does not ask to run them again:
/// somebody pushed what is no business of the folder.
fn is_as_bad(repo: &Repository, tip: Oid, undo: &Undo) -> Result<bool> {
    let tip = repo.find_commit(tip)?;
    if Commit::of(&tip)?.trailer(&undo.retry).is_some() {
        return Ok(false);
    }
    let bad = find_commit(repo, &undo.bad)?.tree_id();
    Ok(folder(repo, bad, &undo.path)? == folder(repo, tip.tree_id(), &undo.path)?)
}

/// The files of `ours`, below `path` those of `theirs`.
fn within(repo: &Repository, ours: Oid, theirs: Oid, path: &str) -> Result<Oid> {
    let prefix = root_prefix(path);
    let path = prefix.trim_end_matches('/');
    if path.is_empty() {
        return Ok(theirs);
    }
    let mut update = git2::build::TreeUpdateBuilder::new();
    match (folder(repo, theirs, path)?, folder(repo, ours, path)?) {
        (Some(theirs), _) => update.upsert(path, theirs, git2::FileMode::Tree),
        (None, Some(_)) => update.remove(path),
        (None, None) => return Ok(ours),
    };
    Ok(update.create_updated(repo, &repo.find_tree(ours)?)?)
}

/// A folder of a tree, where it has it.
fn folder(repo: &Repository, tree: Oid, path: &str) -> Result<Option<Oid>> {
    let mut id = tree;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match repo.find_tree(id)?.get_name(part) {
            Some(entry) if kind(&entry) == Kind::Folder => id = entry.id(),
            _ => return Ok(None),
        }
    }
    Ok(Some(id))
}

/// The commit between the tip and the failed one that undoes it already.
fn undone(repo: &Repository, tip: Oid, undo: &Undo) -> Result<Option<Oid>> {
    let mut next = Some(repo.find_commit(tip)?);
    for _ in 0..PUSH_COMMITS_MAX {
        let Some(found) = next.filter(|c| commit_id(c.id()) != undo.bad) else { break };
        let (trailer, says) = &undo.trailer;
        if Commit::of(&found)?.trailer(trailer) == Some(says.as_str()) {
            return Ok(Some(found.id()));
        }
        next = found.parent(0).ok();
    }
    Ok(None)
}

/// The newest commit after the good one, first parents only, that touched a file that failed.
/// `None` when the good one is not below the failed one, or when none touched these files.
fn culprit<'r>(repo: &'r Repository, undo: &Undo) -> Result<Option<git2::Commit<'r>>> {
    let mut found = None;
    let mut next = Some(find_commit(repo, &undo.bad)?);
    for _ in 0..PUSH_COMMITS_MAX {
        let Some(commit) = next else { break };
        if commit_id(commit.id()) == undo.good {
            return Ok(found);
        }
        let parent = commit.parent(0).ok();
        if found.is_none() && touches(repo, parent.as_ref(), &commit, &undo.files)? {
            found = Some(commit);
        }
        next = parent;
    }
    Ok(None)
}

fn touches(
    repo: &Repository,
    before: Option<&git2::Commit<'_>>,
    after: &git2::Commit<'_>,
    files: &[String],
) -> Result<bool> {
    let before = before.map(git2::Commit::tree).transpose()?;
    let mut options = git2::DiffOptions::new();
    options.disable_pathspec_match(true);
    for file in files {
        options.pathspec(file);
    }
    let diff = repo.diff_tree_to_tree(before.as_ref(), Some(&after.tree()?), Some(&mut options))?;
    Ok(diff.deltas().len() > 0)
}

/// The files that two sides changed in ways that do not fit.
pub(super) fn conflicts(index: &git2::Index) -> Result<Vec<String>> {
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
