//! Endpoints: what EndpointSlices say of a Service with a selector, in the older form that many
//! clients read.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{
        core::v1::{
            EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Namespace, Service,
            ServiceSpec,
        },
        discovery::v1::Endpoint,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Controller, Inputs, Plan,
    batch::Batch,
    endpoint_slice::{HEADLESS_LABEL, Wanted, selector, services_of_pod, wanted},
    owners,
    slices::Port,
};
use crate::{
    model::{GroupKind, Key, Labels, Object},
    state::{Change, View},
};

/// Most addresses of one Endpoints, as Kubernetes: an object is written whole at each change.
const ADDRESSES_MAX: usize = 1000;
/// Says that there are more addresses than the object holds.
const OVER_CAPACITY: (&str, &str) = ("endpoints.kubernetes.io/over-capacity", "truncated");
const MANAGER: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");

/// Keeps the Endpoints of every Service that has a selector.
pub(super) const CONTROLLER: Controller =
    Controller { name: "endpoint-controller", affected, all, plan };

/// The Services, and those whose Endpoints are left over.
fn all(view: &View) -> BTreeSet<Key> {
    let of = |kind| view.of_kind(&kind, None).map(|o| service(o.key()));
    of(GroupKind::of::<Service>()).chain(of(GroupKind::of::<Endpoints>())).collect()
}

fn service(key: &Key) -> Key {
    Key::of::<Service>(&key.namespace, &key.name)
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let key = &change.key;
    if key.is::<Service>() || key.is::<Endpoints>() {
        return [service(key)].into();
    }
    if key.is::<Namespace>() && super::is_new(change) {
        let kind = GroupKind::of::<Service>();
        return view.of_kind(&kind, Some(&key.name)).map(|o| o.key().clone()).collect();
    }
    services_of_pod(change, view)
}

fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let mut batch = Batch::default();
    if owners::is_closing(view, &key.namespace) {
        return Plan::default();
    }
    let live = view.object(&Key::of::<Endpoints>(&key.namespace, &key.name));
    let live = live.filter(|o| !o.is_terminating());
    match view.object(key) {
        None => {
            if let Some(left) = live.filter(|o| is_ours(o)) {
                batch.delete(left);
            }
        }
        Some(service) if service.is_terminating() => {}
        Some(service) => reconcile(view, service, live, &mut batch),
    }
    batch.into_plan(None)
}

fn is_ours(object: &Object) -> bool {
    let labels = object.meta().labels.as_ref();
    labels.and_then(|l| l.get(MANAGER.0)).is_some_and(|m| m == MANAGER.1)
}

fn reconcile(view: &View, object: &Object, live: Option<&Object>, batch: &mut Batch) {
    let Some(spec) = object.view::<Service>().and_then(|s| s.spec.as_ref()) else { return };
    let Some(selector) = selector(spec) else { return };
    let (subsets, truncated) = subsets(wanted(view, object.key(), spec, &selector), spec);
    let stored = live.and_then(|o| o.view::<Endpoints>());
    let mut endpoints = stored.cloned().unwrap_or_else(|| named(object.key()));
    endpoints.metadata.labels = Some(labels(object, spec));
    let annotations = endpoints.metadata.annotations.get_or_insert_default();
    match truncated {
        true => annotations.insert(OVER_CAPACITY.0.to_owned(), OVER_CAPACITY.1.to_owned()),
        false => annotations.remove(OVER_CAPACITY.0),
    };
    if annotations.is_empty() {
        endpoints.metadata.annotations = None;
    }
    endpoints.subsets = Some(subsets).filter(|all| !all.is_empty());
    match (live, stored) {
        (Some(live), Some(stored)) if *stored != endpoints => batch.update(live, &endpoints),
        (Some(_), _) => {}
        (None, _) => batch.create(&endpoints),
    }
}

fn named(service: &Key) -> Endpoints {
    let metadata = ObjectMeta {
        name: Some(service.name.to_string()),
        namespace: Some(service.namespace.to_string()),
        ..ObjectMeta::default()
    };
    Endpoints { metadata, ..Endpoints::default() }
}

/// The labels of the Service, and those that say whose the Endpoints are.
fn labels(service: &Object, spec: &ServiceSpec) -> Labels {
    let mut labels = service.meta().labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGER.0.to_owned(), MANAGER.1.to_owned());
    labels
}

/// The addresses of each set of ports, ready ones first; whether some had to be left out.
fn subsets(wanted: Wanted, spec: &ServiceSpec) -> (Vec<EndpointSubset>, bool) {
    // Terminating pods take no new requests, and the older form cannot tell them from others.
    let published = spec.publish_not_ready_addresses == Some(true);
    let going = |e: &Endpoint| e.conditions.as_ref().is_some_and(|c| c.terminating == Some(true));
    let without_ports = spec.ports.as_ref().is_none_or(Vec::is_empty);
    let mut sorted: Vec<(Vec<Port>, Vec<EndpointAddress>, Vec<EndpointAddress>)> = Vec::new();
    for (ports, endpoints) in wanted.into_iter().filter(|(p, _)| without_ports || !p.is_empty()) {
        let stay = endpoints.into_values().filter(|e| published || !going(e));
        let (ready, waiting): (Vec<_>, Vec<_>) = stay.partition(is_ready);
        sorted.push((ports, addresses(ready), addresses(waiting)));
    }
    let count = sorted.iter().map(|(_, ready, waiting)| ready.len() + waiting.len()).sum::<usize>();
    let mut room = ADDRESSES_MAX;
    let mut cut = |addresses: &mut Vec<EndpointAddress>| {
        addresses.truncate(room);
        room -= addresses.len();
    };
    sorted.iter_mut().for_each(|(_, ready, _)| cut(ready));
    sorted.iter_mut().for_each(|(_, _, waiting)| cut(waiting));
    let some = |list: Vec<EndpointAddress>| Some(list).filter(|list| !list.is_empty());
    let subset = |(ports, ready, waiting): (Vec<Port>, Vec<_>, Vec<_>)| EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(waiting),
        ports: Some(ports.into_iter().map(port).collect()).filter(|p: &Vec<_>| !p.is_empty()),
    };
    let all = sorted.into_iter().map(subset);
    let all = all.filter(|s| s.addresses.is_some() || s.not_ready_addresses.is_some());
    (all.collect(), count > ADDRESSES_MAX)
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|c| c.ready == Some(true))
}

/// In order of the addresses, as Kubernetes writes them.
fn addresses(endpoints: Vec<Endpoint>) -> Vec<EndpointAddress> {
    let address = |endpoint: Endpoint| EndpointAddress {
        ip: endpoint.addresses.into_iter().next().unwrap_or_default(),
        hostname: endpoint.hostname,
        node_name: endpoint.node_name,
        target_ref: endpoint.target_ref,
    };
    let mut all: Vec<EndpointAddress> = endpoints.into_iter().map(address).collect();
    all.sort_by(|a, b| a.ip.cmp(&b.ip));
    all
}

fn port((name, number, protocol, app_protocol): Port) -> EndpointPort {
    EndpointPort {
        name: name.filter(|n| !n.is_empty()),
        port: number.unwrap_or_default(),
        protocol,
        app_protocol,
    }
}
