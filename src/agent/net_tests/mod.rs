//! The network of a node against the real kernel: namespaces, iptables, routes, sockets.

mod cluster;
mod lab;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use expect_test::expect;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use self::lab::{Lab, NODE, P1, P2, PATIENCE, facts, may_run, node, object, service, slice};
use super::{
    command::Netns,
    conntrack::Conntrack,
    dns::Dns,
    iptables::{Error, Iptables},
    network,
    proxy::{self, Config, Desired, Proxy},
    routes,
};
use crate::{
    model::{Object, Revision},
    node::{
        dns::Zone,
        routes::Routes,
        rules::{Program, build, stale},
    },
};

const WEB_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);

fn web() -> Object {
    let port = json!({"name": "http", "port": 80, "nodePort": 30080});
    service("web", json!({"clusterIP": WEB_IP, "type": "NodePort", "ports": [port]}))
}

fn web_at(endpoints: &[(Ipv4Addr, &str)]) -> Object {
    slice("web", ("http", 8080), "TCP", endpoints)
}

fn program(objects: &[Object]) -> Program {
    let services = objects.iter().filter_map(|o| o.view());
    build(&facts(), services, objects.iter().filter_map(|o| o.view()))
}

async fn opened(lab: &Lab) -> Iptables {
    Iptables::open(lab.netns("node")).await.unwrap()
}

/// The node as an agent makes it: settings and rules.
async fn programmed(lab: &Lab, objects: &[Object]) -> Iptables {
    network::ensure_host(&lab.netns("node"), "podbr0").await.unwrap();
    let mut iptables = opened(lab).await;
    iptables.sync(&program(objects).rules).await.unwrap();
    iptables
}

