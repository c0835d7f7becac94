//! What must leave the cluster: status commits, notes, and reverts of commits that failed; written
//! by the leader only. Reverts of other sources than the main one are pushed beside each other: a
//! repository that does not answer keeps nobody waiting but itself.
//!
//! Git itself says what has been written (the `Index:` trailer of the status branch, the
//! `Mainstay-Reverts:` trailer of the desired one), so a crash between a push and its
//! acknowledgement, or a new leader, writes nothing twice. When the branch is to show what changed
//! is for [`report::Burst`] to say; reverts go out at once. While the remote is down everything
//! waits, and goes out in one commit when it is back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{Store, clock};
use crate::{
    git::{self, Mirror, Person, STATUS_BRANCH, StatusCommit, Undo, Undone},
    kinds::RevertState,
    model::{CommitId, CommitName, Revision, Timestamp},
    plan::{
        self, Hearer,
        failure::{self, Revert, Settled},
        units,
    },
    report::{self, Burst},
    state::{Command, MAIN_SOURCE, Outcome, Refusal, View},
};

/// How long one push may take.
const PUSH_SECONDS_MAX: u64 = 60;

/// The longest pause between two tries while the remote refuses, in seconds.
const RETRY_SECONDS_MAX: i64 = 60;

/// What the exporter has done; read by metrics.
#[derive(Debug, Default)]
pub(super) struct ExportStats {
    /// Status commits pushed.
    pub commits: AtomicU64,
    /// Tries that failed.
    pub failures: AtomicU64,
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

/// Tells Git, and the outbox what others are to be told.
pub(super) struct Exporter {
    store: Store,
    mirror: Arc<Mirror>,
    stats: Arc<ExportStats>,
    /// Who is told of commits.
    receivers: Vec<Hearer>,
    /// Notes whose notices are in the outbox.
    told: BTreeSet<u64>,
    burst: Burst,
    failures: u32,
    /// When to try again what failed.
    again_at: Option<Timestamp>,
}

impl Exporter {
    /// Tells `receivers`, and Git by `mirror`.
    pub(super) fn new(
        store: Store,
        mirror: Arc<Mirror>,
        stats: Arc<ExportStats>,
        receivers: Vec<Hearer>,
    ) -> Self {
        let (told, burst) = (BTreeSet::new(), Burst::default());
        Self { store, mirror, stats, receivers, told, burst, failures: 0, again_at: None }
    }

    /// Writes what State has to tell whenever this server leads, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut views = self.store.views();
        let mut roles = self.store.roles();
        loop {
            let view = views.borrow_and_update().clone();
            let wake_at = match self.store.is_leader() {
                true => self.tell(&view).await,
                false => self.rest(),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = views.changed() => if changed.is_err() { return },
                changed = roles.changed() => if changed.is_err() { return },
                () = pause_until(wake_at) => {}
            }
        }
    }

    /// Another server tells: it finds in State and in Git what is left to do.
    fn rest(&mut self) -> Option<Timestamp> {
        (self.burst, self.failures, self.again_at) = (Burst::default(), 0, None);
        None
    }

    /// Does what is due; gives when to look again if nothing changes until then.
    async fn tell(&mut self, view: &View) -> Option<Timestamp> {
        self.burst.see(view, clock::now());
        if self.again_at.is_none_or(|at| at <= clock::now()) {
            match self.round(view).await {
                Ok(()) => (self.failures, self.again_at) = (0, None),
                Err(error) => {
                    self.failures += 1;
                    self.stats.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(event = "export failed", %error, attempt = self.failures);
                    self.again_at = Some(clock::now().plus_seconds(pause_after(self.failures)));
                }
            }
        }
        self.again_at.or_else(|| self.burst.due())
    }

    /// What takes a commit back is not kept waiting by what only tells. Receivers are told with the
    /// branch: a commit whose record still changes would be told of twice.
    async fn round(&mut self, view: &View) -> Result<(), Error> {
        let reverted = reverts(&self.store, &self.mirror, view, MAIN_SOURCE).await;
        self.begin().await?;
        if self.burst.due().is_some_and(|at| at <= clock::now()) {
            let view = self.store.view();
            self.notices(&view).await?;
            export(&self.store, &self.mirror, &view, &self.stats).await?;
            self.burst.shown(&view);
        }
        reverted
    }

    /// Shows what the first commit brought as soon as it runs: whoever begins a cluster looks for
    /// the branch, and what the controllers make of a large commit takes longer than to write it
    /// down. Notes and receivers wait for what is told of it then.
    async fn begin(&mut self) -> Result<(), Error> {
        let view = self.store.view();
        if view.exported() > Revision(0) || view.head().is_none() {
            return Ok(());
        }
        show(&self.store, &self.mirror, &view, &self.stats).await
    }

