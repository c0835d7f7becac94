//! Tells others what became of commits: one loop for each receiver of the configuration, on the
//! leader (docs/adr/0026-notices.md).
//!
//! A notice is an entry of the outbox from the moment its commit changed until the receiver has it,
//! so a crash or a new leader loses none. One that was delivered and not yet acknowledged goes out
//! again with the same id.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{Error as StartError, Store, clock, export::pause_for};
use crate::{
    config::NotifyConfig,
    git,
    kinds::NoticeKind,
    report,
    state::{Command, Notice, View},
};

/// How long one delivery may take.
const DELIVERY_SECONDS_MAX: u64 = 30;

/// The longest pause between two tries.
const RETRY_SECONDS_MAX: u64 = 300;

/// A notice that nobody took for so long is given up: nobody waits for it any more.
const AGE_HOURS_MAX: i64 = 24;

/// Most bytes of an answer that are read, and told when it is no.
const ANSWER_BYTES_MAX: usize = 4096;

/// Where the roots of the machine are kept, on Debian, on Fedora and elsewhere.
const ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What became of deliveries; read by metrics.
#[derive(Debug, Default)]
pub(super) struct NotifyStats {
    /// Taken by their receiver.
    pub(super) done: AtomicU64,
    /// Tries that failed.
    pub(super) failed: AtomicU64,
    /// Given up.
    pub(super) dropped: AtomicU64,
}

/// One receiver.
pub(super) struct Receiver {
    name: String,
    kind: NoticeKind,
    url: Uri,
    context: String,
    token: Secret,
    secret: Secret,
    tls: Option<Arc<ClientConfig>>,
}

/// What must not be told.
#[derive(Clone, Default)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a delivery did not happen.
#[derive(Debug)]
enum Failure {
    /// It may work later.
    Later(String),
    /// It will not.
    Never(String),
}

impl Receiver {
    /// Reads what the configuration names; contacts nobody.
    pub(super) fn new(config: &NotifyConfig) -> Result<Self, StartError> {
        let wrong = |what: String| StartError::Config(format!("notify: {}: {what}", config.name));
        let url: Uri = config.url.parse().map_err(|e| wrong(format!("url: {e}")))?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_here = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        match url.scheme_str() {
            _ if host.is_empty() => return Err(wrong("url: give https://host/path".into())),
            _ if url.authority().is_some_and(|a| a.as_str().contains('@')) => {
                return Err(wrong("url: name credentials in tokenFile".into()));
            }
            Some("https") => {}
            Some("http") if is_here || config.token_file.is_none() => {}
            Some("http") => return Err(wrong("url: a token goes by https:// only".into())),
            _ => return Err(wrong("url: only https:// and http:// are spoken".into())),
        }
        let read = |field, path: &Option<std::path::PathBuf>| match path {
            Some(path) => super::read(field, path).map(|text| Secret(text.trim().to_owned())),
            None => Ok(Secret::default()),
        };
        let token = read("notify.tokenFile", &config.token_file)?;
        if token.0.chars().any(char::is_control) {
            return Err(wrong("tokenFile: it holds more than one line".into()));
        }
        Ok(Self {
            name: config.name.clone(),
            kind: config.kind,
            context: config.context.clone().unwrap_or_else(|| "mainstay".to_owned()),
            tls: (url.scheme_str() == Some("https")).then(|| tls(config)).transpose()?,
            secret: read("notify.secretFile", &config.secret_file)?,
            token,
            url,
        })
    }

