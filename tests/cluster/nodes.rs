//! What holds when agents, Docker and nodes fail.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::{
    look::{
        Answers, Pod, addresses, asks_from, container, each_answers, events, folders, is_ready,
        nothing_left, pods, sandboxes, settles, workload,
    },
    world::{CALM, NAMESPACE, World, deployment, run, service, throughout, until},
};

/// A node counts as silent soon, and its pods may be evicted at once.
fn hasty() -> String {
    format!("{CALM}timing: {{nodeSilenceSeconds: 6, evictionIntervalSeconds: 1}}\n")
}

/// A Deployment whose pods leave a node that is gone after a second.
fn movable(replicas: u32) -> String {
    let mut value: Value = serde_json::from_str(&deployment("web", replicas, "1")).unwrap();
    let leave = |key: &str| {
        json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 1})
    };
    value["spec"]["template"]["spec"]["tolerations"] =
        json!([leave("unreachable"), leave("not-ready")]);
    value.to_string()
}

/// One server, agents everywhere, `replicas` of web and its Service.
fn running(w: &World, config: &str, agents: &[u8], replicas: u32) -> Vec<Pod> {
    w.servers(1, config);
    w.agents(agents);
    let files = [
        ("ns.yaml", NAMESPACE),
        ("web.yaml", &movable(replicas)),
        ("svc.yaml", &service("web", 30080)),
    ];
    let commit = w.push(&files, "web");
    w.healthy(1, &commit);
    let all = pods(w, agents, "shop/web-");
    assert_eq!(all.len(), usize::try_from(replicas).unwrap(), "{all:?}");
    let names = hosts(&all);
    for &node in agents {
        settles("every endpoint answers", &names, || ask(w, node));
    }
    all
}

fn hosts(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().map(|p| p.host().to_owned()).collect()
}

fn ask(w: &World, node: u8) -> Answers {
    asks_from(w, &node.to_string(), "http://127.0.0.1:30080/name")
}

/// The process of a container's program, as the node sees it.
fn kill(w: &World, pod: &Pod) {
    let pid = pod.running["web"].pid.to_string();
    run(w.inside(pod.node, &["kill", "-KILL", &pid]));
}

/// Sends a signal to a node's dockerd.
fn signal_dockerd(w: &World, node: u8, signal: &str) {
    let kill = format!("kill -{signal} $(cat /run/docker.pid)");
    run(w.inside(node, &["sh", "-c", &kill]));
}

/// Everything on a node belongs to a pod that is there: containers, folders, addresses.
fn nothing_is_orphaned(w: &World, node: u8) {
    until("folders are those of pods", || (folders(w, node) == sandboxes(w, node)).then_some(()));
    let here = pods(w, &[node], "");
    let ips: BTreeSet<String> = here.iter().map(|p| p.ip.clone()).collect();
    assert_eq!(addresses(w, node), ips, "an address is a pod's");
    let strays: Vec<_> =
        w.containers(node).into_iter().filter(|c| !here.iter().any(|p| p.name == c.pod)).collect();
    assert!(strays.is_empty(), "{strays:?}");
}

#[test]
fn an_agent_that_comes_back_finds_everything_as_it_was() {
    let test = "an_agent_that_comes_back_finds_everything_as_it_was";
    let Some(w) = World::up(test, 2) else { return };
    let before = running(&w, CALM, &[1, 2], 4);
    let names = hosts(&before);
    for kill in [true, false] {
        match kill {
            true => w.kill_agent(2),
            false => w.stop_agent(2),
        }
        each_answers("without an agent", &names, &ask(&w, 2));
        assert_eq!(pods(&w, &[1, 2], "shop/web-"), before);
        w.start_agent(2);
        each_answers("with an agent again", &names, &ask(&w, 2));
        // What it does at its start is over once it acts on something new.
        let version = if kill { "k" } else { "s" };
        let spec = json!({"containers": [container("web", &["serve", "8080"])],
            "nodeSelector": {"kubernetes.io/hostname": w.host(2)}});
        let extra = workload(version, 1, spec).to_string();
        let commit = w.push(&[("extra.yaml", &extra)], "one more");
        w.healthy(1, &commit);
        assert_eq!(pods(&w, &[1, 2], "shop/web-"), before, "same ids, same counts");
    }
}