    /// Puts into the outbox what receivers are to be told of the commits whose notes are due. A
    /// note may wait for the remote: what was told of it is remembered, and by a new leader told
    /// once more, as the same delivery.
    async fn notices(&mut self, view: &View) -> Result<(), Error> {
        let due: BTreeSet<u64> = view.due_notes().map(|(id, _)| id).collect();
        self.told.retain(|id| due.contains(id));
        let fresh = view.due_notes().filter(|(id, _)| !self.told.contains(id));
        let notes: Vec<(u64, CommitName)> = fresh.map(|(id, c)| (id, c.clone())).collect();
        let commands = plan::notices(view, &self.receivers, &notes, clock::now());
        if !commands.is_empty() {
            self.store.propose(commands).await?;
        }
        self.told.extend(due);
        Ok(())
    }
}

/// Takes back what failed of a source that Git names and of its units, whenever this server leads,
/// until `stop`.
pub(super) async fn take_back(
    store: Store,
    mirror: Arc<Mirror>,
    source: String,
    stop: CancellationToken,
) {
    let (mut views, mut roles, mut failures) = (store.views(), store.roles(), 0);
    loop {
        let view = views.borrow_and_update().clone();
        let mut again_at = None;
        if store.is_leader()
            && let Err(error) = reverts(&store, &mirror, &view, &source).await
        {
            failures += 1;
            tracing::warn!(event = "revert not pushed", source, %error, attempt = failures);
            again_at = Some(clock::now().plus_seconds(pause_after(failures)));
        } else {
            failures = 0;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = views.changed(), if again_at.is_none() => if changed.is_err() { return },
            changed = roles.changed() => if changed.is_err() { return },
            () = pause_until(again_at) => {}
        }
    }
}

/// How many seconds to wait after so many failures in a row.
fn pause_after(failures: u32) -> i64 {
    (1 << failures.min(6)).min(RETRY_SECONDS_MAX)
}

/// Waits until that moment, or for ever.
async fn pause_until(at: Option<Timestamp>) {
    match at {
        Some(at) => tokio::time::sleep_until(clock::instant_of(at)).await,
        None => std::future::pending().await,
    }
}

/// Waits that long, or for ever.
pub(super) async fn pause_for(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep_until(tokio::time::Instant::now() + pause).await,
        None => std::future::pending().await,
    }
}

/// Status first, then notes, so that a note never speaks of a state the branch does not show yet.
async fn export(
    store: &Store,
    mirror: &Arc<Mirror>,
    view: &View,
    stats: &ExportStats,
) -> Result<(), Error> {
    show(store, mirror, view, stats).await?;
    let items: Vec<(u64, CommitName)> =
        view.due_notes().map(|(id, commit)| (id, commit.clone())).collect();
    if !items.is_empty() {
        // The repositories of other sources hold no notes: they are not ours to write.
        let commits = items.iter().filter(|(_, name)| name.is_main()).map(|(_, name)| &name.id);
        notes(mirror, view, commits.cloned().collect()).await?;
        let done = items.iter().map(|(id, _)| Command::Done(*id)).collect();
        store.propose(done).await?;
    }
    Ok(())
}

/// Brings the branch up to a View, and notes that it shows it.
async fn show(
    store: &Store,
    mirror: &Arc<Mirror>,
    view: &View,
    stats: &ExportStats,
) -> Result<(), Error> {
    let term = store.roles().borrow().term;
    if view.exported() < view.revision() && status(mirror, view, term, stats).await? {
        store.propose(vec![Command::Exported(view.revision())]).await?;
    }
    Ok(())
}

/// Takes back what failed of a source and of its units. How that ended is recorded first, so that
/// an entry is only taken out when there is nothing left to do for it.
async fn reverts(
    store: &Store,
    mirror: &Arc<Mirror>,
    view: &View,
    source: &str,
) -> Result<(), Error> {
    let due = view.due_reverts().filter(|(_, bad)| units::belongs(view, &bad.source, source));
    for (id, bad) in due {
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
async fn revert(
    mirror: &Arc<Mirror>,
    view: &View,
    bad: &CommitName,
) -> Result<Vec<Command>, Error> {
    let Some(revert) = failure::revert(view, bad) else { return Ok(Vec::new()) };
    let mirror = mirror.clone();
    let ended = tokio::task::spawn_blocking(move || push_revert(&mirror, &revert)).await??;
    tracing::warn!(event = "revert", failed = %bad, state = ?ended.state, commit = ?ended.commit);
    Ok(failure::settle(view, bad, ended)?)
}

fn push_revert(mirror: &Mirror, revert: &Revert) -> Result<Settled, git::Error> {
    let undo = Undo {
        bad: revert.bad.id.clone(),
        good: revert.good.clone(),
        same: revert.repeats.clone(),
        files: revert.files.clone(),
        path: revert.path.clone(),
        retry: failure::RETRY_TRAILER.to_owned(),
        trailer: (failure::REVERT_TRAILER.to_owned(), revert.bad.to_string()),
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
    stats.commits.fetch_add(1, Ordering::Relaxed);
    tracing::info!(event = "status pushed", commit = %pushed.commit, attempts = pushed.attempts);
    Ok(true)
}

async fn notes(mirror: &Arc<Mirror>, view: &View, commits: Vec<CommitId>) -> Result<(), Error> {
    let text = |commit: CommitId| (commit.clone(), report::note(view, &commit));
    let notes: BTreeMap<CommitId, String> = commits.into_iter().map(text).collect();
    if notes.is_empty() {
        return Ok(());
    }
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
