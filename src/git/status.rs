//! The status branch: what happened, as commits that change a few files each.

use std::{collections::BTreeMap, time::Duration};

use git2::{ObjectType, Oid, Repository};

use super::{
    batch::Batch,
    commit::{Commit, Message, Person},
    error::{Error, Result},
    exchange::Deadline,
    mirror::{Mirror, find_commit, target, tracking},
    publish::{Pushed, Step},
    remote::Reference,
    tree::{PATH_BYTES_MAX, TREE_DEPTH_MAX, proper_name},
    verify::SigningKey,
};
use crate::model::CommitId;

/// How many commits back a trailer is sought. The exporter writes in order and looks for its
/// newest, so it is at the tip unless people committed on top by hand.
const TRAILER_COMMITS_MAX: usize = 256;

/// A commit for the status branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusCommit {
    /// Whether `changes` is the whole tree; otherwise it changes the tree of the tip.
    pub whole: bool,
    /// New content by path; `None` removes the path. Folders follow by themselves.
    pub changes: BTreeMap<String, Option<Vec<u8>>>,
    /// Its words.
    pub message: Message,
    /// The trailers that name this commit (`Cluster`, `Index`): when a commit of the branch has all
    /// of them with the same values already, nothing is written. So a retry after a lost answer, or
    /// by a new leader, writes once. Without any it is always written.
    pub identity: Vec<String>,
}

impl Mirror {
    /// Puts a commit on a status branch, on top of its tip; the branch begins without a parent.
    /// Where the tree would stay as it is, there is nothing to tell and no commit.
    ///
    /// Refuses the desired branch.
    pub fn write_status(
        &self,
        branch: &str,
        status: &StatusCommit,
        by: &Person,
        within: Duration,
    ) -> Result<Pushed> {
        if self.remote.reference == Reference::Branch(branch.into()) {
            let reason = "is the desired branch; status goes to a branch of its own".into();
            return Err(Error::Reference { name: branch.into(), reason });
        }
        status.changes.keys().try_for_each(|path| check_path(path))?;
        let signature = by.signature()?;
        let key = self.key.as_ref();
        self.publish(&format!("refs/heads/{branch}"), within, |repo, tip| {
            if let Some(there) = already(repo, tip, status)? {
                return Ok(Step::Already(there));
            }
            let mut batch = Batch::new(repo)?;
            let changes = blobs(&mut batch, &status.changes)?;
            let tree = updated(&mut batch, tip.filter(|_| !status.whole), &changes)?;
            if let Some(same) = tip.filter(|tip| has_tree(repo, *tip, tree)) {
                return Ok(Step::Already(same));
            }
            batch.write()?;
            commit(repo, tip, tree, &status.message, (&signature, &signature), key)
                .map(Step::Commit)
        })
    }

    /// The newest value of a trailer on a branch of the remote, fetched now; none when there is
    /// none.
    pub fn last_trailer(
        &self,
        branch: &str,
        key: &str,
        within: Duration,
    ) -> Result<Option<String>> {
        let _shared = self.swap.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let repo = self.repository()?;
        let deadline = Deadline::after(within);
        let tip = self.fetch_reference(&repo, &format!("refs/heads/{branch}"), deadline)?;
        find_upwards(&repo, tip, |commit| commit.trailer(key).map(str::to_owned))
    }

    /// The tip of a branch of the remote, fetched now; none when there is none.
    pub fn branch(&self, branch: &str, within: Duration) -> Result<Option<CommitId>> {
        let _shared = self.swap.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let reference = format!("refs/heads/{branch}");
        let tip = self.fetch_reference(&self.repository()?, &reference, Deadline::after(within))?;
        Ok(tip.map(super::mirror::commit_id))
    }

    /// The tip of a branch as it was fetched or pushed last, without asking the remote.
    pub fn known_tip(&self, branch: &str) -> Result<Option<CommitId>> {
        let _shared = self.swap.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = target(&self.repository()?, &tracking(&format!("refs/heads/{branch}")))?;
        Ok(known.map(super::mirror::commit_id))
    }
}

