//! A small cluster for tests, made the way a real one is: by applying entries.

use serde_json::{Value, json};

use crate::{
    model::{CommitId, Object, RequestId, Timestamp},
    state::{
        Adopt, ClusterConfig, Command, Desired, Entry, Expect, MAIN_SOURCE, Op, Origin, Outcome,
        Part, State,
    },
};

pub(crate) const FIRST: &str = "9f8e7d6000000000000000000000000000000001";
pub(crate) const SECOND: &str = "1a2b3c4000000000000000000000000000000002";
pub(crate) const BAD: &str = "bad0bad000000000000000000000000000000003";
/// 2026-11-21T00:00:00Z
pub(crate) const START: i64 = 1_795_219_200_000;

/// State and the number of the next entry.
pub(crate) struct Cluster {
    pub(crate) state: State,
    entries: u128,
}

impl Cluster {
    /// A configured cluster with one ready node, nothing admitted.
    pub(crate) fn empty() -> Self {
        let mut cluster = Self { state: State::default(), entries: 0 };
        cluster.run(Command::Configure(ClusterConfig::with_id("test")));
        cluster.node("n1");
        cluster
    }

    /// One commit: a Deployment of two pods, both ready on `n1`, and its Service with two
    /// endpoints.
    pub(crate) fn web() -> Self {
        let mut cluster = Self::empty();
        cluster.source(FIRST, true);
        cluster.adopt(FIRST, None, 2, "web:1");
        cluster.rolled_out(FIRST, 2, 1);
        cluster.commit_status(FIRST, json!({
            "state": "Healthy", "counts": { "Deployment": 1, "Service": 1 },
            "changes": { "added": 3, "changed": 0, "pruned": 0 },
            "timings": { "seenAt": START, "admittedAt": START + 400, "healthyAt": START + 12_700 },
        }));
        cluster
    }

    pub(crate) fn run(&mut self, command: Command) {
        self.entries += 1;
        let at = Timestamp(START + i64::try_from(self.entries).unwrap() * 1000);
        let entry = Entry::new(RequestId(self.entries), at, vec![command]);
        for outcome in self.state.apply(entry) {
            assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        }
    }

    pub(crate) fn put(&mut self, value: &Value) {
        self.write(value, Part::Main);
        if value.get("status").is_some() {
            self.write(value, Part::Status);
        }
    }

    fn write(&mut self, value: &Value, part: Part) {
        let object = Object::from_value(value).unwrap();
        self.run(Command::Write(vec![Op::Put { object, expect: Expect::Any, part }]));
    }

