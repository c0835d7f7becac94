use axum::http::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::{
    kinds,
    model::{Object, RequestId, Timestamp},
    state::{Command, Entry, Expect, Op, Part, State},
};

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// A cluster with these objects.
fn with(objects: &[Value]) -> State {
    let put = |value: &Value| {
        let object = Object::from_value(value).unwrap();
        Op::Put { object, expect: Expect::Absent, part: Part::Main }
    };
    let mut state = State::default();
    let command = Command::Write(objects.iter().map(put).collect());
    let outcome = state.apply(Entry::new(RequestId(1), NOW, vec![command])).remove(0);
    assert!(matches!(outcome, crate::state::Outcome::Done(_)), "{outcome:?}");
    state
}

fn role(name: &str, rules: Value) -> Value {
    json!({"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules})
}

fn binding(namespace: &str, name: &str, role: &str, subject: Value) -> Value {
    let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    let mut value = json!({
        "apiVersion": RBAC, "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    });
    if !namespace.is_empty() {
        value["metadata"]["namespace"] = namespace.into();
    }
    value
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

fn known(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    User::of(&crate::api::Peer { user: name.to_owned(), groups })
}

/// What is answered to `METHOD path`.
fn ask(state: &State, user: &User, method: &str, target: &str) -> Result<(), String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let info = RequestInfo::of(method, path, query);
    judge(state.view(), user, &info, query).map_err(|failure| {
        assert_eq!(failure.code, StatusCode::FORBIDDEN);
        failure.message
    })
}

#[test]
fn a_rule_grants_what_it_names_and_nothing_beside() {
    let reads = json!([
        {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["*/scale"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["*"]},
        {"nonResourceURLs": ["/metrics", "/mainstay/v1/*"], "verbs": ["get"]},
    ]);
    let state = with(&[
        role("reader", reads),
        binding("demo", "jane", "reader", user("jane")),
        binding("", "ops", "reader", json!({"kind": "Group", "name": "ops"})),
        binding(
            "demo",
            "bot",
            "reader",
            json!({"kind": "ServiceAccount", "name": "bot", "namespace": "demo"}),
        ),
    ]);
    let (jane, op) = (known("jane", &[]), known("olga", &["ops"]));
    let bot = known("system:serviceaccount:demo:bot", &[]);
    let allowed = [
        (&jane, "GET", "/api/v1/namespaces/demo/pods"),
        (&jane, "GET", "/api/v1/namespaces/demo/pods/web/log"),
        (&jane, "PUT", "/apis/apps/v1/namespaces/demo/deployments/web/scale"),
        (&jane, "DELETE", "/api/v1/namespaces/demo/configmaps/a"),
        (&op, "GET", "/api/v1/pods"),
        (&op, "GET", "/metrics"),
        (&op, "GET", "/mainstay/v1/status"),
        (&bot, "GET", "/api/v1/namespaces/demo/pods/web"),
        (&jane, "GET", "/healthz/log"),
    ];
    for (user, method, path) in allowed {
        assert_eq!(ask(&state, user, method, path), Ok(()), "{} {method} {path}", user.name);
    }
    let refused = [
        (&jane, "GET", "/api/v1/namespaces/other/pods"),
        (&jane, "GET", "/api/v1/pods"),
        (&jane, "GET", "/api/v1/namespaces/demo/pods?watch=1"),
        (&jane, "POST", "/api/v1/namespaces/demo/pods/web/exec"),
        (&jane, "PUT", "/apis/apps/v1/namespaces/demo/deployments/web"),
        (&jane, "GET", "/api/v1/namespaces/demo/configmaps"),
        (&jane, "DELETE", "/api/v1/namespaces/demo/configmaps/%62"),
        (&jane, "GET", "/metrics"),
        (&op, "POST", "/mainstay/v1/rollback"),
        (&bot, "GET", "/api/v1/namespaces/other/pods/web"),
        (&known("anna", &[]), "GET", "/api/v1/namespaces/demo/pods"),
    ];
    for (user, method, path) in refused {
        assert!(ask(&state, user, method, path).is_err(), "{} {method} {path}", user.name);
    }
    let decoded = ask(&state, &jane, "DELETE", "/api/v1/namespaces/demo/configmaps/%61");
    assert_eq!(decoded, Ok(()), "a name is judged as it is meant");
}

/// What Kubernetes 1.37.1 answers to the same requests.
#[test]
fn a_refusal_is_worded_as_kubernetes_words_it() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/access");
    let (mut seen, state) = (0, with(&[]));
    for name in [
        "forbidden-create",
        "forbidden-get-named",
        "forbidden-list-cluster-wide",
        "forbidden-non-resource",
        "forbidden-subresource",
    ] {
        let text = std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap();
        let case: Value = serde_json::from_str(&text).unwrap();
        let step = case["steps"].as_array().unwrap().last().unwrap();
        let who = known(step["impersonateUser"].as_str().unwrap(), &[]);
        let text = |field: &str| step[field].as_str().unwrap();
        let info = RequestInfo::of(text("method"), text("path"), text("query"));
        let failure = judge(state.view(), &who, &info, "").unwrap_err();
        let mut answer = failure.status();
        if answer["details"].is_null() {
            answer["details"] = json!({});
        }
        assert_eq!(answer, step["status"], "{name}");
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn a_node_reads_what_its_own_pods_need_and_writes_itself() {
    let pod = |name: &str, node: &str, secret: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "demo"},
            "spec": {
                "nodeName": node, "serviceAccountName": name,
                "containers": [{"name": "a", "image": "a:1",
                    "envFrom": [{"configMapRef": {"name": secret}}]}],
                "volumes": [{"name": "s", "secret": {"secretName": secret}}],
            },
        })
    };
    let state = with(&[pod("mine", "n1", "mine"), pod("yours", "n2", "yours")]);
    let node = known("system:node:n1", &["system:nodes"]);
    let both = [
        ("GET", "/api/v1/namespaces/demo/secrets/"),
        ("GET", "/api/v1/namespaces/demo/configmaps/"),
        ("GET", "/api/v1/namespaces/demo/pods/"),
        ("POST", "/api/v1/namespaces/demo/serviceaccounts/"),
    ];
    for (method, path) in both {
        let token = if method == "POST" { "/token" } else { "" };
        assert_eq!(ask(&state, &node, method, &format!("{path}mine{token}")), Ok(()));
        assert!(ask(&state, &node, method, &format!("{path}yours{token}")).is_err(), "{path}");
    }
    let allowed = [
        ("PATCH", "/api/v1/nodes/n1/status"),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"),
        ("GET", "/api/v1/services?watch=1"),
    ];
    for (method, path) in allowed {
        assert_eq!(ask(&state, &node, method, path), Ok(()), "{method} {path}");
    }
    let refused = [
        ("PATCH", "/api/v1/nodes/n2/status"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2"),
        ("GET", "/api/v1/namespaces/demo/secrets"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2"),
        ("GET", "/mainstay/v1/status"),
    ];
    for (method, path) in refused {
        assert!(ask(&state, &node, method, path).is_err(), "{method} {path}");
    }
    let named_alike = known("system:node:n1", &[]);
    assert!(ask(&state, &named_alike, "PATCH", "/api/v1/nodes/n1/status").is_err(), "no node");
}

#[test]
fn nobody_gives_what_they_do_not_have() {
    let state = with(&[
        role(
            "pods",
            json!([
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
            ]),
        ),
        role(
            "binder",
            json!([{
                "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
                "resourceNames": ["root"], "verbs": ["bind"],
            }]),
        ),
        role("root", json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])),
        binding("", "jane", "pods", user("jane")),
        binding("", "bob", "binder", user("bob")),
    ]);
    let grant = |who: &User, value: Value| {
        let object = Object::from_value(&value).unwrap();
        let info = kinds::lookup(&object.key().kind).unwrap();
        may_grant(state.view(), who, info, &object).map_err(|failure| failure.message)
    };
    let (jane, bob) = (known("jane", &["dev"]), known("bob", &[]));
    let less = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    assert_eq!(grant(&jane, role("less", less)), Ok(()));
    let more = json!([{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get"]}]);
    let expected = "clusterroles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" \
         (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not \
         currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}";
    assert_eq!(grant(&jane, role("more", more.clone())), Err(expected.to_owned()));
    assert_eq!(grant(&known("x", &["system:masters"]), role("more", more)), Ok(()));
    assert_eq!(grant(&jane, binding("", "b", "pods", user("anna"))), Ok(()));
    assert!(grant(&jane, binding("", "b", "root", user("jane"))).is_err());
    assert_eq!(grant(&bob, binding("", "b", "root", user("bob"))), Ok(()), "may bind");
    let mut all = role("all", Value::Null);
    all["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    assert!(grant(&jane, all).is_err(), "what is selected later");
}

#[test]
fn who_is_seen_as_another_must_be_allowed_to() {
    let rules = json!([{"apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"],
        "verbs": ["impersonate"]}]);
    let state = with(&[role("seen", rules), binding("", "ada", "seen", user("ada"))]);
    let (ada, jane) = (known("ada", &[]), known("jane", &[]));
    assert_eq!(may_be(state.view(), &ada, &jane), Ok(()));
    for wanted in [known("root", &[]), known("jane", &["system:masters"])] {
        let failure = may_be(state.view(), &ada, &wanted).unwrap_err();
        assert_eq!(failure.code, StatusCode::FORBIDDEN, "{wanted:?}");
    }
    assert_eq!(may_be(state.view(), &known("x", &["system:masters"]), &jane), Ok(()));
}

#[test]
fn what_is_allowed_says_by_which_binding() {
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let account = json!({"kind": "ServiceAccount", "namespace": "b", "name": "x"});
    let state = with(&[
        role("read", rules),
        binding("", "all", "read", user("jane")),
        binding("a", "some", "read", account),
    ]);
    let of =
        |user: &User, path: &str| reason(state.view(), user, &RequestInfo::of("GET", path, ""));
    let path = "/api/v1/namespaces/a/pods/p";
    assert_eq!(
        of(&known("jane", &[]), path),
        r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "read" to User "jane""#
    );
    assert_eq!(
        of(&known("system:serviceaccount:b:x", &[]), path),
        r#"RBAC: allowed by RoleBinding "some/a" of ClusterRole "read" to ServiceAccount "x/b""#
    );
    assert_eq!(of(&known("joe", &[]), path), "");
    assert_eq!(of(&known("ada", &["system:masters"]), path), "");
}
