//! One pod against a machine made of values: every step is done at once, and written down.

use std::{collections::BTreeMap, time::Duration};

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{
    assignment::{Assignment, NodeFacts},
    files::PodDns,
    next_step, probe,
    seen::{Container, Exit, Image, Observed, Sandbox, State, Stopping},
    status,
    step::Step,
    tokens::Tokens,
};
use crate::model::{NodeName, Object, Timestamp};

/// More steps than any scenario needs: a pod that never settles is a bug.
const STEPS_MAX: usize = 100;

struct World {
    pod: Value,
    objects: Vec<Value>,
    seen: Observed,
    now: Timestamp,
    lines: String,
    made: u32,
}

impl World {
    fn new(spec: Value) -> Self {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1"}, "spec": spec});
        let seen = Observed { network_ready: true, ..Observed::default() };
        Self { pod, objects: vec![], seen, now: Timestamp(0), lines: String::new(), made: 0 }
    }

    fn want(&self) -> Assignment {
        let object = Object::from_value(&self.pod).unwrap();
        let objects = self.objects.iter().map(|o| Object::from_value(o).unwrap());
        let objects: BTreeMap<_, _> = objects.map(|o| (o.key().clone(), o)).collect();
        let node = NodeFacts {
            name: NodeName::new("n1"),
            ip: "192.0.2.1".into(),
            cpu_milli: 4000,
            memory_bytes: 1 << 30,
        };
        let ip = self.seen.sandbox.as_ref().and_then(|s| s.ip);
        Assignment::of(&object, &objects, &node, &PodDns::default(), ip, &Tokens::new()).unwrap()
    }

    fn say(&mut self, line: &str) {
        self.lines += &format!("{}s {line}\n", self.now.0 / 1000);
    }

    /// Takes steps until the pod waits or is settled; then says its status.
    fn settle(&mut self) -> &mut Self {
        for _ in 0..STEPS_MAX {
            let want = self.want();
            let step = next_step(&want, &self.seen, self.now);
            match step {
                Step::Wait(until) => {
                    let until = until.map_or("…".to_owned(), |t| format!("{}s", t.0 / 1000));
                    self.say(&format!("wait {until}"));
                }
                Step::Settled => self.say("settled"),
                Step::ReportGone => self.say("gone"),
                step => {
                    self.act(&step, &want);
                    continue;
                }
            }
            let new = status(&want, &self.seen, self.now);
            let text = brief(&new);
            self.lines += &text;
            self.seen.previous = Some(new);
            return self;
        }
        panic!("never settled:\n{}", self.lines);
    }

    fn act(&mut self, step: &Step, want: &Assignment) {
        let mut text = format!("{step:?}");
        let now = self.now;
        match step {
            Step::WriteVolumes => {
                let fresh = want.volumes.iter().filter(|v| v.source.is_ok());
                self.seen.volumes = fresh.map(|v| (v.name.clone(), v.hash())).collect();
                self.seen.directory = true;
            }
            Step::CreateSandbox => {
                self.made += 1;
                self.seen.directory = true;
                self.seen.sandbox = Some(Sandbox {
                    id: format!("s{}", self.made),
                    state: State::Created,
                    ip: None,
                    created: now,
                });
            }
            Step::StartSandbox { .. } => {
                let sandbox = self.seen.sandbox.as_mut().unwrap();
                sandbox.state = State::Running(now);
                sandbox.ip = Some("10.244.1.2".parse().unwrap());
            }
            Step::FindImage { image } => {
                self.seen.images.insert(image.clone(), Image::Absent);
            }
            Step::PullImage { image, container, attempt } => {
                let present = Image::Present { id: "docker://sha256:1".into(), user: "".into() };
                self.seen.images.insert(image.clone(), present);
                self.seen.memory.pulled.insert((container.clone(), *attempt));
                text = format!("PullImage {image}");
            }
            Step::CreateContainer { name, attempt, backoff } => {
                self.made += 1;
                self.seen.containers.entry(name.clone()).or_default().push(Container {
                    id: format!("{name}-{attempt}"),
                    attempt: *attempt,
                    backoff: *backoff,
                    sandbox: self.seen.sandbox.as_ref().unwrap().id.clone(),
                    hash: want.container(name).unwrap().hash.clone(),
                    image_id: "sha256:1".into(),
                    created: now,
                    limits: want.container(name).map(|spec| spec.limits),
                    state: State::Created,
                });
                text = format!(
                    "CreateContainer {name} attempt {attempt}, then back-off {}s",
                    backoff.as_secs()
                );
            }
            Step::StartContainer { id, .. } => {
                self.container(id).state = State::Running(now);
                text = format!("Start {id}");
            }
            Step::Resize { id, limits, .. } => {
                self.container(id).limits = Some(*limits);
                let (cpu, memory) = (limits.cpu_quota_us / 1000, limits.memory_bytes >> 20);
                text = format!("Resize {id} to {cpu} ms of CPU and {memory} MiB");
            }
            Step::Stop { id, grace, why, .. } => {
                let deadline = now + *grace;
                let stopping = Stopping { deadline, killed: None };
                self.seen.memory.stopping.insert(id.clone(), stopping);
                text = format!("Stop {id} within {}s: {why}", grace.as_secs());
            }
            Step::Kill { id } => {
                text = format!("Kill {id}");
                self.end(id, 137);
            }
            Step::RemoveContainer { id } => {
                for list in self.seen.containers.values_mut() {
                    list.retain(|c| c.id != *id);
                }
                self.seen.containers.retain(|_, list| !list.is_empty());
                text = format!("Remove {id}");
            }
            Step::RemoveSandbox { id } => {
                self.seen.sandbox = None;
                text = format!("Remove {id}");
            }
            Step::RemoveDirectory => {
                self.seen.directory = false;
                self.seen.volumes.clear();
            }
            Step::Wait(_) | Step::Settled | Step::ReportGone => unreachable!("not a deed"),
        }
        self.say(&text);
    }

