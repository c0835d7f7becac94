//! Does what HTTP and TCP probes ask for. Commands in containers are Docker's business.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls};

use super::grpc;
use crate::node::probe::{Action, Outcome};

/// Most bytes of an answer that are kept for a failure's message (the kubelet reads 10 KiB too).
pub const ANSWER_BYTES_MAX: usize = 10 << 10;

/// Does an HTTP or TCP action against a pod's address, or a sleep, within `timeout`.
pub async fn act(action: &Action, ip: Option<IpAddr>, timeout: Duration) -> Outcome {
    let result = match action {
        Action::Sleep(span) => {
            tokio::time::sleep((*span).min(timeout)).await;
            return Outcome::Success;
        }
        Action::Unsupported(why) => return Outcome::Failure(why.clone()),
        Action::Exec(_) => return Outcome::Failure("a command needs its container".to_owned()),
        Action::Tcp { host, port } => tokio::time::timeout(timeout, tcp(host, ip, *port)).await,
        Action::Grpc { port, service } => {
            tokio::time::timeout(timeout, grpc_check(ip, *port, service)).await
        }
        Action::Http { tls, host, port, path, headers } => {
            let get = http(*tls, host, ip, *port, path, headers);
            tokio::time::timeout(timeout, get).await
        }
    };
    match result {
        Ok(Ok(())) => Outcome::Success,
        Ok(Err(message)) => Outcome::Failure(message),
        Err(_) => Outcome::Failure(format!("timed out after {}s", timeout.as_secs())),
    }
}

fn target(host: &Option<String>, ip: Option<IpAddr>) -> Result<String, String> {
    match (host, ip) {
        (Some(host), _) => Ok(host.clone()),
        (None, Some(ip)) => Ok(ip.to_string()),
        (None, None) => Err("the pod has no address".to_owned()),
    }
}

async fn tcp(host: &Option<String>, ip: Option<IpAddr>, port: u16) -> Result<(), String> {
    connect(&target(host, ip)?, port).await.map(drop)
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((host, port)).await;
    stream.map_err(|e| format!("dial tcp {host}:{port}: {e}"))
}

async fn grpc_check(ip: Option<IpAddr>, port: u16, service: &str) -> Result<(), String> {
    grpc::check(connect(&target(&None, ip)?, port).await?, service).await
}

async fn http(
    tls: bool,
    host: &Option<String>,
    ip: Option<IpAddr>,
    port: u16,
    path: &str,
    headers: &[(String, String)],
) -> Result<(), String> {
    let host = target(host, ip)?;
    let mut request = Request::get(path);
    let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !given("host") {
        request = request.header("host", format!("{host}:{port}"));
    }
    if !given("user-agent") {
        request = request.header("user-agent", "kube-probe/mainstay");
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let stream = connect(&host, port).await?;
    let url = format!("{}://{host}:{port}{path}", if tls { "https" } else { "http" });
    let answer = if tls {
        let name = rustls::pki_types::ServerName::try_from(host.clone());
        let name = name.map_err(|e| format!("Get {url:?}: {e}"))?;
        let stream = connector()?.connect(name, stream).await;
        send(stream.map_err(|e| format!("Get {url:?}: {e}"))?, request).await
    } else {
        send(stream, request).await
    };
    match answer.map_err(|e| format!("Get {url:?}: {e}"))? {
        200..400 => Ok(()),
        status => Err(format!("HTTP probe failed with statuscode: {status}")),
    }
}

/// Sends the request, reads the answer to its end, and returns its status. A redirect counts as
/// success, as in Kubernetes for redirects that leave the host; it is never followed.
async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<u16, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        // A longer body is cut off, not an error: only the status counts.
        let _body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok(status)
    };
    // The connection must be driven for the exchange to go on; its end (or failure) reaches the
    // exchange by itself.
    let drive = async {
        let _end = connection.await;
        std::future::pending::<Result<u16, String>>().await
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
        never = drive => never,
    }
}

pub(super) fn connector() -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A probe asks whether a server answers, not who it is (Kubernetes skips the check too).
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that reads a request and answers with `answer`, or never when that is empty.
    async fn server(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut kept = vec![];
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let _read = stream.read(&mut buffer).await;
                if !answer.is_empty() {
                    let _written = stream.write_all(answer.as_bytes()).await;
                }
                kept.push(stream);
            }
        });
        port
    }

    fn get(port: u16) -> Action {
        let (path, headers) = ("/ready".to_owned(), vec![]);
        Action::Http { tls: false, host: None, port, path, headers }
    }

    async fn check(action: Action, timeout_ms: u64) -> Result<(), String> {
        let ip = Some("127.0.0.1".parse().unwrap());
        match act(&action, ip, Duration::from_millis(timeout_ms)).await {
            Outcome::Success => Ok(()),
            Outcome::Failure(why) => Err(why),
            Outcome::Unknown => Err("unknown".to_owned()),
        }
    }

    #[tokio::test]
    async fn the_status_decides() {
        let ok = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(check(get(ok), 60_000).await, Ok(()));
        let moved = server("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(check(get(moved), 60_000).await, Ok(()));
        let busy = server("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        let failed = "HTTP probe failed with statuscode: 503".to_owned();
        assert_eq!(check(get(busy), 60_000).await, Err(failed));
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline_and_tcp_needs_no_answer() {
        let silent = server("").await;
        assert_eq!(check(get(silent), 50).await, Err("timed out after 0s".to_owned()));
        assert_eq!(check(Action::Tcp { host: None, port: silent }, 60_000).await, Ok(()));
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let why = check(Action::Tcp { host: None, port }, 60_000).await.unwrap_err();
        assert!(why.starts_with(&format!("dial tcp 127.0.0.1:{port}: ")), "{why}");
        let none = act(&get(port), None, Duration::from_secs(60)).await;
        assert_eq!(none, Outcome::Failure("the pod has no address".to_owned()));
    }
}
