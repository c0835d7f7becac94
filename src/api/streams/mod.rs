//! Streams of pods through a server: logs, exec, attach, port-forward and proxies.
//!
//! In: requests for subresources of pods, services and nodes. Out: what the agent of the pod's node
//! answers. Which pod, container and node is decided here from the view; the protocols of exec,
//! attach and port-forward end at the agent, so that a server only carries bytes. The proxies speak
//! HTTP to a pod over a plain connection that its agent opens, because a server need not reach the
//! pod network.
//!
//! | path below `/api/v1/namespaces/{namespace}` | what |
//! |---|---|
//! | `pods/{name}/log` | a container's log |
//! | `pods/{name}/exec` `/attach` `/portforward` | upgraded to SPDY/3.1 or a WebSocket |
//! | `pods/{[scheme:]name[:port]}/proxy/…` | HTTP to a port of the pod |
//! | `services/{[scheme:]name[:port]}/proxy/…` | HTTP to one of the service's ready pods |
//! | `/api/v1/nodes/{name}/proxy/…` | HTTP to the node's agent |

mod find;
pub(super) mod log;
mod proxy;
mod relay;
mod upgrade;

use axum::{
    Router,
    routing::{any, get},
};

use super::Api;

/// Whether a path is one of those that take long, and are bounded by how many there are.
pub(super) fn is_stream(path: &str) -> bool {
    let mut words = path.trim_start_matches('/').split('/');
    if (words.next(), words.next()) != (Some("api"), Some("v1")) {
        return false;
    }
    let words: Vec<&str> = words.collect();
    match words[..] {
        ["namespaces", _, "pods", _, "log" | "exec" | "attach" | "portforward"] => true,
        ["namespaces", _, "pods" | "services", _, "proxy", ..] => true,
        ["nodes", _, "proxy", ..] => true,
        _ => false,
    }
}

pub(super) fn routes() -> Router<Api> {
    let pod = |subresource| format!("/api/v1/namespaces/{{namespace}}/pods/{{name}}/{subresource}");
    let proxied =
        |kind, rest| format!("/api/v1/namespaces/{{namespace}}/{kind}/{{name}}/proxy{rest}");
    let mut router = Router::new()
        .route(&pod("log"), get(log::of_pod))
        .route(&pod("exec"), get(upgrade::exec).post(upgrade::exec))
        .route(&pod("attach"), get(upgrade::attach).post(upgrade::attach))
        .route(&pod("portforward"), get(upgrade::port_forward).post(upgrade::port_forward));
    for rest in ["", "/", "/{*rest}"] {
        router = router
            .route(&proxied("pods", rest), any(proxy::to_pod))
            .route(&proxied("services", rest), any(proxy::to_service))
            .route(&format!("/api/v1/nodes/{{name}}/proxy{rest}"), any(proxy::to_node));
    }
    router
}

#[cfg(test)]
mod tests;
