//! What a namespace says of the objects that a commit brings: the same rules that objects of the
//! API meet, judged against the cluster as the commit will leave it.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    core::v1::{LimitRange, Namespace, Pod, ResourceQuota, ServiceAccount},
    scheduling::v1::PriorityClass,
};
use serde_json::Value;

use crate::{
    kinds::{self, FieldError, Kinds},
    model::{Key, Object, Problem, RequestId, Timestamp},
    policy::{self, Attempt, Ledger, Refused},
    state::{Command, Desired, Entry, Expect, Op, Part, State, View},
};

/// Labels of a namespace that ask something of pods begin so.
const POD_SECURITY: &str = "pod-security.kubernetes.io/";

/// What was found, each with its place in the repository.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Judges what of a commit is new or changed; a new pod is filled in as one of the API is.
pub(super) fn judge(
    view: &View,
    wanted: &mut [Desired],
    deletes: &[Key],
    at: Timestamp,
    differs: impl Fn(&Desired) -> bool,
) -> Judged {
    let mut judged = Judged::default();
    let future = future(view, wanted, deletes, at);
    let strict = strict(&future);
    let mut ledger = Ledger::new(&future);
    for desired in wanted {
        let key = desired.object.key();
        let bound = key.is::<Pod>() || strict.contains(key.namespace.as_str());
        if !bound || !differs(desired) {
            continue;
        }
        match one(&future, view.object(key), desired, &mut ledger) {
            Ok(warnings) => judged.warnings.extend(warnings.iter().map(|w| problem(desired, w))),
            Err(refused) => judged.problems.push(problem(desired, &refused.to_string())),
        }
    }
    judged
}

/// What the rules of custom kinds say of what a commit changes, where they look at what is there
/// now; of an object alone they were asked when its file was read.
pub(super) fn broken_rules<'a>(
    view: &View,
    kinds: &Kinds,
    changed: impl Iterator<Item = &'a Desired>,
) -> Vec<Problem> {
    let judge = |desired: &Desired| {
        let live = view.object(desired.object.key());
        let next = match live {
            Some(live) => kinds.adopt(live, &desired.object)?,
            None => desired.object.clone(),
        };
        kinds.judge(live, &next)
    };
    let told = |desired: &Desired, error: FieldError| {
        let field = error.field;
        Problem { field, ..problem(desired, &error.detail) }
    };
    let custom = changed.filter(|desired| kinds::lookup(&desired.object.key().kind).is_none());
    let judged = custom.filter_map(|desired| Some((desired, judge(desired).err()?)));
    judged.flat_map(|(desired, errors)| errors.into_iter().map(move |e| told(desired, e))).collect()
}

fn problem(desired: &Desired, message: &str) -> Problem {
    let (file, line) = (desired.origin.file.clone(), desired.origin.line);
    Problem { file, line, message: message.to_owned(), ..Problem::default() }
}

fn one(
    future: &View,
    live: Option<&Object>,
    desired: &mut Desired,
    ledger: &mut Ledger<'_>,
) -> Result<Vec<String>, Refused> {
    let Some(info) = kinds::lookup(&desired.object.key().kind) else { return Ok(Vec::new()) };
    let live = live.filter(|live| !live.is_terminating());
    let attempt = Attempt { view: future, info, subresource: "", live };
    if desired.object.key().is::<Pod>() && live.is_none() {
        let mut value = desired.object.value();
        forget_defaults(&mut value);
        policy::complete(&attempt, &mut value)?;
        if let Ok(object) = Object::from_value(&value) {
            desired.object = object;
        }
    }
    policy::check(&attempt, &desired.object, ledger)
}

/// The door gives a pod the priority of one that names no class, before the classes are asked.
fn forget_defaults(pod: &mut Value) {
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.retain(|field, value| !(field == "priority" && *value == 0));
        spec.retain(|field, value| {
            !(field == "preemptionPolicy" && *value == "PreemptLowerPriority")
        });
    }
}

/// The cluster with the rules that the commit brings, and without what it deletes.
pub(super) fn future(view: &View, wanted: &[Desired], deletes: &[Key], at: Timestamp) -> View {
    let mut trial = State::trial(view);
    let rules = wanted.iter().filter(|desired| is_rule(desired.object.key()));
    let puts = rules.map(|desired| {
        let object = desired.object.clone();
        Op::Put { object, expect: Expect::Any, part: Part::Main }
    });
    let gone = deletes.iter().map(|key| {
        let (key, uid) = (key.clone(), String::new());
        Op::Delete { key, uid, grace_seconds: Some(0) }
    });
    // One that is refused here is refused, and told, when the commit is taken.
    let commands = gone.chain(puts).map(|op| Command::Write(vec![op])).collect();
    trial.apply(Entry::new(RequestId(0), at, commands));
    trial.view().clone()
}

fn is_rule(key: &Key) -> bool {
    key.is::<Namespace>()
        || key.is::<ServiceAccount>()
        || key.is::<LimitRange>()
        || key.is::<ResourceQuota>()
        || key.is::<PriorityClass>()
}

/// The namespaces that ask something of what is in them.
fn strict(view: &View) -> BTreeSet<String> {
    let limits = view.list::<LimitRange>(None).map(|(object, _)| &object.key().namespace);
    let quotas = view.list::<ResourceQuota>(None).map(|(object, _)| &object.key().namespace);
    let levels = view.list::<Namespace>(None).filter(|(object, _)| {
        object.meta().labels.iter().flatten().any(|(name, _)| name.starts_with(POD_SECURITY))
    });
    let levels = levels.map(|(object, _)| &object.key().name);
    limits.chain(quotas).chain(levels).map(ToString::to_string).collect()
}
