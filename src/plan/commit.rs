//! What becomes of a commit: on its way, healthy, degraded, or overtaken by a later one.
//!
//! The rules of "is at its desired state" are kstatus' (github.com/kubernetes-sigs/cli-utils,
//! pkg/kstatus).

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    coordination::v1::Lease,
    core::v1::{Event, Node, Pod},
};

use super::{
    Controller, Inputs, Plan,
    batch::Batch,
    cause,
    deployment::REVISION,
    failure::{self, Failed},
    order::WAITING,
    pods, stages, standing,
    stuck::{self, Outlook},
};
use crate::{
    kinds::{
        Commit, CommitChanges, CommitState, CommitStatus, GitSource, HookPhase, RevertState, order,
    },
    model::{CommitName, GroupKind, Key, Object, Problem, Timestamp},
    state::{Change, Command, Ending, Head, OutboxItem, View},
};

/// How long something that ran may be away before its commit counts as degraded: a pod that is
/// replaced is back by then, and Git is not told of every restart.
const AWAY_SECONDS: i64 = 30;
/// Most problems that a commit's status names; the rest is counted in its message.
const PROBLEMS_MAX: usize = 20;

/// Most commits of the main source that State keeps: what `history` and `kubectl get commits` can
/// show. Git keeps them all.
const COMMITS_MAX: usize = 500;

/// Most commits of each other source that State keeps: there may be a hundred of them.
const GUEST_COMMITS_MAX: usize = 50;

/// Most commits of each unit of a source that State keeps: there may be thousands.
const UNIT_COMMITS_MAX: usize = 10;

/// Judges commits.
pub(super) const CONTROLLER: Controller =
    Controller { name: "commit-controller", affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<Commit>(), None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<Commit>() {
        // A new head ends those before it.
        let name = CommitName::parse(&change.key.name).filter(|_| super::is_new(change));
        return match name {
            Some(name) => keys_of(view, &name.source),
            None => super::still(&change.key, view),
        };
    }
    if change.key.is::<GitSource>() && change.new.is_none() {
        return keys_of(view, &change.key.name);
    }
    let silent = change.key.is::<Event>() || change.key.is::<Lease>() || change.key.is::<Node>();
    let heads = view.heads().filter(|_| !silent);
    let keys = heads.map(|(source, head)| key_of(&CommitName::new(source, &head.commit)));
    keys.filter(|key| view.object(key).is_some()).collect()
}

fn keys_of(view: &View, source: &str) -> BTreeSet<Key> {
    view.commits_of(source).map(|(_, object, _)| object.key().clone()).collect()
}

/// The object of a commit.
pub(super) fn key_of(name: &CommitName) -> Key {
    Key::of::<Commit>("", &name.to_string())
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let Some((object, commit)) = view.object(key).and_then(|o| Some((o, o.view::<Commit>()?)))
    else {
        return Plan::default();
    };
    let Some(name) = CommitName::parse(&key.name) else { return Plan::default() };
    if !name.is_main() && view.get::<GitSource>("", &name.source).is_none() {
        return let_go(view, object, &name);
    }
    let Some(head) = view.head_of(&name.source) else { return Plan::default() };
    let runs = head.commit == name.id;
    let mut status = commit.status.clone();
    let mut wake_at = None;
    // What was refused or has failed stays so.
    let is_over = status.state == CommitState::Refused || status.failure.is_some();
    if runs && !is_over {
        wake_at = judge(view, &name, head, &mut status, inputs);
    } else if matches!(status.state, CommitState::Admitted | CommitState::Progressing) {
        status.state = CommitState::Superseded;
        status.reason = "Superseded".to_owned();
        status.message = format!("{} took its place", head.commit.short());
    }
    standing::note(&mut status, object, inputs.now);
    let mut batch = Batch::default();
    if runs {
        forget(view, &name, &mut batch);
    }
    if status == commit.status {
        return batch.into_plan(wake_at);
    }
    let told = status.state != commit.status.state;
    let due = status.failure.as_ref().is_some_and(|f| f.revert == RevertState::Due) && !is_over;
    batch.status(object, &Commit { status: status.clone(), ..commit.clone() });
    if status.failure.is_some() && !is_over {
        batch.warning(object, CONTROLLER.name, "RolloutFailed", status.message.clone());
    }
    let mut plan = batch.into_plan(wake_at);
    if told {
        plan.commands.push(Command::Enqueue(OutboxItem::Note(name.clone())));
    }
    if due {
        // Before the status, which is what keeps this from being planned again.
        plan.commands.insert(0, Command::Enqueue(OutboxItem::Revert(name)));
    }
    plan
}

