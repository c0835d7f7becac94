//! Programs in pods that ask the API: by name, by address, with the token they were given. The
//! server has no agent on its node, so the way to it leads out of the pods' network.

use serde_json::{Value, json};

use crate::{
    kubectl::{self, Kubectl, Protocol},
    world::{CALM, NAMESPACE, World, until},
};

/// Where a pod finds its token.
const FILES: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn of(kind: &str, group: &str, name: &str, rest: Value) -> String {
    let mut value = rest;
    value["apiVersion"] = group.into();
    value["kind"] = kind.into();
    value["metadata"] = json!({ "name": name, "namespace": "shop" });
    value.to_string()
}

fn pod_spec(account: &str, more: Value) -> Value {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1, "serviceAccountName": account,
        "containers": [{
            "name": "c", "image": kubectl::IMAGE, "imagePullPolicy": "Never",
            "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done"],
        }],
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

fn files() -> Vec<(&'static str, String)> {
    let rbac = "rbac.authorization.k8s.io";
    let labels = json!({ "app": "reader" });
    vec![
        ("ns.json", NAMESPACE.to_owned()),
        ("map.json", of("ConfigMap", "v1", "settings", json!({ "data": { "colour": "green" } }))),
        ("account.json", of("ServiceAccount", "v1", "reader", json!({}))),
        (
            "silent.json",
            of("ServiceAccount", "v1", "silent", json!({ "automountServiceAccountToken": false })),
        ),
        (
            "role.json",
            of(
                "Role",
                &format!("{rbac}/v1"),
                "reads",
                json!({ "rules": [
                { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"] },
            ] }),
            ),
        ),
        (
            "binding.json",
            of(
                "RoleBinding",
                &format!("{rbac}/v1"),
                "reads",
                json!({
                    "roleRef": { "apiGroup": rbac, "kind": "Role", "name": "reads" },
                    "subjects": [
                        { "kind": "ServiceAccount", "name": "reader", "namespace": "shop" },
                    ],
                }),
            ),
        ),
        (
            "reader.json",
            of(
                "Deployment",
                "apps/v1",
                "reader",
                json!({ "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": pod_spec("reader", json!({})),
                },
            } }),
            ),
        ),
        ("plain.json", of("Pod", "v1", "plain", json!({ "spec": pod_spec("default", json!({})) }))),
        (
            "silent-pod.json",
            of("Pod", "v1", "silent", json!({ "spec": pod_spec("silent", json!({})) })),
        ),
        (
            "nobody.json",
            of(
                "Pod",
                "v1",
                "nobody",
                json!({ "spec": pod_spec("reader", json!({
                "securityContext": { "runAsUser": 1234, "fsGroup": 2000 },
                "volumes": [{ "name": "work", "emptyDir": {} }],
            })) }),
            ),
        ),
    ]
}

