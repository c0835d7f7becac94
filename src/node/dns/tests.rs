use std::net::IpAddr;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn zone() -> Zone {
    let services: Vec<Service> = [
        json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.20",
            "ports": [{"name": "http", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}]}}),
        json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "None",
            "ports": [{"name": "pg", "port": 5432}]}}),
        json!({"metadata": {"name": "idle", "namespace": "shop"}, "spec": {"clusterIP": "None"}}),
        json!({"metadata": {"name": "out", "namespace": "shop"},
            "spec": {"type": "ExternalName", "externalName": "Example.org."}}),
    ]
    .map(|v| serde_json::from_value(v).unwrap())
    .into();
    let slices: Vec<EndpointSlice> = [
        slice(
            "db-1",
            json!([
                {"addresses": ["10.244.1.5"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.244.2.6"], "conditions": {"ready": true}},
                {"addresses": ["10.244.2.7"], "conditions": {"ready": false}},
            ]),
        ),
        slice("db-2", json!([{"addresses": ["10.244.1.5"], "hostname": "db-0"}])),
    ]
    .map(|v| serde_json::from_value(v).unwrap())
    .into();
    Zone::new("Cluster.Local.", &services, &slices)
}

fn slice(name: &str, endpoints: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop",
        "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4",
        "endpoints": endpoints, "ports": [{"name": "pg", "port": 5432, "protocol": "TCP"}]})
}

/// One line for a question: what the zone answers.
fn say(zone: &Zone, name: &str, question: Question) -> String {
    let record = |r: &Record| match &r.data {
        Data::A(ip) => format!("{} A {ip}", r.name),
        Data::Srv { port, target, weight } => format!("{} SRV 0 {weight} {port} {target}", r.name),
        Data::Ptr(target) => format!("{} PTR {target}", r.name),
    };
    let text = match zone.answer(name, question) {
        Answer::Records { answers, additionals } => {
            let all: Vec<_> = answers.iter().map(record).collect();
            let more: Vec<_> = additionals.iter().map(|r| format!("+ {}", record(r))).collect();
            [all, more].concat().join("\n  ")
        }
        other => format!("{other:?}"),
    };
    format!("{question:?} {name}\n  {text}\n")
}

fn check(questions: &[(&str, Question)], expect: Expect) {
    let zone = zone();
    let text: String = questions.iter().map(|(name, q)| say(&zone, name, *q)).collect();
    expect.assert_eq(&text);
}

use Question::{A, Other, Ptr, Srv};

