//! What holds for Services on real nodes.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use crate::{
    look::{Pod, asks, asks_from, differs, each_answers, events, get_from, pods, settles},
    world::{CALM, NAMESPACE, World, deployment, run, service, throughout, until, within},
};

const VIP: &str = "10.96.0.20";
const NODES: [u8; 3] = [1, 2, 3];

#[test]
fn services_answer_from_everywhere() {
    let test = "services_answer_from_everywhere";
    let Some(w) = World::up(test, 3) else { return };
    matrix(&w);
}

/// The same with a dockerd as a distribution installs it: docker0, its own iptables rules, FORWARD
/// policy DROP, no hairpin.
#[test]
fn services_answer_beside_a_docker_that_nobody_configured() {
    let test = "services_answer_beside_a_docker_that_nobody_configured";
    let before = |w: &World| {
        let nodes = w.path("nodes");
        std::fs::create_dir_all(&nodes).unwrap();
        std::fs::write(nodes.join("dockerd.flags"), "--bip=10.200.0.1/24").unwrap();
    };
    let Some(w) = World::up_with(test, 3, before) else { return };
    // Docker sets the policy when it is the one that turns forwarding on.
    for node in NODES {
        run(w.inside(node, &["iptables", "-P", "FORWARD", "DROP"]));
    }
    let forward = || run(w.inside(1, &["iptables", "-S", "FORWARD"]));
    assert!(forward().contains("DOCKER"), "not the Docker this test is about");
    matrix(&w);
    assert!(forward().contains("-P FORWARD DROP"), "the host's own policy stays");
}

fn fixed(name: &str, spec: &serde_json::Value) -> String {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    .to_string()
}

