//! Snapshot files: one checksummed file each, made under another name and renamed when durable.
//! The two newest are kept, so that one gone bad leaves something to start from. What they hold is
//! read when somebody needs it: a snapshot is as large as the state, and hardly ever sent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::Error;
use super::disk::{Disk, sync_dir};
use super::log::lock;
use super::types::{LogId, SnapshotBytes, SnapshotMeta, term_of};

/// How many snapshot files stay.
const KEEP: usize = 2;

/// `magic u32 · meta length u32 · data length u64 · crc32 of meta u32 · crc32 of data u32`.
const HEADER_BYTES: usize = 24;

const MAGIC: u32 = 0x4d53_5331;

/// The snapshot directory; a cheap handle.
#[derive(Clone)]
pub(super) struct Snapshots(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    current: Mutex<Option<SnapshotMeta>>,
}

impl Snapshots {
    /// Opens the directory and looks for the newest good snapshot.
    pub(super) fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let at = format!("read the snapshots in {}", dir.display());
        std::fs::create_dir_all(dir).map_err(Error::io(&at))?;
        let newest = newest(dir).map_err(Error::io(&at))?;
        let current = Mutex::new(newest.map(|(meta, _)| meta));
        Ok(Self(Arc::new(Shared { dir: dir.to_owned(), disk, current })))
    }

    /// Reads the newest good snapshot. Blocks.
    pub(super) fn read(&self) -> io::Result<Option<(SnapshotMeta, SnapshotBytes)>> {
        let newest = newest(&self.0.dir)?;
        if newest.is_none() && lock(&self.0.current).is_some() {
            let text = format!("no good snapshot is left in {}", self.0.dir.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(newest)
    }

    /// The newest snapshot's last entry.
    pub(super) fn covered(&self) -> Option<LogId> {
        lock(&self.0.current).as_ref().and_then(|meta| meta.last_log_id)
    }

    /// Makes a snapshot durable and the current one, unless a newer one is there.
    ///
    /// Blocks; costs the snapshot's bytes in writes and one fsync. A full disk is an error and
    /// changes nothing.
    pub(super) fn save(&self, meta: &SnapshotMeta, data: &SnapshotBytes) -> io::Result<()> {
        let mut current = lock(&self.0.current);
        if current.as_ref().is_some_and(|there| there.last_log_id >= meta.last_log_id) {
            return Ok(());
        }
        let json = serde_json::to_vec(meta)?;
        let (index, term) = meta.last_log_id.map_or((0, 0), |id| (id.index, term_of(&id)));
        let path = self.0.dir.join(format!("{index:016x}-{term:016x}.snap"));
        let partial = self.0.dir.join("partial");
        let written = self.0.disk.write_file(&partial, &[&header(&json, data), &json, data]);
        if let Err(error) = written {
            // What was written so far takes the very space that is missing.
            if partial.exists() {
                std::fs::remove_file(&partial)?;
            }
            return Err(error);
        }
        std::fs::rename(&partial, path)?;
        sync_dir(&self.0.dir)?;
        *current = Some(meta.clone());
        drop(current);
        for old in files(&self.0.dir)?.into_iter().skip(KEEP) {
            std::fs::remove_file(old)?;
        }
        Ok(())
    }
}

/// The newest snapshot that is not damaged.
fn newest(dir: &Path) -> io::Result<Option<(SnapshotMeta, SnapshotBytes)>> {
    for path in files(dir)? {
        let found = decode(std::fs::read(&path)?);
        if found.is_some() {
            return Ok(found);
        }
        tracing::error!(file = %path.display(), "a snapshot is damaged: trying an older one");
    }
    Ok(None)
}

/// All snapshot files, newest first.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "snap") {
            files.push(path);
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    Ok(files)
}

fn header(json: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(&MAGIC.to_le_bytes());
    let len = u32::try_from(json.len()).expect("a membership is a few kilobytes");
    header.extend_from_slice(&len.to_le_bytes());
    header.extend_from_slice(&(data.len() as u64).to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(json).to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    header
}

fn decode(mut bytes: Vec<u8>) -> Option<(SnapshotMeta, SnapshotBytes)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if word(0)? != MAGIC {
        return None;
    }
    let json_len = usize::try_from(word(4)?).ok()?;
    let data_len = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    let split = HEADER_BYTES.checked_add(json_len)?;
    let json = bytes.get(HEADER_BYTES..split)?;
    let data = bytes.get(split..)?;
    if data.len() as u64 != data_len
        || crc32fast::hash(json) != word(16)?
        || crc32fast::hash(data) != word(20)?
    {
        return None;
    }
    let meta = serde_json::from_slice(json).ok()?;
    bytes.drain(..split);
    Some((meta, Arc::new(bytes)))
}
