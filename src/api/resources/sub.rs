//! What lies below an object: status, scale, approval, finalize, binding, eviction.

use axum::{http::StatusCode, response::Response};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde_json::{Value, json};

use super::{
    Ask,
    answer::{self, Shape},
    approval, body, books, budget,
    delete::{DeleteOptions, behind_git},
    door,
    options::WriteOptions,
    patching, propose, read, running, token, write,
};
use crate::{
    api::{
        Api, Failure,
        patch::{Patch, Schema},
    },
    kinds::{FieldError, Reason, ScalePaths, Strictness},
    model::{self, NodeName, Object},
    state::{Command, Expect, Op, Part, View},
};

/// How often an eviction is tried that met another write: each try reads the newest.
const TRIES_MAX: usize = 10;

/// Answers for what lies below an object.
pub(super) async fn serve(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    match (ask.resource.subresource.as_str(), ask.verb) {
        ("status" | "approval" | "ephemeralcontainers" | "resize", "get") => {
            read::get(api, ask).await
        }
        ("ephemeralcontainers" | "resize", _) => running::serve(api, ask).await,
        ("approval", _) => approval::serve(api, ask).await,
        ("status", "update") => status(api, ask).await,
        ("status", "patch") => write::patched(api, ask, Part::Status).await,
        ("scale", "get") => scale(api, ask),
        ("scale", _) => rescale(api, ask).await,
        ("finalize", "update") => finalize(api, ask).await,
        ("binding", "create") => bind(api, ask).await,
        ("eviction", "create") => evict(api, ask).await,
        ("token", "create") => token::create(api, ask).await,
        _ => Err(Failure::no_resource()),
    }
}

/// Replaces a status.
async fn status(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    replace(api, ask, Part::Status).await
}

/// Replaces what a namespace waits for before it goes.
async fn finalize(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let value = body::decode(&ask.headers, &ask.body, &ask.info.kind)?;
    write::named_as_path(ask, &value)?;
    let view = api.view();
    let live = live(ask, &view)?;
    let mut wanted = live.value();
    wanted["spec"]["finalizers"] = value["spec"]["finalizers"].clone();
    let object = Object::from_value(&wanted).map_err(|e| Failure::bad_request(e.to_string()))?;
    let put = Op::Put { object, expect: Expect::At(live.revision()), part: Part::Main };
    let written = propose::write(api, &ask.info, &ask.key(), vec![put], false).await?;
    Ok(shape.one(StatusCode::OK, &written.object))
}

async fn replace(api: &Api, ask: &Ask, part: Part) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let options = WriteOptions::of("UpdateOptions", &ask.query)?;
    let (mut value, mut told) = body::sent(ask, options.strictness)?;
    body::identify(ask, &mut value)?;
    write::named_as_path(ask, &value)?;
    if let Some(namespace) = ask.namespace() {
        value["metadata"]["namespace"] = namespace.into();
    }
    let mut wanted = |_: &Object| Ok(value.clone());
    let (written, warnings) = write::replaced(api, ask, options, part, &mut wanted).await?;
    told.extend(warnings);
    Ok(answer::warn(shape.one(StatusCode::OK, &written.object), &told))
}

fn live<'a>(ask: &Ask, view: &'a View) -> Result<&'a Object, Failure> {
    view.object(&ask.key()).ok_or_else(|| Failure::no_object(&ask.info, &ask.resource.name))
}

fn scale(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let view = api.view();
    Ok(shape.value(StatusCode::OK, &scale_of(ask, live(ask, &view)?)))
}

/// An object as its Scale; a spec of no replicas is left out, as Kubernetes does.
fn scale_of(ask: &Ask, object: &Object) -> Value {
    let value = ask.shown(object);
    let paths = ask.info.scale_paths(&ask.api_version);
    let at = |own: fn(&ScalePaths) -> &str, built_in: &str| {
        value.pointer(paths.map_or(built_in, own)).and_then(Value::as_i64).unwrap_or_default()
    };
    let meta = &value["metadata"];
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !meta[field].is_null() {
            metadata[field] = meta[field].clone();
        }
    }
    let replicas = at(|paths| &paths.spec, "/spec/replicas");
    let spec = if replicas == 0 { json!({}) } else { json!({ "replicas": replicas }) };
    let mut status = json!({ "replicas": at(|paths| &paths.status, "/status/replicas") });
    let selector = match paths {
        None => selector_text(&value["spec"]["selector"]),
        Some(paths) => {
            let found = paths.selector.as_deref().and_then(|path| value.pointer(path));
            found.and_then(Value::as_str).unwrap_or_default().to_owned()
        }
    };
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": metadata, "spec": spec, "status": status,
    })
}

