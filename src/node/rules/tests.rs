use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

pub(crate) fn facts() -> Facts {
    Facts {
        node: NodeName::new("n1"),
        pod_cidr: "10.244.1.0/24".parse().unwrap(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        node_port_addresses: vec![],
    }
}

fn service(name: &str, spec: Value) -> Service {
    let value = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    serde_json::from_value(value).unwrap()
}

/// Endpoints written `address@node` with `!` for not ready and `~` for draining, all at one port.
fn slice(service: &str, port: &str, number: u16, endpoints: &[&str]) -> EndpointSlice {
    let endpoint = |text: &&str| {
        let (ready, draining) = (!text.contains(['!', '~']), text.contains('~'));
        let text = text.trim_end_matches(['!', '~']);
        let (address, node) = text.split_once('@').unwrap();
        json!({"addresses": [address], "nodeName": node,
            "conditions": {"ready": ready, "serving": ready || draining, "terminating": draining}})
    };
    serde_json::from_value(json!({
        "metadata": {"name": format!("{service}-{number}"), "namespace": "shop",
            "labels": {SERVICE_NAME_LABEL: service}},
        "addressType": "IPv4",
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": port, "port": number}],
    }))
    .unwrap()
}

/// The rules of the chains whose content depends on services.
fn check(services: &[Service], slices: &[EndpointSlice], expect: Expect) {
    let program = build(&facts(), services, slices);
    let fixed =
        ["KUBE-FORWARD", "KUBE-FIREWALL", "KUBE-PODS", "KUBE-MARK-MASQ", "KUBE-POSTROUTING"];
    let mut text = String::new();
    for ((table, chain), rules) in program.rules.chains() {
        if !fixed.contains(&chain.as_str()) {
            rules.iter().for_each(|rule| text.push_str(&format!("{table} {chain} {rule}\n")));
        }
    }
    expect.assert_eq(&text);
}

fn web() -> Service {
    service(
        "web",
        json!({"clusterIP": "10.96.0.20", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
    )
}

#[test]
fn nothing() {
    expect![[r#"
        *raw
        :KUBE-PODS - [0:0]
        -A KUBE-PODS -d 10.244.1.0/24 -j ACCEPT
        COMMIT
        *filter
        :KUBE-EXTERNAL-SERVICES - [0:0]
        :KUBE-FIREWALL - [0:0]
        :KUBE-FORWARD - [0:0]
        :KUBE-SERVICES - [0:0]
        -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
        -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
        -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
        -A KUBE-FORWARD -s 10.244.0.0/16 -j ACCEPT
        -A KUBE-FORWARD -d 10.244.0.0/16 -j ACCEPT
        -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        COMMIT
        *nat
        :KUBE-HAIRPIN - [0:0]
        :KUBE-MARK-MASQ - [0:0]
        :KUBE-NODEPORTS - [0:0]
        :KUBE-POSTROUTING - [0:0]
        :KUBE-SERVICES - [0:0]
        -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
        -A KUBE-POSTROUTING -s 10.244.1.0/24 -d 10.244.1.0/24 -j KUBE-HAIRPIN
        -A KUBE-POSTROUTING -s 10.244.1.0/24 -d 224.0.0.0/4 -j RETURN
        -A KUBE-POSTROUTING -s 10.244.1.0/24 ! -d 10.244.0.0/16 -j MASQUERADE --random-fully
        -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
        -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
        -A KUBE-POSTROUTING -j MASQUERADE --random-fully
        -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        COMMIT
    "#]].assert_eq(&build(&facts(), [], []).rules.to_restore());
}

#[test]
fn node_port_over_three_endpoints() {
    let slice = slice(
        "web",
        "http",
        8080,
        &["10.244.1.5@n1", "10.244.1.6@n1", "10.244.2.7@n2", "10.244.2.8@n2!"],
    );
    check(
        &[web()],
        &[slice],
        expect![[r#"
        nat KUBE-HAIRPIN -s 10.244.1.5/32 -d 10.244.1.5/32 -j MASQUERADE --random-fully
        nat KUBE-HAIRPIN -s 10.244.1.6/32 -d 10.244.1.6/32 -j MASQUERADE --random-fully
        nat KUBE-NODEPORTS -p tcp -m comment --comment "shop/web:http node port" -m tcp --dport 30080 -j KUBE-MARK-MASQ
        nat KUBE-NODEPORTS -p tcp -m comment --comment "shop/web:http node port" -m tcp --dport 30080 -j KUBE-SVC-67NZLRHBNDSAWJRO
        nat KUBE-SERVICES -d 10.96.0.20/32 -p tcp -m comment --comment "shop/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-67NZLRHBNDSAWJRO
        nat KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        nat KUBE-SVC-67NZLRHBNDSAWJRO ! -s 10.244.0.0/16 -d 10.96.0.20/32 -p tcp -m comment --comment "shop/web:http from outside" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVC-67NZLRHBNDSAWJRO -p tcp -m statistic --mode random --probability 0.3333333333 -j DNAT --to-destination 10.244.1.5:8080
        nat KUBE-SVC-67NZLRHBNDSAWJRO -p tcp -m statistic --mode random --probability 0.5000000000 -j DNAT --to-destination 10.244.1.6:8080
        nat KUBE-SVC-67NZLRHBNDSAWJRO -p tcp -j DNAT --to-destination 10.244.2.7:8080
    "#]],
    );
}

#[test]
fn no_endpoints_rejects() {
    check(
        &[web()],
        &[slice("web", "http", 8080, &["10.244.2.8@n2!"])],
        expect![[r#"
        filter KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "shop/web:http has no endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j REJECT --reject-with icmp-port-unreachable
        filter KUBE-SERVICES -d 10.96.0.20/32 -p tcp -m comment --comment "shop/web:http has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
        nat KUBE-NODEPORTS -p tcp -m comment --comment "shop/web:http node port" -m tcp --dport 30080 -j KUBE-MARK-MASQ
        nat KUBE-NODEPORTS -p tcp -m comment --comment "shop/web:http node port" -m tcp --dport 30080 -j KUBE-SVC-67NZLRHBNDSAWJRO
        nat KUBE-SERVICES -d 10.96.0.20/32 -p tcp -m comment --comment "shop/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-67NZLRHBNDSAWJRO
        nat KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        nat KUBE-SVC-67NZLRHBNDSAWJRO ! -s 10.244.0.0/16 -d 10.96.0.20/32 -p tcp -m comment --comment "shop/web:http from outside" -m tcp --dport 80 -j KUBE-MARK-MASQ
    "#]],
    );
}

#[test]
fn the_last_endpoints_serve_while_they_drain() {
    check(
        &[web()],
        &[slice("web", "http", 8080, &["10.244.1.5@n1~", "10.244.2.8@n2!"])],
        expect![[r#"
            nat KUBE-HAIRPIN -s 10.244.1.5/32 -d 10.244.1.5/32 -j MASQUERADE --random-fully
            nat KUBE-NODEPORTS -p tcp -m comment --comment "shop/web:http node port" -m tcp --dport 30080 -j KUBE-MARK-MASQ
            nat KUBE-NODEPORTS -p tcp -m comment --comment "shop/web:http node port" -m tcp --dport 30080 -j KUBE-SVC-67NZLRHBNDSAWJRO
            nat KUBE-SERVICES -d 10.96.0.20/32 -p tcp -m comment --comment "shop/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-67NZLRHBNDSAWJRO
            nat KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
            nat KUBE-SVC-67NZLRHBNDSAWJRO ! -s 10.244.0.0/16 -d 10.96.0.20/32 -p tcp -m comment --comment "shop/web:http from outside" -m tcp --dport 80 -j KUBE-MARK-MASQ
            nat KUBE-SVC-67NZLRHBNDSAWJRO -p tcp -j DNAT --to-destination 10.244.1.5:8080
        "#]],
    );
}

#[test]
fn local_policies() {
    let local = service(
        "local",
        json!({"clusterIP": "10.96.0.30", "type": "NodePort", "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30081}]}),
    );
    let here = slice("local", "", 8080, &["10.244.1.5@n1", "10.244.2.7@n2"]);
    check(
        std::slice::from_ref(&local),
        &[here],
        expect![[r#"
        nat KUBE-EXT-4MOXV5YISAWHCCOH -s 10.244.0.0/16 -j KUBE-SVC-4MOXV5YISAWHCCOH
        nat KUBE-EXT-4MOXV5YISAWHCCOH -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
        nat KUBE-EXT-4MOXV5YISAWHCCOH -m addrtype --src-type LOCAL -j KUBE-SVC-4MOXV5YISAWHCCOH
        nat KUBE-EXT-4MOXV5YISAWHCCOH -j KUBE-SVL-4MOXV5YISAWHCCOH
        nat KUBE-HAIRPIN -s 10.244.1.5/32 -d 10.244.1.5/32 -j MASQUERADE --random-fully
        nat KUBE-NODEPORTS -p tcp -m comment --comment "shop/local node port" -m tcp --dport 30081 -j KUBE-EXT-4MOXV5YISAWHCCOH
        nat KUBE-SERVICES -d 10.96.0.30/32 -p tcp -m comment --comment "shop/local cluster IP" -m tcp --dport 80 -j KUBE-SVL-4MOXV5YISAWHCCOH
        nat KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        nat KUBE-SVC-4MOXV5YISAWHCCOH -p tcp -m statistic --mode random --probability 0.5000000000 -j DNAT --to-destination 10.244.1.5:8080
        nat KUBE-SVC-4MOXV5YISAWHCCOH -p tcp -j DNAT --to-destination 10.244.2.7:8080
        nat KUBE-SVL-4MOXV5YISAWHCCOH ! -s 10.244.0.0/16 -d 10.96.0.30/32 -p tcp -m comment --comment "shop/local from outside" -m tcp --dport 80 -j KUBE-MARK-MASQ
        nat KUBE-SVL-4MOXV5YISAWHCCOH -p tcp -j DNAT --to-destination 10.244.1.5:8080
    "#]],
    );
    let elsewhere = slice("local", "", 8080, &["10.244.2.7@n2"]);
    check(
        &[local],
        &[elsewhere],
        expect![[r#"
        filter KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "shop/local has no local endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30081 -j DROP
        filter KUBE-SERVICES -d 10.96.0.30/32 -p tcp -m comment --comment "shop/local has no local endpoints" -m tcp --dport 80 -j DROP
        nat KUBE-EXT-4MOXV5YISAWHCCOH -s 10.244.0.0/16 -j KUBE-SVC-4MOXV5YISAWHCCOH
        nat KUBE-EXT-4MOXV5YISAWHCCOH -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
        nat KUBE-EXT-4MOXV5YISAWHCCOH -m addrtype --src-type LOCAL -j KUBE-SVC-4MOXV5YISAWHCCOH
        nat KUBE-EXT-4MOXV5YISAWHCCOH -j KUBE-SVL-4MOXV5YISAWHCCOH
        nat KUBE-NODEPORTS -p tcp -m comment --comment "shop/local node port" -m tcp --dport 30081 -j KUBE-EXT-4MOXV5YISAWHCCOH
        nat KUBE-SERVICES -d 10.96.0.30/32 -p tcp -m comment --comment "shop/local cluster IP" -m tcp --dport 80 -j KUBE-SVL-4MOXV5YISAWHCCOH
        nat KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        nat KUBE-SVC-4MOXV5YISAWHCCOH -p tcp -j DNAT --to-destination 10.244.2.7:8080
        nat KUBE-SVL-4MOXV5YISAWHCCOH ! -s 10.244.0.0/16 -d 10.96.0.30/32 -p tcp -m comment --comment "shop/local from outside" -m tcp --dport 80 -j KUBE-MARK-MASQ
    "#]],
    );
}

#[test]
fn session_affinity() {
    let sticky = service(
        "sticky",
        json!({"clusterIP": "10.96.0.40", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}, "ports": [{"port": 80}]}),
    );
    check(
        &[sticky],
        &[slice("sticky", "", 8080, &["10.244.1.5@n1", "10.244.2.7@n2"])],
        expect![[r#"
            nat KUBE-HAIRPIN -s 10.244.1.5/32 -d 10.244.1.5/32 -j MASQUERADE --random-fully
            nat KUBE-SERVICES -d 10.96.0.40/32 -p tcp -m comment --comment "shop/sticky cluster IP" -m tcp --dport 80 -j KUBE-SVC-C6YCYWI3VSGSBIFB
            nat KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
            nat KUBE-SVC-C6YCYWI3VSGSBIFB ! -s 10.244.0.0/16 -d 10.96.0.40/32 -p tcp -m comment --comment "shop/sticky from outside" -m tcp --dport 80 -j KUBE-MARK-MASQ
            nat KUBE-SVC-C6YCYWI3VSGSBIFB -p tcp -m recent --update --seconds 60 --reap --name KUBE-SEP-4TW23UFJZSJNEWBX --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.1.5:8080
            nat KUBE-SVC-C6YCYWI3VSGSBIFB -p tcp -m recent --update --seconds 60 --reap --name KUBE-SEP-5PA6INUVJPTCEUCW --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.2.7:8080
            nat KUBE-SVC-C6YCYWI3VSGSBIFB -p tcp -m statistic --mode random --probability 0.5000000000 -m recent --set --name KUBE-SEP-4TW23UFJZSJNEWBX --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.1.5:8080
            nat KUBE-SVC-C6YCYWI3VSGSBIFB -p tcp -m recent --set --name KUBE-SEP-5PA6INUVJPTCEUCW --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.2.7:8080
        "#]],
    );
}

#[test]
fn headless_and_external_names_have_no_rules() {
    let headless = service("db", json!({"clusterIP": "None", "ports": [{"port": 5432}]}));
    let external = service("out", json!({"type": "ExternalName", "externalName": "example.org"}));
    let endpoints = slice("db", "", 5432, &["10.244.2.7@n2"]);
    assert_eq!(build(&facts(), &[headless, external], &[endpoints]), build(&facts(), [], []));
}

#[test]
fn node_port_addresses_narrow() {
    let narrow = Facts { node_port_addresses: vec!["192.168.0.0/16".parse().unwrap()], ..facts() };
    let rules = build(&narrow, [], []).rules;
    expect![[r#"
        *nat
        :KUBE-SERVICES - [0:0]
        -A KUBE-SERVICES -d 192.168.0.0/16 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        COMMIT
    "#]]
    .assert_eq(&diff(&build(&facts(), [], []).rules, &rules));
}

#[test]
fn a_change_loads_the_changed_chains_only() {
    let before = build(&facts(), &[web()], &[slice("web", "http", 8080, &["10.244.2.7@n2"])]);
    let after = build(
        &facts(),
        &[web()],
        &[slice("web", "http", 8080, &["10.244.2.7@n2", "10.244.2.8@n2"])],
    );
    expect![[r#"
        *nat
        :KUBE-SVC-67NZLRHBNDSAWJRO - [0:0]
        -A KUBE-SVC-67NZLRHBNDSAWJRO ! -s 10.244.0.0/16 -d 10.96.0.20/32 -p tcp -m comment --comment "shop/web:http from outside" -m tcp --dport 80 -j KUBE-MARK-MASQ
        -A KUBE-SVC-67NZLRHBNDSAWJRO -p tcp -m statistic --mode random --probability 0.5000000000 -j DNAT --to-destination 10.244.2.7:8080
        -A KUBE-SVC-67NZLRHBNDSAWJRO -p tcp -j DNAT --to-destination 10.244.2.8:8080
        COMMIT
    "#]].assert_eq(&diff(&before.rules, &after.rules));
    expect![[r#"
        *nat
        :KUBE-NODEPORTS - [0:0]
        :KUBE-SERVICES - [0:0]
        :KUBE-SVC-67NZLRHBNDSAWJRO - [0:0]
        -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        -X KUBE-SVC-67NZLRHBNDSAWJRO
        COMMIT
    "#]]
    .assert_eq(&diff(&before.rules, &build(&facts(), [], []).rules));
    assert_eq!(diff(&after.rules, &after.rules), "");
}

#[test]
fn all_chains_have_known_names() {
    let program = build(&facts(), &[web()], &[slice("web", "http", 8080, &["10.244.2.7@n2"])]);
    for ((table, chain), rules) in program.rules.chains() {
        assert!(is_ours(*table, chain), "{chain}");
        assert!(chain.len() <= 28, "{chain}");
        for target in rules.iter().filter_map(|r| r.split("-j KUBE-").nth(1)) {
            let key = (*table, format!("KUBE-{target}").into());
            assert!(program.rules.chains().contains_key(&key), "{target} is no chain");
        }
    }
    for key in FIXED_CHAINS {
        assert!(program.rules.chains().contains_key(&(key.0, key.1.into())), "{key:?}");
    }
    assert!(!is_ours(Table::Nat, "KUBE-SEP-AAAAAAAAAAAAAAAA"));
    assert!(!is_ours(Table::Nat, "DOCKER"));
}

fn dns() -> Service {
    service(
        "dns",
        json!({"clusterIP": "10.96.0.10",
            "ports": [{"name": "dns", "protocol": "UDP", "port": 53, "nodePort": 30053}]}),
    )
}

fn udp(endpoints: &[&str]) -> UdpFronts {
    build(&facts(), &[dns()], &[slice("dns", "dns", 5353, endpoints)]).udp
}

fn check_stale(flows: Vec<StaleFlow>, expect: Expect) {
    let line = |f: &StaleFlow| {
        let address = f.front.address.map_or("*".into(), |ip| ip.to_string());
        let endpoint = f.endpoint.map_or("*".into(), |at| at.to_string());
        format!("{address}:{} -> {endpoint}\n", f.front.port)
    };
    expect.assert_eq(&flows.iter().map(line).collect::<String>());
}

#[test]
fn udp_flows_to_gone_endpoints_are_stale() {
    let (one, two) = (udp(&["10.244.1.5@n1"]), udp(&["10.244.1.5@n1", "10.244.2.7@n2"]));
    check_stale(
        stale(&two, &one),
        expect![[r#"
        *:30053 -> 10.244.2.7:5353
        10.96.0.10:53 -> 10.244.2.7:5353
    "#]],
    );
    check_stale(stale(&one, &two), expect![[""]]);
    check_stale(
        stale(&one, &udp(&[])),
        expect![[r#"
        *:30053 -> 10.244.1.5:5353
        10.96.0.10:53 -> 10.244.1.5:5353
    "#]],
    );
    check_stale(
        stale(&one, &UdpFronts::new()),
        expect![[r#"
        *:30053 -> 10.244.1.5:5353
        10.96.0.10:53 -> 10.244.1.5:5353
    "#]],
    );
    check_stale(
        stale(&udp(&[]), &one),
        expect![[r#"
        *:30053 -> *
        10.96.0.10:53 -> *
    "#]],
    );
    check_stale(stale(&UdpFronts::new(), &udp(&[])), expect![[""]]);
}

#[test]
fn after_a_restart_stale_flows_are_found_in_the_listing() {
    let listing = "\
udp      17 25 src=10.244.1.9 dst=10.96.0.10 sport=4000 dport=53 src=10.244.1.5 dst=10.244.1.9 sport=5353 dport=4000 use=1
udp      17 25 src=10.244.1.9 dst=10.96.0.10 sport=4001 dport=53 [UNREPLIED] src=10.244.2.7 dst=10.244.1.9 sport=5353 dport=4001 use=1
udp      17 25 src=10.244.1.9 dst=10.96.0.10 sport=4002 dport=53 [UNREPLIED] src=10.96.0.10 dst=10.244.1.9 sport=53 dport=4002 use=1
udp      17 25 src=192.0.2.1 dst=192.0.2.9 sport=4003 dport=30053 src=10.244.2.7 dst=10.244.1.1 sport=5353 dport=4003 use=1
udp      17 25 src=192.0.2.9 dst=192.0.2.1 sport=4004 dport=30053 src=192.0.2.1 dst=192.0.2.9 sport=30053 dport=4004 use=1
udp      17 25 src=10.244.1.9 dst=8.8.8.8 sport=4005 dport=53 src=8.8.8.8 dst=192.0.2.9 sport=53 dport=4005 use=1
conntrack v1.4.7 (conntrack-tools): 6 flow entries have been shown.
";
    check_stale(
        stale_entries(listing, &udp(&["10.244.1.5@n1"])),
        expect![[r#"
        *:30053 -> 10.244.2.7:5353
        10.96.0.10:53 -> 10.96.0.10:53
        10.96.0.10:53 -> 10.244.2.7:5353
    "#]],
    );
}

proptest::proptest! {
    /// Whatever a Service is called, a rule has only bytes that mean nothing to a shell or to
    /// iptables.
    #[test]
    fn names_cannot_carry_rules(name in "\\PC{0,40}", port in "\\PC{0,20}") {
        let odd = service(&name, json!({"clusterIP": "10.96.0.9", "ports": [{"name": port, "port": 1, "nodePort": 30001}]}));
        let text = build(&facts(), &[odd], []).rules.to_restore();
        let plain = |c: char| c.is_ascii_alphanumeric() || " \n*:[]-_./,!\"".contains(c);
        proptest::prop_assert!(text.chars().all(plain), "{}", text);
        let quotes_pair = |line: &str| line.matches('"').count().is_multiple_of(2);
        proptest::prop_assert!(text.lines().all(quotes_pair), "{}", text);
    }
}
