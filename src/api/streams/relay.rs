//! Carries bytes both ways between a client and an agent.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::{Instant, sleep_until},
};

use crate::api::gate::Held;

/// A stream on which nothing went either way for so long is closed. The agent closes its end after
/// four hours; this is for one that cannot any more.
const IDLE_MAX: Duration = Duration::from_secs(4 * 60 * 60 + 60);

/// Bytes on the way in each direction.
const CHUNK_BYTES: usize = 32 << 10;

/// Joins two connections as soon as both have switched protocols, until both directions are over;
/// `held` is let go then.
pub(super) fn join(client: OnUpgrade, agent: OnUpgrade, held: Held) {
    tokio::spawn(async move {
        let _held = held;
        match tokio::try_join!(client, agent) {
            Ok((client, agent)) => relay(TokioIo::new(client), TokioIo::new(agent)).await,
            Err(error) => tracing::debug!(event = "stream not begun", %error),
        }
    });
}

async fn relay(
    client: impl AsyncRead + AsyncWrite + Send,
    agent: impl AsyncRead + AsyncWrite + Send,
) {
    let last = Mutex::new(Instant::now());
    let (client_from, client_to) = split(client);
    let (agent_from, agent_to) = split(agent);
    let both = async {
        tokio::try_join!(copy(client_from, agent_to, &last), copy(agent_from, client_to, &last))
    };
    tokio::select! {
        copied = both => if let Err(error) = copied {
            tracing::debug!(event = "stream broken off", %error);
        },
        () = idle(&last) => {}
    }
}

/// One direction; its end is passed on, and the other goes on.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    last: &Mutex<Instant>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}

async fn idle(last: &Mutex<Instant>) {
    loop {
        let until = *last.lock().unwrap_or_else(PoisonError::into_inner) + IDLE_MAX;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}