/// Forgets a commit of a source that is no longer followed, and what was to be pushed there.
fn let_go(view: &View, object: &Object, name: &CommitName) -> Plan {
    let due = view.due_reverts().filter(|(_, bad)| *bad == name);
    let mut commands: Vec<Command> = due.map(|(id, _)| Command::Done(id)).collect();
    let mut batch = Batch::default();
    batch.delete(object);
    let mut plan = batch.into_plan(None);
    commands.append(&mut plan.commands);
    Plan { commands, ..plan }
}

/// Deletes the oldest commits of a source beyond the bound; their notes in Git stay, and the oldest
/// one that stays stands for them where commits are counted.
fn forget(view: &View, head: &CommitName, batch: &mut Batch) {
    let commits = || view.commits_of(&head.source);
    let source = view.get::<GitSource>("", &head.source);
    let most = match source.and_then(GitSource::parent) {
        _ if head.is_main() => COMMITS_MAX,
        Some(_) => UNIT_COMMITS_MAX,
        None => GUEST_COMMITS_MAX,
    };
    let surplus = commits().count().saturating_sub(most);
    if surplus == 0 {
        return;
    }
    let mut old: Vec<&Object> =
        commits().filter(|(name, ..)| name != head).map(|(_, o, _)| o).collect();
    old.sort_by_key(|o| (o.meta().creation_timestamp.clone(), o.revision()));
    let (gone, stay) = old.split_at(surplus.min(old.len()));
    gone.iter().for_each(|o| batch.delete(o));
    let Some((object, commit)) = stay.first().and_then(|o| Some((o, o.view::<Commit>()?))) else {
        return;
    };
    let mut commit = commit.clone();
    let mut before = commit.status.before.take().unwrap_or_default();
    let forgotten = gone.iter().filter_map(|o| o.view::<Commit>());
    forgotten.for_each(|commit| before.add(&commit.status));
    commit.status.before = Some(before);
    batch.status(object, &commit);
}

/// Brings the head's status up to date; gives the time at which it has to be looked at again.
fn judge(
    view: &View,
    name: &CommitName,
    head: &Head,
    status: &mut CommitStatus,
    inputs: &Inputs<'_>,
) -> Option<Timestamp> {
    let seconds = status.deadline_seconds.unwrap_or(inputs.timing.commit_deadline_seconds);
    let since = status.timings.admitted_at.map_or(head.at, Timestamp);
    let deadline = since.plus_seconds(seconds);
    let mut verdicts = verdicts(view, &name.source);
    if status.timings.failed_at.is_none() {
        stages::note(view, name, &mut status.timings, inputs.now);
    }
    let late = deadline <= inputs.now;
    let ran = status.timings.healthy_at.is_some();
    // What changed nothing broke nothing: a revert is as good as what it brings back.
    let may_fail = !ran && status.changes != CommitChanges::default();
    let again = match may_fail {
        true => give_up_early(view, &name.source, &mut verdicts, inputs.now),
        false => None,
    };
    let failed = verdicts.waiting.iter().any(|w| w.failed);
    let away: Vec<Timestamp> =
        verdicts.waiting.iter().filter_map(|w| w.away_since).map(away_until).collect();
    let broke = ran && away.iter().any(|at| *at <= inputs.now);
    if verdicts.waiting.is_empty() {
        heal(status, verdicts.count, inputs.now);
        return None;
    }
    let was = status.state;
    if failed || late && !ran || broke || was == CommitState::Degraded {
        degrade(status, &verdicts, late && !ran, inputs.now);
        if may_fail && was != CommitState::Degraded {
            give_up(view, name, status, &verdicts, late);
        }
        return None;
    }
    if ran {
        // What ran once has a moment to come back before anybody is told.
        return away.into_iter().min();
    }
    let first = &verdicts.waiting[0];
    status.state = CommitState::Progressing;
    status.reason = "Progressing".to_owned();
    let ready = verdicts.count - verdicts.waiting.len();
    status.message =
        format!("{ready} of {} workloads are ready; {}", verdicts.count, first.problem.message);
    Some(again.map_or(deadline, |at| at.min(deadline)))
}

