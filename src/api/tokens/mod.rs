//! Tokens of service accounts: what they say, who gets one, and whose they are.
//!
//! In: a View, the time, and claims or the request for a token. Out: [`Claims`] to be signed
//! ([`grant()`]), the [`Holder`] of claims that the cluster signed ([`holder`]), and the documents
//! with which others verify ([`routes`]). Called by `authn`, by the reviews and by
//! `resources::token`. What decides is pure. Never here: signing and verifying
//! ([`Backend::sign_token`](super::Backend::sign_token),
//! [`open_token`](super::Backend::open_token)), and storing: a token is good for as long as what it
//! is bound to is there.

mod claims;
mod grant;
#[cfg(test)]
mod tests;

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use serde_json::json;

use super::Api;

pub(super) use claims::{Claims, Holder, holder};
pub(super) use grant::{Wanted, grant, may_node};

/// Who signs the cluster's tokens, and for whom those are meant that name nobody else: the API as
/// pods reach it.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Where below the issuer its keys are.
const KEYS_PATH: &str = "/openid/v1/jwks";

/// How long others may keep the documents, as Kubernetes says it.
const KEPT: &str = "public, max-age=3600";

/// The audiences of a token that is meant for this API.
pub(super) fn own() -> Vec<String> {
    vec![ISSUER.to_owned()]
}

/// The documents that let others verify tokens (OpenID Connect Discovery 1.0 §3).
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/.well-known/openid-configuration", get(configuration))
        .route(KEYS_PATH, get(keys))
}

async fn configuration() -> impl IntoResponse {
    let document = json!({
        "issuer": ISSUER,
        "jwks_uri": format!("{ISSUER}{KEYS_PATH}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, KEPT)];
    (headers, document.to_string())
}

async fn keys(State(api): State<Api>) -> impl IntoResponse {
    let document = json!({ "keys": api.backend.token_keys() });
    let media = "application/jwk-set+json";
    let headers = [(header::CONTENT_TYPE, media), (header::CACHE_CONTROL, KEPT)];
    (headers, document.to_string())
}