#[tokio::test]
async fn iptables_takes_every_kind_of_rule() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let local = json!({"clusterIP": "10.96.0.30", "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30081}]});
    let sticky = json!({"clusterIP": "10.96.0.40", "sessionAffinity": "ClientIP",
        "ports": [{"port": 80}, {"name": "s", "protocol": "SCTP", "port": 81}]});
    let all = [(P1, "n1"), (P2, "n1"), (Ipv4Addr::new(10, 244, 2, 7), "n2")];
    let objects = [
        web(),
        web_at(&all),
        service("local", local.clone()),
        slice("local", ("", 8080), "TCP", &all),
        service("far", local),
        slice("far", ("", 8080), "TCP", &all[2..]),
        service("sticky", sticky),
        slice("sticky", ("", 8080), "TCP", &all),
        slice("sticky", ("s", 8081), "SCTP", &all),
        service(
            "empty",
            json!({"clusterIP": "10.96.0.50", "ports": [{"port": 80, "nodePort": 30082}]}),
        ),
    ];
    let rules = program(&objects).rules;
    let mut iptables = opened(&lab).await;
    iptables.sync(&rules).await.unwrap();
    assert_eq!(iptables.check().await.unwrap(), Vec::<String>::new());
    // A refused load names its line and leaves what was there.
    let bad = "*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -m nonsense -j RETURN\nCOMMIT\n";
    let failed = iptables.restore(bad).await;
    let Err(Error::Line { number, line, .. }) = failed else { panic!("{failed:?}") };
    assert_eq!((number, line.as_str()), (3, "-A KUBE-SERVICES -m nonsense -j RETURN"));
    assert_eq!(iptables.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn services_answer_from_everywhere() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    lab.serve("p1", 8080);
    lab.serve("p2", 8080);
    let both = [web(), web_at(&[(P1, "n1"), (P2, "n1")])];
    let mut iptables = programmed(&lab, &both).await;
    // A pod reaches the other with its own address, and itself by way of the node.
    let from_p1 = lab.calls("p1", (WEB_IP, 80));
    assert_eq!(from_p1, ["p1 called by 10.244.1.1", "p2 called by 10.244.1.5"]);
    let by_node = ["p1 called by 10.244.1.1", "p2 called by 10.244.1.1"];
    assert_eq!(lab.calls("node", (WEB_IP, 80)), by_node);
    assert_eq!(lab.calls("out", (NODE, 30080)), by_node);
    assert_eq!(lab.calls("node", (NODE, 30080)), by_node);
    assert_eq!(lab.calls("node", (Ipv4Addr::LOCALHOST, 30080)), by_node);
    // Directly, a pod is never hidden behind its node; outside the cluster it is.
    assert_eq!(lab.calls("p1", (P2, 8080)), ["p2 called by 10.244.1.5"]);
    lab.serve("out", 9000);
    let out = Ipv4Addr::new(192, 168, 7, 1);
    assert_eq!(lab.calls("p1", (out, 9000)), ["out called by 192.168.7.2"]);
    // One endpoint less is one chain less to choose from, and none is refused at once.
    iptables.sync(&program(&[web(), web_at(&[(P2, "n1")])]).rules).await.unwrap();
    assert_eq!(lab.calls("p1", (WEB_IP, 80)), ["p2 called by 10.244.1.5"]);
    iptables.sync(&program(&[web()]).rules).await.unwrap();
    let loopback = Ipv4Addr::LOCALHOST;
    for (from, to) in [
        ("p1", (WEB_IP, 80)),
        ("node", (WEB_IP, 80)),
        ("out", (NODE, 30080)),
        ("node", (loopback, 30080)),
        ("p1", (NODE, 30080)),
    ] {
        let kind = lab.call(from, to).map_err(|e| e.kind());
        assert_eq!(kind, Err(std::io::ErrorKind::ConnectionRefused), "{from} {to:?}");
    }
}

#[tokio::test]
async fn policies_and_affinity_hold() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    lab.serve("p1", 8080);
    lab.serve("p2", 8080);
    let both = [(P1, "n1"), (P2, "n1")];
    let local = json!({"clusterIP": "10.96.0.30", "type": "NodePort",
        "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30081}]});
    let sticky = json!({"clusterIP": "10.96.0.40", "sessionAffinity": "ClientIP",
        "ports": [{"port": 80}]});
    let objects = [
        service("local", local),
        slice("local", ("", 8080), "TCP", &[(P1, "n1"), (Ipv4Addr::new(10, 244, 2, 7), "n2")]),
        service("sticky", sticky),
        slice("sticky", ("", 8080), "TCP", &both),
    ];
    let _iptables = programmed(&lab, &objects).await;
    // The way back to the caller goes through the node, so the caller's own address can be kept.
    assert_eq!(lab.calls("out", (NODE, 30081)), ["p1 called by 192.168.7.1"]);
    assert_eq!(lab.calls("node", (Ipv4Addr::new(10, 96, 0, 40), 80)).len(), 1);
}

#[tokio::test]
async fn docker_isolation_does_not_bite() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    lab.serve("p1", 8080);
    // As a Docker that manages iptables leaves a host: forwarding denied, direct access dropped.
    lab.tool("node", "iptables -P FORWARD DROP");
    lab.tool("node", "iptables -t raw -A PREROUTING -d 10.244.1.5/32 ! -i podbr0 -j DROP");
    let mut iptables = programmed(&lab, &[web(), web_at(&[(P1, "n1")])]).await;
    lab.ip("out", "route add 10.244.1.0/24 via 192.168.7.2");
    assert_eq!(lab.calls("out", (P1, 8080)), ["p1 called by 192.168.7.1"]);
    assert_eq!(lab.calls("out", (NODE, 30080)), ["p1 called by 10.244.1.1"]);
    // Docker restarts and puts its own rules first.
    lab.tool("node", "iptables -I FORWARD 1 -o podbr0 -j DROP");
    let repaired = iptables.check().await.unwrap();
    assert_eq!(repaired, ["placed our jumps at the head of filter FORWARD"]);
    assert_eq!(lab.calls("out", (P1, 8080)), ["p1 called by 192.168.7.1"]);
    let jumps = lab.tool("node", "iptables -S FORWARD").matches("KUBE-FORWARD").count();
    assert_eq!(jumps, 1);
}

#[tokio::test]
async fn what_others_change_is_repaired() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    lab.serve("p1", 8080);
    let mut iptables = programmed(&lab, &[web(), web_at(&[(P1, "n1")])]).await;
    assert_eq!(iptables.check().await.unwrap(), Vec::<String>::new());
    for damage in [
        "iptables -t nat -F",
        "iptables -t nat -F KUBE-SERVICES",
        "iptables -F KUBE-FORWARD",
        "iptables -t nat -R KUBE-MARK-MASQ 1 -j MARK --set-xmark 0x8000/0x8000",
        "iptables -t nat -D OUTPUT -j KUBE-SERVICES",
        "iptables -t nat -A KUBE-NODEPORTS -j RETURN",
    ] {
        lab.tool("node", damage);
        assert!(!iptables.check().await.unwrap().is_empty(), "{damage} was not noticed");
        assert_eq!(iptables.check().await.unwrap(), Vec::<String>::new(), "{damage}");
        assert_eq!(lab.calls("node", (WEB_IP, 80)), ["p1 called by 10.244.1.1"], "{damage}");
    }
}

#[tokio::test]
async fn a_large_set_is_repaired_by_samples() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let objects: Vec<Object> = (0..800u16)
        .flat_map(|i| {
            let [high, low] = (i + 1).to_be_bytes();
            let (name, ip) = (format!("s{i}"), Ipv4Addr::new(10, 96, high, low));
            let spec = json!({"clusterIP": ip, "ports": [{"port": 80}]});
            [service(&name, spec), slice(&name, ("", 8080), "TCP", &[(P1, "n1"), (P2, "n1")])]
        })
        .collect();
    let mut iptables = programmed(&lab, &objects).await;
    assert_eq!(iptables.check().await.unwrap(), Vec::<String>::new());
    lab.tool("node", "iptables -t nat -F");
    assert!(!iptables.check().await.unwrap().is_empty());
    let chains = lab.tool("node", "iptables-save -t nat").matches("\n-A KUBE-SVC-").count();
    assert_eq!(chains, 800 * 3);
}

