//! What a request asks for, read from its method, path and query: the words in which access is
//! decided, written down and counted
//! (kubernetes.io/docs/reference/access-authn-authz/authorization).

use axum::http::Request;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the HTTP
    /// method in lower case for a path that is no resource.
    pub verb: &'static str,
    /// The path as it was asked.
    pub path: String,
    /// The resource; `None` for `/version`, `/apis`, `/openapi/v3` and the like.
    pub resource: Option<ResourceInfo>,
}

/// The resource of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceInfo {
    /// `apps`; empty for the core group.
    pub group: String,
    /// `v1`
    pub version: String,
    /// `deployments`
    pub resource: String,
    /// `status`, `log`; empty for the object itself.
    pub subresource: String,
    /// What follows the subresource in a path that goes on (`pods/x/proxy/metrics/all`).
    pub rest: String,
    /// Empty for cluster-scoped resources, and for lists over all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
}

/// Subresources of a namespace; another word in their place is a resource in that namespace.
const OF_NAMESPACE: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads what an HTTP request asks for.
    pub(super) fn read<B>(request: &Request<B>) -> Self {
        let (method, uri) = (request.method().as_str(), request.uri());
        Self::of(method, uri.path(), uri.query().unwrap_or_default())
    }

    /// Reads a request. `query` is the raw query string; it tells a watch from a list.
    pub fn of(method: &str, path: &str, query: &str) -> Self {
        let resource = resource(path);
        let verb = match &resource {
            Some((resource, old_watch)) => verb(method, resource, query, *old_watch),
            None => plain_verb(method),
        };
        Self { verb, path: path.to_owned(), resource: resource.map(|(resource, _)| resource) }
    }
}

/// The request at the path without its last slash: `/version/` is what `/version` is. What a pod or
/// a service is asked through a proxy is its own affair.
pub(super) fn without_last_slash<B>(mut request: Request<B>) -> Request<B> {
    let path = request.uri().path();
    let proxied = resource(path).is_some_and(|(resource, _)| resource.subresource == "proxy");
    let Some(bare) = path.strip_suffix('/').filter(|bare| !bare.is_empty() && !proxied) else {
        return request;
    };
    let bare = match request.uri().query() {
        Some(query) => format!("{bare}?{query}"),
        None => bare.to_owned(),
    };
    if let Ok(uri) = bare.parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// The resource a path names, and whether it is of the old form `/api/v1/watch/…`.
fn resource(path: &str) -> Option<(ResourceInfo, bool)> {
    let mut words = path.trim_matches('/').split('/').peekable();
    let group = match words.next()? {
        "api" => "",
        "apis" => words.next()?,
        _ => return None,
    };
    let version = words.next()?;
    let old_watch = words.next_if_eq(&"watch").is_some();
    let mut rest: Vec<&str> = words.collect();
    let mut namespace = "";
    // `/namespaces/x` and its subresources are the Namespace; anything further is inside it.
    if rest.first() == Some(&"namespaces") && rest.len() > 2 && !OF_NAMESPACE.contains(&rest[2]) {
        namespace = rest[1];
        rest.drain(..2);
    } else if rest.first() == Some(&"namespaces") && rest.len() >= 2 {
        namespace = rest[1];
    }
    let resource = rest.first().filter(|word| !word.is_empty())?;
    let at = |n: usize| rest.get(n).copied().unwrap_or_default().to_owned();
    let info = ResourceInfo {
        group: group.to_owned(),
        version: version.to_owned(),
        resource: (*resource).to_owned(),
        subresource: at(2),
        rest: rest.get(3..).unwrap_or_default().join("/"),
        namespace: namespace.to_owned(),
        name: at(1),
    };
    Some((info, old_watch))
}

fn verb(method: &str, resource: &ResourceInfo, query: &str, old_watch: bool) -> &'static str {
    let collection = resource.name.is_empty();
    match method {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if collection => "deletecollection",
        "DELETE" => "delete",
        "GET" | "HEAD" if old_watch || (collection && asks_to_watch(query)) => "watch",
        "GET" | "HEAD" if collection => "list",
        "GET" | "HEAD" => "get",
        _ => plain_verb(method),
    }
}

/// `watch=true` or `watch=1`, as Go's ParseBool reads it.
fn asks_to_watch(query: &str) -> bool {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("watch="));
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

fn plain_verb(method: &str) -> &'static str {
    match method {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(method: &str, target: &str, expected: Expect) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let info = RequestInfo::of(method, path, query);
        let text = match &info.resource {
            None => format!("{} {}", info.verb, info.path),
            Some(r) => format!(
                "{} {}/{} {} sub={} rest={} ns={} name={}",
                info.verb,
                r.group,
                r.version,
                r.resource,
                r.subresource,
                r.rest,
                r.namespace,
                r.name
            ),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn a_path_says_what_is_asked_for() {
        check("GET", "/version", expect!["get /version"]);
        check("GET", "/apis/apps/v1", expect!["get /apis/apps/v1"]);
        check("GET", "/api/v1/pods?watch=1", expect!["watch /v1 pods sub= rest= ns= name="]);
        check(
            "GET",
            "/api/v1/namespaces/a/pods/p/log?follow=true",
            expect!["get /v1 pods sub=log rest= ns=a name=p"],
        );
        check(
            "POST",
            "/api/v1/namespaces/a/services/http:s:80/proxy/b/c",
            expect!["create /v1 services sub=proxy rest=b/c ns=a name=http:s:80"],
        );
        check(
            "PUT",
            "/api/v1/namespaces/a/finalize",
            expect!["update /v1 namespaces sub=finalize rest= ns=a name=a"],
        );
        check(
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments",
            expect!["deletecollection apps/v1 deployments sub= rest= ns=a name="],
        );
        check(
            "GET",
            "/api/v1/watch/namespaces/a/pods",
            expect!["watch /v1 pods sub= rest= ns=a name="],
        );
        check("GET", "/api/v1/namespaces", expect!["list /v1 namespaces sub= rest= ns= name="]);
    }
}
