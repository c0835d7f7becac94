//! What a pod asks for.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity as Text,
};

use crate::model::Quantity;

/// Amounts by resource: `cpu` in thousandths, everything else in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// `ephemeral-storage` in bytes and extended resources in pieces.
    pub other: BTreeMap<String, i64>,
}

impl Amounts {
    /// Reads a map of quantities, leaving out `pods`.
    pub fn of(list: Option<&BTreeMap<String, Text>>) -> Self {
        let mut amounts = Self::default();
        for (name, text) in list.into_iter().flatten() {
            let quantity = Quantity::of(text);
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.as_milli(),
                "memory" => amounts.memory = quantity.as_units(),
                "pods" => {}
                _ => {
                    amounts.other.insert(name.clone(), quantity.as_units());
                }
            }
        }
        amounts
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// Raises each amount to that of `other`.
    fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        for (name, amount) in &other.other {
            let own = self.other.entry(name.clone()).or_default();
            *own = with(*own, *amount);
        }
    }
}

fn of_container(container: &Container) -> Amounts {
    Amounts::of(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
}

/// What a pod asks for: its containers together, or more where an init container (with the sidecars
/// started before it) asks for more; the pod's own requests win for what they name; plus overhead.
///
/// Source: kubernetes.io/docs/concepts/workloads/pods/sidecar-containers and init-containers
/// (resource sharing).
pub fn requests(spec: &PodSpec) -> Amounts {
    sum(spec, of_container)
}

/// As [`requests`], counting 100m and 200 MiB for a container that names none, as Kubernetes does
/// when it compares how full nodes are: pods that ask for nothing are spread too.
pub(super) fn assumed(spec: &PodSpec) -> Amounts {
    const CPU: i64 = 100;
    const MEMORY: i64 = 200 << 20;
    sum(spec, |container| {
        let list = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let names = |name| list.is_some_and(|l| l.contains_key(name));
        let mut amounts = Amounts::of(list);
        if !names("cpu") {
            amounts.cpu = CPU;
        }
        if !names("memory") {
            amounts.memory = MEMORY;
        }
        amounts
    })
}

fn sum(spec: &PodSpec, of_container: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut total = Amounts::default();
    spec.containers.iter().for_each(|c| total.add(&of_container(c)));
    let (mut sidecars, mut highest) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let mut own = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            total.add(&own);
            sidecars.add(&own);
            own = sidecars.clone();
        } else {
            own.add(&sidecars);
        }
        highest.raise_to(&own);
    }
    total.raise_to(&highest);
    let of_pod = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let own = Amounts::of(of_pod);
    if of_pod.is_some_and(|l| l.contains_key("cpu")) {
        total.cpu = own.cpu;
    }
    if of_pod.is_some_and(|l| l.contains_key("memory")) {
        total.memory = own.memory;
    }
    total.add(&Amounts::of(spec.overhead.as_ref()));
    total
}