/// Marks as failed what will not come up by itself; gives the time at which it has to be looked at
/// again.
fn give_up_early(
    view: &View,
    source: &str,
    verdicts: &mut Verdicts,
    now: Timestamp,
) -> Option<Timestamp> {
    let mut again: Option<Timestamp> = None;
    let until = failure::good_until(view, source);
    let open = verdicts
        .waiting
        .iter_mut()
        .filter(|w| !w.failed && failure::is_guilty(view, &w.key, until));
    for waiting in open {
        let Some(object) = view.object(&waiting.key) else { continue };
        match stuck::outlook(view, &version(view, object), now) {
            Outlook::Open(at) => again = again.into_iter().chain(at).min(),
            Outlook::Hopeless { reason, text } => {
                waiting.failed = true;
                waiting.reason = reason;
                waiting.problem.message += &format!("; {text}");
            }
        }
    }
    again
}

/// The pods of the version that is being rolled out.
pub(super) fn version<'a>(view: &'a View, object: &'a Object) -> Vec<&'a Object> {
    if !object.key().is::<Deployment>() {
        return newest_pods(view, object);
    }
    let sets = view.owned_by(object.uid()).filter(|o| o.key().is::<ReplicaSet>());
    let sets = sets.map(|set| (set, newest_pods(view, set)));
    // Most sets have no pods, and what a revision is stands in what has to be decoded.
    let is_newest = |set: &Object| set.annotation(REVISION) == object.annotation(REVISION);
    let newest = sets.filter(|(set, pods)| !pods.is_empty() && is_newest(set));
    newest.flat_map(|(_, pods)| pods).collect()
}

/// Has the cluster go back when it was this rollout that failed.
fn give_up(
    view: &View,
    head: &CommitName,
    status: &mut CommitStatus,
    verdicts: &Verdicts,
    late: bool,
) {
    // What only waits for its turn has not failed itself.
    let stuck = |w: &&Waiting| (late || w.failed) && w.reason != WAITING;
    let any = verdicts.waiting.iter().any(|w| stuck(&w));
    let failed = verdicts.waiting.iter().filter(|w| if any { stuck(w) } else { late });
    let failed: Vec<Failed<'_>> =
        failed.map(|w| Failed { key: &w.key, problem: &w.problem }).collect();
    status.failure = failure::of(view, head, &status.message, &failed);
    if let Some(failure) = &status.failure {
        status.message = failure::words(head, failure);
    }
}

fn away_until(since: Timestamp) -> Timestamp {
    since.plus_seconds(AWAY_SECONDS)
}

fn heal(status: &mut CommitStatus, count: usize, now: Timestamp) {
    status.state = CommitState::Healthy;
    status.reason = "Healthy".to_owned();
    status.message = match count {
        1 => "1 workload is ready".to_owned(),
        n => format!("{n} workloads are ready"),
    };
    status.problems = Vec::new();
    status.timings.healthy_at.get_or_insert(now.0);
}

