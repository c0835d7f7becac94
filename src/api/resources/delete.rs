//! Delete: one object, or all that a selector finds.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::{Value, json};

use super::{
    Ask,
    answer::{self, ListMeta, Shape},
    body, commit, door,
    options::{self, Filter},
    propose::{self, Written},
};
use crate::{
    api::{
        Api, Failure,
        admission::{self, Attempt},
        failure::{Details, qualified},
    },
    kinds::{KindInfo, Reason, SYSTEM_PRIORITY_CLASSES},
    model::{Key, Object},
    state::{DELETED, Expect, NewEvent, Op, Part, View},
};

/// Namespaces that every cluster needs.
const KEPT: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What becomes of the objects that this one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// How something is deleted
/// (kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options).
#[derive(Clone, Debug, Default)]
pub(super) struct DeleteOptions {
    grace_seconds: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    version: Option<String>,
    dry_run: bool,
}

fn not_valid(field: &str, reason: Reason, detail: String) -> Failure {
    options::not_valid("DeleteOptions", field, reason, detail)
}

impl DeleteOptions {
    /// Reads them from the body, and from the query where the body does not say.
    fn of(ask: &Ask) -> Result<Self, Failure> {
        let mut value = json!({});
        if !ask.body.is_empty() {
            value = body::decode(&ask.headers, &ask.body, "DeleteOptions")?;
            let kind = value["kind"].as_str().unwrap_or("DeleteOptions");
            if kind != "DeleteOptions" {
                let text = format!("no kind {kind:?} is registered for the options of a deletion");
                return Err(Failure::bad_request(text));
            }
        }
        for name in ["propagationPolicy", "gracePeriodSeconds", "orphanDependents", "dryRun"] {
            if let (Some(text), true) = (ask.query.get(name), value[name].is_null()) {
                value[name] = match name {
                    "gracePeriodSeconds" => json!(options::number(&ask.query, name)?),
                    "orphanDependents" => json!(ask.query.flag(name)),
                    "dryRun" => json!(ask.query.all(name).collect::<Vec<_>>()),
                    _ => text.into(),
                };
            }
        }
        Self::read(&value)
    }

    /// Reads them from JSON.
    pub(super) fn read(value: &Value) -> Result<Self, Failure> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let dry_run: Vec<&str> =
            value["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let grace = value["gracePeriodSeconds"].as_i64();
        Ok(Self {
            // Kubernetes takes what is below zero for one second.
            grace_seconds: grace.map(|seconds| if seconds < 0 { 1 } else { seconds }),
            propagation: propagation(value)?,
            uid: text(&value["preconditions"]["uid"]),
            version: text(&value["preconditions"]["resourceVersion"]),
            dry_run: options::dry_run("DeleteOptions", &dry_run)?,
        })
    }
}

impl DeleteOptions {
    /// Whether nothing shall change.
    pub(super) fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// What deletes an object as these options say, once their preconditions hold.
    pub(super) fn ops(&self, info: &KindInfo, live: &Object) -> Result<Vec<Op>, Failure> {
        preconditions(info, live, self)?;
        Ok(ops(info, live, self))
    }
}

fn propagation(value: &Value) -> Result<Option<Propagation>, Failure> {
    let field = "propagationPolicy";
    let policy = value[field].as_str().filter(|text| !text.is_empty());
    match (policy, value["orphanDependents"].as_bool()) {
        (Some(policy), Some(_)) => {
            let text = format!(
                "Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be \
                 both set"
            );
            Err(not_valid(field, Reason::Invalid, text))
        }
        (Some("Background"), _) | (None, Some(false)) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), _) => Ok(Some(Propagation::Foreground)),
        (Some("Orphan"), _) | (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (None, None) => Ok(None),
        (Some(other), None) => {
            let text = format!(
                "Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \
                 \"Orphan\""
            );
            Err(not_valid(field, Reason::NotSupported, text))
        }
    }
}

