//! What there is to ask for: versions, groups, resources, all from the registry.
//!
//! `/api`, `/apis` and a document for each group and version, or everything at once where a client
//! takes the aggregated form (kubectl from 1.26). What is not stored but answered (reviews) stands
//! in [`ANSWERED`]; what is defined while the cluster runs joins in
//! [`resources`].

use std::collections::BTreeMap;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use super::{Api, Failure, negotiate};
use crate::{
    kinds::{ANSWERED, Answered, KindInfo, Subresource},
    state::View,
};

/// One resource as discovery shows it.
struct Resource {
    plural: String,
    singular: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<String>,
    short_names: Vec<String>,
    categories: Vec<String>,
    /// Group, version and kind it is stored as; `None` for what is not stored.
    stored: Option<String>,
    subresources: Vec<Subresource>,
}

/// Resources by group and version.
type Groups = BTreeMap<(String, String), Vec<Resource>>;

fn texts<T: AsRef<str>>(list: &[T]) -> Vec<String> {
    list.iter().map(|text| text.as_ref().to_owned()).collect()
}

/// A kind where it is served at `api_version`.
fn stored(info: &KindInfo, api_version: &str) -> Resource {
    Resource {
        plural: info.plural.to_string(),
        singular: info.singular.to_string(),
        kind: info.kind.to_string(),
        namespaced: info.namespaced,
        verbs: texts(info.verbs()),
        short_names: texts(&info.short_names),
        categories: texts(&info.categories),
        stored: Some(format!("{}/{}", info.api_version, info.kind)),
        subresources: info.subresources(api_version),
    }
}

fn answered(of: &Answered) -> Resource {
    Resource {
        plural: of.plural.to_owned(),
        singular: of.singular.to_owned(),
        kind: of.kind.to_owned(),
        namespaced: of.namespaced,
        verbs: texts(of.verbs),
        short_names: Vec::new(),
        categories: Vec::new(),
        stored: None,
        subresources: Vec::new(),
    }
}

/// Everything that is served now.
fn resources(view: &View) -> Groups {
    let mut groups = Groups::new();
    let key = |group: &str, version: &str| (group.to_owned(), version.to_owned());
    for info in view.kinds().iter() {
        for (group, version, api_version) in info.places() {
            groups.entry(key(group, version)).or_default().push(stored(info, api_version));
        }
    }
    for of in ANSWERED {
        groups.entry(key(of.group, of.version)).or_default().push(answered(of));
    }
    for list in groups.values_mut() {
        list.sort_by(|a, b| a.plural.cmp(&b.plural));
    }
    groups
}

/// Whether anything is served in a group, and in that version of it.
pub(super) fn has_group(view: &View, group: &str) -> bool {
    resources(view).keys().any(|(found, _)| found == group)
}

/// `GET /api`
pub(super) async fn core(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Failure> {
    match negotiate::discovery(&headers, true)? {
        negotiate::Discovery::Aggregated(version) => {
            Ok(aggregated(&headers, version, &resources(&api.view()), |group| group.is_empty()))
        }
        negotiate::Discovery::Plain => Ok(document(
            &headers,
            &json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [],
            }),
        )),
    }
}

/// `GET /apis`
pub(super) async fn groups(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let all = resources(&api.view());
    match negotiate::discovery(&headers, true)? {
        negotiate::Discovery::Aggregated(version) => {
            Ok(aggregated(&headers, version, &all, |group| !group.is_empty()))
        }
        negotiate::Discovery::Plain => {
            let mut names: Vec<&String> = all.keys().map(|(group, _)| group).collect();
            names.dedup();
            let named = names.into_iter().filter(|group| !group.is_empty());
            let list: Vec<Value> = named.map(|name| group_value(&all, name)).collect();
            let body = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list });
            Ok(document(&headers, &body))
        }
    }
}

/// `GET /apis/apps`
pub(super) async fn group(
    State(api): State<Api>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let all = resources(&api.view());
    if name.is_empty() || !all.keys().any(|(group, _)| *group == name) {
        return Ok(no_page());
    }
    negotiate::discovery(&headers, false)?;
    let mut body = group_value(&all, &name);
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Ok(document(&headers, &body))
}

/// `GET /apis/apps/v1`
pub(super) async fn group_version(
    State(api): State<Api>,
    Path((group, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    listed(&api, &headers, &group, &version)
}

/// `GET /api/v1`
pub(super) async fn core_version(
    State(api): State<Api>,
    Path(version): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    listed(&api, &headers, "", &version)
}

fn listed(api: &Api, headers: &HeaderMap, group: &str, version: &str) -> Result<Response, Failure> {
    let all = resources(&api.view());
    let Some(list) = all.get(&(group.to_owned(), version.to_owned())) else {
        return match has_group(&api.view(), group) {
            true => Err(Failure::no_resource()),
            false => Ok(no_page()),
        };
    };
    negotiate::discovery(headers, false)?;
    let group_version = group_version_text(group, version);
    let lines: Vec<Value> = list.iter().flat_map(resource_lines).collect();
    let mut body =
        json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": lines });
    if !group.is_empty() {
        body["apiVersion"] = "v1".into();
    }
    Ok(document(headers, &body))
}

fn group_version_text(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn group_value(all: &Groups, name: &str) -> Value {
    let versions: Vec<Value> = versions_of(all, name)
        .into_iter()
        .map(|v| json!({ "groupVersion": group_version_text(name, v), "version": v }))
        .collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions.first() })
}

/// The versions of a group, the newest stable one first.
fn versions_of<'a>(all: &'a Groups, name: &str) -> Vec<&'a str> {
    let of_group = all.keys().filter(|(group, _)| group == name);
    let mut versions: Vec<&str> = of_group.map(|(_, version)| version.as_str()).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(age(version)));
    versions
}

