//! The pods that a controller makes in one step: how many, what they are called, and what is said
//! of each.

use std::collections::BTreeSet;

use k8s_openapi::{
    Metadata, Resource,
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use serde::Serialize;

use super::batch::{Batch, controlled_by, fresh_name, object};
use crate::{
    kinds,
    model::{GroupKind, Key, Object},
    policy::{self, Attempt, Ledger, Refused},
    state::{ENTRY_BYTES_MAX, View},
};

/// Most pods one step makes or deletes, as Kubernetes' burst; the next step goes on.
pub(super) const BURST_MAX: usize = 500;
/// Most bytes of new pods in one step, with room for their events and for what defaults add.
const BURST_BYTES_MAX: usize = ENTRY_BYTES_MAX / 4;

/// What became of the pods that were missing.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) count: usize,
    /// Why no more were made.
    pub(super) refused: Option<Refused>,
}

/// Makes a pod for each thing that is `wanted`, until the step is full or one is refused: the next
/// would be too. `prefix` says how its name begins, `pod` what it is, given that and the name.
pub(super) fn make<W>(
    view: &View,
    (owner, controller): (&Object, &'static str),
    wanted: impl IntoIterator<Item = W>,
    prefix: impl Fn(&W) -> String,
    pod: impl Fn(&W, &str, &str) -> Pod,
    batch: &mut Batch,
) -> Made {
    let fit = (BURST_BYTES_MAX / owner.bytes().len().max(1)).max(1);
    let key = Key::of::<Pod>(&owner.key().namespace, "");
    let (mut ledger, mut made) = (Ledger::new(view), Made::default());
    let (mut taken, mut nth) = (BTreeSet::new(), 0);
    for one in wanted.into_iter().take(BURST_MAX.min(fit)) {
        let prefix = prefix(&one);
        let name = loop {
            let name = fresh_name(view, &key, owner, &prefix, nth);
            nth += 1;
            if taken.insert(name.clone()) {
                break name;
            }
        };
        match admitted(view, &pod(&one, &prefix, &name), &mut ledger) {
            Ok(object) => batch.put_new(object),
            Err(refused) => {
                made.refused = Some(refused);
                break;
            }
        }
        batch.event(owner, controller, "SuccessfulCreate", format!("Created pod: {name}"));
        made.count += 1;
    }
    batch.first(ledger.charges());
    made
}

/// An object of a controller as it is stored, judged as those that users make and charged in the
/// `ledger`. A template that the door refuses by now is taken as it stands: it was valid when its
/// owner was admitted.
pub(super) fn admitted<T>(
    view: &View,
    typed: &T,
    ledger: &mut Ledger<'_>,
) -> Result<Object, Refused>
where
    T: Resource + Metadata<Ty = ObjectMeta> + Serialize,
{
    let mut value = serde_json::to_value(typed).unwrap_or_default();
    let Some(info) = kinds::lookup(&GroupKind::of::<T>()) else { return Ok(object(typed)) };
    let attempt = Attempt { view, info, subresource: "", live: None };
    policy::complete(&attempt, &mut value)?;
    let admitted = kinds::admit(value, kinds::Strictness::Warn);
    let made = admitted.map_or_else(|_| object(typed), |admitted| admitted.object);
    policy::check(&attempt, &made, ledger)?;
    Ok(made)
}

/// A pod of a template, owned by `owner`.
pub(super) fn pod_of(template: &PodTemplateSpec, owner: &Object, prefix: &str, name: &str) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            generate_name: Some(prefix.to_owned()),
            namespace: Some(owner.key().namespace.to_string()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controlled_by(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        ..Pod::default()
    }
}
