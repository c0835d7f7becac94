//! Events are forgotten after a while.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Event;

use super::{Controller, Inputs, Plan, batch::Batch};
use crate::{
    model::{GroupKind, Key, Object, Timestamp},
    state::{Change, View},
};

/// Deletes every event when its time is over.
pub(super) const CONTROLLER: Controller =
    Controller { name: "event-ttl-controller", affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<Event>(), None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<Event>() { super::still(&change.key, view) } else { BTreeSet::new() }
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key) else { return Plan::default() };
    let Some(said) = last_said(object) else { return Plan::default() };
    let over = said.plus_seconds(inputs.timing.event_ttl_seconds);
    if over > inputs.now {
        return Plan { wake_at: Some(over), ..Plan::default() };
    }
    let mut batch = Batch::default();
    batch.delete(object);
    batch.into_plan(None)
}

fn last_said(object: &Object) -> Option<Timestamp> {
    let event = object.view::<Event>()?;
    let last = event.last_timestamp.as_ref().map(Timestamp::from);
    let time = event.event_time.as_ref().map(Timestamp::from);
    let again = event.series.as_ref().and_then(|s| s.last_observed_time.as_ref());
    let born = object.meta().creation_timestamp.as_ref().map(Timestamp::from);
    last.max(time).max(again.map(Timestamp::from)).max(born)
}
