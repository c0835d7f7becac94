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
    kinds::{Commit, Order, order},
    model::{GroupKind, Key, Object, Problem},
    render::Picture,
    state::{Change, Desired, MAIN_SOURCE, Origin, View},
};

/// The reason of what waits for its turn.
pub(super) const WAITING: &str = "Waiting";

/// Why a workload that has not started yet may not start; `None` when it may.
///
/// Costs what is ordered; of a workload of a wave above 0 the workloads of its source.
pub(super) fn hold(view: &View, object: &Object) -> Option<String> {
    view.ordered().next()?;
    let key = object.key();
    let origin = view.origin(key)?;
    if has_run(view, &origin.source) {
        return None;
    }
    let own = order(object);
    if let Some(dependency) = own.after.iter().find(|other| !is_current(view, other)) {
        return Some(format!("waits for {dependency}"));
    }
    let earlier = chain(view, origin, own.wave > 0).filter(|(_, wave)| *wave < own.wave);
    let missing = earlier.filter(|(other, _)| !is_current(view, other));
    let (other, wave) = missing.min_by_key(|(other, wave)| (*wave, *other))?;
    Some(format!("waits for {other} of wave {wave}"))
}

/// Whether what runs of a source was healthy before.
fn has_run(view: &View, source: &str) -> bool {
    let head = view.head_of(source).filter(|_| source == MAIN_SOURCE);
    let commit = head.and_then(|head| view.get::<Commit>("", head.commit.as_str()));
    commit.is_some_and(|commit| commit.status.timings.healthy_at.is_some())
}

/// The workloads of an object's chain with their waves; those that name none only on demand.
fn chain<'a>(
    view: &'a View,
    origin: &'a Origin,
    with_plain: bool,
) -> impl Iterator<Item = (&'a Key, i32)> {
    let ordered = view.ordered().filter(|key| is_workload(key)).map(move |key| {
        let wave = view.object(key).map_or(0, |object| order(object).wave);
        (key, wave)
    });
    let plain = with_plain.then(|| workloads(view)).into_iter().flatten();
    let plain = plain.filter(|key| !view.is_ordered(key)).map(|key| (key, 0));
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
    if silent || view.ordered().next().is_none() {
        return BTreeSet::new();
    }
    let by_name = view
        .ordered()
        .filter(|other| view.object(other).is_some_and(|object| order(object).after.contains(key)));
    let mut found: BTreeSet<Key> = by_name.cloned().collect();
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
