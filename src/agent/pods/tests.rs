//! The driver against a machine made of values, one effect at a time.

use serde_json::{Value, json};

use std::net::IpAddr;

use super::*;
use crate::{
    agent::runtime::Make,
    model::{NodeName, session::ObservedPod},
    node::{
        Assignment, NodeFacts,
        files::PodDns,
        ipam::PodRange,
        seen::{Container, Exit, Sandbox, State},
        tokens::Token,
    },
};

/// More effects than any scenario needs: a driver that never comes to rest is a bug.
const EFFECTS_MAX: usize = 5_000;

#[derive(Default)]
struct Machine {
    pods: BTreeMap<String, Found>,
    made: u32,
    /// It answers nothing.
    hangs: bool,
    /// Everything done to it, in order.
    deeds: Vec<String>,
    /// Containers that ignore their signal.
    stubborn: bool,
}

impl Machine {
    fn found(&mut self, want: &Assignment) -> &mut Found {
        let found = self.pods.entry(want.uid.clone()).or_default();
        found.key = Some(want.key.clone());
        found.grace = Some(want.grace);
        found
    }

    fn step(
        &mut self,
        want: &Assignment,
        step: &Step,
        ip: Option<Ipv4Addr>,
        make: Option<&Make>,
        now: Timestamp,
    ) {
        self.made += 1;
        let number = self.made;
        let name = &want.key.name;
        let deed = match step {
            Step::WriteVolumes => {
                let volumes = want.volumes.iter().filter(|v| v.source.is_ok());
                let volumes = volumes.map(|v| (v.name.clone(), v.hash())).collect();
                let found = self.found(want);
                found.directory = true;
                found.volumes = volumes;
                format!("write {name}")
            }
            Step::CreateSandbox => {
                let found = self.found(want);
                assert!(found.sandbox.is_none(), "two sandboxes for {name}");
                found.directory = true;
                found.claimed = ip;
                found.sandbox = Some(Sandbox {
                    id: format!("sandbox-{number}"),
                    state: State::Created,
                    ip: None,
                    created: now,
                });
                format!("sandbox {name}")
            }
            Step::StartSandbox { .. } => {
                let found = self.found(want);
                let ip = found.claimed.map(IpAddr::V4);
                let sandbox = found.sandbox.as_mut().unwrap();
                (sandbox.state, sandbox.ip) = (State::Running(now), ip);
                format!("start sandbox {name}")
            }
            Step::CreateContainer { .. } => {
                let make = make.unwrap();
                let hash = want.container(&make.name).unwrap().hash.clone();
                let list = self.found(want).containers.entry(make.name.clone()).or_default();
                assert!(list.iter().all(|c| c.attempt != make.attempt), "twice: {make:?}");
                list.push(Container {
                    id: format!("{name}-{}-{}", make.name, make.attempt),
                    attempt: make.attempt,
                    backoff: make.backoff,
                    sandbox: make.sandbox.clone(),
                    hash,
                    image_id: "sha256:1".into(),
                    created: now,
                    limits: None,
                    state: State::Created,
                });
                format!("create {name}/{}-{}", make.name, make.attempt)
            }
            Step::StartContainer { id, .. } => {
                self.container(id).state = State::Running(now);
                format!("start {id}")
            }
            Step::Kill { id } => {
                self.end(id, 137, now);
                format!("kill {id}")
            }
            Step::RemoveContainer { id } => {
                let found = self.found(want);
                for list in found.containers.values_mut() {
                    list.retain(|c| c.id != *id);
                }
                found.containers.retain(|_, list| !list.is_empty());
                format!("remove {id}")
            }
            Step::RemoveSandbox { .. } => {
                let found = self.found(want);
                (found.sandbox, found.claimed) = (None, None);
                format!("remove sandbox {name}")
            }
            Step::RemoveDirectory => {
                let found = self.found(want);
                found.directory = false;
                found.volumes.clear();
                format!("remove directory {name}")
            }
            other => panic!("not for the machine: {other:?}"),
        };
        self.deeds.push(deed);
        let left = |f: &Found| f.sandbox.is_some() || !f.containers.is_empty() || f.directory;
        self.pods.retain(|_, found| left(found));
    }

