//! The Service `kubernetes`, by which pods reach the API, and where it leads: to every server.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::{
    Metadata, Resource,
    api::{
        core::v1::{
            EndpointAddress, EndpointPort as Port, EndpointSubset, Endpoints, Namespace, Service,
            ServicePort, ServiceSpec,
        },
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Controller, Inputs, Plan, batch::Batch, owners};
use crate::{
    kinds,
    model::{Key, Labels, Object},
    state::{Change, View},
};

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
/// The port of the Service.
const PORT: i32 = 443;
const PORT_NAME: &str = "https";

/// Keeps the Service and its endpoints.
pub(super) const CONTROLLER: Controller =
    Controller { name: "kubernetes-service-controller", affected, all, plan };

fn key() -> Key {
    Key::of::<Service>(NAMESPACE, NAME)
}

fn all(view: &View) -> BTreeSet<Key> {
    view.config().map(|_| key()).into_iter().collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let of = &change.key;
    let ours = of.is::<Service>() || of.is::<Endpoints>() || of.is::<EndpointSlice>();
    let named = ours && of.namespace == NAMESPACE && of.name == NAME;
    let place = of.is::<Namespace>() && of.name == NAMESPACE && super::is_new(change);
    if named || place { all(view) } else { BTreeSet::new() }
}

/// Without servers (a cluster of a simulation) there is nothing to reach and no Service.
fn plan(view: &View, _key: &Key, inputs: &Inputs<'_>) -> Plan {
    let mut batch = Batch::default();
    let Some(config) = view.config() else { return Plan::default() };
    let place = view.object(&Key::of::<Namespace>("", NAMESPACE));
    if inputs.servers.is_empty() || place.is_none() || owners::is_closing(view, NAMESPACE) {
        return Plan::default();
    }
    if view.object(&key()).is_none() {
        batch.create(&admitted(&service(&config.api_address().to_string(), inputs.servers)));
    }
    keep(view, endpoints(inputs.servers), same_endpoints, &mut batch);
    keep(view, slice(inputs.servers), same_slice, &mut batch);
    batch.into_plan(None)
}

/// Makes the object, or puts right what differs.
fn keep<T>(view: &View, wanted: T, same: fn(&T, &T) -> bool, batch: &mut Batch)
where
    T: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static,
{
    let live = view.object(&Key::of::<T>(NAMESPACE, NAME));
    match live.and_then(|object| Some((object, object.view::<T>()?))) {
        None => batch.create(&admitted(&wanted)),
        Some((object, stored)) if !object.is_terminating() && !same(stored, &wanted) => {
            batch.update(object, &admitted(&wanted));
        }
        Some(_) => {}
    }
}

fn same_endpoints(a: &Endpoints, b: &Endpoints) -> bool {
    a.subsets == b.subsets && a.metadata.labels == b.metadata.labels
}

fn same_slice(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    a.endpoints == b.endpoints && a.ports == b.ports && a.metadata.labels == b.metadata.labels
}

/// The object with its defaults.
fn admitted<T>(typed: &T) -> T
where
    T: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone,
    T: Send + Sync + 'static,
{
    let value = serde_json::to_value(typed).unwrap_or_default();
    let admitted = kinds::admit(value, kinds::Strictness::Warn).ok();
    let found = admitted.and_then(|a| Object::view::<T>(&a.object).cloned());
    found.unwrap_or_else(|| typed.clone())
}

fn meta(labels: &[(&str, &str)]) -> ObjectMeta {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some(labels.iter().map(own).collect::<Labels>()),
        ..ObjectMeta::default()
    }
}

fn service(address: &str, servers: &[SocketAddr]) -> Service {
    let target = servers.first().map_or(PORT, |server| i32::from(server.port()));
    let port = ServicePort {
        name: Some(PORT_NAME.to_owned()),
        port: PORT,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(target)),
        ..ServicePort::default()
    };
    Service {
        metadata: meta(&[("component", "apiserver"), ("provider", "kubernetes")]),
        spec: Some(ServiceSpec {
            cluster_ip: Some(address.to_owned()),
            cluster_ips: Some(vec![address.to_owned()]),
            ports: Some(vec![port]),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The ports that servers listen on, and for each who does.
fn by_port(servers: &[SocketAddr]) -> Vec<(i32, Vec<IpAddr>)> {
    let ports: BTreeSet<u16> = servers.iter().map(SocketAddr::port).collect();
    let addresses = |port: u16| {
        let here = servers.iter().filter(|server| server.port() == port);
        here.map(SocketAddr::ip).collect::<BTreeSet<_>>().into_iter().collect()
    };
    ports.into_iter().map(|port| (i32::from(port), addresses(port))).collect()
}

fn endpoints(servers: &[SocketAddr]) -> Endpoints {
    let subset = |(port, addresses): (i32, Vec<IpAddr>)| EndpointSubset {
        addresses: Some(
            addresses
                .iter()
                .map(|ip| EndpointAddress { ip: ip.to_string(), ..EndpointAddress::default() })
                .collect(),
        ),
        ports: Some(vec![Port {
            name: Some(PORT_NAME.to_owned()),
            port,
            protocol: Some("TCP".to_owned()),
            ..Port::default()
        }]),
        ..EndpointSubset::default()
    };
    Endpoints {
        // Its slice is written here.
        metadata: meta(&[("endpointslice.kubernetes.io/skip-mirror", "true")]),
        subsets: Some(by_port(servers).into_iter().map(subset).collect()),
    }
}

/// A slice has one set of ports; servers that listen elsewhere than most are not in it.
fn slice(servers: &[SocketAddr]) -> EndpointSlice {
    let most = by_port(servers).into_iter().max_by_key(|(_, addresses)| addresses.len());
    let (port, addresses) = most.unwrap_or_default();
    let endpoint = |ip: &IpAddr| Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
        ..Endpoint::default()
    };
    let v6 = addresses.iter().all(IpAddr::is_ipv6);
    EndpointSlice {
        metadata: meta(&[("kubernetes.io/service-name", NAME)]),
        address_type: if v6 { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: Some(addresses.iter().map(endpoint).collect()),
        ports: Some(vec![EndpointPort {
            name: Some(PORT_NAME.to_owned()),
            port: Some(port),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}
