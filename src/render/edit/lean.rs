//! New parts of an object without what Kubernetes would add by itself.

use serde_json::Value;

use crate::{
    kinds::{Kinds, Strictness},
    model::Object,
};

/// Most fields that are tried: each try reads the object once, some 50 µs. What is beyond is
/// written as it came.
const TRIES_MAX: usize = 400;

/// Fields that are written though an object means the same without them.
const KEPT: [&str; 4] = ["apiVersion", "kind", "name", "namespace"];

/// A value without those fields that `old` does not have and whose absence changes nothing.
pub(super) fn of(kinds: &Kinds, old: Option<&Value>, new: &Value) -> Value {
    let Some(whole) = admitted(kinds, new) else { return new.clone() };
    let mut lean = Lean { kinds, whole, value: new.clone(), left: TRIES_MAX };
    lean.walk(old, Vec::new());
    lean.value
}

fn admitted(kinds: &Kinds, value: &Value) -> Option<Object> {
    kinds.admit(value.clone(), Strictness::Ignore).ok().map(|admitted| admitted.object)
}

struct Lean<'k> {
    kinds: &'k Kinds,
    whole: Object,
    value: Value,
    left: usize,
}

impl Lean<'_> {
    fn at(&mut self, way: &[String]) -> Option<&mut Value> {
        way.iter().try_fold(&mut self.value, |here, step| match here {
            Value::Object(map) => map.get_mut(step),
            Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    fn walk(&mut self, old: Option<&Value>, way: Vec<String>) {
        let here = self.at(&way).map(|value| value.clone()).unwrap_or_default();
        if old == Some(&here) {
            return;
        }
        match &here {
            Value::Object(map) => {
                for key in map.keys() {
                    let below = [way.as_slice(), std::slice::from_ref(key)].concat();
                    let was = old.and_then(|old| old.get(key));
                    let gone = was.is_none() && !KEPT.contains(&key.as_str());
                    if !(gone && self.goes(&way, key)) {
                        self.walk(was, below);
                    }
                }
            }
            Value::Array(items) => {
                let olds = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let identity = super::delta::identity(olds, items);
                let matched = super::delta::aligned(olds, items, identity);
                let was: Vec<Option<&Value>> =
                    matched.into_iter().map(|(_, at)| at.map(|at| &olds[at])).collect();
                for (at, was) in was.into_iter().enumerate() {
                    self.walk(was, [way.as_slice(), &[at.to_string()]].concat());
                }
            }
            _ => {}
        }
    }

    /// Takes a field out where the object stays the same.
    fn goes(&mut self, way: &[String], key: &str) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let Some(Value::Object(map)) = self.at(way) else { return false };
        let Some(taken) = map.remove(key) else { return false };
        if admitted(self.kinds, &self.value).is_some_and(|object| object == self.whole) {
            return true;
        }
        if let Some(Value::Object(map)) = self.at(way) {
            map.insert(key.to_owned(), taken);
        }
        false
    }
}
