//! CustomResourceDefinitions: kinds that users add.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionStatus, CustomResourceDefinitionVersion,
    JSONSchemaProps,
};
use serde_json::{Value, json};

use super::{Kind, custom, each_subschema, field::Check, names, structural};

/// The port of the Service that converts.
const PORT: i32 = 443;
/// Types of printed columns.
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];

impl Kind for CustomResourceDefinition {
    fn default_fields(&mut self) {
        default_names(&mut self.spec.names);
        let conversion = self.spec.conversion.get_or_insert_default();
        if conversion.strategy.is_empty() {
            conversion.strategy = "None".to_owned();
        }
        let client = conversion.webhook.as_mut().and_then(|w| w.client_config.as_mut());
        if let Some(service) = client.and_then(|client| client.service.as_mut()) {
            service.port.get_or_insert(PORT);
        }
    }

    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if name != format!("{}.{}", spec.names.plural, spec.group) {
            check.invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group");
        }
        if spec.group.is_empty() {
            check.required("spec.group", "");
        } else {
            check.text("spec.group", &spec.group, names::dns1123_subdomain(&spec.group));
            if !spec.group.contains('.') {
                let text = "should be a domain with at least one dot";
                check.invalid("spec.group", &spec.group, text);
            }
        }
        check.one_of("spec.scope", &spec.scope, &["Cluster", "Namespaced"]);
        if spec.preserve_unknown_fields == Some(true) {
            let text = "must be false in order to use defaults in the schema";
            check.invalid("spec.preserveUnknownFields", true, text);
        }
        custom::approval_problem(self, check);
        validate_names(&spec.names, check);
        validate_conversion(spec, check);
        validate_versions(spec, check);
    }

    fn prepare_create(&mut self) {
        // Which names it gets follows from the other definitions: `kinds::accept_names`.
        let stored = self.spec.versions.iter().find(|version| version.storage);
        self.status = Some(CustomResourceDefinitionStatus {
            stored_versions: stored.map(|version| vec![version.name.clone()]),
            ..CustomResourceDefinitionStatus::default()
        });
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("spec.group", &live.spec.group, &self.spec.group);
        check.immutable("spec.scope", &live.spec.scope, &self.spec.scope);
        let (old, new) = (&live.spec.names, &self.spec.names);
        check.immutable("spec.names.plural", &old.plural, &new.plural);
        check.immutable("spec.names.kind", &old.kind, &new.kind);
    }

    /// Kubernetes writes both, whatever they say.
    fn written(value: &mut Value) {
        if let Some(status) = value.get_mut("status").and_then(Value::as_object_mut) {
            status.entry("acceptedNames").or_insert_with(|| json!({ "kind": "", "plural": "" }));
            status.entry("conditions").or_insert(Value::Null);
        }
        for version in value["spec"]["versions"].as_array_mut().into_iter().flatten() {
            whole_numbers(&mut version["schema"]["openAPIV3Schema"]);
        }
    }
}

/// Bounds are floats in the type and are written as whole numbers where they are whole.
fn whole_numbers(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for word in ["minimum", "maximum", "multipleOf"] {
        if let Some(whole) = map.get(word).and_then(whole) {
            map.insert(word.to_owned(), whole.into());
        }
    }
    each_subschema(map, &mut whole_numbers);
}

/// The largest number up to which every whole number is a float: 2⁵³.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

fn whole(number: &Value) -> Option<i64> {
    let number = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() <= WHOLE_MAX)?;
    Some(number as i64)
}

fn default_names(names: &mut CustomResourceDefinitionNames) {
    if names.singular.as_deref().unwrap_or_default().is_empty() {
        names.singular = Some(names.kind.to_lowercase());
    }
    if names.list_kind.as_deref().unwrap_or_default().is_empty() && !names.kind.is_empty() {
        names.list_kind = Some(format!("{}List", names.kind));
    }
}

fn validate_names(names: &CustomResourceDefinitionNames, check: &mut Check) {
    let at = |field: &str| format!("spec.names.{field}");
    let list_kind = names.list_kind.as_deref().unwrap_or_default();
    let singular = names.singular.as_deref().unwrap_or_default();
    for (field, value) in [
        ("plural", names.plural.as_str()),
        ("singular", singular),
        ("kind", names.kind.as_str()),
        ("listKind", list_kind),
    ] {
        if value.is_empty() {
            check.required(at(field), "");
        } else {
            let lower = value.to_lowercase();
            check.text(&at(field), value, names::dns1035_label(&lower));
            if matches!(field, "plural" | "singular") && lower != value {
                check.invalid(at(field), value, "must be in lower case");
            }
        }
    }
    if !names.kind.is_empty() && names.kind == list_kind {
        check.invalid(at("listKind"), list_kind, "kind and listKind may not be the same");
    }
    for (field, list) in [("shortNames", &names.short_names), ("categories", &names.categories)] {
        for (i, name) in list.iter().flatten().enumerate() {
            check.text(&format!("spec.names.{field}[{i}]"), name, names::dns1035_label(name));
        }
    }
}

