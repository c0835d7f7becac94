use std::collections::BTreeMap;

use crate::{
    model::{RequestId, Timestamp},
    plan::{Agenda, Inputs, Timing},
    state::{ClusterConfig, Command, Entry, State},
};

/// The agenda of a new leader plans everything once, then only what changed or is due.
#[test]
fn a_round_costs_what_changed() {
    let (heard, timing) = (BTreeMap::new(), Timing::default());
    let at = |now| Inputs {
        now: Timestamp(now),
        heard: &heard,
        timing: &timing,
        root_ca: "",
        servers: &[],
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
