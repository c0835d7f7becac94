//! Names of services and pods.
//!
//! In: the cluster's Services and EndpointSlices. Out: a [`Zone`] that answers questions, and the
//! resolv.conf of a pod. `agent::dns` serves it; nothing here opens a socket. The names are those
//! of the Kubernetes DNS specification (github.com/kubernetes/dns, docs/specification.md) as
//! CoreDNS answers them; IPv4 only.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointSlice},
};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::rules::{cluster_ips, conditions, service_of};

#[cfg(test)]
mod tests;

/// Seconds for which an answer may be kept: the time in which a client notices a change. CoreDNS'
/// default.
pub const TTL_SECONDS: u32 = 5;

/// The port of a name server.
const DNS_PORT: u16 = 53;

/// Most servers that are taken from a resolv.conf, as the C library does.
const UPSTREAMS_MAX: usize = 3;

/// Most search domains a pod inherits from its node; the C library reads 6 and the pod has 3 of its
/// own.
const SEARCHES_MAX: usize = 3;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// An IPv4 address.
    A,
    /// A host and port.
    Srv,
    /// The name of an address.
    Ptr,
    /// Anything else, AAAA included: names exist, but there is no such record.
    Other,
}

/// What the zone says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Records, with the addresses of hosts they name.
    Records {
        /// Records that answer.
        answers: Vec<Record>,
        /// Addresses of the hosts named by SRV records.
        additionals: Vec<Record>,
    },
    /// The name is another name for this one, outside the cluster perhaps (ExternalName).
    Alias(SmolStr),
    /// The name exists, but not with such a record.
    NoData,
    /// There is no such name.
    NoName,
    /// Not the cluster's business: ask another server.
    Elsewhere,
}

/// One record; its time to live is [`TTL_SECONDS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name, lower case, without the last dot.
    pub name: SmolStr,
    /// What it says.
    pub data: Data,
}

/// The data of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An address.
    A(Ipv4Addr),
    /// A port of a host.
    Srv {
        /// The port.
        port: u16,
        /// The host's name.
        target: SmolStr,
        /// 100 shared by all records of the answer, at least 1.
        weight: u16,
    },
    /// A name.
    Ptr(SmolStr),
}