    fn container(&mut self, id: &str) -> &mut Container {
        let mut all = self.pods.values_mut().flat_map(|f| f.containers.values_mut().flatten());
        all.find(|c| c.id == id).unwrap_or_else(|| panic!("no container {id}"))
    }

    fn end(&mut self, id: &str, code: i32, now: Timestamp) {
        let container = self.container(id);
        let State::Running(started) = container.state else { return };
        let exit = Exit { code, started, finished: now, ..Exit::default() };
        container.state = State::Exited(exit);
    }

    fn running(&self) -> Vec<String> {
        let all = self.pods.values().flat_map(|f| f.containers.values().flatten());
        all.filter(|c| c.state.is_running()).map(|c| c.id.clone()).collect()
    }
}

struct Node {
    pods: Pods,
    machine: Machine,
    effects: VecDeque<Effect>,
    desired: Option<BTreeMap<Key, Object>>,
    now: Timestamp,
    reports: BTreeMap<String, ObservedPod>,
    events: Vec<String>,
    /// Die after so many more deeds.
    fuse: Option<usize>,
    starts_seen_max: usize,
    /// When tokens were asked for.
    asked: Vec<Timestamp>,
    /// No token is given.
    refuses: bool,
}

fn settings() -> Settings {
    Settings {
        node: NodeFacts {
            name: NodeName::new("n1"),
            ip: "192.0.2.1".into(),
            cpu_milli: 4000,
            memory_bytes: 1 << 30,
        },
        dns: PodDns::default(),
        range: PodRange::parse("10.244.1.0/24"),
    }
}

impl Node {
    fn new() -> Self {
        let (pods, effects) = Pods::new(settings());
        Self {
            pods,
            machine: Machine::default(),
            effects: effects.into(),
            desired: None,
            now: Timestamp(1_000_000),
            reports: BTreeMap::new(),
            events: vec![],
            fuse: None,
            starts_seen_max: 0,
            asked: vec![],
            refuses: false,
        }
    }

    fn desire(&mut self, objects: &[Value]) -> &mut Self {
        let objects = objects.iter().map(|o| Object::from_value(o).unwrap());
        let objects: BTreeMap<_, _> = objects.map(|o| (o.key().clone(), o)).collect();
        self.desired = Some(objects.clone());
        self.apply(Event::Desired(objects));
        self
    }

    fn apply(&mut self, event: Event) {
        let effects = self.pods.apply(event, self.now);
        self.effects.extend(effects);
        let starts = |e: &&Effect| matches!(e, Effect::Do { step: Some(s), .. } if is_start(s));
        self.starts_seen_max = self.starts_seen_max.max(self.effects.iter().filter(starts).count());
    }

    /// The agent dies and another one starts on the same machine, with the desired set from its
    /// disk.
    fn reborn(&mut self) {
        let (pods, effects) = Pods::new(settings());
        self.pods = pods;
        self.effects = effects.into();
        self.fuse = None;
        if let Some(desired) = self.desired.clone() {
            self.apply(Event::Desired(desired));
        }
    }

    /// Does everything there is to do now.
    fn rest(&mut self) -> &mut Self {
        for _ in 0..EFFECTS_MAX {
            let Some(effect) = self.effects.pop_front() else { return self };
            let deeds = self.machine.deeds.len();
            let event = self.perform(effect);
            if let Some(fuse) = &mut self.fuse
                && self.machine.deeds.len() > deeds
            {
                *fuse = fuse.saturating_sub(1);
                if *fuse == 0 {
                    self.reborn();
                    continue;
                }
            }
            if let Some(event) = event {
                self.apply(event);
            }
        }
        panic!("never came to rest: {:#?}", self.machine.deeds);
    }

