//! One update of a pod to 1,000 and to 5,000 watchers, against a bare loop that writes the same
//! bytes to as many sockets. Both over the same TLS, in processes of their own, to the same
//! readers. Ours begins with the word that has the server propose the update. Run with
//! `cargo bench -- watchers`.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

use crate::{
    common::{self, Result, http::Client, part::Serving},
    serving::{self, NAMESPACE},
};

/// Pairs of one update and one loop.
const PAIRS: usize = 9;

pub(crate) fn run() -> Result<()> {
    for watchers in [1000, 5000] {
        common::title(&format!("watchers: one update to {watchers}"));
        let dir = tempfile::tempdir()?;
        common::keys(dir.path())?;
        tokio::runtime::Runtime::new()?.block_on(measure(dir.path(), watchers))?;
    }
    Ok(())
}

async fn measure(dir: &Path, watchers: usize) -> Result<()> {
    let mut api = serving::start("pod", dir)?;
    api.ask("quiet")?;
    let pod = api.ask("line")?;
    std::fs::write(dir.join(serving::BYTES), format!(r#"{{"type":"MODIFIED","object":{pod}}}"#))?;
    let mut bare = serving::start("loop", dir)?;
    let idle = api.memory_mib("VmRSS");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods?watch=1&resourceVersion=0");
    let ours_read = Readers::start(&api, dir, watchers, Some(&path)).await?;
    let held = api.memory_mib("VmRSS") - idle;
    let theirs_read = Readers::start(&bare, dir, watchers, None).await?;
    let (mut ours, mut theirs) = (vec![], vec![]);
    for round in 0..PAIRS {
        let begun = Instant::now();
        bare.ask("")?;
        theirs_read.all().await;
        theirs.push(common::ms(begun.elapsed()));
        let begun = Instant::now();
        api.ask(&format!("round {round}"))?;
        ours_read.all().await;
        ours.push(common::ms(begun.elapsed()));
    }
    common::compare(("update told to all", &ours), ("bare loop, same bytes", &theirs), 2.0);
    eprintln!("{:.1} KiB a watcher\n", held * 1024.0 / watchers as f64);
    Ok(())
}

/// Everybody who waits for lines.
struct Readers {
    count: usize,
    read: Arc<AtomicUsize>,
    all: Arc<Notify>,
}

impl Readers {
    /// Connects readers; those of `path` ask for it and have read their first line when this
    /// returns.
    async fn start(of: &Serving, dir: &Path, count: usize, path: Option<&str>) -> Result<Self> {
        let client = Client::new(dir, of.address)?;
        let (read, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        for _ in 0..count {
            let mut connection = client.connect().await?;
            if let Some(path) = path {
                connection.get(path).await?;
                connection.until(b"}\n").await?;
            }
            let (read, all) = (read.clone(), all.clone());
            tokio::spawn(async move {
                while connection.until(b"}\n").await.is_ok() {
                    if read.fetch_add(1, Ordering::Relaxed) + 1 == count {
                        all.notify_one();
                    }
                }
            });
        }
        Ok(Self { count, read, all })
    }

    /// Waits until each has read one line more.
    async fn all(&self) {
        self.all.notified().await;
        self.read.fetch_sub(self.count, Ordering::Relaxed);
    }
}
