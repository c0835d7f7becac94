//! The other branches of the remote, and what each would be once it is merged.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use git2::{Oid, Repository};

use super::{
    error::Result,
    exchange::{Deadline, Exchange},
    mirror::{Mirror, commit_id, find_commit},
    revert::conflicts,
};
use crate::model::CommitId;

/// Most branches whose tips are brought by one call: a repository that is seen for the first time
/// may have thousands, and the next call brings more of them.
pub const TIPS_MAX: usize = 64;

const HEADS: &str = "refs/heads/";

/// What a commit is once it is merged into another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// The other one has it already.
    Contained,
    /// This commit: the one that was asked about when the other is its ancestor; else a merge that
    /// is in the mirror alone, with the words of the one that was asked about.
    As(CommitId),
    /// People have to merge: both changed these files.
    Conflict(Vec<String>),
}

impl Mirror {
    /// The tips of the remote's branches that are `wanted`, by name, as far as they are in the
    /// mirror: of those that are not, [`TIPS_MAX`] are brought.
    pub fn branches(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        within: Duration,
    ) -> Result<BTreeMap<String, CommitId>> {
        let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        let repo = self.repository()?;
        let exchange = Exchange::new(&self.remote, Deadline::after(within))?;
        let tips = exchange.fetching(&repo, |remote| {
            let listed = remote.list()?.iter().filter_map(|head| {
                let name = head.name().strip_prefix(HEADS).filter(|name| wanted(name))?;
                Some((name.to_owned(), head.oid()))
            });
            let tips: BTreeMap<String, Oid> = listed.collect();
            let odb = repo.odb()?;
            let missing = tips.iter().filter(|(_, id)| !odb.exists(**id)).take(TIPS_MAX);
            let refspec = |(name, _): (&String, &Oid)| {
                format!("+{HEADS}{name}:refs/mainstay/all/heads/{name}")
            };
            let refspecs: Vec<String> = missing.map(refspec).collect();
            if !refspecs.is_empty() {
                remote.fetch(&refspecs, Some(&mut exchange.fetch_options()), None)?;
            }
            Ok(tips)
        })?;
        let here = tips.into_iter().filter(|(_, id)| repo.find_commit(*id).is_ok());
        Ok(here.map(|(name, id)| (name, commit_id(id))).collect())
    }

    /// What `tip` is once it is merged into `base`; nothing is pushed. Both are in the mirror.
    pub fn merged(&self, base: &CommitId, tip: &CommitId) -> Result<Merged> {
        let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        let repo = self.repository()?;
        let (ours, theirs) = (find_commit(&repo, base)?, find_commit(&repo, tip)?);
        let contains = |later: Oid, earlier: Oid| {
            Ok::<_, git2::Error>(later == earlier || repo.graph_descendant_of(later, earlier)?)
        };
        if contains(ours.id(), theirs.id())? {
            return Ok(Merged::Contained);
        }
        if contains(theirs.id(), ours.id())? {
            return Ok(Merged::As(tip.clone()));
        }
        let mut index = repo.merge_commits(&ours, &theirs, None)?;
        if index.has_conflicts() {
            return Ok(Merged::Conflict(conflicts(&index)?));
        }
        let tree = index.write_tree_to(&repo)?;
        merge(&repo, &ours, &theirs, tree).map(|id| Merged::As(commit_id(id)))
    }
}

/// A merge that is the same each time it is made: its persons and words are those of the branch, so
/// that its trailers count as they will once it is merged with them.
fn merge(
    repo: &Repository,
    ours: &git2::Commit<'_>,
    theirs: &git2::Commit<'_>,
    tree: Oid,
) -> Result<Oid> {
    let tree = repo.find_tree(tree)?;
    let message = String::from_utf8_lossy(theirs.message_bytes()).into_owned();
    let (author, committer) = (theirs.author(), theirs.committer());
    Ok(repo.commit(None, &author, &committer, &message, &tree, &[ours, theirs])?)
}
