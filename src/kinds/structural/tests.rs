//! Against what Kubernetes 1.37.1 answered (`tests/oracle/`), and by value.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use super::*;
use crate::kinds::field::Check;

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/custom");

#[expect(clippy::disallowed_methods, reason = "test data")]
fn case(name: &str) -> (Value, Value, Value) {
    let path = Path::new(ORACLE).join(name);
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let text = fs::read_to_string(path.with_extension("yaml")).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options).unwrap();
    let answer = fs::read_to_string(path.with_extension("json")).unwrap();
    let schema = &documents[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    (schema.clone(), documents[1].clone(), serde_json::from_str(&answer).unwrap())
}

/// Each error as its field, reason and words.
fn found(value: &Value, schema: &Value) -> BTreeSet<(String, String, String)> {
    let mut check = Check::default();
    validate(value, schema, "", &mut check);
    let errors = check.errors.into_iter();
    errors.map(|e| (e.field, e.reason.as_cause().to_owned(), e.detail)).collect()
}

#[test]
fn values_are_refused_as_kubernetes_refuses_them() {
    for name in ["custom-object-violates-schema", "custom-object-wrong-type-and-missing"] {
        let (schema, mut value, answer) = case(name);
        default_fields(&mut value, &schema);
        let causes = &answer["steps"][1]["status"]["details"]["causes"];
        let text = |cause: &Value, field: &str| cause[field].as_str().unwrap().to_owned();
        let theirs: BTreeSet<_> = causes
            .as_array()
            .unwrap()
            .iter()
            // Only where rules are checked is it news that they were not.
            .filter(|cause| cause["field"] != "<nil>")
            .map(|c| (text(c, "field"), text(c, "reason"), text(c, "message")))
            .collect();
        assert_eq!(found(&value, &schema), theirs, "{name}");
    }
}

#[test]
fn rules_refuse_as_kubernetes_does() {
    let (schema, mut value, answer) = case("custom-object-violates-rule");
    default_fields(&mut value, &schema);
    let mut check = Check::default();
    let rules = Rules::read(&schema, "", &mut check);
    rules.judge(&value, Ask::Alone, &mut check);
    let ours: Vec<Value> = check
        .errors
        .iter()
        .map(|e| json!({ "field": e.field, "reason": e.reason.as_cause(), "message": e.detail }))
        .collect();
    assert_eq!(Value::from(ours), answer["steps"][1]["status"]["details"]["causes"]);
}

#[test]
fn values_are_defaulted_and_pruned_as_kubernetes_does() {
    let (schema, mut value, answer) = case("custom-object-defaulted-and-pruned");
    let mut gone = Vec::new();
    prune(&mut value, &schema, true, "", &mut gone);
    default_fields(&mut value, &schema);
    assert_eq!(value["spec"], answer["spec"]);
    let expected = ["spec.unknown", "spec.nested.other", "spec.list[1].extra"];
    assert_eq!(gone.into_iter().collect::<BTreeSet<_>>(), expected.map(str::to_owned).into());
}

#[test]
fn an_embedded_object_keeps_what_every_object_has() {
    let schema = json!({
        "type": "object",
        "x-kubernetes-embedded-resource": true,
        "properties": { "spec": { "type": "object" } },
    });
    let mut value = json!({ "kind": "A", "apiVersion": "b/v1", "metadata": { "name": "c" },
        "spec": { "d": 1 }, "e": 2 });
    let mut gone = Vec::new();
    prune(&mut value, &schema, false, "", &mut gone);
    assert_eq!(gone, ["e", "spec.d"]);
    assert_eq!(value["metadata"]["name"], "c");
}

#[test]
fn alternatives_are_counted() {
    let words = |schema: &Value, value: Value| -> Vec<String> {
        found(&json!({ "a": value }), &json!({ "properties": { "a": schema } }))
            .into_iter()
            .map(|(field, _, detail)| format!("{field}: {detail}"))
            .collect()
    };
    let one = json!({ "oneOf": [{ "minimum": 5 }, { "maximum": 10 }] });
    assert!(words(&one, json!(3)).is_empty());
    assert_eq!(
        words(&one, json!(7)),
        ["a: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found 2 \
          valid alternatives"]
    );
    let any = json!({ "anyOf": [{ "enum": ["x"] }, { "type": "integer" }] });
    assert!(words(&any, json!("x")).is_empty());
    assert_eq!(words(&any, json!("y")).len(), 1);
    assert!(words(&json!({ "not": { "required": ["b"] } }), json!({})).is_empty());
    assert_eq!(words(&json!({ "not": { "required": ["b"] } }), json!({ "b": 1 })).len(), 1);
}