/// Deletes one object.
pub(super) async fn one(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let options = DeleteOptions::of(ask)?;
    kept(&ask.info, &ask.resource.name)?;
    let view = api.view();
    let live = view.object(&ask.key());
    let live = live.ok_or_else(|| Failure::no_object(&ask.info, &ask.resource.name))?;
    let warnings = asked(ask, &view, live, &options)?;
    let written = delete(api, ask, &view, live, &options).await?;
    let mut response = match written.gone && !ask.info.delete_gives_object() {
        true => shape.value(StatusCode::OK, &gone(&ask.info, &written.object)),
        false => shape.one(StatusCode::OK, &written.object),
    };
    for warning in &warnings {
        answer::add_warning(&mut response, warning);
    }
    if is_job(&ask.info) && options.propagation.is_none() {
        let text = "child pods are preserved by default when jobs are deleted; set \
                    propagationPolicy=Background to remove them or set \
                    propagationPolicy=Orphan to suppress this warning";
        answer::add_warning(&mut response, text);
    }
    Ok(response)
}

/// Whether admission lets an object go; gives what the asker should know.
fn asked(
    ask: &Ask,
    view: &View,
    live: &Object,
    options: &DeleteOptions,
) -> Result<Vec<String>, Failure> {
    let attempt =
        Attempt { user: &ask.user, view, info: &ask.info, subresource: "", live: Some(live) };
    admission::validate_deletion(&attempt, options.dry_run)
}

fn is_job(info: &KindInfo) -> bool {
    info.group == "batch" && info.kind == "Job"
}

fn gone(info: &KindInfo, object: &Object) -> Value {
    let mut status = answer::success(StatusCode::OK);
    status["details"] =
        json!({ "name": object.key().name, "kind": info.plural, "uid": object.uid() });
    if !info.group.is_empty() {
        status["details"]["group"] = info.group.as_str().into();
    }
    status
}

/// Deletes every object that the selectors find; what cannot go says why and ends it.
pub(super) async fn collection(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, true, api.backend.now())?;
    let filter = Filter::of(ask)?;
    let options = DeleteOptions::of(ask)?;
    let view = api.view();
    let kind = ask.info.group_kind();
    let found = view.of_kind(&kind, ask.namespace()).filter(|object| filter.matches(object));
    let mut deleted = Vec::new();
    for live in found {
        if let Err(failure) = asked(ask, &view, live, &options) {
            return Ok(failure.into_response());
        }
        match delete(api, ask, &view, live, &options).await {
            Ok(written) => deleted.push(written.object),
            // Somebody else was faster.
            Err(failure) if failure.code == StatusCode::NOT_FOUND => {}
            Err(failure) => return Ok(failure.into_response()),
        }
    }
    let meta =
        ListMeta { resource_version: api.view().revision().to_string(), ..ListMeta::default() };
    Ok(shape.list(&meta, deleted))
}

/// Refuses the end of what every cluster needs.
fn kept(info: &KindInfo, name: &str) -> Result<(), Failure> {
    let system = |(class, _): &(&str, i32)| *class == name;
    match (info.group.as_str(), info.plural.as_str()) {
        ("", "namespaces") if KEPT.contains(&name) => {
            Err(Failure::refused(info, name, "this namespace may not be deleted"))
        }
        ("scheduling.k8s.io", "priorityclasses") if SYSTEM_PRIORITY_CLASSES.iter().any(system) => {
            let why = "this is a system priority class and cannot be deleted";
            Err(Failure::refused(info, name, why))
        }
        _ => Ok(()),
    }
}

/// Deletes a stored object as the options say.
pub(super) async fn delete(
    api: &Api,
    ask: &Ask,
    view: &View,
    live: &Object,
    options: &DeleteOptions,
) -> Result<Written, Failure> {
    let (info, key) = (&*ask.info, live.key());
    kept(info, &key.name)?;
    let user = &ask.user.name;
    let change = door::Change { info, key, subresource: "", live: Some(live), wanted: None, user };
    let way = door::judge(view, api.backend.writes(), &change)?;
    let mut ops = options.ops(info, live)?;
    ops.splice(..0, behind_git(view, ask, live));
    if way == door::Way::Log || options.dry_run {
        return propose::write(api, info, key, ops, options.dry_run).await;
    }
    if options.propagation == Some(Propagation::Orphan) {
        let why = "it comes from Git, and a commit takes along what the object owns: delete it \
                   with --cascade=background";
        return Err(Failure::refused(info, &key.name, why));
    }
    commit::write(api, ask, key, Some(live), None).await
}

