//! What commits would change before they are merged: `mainstay plan`, and a plan note on the tip of
//! every branch beside the desired one (docs/adr/0022-plan-notes.md).
//!
//! A note follows from two commits, the tip and the one that runs, and names the second. So nothing
//! has to be remembered: a leader that finds the note there writes nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    clock, export,
    import::{Error, INTERVAL_SECONDS, Importer, Scope},
};
use crate::{
    git::{self, Merged, Mirror, PLAN_NOTES_REFERENCE, Reference},
    kinds,
    model::{CommitId, Key, Problem, Timestamp},
    plan::{
        admission::{self, Candidate},
        forecast, freeze,
    },
    report::{self, ObjectLine, PlacedPods, PlanReport, UnplacedPods},
    state::View,
};

/// Branches that are planned before their notes are pushed: some 10 ms each, and nobody waits
/// longer for the first than for these.
const BRANCHES_MAX: usize = 16;

/// A branch whose tip is older is left alone: nobody waits for its plan any more.
const TIP_DAYS_MAX: i64 = 30;

/// How long a round waits for more to come: a push moves several refs.
const GATHER_MS: u64 = 100;

/// How long one conversation with the remote may take.
const REMOTE_SECONDS_MAX: u64 = 60;

/// The folder of branches that mainstay writes itself.
const OURS: &str = "mainstay/";

/// What a commit would change.
pub(super) enum Preview {
    /// It is part of what runs.
    Contained,
    /// People have to merge it with what runs: both changed these files.
    Conflict(Vec<String>),
    /// This.
    Plan(Box<PlanReport>),
}

/// How a commit is looked at that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// By itself, as what was pushed.
    Pushed,
    /// By itself, whoever is going to sign it.
    Drafted,
    /// Merged into the commit that runs, whoever is going to sign that.
    Merged,
}

impl Importer {
    /// What a commit would change.
    pub(super) async fn preview(
        &self,
        commit: &CommitId,
        view: &View,
        look: Look,
    ) -> Result<Preview, Error> {
        let base = view.head().map(|head| head.commit.clone());
        let (what, scope) = match base.filter(|_| look == Look::Merged) {
            None if look == Look::Pushed => (Merged::As(commit.clone()), Scope::Plan),
            None => (Merged::As(commit.clone()), Scope::Unsigned),
            Some(base) => {
                let (mirror, tip) = (self.mirror.clone(), commit.clone());
                let merge = move || mirror.merged(&base, &tip);
                (tokio::task::spawn_blocking(merge).await??, Scope::Unsigned)
            }
        };
        let commit = match what {
            Merged::Contained => return Ok(Preview::Contained),
            Merged::Conflict(files) => return Ok(Preview::Conflict(files)),
            Merged::As(commit) => commit,
        };
        let now = clock::now();
        let candidate = self.read(&commit, view, now, scope).await?;
        let view = view.clone();
        let plan = move || Preview::Plan(Box::new(plan_of(&view, candidate, now)));
        Ok(tokio::task::spawn_blocking(plan).await?)
    }
}

/// A candidate's plan. What could not be read would look like deletions, so problems come alone.
fn plan_of(view: &View, candidate: Candidate, now: Timestamp) -> PlanReport {
    let commit = Some(candidate.commit.to_string());
    let Candidate { problems, mut warnings, mut wanted, deletes, held, .. } = candidate;
    warnings
        .extend(held.map(|hold| Problem { message: freeze::words(&hold), ..Problem::default() }));
    if !problems.is_empty() {
        return PlanReport { commit, problems, warnings, ..PlanReport::default() };
    }
    let hooks = admission::runs_hooks(view, &wanted, &deletes);
    if !hooks {
        wanted.retain(|desired| kinds::order(&desired.object).hook.is_none());
    }
    let mut plan = report::diff(view, &wanted, &deletes);
    plan.hooks = report::hooks(&wanted);
    plan.commit = commit;
    plan.warnings = [warnings, plan.warnings].concat();
    let found = forecast(view, &wanted, &deletes, now);
    let placed = |((key, node), pods): ((Key, _), u64)| PlacedPods {
        object: key.to_string(),
        node: format!("{node}"),
        pods,
    };
    plan.placed = found.placed.into_iter().map(placed).collect();
    let place = |key: &Key| {
        let origin = wanted.iter().find(|desired| desired.object.key() == key).map(|d| &d.origin);
        ObjectLine {
            object: key.to_string(),
            file: origin.map(|origin| origin.file.clone()).unwrap_or_default(),
            line: origin.map(|origin| origin.line).unwrap_or_default(),
        }
    };
    let unplaced = |((key, reason), pods): ((Key, String), u64)| UnplacedPods {
        object: place(&key),
        pods,
        reason,
    };
    plan.unplaced = found.unplaced.into_iter().map(unplaced).collect();
    plan
}

/// A conflict as problems of a plan.
pub(super) fn conflict(files: Vec<String>) -> PlanReport {
    let problem = |file| {
        let message = "it was changed there and in the commit that runs: merge the two".to_owned();
        Problem { file, message, ..Problem::default() }
    };
    let problems = files.into_iter().map(problem).collect();
    PlanReport { problems, ..PlanReport::default() }
}

/// Writes plan notes.
pub(super) struct Previewer {
    importer: Arc<Importer>,
    /// Which tips were planned, and against what: those notes are there.
    planned: BTreeMap<String, (CommitId, CommitId)>,
}