    fn perform(&mut self, effect: Effect) -> Option<Event> {
        let away = || Error::Unreachable("no answer".into());
        let hangs = self.machine.hangs;
        let list = if hangs { Err(away()) } else { Ok(self.machine.pods.clone()) };
        Some(match effect {
            // A daemon that is away is called again later; the scenario says when that is.
            Effect::Connect { .. } if hangs => return None,
            Effect::Connect { asked, .. } | Effect::List { asked } => {
                Event::Listed { asked, result: list }
            }
            Effect::Do { want, step, ip, make, .. } => {
                let mut result = Ok(None);
                match &step {
                    Some(_) if hangs => result = Err(away()),
                    Some(step) => self.machine.step(&want, step, ip, make.as_ref(), self.now),
                    None => {}
                }
                let found = match hangs {
                    true => Err(away()),
                    false => Ok(self.machine.pods.get(&want.uid).cloned().map(Box::new)),
                };
                Event::Stepped { uid: want.uid.clone(), step, result, found }
            }
            Effect::Image { image, pull, .. } => {
                let found = FoundImage { id: "docker://sha256:1".into(), user: String::new() };
                let result = if hangs { Err(away()) } else { Ok(Some(found)) };
                Event::Image { image, pulled: pull, took: Duration::ZERO, result }
            }
            Effect::Stop { uid, id, .. } => {
                if !hangs && !self.machine.stubborn {
                    self.machine.end(&id, 0, self.now);
                    self.machine.deeds.push(format!("stop {id}"));
                    return Some(Event::Changed(uid));
                }
                let result = if hangs { Err(away()) } else { Ok(()) };
                Event::Stopped { uid, id, hook: None, result }
            }
            Effect::Probe { uid, id, kind, .. } => {
                Event::Probed { uid, id, kind, outcome: Outcome::Success }
            }
            Effect::Token { want, wish } => {
                self.asked.push(self.now);
                let expires = self.now.plus_seconds(wish.seconds);
                let text = format!("token {}", self.asked.len());
                let result = match self.refuses {
                    true => Err(Error::Refused("no such account".into())),
                    false => Ok(Token { text, expires }),
                };
                Event::Token { uid: want.uid.clone(), wish, result }
            }
            Effect::Report(pod) => {
                self.reports.insert(pod.key.name.to_string(), pod);
                return None;
            }
            Effect::Tell(event) => {
                self.events.push(format!("{}: {}", event.reason, event.message));
                return None;
            }
        })
    }

    /// Lets time pass, tick by tick.
    fn wait(&mut self, seconds: i64) -> &mut Self {
        let until = self.now.plus_seconds(seconds);
        for _ in 0..EFFECTS_MAX {
            self.rest();
            match self.pods.wake().filter(|at| *at <= until) {
                Some(at) => self.now = self.now.max(at),
                None => {
                    self.now = until;
                    return self;
                }
            }
            self.apply(Event::Tick);
        }
        panic!("ticks without end");
    }

    fn phase(&self, name: &str) -> &str {
        self.reports[name].status.phase.as_deref().unwrap()
    }
}

fn pod(name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": uid},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "a"}, {"name": "d", "image": "b"}],
        },
    })
}

#[test]
fn an_agent_that_dies_after_any_deed_leaves_no_trace_of_it() {
    // How many deeds there are without a death.
    let whole = |objects: &[Value]| {
        let mut node = Node::new();
        node.desire(objects).rest().desire(&[]).wait(60);
        node.machine.deeds.len()
    };
    let objects = [pod("one", "u1"), pod("two", "u2")];
    let deeds = whole(&objects);
    assert!(deeds > 20, "the scenario does something: {deeds}");
    for fuse in 1..=deeds {
        let mut node = Node::new();
        node.fuse = Some(fuse);
        node.desire(&objects).rest();
        let died = node.fuse.is_none();
        let running = ["one-c-0", "one-d-0", "two-c-0", "two-d-0"];
        assert_eq!(node.machine.running(), running, "fuse {fuse}: {:#?}", node.machine.deeds);
        let addresses: Vec<_> = node.machine.pods.values().filter_map(|f| f.claimed).collect();
        assert_eq!(addresses.len(), 2, "fuse {fuse}");
        assert_ne!(addresses[0], addresses[1], "fuse {fuse}");
        node.desire(&[]).wait(60);
        assert!(died || node.fuse.is_none(), "fuse {fuse} never burnt");
        assert_eq!(node.machine.pods, BTreeMap::new(), "fuse {fuse}: {:#?}", node.machine.deeds);
    }
}

