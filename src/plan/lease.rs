//! The Lease of each node, as clients of Kubernetes know it.
//!
//! Heartbeats stay out of the log (docs/adr/0011-leases-out-of-the-log.md), so a Lease does not
//! move with each of them. It is written when what it says changes, and now and then while its node
//! is heard: a Lease is good until `renewTime` plus `leaseDurationSeconds`, and that is so at every
//! moment.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{Namespace, Node},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::{Controller, Inputs, Plan, batch::Batch, node};
use crate::{
    model::{GroupKind, Key, NodeName, Object, Timestamp},
    state::{Change, View},
};

/// Where the Leases of nodes are.
const NAMESPACE: &str = "kube-node-lease";

/// How long a renewed Lease is good for. It is renewed at half of that, so that a node costs the
/// log two small entries an hour; a node that falls silent loses it at once.
const LEASE_SECONDS: i64 = 3600;

/// Keeps the Lease of every node.
pub(super) const CONTROLLER: Controller =
    Controller { name: "node-lease-controller", affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<Node>(), None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let namespace = || change.key.is::<Namespace>() && change.key.name == NAMESPACE;
    let lease = || change.key.is::<Lease>() && change.key.namespace == NAMESPACE;
    match () {
        () if change.key.is::<Node>() => super::still(&change.key, view),
        () if lease() => super::still(&Key::of::<Node>("", &change.key.name), view),
        () if namespace() && super::is_new(change) => all(view),
        () => BTreeSet::new(),
    }
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let Some((object, node)) = view.object(key).and_then(|o| Some((o, o.view::<Node>()?))) else {
        return Plan::default();
    };
    let namespace = view.object(&Key::of::<Namespace>("", NAMESPACE));
    if object.is_terminating() || namespace.is_none_or(Object::is_terminating) {
        return Plan::default();
    }
    let heard = inputs.heard.get(&NodeName::new(&key.name)).copied().unwrap_or(inputs.now);
    let silence = node::is_unknown(node).then_some(inputs.timing.node_silence_seconds);
    let live = view.object(&Key::of::<Lease>(NAMESPACE, &key.name));
    let live = live.and_then(|o| Some((o, o.view::<Lease>()?)));
    let kept = live.and_then(|(_, lease)| standing(lease, &key.name, silence, inputs.now));
    let mut batch = Batch::default();
    let renewed = kept.unwrap_or_else(|| {
        let lease = lease(object, heard, silence.unwrap_or(LEASE_SECONDS));
        match live {
            Some((stored, _)) => batch.update(stored, &lease),
            None => batch.create(&lease),
        }
        heard
    });
    let next = renewed.plus_seconds(LEASE_SECONDS / 2).max(inputs.now.plus_seconds(1));
    batch.into_plan(silence.is_none().then_some(next))
}

/// When a Lease was renewed last, if it still says what is so.
fn standing(lease: &Lease, node: &str, silence: Option<i64>, now: Timestamp) -> Option<Timestamp> {
    let spec = lease.spec.as_ref()?;
    let renewed = Timestamp::from(spec.renew_time.as_ref()?);
    let fresh = silence.is_some() || now < renewed.plus_seconds(LEASE_SECONDS / 2);
    let lasts = spec.lease_duration_seconds.map(i64::from);
    let ours = spec.holder_identity.as_deref() == Some(node)
        && lasts == Some(silence.unwrap_or(LEASE_SECONDS));
    (ours && fresh).then_some(renewed)
}

fn lease(node: &Object, renewed: Timestamp, seconds: i64) -> Lease {
    let name = node.key().name.to_string();
    Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: Some(vec![OwnerReference {
                api_version: node.api_version().to_owned(),
                kind: node.key().kind.kind.to_string(),
                name: name.clone(),
                uid: node.uid().to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name),
            lease_duration_seconds: i32::try_from(seconds).ok(),
            renew_time: Some(renewed.to_micro_time()),
            ..LeaseSpec::default()
        }),
    }
}