fn degrade(status: &mut CommitStatus, verdicts: &Verdicts, late: bool, now: Timestamp) {
    let failed = verdicts.waiting.iter().find(|w| w.failed);
    let first = failed.unwrap_or(&verdicts.waiting[0]);
    if status.state != CommitState::Degraded {
        status.reason = match (failed, late) {
            (Some(failed), _) => failed.reason.clone(),
            (None, true) => "DeadlineExceeded".to_owned(),
            (None, false) => "Unavailable".to_owned(),
        };
        status.timings.failed_at.get_or_insert(now.0);
    }
    status.state = CommitState::Degraded;
    let more = match verdicts.waiting.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    status.message = format!("{}{more}", first.problem.message);
    let problems = verdicts.waiting.iter().map(|w| w.problem.clone());
    status.problems = problems.take(PROBLEMS_MAX).collect();
}

/// What is not at its desired state, of how many workloads.
pub(super) struct Verdicts {
    pub(super) count: usize,
    pub(super) waiting: Vec<Waiting>,
}

/// One workload that is not at its desired state.
pub(super) struct Waiting {
    key: Key,
    /// It will not come there by itself.
    pub(super) failed: bool,
    pub(super) reason: String,
    /// Since when it does not do its work, where that is known.
    away_since: Option<Timestamp>,
    pub(super) problem: Problem,
}

/// Judges every workload that a source holds. What has no state of its own is as Git says once it
/// is stored.
pub(super) fn verdicts(view: &View, source: &str) -> Verdicts {
    let mut verdicts = Verdicts { count: 0, waiting: Vec::new() };
    let head = view.head_of(source).and_then(|head| view.commit_of(source, &head.commit));
    let ran = head.is_some_and(|commit| commit.status.timings.healthy_at.is_some());
    let kinds = [
        GroupKind::of::<Deployment>(),
        GroupKind::of::<ReplicaSet>(),
        GroupKind::of::<Job>(),
        GroupKind::of::<Pod>(),
    ];
    for kind in kinds {
        let all = view.origins_of(&kind);
        for (key, origin) in all.filter(|(_, origin)| origin.source == source) {
            let hook = view.object(key).filter(|_| view.is_hook(key));
            let hook = hook.and_then(|object| order(object).hook);
            if hook.is_some_and(|hook| hook.phase == HookPhase::SyncFail) {
                continue;
            }
            verdicts.count += 1;
            // What a hook did is of the commit's way to health.
            if let Some(verdict) = verdict(view, key).filter(|_| hook.is_none() || !ran) {
                let what = hook.map(|hook| format!("{} hook ", hook.phase.as_str()));
                let message = format!("{}{key}: {}", what.unwrap_or_default(), verdict.text);
                let (file, line) = (origin.file.clone(), origin.line);
                verdicts.waiting.push(Waiting {
                    key: key.clone(),
                    failed: verdict.failed,
                    reason: verdict.reason,
                    away_since: verdict.away_since,
                    problem: Problem { file, line, field: String::new(), message },
                });
            }
        }
    }
    verdicts
}

/// Why one workload is not where it should be.
struct Verdict {
    failed: bool,
    reason: String,
    text: String,
    away_since: Option<Timestamp>,
}

impl Verdict {
    fn waits(text: String) -> Self {
        Self { failed: false, reason: "InProgress".to_owned(), text, away_since: None }
    }
}

/// Whether an object is there and at its desired state.
pub(super) fn is_current(view: &View, key: &Key) -> bool {
    verdict(view, key).is_none()
}

fn verdict(view: &View, key: &Key) -> Option<Verdict> {
    if let Some(ending) = view.origin(key).and_then(|origin| origin.ended) {
        return (ending == Ending::Failed).then(|| Verdict {
            failed: true,
            reason: "Failed".to_owned(),
            ..Verdict::waits("has failed".to_owned())
        });
    }
    let Some(object) = view.object(key) else {
        let text = "is not there: it was deleted and the commit still has it".to_owned();
        return Some(Verdict { away_since: Some(Timestamp(0)), ..Verdict::waits(text) });
    };
    if object.is_terminating() {
        return Some(Verdict::waits("is being deleted".to_owned()));
    }
    if key.is::<Deployment>() || key.is::<ReplicaSet>() {
        let judge = if key.is::<Deployment>() { of_deployment } else { of_replica_set };
        return judge(view, object, Said::of(object)?);
    }
    if let Some(job) = object.view::<Job>() {
        return of_job(view, object, job);
    }
    let pod = object.view::<Pod>()?;
    let is_hook = view.is_hook(key) && order(object).hook.is_some();
    match of_pod(pod) {
        None if is_hook && pods::phase(pod) != "Succeeded" => {
            Some(Verdict::waits("has not ended".to_owned()))
        }
        verdict => verdict,
    }
}

