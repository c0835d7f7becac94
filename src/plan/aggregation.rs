//! ClusterRoles that are made of others: their rules are those of the roles they select
//! (kubernetes.io/docs/reference/access-authn-authz/rbac, aggregated ClusterRoles).

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

use super::{Controller, Inputs, Plan, batch::Batch};
use crate::{
    model::{Key, Object, Selector},
    state::{Change, View},
};

/// Fills the rules of roles that aggregate.
pub(super) const CONTROLLER: Controller =
    Controller { name: "clusterrole-aggregation-controller", affected, all, plan };

/// The roles that aggregate, and what each selects.
fn aggregates(view: &View) -> impl Iterator<Item = (&Object, &ClusterRole, Vec<Selector>)> {
    view.list::<ClusterRole>(None).filter_map(|(object, role)| {
        let chosen = role.aggregation_rule.as_ref()?.cluster_role_selectors.iter().flatten();
        let selectors = chosen.filter_map(|s| Selector::from_label_selector(s).ok());
        Some((object, role, selectors.collect()))
    })
}

fn selects(selectors: &[Selector], role: &Object) -> bool {
    selectors.iter().any(|selector| selector.matches(role.meta().labels.as_ref()))
}

fn all(view: &View) -> BTreeSet<Key> {
    aggregates(view).map(|(object, ..)| object.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if !change.key.is::<ClusterRole>() {
        return BTreeSet::new();
    }
    let touched = |object: &Object, selectors: &[Selector]| {
        let mut versions = [&change.old, &change.new].into_iter().flatten();
        *object.key() == change.key || versions.any(|version| selects(selectors, version))
    };
    let touched = aggregates(view).filter(|(object, _, selectors)| touched(object, selectors));
    touched.map(|(object, ..)| object.key().clone()).collect()
}

fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let mut batch = Batch::default();
    let found = aggregates(view).find(|(object, ..)| object.key() == key);
    if let Some((object, role, selectors)) = found.filter(|(object, ..)| !object.is_terminating()) {
        let rules = Some(gathered(view, key, &selectors)).filter(|rules| !rules.is_empty());
        if rules != role.rules {
            batch.update(object, &ClusterRole { rules, ..role.clone() });
        }
    }
    batch.into_plan(None)
}

/// The rules of every role that is selected, each once, in the order of selectors and names.
fn gathered(view: &View, own: &Key, selectors: &[Selector]) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let one = std::slice::from_ref(selector);
        let parts = view.list::<ClusterRole>(None);
        let parts = parts.filter(|(object, _)| object.key() != own && selects(one, object));
        for rule in parts.flat_map(|(_, role)| role.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}
