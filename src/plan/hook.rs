//! Hooks that are done go, as their delete policy says.
//!
//! That they run, and when, is `order`'s; that a commit makes them anew, `admission`'s. A hook that
//! went is not missed: State remembers how it ended.

use std::collections::BTreeSet;

use super::{Controller, Inputs, Plan, batch::Batch};
use crate::{
    kinds::{self, Commit},
    model::Key,
    state::{Change, Ending, View},
};

/// Deletes hooks.
pub(super) const CONTROLLER: Controller =
    Controller { name: "hook-controller", affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.hooks().cloned().collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<Commit>() {
        return all(view);
    }
    if view.is_hook(&change.key) { super::still(&change.key, view) } else { BTreeSet::new() }
}

fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key).filter(|object| !object.is_terminating()) else {
        return Plan::default();
    };
    let Some(hook) = kinds::order(object).hook else { return Plan::default() };
    let goes = match Ending::of(object) {
        Some(Ending::Succeeded) => hook.delete_succeeded,
        // Until the cluster runs another commit, its pods say why this one failed, and it is what
        // the others wait for.
        Some(Ending::Failed) => {
            let head = view.origin(key).and_then(|origin| view.head_of(&origin.source));
            let head = head.map(|head| head.commit.as_str());
            hook.delete_failed && object.annotation("mainstay.io/commit") != head
        }
        None => false,
    };
    let mut batch = Batch::default();
    if goes {
        batch.delete(object);
    }
    batch.into_plan(None)
}
