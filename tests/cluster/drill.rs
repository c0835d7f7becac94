//! The drill: every server is lost, disks and all, while the nodes run on. What is left are a clone
//! of the repository and the machines.

use std::{fs, path::Path, process::Child};

use serde_json::json;

use crate::world::{CALM, Container, IMAGE, NAMESPACE, World, deployment, run, until};

/// How often the Service is asked at least, before, while and after its cluster is lost.
const ASKED_MIN: usize = 80;

/// A Service that leaves its address and node port to the cluster.
fn service() -> String {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "type": "NodePort", "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    })
    .to_string()
}

/// A pod that no controller made.
fn alone() -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "alone", "namespace": "shop"},
        "spec": {"containers": [{
            "name": "web", "image": IMAGE, "imagePullPolicy": "Never", "args": ["serve", "8080"],
        }]},
    })
    .to_string()
}

/// Where the Service answers, as the status branch says: its address and its node port.
fn place(w: &World) -> Option<(String, String)> {
    let file = w.status_file("objects/shop/Service-web.yaml")?;
    let after = |before: &str| {
        let line = file.lines().find_map(|line| line.trim().strip_prefix(before))?;
        Some(line.trim_matches(['\'', '"']).to_owned())
    };
    let port = after("- 80:").or_else(|| after("- '80:"))?;
    Some((after("clusterIp: ")?, port.split('/').next()?.to_owned()))
}

/// Asks the Service again and again on a node, at its address and its node port, and writes down
/// how it went.
fn ask(w: &World, node: u8, (address, port): &(String, String)) -> Child {
    let (stop, log) = (w.path("stop"), w.path("asked"));
    let (stop, log) = (stop.display(), log.display());
    let script = format!(
        "while [ ! -e {stop} ]; do for at in {address}:80 127.0.0.1:{port}; do \
         curl -s -o /dev/null --max-time 2 http://$at/live && echo ok || echo \"$at $?\"; \
         done >> {log}; sleep 0.1; done"
    );
    w.inside(node, &["sh", "-c", &script]).spawn().unwrap()
}

/// What went wrong, and how often it went well.
fn asked(w: &World, mut asking: Child) -> (Vec<String>, usize) {
    fs::write(w.path("stop"), "").unwrap();
    asking.wait().unwrap();
    let text = fs::read_to_string(w.path("asked")).unwrap();
    let (good, bad): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| *line == "ok");
    (bad.into_iter().map(str::to_owned).collect(), good.len())
}

fn ids(found: &[(u8, Container)]) -> Vec<(u8, String, String)> {
    found.iter().map(|(node, c)| (*node, c.id.clone(), c.started.clone())).collect()
}

/// Everything but the repository's clone and the nodes is gone.
fn lose_servers(w: &World, clone: &Path) {
    w.kill_server(1);
    fs::remove_dir_all(w.server_dir(1)).unwrap();
    fs::remove_dir_all(w.path("repo.git")).unwrap();
    fs::rename(clone, w.path("repo.git")).unwrap();
}

#[test]
fn a_new_cluster_from_the_clone_keeps_what_the_nodes_run() {
    let Some(w) = World::up("a_new_cluster_from_the_clone_keeps_what_the_nodes_run", 3) else {
        return;
    };
    w.servers(1, CALM);
    w.agents(&[2, 3]);
    let (web, changed) = (deployment("web", 4, "1"), deployment("changed", 1, "1"));
    let (service, alone) = (service(), alone());
    let files = [("ns.yaml", NAMESPACE), ("web.yaml", &web), ("changed.yaml", &changed)];
    let more = [("service.yaml", service.as_str()), ("alone.yaml", &alone)];
    let first = w.push(&[&files[..], &more].concat(), "all");
    w.healthy(1, &first);
    let place_before = until("the status branch names the Service's place", || place(&w));
    until("the status branch says that all is well", || {
        let ready = |node| w.status_file(&format!("nodes/{}.yaml", w.host(node)));
        let ready = |node| ready(node).filter(|file| file.contains("ready: true"));
        w.status_file(&format!("commits/{first}.yaml")).filter(|t| t.contains("Healthy"))?;
        ready(2).and(ready(3))
    });
    let kept = || [w.ids(&[2, 3], "shop/web"), w.ids(&[2, 3], "shop/alone")].concat();
    let before = kept();
    assert_eq!(before.len(), 10, "five pods, each with its sandbox: {before:?}");
    let changed_before = ids(&w.ids(&[2, 3], "shop/changed"));
    let asking = ask(&w, 3, &place_before);

    let clone = w.path("clone.git");
    let from = w.path("repo.git");
    let mut git = std::process::Command::new("git");
    run(git.args(["clone", "-q", "--mirror"]).arg(&from).arg(&clone));
    lose_servers(&w, &clone);
    w.kill_agent(2);
    let second = w.push(&[("changed.yaml", &deployment("changed", 1, "2"))], "a change meanwhile");

    w.servers(1, CALM);
    // An agent that runs is not taken away under its feet, and a node stays the node it is.
    let (server, token, hash) = w.join_parts();
    let dir = w.agent_dir(3);
    let dir = dir.to_str().unwrap();
    let join = ["agent", "join", &server, "--token", &token, "--ca-hash", &hash, "--dir", dir];
    let (said, code) = w.fails(3, &[&join[..], &["--detach"]].concat());
    assert!(said.contains("runs in") && said.contains("agent stop"), "{said}");
    assert_eq!(code, 2, "{said}");
    w.stop_agent(3);
    let (said, _) = w.fails(3, &[&join[..], &["--node", "other", "--detach"]].concat());
    assert!(said.contains(&format!("join as --node {}", w.host(3))), "{said}");
    w.agents(&[2, 3]);
    w.healthy(1, &second);

    assert_eq!(ids(&kept()), ids(&before), "nothing was made anew");
    until("the changed pod is replaced", || {
        let now = ids(&w.ids(&[2, 3], "shop/changed"));
        (now.len() == 2 && now.iter().all(|c| !changed_before.contains(c))).then_some(())
    });
    until("the Service is where it was", || place(&w).filter(|now| *now == place_before));
    until("the Service was asked often", || {
        let text = fs::read_to_string(w.path("asked")).unwrap();
        (text.lines().count() > ASKED_MIN).then_some(())
    });
    let dir = w.server_dir(1);
    let events = w.ok(1, &["events", "--namespace", "shop", "--dir", dir.to_str().unwrap()]);
    assert_eq!(events.matches("Goes on running on").count(), 5, "{events}");
    assert_eq!(w.metric(1, "mainstay_survivors_total"), Some(5.0), "those that were kept");
    assert_eq!(w.metric(1, "mainstay_survivors_waiting"), Some(0.0));
    let (bad, good) = asked(&w, asking);
    assert_eq!(bad, Vec::<String>::new(), "of {good} that went well");
    assert_eq!(ids(&kept()), ids(&before), "and nothing was later");
}
