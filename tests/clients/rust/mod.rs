//! kube-rs: its watchers while servers come and go, its typed calls, its discovery of custom kinds,
//! and a controller built on it.

mod calls;
mod controller;
mod watchers;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
};

use crate::servers::{DEADLINE, Server, World};

/// The namespace whose objects nobody commits.
const NAMESPACE: &str = "free";

/// What is looked at again and again is looked at so often.
const LOOK: Duration = Duration::from_millis(50);

/// Threads for what a test does beside its own.
fn runtime() -> Runtime {
    Runtime::new().unwrap()
}

/// A client with an administrator's credentials that dials an address.
async fn client(kubeconfig: &Path, address: &str) -> Client {
    let mut file = Kubeconfig::read_from(kubeconfig).unwrap();
    for named in &mut file.clusters {
        named.cluster.as_mut().unwrap().server = Some(format!("https://{address}"));
    }
    let options = KubeConfigOptions::default();
    Client::try_from(Config::from_custom_kubeconfig(file, &options).await.unwrap()).unwrap()
}

/// A client of one server.
async fn client_of(server: &Server) -> Client {
    client(&server.kubeconfig(), server.address()).await
}

/// Takes connections and leads each to the first server that takes it, as a balancer before a
/// cluster would.
struct Door {
    address: String,
    at: Arc<AtomicUsize>,
    /// Each change ends the connections that are open.
    cuts: watch::Sender<usize>,
}

impl Door {
    /// One that begins at the server `first`.
    async fn open(world: &World, first: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let servers: Vec<String> = world.servers.iter().map(|s| s.address().to_owned()).collect();
        let (at, cuts) = (Arc::new(AtomicUsize::new(first)), watch::Sender::new(0));
        let (begin, cut) = (at.clone(), cuts.subscribe());
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let (servers, begin, mut cut) = (servers.clone(), begin.clone(), cut.clone());
                tokio::spawn(async move {
                    cut.mark_unchanged();
                    let Some(mut to) = dial(&servers, begin.load(Ordering::Relaxed)).await else {
                        return;
                    };
                    tokio::select! {
                        // How it ended is for the two that talk to find out.
                        _ended = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                        _cut = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, at, cuts }
    }

    /// Goes on at the next server and leaves the one that was in use.
    fn next(&self) {
        let at = self.at.fetch_add(1, Ordering::Relaxed);
        self.cuts.send_replace(at + 1);
    }
}

async fn dial(servers: &[String], first: usize) -> Option<TcpStream> {
    for n in 0..servers.len() {
        if let Ok(to) = TcpStream::connect(&servers[(first + n) % servers.len()]).await {
            return Some(to);
        }
    }
    None
}

/// Waits until something holds.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waited).await.is_ok(), "not in time: {what}");
}

/// The `code` and `reason` of what a server refused.
fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        other => panic!("no refusal: {other:?}"),
    }
}
