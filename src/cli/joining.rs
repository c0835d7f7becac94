//! How a machine asks to join: over TLS that is pinned to the CA's hash first, with its own
//! certificate after.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Error;
use crate::{server::LEADER_HEADER, trust};

/// How long one answer may take: a new server is taken into the log meanwhile, which may copy a
/// snapshot.
const ANSWER_SECONDS_MAX: u64 = 300;

/// Most bytes of an answer: certificates and a configuration.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How often a request follows to another server.
const HOPS_MAX: usize = 4;

/// Where and with what proof a machine asks.
pub(super) struct Door {
    pub(super) address: String,
    pub(super) tls: Arc<ClientConfig>,
}

impl Door {
    /// A server of which only the hash of its CA's key is known.
    pub(super) fn pinned(address: &str, ca_hash: &str) -> Result<Self, Error> {
        let plain = ca_hash.strip_prefix("sha256:").unwrap_or_default();
        if plain.len() != 64 || !plain.bytes().all(|b| b.is_ascii_hexdigit()) {
            let text = format!("--ca-hash {ca_hash:?} is no hash: it looks like sha256:1f3a…");
            return Err(Error::yours(text).hint("`mainstay token create` on a server prints it"));
        }
        let tls = trust::client_pinned(&ca_hash.to_lowercase(), b"http/1.1");
        let tls = tls.map_err(|e| Error::ours(e.to_string()))?;
        Ok(Self { address: address.to_owned(), tls })
    }

    /// Asks, at the leader when the first one asked does not lead.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|e| Error::ours(e.to_string()))?;
        let mut address = self.address.clone();
        for _ in 0..HOPS_MAX {
            let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
            let asked = tokio::time::timeout(limit, self.once(&address, path, body.clone())).await;
            let late = |_| Error::ours(format!("{address} did not answer in time"));
            match asked.map_err(late)?? {
                Answer::Here(bytes) => {
                    return serde_json::from_slice(&bytes)
                        .map_err(|e| Error::ours(format!("the answer cannot be read: {e}")));
                }
                Answer::Elsewhere(leader) => address = leader,
            }
        }
        Err(Error::ours("the servers do not agree who leads; try again"))
    }

    async fn once(&self, address: &str, path: &str, body: Vec<u8>) -> Result<Answer, Error> {
        let unreachable = |e: &dyn std::fmt::Display| {
            Error::ours(format!("cannot join at {address}: {e}"))
                .hint("is the address right, and does the server run?")
        };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|e| Error::yours(format!("{address}: {e}")))?;
        let stream = TcpStream::connect(address).await.map_err(|e| unreachable(&e))?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(|e| unreachable(&e))?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|e| unreachable(&e))?;
        // Ends with the connection; what breaks it breaks the answer too, where it is told.
        tokio::spawn(async move { connection.await.ok() });
        let request = Request::post(path)
            .header("host", address)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| Error::ours(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
        let (head, body) = response.into_parts();
        if let Some(leader) = head.headers.get(LEADER_HEADER).and_then(|v| v.to_str().ok()) {
            return Ok(Answer::Elsewhere(leader.to_owned()));
        }
        let bytes = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let bytes = bytes.map_err(|e| unreachable(&e))?.to_bytes();
        if head.status.is_success() {
            return Ok(Answer::Here(bytes));
        }
        let status: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let message = status["message"].as_str().unwrap_or("no reason was given");
        let text = format!("{address} refused: {message}");
        Err(if head.status.is_client_error() { Error::no(text) } else { Error::ours(text) })
    }
}

enum Answer {
    Here(Bytes),
    Elsewhere(String),
}
