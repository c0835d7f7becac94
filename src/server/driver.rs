//! The leader's loop: asks the controllers, proposes what they say, waits for the next change.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Store, clock};
use crate::{
    model::{NodeName, Timestamp},
    plan::{Agenda, CONTROLLERS, Inputs, Timing},
    raft::ProposeError,
    state::Outcome,
};

/// When each node's agent was last heard, by this server's clock. Written by the sessions.
pub type Heard = Arc<watch::Sender<BTreeMap<NodeName, Timestamp>>>;

/// What the driver has done; read by metrics.
#[derive(Debug, Default)]
pub struct DriverStats {
    /// Rounds that proposed something.
    pub rounds: std::sync::atomic::AtomicU64,
    /// Commands that State refused.
    pub refusals: std::sync::atomic::AtomicU64,
}

/// Drives the controllers whenever this server leads, until `stop`.
pub async fn run(
    store: Store,
    heard: Heard,
    timing: Timing,
    stats: Arc<DriverStats>,
    stop: CancellationToken,
) {
    let mut roles = store.roles();
    while !stop.is_cancelled() {
        if roles.borrow_and_update().is_leader {
            lead(&store, &heard, &timing, &stats, &stop).await;
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
    heard: &Heard,
    timing: &Timing,
    stats: &DriverStats,
    stop: &CancellationToken,
) {
    if store.barrier().await.is_err() {
        return;
    }
    // Every node gets a whole period to be heard by the new leader before it counts as silent.
    let start = clock::now();
    heard.send_modify(|all| all.clear());
    let mut views = store.views();
    let mut roles = store.roles();
    let mut agenda = Agenda::everything(CONTROLLERS, &views.borrow());
    tracing::info!(event = "leading", term = roles.borrow().term);
    while store.is_leader() && !stop.is_cancelled() {
        let view = views.borrow_and_update().clone();
        agenda.note_changes(CONTROLLERS, &view);
        let mut known = heard.borrow().clone();
        for (node, _) in view.list::<k8s_openapi::api::core::v1::Node>(None) {
            known.entry(NodeName::new(&node.key().name)).or_insert(start);
        }
        let inputs = Inputs { now: clock::now(), heard: &known, timing };
        let round = agenda.round(CONTROLLERS, &view, &inputs);
        if round.commands.is_empty() {
            if agenda.is_due() {
                continue;
            }
            let wake = agenda.wake_at().map(clock::instant_of);
            tokio::select! {
                () = stop.cancelled() => return,
                _ = views.changed() => {}
                changed = roles.changed() => if changed.is_err() { return },
                () = wait_until(wake) => {}
            }
            continue;
        }
        stats.rounds.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match store.propose(round.commands.clone()).await {
            Ok(outcomes) => {
                for (command, outcome) in round.commands.iter().zip(&outcomes) {
                    if let Outcome::Refused(refusal) = outcome {
                        stats.refusals.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        tracing::debug!(event = "refused", %refusal, ?command);
                    }
                }
                let refused = outcomes.iter().map(|o| matches!(o, Outcome::Refused(_)));
                agenda.note_outcomes(&round, refused, clock::now());
            }
            Err(ProposeError::NotLeader { .. }) => return,
            Err(error) => {
                tracing::warn!(event = "propose failed", %error);
                agenda.put_back(round);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = wait_until(Some(clock::instant_of(clock::now().plus_seconds(1)))) => {}
                }
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
