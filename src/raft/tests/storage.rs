//! The log alone: openraft's own suite, and what a reopened log says after every kind of damage.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{BasicNode, EntryPayload, RaftLogReader, StorageError};
use tempfile::TempDir;

use super::super::log::{Log, Options};
use super::super::machine::Driver;
use super::super::record::Record;
use super::super::snapshot::Snapshots;
use super::super::types::{Command, Entry, LogId, Members, Types, Vote};
use super::super::{Error, RealDisk};
use super::Ledger;

/// Small, so that tests see many segments.
const SEGMENT_BYTES: u64 = 4096;

fn open(dir: &Path, accept_loss: bool) -> Result<Log, Error> {
    Log::open(Options {
        dir: dir.to_owned(),
        disk: Arc::new(RealDisk),
        segment_bytes: SEGMENT_BYTES,
        snapshot: None,
        accept_loss,
        _lock: None,
    })
}

struct Builder;

impl StoreBuilder<Types, Log, Driver<Ledger>, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Driver<Ledger>), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir.path().join("log"), false).unwrap();
        let snapshots = Snapshots::open(&dir.path().join("snapshots"), Arc::new(RealDisk)).unwrap();
        let progress = tokio::sync::watch::channel(Default::default()).0;
        let driver = Driver::new(Ledger::default(), snapshots, Default::default(), progress);
        Ok((dir, log, driver.unwrap()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_storage_suite_of_openraft() {
    Suite::test_all(Builder).await.unwrap();
}

fn normal(index: u64, bytes: usize) -> Entry {
    let text = format!("key{index}={}", "x".repeat(bytes));
    let payload = EntryPayload::Normal(Command(text.into_bytes().into()));
    Entry { log_id: LogId::new_term_index(1, index), payload }
}

fn membership(index: u64, voters: &[u64]) -> Entry {
    let nodes = voters.iter().map(|id| (*id, BasicNode::new("host:1")));
    let nodes: std::collections::BTreeMap<u64, BasicNode> = nodes.collect();
    let voters: BTreeSet<u64> = voters.iter().copied().collect();
    let members = Members::new(vec![voters], nodes).unwrap();
    Entry { log_id: LogId::new_term_index(1, index), payload: EntryPayload::Membership(members) }
}

/// Appends in one request and waits until it is durable.
async fn append(log: &mut Log, entries: Vec<Entry>) {
    let (done, flushed) = Types::oneshot();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    flushed.await.unwrap().unwrap();
}

async fn commit(log: &mut Log, index: u64) {
    log.save_committed(Some(LogId::new_term_index(1, index))).await.unwrap();
}

async fn indexes(log: &mut Log) -> Vec<u64> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id.index).collect()
}

/// A log with a membership of `voters` and entries up to 4, all durable and known committed up to
/// 4, or up to 2 with the last entry last on disk.
async fn sample(dir: &Path, voters: &[u64], all_committed: bool) {
    let mut log = open(dir, false).unwrap();
    log.save_vote(&Vote::new(1, 7)).await.unwrap();
    append(&mut log, vec![membership(0, voters), normal(1, 9), normal(2, 30)]).await;
    commit(&mut log, 2).await;
    append(&mut log, vec![normal(3, 14)]).await;
    append(&mut log, vec![normal(4, 21)]).await;
    if all_committed {
        commit(&mut log, 4).await;
    }
    log.close();
}

/// Start and end of each record in a segment.
fn records(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut found) = (0, Vec::new());
    while let Some((_, len)) = Record::decode(&bytes[at..]) {
        found.push((at, at + len));
        at += len;
    }
    found
}

fn only_segment(dir: &Path) -> PathBuf {
    let all = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut segments = all.filter(|path| path.extension().is_some_and(|e| e == "wal"));
    let segment = segments.next().unwrap();
    assert!(segments.next().is_none(), "the sample fits one segment");
    segment
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path(), &[1, 2, 3], false).await;
    let path = only_segment(dir.path());
    let good = std::fs::read(&path).unwrap();
    let (start, end) = *records(&good).last().unwrap();
    for cut in start..end - 1 {
        for garbage in [0, 0xff] {
            let mut bytes = good.clone();
            bytes[cut..end].fill(garbage);
            std::fs::write(&path, &bytes).unwrap();
            let mut log = open(dir.path(), false).unwrap();
            // The record ends in padding: cutting zeros off it changes nothing.
            let expected = if bytes == good { 4 } else { 3 };
            let all: Vec<u64> = (0..=expected).collect();
            assert_eq!(indexes(&mut log).await, all, "cut at {cut} with {garbage}");
            assert_eq!(log.healing(), None);
            assert_eq!(log.vote(), Some(Vote::new(1, 7)));
            assert_eq!(log.read_committed().await.unwrap().unwrap().index, 2);
            // It goes on from there, and what is written now is there after the next start.
            append(&mut log, vec![normal(expected + 1, 5)]).await;
            log.close();
            let mut log = open(dir.path(), false).unwrap();
            let all: Vec<u64> = (0..=expected + 1).collect();
            assert_eq!(indexes(&mut log).await, all);
            log.close();
        }
    }
}