    fn container(&mut self, id: &str) -> &mut Container {
        let mut all = self.seen.containers.values_mut().flatten();
        all.find(|c| c.id == id).unwrap_or_else(|| panic!("no container {id}"))
    }

    /// A container or the sandbox ends.
    fn end(&mut self, id: &str, code: i32) -> &mut Self {
        let now = self.now;
        let exit =
            |started| State::Exited(Exit { code, started, finished: now, ..Exit::default() });
        let since = |state: &State| match state {
            State::Running(since) => *since,
            _ => now,
        };
        if let Some(sandbox) = self.seen.sandbox.as_mut().filter(|s| s.id == id) {
            sandbox.state = exit(since(&sandbox.state));
            sandbox.ip = None;
        } else {
            let container = self.container(id);
            container.state = exit(since(&container.state));
        }
        self
    }

    fn wait(&mut self, seconds: i64) -> &mut Self {
        self.now = self.now.plus_seconds(seconds);
        self
    }

    fn probed(&mut self, id: &str, kind: probe::Kind, verdict: bool) -> &mut Self {
        let state = probe::State { verdict: Some(verdict), ..probe::State::default() };
        self.seen.memory.probes.insert((id.to_owned(), kind), state);
        self
    }

    fn delete(&mut self, grace: i64) -> &mut Self {
        self.pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self
    }

    fn check(&self, expect: Expect) {
        expect.assert_eq(&self.lines);
    }
}

/// `Running ready 10.244.1.2`, and a line for each container: `c=running(1)`.
fn brief(status: &k8s_openapi::api::core::v1::PodStatus) -> String {
    let mut text = format!("   {}", status.phase.clone().unwrap());
    let holds = |name: &str| {
        let list = status.conditions.as_ref().unwrap();
        list.iter().any(|c| c.type_ == name && c.status == "True")
    };
    for (name, word) in [("Initialized", "initialized"), ("Ready", "ready")] {
        if holds(name) {
            text += &format!(" {word}");
        }
    }
    text += &format!(" {}\n", status.pod_ip.as_deref().unwrap_or("-"));
    let of_resize = |type_: &&str| type_.starts_with("PodResize");
    for c in status.conditions.iter().flatten().filter(|c| of_resize(&&*c.type_)) {
        let why = [&c.reason, &c.message].map(|t| t.clone().unwrap_or_default());
        text += &format!("      {}: {}\n", c.type_, why.join(" ").trim());
    }
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    for c in lists.into_iter().flatten().flatten() {
        let state = c.state.clone().unwrap_or_default();
        let word = match (state.running, state.waiting, state.terminated) {
            (Some(_), ..) => "running".to_owned(),
            (_, Some(w), _) => w.reason.unwrap_or_default(),
            (.., Some(t)) => format!("{}/{}", t.reason.unwrap_or_default(), t.exit_code),
            _ => "?".to_owned(),
        };
        let last = c.last_state.clone().and_then(|s| s.terminated);
        let last = last.map(|t| format!(" after {}", t.exit_code)).unwrap_or_default();
        text += &format!("      {}={word}({}){last}\n", c.name, c.restart_count);
    }
    text
}

