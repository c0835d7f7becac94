//! The session with a server: dials one after the other until one that leads answers, and keeps the
//! talk going.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

use super::clock;
use crate::{
    model::session::{Hello, ToAgent, ToServer},
    trust::{read_frame, write_frame},
};

/// Between two heartbeats. A server takes a node for lost after tens of seconds.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// How long a server may be silent, heartbeats being answered, before another one is dialled.
const SILENCE_MAX: Duration = Duration::from_secs(12);

/// How long dialling and the handshake may take.
const DIAL_MAX: Duration = Duration::from_secs(5);

/// The first and the longest pause between two rounds of dialling.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What the session tells the agent.
#[derive(Debug)]
pub enum News {
    /// A session is open: report everything once more.
    Open,
    /// A server said something.
    Said(Box<ToAgent>),
    /// The session has ended.
    Closed,
}

/// Keeps sessions until `reports` is closed. What is sent into `reports` while no session is open
/// is dropped by the agent, which reports everything at [`News::Open`].
pub async fn run(
    tls: watch::Receiver<Arc<ClientConfig>>,
    mut servers: watch::Receiver<Vec<String>>,
    hello: impl Fn() -> Hello,
    news: mpsc::Sender<News>,
    mut reports: mpsc::Receiver<ToServer>,
) {
    let mut pause = PAUSE.0;
    let mut next: VecDeque<String> = VecDeque::new();
    loop {
        if next.is_empty() {
            next.extend(servers.borrow_and_update().iter().cloned());
        }
        let Some(address) = next.pop_front() else { return };
        let config = tls.borrow().clone();
        match session(config, &address, hello(), &news, &mut reports).await {
            Ok(Some(leader)) if !leader.is_empty() => {
                next.retain(|a| *a != leader);
                next.push_front(leader);
            }
            Ok(_) => pause = PAUSE.0,
            Err(Ended::Stopped) => return,
            Err(Ended::Io(error)) => {
                tracing::info!(event = "no session", server = address, %error);
            }
        }
        if news.send(News::Closed).await.is_err() {
            return;
        }
        // Reports that nobody takes are drained here, or the agent would wait for a session.
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(until) => break,
                report = reports.recv() => if report.is_none() { return },
            }
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

enum Ended {
    Stopped,
    Io(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One session; ends with the leader's address when the server does not lead.
async fn session(
    config: Arc<ClientConfig>,
    address: &str,
    hello: Hello,
    news: &mpsc::Sender<News>,
    reports: &mut mpsc::Receiver<ToServer>,
) -> Result<Option<String>, Ended> {
    let stream = timeout(DIAL_MAX, dial(config, address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (mut reader, mut writer) = tokio::io::split(stream);
    write_frame(&mut writer, &ToServer::Hello(hello)).await?;
    let (said, mut heard) = mpsc::channel(1);
    let listening = listen(&mut reader, said);
    let talking = async {
        // The first word tells whether this server leads.
        let mut open = false;
        let mut beat = Instant::now() + HEARTBEAT;
        loop {
            tokio::select! {
                message = heard.recv() => match message {
                    Some(ToAgent::Goodbye(leader)) => return Ok(Some(leader)),
                    Some(message) => {
                        if !open {
                            open = true;
                            tracing::info!(event = "session", server = address);
                            news.send(News::Open).await.map_err(|_| Ended::Stopped)?;
                        }
                        let said = News::Said(Box::new(message));
                        news.send(said).await.map_err(|_| Ended::Stopped)?;
                    }
                    None => return Ok(None),
                },
                report = reports.recv() => match report {
                    Some(report) if open => write_within(&mut writer, &report).await?,
                    Some(_) => {}
                    None => return Err(Ended::Stopped),
                },
                () = sleep_until(beat) => {
                    beat = Instant::now() + HEARTBEAT;
                    write_within(&mut writer, &ToServer::Heartbeat(clock::now())).await?;
                }
            }
        }
    };
    tokio::select! {
        result = talking => result,
        result = listening => result.map(|()| None).map_err(Ended::Io),
    }
}

pub(super) async fn dial(
    config: Arc<ClientConfig>,
    address: &str,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {e}")))?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// Reads until the server is silent for too long. When it closes, `said` is closed and whoever
/// talks ends the session, having heard everything that was said before.
async fn listen<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    said: mpsc::Sender<ToAgent>,
) -> io::Result<()> {
    loop {
        let frame = timeout(SILENCE_MAX, read_frame::<ToAgent>(reader)).await;
        let frame = frame.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let Some(message) = frame? else { break };
        if said.send(message).await.is_err() {
            break;
        }
    }
    drop(said);
    std::future::pending().await
}

/// Writes one message; a server that takes nothing for too long has gone.
async fn write_within<S: AsyncWrite>(
    writer: &mut WriteHalf<S>,
    message: &ToServer,
) -> io::Result<()> {
    let written = timeout(SILENCE_MAX, write_frame(writer, message)).await;
    written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
