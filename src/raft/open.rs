//! Opening the log: read what is there, repair what a crash left, refuse what is worse.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use super::Error;
use super::flush::{Flusher, Spare, segment_path};
use super::log::{FsyncTimes, Handle, Inner, Log, Options, Shared, Slot, next_of};
use super::meta::{Meta, MetaFile};
use super::recover::{Found, Scan, Tail, scan};
use super::types::{LogId, term_of};

impl Log {
    /// Opens or makes the log in a directory, repairing what a crash left.
    ///
    /// A torn tail goes. Behind damage everything goes too, if other servers have it, and this
    /// one votes for nobody until it has fetched it again; if no other has it, this is an error
    /// and nothing is changed.
    pub(super) fn open(options: Options) -> Result<Self, Error> {
        let at = format!("open the log in {}", options.dir.display());
        std::fs::create_dir_all(&options.dir).map_err(Error::io(&at))?;
        let segments = read_segments(&options.dir).map_err(Error::io(&at))?;
        let (meta_file, mut meta) = open_meta(&options, segments.is_empty())?;
        let mut scan = scan(&segments, meta.purged.map(|id| id.index));
        check_snapshot(&options, &mut meta, &mut scan, segments.first().map(|s| s.0));
        repair(&options, &mut meta, &meta_file, &scan)?;
        let end = (!segments.is_empty()).then_some(scan.end);
        drop(segments);
        let files = open_segments(&options, end).map_err(Error::io(&at))?;
        Self::start(options, meta, meta_file, scan, end, files)
    }

    fn start(
        options: Options,
        meta: Meta,
        meta_file: MetaFile,
        scan: Scan,
        end: Option<(u64, usize)>,
        files: BTreeMap<u64, Arc<File>>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner(meta, &scan, files)),
            spare: Arc::new(Spare::new()),
            bytes: AtomicU64::new(0),
        });
        let (sender, ops) = channel();
        let (spare, disk) = (shared.spare.clone(), options.disk.clone());
        let (dir, bytes) = (options.dir.clone(), options.segment_bytes);
        let flusher = Flusher::new(shared.clone(), options, meta_file, end, scan);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(run).map_err(Error::io("a thread"))
        };
        let keep = spawn("log-spare", Box::new(move || spare.keep(&dir, &*disk, bytes)))?;
        let flush = spawn("log-flush", Box::new(move || flusher.run(&ops)))?;
        let (ops, threads) = (Mutex::new(Some(sender)), Mutex::new(vec![flush, keep]));
        Ok(Self(Arc::new(Handle { shared, ops, threads })))
    }
}

fn inner(meta: Meta, scan: &Scan, files: BTreeMap<u64, Arc<File>>) -> Inner {
    let purged = meta.purged.map(|id| (id.index, term_of(&id)));
    let last = scan.entries.back().map(|e| (e.index, e.term)).or(purged);
    // An entry may have been committed by others before it was durable here; what is not here
    // cannot be applied here.
    let committed = scan.committed.min(last).max(purged);
    Inner {
        first: scan.entries.front().map_or(next_of(meta.purged), |entry| entry.index),
        cached_from: last.map_or(0, |(index, _)| index + 1),
        slots: scan.entries.iter().map(slot).collect(),
        cached_bytes: 0,
        committed: committed.map(|(index, term)| LogId::new_term_index(term, index)),
        files,
        failed: None,
        fsync: FsyncTimes::default(),
        meta,
    }
}

fn slot(found: &Found) -> Slot {
    let id = LogId::new_term_index(found.term, found.index);
    Slot { id, cached: None, place: Some(found.place) }
}

fn open_meta(options: &Options, no_segments: bool) -> Result<(MetaFile, Meta), Error> {
    let path = options.dir.join("meta");
    if !MetaFile::exists(&path) {
        if no_segments {
            return MetaFile::create(&path, &*options.disk);
        }
        return Err(gone(&format!("{} is missing", path.display())));
    }
    let (file, meta) = MetaFile::open(&path)?;
    // Both are only ever written after an entry was.
    if no_segments && (meta.purged.is_some() || !meta.voters.is_empty()) {
        return Err(gone(&format!("all log segments in {} are missing", options.dir.display())));
    }
    Ok((file, meta))
}

