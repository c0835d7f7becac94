//! What a durable proposal costs, against the disk alone.
//!
//! Prints one fdatasync of the same bytes, one proposal at a time on one server, and many at a
//! time. The first two should not be further apart than a factor of 2.
//! Run with `cargo bench -- propose`; `TMPDIR` chooses the disk.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay::raft::{Config, Disk, Machine, Node, RealDisk, TcpDial};

/// Proposals measured one after the other.
const ROUNDS: u32 = 3_000;

/// Clients that propose at the same time, and how much each.
const CLIENTS: u32 = 64;
const ROUNDS_PER_CLIENT: u32 = 500;

/// Bytes of one proposal, and of its record in the log.
const ENTRY_BYTES: usize = 256;
const RECORD_BYTES: usize = ENTRY_BYTES + 40;

/// Counts entries: the machine should not be what is measured.
struct Count(u64);

impl Machine for Count {
    type Response = u64;

    fn apply(&mut self, _: u64, _: u64, _: &[u8]) -> u64 {
        self.0 += 1;
        self.0
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let bytes = self.0.to_le_bytes().to_vec();
        Box::new(|| bytes)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.0 = u64::from_le_bytes(snapshot.try_into().map_err(|_| "not 8 bytes")?);
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.0
    }
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

fn report(what: &str, times: &[Duration], whole: Duration) {
    let (p50, p99) = (percentile(times.to_vec(), 50), percentile(times.to_vec(), 99));
    let rate = times.len() as f64 / whole.as_secs_f64();
    println!("{what:32} {rate:8.0}/s  p50 {p50:>10.1?}  p99 {p99:>10.1?}");
}

fn raw(dir: &std::path::Path) -> Result<Duration, Box<dyn Error>> {
    let path = dir.join("raw");
    RealDisk.prepare(&path, 8 << 20)?;
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    let mut times = Vec::new();
    let begin = Instant::now();
    for round in 0..u64::from(ROUNDS) {
        let started = Instant::now();
        RealDisk.write_at(&file, round * RECORD_BYTES as u64, &[1; RECORD_BYTES])?;
        RealDisk.sync(&file)?;
        times.push(started.elapsed());
    }
    report("fdatasync of the same bytes", &times, begin.elapsed());
    Ok(percentile(times, 50))
}

#[tokio::main]
pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let config = Config::new(dir.path().join("node"), "127.0.0.1:1");
    let node = Node::start(config, Count(0), Arc::new(TcpDial)).await?;
    node.init_single().await?;
    node.propose([1; ENTRY_BYTES]).await?;

    let disk = raw(dir.path())?;
    let mut times = Vec::new();
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        node.propose([1; ENTRY_BYTES]).await?;
        times.push(started.elapsed());
    }
    report("one proposal at a time", &times, begin.elapsed());
    let one = percentile(times, 50);
    println!("{:32} {:.2}", "proposal / fdatasync (p50)", one.as_secs_f64() / disk.as_secs_f64());

    let fsyncs = node.metrics().fsync.count;
    let begin = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let node = node.clone();
        clients.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..ROUNDS_PER_CLIENT {
                let started = Instant::now();
                let proposed = node.propose([1; ENTRY_BYTES]).await;
                proposed.map_err(|error| error.to_string())?;
                times.push(started.elapsed());
            }
            Ok::<_, String>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(client) = clients.join_next().await {
        times.extend(client??);
    }
    report(&format!("{CLIENTS} proposals at a time"), &times, begin.elapsed());
    let fsyncs = node.metrics().fsync.count - fsyncs;
    println!("{:32} {:.1}", "proposals for one fsync", times.len() as f64 / fsyncs as f64);
    node.shutdown().await?;
    Ok(())
}
