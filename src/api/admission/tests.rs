use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::Peer,
    kinds::{self, Strictness},
    model::{RequestId, Timestamp},
    state::{Command, Entry, Expect, Outcome, Part, State},
};

const NOW: Timestamp = Timestamp(1_790_000_000_000);

/// A cluster that objects are created in one after the other.
struct World {
    state: State,
    entries: u128,
}

impl World {
    fn new() -> Self {
        let mut world = Self { state: State::default(), entries: 0 };
        for value in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": "demo"}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "kube-root-ca.crt", "namespace": "demo"}}),
        ] {
            world.create(value).unwrap();
        }
        world
    }

    fn admit(&self, mut value: Value) -> Result<(Object, Verdict), Failure> {
        let kind = value["kind"].as_str().unwrap();
        let api_version = value["apiVersion"].as_str().unwrap();
        let kind = crate::model::GroupKind::from_api_version(api_version, kind);
        let info = kinds::lookup(&kind).unwrap();
        let namespaced = info.namespaced && value["metadata"]["namespace"].is_null();
        if namespaced {
            value["metadata"]["namespace"] = "demo".into();
        }
        let user = User::of(&Peer { user: "ada".into(), groups: vec!["system:masters".into()] });
        let view = self.state.view();
        let attempt = Attempt { user: &user, view, info, subresource: "", live: None };
        mutate(&attempt, &mut value)?;
        let object = kinds::admit(value, Strictness::Strict).expect("the object is valid").object;
        let verdict = validate(&attempt, &object, false)?;
        Ok((object, verdict))
    }

    fn create(&mut self, value: Value) -> Result<(Object, Vec<String>), Failure> {
        let (object, verdict) = self.admit(value)?;
        assert!(self.write(object.clone(), verdict.charges), "refused by State");
        Ok((object, verdict.warnings))
    }

    fn write(&mut self, object: Object, mut ops: Vec<Op>) -> bool {
        ops.push(Op::Put { object, expect: Expect::Absent, part: Part::Main });
        self.entries += 1;
        let entry = Entry::new(RequestId(self.entries), NOW, vec![Command::Write(ops)]);
        matches!(self.state.apply(entry).remove(0), Outcome::Done(_))
    }
}

/// What Kubernetes 1.37.1 answers to the same documents.
#[test]
fn what_is_refused_is_refused_in_kubernetes_words() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/access");
    let cases = [
        "admission-policy-denies",
        "limitrange-refuses-claim",
        "limitrange-refuses-pod",
        "pod-priority-class-absent",
        "pod-priority-set-by-hand",
        "pod-security-restricted",
        "pod-security-warn",
        "pod-service-account-absent",
        "quota-count-exceeded",
        "quota-pods-exceeded",
    ];
    for name in cases {
        let read = |ending: &str| std::fs::read_to_string(format!("{folder}/{name}.{ending}"));
        let yaml = read("yaml").unwrap();
        let case: Value = serde_json::from_str(&read("json").unwrap()).unwrap();
        let last = case["steps"].as_array().unwrap().last().unwrap();
        let mut world = World::new();
        let documents: Vec<Value> = serde_yaml::Deserializer::from_str(&yaml)
            .map(|document| Value::deserialize(document).unwrap())
            .collect();
        let (wanted, before) = documents.split_last().unwrap();
        for document in before {
            world.create(document.clone()).unwrap();
        }
        match (world.create(wanted.clone()), last["code"].as_u64()) {
            (Ok((_, warnings)), Some(201)) => {
                assert_eq!(json!(warnings), last["warnings"], "{name}")
            }
            (Err(failure), _) => assert_eq!(failure.status(), last["status"], "{name}"),
            (Ok(_), code) => panic!("{name}: admitted, Kubernetes answers {code:?}"),
        }
    }
}