/// The agent dies after each of these side effects; every point is tried in `tests/pods`, here
/// with a server that wants something else meanwhile.
#[test]
fn an_agent_that_dies_half_way_leaves_nothing_behind() {
    let test = "an_agent_that_dies_half_way_leaves_nothing_behind";
    let Some(w) = World::up(test, 1) else { return };
    w.servers(1, CALM);
    w.agents(&[1]);
    let commit = w.push(&[("ns.yaml", NAMESPACE), ("svc.yaml", &service("web", 30080))], "ns");
    w.healthy(1, &commit);
    let dir = w.agent_dir(1);
    let dies = |point: &str| {
        w.stop_agent(1);
        let point = format!("MAINSTAY_FAILPOINT={point}");
        let agent = ["agent", "--dir", dir.to_str().unwrap(), "--detach"];
        let all = [&["env", &point, env!("CARGO_BIN_EXE_mainstay")], &agent[..]].concat();
        run(w.inside(1, &all));
    };
    let is_dead = || {
        let pid = std::fs::read_to_string(dir.join("agent.pid")).unwrap();
        let stat = w.inside(1, &["cat", &format!("/proc/{}/stat", pid.trim())]).output().unwrap();
        let gone = !stat.status.success() || String::from_utf8_lossy(&stat.stdout).contains(") Z");
        gone.then_some(())
    };
    for (round, (start, stop)) in [
        ("after-create-sandbox", "after-terminate"),
        ("after-create-container", "after-remove"),
        ("after-volume-written", "after-directory-part"),
    ]
    .into_iter()
    .enumerate()
    {
        // It dies while starting one pod; the commit after that wants another.
        dies(start);
        w.push(&[("web.yaml", &with_volume(&format!("a{round}")))], "first");
        until(start, is_dead);
        w.push(&[("web.yaml", &with_volume(&format!("b{round}")))], "second");
        w.start_agent(1);
        let wanted = format!("shop/b{round}-");
        nothing_left(&w, &[1], &format!("shop/a{round}-"));
        until("the other pod runs", || {
            let here = pods(&w, &[1], &wanted);
            here.first().is_some_and(|p| p.running.contains_key("web")).then_some(())
        });
        nothing_is_orphaned(&w, 1);
        // It dies while that one goes.
        dies(stop);
        std::fs::remove_file(w.path("work").join("web.yaml")).unwrap();
        let last = w.push(&[], "none");
        until(stop, is_dead);
        w.start_agent(1);
        nothing_left(&w, &[1], "shop/");
        nothing_is_orphaned(&w, 1);
        w.healthy(1, &last);
    }
    let rules = run(w.inside(1, &["iptables-save", "-t", "nat"]));
    assert!(
        !rules.contains("--to-destination 10.244."),
        "no rule sends to a pod that is gone: {rules}"
    );
}

