//! What an agent says, as commands; which servers are heard.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use k8s_openapi::api::core::v1::Node;

use crate::{
    model::{
        Key, Labels, NodeName,
        session::{ObservedEvent, ToServer},
    },
    state::{Command, NewEvent, Op, View},
};

/// Who says what agents tell.
const SOURCE: &str = "mainstay-agent";

/// How long a server may be silent before pods are sent to the others alone. Kubernetes' servers
/// go after 15 seconds, too.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Where pods reach servers that answer. `answered` is how long ago each did last; one that never
/// did has been silent for as long as `own`, which leads, has led.
pub fn answering(
    servers: impl Iterator<Item = (u64, SocketAddr)>,
    own: u64,
    answered: &BTreeMap<u64, Duration>,
    leading: Duration,
) -> Vec<SocketAddr> {
    let is_heard = |id: u64| id == own || *answered.get(&id).unwrap_or(&leading) <= SILENCE_MAX;
    let heard = servers.filter(|(id, address)| is_heard(*id) && !address.ip().is_loopback());
    let mut found: Vec<SocketAddr> = heard.map(|(_, address)| address).collect();
    found.sort();
    found
}

/// What a message of a node's agent asks of the log; nothing for what is kept out of it
/// (heartbeats, generations, survivors).
pub fn command(node: &NodeName, message: ToServer) -> Option<Command> {
    let node = node.clone();
    match message {
        ToServer::Hello(hello) => {
            let status = serde_json::to_value(&*hello.status).unwrap_or_default();
            let (labels, pod_range) = (hello.labels, hello.pod_range);
            Some(Command::ObserveNode { node, labels, status, pod_range })
        }
        ToServer::Node(status) => {
            let status = serde_json::to_value(&*status).unwrap_or_default();
            let (labels, pod_range) = (Labels::new(), String::new());
            Some(Command::ObserveNode { node, labels, status, pod_range })
        }
        ToServer::Pods(pods) => Some(Command::Observe { node, pods }),
        ToServer::Events(events) => Some(Command::Write(events.into_iter().map(event).collect())),
        ToServer::Heartbeat(_) | ToServer::Programmed(_) | ToServer::Survivors(_) => None,
    }
}

fn event(seen: ObservedEvent) -> Op {
    Op::Event(NewEvent {
        regarding: seen.regarding,
        uid: seen.uid,
        warning: seen.warning,
        reason: seen.reason,
        message: seen.message,
        source: SOURCE.to_owned(),
    })
}

/// Whether the node's Ready condition says that it was not heard for too long. Its agent is then
/// asked for its status by ending the session: it dials again and says hello.
pub fn is_lost(view: &View, node: &NodeName) -> bool {
    let node = view.object(&Key::of::<Node>("", node.as_str())).and_then(|o| o.view::<Node>());
    let conditions = node.and_then(|n| n.status.as_ref()?.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What must not happen: pods that are sent to a server that is gone, or none to one that has
    /// not been asked yet.
    #[test]
    fn pods_are_told_of_servers_that_answer() {
        let address = |id: u64| -> SocketAddr { format!("10.0.0.{id}:6443").parse().unwrap() };
        let check = |answered: &[(u64, u64)], leading: u64, expect: &[u64]| {
            let answered = answered.iter().map(|(id, s)| (*id, Duration::from_secs(*s))).collect();
            let servers = (1..=3).map(|id| (id, address(id)));
            let found = answering(servers, 1, &answered, Duration::from_secs(leading));
            let expect: Vec<SocketAddr> = expect.iter().copied().map(address).collect();
            assert_eq!(found, expect, "{answered:?} leading {leading} s");
        };
        check(&[(2, 0), (3, 1)], 60, &[1, 2, 3]);
        check(&[(2, 0), (3, 16)], 60, &[1, 2]);
        check(&[(2, 0)], 60, &[1, 2]);
        check(&[], 1, &[1, 2, 3]);
    }
}
