//! `kubectl get componentstatuses`: how this server is, by the parts that Kubernetes' clients ask
//! for. Found out when somebody asks; nothing is stored.

use axum::{http::StatusCode, response::Response};
use serde_json::{Value, json};

use super::{
    Ask,
    answer::{ListMeta, Shape},
    options::Filter,
};
use crate::{
    api::{Api, Check, Failure},
    model::Object,
};

/// What runs wherever somebody leads, under the names that clients look for.
const LED: [&str; 2] = ["controller-manager", "scheduler"];

/// The check that fails when nobody leads.
const LEADER: &str = "leader";

/// Answers with one component, or all.
pub(super) fn serve(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, ask.verb == "list", api.backend.now())?;
    let mut all = components(&api.backend.checks());
    if ask.verb == "list" {
        let filter = Filter::of(ask)?;
        all.retain(|component| filter.matches(component));
        return Ok(shape.list(&ListMeta::default(), all));
    }
    let name = ask.resource.name.as_str();
    let found = all.iter().find(|component| component.key().name == name);
    let found = found.ok_or_else(|| Failure::no_object(&ask.info, name))?;
    Ok(shape.one(StatusCode::OK, found))
}

/// The components of a server, by name.
fn components(checks: &[Check]) -> Vec<Object> {
    let leader = checks.iter().find(|check| check.name == LEADER);
    let failed = |check: Option<&Check>| check.and_then(|check| check.failed.clone());
    let led = LED.into_iter().map(|name| (name, failed(leader)));
    let own = checks.iter().filter(|check| check.name != LEADER);
    let own = own.map(|check| (check.name, check.failed.clone()));
    let mut all: Vec<_> = led.chain(own).collect();
    all.sort();
    all.into_iter().filter_map(|(name, failed)| component(name, failed)).collect()
}

fn component(name: &str, failed: Option<String>) -> Option<Object> {
    let mut health = json!({ "type": "Healthy", "status": "True", "message": "ok" });
    if let Some(error) = failed {
        health = json!({ "type": "Healthy", "status": "False", "error": error });
    }
    let value: Value = json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": { "name": name },
        "conditions": [health],
    });
    Object::from_value(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_leader_says_so_where_clients_look() {
        let check = |name, failed: Option<&str>| Check { name, failed: failed.map(str::to_owned) };
        let told = |checks: &[Check]| -> Vec<String> {
            let line = |o: &Object| {
                let health = o.value()["conditions"][0].clone();
                let text = ["message", "error"].map(|f| health[f].as_str().unwrap_or_default());
                format!("{} {} {}", o.key().name, health["status"], text.concat())
            };
            components(checks).iter().map(line).collect()
        };
        let checks = [check("leader", Some("no leader")), check("disk", None)];
        assert_eq!(
            told(&checks),
            [
                "controller-manager \"False\" no leader",
                "disk \"True\" ok",
                "scheduler \"False\" no leader"
            ]
        );
    }
}
