//! What holds when servers die.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use mainstay::node::seen::labels;

use crate::world::{CALM, Container, NAMESPACE, World, deployment, run, service, until};

/// The promise: writes resume within this time after a leader died.
const RESUME: Duration = Duration::from_secs(3);

#[test]
fn a_commit_runs_on_three_servers_and_two_nodes() {
    let Some(w) = World::up("a_commit_runs_on_three_servers_and_two_nodes", 3) else { return };
    w.servers(3, CALM);
    w.agents(&[2, 3]);
    let (web, svc) = (deployment("web", 2, "1"), service("web", 30080));
    let commit = w.push(&[("ns.yaml", NAMESPACE), ("web.yaml", &web), ("svc.yaml", &svc)], "web");
    w.healthy(1, &commit);
    let env = until("the node port answers", || w.get(3, "http://127.0.0.1:30080/env"));
    assert!(env.contains("VERSION=1"), "{env}");
    until("the note", || w.note(&commit).filter(|n| n.starts_with("Healthy")));
}

/// When a server said that it admitted a commit, by its own clock.
fn admitted_at(w: &World, commit: &str) -> Option<Timestamp> {
    (1..=3).find_map(|node| {
        let log = std::fs::read_to_string(w.server_dir(node).join("server.log")).ok()?;
        let line = log.lines().find(|l| l.contains("commit admitted") && l.contains(commit))?;
        line.split_whitespace().next()?.parse().ok()
    })
}

/// Nothing was written to Git twice: the indexes shown only grow, and no note was written again
/// with a text that it had before.
fn git_tells_each_state_once(w: &World) {
    let format = "--format=%(trailers:key=Index,valueonly)";
    let all = w.bare(&["log", "--reverse", format, "mainstay/status"]).unwrap();
    let indexes: Vec<u64> = all.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!(indexes.windows(2).all(|w| w[0] < w[1]), "{indexes:?}");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for version in
        w.bare(&["log", "--reverse", "--format=%H", "refs/notes/mainstay"]).unwrap().lines()
    {
        for entry in w.bare(&["ls-tree", "-r", version]).unwrap().lines() {
            let (facts, path) = entry.split_once('\t').unwrap();
            let blob = facts.rsplit(' ').next().unwrap().to_owned();
            let seen = texts.entry(path.replace('/', "")).or_default();
            if seen.last() != Some(&blob) {
                seen.push(blob);
            }
        }
    }
    for (commit, seen) in texts {
        let distinct: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "the note of {commit} went back: {seen:?}");
    }
}

/// Ids by pod and container, and that none was ever restarted.
fn never_restarted(found: &[(u8, Container)]) {
    for (node, container) in found.iter().filter(|(_, c)| c.name != "sandbox") {
        let attempt = container.labels.get(labels::ATTEMPT).map(String::as_str);
        assert_eq!(attempt, Some("0"), "on node {node}: {container:?}");
        assert!(container.running, "on node {node}: {container:?}");
    }
}

#[test]
fn a_leader_killed_mid_rollout_costs_three_seconds_and_nothing_else() {
    let test = "a_leader_killed_mid_rollout_costs_three_seconds_and_nothing_else";
    let Some(w) = World::up(test, 3) else { return };
    // Default elections: they are what is measured.
    w.servers(3, "");
    w.agents(&[2, 3]);
    let (web, still) = (deployment("web", 4, "1"), deployment("still", 2, "1"));
    let first =
        w.push(&[("ns.yaml", NAMESPACE), ("web.yaml", &web), ("still.yaml", &still)], "both");
    w.healthy(1, &first);
    let still_before = w.ids(&[2, 3], "shop/still");
    assert_eq!(still_before.len(), 4, "two pods, each with its sandbox: {still_before:?}");

    let second = w.push(&[("web.yaml", &deployment("web", 4, "2"))], "web 2");
    until("the rollout begins", || admitted_at(&w, &second));
    let leader = w.some_leader();
    w.kill_server(leader);
    let killed = Timestamp::now();
    let third = w.push(&[("web.yaml", &deployment("web", 4, "3"))], "web 3");
    let admitted = until("the new leader admits a commit", || admitted_at(&w, &third));
    let took = admitted.duration_since(killed).unsigned_abs();
    eprintln!("writes resumed {} ms after the leader was killed", took.as_millis());
    assert!(took < RESUME, "writes resumed after {took:?}");

    let other = (1..=3).find(|n| *n != leader).unwrap();
    w.healthy(other, &third);
    until("the old pods are gone", || {
        let all = w.ids(&[2, 3], "shop/web");
        (all.len() == 8).then_some(())
    });
    let web = w.ids(&[2, 3], "shop/web");
    never_restarted(&web);
    let pods: BTreeSet<&String> = web.iter().map(|(_, c)| &c.pod).collect();
    assert_eq!(pods.len(), 4, "{pods:?}");
    assert_eq!(w.ids(&[2, 3], "shop/still"), still_before, "what no commit touched stays");

    // Back again, it knows the same and changes nothing.
    w.start_server(leader);
    w.healthy(leader, &third);
    until("the note", || w.note(&third).filter(|n| n.starts_with("Healthy")));
    until("the status branch", || {
        w.status_file(&format!("commits/{third}.yaml")).filter(|t| t.contains("Healthy"))
    });
    assert!(w.note(&second).is_some(), "no status is lost");
    git_tells_each_state_once(&w);
    assert_eq!(w.ids(&[2, 3], "shop/web"), web, "nothing was made anew");
    assert_eq!(w.ids(&[2, 3], "shop/still"), still_before);
}