/// The names of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// `cluster.local`, lower case.
    domain: SmolStr,
    /// By namespace, then by name.
    services: BTreeMap<SmolStr, BTreeMap<SmolStr, Entry>>,
    /// The names of addresses of services and their endpoints.
    addresses: BTreeMap<Ipv4Addr, BTreeSet<SmolStr>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// Cluster IPs and ports.
    Cluster(Vec<Ipv4Addr>, BTreeSet<NamedPort>),
    /// Host name → its addresses, and its ports.
    Headless(BTreeMap<SmolStr, Host>),
    /// Another name.
    External(SmolStr),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Host {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<NamedPort>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NamedPort {
    /// `http`; a port without a name has no SRV record.
    name: SmolStr,
    /// `tcp`
    protocol: SmolStr,
    port: u16,
}

impl Zone {
    /// Collects the names of a cluster whose domain is `domain` (`cluster.local`).
    pub fn new<'a>(
        domain: &str,
        services: impl IntoIterator<Item = &'a Service>,
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
    ) -> Self {
        let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices {
            if let Some(service) = service_of(slice) {
                by_service.entry(service).or_default().push(slice);
            }
        }
        let mut zone = Self { domain: lower(domain), ..Self::default() };
        for service in services {
            let (Some(namespace), Some(name)) =
                (service.metadata.namespace.as_deref(), service.metadata.name.as_deref())
            else {
                continue;
            };
            let slices = by_service.get(&(namespace, name)).map_or(&[][..], Vec::as_slice);
            if let Some(entry) = entry(service, slices) {
                zone.add(lower(namespace), lower(name), entry);
            }
        }
        zone
    }

    fn add(&mut self, namespace: SmolStr, name: SmolStr, entry: Entry) {
        let service = format_smolstr!("{name}.{namespace}.svc.{}", self.domain);
        match &entry {
            Entry::Cluster(ips, _) => {
                ips.iter().for_each(|ip| self.name_address(*ip, service.clone()));
            }
            Entry::Headless(hosts) => {
                for (host, Host { addresses, .. }) in hosts {
                    let full = format_smolstr!("{host}.{service}");
                    addresses.iter().for_each(|ip| self.name_address(*ip, full.clone()));
                }
            }
            Entry::External(_) => {}
        }
        self.services.entry(namespace).or_default().insert(name, entry);
    }

    fn name_address(&mut self, ip: Ipv4Addr, name: SmolStr) {
        self.addresses.entry(ip).or_default().insert(name);
    }

    /// The cluster's domain, `cluster.local`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Answers a question for a name, written with or without the last dot, in whatever case.
    pub fn answer(&self, name: &str, question: Question) -> Answer {
        let name = lower(name);
        if let Some(ip) = reverse_address(&name) {
            return self.answer_reverse(&name, ip, question);
        }
        let Some(inside) = name.strip_suffix(self.domain.as_str()) else {
            return Answer::Elsewhere;
        };
        match inside.strip_suffix('.') {
            Some(inside) => self.answer_inside(&name, inside, question),
            None if inside.is_empty() => Answer::NoData,
            None => Answer::Elsewhere,
        }
    }

    fn answer_reverse(&self, name: &str, ip: Ipv4Addr, question: Question) -> Answer {
        let Some(names) = self.addresses.get(&ip) else { return Answer::Elsewhere };
        if question != Question::Ptr {
            return Answer::NoData;
        }
        records(name, names.iter().cloned().map(Data::Ptr))
    }

    /// `inside` is the part before the domain: `web.shop.svc`.
    fn answer_inside(&self, name: &str, inside: &str, question: Question) -> Answer {
        let labels: Vec<&str> = inside.rsplit('.').collect();
        match labels.as_slice() {
            ["svc" | "pod"] => Answer::NoData,
            ["svc", namespace, rest @ ..] => {
                let services = self.services.get(*namespace);
                services.map_or(Answer::NoName, |s| self.answer_service(s, name, rest, question))
            }
            // No list of namespaces reaches a node, so any of them may have pods.
            ["pod", _namespace] => Answer::NoData,
            ["pod", _namespace, dashed] => match dashed_address(dashed) {
                Some(ip) if question == Question::A => records(name, [Data::A(ip)]),
                Some(_) => Answer::NoData,
                None => Answer::NoName,
            },
            _ => Answer::NoName,
        }
    }

    /// `rest` is what stands before the namespace, last label first.
    fn answer_service(
        &self,
        services: &BTreeMap<SmolStr, Entry>,
        name: &str,
        rest: &[&str],
        question: Question,
    ) -> Answer {
        let (Some((service, below)), domain) = (rest.split_first(), &self.domain) else {
            return Answer::NoData;
        };
        let Some(entry) = services.get(*service) else { return Answer::NoName };
        // The name of the service itself, to which the names of hosts are put.
        let own = || {
            let labels = name.strip_suffix(domain.as_str()).unwrap_or_default();
            let labels: Vec<_> = labels.trim_end_matches('.').rsplit('.').take(3).collect();
            format_smolstr!("{}.{}.{}.{domain}", labels[2], labels[1], labels[0])
        };
        match below {
            [] => entry.answer(name, question),
            [host] if !host.starts_with('_') => entry.answer_host(name, host, question),
            [protocol] => entry.answer_port(name, &own(), protocol, None, question),
            [protocol, port] => entry.answer_port(name, &own(), protocol, Some(port), question),
            _ => Answer::NoName,
        }
    }
}

