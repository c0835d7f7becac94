//! The order in which a commit is worked off.
//!
//! All objects of a commit are stored at once; what is ordered is acting on them. A workload that
//! waits starts no pod and no rollout until what it waits for is at its desired state. It waits for
//! what it names (`depends-on`), and for every workload of a lower wave in its chain: a
//! kustomization, or the folder at the top with its plain files. What its pods use (a namespace, an
//! account, a ConfigMap, a volume) is stored with them and is there.
//!
//! Order is for a commit's way to health. Once a commit was healthy nothing of it waits any more,
//! so going back to it is never held up, and neither is a pod that is replaced.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    Resource,
    api::{
        apps::v1::{Deployment, ReplicaSet},
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::{Event, Node, Pod},
    },
};

use super::commit::is_current;
use crate::{
    kinds::{Commit, CommitStatus, HookPhase, Order, order},
    model::{CommitId, GroupKind, Key, Object, Problem},
    render::Picture,
    state::{Change, Desired, Origin, View},
};

/// The reason of what waits for its turn.
pub(super) const WAITING: &str = "Waiting";

/// Why a workload that has not started yet may not start; `None` when it may.
///
/// Costs what is ordered; of a workload of a wave above 0 the workloads of its source.
pub(super) fn hold(view: &View, object: &Object) -> Option<String> {
    if view.ordered().next().is_none() && view.hooks().next().is_none() {
        return None;
    }
    let key = object.key();
    let origin = view.origin(key)?;
    let own = order(object);
    if own.hook.is_some_and(|hook| hook.phase == HookPhase::SyncFail) {
        let failed = made_by(view, object).is_some_and(|commit| has_failed(&commit.status));
        return (!failed).then(|| "waits for the commit to fail".to_owned());
    }
    if own.hook.is_some() && origin.ended.is_some() {
        return Some("has run with this commit before".to_owned());
    }
    if has_run(view, &origin.source) {
        return None;
    }
    if let Some(why) = hold_in_phase(view, key, &own) {
        return Some(why);
    }
    if let Some(dependency) = own.after.iter().find(|other| !is_current(view, other)) {
        return Some(format!("waits for {dependency}"));
    }
    if phase(&own) != HookPhase::Sync {
        return None;
    }
    let earlier = chain(view, origin, own.wave > 0).filter(|(_, wave)| *wave < own.wave);
    let missing = earlier.filter(|(other, _)| !is_current(view, other));
    let (other, wave) = missing.min_by_key(|(other, wave)| (*wave, *other))?;
    Some(format!("waits for {other} of wave {wave}"))
}

/// Why an object that its commit changed may not be touched though it has started: the hooks that
/// come first are not done.
pub(super) fn hold_back(view: &View, object: &Object) -> Option<String> {
    view.hooks().next()?;
    let origin = view.origin(object.key())?;
    let head = view.head_of(&origin.source)?;
    if head.commit != origin.commit || has_run(view, &origin.source) {
        return None;
    }
    hold_in_phase(view, object.key(), &order(object))
}

/// The commit that made a hook.
pub(super) fn made_by<'a>(view: &'a View, hook: &Object) -> Option<&'a Commit> {
    let source = &view.origin(hook.key())?.source;
    view.commit_of(source, &CommitId::parse(hook.annotation("mainstay.io/commit")?)?)
}

/// Whether a commit failed before it was ever healthy.
pub(super) fn has_failed(status: &CommitStatus) -> bool {
    status.timings.failed_at.is_some() && status.timings.healthy_at.is_none()
}

/// The phase of an object: before, with and after the workloads.
fn phase(order: &Order) -> HookPhase {
    order.hook.map_or(HookPhase::Sync, |hook| hook.phase)
}

/// What an object of a later phase waits for, and a hook for those of a lower wave.
fn hold_in_phase(view: &View, key: &Key, own: &Order) -> Option<String> {
    let source = &view.origin(key)?.source;
    let of_source = |key: &Key| view.origin_in(source, key).is_some();
    let mut before: Vec<(HookPhase, i32, &Key)> = Vec::new();
    for other in view.hooks().filter(|other| *other != key && of_source(other)) {
        let Some(object) = view.object(other) else { continue };
        let of = order(object);
        let Some(hook) = of.hook else { continue };
        let earlier = hook.phase < phase(own);
        let lower = hook.phase == phase(own) && own.hook.is_some() && of.wave < own.wave;
        if (earlier || lower && hook.phase != HookPhase::Sync) && !is_current(view, other) {
            before.push((hook.phase, of.wave, other));
        }
    }
    if let Some((phase, _, other)) = before.into_iter().min() {
        return Some(format!("waits for the {} hook {other}", phase.as_str()));
    }
    if phase(own) != HookPhase::PostSync {
        return None;
    }
    let mut missing = workloads(view).filter(|other| !view.is_hook(other) && of_source(other));
    missing.find(|other| !is_current(view, other)).map(|other| format!("waits for {other}"))
}

