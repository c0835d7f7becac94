//! One TLS port for everything: HTTP, agents and other servers, told apart by ALPN.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::ConnectInfo,
};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{dispatch::Dispatch, machine::StateMachine, moving::Moving};
use crate::{
    api::{Front, Peer},
    raft,
    trust::{self, ALPN_AGENT, ALPN_RAFT, Identity},
};

/// How long a peer may take for its handshake. An unauthenticated peer costs one task and one
/// buffer until then.
const HANDSHAKE_SECONDS_MAX: u64 = 10;

/// How many connections are served at once: a few hundred agents, as many watches, and headroom.
/// Further ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 8192;

/// Most bytes of the head of an HTTP/1 request. A token has at most 16 KiB, the rest of a real head
/// a few more; every connection at this bound, before anybody knows who asks, takes half a GiB.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How long the first byte of a connection, and the head of an HTTP/1 request, may take.
const HEAD_SECONDS_MAX: u64 = 30;

/// How long a connection may have no request to answer, as Kubernetes' API servers; clients open
/// another one then.
const IDLE_SECONDS_MAX: u64 = 90;

/// How long a connection that is asked to end may take for it.
const FAREWELL_SECONDS_MAX: u64 = 10;

/// How long a peer may take nothing of what is written to it. A watcher that does not read holds a
/// connection and nothing else; after this it holds nothing.
const STALL_SECONDS_MAX: u64 = 60;

/// Who serves what comes in.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) http: Front,
    pub(super) agents: Dispatch,
    pub(super) servers: raft::Node<StateMachine>,
}

/// Accepts connections until `stop`. A changed TLS configuration (a renewed certificate) counts for
/// later ones.
pub(super) async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    doors: Doors,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let acceptor = TlsAcceptor::from(tls.borrow().clone());
                // Its own: whoever waits for a token looks at it whenever anything happens.
                let stop = stop.child_token();
                tokio::spawn(connection(stream, from, acceptor, doors.clone(), stop, slot));
            }
            // Out of file descriptors, or a peer that gave up: neither ends the listener.
            Err(error) => {
                tracing::warn!(event = "accept failed", %error);
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    acceptor: TlsAcceptor,
    doors: Doors,
    stop: CancellationToken,
    _slot: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(event = "nodelay", %from, %error);
    }
    let limit = Duration::from_secs(HANDSHAKE_SECONDS_MAX);
    let stream = match tokio::time::timeout(limit, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(event = "handshake failed", %from, %error),
        Err(_) => return tracing::debug!(event = "handshake too slow", %from),
    };
    let (alpn, peer) = facts(&stream);
    let served = async {
        match alpn.as_deref() {
            Some(ALPN_AGENT) => agent(doors, stream, peer, from).await,
            Some(ALPN_RAFT) => server(doors, stream, peer, from).await,
            Some(b"h2") => {
                http(builder().http2_only(), doors.http, stream, peer, from).await;
            }
            _ => http(builder().http1_only(), doors.http, stream, peer, from).await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = served => {}
    }
}

fn facts(stream: &TlsStream<TcpStream>) -> (Option<Vec<u8>>, Option<Identity>) {
    let connection = stream.get_ref().1;
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    (connection.alpn_protocol().map(<[u8]>::to_vec), certificate.and_then(trust::identity))
}

async fn agent(
    doors: Doors,
    stream: TlsStream<TcpStream>,
    peer: Option<Identity>,
    from: SocketAddr,
) {
    if let Err(error) = doors.agents.serve(stream, peer).await {
        tracing::info!(event = "session ended", %from, error = %chain(&error));
    }
}

