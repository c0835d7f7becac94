//! What must leave the cluster: status commits, notes, and reverts of commits that failed; written
//! by the leader only.
//!
//! Git itself says what has been written (the `Index:` trailer of the status branch, the
//! `Mainstay-Reverts:` trailer of the desired one), so a crash between a push and its
//! acknowledgement, or a new leader, writes nothing twice. While the remote is down everything
//! waits, and goes out in one commit when it is back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{Store, clock};
use crate::{
    git::{self, Mirror, Person, STATUS_BRANCH, StatusCommit, Undo, Undone},
    kinds::RevertState,
    model::CommitId,
    plan::{
        self,
        failure::{self, Revert, Settled},
    },
    report,
    state::{Command, Outcome, Refusal, View},
};

/// How long changes are gathered before a status commit, in milliseconds: many changes of one
/// rollout make one commit, and a reader still sees each stage.
const GATHER_MS: u64 = 1000;

/// How long one push may take.
const PUSH_SECONDS_MAX: u64 = 60;

/// The longest pause between two tries while the remote refuses.
const RETRY_SECONDS_MAX: u64 = 60;

/// What the exporter has done; read by metrics.
#[derive(Debug, Default)]
pub(super) struct ExportStats {
    /// Status commits pushed.
    pub commits: std::sync::atomic::AtomicU64,
    /// Tries that failed.
    pub failures: std::sync::atomic::AtomicU64,
}

/// Why a round did not finish; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Git(#[from] git::Error),
    #[error("log: {0}")]
    Propose(#[from] crate::raft::ProposeError),
    #[error("a thread of the exporter ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("{0}")]
    Object(#[from] crate::model::ObjectError),
}

/// Writes what State has to tell whenever this server leads, until `stop`.
pub(super) async fn run(
    store: Store,
    mirror: Arc<Mirror>,
    stats: Arc<ExportStats>,
    receivers: Vec<String>,
    stop: CancellationToken,
) {
    let mut told = BTreeSet::new();
    let mut views = store.views();
    let mut roles = store.roles();
    let mut failures = 0u32;
    loop {
        let pause = if store.is_leader() {
            let view = views.borrow_and_update().clone();
            let enqueued = notices(&store, &view, &receivers, &mut told).await;
            match enqueued.and(export(&store, &mirror, &view, &stats).await) {
                Ok(()) => {
                    failures = 0;
                    None
                }
                Err(error) => {
                    failures += 1;
                    stats.failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    tracing::warn!(event = "export failed", %error, attempt = failures);
                    Some(Duration::from_secs((1 << failures.min(6)).min(RETRY_SECONDS_MAX)))
                }
            }
        } else {
            None
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = views.changed(), if pause.is_none() => if changed.is_err() { return },
            changed = roles.changed() => if changed.is_err() { return },
            () = pause_for(pause) => {}
        }
        if pause.is_none() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = pause_for(Some(Duration::from_millis(GATHER_MS))) => {}
            }
        }
    }
}

/// Puts into the outbox what receivers are to be told of the commits whose notes are due. A note
/// may wait for the remote: what was told of it is remembered, and by a new leader told once more.
async fn notices(
    store: &Store,
    view: &View,
    receivers: &[String],
    told: &mut BTreeSet<u64>,
) -> Result<(), Error> {
    let due: BTreeMap<u64, CommitId> =
        view.due_notes().map(|(id, commit)| (id, commit.clone())).collect();
    told.retain(|id| due.contains_key(id));
    let fresh = due.iter().filter(|(id, _)| !told.contains(*id));
    let commits: Vec<CommitId> = fresh.map(|(_, commit)| commit.clone()).collect();
    let commands = plan::notices(view, receivers, &commits, clock::now());
    if !commands.is_empty() {
        store.propose(commands).await?;
    }
    told.extend(due.into_keys());
    Ok(())
}

/// Waits that long, or for ever.
pub(super) async fn pause_for(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep_until(tokio::time::Instant::now() + pause).await,
        None => std::future::pending().await,
    }
}

/// One round: status first, then notes, so that a note never speaks of a state the branch does not
/// show yet.
async fn export(
    store: &Store,
    mirror: &Arc<Mirror>,
    view: &View,
    stats: &ExportStats,
) -> Result<(), Error> {
    if view.head().is_none() && view.outbox().next().is_none() {
        return Ok(());
    }
    // What takes a commit back is not kept waiting by what only tells.
    let reverted = reverts(store, mirror, view).await;
    let view = &store.view();
    let term = store.roles().borrow().term;
    if view.exported() < view.revision() {
        let done = status(mirror, view, term, stats).await?;
        if done {
            store.propose(vec![Command::Exported(view.revision())]).await?;
        }
    }
    let items: Vec<(u64, CommitId)> =
        view.due_notes().map(|(id, commit)| (id, commit.clone())).collect();
    if !items.is_empty() {
        notes(mirror, view, &items).await?;
        let done = items.iter().map(|(id, _)| Command::Done(*id)).collect();
        store.propose(done).await?;
    }
    reverted
}

