//! One step of one Job: count what ended, decide whether it is over, make or delete pods, say so.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods},
    core::v1::Pod,
};

use super::{
    NAME, TRACKING,
    end::{self, Consequence, End},
    indexes, is_tracked,
    make::{self, INDEX, INDEX_FAILURES, Order},
    untracked,
};
use crate::{
    model::{Object, Timestamp},
    plan::{
        Plan,
        batch::Batch,
        offspring::Made,
        order::{self, WAITING},
        owners, pods,
        replica_set::{REFUSED_SECONDS, rank},
    },
    state::View,
};

/// The condition of a Job whose pods are refused.
const REFUSED: &str = "ReplicaFailure";

/// Takes one step of a Job that is not over.
pub(super) fn step(
    view: &View,
    object: &Object,
    job: &Job,
    spec: &JobSpec,
    now: Timestamp,
) -> Plan {
    let mut batch = Batch::default();
    let selector = spec.selector.clone().unwrap_or_default();
    let claimed = owners::claim::<Pod>(view, object, &selector, &mut batch);
    let members = claimed.into_iter().map(|(o, pod)| Member::new(o, pod, spec)).collect();
    let status = job.status.clone().unwrap_or_default();
    let sync = Sync { view, object, job, spec, now, members, status, batch, wake_at: None };
    sync.run()
}

/// How a pod stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Succeeded,
    Failed,
    /// Neither, and it is on its way out.
    Leaving,
    Active,
}

/// One pod of the Job.
struct Member<'a> {
    object: &'a Object,
    pod: Pod,
    fate: Fate,
    /// It was not counted yet.
    tracked: bool,
    /// Its completion index, where that is one of the Job's.
    index: Option<i32>,
}

impl<'a> Member<'a> {
    fn new(object: &'a Object, pod: Pod, spec: &JobSpec) -> Self {
        let index = object.annotation(INDEX).and_then(|text| text.parse::<i32>().ok());
        let end = spec.completions.unwrap_or(0);
        let index = index.filter(|index| is_indexed(spec) && (0..end).contains(index));
        Self { fate: fate(object, &pod, spec), tracked: is_tracked(object), object, pod, index }
    }

    /// Whether it has failed by itself, or is told to end by somebody else. A pod that somebody
    /// deletes counts, but its successor does not wait.
    fn has_failed(&self) -> bool {
        let phase = pods::phase(&self.pod) == "Failed" && !self.object.is_terminating();
        self.fate == Fate::Failed && (self.tracked || phase)
    }
}

