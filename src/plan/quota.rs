//! The status of ResourceQuotas: what is used, counted again whenever it may have changed.
//!
//! Admission charges a quota with the object that it lets in; what goes, what ends and what
//! controllers make is counted here.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ResourceQuota;

use super::{Controller, Inputs, Plan};
use crate::{
    kinds::usage::{self, Amounts},
    model::{GroupKind, Key, Object},
    state::{Change, Command, Expect, Op, Part, View},
};

/// Keeps the status of every ResourceQuota.
pub(super) const CONTROLLER: Controller =
    Controller { name: "resourcequota-controller", affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<ResourceQuota>(), None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let key = &change.key;
    if key.namespace.is_empty() {
        return BTreeSet::new();
    }
    let mut quotas = BTreeSet::new();
    for (object, quota) in view.list::<ResourceQuota>(Some(&key.namespace)) {
        let counts = quota.spec.as_ref().is_some_and(|spec| {
            let hard = usage::hard(spec);
            let share = |o: &Option<Object>| {
                o.as_ref().map_or_else(Amounts::new, |o| usage::share(view.kinds(), spec, &hard, o))
            };
            usage::counted_kinds(view.kinds(), &hard).contains(&key.kind)
                && share(&change.old) != share(&change.new)
        });
        if counts || object.key() == key {
            quotas.insert(object.key().clone());
        }
    }
    quotas
}

fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let put = view.object(key).and_then(|object| recounted(view, object));
    let commands = put.map(|put| Command::Write(vec![put])).into_iter().collect();
    Plan { commands, ..Plan::default() }
}

/// The status as it is by now, if it is another one.
fn recounted(view: &View, object: &Object) -> Option<Op> {
    let spec = object.view::<ResourceQuota>()?.spec.as_ref()?;
    let hard = usage::hard(spec);
    let kinds = usage::counted_kinds(view.kinds(), &hard);
    let namespace = object.key().namespace.as_str();
    let all = kinds.iter().flat_map(|kind| view.of_kind(kind, Some(namespace)));
    let status = usage::status(&hard, &usage::used(view.kinds(), spec, &hard, all));
    let mut value = object.value();
    if value["status"] == status {
        return None;
    }
    value["status"] = status;
    let object = Object::from_value(&value).ok()?;
    let expect = Expect::At(Object::revision(&object));
    Some(Op::Put { object, expect, part: Part::Status })
}
