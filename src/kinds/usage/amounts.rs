//! Sums of what containers ask for.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use crate::model::Quantity;

/// An amount that remembers whether it was written in powers of two, as Kubernetes' own do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How much.
    pub quantity: Quantity,
    binary: bool,
}

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Amount>;

/// Suffixes in powers of two, the largest first.
const BINARY: [(&str, u32); 6] =
    [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

impl Amount {
    /// Reads a text or a number; anything else is nothing.
    pub fn read(value: &Value) -> Self {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let quantity = Quantity::parse(&text).unwrap_or_default();
        Self { quantity, binary: text.ends_with('i') }
    }

    /// A whole number.
    pub fn units(count: i64) -> Self {
        Self { quantity: Quantity::units(count), binary: false }
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.quantity == Quantity::ZERO
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let binary = self.binary || other.binary;
        Self { quantity: self.quantity.plus(other.quantity), binary }
    }

    #[must_use]
    fn larger(self, other: Self) -> Self {
        if other.quantity > self.quantity { other } else { self }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.quantity.as_units();
        let whole = self.binary && self.quantity == Quantity::units(units) && units != 0;
        let fitting = BINARY.iter().find(|(_, bits)| whole && units % (1 << bits) == 0);
        match fitting {
            Some((suffix, bits)) => write!(f, "{}{suffix}", units >> bits),
            None => self.quantity.fmt(f),
        }
    }
}

/// The amounts of a map like `resources.requests`.
pub fn read(map: &Value) -> Amounts {
    let entries = map.as_object().into_iter().flatten();
    entries.map(|(name, value)| (name.clone(), Amount::read(value))).collect()
}

/// Adds amounts to others.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.entry(name.clone()).or_default();
        *sum = sum.plus(*amount);
    }
}

/// The containers of a list in a pod's spec.
pub fn containers<'a>(spec: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    spec[list].as_array().into_iter().flatten()
}

/// What a pod asks for: `which` is `requests` or `limits`. Containers run together, init containers
/// one after the other before them (but for those that go on), so the larger of both counts
/// (kubernetes.io/docs/concepts/workloads/pods/init-containers, resource sharing).
pub fn of_pod(spec: &Value, which: &str) -> Amounts {
    let of = |container: &Value| read(&container["resources"][which]);
    let (mut together, mut lasting, mut peak) = (Amounts::new(), Amounts::new(), Amounts::new());
    containers(spec, "containers").for_each(|container| add(&mut together, &of(container)));
    for container in containers(spec, "initContainers") {
        let mut at_once = lasting.clone();
        add(&mut at_once, &of(container));
        if container["restartPolicy"] == "Always" {
            lasting = at_once.clone();
        }
        larger(&mut peak, &at_once);
    }
    add(&mut together, &lasting);
    larger(&mut together, &peak);
    add(&mut together, &read(&spec["overhead"]));
    for (name, amount) in read(&spec["resources"][which]) {
        together.insert(name, amount);
    }
    together
}

fn larger(of: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let kept = of.entry(name.clone()).or_default();
        *kept = kept.larger(*amount);
    }
}
