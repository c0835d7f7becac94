//! Puts a commit on a ref of the remote, on top of whatever is there now, and looks whether it
//! arrived.

use std::{path::Path, sync::PoisonError, time::Duration};

use git2::{ErrorCode, ObjectType, Odb, Oid, Repository};

use super::{
    batch::Batch,
    embedded,
    error::{Error, Result, owner_advice, speaks_of_owner},
    exchange::{Deadline, Exchange},
    mirror::{Mirror, commit_id},
    remote::check_reference,
};
use crate::model::CommitId;

/// How often a push is built again when the tip moved meanwhile. Only the leader writes, so even
/// two writers (an old and a new leader) meet once or twice; at the limit the caller gets
/// [`Error::Moved`].
pub const PUSH_ATTEMPTS_MAX: u32 = 10;

/// Hooks that guard a push and that only `git receive-pack` runs.
const GUARDING_HOOKS: [&str; 3] = ["pre-receive", "update", "reference-transaction"];

/// Where a write ended up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The commit that holds what was asked for. The remote was seen to have it.
    pub commit: CommitId,
    /// How many pushes it took; 0 when it was there already and nothing was written.
    pub attempts: u32,
}

/// What a builder made of a tip.
pub(super) enum Step {
    /// The tip, or a commit under it, has what is wanted.
    Already(Oid),
    /// A new commit whose first parent is the tip.
    Commit(Oid),
}

/// What a remote said to one push.
enum Outcome {
    Done,
    Moved,
    Refused(String),
}

impl Mirror {
    /// Fetches the tip of a ref, has `build` make a commit on top of it, pushes that and reads it
    /// back.
    ///
    /// The push is a compare-and-swap: a tip that moved meanwhile makes it start again.
    pub(super) fn publish(
        &self,
        reference: &str,
        within: Duration,
        mut build: impl FnMut(&Repository, Option<Oid>) -> Result<Step>,
    ) -> Result<Pushed> {
        check_reference(reference)?;
        let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        let repo = self.repository()?;
        let deadline = Deadline::after(within);
        let mut tip = self.fetch_reference(&repo, reference, deadline)?;
        for attempts in 1..=PUSH_ATTEMPTS_MAX {
            let new = match build(&repo, tip)? {
                Step::Already(id) => {
                    return Ok(Pushed { commit: commit_id(id), attempts: attempts - 1 });
                }
                Step::Commit(id) => id,
            };
            let exchange = Exchange::new(&self.remote, deadline)?;
            let outcome = push_once(&repo, &exchange, reference, tip, new)?;
            let now = self.fetch_reference(&repo, reference, deadline)?;
            match outcome {
                Outcome::Done if now.is_some_and(|now| holds(&repo, now, new)) => {
                    return Ok(Pushed { commit: commit_id(new), attempts });
                }
                // Refused although nobody moved the tip: it is the remote's will, not a race.
                Outcome::Refused(reason) if now == tip => {
                    let (url, reference) = (exchange.shown(), reference.into());
                    return Err(Error::Rejected { url, reference, reason });
                }
                Outcome::Done | Outcome::Moved | Outcome::Refused(_) => tip = now,
            }
        }
        Err(Error::Moved { reference: reference.into(), attempts: PUSH_ATTEMPTS_MAX })
    }
}

fn holds(repo: &Repository, tip: Oid, commit: Oid) -> bool {
    tip == commit || repo.graph_descendant_of(tip, commit).unwrap_or(false)
}

fn push_once(
    repo: &Repository,
    exchange: &Exchange<'_>,
    reference: &str,
    tip: Option<Oid>,
    new: Oid,
) -> Result<Outcome> {
    match exchange.local() {
        Some(path) => push_local(repo, path, reference, tip, new, &exchange.shown()),
        None => push_remote(repo, exchange, reference, tip, new),
    }
}