/// Whether what runs of a source was healthy before.
fn has_run(view: &View, source: &str) -> bool {
    let commit = view.head_of(source).and_then(|head| view.commit_of(source, &head.commit));
    commit.is_some_and(|commit| commit.status.timings.healthy_at.is_some())
}

/// The workloads of an object's chain with their waves; those that name none only on demand.
fn chain<'a>(
    view: &'a View,
    origin: &'a Origin,
    with_plain: bool,
) -> impl Iterator<Item = (&'a Key, i32)> {
    let ordered = view.ordered().filter(|key| is_workload(key)).filter_map(move |key| {
        let order = view.object(key).map(order).unwrap_or_default();
        (phase(&order) == HookPhase::Sync).then_some((key, order.wave))
    });
    let plain = with_plain.then(|| workloads(view)).into_iter().flatten();
    let plain = plain.filter(|key| !view.is_ordered(key));
    let with_workloads = |key: &&Key| {
        !view.is_hook(key) || view.object(key).is_none_or(|o| phase(&order(o)) == HookPhase::Sync)
    };
    let plain = plain.filter(with_workloads).map(|key| (key, 0));
    let same = |key: &Key| view.origin(key).is_some_and(|other| is_one_chain(origin, other));
    ordered.chain(plain).filter(move |(key, _)| same(key))
}

/// The workloads that Git owns.
fn workloads(view: &View) -> impl Iterator<Item = &Key> {
    kinds().into_iter().flat_map(|kind| view.origins_of(&kind)).map(|(key, _)| key)
}

fn kinds() -> [GroupKind; 4] {
    [
        GroupKind::of::<Deployment>(),
        GroupKind::of::<ReplicaSet>(),
        GroupKind::of::<Job>(),
        GroupKind::new(Pod::GROUP, Pod::KIND),
    ]
}

fn is_workload(key: &Key) -> bool {
    key.is::<Deployment>() || key.is::<ReplicaSet>() || key.is::<Job>() || key.is::<Pod>()
}

fn is_one_chain(a: &Origin, b: &Origin) -> bool {
    a.source == b.source && unit(a) == unit(b)
}

/// What makes a chain inside its source.
fn unit(origin: &Origin) -> (bool, &str) {
    match &origin.made_by {
        Some(kustomization) => (true, kustomization),
        None => (false, origin.file.split_once('/').map_or("", |(top, _)| top)),
    }
}

/// The workloads that a change may let start.
pub(super) fn waiters(change: &Change, view: &View) -> BTreeSet<Key> {
    let key = &change.key;
    let silent = key.is::<Event>() || key.is::<Lease>() || key.is::<Node>();
    if silent {
        return BTreeSet::new();
    }
    let mut found = hook_waiters(change, view);
    if view.ordered().next().is_none() {
        return found;
    }
    let by_name = view
        .ordered()
        .filter(|other| view.object(other).is_some_and(|object| order(object).after.contains(key)));
    found.extend(by_name.cloned());
    let waves = [&change.old, &change.new].into_iter().flatten().map(|o| order(o).wave);
    let wave = waves.min().unwrap_or(0);
    match view.origin(key).filter(|_| is_workload(key)) {
        Some(origin) => {
            let later = chain(view, origin, wave < 0).filter(|(_, other)| *other > wave);
            found.extend(later.map(|(other, _)| other.clone()));
        }
        // Git has let go of it: whoever waited for it does not any more.
        None if is_workload(key) && is_nobodys(change) => {
            found.extend(workloads(view).cloned());
        }
        None => {}
    }
    found
}

/// What waits for a hook, and the hooks that wait for something else.
fn hook_waiters(change: &Change, view: &View) -> BTreeSet<Key> {
    let key = &change.key;
    let mut found = BTreeSet::new();
    if is_workload(key) || key.is::<Commit>() {
        found.extend(view.hooks().cloned());
    }
    let was = [&change.old, &change.new];
    let may_be = key.is::<Job>() || key.is::<Pod>() && view.origin(key).is_some();
    if may_be && was.into_iter().flatten().any(|object| order(object).hook.is_some()) {
        found.extend(workloads(view).cloned());
    }
    found
}

/// Whether no controller made the object.
fn is_nobodys(change: &Change) -> bool {
    let object = change.new.as_ref().or(change.old.as_ref());
    object.is_some_and(|object| object.controller_uid().is_none())
}

/// One object of a commit that is ordered, or that others wait for.
struct Step {
    order: Order,
    origin: Origin,
}

