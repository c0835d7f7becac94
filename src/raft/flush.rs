//! The thread that writes the log, and the one that prepares its next segment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::storage::IOFlushed;

use super::disk::{Disk, is_full, sync_dir};
use super::log::{MetaChange, Op, Options, Shared, lock};
use super::meta::MetaFile;
use super::record::{Kind, Record, padded};
use super::recover::{Place, Scan};
use super::types::{LogId, Members, Types, term_of};

/// Most requests taken for one fsync.
const FLUSH_OPS_MAX: usize = 1024;

/// After this long without a write, what was written but not asked to be durable (how far the
/// log is committed) is fsynced once. After that an idle log touches no disk.
const QUIET: Duration = Duration::from_millis(200);

/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// The path of a segment.
pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.wal"))
}

fn spare_path(dir: &Path) -> PathBuf {
    dir.join("spare")
}

/// The segment prepared ahead. While there is none for lack of space, the disk counts as full.
pub(super) struct Spare {
    state: Mutex<SpareState>,
    changed: Condvar,
    full: AtomicBool,
}

enum SpareState {
    Wanted,
    Ready,
    Failed(String),
    Stop,
}

impl Spare {
    pub(super) fn new() -> Self {
        let state = Mutex::new(SpareState::Wanted);
        Self { state, changed: Condvar::new(), full: AtomicBool::new(false) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        *lock(&self.state) = SpareState::Stop;
        self.changed.notify_all();
    }

    /// Prepares a segment whenever there is none, until stopped.
    pub(super) fn keep(&self, dir: &Path, disk: &dyn Disk, bytes: u64) {
        loop {
            let mut state = lock(&self.state);
            while matches!(*state, SpareState::Ready | SpareState::Failed(_)) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if matches!(*state, SpareState::Stop) {
                return;
            }
            drop(state);
            let prepared = disk.prepare(&spare_path(dir), bytes);
            let mut state = lock(&self.state);
            match prepared {
                _ if matches!(*state, SpareState::Stop) => return,
                Ok(()) => {
                    *state = SpareState::Ready;
                    if self.full.swap(false, Ordering::Relaxed) {
                        tracing::info!("space is back: proposals are accepted again");
                    }
                }
                Err(error) if is_full(&error) => {
                    if !self.full.swap(true, Ordering::Relaxed) {
                        tracing::error!(%error, "the disk is full: proposals are refused");
                    }
                    let wait = self.changed.wait_timeout(state, FULL_RETRY);
                    drop(wait.unwrap_or_else(PoisonError::into_inner));
                }
                Err(error) => *state = SpareState::Failed(error.to_string()),
            }
            self.changed.notify_all();
        }
    }

    /// Waits for the prepared segment and gives it its name.
    fn take(&self, dir: &Path, number: u64) -> io::Result<File> {
        let mut state = lock(&self.state);
        loop {
            match &*state {
                SpareState::Ready => break,
                SpareState::Failed(why) => return Err(io::Error::other(why.clone())),
                SpareState::Stop => return Err(io::Error::other("the log is closed")),
                SpareState::Wanted => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let path = segment_path(dir, number);
        std::fs::rename(spare_path(dir), &path)?;
        sync_dir(dir)?;
        *state = SpareState::Wanted;
        self.changed.notify_all();
        OpenOptions::new().read(true).write(true).open(path)
    }

    /// Waits before a full disk is tried again; the error says that the log was closed meanwhile.
    fn wait_for_space(&self) -> io::Result<()> {
        let state = lock(&self.state);
        let wait = self.changed.wait_timeout(state, FULL_RETRY);
        let (state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        match *state {
            SpareState::Stop => Err(io::Error::other("the log is closed")),
            _ => Ok(()),
        }
    }
}

/// Writes what is queued, in order, with as few fsyncs as possible.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    options: Options,
    meta_file: MetaFile,
    /// The last index in the log as written so far.
    last: u64,
    /// The highest index each segment ever held.
    highest: BTreeMap<u64, u64>,
    /// The segment being written, and its end; `None` before the very first one.
    segment: Option<u64>,
    offset: u64,
    epoch: u64,
    epoch_start: bool,
    /// Records that belong at `offset` but are not written yet.
    buffer: Vec<u8>,
    places: Vec<(LogId, Place)>,
    /// Who is told after the next fsync.
    waiting: Vec<IOFlushed<Types>>,
    /// Something was put since the last fsync that is only done after one.
    must_sync: bool,
    /// Something was written since the last fsync.
    unsynced: bool,
    /// Voters of a membership that was put but is not in the meta file yet.
    voters: Option<BTreeSet<u64>>,
}

impl Flusher {
    /// A flusher that goes on at `end`, where epoch `epoch` ended.
    pub(super) fn new(
        shared: Arc<Shared>,
        options: Options,
        meta_file: MetaFile,
        end: Option<(u64, usize)>,
        scan: Scan,
    ) -> Self {
        let last = lock(&shared.inner).last().map_or(0, |id| id.index);
        let open = |number: &u64| lock(&shared.inner).files.contains_key(number);
        let highest = scan.highest.into_iter().filter(|(number, _)| open(number)).collect();
        Self {
            shared,
            options,
            meta_file,
            last,
            highest,
            segment: end.map(|end| end.0),
            offset: end.map_or(0, |end| end.1 as u64),
            epoch: scan.epoch + 1,
            epoch_start: true,
            buffer: Vec::new(),
            places: Vec::new(),
            waiting: Vec::new(),
            must_sync: false,
            unsynced: false,
            voters: None,
        }
    }

    /// Works until the log is closed or the disk fails.
    pub(super) fn run(mut self, ops: &Receiver<Op>) {
        loop {
            let mut batch = VecDeque::new();
            let result = match self.next(ops) {
                Ok(Some(first)) => {
                    batch.push_back(first);
                    batch.extend(ops.try_iter().take(FLUSH_OPS_MAX));
                    self.batch(&mut batch)
                }
                Ok(None) => self.sync(),
                Err(_) => break,
            };
            if let Err(error) = result {
                self.fail(&error);
                return self.refuse(batch.into_iter().chain(ops));
            }
        }
        if let Err(error) = self.write().and_then(|()| self.sync()) {
            self.fail(&error);
        }
    }

    fn batch(&mut self, batch: &mut VecDeque<Op>) -> io::Result<()> {
        while let Some(op) = batch.pop_front() {
            self.op(op)?;
        }
        self.write()
    }

    /// The next request, or `None` when it has been quiet and something is to be fsynced.
    fn next(&self, ops: &Receiver<Op>) -> Result<Option<Op>, RecvTimeoutError> {
        if !self.unsynced {
            return ops.recv().map(Some).map_err(|_| RecvTimeoutError::Disconnected);
        }
        match ops.recv_timeout(QUIET) {
            Ok(op) => Ok(Some(op)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RecvTimeoutError::Disconnected),
        }
    }

    fn op(&mut self, op: Op) -> io::Result<()> {
        match op {
            Op::Append { entries, done } => {
                let put = entries.iter().try_for_each(|entry| self.put_entry(entry));
                // Only now: an fsync at the end of a segment must not speak for what comes after.
                self.waiting.push(done);
                self.must_sync = true;
                put?;
            }
            Op::Truncate { from } => {
                self.put(Kind::Truncate, from, 0, &[])?;
                self.last = self.last.min(from.saturating_sub(1));
                self.must_sync = true;
            }
            Op::Commit { id, last } => {
                self.put(Kind::Commit, id.index, term_of(&id), &last.to_le_bytes())?;
            }
            Op::Meta { change, done } => {
                // In order with the entries: they are durable before what was asked after them.
                let result = self.write().and_then(|()| self.change(change));
                let answer = match &result {
                    Ok(()) => Ok(()),
                    Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                };
                // Nobody waits any more if the caller was cancelled; it is done all the same.
                drop(done.send(answer));
                result?;
            }
        }
        Ok(())
    }

    fn put_entry(&mut self, (id, kind, bytes): &(LogId, Kind, Arc<[u8]>)) -> io::Result<()> {
        self.note_voters(*kind, bytes);
        let place = self.put(*kind, id.index, term_of(id), bytes)?;
        self.last = id.index;
        let highest = self.highest.entry(place.segment).or_default();
        *highest = (*highest).max(id.index);
        self.places.push((*id, place));
        Ok(())
    }

    fn note_voters(&mut self, kind: Kind, bytes: &[u8]) {
        if kind == Kind::Membership
            && let Ok(members) = serde_json::from_slice::<Members>(bytes)
        {
            self.voters = Some(members.voter_ids().collect());
        }
    }

    fn change(&mut self, change: MetaChange) -> io::Result<()> {
        let mut meta = lock(&self.shared.inner).meta.clone();
        let mut purge = None;
        match change {
            MetaChange::Vote(vote) => meta.vote = Some(vote),
            MetaChange::Healed => meta.heal = None,
            MetaChange::Voters(voters) => meta.voters = voters,
            MetaChange::Purge(upto) => {
                meta.purged = meta.purged.max(Some(upto));
                purge = Some(upto.index);
                self.last = self.last.max(upto.index);
            }
        }
        self.while_full(|this| this.meta_file.write(&mut meta, &*this.options.disk))?;
        let mut inner = lock(&self.shared.inner);
        inner.meta = meta;
        if let Some(upto) = purge {
            inner.purge(upto);
            drop(inner);
            self.delete_segments(upto)?;
        }
        Ok(())
    }

    /// Deletes segments from the oldest on that hold nothing above `upto`.
    fn delete_segments(&mut self, upto: u64) -> io::Result<()> {
        while let Some((number, highest)) = self.highest.first_key_value()
            && *highest <= upto
            && Some(*number) != self.segment
        {
            let number = *number;
            std::fs::remove_file(segment_path(&self.options.dir, number))?;
            lock(&self.shared.inner).files.remove(&number);
            self.highest.remove(&number);
        }
        sync_dir(&self.options.dir)
    }

    /// Puts one record at the end, in the next segment if this one has no room.
    fn put(&mut self, kind: Kind, index: u64, term: u64, payload: &[u8]) -> io::Result<Place> {
        let need = padded(payload.len()) as u64;
        let end = self.offset + self.buffer.len() as u64;
        if self.segment.is_none() || end + need > self.options.segment_bytes {
            self.rotate()?;
        } else if end == 0 {
            self.start_segment();
        }
        Ok(self.record(kind, index, term, payload))
    }

    fn record(&mut self, kind: Kind, index: u64, term: u64, payload: &[u8]) -> Place {
        let start = self.buffer.len();
        let (epoch, epoch_start) = (self.epoch, std::mem::take(&mut self.epoch_start));
        Record { kind, epoch_start, epoch, index, term, payload }.encode(&mut self.buffer);
        Place {
            segment: self.segment.unwrap_or(0),
            offset: self.offset + start as u64,
            bytes: self.buffer.len() - start,
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.must_sync |= self.segment.is_some();
        self.write()?;
        let number = self.segment.map_or(1, |number| number + 1);
        let file = self.shared.spare.take(&self.options.dir, number)?;
        lock(&self.shared.inner).files.insert(number, Arc::new(file));
        self.highest.insert(number, 0);
        self.segment = Some(number);
        self.offset = 0;
        self.start_segment();
        Ok(())
    }

    fn start_segment(&mut self) {
        let mut payload = self.last.to_le_bytes().to_vec();
        payload.extend_from_slice(&self.options.segment_bytes.to_le_bytes());
        self.record(Kind::Segment, self.segment.unwrap_or(0), 0, &payload);
    }

    /// Writes the buffer; fsyncs and tells who waits, if anybody asked for it.
    fn write(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            let file = self.file()?;
            self.while_full(|this| this.options.disk.write_at(&file, this.offset, &this.buffer))?;
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
            self.unsynced = true;
        }
        if self.must_sync {
            self.sync()?;
        }
        for done in self.waiting.drain(..) {
            done.io_completed(Ok(()));
        }
        lock(&self.shared.inner).placed(&mut self.places);
        match self.voters.take() {
            Some(voters) => self.change(MetaChange::Voters(voters)),
            None => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if !self.unsynced {
            return Ok(());
        }
        let started = Instant::now();
        self.options.disk.sync(&*self.file()?)?;
        lock(&self.shared.inner).fsync.add(started.elapsed().as_secs_f64());
        self.epoch += 1;
        self.epoch_start = true;
        self.unsynced = false;
        self.must_sync = false;
        Ok(())
    }

    fn file(&self) -> io::Result<Arc<File>> {
        let number = self.segment.unwrap_or(0);
        let file = lock(&self.shared.inner).files.get(&number).cloned();
        file.ok_or_else(|| io::Error::other(format!("segment {number} is not open")))
    }

    /// Does a write again and again while the disk is full: the same bytes at the same place, of
    /// which nothing was acknowledged.
    fn while_full(&mut self, mut write: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        loop {
            match write(self) {
                Err(error) if is_full(&error) => {
                    tracing::error!(%error, "the disk is full: the log waits for space");
                    self.shared.spare.wait_for_space()?;
                }
                result => return result,
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::error!(%error, "the log's disk failed: this server stops taking part");
        lock(&self.shared.inner).failed = Some(format!("the log's disk failed: {error}"));
        for done in self.waiting.drain(..) {
            done.io_completed(Err(io::Error::new(error.kind(), error.to_string())));
        }
    }

    /// Answers everything that still comes with the error, so that nobody waits forever.
    fn refuse(self, ops: impl Iterator<Item = Op>) {
        let why = lock(&self.shared.inner).failed.clone().unwrap_or_default();
        for op in ops {
            match op {
                Op::Append { done, .. } => done.io_completed(Err(io::Error::other(why.clone()))),
                Op::Meta { done, .. } => drop(done.send(Err(io::Error::other(why.clone())))),
                Op::Truncate { .. } | Op::Commit { .. } => {}
            }
        }
    }
}