fn validate_conversion(spec: &CustomResourceDefinitionSpec, check: &mut Check) {
    let at = "spec.conversion";
    let CustomResourceConversion { strategy, webhook } =
        spec.conversion.clone().unwrap_or_default();
    check.one_of(format!("{at}.strategy"), &strategy, &["None", "Webhook"]);
    match (strategy.as_str(), webhook) {
        ("Webhook", None) => {
            check.required(format!("{at}.webhook"), "required when strategy is set to Webhook");
        }
        ("Webhook", Some(webhook)) if webhook.conversion_review_versions.is_empty() => {
            check.required(format!("{at}.webhook.conversionReviewVersions"), "");
        }
        ("None", Some(_)) => {
            let text = "should not be set when strategy is not set to Webhook";
            check.forbidden(format!("{at}.webhook"), text);
        }
        _ => {}
    }
}

fn validate_versions(spec: &CustomResourceDefinitionSpec, check: &mut Check) {
    for (i, version) in spec.versions.iter().enumerate() {
        let at = format!("spec.versions[{i}]");
        let text = names::dns1035_label(&version.name);
        check.text(&format!("{at}.name"), &version.name, text);
        if spec.versions.iter().take(i).any(|other| other.name == version.name) {
            check.duplicate(format!("{at}.name"), &version.name);
        }
        // Kubernetes names the schema of an only version as it did when there could be no other.
        let schema_at = match spec.versions.len() {
            1 => "spec.validation.openAPIV3Schema".to_owned(),
            _ => format!("{at}.schema.openAPIV3Schema"),
        };
        validate_version(version, &at, &schema_at, check);
    }
    let stored = spec.versions.iter().filter(|version| version.storage).count();
    if stored != 1 {
        let text = "must have exactly one version marked as storage version";
        check.invalid("spec.versions", spec.versions.len(), text);
    }
}

fn validate_version(
    version: &CustomResourceDefinitionVersion,
    at: &str,
    schema_at: &str,
    check: &mut Check,
) {
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    match schema {
        None => check.required(format!("{at}.schema.openAPIV3Schema"), ""),
        Some(schema) => validate_schema(schema, schema_at, check),
    }
    for (i, column) in version.additional_printer_columns.iter().flatten().enumerate() {
        let at = format!("{at}.additionalPrinterColumns[{i}]");
        if column.name.is_empty() {
            check.required(format!("{at}.name"), "");
        }
        check.one_of(format!("{at}.type"), &column.type_, &COLUMN_TYPES);
        json_path(&column.json_path, &format!("{at}.jsonPath"), check);
    }
    for (i, field) in version.selectable_fields.iter().flatten().enumerate() {
        let at = format!("{at}.selectableFields[{i}].jsonPath");
        json_path(&field.json_path, &at, check);
    }
    let scale = version.subresources.as_ref().and_then(|sub| sub.scale.as_ref());
    if let Some(scale) = scale {
        let at = format!("{at}.subresources.scale");
        for (field, path, start) in [
            ("specReplicasPath", &scale.spec_replicas_path, ".spec."),
            ("statusReplicasPath", &scale.status_replicas_path, ".status."),
        ] {
            if !path.starts_with(start) {
                let text = format!("should be a json path under {start}");
                check.invalid(format!("{at}.{field}"), path, text.trim_end_matches('.'));
            }
        }
    }
}

/// A schema is judged as the JSON it is.
fn validate_schema(schema: &JSONSchemaProps, at: &str, check: &mut Check) {
    match serde_json::to_value(schema) {
        Ok(value) => {
            structural::is_structural(&value, at, check);
            structural::Rules::read(&value, at, check);
        }
        Err(error) => check.invalid(at, "", error),
    }
}

/// A path that begins at the object and says something.
fn json_path(path: &str, at: &str, check: &mut Check) {
    if path.is_empty() {
        check.required(at, "");
    } else if !path.starts_with('.') || path.len() == 1 {
        check.invalid(at, path, "must be a simple json path starting with .");
    }
}