/// Orders versions: stable ones last, then by number.
fn age(version: &str) -> (u8, u32, u32) {
    let rest = version.strip_prefix('v').unwrap_or(version);
    let (stage, major, minor) = match (rest.split_once("beta"), rest.split_once("alpha")) {
        (Some((major, minor)), _) => (1, major, minor),
        (_, Some((major, minor))) => (0, major, minor),
        _ => (2, rest, ""),
    };
    (stage, major.parse().unwrap_or_default(), minor.parse().unwrap_or_default())
}

fn resource_lines(of: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": of.plural, "singularName": of.singular, "namespaced": of.namespaced,
        "kind": of.kind, "verbs": of.verbs,
    });
    if !of.short_names.is_empty() {
        main["shortNames"] = json!(of.short_names);
    }
    if !of.categories.is_empty() {
        main["categories"] = json!(of.categories);
    }
    if let Some(text) = &of.stored {
        let hash = Sha256::digest(text.as_bytes());
        main["storageVersionHash"] = BASE64_STANDARD.encode(&hash[..8]).into();
    }
    let sub = |sub: &Subresource| {
        let mut line = json!({
            "name": format!("{}/{}", of.plural, sub.name), "singularName": "",
            "namespaced": of.namespaced, "kind": sub.kind, "verbs": sub.verbs,
        });
        if let Some((group, version)) = sub.group_version {
            line["group"] = group.into();
            line["version"] = version.into();
        }
        line
    };
    std::iter::once(main).chain(of.subresources.iter().map(sub)).collect()
}

fn aggregated(
    headers: &HeaderMap,
    version: &'static str,
    all: &Groups,
    wanted: impl Fn(&str) -> bool,
) -> Response {
    let mut names: Vec<&str> = all.keys().map(|(group, _)| group.as_str()).collect();
    names.dedup();
    let items: Vec<Value> = names
        .into_iter()
        .filter(|group| wanted(group))
        .map(|group| {
            let versions = versions_of(all, group).into_iter().map(|version| {
                let key = (group.to_owned(), version.to_owned());
                let list = all.get(&key).into_iter().flatten();
                json!({
                    "version": version,
                    "resources": list.map(aggregated_resource).collect::<Vec<_>>(),
                    "freshness": "Current",
                })
            });
            let mut metadata = json!({});
            if !group.is_empty() {
                metadata["name"] = group.into();
            }
            json!({ "metadata": metadata, "versions": versions.collect::<Vec<_>>() })
        })
        .collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let media =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    tagged(headers, &format!("{body}\n"), &media)
}

/// The kind as the aggregated form names it: group and version only where they differ from the
/// resource's own.
fn aggregated_resource(of: &Resource) -> Value {
    let kind = |kind: &str, at: Option<(&str, &str)>| {
        let (group, version) = at.unwrap_or_default();
        json!({ "group": group, "version": version, "kind": kind })
    };
    let mut value = json!({
        "resource": of.plural,
        "responseKind": kind(&of.kind, None),
        "scope": if of.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": of.singular,
        "verbs": of.verbs,
    });
    if !of.short_names.is_empty() {
        value["shortNames"] = json!(of.short_names);
    }
    if !of.categories.is_empty() {
        value["categories"] = json!(of.categories);
    }
    if !of.subresources.is_empty() {
        let sub = |sub: &Subresource| {
            json!({
                "subresource": sub.name,
                "responseKind": kind(&sub.kind, sub.group_version),
                "verbs": sub.verbs,
            })
        };
        value["subresources"] = of.subresources.iter().map(sub).collect();
    }
    value
}

fn document(headers: &HeaderMap, body: &Value) -> Response {
    tagged(headers, &format!("{body}\n"), "application/json")
}

/// A document with its ETag, or 304 when the asker has it.
pub(super) fn tagged(headers: &HeaderMap, body: &str, media: &str) -> Response {
    let hash = Sha512::digest(body.as_bytes());
    let hex: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    let tag = format!("\"{hex}\"");
    let known =
        headers.get_all(header::IF_NONE_MATCH).iter().any(|v| v.as_bytes() == tag.as_bytes());
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => body.to_owned().into_response(),
    };
    let put = response.headers_mut();
    for (name, value) in [(header::ETAG, tag.as_str()), (header::CONTENT_TYPE, media)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            put.insert(name, value);
        }
    }
    put.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// What Kubernetes says of a path in no group.
pub(super) fn no_page() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::NOT_FOUND, headers, "404 page not found\n").into_response()
}

/// Answers for a path that nobody knows.
pub(super) async fn nothing() -> Response {
    no_page()
}

/// `GET /`: the paths that are not resources, and the groups.
pub(super) async fn paths(State(api): State<Api>, headers: HeaderMap) -> Response {
    let all = resources(&api.view());
    let mut paths: Vec<String> =
        ["/api", "/apis", "/healthz", "/livez", "/metrics", "/readyz", "/version"]
            .map(str::to_owned)
            .into();
    for (group, version) in all.keys() {
        match group.is_empty() {
            true => paths.push(format!("/api/{version}")),
            false => paths.extend([format!("/apis/{group}"), format!("/apis/{group}/{version}")]),
        }
    }
    paths.sort();
    paths.dedup();
    document(&headers, &json!({ "paths": paths }))
}