#[test]
fn containers_get_the_defaults_of_their_namespace() {
    let mut world = World::new();
    world
        .create(json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r"},
            "spec": {"limits": [{"type": "Container",
                "default": {"cpu": "500m", "memory": "256Mi"}, "defaultRequest": {"cpu": "100m"}}]},
        }))
        .unwrap();
    let container = |name: &str, resources: Value| json!({"name": name, "image": "web:1", "resources": resources});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "initContainers": [container("init", json!({}))],
            "containers": [
                container("nothing", json!({})),
                container("request", json!({"requests": {"cpu": "200m"}})),
                container("limit", json!({"limits": {"memory": "1Gi"}})),
            ],
        },
    });
    let (object, _) = world.create(pod).unwrap();
    // The words are those Kubernetes 1.37.1 writes for this pod.
    let said = "LimitRanger plugin set: cpu, memory request for container nothing; cpu, memory limit \
                for container nothing; memory request for container request; cpu, memory limit for \
                container request; cpu request for container limit; cpu limit for container limit; \
                cpu, memory request for init container init; cpu, memory limit for init container \
                init";
    assert_eq!(object.annotation("kubernetes.io/limit-ranger"), Some(said));
    let value = object.value();
    let of = |at: usize| value["spec"]["containers"][at]["resources"].clone();
    assert_eq!(of(2)["requests"], json!({"cpu": "100m", "memory": "1Gi"}));
    assert_eq!(of(1)["requests"], json!({"cpu": "200m", "memory": "256Mi"}));
    assert_eq!(value["spec"]["serviceAccountName"], "default");
    assert_eq!(value["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(value["spec"]["priority"], 0);
}

#[test]
fn two_servers_at_once_do_not_spend_a_quota_twice() {
    let mut world = World::new();
    world
        .create(json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
            "spec": {"hard": {"count/secrets": "1"}},
        }))
        .unwrap();
    let secret =
        |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let (one, first) = world.admit(secret("a")).unwrap();
    let (other, second) = world.admit(secret("b")).unwrap();
    assert!(world.write(one, first.charges));
    assert!(!world.write(other, second.charges), "spent twice");
    let failure = world.admit(secret("b")).unwrap_err();
    let text = "secrets \"b\" is forbidden: exceeded quota: q, requested: count/secrets=1, used: \
                count/secrets=1, limited: count/secrets=1";
    assert_eq!(failure.message, text);
}

#[test]
fn a_quota_counts_what_is_in_its_scope() {
    let mut world = World::new();
    world
        .create(json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
            "spec": {"hard": {"pods": "1"}, "scopes": ["BestEffort"]},
        }))
        .unwrap();
    let pod = |name: &str, resources: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "a", "image": "a:1", "resources": resources}]},
        })
    };
    world.create(pod("a", json!({}))).unwrap();
    world.create(pod("b", json!({"requests": {"cpu": "1"}}))).unwrap();
    assert!(world.create(pod("c", json!({}))).is_err());
}

#[test]
fn the_baseline_takes_ordinary_pods_and_no_privileged_ones() {
    let mut world = World::new();
    world
        .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "safe",
            "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}))
        .unwrap();
    world
        .create(json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "safe"}}))
        .unwrap();
    let pod = |spec: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "safe"},
            "spec": spec})
    };
    let plain = json!({"containers": [{"name": "a", "image": "a:1"}]});
    assert!(world.admit(pod(plain)).is_ok());
    let bad = json!({
        "hostPID": true,
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        "containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80, "hostPort": 80}],
            "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN"]}}}],
    });
    let text = "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces \
                (hostPID=true), hostPath volumes (volume \"v\"), hostPort (container \"a\" uses \
                hostPort 80), privileged (container \"a\" must not set \
                securityContext.privileged=true), non-default capabilities (container \"a\" must not \
                include \"SYS_ADMIN\" in securityContext.capabilities.add)";
    assert_eq!(world.admit(pod(bad)).unwrap_err().message, text);
}

#[test]
fn a_node_writes_itself_and_not_its_taints() {
    let state = State::default();
    let user =
        User::of(&Peer { user: "system:node:n1".into(), groups: vec!["system:nodes".into()] });
    let node = |name: &str, labels: Value, taints: Value| {
        let value = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}});
        Object::from_value(&value).unwrap()
    };
    let live = node("n1", json!({}), json!([{"key": "a", "effect": "NoSchedule"}]));
    let info = kinds::lookup(&live.key().kind).unwrap();
    let attempt =
        Attempt { user: &user, view: state.view(), info, subresource: "", live: Some(&live) };
    let same = json!([{"key": "a", "effect": "NoSchedule"}]);
    let judge =
        |object: &Object| validate(&attempt, object, false).map(|_| ()).map_err(|f| f.message);
    assert_eq!(judge(&node("n1", json!({"zone": "a"}), same.clone())), Ok(()));
    let refused = [
        node("n2", json!({}), same.clone()),
        node("n1", json!({}), json!([])),
        node("n1", json!({"node-restriction.kubernetes.io/pci": "1"}), same),
    ];
    for object in refused {
        assert!(judge(&object).is_err(), "{object:?}");
    }
}

/// A policy with these validations, bound to deny (or whatever `bind` makes of it).
fn policy(world: &mut World, spec: Value, bind: impl FnOnce(&mut Value)) {
    let mut whole = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"],
            "resources": ["configmaps"],
        }]}},
    });
    whole["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": ["Deny"]},
    });
    bind(&mut binding["spec"]);
    world.create(whole).unwrap();
    world.create(binding).unwrap();
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

impl World {
    /// What comes of a new object: nothing, warnings, or why it is refused.
    fn told(&self, value: Value) -> String {
        match self.admit(value) {
            Ok((_, verdict)) => verdict.warnings.join("\n"),
            Err(failure) => format!("{} {}", failure.code.as_u16(), failure.message),
        }
    }
}