/// A pod that goes before it is done has failed; with the replacement policy `Failed` only once it
/// is really over.
fn fate(object: &Object, pod: &Pod, spec: &JobSpec) -> Fate {
    let released = object.meta().deletion_grace_period_seconds == Some(0);
    let is_gone = object.is_terminating() && (released || !waits_for_the_end(spec));
    match pods::phase(pod) {
        "Succeeded" => Fate::Succeeded,
        "Failed" => Fate::Failed,
        _ if is_gone && is_tracked(object) => Fate::Failed,
        _ if object.is_terminating() => Fate::Leaving,
        _ => Fate::Active,
    }
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Whether a pod is replaced only when it has ended, and not when it is told to.
fn waits_for_the_end(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

struct Sync<'a> {
    view: &'a View,
    object: &'a Object,
    job: &'a Job,
    spec: &'a JobSpec,
    now: Timestamp,
    members: Vec<Member<'a>>,
    status: JobStatus,
    batch: Batch,
    wake_at: Option<Timestamp>,
}

impl Sync<'_> {
    fn run(mut self) -> Plan {
        let held = self.held();
        let (mut active, mut leaving) = (self.number(Fate::Active), self.leaving());
        self.count();
        self.start(held.is_some());
        let mut over = self.over();
        if let Some(end) = &over {
            leaving += self.stop(end);
            active = 0;
        } else {
            let going = self.object.is_terminating()
                || owners::is_closing(self.view, &self.object.key().namespace);
            if held.is_none() && !going {
                (active, leaving) = self.manage(active, leaving);
                over = self.is_complete(active).then(|| {
                    let text = "Reached expected number of succeeded pods";
                    End::succeeded("CompletionsReached", text)
                });
                if over.is_none() {
                    self.note_suspension();
                }
            }
        }
        self.note_wait(held);
        self.release(over.is_some());
        self.finish(over, active, leaving)
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Notes when the Job began; of one that is resumed the deadline counts from there.
    fn start(&mut self, held: bool) {
        if held || self.is_suspended() {
            return;
        }
        let resumed = condition(&self.status, "Suspended").is_some_and(|c| c.status == "True");
        if resumed || self.status.start_time.is_none() {
            self.status.start_time = Some(self.now.to_time());
        }
    }

    /// Why the Job may not start; `None` when it may or has.
    fn held(&self) -> Option<String> {
        let started = self.status.start_time.is_some() || !self.members.is_empty();
        if started { None } else { order::hold(self.view, self.object) }
    }

    fn number(&self, fate: Fate) -> i32 {
        count(self.members.iter().filter(|m| m.fate == fate).count())
    }

    /// How many pods are told to end and have not.
    fn leaving(&self) -> i32 {
        let leaving = |m: &&Member<'_>| m.object.is_terminating() && !pods::is_over(&m.pod);
        count(self.members.iter().filter(leaving).count())
    }

    fn completed(&self) -> BTreeSet<i32> {
        let text = self.status.completed_indexes.as_deref().unwrap_or_default();
        indexes::parse(text, self.spec.completions.unwrap_or(0))
    }

    /// Counts the pods that ended since the last step.
    fn count(&mut self) {
        let new = |m: &&Member<'_>, fate| m.tracked && m.fate == fate;
        let succeeded = self.members.iter().filter(|m| new(m, Fate::Succeeded));
        if is_indexed(self.spec) {
            let mut all = self.completed();
            all.extend(succeeded.filter_map(|m| m.index));
            self.status.completed_indexes = Some(indexes::text(&all)).filter(|t| !t.is_empty());
            self.status.succeeded = present(count(all.len()));
        } else {
            add(&mut self.status.succeeded, succeeded.count());
        }
        let failed = self.members.iter().filter(|m| new(m, Fate::Failed));
        let counts = failed.filter(|m| self.has_place(m) && self.counts(m)).count();
        add(&mut self.status.failed, counts);
        if let Some(limit) = self.spec.backoff_limit_per_index {
            let failed = self.failed_indexes(limit);
            self.status.failed_indexes = Some(indexes::text(&failed));
        }
    }

    /// Whether a pod is one that the Job asked for: in an Indexed Job one with an index.
    fn has_place(&self, member: &Member<'_>) -> bool {
        !is_indexed(self.spec) || member.index.is_some()
    }

    /// Whether the failure of a pod counts towards the limit.
    fn counts(&self, member: &Member<'_>) -> bool {
        end::consequence(self.spec, &member.pod) != Consequence::Ignored
    }

    /// The indexes that are given up.
    fn failed_indexes(&self, limit: i32) -> BTreeSet<i32> {
        let text = self.status.failed_indexes.as_deref().unwrap_or_default();
        let mut all = indexes::parse(text, self.spec.completions.unwrap_or(0));
        let given_up = |m: &&Member<'_>| {
            let fails = end::consequence(self.spec, &m.pod) == Consequence::FailsIndex;
            m.has_failed() && (fails || self.failures(m) > limit)
        };
        all.extend(self.members.iter().filter(given_up).filter_map(|m| m.index));
        all
    }

    /// How often the index of a pod that failed has failed with it.
    fn failures(&self, member: &Member<'_>) -> i32 {
        let before = member.object.annotation(INDEX_FAILURES).and_then(|t| t.parse::<i32>().ok());
        before.unwrap_or(0) + i32::from(self.counts(member))
    }

    /// Whether the Job is over, apart from having done all of it: as an earlier step said, by a
    /// policy, by a limit, by its deadline.
    fn over(&mut self) -> Option<End> {
        let said = |kind: &str| condition(&self.status, kind).filter(|c| c.status == "True");
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        for (kind, succeeded) in [("SuccessCriteriaMet", true), ("FailureTarget", false)] {
            if let Some(c) = said(kind) {
                let (reason, message) = (text(&c.reason), text(&c.message));
                return Some(End { succeeded, reason, message });
            }
        }
        self.by_policy().or_else(|| self.by_limit()).or_else(|| self.by_index())
    }

    fn by_policy(&self) -> Option<End> {
        let mut failed = self.members.iter().filter(|m| m.has_failed());
        failed.find_map(|m| match end::consequence(self.spec, &m.pod) {
            Consequence::FailsJob(message) => Some(End::failed("PodFailurePolicy", message)),
            _ => None,
        })
    }

    fn by_limit(&mut self) -> Option<End> {
        let failed = self.status.failed.unwrap_or(0);
        let restarted = end::restarted_too_often(self.spec, self.members.iter().map(|m| &m.pod));
        if failed > self.spec.backoff_limit.unwrap_or(i32::MAX) || restarted {
            let text = "Job has reached the specified backoff limit";
            return Some(End::failed("BackoffLimitExceeded", text));
        }
        let since = self.status.start_time.as_ref().map(Timestamp::from)?;
        let seconds = self.spec.active_deadline_seconds.filter(|_| !self.is_suspended())?;
        let deadline = since.plus_seconds(seconds);
        if deadline <= self.now {
            let text = "Job was active longer than specified deadline";
            return Some(End::failed("DeadlineExceeded", text));
        }
        self.wake(deadline);
        None
    }

    fn by_index(&self) -> Option<End> {
        if !is_indexed(self.spec) {
            return None;
        }
        let completed = self.completed();
        if self.spec.backoff_limit_per_index.is_some() {
            let text = self.status.failed_indexes.as_deref().unwrap_or_default();
            let failed = indexes::parse(text, self.spec.completions.unwrap_or(0)).len();
            if self.spec.max_failed_indexes.is_some_and(|most| count(failed) > most) {
                let text = "Job has exceeded the specified maximal number of failed indexes";
                return Some(End::failed("MaxFailedIndexesExceeded", text));
            }
            let all = self.spec.completions.unwrap_or(0);
            if failed > 0 && count(failed + completed.len()) >= all {
                return Some(End::failed("FailedIndexes", "Job has failed indexes"));
            }
        }
        end::is_enough(self.spec, &completed)
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Ends the pods that still run; gives how many. Of a Job that failed they have failed too.
    fn stop(&mut self, end: &End) -> i32 {
        let open = |m: &&mut Member<'_>| matches!(m.fate, Fate::Active | Fate::Leaving);
        let mut stopped = 0;
        let mut failed = 0;
        let indexed = is_indexed(self.spec);
        for member in self.members.iter_mut().filter(open) {
            failed += usize::from(member.tracked && (!indexed || member.index.is_some()));
            if member.fate == Fate::Active {
                let object = member.object;
                if std::mem::take(&mut member.tracked) {
                    self.batch.update(object, &untracked(&member.pod));
                }
                delete(&mut self.batch, self.object, object);
                stopped += 1;
            }
        }
        if !end.succeeded {
            add(&mut self.status.failed, failed);
        }
        stopped
    }

    /// Brings the number of pods to what it should be; gives how many are active and on their way
    /// out then. Pods are deleted or made, not both in one step.
    fn manage(&mut self, active: i32, leaving: i32) -> (i32, i32) {
        let wanted = if self.is_suspended() { 0 } else { self.wanted(active) };
        let surplus = self.surplus(active - wanted);
        if !surplus.is_empty() {
            let number = count(surplus.len());
            surplus.into_iter().for_each(|at| self.dismiss(at));
            return (active - number, leaving + number);
        }
        let replaced = if waits_for_the_end(self.spec) { leaving } else { 0 };
        let missing = usize::try_from(wanted - active - replaced).unwrap_or(0);
        let made = if missing > 0 { self.create(missing) } else { Made::default() };
        self.note_refusal(&made);
        (active + count(made.count), leaving)
    }

    fn wanted(&self, active: i32) -> i32 {
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let succeeded = self.status.succeeded.unwrap_or(0);
        match self.spec.completions {
            // A work queue: whoever succeeds first says that there is no more to do.
            None if succeeded > 0 => active,
            None => parallelism,
            Some(completions) => (completions - succeeded).clamp(0, parallelism.max(0)),
        }
    }

    /// The pods that are too many, by their place: those without an index of their own, and as many
    /// as `number` of those that are missed least.
    fn surplus(&self, number: i32) -> Vec<usize> {
        let number = usize::try_from(number).unwrap_or(0);
        let nowhere = BTreeMap::new();
        let mut active: Vec<(usize, &Member<'_>)> =
            self.members.iter().enumerate().filter(|(_, m)| m.fate == Fate::Active).collect();
        active.sort_by_cached_key(|(_, m)| rank(m.object, &m.pod, &nowhere, self.now));
        let mut surplus = Vec::new();
        if is_indexed(self.spec) {
            // Of two pods of one index the better one stays.
            let mut seen = BTreeSet::new();
            let twice = |m: &Member<'_>| !m.index.is_some_and(|index| seen.insert(index));
            let mut twice = twice;
            surplus.extend(active.iter().rev().filter(|(_, m)| twice(m)).map(|(at, _)| *at));
            active.retain(|(at, _)| !surplus.contains(at));
            active.sort_by_key(|(_, m)| std::cmp::Reverse(m.index));
        }
        let more = number.saturating_sub(surplus.len());
        surplus.extend(active.into_iter().take(more).map(|(at, _)| at));
        surplus
    }

    /// Deletes a pod that is not needed: its end is no failure.
    fn dismiss(&mut self, at: usize) {
        let Some(member) = self.members.get_mut(at) else { return };
        member.fate = Fate::Leaving;
        if std::mem::take(&mut member.tracked) {
            self.batch.update(member.object, &untracked(&member.pod));
        }
        delete(&mut self.batch, self.object, member.object);
    }

    /// Makes pods, as far as the back-off of those that failed is over.
    fn create(&mut self, missing: usize) -> Made {
        let per_index = self.spec.backoff_limit_per_index.is_some();
        if !per_index && let Some(at) = self.next_try(|_| true) {
            self.wake(at);
            return Made::default();
        }
        let orders = match is_indexed(self.spec) {
            true => self.pending(missing, per_index),
            false => vec![Order { index: None, failures: None }; missing],
        };
        make::create(self.view, self.object, self.spec, &orders, &mut self.batch)
    }

    /// When the next pod may be made; `None` when at once.
    fn next_try(&self, of: impl Fn(&Member<'_>) -> bool) -> Option<Timestamp> {
        let at = |m: &Member<'_>| end::ended_at(m.object, &m.pod);
        let own = || self.members.iter().filter(|m| of(m));
        let failed: Vec<Timestamp> = own().filter(|m| m.has_failed()).map(at).collect();
        let succeeded = own().filter(|m| m.fate == Fate::Succeeded).map(at).max();
        end::next_try(&failed, succeeded).filter(|at| *at > self.now)
    }

    /// The first indexes that nobody works on and that may be tried now.
    fn pending(&mut self, missing: usize, per_index: bool) -> Vec<Order> {
        let all = self.spec.completions.unwrap_or(0);
        let mut taken = self.completed();
        let failed = self.status.failed_indexes.as_deref().unwrap_or_default();
        taken.extend(indexes::parse(failed, all));
        let waits = waits_for_the_end(self.spec);
        let busy = |m: &&Member<'_>| m.fate == Fate::Active || waits && m.fate == Fate::Leaving;
        taken.extend(self.members.iter().filter(busy).filter_map(|m| m.index));
        let mut orders = Vec::new();
        for index in (0..all).filter(|index| !taken.contains(index)) {
            if orders.len() == missing {
                break;
            }
            let of = |m: &Member<'_>| m.index == Some(index);
            match self.next_try(of).filter(|_| per_index) {
                Some(at) => self.wake(at),
                None => {
                    let failed = self.members.iter().filter(|m| of(m) && m.has_failed());
                    let failures = failed.map(|m| self.failures(m)).max().unwrap_or(0);
                    let failures = per_index.then_some(failures);
                    orders.push(Order { index: Some(index), failures });
                }
            }
        }
        orders
    }

    fn is_complete(&self, active: i32) -> bool {
        let succeeded = self.status.succeeded.unwrap_or(0);
        let enough = match self.spec.completions {
            None => succeeded > 0,
            Some(completions) => succeeded >= completions,
        };
        enough && active == 0
    }

    fn note_suspension(&mut self) {
        let (is, was) = (self.is_suspended(), condition(&self.status, "Suspended").cloned());
        let says = |status: &str| was.as_ref().is_some_and(|c| c.status == status);
        match is {
            true if !says("True") => {
                self.say("Suspended", "True", "JobSuspended", "Job suspended");
                self.batch.event(self.object, NAME, "Suspended", "Job suspended".to_owned());
            }
            false if says("True") => {
                self.say("Suspended", "False", "JobResumed", "Job resumed");
                self.batch.event(self.object, NAME, "Resumed", "Job resumed".to_owned());
            }
            _ => {}
        }
    }

    /// Says why pods are refused, or that they are not any more.
    fn note_refusal(&mut self, made: &Made) {
        let Some(refused) = &made.refused else { return self.unsay(REFUSED) };
        self.wake(self.now.plus_seconds(REFUSED_SECONDS));
        let told = condition(&self.status, REFUSED).and_then(|c| c.message.as_deref());
        // The words name a pod that will never be, so they count from the rule on.
        if !told.is_some_and(|told| told.ends_with(&refused.why)) {
            let message = refused.to_string();
            self.unsay(REFUSED);
            self.say(REFUSED, "True", "FailedCreate", &message);
            let text = format!("Error creating: {message}");
            self.batch.warning(self.object, NAME, "FailedCreate", text);
        }
    }

    /// Says that the Job waits for its turn, or that it does not any more.
    fn note_wait(&mut self, held: Option<String>) {
        let before = condition(&self.status, WAITING).and_then(|c| c.message.clone());
        if before == held {
            return;
        }
        self.unsay(WAITING);
        if let Some(why) = held {
            self.say(WAITING, "True", "Ordered", &why);
            self.batch.event(self.object, NAME, WAITING, why);
        }
    }

    /// Lets go of the pods that were counted, all of them of a Job that is over; takes hold of
    /// those that it adopted.
    fn release(&mut self, over: bool) {
        let terminating = self.object.is_terminating();
        for member in &self.members {
            let ended = matches!(member.fate, Fate::Succeeded | Fate::Failed);
            if member.tracked && (ended || over || terminating) {
                self.batch.update(member.object, &untracked(&member.pod));
            } else if member.fate == Fate::Active
                && !is_tracked(member.object)
                && !over
                && !terminating
            {
                let mut pod = member.pod.clone();
                pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
                self.batch.update(member.object, &pod);
            }
        }
    }

    /// The status, and the end once the last pod is gone.
    fn finish(mut self, over: Option<End>, active: i32, leaving: i32) -> Plan {
        if let Some(end) = over {
            let (target, last) = match end.succeeded {
                true => ("SuccessCriteriaMet", "Complete"),
                false => ("FailureTarget", "Failed"),
            };
            if condition(&self.status, target).is_none() {
                self.say(target, "True", &end.reason, &end.message);
            }
            if leaving == 0 {
                self.say(last, "True", &end.reason, &end.message);
                self.tell_end(&end);
            }
        }
        let ready = |m: &&Member<'_>| m.fate == Fate::Active && pods::is_ready(&m.pod);
        let ready = count(self.members.iter().filter(ready).count()).min(active);
        self.status.active = present(active);
        self.status.ready = Some(ready);
        self.status.terminating = Some(leaving);
        self.status.uncounted_terminated_pods = Some(UncountedTerminatedPods::default());
        if self.job.status.as_ref() != Some(&self.status) {
            self.batch.status(self.object, &Job { status: Some(self.status), ..self.job.clone() });
        }
        self.batch.into_plan(self.wake_at)
    }

    fn tell_end(&mut self, end: &End) {
        if end.succeeded {
            self.status.completion_time = Some(self.now.to_time());
            self.batch.event(self.object, NAME, "Completed", "Job completed".to_owned());
        } else {
            self.batch.warning(self.object, NAME, &end.reason, end.message.clone());
        }
    }

    fn unsay(&mut self, kind: &str) {
        if let Some(conditions) = &mut self.status.conditions {
            conditions.retain(|c| c.type_ != kind);
        }
        self.status.conditions = self.status.conditions.take().filter(|list| !list.is_empty());
    }

    fn say(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        self.unsay(kind);
        self.status.conditions.get_or_insert_default().push(JobCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(self.now.to_time()),
            last_transition_time: Some(self.now.to_time()),
        });
    }
}

fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

fn delete(batch: &mut Batch, owner: &Object, pod: &Object) {
    batch.delete(pod);
    batch.event(owner, NAME, "SuccessfulDelete", format!("Deleted pod: {}", pod.key().name));
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn present(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

fn add(to: &mut Option<i32>, more: usize) {
    *to = present(to.unwrap_or(0).saturating_add(count(more)));
}
