//! What became of a request for a certificate: conditions that say so once and for good.

use axum::{http::StatusCode, response::Response};
use serde_json::{Value, json};

use super::{
    Ask,
    answer::{self, Shape},
    body,
    options::WriteOptions,
    patching, write,
};
use crate::{
    api::{Api, Failure, patch::Schema},
    kinds::{FieldError, Reason},
    model::{Object, Timestamp},
    state::Part,
};

/// Conditions that only `/approval` writes.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

/// Writes the conditions of a request, and nothing else of it.
pub(super) async fn serve(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let now = api.backend.now();
    let shape = Shape::of(ask, false, now)?;
    let options = WriteOptions::of("UpdateOptions", &ask.query)?;
    let patch = match ask.verb {
        "patch" => Some(patching::read(ask, options.strictness)?.0),
        _ => None,
    };
    let mut wanted = |live: &Object| {
        let live = live.value();
        let mut asked = match &patch {
            Some(patch) => patching::apply(Schema::of(&ask.info, &ask.api_version), patch, &live)?,
            None => body::decode(&ask.headers, &ask.body, &ask.info.kind)?,
        };
        body::identify(ask, &mut asked)?;
        write::named_as_path(ask, &asked)?;
        decided(&live, &asked, now).map_err(|error| {
            Failure::not_valid((&ask.info.kind, &ask.info.group), &ask.resource.name, &[error])
        })
    };
    let (written, warnings) = write::replaced(api, ask, options, Part::Status, &mut wanted).await?;
    Ok(answer::warn(shape.one(StatusCode::OK, &written.object), &warnings))
}

/// The live request with the conditions that are asked for.
fn decided(live: &Value, asked: &Value, now: Timestamp) -> Result<Value, FieldError> {
    let before = list(live);
    let mut after = list(asked);
    let has = |list: &[Value], kind: &str| list.iter().any(|c| c["type"] == kind);
    let wrong = |reason: Reason, detail: String| {
        let field = "status.conditions".to_owned();
        Err(FieldError { field, reason, detail })
    };
    if let Some(gone) = DECISIONS.iter().find(|kind| has(&before, kind) && !has(&after, kind)) {
        let text = format!("Forbidden: updates may not remove a condition of type {gone:?}");
        return wrong(Reason::Forbidden, text);
    }
    if DECISIONS.iter().all(|kind| has(&after, kind)) {
        let text = "Invalid value: \"Denied\": Approved and Denied conditions are mutually \
                    exclusive";
        return wrong(Reason::Invalid, text.to_owned());
    }
    after.iter_mut().for_each(|condition| date(condition, &before, now));
    let mut value = live.clone();
    value["metadata"]["resourceVersion"] = asked["metadata"]["resourceVersion"].clone();
    value["status"]["conditions"] = after.into();
    Ok(value)
}

fn list(request: &Value) -> Vec<Value> {
    request["status"]["conditions"].as_array().cloned().unwrap_or_default()
}

/// Says when a condition was written and when it became so, where its writer does not.
fn date(condition: &mut Value, before: &[Value], now: Timestamp) {
    let same = |c: &&Value| c["type"] == condition["type"] && c["status"] == condition["status"];
    let since = before.iter().find(same).map(|c| c["lastTransitionTime"].clone());
    let since = since.filter(|time| !time.is_null()).unwrap_or_else(|| json!(now.to_time()));
    for (field, time) in [("lastUpdateTime", json!(now.to_time())), ("lastTransitionTime", since)] {
        if condition[field].is_null() {
            condition[field] = time;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(conditions: &[(&str, &str)]) -> Value {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, since)| {
                json!({ "type": kind, "status": "True", "lastUpdateTime": since,
                        "lastTransitionTime": since })
            })
            .collect();
        json!({ "metadata": { "resourceVersion": "7" }, "status": { "conditions": conditions } })
    }

    fn told(live: &Value, asked: &Value) -> String {
        match decided(live, asked, Timestamp(1_000)) {
            Ok(value) => value["status"]["conditions"].to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_decision_is_dated_and_stays() {
        let mut asked = request(&[]);
        asked["status"]["conditions"] = json!([{ "type": "Approved", "status": "True" }]);
        let approved = told(&request(&[]), &asked);
        assert!(approved.contains(r#""lastUpdateTime":"1970-01-01T00:00:01Z""#), "{approved}");
        let live = request(&[("Approved", "2026-01-01T00:00:00Z")]);
        assert!(told(&live, &asked).contains(r#""lastTransitionTime":"2026-01-01T00:00:00Z""#));
        assert_eq!(
            told(&live, &request(&[])),
            "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""
        );
        let both = request(&[("Approved", "x"), ("Denied", "x")]);
        assert!(told(&live, &both).contains("mutually exclusive"));
    }

    #[test]
    fn nothing_but_the_conditions_is_taken() {
        let mut asked = request(&[("Denied", "x")]);
        asked["spec"] = json!({ "request": "another" });
        asked["status"]["certificate"] = "forged".into();
        let value = decided(&request(&[]), &asked, Timestamp(0)).unwrap();
        assert_eq!(value["spec"], Value::Null);
        assert_eq!(value["status"]["certificate"], Value::Null);
    }
}