#[test]
fn a_program_in_a_pod_asks_the_api_as_its_account() {
    let test = "a_program_in_a_pod_asks_the_api_as_its_account";
    if let Some(missing) = kubectl::missing() {
        return eprintln!("skipped {test}: {missing}");
    }
    let Some(w) = World::up(test, 2) else { return };
    kubectl::load_image(&w, 2);
    w.servers(1, CALM);
    w.agents(&[2]);
    let k = Kubectl::new(&w, 1);
    let files = files();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    w.healthy(1, &w.push(&files, "pods"));

    let sh = |pod: &str, script: &str| {
        let said = k.run(&w, Protocol::WebSocket, &["exec", pod, "--", "/bin/sh", "-c", script]);
        assert_eq!(said.code, 0, "{pod}: {script}: {}{}\n{}", said.out, said.err, w.talk(2));
        said.out
    };
    let maps = "/api/v1/namespaces/shop/configmaps";
    let ask = |host: &str, token: &str| {
        format!(
            "curl -sS --max-time 20 --cacert {FILES}/ca.crt -H \"Authorization: Bearer {token}\" \
             https://{host}{maps}"
        )
    };
    let token = format!("$(cat {FILES}/token)");
    let address = "$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT_HTTPS";

    for host in ["kubernetes.default.svc", "kubernetes.default", address] {
        let list: Value = serde_json::from_str(&sh("deploy/reader", &ask(host, &token))).unwrap();
        let found = list["items"].as_array().unwrap();
        let settings = found.iter().find(|map| map["metadata"]["name"] == "settings").unwrap();
        assert_eq!(settings["data"]["colour"], "green", "by {host}");
    }
    let refused: Value =
        serde_json::from_str(&sh("plain", &ask("kubernetes.default.svc", &token))).unwrap();
    assert_eq!((&refused["code"], &refused["reason"]), (&json!(403), &json!("Forbidden")));
    let who = "User \"system:serviceaccount:shop:default\" cannot list resource \"configmaps\"";
    assert!(refused["message"].as_str().unwrap().contains(who), "{refused}");
    let stranger = ask("kubernetes.default.svc", "x.y.z");
    let refused: Value = serde_json::from_str(&sh("plain", &stranger)).unwrap();
    assert_eq!(refused["code"], 401, "{refused}");

    assert_eq!(sh("plain", &format!("cat {FILES}/namespace")), "shop");
    assert_eq!(sh("plain", &format!("stat -c %a {FILES}/..data/token")), "644\n");
    sh("silent", &format!("[ ! -e {FILES} ]"));
    // The group of the pod reads the token and writes into its directories, and nobody else.
    let owner = sh("nobody", &format!("stat -c '%a %u %g' {FILES}/..data/token"));
    assert_eq!(owner, "640 1234 2000\n");
    let list = sh("nobody", &ask("kubernetes.default.svc", &token));
    assert!(list.contains("\"colour\":\"green\""), "{list}");

    what_is_used_is_told(&w, &k);
    tokens_end_with_their_pod(&w, &k, &sh("plain", &format!("cat {FILES}/token")));
}

/// `kubectl top` shows what the node measures.
fn what_is_used_is_told(w: &World, k: &Kubectl) {
    let top = |args: &[&str]| {
        let said = k.run(w, Protocol::WebSocket, &[&["top"], args].concat());
        assert_eq!(said.code, 0, "{args:?}: {}", said.err);
        said.out
    };
    let nodes = top(&["nodes", "--no-headers"]);
    assert!(nodes.starts_with(&w.host(2)) && nodes.contains("Mi"), "{nodes}");
    assert!(!nodes.contains("<unknown>"), "{nodes}");
    let pods = top(&["pods", "--containers", "--no-headers", "-l", "app=reader"]);
    let words: Vec<&str> = pods.split_whitespace().collect();
    let [pod, container, cpu, memory] = words[..] else { panic!("one container: {pods}") };
    assert!(pod.starts_with("reader-") && container == "c", "{pods}");
    assert!(cpu.ends_with('m') && memory.ends_with("Mi"), "{pods}");
    assert_eq!(top(&["pods", "--no-headers"]).lines().count(), 4, "every pod is there");
    let said = k.run(w, Protocol::WebSocket, &["top", "pods", "--as", "eve"]);
    assert!(said.err.contains("cannot list resource \"pods\" in API group \"metrics.k8s.io\""));
}

/// What somebody copied out of a pod is worth nothing once the pod is gone.
fn tokens_end_with_their_pod(w: &World, k: &Kubectl, token: &str) {
    let header = format!("Authorization: Bearer {token}");
    let url = format!("https://{}:6443/api/v1/namespaces/shop/configmaps", World::address(1));
    let ask = || w.curl(1, &["-H", &header, &url]).0;
    assert_eq!(ask(), 403, "while the pod is there it is somebody");
    assert!(w.git(&["rm", "-q", "plain.json"]).status().unwrap().success());
    w.healthy(1, &w.push(&[], "without plain"));
    until("the pod is gone", || {
        let said = k.run(w, Protocol::WebSocket, &["get", "pod", "plain"]);
        (said.code != 0).then_some(())
    });
    assert_eq!(ask(), 401);
}
