//! Several nodes over TCP, each in a runtime of its own so that it can die without a word.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout};

use super::super::{Config, Disk, Node, ProposeError, RealDisk, Role, TcpDial};
use super::Ledger;

/// Most time for anything in a test, on two busy cores.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Server {
    pub(super) node: Node<Ledger>,
    pub(super) address: String,
    runtime: Option<Runtime>,
}

pub(super) fn config(dir: &Path, address: &str) -> Config {
    Config {
        heartbeat: Duration::from_millis(250),
        election_min: Duration::from_millis(1500),
        election_max: Duration::from_millis(3000),
        timeout: Duration::from_secs(30),
        segment_bytes: 2 << 20,
        ..Config::new(dir, address)
    }
}

impl Server {
    pub(super) async fn start(dir: &Path, address: &str) -> Self {
        Self::start_with(dir, address, |_| ()).await
    }

    pub(super) async fn start_with(
        dir: &Path,
        address: &str,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let listener = bind(address).await.into_std().unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut config = config(dir, &address);
        change(&mut config);
        let (start, serve) = (config.clone(), runtime.handle().clone());
        let started = runtime.spawn(async move {
            let node = Node::start(start, Ledger::default(), Arc::new(TcpDial)).await.unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            let serving = node.clone();
            serve.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let node = serving.clone();
                    tokio::spawn(async move { drop(node.serve(stream).await) });
                }
            });
            node
        });
        let node = timeout(PATIENCE, started).await.unwrap().unwrap();
        Self { node, address, runtime: Some(runtime) }
    }

    /// Ends without telling anybody, as a killed process does.
    pub(super) fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub(super) async fn put(&self, key: &str, value: &str) -> Result<String, ProposeError> {
        self.node.propose(format!("{key}={value}")).await
    }

    pub(super) async fn role(&self, wanted: impl FnMut(&Role) -> bool) -> Role {
        let mut role = self.node.role();
        timeout(PATIENCE, role.wait_for(wanted)).await.unwrap().unwrap().clone()
    }

    pub(super) async fn applied(&self, index: u64) {
        let mut applied = self.node.applied();
        let there = applied.wait_for(|applied| applied.index >= Some(index));
        timeout(PATIENCE, there).await.unwrap().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Binds, waiting for a killed predecessor to let go of the port.
async fn bind(address: &str) -> TcpListener {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// Three voters, the first one leading.
pub(super) async fn three(dirs: &[TempDir; 3]) -> Vec<Server> {
    let mut servers = Vec::new();
    for dir in dirs {
        servers.push(Server::start(dir.path(), "127.0.0.1:0").await);
    }
    servers[0].node.init_single().await.unwrap();
    servers[0].role(|role| role.is_leader).await;
    for other in &servers[1..] {
        join(&servers[0], other).await;
    }
    servers
}

/// Lets a server join, waiting for a leader to be confirmed.
pub(super) async fn join(leader: &Server, other: &Server) {
    let add = leader.node.add_learner_then_voter(other.node.id(), &other.address);
    timeout(PATIENCE, add).await.unwrap().unwrap();
}

pub(super) fn dirs() -> [TempDir; 3] {
    std::array::from_fn(|_| tempfile::tempdir().unwrap())
}

/// Asserts that all servers end with one state.
pub(super) async fn same(servers: &[Server]) {
    let leader = servers.iter().find(|server| server.node.is_leader()).unwrap();
    // A digest is noted every few entries: make sure that one is due behind everything else.
    for n in 0..super::super::DIGEST_EVERY {
        leader.put("fill", &n.to_string()).await.unwrap();
    }
    let index = leader.node.read_barrier().await.unwrap();
    for server in servers {
        server.applied(index).await;
    }
    let compared = leader.node.compare_digests().await.unwrap();
    assert_eq!(compared, servers.len() - 1, "all could be compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_leader_acknowledged_is_with_the_next_one() {
    let dirs = dirs();
    let mut servers = three(&dirs).await;
    for n in 0..50 {
        servers[0].put(&format!("key{n}"), &n.to_string()).await.unwrap();
    }
    // Followers say who leads, and read what was just written.
    let error = servers[1].put("a", "b").await.unwrap_err();
    let ProposeError::NotLeader { leader: Some(leader) } = error else { panic!("{error}") };
    assert_eq!((leader.id, &leader.address), (servers[0].node.id(), &servers[0].address));
    let index = servers[1].node.read_barrier().await.unwrap();
    assert!(servers[1].node.metrics().applied_index >= Some(index));

    let dead = servers.remove(0);
    let (address, id) = (dead.address.clone(), dead.node.id());
    dead.kill();
    let killed = Instant::now();
    let other = |role: &Role| role.leader.as_ref().is_some_and(|leader| leader.id != id);
    let role = servers[0].role(other).await;
    println!("new leader after {:?} (election 1.5-3 s)", killed.elapsed());
    let leader = role.leader.unwrap().id;
    let at = servers.iter().position(|server| server.node.id() == leader).unwrap();
    servers[at].role(|role| role.is_leader).await;
    for n in 0..50 {
        let before = servers[at].put(&format!("key{n}"), "again").await.unwrap();
        assert_eq!(before, n.to_string(), "key{n} was acknowledged");
    }
    // The killed one comes back under its own id and catches up.
    servers.push(Server::start(dirs[0].path(), &address).await);
    assert_eq!(servers[2].node.id(), id);
    same(&servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_server_joins_by_snapshot_after_the_log_was_purged() {
    let dirs = dirs();
    let often = |config: &mut Config| {
        config.snapshot_entries = 300;
        config.keep_entries = 50;
    };
    let first = Server::start_with(dirs[0].path(), "127.0.0.1:0", often).await;
    first.node.init_single().await.unwrap();
    first.role(|role| role.is_leader).await;
    // 2,000 writes from 16 clients while snapshots are made and the log is purged behind them.
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..16 {
        let node = first.node.clone();
        clients.spawn(async move {
            for n in 0..125 {
                node.propose(format!("key{client}-{n}={}", "v".repeat(500))).await.unwrap();
            }
        });
    }
    timeout(PATIENCE, clients.join_all()).await.unwrap();
    let metrics = first.node.metrics();
    assert!(metrics.purged_index > Some(1000), "{metrics:?}");
    println!("{} fsyncs for 2,000 proposals", metrics.fsync.count);

    let second = Server::start(dirs[1].path(), "127.0.0.1:0").await;
    let third = Server::start(dirs[2].path(), "127.0.0.1:0").await;
    join(&first, &second).await;
    join(&first, &third).await;
    assert!(second.node.metrics().snapshot_index > Some(1000), "it came by snapshot");
    let servers = [first, second, third];
    same(&servers).await;
    assert_eq!(servers[0].node.members().iter().filter(|member| member.voter).count(), 3);

    // A wiped directory is a new server: the old id goes, the new one joins.
    let [first, second, third] = servers;
    let (gone, address) = (third.node.id(), third.address.clone());
    third.kill();
    first.node.remove(gone).await.unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let third = Server::start(fresh.path(), &address).await;
    assert_ne!(third.node.id(), gone);
    join(&first, &third).await;
    same(&[first, second, third]).await;
}

/// What must not happen: one that answers, with nothing to do, taken for silent, or the other way
/// about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_knows_who_answers() {
    let dirs = dirs();
    let mut servers = three(&dirs).await;
    let (dead, alive) = (servers.pop().unwrap(), servers[1].node.id());
    let (gone, leader) = (dead.node.id(), servers[0].node.clone());
    let answered = |id: u64| leader.answered().get(&id).copied();
    let recent = |id: u64| answered(id).is_some_and(|ago| ago < Duration::from_secs(1));
    let until = async |holds: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "{:?}", leader.answered());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(&|| recent(alive) && recent(gone)).await;
    dead.kill();
    until(&|| answered(gone).is_none_or(|ago| ago > Duration::from_secs(2))).await;
    assert!(recent(alive), "{:?}", leader.answered());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_handed_over() {
    let dirs = dirs();
    let servers = three(&dirs).await;
    // The target must be caught up for the hand-over to be taken.
    let index = servers[0].node.read_barrier().await.unwrap();
    for server in &servers {
        server.applied(index).await;
    }
    assert_eq!(servers[1].node.step_down().await.unwrap(), None, "it does not lead");
    let to = servers[0].node.step_down().await.unwrap();
    let next = servers[1..].iter().find(|server| Some(server.node.id()) == to).unwrap();
    next.role(|role| role.is_leader).await;
    next.put("key", "value").await.unwrap();
    same(&servers).await;
    next.node.shutdown().await.unwrap();
    assert!(next.put("key", "value").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_stays_where_nobody_can_take_it() {
    let dirs = dirs();
    let mut servers = three(&dirs).await;
    let leader = servers.remove(0);
    for server in servers {
        server.kill();
    }
    let deadline = Instant::now() + PATIENCE;
    while leader.node.answered().values().any(|ago| *ago < Duration::from_secs(2)) {
        assert!(Instant::now() < deadline, "{:?}", leader.node.answered());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(leader.node.step_down().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_starts_again_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "127.0.0.1:0").await;
    server.node.init_single().await.unwrap();
    for n in 0..200 {
        server.put(&format!("key{n}"), &n.to_string()).await.unwrap();
    }
    server.kill();
    let started = Instant::now();
    let server = Server::start(dir.path(), "127.0.0.1:0").await;
    for n in 0..200 {
        assert_eq!(server.put(&format!("key{n}"), "").await.unwrap(), n.to_string());
    }
    println!("restarted and read back after {:?}", started.elapsed());
}

/// Prints, does not judge: one client after the other, against the disk alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequential_proposals_against_raw_fsync() {
    const ROUNDS: u32 = 300;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "127.0.0.1:0").await;
    server.node.init_single().await.unwrap();
    let entry = vec![b'x'; 256];
    server.node.propose(entry.clone()).await.unwrap();
    let started = Instant::now();
    for _ in 0..ROUNDS {
        server.node.propose(entry.clone()).await.unwrap();
    }
    let proposals = started.elapsed() / ROUNDS;
    let path = dir.path().join("raw");
    RealDisk.prepare(&path, 2 << 20).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let started = Instant::now();
    for n in 0..ROUNDS {
        RealDisk.write_at(&file, u64::from(n) * 296, &[b'x'; 296]).unwrap();
        RealDisk.sync(&file).unwrap();
    }
    let raw = started.elapsed() / ROUNDS;
    let ratio = proposals.as_secs_f64() / raw.as_secs_f64();
    println!("one proposal {proposals:?}, one fdatasync {raw:?}, ratio {ratio:.2}");
}