fn config_map(n: u32) -> String {
    format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {{\"name\": \"n{n}\", \
         \"namespace\": \"shop\"}}, \"data\": {{\"n\": \"{n}\"}}}}"
    )
}

#[test]
fn servers_killed_one_after_the_other_under_a_stream_of_commits_agree() {
    let test = "servers_killed_one_after_the_other_under_a_stream_of_commits_agree";
    let Some(w) = World::up(test, 3) else { return };
    w.servers(3, "");
    w.push(&[("ns.yaml", NAMESPACE)], "begin");
    let mut last = String::new();
    let mut n = 0;
    let mut push = |w: &World| {
        n += 1;
        last = w.push(&[(&format!("c{n}.yaml"), &config_map(n))], &format!("commit {n}"));
        (n, last.clone())
    };
    for round in 0..6u8 {
        push(&w);
        // By turns the leader and a follower, so that each kind and each server has its turn.
        let leader = w.some_leader();
        let victim = if round % 2 == 0 { leader } else { leader % 3 + 1 };
        w.kill_server(victim);
        push(&w);
        w.start_server(victim);
        push(&w);
    }
    let (count, last) = push(&w);
    w.healthy(1, &last);
    // Every replica comes to the same revision with the same content.
    let facts = until("all servers show the same", || {
        let mut all: Vec<_> = (1..=3).filter_map(|n| w.status(n)).collect();
        for status in &mut all {
            let log = status["log"]["appliedIndex"].clone();
            status["log"] = log;
        }
        (all.len() == 3 && all.windows(2).all(|w| w[0] == w[1])).then(|| all.remove(0))
    });
    assert_eq!(facts["counts"]["ConfigMap"]["desired"], count, "{facts:#}");
    assert_eq!(facts["commit"], last);
    for node in 1..=3 {
        let log = std::fs::read_to_string(w.server_dir(node).join("server.log")).unwrap();
        assert!(!log.contains("state differs"), "server {node}");
        assert!(!log.contains("panicked"), "server {node}");
    }
    until("the note", || w.note(&last).filter(|n| n.starts_with("Healthy")));
    git_tells_each_state_once(&w);
}

#[test]
fn without_any_server_everything_goes_on() {
    let Some(w) = World::up("without_any_server_everything_goes_on", 3) else { return };
    w.servers(3, CALM);
    w.agents(&[2, 3]);
    let (web, svc) = (deployment("web", 2, "1"), service("web", 30080));
    let commit = w.push(&[("ns.yaml", NAMESPACE), ("web.yaml", &web), ("svc.yaml", &svc)], "web");
    w.healthy(1, &commit);
    let answers = |node| w.get(node, "http://127.0.0.1:30080/env").is_some();
    for node in [2, 3] {
        until("the service answers", || answers(node).then_some(()));
    }
    for node in 1..=3 {
        w.kill_server(node);
    }
    let app = |node: u8| {
        let all = w.ids(&[node], "shop/web");
        all.into_iter().map(|(_, c)| c).find(|c| c.name == "web" && c.running)
    };
    let restarted = |node: u8, what: &str| {
        let before = app(node).unwrap();
        let id = before.id.clone();
        run(w.harness(&["docker", &node.to_string(), "kill", &id]));
        let after = until(what, || app(node).filter(|c| c.id != id));
        assert_eq!(after.pod, before.pod, "restarted in its pod, not made anew");
    };
    restarted(2, "a killed container restarts without a server");

    // An agent that starts with no server in reach adopts what runs and goes on with it.
    let before = w.ids(&[3], "shop/web");
    w.kill_agent(3);
    w.start_agent(3);
    for node in [2, 3] {
        until("the service answers without a server", || answers(node).then_some(()));
    }
    assert_eq!(w.ids(&[3], "shop/web"), before, "adopted");
    restarted(3, "a killed container restarts under an agent that never saw a server");
    for node in [2, 3] {
        until("the service answers", || answers(node).then_some(()));
    }

    let running = |all: Vec<(u8, Container)>| -> Vec<(u8, Container)> {
        all.into_iter().filter(|(_, c)| c.running).collect()
    };
    let before = running(w.ids(&[2, 3], "shop/"));
    let starts: Vec<_> = (1..=3).map(|node| w.start_server_soon(node)).collect();
    for mut start in starts {
        assert!(start.wait().unwrap().success(), "{}", w.talk(1));
    }
    w.healthy(1, &commit);
    // A later commit has run through everything, so what would be made anew has been by then.
    let last = w.push(&[("c.yaml", &config_map(1))], "after");
    w.healthy(1, &last);
    until("both nodes are ready", || {
        let status = w.status(1)?;
        let ready = status["nodes"].as_array()?.iter().filter(|n| n["ready"] == true).count();
        (ready == 2).then_some(())
    });
    assert_eq!(running(w.ids(&[2, 3], "shop/")), before, "nothing is recreated");
}
