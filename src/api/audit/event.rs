//! What is written down of a request: an `Event` of `audit.k8s.io/v1`, as a value. Pure
//! (kubernetes.io/docs/reference/config-api/apiserver-audit.v1).

use std::net::{IpAddr, SocketAddr};

use axum::{
    body::Bytes,
    extract::{ConnectInfo, Request},
    http::header,
    response::Response,
};
use serde_json::{Map, Value, json};

use crate::{
    api::{
        RequestInfo, ResourceInfo, User, authn::Impersonator, codec, failure::Said, fairness,
        headers::AuditId, resources::decoded,
    },
    model::Timestamp,
};

/// Most bytes of a body that is written; larger ones are left out, and an annotation says so.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Most bytes of a path with its query that are written.
const URI_BYTES_MAX: usize = 8 << 10;

/// Most bytes that are written of what a client calls itself, as in Kubernetes.
const AGENT_BYTES_MAX: usize = 1024;

/// Stands where something secret was.
const REDACTED: &str = "REDACTED";

/// Words in the name of a query parameter whose value nobody may read.
const SECRET_WORDS: [&str; 6] = ["token", "password", "passwd", "secret", "signature", "apikey"];

/// Kinds whose objects carry credentials, wherever in a body they stand.
const SECRET_KINDS: [&str; 4] = ["Secret", "ConfigMap", "TokenRequest", "TokenReview"];

/// How much of a request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditLevel {
    /// Who, what, when, and how it ended.
    #[default]
    Metadata,
    /// Its body too, unless it carries credentials.
    Request,
}

/// When in the life of a request an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before anything is done.
    RequestReceived,
    /// The head of a long answer is out, its body follows.
    ResponseStarted,
    /// Nothing more follows.
    ResponseComplete,
    /// We erred.
    Panic,
}

/// What is known of a request when it comes in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Asked {
    /// What the answer's `Audit-Id` says.
    pub(super) id: String,
    pub(super) info: RequestInfo,
    /// Path and query.
    pub(super) uri: String,
    /// Who asks; nobody when a credential was no good.
    pub(super) user: Option<User>,
    /// As whom they are seen.
    pub(super) seen_as: Option<User>,
    pub(super) source: Option<IpAddr>,
    pub(super) agent: String,
    pub(super) at: Timestamp,
}

/// The body of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) media: String,
    pub(super) bytes: Bytes,
}

/// What is known of its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) code: u16,
    /// Why it failed.
    pub(super) said: Option<Said>,
    /// What access was decided on.
    pub(super) decision: Option<Decision>,
}

/// Whether somebody may do what they ask, and by what. In the extensions of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Decision {
    pub(in crate::api) allowed: bool,
    /// The binding and role that say so; empty when there is none.
    pub(in crate::api) reason: String,
}

impl Asked {
    /// Reads a request that [`identify`](crate::api::authn::identify) has seen.
    pub(super) fn of(request: &Request, at: Timestamp) -> Self {
        let extensions = request.extensions();
        let seen = extensions.get::<User>().cloned();
        let (user, seen_as) = match extensions.get::<Impersonator>() {
            Some(Impersonator(user)) => (Some(user.clone()), seen),
            None => (seen, None),
        };
        let agent = request.headers().get(header::USER_AGENT);
        let id = extensions.get::<AuditId>().and_then(|id| id.0.to_str().ok());
        let source = extensions.get::<ConnectInfo<SocketAddr>>();
        Self {
            id: id.unwrap_or_default().to_owned(),
            info: RequestInfo::read(request),
            uri: request.uri().to_string(),
            user,
            seen_as,
            source: source.map(|ConnectInfo(address)| address.ip().to_canonical()),
            agent: agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default().to_owned(),
            at,
        }
    }

    /// Whether an event is written before anything is done: a command in a container may end the
    /// server that would have written of it.
    pub(super) fn is_told_early(&self) -> bool {
        let acts = ["exec", "attach", "portforward", "proxy"];
        let of = |resource: &ResourceInfo| acts.contains(&resource.subresource.as_str());
        self.info.resource.as_ref().is_some_and(of)
    }
}

impl Told {
    /// Reads an answer.
    pub(super) fn of(response: &Response) -> Self {
        let extensions = response.extensions();
        Self {
            code: response.status().as_u16(),
            said: extensions.get::<Said>().cloned(),
            decision: extensions.get::<Decision>().cloned(),
        }
    }
}

