//! A Git remote as values: commits, the desired branch, the status branch, notes.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    kinds::{CommitSpec, RevertState},
    model::{CommitId, Timestamp, fnv1a, fnv1a_from},
    plan::{
        admission::Facts,
        failure::{REVERT_TRAILER, Revert, Settled},
    },
    state::MAIN_SOURCE,
};

/// The files of one commit.
pub(super) type Tree = BTreeMap<String, Arc<[u8]>>;

/// One commit of the desired branch.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) tree: Tree,
    pub(super) message: String,
    pub(super) parent: Option<CommitId>,
    pub(super) at: Timestamp,
}

/// One commit of the status branch.
#[derive(Clone, Debug)]
pub(super) struct StatusEntry {
    pub(super) at: Timestamp,
    pub(super) message: String,
}

/// What a remote that does not answer is called.
pub(super) const UNREACHABLE: &str = "could not connect to git.example.org";

/// What a protected branch says.
const PROTECTED: &str = "main is protected";

/// The remote.
#[derive(Clone, Debug, Default)]
pub(super) struct Repository {
    /// It does not answer.
    pub(super) is_down: bool,
    /// The desired branch takes nothing from mainstay.
    pub(super) is_protected: bool,
    /// Reverts that were proposed, by branch.
    pub(super) proposed: BTreeMap<String, CommitId>,
    commits: BTreeMap<CommitId, Stored>,
    /// The tip of the desired branch.
    pub(super) tip: Option<CommitId>,
    /// The status branch, oldest first.
    pub(super) status: Vec<StatusEntry>,
    /// The tree at its tip.
    pub(super) status_tree: BTreeMap<String, Vec<u8>>,
    /// The notes on desired commits.
    pub(super) notes: BTreeMap<CommitId, String>,
}

impl Repository {
    /// Stores a commit; the branch stays where it is.
    pub(super) fn commit(
        &mut self,
        tree: Tree,
        message: &str,
        parent: Option<CommitId>,
        at: Timestamp,
    ) -> CommitId {
        let mut hash = fnv1a(message.as_bytes());
        let parent_text = parent.as_ref().map(CommitId::as_str).unwrap_or_default();
        hash = fnv1a_from(hash, parent_text.as_bytes());
        hash = fnv1a_from(hash, &at.0.to_le_bytes());
        for (path, bytes) in &tree {
            hash = fnv1a_from(fnv1a_from(hash, path.as_bytes()), bytes);
        }
        // FNV's first digits say little of short texts: spread them once more.
        let spread = |salt: u8| fnv1a_from(fnv1a(&hash.to_le_bytes()), &[salt; 9]);
        let text = format!("{:016x}{:016x}{:08x}", spread(1), spread(2), spread(3) as u32);
        let id = CommitId::parse(&text).unwrap_or_else(|| panic!("{text:?} is 40 digits"));
        self.commits.insert(id.clone(), Stored { tree, message: message.to_owned(), parent, at });
        id
    }

    /// A stored commit.
    pub(super) fn get(&self, id: &CommitId) -> Option<&Stored> {
        self.commits.get(id)
    }

    /// Every commit.
    pub(super) fn ids(&self) -> impl Iterator<Item = &CommitId> {
        self.commits.keys()
    }

    /// The files at the tip.
    pub(super) fn tip_tree(&self) -> Tree {
        let tip = self.tip.as_ref().and_then(|tip| self.commits.get(tip));
        tip.map(|c| c.tree.clone()).unwrap_or_default()
    }

    /// The tree of the tip with what `bad` changed taken back, as `git revert` gives when nothing
    /// conflicts.
    pub(super) fn reverted(&self, bad: &CommitId) -> Option<Tree> {
        let stored = self.commits.get(bad)?;
        let before = stored.parent.as_ref().and_then(|p| self.commits.get(p));
        let before = before.map(|c| c.tree.clone()).unwrap_or_default();
        let mut tree = self.tip_tree();
        let paths: std::collections::BTreeSet<&String> =
            before.keys().chain(stored.tree.keys()).collect();
        for path in paths.into_iter().filter(|p| before.get(*p) != stored.tree.get(*p)) {
            match before.get(path) {
                Some(bytes) => tree.insert(path.clone(), bytes.clone()),
                None => tree.remove(path),
            };
        }
        Some(tree)
    }

    /// What Git says of a commit.
    pub(super) fn facts(&self, id: &CommitId, seen_at: Timestamp) -> Option<Facts> {
        let stored = self.commits.get(id)?;
        let subject = stored.message.lines().next().unwrap_or_default().to_owned();
        Some(Facts {
            commit: id.clone(),
            spec: CommitSpec {
                source: MAIN_SOURCE.to_owned(),
                author: "Ada".to_owned(),
                email: "ada@example.org".to_owned(),
                authored_at: stored.at.0,
                committed_at: stored.at.0,
                subject,
                parents: stored.parent.iter().map(CommitId::to_string).collect(),
                signed_by: None,
            },
            trailers: trailers(&stored.message),
            seen_at,
        })
    }