fn matrix(w: &World) {
    w.servers(1, CALM);
    w.agents(&NODES);
    let ports = json!([{"port": 80, "targetPort": 8080, "nodePort": 30080}]);
    let web = fixed(
        "web",
        &json!({"type": "NodePort", "clusterIP": VIP, "selector": {"app": "web"}, "ports": ports}),
    );
    let headless =
        json!({"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 8080}]});
    let empty = json!({"type": "NodePort", "selector": {"app": "nobody"}, "clusterIP": "10.96.0.21",
        "ports": [{"port": 80, "nodePort": 30081}]});
    let commit = w.push(
        &[
            ("ns.yaml", NAMESPACE),
            ("web.yaml", &deployment("web", 3, "1")),
            ("svc.yaml", &web),
            ("headless.yaml", &fixed("headless", &headless)),
            ("empty.yaml", &fixed("empty", &empty)),
        ],
        "web",
    );
    w.healthy(1, &commit);

    let all = pods(w, &NODES, "shop/web-");
    let on: Vec<u8> = all.iter().map(|p| p.node).collect();
    assert_eq!(on, NODES, "one pod a node: {all:?}");
    let names: BTreeSet<String> = all.iter().map(|p| p.host().to_owned()).collect();
    let vip = format!("{VIP}:80");
    // The last pod's endpoint may still be on its way to a node.
    for pod in &all {
        settles("every endpoint answers by name", &names, || asks(w, pod, "web:80", "/name"));
    }
    for pod in &all {
        for name in ["web.shop:80", "web.shop.svc:80", "web.shop.svc.cluster.local.:80", &vip] {
            // All three answer, so a pod also reaches itself.
            let what = format!("{name} from {} on node {}", pod.name, pod.node);
            each_answers(&what, &names, &asks(w, pod, name, "/name"));
        }
        for other in &all {
            let to = format!("{}:8080", other.ip);
            assert_eq!(pod.get(w, &to, "/name").as_deref(), Ok(other.host()));
            let kept = "the other pod sees the pod's own address";
            assert_eq!(pod.get(w, &to, "/peer").as_deref(), Ok(&*pod.ip), "{kept}");
        }
        for node in NODES {
            let to = format!("{}:30080", World::address(node));
            each_answers(&to, &names, &asks(w, pod, &to, "/name"));
        }
        let (_, found) = pod.run(w, "web", &["resolve", "headless"]);
        let found: BTreeSet<&str> = found.lines().collect();
        assert_eq!(found, all.iter().map(|p| p.ip.as_str()).collect(), "a headless Service");
        assert_eq!(pod.get(w, "nobody:80", "/"), Err(6), "a name that nothing has");
        assert_eq!(pod.get(w, "empty:80", "/"), Err(7), "no endpoint: refused at once");
    }
    for node in NODES {
        let place = node.to_string();
        let places = NODES.map(|n| format!("{}:30080", World::address(n)));
        let more = [vip.clone(), "127.0.0.1:30080".to_owned()];
        for to in places.iter().chain(&more) {
            let url = format!("http://{to}/name");
            each_answers(&format!("{to} from node {node}"), &names, &asks_from(w, &place, &url));
        }
        for to in ["10.96.0.21:80", "127.0.0.1:30081"] {
            let refused = get_from(w, &place, &format!("http://{to}/"));
            assert_eq!(refused, Err(7), "{to} has no endpoint: refused at once");
        }
        let url = format!("http://{}:30080/name", World::address(node));
        each_answers(&format!("{url} from outside"), &names, &asks_from(w, "fab", &url));
        let url = format!("http://{}:30081/", World::address(node));
        assert_eq!(get_from(w, "fab", &url), Err(7), "no endpoint: refused from outside too");
    }
}

/// Only ready pods get requests; a Service's address is its own for as long as it lives; what
/// somebody removes from our rules is put back.
#[test]
fn services_follow_readiness_and_outlive_everything() {
    let test = "services_follow_readiness_and_outlive_everything";
    let Some(w) = World::up(test, 2) else { return };
    w.servers(1, CALM);
    w.agents(&[1, 2]);
    let files = [
        ("ns.yaml", NAMESPACE),
        ("web.yaml", &deployment("web", 2, "1")),
        ("svc.yaml", &service("web", 30080)),
    ];
    let commit = w.push(&files, "web");
    w.healthy(1, &commit);
    let all = pods(&w, &[1, 2], "shop/web-");
    let names: BTreeSet<String> = all.iter().map(|p| p.host().to_owned()).collect();
    assert_eq!(names.len(), 2);
    let ask = |node: u8| asks_from(&w, &node.to_string(), "http://127.0.0.1:30080/name");
    let settled = |names: &BTreeSet<String>| {
        [1, 2].into_iter().for_each(|node| settles("all answer", names, || ask(node)));
    };
    settled(&names);

    // One stops being ready: it gets nothing more, and the other gets all.
    let (quiet, other) = (&all[0], &all[1]);
    let toggle = |pod: &Pod| {
        let url = format!("http://{}:8080/toggle-live", pod.ip);
        get_from(&w, &pod.node.to_string(), &url).unwrap();
    };
    toggle(quiet);
    let rest = BTreeSet::from([other.host().to_owned()]);
    for node in [1, 2] {
        let left = || (differs(&rest, &ask(node)).is_none()).then_some(());
        within(Duration::from_secs(60), "the unready pod leaves", left);
        throughout(Duration::from_secs(1), "it does not come back", || left().is_some());
    }
    // The other one too: refused at once, from everywhere.
    toggle(other);
    for node in [1, 2] {
        let refused = || ask(node).iter().all(|a| *a == Err(7)).then_some(());
        within(Duration::from_secs(60), "nobody is left", refused);
    }
    toggle(quiet);
    toggle(other);
    settled(&names);
    assert_eq!(pods(&w, &[1, 2], "shop/web-"), all, "unready pods are not restarted");

    // Somebody flushes the rules.
    for node in [1, 2] {
        run(w.inside(node, &["iptables", "-t", "nat", "-F"]));
        settles("put back", &names, || ask(node));
        run(w.inside(node, &["iptables", "-t", "filter", "-F"]));
        settles("put back", &names, || ask(node));
    }
    let noted = |node| {
        let told = events(&w);
        let is = |line: &str| line.contains("DriftCorrected") && line.contains(&w.host(node));
        told.lines().any(is).then_some(())
    };
    for node in [1, 2] {
        until("it is noted", || noted(node));
    }

    // The address stays while pods are replaced and the server is started again.
    let vip = |w: &World| {
        let (code, text) = all[0].run(w, "web", &["resolve", "web"]);
        (code == 0).then(|| text.trim().to_owned())
    };
    let before = until("the name resolves", || vip(&w));
    w.stop_server(1);
    assert_eq!(vip(&w).as_ref(), Some(&before), "names go on without a server");
    w.start_server(1);
    assert_eq!(vip(&w).as_ref(), Some(&before));
    let commit = w.push(&[("web.yaml", &deployment("web", 2, "2"))], "version 2");
    w.healthy(1, &commit);
    let fresh = until("only new pods", || {
        let now = pods(&w, &[1, 2], "shop/web-");
        (now.len() == 2 && now.iter().all(|p| !names.contains(p.host()))).then_some(now)
    });
    let names: BTreeSet<String> = fresh.iter().map(|p| p.host().to_owned()).collect();
    let url = format!("http://{before}/name");
    for node in ["1", "2"] {
        settles("the same address", &names, || asks_from(&w, node, &url));
    }
}