/// What is written of a request at a stage; nothing of what happens all the time and changes
/// nothing: health, version, and events, as in Kubernetes' own policy.
pub(super) fn event(
    asked: &Asked,
    sent: Option<&Sent>,
    told: Option<&Told>,
    level: AuditLevel,
    (stage, at): (Stage, Timestamp),
) -> Option<Value> {
    if fairness::is_health(&asked.info) || is_event(&asked.info) {
        return None;
    }
    let body = sent.filter(|sent| !sent.bytes.is_empty()).map(|sent| (sent, read(sent)));
    let secret = is_secret(&asked.info)
        || body.as_ref().is_some_and(|(_, body)| body.as_ref().is_none_or(holds_secret));
    let mut event = Map::new();
    let mut put = |name: &str, value: Value| {
        event.insert(name.to_owned(), value);
    };
    put("kind", "Event".into());
    put("apiVersion", "audit.k8s.io/v1".into());
    put("auditID", asked.id.as_str().into());
    put("stage", format!("{stage:?}").into());
    put("requestURI", cut(&redacted(&asked.uri), URI_BYTES_MAX).into());
    put("verb", asked.info.verb.into());
    put("user", user(asked.user.as_ref().unwrap_or(&User::default())));
    if let Some(seen_as) = &asked.seen_as {
        put("impersonatedUser", user(seen_as));
    }
    if let Some(source) = asked.source {
        put("sourceIPs", json!([source]));
    }
    if !asked.agent.is_empty() {
        put("userAgent", cut(&asked.agent, AGENT_BYTES_MAX).into());
    }
    let value = body.as_ref().and_then(|(_, body)| body.as_ref());
    if let Some(resource) = &asked.info.resource {
        put("objectRef", reference(resource, asked.info.verb, value));
    }
    if let Some(told) = told {
        put("responseStatus", status(told, secret));
    }
    put("requestReceivedTimestamp", json!(asked.at.to_micro_time()));
    put("stageTimestamp", json!(at.to_micro_time()));
    let mut notes = Map::new();
    let mut written = AuditLevel::Metadata;
    if let (AuditLevel::Request, false, Some((sent, Some(body)))) = (level, secret, &body) {
        if sent.bytes.len() > BODY_BYTES_MAX {
            notes.insert("audit.k8s.io/truncated".to_owned(), "true".into());
        } else {
            written = AuditLevel::Request;
            put("requestObject", body.clone());
        }
    }
    put("level", format!("{written:?}").into());
    if let Some(decision) = told.and_then(|told| told.decision.as_ref()) {
        let word = if decision.allowed { "allow" } else { "forbid" };
        notes.insert("authorization.k8s.io/decision".to_owned(), word.into());
        notes.insert("authorization.k8s.io/reason".to_owned(), decision.reason.as_str().into());
    }
    if !notes.is_empty() {
        put("annotations", notes.into());
    }
    Some(event.into())
}

fn is_event(info: &RequestInfo) -> bool {
    info.resource.as_ref().is_some_and(|resource| resource.resource == "events")
}

/// Whether what is asked about is a credential, or may hold one.
fn is_secret(info: &RequestInfo) -> bool {
    info.resource.as_ref().is_some_and(|resource| {
        matches!(resource.resource.as_str(), "secrets" | "configmaps" | "tokenreviews")
            || resource.subresource == "token"
    })
}

/// Whether an object that is, or may hold, a credential stands anywhere in a body.
fn holds_secret(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
            SECRET_KINDS.contains(&kind) || map.values().any(holds_secret)
        }
        Value::Array(list) => list.iter().any(holds_secret),
        _ => false,
    }
}

/// The body as a value; `None` when it is none. Patches are written in JSON or YAML too.
fn read(sent: &Sent) -> Option<Value> {
    let media = match sent.media.as_str() {
        media if media.contains("json") => "application/json",
        media if media.contains("yaml") => "application/yaml",
        media => media,
    };
    codec::decode(&sent.bytes, media).ok().map(|decoded| decoded.value)
}

fn user(user: &User) -> Value {
    let mut value = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        value["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

/// What is asked about. A body that is to become the object says what the path does not.
fn reference(resource: &ResourceInfo, verb: &str, body: Option<&Value>) -> Value {
    let body = body.filter(|_| matches!(verb, "create" | "update"));
    let meta = |name: &str| {
        let text = body.and_then(|body| body.get("metadata")?.get(name)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    let path = |part: &str| decoded(part).unwrap_or_else(|| part.to_owned());
    let name = match path(&resource.name) {
        name if name.is_empty() => meta("name"),
        name => name,
    };
    let fields = [
        ("resource", resource.resource.clone()),
        ("namespace", path(&resource.namespace)),
        ("name", name),
        ("uid", meta("uid")),
        ("apiGroup", resource.group.clone()),
        ("apiVersion", resource.version.clone()),
        ("resourceVersion", meta("resourceVersion")),
        ("subresource", resource.subresource.clone()),
    ];
    let fields = fields.into_iter().filter(|(_, text)| !text.is_empty());
    fields.map(|(name, text)| (name.to_owned(), text.into())).collect::<Map<_, _>>().into()
}

/// How it ended. The words of a refused body may quote it.
fn status(told: &Told, secret: bool) -> Value {
    let mut status = json!({ "metadata": {}, "code": told.code });
    if let Some(said) = &told.said {
        status["status"] = "Failure".into();
        status["reason"] = said.reason.into();
        if !secret && told.code != 400 {
            status["message"] = said.message.as_str().into();
        }
    }
    status
}

/// A path and query without the values of parameters whose names say that they are secret.
fn redacted(uri: &str) -> String {
    let Some((path, query)) = uri.split_once('?') else { return uri.to_owned() };
    let hidden = |pair: &str| {
        let (name, _) = pair.split_once('=')?;
        let plain = decoded(name).unwrap_or_else(|| name.to_owned()).to_lowercase();
        let secret = SECRET_WORDS.iter().any(|word| plain.replace(['-', '_'], "").contains(word));
        secret.then(|| format!("{name}={REDACTED}"))
    };
    let pairs: Vec<String> =
        query.split('&').map(|pair| hidden(pair).unwrap_or_else(|| pair.to_owned())).collect();
    format!("{path}?{}", pairs.join("&"))
}

/// The beginning of a text, marked where it ends early.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mark = "...TRUNCATED";
    let mut end = bytes_max - mark.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}
