use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::json;

use super::world::{World, deployment};
use crate::{
    model::{RequestId, Timestamp},
    plan::{Agenda, Inputs, Timing, agenda::ROUND_COMMANDS_MAX, survivors::Survivors},
    state::{ClusterConfig, Command, Entry, HISTORY_MAX, State},
};

/// The agenda of a new leader plans everything once, then only what changed or is due.
#[test]
fn a_round_costs_what_changed() {
    let (heard, timing) = (BTreeMap::new(), Timing::default());
    let survivors = Survivors::default();
    let at = |now| Inputs {
        now: Timestamp(now),
        heard: &heard,
        timing: &timing,
        root_ca: "",
        servers: &[],
        survivors: &survivors,
    };
    let mut state = State::default();
    let configure = Command::Configure(ClusterConfig::with_id("test"));
    state.apply(Entry::new(RequestId(1), Timestamp(0), vec![configure]));
    let mut agenda = Agenda::default();
    let planned = agenda.round(state.view(), &at(0));
    let built_in = planned.iter().filter(|p| !p.controller.starts_with("apiservice"));
    assert_eq!(built_in.count(), 29, "namespaces, roles and bindings, priority classes");
    // Nothing was applied: nothing changed, so nothing is planned again.
    assert!(agenda.round(state.view(), &at(0)).is_empty());
    // A refused one comes back after a while, the others do not.
    agenda.refused(&planned[0], Timestamp(0));
    assert_eq!(agenda.wake_at(), Some(Timestamp(5000)));
    assert!(agenda.round(state.view(), &at(4999)).is_empty());
    let again = agenda.round(state.view(), &at(5000));
    assert_eq!(again, planned[..1]);
    assert_eq!(agenda.wake_at(), None);
    // A new leader knows as much.
    assert_eq!(Agenda::default().round(state.view(), &at(0)), planned);
}

/// What must not happen: a large commit that is decided in one go, so that all of it is in memory
/// at once and the history forgets what the next round has to look at.
#[test]
fn a_large_commit_is_decided_in_rounds() {
    const WORKLOADS: usize = 1500;
    let mut world = World::new();
    for n in 0..WORKLOADS {
        world.put(deployment(&format!("web-{n:04}"), 0, "web:1", json!({})));
    }
    let mut rounds = 0;
    loop {
        let before = world.view().revision();
        if !world.step() {
            break;
        }
        rounds += 1;
        let changes = usize::try_from(world.view().revision().0 - before.0).unwrap();
        assert!(changes < HISTORY_MAX / 2, "{changes} in one round");
    }
    assert!(rounds > WORKLOADS / ROUND_COMMANDS_MAX);
    assert_eq!(world.all::<ReplicaSet>().len(), WORKLOADS);
    let seen = |d: &Deployment| d.status.as_ref().and_then(|s| s.observed_generation);
    assert!(world.all::<Deployment>().iter().all(|(_, d)| seen(d) == d.metadata.generation));
    assert_eq!(world.full_pass(), [""; 0], "nothing was left behind");
}
