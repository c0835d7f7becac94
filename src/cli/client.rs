//! Asks a cluster over HTTPS, with the keys of its folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{body::Bytes, http::StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Common, Error, Kind};
use crate::trust::{self, KeyFiles};

/// Seconds until a server must have taken the connection.
const CONNECT_SECONDS_MAX: u64 = 10;
/// Seconds until an answer must have come; the server itself gives up after 60.
const ANSWER_SECONDS_MAX: u64 = 70;
/// Most bytes of an answer: status and plan of 10,000 objects are a few MiB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What the verbs need of `endpoints.json`.
#[derive(Deserialize)]
struct Endpoints {
    api: String,
}

/// A cluster that can be asked.
pub(super) struct Client {
    api: Uri,
    tls: Arc<ClientConfig>,
}

impl Client {
    /// Finds the cluster: `--dir`, `MAINSTAY_DIR`, or `~/.mainstay`.
    pub(super) fn find(common: &Common) -> Result<Self, Error> {
        Self::in_folder(&folder(common.dir.as_deref())?)
    }

    fn in_folder(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("endpoints.json");
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Error::yours(format!("there is no cluster in {}: {e}", dir.display())).hint(
                "start one with `mainstay dev`, or name its folder with --dir or MAINSTAY_DIR",
            )
        })?;
        let wrong = |e: String| Error::yours(format!("{}: {e}", path.display()));
        let endpoints: Endpoints = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let api: Uri = endpoints.api.parse().map_err(|e| wrong(format!("api: {e}")))?;
        if api.scheme_str() != Some("https") || api.host().is_none() {
            return Err(wrong(format!("api: {api} is not an https:// address")));
        }
        let keys = KeyFiles::new(dir.join("pki"));
        let tls = keys
            .ca_certificate()
            .and_then(|ca| Ok((ca, keys.issued("admin")?)))
            .and_then(|(ca, admin)| trust::client(&ca, &admin, b"http/1.1"))
            .map_err(|e| Error::yours(format!("the keys in {}: {e}", dir.join("pki").display())))?;
        Ok(Self { api, tls })
    }

    /// Asks and reads the answer.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.ask(Method::GET, path, ANSWER_SECONDS_MAX).await
    }

    /// Asks for a change and reads the answer.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.ask(Method::POST, path, ANSWER_SECONDS_MAX).await
    }

    /// Asks for a change described by `body`, at the leader when the server asked does not lead.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, Error> {
        let address = self.api.authority().map(ToString::to_string).unwrap_or_default();
        super::joining::Door { address, tls: self.tls.clone() }.post(path, body).await
    }

    /// Asks for what takes at most `seconds`.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        seconds: u64,
    ) -> Result<T, Error> {
        self.answer(self.open(method, path), seconds).await
    }

    /// Shows bytes to the cluster and reads what it says of them.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        bytes: Vec<u8>,
        seconds: u64,
    ) -> Result<T, Error> {
        self.answer(self.open_with(Method::POST, path, bytes.into()), seconds).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        response: impl Future<Output = Result<Response<Incoming>, Error>>,
        seconds: u64,
    ) -> Result<T, Error> {
        let answer = async {
            let body = response.await?.into_body();
            let bytes = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let bytes = bytes.map_err(|e| Error::ours(format!("the answer broke off: {e}")))?;
            serde_json::from_slice(&bytes.to_bytes())
                .map_err(|e| Error::ours(format!("the answer cannot be read: {e}")))
        };
        let late = |_| Error::ours(format!("{} did not answer within {seconds}s", self.api));
        tokio::time::timeout(Duration::from_secs(seconds), answer).await.map_err(late)?
    }

    /// Asks and hands over the answer as it comes.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
    ) -> Result<Response<Incoming>, Error> {
        self.open_with(method, path, Bytes::new()).await
    }

    async fn open_with(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let limit = Duration::from_secs(CONNECT_SECONDS_MAX);
        let connected = tokio::time::timeout(limit, self.connect()).await;
        let late = |_| format!("no connection within {CONNECT_SECONDS_MAX}s");
        let mut sender =
            connected.map_err(late).and_then(|c| c).map_err(|e| self.unreachable(&e))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.api.authority().map_or("", |a| a.as_str()))
            .body(Full::new(body))
            .map_err(|e| Error::yours(format!("{path}: {e}")))?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|e| self.unreachable(&e.to_string()))?;
        if response.status() == StatusCode::OK {
            Ok(response)
        } else {
            Err(refusal(response).await)
        }
    }

    async fn connect(
        &self,
    ) -> Result<hyper::client::conn::http1::SendRequest<Full<Bytes>>, String> {
        let host = self.api.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = self.api.port_u16().unwrap_or(443);
        let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|e| e.to_string())?;
        let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
        let connector = TlsConnector::from(self.tls.clone());
        let tls = connector.connect(name, tcp).await.map_err(|e| e.to_string())?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|e| e.to_string())?;
        // Ends with the connection; what breaks it breaks the answer too, where it is told.
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }

    fn unreachable(&self, why: &str) -> Error {
        Error::ours(format!("cannot reach the cluster at {}: {why}", self.api))
            .hint("is it running? `mainstay dev` or `mainstay server` starts it")
    }
}

