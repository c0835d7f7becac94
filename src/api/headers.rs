//! Headers that every answer carries, as Kubernetes' do.

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
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
pub(super) async fn common<F: Future<Output = Response>>(
    api: &Api,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let brought = request.headers().get(AUDIT_ID).filter(|id| id.len() <= AUDIT_ID_BYTES_MAX);
    let drawn = || uuid(api.backend.random()).parse().ok();
    let id = brought.cloned().or_else(drawn);
    if let Some(id) = &id {
        request.extensions_mut().insert(AuditId(id.clone()));
    }
    let mut response = next(request).await;
    let headers = response.headers_mut();
    if let Some(id) = id {
        headers.insert(AUDIT_ID, id);
    }
    let fresh = HeaderValue::from_static("no-cache, private");
    headers.entry(header::CACHE_CONTROL).or_insert(fresh);
    response
}

/// Says how long an answer is whose end is known, and leaves it out where only the head was asked
/// for: what a router does for those it routes.
pub(super) async fn sized<F: Future<Output = Response>>(
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let is_head = request.method() == Method::HEAD;
    let mut response = next(request).await;
    let length = response.body().size_hint().exact();
    // An answer that switches protocols, or has no content, has no length (RFC 9110 §8.6).
    let has_length =
        !response.status().is_informational() && response.status() != StatusCode::NO_CONTENT;
    if let Some(length) = length.filter(|_| has_length) {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
    match is_head {
        true => response.map(|_| Body::empty()),
        false => response,
    }
}

/// Random bits in the form of a UUID (RFC 9562 §5.4).
pub(super) fn uuid(bits: u128) -> String {
    // Version 4 in the thirteenth digit, variant 1 in the seventeenth.
    let bits = bits & !(0xf << 76) & !(0xf << 60) | 0x4 << 76 | 0x8 << 60;
    let hex = format!("{bits:032x}");
    let (a, rest) = hex.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    format!("{a}-{b}-{c}-{d}-{e}")
}
