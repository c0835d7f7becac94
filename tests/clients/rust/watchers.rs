//! Watchers that are told everything once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{Door, LOOK, NAMESPACE, client, runtime, until};
use crate::servers::{World, until as until_now};

/// How often each object is changed before it goes.
const CHANGES: usize = 3;

/// How many writes are waited for between two things that befall the servers.
const WRITES: usize = 25;

/// A version of an object, and whether it is its last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    version: u64,
    name: String,
    uid: String,
    deleted: bool,
}

impl Told {
    fn of(map: &ConfigMap, deleted: bool) -> Self {
        let version = map.resource_version().unwrap().parse().unwrap();
        Self { version, name: map.name_any(), uid: map.uid().unwrap(), deleted }
    }
}

/// What one watcher was told.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    /// How often it began anew.
    begun: usize,
    synced: bool,
    /// What was there before it.
    first: Vec<Told>,
    then: Vec<Told>,
}

impl Ledger {
    fn pages<T>(&self, read: impl FnOnce(&mut Pages) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes down what a watcher is told, for as long as the runtime lives.
    async fn keep(self, client: Client, config: watcher::Config) {
        let maps = Api::<ConfigMap>::namespaced(client, NAMESPACE);
        let mut events = watcher(maps, config).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.pages(|pages| match event {
                    Event::Init => pages.begun += 1,
                    Event::InitApply(map) => pages.first.push(Told::of(&map, false)),
                    Event::InitDone => pages.synced = true,
                    Event::Apply(map) => pages.then.push(Told::of(&map, false)),
                    Event::Delete(map) => pages.then.push(Told::of(&map, true)),
                }),
                // It goes on by itself where it was.
                Err(error) => eprintln!("a watcher: {error}"),
            }
        }
    }
}

/// Objects that come, change and go, and what the servers acknowledged of that.
struct Writer {
    ended: Arc<AtomicBool>,
    acked: Arc<Mutex<Vec<Told>>>,
    work: JoinHandle<()>,
}

impl Writer {
    fn start(client: Client) -> Self {
        let (ended, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(vec![])));
        let (over, answers) = (ended.clone(), acked.clone());
        let work = tokio::spawn(async move {
            let maps = Api::<ConfigMap>::namespaced(client, NAMESPACE);
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                live(&maps, &format!("rust-{n}"), n % 4 == 0, &answers).await;
                n += 1;
            }
        });
        Self { ended, acked, work }
    }

    fn acked(&self) -> Vec<Told> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for some more writes.
    fn more(&self) {
        let before = self.acked().len();
        until_now("more was written", || self.acked().len() >= before + WRITES);
    }
}

/// The life of one object. What is asked for again after an answer was lost changes nothing, so
/// that its version is the one that was told.
async fn live(maps: &Api<ConfigMap>, name: &str, stays: bool, answers: &Mutex<Vec<Told>>) {
    let ack = |map: &ConfigMap| {
        answers.lock().unwrap_or_else(PoisonError::into_inner).push(Told::of(map, false));
    };
    let apply = PatchParams::apply("rust").force();
    for change in 0..=CHANGES {
        let wish = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
            "data": { "change": change.to_string() },
        });
        loop {
            match maps.patch(name, &apply, &Patch::Apply(&wish)).await {
                Ok(map) => break ack(&map),
                Err(kube::Error::Api(status)) if status.code < 500 && status.code != 429 => {
                    panic!("refused: {status}")
                }
                Err(_lost) => tokio::time::sleep(LOOK).await,
            }
        }
    }
    if stays {
        return;
    }
    loop {
        match maps.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => break,
            Ok(_) => {}
            Err(_lost) => tokio::time::sleep(LOOK).await,
        }
    }
}

#[test]
fn watchers_of_kube_rs_see_every_event_once_while_the_leader_dies_and_they_change_servers() {
    let world = World::up(3);
    let leader = world.leader();
    let runtime = runtime();
    let begin = |first: usize| {
        runtime.block_on(async {
            let door = Door::open(&world, first).await;
            let client = client(&world.servers[0].kubeconfig(), &door.address).await;
            (door, client)
        })
    };
    let (_at_third, writes) = begin(leader + 2);
    let ways = [watcher::Config::default(), watcher::Config::default().streaming_lists()];
    let watched: Vec<(Door, Ledger, Client)> = (0..)
        .zip(ways)
        .map(|(n, way)| {
            let (door, client) = begin(leader + n);
            let ledger = Ledger::default();
            runtime.spawn(ledger.clone().keep(client.clone(), way));
            (door, ledger, client)
        })
        .collect();
    let each = |holds: &dyn Fn(&Ledger) -> bool| watched.iter().all(|(_, ledger, _)| holds(ledger));
    until_now("the watchers have begun", || each(&|ledger| ledger.pages(|pages| pages.synced)));

    let writer = runtime.block_on(async { Writer::start(writes) });
    // A watch that is cut before it is answered begins anew, on Kubernetes too.
    let seen = || {
        writer.more();
        let acked = writer.acked();
        until_now("the watchers were told", || each(&|ledger| unseen(ledger, &acked).is_none()));
    };
    seen();
    world.kill(leader);
    seen();
    watched.iter().for_each(|(door, ..)| door.next());
    seen();
    world.start_again(leader);
    watched.iter().for_each(|(door, ..)| door.next());
    seen();
    writer.ended.store(true, Ordering::Relaxed);
    let Writer { acked, work, .. } = writer;
    runtime.block_on(work).unwrap();
    let acked = acked.lock().unwrap_or_else(PoisonError::into_inner).clone();

    for (_, ledger, client) in &watched {
        runtime.block_on(until("a watcher knows what there is", || async {
            present(ledger) == listed(client).await
        }));
        assert_eq!(unseen(ledger, &acked), None);
        ledger.pages(|pages| {
            assert_eq!(pages.begun, 1, "it began anew");
            assert!(pages.then.is_sorted_by(|a, b| a.version < b.version), "{:?}", pages.then);
        });
    }
    let told = |n: usize| watched[n].1.pages(|pages| pages.then.clone());
    assert_eq!(told(0), told(1));
    eprintln!("{} events, {} writes acknowledged", told(0).len(), acked.len());
}

/// A write that was acknowledged and not told.
fn unseen(ledger: &Ledger, acked: &[Told]) -> Option<Told> {
    let told: BTreeSet<Told> =
        ledger.pages(|pages| pages.first.iter().chain(&pages.then).cloned().collect());
    acked.iter().find(|write| !told.contains(write)).cloned()
}

/// Versions by name, as a watcher knows them.
fn present(ledger: &Ledger) -> BTreeMap<String, u64> {
    let mut present = BTreeMap::new();
    ledger.pages(|pages| {
        for told in pages.first.iter().chain(&pages.then) {
            match told.deleted {
                true => present.remove(&told.name),
                false => present.insert(told.name.clone(), told.version),
            };
        }
    });
    present
}

/// Versions by name, as a server lists them.
async fn listed(client: &Client) -> BTreeMap<String, u64> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let all = maps.list(&ListParams::default()).await.unwrap();
    all.iter().map(|map| Told::of(map, false)).map(|told| (told.name, told.version)).collect()
}
