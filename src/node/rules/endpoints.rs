//! Which endpoints a service port sends to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use smol_str::SmolStr;

use crate::model::NodeName;

/// The label by which an EndpointSlice names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The endpoints of all services by `(namespace, service)`, then by port name (empty for the
/// unnamed one).
pub(crate) type ByService<'a> = BTreeMap<(&'a str, &'a str), BTreeMap<SmolStr, Vec<Seen>>>;

/// One endpoint of one port as the EndpointSlices tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    /// Where it answers.
    at: SocketAddrV4,
    /// Whether it runs on this node.
    local: bool,
    /// Ready for new connections.
    ready: bool,
    /// Going away but still answering.
    draining: bool,
}

/// The endpoints of one service port that may get traffic, in order of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usable {
    /// On any node: those that are ready, or when none is, those that drain.
    pub(crate) cluster: BTreeSet<SocketAddrV4>,
    /// On this node, by the same rule.
    pub(crate) local: BTreeSet<SocketAddrV4>,
}

/// The state of an endpoint; absent conditions mean what the API says they mean: `ready` is true,
/// `serving` is as `ready`, `terminating` is false
/// (kubernetes.io/docs/concepts/services-networking/endpoint-slices).
pub(crate) fn conditions(endpoint: &Endpoint) -> (bool, bool) {
    let said = endpoint.conditions.as_ref();
    let ready = said.and_then(|c| c.ready).unwrap_or(true);
    let serving = said.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = said.and_then(|c| c.terminating).unwrap_or(false);
    (ready, serving && terminating)
}

/// The Service a slice belongs to; `None` for slices without the label or of other address
/// families.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<(&str, &str)> {
    if slice.address_type != "IPv4" {
        return None;
    }
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some((slice.metadata.namespace.as_deref()?, name))
}

/// Sorts all endpoints by service and port.
pub(crate) fn by_service<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    node: &NodeName,
) -> ByService<'a> {
    let mut all = ByService::new();
    for slice in slices {
        let Some(service) = service_of(slice) else { continue };
        let ports = all.entry(service).or_default();
        for port in slice.ports.iter().flatten() {
            let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()) else { continue };
            let name = port.name.as_deref().unwrap_or_default();
            let seen = ports.entry(name.into()).or_default();
            seen.extend(slice.endpoints.iter().flatten().flat_map(|e| see(e, number, node)));
        }
    }
    all
}

/// The addresses of one endpoint at one port.
fn see(endpoint: &Endpoint, port: u16, node: &NodeName) -> impl Iterator<Item = Seen> {
    let (ready, draining) = conditions(endpoint);
    let local = endpoint.node_name.as_deref() == Some(node.as_str());
    let addresses = endpoint.addresses.iter().filter_map(|a| a.parse::<Ipv4Addr>().ok());
    addresses.map(move |ip| Seen { at: SocketAddrV4::new(ip, port), local, ready, draining })
}

/// Picks the endpoints that may get traffic: ready ones, and only when there is none, those that
/// still serve while they terminate (as kube-proxy does, so that the last pod of a service loses no
/// request while it drains).
pub(crate) fn usable(seen: &[Seen]) -> Usable {
    let pick = |want: fn(&Seen) -> bool, only_local: bool| -> BTreeSet<SocketAddrV4> {
        seen.iter().filter(|s| want(s) && (s.local || !only_local)).map(|s| s.at).collect()
    };
    let choose = |only_local| {
        let ready = pick(|s| s.ready, only_local);
        if ready.is_empty() { pick(|s| s.draining, only_local) } else { ready }
    };
    Usable { cluster: choose(false), local: choose(true) }
}
