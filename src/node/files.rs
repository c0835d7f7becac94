//! The two files that name resolution in a pod reads.

use std::{fmt::Write, net::IpAddr};

use k8s_openapi::api::core::v1::PodSpec;

/// How pods of this cluster resolve names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodDns {
    /// The cluster's name server as pods reach it; `None`: the cluster has none.
    pub nameserver: Option<IpAddr>,
    /// The cluster's domain, `cluster.local`.
    pub domain: String,
    /// The node's own `/etc/resolv.conf`, for pods that resolve as their node does.
    pub host: String,
}

/// Most search domains and most name servers that resolvers read (glibc's `MAXDNSRCH` of old and
/// `MAXNS`; Kubernetes' validation allows 32 domains, glibc ≥ 2.26 reads all of them).
const SEARCH_MAX: usize = 32;
const NAMESERVERS_MAX: usize = 3;

/// The text of a pod's `/etc/resolv.conf`
/// (kubernetes.io/docs/concepts/services-networking/dns-pod-service, "Pod's DNS Policy").
pub fn resolv_conf(spec: &PodSpec, namespace: &str, dns: &PodDns) -> String {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host_network = spec.host_network == Some(true);
    let cluster = match policy {
        "ClusterFirst" => !host_network,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let (mut servers, mut search, mut options) = match (dns.nameserver, policy) {
        (Some(server), _) if cluster => {
            let domain = &dns.domain;
            let search =
                vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            (vec![server.to_string()], search, vec!["ndots:5".to_owned()])
        }
        (_, "None") => (vec![], vec![], vec![]),
        _ => read(&dns.host),
    };
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        search.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            options.retain(|o: &String| o.split(':').next() != Some(name));
            let value = option.value.as_ref().map(|v| format!(":{v}")).unwrap_or_default();
            options.push(format!("{name}{value}"));
        }
    }
    write(servers, search, &options)
}

/// Name servers, search domains and options of a `resolv.conf`.
fn read(text: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (mut servers, mut search, mut options) = (vec![], vec![], vec![]);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (word, rest) = (words.next(), words.map(str::to_owned));
        match word {
            Some("nameserver") => servers.extend(rest.take(1)),
            Some("search" | "domain") => search = rest.collect(),
            Some("options") => options.extend(rest),
            _ => {}
        }
    }
    (servers, search, options)
}

fn write(servers: Vec<String>, search: Vec<String>, options: &[String]) -> String {
    let mut text = String::new();
    let search = distinct(search, SEARCH_MAX);
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    for server in distinct(servers, NAMESERVERS_MAX) {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

fn distinct(words: Vec<String>, most: usize) -> Vec<String> {
    let mut kept: Vec<String> = vec![];
    for word in words {
        // A line break would let one field write any other line of the file.
        if !kept.contains(&word) && !word.contains(['\n', '\r']) {
            kept.push(word);
        }
    }
    kept.truncate(most);
    kept
}

/// The text of a pod's `/etc/hosts`: itself, loopback, and the aliases it asks for.
pub fn hosts(spec: &PodSpec, namespace: &str, hostname: &str, ip: IpAddr, domain: &str) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n");
    match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        Some(sub) => {
            let _ = writeln!(text, "{ip}\t{hostname}.{sub}.{namespace}.svc.{domain}\t{hostname}");
        }
        None => {
            let _ = writeln!(text, "{ip}\t{hostname}");
        }
    }
    for alias in spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        if !names.contains(['\n', '\r']) && !alias.ip.contains(['\n', '\r']) {
            let _ = writeln!(text, "{}\t{names}", alias.ip);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, expect: Expect) {
        let mut whole = json!({"containers": []});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let spec: PodSpec = serde_json::from_value(whole).unwrap();
        let dns = PodDns {
            nameserver: Some("10.96.0.10".parse().unwrap()),
            domain: "cluster.local".into(),
            host: "# x\nnameserver 9.9.9.9\nsearch home\noptions edns0\n".into(),
        };
        let hosts = hosts(&spec, "shop", "web-0", "10.244.1.5".parse().unwrap(), "cluster.local");
        expect.assert_eq(&format!("{}--\n{hosts}", resolv_conf(&spec, "shop", &dns)));
    }

    #[test]
    fn cluster_first() {
        check(
            json!({}),
            expect![[r#"
                search shop.svc.cluster.local svc.cluster.local cluster.local
                nameserver 10.96.0.10
                options ndots:5
                --
                127.0.0.1	localhost
                ::1	localhost ip6-localhost
                10.244.1.5	web-0
            "#]],
        );
    }

    #[test]
    fn own_settings_join_and_override() {
        check(
            json!({"subdomain": "db", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}],
                "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["x"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
            expect![[r#"
                search shop.svc.cluster.local svc.cluster.local cluster.local x
                nameserver 10.96.0.10
                nameserver 1.1.1.1
                options ndots:2 edns0
                --
                127.0.0.1	localhost
                ::1	localhost ip6-localhost
                10.244.1.5	web-0.db.shop.svc.cluster.local	web-0
                1.2.3.4	a	b
            "#]],
        );
    }

    #[test]
    fn host_network_resolves_as_the_node() {
        check(
            json!({"hostNetwork": true}),
            expect![[r#"
                search home
                nameserver 9.9.9.9
                options edns0
                --
                127.0.0.1	localhost
                ::1	localhost ip6-localhost
                10.244.1.5	web-0
            "#]],
        );
    }
}
