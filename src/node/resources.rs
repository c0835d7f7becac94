//! From requests and limits to what the kernel is told.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Text,
};

use super::NodeFacts;
use crate::model::Quantity;

/// Quality of service (kubernetes.io/docs/concepts/workloads/pods/pod-qos).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// Every container has equal requests and limits of CPU and memory.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl Qos {
    /// Kubernetes' word.
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// Why a node will never have what a pod asks for; `None` when it could.
pub fn infeasible(spec: &PodSpec, node: &NodeFacts) -> Option<String> {
    let amounts = [("cpu", node.cpu_milli), ("memory", node.memory_bytes.saturating_mul(1000))];
    let too_much = |(name, capacity): &(&str, i64)| {
        let asked: i64 = spec
            .containers
            .iter()
            .filter_map(|c| request(c.resources.as_ref(), name))
            .map(Quantity::as_milli)
            .sum();
        let unit = |milli: i64| if *name == "cpu" { milli } else { milli / 1000 };
        (asked > *capacity).then(|| {
            let (asked, capacity) = (unit(asked), unit(*capacity));
            format!(
                "Node didn't have enough capacity: {name}, requested: {asked}, capacity: {capacity}"
            )
        })
    };
    amounts.iter().find_map(too_much)
}

impl Limits {
    /// Whether a container that has these needs others to have what `wanted` says: its CPU and its
    /// memory.
    pub fn differ(&self, wanted: &Self) -> (bool, bool) {
        let cpu = |limits: &Self| (limits.cpu_shares, limits.cpu_quota_us);
        (cpu(self) != cpu(wanted), self.memory_bytes != wanted.memory_bytes)
    }
}

/// What a container's cgroup and process get. Zero means "not set", as in Docker's API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Relative weight; 1024 is one CPU.
    pub cpu_shares: i64,
    /// Microseconds of CPU in each [`CPU_PERIOD_US`].
    pub cpu_quota_us: i64,
    /// Most memory, in bytes.
    pub memory_bytes: i64,
    /// From -997 (killed last) to 1000 (killed first).
    pub oom_score_adj: i64,
}

/// The kernel's default accounting period; a limit of 1 CPU is a quota of the whole period.
pub const CPU_PERIOD_US: i64 = 100_000;
/// The kernel refuses smaller quotas.
const CPU_QUOTA_US_MIN: i64 = 1_000;
/// The kernel's smallest weight.
const CPU_SHARES_MIN: i64 = 2;
/// The kernel's largest weight.
const CPU_SHARES_MAX: i64 = 262_144;
/// The sandbox is killed after every container of every pod (the kubelet's value for it).
pub const SANDBOX_OOM_SCORE_ADJ: i64 = -998;

type Amounts = BTreeMap<String, Text>;

fn amount(amounts: Option<&Amounts>, resource: &str) -> Option<Quantity> {
    amounts?.get(resource).map(Quantity::of).filter(|q| *q > Quantity::ZERO)
}

/// The limit of one resource of a container.
pub fn limit(of: Option<&ResourceRequirements>, resource: &str) -> Option<Quantity> {
    amount(of?.limits.as_ref(), resource)
}

/// The request of one resource of a container: the limit where only that is given.
pub fn request(of: Option<&ResourceRequirements>, resource: &str) -> Option<Quantity> {
    amount(of?.requests.as_ref(), resource).or_else(|| limit(of, resource))
}

/// The class of a pod; init containers count.
pub fn qos(spec: &PodSpec) -> Qos {
    let all: Vec<_> = spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
    let both = ["cpu", "memory"];
    let asks = |c: &&Container| {
        let r = c.resources.as_ref();
        both.iter().any(|name| request(r, name).is_some())
    };
    let exact = |c: &&Container| {
        let r = c.resources.as_ref();
        both.iter().all(|name| limit(r, name).is_some() && limit(r, name) == request(r, name))
    };
    if !all.iter().any(asks) {
        Qos::BestEffort
    } else if all.iter().all(exact) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// What the kernel is told for one container of a pod of class `qos` on a node with this much
/// memory.
pub fn limits(of: Option<&ResourceRequirements>, qos: Qos, node_memory_bytes: i64) -> Limits {
    let cpu = |q: Option<Quantity>| q.map(Quantity::as_milli);
    let shares = cpu(request(of, "cpu")).map_or(CPU_SHARES_MIN, |milli| {
        (milli.saturating_mul(1024) / 1000).clamp(CPU_SHARES_MIN, CPU_SHARES_MAX)
    });
    let quota = cpu(limit(of, "cpu"))
        .map_or(0, |milli| (milli.saturating_mul(CPU_PERIOD_US) / 1000).max(CPU_QUOTA_US_MIN));
    Limits {
        cpu_shares: shares,
        cpu_quota_us: quota,
        memory_bytes: limit(of, "memory").map_or(0, Quantity::as_units),
        oom_score_adj: oom_score_adj(
            qos,
            request(of, "memory").map_or(0, Quantity::as_units),
            node_memory_bytes,
        ),
    }
}

/// Burstable: 1000 - 1000 × request / capacity, held between 3 and 999 so that it stays between the
/// other two classes (kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction,
/// "oom_score_adj").
fn oom_score_adj(qos: Qos, request_bytes: i64, node_memory_bytes: i64) -> i64 {
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let share = i128::from(request_bytes) * 1000 / i128::from(node_memory_bytes.max(1));
            (1000 - i64::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &[serde_json::Value]) -> PodSpec {
        let containers: Vec<_> = containers
            .iter()
            .enumerate()
            .map(|(i, r)| serde_json::json!({"name": format!("c{i}"), "resources": r}))
            .collect();
        serde_json::from_value(serde_json::json!({ "containers": containers })).unwrap()
    }

    #[test]
    fn classes() {
        let full = serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let less = serde_json::json!({
            "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
        let none = serde_json::json!({});
        let zero = serde_json::json!({"requests": {"cpu": "0"}});
        for (containers, class) in [
            (vec![full.clone()], Qos::Guaranteed),
            (vec![full.clone(), full.clone()], Qos::Guaranteed),
            (vec![less], Qos::Burstable),
            (vec![full, none.clone()], Qos::Burstable),
            (vec![none], Qos::BestEffort),
            (vec![zero], Qos::BestEffort),
        ] {
            assert_eq!(qos(&pod(&containers)), class, "{containers:?}");
        }
    }

    #[test]
    fn kernel_values() {
        let memory = 4 << 30;
        let of = |json: serde_json::Value| {
            let r: ResourceRequirements = serde_json::from_value(json).unwrap();
            let l = limits(Some(&r), Qos::Burstable, memory);
            (l.cpu_shares, l.cpu_quota_us, l.memory_bytes, l.oom_score_adj)
        };
        let limits_only = serde_json::json!({"limits": {"cpu": "250m", "memory": "64Mi"}});
        assert_eq!(of(limits_only), (256, 25_000, 64 << 20, 985));
        assert_eq!(of(serde_json::json!({"requests": {"memory": "4Gi"}})), (2, 0, 0, 3));
        assert_eq!(of(serde_json::json!({"limits": {"cpu": "1m"}})), (2, 1000, 0, 999));
        assert_eq!(limits(None, Qos::BestEffort, memory).oom_score_adj, 1000);
        assert_eq!(limits(None, Qos::Guaranteed, memory).oom_score_adj, -997);
    }
}