    pub(crate) fn node(&mut self, name: &str) {
        let amounts = json!({ "cpu": "2", "memory": "4Gi", "pods": "110" });
        self.run(Command::ObserveNode {
            node: crate::model::NodeName::new(name),
            labels: [("kubernetes.io/hostname".to_owned(), name.to_owned())].into(),
            pod_range: String::new(),
            status: json!({
                "capacity": amounts, "allocatable": amounts,
                "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }],
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "AgentReady", "message": "",
                    "lastHeartbeatTime": "2026-11-21T00:00:00Z",
                    "lastTransitionTime": "2026-11-21T00:00:00Z",
                }],
            }),
        });
    }

    pub(crate) fn source(&mut self, observed: &str, ready: bool) {
        self.put(&json!({
            "apiVersion": "mainstay.io/v1", "kind": "GitSource", "metadata": { "name": "main" },
            "spec": { "url": "https://ada:secret@git.example.org/shop.git", "reference": { "branch": "main" } },
            "status": {
                "observedCommit": observed, "lastFetchAt": START,
                "conditions": [{
                    "type": "SourceReady", "status": if ready { "True" } else { "False" },
                    "reason": if ready { "Fetched" } else { "FetchFailed" },
                    "message": if ready { "" } else { "could not connect" },
                    "lastTransitionTime": "2026-11-21T00:00:00Z",
                }],
            },
        }));
    }

    pub(crate) fn record(id: &str, status: &Value) -> Value {
        json!({
            "apiVersion": "mainstay.io/v1", "kind": "Commit", "metadata": { "name": id },
            "spec": {
                "source": "main", "author": "Ada", "email": "ada@example.org",
                "subject": format!("web: change {}", &id[..1]), "committedAt": START - 2000,
            },
            "status": status,
        })
    }

    pub(crate) fn commit_status(&mut self, id: &str, status: Value) {
        let object = Object::from_value(&Self::record(id, &status)).unwrap();
        let part = Part::Status;
        self.run(Command::Write(vec![Op::Put { object, expect: Expect::Any, part }]));
    }

    /// Admits a commit: the Deployment `shop/web`, its Service and a Secret.
    pub(crate) fn adopt(&mut self, id: &str, base: Option<&str>, replicas: u32, image: &str) {
        let commit = CommitId::parse(id).unwrap();
        let status = json!({ "state": "Admitted", "timings": { "seenAt": START, "admittedAt": START + 400 } });
        self.run(Command::Adopt(Box::new(Adopt {
            source: MAIN_SOURCE.into(),
            base: base.map(|b| CommitId::parse(b).unwrap()),
            record: Object::from_value(&Self::record(id, &status)).unwrap(),
            told: None,
            upserts: desired(&commit, replicas, image),
            commit,
            deletes: vec![],
            left: vec![],
            part: 0,
            parts: 1,
        })));
    }

    /// The Deployment's ReplicaSet of a commit with ready pods, as controllers and an agent leave
    /// them.
    pub(crate) fn rolled_out(&mut self, id: &str, pods: u32, revision: u32) {
        let view = self.state.view().clone();
        let deployment = view.object(&key("Deployment.apps/shop/web")).unwrap();
        let mut status = deployment.value();
        status["status"] = json!({
            "observedGeneration": deployment.meta().generation,
            "replicas": pods, "updatedReplicas": pods, "readyReplicas": pods, "availableReplicas": pods,
            "conditions": [{
                "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
                "message": "Deployment has minimum availability.",
                "lastUpdateTime": "2026-11-21T00:00:09Z", "lastTransitionTime": "2026-11-21T00:00:09Z",
            }],
        });
        self.write(&status, Part::Status);
        let set = format!("web-{revision}");
        self.put(&json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": set, "namespace": "shop", "ownerReferences": [owner(deployment)],
                "annotations": {
                    "mainstay.io/commit": id,
                    "deployment.kubernetes.io/revision": revision.to_string(),
                },
            },
            "spec": { "replicas": pods, "selector": { "matchLabels": { "app": "web" } } },
            "status": { "replicas": pods, "readyReplicas": pods },
        }));
        for n in 0..pods {
            self.pod(
                &set,
                &format!("{set}-{n}"),
                Some("n1"),
                ready_status_at(&format!("10.244.0.{}", 10 * revision + n)),
            );
        }
    }

    /// A pod of a ReplicaSet.
    pub(crate) fn pod(&mut self, set: &str, name: &str, node: Option<&str>, status: Value) {
        let view = self.state.view().clone();
        let set = view.object(&key(&format!("ReplicaSet.apps/shop/{set}"))).unwrap();
        let mut spec = json!({ "containers": [{
            "name": "web", "image": "web:1",
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
        }] });
        if let Some(node) = node {
            spec["nodeName"] = node.into();
        }
        self.put(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "shop", "labels": { "app": "web" },
                "ownerReferences": [owner(set)],
            },
            "spec": spec, "status": status,
        }));
    }

    /// The endpoints of `shop/web`.
    pub(crate) fn endpoints(&mut self, addresses: &[&str]) {
        let view = self.state.view().clone();
        let service = view.object(&key("Service/shop/web")).unwrap();
        let endpoints: Vec<Value> = addresses
            .iter()
            .map(|a| json!({ "addresses": [a], "conditions": { "ready": true } }))
            .collect();
        self.put(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "web-1", "namespace": "shop", "ownerReferences": [owner(service)],
                "labels": { "kubernetes.io/service-name": "web" },
            },
            "endpoints": endpoints, "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        }));
    }

    /// A commit that was refused, at the source.
    pub(crate) fn refuse(&mut self) {
        self.source(BAD, true);
        let problem = json!({
            "file": "apps/web.yaml", "line": 14, "field": "spec.replicas",
            "message": "Invalid value: -1: must be greater than or equal to 0",
        });
        self.put(&Self::record(BAD, &json!({
            "state": "Refused", "reason": "Invalid", "message": "1 problem", "problems": [problem],
            "timings": { "seenAt": START + 60_000, "failedAt": START + 60_300 },
        })));
    }
}

pub(crate) fn key(path: &str) -> crate::model::Key {
    crate::model::Key::parse(path).unwrap()
}

/// The objects of a commit.
pub(crate) fn desired(commit: &CommitId, replicas: u32, image: &str) -> Vec<Desired> {
    let labels = json!({ "app": "web" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "web", "image": image }] },
            },
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "type": "NodePort", "selector": labels,
            "ports": [{ "name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP" }],
        },
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": "key", "namespace": "shop" }, "data": { "password": "aHVudGVyMg==" },
    });
    let place = |value: &Value, line: u32| Desired {
        object: Object::from_value(value).unwrap(),
        origin: Origin {
            source: MAIN_SOURCE.into(),
            commit: commit.clone(),
            file: "apps/web.yaml".to_owned(),
            line,
            made_by: None,
            open: false,
            ended: None,
            digest: crate::model::fnv1a(value.to_string().as_bytes()).to_string(),
        },
    };
    vec![place(&deployment, 1), place(&service, 20), place(&secret, 32)]
}

fn owner(object: &Object) -> Value {
    json!({
        "apiVersion": object.api_version(), "kind": object.key().kind.kind,
        "name": object.key().name, "uid": object.uid(), "controller": true,
    })
}

fn ready_status_at(address: &str) -> Value {
    json!({
        "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
        "conditions": [{
            "type": "Ready", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": "2026-11-21T00:00:08Z",
        }],
        "containerStatuses": [{
            "name": "web", "image": "web:1", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": { "startedAt": "2026-11-21T00:00:07Z" } },
        }],
    })
}

pub(crate) fn unscheduled_status() -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
            "lastProbeTime": null, "lastTransitionTime": "2026-11-21T00:00:08Z",
        }],
    })
}
