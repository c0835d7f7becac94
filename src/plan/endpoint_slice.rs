//! EndpointSlices: which pods answer for a Service.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Node, ObjectReference, Pod, Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Controller, Inputs, Plan, owners, pods,
    slices::{self, Port, SERVICE_LABEL, Slices},
};
use crate::{
    model::{GroupKind, Key, Labels, Object, Selector},
    state::{Change, View},
};

const NAME: &str = "endpointslice-controller";
const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Keeps the EndpointSlices of every Service that has a selector.
pub(super) const CONTROLLER: Controller = Controller { name: NAME, affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<Service>(), None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let versions = || [&change.old, &change.new].into_iter().flatten();
    if change.key.is::<Service>() {
        return super::still(&change.key, view);
    }
    if change.key.is::<Namespace>() && super::is_new(change) {
        let kind = GroupKind::of::<Service>();
        return view.of_kind(&kind, Some(&change.key.name)).map(|o| o.key().clone()).collect();
    }
    if change.key.is::<EndpointSlice>() {
        let owners = versions().flat_map(|o| o.owners().iter());
        let services = owners.filter(|o| o.kind == "Service");
        let keys = services.map(|o| Key::of::<Service>(&change.key.namespace, &o.name));
        return keys.filter(|key| view.object(key).is_some()).collect();
    }
    if change.key.is::<Node>() {
        let zone = |o: &Option<Object>| {
            o.as_ref().and_then(|o| o.meta().labels.as_ref()?.get(ZONE_LABEL).cloned())
        };
        let moved = zone(&change.old) != zone(&change.new);
        return if moved { all(view) } else { BTreeSet::new() };
    }
    services_of_pod(change, view)
}

/// The Services whose endpoints a change of a pod changes.
pub(super) fn services_of_pod(change: &Change, view: &View) -> BTreeSet<Key> {
    let versions = || [&change.old, &change.new].into_iter().flatten();
    let looks_equal = || shown(change.old.as_ref()) == shown(change.new.as_ref());
    if !change.key.is::<Pod>() || looks_equal() {
        return BTreeSet::new();
    }
    let services = view.list::<Service>(Some(&change.key.namespace));
    let selected = services.filter(|(_, service)| {
        let selector = service.spec.as_ref().and_then(selector);
        selector.is_some_and(|s| versions().any(|pod| s.matches(pod.meta().labels.as_ref())))
    });
    selected.map(|(object, _)| object.key().clone()).collect()
}

/// What of a pod its endpoints show: most reports of an agent change none of it.
fn shown(object: Option<&Object>) -> Option<impl PartialEq> {
    let (object, pod) = (object?, object?.view::<Pod>()?);
    let ports =
        pod.spec.as_ref().map(|s| s.containers.iter().map(|c| c.ports.clone()).collect::<Vec<_>>());
    Some((
        (object.uid().to_owned(), object.meta().labels.clone(), object.is_terminating()),
        (pods::is_ready(pod), pods::is_over(pod), pods::node(pod).map(str::to_owned)),
        (address(pod).map(str::to_owned), ports),
        pod.spec.as_ref().map(|s| (s.hostname.clone(), s.subdomain.clone())),
    ))
}

/// The selector of a Service that has one. ExternalName has none to speak of.
pub(super) fn selector(spec: &ServiceSpec) -> Option<Selector> {
    let labels = spec.selector.as_ref().filter(|l| !l.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then(|| Selector::from_labels(labels))
}

fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref().filter(|ip| !ip.is_empty())
}

/// The endpoints of one set of ports, by the pod's name.
pub(super) type Wanted = BTreeMap<Vec<Port>, BTreeMap<String, Endpoint>>;

fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key).filter(|o| !o.is_terminating()) else {
        return Plan::default();
    };
    let spec = object.view::<Service>().and_then(|s| s.spec.as_ref());
    let Some((spec, selector)) = spec.and_then(|s| Some((s, selector(s)?))) else {
        return Plan::default();
    };
    if owners::is_closing(view, &key.namespace) {
        return Plan::default();
    }
    let mut wanted = wanted(view, key, spec, &selector);
    if wanted.is_empty() {
        // A Service without pods has one empty slice, so that readers know it was looked at.
        wanted.insert(Vec::new(), BTreeMap::new());
    }
    let mut slices = Slices::new(view, object, MANAGER, labels(object, spec), pod_name);
    for (ports, endpoints) in wanted {
        slices.reconcile("IPv4", &ports, endpoints);
    }
    slices.finish().into_plan(None)
}

/// The endpoints that a Service's pods make, ready or not.
pub(super) fn wanted(view: &View, key: &Key, spec: &ServiceSpec, selector: &Selector) -> Wanted {
    let mut wanted = Wanted::new();
    for (object, pod) in view.list::<Pod>(Some(&key.namespace)) {
        if pods::is_over(pod) || !selector.matches(object.meta().labels.as_ref()) {
            continue;
        }
        let Some(address) = address(pod) else { continue };
        let endpoint = endpoint(view, key, spec, (object, pod), address);
        let of_ports = wanted.entry(ports(spec, pod)).or_default();
        of_ports.insert(object.key().name.to_string(), endpoint);
    }
    wanted
}

fn endpoint(
    view: &View,
    service: &Key,
    spec: &ServiceSpec,
    (object, pod): (&Object, &Pod),
    address: &str,
) -> Endpoint {
    let (serving, terminating) = (pods::is_ready(pod), object.is_terminating());
    let published = spec.publish_not_ready_addresses == Some(true);
    let node = pods::node(pod);
    let of_pod = pod.spec.clone().unwrap_or_default();
    let named = of_pod.subdomain.as_deref() == Some(service.name.as_str());
    let labels = node.and_then(|n| view.object(&Key::of::<Node>("", n))?.meta().labels.as_ref());
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(published || serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: of_pod.hostname.filter(|h| named && !h.is_empty()),
        node_name: node.map(str::to_owned),
        zone: labels.and_then(|l| l.get(ZONE_LABEL)).cloned(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(object.key().namespace.to_string()),
            name: Some(object.key().name.to_string()),
            uid: Some(object.uid().to_owned()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

/// The ports of the Service as one pod has them; a named target port that the pod does not have is
/// left out.
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    let resolved = |port: &ServicePort| {
        let number = target(port, pod)?;
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let name = port.name.clone().unwrap_or_default();
        Some((Some(name), Some(number), Some(protocol), port.app_protocol.clone()))
    };
    spec.ports.iter().flatten().filter_map(resolved).collect()
}

fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        Some(IntOrString::Int(number)) if *number > 0 => return Some(*number),
        Some(IntOrString::String(name)) if !name.is_empty() => name,
        _ => return Some(port.port),
    };
    let protocol = |p: &Option<String>| p.clone().unwrap_or_else(|| "TCP".to_owned());
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let mut all = containers.flat_map(|c| c.ports.iter().flatten());
    let same = all.find(|p| {
        p.name.as_ref() == Some(name) && protocol(&p.protocol) == protocol(&port.protocol)
    });
    same.map(|p| p.container_port)
}

/// The labels of a Service's slices: its own and those that say whose they are.
fn labels(service: &Object, spec: &ServiceSpec) -> Labels {
    let mut labels = service.meta().labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(SERVICE_LABEL.to_owned(), service.key().name.to_string());
    labels.insert(slices::MANAGER_LABEL.to_owned(), MANAGER.to_owned());
    labels
}

/// An endpoint of a pod stays the same while the pod's address changes.
fn pod_name(endpoint: &Endpoint) -> &str {
    endpoint.target_ref.as_ref().and_then(|t| t.name.as_deref()).unwrap_or_default()
}