/// A selector in the form of `kubectl -l`; that of a ReplicationController is a plain map.
fn selector_text(selector: &Value) -> String {
    let plain = selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    let read = match plain {
        true => Some(LabelSelector {
            match_labels: model::read(selector).ok(),
            match_expressions: None,
        }),
        false => model::read::<LabelSelector>(selector).ok(),
    };
    let Some(selector) = read else { return String::new() };
    let labels = selector.match_labels.iter().flatten().map(|(k, v)| format!("{k}={v}"));
    let expressions = selector.match_expressions.iter().flatten().map(|e| {
        let values = e.values.iter().flatten().cloned().collect::<Vec<_>>().join(",");
        match e.operator.as_str() {
            "In" => format!("{} in ({values})", e.key),
            "NotIn" => format!("{} notin ({values})", e.key),
            "DoesNotExist" => format!("!{}", e.key),
            _ => e.key.clone(),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

/// Changes `spec.replicas` through a Scale.
async fn rescale(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let is_patch = ask.verb == "patch";
    let name = if is_patch { "PatchOptions" } else { "UpdateOptions" };
    let options = WriteOptions::of(name, &ask.query)?;
    let patch = is_patch.then(|| patching::read(ask, options.strictness)).transpose()?;
    let mut wanted = |live: &Object| {
        let scale = match &patch {
            Some((Patch::Apply(scale), _)) => as_scale(ask, scale.clone())?,
            Some((patch, _)) => patched_scale(ask, live, patch)?,
            None => as_scale(ask, body::decode(&ask.headers, &ask.body, "Scale")?)?,
        };
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
        if replicas < 0 {
            return Err(negative(&ask.resource.name, replicas));
        }
        match patching::is_apply(ask) {
            true => books::apply(api, ask, Some(live), &applied(ask, &scale)),
            false => Ok(replaced(ask, live, &scale, replicas)),
        }
    };
    // The stored object is known to be well-formed; fields of later versions are kept silently.
    let options = WriteOptions { strictness: Strictness::Ignore, ..options };
    let (written, _) = write::replaced(api, ask, options, Part::Main, &mut wanted).await?;
    let warnings = patch.map(|(_, warnings)| warnings).unwrap_or_default();
    Ok(answer::warn(shape.value(StatusCode::OK, &scale_of(ask, &written.object)), &warnings))
}

/// An object with what a Scale says of it.
fn replaced(ask: &Ask, live: &Object, scale: &Value, replicas: i64) -> Value {
    let mut value = ask.shown(live);
    set_replicas(ask, &mut value, replicas.into());
    let meta = &mut value["metadata"];
    match scale["metadata"]["resourceVersion"].as_str() {
        Some(version) => meta["resourceVersion"] = version.into(),
        None => meta["resourceVersion"] = Value::Null,
    }
    if let Some(uid) = scale["metadata"]["uid"].as_str() {
        meta["uid"] = uid.into();
    }
    value
}

/// Writes the replicas where the kind has them.
fn set_replicas(ask: &Ask, value: &mut Value, replicas: Value) {
    let paths = ask.info.scale_paths(&ask.api_version);
    let path = paths.map_or("/spec/replicas", |paths| &paths.spec);
    let mut here = value;
    for step in path.split('/').skip(1) {
        here = &mut here[step];
    }
    *here = replicas;
}

/// A Scale that is applied, as a wish about the object it is of.
fn applied(ask: &Ask, scale: &Value) -> Value {
    let mut wish = json!({
        "apiVersion": ask.api_version, "kind": ask.info.kind,
        "metadata": { "name": ask.resource.name },
    });
    for field in ["uid", "resourceVersion"] {
        if let Some(text) = scale["metadata"][field].as_str() {
            wish["metadata"][field] = text.into();
        }
    }
    if let Some(replicas) = scale["spec"].get("replicas") {
        set_replicas(ask, &mut wish, replicas.clone());
    }
    wish
}

fn patched_scale(ask: &Ask, live: &Object, patch: &Patch) -> Result<Value, Failure> {
    let mut before = scale_of(ask, live);
    // A patch that names no version means whichever is the newest.
    if let Some(meta) = before["metadata"].as_object_mut() {
        meta.remove("resourceVersion");
    }
    let schema = Schema::named("autoscaling/v1", "Scale");
    as_scale(ask, patching::apply(schema, patch, &before)?)
}

fn as_scale(ask: &Ask, mut scale: Value) -> Result<Value, Failure> {
    body::typed_as(&mut scale, "autoscaling/v1", "Scale")?;
    write::named_as_path(ask, &scale)?;
    Ok(scale)
}

fn negative(name: &str, replicas: i64) -> Failure {
    let error = FieldError {
        field: "spec.replicas".to_owned(),
        reason: Reason::Invalid,
        detail: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
    };
    Failure::not_valid(("Scale", "autoscaling"), name, &[error])
}

/// Puts a pod on a node: `pods/x/binding`, or `bindings` with the pod's name in the body.
async fn bind(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let options = WriteOptions::of("CreateOptions", &ask.query)?;
    let mut value = body::decode(&ask.headers, &ask.body, "Binding")?;
    body::typed_as(&mut value, "v1", "Binding")?;
    let mut key = ask.key();
    match value["metadata"]["name"].as_str() {
        Some(name) if key.name.is_empty() => key.name = name.into(),
        _ => write::named_as_path(ask, &value)?,
    }
    let node = value["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(Failure::bad_request("target.name: Required value: the node"));
    }
    let view = api.view();
    let object = view.object(&key).ok_or_else(|| Failure::no_object(&ask.info, &key.name))?;
    let spec = object.view::<Pod>().and_then(|pod| pod.spec.as_ref());
    if let Some(bound) = spec.and_then(|spec| spec.node_name.as_deref()) {
        let why = format!("pod {} is already assigned to node {bound:?}", key.name);
        return Err(Failure::cannot(&ask.info, &key.name, &why));
    }
    let node = NodeName::new(node);
    let command = Command::Bind { pod: key.clone(), uid: object.uid().to_owned(), node };
    propose::run(api, &ask.info, &key, command, options.dry_run).await?;
    Ok(shape.value(StatusCode::CREATED, &answer::success(StatusCode::CREATED)))
}

/// Deletes a pod when its disruption budget has room
/// (kubernetes.io/docs/concepts/scheduling-eviction/api-eviction).
async fn evict(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let options = WriteOptions::of("CreateOptions", &ask.query)?;
    let mut value = body::decode(&ask.headers, &ask.body, "Eviction")?;
    let version = match value["apiVersion"].as_str() {
        Some("policy/v1beta1") => "policy/v1beta1",
        _ => "policy/v1",
    };
    body::typed_as(&mut value, version, "Eviction")?;
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    if name != ask.resource.name {
        let text = "name in URL does not match name in Eviction object";
        return Err(Failure::bad_request(text));
    }
    let asked = DeleteOptions::read(&value["deleteOptions"])?;
    let dry_run = options.dry_run || asked.dry_run();
    for _ in 1..TRIES_MAX {
        match evict_once(api, ask, &asked, dry_run).await {
            // Another eviction spent from the same budget, or the node told of the pod: read both
            // again.
            Err(failure) if failure.reason == "Conflict" => api.backend.barrier().await?,
            result => return result.map(|()| evicted(&shape)),
        }
    }
    evict_once(api, ask, &asked, dry_run).await.map(|()| evicted(&shape))
}

fn evicted(shape: &Shape) -> Response {
    shape.value(StatusCode::CREATED, &answer::success(StatusCode::CREATED))
}

async fn evict_once(
    api: &Api,
    ask: &Ask,
    asked: &DeleteOptions,
    dry_run: bool,
) -> Result<(), Failure> {
    let view = api.view();
    let pod = live(ask, &view)?;
    let change = door::Change {
        info: &ask.info,
        key: pod.key(),
        subresource: "eviction",
        live: Some(pod),
        wanted: None,
        user: &ask.user.name,
    };
    door::judge(&view, api.backend.writes(), &change)?;
    let mut ops = Vec::new();
    if !is_free(pod) {
        ops.extend(budget::spend(&view, pod, api.backend.now())?);
    }
    ops.extend(disrupted(api, pod));
    ops.extend(behind_git(&view, ask, pod));
    ops.extend(asked.ops(&ask.info, pod)?);
    propose::write(api, &ask.info, pod.key(), ops, dry_run).await?;
    Ok(())
}

/// Whether a pod is no disruption: it has ended, never ran, or is going already.
fn is_free(pod: &Object) -> bool {
    let status = pod.view::<Pod>().and_then(|pod| pod.status.as_ref());
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    pod.is_terminating() || matches!(phase, "Succeeded" | "Failed" | "Pending")
}

/// Says on the pod why it goes.
fn disrupted(api: &Api, pod: &Object) -> Option<Op> {
    let mut value = pod.value();
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null,
        "lastTransitionTime": api.backend.now().to_time(),
    });
    let conditions = &mut value["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(list) if list.iter().any(|c| c["type"] == "DisruptionTarget") => return None,
        Some(list) => list.push(condition),
        None => *conditions = json!([condition]),
    }
    let object = Object::from_value(&value).ok()?;
    Some(Op::Put { object, expect: Expect::At(pod.revision()), part: Part::Status })
}