#[test]
fn a_new_agent_adopts_and_removes_only_once_it_knows_what_is_desired() {
    let mut node = Node::new();
    node.desire(&[pod("kept", "u1"), pod("orphan", "u2")]).rest();
    let deeds = node.machine.deeds.len();
    node.desired = None;
    node.reborn();
    node.wait(600);
    assert_eq!(node.machine.deeds.len(), deeds, "nothing is known, nothing is done");
    node.desire(&[pod("kept", "u1")]).wait(10);
    assert_eq!(node.machine.running(), ["kept-c-0", "kept-d-0"]);
    let done = &node.machine.deeds[deeds..];
    assert!(done.iter().all(|d| d.contains("orphan")), "{done:#?}");
    assert!(!node.machine.pods.contains_key("u2"));
}

#[test]
fn a_daemon_that_hangs_is_unknown_not_dead() {
    let mut node = Node::new();
    node.desire(&[pod("web", "u1")]).rest();
    let before = node.reports["web"].clone();
    let deeds = node.machine.deeds.len();
    node.machine.hangs = true;
    node.apply(Event::Disconnected);
    // One container dies unseen; a new pod is asked for.
    let now = node.now;
    node.machine.end("web-d-0", 9, now);
    node.desire(&[pod("web", "u1"), pod("new", "u2")]).wait(300);
    assert_eq!(node.reports["web"].status, before.status, "the last status stays");
    assert_eq!(node.machine.deeds.len(), deeds);
    node.machine.hangs = false;
    node.effects.push_back(Effect::Connect { asked: node.pods.asked, after: RECONNECT });
    node.wait(1);
    assert_eq!(node.machine.running(), ["web-c-0", "web-d-1", "new-c-0", "new-d-0"]);
    let counts = node.reports["web"].status.container_statuses.clone().unwrap();
    let counts: Vec<_> = counts.iter().map(|c| c.restart_count).collect();
    assert_eq!(counts, [0, 1], "what died meanwhile was counted");
}

#[test]
fn a_pod_with_a_stuck_container_keeps_its_status_and_holds_up_nobody() {
    let mut node = Node::new();
    node.desire(&[pod("stuck", "u1")]).rest();
    let before = node.reports["stuck"].clone();
    let whole = node.machine.pods["u1"].clone();
    let half = Found { unknown: true, key: whole.key.clone(), ..Found::default() };
    node.machine.pods.insert("u1".into(), half);
    node.wait(RELIST.as_secs().cast_signed());
    node.desire(&[pod("stuck", "u1"), pod("new", "u2")]).rest();
    assert_eq!(node.reports["stuck"], before);
    assert_eq!(node.machine.running(), ["new-c-0", "new-d-0"]);
    node.machine.pods.insert("u1".into(), whole);
    let deeds = node.machine.deeds.len();
    node.wait(RELIST.as_secs().cast_signed());
    assert_eq!(node.machine.deeds.len(), deeds, "it goes on as it was");
    assert_eq!(node.reports["stuck"], before);
}

#[test]
fn starts_are_bounded_and_all_pods_come() {
    let mut node = Node::new();
    let pods: Vec<_> = (0..30).map(|n| pod(&format!("p{n}"), &format!("u{n}"))).collect();
    node.desire(&pods).rest();
    assert_eq!(node.machine.running().len(), 60);
    assert_eq!(node.starts_seen_max, STARTS_MAX);
    assert_eq!(node.pods.starts, 0);
}

#[test]
fn a_successor_of_the_same_name_waits_for_its_elder() {
    let mut node = Node::new();
    node.desire(&[pod("db-0", "old")]).rest();
    node.machine.stubborn = true;
    node.desire(&[pod("db-0", "new")]).wait(4);
    assert_eq!(node.machine.pods.keys().collect::<Vec<_>>(), ["old"]);
    node.wait(10);
    assert_eq!(node.machine.pods.keys().collect::<Vec<_>>(), ["new"]);
}