fn with_volume(name: &str) -> String {
    let mut web = container("web", &["serve", "8080"]);
    web["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let spec = json!({"containers": [web], "volumes": [{"name": "data", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 2});
    let mut value = workload(name, 1, spec);
    value["spec"]["template"]["metadata"]["labels"] = json!({"app": name});
    value.to_string()
}

/// A Docker that does not answer says nothing about its containers.
#[test]
fn a_docker_that_hangs_or_dies_is_unknown_and_not_dead() {
    let test = "a_docker_that_hangs_or_dies_is_unknown_and_not_dead";
    let Some(w) = World::up(test, 2) else { return };
    let mut before = running(&w, &hasty(), &[1, 2], 4);
    for hang in [true, false] {
        let here: Vec<Pod> = before.iter().filter(|p| p.node == 2).cloned().collect();
        let elsewhere: Vec<Pod> = before.iter().filter(|p| p.node == 1).cloned().collect();
        let (dies, stays) = (&here[0], &here[1]);
        let counted = dies.restarts("web");
        match hang {
            true => signal_dockerd(&w, 2, "STOP"),
            false => {
                run(w.harness(&["killd", "2"]));
            }
        }
        kill(&w, dies);
        // Longer than a silent node is waited for: Docker's silence is not the node's.
        throughout(Duration::from_secs(10), "the node stays ready, nothing is replaced", || {
            is_ready(&w, 2) == Some(true) && pods(&w, &[1], "shop/web-") == elsewhere
        });
        // The dead one is noticed by its probe at least; the others answer.
        let names: BTreeSet<String> =
            hosts(&before).into_iter().filter(|n| n != dies.host()).collect();
        for node in [1, 2] {
            each_answers("the pods that live", &names, &ask(&w, node));
        }
        match hang {
            true => signal_dockerd(&w, 2, "CONT"),
            false => {
                run(w.harness(&["startd", "2"]));
            }
        }
        let after = until("what died runs again", || {
            let now = pods(&w, &[2], "shop/web-");
            let again = now.iter().find(|p| p.name == dies.name)?;
            let up = again.running.get("web").is_some_and(|c| c.id != dies.id("web"));
            up.then_some(now)
        });
        let again = after.iter().find(|p| p.name == dies.name).unwrap();
        assert_eq!(again.restarts("web"), counted + 1, "counted once");
        assert_eq!((again.id("sandbox"), &again.ip), (dies.id("sandbox"), &dies.ip));
        assert!(after.contains(stays), "what lived is the same: {after:?}");
        assert_eq!(after.len(), here.len(), "nothing was started twice: {after:?}");
        assert_eq!(pods(&w, &[1], "shop/web-"), elsewhere, "nothing moved");
        let names = hosts(&before);
        settles("it gets requests again", &names, || ask(&w, 1));
        settles("all again", &names, || ask(&w, 2));
        nothing_is_orphaned(&w, 2);
        before = pods(&w, &[1, 2], "shop/web-");
    }
    assert!(!events(&w).contains("NodeNotReady"), "{}", events(&w));
}

#[test]
fn a_node_that_is_cut_off_is_replaced_and_comes_back_empty() {
    let test = "a_node_that_is_cut_off_is_replaced_and_comes_back_empty";
    let Some(w) = World::up(test, 3) else { return };
    let before = running(&w, &hasty(), &[1, 2, 3], 3);
    let lost: Vec<&Pod> = before.iter().filter(|p| p.node == 3).collect();
    assert_eq!(lost.len(), 1, "{before:?}");
    run(w.harness(&["partition", "3"]));
    until("the node counts as gone", || (is_ready(&w, 3) == Some(false)).then_some(()));
    let replaced = until("three run on two nodes", || {
        let now = pods(&w, &[1, 2], "shop/web-");
        (now.len() == 3 && now.iter().all(|p| p.running.contains_key("web"))).then_some(now)
    });
    for pod in before.iter().filter(|p| p.node != 3) {
        assert!(replaced.contains(pod), "who lives stays: {replaced:?}");
    }
    let names = hosts(&replaced);
    for node in [1, 2] {
        settles("the lost pod's endpoint is gone", &names, || ask(&w, node));
        each_answers("the others", &names, &ask(&w, node));
    }
    // The node itself lets its pod live: nobody told it otherwise.
    assert_eq!(pods(&w, &[3], "shop/web-").iter().collect::<Vec<_>>(), lost);
    run(w.harness(&["heal", "3"]));
    until("the node is back", || (is_ready(&w, 3) == Some(true)).then_some(()));
    nothing_left(&w, &[3], "shop/web-");
    assert_eq!(pods(&w, &[1, 2], "shop/web-"), replaced, "nobody moves back");
    settles("its rules are those of the others", &names, || ask(&w, 3));
    nothing_is_orphaned(&w, 3);
    // No taint is left: it takes pods again.
    takes_pods(&w, 3);
}

/// A pod that wants this node and tolerates nothing runs there.
fn takes_pods(w: &World, node: u8) {
    let spec = json!({"containers": [container("web", &["serve", "8080"])],
        "nodeSelector": {"kubernetes.io/hostname": w.host(node)}});
    let commit = w.push(&[("probe.yaml", &workload("probe", 1, spec).to_string())], "probe");
    w.healthy(1, &commit);
    assert_eq!(pods(w, &[node], "shop/probe-").len(), 1);
}

#[test]
fn a_node_that_lost_power_comes_back_clean() {
    let test = "a_node_that_lost_power_comes_back_clean";
    let Some(w) = World::up(test, 2) else { return };
    let before = running(&w, &hasty(), &[1, 2], 4);
    // Long enough to be replaced.
    run(w.harness(&["poweroff", "2"]));
    let replaced = until("four run on one node", || {
        let now = pods(&w, &[1], "shop/web-");
        (now.len() == 4 && now.iter().all(|p| p.running.contains_key("web"))).then_some(now)
    });
    for pod in before.iter().filter(|p| p.node == 1) {
        assert!(replaced.contains(pod), "who lives stays: {replaced:?}");
    }
    run(w.harness(&["boot", "2"]));
    assert!(!w.containers(2).is_empty(), "Docker remembers containers that have ended");
    w.start_agent(2);
    until("the node is back", || (is_ready(&w, 2) == Some(true)).then_some(()));
    nothing_left(&w, &[2], "shop/web-");
    nothing_is_orphaned(&w, 2);
    assert_eq!(pods(&w, &[1], "shop/web-"), replaced, "nobody moves back");
    settles("services answer there", &hosts(&replaced), || ask(&w, 2));
    takes_pods(&w, 2);

    // So short that nobody noticed: its pod is started again, as itself.
    let probe = pods(&w, &[2], "shop/probe-").remove(0);
    run(w.harness(&["poweroff", "2"]));
    run(w.harness(&["boot", "2"]));
    w.start_agent(2);
    let again = until("its pod runs again", || {
        let now = pods(&w, &[1, 2], "shop/probe-");
        (now.len() == 1 && now[0].running.contains_key("web")).then(|| now[0].clone())
    });
    // On a busy machine the boot may take longer than a node may be silent.
    if again.name == probe.name {
        assert_eq!((again.node, again.restarts("web")), (2, probe.restarts("web") + 1));
    }
    until("one address a pod", || {
        let ips: BTreeSet<String> = pods(&w, &[2], "").into_iter().map(|p| p.ip).collect();
        (addresses(&w, 2) == ips).then_some(())
    });
}