async fn server(
    doors: Doors,
    stream: TlsStream<TcpStream>,
    peer: Option<Identity>,
    from: SocketAddr,
) {
    let trusted = |peer: &Identity| peer.groups.iter().any(|g| g == super::SERVERS_GROUP);
    if !peer.as_ref().is_some_and(trusted) {
        return tracing::warn!(event = "log traffic refused", %from, ?peer);
    }
    if let Err(error) = doors.servers.serve(stream).await {
        tracing::debug!(event = "log traffic ended", %from, %error);
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().timer(hyper_util::rt::TokioTimer::new());
    builder
        .http1()
        .timer(hyper_util::rt::TokioTimer::new())
        .max_buf_size(HEAD_BYTES_MAX)
        .header_read_timeout(Duration::from_secs(HEAD_SECONDS_MAX));
    builder
}

/// Serves a connection in the version of HTTP that its handshake agreed on, until its peer ends it
/// or has nothing to ask for a while.
async fn http(
    builder: auto::Builder<TokioExecutor>,
    front: Front,
    stream: TlsStream<TcpStream>,
    peer: Option<Identity>,
    from: SocketAddr,
) {
    let peer = peer.map(|identity| Peer { user: identity.user, groups: identity.groups });
    let mut stream = BufReader::new(stream);
    let limit = Duration::from_secs(HEAD_SECONDS_MAX);
    // Once something has come, hyper has times of its own.
    match tokio::time::timeout(limit, stream.fill_buf()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return tracing::debug!(event = "http ended", %from, %error),
        Err(_) => return tracing::debug!(event = "nothing was asked", %from),
    }
    let asked = Asked::default();
    let service = service(front, peer, from, asked.clone());
    let stream = Moving::new(stream, Duration::from_secs(STALL_SECONDS_MAX));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = asked.idle(Duration::from_secs(IDLE_SECONDS_MAX)) => {
            connection.as_mut().graceful_shutdown();
            let limit = Duration::from_secs(FAREWELL_SECONDS_MAX);
            tokio::time::timeout(limit, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(event = "http ended", %from, %error);
    }
}

/// The requests of one connection. Nobody is woken when one begins or ends, as there are many.
#[derive(Clone)]
struct Asked(Arc<Count>);

struct Count {
    begun: Instant,
    /// How many are being answered, to the last byte.
    open: AtomicU64,
    /// When the last one was, in milliseconds since the connection began.
    answered: AtomicU64,
}

/// A request that is being answered.
struct Open(Asked);

impl Default for Asked {
    fn default() -> Self {
        let (open, answered) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Count { begun: Instant::now(), open, answered }))
    }
}

impl Asked {
    fn begin(&self) -> Open {
        self.0.open.fetch_add(1, Ordering::SeqCst);
        Open(self.clone())
    }

    /// Since when nothing is asked; nothing while something is answered.
    fn quiet_since(&self) -> Option<Instant> {
        let quiet = self.0.open.load(Ordering::SeqCst) == 0;
        let answered = Duration::from_millis(self.0.answered.load(Ordering::SeqCst));
        quiet.then(|| self.0.begun + answered)
    }

    /// Ends when there was nothing to answer for `limit`.
    async fn idle(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let end = self.quiet_since().unwrap_or(now) + limit;
            if end <= now {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let count = &self.0.0;
        let passed = u64::try_from(count.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        count.answered.store(passed, Ordering::SeqCst);
        count.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The body of an answer; its request is answered when it is gone.
struct Answer {
    body: Body,
    _open: Open,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is served, with the peer's identity and address put into every request.
fn service(
    front: Front,
    peer: Option<Peer>,
    from: SocketAddr,
    asked: Asked,
) -> impl Service<
    hyper::Request<Incoming>,
    Response = hyper::Response<Answer>,
    Error = Infallible,
    Future = impl Future<Output = Result<hyper::Response<Answer>, Infallible>> + Send,
> + Clone {
    service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(from));
        if let Some(peer) = peer.clone() {
            request.extensions_mut().insert(peer);
        }
        let open = asked.begin();
        let answer = front.answer(request.map(Body::new));
        async move { Ok(answer.await.map(|body| Answer { body, _open: open })) }
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_connection_is_idle_when_nothing_is_answered_for_a_while() {
        let asked = Asked::default();
        let began = tokio::time::Instant::now();
        let watched = asked.begin();
        let other = asked.clone();
        let busy = async move {
            tokio::time::sleep(2 * LIMIT).await;
            drop(watched);
            tokio::time::sleep(LIMIT / 2).await;
            // A request that is over before anybody looks counts as well.
            drop(other.begin());
        };
        tokio::join!(busy, asked.idle(LIMIT));
        assert!(began.elapsed() >= 2 * LIMIT + LIMIT / 2 + LIMIT);
    }
}
