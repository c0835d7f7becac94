//! Field selectors: which fields a kind lets be asked, and what an object has there.

use std::sync::Arc;

use serde_json::Value;
use smol_str::SmolStr;

use super::super::Failure;
use crate::{kinds::KindInfo, model::Object};

/// Requirements on fields, all of which must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    requirements: Vec<Requirement>,
    /// Where the fields have the names that were asked for; as they are stored when absent.
    at: Option<(Arc<KindInfo>, SmolStr)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    field: String,
    value: String,
    equal: bool,
}

impl Fields {
    /// Reads `a=b,c!=d`, and refuses fields the kind does not let be asked.
    pub(super) fn parse(
        info: &Arc<KindInfo>,
        api_version: &str,
        text: &str,
    ) -> Result<Self, Failure> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        let read = parts.map(|part| requirement(info, api_version, text, part));
        let at =
            (!info.is_shown_as_stored(api_version)).then(|| (info.clone(), api_version.into()));
        Ok(Self { requirements: read.collect::<Result<_, _>>()?, at })
    }

    /// Asks for one name.
    pub(super) fn name(name: &str) -> Self {
        let (field, value) = ("metadata.name".to_owned(), name.to_owned());
        Self { requirements: vec![Requirement { field, value, equal: true }], at: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Both of them.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.requirements.extend(other.requirements);
        self
    }

    fn shown(&self, object: &Object) -> Value {
        let value = object.value();
        match &self.at {
            Some((info, api_version)) => info.served_at(api_version, value),
            None => value,
        }
    }

    pub(super) fn matches(&self, object: &Object) -> bool {
        let mut decoded = None;
        self.requirements.iter().all(|requirement| {
            let found = match requirement.field.as_str() {
                "metadata.name" => object.key().name.to_string(),
                "metadata.namespace" => object.key().namespace.to_string(),
                field => text_of(decoded.get_or_insert_with(|| self.shown(object)), field),
            };
            (found == requirement.value) == requirement.equal
        })
    }
}

fn requirement(
    info: &KindInfo,
    api_version: &str,
    whole: &str,
    part: &str,
) -> Result<Requirement, Failure> {
    let split = part
        .split_once("!=")
        .map(|(field, value)| (field, value, false))
        .or_else(|| part.split_once("==").map(|(field, value)| (field, value, true)))
        .or_else(|| part.split_once('=').map(|(field, value)| (field, value, true)));
    let Some((field, value, equal)) = split else {
        let text = format!("invalid selector: '{whole}'; can't understand '{part}'");
        return Err(Failure::bad_request(text));
    };
    let common = field == "metadata.name" || field == "metadata.namespace" && info.namespaced;
    let own = info.selectable_fields(api_version);
    if !common && !own.contains(&field) {
        let known = match info.namespaced {
            true => "\"metadata.name\", \"metadata.namespace\"",
            false => "\"metadata.name\"",
        };
        let text = match own.is_empty() {
            true => format!("{field:?} is not a known field selector: only {known}"),
            false => format!("field label not supported: {field}"),
        };
        return Err(Failure::bad_request(text));
    }
    Ok(Requirement { field: field.to_owned(), value: value.to_owned(), equal })
}

/// What an object has in a field, as text.
fn text_of(object: &Value, field: &str) -> String {
    let pointer = match field {
        "source" => "/source/component".to_owned(),
        "status.successful" => "/status/succeeded".to_owned(),
        _ => format!("/{}", field.replace('.', "/")),
    };
    match (object.pointer(&pointer), field) {
        (Some(Value::String(text)), _) => text.clone(),
        (Some(Value::Array(items)), "status.podIPs") => {
            let ips = items.iter().filter_map(|item| item["ip"].as_str());
            ips.collect::<Vec<_>>().join(",")
        }
        (Some(Value::Null) | None, "spec.hostNetwork" | "spec.unschedulable") => "false".to_owned(),
        (Some(Value::Null) | None, "status.replicas" | "status.successful") => "0".to_owned(),
        (Some(Value::Null) | None, _) => String::new(),
        (Some(other), _) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{kinds::lookup, model::GroupKind};

    fn check(selector: &str, expected: bool) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "namespace": "n" },
            "spec": { "nodeName": "n1" }, "status": { "phase": "Running" },
        });
        let info = lookup(&GroupKind::new("", "Pod")).unwrap();
        let fields = Fields::parse(info, &info.api_version, selector).unwrap();
        assert_eq!(fields.matches(&Object::from_value(&pod).unwrap()), expected, "{selector}");
    }

    #[test]
    fn a_selector_names_fields_and_their_values() {
        check("metadata.name=a", true);
        check("metadata.name==b", false);
        check("metadata.namespace!=n", false);
        check("spec.nodeName=n1,status.phase!=Succeeded", true);
        check("spec.nodeName=", false);
        check("spec.hostNetwork=false", true);
        check("spec.hostNetwork=maybe", false);
        check("", true);
    }

    #[test]
    fn what_may_not_be_asked_is_refused_by_name() {
        let told = |kind: &str, selector: &str| {
            let info = lookup(&GroupKind::new("", kind)).unwrap();
            Fields::parse(info, &info.api_version, selector).unwrap_err().message
        };
        assert_eq!(
            told("ConfigMap", "metadata.name"),
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
        );
        assert_eq!(
            told("ConfigMap", "data.a=b"),
            "\"data.a\" is not a known field selector: only \"metadata.name\", \
             \"metadata.namespace\""
        );
        assert_eq!(told("Pod", "spec.foo=b"), "field label not supported: spec.foo");
    }
}
