//! Where a pod goes: filter the nodes that can take it, score them, or explain why none can.
//!
//! In: a [`View`] (or a [`Cluster`] made of one, to place many pods against each other) and a pod.
//! Out: a node's name, or [`Why`] not, worded as Kubernetes words it. `plan::scheduler` asks;
//! nothing here writes, preempts, or looks at a clock. The same View and pod give the same node.

mod cluster;
mod filter;
mod request;
mod score;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

pub use cluster::Cluster;
pub use filter::tolerates;
pub use request::{Amounts, requests};

use crate::{
    model::{NodeName, Object},
    state::View,
};

/// Why no node can take a pod: how many nodes gave which reason.
///
/// `Display` gives Kubernetes' sentence: `0/2 nodes are available: 2 Insufficient cpu.`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many nodes gave each reason. One node may give several.
    pub reasons: BTreeMap<String, usize>,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut counted: Vec<String> =
            self.reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        // Kubernetes sorts the finished phrases, counts included.
        counted.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, counted.join(", "))
    }
}

/// The best node for one pod. Reads the whole cluster; [`Cluster`] does that once for many pods.
pub fn place(view: &View, pod: &Object) -> Result<NodeName, Why> {
    Cluster::of(view).place(pod)
}
