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
    extract::{Query, Request},
    http::{Method, Uri},
    response::Response,
};
use k8s_openapi::api::core::v1::Pod;

use super::{Api, Failure, ResourceInfo};

/// Whether a resource is one of those that are answered by a pod or a node.
pub(super) fn is_stream(resource: &ResourceInfo) -> bool {
    let of = (resource.resource.as_str(), resource.subresource.as_str());
    let ours = matches!(
        of,
        ("pods", "log" | "exec" | "attach" | "portforward")
            | ("pods" | "services" | "nodes", "proxy")
    );
    let scoped = resource.namespace.is_empty() == (resource.resource == "nodes");
    ours && scoped && (resource.group.as_str(), resource.version.as_str()) == ("", "v1")
}

/// Answers a request for one of them; who may ask was checked before.
pub(super) async fn serve(
    api: &Api,
    resource: &ResourceInfo,
    request: Request,
) -> Result<Response, Failure> {
    let of = (resource.resource.as_str(), resource.subresource.as_str());
    let method = request.method();
    let allowed = match of.1 {
        "log" => *method == Method::GET,
        "proxy" => *method != Method::CONNECT,
        _ => [Method::GET, Method::POST].contains(method),
    };
    if !allowed {
        return Err(Failure::no_method());
    }
    catch_up(api, resource).await?;
    match of {
        ("pods", "log") => log::of_pod(api, resource, request.uri()).await,
        ("pods", "exec" | "attach") => upgrade::command(api, resource, request).await,
        ("pods", "portforward") => upgrade::port_forward(api, resource, request).await,
        ("pods", _) => proxy::to_pod(api, resource, request).await,
        ("services", _) => proxy::to_service(api, resource, request).await,
        _ => proxy::to_node(api, resource, request).await,
    }
}

/// A pod that is not on a node here may be on one already as others know. What is known is enough
/// otherwise: a running pod can be reached without any other server.
async fn catch_up(api: &Api, resource: &ResourceInfo) -> Result<(), Failure> {
    let placed = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let view = api.view();
    let pod = view.get::<Pod>(&resource.namespace, &resource.name);
    match resource.resource == "pods" && !pod.is_some_and(placed) {
        true => api.backend.barrier().await,
        false => Ok(()),
    }
}

/// The parameters of a query, in their order.
fn parameters(uri: &Uri) -> Result<Vec<(String, String)>, Failure> {
    let Query(pairs) = Query::try_from_uri(uri)
        .map_err(|e| Failure::bad_request(format!("the query cannot be read: {e}")))?;
    Ok(pairs)
}

#[cfg(test)]
mod tests;