#[test]
fn a_terminating_pod_stops_is_told_gone_and_does_not_come_back() {
    let mut node = Node::new();
    node.desire(&[pod("web", "u1")]).rest();
    assert_eq!(node.phase("web"), "Running");
    let mut going = pod("web", "u1");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    going["metadata"]["deletionGracePeriodSeconds"] = json!(5);
    node.desire(&[going.clone()]).wait(60);
    assert!(node.reports["web"].gone);
    assert_eq!(node.phase("web"), "Succeeded");
    assert_eq!(node.machine.pods, BTreeMap::new());
    // The server has not taken it out yet; nor may a new agent start it.
    node.reports.clear();
    node.reborn();
    node.wait(60);
    assert_eq!(node.machine.pods, BTreeMap::new());
    assert!(node.reports["web"].gone, "a new agent says it again");
}

#[test]
fn events_tell_a_start_and_a_crash_as_the_kubelet_does() {
    let mut node = Node::new();
    let mut web = pod("web", "u1");
    web["spec"]["containers"].as_array_mut().unwrap().truncate(1);
    node.desire(&[web]).rest();
    let now = node.now;
    for id in ["web-c-0", "web-c-1"] {
        node.machine.end(id, 1, now);
        node.apply(Event::Changed("u1".into()));
        node.rest();
    }
    assert_eq!(
        node.events,
        [
            "Pulled: Container image \"a\" already present on machine",
            "Created: Created container: c",
            "Started: Started container c",
            "Pulled: Container image \"a\" already present on machine",
            "Created: Created container: c",
            "Started: Started container c",
            "BackOff: Back-off restarting failed container c in pod web_shop(u1)",
        ]
    );
}

fn with_token(name: &str, uid: &str) -> Value {
    let mut value = pod(name, uid);
    let token = json!({"path": "token", "expirationSeconds": 1000});
    value["spec"]["volumes"] = json!([{"name": "api", "projected": {"sources": [
        {"serviceAccountToken": token}]}}]);
    value
}

/// The volume's content on the machine, by name.
fn written(node: &Node) -> String {
    node.machine.pods["u1"].volumes["api"].clone()
}

#[test]
fn a_token_is_given_before_the_pod_starts_and_replaced_in_time() {
    let mut node = Node::new();
    let begin = node.now;
    node.desire(&[with_token("web", "u1")]).rest();
    assert_eq!(node.machine.running(), ["web-c-0", "web-d-0"]);
    assert_eq!(node.asked, [begin]);
    assert!(!node.events.iter().any(|e| e.starts_with("FailedMount")), "{:?}", node.events);
    let first = written(&node);
    node.wait(799);
    assert_eq!((written(&node), node.asked.len()), (first.clone(), 1));
    node.wait(1);
    assert_eq!(node.asked[1..], [begin.plus_seconds(800)]);
    assert_ne!(written(&node), first, "the file is new");
    assert_eq!(node.machine.running(), ["web-c-0", "web-d-0"], "nothing was restarted");
    // A pod that goes wants nothing any more.
    node.desire(&[]).wait(2000);
    assert_eq!(node.asked.len(), 2);
}

#[test]
fn a_token_that_is_not_given_holds_a_new_pod_back_and_disturbs_no_running_one() {
    let mut node = Node::new();
    node.desire(&[with_token("web", "u1")]).rest();
    let first = written(&node);
    node.refuses = true;
    node.wait(900);
    assert!(node.asked.len() > 3, "it asks again: {:?}", node.asked);
    assert_eq!(written(&node), first, "the old one is still good");
    node.wait(600);
    assert_eq!(node.machine.running(), ["web-c-0", "web-d-0"]);
    node.desire(&[with_token("web", "u1"), with_token("new", "u2")]).wait(30);
    assert_eq!(node.machine.running(), ["web-c-0", "web-d-0"]);
    let told = "FailedMount: MountVolume.SetUp failed for volume \"api\" : failed to fetch token: \
                no such account";
    assert!(node.events.iter().any(|e| e == told), "{:?}", node.events);
    node.refuses = false;
    node.wait(60);
    assert!(node.machine.running().contains(&"new-c-0".to_owned()));
    assert_ne!(written(&node), first);
}
