//! What the other modules look at: pods as their node's Docker has them, and requests from every
//! place of a cluster.

use std::collections::{BTreeMap, BTreeSet};

use mainstay::node::seen::labels;
use serde_json::{Value, json};

use crate::world::{Container, IMAGE, World, run, until};

/// A pod whose sandbox runs on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pod {
    pub(crate) node: u8,
    /// `namespace/name`.
    pub(crate) name: String,
    pub(crate) ip: String,
    /// The running containers by name.
    pub(crate) running: BTreeMap<String, Container>,
}

impl Pod {
    /// Docker's id of a running container.
    pub(crate) fn id(&self, container: &str) -> &str {
        &self.running[container].id
    }

    /// How often a container was started before.
    pub(crate) fn restarts(&self, container: &str) -> u32 {
        self.running[container].labels[labels::ATTEMPT].parse().unwrap()
    }

    /// Its host name, which the test program answers with.
    pub(crate) fn host(&self) -> &str {
        self.name.rsplit('/').next().unwrap()
    }

    /// Runs the test program beside a container; exit code and what it printed.
    pub(crate) fn run(&self, w: &World, container: &str, args: &[&str]) -> (i32, String) {
        let node = self.node.to_string();
        let exec = ["docker", &node, "exec", self.id(container), "/testpod"];
        let output = w.harness(&[&exec[..], args].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), text)
    }

    /// `GET` from inside the pod; what came is an answer or an error code as curl's.
    pub(crate) fn get(&self, w: &World, to: &str, path: &str) -> Result<String, i32> {
        match self.run(w, "web", &["get", to, path]) {
            (0, body) => Ok(body),
            (code, _) => Err(code),
        }
    }
}

/// The pods with a running sandbox whose `namespace/name` begins with `prefix`, by node.
pub(crate) fn pods(w: &World, nodes: &[u8], prefix: &str) -> Vec<Pod> {
    let mut pods: BTreeMap<(u8, String), Pod> = BTreeMap::new();
    for (node, c) in w.ids(nodes, prefix) {
        if !c.running {
            continue;
        }
        let ip = c.labels.get(labels::IP).cloned().unwrap_or_default();
        let name = c.pod.clone();
        let empty = Pod { node, name: name.clone(), ip: String::new(), running: BTreeMap::new() };
        let pod = pods.entry((node, name)).or_insert(empty);
        if c.name == "sandbox" {
            pod.ip = ip;
        }
        pod.running.insert(c.name.clone(), c);
    }
    pods.into_values().filter(|p| p.running.contains_key("sandbox")).collect()
}

/// `GET` by curl in a node (`1`) or in the network outside (`fab`): the body, or curl's error code
/// (7: refused, 28: nobody answered).
pub(crate) fn get_from(w: &World, place: &str, url: &str) -> Result<String, i32> {
    let curl = ["exec", place, "curl", "-s", "--max-time", "5", url];
    let output = w.harness(&curl).output().unwrap();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        code => Err(code.unwrap_or(-1)),
    }
}

/// What came of many requests, one after the other: a body, or an error code as curl's.
pub(crate) type Answers = Vec<Result<String, i32>>;

/// How many requests are made at once. With three endpoints the chance that one of them is never
/// chosen is 1 in 10^10.
const REQUESTS: usize = 60;

/// Many requests from inside a pod.
pub(crate) fn asks(w: &World, pod: &Pod, to: &str, path: &str) -> Answers {
    let (code, text) = pod.run(w, "web", &["get", to, path, &REQUESTS.to_string()]);
    if code != 0 {
        return vec![Err(code)];
    }
    answers(&text)
}

/// Many requests by curl in a node (`1`) or in the network outside (`fab`).
pub(crate) fn asks_from(w: &World, place: &str, url: &str) -> Answers {
    let all = format!("{url}?[1-{REQUESTS}]");
    let curl = ["exec", place, "curl", "-s", "--max-time", "3", "-w", " %{exitcode}\n", &all];
    answers(&String::from_utf8_lossy(&w.harness(&curl).output().unwrap().stdout))
}

