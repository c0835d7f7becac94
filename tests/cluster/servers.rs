//! What holds when servers die.

use crate::world::{CALM, NAMESPACE, World, deployment, service, until};

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
    until("the note", || w.note(&commit).filter(|n| n.contains("Healthy")));
}
