//! The parts of the measurements that serve: a server with pods or ConfigMaps, and the plain
//! programs it is held against.

use std::{io::Write as _, net::SocketAddr, path::Path, sync::Arc, time::Instant};

use axum::body::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use mainstay::{
    model::{Key, Object},
    server::Server,
    state::{Command, Expect, Op, Part},
};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::common::{
    self, Result,
    http::server_tls,
    part::{self, serve},
};

/// The namespace of everything that is served.
pub(crate) const NAMESPACE: &str = "load";

/// Pods in one entry of the log, which must stay below a mebibyte.
const PODS_PER_ENTRY: usize = 200;

/// The file with the bytes that the plain programs send.
pub(crate) const BYTES: &str = "bytes";

/// Plays a part.
pub(crate) fn run(name: &str, dir: &Path) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    match name {
        "pods" => runtime.block_on(server(dir, pods(common::OBJECTS))),
        "pod" => runtime.block_on(server(dir, pods(1))),
        "maps" => runtime.block_on(server(dir, (0..common::CLIENTS).map(map).collect())),
        "bytes" => runtime.block_on(bytes(dir)),
        "loop" => runtime.block_on(bare_loop(dir)),
        _ => Err(format!("no part is named {name}").into()),
    }
}

fn pods(count: usize) -> Vec<Value> {
    (0..count).map(pod).collect()
}

/// A pod as it is when it runs. Nobody schedules it, so nothing changes while it is looked at.
fn pod(i: usize) -> Value {
    let labels = json!({ "app": format!("web-{}", i / 10), "pod-template-hash": "6c5d8f7b94" });
    let address = format!("10.244.{}.{}", i / 250 % 250, i % 250 + 2);
    let container = json!({
        "name": "web", "image": "example.org/shop/web:1.4.2",
        "env": [
            { "name": "WORD", "value": "first" },
            { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        ],
        "ports": [{ "name": "http", "containerPort": 8080 }],
        "resources": {
            "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "memory": "128Mi" },
        },
        "readinessProbe": { "httpGet": { "path": "/ready", "port": "http" } },
        "volumeMounts": [{ "name": "settings", "mountPath": "/etc/web" }],
    });
    let since = "2026-01-02T03:04:05Z";
    let condition = |name| json!({ "type": name, "status": "True", "lastTransitionTime": since });
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("web-{i:05}"), "namespace": NAMESPACE, "labels": labels },
        "spec": {
            "schedulerName": "nobody", "containers": [container],
            "volumes": [{ "name": "settings", "configMap": { "name": format!("web-{}", i / 10) } }],
        },
        "status": {
            "phase": "Running", "hostIP": "192.0.2.7", "podIP": address, "startTime": since,
            "qosClass": "Burstable",
            "conditions": conditions,
            "containerStatuses": [{
                "name": "web", "image": "example.org/shop/web:1.4.2", "imageID": "sha256:0a1b2c",
                "containerID": format!("docker://{i:064x}"), "ready": true, "started": true,
                "restartCount": 0, "state": { "running": { "startedAt": since } },
            }],
        },
    })
}

/// The object that client `i` writes.
pub(crate) fn map(i: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": format!("map-{i:02}"), "namespace": NAMESPACE },
        "data": { "count": "0", "text": "x".repeat(200) },
    })
}

/// A server that holds some objects and does what it is told: `quiet` waits until nothing changes
/// any more, `propose` measures bare proposals, `bare` starts [`bare`] and says where, `line` gives
/// the pod, and every other word becomes a label of it.
async fn server(dir: &Path, values: Vec<Value>) -> Result<()> {
    let repository = dir.join("repo.git");
    if !repository.exists() {
        mainstay::git::embedded::init(&repository)?;
    }
    let own = tempfile::tempdir_in(dir)?;
    // The keys are the first copy's, which made the clients' certificates.
    std::os::unix::fs::symlink(dir.join(mainstay::server::PKI), own.path().join("pki"))?;
    let server = Arc::new(common::server(own.path(), &repository).await?);
    put(&server, vec![namespace()]).await?;
    for values in values.chunks(PODS_PER_ENTRY) {
        put(&server, values.to_vec()).await?;
    }
    serve(server.api, |word| answer(server.clone(), dir, word)).await
}

async fn answer(server: Arc<Server>, dir: &Path, word: String) -> Result<String> {
    match word.as_str() {
        "quiet" => quiet(&server).await?,
        "propose" => return propose(&server).await,
        "bare" => return Ok(bare(server, dir).await?.to_string()),
        "line" => return line(&server),
        round => {
            let mut pod = pod(0);
            pod["metadata"]["labels"]["round"] = round.replace(' ', "-").into();
            put(&server, vec![pod]).await?;
        }
    }
    Ok("done".to_owned())
}

fn namespace() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": NAMESPACE, "annotations": { "mainstay.io/writes": "direct" } },
        "spec": { "finalizers": ["kubernetes"] },
    })
}

