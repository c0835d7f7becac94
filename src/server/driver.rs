//! The leader's loop: asks the controllers, proposes what they say, waits for the next change.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Store, clock};
use crate::{
    model::{NodeName, Timestamp},
    plan::{
        Agenda, ENTRY_COMMANDS_MAX, Inputs, Planned, Timing,
        hearing::answering,
        survivors::{Rested, Survivors},
    },
    raft::{Member, ProposeError},
    state::{Command, Outcome, View},
};

/// Between two looks at who the servers are; new ones are known to pods as late as that.
const SERVERS_EVERY: Duration = Duration::from_secs(10);

/// When each node's agent was last heard, by this server's clock. Written by the sessions.
pub type Heard = Arc<watch::Sender<BTreeMap<NodeName, Timestamp>>>;

/// What agents brought from a cluster before, and how far that was thought through. Written by the
/// sessions and the driver.
#[derive(Clone, Debug, Default)]
pub(super) struct Returns {
    /// What agents brought, written by their sessions.
    pub survivors: Arc<watch::Sender<Survivors>>,
    /// The last picture in which nothing was left to do about them, written by the driver.
    pub rested: Arc<watch::Sender<Rested>>,
    /// How long nodes are awaited.
    pub seconds: i64,
}

/// What the driver has done; read by metrics.
#[derive(Debug, Default)]
pub(super) struct DriverStats {
    /// Rounds that proposed something.
    pub rounds: AtomicU64,
    /// What the last of them took, deciding and proposing, in microseconds.
    pub round_micros: AtomicU64,
    /// Commands that State refused.
    pub refusals: AtomicU64,
}

/// What controllers are given that stays the same while the server runs.
pub(super) struct Given {
    /// Times that an administrator may change.
    pub timing: Timing,
    /// The PEM certificates by which pods know the cluster's API.
    pub root_ca: String,
    /// Where this server listens, as others reach it.
    pub address: SocketAddr,
}

/// Drives the controllers whenever this server leads, until `stop`.
pub(super) async fn run(
    store: Store,
    (heard, returns): (Heard, Returns),
    given: Given,
    stats: Arc<DriverStats>,
    stop: CancellationToken,
) {
    let mut roles = store.roles();
    while !stop.is_cancelled() {
        if roles.borrow_and_update().is_leader {
            lead(&store, (&heard, &returns), &given, &stats, &stop).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = roles.changed() => if changed.is_err() { return },
        }
    }
}

/// One term of leadership.
async fn lead(
    store: &Store,
    (heard, returns): (&Heard, &Returns),
    given: &Given,
    stats: &DriverStats,
    stop: &CancellationToken,
) {
    if store.barrier().await.is_err() {
        return;
    }
    // Every node gets a whole period to be heard by the new leader before it counts as silent.
    let start = clock::now();
    heard.send_modify(|all| all.clear());
    returns.rested.send_replace(Rested::default());
    let mut brought = returns.survivors.subscribe();
    brought.mark_changed();
    let mut survivors = Survivors::default();
    let mut views = store.views();
    let mut roles = store.roles();
    let mut agenda = Agenda::default();
    let mut known_servers = Vec::new();
    tracing::info!(event = "leading", term = roles.borrow().term);
    while store.is_leader() && !stop.is_cancelled() {
        let view = views.borrow_and_update().clone();
        let known = heard_or(start, heard, &view);
        let leading = clock::now().since(start);
        let servers = servers(store, given.address, leading);
        if servers != known_servers {
            // State does not know them: no change of it tells what they touch.
            agenda = Agenda::default();
            known_servers.clone_from(&servers);
        }
        if brought.has_changed().unwrap_or_default() {
            // Neither does it know what agents brought.
            agenda = Agenda::default();
            survivors.clone_from(&brought.borrow_and_update());
            returns.rested.send_replace(Rested::default());
        }
        let (now, heard, servers) = (clock::now(), &known, servers.as_slice());
        let Given { timing, root_ca, .. } = given;
        let inputs = Inputs { now, heard, timing, root_ca, servers, survivors: &survivors };
        let begun = tokio::time::Instant::now();
        let planned = agenda.round(&view, &inputs);
        if planned.iter().all(|p| p.commands.is_empty()) {
            if !survivors.is_empty() {
                returns.rested.send_replace(Rested::new(&view, &survivors));
            }
            let wake = agenda.wake_at().map(clock::instant_of);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = views.changed() => if changed.is_err() { return },
                changed = roles.changed() => if changed.is_err() { return },
                changed = brought.changed() => match changed {
                    Ok(()) => brought.mark_changed(),
                    Err(_) => return,
                },
                () = wait_until(wake) => {}
                () = tokio::time::sleep(SERVERS_EVERY) => {}
            }
            continue;
        }
        stats.rounds.fetch_add(1, Ordering::Relaxed);
        let proposed = propose(store, &planned).await;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        stats.round_micros.store(took, Ordering::Relaxed);
        match proposed {
            Ok(outcomes) => note_refusals(&mut agenda, &planned, &outcomes, stats),
            Err(ProposeError::NotLeader { .. }) => return,
            Err(error) => {
                tracing::warn!(event = "propose failed", %error);
                planned.iter().for_each(|p| agenda.refused(p, clock::now()));
            }
        }
    }
}

/// Where the servers of the cluster listen that answer. Of itself the server that leads knows
/// better than the log, which keeps where it was when it became a member.
fn servers(store: &Store, own: SocketAddr, leading: Duration) -> Vec<SocketAddr> {
    let id = store.id();
    let address = |m: Member| if m.id == id { Some(own) } else { m.address.parse().ok() };
    let all = store.members().into_iter().filter_map(|m| Some((m.id, address(m)?)));
    answering(all, id, &store.node().answered(), leading)
}

/// When each node was heard; a node that this leader has not heard yet counts as heard at its
/// start.
fn heard_or(start: Timestamp, heard: &Heard, view: &View) -> BTreeMap<NodeName, Timestamp> {
    let mut known = heard.borrow().clone();
    for (node, _) in view.list::<Node>(None) {
        known.entry(NodeName::new(&node.key().name)).or_insert(start);
    }
    known
}

/// Proposes what was planned in as few entries as its size allows.
async fn propose(store: &Store, planned: &[Planned]) -> Result<Vec<Outcome>, ProposeError> {
    let commands: Vec<&Command> = planned.iter().flat_map(|p| &p.commands).collect();
    let mut outcomes = Vec::with_capacity(commands.len());
    for entry in commands.chunks(ENTRY_COMMANDS_MAX) {
        outcomes.extend(store.propose(entry.iter().copied().cloned().collect()).await?);
    }
    Ok(outcomes)
}

fn note_refusals(
    agenda: &mut Agenda,
    planned: &[Planned],
    outcomes: &[Outcome],
    stats: &DriverStats,
) {
    let mut outcomes = outcomes.iter();
    for planned in planned {
        for command in &planned.commands {
            if let Some(Outcome::Refused(refusal)) = outcomes.next() {
                stats.refusals.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(
                    event = "refused", controller = planned.controller, key = %planned.key,
                    %refusal, ?command
                );
                agenda.refused(planned, clock::now());
            }
        }
    }
}

/// Waits until `at`, or for ever when there is none.
async fn wait_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
