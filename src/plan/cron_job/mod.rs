//! CronJobs: a Job whenever their schedule is due.
//!
//! In: a CronJob, its Jobs and the time. Out: the Job that is due, those that are deleted because
//! another takes their place or because enough are kept, what the status says, and when to look
//! again: at the next start. [`due`] has the arithmetic of starts, missed ones too.
//!
//! A Job is named after its start, so none is made twice. It is made and its start noted in one
//! entry of the log; the step after that finds it and calls it active. What is said once stays
//! said: a warning that nothing in the status remembers is looked for among the events. Never here:
//! a timer, or what becomes of a Job's pods.
//!
//! Source: kubernetes.io/docs/concepts/workloads/controllers/cron-jobs.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use self::due::{Due, Starts};
use super::{
    Controller, Inputs, Plan,
    batch::{Batch, controlled_by},
    offspring, owners,
    replica_set::REFUSED_SECONDS,
};
use crate::{
    kinds::{Schedule, Zone},
    model::{GroupKind, Key, Object, Timestamp},
    policy::Ledger,
    state::{Change, Ending, NewEvent, View},
};

mod due;

const NAME: &str = "cronjob-controller";
/// The annotation that says for which start a Job was made.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Starts the Jobs of every CronJob.
pub(super) const CONTROLLER: Controller = Controller { name: NAME, affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<CronJob>(), None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<CronJob>() {
        return super::still(&change.key, view);
    }
    if !change.key.is::<Job>() {
        return BTreeSet::new();
    }
    let versions = [&change.old, &change.new].into_iter().flatten();
    versions.filter_map(owner_of).filter(|key| view.object(key).is_some()).collect()
}

/// The CronJob that controls a Job.
fn owner_of(job: &Object) -> Option<Key> {
    let owner = job.controller().filter(|owner| owner.kind == GroupKind::of::<CronJob>())?;
    Some(Key::of::<CronJob>(&job.key().namespace, &owner.name))
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key) else { return Plan::default() };
    let Some(cron) = object.view::<CronJob>() else { return Plan::default() };
    let jobs = view.owned_by(object.uid()).filter_map(|o| Some((o, o.view::<Job>()?)));
    let (jobs, status) = (jobs.collect(), cron.status.clone().unwrap_or_default());
    let (now, batch) = (inputs.now, Batch::default());
    let mut sync = Sync { view, object, cron, now, jobs, status, batch };
    sync.look();
    let going = object.is_terminating() || owners::is_closing(view, &key.namespace);
    let wake_at = if going { None } else { sync.start() };
    sync.forget();
    sync.finish(wake_at)
}

/// One step of one CronJob.
struct Sync<'a> {
    view: &'a View,
    object: &'a Object,
    cron: &'a CronJob,
    now: Timestamp,
    /// Every Job that it controls, whoever made it.
    jobs: Vec<(&'a Object, &'a Job)>,
    status: CronJobStatus,
    batch: Batch,
}

