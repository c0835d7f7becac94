//! What an agent says, as commands.

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

/// What a message of a node's agent asks of the log; nothing for what is kept out of it
/// (heartbeats, generations).
pub fn command(node: &NodeName, message: ToServer) -> Option<Command> {
    let node = node.clone();
    match message {
        ToServer::Hello(hello) => {
            let status = serde_json::to_value(&*hello.status).unwrap_or_default();
            Some(Command::ObserveNode { node, labels: hello.labels, status })
        }
        ToServer::Node(status) => {
            let status = serde_json::to_value(&*status).unwrap_or_default();
            Some(Command::ObserveNode { node, labels: Labels::new(), status })
        }
        ToServer::Pods(pods) => Some(Command::Observe { node, pods }),
        ToServer::Events(events) => Some(Command::Write(events.into_iter().map(event).collect())),
        ToServer::Heartbeat(_) | ToServer::Programmed(_) => None,
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