#[test]
fn services() {
    check(
        &[
            ("web.shop.svc.cluster.local.", A),
            ("WEB.Shop.svc.CLUSTER.local", A),
            ("web.shop.svc.cluster.local", Other),
            ("web.shop.svc.cluster.local", Srv),
            ("_http._tcp.web.shop.svc.cluster.local", Srv),
            ("_http._tcp.web.shop.svc.cluster.local", A),
            ("_http._udp.web.shop.svc.cluster.local", Srv),
            ("_tcp.web.shop.svc.cluster.local", Srv),
            ("nothing.shop.svc.cluster.local", A),
            ("db-0.web.shop.svc.cluster.local", A),
            ("a.b.c.web.shop.svc.cluster.local", A),
            ("out.shop.svc.cluster.local", A),
        ],
        expect![[r#"
            A web.shop.svc.cluster.local.
              web.shop.svc.cluster.local A 10.96.0.20
            A WEB.Shop.svc.CLUSTER.local
              web.shop.svc.cluster.local A 10.96.0.20
            Other web.shop.svc.cluster.local
              NoData
            Srv web.shop.svc.cluster.local
              web.shop.svc.cluster.local SRV 0 50 53 web.shop.svc.cluster.local
              web.shop.svc.cluster.local SRV 0 50 80 web.shop.svc.cluster.local
              + web.shop.svc.cluster.local A 10.96.0.20
            Srv _http._tcp.web.shop.svc.cluster.local
              _http._tcp.web.shop.svc.cluster.local SRV 0 100 80 web.shop.svc.cluster.local
              + web.shop.svc.cluster.local A 10.96.0.20
            A _http._tcp.web.shop.svc.cluster.local
              NoData
            Srv _http._udp.web.shop.svc.cluster.local
              NoName
            Srv _tcp.web.shop.svc.cluster.local
              NoData
            A nothing.shop.svc.cluster.local
              NoName
            A db-0.web.shop.svc.cluster.local
              NoName
            A a.b.c.web.shop.svc.cluster.local
              NoName
            A out.shop.svc.cluster.local
              Alias("example.org")
        "#]],
    );
}

#[test]
fn headless() {
    check(
        &[
            ("db.shop.svc.cluster.local", A),
            ("db.shop.svc.cluster.local", Other),
            ("db-0.db.shop.svc.cluster.local", A),
            ("db-0.db.shop.svc.cluster.local", Other),
            ("10-244-2-6.db.shop.svc.cluster.local", A),
            ("10-244-2-7.db.shop.svc.cluster.local", A),
            ("_pg._tcp.db.shop.svc.cluster.local", Srv),
            ("idle.shop.svc.cluster.local", A),
        ],
        expect![[r#"
            A db.shop.svc.cluster.local
              db.shop.svc.cluster.local A 10.244.1.5
              db.shop.svc.cluster.local A 10.244.2.6
            Other db.shop.svc.cluster.local
              NoData
            A db-0.db.shop.svc.cluster.local
              db-0.db.shop.svc.cluster.local A 10.244.1.5
            Other db-0.db.shop.svc.cluster.local
              NoData
            A 10-244-2-6.db.shop.svc.cluster.local
              10-244-2-6.db.shop.svc.cluster.local A 10.244.2.6
            A 10-244-2-7.db.shop.svc.cluster.local
              NoName
            Srv _pg._tcp.db.shop.svc.cluster.local
              _pg._tcp.db.shop.svc.cluster.local SRV 0 50 5432 10-244-2-6.db.shop.svc.cluster.local
              _pg._tcp.db.shop.svc.cluster.local SRV 0 50 5432 db-0.db.shop.svc.cluster.local
              + 10-244-2-6.db.shop.svc.cluster.local A 10.244.2.6
              + db-0.db.shop.svc.cluster.local A 10.244.1.5
            A idle.shop.svc.cluster.local
              NoName
        "#]],
    );
}

#[test]
fn names_that_only_lead_to_others() {
    check(
        &[
            ("cluster.local", A),
            ("svc.cluster.local", A),
            ("shop.svc.cluster.local", A),
            ("empty.svc.cluster.local", A),
            ("other.cluster.local", A),
            ("xcluster.local", A),
            ("example.org", A),
            ("", A),
        ],
        expect![[r#"
            A cluster.local
              NoData
            A svc.cluster.local
              NoData
            A shop.svc.cluster.local
              NoData
            A empty.svc.cluster.local
              NoName
            A other.cluster.local
              NoName
            A xcluster.local
              Elsewhere
            A example.org
              Elsewhere
            A 
              Elsewhere
        "#]],
    );
}

#[test]
fn pods_and_addresses() {
    check(
        &[
            ("10-244-1-5.shop.pod.cluster.local", A),
            ("10-244-1-5.shop.pod.cluster.local", Other),
            ("10-244-1-555.shop.pod.cluster.local", A),
            ("shop.pod.cluster.local", A),
            ("20.0.96.10.in-addr.arpa.", Ptr),
            ("20.0.96.10.in-addr.arpa.", A),
            ("5.1.244.10.in-addr.arpa", Ptr),
            ("9.9.9.9.in-addr.arpa", Ptr),
            ("244.10.in-addr.arpa", Ptr),
        ],
        expect![[r#"
            A 10-244-1-5.shop.pod.cluster.local
              10-244-1-5.shop.pod.cluster.local A 10.244.1.5
            Other 10-244-1-5.shop.pod.cluster.local
              NoData
            A 10-244-1-555.shop.pod.cluster.local
              NoName
            A shop.pod.cluster.local
              NoData
            Ptr 20.0.96.10.in-addr.arpa.
              20.0.96.10.in-addr.arpa PTR web.shop.svc.cluster.local
            A 20.0.96.10.in-addr.arpa.
              NoData
            Ptr 5.1.244.10.in-addr.arpa
              5.1.244.10.in-addr.arpa PTR db-0.db.shop.svc.cluster.local
            Ptr 9.9.9.9.in-addr.arpa
              Elsewhere
            Ptr 244.10.in-addr.arpa
              Elsewhere
        "#]],
    );
}

#[test]
fn resolv_conf() {
    let node = "# made by hand\nnameserver 10.244.1.1\nnameserver 192.0.2.1\nnameserver x\n\
        search corp.example . lab.example\noptions edns0\nnameserver 2001:db8::1\n";
    let server = Ipv4Addr::new(10, 244, 1, 1);
    expect![[r#"
        nameserver 10.244.1.1
        search shop.svc.cluster.local svc.cluster.local cluster.local corp.example lab.example
        options ndots:5
    "#]]
    .assert_eq(&pod_resolv_conf("shop", "cluster.local", server, node));
    let servers = upstreams(node, IpAddr::V4(server));
    assert_eq!(servers, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
}

proptest::proptest! {
    /// Whatever is asked, there is an answer, and the case of letters does not change which.
    #[test]
    fn any_name_is_answered(name in "([a-z0-9_-]{0,8}\\.){0,7}(cluster\\.local|in-addr\\.arpa|svc)?\\.?") {
        let zone = zone();
        for question in [A, Srv, Ptr, Other] {
            let upper = name.to_ascii_uppercase();
            proptest::prop_assert_eq!(zone.answer(&name, question), zone.answer(&upper, question));
        }
    }
}
