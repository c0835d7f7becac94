//! Keeps the routes to the pods of other nodes.
//!
//! In: the routes to have. Out: the kernel's routing table, as far as it is marked as ours.
//! `agent::proxy` calls.

use std::time::Duration;

use serde::Deserialize;

use super::command::{CommandError, Netns, run};
use crate::node::routes::{Change, Routes, diff};

/// The protocol number by which the kernel remembers that a route is ours (free in
/// `/etc/iproute2/rt_protos`).
const PROTOCOL: &str = "77";

/// Longest time one call of `ip` may take; 5,000 routes take a second.
const DEADLINE: Duration = Duration::from_secs(20);

/// Why routes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `ip` is missing, hangs or refuses.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// `ip -j` printed something else than routes.
    #[error("ip -j route: {0}; iproute2 4.18 or newer is needed")]
    Json(#[from] serde_json::Error),
}

/// One route as `ip -j` prints it.
#[derive(Deserialize)]
struct Printed {
    dst: String,
    gateway: Option<String>,
}

/// The routes that are ours. Those without a next hop, which we never make, count as reached by
/// 0.0.0.0, so that a comparison replaces or removes them.
pub async fn read(netns: &Netns) -> Result<Routes, Error> {
    let args = ["-4", "-j", "route", "show", "proto", PROTOCOL];
    let text = run(netns, "ip", &args, "", DEADLINE).await?;
    let text = if text.trim().is_empty() { "[]" } else { &text };
    let printed: Vec<Printed> = serde_json::from_str(text)?;
    let route = |p: Printed| {
        let dst = if p.dst.contains('/') { p.dst } else { format!("{}/32", p.dst) };
        let via = p.gateway.and_then(|g| g.parse().ok());
        Some((dst.parse().ok()?, via.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED)))
    };
    Ok(printed.into_iter().filter_map(route).collect())
}

/// Brings our routes to `want`. Returns a sentence for each change made by others that was repaired
/// or each new route, and one for each route that the kernel refused (as when the next hop is not
/// on a common link): one bad node must not keep the others from being reached.
pub async fn sync(netns: &Netns, want: &Routes) -> Result<Synced, Error> {
    let changes = diff(&read(netns).await?, want);
    if changes.is_empty() {
        return Ok(Synced::default());
    }
    let batch: String = changes.iter().map(line).collect();
    let args = ["-4", "-force", "-batch", "-"];
    let refused = match run(netns, "ip", &args, &batch, DEADLINE).await {
        Ok(_) => vec![],
        Err(CommandError::Failed { stderr, .. }) => vec![stderr],
        Err(other) => return Err(other.into()),
    };
    let now = read(netns).await?;
    let missing = diff(&now, want);
    let made = changes.iter().filter(|change| !missing.contains(change)).map(say).collect();
    let why = refused.concat().replace('\n', "; ");
    let refused = missing
        .iter()
        .map(|change| format!("could not {}: {why} (nodes must share a link)", say(change)))
        .collect();
    Ok(Synced { made, refused })
}

/// What [`sync`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Sentences about changes made.
    pub made: Vec<String>,
    /// Sentences about changes that the kernel refused.
    pub refused: Vec<String>,
}

/// Removes all our routes.
pub async fn remove_all(netns: &Netns) -> Result<(), Error> {
    sync(netns, &Routes::new()).await.map(drop)
}

fn line(change: &Change) -> String {
    match change {
        Change::Replace(range, via) => {
            format!("route replace {range} via {via} proto {PROTOCOL}\n")
        }
        Change::Delete(range) => format!("route del {range} proto {PROTOCOL}\n"),
    }
}

fn say(change: &Change) -> String {
    match change {
        Change::Replace(range, via) => format!("route {range} via {via}"),
        Change::Delete(range) => format!("remove the route to {range}"),
    }
}