fn one(more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "web:1"});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"terminationGracePeriodSeconds": 5, "containers": [container]})
}

#[test]
fn a_pod_starts_in_order_and_leaves_nothing() {
    let mut world = World::new(json!({
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "initContainers": [{"name": "i1", "image": "a"}, {"name": "i2", "image": "a"}],
        "containers": [{"name": "c", "image": "a"}, {"name": "d", "image": "a"}],
    }));
    world.settle().wait(1).end("i1-0", 0).settle().wait(1).end("i2-0", 0).settle();
    world.wait(1).delete(7).settle().wait(1).end("c-0", 0).settle().wait(6).settle();
    world.check(expect![[r#"
        0s WriteVolumes
        0s CreateSandbox
        0s StartSandbox { id: "s1" }
        0s FindImage { image: "a" }
        0s PullImage a
        0s CreateContainer i1 attempt 0, then back-off 0s
        0s Start i1-0
        0s wait …
           Pending 10.244.1.2
              i1=running(0)
              i2=ContainerCreating(0)
              c=PodInitializing(0)
              d=PodInitializing(0)
        1s CreateContainer i2 attempt 0, then back-off 0s
        1s Start i2-0
        1s wait …
           Pending 10.244.1.2
              i1=Completed/0(0)
              i2=running(0)
              c=PodInitializing(0)
              d=PodInitializing(0)
        2s CreateContainer c attempt 0, then back-off 0s
        2s Start c-0
        2s CreateContainer d attempt 0, then back-off 0s
        2s Start d-0
        2s settled
           Running initialized ready 10.244.1.2
              i1=Completed/0(0)
              i2=Completed/0(0)
              c=running(0)
              d=running(0)
        3s Stop c-0 within 7s: Stopping container c
        3s Stop d-0 within 7s: Stopping container d
        3s wait 10s
           Running initialized ready 10.244.1.2
              i1=Completed/0(0)
              i2=Completed/0(0)
              c=running(0)
              d=running(0)
        4s wait 10s
           Running initialized 10.244.1.2
              i1=Completed/0(0)
              i2=Completed/0(0)
              c=Completed/0(0)
              d=running(0)
        10s Kill d-0
        10s Remove c-0
        10s Remove d-0
        10s Remove i1-0
        10s Remove i2-0
        10s Remove s1
        10s RemoveDirectory
        10s gone
           Failed 10.244.1.2
              i1=Completed/0(0)
              i2=Completed/0(0)
              c=Completed/0(0)
              d=ContainerStatusUnknown/137(0)
    "#]]);
}

#[test]
fn crashes_back_off_longer_each_time_and_are_forgiven() {
    let mut world = World::new(one(json!({})));
    world.settle().wait(1).end("c-0", 1).settle();
    world.wait(1).end("c-1", 1).settle().wait(10).settle();
    world.wait(1).end("c-2", 1).settle().wait(20).settle();
    world.wait(600).end("c-3", 1).settle();
    world.check(expect![[r#"
        0s CreateSandbox
        0s StartSandbox { id: "s1" }
        0s FindImage { image: "web:1" }
        0s PullImage web:1
        0s CreateContainer c attempt 0, then back-off 0s
        0s Start c-0
        0s settled
           Running initialized ready 10.244.1.2
              c=running(0)
        1s CreateContainer c attempt 1, then back-off 10s
        1s Start c-1
        1s settled
           Running initialized ready 10.244.1.2
              c=running(1) after 1
        2s wait 12s
           Running initialized 10.244.1.2
              c=CrashLoopBackOff(1) after 1
        12s CreateContainer c attempt 2, then back-off 20s
        12s Remove c-0
        12s Start c-2
        12s settled
           Running initialized ready 10.244.1.2
              c=running(2) after 1
        13s wait 33s
           Running initialized 10.244.1.2
              c=CrashLoopBackOff(2) after 1
        33s CreateContainer c attempt 3, then back-off 40s
        33s Remove c-1
        33s Start c-3
        33s settled
           Running initialized ready 10.244.1.2
              c=running(3) after 1
        633s CreateContainer c attempt 4, then back-off 10s
        633s Remove c-2
        633s Start c-4
        633s settled
           Running initialized ready 10.244.1.2
              c=running(4) after 1
    "#]]);
}

#[test]
fn restart_policies() {
    for (policy, code) in [("Never", 0), ("Never", 3), ("OnFailure", 0), ("OnFailure", 3)] {
        let mut spec = one(json!({}));
        spec["restartPolicy"] = json!(policy);
        let mut world = World::new(spec);
        world.settle().wait(1);
        world.lines.clear();
        world.end("c-0", code).settle();
        let expect = match (policy, code) {
            ("Never", 0) => expect![[r#"
                1s Kill s1
                1s settled
                   Succeeded initialized 10.244.1.2
                      c=Completed/0(0)
            "#]],
            ("Never", _) => expect![[r#"
                1s Kill s1
                1s settled
                   Failed initialized 10.244.1.2
                      c=Error/3(0)
            "#]],
            (_, 0) => expect![[r#"
                1s Kill s1
                1s settled
                   Succeeded initialized 10.244.1.2
                      c=Completed/0(0)
            "#]],
            _ => expect![[r#"
                1s CreateContainer c attempt 1, then back-off 10s
                1s Start c-1
                1s settled
                   Running initialized ready 10.244.1.2
                      c=running(1) after 3
            "#]],
        };
        world.check(expect);
    }
}

#[test]
fn a_dead_sandbox_takes_its_containers_along() {
    let mut world = World::new(json!({
        "terminationGracePeriodSeconds": 5,
        "initContainers": [{"name": "i", "image": "a"}],
        "containers": [{"name": "c", "image": "a"}],
    }));
    world.settle().end("i-0", 0).settle().wait(100);
    world.lines.clear();
    world.end("s1", 255).settle().wait(1).end("c-0", 0).settle().end("i-1", 0).settle();
    world.check(expect![[r#"
        100s Stop c-0 within 5s: Pod sandbox changed, it will be killed and re-created.
        100s wait 105s
           Running initialized -
              i=Completed/0(0)
              c=running(0)
        101s Remove s1
        101s CreateSandbox
        101s StartSandbox { id: "s4" }
        101s CreateContainer i attempt 1, then back-off 0s
        101s Start i-1
        101s wait …
           Running 10.244.1.2
              i=running(1) after 0
              c=Completed/0(0)
        101s CreateContainer c attempt 1, then back-off 10s
        101s Start c-1
        101s settled
           Running initialized ready 10.244.1.2
              i=Completed/0(1) after 0
              c=running(1) after 0
    "#]]);
}

#[test]
fn probes_gate_kill_and_turn_readiness() {
    let probe = json!({"tcpSocket": {"port": 1}});
    let mut world = World::new(one(json!({
        "startupProbe": probe, "livenessProbe": probe, "readinessProbe": probe})));
    world.settle();
    world.lines.clear();
    use probe::Kind::{Liveness, Readiness, Startup};
    world.probed("c-0", Startup, true).settle().probed("c-0", Readiness, true).settle();
    world.probed("c-0", Liveness, false).settle().wait(5).settle();
    world.check(expect![[r#"
        0s settled
           Running initialized 10.244.1.2
              c=running(0)
        0s settled
           Running initialized ready 10.244.1.2
              c=running(0)
        0s Stop c-0 within 5s: Container c failed liveness probe, will be restarted
        0s wait 5s
           Running initialized 10.244.1.2
              c=running(0)
        5s Kill c-0
        5s CreateContainer c attempt 1, then back-off 10s
        5s Start c-1
        5s settled
           Running initialized 10.244.1.2
              c=running(1) after 137
    "#]]);
}

#[test]
fn a_sidecar_starts_first_is_restarted_and_stops_last() {
    let mut world = World::new(json!({
        "terminationGracePeriodSeconds": 5, "restartPolicy": "Never",
        "initContainers": [{"name": "side", "image": "a", "restartPolicy": "Always"}],
        "containers": [{"name": "c", "image": "a"}],
    }));
    world.settle().wait(1).end("side-0", 1).settle().wait(1).end("c-0", 0).settle();
    world.wait(1).end("side-1", 0).settle();
    world.check(expect![[r#"
        0s CreateSandbox
        0s StartSandbox { id: "s1" }
        0s FindImage { image: "a" }
        0s PullImage a
        0s CreateContainer side attempt 0, then back-off 0s
        0s Start side-0
        0s CreateContainer c attempt 0, then back-off 0s
        0s Start c-0
        0s settled
           Running initialized ready 10.244.1.2
              side=running(0)
              c=running(0)
        1s CreateContainer side attempt 1, then back-off 10s
        1s Start side-1
        1s settled
           Running initialized ready 10.244.1.2
              side=running(1) after 1
              c=running(0)
        2s Stop side-1 within 5s: Stopping container side
        2s wait 7s
           Succeeded initialized 10.244.1.2
              side=running(1) after 1
              c=Completed/0(0)
        3s Kill s1
        3s settled
           Succeeded initialized 10.244.1.2
              side=Completed/0(1) after 1
              c=Completed/0(0)
    "#]]);
}

#[test]
fn what_is_missing_is_waited_for() {
    let mut world = World::new(json!({
        "volumes": [{"name": "v", "configMap": {"name": "cfg"}}],
        "containers": [{"name": "c", "image": "a", "envFrom": [{"secretRef": {"name": "s"}}]}],
    }));
    world.settle();
    world.objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cfg", "namespace": "shop"}}));
    world.settle();
    world.objects.push(json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "s", "namespace": "shop"}}));
    world.settle();
    world.check(expect![[r#"
        0s wait …
           Pending initialized -
              c=ContainerCreating(0)
        0s WriteVolumes
        0s CreateSandbox
        0s StartSandbox { id: "s1" }
        0s FindImage { image: "a" }
        0s PullImage a
        0s settled
           Pending initialized 10.244.1.2
              c=CreateContainerConfigError(0)
        0s CreateContainer c attempt 0, then back-off 0s
        0s Start c-0
        0s settled
           Running initialized ready 10.244.1.2
              c=running(0)
    "#]]);
}

#[test]
fn a_failed_pull_waits_longer_each_time() {
    let mut world = World::new(one(json!({})));
    let failed = |count, at| Image::Failed { message: "no route".into(), count, at };
    world.settle();
    let sandbox = world.seen.sandbox.clone();
    world.seen.containers.clear();
    world.lines.clear();
    assert!(sandbox.is_some());
    world.seen.images.insert("web:1".into(), failed(1, Timestamp(0)));
    world.settle().wait(3).settle();
    world.seen.images.insert("web:1".into(), failed(2, Timestamp(3000)));
    world.wait(10).settle().wait(10).settle();
    world.check(expect![[r#"
        0s wait 2s
           Running initialized 10.244.1.2
              c=ErrImagePull(0)
        3s wait 10s
           Running initialized 10.244.1.2
              c=ImagePullBackOff(0)
        13s wait 23s
           Running initialized 10.244.1.2
              c=ImagePullBackOff(0)
        23s PullImage web:1
        23s CreateContainer c attempt 0, then back-off 0s
        23s Start c-0
        23s settled
           Running initialized ready 10.244.1.2
              c=running(0)
    "#]]);
}

#[test]
fn a_changed_container_is_made_anew_and_a_removed_volume_disturbs_nobody() {
    let mut world = World::new(one(json!({})));
    world.settle();
    world.lines.clear();
    world.pod["spec"]["containers"][0]["image"] = json!("web:2");
    world.settle().wait(1).end("c-0", 0).settle();
    world.check(expect![[r#"
        0s Stop c-0 within 5s: Container c definition changed, will be restarted
        0s wait 5s
           Running initialized 10.244.1.2
              c=running(0)
        1s FindImage { image: "web:2" }
        1s PullImage web:2
        1s CreateContainer c attempt 1, then back-off 10s
        1s Start c-1
        1s settled
           Running initialized ready 10.244.1.2
              c=running(1) after 0
    "#]]);
}

#[test]
fn without_a_network_only_host_network_pods_start() {
    let mut world = World::new(one(json!({})));
    world.seen.network_ready = false;
    world.settle();
    world.pod["spec"]["hostNetwork"] = json!(true);
    world.settle();
    world.check(expect![[r#"
        0s wait …
           Pending initialized -
              c=ContainerCreating(0)
        0s CreateSandbox
        0s StartSandbox { id: "s1" }
        0s FindImage { image: "web:1" }
        0s PullImage web:1
        0s CreateContainer c attempt 0, then back-off 0s
        0s Start c-0
        0s settled
           Running initialized ready 192.0.2.1
              c=running(0)
    "#]]);
}

#[test]
fn a_pod_that_has_ended_never_starts_again() {
    // The server knows it as Failed; a wiped machine must not run it once more.
    let mut world = World::new(one(json!({})));
    world.pod["status"] = json!({"phase": "Failed"});
    world.seen.previous = Some(serde_json::from_value(world.pod["status"].clone()).unwrap());
    world.settle();
    world.check(expect![[r#"
        0s settled
           Failed initialized -
              c=ContainerCreating(0)
    "#]]);
}

#[test]
fn a_stubborn_container_is_killed_again() {
    let mut world = World::new(one(json!({})));
    world.settle().delete(0);
    let want = world.want();
    let kill = Step::Kill { id: "c-0".into() };
    let stopping = |killed| Stopping { deadline: Timestamp(0), killed };
    world.seen.memory.stopping.insert("c-0".into(), stopping(None));
    assert_eq!(next_step(&want, &world.seen, Timestamp(0)), kill);
    world.seen.memory.stopping.insert("c-0".into(), stopping(Some(Timestamp(0))));
    let wait = Step::Wait(Some(Timestamp(10_000)));
    assert_eq!(next_step(&want, &world.seen, Timestamp(1)), wait);
    assert_eq!(next_step(&want, &world.seen, Timestamp(10_000)), kill);
    assert_eq!(want.grace, Duration::ZERO);
}

#[test]
fn a_container_for_debugging_runs_once_beside_the_others() {
    let mut world = World::new(one(json!({})));
    world.settle();
    let debug = json!({"name": "debug", "image": "web:1", "targetContainerName": "c"});
    world.pod["spec"]["ephemeralContainers"] = json!([debug]);
    world.wait(1).settle().wait(1).end("debug-0", 3).settle();
    // It is not started again, and holds no pod up that has ended.
    world.wait(1000).settle();
    assert_eq!(world.want().container("debug").unwrap().target.as_deref(), Some("c"));
    world.check(expect![[r#"
        0s CreateSandbox
        0s StartSandbox { id: "s1" }
        0s FindImage { image: "web:1" }
        0s PullImage web:1
        0s CreateContainer c attempt 0, then back-off 0s
        0s Start c-0
        0s settled
           Running initialized ready 10.244.1.2
              c=running(0)
        1s CreateContainer debug attempt 0, then back-off 0s
        1s Start debug-0
        1s settled
           Running initialized ready 10.244.1.2
              c=running(0)
              debug=running(0)
        2s settled
           Running initialized ready 10.244.1.2
              c=running(0)
              debug=Error/3(0)
        1002s settled
           Running initialized ready 10.244.1.2
              c=running(0)
              debug=Error/3(0)
    "#]]);
}

#[test]
fn a_running_container_gets_another_share() {
    let share = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}});
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let of = |resources| one(json!({"resources": resources, "resizePolicy": policy}));
    let mut world = World::new(of(share("1", "64Mi")));
    world.settle();
    let resize = |world: &mut World, cpu: &str, memory: &str| {
        world.pod["spec"] = of(share(cpu, memory));
        world.wait(1).settle();
    };
    resize(&mut world, "2", "64Mi");
    resize(&mut world, "8", "64Mi");
    resize(&mut world, "2", "96Mi");
    world.end("c-0", 143).settle();
    world.check(expect![[r#"
        0s CreateSandbox
        0s StartSandbox { id: "s1" }
        0s FindImage { image: "web:1" }
        0s PullImage web:1
        0s CreateContainer c attempt 0, then back-off 0s
        0s Start c-0
        0s settled
           Running initialized ready 10.244.1.2
              c=running(0)
        1s Resize c-0 to 200 ms of CPU and 64 MiB
        1s settled
           Running initialized ready 10.244.1.2
              c=running(0)
        2s settled
           Running initialized ready 10.244.1.2
              PodResizePending: Infeasible Node didn't have enough capacity: cpu, requested: 8000, capacity: 4000
              c=running(0)
        3s Stop c-0 within 5s: Container c resize requires restart
        3s wait 8s
           Running initialized 10.244.1.2
              PodResizeInProgress: 
              c=running(0)
        3s CreateContainer c attempt 1, then back-off 10s
        3s Start c-1
        3s settled
           Running initialized ready 10.244.1.2
              c=running(1) after 143
    "#]]);
}