fn has_tree(repo: &Repository, tip: Oid, tree: Oid) -> bool {
    repo.find_commit(tip).is_ok_and(|commit| commit.tree_id() == tree)
}

/// The commit of the branch that carries the identity already.
fn already(repo: &Repository, tip: Option<Oid>, status: &StatusCommit) -> Result<Option<Oid>> {
    let mut identity = Vec::new();
    for key in &status.identity {
        let mut wanted = status.message.trailers.iter().filter(|(k, _)| k == key);
        let Some((_, value)) = wanted.next_back() else {
            let reason = "the message has no such trailer".into();
            return Err(Error::Argument { what: format!("identity {key:?}"), reason });
        };
        identity.push((key, value));
    }
    if identity.is_empty() {
        return Ok(None);
    }
    let found = find_upwards(repo, tip, |commit| {
        let is_it = identity.iter().all(|(key, value)| commit.trailer(key) == Some(value));
        is_it.then(|| commit.id.clone())
    })?;
    found.map(|id| Ok(find_commit(repo, &id)?.id())).transpose()
}

/// The first answer on the line of first parents.
fn find_upwards<T>(
    repo: &Repository,
    tip: Option<Oid>,
    look: impl Fn(&Commit) -> Option<T>,
) -> Result<Option<T>> {
    let mut next = tip;
    for _ in 0..TRAILER_COMMITS_MAX {
        let Some(id) = next else { return Ok(None) };
        let commit = repo.find_commit(id)?;
        if let Some(found) = look(&Commit::of(&commit)?) {
            return Ok(Some(found));
        }
        next = commit.parent_id(0).ok();
    }
    Ok(None)
}

/// A path that may go into a tree of ours.
pub(super) fn check_path(path: &str) -> Result<()> {
    let refuse = |reason: &str| {
        Err(Error::Argument { what: format!("path {path:?}"), reason: reason.into() })
    };
    if path.len() > PATH_BYTES_MAX || path.split('/').count() > TREE_DEPTH_MAX {
        return refuse("is too long or too deep");
    }
    for part in path.split('/') {
        if let Err(reason) = proper_name(part.as_bytes()) {
            return refuse(reason);
        }
    }
    Ok(())
}

/// Writes files into the tree of `tip` (or the empty one), where `None` removes one; gives the new
/// tree.
pub(super) fn changed(
    repo: &Repository,
    tip: Option<Oid>,
    files: &BTreeMap<String, Option<Vec<u8>>>,
) -> Result<Oid> {
    let mut batch = Batch::new(repo)?;
    let changes = blobs(&mut batch, files)?;
    let tree = updated(&mut batch, tip, &changes)?;
    batch.write()?;
    Ok(tree)
}

/// Content by path as blob ids by path.
pub(super) type Changes = BTreeMap<String, Option<Oid>>;

fn blobs<'a>(
    batch: &mut Batch<'a>,
    files: &'a BTreeMap<String, Option<Vec<u8>>>,
) -> Result<Changes> {
    let mut add = |(path, content): (&String, &'a Option<Vec<u8>>)| {
        let blob = content.as_ref().map(|bytes| batch.add(ObjectType::Blob, bytes.as_slice()));
        Ok((path.clone(), blob.transpose()?))
    };
    files.iter().map(&mut add).collect()
}

/// The tree of `tip` (or the empty one) with the changes made.
pub(super) fn updated(batch: &mut Batch<'_>, tip: Option<Oid>, changes: &Changes) -> Result<Oid> {
    let base = tip.map(|tip| Ok::<_, Error>(batch.repo.find_commit(tip)?.tree_id())).transpose()?;
    let all: Vec<(&str, Option<Oid>)> = changes.iter().map(|(p, b)| (p.as_str(), *b)).collect();
    match folder(batch, base, &all)? {
        Some(tree) => Ok(tree),
        None => batch.add(ObjectType::Tree, Vec::new()),
    }
}

/// What a folder names, by its name: the mode and the id.
type Entries = BTreeMap<Vec<u8>, (i32, Oid)>;

/// A folder as it was, and what changes in it.
type Below<'a> = (Option<Oid>, Vec<(&'a str, Option<Oid>)>);

