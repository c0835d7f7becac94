//! A State, its controllers, and nodes that do as they are told.

use std::collections::BTreeMap;

use k8s_openapi::{
    Metadata, Resource,
    api::core::v1::{Event, Node, Pod, PodCondition, PodStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    kinds,
    model::{CommitId, Key, NodeName, Object, RequestId, Timestamp, session::ObservedPod},
    plan::{Agenda, CONTROLLERS, Inputs, Timing, survivors::Survivors},
    state::{
        Adopt, ClusterConfig, Command, Desired, ENTRY_BYTES_MAX, Entry, Expect, MAIN_SOURCE, Op,
        Origin, Outcome, Part, State, View, check,
    },
};

/// Most rounds until nothing is left to do; more means that controllers undo each other's work.
const ROUNDS_MAX: usize = 300;

/// What pods of this world trust.
pub(super) const ROOT_CA: &str = "the certificate of the cluster\n";

pub(super) struct World {
    pub(super) state: State,
    pub(super) agenda: Agenda,
    pub(super) now: Timestamp,
    pub(super) heard: BTreeMap<NodeName, Timestamp>,
    pub(super) timing: Timing,
    pub(super) servers: Vec<std::net::SocketAddr>,
    pub(super) survivors: Survivors,
    entries: u128,
}

impl World {
    /// A configured cluster with its built-in namespaces.
    pub(super) fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            agenda: Agenda::default(),
            now: Timestamp(1_700_000_000_000),
            heard: BTreeMap::new(),
            timing: Timing::default(),
            servers: vec![],
            survivors: Survivors::default(),
            entries: 0,
        };
        world.apply(vec![Command::Configure(ClusterConfig::with_id("test"))]);
        world.settle();
        world
    }

    /// Another one, whose objects have other uids.
    pub(super) fn another() -> Self {
        let mut world = Self::new();
        world.entries = 1 << 32;
        world
    }

    pub(super) fn view(&self) -> &View {
        self.state.view()
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            now: self.now,
            heard: &self.heard,
            timing: &self.timing,
            root_ca: ROOT_CA,
            servers: &self.servers,
            survivors: &self.survivors,
        }
    }

    pub(super) fn apply(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let bytes = serde_json::to_vec(&commands).unwrap().len();
        assert!(bytes <= ENTRY_BYTES_MAX, "{bytes} bytes in one entry");
        self.entries += 1;
        let id = RequestId(self.entries.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        self.state.apply(Entry::new(id, self.now, commands))
    }

    pub(super) fn done(&mut self, commands: Vec<Command>) {
        for outcome in self.apply(commands) {
            assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        }
    }

    /// Runs every controller until nothing changes; gives the number of rounds.
    pub(super) fn settle(&mut self) -> usize {
        for round in 0..ROUNDS_MAX {
            if !self.step() {
                self.assert_sound();
                return round;
            }
        }
        panic!("not settled after {ROUNDS_MAX} rounds");
    }

    /// One round; says whether something was done.
    pub(super) fn step(&mut self) -> bool {
        let inputs = Inputs {
            now: self.now,
            heard: &self.heard,
            timing: &self.timing,
            root_ca: ROOT_CA,
            servers: &self.servers,
            survivors: &self.survivors,
        };
        let planned = self.agenda.round(self.state.view(), &inputs);
        let mut acted = false;
        for plan in planned {
            for command in plan.commands.clone() {
                acted = true;
                if let [Outcome::Refused(_)] = self.apply(vec![command]).as_slice() {
                    let now = self.now;
                    self.agenda.refused(&plan, now);
                }
            }
        }
        acted
    }

    /// No invariant is broken.
    pub(super) fn assert_sound(&self) {
        let found = check(self.view());
        assert!(found.is_empty(), "{found:?}");
    }

    /// What a full pass would do now: nothing, when settled.
    pub(super) fn full_pass(&self) -> Vec<String> {
        let mut commands = Vec::new();
        for controller in CONTROLLERS {
            for key in (controller.all)(self.view()) {
                let plan = (controller.plan)(self.view(), &key, &self.inputs());
                commands
                    .extend(plan.commands.iter().map(|c| format!("{}: {c:?}", controller.name)));
            }
        }
        commands
    }

    pub(super) fn wait(&mut self, seconds: i64) {
        self.now = self.now.plus_seconds(seconds);
    }

    /// Lets time pass for nodes that are heard all the while.
    pub(super) fn live(&mut self, seconds: i64) {
        self.wait(seconds);
        self.heard.values_mut().for_each(|at| *at = self.now);
    }

    /// Stores an object as the API would, admitted and whole.
    pub(super) fn put(&mut self, value: Value) {
        let object = admitted(value);
        let known = self.view().object(object.key()).is_some();
        let object = if known { object } else { kinds::create(&object) };
        let op = Op::Put { object, expect: Expect::Any, part: Part::Main };
        self.done(vec![Command::Write(vec![op])]);
    }

    pub(super) fn edit<T: Resource>(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        let namespace = if matches!(T::KIND, "Node" | "GitSource") { "" } else { "default" };
        let mut value = self.view().object(&Key::of::<T>(namespace, name)).unwrap().value();
        change(&mut value);
        let object = Object::from_value(&value).unwrap();
        let op = Op::Put { object, expect: Expect::Any, part: Part::Main };
        self.done(vec![Command::Write(vec![op])]);
    }

    pub(super) fn delete<T: Resource>(&mut self, namespace: &str, name: &str) {
        let key = Key::of::<T>(namespace, name);
        let op = Op::Delete { key, uid: String::new(), grace_seconds: None };
        self.done(vec![Command::Write(vec![op])]);
    }

    /// Makes these objects, each from its own file, the whole content of a commit.
    pub(super) fn commit(&mut self, digit: char, objects: Vec<Value>, deadline: Option<i64>) {
        let commit = CommitId::parse(&digit.to_string().repeat(40)).unwrap();
        let mut record = kinds::Commit::named(commit.as_str());
        record.status.timings.admitted_at = Some(self.now.0);
        record.status.deadline_seconds = deadline;
        record.status.changes.changed = objects.len() as u64;
        let objects: Vec<Object> = objects.into_iter().map(admitted).collect();
        let keys: Vec<&Key> = objects.iter().map(Object::key).collect();
        let gone = self.view().origins().map(|(key, _)| key.clone());
        let deletes = gone.filter(|key| !keys.contains(&key)).collect();
        let desired = |object: &Object| {
            let file = format!("{}.yaml", object.key().name);
            let origin = Origin {
                source: MAIN_SOURCE.into(),
                commit: commit.clone(),
                file,
                line: 3,
                made_by: None,
                open: false,
                ended: None,
                digest: Default::default(),
            };
            Desired { object: object.clone(), origin }
        };
        let adopt = Adopt {
            source: MAIN_SOURCE.into(),
            commit: commit.clone(),
            base: self.view().head().map(|h| h.commit.clone()),
            record: Object::of(&record).unwrap(),
            told: None,
            upserts: objects.iter().map(desired).collect(),
            deletes,
            left: vec![],
            part: 0,
            parts: 1,
        };
        self.done(vec![Command::Adopt(Box::new(adopt))]);
    }

    /// A node that is ready and heard.
    pub(super) fn node(&mut self, name: &str, cpu: &str, memory: &str) {
        let since = self.now.to_time();
        let status = json!({
            "allocatable": { "cpu": cpu, "memory": memory, "pods": "110" },
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready",
                "lastTransitionTime": since, "lastHeartbeatTime": since,
            }],
        });
        let labels = [("kubernetes.io/hostname".to_owned(), name.to_owned())].into();
        self.heard.insert(NodeName::new(name), self.now);
        let node = NodeName::new(name);
        self.done(vec![Command::ObserveNode { node, labels, status, pod_range: String::new() }]);
    }

    pub(super) fn all<T>(&self) -> Vec<(&Object, &T)>
    where
        T: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
    {
        self.view().list::<T>(None).collect()
    }

    pub(super) fn get<T>(&self, name: &str) -> &T
    where
        T: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
    {
        let namespace = if matches!(T::KIND, "Node" | "GitSource") { "" } else { "default" };
        self.view().get::<T>(namespace, name).unwrap()
    }

    /// The commit of this digit.
    pub(super) fn get_commit(&self, digit: char) -> &kinds::Commit {
        self.view().get("", &digit.to_string().repeat(40)).unwrap()
    }

    /// The pods that have a node, in order of names.
    pub(super) fn bound(&self) -> Vec<(Key, String)> {
        let bound = |p: &Pod| p.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        let pods = self.all::<Pod>().into_iter().filter(|(_, p)| bound(p));
        pods.map(|(o, _)| (o.key().clone(), o.uid().to_owned())).collect()
    }

    /// The node of a pod reports it as running, ready or not.
    pub(super) fn report(&mut self, key: &Key, ready: bool) {
        let status = PodStatus {
            phase: Some("Running".to_owned()),
            pod_ip: Some(address(key)),
            conditions: Some(vec![self.ready(ready)]),
            ..PodStatus::default()
        };
        self.observe(key, status, false);
    }

    fn ready(&self, ready: bool) -> PodCondition {
        PodCondition {
            type_: "Ready".to_owned(),
            status: if ready { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(self.now.to_time()),
            ..PodCondition::default()
        }
    }

    pub(super) fn observe(&mut self, key: &Key, status: PodStatus, gone: bool) {
        let Some(object) = self.view().object(key).cloned() else { return };
        let pod = object.view::<Pod>().unwrap();
        let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) else { return };
        let node = NodeName::new(node);
        let pods = vec![ObservedPod {
            key: key.clone(),
            uid: object.uid().to_owned(),
            status: Box::new(status),
            gone,
        }];
        self.done(vec![Command::Observe { node, pods }]);
    }

    /// Every node starts what it was given, and finishes what is to stop.
    pub(super) fn run_pods(&mut self) {
        for (key, _) in self.bound() {
            let Some(object) = self.view().object(&key).cloned() else { continue };
            let phase = object.view::<Pod>().and_then(|p| p.status.as_ref()?.phase.clone());
            if object.is_terminating() {
                self.observe(&key, PodStatus::default(), true);
            } else if phase.as_deref() == Some("Pending") {
                self.report(&key, true);
            }
        }
    }

    /// Nodes and controllers act until nothing moves.
    pub(super) fn roll(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let before = self.view().revision();
            self.settle();
            self.run_pods();
            if self.view().revision() == before {
                return;
            }
        }
        panic!("still moving");
    }

    /// The messages of the events with this reason, in order of names.
    pub(super) fn said(&self, reason: &str) -> Vec<String> {
        let mut said: Vec<_> = self
            .all::<Event>()
            .into_iter()
            .filter(|(_, e)| e.reason.as_deref() == Some(reason))
            .map(|(o, e)| (o.revision(), e.message.clone().unwrap_or_default()))
            .collect();
        said.sort();
        said.into_iter().map(|(_, message)| message).collect()
    }

    pub(super) fn taints(&self, node: &str) -> Vec<String> {
        let spec = self.get::<Node>(node).spec.clone().unwrap_or_default();
        let taints = spec.taints.into_iter().flatten();
        taints.map(|t| format!("{}:{}", t.key, t.effect)).collect()
    }
}

/// An address that follows from the pod's name.
fn address(key: &Key) -> String {
    let hash = crate::model::fnv1a(key.name.as_bytes());
    let [a, b, c, ..] = hash.to_be_bytes();
    format!("10.{a}.{b}.{c}")
}

pub(super) fn admitted(value: Value) -> Object {
    let strict = kinds::Strictness::Strict;
    kinds::admit(value, strict).unwrap_or_else(|e| panic!("{e:?}")).object
}

pub(super) fn deployment(name: &str, replicas: i32, image: &str, spec: Value) -> Value {
    let mut value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": image }] },
            },
        },
    });
    for (field, inner) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = inner.clone();
    }
    value
}

pub(super) fn pod(name: &str, cpu: &str, spec: Value) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
        "spec": { "containers": [{
            "name": "c", "image": "c", "resources": { "requests": { "cpu": cpu } },
        }] },
    });
    for (field, inner) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = inner.clone();
    }
    value
}
