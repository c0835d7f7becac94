//! Mirrors hand-made Endpoints of Services without a selector into EndpointSlices, which is what
//! proxies and names follow.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::{
    core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
};

use super::{
    Controller, Inputs, Plan, owners,
    slices::{Annotations, MANAGER_LABEL, Port, SERVICE_LABEL, Slices},
};
use crate::{
    kinds::LAST_APPLIED,
    model::{GroupKind, Key, Labels, Object},
    state::{Change, View},
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// The label by which Endpoints ask not to be mirrored.
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// What old clients keep in Endpoints to agree on a leader; no traffic goes there.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that speak of the Endpoints themselves.
const OWN_ANNOTATIONS: [&str; 3] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    LAST_APPLIED,
    "endpoints.kubernetes.io/over-capacity",
];
/// Most addresses of one subset that are mirrored, as Kubernetes.
const ADDRESSES_MAX: usize = 1000;

/// Has one object for each Endpoints.
pub(super) const CONTROLLER: Controller =
    Controller { name: "endpointslice-mirroring-controller", affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<Endpoints>(), None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let key = &change.key;
    if key.is::<Endpoints>() || key.is::<Service>() {
        return super::still(&Key::of::<Endpoints>(&key.namespace, &key.name), view);
    }
    if !key.is::<EndpointSlice>() {
        return BTreeSet::new();
    }
    let versions = [&change.old, &change.new].into_iter().flatten();
    let owners = versions.flat_map(|o| o.owners().iter());
    let endpoints = owners.filter(|o| o.kind == "Endpoints");
    let keys = endpoints.map(|o| Key::of::<Endpoints>(&key.namespace, &o.name));
    keys.filter(|key| view.object(key).is_some()).collect()
}

fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key).filter(|o| !o.is_terminating()) else {
        return Plan::default();
    };
    let Some(endpoints) = object.view::<Endpoints>() else { return Plan::default() };
    if owners::is_closing(view, &key.namespace) {
        return Plan::default();
    }
    let mut slices =
        Slices::new(view, object, MANAGER, labels(object), address).annotated(annotations(object));
    if is_mirrored(view, object) {
        for ((family, ports), wanted) in wanted(endpoints) {
            slices.reconcile(family, &ports, wanted);
        }
    }
    slices.finish().into_plan(None)
}

/// Whether the Endpoints are hand-made, for a Service that nobody else has slices for.
fn is_mirrored(view: &View, endpoints: &Object) -> bool {
    let (meta, key) = (endpoints.meta(), endpoints.key());
    let skips = meta.labels.as_ref().and_then(|l| l.get(SKIP_LABEL)).is_some_and(|v| v == "true");
    let service = view.get::<Service>(&key.namespace, &key.name).and_then(|s| s.spec.as_ref());
    let by_hand = service.is_some_and(|s| s.selector.as_ref().is_none_or(BTreeMap::is_empty));
    by_hand && !skips && endpoints.annotation(LEADER_ANNOTATION).is_none()
}

fn labels(endpoints: &Object) -> Labels {
    let mut labels = endpoints.meta().labels.clone().unwrap_or_default();
    labels.insert(SERVICE_LABEL.to_owned(), endpoints.key().name.to_string());
    labels.insert(MANAGER_LABEL.to_owned(), MANAGER.to_owned());
    labels
}

fn annotations(endpoints: &Object) -> Annotations {
    let mut annotations = endpoints.meta().annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !OWN_ANNOTATIONS.contains(&name.as_str()));
    annotations
}

/// The endpoints of each family of addresses and set of ports, by address.
type Wanted = BTreeMap<(&'static str, Vec<Port>), BTreeMap<String, Endpoint>>;

fn wanted(endpoints: &Endpoints) -> Wanted {
    let mut wanted = Wanted::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let waiting = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        for (address, ready) in ready.chain(waiting).take(ADDRESSES_MAX) {
            let Some(family) = family(&address.ip) else { continue };
            let of_ports = wanted.entry((family, ports(subset))).or_default();
            of_ports.entry(address.ip.clone()).or_insert_with(|| endpoint(address, ready));
        }
    }
    wanted
}

fn family(ip: &str) -> Option<&'static str> {
    ip.parse().ok().map(|ip| match ip {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    })
}

fn ports(subset: &EndpointSubset) -> Vec<Port> {
    let port = |port: &k8s_openapi::api::core::v1::EndpointPort| {
        let name = port.name.clone().unwrap_or_default();
        (Some(name), Some(port.port), port.protocol.clone(), port.app_protocol.clone())
    };
    let mut ports: Vec<Port> = subset.ports.iter().flatten().map(port).collect();
    ports.sort();
    ports
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..Default::default() }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn address(endpoint: &Endpoint) -> &str {
    endpoint.addresses.first().map(String::as_str).unwrap_or_default()
}