const DENIED: &str = "422 configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding \
                      'b' denied request: ";

#[test]
fn policies_see_who_writes_what_and_where() {
    let mut world = World::new();
    let validations = json!({
        "matchConditions": [{"name": "data", "expression": "has(object.data)"}],
        "variables": [
            {"name": "size", "expression": "object.data.size()"},
            {"name": "double", "expression": "variables.size * 2"},
        ],
        "validations": [
            {"expression": "variables.double < 4", "messageExpression":
                "request.userInfo.username + ' wrote ' + string(variables.size)"},
            {"expression": "request.operation == 'CREATE' && oldObject == null && request.name == 'a' \
                            && namespaceObject.metadata.name == request.namespace"},
        ],
    });
    policy(&mut world, validations, |_| {});
    assert_eq!(world.told(map("a", json!({"x": "1"}))), "");
    let two = json!({"x": "1", "y": "2"});
    assert_eq!(world.told(map("a", two)), format!("{DENIED}ada wrote 2"));
    let other = world.told(map("b", json!({"x": "1"})));
    assert!(other.contains("denied request: failed expression: request.operation == 'CREATE'"));
    let bare = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}});
    assert_eq!(world.told(bare), "", "no condition is met");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}});
    assert_eq!(world.told(secret), "", "not asked about it");
}

#[test]
fn a_policy_that_fails_refuses_unless_it_says_otherwise() {
    for (policy_of, told) in [
        (
            "Fail",
            format!("{DENIED}expression 'object.data.z == '1'' resulted in error: no such key: z"),
        ),
        ("Ignore", String::new()),
    ] {
        let mut world = World::new();
        let spec = json!({
            "failurePolicy": policy_of,
            "validations": [{"expression": "object.data.z == '1'"}],
        });
        policy(&mut world, spec, |_| {});
        assert_eq!(world.told(map("a", json!({"x": "1"}))), told);
    }
}

#[test]
fn bindings_warn_select_and_bring_parameters() {
    let mut world = World::new();
    world.create(map("limits", json!({"most": "1"}))).unwrap();
    let spec = || {
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [{"expression": "object.data.size() <= int(params.data.most)",
                "message": "too much", "reason": "Forbidden"}],
        })
    };
    policy(&mut world, spec(), |binding| {
        binding["paramRef"] = json!({"name": "limits", "parameterNotFoundAction": "Deny"});
    });
    let two = || json!({"x": "1", "y": "2"});
    assert_eq!(world.told(map("a", two())), DENIED.replace("422", "403") + "too much");
    let mut absent = World::new();
    policy(&mut absent, spec(), |binding| {
        binding["paramRef"] = json!({"name": "limits", "parameterNotFoundAction": "Deny"});
    });
    assert!(absent.told(map("a", two())).contains("no params found for policy binding"));
    let mut warns = World::new();
    let plain = json!({"validations": [{"expression": "false", "message": "no"}]});
    policy(&mut warns, plain, |binding| {
        binding["validationActions"] = json!(["Warn"]);
        binding["matchResources"] = json!({"objectSelector": {"matchLabels": {"a": "b"}}});
    });
    assert_eq!(warns.told(map("a", two())), "", "it has no such label");
    let mut labelled = map("a", two());
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let text = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no";
    assert_eq!(warns.told(labelled), text);
}

/// Changes and deletions are asked about, and policies are not asked about themselves.
#[test]
fn policies_are_asked_of_what_changes_and_goes() {
    let mut world = World::new();
    let (live, _) = world.create(map("a", json!({"x": "1"}))).unwrap();
    let spec = json!({
        "matchConstraints": {"resourceRules": [{
            "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"],
        }]},
        "validations": [{"expression": "request.operation == 'UPDATE' ? object.data == oldObject.data \
                                        : false", "message": "stays"}],
    });
    policy(&mut world, spec, |_| {});
    let user = User::of(&Peer { user: "ada".into(), groups: vec![] });
    let (view, info) = (world.state.view(), kinds::lookup(&live.key().kind).unwrap());
    let attempt = Attempt { user: &user, view, info, subresource: "", live: Some(&live) };
    assert!(validate(&attempt, &live, false).is_ok());
    let changed = Object::from_value(&{
        let mut value = live.value();
        value["data"]["x"] = "2".into();
        value
    });
    let failure = validate(&attempt, &changed.unwrap(), false).unwrap_err();
    assert_eq!(failure.message, format!("{}stays", &DENIED[4..]));
    assert!(validate_deletion(&attempt, false).is_err());
    let another = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "c"},
        "spec": {"policyName": "p", "validationActions": ["Deny"]},
    });
    assert_eq!(world.told(another), "");
}
