//! Disks that fill up, break, or lose what they had.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::super::record::Record;
use super::super::{Error, Node, ProposeError, Role, TcpDial};
use super::cluster::{PATIENCE, Server, config, dirs, same, three};
use super::{FailingDisk, Ledger};

async fn alone(dir: &Path, disk: &Arc<FailingDisk>) -> Server {
    let disk = disk.clone();
    let change = |config: &mut super::super::Config| {
        config.disk = disk;
        config.timeout = Duration::from_secs(10);
    };
    let server = Server::start_with(dir, "127.0.0.1:0", change).await;
    if !server.node.is_initialized().await.unwrap() {
        server.node.init_single().await.unwrap();
    }
    server.role(|role| role.is_leader).await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    let server = alone(dir.path(), &disk).await;
    let large = "v".repeat(500 << 10);
    server.put("before", &large).await.unwrap();
    disk.full.store(true, Ordering::SeqCst);
    let mut acknowledged = 0;
    let refused = loop {
        match server.put(&format!("key{acknowledged}"), &large).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 20, "two segments of 2 MiB hold fewer");
    };
    assert!(matches!(refused, ProposeError::StorageFull), "{refused}");
    assert!(server.node.metrics().storage_full);
    server.node.read_barrier().await.unwrap();

    disk.full.store(false, Ordering::SeqCst);
    let freed = async {
        while server.put("after", "1").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, freed).await.unwrap();
    server.kill();
    let server = alone(dir.path(), &disk).await;
    for n in 0..acknowledged {
        assert_eq!(server.put(&format!("key{n}"), "").await.unwrap(), large);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fsync_ends_the_node_and_loses_nothing() {
    for short in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FailingDisk::default());
        let server = alone(dir.path(), &disk).await;
        server.put("key", "acknowledged").await.unwrap();
        let flag = if short { &disk.short } else { &disk.broken };
        flag.store(true, Ordering::SeqCst);
        let error = server.put("key", "not acknowledged").await.unwrap_err();
        let failed = matches!(error, ProposeError::Stopped(_) | ProposeError::Uncertain);
        assert!(failed, "{error}");
        let why = timeout(PATIENCE, server.node.stopped()).await.unwrap();
        assert!(why.contains("disk failed"), "{why}");
        // A second fsync would say "done" for what the kernel threw away: nothing is accepted.
        flag.store(false, Ordering::SeqCst);
        assert!(server.put("key", "later").await.is_err());
        server.kill();
        let server = alone(dir.path(), &disk).await;
        let value = server.put("key", "").await.unwrap();
        assert!(["acknowledged", "not acknowledged"].contains(&value.as_str()), "{value}");
    }
}

/// Flips a byte in the middle of the n-th record of the first segment.
fn damage(dir: &Path, n: usize) -> PathBuf {
    let path = dir.join("log").join(format!("{:016x}.wal", 1));
    let mut bytes = std::fs::read(&path).unwrap();
    let mut at = 0;
    for _ in 0..n {
        at += Record::decode(&bytes[at..]).unwrap().1;
    }
    bytes[at + 30] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_server_votes_for_nobody_until_it_is_whole() {
    let dirs = dirs();
    let mut servers = three(&dirs).await;
    for n in 0..40 {
        servers[0].put(&format!("key{n}"), &n.to_string()).await.unwrap();
    }
    let index = servers[0].node.read_barrier().await.unwrap();
    servers[2].applied(index).await;
    let term = servers[0].node.role().borrow().term;
    let third = servers.pop().unwrap();
    let address = third.address.clone();
    third.kill();
    let second = servers.pop().unwrap();
    let (second_id, second_address) = (second.node.id(), second.address.clone());
    second.kill();
    let first = servers.pop().unwrap();
    let first_address = first.address.clone();
    first.kill();

    // Of three servers one is down and one is damaged: the whole one may not be elected, since
    // the damaged one cannot know what it promised.
    damage(dirs[2].path(), 20);
    let third = Server::start(dirs[2].path(), &address).await;
    // Not necessarily up to `index`: a follower may apply what its own disk does not have yet.
    assert!(third.node.metrics().healing_index.is_some(), "it knows that it lost something");
    let second = Server::start(dirs[1].path(), &second_address).await;
    assert_eq!(second.node.id(), second_id);
    let mut role = second.node.role();
    let elected = role.wait_for(|role| role.is_leader);
    // Two of the longest election times: enough for a vote that must not be given.
    assert!(timeout(Duration::from_secs(6), elected).await.is_err(), "elected by a damaged vote");
    assert!(!third.node.is_leader());

    // With the third one back there is a leader, which heals the damaged one.
    let first = Server::start(dirs[0].path(), &first_address).await;
    let servers = [first, second, third];
    let elected = |role: &Role| role.term > term && role.leader.is_some();
    let id = servers[2].role(elected).await.leader.unwrap().id;
    let leader = servers.iter().find(|server| server.node.id() == id).unwrap();
    leader.role(|role| role.is_leader).await;
    for n in 0..40 {
        let before = leader.put(&format!("key{n}"), "again").await.unwrap();
        assert_eq!(before, n.to_string(), "key{n} was acknowledged");
    }
    same(&servers).await;
    let healed = async {
        while servers[2].node.metrics().healing_index.is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, healed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_leader_heals_a_follower_that_lost_entries() {
    let dirs = dirs();
    let mut servers = three(&dirs).await;
    for n in 0..40 {
        servers[0].put(&format!("key{n}"), &n.to_string()).await.unwrap();
    }
    let index = servers[0].node.read_barrier().await.unwrap();
    servers[2].applied(index).await;
    let third = servers.pop().unwrap();
    let address = third.address.clone();
    third.kill();
    let path = damage(dirs[2].path(), 20);
    // The leader remembers that the third has more than it has now.
    servers.push(Server::start(dirs[2].path(), &address).await);
    assert!(path.exists());
    same(&servers).await;
    assert_eq!(servers[2].node.metrics().term, servers[0].node.metrics().term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_lone_server_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let server = alone(dir.path(), &Arc::default()).await;
    for n in 0..10 {
        server.put(&format!("key{n}"), "value").await.unwrap();
    }
    server.node.shutdown().await.unwrap();
    drop(server);
    damage(dir.path(), 5);
    let start = Node::start(config(dir.path(), "host:1"), Ledger::default(), Arc::new(TcpDial));
    let Err(Error::Damaged { what, hint }) = start.await else { panic!("it went on") };
    assert!(what.contains("segment 1 is damaged at byte"), "{what}");
    assert!(hint.contains("backup"), "{hint}");
}
