//! Asks servers for what a node gets only on request, over the API that everybody uses.

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::TokenRequest;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::{runtime::Error, session};
use crate::{
    model::Timestamp,
    node::{
        Assignment,
        tokens::{Token, Wish},
    },
};

/// How long one server may take for one answer; then the next is asked.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Most bytes of an answer. A token has about one KB.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The servers of the cluster as a node asks them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Servers {
    tls: watch::Receiver<Arc<ClientConfig>>,
    addresses: watch::Receiver<Vec<String>>,
}

impl Servers {
    /// Asks with the node's keys whichever of these servers answers.
    pub fn new(
        tls: watch::Receiver<Arc<ClientConfig>>,
        addresses: watch::Receiver<Vec<String>>,
    ) -> Self {
        Self { tls, addresses }
    }

    /// A token of a pod's account that ends with the pod
    /// (kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1).
    pub async fn token(&self, want: &Assignment, wish: &Wish) -> Result<Token, Error> {
        let (key, account) = (&want.key, &want.account);
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", key.namespace);
        let audiences: Vec<&str> =
            Some(wish.audience.as_str()).filter(|a| !a.is_empty()).into_iter().collect();
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": audiences, "expirationSeconds": wish.seconds,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": key.name, "uid": want.uid,
                },
            },
        });
        let odd = |e: serde_json::Error| Error::Refused(format!("the answer is no token: {e}"));
        let answer: TokenRequest =
            serde_json::from_value(self.post(&path, &body).await?).map_err(odd)?;
        let status = answer.status.unwrap_or_default();
        let given = status.token.zip(status.expiration_timestamp);
        let (text, expires) =
            given.ok_or_else(|| Error::Refused("the answer holds no token".to_owned()))?;
        Ok(Token { text, expires: Timestamp::from(&expires) })
    }

    /// What the first server says that answers; a refusal is an answer.
    async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let addresses = self.addresses.borrow().clone();
        let mut last = "no server is known".to_owned();
        for address in &addresses {
            let tls = self.tls.borrow().clone();
            match timeout(ANSWER_MAX, post(tls, address, path, body)).await {
                Ok(Ok((status, value))) if status.is_success() => return Ok(value),
                Ok(Ok((status, value))) if status.is_client_error() => {
                    let said = value["message"].as_str().unwrap_or(status.as_str());
                    return Err(Error::Refused(said.to_owned()));
                }
                Ok(Ok((status, _))) => last = format!("{address} answers {status}"),
                Ok(Err(error)) => last = format!("{address}: {error}"),
                Err(_) => last = format!("{address}: no answer"),
            }
        }
        // Not the runtime: nothing on the machine becomes unknown by it.
        Err(Error::Refused(last))
    }
}

async fn post(
    tls: Arc<ClientConfig>,
    address: &str,
    path: &str,
    body: &Value,
) -> io::Result<(StatusCode, Value)> {
    let stream = session::dial(tls, address).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(io::Error::other)?;
    let driving = tokio::spawn(connection);
    let request = Request::post(path)
        .header(header::HOST, address)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(Body::from(body.to_string()))
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status();
    let bytes = to_bytes(Body::new(answer.into_body()), ANSWER_BYTES_MAX).await;
    driving.abort();
    let bytes = bytes.map_err(io::Error::other)?;
    Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
}