/// A Job is as wanted when it has done its work, and while it is suspended.
fn of_job(view: &View, object: &Object, job: &Job) -> Option<Verdict> {
    let (spec, status) =
        (job.spec.clone().unwrap_or_default(), job.status.clone().unwrap_or_default());
    let said = |kind: &str| {
        let all = status.conditions.iter().flatten();
        all.into_iter().find(|c| c.type_ == kind && c.status == "True")
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    if said("Complete").is_some() {
        return None;
    }
    if let Some(failed) = said("Failed").or(said("FailureTarget")) {
        let reason = text(&failed.reason);
        let message = format!("has failed: {}", text(&failed.message));
        return Some(Verdict { failed: true, reason, ..Verdict::waits(message) });
    }
    if let Some(waiting) = said(WAITING) {
        let waits = Verdict::waits(text(&waiting.message));
        return Some(Verdict { reason: WAITING.to_owned(), ..waits });
    }
    if said("Suspended").is_some() {
        return None;
    }
    let done = status.succeeded.unwrap_or(0);
    let count = match spec.completions {
        Some(wanted) => format!("{done} of {wanted} pods have succeeded"),
        None => format!("{done} pods have succeeded"),
    };
    let failed = match status.failed.unwrap_or(0) {
        0 => String::new(),
        n => format!(", {n} failed"),
    };
    Some(Verdict::waits(because(view, object, format!("{count}{failed}"))))
}

/// What a Deployment or a ReplicaSet says of itself. All of them are asked at each change of
/// anything, and what is decoded of one takes fifty times this.
struct Said {
    generation: Option<i64>,
    observed: Option<i64>,
    paused: bool,
    desired: i32,
    all: i32,
    updated: i32,
    available: i32,
    /// Why it waits for its turn.
    waiting: Option<String>,
    away_since: Option<Timestamp>,
    /// Why it does not get on.
    stuck: Option<String>,
}

impl Said {
    fn of(object: &Object) -> Option<&Self> {
        let made = object.gist(|object| {
            let object = object.apart();
            let deployment = object.view::<Deployment>().map(Self::of_deployment);
            deployment.or_else(|| object.view::<ReplicaSet>().map(Self::of_replica_set))
        });
        made?.as_ref()
    }

    fn of_deployment(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        let condition = |kind: &str| {
            let all = status.conditions.iter().flatten();
            all.into_iter().find(|c| c.type_.as_deref() == Some(kind))
        };
        let unavailable = condition("Available").filter(|c| c.status.as_deref() == Some("False"));
        let stuck = condition("Progressing")
            .filter(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded"));
        let count = |n: Option<i32>| n.unwrap_or(0);
        Self {
            generation: deployment.metadata.generation,
            observed: status.observed_generation,
            paused: deployment.spec.paused == Some(true),
            desired: deployment.spec.replicas.unwrap_or(1),
            all: count(status.replicas),
            updated: count(status.updated_replicas),
            available: count(status.available_replicas),
            waiting: condition(WAITING).and_then(|c| c.message.clone()),
            away_since: unavailable
                .and_then(|c| c.last_transition_time.as_ref())
                .map(Timestamp::from),
            stuck: stuck.map(|c| c.message.clone().unwrap_or_default()),
        }
    }

    fn of_replica_set(set: &ReplicaSet) -> Self {
        let status = set.status.clone().unwrap_or_default();
        Self {
            generation: set.metadata.generation,
            observed: status.observed_generation,
            paused: false,
            desired: set.spec.replicas.unwrap_or(1),
            all: status.replicas,
            updated: status.replicas,
            available: status.available_replicas.unwrap_or(0),
            waiting: None,
            away_since: None,
            stuck: None,
        }
    }

    fn is_observed(&self) -> bool {
        self.observed >= self.generation
    }
}

/// Whether a Deployment or a ReplicaSet with so many pods of the newest version has all of them;
/// `None` for another object.
pub(super) fn has_pods(object: &Object, there: i64) -> Option<bool> {
    let said = Said::of(object)?;
    let enough = there >= i64::from(said.desired);
    Some(match object.key().is::<Deployment>() {
        true => said.is_observed() && (said.paused || enough),
        false => enough,
    })
}

fn of_deployment(view: &View, object: &Object, said: &Said) -> Option<Verdict> {
    if !said.is_observed() {
        return Some(Verdict::waits("its last change was not looked at yet".to_owned()));
    }
    if let Some(message) = said.waiting.clone() {
        return Some(Verdict { reason: WAITING.to_owned(), ..Verdict::waits(message) });
    }
    let &Said { desired, all, updated, available, paused, .. } = said;
    let text = if updated < desired && !paused {
        format!("{updated} of {desired} pods are of this version")
    } else if all > updated && !paused {
        format!("{} pods of an earlier version are still there", all - updated)
    } else if available < desired {
        format!("{available} of {desired} pods are available")
    } else {
        return None;
    };
    let mut verdict = Verdict::waits(because(view, object, text));
    verdict.away_since = said.away_since;
    if let Some(message) = &said.stuck {
        verdict.failed = true;
        verdict.reason = "ProgressDeadlineExceeded".to_owned();
        verdict.text = format!("{}; {message}", verdict.text);
    }
    Some(verdict)
}

fn of_replica_set(view: &View, object: &Object, said: &Said) -> Option<Verdict> {
    if !said.is_observed() {
        return Some(Verdict::waits("its last change was not looked at yet".to_owned()));
    }
    let &Said { desired, all, available, .. } = said;
    let text = if available < desired {
        format!("{available} of {desired} pods are available")
    } else if all > desired {
        format!("{} pods too many are still there", all - desired)
    } else {
        return None;
    };
    Some(Verdict::waits(because(view, object, text)))
}

fn of_pod(pod: &Pod) -> Option<Verdict> {
    if pods::is_ready(pod) || pods::phase(pod) == "Succeeded" {
        return None;
    }
    let (reason, text) = cause::of(pod)
        .unwrap_or_else(|| ("InProgress".to_owned(), format!("is {}", pods::phase(pod))));
    let ready = pods::condition(pod, "Ready").filter(|c| c.status == "False");
    let away_since = ready.and_then(|c| c.last_transition_time.as_ref()).map(Timestamp::from);
    Some(Verdict { failed: pods::phase(pod) == "Failed", reason, text, away_since })
}

/// Adds what keeps the first of the workload's pods from running.
fn because(view: &View, object: &Object, text: String) -> String {
    let pods = newest_pods(view, object);
    let cause = pods.iter().find_map(|o| {
        let active = o.view::<Pod>().filter(|pod| pods::is_active(o, pod))?;
        Some((o.key().name.clone(), cause::of(active)?.1))
    });
    match cause {
        Some((pod, why)) => format!("{text}; pod {pod}: {why}"),
        None => text,
    }
}

/// The pods below a workload; the newest, which are those of the version that is being rolled out,
/// come first.
pub(super) fn newest_pods<'a>(view: &'a View, object: &'a Object) -> Vec<&'a Object> {
    if object.key().is::<Pod>() {
        return vec![object];
    }
    let below = |uid: &str| view.owned_by(uid).collect::<Vec<_>>();
    let own = below(object.uid());
    let sets = own.iter().filter(|o| o.key().is::<ReplicaSet>()).flat_map(|o| below(o.uid()));
    let mut pods: Vec<&Object> =
        own.iter().copied().chain(sets).filter(|o| o.key().is::<Pod>()).collect();
    pods.sort_by_key(|o| std::cmp::Reverse(o.meta().creation_timestamp.clone()));
    pods
}