/// Takes back what failed. How that ended is recorded first, so that an entry is only taken out
/// when there is nothing left to do for it.
async fn reverts(store: &Store, mirror: &Arc<Mirror>, view: &View) -> Result<(), Error> {
    for (id, bad) in view.due_reverts() {
        let outcomes = store.propose(revert(mirror, view, bad).await?).await?;
        let refused = outcomes.into_iter().find_map(|outcome| match outcome {
            Outcome::Refused(refusal) => Some(refusal),
            Outcome::Done(_) => None,
        });
        if let Some(refusal) = refused {
            return Err(Error::Refused(refusal));
        }
        store.propose(vec![Command::Done(id)]).await?;
    }
    Ok(())
}

/// Pushes the commit that takes a failed one back, unless Git shows that it is there or that
/// somebody was faster; gives what records how it ended.
async fn revert(mirror: &Arc<Mirror>, view: &View, bad: &CommitId) -> Result<Vec<Command>, Error> {
    let Some(revert) = failure::revert(view, bad) else { return Ok(Vec::new()) };
    let mirror = mirror.clone();
    let ended = tokio::task::spawn_blocking(move || push_revert(&mirror, &revert)).await??;
    tracing::warn!(event = "revert", failed = %bad, state = ?ended.state, commit = ?ended.commit);
    Ok(failure::settle(view, bad, ended)?)
}

fn push_revert(mirror: &Mirror, revert: &Revert) -> Result<Settled, git::Error> {
    let undo = Undo {
        bad: revert.bad.clone(),
        good: revert.good.clone(),
        same: revert.repeats.clone(),
        files: revert.files.clone(),
        trailer: failure::REVERT_TRAILER.to_owned(),
    };
    let words = |taken: Option<&git::Commit>| {
        git::Message::from_text(&revert.message(taken.map(|c| (&c.id, c.subject.as_str()))))
    };
    let within = Duration::from_secs(PUSH_SECONDS_MAX);
    let (state, commit, why) = match mirror.undo(&undo, &words, &us(), within) {
        Ok(Undone::Pushed(commit)) => (RevertState::Pushed, Some(commit), String::new()),
        Ok(Undone::Overtaken(commit)) => (RevertState::Overtaken, Some(commit), String::new()),
        Err(refused) if is_final(&refused) => {
            let branch = revert.branch();
            match mirror.propose_undo(&undo, &branch, &words, &us(), within) {
                Ok(commit) => (RevertState::Proposed, Some(commit), refused.to_string()),
                Err(error) if is_final(&error) => (RevertState::Held, None, refused.to_string()),
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    };
    Ok(Settled { state, commit, why })
}

/// Whether a push will not come through however often it is tried.
fn is_final(error: &git::Error) -> bool {
    use git::Error as E;
    matches!(
        error,
        E::Rejected { .. }
            | E::Denied { .. }
            | E::Reference { .. }
            | E::Moved { .. }
            | E::Argument { .. }
    )
}

/// Pushes a status commit when a file of the branch changed; tells whether the branch shows
/// something that it did not have to show before.
async fn status(
    mirror: &Arc<Mirror>,
    view: &View,
    term: u64,
    stats: &ExportStats,
) -> Result<bool, Error> {
    let (mirror, view) = (mirror.clone(), view.clone());
    // Thousands of files after a large commit: no work for the threads of sessions and the log.
    let pushed = tokio::task::spawn_blocking(move || {
        let since = view.exported();
        let files = report::status_branch(&view, since);
        if files.files.is_empty() && !files.whole {
            return Ok(None);
        }
        let text = report::status_commit_message(&view, since, term);
        let commit = StatusCommit {
            whole: files.whole,
            changes: files.files,
            message: git::Message::from_text(&text)?,
            identity: vec!["Cluster".to_owned(), "Index".to_owned()],
        };
        let within = Duration::from_secs(PUSH_SECONDS_MAX);
        mirror.write_status(STATUS_BRANCH, &commit, &us(), within).map(Some)
    });
    let Some(pushed) = pushed.await?? else { return Ok(false) };
    if pushed.attempts == 0 {
        return Ok(true);
    }
    stats.commits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    tracing::info!(event = "status pushed", commit = %pushed.commit, attempts = pushed.attempts);
    Ok(true)
}

async fn notes(mirror: &Arc<Mirror>, view: &View, items: &[(u64, CommitId)]) -> Result<(), Error> {
    let of = |(_, commit): &(u64, CommitId)| (commit.clone(), report::note(view, commit));
    let notes: BTreeMap<CommitId, String> = items.iter().map(of).collect();
    let mirror = mirror.clone();
    let written = tokio::task::spawn_blocking(move || {
        let within = Duration::from_secs(PUSH_SECONDS_MAX);
        mirror.write_notes(git::NOTES_REFERENCE, &notes, &us(), within)
    });
    written.await??;
    Ok(())
}

/// mainstay as an author.
pub(super) fn us() -> Person {
    Person { name: "mainstay".into(), email: "mainstay@localhost".into(), at: clock::now() }
}
