//! Conditions of statuses: what is so, and since when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Puts a condition in the place of the one before of its type.
pub(super) fn set(all: &mut Vec<Condition>, new: Condition) {
    let new = since(all, new);
    match all.iter_mut().find(|condition| condition.type_ == new.type_) {
        Some(condition) => *condition = new,
        None => all.push(new),
    }
}

/// A condition with the time since which it says so, where it did before.
pub(super) fn since(before: &[Condition], mut new: Condition) -> Condition {
    let same = before.iter().find(|c| c.type_ == new.type_ && c.status == new.status);
    if let Some(same) = same {
        new.last_transition_time = same.last_transition_time.clone();
    }
    new
}