impl Step {
    fn place(&self) -> String {
        self.origin.place()
    }
}

/// What is wrong with the order of a commit: objects that are nowhere, and circles.
///
/// Costs what is ordered and what changes.
pub(super) fn problems(
    view: &View,
    source: &str,
    picture: &Picture,
    wanted: &[Desired],
) -> Vec<Problem> {
    let steps = steps(view, source, picture, wanted);
    let mut problems = Vec::new();
    for (key, step) in &steps {
        let nowhere = |other: &&Key| {
            let gone = view.origin_in(source, other).is_some();
            !picture.contains(other) && (gone || view.object(other).is_none())
        };
        problems.extend(step.order.after.iter().filter(nowhere).map(|other| {
            problem(step, format!("{key} waits for {other}, which is nowhere: add it"))
        }));
    }
    problems.extend(circle(&steps));
    problems
}

fn problem(step: &Step, message: String) -> Problem {
    let (file, line) = (step.origin.file.clone(), step.origin.line);
    Problem { file, line, field: "metadata.annotations".to_owned(), message }
}

fn steps(view: &View, source: &str, picture: &Picture, wanted: &[Desired]) -> BTreeMap<Key, Step> {
    let new: BTreeMap<&Key, &Desired> = wanted.iter().map(|d| (d.object.key(), d)).collect();
    let step = |key: &Key| match new.get(key) {
        Some(desired) => {
            Some(Step { order: order(&desired.object), origin: desired.origin.clone() })
        }
        None if picture.contains(key) => {
            let origin = view.origin_in(source, key)?.clone();
            Some(Step { order: order(view.object(key)?), origin })
        }
        None => None,
    };
    let known = view.ordered().filter(|key| view.origin_in(source, key).is_some());
    let mut steps: BTreeMap<Key, Step> = BTreeMap::new();
    let all = known.chain(new.keys().copied());
    for (key, found) in all.filter_map(|key| Some((key, step(key)?))) {
        if found.order.is_ordered() {
            steps.insert(key.clone(), found);
        }
    }
    let named: BTreeSet<Key> = steps.values().flat_map(|s| s.order.after.clone()).collect();
    for key in named {
        if let Some(found) = step(&key) {
            steps.entry(key).or_insert(found);
        }
    }
    steps
}

/// A circle, told at its first object; one is enough to refuse the commit.
fn circle(steps: &BTreeMap<Key, Step>) -> Option<Problem> {
    let mut done: BTreeSet<&Key> = BTreeSet::new();
    for start in steps.keys() {
        let mut path: Vec<(&Key, Vec<&Key>)> = vec![(start, before(steps, start))];
        while let Some((key, open)) = path.last_mut() {
            let Some(next) = open.pop() else {
                done.insert(*key);
                path.pop();
                continue;
            };
            if let Some(at) = path.iter().position(|(on, _)| *on == next) {
                let round: Vec<&Key> = path[at..].iter().map(|(key, _)| *key).collect();
                return Some(told(steps, &round));
            }
            if !done.contains(next) {
                path.push((next, before(steps, next)));
            }
        }
    }
    None
}

/// What an object waits for among the steps: what it names, and the wave below its own.
fn before<'a>(steps: &'a BTreeMap<Key, Step>, key: &Key) -> Vec<&'a Key> {
    let Some(step) = steps.get(key) else { return Vec::new() };
    let named = step.order.after.iter().filter_map(|other| Some(steps.get_key_value(other)?.0));
    let lower = |(_, other): &(&Key, &Step)| {
        other.order.wave < step.order.wave && is_one_chain(&step.origin, &other.origin)
    };
    let waves = || steps.iter().filter(|(key, _)| is_workload(key)).filter(lower);
    let below = waves().map(|(_, other)| other.order.wave).max();
    let wave = waves().filter(|(_, other)| Some(other.order.wave) == below).map(|(key, _)| key);
    named.chain(wave).collect()
}

fn told(steps: &BTreeMap<Key, Step>, round: &[&Key]) -> Problem {
    let name = |key: &Key| match steps.get(key) {
        Some(step) if step.order.wave != 0 => {
            format!("{key} ({}, wave {})", step.place(), step.order.wave)
        }
        Some(step) => format!("{key} ({})", step.place()),
        None => key.to_string(),
    };
    let mut all: Vec<String> = round.iter().map(|key| name(key)).collect();
    all.extend(round.first().map(|first| first.to_string()));
    let message = format!(
        "{}: nothing of this can start: take one of these waits away",
        all.join(" waits for ")
    );
    match round.first().and_then(|first| steps.get(*first)) {
        Some(step) => problem(step, message),
        None => Problem { message, ..Problem::default() },
    }
}