/// Stores objects as a controller would, with their status.
async fn put(server: &Server, values: Vec<Value>) -> Result<()> {
    let mut ops = Vec::new();
    for value in values {
        let has_status = value.get("status").is_some();
        let object = Object::from_value(&value)?;
        let put = |part| Op::Put { object: object.clone(), expect: Expect::Any, part };
        ops.push(put(Part::Main));
        ops.extend(has_status.then(|| put(Part::Status)));
    }
    let outcomes = server.store().propose(vec![Command::Write(ops)]).await?;
    match outcomes.first() {
        Some(mainstay::state::Outcome::Done(_)) => Ok(()),
        other => Err(format!("not stored: {other:?}").into()),
    }
}

/// Waits until State has not changed for a second.
async fn quiet(server: &Server) -> Result<()> {
    let mut views = server.store().views();
    let second = std::time::Duration::from_secs(1);
    while tokio::time::timeout(second, views.changed()).await.is_ok() {}
    Ok(())
}

/// What a watcher is told of the one pod, without the line that says so.
fn line(server: &Server) -> Result<String> {
    let key = Key::parse(&format!("Pod/{NAMESPACE}/web-00000"))?;
    let view = server.store().view();
    let object = view.object(&key).ok_or("no pod")?;
    Ok(String::from_utf8(object.bytes().to_vec())?)
}

/// Every client's object proposed by itself, as often as the API's clients write it; the times in
/// microseconds.
async fn propose(server: &Arc<Server>) -> Result<String> {
    let mut clients = tokio::task::JoinSet::new();
    for i in 0..common::CLIENTS {
        let server = server.clone();
        clients.spawn(async move {
            let mut times = Vec::new();
            for round in 0..common::WRITES {
                let mut value = map(i);
                value["data"]["count"] = format!("p{round}").into();
                let begun = Instant::now();
                put(&server, vec![value]).await.map_err(|e| e.to_string())?;
                times.push(begun.elapsed().as_micros().to_string());
            }
            Ok::<_, String>(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = clients.join_next().await {
        all.extend(times??);
    }
    Ok(all.join(" "))
}

/// A plain HTTP server that sends the bytes of a file from memory, over the API's own TLS.
async fn bytes(dir: &Path) -> Result<()> {
    let bytes = Bytes::from(std::fs::read(dir.join(BYTES))?);
    let address = listen(dir, move |_request| {
        let bytes = bytes.clone();
        async move { Some(bytes) }
    });
    serve(address.await?, |_| std::future::ready(Ok(String::new()))).await
}

/// A plain HTTP server, over the API's own TLS, that proposes the object of a body and sends it
/// back: what is left of a `PUT` when nothing is asked about it.
async fn bare(server: Arc<Server>, dir: &Path) -> Result<SocketAddr> {
    listen(dir, move |request: hyper::Request<Incoming>| {
        let server = server.clone();
        async move {
            let body = request.into_body().collect().await.ok()?.to_bytes();
            put(&server, vec![serde_json::from_slice(&body).ok()?]).await.ok()?;
            Some(body)
        }
    })
    .await
}

/// Serves HTTP over the API's own TLS, for as long as the process lives: what `answer` gives, or
/// 500 when it gives nothing.
async fn listen<F>(
    dir: &Path,
    answer: impl Fn(hyper::Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> Result<SocketAddr>
where
    F: Future<Output = Option<Bytes>> + Send + 'static,
{
    let tls = TlsAcceptor::from(server_tls(dir)?);
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, answer) = (tls.clone(), answer.clone());
            tokio::spawn(async move {
                stream.set_nodelay(true).ok()?;
                let stream = tls.accept(stream).await.ok()?;
                let service = hyper::service::service_fn(|request| {
                    let answer = answer(request);
                    async move {
                        let bytes = answer.await;
                        let code = if bytes.is_some() { 200 } else { 500 };
                        let body = http_body_util::Full::new(bytes.unwrap_or_default());
                        hyper::Response::builder().status(code).body(body)
                    }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                builder.serve_connection(TokioIo::new(stream), service).await.ok()
            });
        }
    });
    Ok(address)
}

/// Accepts connections over the API's own TLS and, at each word, writes the word and the bytes of
/// the file to all of them, one after the other.
async fn bare_loop(dir: &Path) -> Result<()> {
    let bytes = std::fs::read(dir.join(BYTES))?;
    let tls = server_tls(dir)?;
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    let sockets = Arc::new(std::sync::Mutex::new(Vec::new()));
    let accepted = sockets.clone();
    std::thread::spawn(move || -> Option<()> {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true).ok()?;
            let mut connection = ServerConnection::new(tls.clone()).ok()?;
            while connection.is_handshaking() {
                connection.complete_io(&mut stream).ok()?;
            }
            accepted.lock().ok()?.push(StreamOwned::new(connection, stream));
        }
        Some(())
    });
    serve(address, move |word| {
        let line = [word.as_bytes(), &bytes, b"\n"].concat();
        let write = || -> Result<String> {
            let mut sockets = sockets.lock().map_err(|_| "poisoned")?;
            for socket in sockets.iter_mut() {
                socket.write_all(&line)?;
                socket.flush()?;
            }
            Ok(sockets.len().to_string())
        };
        std::future::ready(write())
    })
    .await
}

/// Starts a part whose keys are in `dir`.
pub(crate) fn start(name: &str, dir: &Path) -> Result<part::Serving> {
    part::Serving::start(name, dir)
}
