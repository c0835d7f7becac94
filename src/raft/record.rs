//! One record of the write-ahead log, as bytes. Pure.
//!
//! Layout, little endian, padded with zeros to 8 bytes:
//! `magic u32 · crc32 u32 · payload length u32 · kind u8 · flags u8 · 0 u16 · epoch u64 ·
//! index u64 · term u64 · payload`. The crc covers everything behind itself.
//!
//! An *epoch* is what lies between two fsyncs. The first record of each epoch says so: a bad
//! record before it was once fsynced, so it is damage and not a write that power cut short.

/// Bytes in front of a payload.
pub(super) const HEADER_BYTES: usize = 40;

const MAGIC: u32 = 0x4d53_574c;
const FLAG_EPOCH_START: u8 = 1;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An entry without content, by which a new leader commits its predecessors' entries.
    Blank = 1,
    /// An entry with a proposal's bytes.
    Normal = 2,
    /// An entry with a membership (JSON).
    Membership = 3,
    /// Entries from `index` on are void.
    Truncate = 4,
    /// Entries up to `index` are committed. Payload: the last index in the log then.
    Commit = 5,
    /// A segment starts: `index` is its number. Payload: the last index in the log then, and the
    /// segment's bytes.
    Segment = 6,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Blank,
            2 => Self::Normal,
            3 => Self::Membership,
            4 => Self::Truncate,
            5 => Self::Commit,
            6 => Self::Segment,
            _ => return None,
        })
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    /// First record after an fsync.
    pub(super) epoch_start: bool,
    pub(super) epoch: u64,
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// Appends the record's bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let len = u32::try_from(self.payload.len()).expect("a payload is bounded to about 1 MiB");
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&len.to_le_bytes());
        let flags = if self.epoch_start { FLAG_EPOCH_START } else { 0 };
        out.extend_from_slice(&[self.kind as u8, flags, 0, 0]);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.term.to_le_bytes());
        out.extend_from_slice(self.payload);
        out.resize(start + padded(self.payload.len()), 0);
        let crc = crc32fast::hash(&out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the record at the front of `bytes`, with the bytes it takes; `None` if there is no
    /// whole, undamaged record.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        if bytes.len() < HEADER_BYTES || u32_at(bytes, 0) != MAGIC {
            return None;
        }
        let len = usize::try_from(u32_at(bytes, 8)).ok()?;
        let total = padded(len);
        if bytes.len() < total || crc32fast::hash(&bytes[8..total]) != u32_at(bytes, 4) {
            return None;
        }
        let record = Self {
            kind: Kind::of(bytes[12])?,
            epoch_start: bytes[13] & FLAG_EPOCH_START != 0,
            epoch: u64_at(bytes, 16),
            index: u64_at(bytes, 24),
            term: u64_at(bytes, 32),
            payload: &bytes[HEADER_BYTES..HEADER_BYTES + len],
        };
        Some((record, total))
    }

    /// The last index in the log when this record was written, 0 for none.
    pub(super) fn last_index(&self) -> u64 {
        match self.kind {
            Kind::Commit | Kind::Segment if self.payload.len() >= 8 => u64_at(self.payload, 0),
            Kind::Truncate => self.index.saturating_sub(1),
            Kind::Commit | Kind::Segment => 0,
            Kind::Blank | Kind::Normal | Kind::Membership => self.index,
        }
    }

    /// How long the segment file is that this record starts.
    pub(super) fn segment_bytes(&self) -> Option<u64> {
        (self.kind == Kind::Segment && self.payload.len() >= 16).then(|| u64_at(self.payload, 8))
    }
}

/// Bytes that a record with such a payload takes.
pub(super) fn padded(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(8)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