impl Sync<'_> {
    /// Notes which Jobs run, which have ended and which are gone.
    fn look(&mut self) {
        for (object, job) in self.jobs.clone() {
            match (self.is_active(object.uid()), Ending::of(object)) {
                (true, Some(how)) => {
                    self.let_go(object.uid());
                    let (name, how) = (&object.key().name, condition(how));
                    let text = format!("Saw completed job: {name}, condition: {how}");
                    self.batch.event(self.object, NAME, "SawCompletedJob", text);
                }
                (false, None) if !object.is_terminating() => self.found(object),
                _ => {}
            }
            if Ending::of(object) == Some(Ending::Succeeded) {
                let at = job.status.as_ref().and_then(|s| s.completion_time.clone());
                self.status.last_successful_time = self.status.last_successful_time.take().max(at);
            }
        }
        let known: BTreeSet<&str> = self.jobs.iter().map(|(o, _)| o.uid()).collect();
        let is_there = |job: &ObjectReference| known.contains(job.uid.as_deref().unwrap_or(""));
        let active = self.status.active.take().unwrap_or_default();
        let (kept, gone): (Vec<_>, Vec<_>) = active.into_iter().partition(is_there);
        self.status.active = Some(kept).filter(|kept| !kept.is_empty());
        for job in gone {
            let text = format!("Active job went missing: {}", job.name.unwrap_or_default());
            self.batch.event(self.object, NAME, "MissingJob", text);
        }
    }

    /// A Job that runs and is not among the active ones: the one that was made a step ago, or one
    /// that somebody else made.
    fn found(&mut self, job: &Object) {
        if job.annotation(SCHEDULED).is_some() {
            return self.status.active.get_or_insert_default().push(reference(job));
        }
        let name = &job.key().name;
        let text = format!("Saw a job that the controller did not create or forgot: {name}");
        self.once(true, "UnexpectedJob", text, None);
    }

    /// Starts what is due; gives when to look again.
    fn start(&mut self) -> Option<Timestamp> {
        let spec = &self.cron.spec;
        let zone = Zone::named(spec.time_zone.as_deref());
        let Some(zone) = zone else {
            let name = spec.time_zone.as_deref().unwrap_or_default();
            let text = format!("invalid timeZone: {name:?}: unknown time zone {name}");
            self.once(true, "UnknownTimeZone", text, None);
            return None;
        };
        if spec.suspend == Some(true) {
            return None;
        }
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(schedule) => schedule,
            Err(why) => {
                let text = format!("unparseable schedule: {:?} : {why}", spec.schedule);
                self.once(true, "UnparseableSchedule", text, None);
                return None;
            }
        };
        let starts = Starts {
            schedule: &schedule,
            zone: &zone,
            since: self.since(),
            deadline_seconds: spec.starting_deadline_seconds,
        };
        let again = match starts.due(self.now) {
            Ok(Some(due)) => self.start_due(due, &zone),
            Ok(None) => {
                self.tell_missed(&starts);
                None
            }
            Err(why) => {
                let text = format!("invalid schedule: {} : {why}", spec.schedule);
                self.once(true, "InvalidSchedule", text, None);
                return None;
            }
        };
        let next = Starts { since: self.since(), ..starts }.next(self.now);
        again.into_iter().chain(next).min()
    }

    /// From when starts count: the last one, or when the CronJob was made.
    fn since(&self) -> Timestamp {
        let last = self.status.last_schedule_time.as_ref();
        let made = self.object.meta().creation_timestamp.as_ref();
        last.or(made).map(Timestamp::from).unwrap_or_default()
    }

    /// Says that a start was left out because its time is over.
    fn tell_missed(&mut self, starts: &Starts<'_>) {
        let Some(at) = starts.missed(self.now) else { return };
        let time = Zone::default().rfc1123(at);
        let text = format!("Missed scheduled time to start a job: {time}");
        self.once(true, "MissSchedule", text, Some(at));
    }

    /// Starts a Job unless it was started already, or another one is in its way; gives when to try
    /// again when it was refused.
    fn start_due(&mut self, due: Due, zone: &Zone) -> Option<Timestamp> {
        let at = due.at;
        if due.many {
            let text = "too many missed start times. Set or decrease \
                        .spec.startingDeadlineSeconds or check clock skew";
            self.once(true, "TooManyMissedTimes", text.to_owned(), Some(at));
        }
        let name = format!("{}-{}", self.object.key().name, at.0.div_euclid(60_000));
        let is_known = self.active().iter().any(|job| job.name.as_deref() == Some(&name));
        let last = self.status.last_schedule_time.as_ref().map(Timestamp::from);
        if is_known || last == Some(at) {
            return None;
        }
        match self.cron.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !self.active().is_empty() => {
                let text = "Not starting job because prior execution is running and concurrency \
                            policy is Forbid";
                self.once(false, "JobAlreadyActive", text.to_owned(), Some(at));
                return None;
            }
            Some("Replace") => self.replace(),
            _ => {}
        }
        let key = Key::of::<Job>(&self.object.key().namespace, &name);
        let made = match self.view.object(&key) {
            // Made before, and this step only notes it.
            Some(job) if job.controller_uid() == Some(self.object.uid()) => Ok(()),
            // Somebody else has its name.
            Some(_) => return None,
            None => self.make(&name, at, zone),
        };
        match made {
            Ok(()) => {
                self.status.last_schedule_time = Some(at.to_time());
                None
            }
            Err(()) => Some(self.now.plus_seconds(REFUSED_SECONDS)),
        }
    }

    /// Makes the Job of one start; an error when it is refused, which is told.
    fn make(&mut self, name: &str, at: Timestamp, zone: &Zone) -> Result<(), ()> {
        let mut ledger = Ledger::new(self.view);
        match offspring::admitted(self.view, &self.job(name, at, zone), &mut ledger) {
            Ok(job) => {
                self.batch.first(ledger.charges());
                self.batch.put_new(job);
                let text = format!("Created job {name}");
                self.batch.event(self.object, NAME, "SuccessfulCreate", text);
                Ok(())
            }
            Err(refused) => {
                let since = self.now.plus_seconds(-REFUSED_SECONDS);
                let text = format!("Error creating job: {refused}");
                self.once(true, "FailedCreate", text, Some(since));
                Err(())
            }
        }
    }

    fn job(&self, name: &str, at: Timestamp, zone: &Zone) -> Job {
        let template = &self.cron.spec.job_template;
        let meta = template.metadata.clone().unwrap_or_default();
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.insert(SCHEDULED.to_owned(), zone.text(at));
        Job {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.object.key().namespace.to_string()),
                labels: meta.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![controlled_by(self.object)]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    }

    /// Deletes what runs, because the next one takes its place.
    fn replace(&mut self) {
        let active: Vec<&Object> =
            self.jobs.iter().map(|(o, _)| *o).filter(|o| self.is_active(o.uid())).collect();
        active.into_iter().for_each(|job| self.delete(job));
    }

    /// Deletes the oldest Jobs that ended, as far as more are there than are kept.
    fn forget(&mut self) {
        let spec = &self.cron.spec;
        let kept = [
            (Ending::Succeeded, spec.successful_jobs_history_limit),
            (Ending::Failed, spec.failed_jobs_history_limit),
        ];
        for (how, limit) in kept {
            let Some(limit) = limit.and_then(|n| usize::try_from(n).ok()) else { continue };
            let ended = |o: &Object| !o.is_terminating() && Ending::of(o) == Some(how);
            let mut ended: Vec<_> = self.jobs.iter().filter(|(o, _)| ended(o)).copied().collect();
            ended.sort_by_key(|(object, job)| {
                let start = job.status.as_ref().and_then(|s| s.start_time.clone());
                (start.is_none(), start, object.key().name.clone())
            });
            let surplus = ended.len().saturating_sub(limit);
            ended.into_iter().take(surplus).for_each(|(object, _)| self.delete(object));
        }
    }

    fn delete(&mut self, job: &Object) {
        self.let_go(job.uid());
        self.batch.delete(job);
        let text = format!("Deleted job {}", job.key().name);
        self.batch.event(self.object, NAME, "SuccessfulDelete", text);
    }

    fn active(&self) -> &[ObjectReference] {
        self.status.active.as_deref().unwrap_or_default()
    }

    fn is_active(&self, uid: &str) -> bool {
        self.active().iter().any(|job| job.uid.as_deref() == Some(uid))
    }

    fn let_go(&mut self, uid: &str) {
        let mut active = self.status.active.take().unwrap_or_default();
        active.retain(|job| job.uid.as_deref() != Some(uid));
        self.status.active = Some(active).filter(|active| !active.is_empty());
    }

    /// Says something that nothing in the status remembers: once, or where it is about a moment,
    /// once since then.
    fn once(&mut self, warning: bool, reason: &str, message: String, since: Option<Timestamp>) {
        let event = NewEvent {
            regarding: self.object.key().clone(),
            uid: self.object.uid().to_owned(),
            warning,
            reason: reason.to_owned(),
            message,
            source: NAME.to_owned(),
        };
        let said = self.view.last_said(&event);
        if said.is_none_or(|at| since.is_some_and(|since| at < since)) {
            self.batch.tell(event);
        }
    }

    fn finish(mut self, wake_at: Option<Timestamp>) -> Plan {
        if self.cron.status.as_ref().is_none_or(|before| *before != self.status) {
            let status = Some(self.status);
            self.batch.status(self.object, &CronJob { status, ..self.cron.clone() });
        }
        self.batch.into_plan(wake_at)
    }
}

fn condition(how: Ending) -> &'static str {
    match how {
        Ending::Succeeded => "Complete",
        Ending::Failed => "Failed",
    }
}

/// What the status says of a Job that runs.
fn reference(job: &Object) -> ObjectReference {
    ObjectReference {
        api_version: Some(job.api_version().to_owned()),
        kind: Some(job.key().kind.kind.to_string()),
        namespace: Some(job.key().namespace.to_string()),
        name: Some(job.key().name.to_string()),
        uid: Some(job.uid().to_owned()),
        resource_version: Some(job.revision().0.to_string()),
        ..ObjectReference::default()
    }
}