    /// Tells what waits for it, oldest first, while this server leads.
    pub(super) async fn run(self, store: Store, stats: Arc<NotifyStats>, stop: CancellationToken) {
        let mut views = store.views();
        let mut roles = store.roles();
        let mut failures = 0u32;
        loop {
            let view = views.borrow_and_update().clone();
            let first = view.due_notices(&self.name).next().filter(|_| store.is_leader());
            let pause = match first {
                None => None,
                Some((id, notice)) => match self.tell(&view, notice).await {
                    Ok(()) => {
                        stats.done.fetch_add(1, Ordering::Relaxed);
                        done(&store, id).await
                    }
                    Err(Failure::Never(why)) => {
                        stats.dropped.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(event = "notice given up", receiver = self.name, why);
                        done(&store, id).await
                    }
                    Err(Failure::Later(why)) => {
                        failures += 1;
                        stats.failed.fetch_add(1, Ordering::Relaxed);
                        let (receiver, attempt) = (&self.name, failures);
                        tracing::warn!(event = "notice not taken", receiver, attempt, why);
                        Some(Duration::from_secs((1 << failures.min(9)).min(RETRY_SECONDS_MAX)))
                    }
                },
            };
            if pause.is_none() {
                failures = 0;
            }
            let more = first.is_some() && pause.is_none();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = views.changed(), if pause.is_none() => if changed.is_err() { return },
                () = std::future::ready(()), if more => tokio::task::yield_now().await,
                changed = roles.changed() => if changed.is_err() { return },
                () = pause_for(pause), if !more => {}
            }
        }
    }

    async fn tell(&self, view: &View, notice: &Notice) -> Result<(), Failure> {
        if notice.at.plus_seconds(AGE_HOURS_MAX * 3600) < clock::now() {
            return Err(Failure::Never(format!("nobody took it for {AGE_HOURS_MAX} hours")));
        }
        let limit = Duration::from_secs(DELIVERY_SECONDS_MAX);
        let late = |_| Failure::Later(format!("no answer within {DELIVERY_SECONDS_MAX}s"));
        let (status, said) =
            tokio::time::timeout(limit, self.post(view, notice)).await.map_err(late)??;
        let told = format!("it answered {status}: {}", self.redacted(&said));
        match status {
            status if status.is_success() => Ok(()),
            // What is wrong with a request stays wrong; what is wrong with a credential is mended.
            StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::GONE
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Never(told)),
            _ => Err(Failure::Later(told)),
        }
    }

    async fn post(&self, view: &View, notice: &Notice) -> Result<(StatusCode, String), Failure> {
        let later = |e: String| Failure::Later(self.redacted(&e));
        let never = |e: String| Failure::Never(self.redacted(&e));
        let request = self.request(view, notice).map_err(|e| never(e.to_string()))?;
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = self.url.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let tcp = TcpStream::connect((host.as_str(), port)).await;
        let tcp = tcp.map_err(|e| later(e.to_string()))?;
        let answered = match &self.tls {
            None => exchange(TokioIo::new(tcp), request).await,
            Some(tls) => {
                let name = ServerName::try_from(host).map_err(|e| never(e.to_string()))?;
                let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await;
                exchange(TokioIo::new(stream.map_err(|e| later(e.to_string()))?), request).await
            }
        };
        answered.map_err(|e| later(format!("{e:#}")))
    }

    fn request(&self, view: &View, notice: &Notice) -> anyhow::Result<Request<Full<Bytes>>> {
        let report::NoticeRequest { path, body } =
            report::notice(view, self.kind, &self.context, notice);
        let base = self.url.path_and_query().map(|p| p.as_str()).unwrap_or("/");
        let path = match path.is_empty() {
            true => base.to_owned(),
            false => format!("{}{path}", base.trim_end_matches('/')),
        };
        let mut request = Request::post(path)
            .header(header::HOST, self.url.authority().map(|a| a.as_str()).unwrap_or_default())
            .header(header::USER_AGENT, concat!("mainstay/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .header("mainstay-delivery", report::notice_id(view, notice));
        let token = self.token.0.as_str();
        if !token.is_empty() {
            let (name, value) = match self.kind {
                NoticeKind::Gitlab => ("private-token", token.to_owned()),
                NoticeKind::Gitea => ("authorization", format!("token {token}")),
                _ => ("authorization", format!("Bearer {token}")),
            };
            let mut value = header::HeaderValue::try_from(value)?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if self.kind == NoticeKind::Github {
            request = request
                .header(header::ACCEPT, "application/vnd.github+json")
                .header("x-github-api-version", "2022-11-28");
        }
        if !self.secret.0.is_empty() {
            let signed = git::hook::sign(self.secret.0.as_bytes(), body.as_bytes());
            request = request.header("x-mainstay-signature-256", signed);
        }
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }

    /// A text of somebody else, without what is ours to keep.
    fn redacted(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // Chat hooks carry their credential in the path.
        let path = self.url.path().to_owned();
        let path = if self.token.0.is_empty() { path } else { String::new() };
        for secret in [&self.token.0, &self.secret.0, &path] {
            if secret.len() > 1 {
                text = text.replace(secret.as_str(), "(secret)");
            }
        }
        text
    }
}

/// Sends one request and reads the beginning of its answer. Nothing is followed.
async fn exchange(
    stream: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, String)> {
    let (mut sender, connection) = http1::handshake(stream).await?;
    let asked = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        // What is longer is of no interest.
        let text = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    };
    tokio::pin!(connection);
    tokio::select! {
        answer = asked => answer,
        ended = &mut connection => Err(anyhow::anyhow!("the connection ended: {ended:?}")),
    }
}

/// Takes a notice out; a pause when the log does not take that.
async fn done(store: &Store, id: u64) -> Option<Duration> {
    match store.propose(vec![Command::Done(id)]).await {
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(event = "notice not recorded", %error);
            Some(Duration::from_secs(1))
        }
    }
}

fn tls(config: &NotifyConfig) -> Result<Arc<ClientConfig>, StartError> {
    let wrong = |what: String| StartError::Config(format!("notify: {}: {what}", config.name));
    let usual = || ROOTS.iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned);
    let path = config.ca_file.clone().or_else(usual).ok_or_else(|| {
        wrong("this machine has no roots; install ca-certificates, or name caFile".to_owned())
    })?;
    let read = super::read("notify.caFile", &path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(read.as_bytes()) {
        let certificate = certificate.map_err(|e| wrong(format!("{}: {e}", path.display())))?;
        // A bundle may hold one that is too old for us; it vouches for nobody then.
        if let Err(error) = roots.add(certificate) {
            tracing::debug!(event = "root left out", %error);
        }
    }
    if roots.is_empty() {
        return Err(wrong(format!("{} holds no certificate", path.display())));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(client))
}
