//! ResourceQuotas: what the objects of a namespace may use together
//! (kubernetes.io/docs/concepts/policy/resource-quotas).
//!
//! What is used is counted from the View at each write, so nothing has to be kept in step. What is
//! charged is written to the quota's status in the same command as the object, at the version that
//! was counted: the log lets one of two such writes through, the other counts again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use serde_json::Value;

use super::{Attempt, Refused};
use crate::{
    kinds::usage::{self, Amounts},
    model::{Key, Object},
    state::{Expect, Op, Part, View},
};

/// What several objects that are let in together add to the quotas of their namespaces.
pub struct Ledger<'a> {
    view: &'a View,
    pages: BTreeMap<Key, Page<'a>>,
}

/// One quota, with all that is used of it by now.
struct Page<'a> {
    stored: &'a Object,
    hard: Amounts,
    used: Amounts,
    charged: bool,
}

impl<'a> Ledger<'a> {
    /// Everything as it is in a View.
    pub fn new(view: &'a View) -> Self {
        Self { view, pages: BTreeMap::new() }
    }

    /// Charges every quota of its namespace with an object that is new; refuses what one has no
    /// room for, and then none is charged.
    pub(super) fn charge(
        &mut self,
        attempt: &Attempt<'_>,
        object: &Object,
        value: &Value,
    ) -> Result<(), Refused> {
        if !concerns(attempt) {
            return Ok(());
        }
        let mut added = Vec::new();
        for (stored, quota) in self.view.list::<ResourceQuota>(Some(&object.key().namespace)) {
            let scoped = |spec: &&ResourceQuotaSpec| usage::in_scope(spec, object, value);
            let Some(spec) = quota.spec.as_ref().filter(scoped) else { continue };
            let page = self.pages.entry(stored.key().clone());
            let page = page.or_insert_with(|| Page::of(self.view, stored, spec));
            let adds: Amounts = usage::counted(self.view.kinds(), object, value, &page.hard);
            specified(attempt, stored, object, value, &page.hard)?;
            if !adds.is_empty() {
                room(attempt, page, object, &adds)?;
                added.push((stored.key().clone(), adds));
            }
        }
        for (key, adds) in added {
            if let Some(page) = self.pages.get_mut(&key) {
                usage::add(&mut page.used, &adds);
                page.charged = true;
            }
        }
        Ok(())
    }

    /// What must be written in the same command, before the objects: each quota's new use, at the
    /// version it was counted at. Of two that count the same quota at the same moment one is
    /// refused, and counts again.
    pub fn charges(self) -> Vec<Op> {
        let charged = self.pages.into_values().filter(|page| page.charged);
        charged.filter_map(|page| page.written()).collect()
    }
}

/// Whether a write is one that quotas count.
pub(super) fn concerns(attempt: &Attempt<'_>) -> bool {
    attempt.info.namespaced && attempt.live.is_none() && !attempt.is("", "events")
}

impl<'a> Page<'a> {
    fn of(view: &View, stored: &'a Object, spec: &ResourceQuotaSpec) -> Self {
        let hard = usage::hard(spec);
        let kinds = usage::counted_kinds(view.kinds(), &hard);
        let namespace = stored.key().namespace.as_str();
        let all = kinds.iter().flat_map(|kind| view.of_kind(kind, Some(namespace)));
        let used = usage::used(view.kinds(), spec, &hard, all);
        Self { stored, hard, used, charged: false }
    }

    fn written(&self) -> Option<Op> {
        let mut value = self.stored.value();
        value["status"] = usage::status(&self.hard, &self.used);
        let object = Object::from_value(&value).ok()?;
        Some(Op::Put { object, expect: Expect::At(self.stored.revision()), part: Part::Status })
    }
}

/// A quota on compute resources wants every container to say how much it takes.
fn specified(
    attempt: &Attempt<'_>,
    quota: &Object,
    object: &Object,
    value: &Value,
    hard: &Amounts,
) -> Result<(), Refused> {
    if !attempt.is("", "pods") || !value["spec"]["resources"].is_null() {
        return Ok(());
    }
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in hard.keys() {
        let (which, resource) = match name.split_once('.') {
            Some((which @ ("requests" | "limits"), resource)) => (which, resource),
            _ => ("requests", name.as_str()),
        };
        if !usage::COMPUTE.contains(&resource) {
            continue;
        }
        let lists = ["containers", "initContainers"];
        let all = lists.iter().flat_map(|list| usage::containers(&value["spec"], list));
        let silent = all.filter(|c| c["resources"][which][resource].is_null());
        let silent: Vec<String> =
            silent.filter_map(|c| c["name"].as_str().map(str::to_owned)).collect();
        if !silent.is_empty() {
            missing.insert(name.clone(), silent);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let text = |(name, of): (&String, &Vec<String>)| format!("{name} for: {}", of.join(","));
    let list: Vec<String> = missing.iter().map(text).collect();
    let why = format!("failed quota: {}: must specify {}", quota.key().name, list.join("; "));
    Err(attempt.refused(&object.key().name, &why))
}

/// Refuses what there is no room for.
fn room(
    attempt: &Attempt<'_>,
    Page { stored, hard, used, .. }: &Page<'_>,
    object: &Object,
    adds: &Amounts,
) -> Result<(), Refused> {
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or_default();
    let over =
        |name: &&String| of(used, name).plus(of(adds, name)).quantity > of(hard, name).quantity;
    let over: Vec<&String> = adds.keys().filter(over).collect();
    if over.is_empty() {
        return Ok(());
    }
    let list = |amounts: &Amounts| {
        let each: Vec<String> =
            over.iter().map(|name| format!("{name}={}", of(amounts, name))).collect();
        each.join(",")
    };
    let why = format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        stored.key().name,
        list(adds),
        list(used),
        list(hard)
    );
    Err(attempt.refused(&object.key().name, &why))
}
