//! Exec, attach and port-forward: the client's request goes to the agent, and once it agrees, their
//! connections are joined.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, StatusCode, header},
    response::Response,
};

use super::{find, parameters, relay};
use crate::{
    api::{Api, Failure, ResourceInfo, gate::Held},
    model::NodeName,
};

/// The headers by which protocols are agreed on; nothing else of the client's is for the agent.
const AGREED: [HeaderName; 6] = [
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    HeaderName::from_static("x-stream-protocol-version"),
];

/// `pods/{name}/exec` and `pods/{name}/attach`
pub(super) async fn command(
    api: &Api,
    resource: &ResourceInfo,
    request: Request,
) -> Result<Response, Failure> {
    let ResourceInfo { subresource, namespace, name, .. } = resource;
    let view = api.view();
    let pod = find::pod(&view, namespace, name)?;
    let query = parameters(request.uri())?;
    let wanted = query.iter().find(|(key, _)| key == "container").map(|(_, value)| value.as_str());
    let container = find::container(pod, name, wanted)?;
    let node = find::host(pod, name)?;
    let path = format!("/{subresource}/{namespace}/{name}/{container}");
    forward(api, node, &path, request).await
}

/// `pods/{name}/portforward`
pub(super) async fn port_forward(
    api: &Api,
    resource: &ResourceInfo,
    request: Request,
) -> Result<Response, Failure> {
    let ResourceInfo { namespace, name, .. } = resource;
    let node = find::host(find::pod(&api.view(), namespace, name)?, name)?;
    forward(api, node, &format!("/portForward/{namespace}/{name}"), request).await
}

/// Asks the agent for what the client asks for, and joins the two.
async fn forward(
    api: &Api,
    node: NodeName,
    path: &str,
    mut request: Request,
) -> Result<Response, Failure> {
    if !request.headers().contains_key(header::UPGRADE) {
        return Err(Failure::bad_request("Upgrade request required"));
    }
    let held = Held::of(&request);
    let query = request.uri().query().unwrap_or_default();
    let mut asked = Request::new(Body::empty());
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = super::proxy::uri(&format!("{path}?{query}"))?;
    for (name, value) in request.headers() {
        if AGREED.contains(name) {
            asked.headers_mut().append(name, value.clone());
        }
    }
    let mut answer = api.backend.ask(node, asked).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (client, agent) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut answer));
        relay::join(client, agent, held);
        *answer.body_mut() = Body::empty();
    }
    Ok(answer)
}
