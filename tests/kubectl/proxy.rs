//! A proxy that writes down what passes: plain HTTP before a server, so that nothing of a client is
//! hidden.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use hyper::{Request, Response, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use mainstay::trust;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::{TlsConnector, rustls::ClientConfig, rustls::pki_types::ServerName};

use crate::world::Server;

/// One request, as it came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    /// Path and query.
    pub(crate) target: String,
    pub(crate) method: String,
    pub(crate) accept: String,
    pub(crate) content_type: String,
}

/// It stands while this does.
pub(crate) struct Proxy {
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: Runtime,
}

/// Where it asks, as an administrator.
#[derive(Clone)]
struct Behind {
    address: String,
    tls: Arc<ClientConfig>,
}

impl Proxy {
    pub(crate) fn before(server: &Server) -> Self {
        let keys = server.keys();
        let (ca, issued) = (keys.ca_certificate().unwrap(), keys.issued("admin").unwrap());
        let tls = trust::client(&ca, &issued, b"http/1.1").unwrap();
        let behind = Behind { address: server.address().to_owned(), tls };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(serve(listener, behind, seen.clone()));
        Self { url, seen, _runtime: runtime }
    }

    /// What passed since this was asked last.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn serve(listener: TcpListener, behind: Behind, seen: Arc<Mutex<Vec<Seen>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (behind, seen) = (behind.clone(), seen.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            seen.lock().unwrap().push(Seen::of(&request));
            ask(behind.clone(), request)
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        // A client that leaves is no error of the test.
        tokio::spawn(async move { serving.await.ok() });
    }
}

impl Seen {
    fn of(request: &Request<Incoming>) -> Self {
        let header = |name| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        Self {
            target: request.uri().to_string(),
            method: request.method().to_string(),
            accept: header(header::ACCEPT),
            content_type: header(header::CONTENT_TYPE),
        }
    }
}

/// Hands a request on and gives the answer, streamed.
async fn ask(behind: Behind, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let stream = TcpStream::connect(&behind.address).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    let stream = TlsConnector::from(behind.tls).connect(name, stream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(Body::new))
}
