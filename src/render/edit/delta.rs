//! What somebody changes of a value, apart from the value: it can be made on another one.

use serde_json::{Map, Value};

/// Fields that tell the items of a list apart, in the order in which they are tried: the merge keys
/// of Kubernetes' types.
const IDENTITIES: [&str; 10] = [
    "name",
    "mountPath",
    "devicePath",
    "containerPort",
    "port",
    "key",
    "ip",
    "topologyKey",
    "type",
    "uid",
];

/// Most pairs of items that are compared to find what two lists have in common: some 10 ms. Beyond,
/// only what they begin with alike stays in place.
const COMPARED_MAX: usize = 1_000_000;

/// What changes between two values.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// Nothing.
    Same,
    /// It becomes this.
    Set(Value),
    /// It goes.
    Remove,
    /// Some of its entries change.
    Map(Vec<(String, Delta)>),
    /// Some of its items change.
    List {
        /// The items as they shall be, in order.
        items: Vec<Item>,
        /// How many there were.
        length: usize,
        /// All of it, for a list whose items cannot be told apart.
        whole: Value,
    },
}

/// One item of a list that changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// One that was there.
    Old {
        /// Where it was.
        index: usize,
        /// The field and value that tell it apart.
        identity: Option<(&'static str, Value)>,
        /// What changes of it.
        delta: Delta,
    },
    /// One that is new.
    New(Value),
}

impl Delta {
    /// What makes one value the other.
    pub fn between(old: &Value, new: &Value) -> Self {
        match (old, new) {
            (old, new) if old == new => Self::Same,
            (Value::Object(old), Value::Object(new)) => Self::Map(entries(old, new)),
            (Value::Array(old), Value::Array(new)) => list(old, new),
            (_, new) => Self::Set(new.clone()),
        }
    }

    /// Makes the change on another value; absent is `None`.
    pub fn apply(&self, value: Option<&Value>) -> Option<Value> {
        match self {
            Self::Same => value.cloned(),
            Self::Set(new) => Some(new.clone()),
            Self::Remove => None,
            Self::Map(entries) => {
                let mut map = value.and_then(Value::as_object).cloned().unwrap_or_default();
                for (key, delta) in entries {
                    match delta.apply(map.get(key)) {
                        Some(new) => map.insert(key.clone(), new),
                        None => map.remove(key),
                    };
                }
                let nothing = map.is_empty() && value.is_none();
                (!nothing).then_some(Value::Object(map))
            }
            Self::List { items, length, whole } => {
                let old = value.and_then(Value::as_array);
                let made = old.and_then(|old| {
                    items.iter().map(|item| item.apply(old, *length)).collect::<Option<Vec<_>>>()
                });
                Some(made.map_or_else(|| whole.clone(), Value::Array))
            }
        }
    }

    /// The fields that this changes and that became something else meanwhile: in `now`, which was
    /// `base` when the change was thought of.
    pub fn conflicts(&self, base: Option<&Value>, now: Option<&Value>) -> Vec<String> {
        let mut found = Vec::new();
        self.compare("", base, now, &mut found);
        found
    }

    fn compare(
        &self,
        path: &str,
        base: Option<&Value>,
        now: Option<&Value>,
        found: &mut Vec<String>,
    ) {
        match self {
            Self::Same => {}
            _ if base == now || self.apply(base) == now.cloned() => {}
            Self::Map(entries) => {
                for (key, delta) in entries {
                    let of = |value: Option<&Value>| value.and_then(|v| v.get(key)).cloned();
                    let (base, now) = (of(base), of(now));
                    delta.compare(&below(path, key), base.as_ref(), now.as_ref(), found);
                }
            }
            Self::List { items, .. } if items.iter().all(Item::is_known) => {
                let of = |value: Option<&Value>| value.and_then(Value::as_array).cloned();
                let (base, now) = (of(base).unwrap_or_default(), of(now).unwrap_or_default());
                for item in items {
                    item.compare(path, &base, &now, found);
                }
            }
            _ => found.push(path.to_owned()),
        }
    }

    /// The fields that change, for a person: `spec.replicas`.
    pub fn fields(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.name("", &mut found);
        found
    }

    fn name(&self, path: &str, found: &mut Vec<String>) {
        match self {
            Self::Same => {}
            Self::Map(entries) => {
                entries.iter().for_each(|(key, delta)| delta.name(&below(path, key), found));
            }
            Self::List { items, length, .. } => {
                let old = |item: &&Item| matches!(item, Item::Old { .. });
                if items.len() != *length || !items.iter().all(|item| old(&item)) {
                    found.push(path.to_owned());
                    return;
                }
                for item in items {
                    if let Item::Old { index, identity, delta } = item {
                        delta.name(&at(path, *index, identity.as_ref()), found);
                    }
                }
            }
            Self::Set(_) | Self::Remove => found.push(path.to_owned()),
        }
    }
}

