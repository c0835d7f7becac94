//! Pods on a real Docker, in a node of their own (`tests/harness/cluster.sh`). Needs root, dockerd
//! and rustc; says so and passes where they are missing.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test of a shell")]

mod api;
#[path = "../streams/kubectl.rs"]
#[allow(dead_code, reason = "shared with the tests of streams, which use all of it")]
mod kubectl;
mod node;
mod registry;
#[path = "../cluster/world.rs"]
#[allow(dead_code, reason = "shared with the tests of clusters, which use all of it")]
mod world;

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ContainerStatus;
use mainstay::{
    agent::{
        disk::Disk,
        docker::Machine,
        driver::{self, Observation, PodsHandle},
        pods::Settings,
        runtime::LogOptions,
    },
    model::{NodeName, Object, session::ObservedPod},
    node::{NodeFacts, files::PodDns, ipam::PodRange},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};

/// Generous: two busy cores make Docker slow.
const DEADLINE: Duration = Duration::from_secs(120);
const NETWORK: &str = "mainstay-test-pods";
const RANGE: &str = "10.244.1.0/24";

/// One agent's driver, and what it said so far.
struct Agent {
    handle: PodsHandle<Machine>,
    seen: mpsc::Receiver<Observation>,
    task: JoinHandle<()>,
    pods: BTreeMap<String, ObservedPod>,
    events: Vec<String>,
}

impl Agent {
    async fn start(dir: &std::path::Path) -> Self {
        let disk = Disk::new(dir.join("disk"), dir.join("memory"));
        let machine = Machine::connect(&node::socket(), NETWORK, disk).await.unwrap();
        let settings = Settings {
            node: NodeFacts {
                name: NodeName::new("n1"),
                ip: "172.31.77.1".into(),
                cpu_milli: 2000,
                memory_bytes: 4 << 30,
            },
            dns: PodDns {
                nameserver: Some("10.96.0.10".parse().unwrap()),
                domain: "cluster.local".into(),
                host: String::new(),
            },
            range: PodRange::parse(RANGE),
        };
        let (handle, seen, task) = driver::start(machine, settings);
        Self { handle, seen, task, pods: BTreeMap::new(), events: vec![] }
    }

    async fn desired(&self, objects: &[Value]) {
        let objects = objects.iter().map(|o| Object::from_value(o).unwrap());
        self.handle.desired(objects.map(|o| (o.key().clone(), o)).collect()).await.unwrap();
    }

    /// Reads observations until `done` holds for the newest status of `name`.
    async fn until(
        &mut self,
        what: &str,
        name: &str,
        done: impl Fn(&ObservedPod) -> bool,
    ) -> ObservedPod {
        let wait = async {
            loop {
                if let Some(pod) = self.pods.get(name).filter(|p| done(p)) {
                    return pod.clone();
                }
                match self.seen.recv().await.expect("the driver ended") {
                    Observation::Pod(pod) => {
                        self.pods.insert(pod.key.name.to_string(), pod);
                    }
                    Observation::Event(e) => {
                        self.events
                            .push(format!("{} {}: {}", e.regarding.name, e.reason, e.message));
                    }
                }
            }
        };
        let begun = std::time::Instant::now();
        match tokio::time::timeout(DEADLINE, wait).await {
            Ok(pod) => {
                eprintln!("{what} after {} ms", begun.elapsed().as_millis());
                pod
            }
            Err(_) => panic!(
                "{what} did not come; last: {}\nevents: {:#?}",
                serde_json::to_string_pretty(&self.pods.get(name)).unwrap(),
                self.events
            ),
        }
    }

    /// Dies as an agent dies: nothing is cleaned up.
    async fn die(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }

    async fn log(&self, pod: &str, container: &str, options: LogOptions) -> String {
        let log = self.handle.logs("shop", pod, Some(container), &options).await.unwrap();
        let parts: Vec<_> = log.map(|part| part.unwrap()).collect().await;
        String::from_utf8(parts.concat()).unwrap()
    }
}

fn container<'a>(pod: &'a ObservedPod, name: &str) -> &'a ContainerStatus {
    let list = pod.status.container_statuses.as_ref().unwrap();
    list.iter().find(|c| c.name == name).unwrap()
}

