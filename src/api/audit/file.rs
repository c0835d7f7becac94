//! The audit log's file, and the thread that writes it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::sync::mpsc;

use super::event::AuditLevel;
use crate::report::Sample;

/// Most events that wait for the disk. With bodies they have up to 64 KiB each, so this bounds
/// memory; without, a disk may be away for as long as a thousand requests take.
const QUEUE_EVENTS_MAX: usize = 1024;

/// Milliseconds that a request waits when the queue is full, before its event counts as lost.
const QUEUE_WAIT_MS_MAX: u64 = 100;

/// Most events that are written at once.
const BATCH_EVENTS_MAX: usize = 128;

/// Who may read the file: its owner.
const MODE: u32 = 0o600;

/// Where and how much is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// The file that events are appended to.
    pub file: PathBuf,
    /// How much of a request is written.
    pub level: AuditLevel,
    /// Size in bytes at which the file is put aside.
    pub file_bytes_max: u64,
    /// How many files that were put aside are kept.
    pub files_kept: usize,
}

/// Where events go. Clones write to the same file.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Queue>>);

struct Queue {
    lines: mpsc::Sender<String>,
    level: AuditLevel,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    events: AtomicU64,
    lost: AtomicU64,
    /// Whether the last thing that happened was a loss: then nobody waits any more.
    losing: AtomicBool,
}

impl Audit {
    /// Writes nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Opens the file and starts the thread that writes it, which ends with the last clone. An
    /// error when the file cannot be opened.
    pub fn open(settings: AuditSettings) -> io::Result<Self> {
        let (lines, queue) = mpsc::channel(QUEUE_EVENTS_MAX);
        let (level, counts) = (settings.level, Arc::new(Counts::default()));
        let writer = Writer::open(settings, counts.clone())?;
        std::thread::Builder::new().name("audit".to_owned()).spawn(|| writer.run(queue))?;
        Ok(Self(Some(Arc::new(Queue { lines, level, counts }))))
    }

    /// How much of a request is written; nothing when there is no log.
    pub(in crate::api) fn level(&self) -> Option<AuditLevel> {
        self.0.as_ref().map(|queue| queue.level)
    }

    /// Brings an event on its way to the file, and waits for room, shortly.
    pub(super) async fn write(&self, event: &Value) {
        let Some(queue) = &self.0 else { return };
        queue.counts.events.fetch_add(1, Ordering::Relaxed);
        let losing = queue.counts.losing.load(Ordering::Relaxed);
        let wait = Duration::from_millis(if losing { 0 } else { QUEUE_WAIT_MS_MAX });
        match tokio::time::timeout(wait, queue.lines.reserve()).await {
            Ok(Ok(place)) => place.send(format!("{event}\n")),
            _ => queue.counts.lose(1, "the file is written too slowly"),
        }
    }

    /// As [`write`](Self::write), where nobody can wait.
    pub(super) fn offer(&self, event: &Value) {
        let Some(queue) = &self.0 else { return };
        queue.counts.events.fetch_add(1, Ordering::Relaxed);
        if queue.lines.try_send(format!("{event}\n")).is_err() {
            queue.counts.lose(1, "the file is written too slowly");
        }
    }

    /// How many events there were, and how many of them are not in the file.
    pub(in crate::api) fn samples(&self) -> Vec<Sample> {
        let Some(queue) = &self.0 else { return Vec::new() };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        vec![
            Sample::new("apiserver_audit_error_total", &["log"], count(&queue.counts.lost)),
            Sample::new("apiserver_audit_event_total", &[], count(&queue.counts.events)),
        ]
    }
}

impl Counts {
    fn lose(&self, events: u64, why: &str) {
        self.lost.fetch_add(events, Ordering::Relaxed);
        if !self.losing.swap(true, Ordering::Relaxed) {
            tracing::error!(event = "audit events lost", why, "the audit log has gaps from here");
        }
    }

    fn well(&self) {
        if self.losing.swap(false, Ordering::Relaxed) {
            let lost = self.lost.load(Ordering::Relaxed);
            tracing::warn!(event = "audit log is written again", lost);
        }
    }
}

/// The file that is written.
struct Writer {
    settings: AuditSettings,
    file: File,
    bytes: u64,
    /// Devices and pipes have no size, and cannot be put aside.
    rotates: bool,
    /// Whether the file may end within a line.
    torn: bool,
    counts: Arc<Counts>,
}

impl Writer {
    fn open(settings: AuditSettings, counts: Arc<Counts>) -> io::Result<Self> {
        let file = open(&settings.file)?;
        let facts = file.metadata()?;
        let (bytes, rotates) = (facts.len(), facts.is_file());
        Ok(Self { settings, file, bytes, rotates, torn: false, counts })
    }

    fn run(mut self, mut queue: mpsc::Receiver<String>) {
        let mut batch = Vec::new();
        while queue.blocking_recv_many(&mut batch, BATCH_EVENTS_MAX) > 0 {
            match self.append(&batch.concat()) {
                Ok(()) => self.counts.well(),
                Err(error) => {
                    let why = format!("{}: {error}", self.settings.file.display());
                    self.counts.lose(batch.len() as u64, &why);
                }
            }
            batch.clear();
        }
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        let bytes = self.bytes + text.len() as u64;
        if self.rotates && self.bytes > 0 && bytes > self.settings.file_bytes_max {
            self.rotate()?;
        }
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        self.torn = true;
        self.file.write_all(text.as_bytes())?;
        self.torn = false;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Puts the file aside as `.1`, what was `.1` as `.2`, and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.settings.file;
        for n in (1..self.settings.files_kept).rev() {
            moved(&aside(path, n), &aside(path, n + 1))?;
        }
        match self.settings.files_kept {
            0 => std::fs::remove_file(path)?,
            _ => moved(path, &aside(path, 1))?,
        }
        self.file = open(path)?;
        (self.bytes, self.torn) = (0, false);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

fn aside(path: &Path, n: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// Moves a file that may not be there.
fn moved(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
impl Audit {
    /// One whose queue has room for a single event and is never emptied.
    pub(super) fn stuck() -> (Self, mpsc::Receiver<String>) {
        let (lines, queue) = mpsc::channel(1);
        let (level, counts) = (AuditLevel::Metadata, Arc::new(Counts::default()));
        (Self(Some(Arc::new(Queue { lines, level, counts }))), queue)
    }
}