fn push_remote(
    repo: &Repository,
    exchange: &Exchange<'_>,
    reference: &str,
    tip: Option<Oid>,
    new: Oid,
) -> Result<Outcome> {
    // libgit2 pushes refs, not ids.
    let source = format!("refs/mainstay/outgoing/{new}");
    let mut outgoing = repo.reference(&source, new, true, "push")?;
    let pushed =
        exchange.push(repo, &[format!("{source}:{reference}")], &|_| tip.unwrap_or(Oid::ZERO_SHA1));
    outgoing.delete()?;
    match pushed {
        Err(Error::Git(cause)) if cause.code() == ErrorCode::NotFastForward => Ok(Outcome::Moved),
        Err(error) => Err(error),
        Ok(()) => Ok(refusal(exchange).map_or(Outcome::Done, Outcome::Refused)),
    }
}

/// The server's status of a refused ref, and what its hooks printed.
fn refusal(exchange: &Exchange<'_>) -> Option<String> {
    let talk = exchange.talk();
    let (_, status) = talk.refused.first()?;
    let words: Vec<&str> = talk.words.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    Some(if words.is_empty() { status.clone() } else { format!("{status}: {}", words.join("; ")) })
}

/// Writes into a repository on this machine.
///
/// libgit2's own local push overwrites whatever tip it finds; this one swaps the ref under Git's
/// lock, and only from the tip that was built on.
fn push_local(
    repo: &Repository,
    path: &Path,
    reference: &str,
    tip: Option<Oid>,
    new: Oid,
    url: &str,
) -> Result<Outcome> {
    let remote = Repository::open(path).map_err(|cause| {
        let url = url.to_owned();
        match speaks_of_owner(&cause) {
            true => Error::Denied { url, reason: owner_advice(path) },
            false => Error::Unreachable { url, reason: cause.message().into() },
        }
    })?;
    if let Some(reason) = local_guard(&remote, reference) {
        return Ok(Outcome::Refused(reason));
    }
    copy(repo, &remote, new)?;
    let expected = tip.unwrap_or(Oid::ZERO_SHA1);
    match remote.reference_matching(reference, new, true, expected, "push by mainstay") {
        Ok(_) => Ok(Outcome::Done),
        Err(cause) => match cause.code() {
            ErrorCode::Modified | ErrorCode::Locked | ErrorCode::Exists | ErrorCode::NotFound => {
                Ok(Outcome::Moved)
            }
            _ => Ok(Outcome::Refused(cause.message().into())),
        },
    }
}

/// Why a push by path must not happen: it would go around the repository's own guards.
fn local_guard(remote: &Repository, reference: &str) -> Option<String> {
    let configured = remote.config().and_then(|config| config.get_path("core.hooksPath"));
    let hooks = remote.commondir().join(configured.unwrap_or_else(|_| "hooks".into()));
    let guards = |path: &Path| is_executable(path) && !embedded::is_ours(path);
    if let Some(hook) = GUARDING_HOOKS.iter().find(|hook| guards(&hooks.join(hook))) {
        return Some(format!(
            "it has a {hook} hook, which a push by path does not run; give its address as ssh:// \
             or http://"
        ));
    }
    let head = remote.find_reference("HEAD").ok()?;
    let checked_out = head.symbolic_target().ok().flatten() == Some(reference);
    let words = "the branch is checked out there; use a bare repository (git clone --bare)";
    (checked_out && !remote.is_bare()).then(|| words.into())
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Copies what the other side lacks.
fn copy(repo: &Repository, to: &Repository, id: Oid) -> Result<()> {
    let mut batch = Batch::new(to)?;
    gather(repo, &repo.odb()?, &mut batch, id)?;
    batch.write()
}

/// Takes what the other side lacks, children before what names them: whatever it has is whole.
fn gather(repo: &Repository, from: &Odb<'_>, batch: &mut Batch<'_>, id: Oid) -> Result<()> {
    if batch.has(id) {
        return Ok(());
    }
    let object = from.read(id)?;
    match object.kind() {
        ObjectType::Commit => {
            let commit = repo.find_commit(id)?;
            for parent in commit.parent_ids() {
                gather(repo, from, batch, parent)?;
            }
            gather(repo, from, batch, commit.tree_id())?;
        }
        ObjectType::Tree => {
            for entry in &repo.find_tree(id)? {
                if entry.kind() != Some(ObjectType::Commit) {
                    gather(repo, from, batch, entry.id())?;
                }
            }
        }
        _ => {}
    }
    batch.add(object.kind(), object.data().to_vec()).map(drop)
}
