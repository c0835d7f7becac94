//! Bytes as they are: SPDY inside the messages of a WebSocket, and plain connections for proxies.

use std::net::IpAddr;

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::TcpStream,
    time::timeout,
};

use super::{CHUNK_BYTES, activity::Activity, websocket};
use crate::agent::{
    docker, prober,
    runtime::{Duplex, Wire},
};

/// Longest wait for a pod to accept a connection, and for its handshake.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(10);

/// The bytes that a WebSocket's messages carry, in both directions.
pub(super) fn bytes_of(socket: WebSocket) -> DuplexStream {
    let (near, far) = tokio::io::duplex(CHUNK_BYTES);
    tokio::spawn(pump(socket, far));
    near
}

async fn pump(socket: WebSocket, far: DuplexStream) {
    let (mut sink, mut source) = socket.split();
    let (mut from, mut to) = tokio::io::split(far);
    let inward = async {
        while let Some(bytes) = websocket::next(&mut source).await {
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // The other end may be done already.
        let _done = to.shutdown().await;
    };
    let outward = async {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let part = buffer[..read].to_vec();
            if sink.send(Message::Binary(part.into())).await.is_err() {
                return;
            }
        }
    };
    // What the client still sends is of no use once the other end is done.
    tokio::select! {
        () = outward => {}
        () = async {
            inward.await;
            std::future::pending::<()>().await;
        } => {}
    }
    websocket::close(sink, source).await;
}

/// Connects to a port of a pod from its node, with TLS when asked for: whose certificate it shows
/// does not matter, as in Kubernetes.
pub(super) async fn dial(ip: IpAddr, port: u16, tls: bool) -> Result<Wire, String> {
    let failed = |e: &dyn std::fmt::Display| format!("dial tcp {ip}:{port}: {e}");
    let connecting = async {
        let stream = TcpStream::connect((ip, port)).await;
        let stream = stream.map_err(|e| failed(&docker::dial_error(&e)))?;
        if !tls {
            return Ok(Box::new(stream) as Wire);
        }
        let name = ServerName::from(ip);
        let stream = prober::connector()?.connect(name, stream).await.map_err(|e| failed(&e))?;
        Ok(Box::new(stream) as Wire)
    };
    timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(failed(&"i/o timeout")))
}

/// Carries bytes both ways until both ends are done, or nothing goes any more.
pub(super) async fn relay(client: impl Duplex, pod: Wire) {
    let activity = Activity::new();
    let (client_from, client_to) = tokio::io::split(client);
    let (pod_from, pod_to) = tokio::io::split(pod);
    let both = async {
        tokio::try_join!(copy(client_from, pod_to, &activity), copy(pod_from, client_to, &activity))
    };
    tokio::select! {
        copied = both => if let Err(error) = copied {
            tracing::debug!(event = "connection ended", %error);
        },
        () = activity.idle() => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    activity: &Activity,
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        activity.touch();
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}