impl Item {
    fn apply(&self, old: &[Value], length: usize) -> Option<Value> {
        match self {
            Self::New(value) => Some(value.clone()),
            Self::Old { index, identity, delta } => {
                let found = match identity {
                    Some((field, value)) => old.iter().find(|v| v.get(field) == Some(value)),
                    None => old.get(*index).filter(|_| old.len() == length),
                };
                delta.apply(Some(found?))
            }
        }
    }

    /// Whether the item is told apart by a field.
    fn is_known(&self) -> bool {
        matches!(self, Self::Old { identity: Some(_), .. } | Self::New(Value::Object(_)))
    }

    fn compare(&self, path: &str, base: &[Value], now: &[Value], found: &mut Vec<String>) {
        let Self::Old { index, identity: Some((field, value)), delta } = self else { return };
        let of = |list: &[Value]| list.iter().find(|v| v.get(field) == Some(value)).cloned();
        let path = at(path, *index, Some(&(*field, value.clone())));
        delta.compare(&path, of(base).as_ref(), of(now).as_ref(), found);
    }
}

fn at(path: &str, index: usize, identity: Option<&(&'static str, Value)>) -> String {
    match identity {
        Some((_, Value::String(text))) => format!("{path}[{text}]"),
        Some((_, value)) => format!("{path}[{value}]"),
        None => format!("{path}[{index}]"),
    }
}

fn below(path: &str, key: &str) -> String {
    let key = if key.contains(['.', '/']) { format!("[{key}]") } else { key.to_owned() };
    match path {
        "" => key,
        path if key.starts_with('[') => format!("{path}{key}"),
        path => format!("{path}.{key}"),
    }
}

fn entries(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<(String, Delta)> {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Delta::Remove));
    let changed = new.iter().filter_map(|(key, value)| match old.get(key) {
        Some(old) if old == value => None,
        Some(old) => Some((key.clone(), Delta::between(old, value))),
        None => Some((key.clone(), Delta::Set(value.clone()))),
    });
    gone.chain(changed).collect()
}

fn list(old: &[Value], new: &[Value]) -> Delta {
    let identity = identity(old, new);
    let mut items = Vec::new();
    for (value, matched) in aligned(old, new, identity) {
        items.push(match matched {
            Some(index) => Item::Old {
                index,
                identity: identity.and_then(|field| Some((field, old[index].get(field)?.clone()))),
                delta: Delta::between(&old[index], value),
            },
            None => Item::New(value.clone()),
        });
    }
    Delta::List { items, length: old.len(), whole: Value::Array(new.to_vec()) }
}

/// Each new item with the number of the old one that it is: by the field that tells them apart, by
/// its place when there are as many as before, else by what both have in the same order.
pub(super) fn aligned<'v>(
    old: &[Value],
    new: &'v [Value],
    identity: Option<&str>,
) -> Vec<(&'v Value, Option<usize>)> {
    let found: Vec<Option<usize>> = match identity {
        Some(field) => {
            let same = |value: &Value| old.iter().position(|o| o.get(field) == value.get(field));
            new.iter().map(same).collect()
        }
        None if old.len() == new.len() => (0..new.len()).map(Some).collect(),
        None => common(old, new),
    };
    new.iter().zip(found).collect()
}

/// The longest common subsequence: for each new item, the equal old one.
fn common(old: &[Value], new: &[Value]) -> Vec<Option<usize>> {
    let mut found = vec![None; new.len()];
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    (0..head).for_each(|at| found[at] = Some(at));
    let (rows, columns) = (old.len() - head, new.len() - head);
    if rows * columns > COMPARED_MAX {
        return found;
    }
    let equal = |row: usize, column: usize| old[head + row] == new[head + column];
    let mut longest = vec![vec![0u32; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            longest[row][column] = match equal(row, column) {
                true => longest[row + 1][column + 1] + 1,
                false => longest[row + 1][column].max(longest[row][column + 1]),
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < rows && column < columns {
        if equal(row, column) {
            found[head + column] = Some(head + row);
            (row, column) = (row + 1, column + 1);
        } else if longest[row + 1][column] >= longest[row][column + 1] {
            row += 1;
        } else {
            column += 1;
        }
    }
    found
}

/// The field that tells all items of both lists apart.
pub(super) fn identity(old: &[Value], new: &[Value]) -> Option<&'static str> {
    let tells = |list: &[Value], field: &str| {
        let mut seen: Vec<&Value> = Vec::new();
        list.iter().all(|item| {
            let value = item.get(field).filter(|value| !value.is_null() && !value.is_object());
            let fresh = value.filter(|value| !seen.contains(value));
            seen.extend(fresh);
            fresh.is_some()
        })
    };
    IDENTITIES.into_iter().find(|field| tells(old, field) && tells(new, field))
}
