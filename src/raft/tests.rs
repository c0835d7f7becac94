//! What is protected here: nothing acknowledged is ever lost silently, and every server ends with
//! the same state. Real files, real TCP; the disk fails on request.

mod cluster;
mod faults;
mod storage;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Disk, Machine, RealDisk};

/// A machine that keeps `key=value` entries and folds every entry into its digest.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) values: BTreeMap<String, String>,
    digest: u64,
}

impl Machine for Ledger {
    type Response = String;

    fn apply(&mut self, _: u64, _: u64, entry: &[u8]) -> String {
        let entry = String::from_utf8_lossy(entry).into_owned();
        let (key, value) = entry.split_once('=').unwrap_or((&entry, ""));
        let crc = u64::from(crc32fast::hash(entry.as_bytes()));
        self.digest = self.digest.rotate_left(7) ^ crc;
        self.values.insert(key.to_owned(), value.to_owned()).unwrap_or_default()
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let state = (self.digest, self.values.clone());
        Box::new(move || serde_json::to_vec(&state).unwrap())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        (self.digest, self.values) =
            serde_json::from_slice(snapshot).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.digest
    }
}

/// A disk that is full or broken while a test says so.
#[derive(Default)]
pub(super) struct FailingDisk {
    /// New space is refused (ENOSPC), after half of it was written.
    pub(super) full: AtomicBool,
    /// Fsyncs fail (EIO).
    pub(super) broken: AtomicBool,
    /// Writes stop half way with EIO.
    pub(super) short: AtomicBool,
}

impl FailingDisk {
    fn space(&self, path: &Path, len: u64) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            RealDisk.prepare(path, len / 2)?;
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }
}

impl Disk for FailingDisk {
    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.short.load(Ordering::SeqCst) {
            RealDisk.write_at(file, offset, &bytes[..bytes.len() / 2])?;
            return Err(io::Error::from_raw_os_error(5));
        }
        RealDisk.write_at(file, offset, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        RealDisk.sync(file)
    }

    fn prepare(&self, path: &Path, len: u64) -> io::Result<()> {
        self.space(path, len)?;
        RealDisk.prepare(path, len)
    }

    fn write_file(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        self.space(path, parts.iter().map(|part| part.len() as u64).sum())?;
        RealDisk.write_file(path, parts)
    }
}
