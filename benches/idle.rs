//! What a server costs that has nothing to do: resident memory, processor time and flushed bytes of
//! ten seconds. (Agents are measured with real pods in the tests.) Run with
//! `cargo bench -- idle`.

use std::time::Duration;

use crate::common::{self, Result};

/// How long the quiet server is watched.
const WATCHED: Duration = Duration::from_secs(10);

#[tokio::main]
pub(crate) async fn run() -> Result<()> {
    common::title("idle: one server, an empty repository");
    let dir = tempfile::tempdir()?;
    let repository = dir.path().join("repo.git");
    mainstay::git::embedded::init(&repository)?;
    common::keys(dir.path())?;
    let server = common::server(dir.path(), &repository).await?;
    // The first look and its status commit.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (cpu, fsyncs, written) = (common::cpu_ms(), fsyncs(&server), written());
    tokio::time::sleep(WATCHED).await;
    let seconds = WATCHED.as_secs_f64();
    let share = (common::cpu_ms() - cpu) / 10.0 / seconds;
    let rss = common::memory_mib("VmRSS");
    let verdict = if rss <= 64.0 { "reached" } else { "NOT reached" };
    eprintln!("resident {rss:.1} MiB (at most 64: {verdict})");
    eprintln!("processor {share:.2} % of a core");
    eprintln!(
        "written {:.0} bytes, log records {}",
        self::written() - written,
        self::fsyncs(&server) - fsyncs
    );
    server.stop().await;
    Ok(())
}

/// Bytes this process has written to disks.
fn written() -> f64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: "));
    line.and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
}

/// Changes of State, each of which costs a flush.
fn fsyncs(server: &mainstay::server::Server) -> u64 {
    server.store().view().revision().0
}
