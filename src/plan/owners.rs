//! Who owns what: adoption of orphans that a selector names, release of what it names no more.

use k8s_openapi::{
    Metadata, Resource,
    api::core::v1::Namespace,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use serde::{Serialize, de::DeserializeOwned};

use super::batch::{Batch, controlled_by};
use crate::{
    model::{GroupKind, Object, Selector},
    state::View,
};

/// The objects of kind `T` that `owner` controls after adopting the orphans its selector names and
/// releasing those it names no more. A terminating owner adopts nothing.
pub(super) fn claim<'a, T>(
    view: &'a View,
    owner: &Object,
    selector: &LabelSelector,
    batch: &mut Batch,
) -> Vec<(&'a Object, T)>
where
    T: Resource
        + Metadata<Ty = ObjectMeta>
        + Clone
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let Ok(selector) = Selector::from_label_selector(selector) else { return Vec::new() };
    let mut claimed = Vec::new();
    for object in view.owned_by(owner.uid()) {
        let Some(typed) = object.view::<T>() else { continue };
        if selector.matches(object.meta().labels.as_ref()) {
            claimed.push((object, typed.clone()));
        } else if !owner.is_terminating() {
            let mut released = typed.clone();
            let owners = released.metadata_mut().owner_references.get_or_insert_default();
            owners.retain(|o| o.uid != owner.uid());
            batch.update(object, &released);
        }
    }
    if owner.is_terminating() || selector.is_empty() {
        return claimed;
    }
    for object in view.orphans(&GroupKind::of::<T>(), &owner.key().namespace) {
        let wanted = !object.is_terminating() && selector.matches(object.meta().labels.as_ref());
        if let (true, Some(typed)) = (wanted, object.view::<T>()) {
            let mut adopted = typed.clone();
            let owners = adopted.metadata_mut().owner_references.get_or_insert_default();
            owners.push(controlled_by(owner));
            batch.update(object, &adopted);
            claimed.push((object, adopted));
        }
    }
    claimed.sort_by(|(a, _), (b, _)| a.key().cmp(b.key()));
    claimed
}

/// Whether nothing new may be made in a namespace because it is going away.
pub(super) fn is_closing(view: &View, namespace: &str) -> bool {
    let namespace = view.object(&crate::model::Key::of::<Namespace>("", namespace));
    namespace.is_some_and(Object::is_terminating)
}
