//! Headers that every answer carries, as Kubernetes' do.

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

use super::Api;

/// Names one request in answers and in what is written down of it.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// The most bytes of an id that a client brings along.
const AUDIT_ID_BYTES_MAX: usize = 64;

/// The id of a request, in its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuditId(pub(super) HeaderValue);

/// Gives each request its id (the client's, when it brought one) and each answer its headers.
pub(super) async fn common(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let brought = request.headers().get(AUDIT_ID).filter(|id| id.len() <= AUDIT_ID_BYTES_MAX);
    let id = brought.cloned().or_else(|| drawn(api.backend.random()));
    if let Some(id) = &id {
        request.extensions_mut().insert(AuditId(id.clone()));
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Some(id) = id {
        headers.insert(AUDIT_ID, id);
    }
    let fresh = HeaderValue::from_static("no-cache, private");
    headers.entry(header::CACHE_CONTROL).or_insert(fresh);
    response
}

/// Random bits in the form of a UUID.
fn drawn(bits: u128) -> Option<HeaderValue> {
    let hex = format!("{bits:032x}");
    let (a, b, c) = (hex.get(..8)?, hex.get(8..12)?, hex.get(13..16)?);
    let (d, e) = (hex.get(17..20)?, hex.get(20..)?);
    HeaderValue::from_str(&format!("{a}-{b}-4{c}-8{d}-{e}")).ok()
}
