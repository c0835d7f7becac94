//! Objects over HTTP: everything below `/api/…` and `/apis/…` that names a resource.
//!
//! In: a request that [`authz`](super::authz) let in, with its [`User`]. Out: Kubernetes' answer.
//! [`serve`] reads what is asked into an [`Ask`] and hands it to one file a verb: [`read`] (get,
//! list), [`watch`], [`mod@write`] (create, update, patch), [`delete`], [`sub`] (what lies below an
//! object). Reads come from a View, writes become commands that [`propose`] brings into the log or,
//! for a dry run, applies to a State that is thrown away. Never here: changing State, deciding what
//! a controller decides, waiting without a deadline.
//!
//! Where the neighbours plug in:
//!
//! | who | where |
//! |---|---|
//! | authorization | [`authorize`](super::authz::authorize), a layer before this |
//! | admission | [`write::prepare`]: on the value before it is decoded, on the object after it is validated |
//! | request bodies | [`body::decode`]: bytes and media type to a JSON value |
//! | patches | [`patching`]: a live value and a patch to the value that is wanted |
//! | who owns which fields | [`books`]: managedFields, before an object is stored |
//! | tables | [`kinds::table`](crate::kinds::table): columns and cells of a kind |
//! | streams | [`streams::serve`], before a body is read |
//! | tokens | [`token::create`]: what a token says is decided in [`tokens`](super::tokens) |
//! | who may write where, and which way | [`door::judge`], pure |
//! | writes that become commits | [`commit`]: what is wanted of the repository |
//!
//! Lists and watches send the bytes State keeps. So an item of a list carries its `kind` and
//! `apiVersion`, which Kubernetes leaves out: clients fill them in from the list when they are
//! absent and read them when they are there, and nothing has to be parsed to take them away.

mod answer;
mod approval;
pub(in crate::api) mod body;
mod books;
mod budget;
mod commit;
mod component;
mod delete;
mod door;
mod fields;
mod list;
mod options;
mod patching;
mod propose;
mod read;
mod running;
mod sub;
mod table;
mod token;
mod watch;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, Method, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};

use serde_json::Value;
use smol_str::SmolStr;

pub(in crate::api) use commit::wished;
pub use commit::{Draft, Uncommitted, Wish};
pub use door::Writes;
pub(in crate::api) use options::Query;
pub(in crate::api) use watch::Lines;

use super::{
    Api, BODY_BYTES_MAX, Failure, RequestInfo, ResourceInfo, User, audit::Record, authn, discovery,
    streams,
};
use crate::{
    kinds::KindInfo,
    model::{Key, Object},
    state::View,
};

/// Groups of which nothing is stored; who knows the answers has routes of their own.
const OF_OTHERS: [&str; 3] = ["authentication.k8s.io", "authorization.k8s.io", "metrics.k8s.io"];

/// One request for a resource, read.
pub(in crate::api) struct Ask {
    pub(in crate::api) user: User,
    pub(in crate::api) verb: &'static str,
    pub(in crate::api) resource: ResourceInfo,
    pub(in crate::api) info: Arc<KindInfo>,
    /// `apps/v1`, as the path has it: a kind may be served at others than the one it is stored at.
    pub(in crate::api) api_version: SmolStr,
    pub(in crate::api) query: Query,
    pub(in crate::api) headers: HeaderMap,
    pub(in crate::api) body: Bytes,
    opener: answer::Opener,
}

impl Ask {
    /// The object that is asked for.
    pub(in crate::api) fn key(&self) -> Key {
        Key::new(self.info.group_kind(), self.namespace().unwrap_or_default(), &self.resource.name)
    }

    /// The namespace of the path; `None` for cluster-scoped kinds and lists over all namespaces.
    pub(in crate::api) fn namespace(&self) -> Option<&str> {
        let namespace = self.resource.namespace.as_str();
        (self.info.namespaced && !namespace.is_empty()).then_some(namespace)
    }

    /// An object as it is shown where it is asked for.
    fn shown(&self, object: &Object) -> Value {
        self.info.served_at(&self.api_version, object.value())
    }

    /// Whether the asker is content with what this server knows, however old.
    fn takes_any(&self) -> bool {
        self.query.get("resourceVersion") == Some("0")
    }
}

/// Whether a request is for a resource that [`serve`] answers.
pub(in crate::api) fn is_stored(info: &RequestInfo) -> bool {
    info.resource.as_ref().is_some_and(|of| !OF_OTHERS.contains(&of.group.as_str()))
}

