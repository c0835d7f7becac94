//! Which lane a request goes in, and how it takes part: pure.

use super::seats::Bounds;
use crate::api::{RequestInfo, User, authz};

/// The group of this cluster's servers.
const SERVERS: &str = "mainstay:servers";

/// Who shares with whom. Kubernetes' priority levels, by their names, where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Administrators of the cluster and its servers.
    System,
    /// Nodes.
    NodeHigh,
    /// Leases of controllers: one that is late costs its holder the lead.
    LeaderElection,
    /// Everything else of service accounts.
    WorkloadLow,
    /// Everybody else who is known.
    GlobalDefault,
    /// Those who are not.
    CatchAll,
}

impl Lane {
    /// Every lane.
    pub(super) const ALL: [Self; 6] = [
        Self::System,
        Self::NodeHigh,
        Self::LeaderElection,
        Self::WorkloadLow,
        Self::GlobalDefault,
        Self::CatchAll,
    ];

    /// The lane of a request.
    pub(super) fn of(user: &User, info: &RequestInfo) -> Self {
        let lease = info.resource.as_ref().is_some_and(|resource| {
            (resource.group.as_str(), resource.resource.as_str())
                == ("coordination.k8s.io", "leases")
        });
        match user {
            user if user.is_in("system:masters") || user.is_in(SERVERS) => Self::System,
            user if user.node().is_some() => Self::NodeHigh,
            user if user.service_account().is_some() && lease => Self::LeaderElection,
            user if user.service_account().is_some() => Self::WorkloadLow,
            user if user.is_in("system:authenticated") => Self::GlobalDefault,
            _ => Self::CatchAll,
        }
    }

    /// `workload-low`
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::NodeHigh => "node-high",
            Self::LeaderElection => "leader-election",
            Self::WorkloadLow => "workload-low",
            Self::GlobalDefault => "global-default",
            Self::CatchAll => "catch-all",
        }
    }

    /// Its share of the requests that are answered at once. All together are
    /// [`REQUESTS_MAX`](crate::api::REQUESTS_MAX).
    const fn seats(self) -> usize {
        match self {
            Self::System | Self::NodeHigh | Self::WorkloadLow => 64,
            Self::GlobalDefault => 40,
            Self::LeaderElection => 16,
            Self::CatchAll => 8,
        }
    }

    /// One user leaves a quarter of the seats to others. Twice as many as are answered may wait:
    /// more would wait in vain.
    pub(super) const fn bounds(self) -> Bounds {
        let seats = self.seats();
        Bounds { seats, seats_user: seats * 3 / 4, waiting: seats * 2 }
    }
}

/// How a request takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Class {
    /// Always answered: a server that is busy lives.
    Free,
    /// Takes a seat of its lane, and waits for one.
    Short,
    /// Is open for long and holds little.
    Watch,
    /// Waits for the cluster, or carries bytes for as long as it likes.
    Stream,
}

impl Class {
    /// The class of a request.
    pub(in crate::api) fn of(info: &RequestInfo) -> Self {
        let streams = ["log", "exec", "attach", "portforward", "proxy"];
        let path = info.path.as_str();
        match &info.resource {
            Some(_) if info.verb == "watch" => Self::Watch,
            Some(resource) if streams.contains(&resource.subresource.as_str()) => Self::Stream,
            Some(_) => Self::Short,
            None if is_health(info) => Self::Free,
            None if path.ends_with("/wait") || path.ends_with("/logs") => Self::Stream,
            None => Self::Short,
        }
    }

    /// Whether it lasts as long as it likes.
    pub(in crate::api) fn is_long(self) -> bool {
        matches!(self, Self::Watch | Self::Stream)
    }
}

/// Whether a request reads the server's health or version.
pub(in crate::api) fn is_health(info: &RequestInfo) -> bool {
    matches!(info.verb, "get" | "head")
        && authz::is_open(&info.path)
        && !info.path.starts_with("/hooks")
}
