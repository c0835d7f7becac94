//! Custom kinds, bounds, and patches nobody would write. What Kubernetes made of the same patches
//! is compared where they are answered, in the tests of [`resources`](crate::api::resources).

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{managed::Writer, *};
const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle");

#[expect(clippy::disallowed_methods, reason = "test data")]
fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn code(error: &PatchError) -> u64 {
    match error {
        PatchError::UnknownType | PatchError::NotStrategic => 415,
        PatchError::Malformed(_) => 400,
        PatchError::TooLarge(_) => 413,
        PatchError::Rejected | PatchError::Invalid { .. } => 422,
        PatchError::Unfit(_) => 500,
        PatchError::Conflicts(_) => 409,
    }
}

/// A custom kind is applied by its structural schema.
#[test]
fn sets_and_maps_of_custom_kinds_are_owned_item_by_item() {
    let case = read(&Path::new(ORACLE).join("patch/apply-custom-sets-and-maps.json"));
    let schema = &case["crd"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut live: Option<Value> = None;
    for step in case["steps"].as_array().unwrap().iter().take(5) {
        let manager = step["query"].as_str().unwrap().trim_start_matches("fieldManager=");
        let writer = Writer {
            manager: manager.to_owned(),
            api_version: "patch.example/v1".to_owned(),
            subresource: "",
            has_status: true,
            time: "2026-01-01T00:00:00Z".to_owned(),
        };
        let schema = Schema::Structural(schema, true);
        let ours = serverside::apply(live.as_ref(), &step["patch"], schema, &writer, false);
        match ours {
            Ok(ours) => {
                let theirs = &step["result"];
                let books = |value: &Value| value["metadata"]["managedFields"].clone();
                assert_eq!(books(&ours), books(theirs));
                assert_eq!(ours["spec"]["set"], theirs["spec"]["set"]);
                assert_eq!(ours["spec"]["granular"], theirs["spec"]["granular"]);
                live = Some(theirs.clone());
            }
            Err(error) => {
                assert_eq!(code(&error), step["code"]);
                assert_eq!(error.to_string(), step["result"]["message"].as_str().unwrap());
            }
        }
    }
    let refused = apply(&json!({}), &Patch::Strategic(json!({})), Schema::Structural(schema, true));
    assert_eq!(refused, Err(PatchError::NotStrategic));
}

/// Few operations must not make much of little.
#[test]
fn copies_and_operations_are_bounded() {
    let live = json!({ "a": "x".repeat(1 << 20), "b": {} });
    let copy = |n: usize| json!({ "op": "copy", "from": "/a", "path": format!("/b/{n}") });
    let some: Vec<Value> = (0..2).map(copy).collect();
    assert!(json::apply(&live, &some).is_ok());
    let many: Vec<Value> = (0..4).map(copy).collect();
    assert!(matches!(json::apply(&live, &many), Err(PatchError::TooLarge(_))));
    let operations = Value::from(vec![json!({}); 10_001]).to_string();
    let parsed = Patch::parse(operations.as_bytes(), "application/json-patch+json");
    assert!(matches!(parsed, Err(PatchError::TooLarge(_))));
}

/// The eleventh updater does not make an eleventh entry.
#[test]
fn old_updates_are_put_together() {
    let schema = Schema::named("v1", "ConfigMap");
    let mut live: Option<Value> = None;
    for n in 10..30 {
        let writer = Writer {
            manager: format!("m{n}"),
            api_version: "v1".to_owned(),
            subresource: "",
            has_status: false,
            time: format!("2026-01-01T00:00:{n}Z"),
        };
        let mut after = live.clone().unwrap_or_else(|| json!({ "metadata": {}, "data": {} }));
        after["data"][format!("k{n}")] = "v".into();
        live = Some(managed::update(live.as_ref(), &after, schema, &writer));
    }
    let managers = managed::read(&live.unwrap());
    assert_eq!(managers.len(), 10);
    assert!(managers.keys().any(|manager| manager.name == "ancient-changes"));
}

fn any_value() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
        "spec",
        "template",
        "containers",
        "ports",
        "name",
        "metadata",
        "finalizers",
        "managedFields",
        "labels",
        "containerPort",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec!["delete", "replace", "merge", "a"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((names.clone(), inner), 0..4)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_patch_panics(live in any_value(), patch in any_value(), bytes: Vec<u8>) {
        let schema = Schema::named("apps/v1", "Deployment");
        drop(apply(&live, &Patch::Merge(patch.clone()), schema));
        drop(apply(&live, &Patch::Strategic(patch.clone()), schema));
        drop(apply(&live, &Patch::Json(vec![patch.clone()]), schema));
        let writer = Writer {
            manager: "m".to_owned(),
            api_version: "apps/v1".to_owned(),
            subresource: "",
            has_status: true,
            time: String::new(),
        };
        let mut wanted = json!({ "apiVersion": "apps/v1", "kind": "Deployment" });
        wanted["spec"] = patch.get("spec").cloned().unwrap_or_default();
        drop(serverside::apply(Some(&live), &wanted, schema, &writer, true));
        drop(managed::update(Some(&live), &patch, schema, &writer));
        for media in ["json-patch+json", "merge-patch+json", "apply-patch+yaml"] {
            drop(Patch::parse(&bytes, &format!("application/{media}")));
        }
    }
}