fn gone(what: &str) -> Error {
    Error::Damaged {
        what: what.into(),
        hint: "nothing here says how much is lost. With other servers alive: stop this one, \
               remove its data directory, remove it from the cluster and let it join anew. \
               Without: restore the directory from a backup"
            .into(),
    }
}

fn segment_numbers(dir: &Path) -> io::Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".wal"));
        numbers.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
    }
    Ok(numbers)
}

fn read_segments(dir: &Path) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let numbers = segment_numbers(dir)?;
    numbers.into_iter().map(|n| Ok((n, std::fs::read(segment_path(dir, n))?))).collect()
}

/// Purged entries live on in a snapshot only. Without one, the whole log is worthless.
fn check_snapshot(options: &Options, meta: &mut Meta, scan: &mut Scan, first: Option<u64>) {
    let covered = options.snapshot.map(|id| id.index);
    let Some(purged) = meta.purged.filter(|id| Some(id.index) > covered) else { return };
    let known = match &scan.tail {
        Tail::Damaged { last_index, .. } => *last_index,
        Tail::Clean | Tail::Torn => Some(scan.entries.back().map_or(0, |entry| entry.index)),
    };
    scan.tail = Tail::Damaged {
        what: format!("no good snapshot covers the purged entries up to {}", purged.index),
        last_index: known.map(|known| known.max(purged.index)),
    };
    scan.entries.clear();
    scan.committed = None;
    scan.end = (first.unwrap_or(1), 0);
    meta.purged = None;
}

fn repair(
    options: &Options,
    meta: &mut Meta,
    meta_file: &MetaFile,
    scan: &Scan,
) -> Result<(), Error> {
    if options.accept_loss && meta.heal.take().is_some() {
        tracing::error!("no longer fetching lost entries, as asked");
        meta_file.write(meta, &*options.disk).map_err(Error::io("give up healing"))?;
    }
    let (what, last_index) = match &scan.tail {
        Tail::Clean => return Ok(()),
        Tail::Torn => {
            tracing::warn!(end = ?scan.end, "cutting off a write that was never acknowledged");
            return Ok(());
        }
        Tail::Damaged { what, last_index } => (what, *last_index),
    };
    let alone = meta.voters.len() == 1;
    match last_index {
        _ if options.accept_loss => {
            tracing::error!(%what, "going on without the lost entries, as asked");
        }
        _ if meta.voters.is_empty() => return Err(gone(what)),
        _ if alone => return Err(no_copy(what)),
        None => return Err(gone(what)),
        Some(last) => {
            tracing::error!(%what, last, "fetching the lost entries again before voting");
            meta.heal = meta.heal.max(Some(last));
        }
    }
    let at = format!("repair the log in {}", options.dir.display());
    meta_file.write(meta, &*options.disk).map_err(Error::io(&at))?;
    for number in segment_numbers(&options.dir).map_err(Error::io(&at))?.into_iter().rev() {
        if number > scan.end.0 {
            std::fs::remove_file(segment_path(&options.dir, number)).map_err(Error::io(&at))?;
        }
    }
    super::disk::sync_dir(&options.dir).map_err(Error::io(at))
}

fn no_copy(what: &str) -> Error {
    Error::Damaged {
        what: what.into(),
        hint: "this is the cluster's only voter, so no other server has the lost entries. \
               Restore the data directory from a backup, or start once with \
               `mainstay server --accept-loss`: everything before the damage is kept"
            .into(),
    }
}

/// Opens all segments; what lies behind the end of the last one becomes zeros, and everything
/// before it is durable from here on.
fn open_segments(
    options: &Options,
    end: Option<(u64, usize)>,
) -> io::Result<BTreeMap<u64, Arc<File>>> {
    let mut files = BTreeMap::new();
    for number in segment_numbers(&options.dir)? {
        let path = segment_path(&options.dir, number);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        if let Some((_, offset)) = end.filter(|(last, _)| *last == number) {
            let bytes = std::fs::read(&path)?;
            let len = bytes.len().max(usize::try_from(options.segment_bytes).unwrap_or(0));
            if bytes.len() < len || bytes[offset..].iter().any(|byte| *byte != 0) {
                options.disk.write_at(&file, offset as u64, &vec![0; len - offset])?;
            }
            file.sync_all()?;
        }
        files.insert(number, Arc::new(file));
    }
    Ok(files)
}