    /// Takes a failed commit back, as `git::Mirror::undo` and `propose_undo` do.
    pub(super) fn undo(&mut self, revert: &Revert, at: Timestamp) -> Result<Settled, &'static str> {
        if self.is_down {
            return Err(UNREACHABLE);
        }
        let settled = |state, commit, why: &str| Settled { state, commit, why: why.to_owned() };
        if let Some(found) = self.undone(&revert.bad.id) {
            return Ok(settled(RevertState::Pushed, Some(found), ""));
        }
        let tip = self.tip.clone().filter(|t| *t != revert.bad.id && !revert.repeats.contains(t));
        if let Some(other) = tip {
            return Ok(settled(RevertState::Overtaken, Some(other), ""));
        }
        let plain = self.commits.get(&revert.bad.id).and_then(|c| c.parent.as_ref());
        let subject = self.commits.get(&revert.bad.id).map(|c| c.message.lines().next());
        let subject = subject.flatten().unwrap_or_default();
        let taken = (plain == Some(&revert.good)).then_some((&revert.bad.id, subject));
        let message = revert.message(taken);
        let tree = self.commits.get(&revert.good).map(|c| c.tree.clone()).unwrap_or_default();
        let on = if self.is_protected { Some(revert.bad.id.clone()) } else { self.tip.clone() };
        if self.is_protected
            && let Some(there) = self.proposed.get(&revert.branch())
        {
            return Ok(settled(RevertState::Proposed, Some(there.clone()), PROTECTED));
        }
        let id = self.commit(tree, &message, on, at);
        if self.is_protected {
            self.proposed.insert(revert.branch(), id.clone());
            return Ok(settled(RevertState::Proposed, Some(id), PROTECTED));
        }
        self.tip = Some(id.clone());
        Ok(settled(RevertState::Pushed, Some(id), ""))
    }

    /// The commit on the branch that says that it takes `bad` back.
    fn undone(&self, bad: &CommitId) -> Option<CommitId> {
        let mut next = self.tip.clone();
        while let Some(id) = next.filter(|id| id != bad) {
            let stored = self.commits.get(&id)?;
            let own = (REVERT_TRAILER.to_owned(), bad.to_string());
            if trailers(&stored.message).contains(&own) {
                return Some(id);
            }
            next = stored.parent.clone();
        }
        None
    }

    /// How many commits of the branch take `bad` back.
    pub(super) fn reverts_of(&self, bad: &CommitId) -> usize {
        let own = (REVERT_TRAILER.to_owned(), bad.to_string());
        let tip = self.tip.as_ref().and_then(|tip| self.commits.get(tip));
        let next = |c: &&Stored| c.parent.as_ref().and_then(|id| self.commits.get(id));
        let branch = std::iter::successors(tip, next);
        branch.filter(|c| trailers(&c.message).contains(&own)).count()
    }

    /// Puts a commit on the status branch unless one of the same cluster and `Index:` is there;
    /// tells whether it did.
    pub(super) fn write_status(
        &mut self,
        changes: BTreeMap<String, Option<Vec<u8>>>,
        whole: bool,
        message: &str,
        at: Timestamp,
    ) -> Result<bool, &'static str> {
        if self.is_down {
            return Err(UNREACHABLE);
        }
        let index = index_of(message);
        if self.status.iter().rev().any(|entry| index_of(&entry.message) == index) {
            return Ok(false);
        }
        if whole {
            self.status_tree.clear();
        }
        for (path, content) in changes {
            match content {
                Some(bytes) => self.status_tree.insert(path, bytes),
                None => self.status_tree.remove(&path),
            };
        }
        self.status.push(StatusEntry { at, message: message.to_owned() });
        Ok(true)
    }

    /// Sets notes.
    pub(super) fn write_notes(
        &mut self,
        notes: BTreeMap<CommitId, String>,
    ) -> Result<(), &'static str> {
        if self.is_down {
            return Err(UNREACHABLE);
        }
        self.notes.extend(notes);
        Ok(())
    }
}

/// The cluster and its index: another cluster counts from the beginning.
fn index_of(message: &str) -> [Option<String>; 2] {
    let all = trailers(message);
    ["Cluster", "Index"].map(|name| {
        let found = all.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    })
}

/// `Key: value` lines of the last paragraph, when all of it is such lines.
fn trailers(message: &str) -> Vec<(String, String)> {
    let Some((_, last)) = message.trim_end().rsplit_once("\n\n") else { return Vec::new() };
    let parse = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let token = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (!key.is_empty() && key.chars().all(token))
            .then(|| (key.to_owned(), value.trim().to_owned()))
    };
    last.lines().map(parse).collect::<Option<Vec<_>>>().unwrap_or_default()
}
