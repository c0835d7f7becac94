//! The arithmetic of a rollout: how many pods each ReplicaSet shall have next.
//!
//! In: the numbers of a Deployment and of its ReplicaSets. Out: new sizes. `plan::deployment` asks;
//! nothing here knows objects, names or time. Source:
//! kubernetes.io/docs/concepts/workloads/controllers/deployment.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[cfg(test)]
mod tests;

/// How far a rolling update may leave the desired number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pods above the desired number.
    pub max_surge: i32,
    /// Pods below it that may be unavailable.
    pub max_unavailable: i32,
}

impl Limits {
    /// Resolves both against the desired number: surge rounds up, unavailable rounds down, and when
    /// both come to nothing one pod may be unavailable, or no update would ever move.
    pub fn resolve(
        desired: i32,
        surge: Option<&IntOrString>,
        unavailable: Option<&IntOrString>,
    ) -> Self {
        let max_surge = share(surge, desired, true);
        let max_unavailable = share(unavailable, desired, false);
        let both = max_surge == 0 && max_unavailable == 0;
        Self { max_surge, max_unavailable: if both { 1 } else { max_unavailable } }
    }

    /// Those of a Recreate strategy: everything goes at once and nothing is added.
    pub const NONE: Self = Self { max_surge: 0, max_unavailable: 0 };

    /// The unavailable pods that make sense for this desired number.
    pub fn unavailable_of(self, desired: i32) -> i32 {
        self.max_unavailable.min(desired).max(0)
    }
}

/// A number, or a share of `total`. Kubernetes' default is 25 %.
pub(super) fn share(value: Option<&IntOrString>, total: i32, up: bool) -> i32 {
    let percent = |n: i64| {
        let product = n * i64::from(total);
        let rounded = if up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
        i32::try_from(rounded).unwrap_or(i32::MAX)
    };
    match value {
        None => percent(25),
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(text)) => {
            let number = text.strip_suffix('%').unwrap_or(text).parse::<i64>();
            number.map_or(0, percent)
        }
    }
}

/// One ReplicaSet in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Pods it shall have.
    pub size: i32,
    /// Pods of it that are available, never more than `size`.
    pub available: i32,
}

/// The next size of the new ReplicaSet: as far up as the surge allows, straight down when it is too
/// large.
pub fn new_size(desired: i32, limits: Limits, new: i32, total: i32) -> i32 {
    if new >= desired {
        return desired;
    }
    let room = desired + limits.max_surge - total;
    if room <= 0 { new } else { new + room.min(desired - new) }
}

/// The next sizes of the old ReplicaSets, oldest first: pods that are not available go first, then
/// as many as leave the desired number less `max_unavailable` available.
pub fn old_sizes(desired: i32, limits: Limits, new: Share, old: &[Share]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|s| s.size).collect();
    let minimum = desired - limits.unavailable_of(desired);
    let total: i32 = sizes.iter().sum::<i32>() + new.size;
    let most = total - minimum - (new.size - new.available);
    if most <= 0 {
        return sizes;
    }
    let mut gone = 0;
    for (size, share) in sizes.iter_mut().zip(old) {
        let less = (most - gone).min(*size - share.available).max(0);
        *size -= less;
        gone += less;
    }
    let available = new.available + old.iter().map(|s| s.available).sum::<i32>();
    let mut spare = (available - minimum).max(0);
    for size in &mut sizes {
        let less = spare.min(*size);
        *size -= less;
        spare -= less;
    }
    sizes
}

/// One ReplicaSet of a Deployment that is scaled in the middle of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Pods it shall have by now.
    pub size: i32,
    /// Desired number and surge when it was sized last (annotation `max-replicas`).
    pub most_before: i32,
}

/// The sizes that spread a new desired number over ReplicaSets that are both active, largest first
/// (on a tie the newer first when growing, the older first when shrinking; the caller sorts). What
/// rounding leaves goes to the first.
pub fn proportional(desired: i32, limits: Limits, parts: &[Part]) -> Vec<i32> {
    let allowed = if desired > 0 { desired + limits.max_surge } else { 0 };
    let to_add = allowed - parts.iter().map(|p| p.size).sum::<i32>();
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(parts.len());
    for part in parts {
        let change = proportion(desired, limits, *part, to_add, added);
        added += change;
        sizes.push(part.size + change);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    sizes
}

fn proportion(desired: i32, limits: Limits, part: Part, to_add: i32, added: i32) -> i32 {
    if part.size == 0 || to_add == 0 {
        return 0;
    }
    let allowed = to_add - added;
    let fraction = fraction(desired, limits, part);
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

fn fraction(desired: i32, limits: Limits, part: Part) -> i32 {
    if desired == 0 {
        return -part.size;
    }
    if part.most_before == 0 {
        return 0;
    }
    let scaled = i64::from(part.size) * i64::from(desired + limits.max_surge);
    let before = i64::from(part.most_before);
    // Rounded half away from zero, as Kubernetes does; all numbers are positive here.
    let rounded = (2 * scaled + before).div_euclid(2 * before);
    i32::try_from(rounded).unwrap_or(i32::MAX) - part.size
}
