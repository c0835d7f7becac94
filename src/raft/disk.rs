//! The few disk operations whose failure the log must survive, behind a trait so that tests can
//! make them fail: a full disk, a broken one, a write that stops half way.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes written at a time when a new file is filled with zeros.
const ZEROS_BYTES: usize = 256 * 1024;

/// The disk as the log uses it.
pub trait Disk: Send + Sync + 'static {
    /// Writes all bytes at an offset inside a file that is already that long.
    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable (fdatasync). A failure is never retried: after one, the
    /// kernel may have dropped the pages and a second call would answer "done" for lost data.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Makes a file of `len` zero bytes, all allocated and durable.
    fn prepare(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Writes a whole new file and makes it durable.
    fn write_file(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()>;
}

/// The operating system's disk.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn prepare(&self, path: &Path, len: u64) -> io::Result<()> {
        // Written zeros, not fallocate: writing into an unwritten extent changes metadata, which
        // makes every later fdatasync wait for the file system's journal.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let zeros = vec![0; ZEROS_BYTES];
        let mut left = len;
        while left > 0 {
            let n = left.min(ZEROS_BYTES as u64);
            file.write_all(&zeros[..usize::try_from(n).unwrap_or(ZEROS_BYTES)])?;
            left -= n;
        }
        file.sync_all()
    }

    fn write_file(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()
    }
}

/// Makes a directory's entries (new names, renames) durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether an error means that space may come back, so that waiting is right.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
