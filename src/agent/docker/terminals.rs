//! Connections to processes and ports of containers. Docker's own connection is taken over as it
//! is: its bytes are decoded in `node::streams`, so that no byte of a terminal is guessed at, and
//! closing our sending side reaches the process as the end of its input.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use bollard::{
    exec::{CreateExecOptions, ResizeExecOptions},
    query_parameters::ResizeContainerTTYOptionsBuilder,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::{CALL, LOOK, Machine, deadline, error};
use crate::{
    agent::{
        command::{Netns, blocking},
        runtime::{Attached, Error, Process, Wire},
    },
    node::streams::{Command, Size},
};

/// Longest wait for a port inside a pod; on the same machine it answers or refuses at once.
const CONNECT: Duration = Duration::from_secs(10);

/// Most bytes of Docker's words when it refuses.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

impl Machine {
    pub(super) async fn start_command(
        &self,
        container: &str,
        command: &Command,
    ) -> Result<Attached, Error> {
        let options = CreateExecOptions {
            // Both outputs always: one that nobody reads must not stop the command.
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            attach_stdin: Some(command.stdin),
            tty: Some(command.tty),
            cmd: Some(command.command.clone()),
            ..CreateExecOptions::default()
        };
        let made = self.calls.within(CALL, self.docker.create_exec(container, options)).await?;
        let body = json!({ "Detach": false, "Tty": command.tty });
        let wire = self.take_over(&format!("/exec/{}/start", made.id), &body).await?;
        Ok(Attached { wire, tty: command.tty, process: Process::Exec(made.id) })
    }

    pub(super) async fn attach_to(
        &self,
        container: &str,
        command: &Command,
    ) -> Result<Attached, Error> {
        let seen = self.calls.within(LOOK, self.docker.inspect_container(container, None)).await?;
        let tty = seen.config.and_then(|c| c.tty).unwrap_or_default();
        let stdin = u8::from(command.stdin);
        let path =
            format!("/containers/{container}/attach?stream=1&stdout=1&stderr=1&stdin={stdin}");
        let wire = self.take_over(&path, &Value::Null).await?;
        Ok(Attached { wire, tty, process: Process::Container(container.to_owned()) })
    }

    pub(super) async fn resize_terminal(&self, process: &Process, size: Size) -> Result<(), Error> {
        let (width, height) = (size.width, size.height);
        match process {
            Process::Exec(id) => {
                let options = ResizeExecOptions { height, width };
                deadline(LOOK, self.docker.resize_exec(id, options)).await
            }
            Process::Container(id) => {
                let options = ResizeContainerTTYOptionsBuilder::new();
                let options = options.w(width.into()).h(height.into()).build();
                deadline(LOOK, self.docker.resize_container_tty(id, options)).await
            }
        }
    }

    pub(super) async fn connect_inside(&self, sandbox: &str, port: u16) -> Result<Wire, Error> {
        let seen = self.calls.within(LOOK, self.docker.inspect_container(sandbox, None)).await?;
        let pid = seen.state.and_then(|s| s.pid).filter(|pid| *pid > 0);
        let pid = pid.ok_or_else(|| Error::NotFound("the pod's sandbox does not run".into()))?;
        let netns = Netns::at(format!("/proc/{pid}/ns/net"));
        let dial = move || {
            let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            // What the first says is told: most pods have no other.
            TcpStream::connect_timeout(&v4, CONNECT)
                .or_else(|e| TcpStream::connect_timeout(&v6, CONNECT).map_err(|_| e))
        };
        let refused = |e: String| Error::Refused(format!("dial tcp 127.0.0.1:{port}: {e}"));
        let dialed = blocking(&netns, "dial", CONNECT * 2, dial).await;
        let stream =
            dialed.map_err(|e| refused(e.to_string()))?.map_err(|e| refused(dial_error(&e)))?;
        let ready = || {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            tokio::net::TcpStream::from_std(stream)
        };
        Ok(Box::new(ready().map_err(|e: std::io::Error| refused(e.to_string()))?))
    }

    /// Asks Docker for a connection and takes it over.
    async fn take_over(&self, path: &str, body: &Value) -> Result<Wire, Error> {
        let asked = tokio::time::timeout(CALL, hijack(&self.socket, path, body));
        asked.await.map_err(|_| Error::Unreachable(format!("no answer within {CALL:?}")))?
    }
}

/// Why a port does not answer, in the words that people know from Kubernetes.
pub(in crate::agent) fn dial_error(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}

async fn hijack(socket: &str, path: &str, body: &Value) -> Result<Wire, Error> {
    let unreachable = |e: &dyn std::error::Error| Error::Unreachable(e.to_string());
    let stream = UnixStream::connect(socket).await.map_err(|e| unreachable(&e))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(event = "hijacked connection ended", %error);
        }
    });
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::post(path)
        .header("host", "docker")
        .header("connection", "Upgrade")
        .header("upgrade", "tcp")
        .header("content-type", "application/json")
        .body(Full::new(body));
    let request = request.map_err(|e| Error::Refused(e.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(answer).await);
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|e| unreachable(&e))?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

async fn refusal(answer: hyper::Response<hyper::body::Incoming>) -> Error {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = said["message"].as_str().map(str::to_owned);
    let message = message.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    error(bollard::errors::Error::DockerResponseServerError {
        status_code: status.as_u16(),
        message,
    })
}
