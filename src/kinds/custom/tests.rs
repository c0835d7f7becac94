//! What a definition makes of values, and whose names are whose.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::kinds::{Kinds, admit, create};

/// A definition of `Plum` with two versions, as it is stored once its names are accepted.
fn definition(change: impl FnOnce(&mut Value)) -> Object {
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": { "type": "integer", "minimum": 1 },
                    "replicas": { "type": "integer", "default": 1 },
                    "tags": { "type": "array", "items": { "type": "string" } },
                },
            },
            "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        },
    });
    let mut value = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "plums.fruit.example" },
        "spec": {
            "group": "fruit.example", "scope": "Namespaced",
            "names": { "plural": "plums", "kind": "Plum", "shortNames": ["pl"] },
            "versions": [
                {
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": schema },
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                        },
                    },
                    "additionalPrinterColumns": [
                        { "name": "Size", "type": "integer", "jsonPath": ".spec.size" },
                        { "name": "Tags", "type": "string", "jsonPath": ".spec.tags" },
                        {
                            "name": "Ready", "type": "string",
                            "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status",
                        },
                        { "name": "By", "type": "string", "jsonPath": ".metadata.annotations.by\\.who/x" },
                        { "name": "Since", "type": "date", "jsonPath": ".status.since" },
                    ],
                },
                {
                    "name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                    "schema": { "openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    } },
                },
            ],
        },
    });
    change(&mut value);
    let admitted = admit(value, Strictness::Strict).expect("the definition is valid").object;
    let mut value = create(&admitted).value();
    accept_names(&mut value, std::iter::empty(), Timestamp(0));
    Object::from_value(&value).unwrap()
}

fn kinds() -> Kinds {
    let mut kinds = Kinds::default();
    kinds.define(&definition(|_| {}));
    kinds
}

fn plum(version: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("fruit.example/{version}"), "kind": "Plum",
        "metadata": { "name": "a", "namespace": "demo" }, "spec": spec,
    })
}