/// The mode of a file and of a folder, in a tree.
const FILE: i32 = 0o100_644;
const FOLDER: i32 = 0o040_000;

/// One folder with its changes made; none when nothing is left in it. Folders without changes keep
/// their id.
fn folder(
    batch: &mut Batch<'_>,
    base: Option<Oid>,
    changes: &[(&str, Option<Oid>)],
) -> Result<Option<Oid>> {
    let mut entries = base.map(|base| entries(batch.repo, base)).transpose()?.unwrap_or_default();
    let before = |entries: &Entries, name: &str| match entries.get(name.as_bytes()) {
        Some((FOLDER, id)) => Some(*id),
        _ => None,
    };
    let mut below: BTreeMap<&str, Below<'_>> = BTreeMap::new();
    for &(path, blob) in changes {
        match (path.split_once('/'), blob) {
            (Some((first, rest)), _) => {
                let old = || (before(&entries, first), Vec::new());
                below.entry(first).or_insert_with(old).1.push((rest, blob));
            }
            (None, Some(blob)) => drop(entries.insert(path.into(), (FILE, blob))),
            (None, None) => drop(entries.remove(path.as_bytes())),
        }
    }
    for (name, (old, changes)) in below {
        if old.is_none() && changes.iter().all(|(_, blob)| blob.is_none()) {
            continue;
        }
        match folder(batch, old, &changes)? {
            Some(id) => entries.insert(name.into(), (FOLDER, id)),
            None => entries.remove(name.as_bytes()),
        };
    }
    (!entries.is_empty()).then(|| batch.add(ObjectType::Tree, tree(entries))).transpose()
}

fn entries(repo: &Repository, tree: Oid) -> Result<Entries> {
    let tree = repo.find_tree(tree)?;
    Ok(tree.iter().map(|e| (e.name_bytes().to_vec(), (e.filemode_raw(), e.id()))).collect())
}

/// A folder as Git stores it: by name, where that of a folder counts as if it ended with a slash.
fn tree(entries: Entries) -> Vec<u8> {
    let mut sorted: Vec<(Vec<u8>, i32, Oid)> =
        entries.into_iter().map(|(name, (mode, id))| (name, mode, id)).collect();
    sorted.sort_by_cached_key(|(name, mode, _)| {
        [name.as_slice(), if *mode == FOLDER { b"/" } else { b"" }].concat()
    });
    let mut bytes = Vec::new();
    for (name, mode, id) in sorted {
        bytes.extend_from_slice(format!("{mode:o} ").as_bytes());
        bytes.extend_from_slice(&name);
        bytes.push(0);
        bytes.extend_from_slice(id.as_bytes());
    }
    bytes
}

/// Writes a commit object; no ref is moved.
pub(super) fn commit(
    repo: &Repository,
    tip: Option<Oid>,
    tree: Oid,
    message: &Message,
    (author, committer): (&git2::Signature<'_>, &git2::Signature<'_>),
    key: Option<&SigningKey>,
) -> Result<Oid> {
    let parents: Vec<Oid> = tip.into_iter().collect();
    merge(repo, &parents, tree, message, (author, committer), key)
}

/// Writes a commit object of any parents; no ref is moved.
pub(super) fn merge(
    repo: &Repository,
    parents: &[Oid],
    tree: Oid,
    message: &Message,
    (author, committer): (&git2::Signature<'_>, &git2::Signature<'_>),
    key: Option<&SigningKey>,
) -> Result<Oid> {
    let tree = repo.find_tree(tree)?;
    let parents: Vec<_> =
        parents.iter().map(|id| repo.find_commit(*id)).collect::<Result<_, _>>()?;
    let parents: Vec<&git2::Commit<'_>> = parents.iter().collect();
    let message = message.render();
    let Some(key) = key else {
        return Ok(repo.commit(None, author, committer, &message, &tree, &parents)?);
    };
    let buffer = repo.commit_create_buffer(author, committer, &message, &tree, &parents)?;
    let text = String::from_utf8_lossy(&buffer);
    Ok(repo.commit_signed(&text, &key.sign(&text)?, None)?)
}