/// Answers a request for a resource.
pub(in crate::api) async fn serve(api: &Api, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match answer(api, parts, body).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn answer(api: &Api, parts: Parts, body: Body) -> Result<Response, Failure> {
    let query = Query::of(&parts.uri)?;
    let asked = parts.extensions.get::<Arc<RequestInfo>>().cloned();
    let asked = asked.ok_or_else(authn::unauthorized)?;
    let Some(mut resource) = asked.resource.clone() else { return Ok(discovery::no_page()) };
    for part in [&mut resource.name, &mut resource.namespace] {
        *part = decoded(part).ok_or_else(|| Failure::bad_request("the path is not UTF-8"))?;
    }
    let user = parts.extensions.get::<User>().cloned().ok_or_else(authn::unauthorized)?;
    if streams::is_stream(&resource) {
        return streams::serve(api, &resource, Request::from_parts(parts, body)).await;
    }
    let found = find(&api.view(), &mut resource);
    let Some((info, api_version)) = found else {
        return match discovery::has_group(&api.view(), &resource.group) {
            true => Err(Failure::no_resource()),
            false => Ok(discovery::no_page()),
        };
    };
    fits(&info, &api_version, &resource, asked.verb, &parts.method)?;
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| too_large())?;
    if let Some(record) = parts.extensions.get::<Arc<Record>>() {
        record.keep(&parts.headers, &body);
    }
    let (verb, headers) = (asked.verb, parts.headers);
    let opener = answer::Opener(api.backend.clone());
    let ask = Ask { user, verb, resource, info, api_version, query, headers, body, opener };
    if !ask.takes_any() {
        api.backend.barrier().await?;
    }
    let answer = told(api, &ask).await;
    let Some(warning) = ask.info.deprecation() else { return answer };
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    answer::add_warning(&mut response, warning);
    Ok(response)
}

/// Answers what was read, by verb.
async fn told(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    if ask.info.is_found_out() {
        return component::serve(api, ask);
    }
    match (ask.resource.subresource.as_str(), ask.verb) {
        ("", "get") => read::get(api, ask).await,
        ("", "list") => list::list(api, ask).await,
        ("", "watch") => watch::watch(api, ask).await,
        ("", "create") => write::create(api, ask).await,
        ("", "update") => write::update(api, ask).await,
        ("", "patch") => write::patch(api, ask).await,
        ("", "delete") => delete::one(api, ask).await,
        ("", "deletecollection") => delete::collection(api, ask).await,
        _ => sub::serve(api, ask).await,
    }
}

fn too_large() -> Failure {
    let text = format!("the body is larger than {BODY_BYTES_MAX} bytes");
    Failure::of(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", text)
}

/// The kind behind a path, and the group and version it is asked for at.
/// `POST /api/v1/namespaces/x/bindings` names the pod in its body.
fn find(view: &View, resource: &mut ResourceInfo) -> Option<(Arc<KindInfo>, SmolStr)> {
    if (resource.group.as_str(), resource.resource.as_str()) == ("", "bindings") {
        resource.resource = "pods".to_owned();
        resource.subresource = "binding".to_owned();
    }
    let api_version = match resource.group.as_str() {
        "" => resource.version.clone(),
        group => format!("{group}/{}", resource.version),
    };
    let (info, _) = view.kinds().served_resource(&api_version, &resource.resource)?;
    Some((info.clone(), api_version.into()))
}

/// Whether the path has the shape the kind has, and the method fits the path.
fn fits(
    info: &KindInfo,
    api_version: &str,
    resource: &ResourceInfo,
    verb: &str,
    method: &Method,
) -> Result<(), Failure> {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str());
    let inside = !resource.namespace.is_empty() && resource.resource != "namespaces";
    let named = !resource.name.is_empty();
    let sub = resource.subresource.as_str();
    if inside != info.namespaced && (inside || named) {
        return Err(Failure::no_resource());
    }
    let allowed: &[&str] = match sub {
        "" => info.verbs(),
        sub => info.subresource(api_version, sub).ok_or_else(Failure::no_resource)?.verbs,
    };
    let on_collection = matches!(verb, "list" | "create" | "deletecollection");
    let misplaced = sub.is_empty()
        && (named == on_collection && verb != "watch"
            || verb == "create" && info.namespaced && !inside);
    if !known || !allowed.contains(&verb) || misplaced {
        return Err(Failure::no_method());
    }
    Ok(())
}

/// A part of a path without its percent signs; `None` when it is not UTF-8.
pub(in crate::api) fn decoded(part: &str) -> Option<String> {
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = part.get(at + 1..at + 3).filter(|_| byte == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}