/// The folder of the cluster.
fn folder(dir: Option<&Path>) -> Result<PathBuf, Error> {
    match dir {
        Some(dir) => Ok(dir.to_owned()),
        None => std::env::home_dir()
            .map(|home| home.join(".mainstay"))
            .ok_or_else(|| Error::yours("there is no home folder: name the cluster's with --dir")),
    }
}

/// What a Kubernetes `Status` says; the code tells whose turn it is.
async fn refusal(response: Response<Incoming>) -> Error {
    #[derive(Deserialize, Default)]
    struct Status {
        #[serde(default)]
        message: String,
        details: Option<Details>,
    }
    #[derive(Deserialize)]
    struct Details {
        #[serde(default)]
        causes: Vec<Cause>,
    }
    #[derive(Deserialize)]
    struct Cause {
        message: String,
    }
    let code = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = body.map(|b| b.to_bytes()).unwrap_or_default();
    let status: Status = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut message = match status.message.is_empty() {
        true => format!("the cluster answered {code}"),
        false => status.message,
    };
    for cause in status.details.iter().flat_map(|d| &d.causes) {
        message += &format!("\n{}", cause.message);
    }
    let kind = match code {
        StatusCode::UNPROCESSABLE_ENTITY => Kind::No,
        code if code.is_server_error() || code == StatusCode::TOO_MANY_REQUESTS => Kind::We,
        _ => Kind::You,
    };
    Error { kind, message, hint: None }
}

/// A value as part of a query.
pub(super) fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::service::service_fn;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::{
        model::Timestamp,
        trust::{Ca, Leaf},
    };

    /// Answers `GET /good` with its Host and everything else with a `Status`, over TLS both ways.
    async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            let answer = service_fn(|request: Request<Incoming>| async move {
                let (code, body) = match request.uri().path() {
                    "/good" => {
                        (200, json!({ "host": request.headers()["host"].to_str().unwrap() }))
                    }
                    "/bad" => (
                        422,
                        json!({
                            "message": "1 problem", "details": { "causes": [{ "message": "a.yaml:1: x" }] },
                        }),
                    ),
                    _ => (404, json!({ "message": "Pod shop/x not found" })),
                };
                let body = http_body_util::Full::new(Bytes::from(body.to_string()));
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            });
            let connection = hyper::server::conn::http1::Builder::new();
            connection.serve_connection(TokioIo::new(tls), answer).await.ok();
        }
    }

    #[tokio::test]
    async fn a_cluster_is_asked_with_the_keys_of_its_folder() {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let now = Timestamp(i64::try_from(now).unwrap());
        let ca = Ca::generate("test", now).unwrap();
        let leaf = |user: &str| Leaf {
            common_name: user.to_owned(),
            organizations: vec!["system:masters".to_owned()],
            names: vec!["127.0.0.1".to_owned()],
            days: 1,
        };
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyFiles::new(dir.path().join("pki"));
        keys.write_ca_certificate(ca.certificate()).unwrap();
        keys.write_issued("admin", &ca.issue(&leaf("ada"), now).unwrap()).unwrap();
        let server = ca.issue(&leaf("server"), now).unwrap();
        let tls = trust::server(ca.certificate(), &server, &[b"http/1.1"]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoints =
            json!({ "api": format!("https://{address}"), "metrics": "", "agentMetrics": "" });
        std::fs::write(dir.path().join("endpoints.json"), endpoints.to_string()).unwrap();
        let serving = tokio::spawn(serve(listener, TlsAcceptor::from(tls)));

        let client = Client::in_folder(dir.path()).unwrap();
        let good: Value = client.get("/good").await.unwrap();
        assert_eq!(good["host"], address.to_string());
        let no = client.get::<Value>("/bad").await.unwrap_err();
        assert_eq!((no.kind, no.message.as_str()), (Kind::No, "1 problem\na.yaml:1: x"));
        let yours = client.get::<Value>("/other").await.unwrap_err();
        assert_eq!((yours.kind, yours.message.as_str()), (Kind::You, "Pod shop/x not found"));
        serving.abort();
        assert!(serving.await.is_err());
        let ours = client.get::<Value>("/good").await.unwrap_err();
        assert_eq!(ours.kind, Kind::We);
        assert!(ours.hint.is_some(), "{ours:?}");
    }

    #[test]
    fn a_folder_without_a_cluster_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let Err(error) = Client::in_folder(dir.path()) else { panic!("there is no cluster") };
        assert_eq!(error.kind, Kind::You);
        assert!(error.hint.unwrap().contains("mainstay dev"));
    }
}
