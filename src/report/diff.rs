//! What a commit would change: `mainstay plan`.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::Secret,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::health::pods_of;
use crate::{
    kinds,
    model::{Key, Object, Problem, Seal},
    state::{Desired, Origin, View},
};

/// What a commit would do to the cluster as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// The full id of the commit the cluster runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The full id of the commit that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Why it would be refused. When there is one, nothing below would happen.
    pub problems: Vec<Problem>,
    /// What its author should know.
    pub warnings: Vec<Problem>,
    /// Objects that would be made.
    pub added: Vec<ObjectLine>,
    /// Objects that would change.
    pub changed: Vec<ObjectChange>,
    /// Objects that would go.
    pub pruned: Vec<ObjectLine>,
    /// Hooks that would run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookLine>,
    /// Pods that would be replaced or go, `namespace/name`.
    pub restarts: Vec<String>,
    /// Where new pods would go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed: Vec<PlacedPods>,
    /// New pods that no node has room for, or that a policy refuses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unplaced: Vec<UnplacedPods>,
}

impl PlanReport {
    /// Whether the commit would change nothing.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.pruned.is_empty()
    }
}

/// One hook that would run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookLine {
    /// `PreSync`
    pub phase: String,
    /// The hook and where it stands.
    #[serde(flatten)]
    pub object: ObjectLine,
}

/// The hooks among the objects of a commit, in the order in which they run.
pub fn hooks(wanted: &[Desired]) -> Vec<HookLine> {
    let hook = |desired: &Desired| {
        let order = kinds::order(&desired.object);
        let (phase, origin) = (order.hook?.phase, &desired.origin);
        let object = line(desired.object.key(), &origin.file, origin.line);
        Some(((phase, order.wave), HookLine { phase: phase.as_str().to_owned(), object }))
    };
    let mut hooks: Vec<_> = wanted.iter().filter_map(hook).collect();
    hooks.sort_by(|(a, x), (b, y)| (a, &x.object.object).cmp(&(b, &y.object.object)));
    hooks.into_iter().map(|(_, line)| line).collect()
}

/// New pods of one workload on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacedPods {
    /// `Deployment shop/web`
    pub object: String,
    /// The node.
    pub node: String,
    /// How many of its new pods.
    pub pods: u64,
}

/// New pods of one workload that would not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnplacedPods {
    /// The workload and where it stands.
    #[serde(flatten)]
    pub object: ObjectLine,
    /// How many of its new pods.
    pub pods: u64,
    /// Why, as the scheduler or the policy says it.
    pub reason: String,
}

/// One object and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLine {
    /// `Deployment shop/web`
    pub object: String,
    /// Its file.
    pub file: String,
    /// Its line in that file, from 1.
    pub line: u32,
}

/// One object that would change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// The object and where it stands.
    #[serde(flatten)]
    pub object: ObjectLine,
    /// Its fields that would change.
    pub fields: Vec<FieldChange>,
}

/// One field before and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// `spec.template.spec.containers[web].image`
    pub path: String,
    /// Before; absent when it was not there. Never a Secret's data, nor what is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// After; absent when it goes. Never a Secret's data, nor what is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// What a commit would change that brings `new` (the objects it asks for that may differ from
/// State) and takes `gone` away. `commit` is left to the caller, as are problems that were found
/// before there were objects, and where pods would go.
pub fn diff(view: &View, new: &[Desired], gone: &[Key]) -> PlanReport {
    let mut report = PlanReport {
        base: view.head().map(|head| head.commit.to_string()),
        ..PlanReport::default()
    };
    let mut restarts = BTreeSet::new();
    new.iter().for_each(|desired| one(view, desired, &mut report, &mut restarts));
    for (key, origin) in gone.iter().filter_map(|key| Some((key, view.origin(key)?))) {
        report.pruned.push(line(key, &origin.file, origin.line));
        let live = view.object(key).filter(|live| is_workload(live));
        restarts.extend(live.into_iter().flat_map(|live| pod_names(view, live)));
    }
    report.restarts = restarts.into_iter().collect();
    report
}

fn line(key: &Key, file: &str, line: u32) -> ObjectLine {
    ObjectLine { object: key.to_string(), file: file.to_owned(), line }
}

fn one(view: &View, desired: &Desired, report: &mut PlanReport, restarts: &mut BTreeSet<String>) {
    let (key, origin) = (desired.object.key(), &desired.origin);
    let place = line(key, &origin.file, origin.line);
    let Some(live) = view.object(key) else {
        // What did its work and is gone is not made again.
        let is_done = |was: &Origin| was.ended.is_some() && was.digest == origin.digest;
        if !view.origin(key).is_some_and(is_done) {
            report.added.push(place);
        }
        return;
    };
    let next = match view.kinds().adopt(live, &desired.object) {
        Ok(next) => next,
        // It takes the place of the live one.
        Err(_) if key.is::<Job>() => as_after(live, &desired.object),
        Err(errors) => {
            report.problems.extend(errors.into_iter().map(|e| Problem {
                file: origin.file.clone(),
                line: origin.line,
                field: e.field,
                message: e.detail,
            }));
            return;
        }
    };
    let (before, after) = (spoken(live), spoken(&next));
    let mut fields = Vec::new();
    compare("", Some(&before), Some(&after), &mut fields);
    // How many there are was decided while it ran, and stays.
    fields.retain(|field| !(origin.open && field.path == "spec.replicas"));
    if fields.is_empty() {
        return;
    }
    if key.is::<Secret>() {
        fields.iter_mut().for_each(conceal);
    }
    fields.iter_mut().for_each(seal);
    let paused = next.view::<Deployment>().is_some_and(|next| next.spec.paused == Some(true));
    let is_rolled = key.is::<Deployment>() && !paused;
    if is_rolled && fields.iter().any(|f| f.path.starts_with("spec.template")) {
        restarts.extend(pod_names(view, live));
    }
    report.changed.push(ObjectChange { object: place, fields });
}