#[tokio::test]
async fn a_new_agent_removes_what_an_old_one_left_and_clean_leaves_nothing() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    lab.tool("node", "iptables -A FORWARD -i lo -j ACCEPT");
    let before = tables(&lab);
    let old = programmed(&lab, &[web(), web_at(&[(P1, "n1")])]).await;
    drop(old);
    let mut new = programmed(&lab, &[]).await;
    assert!(!lab.tool("node", "iptables-save").contains("KUBE-SVC-"));
    assert_eq!(lab.tool("node", "iptables -S FORWARD").matches("-j KUBE-FORWARD").count(), 1);
    new.remove_all().await.unwrap();
    assert_eq!(tables(&lab), before);
}

/// All rules and chains of the node, without counters and dates.
fn tables(lab: &Lab) -> Vec<String> {
    let text = lab.tool("node", "iptables-save");
    let kept = text.lines().filter(|line| line.starts_with("-A") || line.contains("KUBE"));
    kept.map(str::to_owned).collect()
}

#[tokio::test]
async fn udp_clients_follow_the_endpoints() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    if std::process::Command::new("conntrack").arg("-V").output().is_err() {
        eprintln!("skipped: needs conntrack");
        return;
    }
    lab.serve_udp("p1", 5353);
    lab.serve_udp("p2", 5353);
    let vip = Ipv4Addr::new(10, 96, 0, 10);
    let port = json!({"name": "dns", "protocol": "UDP", "port": 53, "nodePort": 30053});
    let dns = service("dns", json!({"clusterIP": vip, "ports": [port]}));
    let at = |ip| program(&[dns.clone(), slice("dns", ("dns", 5353), "UDP", &[(ip, "n1")])]);
    let (first, second) = (at(P1), at(P2));
    let mut iptables = programmed(&lab, &[]).await;
    let mut conntrack = Conntrack::new(lab.netns("node"));
    iptables.sync(&first.rules).await.unwrap();
    // One socket for all questions, as resolvers and game servers have: its entry outlives the
    // endpoint.
    let socket = lab.inside("node", || UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let ask = || {
        socket.send_to(b"?", (vip, 53)).unwrap();
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(ask(), "p1");
    iptables.sync(&second.rules).await.unwrap();
    assert_eq!(ask(), "p1", "without dropping, the old entry would still be used");
    conntrack.drop_flows(&stale(&first.udp, &second.udp)).await.unwrap();
    assert_eq!(ask(), "p2");
    // A restarted agent knows nothing of before and finds it in the kernel.
    iptables.sync(&first.rules).await.unwrap();
    Conntrack::new(lab.netns("node")).reconcile(&first.udp).await.unwrap();
    assert_eq!(ask(), "p1");
    assert_eq!(conntrack.problem(), None);
}

#[tokio::test]
async fn host_settings_are_made_and_said() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    // A new namespace begins with what the machine has.
    lab.tool("node", "sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.route_localnet=0");
    let checked = network::ensure_host(&lab.netns("node"), "podbr0").await.unwrap();
    assert_eq!(checked.problems, Vec::<String>::new());
    expect![[r#"
        set /proc/sys/net/ipv4/ip_forward to 1, so that pods reach other nodes
        set /proc/sys/net/ipv4/conf/all/route_localnet to 1, so that node ports answer on 127.0.0.1
        switched hairpin on for p1 of podbr0, so that a pod reaches itself through its service
        switched hairpin on for p2 of podbr0, so that a pod reaches itself through its service"#]]
    .assert_eq(&checked.changed.join("\n"));
    let again = network::ensure_host(&lab.netns("node"), "podbr0").await.unwrap();
    assert_eq!(again, network::Checked::default());
    lab.tool("node", "sysctl -qw net.bridge.bridge-nf-call-iptables=0");
    let repaired = network::ensure_host(&lab.netns("node"), "podbr0").await.unwrap();
    assert_eq!(repaired.changed.len(), 1);
    let absent = network::ensure_host(&lab.netns("out"), "podbr0").await.unwrap();
    assert_eq!(absent.problems, Vec::<String>::new());
}

#[tokio::test]
async fn routes_come_and_go() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    let netns = lab.netns("node");
    lab.tool("node", "ip route add 10.9.0.0/16 via 192.168.7.1");
    let via = Ipv4Addr::new(192, 168, 7, 1);
    let far = Ipv4Addr::new(172, 30, 0, 1);
    let want = Routes::from([("10.244.2.0/24".parse().unwrap(), via)]);
    assert_eq!(routes::sync(&netns, &want).await.unwrap().made.len(), 1);
    assert_eq!(routes::read(&netns).await.unwrap(), want);
    assert_eq!(routes::sync(&netns, &want).await.unwrap(), routes::Synced::default());
    // A node behind a router cannot be a next hop; the others are reached all the same.
    let mixed = Routes::from([
        ("10.244.3.0/24".parse().unwrap(), far),
        ("10.244.4.0/24".parse().unwrap(), via),
    ]);
    lab.ip("node", "route del default");
    let synced = routes::sync(&netns, &mixed).await.unwrap();
    assert_eq!(synced.refused.len(), 1, "{synced:?}");
    assert!(synced.refused[0].starts_with("could not route 10.244.3.0/24 via 172.30.0.1: "));
    let there: Vec<_> = routes::read(&netns).await.unwrap().into_keys().collect();
    assert_eq!(there, ["10.244.4.0/24".parse().unwrap()]);
    routes::remove_all(&netns).await.unwrap();
    assert!(lab.tool("node", "ip route").contains("10.9.0.0/16"), "others' routes stay");
    assert!(!lab.tool("node", "ip route").contains("10.244.4.0"));
}

fn zone() -> Zone {
    let many: Vec<_> = (1..=100).map(|i| (Ipv4Addr::new(10, 244, 2, i), "n2")).collect();
    let objects = [
        web(),
        service("many", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})),
        slice("many", ("http", 8080), "TCP", &many),
        service(
            "alias",
            json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"}),
        ),
        service("out", json!({"type": "ExternalName", "externalName": "example.org"})),
    ];
    let services = objects.iter().filter_map(|o| o.view());
    Zone::new("cluster.local", services, objects.iter().filter_map(|o| o.view()))
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn ask_udp(server: SocketAddr, message: &Message) -> Message {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn ask_tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = message.to_vec().unwrap();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let length = timeout(PATIENCE, stream.read_u16()).await.unwrap().unwrap();
    let mut buffer = vec![0; usize::from(length)];
    timeout(PATIENCE, stream.read_exact(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer).unwrap()
}

/// One line: code, flags, answers.
fn say(message: &Message) -> String {
    let meta = &message.metadata;
    let answers: Vec<_> = message.answers.iter().map(|r| r.data.to_string()).collect();
    let flags = [(meta.authoritative, " aa"), (meta.truncation, " tc")];
    let flags: String = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect();
    format!("{:?}{flags} {}", meta.response_code, answers.join(" "))
}

#[tokio::test]
async fn names_are_answered_over_udp_and_tcp() {
    // The node's resolver is played by a second one of ours, with another domain.
    let upstream = Dns::start("127.0.0.1:0".parse().unwrap(), vec![]).await.unwrap();
    let example = service("x", json!({"clusterIP": "10.96.0.99", "ports": [{"port": 80}]}));
    upstream.set_zone(Zone::new("corp.example", [example.view().unwrap()], []).into());
    let dns = Dns::start("127.0.0.1:0".parse().unwrap(), vec![upstream.address()]).await.unwrap();
    dns.set_zone(zone().into());
    let mut text = String::new();
    for (name, kind) in [
        ("web.shop.svc.cluster.local.", RecordType::A),
        ("WEB.shop.svc.cluster.local.", RecordType::A),
        ("web.shop.svc.cluster.local.", RecordType::AAAA),
        ("nothing.shop.svc.cluster.local.", RecordType::A),
        ("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV),
        ("20.0.96.10.in-addr.arpa.", RecordType::PTR),
        ("alias.shop.svc.cluster.local.", RecordType::A),
        ("x.shop.svc.corp.example.", RecordType::A),
        ("nothing.shop.svc.corp.example.", RecordType::A),
    ] {
        let asked = question(name, kind);
        let answer = ask_udp(dns.address(), &asked).await;
        assert_eq!(say(&answer), say(&ask_tcp(dns.address(), &asked).await), "{name}");
        assert_eq!(answer.queries, asked.queries);
        text.push_str(&format!("{kind} {name} {}\n", say(&answer)));
    }
    expect![[r#"
        A web.shop.svc.cluster.local. NoError aa 10.96.0.20
        A WEB.shop.svc.cluster.local. NoError aa 10.96.0.20
        AAAA web.shop.svc.cluster.local. NoError aa 
        A nothing.shop.svc.cluster.local. NXDomain aa 
        SRV _http._tcp.web.shop.svc.cluster.local. NoError aa 0 100 80 web.shop.svc.cluster.local.
        PTR 20.0.96.10.in-addr.arpa. NoError aa web.shop.svc.cluster.local.
        A alias.shop.svc.cluster.local. NoError aa web.shop.svc.cluster.local. 10.96.0.20
        A x.shop.svc.corp.example. NoError 10.96.0.99
        A nothing.shop.svc.corp.example. NXDomain 
    "#]]
    .assert_eq(&text);
    // Too long for 512 bytes: cut over UDP, whole over TCP.
    let many = question("many.shop.svc.cluster.local.", RecordType::A);
    assert!(ask_udp(dns.address(), &many).await.metadata.truncation);
    assert_eq!(ask_tcp(dns.address(), &many).await.answers.len(), 100);
    // No resolver answers: a clear failure, and the cluster's own names go on.
    dns.set_upstreams(vec![]);
    let outside = ask_udp(dns.address(), &question("example.org.", RecordType::A)).await;
    assert_eq!(say(&outside), "ServFail ");
    let inside = question("web.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(say(&ask_udp(dns.address(), &inside).await), "NoError aa 10.96.0.20");
}

fn config(lab: &Lab) -> Config {
    Config {
        facts: facts(),
        netns: lab.netns("node"),
        bridge: "podbr0".into(),
        dns: "127.0.0.1:0".parse().unwrap(),
        domain: "cluster.local".into(),
        resolv_conf: "/etc/resolv.conf".into(),
        loads: std::sync::Arc::default(),
    }
}

fn desired(generation: u64, endpoints: &[(Ipv4Addr, &str)]) -> Desired {
    let nodes = [
        node("n1", "10.244.1.0/24", "192.168.7.2"),
        node("n2", "10.244.2.0/24", "192.168.7.1"),
        object(json!({"metadata": {"name": "x", "namespace": "shop"}}), "v1", "ConfigMap"),
    ];
    let objects = [vec![web(), web_at(endpoints)], nodes.into()].concat();
    Desired { generation: Revision(generation), objects }
}

#[tokio::test]
async fn the_proxy_programs_the_newest_and_repairs() {
    if !may_run() {
        return;
    }
    let lab = Lab::new();
    lab.serve("p1", 8080);
    lab.serve("p2", 8080);
    let proxy = Proxy::start(config(&lab));
    let mut report = proxy.report();
    proxy.desire(desired(3, &[(P1, "n1")]));
    proxy.desire(desired(4, &[(P2, "n1")]));
    let done = |generation| move |r: &proxy::Report| r.programmed == Some(Revision(generation));
    let now = timeout(PATIENCE * 3, report.wait_for(done(4))).await.unwrap().unwrap().clone();
    assert_eq!(now.problems, Vec::<String>::new());
    assert_eq!(lab.calls("p1", (WEB_IP, 80)), ["p2 called by 10.244.1.5"]);
    assert!(lab.tool("node", "ip route").contains("10.244.2.0/24 via 192.168.7.1"));
    // A flush by hand is repaired when somebody asks for a look, and else within the interval of
    // checks.
    lab.tool("node", "iptables -t nat -F");
    lab.tool("node", "ip route flush proto 77");
    proxy.look();
    let repaired = |r: &proxy::Report| {
        r.changes.iter().any(|c| c.starts_with("wrote again"))
            && r.changes.iter().any(|c| c.starts_with("route 10.244.2.0/24"))
    };
    timeout(PATIENCE * 3, report.wait_for(repaired)).await.unwrap().unwrap();
    assert_eq!(lab.calls("p1", (WEB_IP, 80)), ["p2 called by 10.244.1.5"]);
    // What is programmed outlives the agent, until it is cleaned away.
    drop(proxy);
    assert_eq!(lab.calls("p1", (WEB_IP, 80)), ["p2 called by 10.244.1.5"]);
    proxy::remove_all(&lab.netns("node")).await.unwrap();
    assert_eq!(tables(&lab), Vec::<String>::new());
}

#[tokio::test]
async fn a_failure_is_said_and_nothing_is_confirmed() {
    let nowhere = Netns::at("/run/netns/mainstay-there-is-no-such-namespace");
    let facts = facts();
    let proxy = Proxy::start(Config {
        facts,
        netns: nowhere,
        bridge: "podbr0".into(),
        dns: "127.0.0.1:0".parse().unwrap(),
        domain: "cluster.local".into(),
        resolv_conf: "/etc/resolv.conf".into(),
        loads: std::sync::Arc::default(),
    });
    let mut report = proxy.report();
    proxy.desire(desired(1, &[]));
    let failed = |r: &proxy::Report| r.problems.iter().any(|p| p.contains("no-such-namespace"));
    let now = timeout(Duration::from_secs(60), report.wait_for(failed)).await.unwrap().unwrap();
    assert_eq!(now.programmed, None);
}