/// Each line is a body and an error code.
fn answers(text: &str) -> Answers {
    let answer = |line: &str| {
        let (body, code) = line.rsplit_once(' ').unwrap();
        match code.parse().unwrap() {
            0 => Ok(body.to_owned()),
            code => Err(code),
        }
    };
    text.lines().map(answer).collect()
}

/// Asserts that every request was answered by one of `wanted`, and that all of them answered.
pub(crate) fn each_answers(what: &str, wanted: &BTreeSet<String>, answers: &Answers) {
    let problem = differs(wanted, answers);
    assert!(problem.is_none(), "{what}: {problem:?}");
}

/// Waits until that is so.
pub(crate) fn settles(what: &str, wanted: &BTreeSet<String>, mut ask: impl FnMut() -> Answers) {
    until(what, || differs(wanted, &ask()).is_none().then_some(()));
}

/// What is wrong with the answers.
pub(crate) fn differs(wanted: &BTreeSet<String>, answers: &Answers) -> Option<String> {
    let mut seen = BTreeSet::new();
    for (request, answer) in answers.iter().enumerate() {
        match answer {
            Ok(name) if wanted.contains(name) => seen.insert(name.clone()),
            other => return Some(format!("request {request} got {other:?}, not of {wanted:?}")),
        };
    }
    (seen != *wanted).then(|| format!("only {seen:?} of {wanted:?} answered"))
}

/// A Deployment in the namespace `shop` with this pod spec.
pub(crate) fn workload(name: &str, replicas: u32, spec: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    })
}

/// A container of the test program.
pub(crate) fn container(name: &str, args: &[&str]) -> Value {
    json!({"name": name, "image": IMAGE, "imagePullPolicy": "Never", "args": args})
}

/// Waits until the nodes have nothing left of pods whose name begins with `prefix`: no container,
/// and no folder of a pod more than there are sandboxes.
pub(crate) fn nothing_left(w: &World, nodes: &[u8], prefix: &str) {
    until("nothing is left", || w.ids(nodes, prefix).is_empty().then_some(()));
    for &node in nodes {
        until("no folder is left", || (folders(w, node) == sandboxes(w, node)).then_some(()));
    }
}

/// The uids of pods that have a folder on a node.
pub(crate) fn folders(w: &World, node: u8) -> BTreeSet<String> {
    let list = std::fs::read_dir(w.agent_dir(node).join("pods/pods"));
    list.into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// The uids of pods that have a sandbox on a node.
pub(crate) fn sandboxes(w: &World, node: u8) -> BTreeSet<String> {
    let all = w.containers(node).into_iter().filter(|c| c.name == "sandbox");
    all.map(|c| c.labels[labels::UID].clone()).collect()
}

/// The addresses on a node's pod network that Docker has given away.
pub(crate) fn addresses(w: &World, node: u8) -> BTreeSet<String> {
    let text = run(w.harness(&["docker", &node.to_string(), "network", "inspect", "podbr0"]));
    let all: Value = serde_json::from_str(&text).unwrap();
    let containers = all[0]["Containers"].as_object().unwrap().values();
    let address =
        |c: &Value| c["IPv4Address"].as_str().unwrap().split('/').next().map(str::to_owned);
    containers.filter_map(address).collect()
}

/// What `mainstay why` says, as one text.
pub(crate) fn why(w: &World, object: &str) -> String {
    let dir = w.server_dir(1);
    w.ok(1, &["why", object, "-n", "shop", "--dir", dir.to_str().unwrap()])
}

/// The events of the cluster, as one text.
pub(crate) fn events(w: &World) -> String {
    let dir = w.server_dir(1);
    w.ok(1, &["events", "--dir", dir.to_str().unwrap()])
}

/// Whether the server says that a node is ready.
pub(crate) fn is_ready(w: &World, node: u8) -> Option<bool> {
    let (status, host) = (w.status(1)?, w.host(node));
    let nodes = status["nodes"].as_array()?;
    nodes.iter().find(|n| n["name"] == host.as_str())?["ready"].as_bool()
}
