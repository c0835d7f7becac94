//! What the bytes of the log's segments still say after a crash. Pure.
//!
//! The one question that matters: is a bad record the tail of a write that power cut short (then
//! nobody was told that it was there, and it goes), or damage to something once fsynced (then
//! cutting it off would silently lose what a majority may count on)?

use std::collections::VecDeque;

use super::record::{Kind, Record};

/// Where an entry's record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// The whole record's bytes, header and padding included.
    pub(super) bytes: usize,
}

/// One live entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) place: Place,
}

/// How the log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tail {
    /// With the last record written.
    Clean,
    /// With a write that was never acknowledged; what lies behind the end is void.
    Torn,
    /// A record that was once fsynced is bad; what lies behind the end cannot be trusted to be
    /// everything.
    Damaged {
        /// Segment, byte and reason, for a person.
        what: String,
        /// No entry above this index was in the log; `None` if nothing tells how many are lost.
        last_index: Option<u64>,
    },
}

/// What the segments say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scan {
    /// Live entries, consecutive, the first one right behind `purged`.
    pub(super) entries: VecDeque<Found>,
    /// Highest committed index and term that was noted.
    pub(super) committed: Option<(u64, u64)>,
    /// The highest epoch seen.
    pub(super) epoch: u64,
    /// Segment and byte where the good part ends.
    pub(super) end: (u64, usize),
    /// The highest index each segment ever held.
    pub(super) highest: Vec<(u64, u64)>,
    pub(super) tail: Tail,
}

/// Reads all segments (number, bytes) in order, of which entries up to `purged` are void.
pub(super) fn scan(segments: &[(u64, Vec<u8>)], purged: Option<u64>) -> Scan {
    let mut scan = Scan {
        entries: VecDeque::new(),
        committed: None,
        epoch: 0,
        end: segments.first().map_or((0, 0), |first| (first.0, 0)),
        highest: Vec::new(),
        tail: Tail::Clean,
    };
    for (position, (number, bytes)) in segments.iter().enumerate() {
        scan.highest.push((*number, 0));
        let mut at = 0;
        if let Some(why) = misplaced(segments, position) {
            scan.end = (*number, at);
            scan.tail = Tail::Damaged { what: why, last_index: None };
            return scan;
        }
        while let Some((record, len)) = Record::decode(&bytes[at..]) {
            let place = Place { segment: *number, offset: at as u64, bytes: len };
            if let Err(why) = scan.take(&record, place, purged) {
                scan.end = (*number, at);
                scan.tail = damaged(&segments[position..], at, &why, scan.last(purged));
                return scan;
            }
            at += len;
        }
        scan.end = (*number, at);
        let last_segment = position + 1 == segments.len();
        if !last_segment && zeros(&bytes[at..]) {
            continue;
        }
        scan.tail = tail(&segments[position..], at, &scan, purged);
        if scan.tail != Tail::Clean || last_segment {
            return scan;
        }
    }
    scan
}

/// Why a segment file cannot be what was written, judged by its name and length alone.
fn misplaced(segments: &[(u64, Vec<u8>)], position: usize) -> Option<String> {
    let (number, bytes) = &segments[position];
    let before = position.checked_sub(1).map(|before| segments[before].0);
    if before.is_some_and(|before| before + 1 != *number) {
        return Some(format!("log segment {} is missing", number - 1));
    }
    let whole = Record::decode(bytes).and_then(|(first, _)| first.segment_bytes());
    (bytes.is_empty() || whole.is_some_and(|whole| whole > bytes.len() as u64))
        .then(|| format!("log segment {number} is cut short"))
}

impl Scan {
    /// The last index of the good part.
    fn last(&self, purged: Option<u64>) -> u64 {
        self.entries.back().map_or(purged.unwrap_or(0), |entry| entry.index)
    }

    /// Takes in one good record; the error says why it cannot follow what came before.
    fn take(
        &mut self,
        record: &Record<'_>,
        place: Place,
        purged: Option<u64>,
    ) -> Result<(), String> {
        self.epoch = self.epoch.max(record.epoch);
        match record.kind {
            Kind::Truncate => {
                while self.entries.back().is_some_and(|entry| entry.index >= record.index) {
                    self.entries.pop_back();
                }
            }
            Kind::Commit => {
                self.committed = self.committed.max(Some((record.index, record.term)));
            }
            Kind::Segment => {
                if record.index != place.segment {
                    return Err(format!("it says it is segment {}", record.index));
                }
                if record.last_index() > self.last(purged) {
                    return Err(format!("entries up to {} are missing", record.last_index()));
                }
            }
            Kind::Blank | Kind::Normal | Kind::Membership => self.entry(record, place, purged)?,
        }
        Ok(())
    }

    fn entry(
        &mut self,
        record: &Record<'_>,
        place: Place,
        purged: Option<u64>,
    ) -> Result<(), String> {
        if let Some(segment) = self.highest.last_mut() {
            segment.1 = segment.1.max(record.index);
        }
        if purged.is_some_and(|purged| record.index <= purged) {
            return Ok(());
        }
        let next = match self.entries.back() {
            Some(entry) => entry.index + 1,
            None => purged.map_or(0, |purged| purged + 1),
        };
        if record.index != next {
            return Err(format!("entry {} stands where {next} should", record.index));
        }
        self.entries.push_back(Found { index: record.index, term: record.term, place });
        Ok(())
    }
}

/// Judges what lies behind the last good record.
fn tail(segments: &[(u64, Vec<u8>)], at: usize, scan: &Scan, purged: Option<u64>) -> Tail {
    // A segment is fsynced before the next one is begun.
    let fsynced = segments.len() > 1 || behind(segments, at).iter().any(|(_, r)| r.epoch_start);
    if fsynced {
        return damaged(segments, at, "a record is bad", scan.last(purged));
    }
    if zeros(&segments[0].1[at..]) { Tail::Clean } else { Tail::Torn }
}

fn damaged(segments: &[(u64, Vec<u8>)], at: usize, why: &str, last: u64) -> Tail {
    let behind = behind(segments, at);
    let last_index = behind.iter().map(|(_, r)| r.last_index()).max().unwrap_or(0).max(last);
    let last_index = Some(last_index);
    Tail::Damaged {
        what: format!("log segment {} is damaged at byte {at}: {why}", segments[0].0),
        last_index,
    }
}

/// All good records from byte `at` of the first segment on, at whatever multiple of 8 they start.
fn behind(segments: &[(u64, Vec<u8>)], at: usize) -> Vec<(u64, Record<'_>)> {
    let mut found = Vec::new();
    for (position, (number, bytes)) in segments.iter().enumerate() {
        let mut at = if position == 0 { at } else { 0 };
        while at < bytes.len() {
            match Record::decode(&bytes[at..]) {
                Some((record, len)) => {
                    found.push((*number, record));
                    at += len;
                }
                None => at += 8,
            }
        }
    }
    found
}

fn zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
