//! Tokens of service accounts on request: `kubectl create token`, and what agents show to pods.

use axum::{http::StatusCode, response::Response};
use k8s_openapi::api::authentication::v1::TokenRequestSpec;
use serde_json::{Value, json};

use super::{Ask, answer::Shape, body, options::WriteOptions, write};
use crate::{
    api::{
        Api, Failure, headers,
        tokens::{self, Wanted},
    },
    model,
};

const VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenRequest";

/// Answers with a new token. Nothing is stored, so a dry run is no different.
pub(super) async fn create(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let now = api.backend.now();
    let shape = Shape::of(ask, false, now)?;
    WriteOptions::of("CreateOptions", &ask.query)?;
    let (view, key) = (api.view(), ask.key());
    let mut value = read(ask)?;
    let spec: TokenRequestSpec = model::read(&value["spec"]).map_err(|e| {
        let text = format!("{KIND} in version \"v1\" cannot be handled as a {KIND}: {e}");
        Failure::bad_request(text)
    })?;
    let wanted = Wanted { view: &view, info: &ask.info, key: &key, spec: &spec };
    tokens::may_node(&wanted, &ask.user)?;
    let granted = tokens::grant(&wanted, now, headers::uuid(api.backend.random()))?;
    let claims = serde_json::to_vec(&granted.claims);
    let claims = claims.map_err(|e| Failure::internal(e.to_string()))?;
    let token = api.backend.sign_token(&claims)?;
    value["metadata"]["creationTimestamp"] = json!(now.to_time());
    value["spec"] = json!({
        "audiences": granted.claims.audiences(), "boundObjectRef": spec.bound_object_ref,
        "expirationSeconds": granted.seconds,
    });
    value["status"] = json!({ "token": token, "expirationTimestamp": granted.expires.to_time() });
    Ok(shape.value(StatusCode::CREATED, &value))
}

/// The request, named as its path.
fn read(ask: &Ask) -> Result<Value, Failure> {
    let mut value = body::decode(&ask.headers, &ask.body, KIND)?;
    body::typed_as(&mut value, VERSION, KIND)?;
    // kubectl names the account on the path alone.
    if value["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        value["metadata"]["name"] = ask.resource.name.as_str().into();
    }
    write::named_as_path(ask, &value)?;
    let on_path = ask.namespace().unwrap_or_default();
    let meta = &mut value["metadata"];
    match meta["namespace"].as_str().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) if namespace != on_path => Err(Failure::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the URL \
             ({on_path})"
        ))),
        _ => {
            meta["namespace"] = on_path.into();
            Ok(value)
        }
    }
}
