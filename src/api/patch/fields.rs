//! Sets of fields, as managedFields writes them (FieldsV1): `f:` a field, `k:` an item by its keys,
//! `v:` a value of a set, `.` the thing itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Deepest set that is read from an object; deeper parts are dropped.
const DEPTH_MAX: usize = 128;

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// Whether the thing at this place is in the set.
    here: bool,
    below: BTreeMap<String, FieldSet>,
}

/// The step to a field.
pub(super) fn to_field(name: &str) -> String {
    format!("f:{name}")
}

/// The step to a value of a set.
pub(super) fn to_value(value: &Value) -> String {
    format!("v:{value}")
}

/// The step to an item with these keys.
pub(super) fn to_item(keys: &BTreeMap<&str, Value>) -> String {
    let map: Map<String, Value> = keys.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
    pairs.sort_by_key(|(key, _)| *key);
    let pairs: Vec<String> =
        pairs.iter().map(|(k, v)| format!("{}:{v}", Value::from(k.as_str()))).collect();
    format!("k:{{{}}}", pairs.join(","))
}

impl FieldSet {
    pub(super) fn is_empty(&self) -> bool {
        !self.here && self.below.is_empty()
    }

    pub(super) fn insert(&mut self, path: &[String]) {
        match path.split_first() {
            None => self.here = true,
            Some((step, rest)) => self.below.entry(step.clone()).or_default().insert(rest),
        }
    }

    /// What of the set lies below a step.
    pub(super) fn at(&self, step: &str) -> Option<&Self> {
        self.below.get(step)
    }

    /// Whether the thing at this place is in the set.
    pub(super) fn is_here(&self) -> bool {
        self.here
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.here |= other.here;
        for (step, set) in &other.below {
            let place = all.below.entry(step.clone()).or_default();
            *place = place.union(set);
        }
        all
    }

    pub(super) fn difference(&self, other: &Self) -> Self {
        let here = self.here && !other.here;
        self.each(here, |step, set| match other.below.get(step) {
            Some(gone) => set.difference(gone),
            None => set.clone(),
        })
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let here = self.here && other.here;
        self.each(here, |step, set| {
            other.below.get(step).map(|kept| set.intersection(kept)).unwrap_or_default()
        })
    }

    fn each(&self, here: bool, change: impl Fn(&str, &Self) -> Self) -> Self {
        let below = self.below.iter().map(|(step, set)| (step.clone(), change(step, set)));
        Self { here, below: below.filter(|(_, set)| !set.is_empty()).collect() }
    }

    /// Takes away everything at and below a place.
    pub(super) fn without(mut self, path: &[&str]) -> Self {
        self.cut(path);
        self
    }

    fn cut(&mut self, path: &[&str]) {
        match path {
            [] => *self = Self::default(),
            [step, rest @ ..] => {
                let emptied = self.below.get_mut(*step).is_some_and(|set| {
                    set.cut(rest);
                    set.is_empty()
                });
                if emptied {
                    self.below.remove(*step);
                }
            }
        }
    }

    /// Takes away one thing, not what is below it.
    pub(super) fn without_member(mut self, step: &str) -> Self {
        if let Some(set) = self.below.get_mut(step) {
            set.here = false;
            if set.is_empty() {
                self.below.remove(step);
            }
        }
        self
    }

    /// The set with every field on the way to a member: who owns `spec.replicas` holds `spec`.
    pub(super) fn with_ways(&self) -> Self {
        let below = self.below.iter().map(|(step, set)| {
            let mut set = set.with_ways();
            set.here |= step.starts_with("f:");
            (step.clone(), set)
        });
        Self { here: self.here, below: below.collect() }
    }

    /// The members as texts: `.spec.containers[name="web"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect("", &mut found);
        found
    }

    fn collect(&self, path: &str, found: &mut Vec<String>) {
        if self.here {
            found.push(path.to_owned());
        }
        for (step, set) in &self.below {
            set.collect(&format!("{path}{}", spoken(step)), found);
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.here && !self.below.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, set) in &self.below {
            map.insert(step.clone(), set.to_json());
        }
        Value::Object(map)
    }

    /// Reads FieldsV1; what is none is left out.
    pub(super) fn from_json(value: &Value) -> Self {
        let mut set = Self::read(value, 0);
        set.here = false;
        set
    }

    fn read(value: &Value, depth: usize) -> Self {
        let Some(map) = value.as_object().filter(|_| depth < DEPTH_MAX) else {
            return Self::default();
        };
        let steps = map
            .iter()
            .filter(|(step, _)| ["f:", "k:", "v:", "i:"].iter().any(|kind| step.starts_with(kind)));
        let below = steps.map(|(step, value)| (step.clone(), Self::read(value, depth + 1)));
        Self { here: map.is_empty() || map.contains_key("."), below: below.collect() }
    }
}

/// A step as Kubernetes prints it.
pub(super) fn spoken(step: &str) -> String {
    let (kind, rest) = step.split_at_checked(2).unwrap_or((step, ""));
    match kind {
        "f:" => format!(".{rest}"),
        "v:" => format!("[={rest}]"),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> =
                keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        _ => format!("[{rest}]"),
    }
}
