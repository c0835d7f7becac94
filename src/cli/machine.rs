//! What verbs ask of the machine they run on.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::{
    model::{NodeName, Timestamp},
    trust::write_private,
};

/// The wall clock.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A name for a new cluster.
pub(super) fn random_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// The machine's host name in the form of a node's name.
pub(super) fn node_name() -> anyhow::Result<NodeName> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").context("host name")?;
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = host.trim().to_lowercase().chars().map(plain).collect();
    Ok(NodeName::new(name.trim_matches(['-', '.'])))
}

/// Cancelled when the process is asked to end (SIGTERM, SIGINT).
pub(super) fn terminated() -> anyhow::Result<CancellationToken> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(token)
}

/// The address from which this machine would reach others; nothing is sent. Loopback when it
/// reaches nobody.
pub(super) fn own_address() -> IpAddr {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    ask().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// The threads a verb that goes on running works with.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Runtime::new().map_err(|e| Error::ours(format!("no runtime: {e}")))
}

/// Writes a file that only its owner may read, and its folder where there is none.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = written.and_then(|()| write_private(path, bytes));
    written.map_err(|e| Error::ours(format!("{}: {e}", path.display())))
}
