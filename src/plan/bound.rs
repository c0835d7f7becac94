//! What namespaces and policies say of the objects that a commit brings: the same rules that
//! objects of the API meet, judged against the cluster as the commit will leave it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        core::v1::{LimitRange, Namespace, Pod, ResourceQuota, ServiceAccount},
        scheduling::v1::PriorityClass,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde_json::Value;

use crate::{
    kinds::{self, FieldError, Kinds},
    model::{GroupKind, Key, Object, Problem, RequestId, Timestamp},
    policy::{
        self, Attempt, Ledger, Refused,
        validating::{self, Write, Writer},
    },
    state::{Command, Desired, Entry, Expect, Op, Origin, Part, State, View},
};

/// Labels of a namespace that ask something of pods begin so.
const POD_SECURITY: &str = "pod-security.kubernetes.io/";

/// What was found, each with its place in the repository.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Who a policy sees when a commit asks for something: commits are not signed in.
const WRITER: &str = "mainstay:git";

impl Judged {
    /// Asks the policies that there will be about one object of a commit.
    fn ask_policies(
        &mut self,
        future: &View,
        origin: &Origin,
        old: Option<&Object>,
        new: Option<&Object>,
    ) {
        let Some(key) = new.or(old).map(Object::key) else { return };
        let Some(info) = future.kinds().lookup(&key.kind) else { return };
        if !validating::concerns(future, info) {
            return;
        }
        // What stays of the live object stays; what cannot be put together is told elsewhere.
        let kept = old.zip(new).and_then(|(old, new)| future.kinds().adopt(old, new).ok());
        let (groups, extra) = (["system:authenticated".to_owned()], BTreeMap::new());
        let writer = Writer { name: WRITER, uid: "", groups: &groups, extra: &extra };
        let new = kept.as_ref().or(new);
        let write = Write { view: future, info, subresource: "", old, new, writer, dry_run: false };
        match validating::judge(&write) {
            Ok(warnings) => self.warnings.extend(warnings.iter().map(|w| told(origin, w))),
            Err(denied) => {
                let (resource, name) = (info.resource(), &key.name);
                let text = format!("{resource} \"{name}\" is forbidden: {}", denied.why);
                self.problems.push(told(origin, &text));
            }
        }
    }
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
    let asked = future.kinds().has_policies();
    for desired in wanted.iter().filter(|desired| asked && differs(desired)) {
        let old = view.object(desired.object.key());
        judged.ask_policies(&future, &desired.origin, old, Some(&desired.object));
    }
    for key in deletes {
        if let Some((origin, old)) = view.origin(key).zip(view.object(key)) {
            judged.ask_policies(&future, origin, Some(old), None);
        }
    }
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
pub(super) fn broken_rules(
    view: &View,
    kinds: &Kinds,
    wanted: &[Desired],
    differs: impl Fn(&Desired) -> bool,
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
    let is_custom = |desired: &Desired| kinds::lookup(&desired.object.key().kind).is_none();
    let changed = wanted.iter().filter(|desired| is_custom(desired) && differs(desired));
    let judged = changed.filter_map(|desired| Some((desired, judge(desired).err()?)));
    judged.flat_map(|(desired, errors)| errors.into_iter().map(move |e| told(desired, e))).collect()
}

fn problem(desired: &Desired, message: &str) -> Problem {
    told(&desired.origin, message)
}

fn told(origin: &Origin, message: &str) -> Problem {
    let (file, line) = (origin.file.clone(), origin.line);
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
    let parameters = parameters(view, wanted);
    let mut rules: Vec<&Desired> = wanted
        .iter()
        .filter(|desired| {
            let key = desired.object.key();
            is_rule(key) || parameters.contains(&key.kind)
        })
        .collect();
    // Before the objects of the kinds that they define.
    rules.sort_by_key(|desired| !desired.object.key().is::<CustomResourceDefinition>());
    let puts = rules.into_iter().map(|desired| {
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
        || key.is::<ValidatingAdmissionPolicy>()
        || key.is::<ValidatingAdmissionPolicyBinding>()
}

/// Where there are policies: the kinds of their parameters, and definitions, without whose kinds
/// nobody could ask about their objects.
fn parameters(view: &View, wanted: &[Desired]) -> BTreeSet<GroupKind> {
    let policies = wanted.iter().map(|desired| &desired.object);
    let policies = policies.filter(|object| object.key().is::<ValidatingAdmissionPolicy>());
    let brought = policies.filter_map(|object| object.view());
    let stored = view.list::<ValidatingAdmissionPolicy>(None).map(|(_, policy)| policy);
    let mut kinds = BTreeSet::new();
    for policy in stored.chain(brought) {
        let policy: &ValidatingAdmissionPolicy = policy;
        kinds.insert(GroupKind::of::<CustomResourceDefinition>());
        let of = policy.spec.as_ref().and_then(|spec| spec.param_kind.as_ref());
        let named = of.and_then(|of| of.api_version.as_deref().zip(of.kind.as_deref()));
        kinds.extend(named.map(|(version, kind)| GroupKind::from_api_version(version, kind)));
    }
    kinds
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