impl Entry {
    /// The service's own name.
    fn answer(&self, name: &str, question: Question) -> Answer {
        let ips: BTreeSet<Ipv4Addr> = match self {
            Entry::External(target) => return Answer::Alias(target.clone()),
            Entry::Cluster(ips, _) => ips.iter().copied().collect(),
            Entry::Headless(hosts) => hosts.values().flat_map(|h| h.addresses.clone()).collect(),
        };
        match (question, self) {
            // A headless service without ready endpoints does not exist for CoreDNS either.
            _ if ips.is_empty() => Answer::NoName,
            (Question::A, _) => records(name, ips.into_iter().map(Data::A)),
            (Question::Srv, _) => self.ports(name, name, |_| true),
            _ => Answer::NoData,
        }
    }

    /// `hostname.service`, or `10-244-1-5.service` for an endpoint without a host name.
    fn answer_host(&self, name: &str, host: &str, question: Question) -> Answer {
        let Entry::Headless(hosts) = self else { return Answer::NoName };
        match hosts.get(host) {
            None => Answer::NoName,
            Some(Host { addresses, .. }) if question == Question::A => {
                records(name, addresses.iter().copied().map(Data::A))
            }
            Some(_) => Answer::NoData,
        }
    }

    /// `_port._protocol.service`, or `_protocol.service`, which exists when a port below it does.
    fn answer_port(
        &self,
        name: &str,
        own: &str,
        protocol: &str,
        port: Option<&str>,
        question: Question,
    ) -> Answer {
        let bare = |label: &str| label.strip_prefix('_').map(str::to_owned);
        let (Some(protocol), port) = (bare(protocol), port.map(bare)) else {
            return Answer::NoName;
        };
        let wanted = |p: &NamedPort| {
            let named = port.as_ref().is_none_or(|name| name.as_deref() == Some(p.name.as_str()));
            p.protocol == protocol && named
        };
        match self.ports(name, own, wanted) {
            found @ Answer::Records { .. } if question == Question::Srv && port.is_some() => found,
            Answer::Records { .. } => Answer::NoData,
            _ => Answer::NoName,
        }
    }

    /// SRV records of the ports that are wanted.
    fn ports(&self, name: &str, own: &str, wanted: impl Fn(&NamedPort) -> bool) -> Answer {
        let mut found: Vec<(u16, SmolStr, Vec<Ipv4Addr>)> = vec![];
        match self {
            Entry::External(_) => {}
            Entry::Cluster(ips, ports) => {
                let ports = ports.iter().filter(|p| wanted(p));
                found.extend(ports.map(|p| (p.port, own.to_smolstr(), ips.clone())));
            }
            Entry::Headless(hosts) => {
                for (host, Host { addresses, ports }) in hosts {
                    let target = format_smolstr!("{host}.{own}");
                    let addresses: Vec<_> = addresses.iter().copied().collect();
                    let ports = ports.iter().filter(|p| wanted(p));
                    found.extend(ports.map(|p| (p.port, target.clone(), addresses.clone())));
                }
            }
        }
        if found.is_empty() {
            return Answer::NoData;
        }
        let weight = u16::try_from(100 / found.len()).unwrap_or(1).max(1);
        let mut additionals: Vec<Record> = vec![];
        let mut answers = vec![];
        for (port, target, addresses) in found {
            let host = |ip: &Ipv4Addr| Record { name: target.clone(), data: Data::A(*ip) };
            let new = !additionals.iter().any(|record| record.name == target);
            additionals.extend(addresses.iter().filter(|_| new).map(host));
            let data = Data::Srv { port, target, weight };
            answers.push(Record { name: name.into(), data });
        }
        Answer::Records { answers, additionals }
    }
}

/// Records of one name; none is "no such record".
fn records(name: &str, data: impl IntoIterator<Item = Data>) -> Answer {
    let name = name.to_smolstr();
    let answers: Vec<_> =
        data.into_iter().map(|data| Record { name: name.clone(), data }).collect();
    if answers.is_empty() {
        return Answer::NoData;
    }
    Answer::Records { answers, additionals: vec![] }
}

