//! Which of the nodes that can take a pod takes it best.
//!
//! Weights and formulas are those of kube-scheduler's default profile: taints 3, node affinity 2,
//! spreading 2, least allocated 1, balanced allocation 1, image locality 1; each from 0 to 100.

use k8s_openapi::api::core::v1::PodSpec;

use super::{
    cluster::{NodeState, Wish},
    filter,
};

/// The best score of one plugin.
const MAX: i64 = 100;
/// Image bytes below which locality says nothing, and above which (per container) it says all.
const IMAGE_BYTES_MIN: i64 = 23 << 20;
const IMAGE_BYTES_MAX: i64 = 1000 << 20;

/// The score of each node, in their order.
pub(super) fn scores(wish: &Wish<'_>, nodes: &[&NodeState], all: usize) -> Vec<i64> {
    let each = |score: &dyn Fn(&NodeState) -> i64| nodes.iter().map(|n| score(n)).collect();
    let taints = normalized(each(&|n| filter::disliked(wish.spec, n)), true);
    let affinity = normalized(each(&|n| filter::preferred(wish.spec, n)), false);
    let spread = spread(wish, nodes);
    let holders = holders(wish.spec, nodes);
    let score = |(i, node): (usize, &&NodeState)| {
        3 * taints[i]
            + 2 * affinity[i]
            + 2 * spread[i]
            + least_allocated(wish, node)
            + balanced(wish, node)
            + locality(wish.spec, node, &holders, all)
    };
    nodes.iter().enumerate().map(score).collect()
}

/// Stretches scores to 0..=100; `reverse` makes the highest the worst.
fn normalized(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let highest = scores.iter().copied().max().unwrap_or(0);
    let stretch = |score: i64| match (highest, reverse) {
        (0, true) => MAX,
        (0, false) => 0,
        (_, true) => MAX - score * MAX / highest,
        (_, false) => score * MAX / highest,
    };
    scores.into_iter().map(stretch).collect()
}

/// Fewer pods of the same owner are better, as with Kubernetes' default topology spreading over
/// host names.
fn spread(wish: &Wish<'_>, nodes: &[&NodeState]) -> Vec<i64> {
    let Some(owner) = wish.owner else { return vec![0; nodes.len()] };
    let counts: Vec<i64> =
        nodes.iter().map(|n| n.owners.get(owner).copied().unwrap_or(0)).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    let least = counts.iter().copied().min().unwrap_or(0);
    let score = |n: i64| if most == 0 { MAX } else { MAX * (most + least - n) / most };
    counts.into_iter().map(score).collect()
}

/// The share of cpu and memory that is left, assuming something for pods that ask for nothing.
fn least_allocated(wish: &Wish<'_>, node: &NodeState) -> i64 {
    let left = |all: i64, used: i64| {
        if all <= 0 || used > all { 0 } else { MAX * (all - used) / all }
    };
    let cpu = left(node.allocatable.cpu, node.assumed.cpu + wish.assumed.cpu);
    let memory = left(node.allocatable.memory, node.assumed.memory + wish.assumed.memory);
    (cpu + memory) / 2
}

/// How alike the used shares of cpu and memory are.
fn balanced(wish: &Wish<'_>, node: &NodeState) -> i64 {
    // In millionths, so that no floating point reaches the log.
    const WHOLE: i128 = 1_000_000;
    let used = |all: i64, used: i64| {
        if all <= 0 { WHOLE } else { (i128::from(used) * WHOLE / i128::from(all)).min(WHOLE) }
    };
    let cpu = used(node.allocatable.cpu, node.requested.cpu + wish.requests.cpu);
    let memory = used(node.allocatable.memory, node.requested.memory + wish.requests.memory);
    let deviation = (cpu - memory).abs() / 2;
    i64::try_from((WHOLE - deviation) * i128::from(MAX) / WHOLE).unwrap_or(0)
}

fn images(spec: &PodSpec) -> impl Iterator<Item = String> {
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.filter_map(|c| c.image.as_deref()).map(|image| {
        let tag = image.rsplit('/').next().unwrap_or(image);
        if tag.contains(':') || image.contains('@') {
            image.to_owned()
        } else {
            format!("{image}:latest")
        }
    })
}

/// How many nodes have each image of the pod.
fn holders(spec: &PodSpec, nodes: &[&NodeState]) -> Vec<(String, i64)> {
    let count = |image: &str| nodes.iter().filter(|n| n.images.contains_key(image)).count();
    images(spec).map(|i| (i.clone(), i64::try_from(count(&i)).unwrap_or(0))).collect()
}

/// Bytes of the pod's images that the node has, each counted by the share of nodes that have it, so
/// that one node with an image does not draw every pod.
fn locality(spec: &PodSpec, node: &NodeState, holders: &[(String, i64)], all: usize) -> i64 {
    let all = i64::try_from(all.max(1)).unwrap_or(1);
    let size = |image: &str| node.images.get(image).copied().unwrap_or(0);
    let bytes: i64 = holders.iter().map(|(image, n)| size(image) / all * n).sum();
    let count = holders.len().max(1).min(spec.containers.len() + 100);
    let most = IMAGE_BYTES_MAX * i64::try_from(count).unwrap_or(1);
    MAX * (bytes.clamp(IMAGE_BYTES_MIN, most) - IMAGE_BYTES_MIN) / (most - IMAGE_BYTES_MIN)
}
