use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::{
    kinds,
    model::{Key, RequestId},
    state::{Command, Entry, Expect as At, Outcome, Refusal, State},
};

fn apply(state: &mut State, id: u128, ops: Vec<Op>) -> Vec<Outcome> {
    let at = Timestamp(1_700_000_000_000);
    state.apply(Entry::new(RequestId(id), at, vec![Command::Write(ops)]))
}

/// Pods `a` and `b`, ready, and `c`, which is not, and budgets over all of them.
fn state(budgets: &[(&str, Value, Value)]) -> State {
    let mut state = State::default();
    let mut ops = Vec::new();
    let mut put = |value: Value| {
        let object = kinds::admit(value.clone(), kinds::Strictness::Strict).unwrap().object;
        let status = Object::from_value(&value).unwrap();
        ops.push(Op::Put { object, expect: At::Absent, part: Part::Main });
        ops.push(Op::Put { object: status, expect: At::Any, part: Part::Status });
    };
    for (name, ready) in [("a", "True"), ("b", "True"), ("c", "False")] {
        put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "demo", "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "c", "image": "i" }] },
            "status": {
                "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }],
            },
        }));
    }
    for (name, spec, status) in budgets {
        let mut value = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": { "name": name, "namespace": "demo" },
            "spec": { "selector": { "matchLabels": { "app": "web" } } },
            "status": status,
        });
        for (field, inner) in spec.as_object().into_iter().flatten() {
            value["spec"][field] = inner.clone();
        }
        put(value);
    }
    assert!(matches!(apply(&mut state, 1, ops)[..], [Outcome::Done(_)]));
    state
}

fn status(allowed: i32, healthy: i32, desired: i32) -> Value {
    json!({
        "observedGeneration": 1, "expectedPods": 3, "currentHealthy": healthy,
        "desiredHealthy": desired, "disruptionsAllowed": allowed,
    })
}

fn spent(state: &State, pod: &str) -> Result<Option<Op>, Failure> {
    let pod = state.view().object(&Key::of::<Pod>("demo", pod)).unwrap();
    spend(state.view(), pod, Timestamp(1_700_000_000_000))
}

/// What an eviction of a pod gives: the status that is written, or the refusal.
fn check(state: &State, pod: &str, expect: &Expect) {
    let text = match spent(state, pod) {
        Ok(None) => "free".to_owned(),
        Ok(Some(Op::Put { object, .. })) => object.value()["status"].to_string(),
        Ok(Some(op)) => format!("{op:?}"),
        Err(failure) => {
            let details = failure.details.clone().unwrap_or_default();
            let causes: Vec<String> = details.causes.into_iter().map(|c| c.message).collect();
            format!("{} {}: {}", failure.code.as_u16(), failure.message, causes.join("; "))
        }
    };
    expect.assert_eq(&text);
}

#[test]
fn a_budget_is_spent_one_by_one() {
    let state = state(&[("keep", json!({ "minAvailable": 1 }), status(1, 2, 1))]);
    check(
        &state,
        "a",
        &expect![[
            r#"{"currentHealthy":2,"desiredHealthy":1,"disruptedPods":{"a":"2023-11-14T22:13:20Z"},"disruptionsAllowed":0,"expectedPods":3,"observedGeneration":1}"#
        ]],
    );
}

#[test]
fn an_empty_budget_says_why() {
    let state = state(&[("keep", json!({ "minAvailable": 2 }), status(0, 2, 2))]);
    check(
        &state,
        "a",
        &expect![
            "429 Cannot evict pod as it would violate the pod's disruption budget.: The disruption budget keep needs 2 healthy pods and has 2 currently"
        ],
    );
}

/// A budget that changed after it was counted says nothing of what it allows.
#[test]
fn a_budget_that_was_not_counted_lets_nobody_go() {
    let uncounted = json!({ "disruptionsAllowed": 5 });
    let state = state(&[("keep", json!({ "minAvailable": 1 }), uncounted)]);
    check(
        &state,
        "a",
        &expect![
            "429 Cannot evict pod as it would violate the pod's disruption budget.: The disruption budget keep is still being processed by the server."
        ],
    );
}

#[test]
fn two_budgets_are_one_too_many() {
    let budget = |name| (name, json!({ "minAvailable": 1 }), status(1, 2, 1));
    check(
        &state(&[budget("one"), budget("two")]),
        "a",
        &expect![
            "500 This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.: "
        ],
    );
}

/// A pod that is not ready may go while enough others are, or always, as the policy says.
#[test]
fn what_is_not_ready_costs_nothing_when_the_policy_says_so() {
    let of = |spec: Value, status: Value| state(&[("keep", spec, status)]);
    check(&of(json!({ "minAvailable": 2 }), status(0, 2, 2)), "c", &expect!["free"]);
    check(
        &of(json!({ "minAvailable": 3 }), status(0, 2, 3)),
        "c",
        &expect![
            "429 Cannot evict pod as it would violate the pod's disruption budget.: The disruption budget keep needs 3 healthy pods and has 2 currently"
        ],
    );
    let always = json!({ "minAvailable": 3, "unhealthyPodEvictionPolicy": "AlwaysAllow" });
    check(&of(always, status(0, 2, 3)), "c", &expect!["free"]);
}

/// Two servers that read the same budget cannot both spend its last disruption.
#[test]
fn a_disruption_is_spent_once() {
    let mut state = state(&[("keep", json!({ "minAvailable": 1 }), status(1, 2, 1))]);
    let (first, second) = (spent(&state, "a").unwrap(), spent(&state, "b").unwrap());
    let done = apply(&mut state, 2, first.into_iter().collect());
    assert!(matches!(done[..], [Outcome::Done(_)]), "{done:?}");
    let refused = apply(&mut state, 3, second.into_iter().collect());
    let conflict = |o: &Outcome| matches!(o, Outcome::Refused(Refusal::Conflict { .. }));
    assert!(refused.iter().all(conflict), "{refused:?}");
    check(
        &state,
        "b",
        &expect![
            "429 Cannot evict pod as it would violate the pod's disruption budget.: The disruption budget keep needs 1 healthy pods and has 2 currently"
        ],
    );
}