fn told(result: Result<crate::kinds::Admitted, Vec<FieldError>>) -> String {
    match result {
        Ok(admitted) => {
            let value = admitted.object.value();
            let warnings: Vec<String> = admitted.warnings.iter().map(ToString::to_string).collect();
            format!("{} {} {warnings:?}", value["apiVersion"], value["spec"])
        }
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

fn check(version: &str, spec: Value, expected: Expect) {
    expected.assert_eq(&told(kinds().admit(plum(version, spec), Strictness::Warn)));
}

#[test]
fn a_value_is_read_by_the_schema_of_its_version_and_stored_at_one() {
    check(
        "v1",
        json!({ "size": 2 }),
        expect![[r#""fruit.example/v1" {"replicas":1,"size":2} []"#]],
    );
    check(
        "v1",
        json!({ "size": 2, "sise": 3 }),
        expect![[
            r#""fruit.example/v1" {"replicas":1,"size":2} ["spec.sise: unknown field \"spec.sise\""]"#
        ]],
    );
    check(
        "v1",
        json!({ "size": 0 }),
        expect![
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"
        ],
    );
    check(
        "v1beta1",
        json!({ "anything": true }),
        expect![[
            r#""fruit.example/v1" {"anything":true} ["fruit.example/v1beta1 is deprecated"]"#
        ]],
    );
    check(
        "v2",
        json!({}),
        expect![[r#"kind: Unsupported value: "Plum": fruit.example/v2 has no kind Plum"#]],
    );
}

#[test]
fn an_update_counts_what_is_not_metadata_and_leaves_the_status_to_its_path() {
    let kinds = kinds();
    let admit = |value: Value| kinds.admit(value, Strictness::Strict).unwrap().object;
    let mut value = kinds.create(&admit(plum("v1", json!({ "size": 2 })))).value();
    assert_eq!(value["metadata"]["generation"], 1);
    value["status"] = json!({ "ready": true });
    let live = Object::from_value(&value).unwrap();
    let mut new = plum("v1", json!({ "size": 3 }));
    new["status"] = json!({ "ready": false });
    let updated = kinds.update(&live, &admit(new)).unwrap().value();
    assert_eq!(updated["metadata"]["generation"], 2);
    assert_eq!(updated["status"]["ready"], true);
    let mut labelled = live.value();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    let labelled = Object::from_value(&labelled).unwrap();
    let updated = kinds.update(&live, &labelled).unwrap().value();
    assert_eq!(updated["metadata"]["generation"], 1);
    let mut told = live.value();
    told["status"] = json!({ "ready": false });
    told["spec"]["size"] = json!(7);
    told["metadata"]["labels"] = json!({ "c": "d" });
    let updated = kinds.update_status(&live, &Object::from_value(&told).unwrap()).unwrap().value();
    assert_eq!(updated["status"]["ready"], false);
    assert_eq!(
        (&updated["spec"]["size"], &updated["metadata"]["labels"]),
        (&json!(2), &Value::Null)
    );
    assert_eq!(updated["metadata"]["generation"], 1);
}

#[test]
fn columns_follow_their_paths() {
    let kinds = kinds();
    let (info, _) = kinds.served("fruit.example/v1", "Plum").unwrap();
    let mut value = plum("v1", json!({ "size": 2, "tags": ["x", "y"] }));
    value["metadata"]["annotations"] = json!({ "by.who/x": "me" });
    value["status"] = json!({
        "since": "1970-01-01T00:00:00Z",
        "conditions": [{ "type": "Other", "status": "False" }, { "type": "Ready", "status": "True" }],
    });
    let object = Object::from_value(&value).unwrap();
    let cells = table::cells(info, "fruit.example/v1", &object, Timestamp(65_000));
    expect![[r#"["a",2,"[\"x\",\"y\"]","True","me","65s"]"#]]
        .assert_eq(&Value::from(cells).to_string());
    let names = |api_version: &str| {
        let columns = table::definitions(info, api_version);
        let names: Vec<String> =
            columns.as_array().unwrap().iter().map(|c| c["name"].to_string()).collect();
        names.join(" ")
    };
    expect![[r#""Name" "Size" "Tags" "Ready" "By" "Since""#]].assert_eq(&names("fruit.example/v1"));
    expect![[r#""Name" "Age""#]].assert_eq(&names("fruit.example/v1beta1"));
}

fn names_of(definition: &Object) -> String {
    let value = definition.value();
    let conditions = value["status"]["conditions"].as_array().unwrap();
    let told: Vec<String> = conditions
        .iter()
        .map(|c| format!("{}={} {}: {}", c["type"], c["status"], c["reason"], c["message"]))
        .collect();
    format!("{}\n{}", value["status"]["acceptedNames"], told.join("\n")).replace(['"', '\\'], "")
}

#[test]
fn names_are_given_once() {
    expect![[r#"
        {kind:Plum,listKind:PlumList,plural:plums,shortNames:[pl],singular:plum}
        NamesAccepted=True NoConflicts: no conflicts found
        Established=True InitialNamesAccepted: the initial names have been accepted"#]]
    .assert_eq(&names_of(&definition(|_| {})));
    let first = definition(|_| {});
    let mut second = definition(|value| {
        value["metadata"]["name"] = "prunes.fruit.example".into();
        value["spec"]["names"]["plural"] = "prunes".into();
    })
    .value();
    second["status"] = json!({});
    let first: &CustomResourceDefinition = first.view().unwrap();
    accept_names(&mut second, [first].into_iter(), Timestamp(0));
    let second = Object::from_value(&second).unwrap();
    expect![[r#"
        {kind:,plural:prunes}
        NamesAccepted=False ListKindConflict: PlumList is already in use
        Established=False NotAccepted: not all names are accepted"#]]
    .assert_eq(&names_of(&second));
    assert!(entry(&second).is_none());
}

#[test]
fn groups_of_kubernetes_need_an_approval() {
    let of = |annotation: Option<&str>| {
        let mut value = definition(|_| {}).value();
        value["metadata"] = json!({ "name": "plums.fruit.k8s.io" });
        value["spec"]["group"] = "fruit.k8s.io".into();
        value["status"] = Value::Null;
        if let Some(text) = annotation {
            value["metadata"]["annotations"] = json!({ "api-approved.kubernetes.io": text });
        }
        match admit(value, Strictness::Strict) {
            Ok(_) => "taken".to_owned(),
            Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        }
    };
    expect![[r#"metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io""#]]
        .assert_eq(&of(None));
    assert_eq!(of(Some("https://example.com/1")), "taken");
    assert_eq!(of(Some("unapproved, experimental")), "taken");
}

#[test]
fn what_was_made_of_one_state_of_the_kinds_holds_while_it_lasts() {
    let kinds = kinds();
    assert!(kinds.is_same(&kinds.clone()));
    let mut other = kinds.clone();
    other.define(&definition(|_| {}));
    assert!(!kinds.is_same(&other));
    other.forget(definition(|_| {}).key());
    assert!(other.served("fruit.example/v1", "Plum").is_none());
}

/// Plums whose sizes grow, whose parts keep what they are, and whose color is said once.
fn ruled() -> Kinds {
    let mut kinds = Kinds::default();
    kinds.define(&definition(|value| {
        let word = "x-kubernetes-validations";
        let schema = &mut value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        schema[word] = json!([
            { "rule": "self.metadata.name.startsWith('a')", "message": "names begin with a" },
            { "rule": "!has(self.status) || self.status.ready || !oldSelf.status.ready",
              "message": "stays ready" },
        ]);
        schema["properties"]["status"] =
            json!({ "type": "object", "properties": { "ready": { "type": "boolean" } } });
        let spec = &mut schema["properties"]["spec"];
        spec["properties"]["size"][word] =
            json!([{ "rule": "self >= oldSelf", "messageExpression": "'was ' + string(oldSelf)" }]);
        spec["properties"]["color"] = json!({ "type": "string", word: [
            { "rule": "oldSelf.hasValue() ? self == oldSelf.value() : self != 'black'",
              "optionalOldSelf": true, "message": "one color, and not black" },
        ] });
        spec["properties"]["parts"] = json!({
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
            "items": {
                "type": "object",
                "properties": { "id": { "type": "string" }, "n": { "type": "integer" } },
                word: [{ "rule": "self.n == oldSelf.n", "fieldPath": ".n", "message": "stays" }],
            },
        });
    }));
    kinds
}

/// Rules that look back are asked where there is something to look back at, each part beside the
/// one it was; what did not change is not asked again.
#[test]
fn rules_are_asked_of_what_changes() {
    let kinds = ruled();
    let of = |spec: Value| {
        let admitted = kinds.admit(plum("v1", spec), Strictness::Strict);
        let object = admitted.map(|admitted| kinds.create(&admitted.object));
        object.and_then(|object| kinds.judge(None, &object).map(|()| object))
    };
    let words = |errors: Vec<FieldError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let part = |id: &str, n: i64| json!({ "id": id, "n": n });
    let live = of(json!({ "size": 2, "color": "red", "parts": [part("x", 1), part("y", 2)] }));
    let live = live.unwrap();
    let black = of(json!({ "size": 2, "color": "black" })).unwrap_err();
    assert_eq!(words(black), "spec.color: Invalid value: one color, and not black");
    let after = |spec: Value| {
        let new = kinds.replace(&live, plum("v1", spec), Strictness::Strict).unwrap().object;
        kinds.judge(Some(&live), &new).map_err(words)
    };
    let same = json!({ "size": 3, "color": "red", "parts": [part("y", 2), part("z", 9)] });
    assert_eq!(after(same), Ok(()));
    let told = after(json!({ "size": 1, "color": "blue", "parts": [part("y", 1), part("x", 1)] }));
    expect![[r#"
        spec.color: Invalid value: one color, and not black
        spec.parts[0].n: Invalid value: stays
        spec.size: Invalid value: was 2"#]]
    .assert_eq(&told.unwrap_err());
    let mut misnamed = plum("v1", json!({ "size": 2 }));
    misnamed["metadata"]["name"] = "b".into();
    let told = kinds.admit(misnamed, Strictness::Strict).unwrap_err();
    assert_eq!(words(told), "Invalid value: names begin with a");
}

/// A status is judged beside the one it was, and what goes may go.
#[test]
fn rules_are_asked_of_a_status_and_not_of_what_goes() {
    let kinds = ruled();
    let with = |ready: bool, change: &dyn Fn(&mut Value)| {
        let mut value = plum("v1", json!({ "size": 2 }));
        value["status"] = json!({ "ready": ready });
        change(&mut value);
        Object::from_value(&value).unwrap()
    };
    let (live, next) = (with(true, &|_| {}), with(false, &|_| {}));
    let next = kinds.update_status(&live, &next).unwrap();
    assert_eq!(kinds.judge(Some(&live), &next).unwrap_err().len(), 1);
    assert_eq!(kinds.judge(Some(&next), &live), Ok(()));
    let going = with(true, &|v| v["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
    assert_eq!(kinds.judge(Some(&going), &next), Ok(()));
}
