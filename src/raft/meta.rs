//! The few facts beside the log that may never be lost or go back: the vote, what was purged, and
//! whether entries are being fetched again.
//!
//! One file with two equal slots, written one after the other with an fsync each. A slot cut
//! short by power leaves the other one, and one that goes bad later never brings an older vote
//! back, since the other says the same. Written in place: a full disk cannot keep a vote out.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::disk::Disk;
use super::types::{LogId, Vote};

/// Bytes of one slot: a file system block, so that the slots never share one.
const SLOT_BYTES: usize = 4096;

/// `magic u32 · crc32 u32 · length u32 · 0 u32` in front of the JSON.
const SLOT_HEADER_BYTES: usize = 16;

const MAGIC: u32 = 0x4d53_4d54;

/// What one slot holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Grows by one with every write.
    pub(super) generation: u64,
    pub(super) vote: Option<Vote>,
    /// The last entry that was deleted because a snapshot covers it.
    pub(super) purged: Option<LogId>,
    /// Voters by the last membership in the log: how we know, with a damaged log, whether others
    /// have a copy of it.
    pub(super) voters: BTreeSet<u64>,
    /// While set, entries up to this index were lost here and are fetched from the leader; until
    /// they are applied this server votes for nobody.
    pub(super) heal: Option<u64>,
}

/// The open file.
pub(super) struct MetaFile {
    path: PathBuf,
    file: File,
}

impl MetaFile {
    /// Whether there is such a file.
    pub(super) fn exists(path: &Path) -> bool {
        path.exists()
    }

    /// Makes the file with its first content.
    pub(super) fn create(path: &Path, disk: &dyn Disk) -> Result<(Self, Meta), Error> {
        let partial = path.with_extension("new");
        let meta = Meta { generation: 1, ..Meta::default() };
        let slot = encode(&meta);
        let at = || format!("create {}", path.display());
        disk.write_file(&partial, &[&slot, &slot]).map_err(Error::io(at()))?;
        std::fs::rename(&partial, path).map_err(Error::io(at()))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        super::disk::sync_dir(dir).map_err(Error::io(at()))?;
        Self::open(path)
    }

    /// Opens the file and reads the newer good slot.
    pub(super) fn open(path: &Path) -> Result<(Self, Meta), Error> {
        let at = || format!("read {}", path.display());
        let bytes = std::fs::read(path).map_err(Error::io(at()))?;
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(Error::io(at()))?;
        let slots = bytes.chunks(SLOT_BYTES).filter_map(decode);
        let Some(meta) = slots.max_by_key(|meta| meta.generation) else {
            return Err(Error::Damaged {
                what: format!("{} is damaged in both copies", path.display()),
                hint: "how this server voted is lost, so it may not vote again: stop it, remove \
                       its data directory, remove it from the cluster and let it join anew"
                    .into(),
            });
        };
        Ok((Self { path: path.to_owned(), file }, meta))
    }

    /// Makes `meta` durable, raising its generation.
    pub(super) fn write(&self, meta: &mut Meta, disk: &dyn Disk) -> io::Result<()> {
        meta.generation += 1;
        let slot = encode(meta);
        for offset in [0, SLOT_BYTES as u64] {
            disk.write_at(&self.file, offset, &slot)?;
            disk.sync(&self.file)?;
        }
        tracing::debug!(file = %self.path.display(), generation = meta.generation, "meta written");
        Ok(())
    }
}

fn encode(meta: &Meta) -> Vec<u8> {
    let json = serde_json::to_vec(meta).expect("plain values become JSON");
    assert!(json.len() <= SLOT_BYTES - SLOT_HEADER_BYTES, "a slot holds about 150 voters");
    let len = u32::try_from(json.len()).expect("bounded by a slot");
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend_from_slice(&MAGIC.to_le_bytes());
    slot.extend_from_slice(&crc32fast::hash(&json).to_le_bytes());
    slot.extend_from_slice(&len.to_le_bytes());
    slot.extend_from_slice(&[0; 4]);
    slot.extend_from_slice(&json);
    slot.resize(SLOT_BYTES, 0);
    slot
}

fn decode(slot: &[u8]) -> Option<Meta> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(slot.get(at..at + 4)?.try_into().ok()?))
    };
    if word(0)? != MAGIC {
        return None;
    }
    let len = usize::try_from(word(8)?).ok()?;
    let json = slot.get(SLOT_HEADER_BYTES..SLOT_HEADER_BYTES.checked_add(len)?)?;
    if crc32fast::hash(json) != word(4)? {
        return None;
    }
    serde_json::from_slice(json).ok()
}