impl Previewer {
    /// Plans branches of the importer's source.
    pub(super) fn new(importer: Arc<Importer>) -> Self {
        Self { importer, planned: BTreeMap::new() }
    }

    /// Looks whenever a branch may have moved, or what runs has, while this server leads, until
    /// `stop`.
    pub(super) async fn run(mut self, nudge: Arc<Notify>, stop: CancellationToken) {
        let mut roles = self.importer.store.roles();
        let mut views = self.importer.store.views();
        let mut watch = self.importer.watch(None);
        let mut failures = 0;
        loop {
            let head = head(&views.borrow_and_update());
            let mut more = false;
            if self.importer.store.is_leader() {
                match self.round().await {
                    Ok(left) => (more, failures) = (left, 0),
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(event = "branches not planned", %error, attempt = failures);
                    }
                }
            } else {
                self.planned.clear();
            }
            let every = self.importer.spec.interval_seconds.unwrap_or(INTERVAL_SECONDS).max(1);
            let every = Duration::from_secs(every.unsigned_abs());
            let pause = git::watch::poll_after(every, failures, rand::random());
            tokio::select! {
                () = stop.cancelled() => return,
                () = std::future::ready(()), if more => {}
                () = nudge.notified() => {}
                () = super::import::moved(&mut watch) => {}
                moved = views.wait_for(|view| self::head(view) != head) => if moved.is_err() { return },
                changed = roles.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(GATHER_MS)) => {}
            }
        }
    }

    /// Plans what is due, at most [`BRANCHES_MAX`] branches; tells whether more are.
    async fn round(&mut self) -> Result<bool, Error> {
        let view = self.importer.store.view();
        let (Some(base), Some(config)) = (head(&view), view.config()) else { return Ok(false) };
        let cluster = config.cluster_id.clone();
        let tips = self.tips(self.planned.is_empty()).await?;
        self.planned.retain(|name, _| tips.contains_key(name));
        let mut due = tips.into_iter().filter(|(name, tip)| {
            self.planned.get(name).is_none_or(|(t, b)| (t, b) != (tip, &base))
        });
        let now: Vec<(String, CommitId)> = due.by_ref().take(BRANCHES_MAX).collect();
        let more = due.next().is_some();
        let mut notes = BTreeMap::new();
        for (_, tip) in &now {
            notes.extend(
                self.note(tip, &view, &base, &cluster).await?.map(|text| (tip.clone(), text)),
            );
        }
        self.write(notes).await?;
        self.planned.extend(now.into_iter().map(|(name, tip)| (name, (tip, base.clone()))));
        Ok(more)
    }

    /// The branches that somebody may want to merge.
    async fn tips(&self, first: bool) -> Result<BTreeMap<String, CommitId>, Error> {
        let mirror = self.importer.mirror.clone();
        let oldest = clock::now().plus_seconds(-TIP_DAYS_MAX * 86_400);
        let look = move || {
            let within = Duration::from_secs(REMOTE_SECONDS_MAX);
            if first {
                mirror.fetch_notes(PLAN_NOTES_REFERENCE, within)?;
            }
            let mut tips = mirror.branches(&|name| is_planned(&mirror, name), within)?;
            let reader = mirror.reader()?;
            tips.retain(|_, tip| reader.commit(tip).is_ok_and(|c| c.committer.at >= oldest));
            Ok::<_, git::Error>(tips)
        };
        Ok(tokio::task::spawn_blocking(look).await??)
    }

    /// The note that is missing on a tip.
    async fn note(
        &self,
        tip: &CommitId,
        view: &View,
        base: &CommitId,
        cluster: &str,
    ) -> Result<Option<String>, Error> {
        let (mirror, on) = (self.importer.mirror.clone(), tip.clone());
        let there = move || mirror.note(PLAN_NOTES_REFERENCE, &on);
        let there = tokio::task::spawn_blocking(there).await??;
        if there.is_some_and(|note| report::is_note_of(&note, base, cluster)) {
            return Ok(None);
        }
        Ok(match self.importer.preview(tip, view, Look::Merged).await? {
            Preview::Contained => None,
            Preview::Conflict(files) => Some(report::unmergeable(&files, base, cluster)),
            Preview::Plan(plan) => Some(report::plan_note(&plan, base, cluster)),
        })
    }

    async fn write(&self, notes: BTreeMap<CommitId, String>) -> Result<(), Error> {
        if notes.is_empty() {
            return Ok(());
        }
        let mirror = self.importer.mirror.clone();
        let count = notes.len();
        let write = move || {
            let within = Duration::from_secs(REMOTE_SECONDS_MAX);
            mirror.write_notes(PLAN_NOTES_REFERENCE, &notes, &export::us(), within)
        };
        tokio::task::spawn_blocking(write).await??;
        tracing::info!(event = "branches planned", notes = count);
        Ok(())
    }
}

fn head(view: &View) -> Option<CommitId> {
    view.head().map(|head| head.commit.clone())
}

/// Whether a branch is neither the desired one nor ours.
fn is_planned(mirror: &Mirror, name: &str) -> bool {
    let desired = matches!(&mirror.remote().reference, Reference::Branch(branch) if branch == name);
    !desired && !name.starts_with(OURS)
}