fn is_running(pod: &ObservedPod, name: &str) -> bool {
    container(pod, name).state.as_ref().unwrap().running.is_some()
}

fn waits_for(pod: &ObservedPod, name: &str) -> Option<String> {
    container(pod, name).state.as_ref()?.waiting.as_ref()?.reason.clone()
}

fn condition(pod: &ObservedPod, name: &str) -> bool {
    let conditions = pod.status.conditions.as_ref().unwrap();
    conditions.iter().any(|c| c.type_ == name && c.status == "True")
}

fn pod(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "labels": {"app": name}},
        "spec": spec,
    })
}

fn config(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cfg", "namespace": "shop"}, "data": {"greeting": value}})
}

fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "sec", "namespace": "shop"}, "data": {"pw": "aHVudGVyMg=="}})
}

fn web() -> Value {
    pod(
        "web",
        json!({
            "terminationGracePeriodSeconds": 20,
            "volumes": [
                {"name": "cfg", "configMap": {"name": "cfg"}},
                {"name": "sec", "secret": {"secretName": "sec"}},
                {"name": "tmp", "emptyDir": {}},
            ],
            "containers": [
                {
                    "name": "web", "image": node::IMAGE, "imagePullPolicy": "IfNotPresent",
                    "args": ["serve", "$(PORT)"],
                    "env": [
                        {"name": "PORT", "value": "8080"},
                        {"name": "GREETING",
                         "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "greeting"}}},
                        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    ],
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"},
                        "periodSeconds": 1, "failureThreshold": 1},
                    "livenessProbe": {"httpGet": {"path": "/live", "port": "http"},
                        "periodSeconds": 1, "failureThreshold": 1},
                    "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
                    "volumeMounts": [
                        {"name": "cfg", "mountPath": "/etc/cfg"},
                        {"name": "sec", "mountPath": "/etc/sec", "readOnly": true},
                        {"name": "tmp", "mountPath": "/tmp"},
                    ],
                },
                {
                    "name": "side", "image": node::IMAGE, "imagePullPolicy": "IfNotPresent",
                    "args": ["say", "hello", "from", "$(NAME)"],
                    "env": [{"name": "NAME",
                        "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                },
            ],
        }),
    )
}

#[test]
fn a_pod_lives_crashes_is_adopted_and_leaves_nothing() {
    node::inside("a_pod_lives_crashes_is_adopted_and_leaves_nothing", async {
        let dir = tempfile::tempdir().unwrap();
        node::prepare(NETWORK, RANGE).await;
        let mut agent = Agent::start(dir.path()).await;
        agent.desired(&[web(), config("hi"), secret()]).await;

        let seen =
            agent.until("both run", "web", |p| is_running(p, "web") && is_running(p, "side")).await;
        let ip = seen.status.pod_ip.clone().unwrap();
        assert!(ip.starts_with("10.244.1."), "an address of the node's range: {ip}");
        assert_eq!(seen.status.qos_class.as_deref(), Some("Burstable"));
        assert!(!condition(&seen, "Ready"), "its readiness probe has not succeeded");
        node::until_answers(&ip, 8080).await;
        let env = node::get(&ip, 8080, "/env").await;
        for line in ["GREETING=hi", "PORT=8080", &format!("IP={ip}")] {
            assert!(env.lines().any(|l| l == line), "{line} in {env}");
        }
        assert_eq!(node::get(&ip, 8080, "/file/etc/cfg/greeting").await, "hi");
        assert_eq!(node::get(&ip, 8080, "/file/etc/sec/pw").await, "hunter2");
        let hosts = node::get(&ip, 8080, "/file/etc/hosts").await;
        assert!(hosts.contains(&format!("{ip}\tweb")), "{hosts}");
        let resolv = node::get(&ip, 8080, "/file/etc/resolv.conf").await;
        assert!(resolv.contains("nameserver 10.96.0.10"), "{resolv}");
        assert_eq!(node::get(&ip, 8080, "/file/proc/sys/kernel/hostname").await.trim(), "web");

        // Logs.
        let all = agent.log("web", "side", LogOptions::default()).await;
        let mut lines: Vec<_> = all.lines().collect();
        // Docker reads the two streams apart, so their order is not given.
        lines.sort_unstable();
        assert_eq!(lines, ["and on stderr", "hello from web"]);
        let last = LogOptions { tail: Some(1), ..LogOptions::default() };
        assert_eq!(agent.log("web", "web", last).await, "serving on 8080\n");

        // Readiness turns, and back.
        node::get(&ip, 8080, "/toggle-ready").await;
        agent.until("ready", "web", |p| condition(p, "Ready")).await;
        node::get(&ip, 8080, "/toggle-ready").await;
        agent.until("unready", "web", |p| !condition(p, "Ready")).await;
        let unhealthy =
            "web Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503";
        assert!(agent.events.iter().any(|e| e == unhealthy), "{:#?}", agent.events);
        node::get(&ip, 8080, "/toggle-ready").await;
        let ready = agent.until("ready again", "web", |p| condition(p, "Ready")).await;

        // A changed ConfigMap appears in the volume, and restarts nothing.
        agent.desired(&[web(), config("changed"), secret()]).await;
        node::until_file(&ip, 8080, "/file/etc/cfg/greeting", "changed").await;
        let ids = |p: &ObservedPod| {
            ["web", "side"].map(|name| container(p, name).container_id.clone().unwrap())
        };

        // An agent that dies and a new one: the same containers, still ready, nothing made.
        agent.die().await;
        let mut agent = Agent::start(dir.path()).await;
        let mut known = web();
        known["status"] = serde_json::to_value(&ready.status).unwrap();
        agent.desired(&[known, config("changed"), secret()]).await;
        let adopted = agent.until("adopted", "web", |p| is_running(p, "web")).await;
        assert_eq!(ids(&adopted), ids(&ready));
        assert_eq!(adopted.status.pod_ip, Some(ip.clone()));
        assert!(condition(&adopted, "Ready"), "an agent's restart takes no endpoint away");
        assert_eq!(agent.events, Vec::<String>::new());

        // A crash: restarted at once; the second one waits.
        node::get(&ip, 8080, "/exit/3").await;
        let again = agent
            .until("restarted", "web", |p| {
                container(p, "web").restart_count == 1 && is_running(p, "web")
            })
            .await;
        let last = container(&again, "web").last_state.clone().unwrap().terminated.unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
        assert_eq!(container(&again, "side").restart_count, 0);
        assert_eq!(again.status.pod_ip, Some(ip.clone()));
        node::until_answers(&ip, 8080).await;
        node::get(&ip, 8080, "/exit/0").await;
        let waits = agent
            .until("back-off", "web", |p| {
                waits_for(p, "web").as_deref() == Some("CrashLoopBackOff")
            })
            .await;
        let state = container(&waits, "web").state.clone().unwrap();
        let expect = "back-off 10s restarting failed container=web pod=web_shop(uid-web)";
        assert_eq!(state.waiting.unwrap().message.as_deref(), Some(expect));
        let before = LogOptions { previous: true, ..LogOptions::default() };
        assert_eq!(agent.log("web", "web", before).await, "serving on 8080\n");
        // The agent dies while it waits: the count and the delay are in the labels.
        agent.die().await;
        let mut agent = Agent::start(dir.path()).await;
        agent.desired(&[web(), config("changed"), secret()]).await;
        let waits = agent.until("seen again", "web", |_| true).await;
        assert_eq!(container(&waits, "web").restart_count, 1);
        agent
            .until("second restart", "web", |p| {
                container(p, "web").restart_count == 2 && is_running(p, "web")
            })
            .await;

        // A failed liveness probe kills and restarts... after its back-off, which the kill shows
        // first.
        node::until_answers(&ip, 8080).await;
        node::get(&ip, 8080, "/toggle-live").await;
        agent
            .until("killed", "web", |p| waits_for(p, "web").as_deref() == Some("CrashLoopBackOff"))
            .await;
        let killing = "web Killing: Container web failed liveness probe, will be restarted";
        assert!(agent.events.iter().any(|e| e == killing), "{:#?}", agent.events);

        // Not desired any more: stopped, removed, told, and nothing is left.
        agent.desired(&[]).await;
        agent.until("gone", "web", |p| p.gone).await;
        assert_eq!(node::leftovers().await, Vec::<String>::new());
        for base in ["disk", "memory"] {
            let left = std::fs::read_dir(dir.path().join(base).join("pods")).unwrap().count();
            assert_eq!(left, 0, "directories under {base}");
        }
        agent.die().await;
    });
}

#[test]
fn pods_end_wait_and_say_why() {
    node::inside("pods_end_wait_and_say_why", async {
        let dir = tempfile::tempdir().unwrap();
        node::prepare(NETWORK, RANGE).await;
        let mut agent = Agent::start(dir.path()).await;
        let run = |args: &[&str]| {
            json!({"name": "c", "image": node::IMAGE,
            "imagePullPolicy": "Never", "args": args})
        };
        let job = |name, code| {
            pod(name, json!({"restartPolicy": "Never", "containers": [run(&["exit", code])]}))
        };
        let mut init = run(&["exit", "0"]);
        init["name"] = json!("first");
        let with_init =
            pod("init", json!({"initContainers": [init], "containers": [run(&["serve", "1"])]}));
        let mut guaranteed = run(&["serve", "1"]);
        guaranteed["resources"] = json!({"limits": {"cpu": "100m", "memory": "32Mi"}});
        let mut absent = run(&[]);
        absent["image"] = json!("mainstay.test/absent:1");
        let mut unreachable = absent.clone();
        unreachable["image"] = json!("127.0.0.1:1/absent:1");
        unreachable["imagePullPolicy"] = json!("IfNotPresent");
        let mut confused = run(&["serve", "1"]);
        confused["envFrom"] = json!([{"configMapRef": {"name": "gone"}}]);
        let mut broken = run(&[]);
        broken["command"] = json!(["/no/such/program"]);
        agent
            .desired(&[
                job("good", "0"),
                job("bad", "7"),
                with_init,
                pod("guaranteed", json!({"containers": [guaranteed]})),
                pod("absent", json!({"containers": [absent]})),
                pod("unreachable", json!({"containers": [unreachable]})),
                pod("confused", json!({"containers": [confused]})),
                pod("broken", json!({"restartPolicy": "Never", "containers": [broken]})),
            ])
            .await;
        let phase = |p: &ObservedPod| p.status.phase.clone().unwrap();
        agent.until("good", "good", |p| phase(p) == "Succeeded").await;
        let bad = agent.until("bad", "bad", |p| phase(p) == "Failed").await;
        let end = container(&bad, "c").state.clone().unwrap().terminated.unwrap();
        assert_eq!((end.exit_code, end.reason.as_deref()), (7, Some("Error")));
        let init = agent.until("init", "init", |p| is_running(p, "c")).await;
        let first = &init.status.init_container_statuses.as_ref().unwrap()[0];
        assert_eq!(first.state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 0);
        // Where the host refuses negative OOM scores the pod runs all the same.
        let guaranteed = agent.until("guaranteed", "guaranteed", |p| is_running(p, "c")).await;
        assert_eq!(guaranteed.status.qos_class.as_deref(), Some("Guaranteed"));
        let reason =
            |name: &'static str| move |p: &ObservedPod| waits_for(p, "c").as_deref() == Some(name);
        agent.until("absent", "absent", reason("ErrImageNeverPull")).await;
        agent.until("unreachable", "unreachable", reason("ImagePullBackOff")).await;
        let confused =
            agent.until("confused", "confused", reason("CreateContainerConfigError")).await;
        let waiting = container(&confused, "c").state.clone().unwrap().waiting.unwrap();
        assert_eq!(waiting.message.as_deref(), Some("configmap \"gone\" not found"));
        let broken = agent.until("broken", "broken", |p| phase(p) == "Failed").await;
        let end = container(&broken, "c").state.clone().unwrap().terminated.unwrap();
        assert_eq!(end.reason.as_deref(), Some("ContainerCannotRun"));

        agent.desired(&[]).await;
        for name in
            ["good", "bad", "init", "guaranteed", "absent", "unreachable", "confused", "broken"]
        {
            agent.until("gone", name, |p| p.gone).await;
        }
        assert_eq!(node::leftovers().await, Vec::<String>::new());
        agent.die().await;
    });
}

/// Every place where the agent can be made to die while it starts a pod.
const STARTING: [&str; 7] = [
    "after-pod-directory",
    "after-volume",
    "after-volume-written",
    "after-create-sandbox",
    "after-start",
    "after-container-files",
    "after-create-container",
];
/// The same for stopping one.
const STOPPING: [&str; 4] =
    ["after-terminate", "after-remove", "after-directory-part", "after-remove-directory"];

/// A process of its own that runs an agent over `dir` until it dies at `failpoint`.
async fn die_at(failpoint: &str, test: &str, dir: &std::path::Path, desired: &[Value]) {
    std::fs::write(dir.join("desired.json"), serde_json::to_vec(desired).unwrap()).unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("MAINSTAY_TEST_AGENT", dir)
        .env("MAINSTAY_FAILPOINT", failpoint)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ended = tokio::time::timeout(DEADLINE, child.wait()).await;
    let status = ended.unwrap_or_else(|_| panic!("{failpoint} was never reached")).unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(6), "{failpoint}: {status}");
}

/// What the process of [`die_at`] does.
async fn be_an_agent(dir: &std::path::Path) {
    let desired = std::fs::read(dir.join("desired.json")).unwrap();
    let desired: Vec<Value> = serde_json::from_slice(&desired).unwrap();
    let mut agent = Agent::start(dir).await;
    agent.desired(&desired).await;
    while agent.seen.recv().await.is_some() {}
}

#[test]
fn an_agent_killed_after_any_side_effect_leaves_nothing_behind() {
    const TEST: &str = "an_agent_killed_after_any_side_effect_leaves_nothing_behind";
    node::inside(TEST, async {
        if let Ok(dir) = std::env::var("MAINSTAY_TEST_AGENT") {
            return be_an_agent(dir.as_ref()).await;
        }
        let dir = tempfile::tempdir().unwrap();
        node::prepare(NETWORK, RANGE).await;
        let both = |p: &ObservedPod| is_running(p, "web") && is_running(p, "side");
        for failpoint in STARTING.into_iter().chain(STOPPING) {
            let desired = [web(), config("hi"), secret()];
            if STARTING.contains(&failpoint) {
                die_at(failpoint, TEST, dir.path(), &desired).await;
            }
            let mut agent = Agent::start(dir.path()).await;
            agent.desired(&desired).await;
            let seen = agent.until(failpoint, "web", both).await;
            let restarts = ["web", "side"].map(|name| container(&seen, name).restart_count);
            assert_eq!(restarts, [0, 0], "{failpoint}");
            assert_eq!(
                node::leftovers().await.len(),
                3,
                "{failpoint}: one sandbox, two containers"
            );
            if STOPPING.contains(&failpoint) {
                agent.die().await;
                die_at(failpoint, TEST, dir.path(), &[]).await;
                agent = Agent::start(dir.path()).await;
            }
            agent.desired(&[]).await;
            node::until_empty(dir.path()).await;
            agent.die().await;
        }
    });
}

#[test]
fn a_daemon_that_hangs_is_unknown_and_nothing_starts_twice() {
    node::inside("a_daemon_that_hangs_is_unknown_and_nothing_starts_twice", async {
        let dir = tempfile::tempdir().unwrap();
        node::prepare(NETWORK, RANGE).await;
        let mut agent = Agent::start(dir.path()).await;
        let both = |p: &ObservedPod| is_running(p, "web") && is_running(p, "side");
        let files = [config("hi"), secret()];
        agent.desired(&[vec![web()], files.to_vec()].concat()).await;
        let before = agent.until("web", "web", both).await;
        let ip = before.status.pod_ip.clone().unwrap();
        node::until_answers(&ip, 8080).await;
        let side = container(&before, "side").container_id.clone().unwrap();
        let pid = node::pid(side.trim_start_matches("docker://")).await;

        let daemon = node::daemon();
        node::signal(daemon, nix::sys::signal::Signal::SIGSTOP);
        let other = pod(
            "other",
            json!({"containers": [{"name": "c", "image": node::IMAGE,
                "imagePullPolicy": "Never", "args": ["serve", "1"]}]}),
        );
        agent.desired(&[vec![web(), other], files.to_vec()].concat()).await;
        node::signal(pid, nix::sys::signal::Signal::SIGKILL);
        // Probes go on while nothing is heard of Docker.
        node::get(&ip, 8080, "/toggle-ready").await;
        agent.until("ready", "web", |p| container(p, "web").ready).await;
        node::signal(daemon, nix::sys::signal::Signal::SIGCONT);

        agent.until("other", "other", |p| is_running(p, "c")).await;
        let after = agent
            .until("side again", "web", |p| both(p) && container(p, "side").restart_count == 1)
            .await;
        let last = container(&after, "side").last_state.clone().unwrap().terminated.unwrap();
        assert_eq!(last.exit_code, 137);
        assert_eq!(container(&after, "web").container_id, container(&before, "web").container_id);
        // Two sandboxes, three containers, and the one that died.
        assert_eq!(node::leftovers().await.len(), 6);
        agent.die().await;
    });
}

#[test]
fn a_daemon_that_was_killed_finds_its_pods_again_and_what_died_is_counted() {
    const TEST: &str = "a_daemon_that_was_killed_finds_its_pods_again_and_what_died_is_counted";
    node::inside(TEST, async {
        let dir = tempfile::tempdir().unwrap();
        node::prepare(NETWORK, RANGE).await;
        let mut agent = Agent::start(dir.path()).await;
        let both = |p: &ObservedPod| is_running(p, "web") && is_running(p, "side");
        agent.desired(&[web(), config("hi"), secret()]).await;
        let before = agent.until("web", "web", both).await;
        let side = container(&before, "side").container_id.clone().unwrap();
        let pid = node::pid(side.trim_start_matches("docker://")).await;

        let daemon = node::kill_daemon();
        node::signal(pid, nix::sys::signal::Signal::SIGKILL);
        let daemon = node::start_daemon(&daemon);
        // Docker tells nobody what died while it was down.
        let after = agent
            .until("side again", "web", |p| both(p) && container(p, "side").restart_count == 1)
            .await;
        assert_eq!(container(&after, "web").container_id, container(&before, "web").container_id);
        assert_eq!(after.status.pod_ip, before.status.pod_ip);
        assert_eq!(node::leftovers().await.len(), 4, "the sandbox, two containers, the dead one");
        agent.desired(&[]).await;
        agent.until("gone", "web", |p| p.gone).await;
        assert_eq!(node::leftovers().await, Vec::<String>::new());
        agent.die().await;
        drop(daemon);
    });
}

#[test]
fn a_running_container_gets_another_share_of_the_node() {
    node::inside("a_running_container_gets_another_share_of_the_node", async {
        let dir = tempfile::tempdir().unwrap();
        node::prepare(NETWORK, RANGE).await;
        let mut agent = Agent::start(dir.path()).await;
        let of = |cpu: &str, memory: &str| {
            pod(
                "web",
                json!({"terminationGracePeriodSeconds": 1, "containers": [{
                    "name": "web", "image": node::IMAGE, "imagePullPolicy": "IfNotPresent",
                    "args": ["serve", "8080"],
                    "resources": {"limits": {"cpu": cpu, "memory": memory}},
                }]}),
            )
        };
        agent.desired(&[of("500m", "64Mi")]).await;
        let seen = agent.until("it runs", "web", |p| is_running(p, "web")).await;
        let share = |p: &ObservedPod| {
            let limits = container(p, "web").resources.clone()?.limits?;
            Some([limits["cpu"].0.clone(), limits["memory"].0.clone()])
        };
        assert_eq!(share(&seen), Some(["500m".to_owned(), "64Mi".to_owned()]));
        let before = container(&seen, "web").container_id.clone().unwrap();
        agent.desired(&[of("250m", "96Mi")]).await;
        let wanted = Some(["250m".to_owned(), "96Mi".to_owned()]);
        let seen = agent.until("it has its share", "web", |p| share(p) == wanted).await;
        assert_eq!(container(&seen, "web").container_id.as_ref(), Some(&before), "not made anew");
        assert_eq!(container(&seen, "web").restart_count, 0);
        let ip = seen.status.pod_ip.clone().unwrap();
        node::until_answers(&ip, 8080).await;
        let id = before.trim_start_matches("docker://");
        let (quota, memory) = node::share(id).await;
        assert_eq!((quota, memory), (25_000, 96 << 20));
        agent.desired(&[]).await;
        node::until_empty(dir.path()).await;
        agent.die().await;
    });
}