/// Who takes away what Git says, as an event: it comes back, and this says whom to ask.
pub(super) fn behind_git(view: &View, ask: &Ask, live: &Object) -> Option<Op> {
    let (key, origin) = (live.key(), view.origin(live.key())?);
    let namespace = view.object(&Key::of::<Namespace>("", &key.namespace));
    if live.is_terminating() || namespace.is_some_and(Object::is_terminating) {
        return None;
    }
    let message = format!("{} says it: to be rid of it, take it out there", origin.place());
    Some(Op::Event(NewEvent {
        regarding: key.clone(),
        uid: live.uid().to_owned(),
        warning: true,
        reason: DELETED.to_owned(),
        message,
        source: ask.user.name.clone(),
    }))
}

fn preconditions(info: &KindInfo, live: &Object, options: &DeleteOptions) -> Result<(), Failure> {
    let differs = |what: &str, asked: &str, found: &str, end: &str| {
        let why = format!(
            "the {what} in the precondition ({asked}) does not match the {what} in record \
             ({found}). The object might have been {end}"
        );
        let text = format!(
            "Operation cannot be fulfilled on {} {:?}: {why}",
            qualified(&info.kind, &info.group),
            live.key().name
        );
        let kind = info.kind.to_string();
        let details = Details { kind, ..Details::of(info, &live.key().name) };
        Err(Failure::conflict(text).with(details))
    };
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != live.uid()) {
        return differs("UID", uid, live.uid(), "deleted and then recreated");
    }
    let found = live.revision().to_string();
    match options.version.as_deref().filter(|version| *version != found) {
        Some(version) => differs("ResourceVersion", version, &found, "modified"),
        None => Ok(()),
    }
}

/// The finalizer that waits for what an object owns, put on it, and the deletion itself.
fn ops(info: &KindInfo, live: &Object, options: &DeleteOptions) -> Vec<Op> {
    let usual = if is_job(info) { Propagation::Orphan } else { Propagation::Background };
    let finalizer = match options.propagation.unwrap_or(usual) {
        Propagation::Background => None,
        Propagation::Foreground => Some("foregroundDeletion"),
        Propagation::Orphan => Some("orphan"),
    };
    let put = finalizer.filter(|_| !live.is_terminating());
    let put = put.and_then(|finalizer| with_finalizer(live, finalizer));
    // A version that was named must still be the live one when the log applies this: a put of the
    // same object changes nothing and says so.
    let still = options.version.is_some() && put.is_none();
    let still = still.then(|| Op::Put {
        object: live.clone(),
        expect: Expect::At(live.revision()),
        part: Part::Main,
    });
    let delete = Op::Delete {
        key: live.key().clone(),
        uid: live.uid().to_owned(),
        grace_seconds: grace(live, options),
    };
    put.into_iter().chain(still).chain([delete]).collect()
}

fn with_finalizer(live: &Object, finalizer: &str) -> Option<Op> {
    let mut value = live.value();
    let finalizers = &mut value["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|found| found == finalizer) => return None,
        Some(list) => list.push(finalizer.into()),
        None => *finalizers = json!([finalizer]),
    }
    let object = Object::from_value(&value).ok()?;
    Some(Op::Put { object, expect: Expect::At(live.revision()), part: Part::Main })
}

/// The seconds a pod gets to stop: none when it has ended already.
fn grace(live: &Object, options: &DeleteOptions) -> Option<i64> {
    let status = live.view::<Pod>().and_then(|pod| pod.status.as_ref());
    let phase = status.and_then(|status| status.phase.as_deref());
    match phase {
        Some("Succeeded" | "Failed") => Some(0),
        _ => options.grace_seconds,
    }
}