#[test]
fn a_value_may_be_text_or_number_where_the_schema_says_so() {
    let schema = json!({ "x-kubernetes-int-or-string": true });
    assert!(found(&json!(1), &schema).is_empty());
    assert!(found(&json!("1"), &schema).is_empty());
    assert_eq!(found(&json!(true), &schema).len(), 1);
    // A whole number is an integer however it is written; a fraction is not.
    assert!(found(&json!(2.0), &json!({ "type": "integer" })).is_empty());
    assert_eq!(found(&json!(2.5), &json!({ "type": "integer" })).len(), 1);
}

/// What is wrong with the rules of a schema: each field and its words.
fn wrong_rules(schema: &Value) -> String {
    let mut check = Check::default();
    Rules::read(schema, "s", &mut check);
    check.errors.iter().map(|e| format!("{e}\n")).collect()
}

#[test]
fn rules_that_cannot_work_are_told_where_they_stand() {
    let rule = |rule: Value| {
        let word = "x-kubernetes-validations";
        json!({
            "type": "object",
            "properties": { "a": { "type": "integer" }, "l": { "type": "array", "items": {
                "type": "string", "maxLength": 9,
            } } },
            word: [rule],
        })
    };
    let at = "s.x-kubernetes-validations[0]";
    for (said, wanted) in [
        (json!({ "rule": "self.a" }), format!("{at}.rule: Invalid value: ")),
        (json!({ "rule": " " }), format!("{at}.rule: Required value: rule is not specified\n")),
        (
            json!({ "rule": "self.a > 1", "reason": "Nope" }),
            format!("{at}.reason: Unsupported value: \"Nope\": supported values: "),
        ),
        (
            json!({ "rule": "self.a > 1", "fieldPath": ".b" }),
            format!("{at}.fieldPath: Invalid value: \".b\": fieldPath must be a valid path"),
        ),
        (
            json!({ "rule": "self.a > 1", "messageExpression": "self.a" }),
            format!("{at}.messageExpression: Invalid value: "),
        ),
        (
            json!({ "rule": "self.a > 1", "optionalOldSelf": true }),
            format!("{at}.optionalOldSelf: Invalid value: true: may not be set if oldSelf"),
        ),
        (json!({ "rule": "self.a > 1 &&\n true" }), format!("{at}.message: Required value")),
        (json!({ "rule": "self.a.nosuch()" }), format!("{at}.rule: Invalid value: ")),
    ] {
        let told = wrong_rules(&rule(said.clone()));
        assert!(told.starts_with(&wanted), "{said}: {told}");
    }
    assert!(wrong_rules(&rule(json!({ "rule": "self.a.nosuch()" }))).contains("'nosuch'"));
    let good = json!({ "rule": "self.a > oldSelf.a", "fieldPath": ".a", "message": "grows" });
    assert_eq!(wrong_rules(&rule(good)), "");
    let mut inside = rule(json!({ "rule": "true" }));
    inside["properties"]["l"]["items"]["x-kubernetes-validations"] =
        json!([{ "rule": "self == oldSelf" }]);
    let lost = "s.properties[l].items.x-kubernetes-validations[0].rule: Invalid value: \"self == \
                oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within \
                s.properties[l].items\n";
    assert_eq!(wrong_rules(&inside), lost);
    inside["properties"]["l"]["x-kubernetes-list-type"] = "map".into();
    inside["properties"]["l"]["x-kubernetes-list-map-keys"] = json!(["k"]);
    assert_eq!(wrong_rules(&inside), "");
}

/// Nobody chooses how deep we look.
#[test]
fn a_value_too_deep_is_refused() {
    let (mut schema, mut value) = (json!({ "type": "string" }), json!("x"));
    for _ in 0..80 {
        schema = json!({ "type": "array", "items": schema });
        value = json!([value]);
    }
    assert_eq!(found(&value, &schema).len(), 1);
}