/// What a Service is in DNS; `None` when it has no name there.
fn entry(service: &Service, slices: &[&EndpointSlice]) -> Option<Entry> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return spec.external_name.as_deref().map(|name| Entry::External(lower(name)));
    }
    let ips = cluster_ips(spec);
    if ips.is_empty() {
        let headless = spec.cluster_ip.as_deref() == Some("None");
        return headless.then(|| Entry::Headless(hosts(slices)));
    }
    let port = |p: &k8s_openapi::api::core::v1::ServicePort| {
        named_port(p.name.as_deref(), p.protocol.as_deref(), Some(p.port))
    };
    let ports = spec.ports.iter().flatten().filter_map(port).collect();
    Some(Entry::Cluster(ips, ports))
}

fn named_port(name: Option<&str>, protocol: Option<&str>, port: Option<i32>) -> Option<NamedPort> {
    let name = name.filter(|name| !name.is_empty())?;
    let port = u16::try_from(port?).ok()?;
    Some(NamedPort { name: lower(name), protocol: lower(protocol.unwrap_or("tcp")), port })
}

/// The ready endpoints of a headless service by host name. Pods that are not ready are in their
/// slice as ready when the Service says `publishNotReadyAddresses`.
fn hosts(slices: &[&EndpointSlice]) -> BTreeMap<SmolStr, Host> {
    let mut hosts: BTreeMap<SmolStr, Host> = BTreeMap::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten();
        let ports: Vec<_> = ports
            .filter_map(|p| named_port(p.name.as_deref(), p.protocol.as_deref(), p.port))
            .collect();
        for endpoint in slice.endpoints.iter().flatten().filter(|e| conditions(e).0) {
            for ip in endpoint.addresses.iter().filter_map(|a| a.parse::<Ipv4Addr>().ok()) {
                let host = hosts.entry(host_name(endpoint, ip)).or_default();
                host.addresses.insert(ip);
                host.ports.extend(ports.iter().cloned());
            }
        }
    }
    hosts
}

fn host_name(endpoint: &Endpoint, ip: Ipv4Addr) -> SmolStr {
    let own = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
    own.map_or_else(|| ip.to_string().replace('.', "-").into(), lower)
}

/// A name as we keep it: lower case, no last dot.
fn lower(name: &str) -> SmolStr {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.chars().map(|c| c.to_ascii_lowercase()).collect()
}

/// `10-244-1-5` → 10.244.1.5
fn dashed_address(label: &str) -> Option<Ipv4Addr> {
    (!label.contains('.')).then(|| label.replace('-', ".").parse().ok())?
}

/// `5.1.244.10.in-addr.arpa` → 10.244.1.5
fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let digits = name.strip_suffix(".in-addr.arpa")?;
    let address: Ipv4Addr = digits.parse().ok()?;
    let [a, b, c, d] = address.octets();
    Some(Ipv4Addr::new(d, c, b, a))
}

/// The `/etc/resolv.conf` of a pod with `dnsPolicy: ClusterFirst`: asks `server`, looks for short
/// names in the pod's namespace, then in the cluster, then where its node looks (`node_resolv_conf`
/// is the node's own file).
pub fn pod_resolv_conf(
    namespace: &str,
    domain: &str,
    server: Ipv4Addr,
    node_resolv_conf: &str,
) -> String {
    let mut searches =
        vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    searches.extend(node_searches(node_resolv_conf));
    format!("nameserver {server}\nsearch {}\noptions ndots:5\n", searches.join(" "))
}

/// The search domains of a resolv.conf; the last `search` line counts.
fn node_searches(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::split_ascii_whitespace);
    let mut searches = vec![];
    for mut words in lines {
        if matches!(words.next(), Some("search" | "domain")) {
            searches = words.filter(|d| *d != ".").take(SEARCHES_MAX).map(str::to_owned).collect();
        }
    }
    searches
}

/// The servers that a node's resolv.conf names, except `own`, which would ask itself forever.
pub fn upstreams(resolv_conf: &str, own: IpAddr) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = (words.next()? == "nameserver").then(|| words.next())??;
        address.parse::<IpAddr>().ok()
    };
    let servers = resolv_conf.lines().filter_map(server).filter(|ip| *ip != own);
    servers.take(UPSTREAMS_MAX).map(|ip| SocketAddr::new(ip, DNS_PORT)).collect()
}