fn is_workload(object: &Object) -> bool {
    let key = object.key();
    key.is::<Deployment>() || key.is::<ReplicaSet>() || key.is::<Job>()
}

/// A Job that takes the place of another, with the selector and the labels that a Job is given: all
/// that differs is what its file says.
fn as_after(live: &Object, job: &Object) -> Object {
    let mut value = job.value();
    value["metadata"]["uid"] = live.uid().into();
    Object::from_value(&value).map_or_else(|_| job.clone(), |job| kinds::with_own_selector(&job))
}

fn pod_names(view: &View, object: &Object) -> Vec<String> {
    let pods = pods_of(view, object);
    pods.iter().map(|p| format!("{}/{}", p.key().namespace, p.key().name)).collect()
}

/// What a file can say: without status, and without what the cluster notes in metadata.
fn spoken(object: &Object) -> Value {
    let mut value = object.value();
    let Some(map) = value.as_object_mut() else { return value };
    map.remove("status");
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| {
            matches!(field.as_str(), "labels" | "annotations" | "finalizers" | "ownerReferences")
        });
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|name, _| {
                !matches!(name.as_str(), "mainstay.io/commit" | "mainstay.io/source" | Seal::NAME)
                    && name != "deployment.kubernetes.io/revision"
            });
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    value
}

fn conceal(change: &mut FieldChange) {
    let secret = ["data", "stringData"];
    let top = change.path.split(['.', '[']).next().unwrap_or_default();
    if secret.contains(&top) {
        for value in [&mut change.old, &mut change.new].into_iter().flatten() {
            *value = Value::from("(secret)");
        }
    }
}

/// Hides ciphertext as well: nobody reads anything in it, or takes it for plain.
fn seal(change: &mut FieldChange) {
    for value in [&mut change.old, &mut change.new].into_iter().flatten() {
        if Seal::is_in(value.to_string().as_bytes()) {
            *value = Value::from("(sealed)");
        }
    }
}

/// Collects the smallest differing parts. Lists whose items have names are compared by name.
fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, out: &mut Vec<FieldChange>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let fields: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for field in fields {
                compare(&join(path, field), a.get(field), b.get(field), out);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => lists(path, a, b, out),
        (old, new) => {
            let (old, new) = (old.cloned(), new.cloned());
            out.push(FieldChange { path: path.to_owned(), old, new });
        }
    }
}

fn lists(path: &str, a: &[Value], b: &[Value], out: &mut Vec<FieldChange>) {
    if let (Some(a), Some(b)) = (by_name(a), by_name(b)) {
        let mut names: Vec<&str> = a.iter().map(|(name, _)| *name).collect();
        names.extend(b.iter().map(|(name, _)| *name).filter(|n| a.iter().all(|(m, _)| m != n)));
        let find = |list: &[(&str, &Value)], name: &str| {
            list.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).clone())
        };
        for name in names {
            let (old, new) = (find(&a, name), find(&b, name));
            compare(&format!("{path}[{name}]"), old.as_ref(), new.as_ref(), out);
        }
        return;
    }
    for i in 0..a.len().max(b.len()) {
        compare(&format!("{path}[{i}]"), a.get(i), b.get(i), out);
    }
}

/// The items by their names; `None` when some have none or two have the same.
fn by_name(list: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let named: Vec<(&str, &Value)> =
        list.iter().map(|v| Some((v.get("name")?.as_str()?, v))).collect::<Option<_>>()?;
    let distinct: BTreeSet<&str> = named.iter().map(|(name, _)| *name).collect();
    (distinct.len() == named.len()).then_some(named)
}

/// Names that hold a dot (annotations, file names) are written in brackets, so that a path can be
/// read back.
fn join(path: &str, field: &str) -> String {
    match (path.is_empty(), field.contains(['.', '/'])) {
        (true, false) => field.to_owned(),
        (false, false) => format!("{path}.{field}"),
        (_, true) => format!("{path}[{field}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_not_shown_as_if_it_were_plain() {
        let value = |text: &str| Some(Value::from(text));
        let (old, new) = (value("plain"), value("ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]"));
        let mut change = FieldChange { path: "data.k".into(), old, new };
        seal(&mut change);
        assert_eq!((change.old, change.new), (value("plain"), value("(sealed)")));
    }
}
