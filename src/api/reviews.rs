//! Questions about who somebody is and what they may do, answered without storing anything
//! (authentication.k8s.io and authorization.k8s.io).

use axum::{
    body::Bytes,
    extract::{Extension, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use k8s_openapi::api::{
    authentication::v1::TokenReviewSpec,
    authorization::v1::{NonResourceAttributes, ResourceAttributes, SubjectAccessReviewSpec},
    rbac::v1::PolicyRule,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Api, Failure, ResourceInfo,
    authn::{self, User},
    authz::{self, Target, Wish},
    resources::body,
    tokens::{self, Holder},
};
use crate::{kinds::ANSWERED, model, policy::rbac, state::View};

const AUTHENTICATION: &str = "authentication.k8s.io/v1";
const AUTHORIZATION: &str = "authorization.k8s.io/v1";

/// Answers a question of `authentication.k8s.io/v1`.
pub(super) async fn authentication(
    State(api): State<Api>,
    Path(plural): Path<String>,
    Extension(user): Extension<User>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Failure> {
    let (kind, value) = read(&headers, &bytes, &plural, AUTHENTICATION, false)?;
    let status = match kind {
        "SelfSubjectReview" => json!({ "userInfo": user_info(&user) }),
        _ => token_status(&api, &value).await?,
    };
    Ok(answered(value, status))
}

/// Answers a question of `authorization.k8s.io/v1`.
pub(super) async fn authorization(
    State(api): State<Api>,
    Path(plural): Path<String>,
    Extension(user): Extension<User>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Failure> {
    let (kind, value) = read(&headers, &bytes, &plural, AUTHORIZATION, false)?;
    let status = decided(&api.view(), kind, &user, &value)?;
    Ok(answered(value, status))
}

/// Answers a question about one namespace.
pub(super) async fn local(
    State(api): State<Api>,
    Path((namespace, plural)): Path<(String, String)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Failure> {
    let (kind, value) = read(&headers, &bytes, &plural, AUTHORIZATION, true)?;
    let asked = &value["spec"]["resourceAttributes"]["namespace"];
    if asked.as_str() != Some(namespace.as_str()) {
        let text = format!(
            "{kind}.{AUTHORIZATION} is invalid: spec.resourceAttributes.namespace: Invalid value: \
             {asked}: must match metadata.namespace"
        );
        return Err(Failure::of(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", text));
    }
    let status = decided(&api.view(), kind, &User::default(), &value)?;
    Ok(answered(value, status))
}

/// The kind behind a path, and the body.
fn read(
    headers: &HeaderMap,
    bytes: &Bytes,
    plural: &str,
    api_version: &str,
    namespaced: bool,
) -> Result<(&'static str, Value), Failure> {
    let group = api_version.trim_end_matches("/v1");
    let found = ANSWERED
        .iter()
        .find(|of| of.group == group && of.plural == plural && of.namespaced == namespaced);
    let kind = found.ok_or_else(Failure::no_resource)?.kind;
    let mut value = body::decode(headers, bytes, kind)?;
    body::typed_as(&mut value, api_version, kind)?;
    Ok((kind, value))
}

fn answered(mut value: Value, status: Value) -> Response {
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    value["status"] = status;
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::CREATED, headers, format!("{value}\n")).into_response()
}

/// What a token is good for, without saying why it is not. Who names no audience asks for this API.
async fn token_status(api: &Api, value: &Value) -> Result<Value, Failure> {
    let spec: TokenReviewSpec = typed(&value["spec"], "TokenReview")?;
    if spec.token.is_empty() {
        let text = "token is required for TokenReview in authentication";
        return Err(Failure::bad_request(text));
    }
    let asked = spec.audiences.filter(|asked| !asked.is_empty());
    Ok(match authn::of_token(api, &spec.token, &asked.unwrap_or_else(tokens::own)).await {
        Some(Holder { user, audiences }) => json!({
            "authenticated": true, "user": user_info(&user), "audiences": audiences,
        }),
        None => json!({ "user": {}, "error": "invalid bearer token" }),
    })
}

fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// What is answered to a question of access; `user` asks, and is meant where nobody is named.
fn decided(view: &View, kind: &str, user: &User, value: &Value) -> Result<Value, Failure> {
    if kind == "SelfSubjectRulesReview" {
        let namespace = value["spec"]["namespace"].as_str().unwrap_or_default();
        if namespace.is_empty() {
            return Err(Failure::bad_request("no namespace on request"));
        }
        return Ok(rules(rbac::rules_of(view, user.who(), namespace)));
    }
    let spec: SubjectAccessReviewSpec = typed(&value["spec"], kind)?;
    let named = match kind {
        "SelfSubjectAccessReview" => user.clone(),
        _ => subject(&spec),
    };
    if named.name.is_empty() && named.groups.is_empty() {
        return Err(invalid(
            kind,
            "spec.user",
            "Required value: at least one of user or group must be specified",
        ));
    }
    let allowed = match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(asked), None) => may_resource(view, &named, asked),
        (None, Some(asked)) => may_path(view, &named, asked),
        (Some(_), Some(_)) => {
            let text = "Invalid value: cannot be specified in combination with resourceAttributes";
            return Err(invalid(kind, "spec.nonResourceAttributes", text));
        }
        (None, None) => {
            let text = "Invalid value: exactly one of nonResourceAttributes or resourceAttributes \
                        must be specified";
            return Err(invalid(kind, "spec.resourceAttributes", text));
        }
    };
    Ok(json!({ "allowed": allowed }))
}

fn invalid(kind: &str, field: &str, why: &str) -> Failure {
    let text = format!("{kind}.authorization.k8s.io \"\" is invalid: {field}: {why}");
    Failure::of(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", text)
}

fn typed<T: DeserializeOwned>(value: &Value, kind: &str) -> Result<T, Failure> {
    model::read(value).map_err(|e| {
        Failure::bad_request(format!("{kind} in version \"v1\" cannot be handled as a {kind}: {e}"))
    })
}

fn subject(spec: &SubjectAccessReviewSpec) -> User {
    User {
        name: spec.user.clone().unwrap_or_default(),
        uid: spec.uid.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    }
}

fn may_resource(view: &View, user: &User, asked: &ResourceAttributes) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let resource = ResourceInfo {
        group: text(&asked.group),
        version: text(&asked.version),
        resource: text(&asked.resource),
        subresource: text(&asked.subresource),
        namespace: text(&asked.namespace),
        name: text(&asked.name),
        ..ResourceInfo::default()
    };
    let verb = text(&asked.verb);
    authz::may(view, &Wish { user, verb: &verb, target: Target::Resource(&resource, "") })
}

fn may_path(view: &View, user: &User, asked: &NonResourceAttributes) -> bool {
    let (verb, path) = (asked.verb.as_deref(), asked.path.as_deref().unwrap_or_default());
    let verb = verb.unwrap_or_default();
    authz::may(view, &Wish { user, verb, target: Target::Path(path) })
}

/// Rules as `kubectl auth can-i --list` prints them.
fn rules(all: Vec<PolicyRule>) -> Value {
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in all {
        if rule.non_resource_urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
            paths.push(json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }));
        } else {
            let mut line = json!({
                "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources,
            });
            if let Some(names) = rule.resource_names {
                line["resourceNames"] = json!(names);
            }
            resources.push(line);
        }
    }
    json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Peer,
        model::{Object, RequestId, Timestamp},
        state::{Command, Entry, Expect, Op, Part, State},
    };

    /// A cluster where jane reads pods in `demo`.
    fn cluster() -> State {
        const RBAC: &str = "rbac.authorization.k8s.io/v1";
        let put = |value: Value| {
            let object = Object::from_value(&value).unwrap();
            Op::Put { object, expect: Expect::Absent, part: Part::Main }
        };
        let meta = json!({"name": "reads", "namespace": "demo"});
        let ops = vec![
            put(json!({"apiVersion": RBAC, "kind": "Role", "metadata": meta,
                "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})),
            put(json!({"apiVersion": RBAC, "kind": "RoleBinding", "metadata": meta,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads"},
                "subjects": [{"kind": "User", "name": "jane"}]})),
        ];
        let mut state = State::default();
        let at = Timestamp(1_790_000_000_000);
        state.apply(Entry::new(RequestId(1), at, vec![Command::Write(ops)]));
        state
    }

    fn pods(verb: &str, namespace: &str) -> Value {
        json!({"verb": verb, "resource": "pods", "namespace": namespace})
    }

    #[test]
    fn access_is_answered_for_oneself_and_for_others() {
        let state = cluster();
        let jane = User::of(&Peer { user: "jane".into(), groups: Vec::new() });
        let ask =
            |kind: &str, spec: Value| decided(state.view(), kind, &jane, &json!({"spec": spec}));
        let own = |verb: &str, namespace: &str| {
            let spec = json!({"resourceAttributes": pods(verb, namespace)});
            ask("SelfSubjectAccessReview", spec).unwrap()
        };
        assert_eq!(own("get", "demo"), json!({"allowed": true}));
        assert_eq!(own("list", "demo"), json!({"allowed": false}));
        assert_eq!(own("get", "other"), json!({"allowed": false}));
        let other = json!({"user": "anna", "resourceAttributes": pods("get", "demo")});
        assert_eq!(ask("SubjectAccessReview", other).unwrap(), json!({"allowed": false}));
        let root = json!({"groups": ["system:masters"], "nonResourceAttributes":
            {"verb": "get", "path": "/metrics"}});
        assert_eq!(ask("SubjectAccessReview", root).unwrap(), json!({"allowed": true}));
        let nobody = json!({"resourceAttributes": pods("get", "demo")});
        let nothing = json!({"user": "jane"});
        for bad in [nobody, nothing] {
            let failure = ask("SubjectAccessReview", bad).unwrap_err();
            assert_eq!(failure.code, StatusCode::UNPROCESSABLE_ENTITY);
        }
        let listed = ask("SelfSubjectRulesReview", json!({"namespace": "demo"})).unwrap();
        let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        assert_eq!(listed["resourceRules"], json!([rule]));
        let elsewhere = ask("SelfSubjectRulesReview", json!({"namespace": "other"})).unwrap();
        assert_eq!(elsewhere["resourceRules"], json!([]));
    }
}