#[tokio::test]
async fn a_flipped_byte_is_never_a_silent_loss() {
    for voters in [&[1][..], &[1, 2, 3]] {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path(), voters, true).await;
        let path = only_segment(dir.path());
        let good = std::fs::read(&path).unwrap();
        let meta = std::fs::read(dir.path().join("meta")).unwrap();
        let records = records(&good);
        let end = records.last().unwrap().1;
        for at in 0..end {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            std::fs::write(dir.path().join("meta"), &meta).unwrap();
            let in_last = at >= records.last().unwrap().0;
            match open(dir.path(), false) {
                Ok(mut log) => {
                    let found = indexes(&mut log).await;
                    if in_last {
                        // The note of what is committed, with nothing behind it: all entries stay.
                        assert_eq!(found, [0, 1, 2, 3, 4], "byte {at}");
                        assert_eq!(log.healing(), None, "byte {at}");
                    } else {
                        assert!(voters.len() > 1, "byte {at}: a lone server went on");
                        assert_eq!(log.healing(), Some(4), "byte {at}: {found:?}");
                    }
                    assert_eq!(log.vote(), Some(Vote::new(1, 7)), "byte {at}");
                    log.close();
                }
                Err(Error::Damaged { what, hint }) => {
                    assert!(voters.len() == 1 && !in_last, "byte {at}: {what}");
                    assert!(hint.contains("only voter"), "{hint}");
                    assert_eq!(std::fs::read(&path).unwrap(), bytes, "a refusal changes nothing");
                }
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }
}

#[tokio::test]
async fn a_lone_server_may_accept_the_loss() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path(), &[1], true).await;
    let path = only_segment(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let third = records(&bytes)[3].0;
    bytes[third + 20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(open(dir.path(), false).is_err());
    let mut log = open(dir.path(), true).unwrap();
    assert_eq!(indexes(&mut log).await, [0, 1]);
    log.close();
}

#[tokio::test]
async fn a_write_cut_short_between_fsyncs_is_no_damage() {
    // One request of several entries: power may keep a later block and lose an earlier one.
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), false).unwrap();
    append(&mut log, vec![membership(0, &[1]), normal(1, 9)]).await;
    append(&mut log, vec![normal(2, 9), normal(3, 9), normal(4, 9)]).await;
    log.close();
    let path = only_segment(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let second_last = records(&bytes)[4];
    bytes[second_last.0..second_last.1].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let mut log = open(dir.path(), false).unwrap();
    assert_eq!(indexes(&mut log).await, [0, 1, 2]);
    log.close();
}

#[tokio::test]
async fn segments_survive_truncation_purge_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), false).unwrap();
    append(&mut log, vec![membership(0, &[1, 2, 3])]).await;
    for index in 1..60 {
        append(&mut log, vec![normal(index, 300)]).await;
    }
    log.truncate_after(Some(LogId::new_term_index(1, 40))).await.unwrap();
    for index in 41..80 {
        append(&mut log, vec![normal(index, 200)]).await;
    }
    assert_eq!(indexes(&mut log).await, (0..80).collect::<Vec<_>>());
    log.close();
    let mut log = open(dir.path(), false).unwrap();
    assert_eq!(indexes(&mut log).await, (0..80).collect::<Vec<_>>());
    let entries = log.try_get_log_entries(50..52).await.unwrap();
    assert_eq!(entries, [normal(50, 200), normal(51, 200)], "read from disk");

    let before = std::fs::read_dir(dir.path()).unwrap().count();
    log.purge(LogId::new_term_index(1, 30)).await.unwrap();
    assert!(std::fs::read_dir(dir.path()).unwrap().count() < before, "whole segments are gone");
    assert_eq!(indexes(&mut log).await, (31..80).collect::<Vec<_>>());
    log.close();
    // Without a snapshot that covers what was purged, the log is not to be believed.
    let log = open(dir.path(), false).unwrap();
    assert_eq!(log.healing(), Some(79));
    log.close();
}

#[tokio::test]
async fn a_missing_or_short_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), false).unwrap();
    append(&mut log, vec![membership(0, &[1, 2, 3])]).await;
    for index in 1..60 {
        append(&mut log, vec![normal(index, 300)]).await;
    }
    log.close();
    let last = dir.path().join(format!("{:016x}.wal", 5));
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..2000]).unwrap();
    let error = open(dir.path(), false).err().unwrap().to_string();
    assert!(error.contains("segment 5 is cut short"), "{error}");
    std::fs::write(&last, &bytes).unwrap();
    std::fs::remove_file(dir.path().join(format!("{:016x}.wal", 3))).unwrap();
    let error = open(dir.path(), false).err().unwrap().to_string();
    assert!(error.contains("segment 3 is missing"), "{error}");
    for number in 1..=30 {
        let path = dir.path().join(format!("{number:016x}.wal"));
        if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let error = open(dir.path(), false).err().unwrap().to_string();
    assert!(error.contains("all log segments"), "{error}");
}

#[tokio::test]
async fn a_damaged_vote_is_never_an_older_vote() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path(), &[1, 2, 3], true).await;
    let mut log = open(dir.path(), false).unwrap();
    log.save_vote(&Vote::new(2, 9)).await.unwrap();
    log.close();
    let path = dir.path().join("meta");
    let good = std::fs::read(&path).unwrap();
    for slot in [0, 4096] {
        for at in [0, 5, 9, 20, 40] {
            let mut bytes = good.clone();
            bytes[slot + at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let log = open(dir.path(), false).unwrap();
            assert_eq!(log.vote(), Some(Vote::new(2, 9)), "slot {slot} byte {at}");
            log.close();
        }
    }
    let mut bytes = good;
    bytes[20] ^= 1;
    bytes[4096 + 20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = open(dir.path(), false).err().unwrap().to_string();
    assert!(error.contains("join anew"), "{error}");
}

#[tokio::test]
async fn an_idle_log_does_not_touch_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path(), &[1], true).await;
    let log = open(dir.path(), false).unwrap();
    // Long enough for the one late fsync of a log that has just been written.
    let (_keep, never) = tokio::sync::oneshot::channel::<()>();
    let idle = tokio::time::timeout(std::time::Duration::from_millis(600), never).await;
    assert!(idle.is_err());
    assert_eq!(log.fsync_times().count, 0);
    log.close();
}
