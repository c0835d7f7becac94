//! What Kubernetes 1.37.1 made of the same patches (`tests/oracle/patch/`), and patches nobody
//! would write.

use std::{collections::BTreeSet, fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{managed::Writer, *};
use crate::{
    kinds::{self, KindInfo, Strictness},
    model::{GroupKind, Object},
};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle");

#[expect(clippy::disallowed_methods, reason = "test data")]
fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// One step of a case: code and object.
type Outcome = Result<Value, (u64, String)>;

/// The kind of a path.
fn info(path: &str) -> Option<&'static KindInfo> {
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match words[0] {
        "api" => ("", &words[2..]),
        _ => (words[1], &words[3..]),
    };
    kinds::lookup_resource(group, if rest[0] == "namespaces" { rest[2] } else { rest[0] })
}

fn code(error: &PatchError) -> u64 {
    match error {
        PatchError::UnknownType => 415,
        PatchError::Malformed(_) => 400,
        PatchError::TooLarge(_) => 413,
        PatchError::Rejected | PatchError::Invalid { .. } => 422,
        PatchError::Unfit(_) => 500,
        PatchError::Conflicts(_) => 409,
    }
}

fn refused(error: PatchError) -> (u64, String) {
    (code(&error), error.to_string())
}

fn writer(info: &KindInfo, step: &Value) -> Writer {
    let query = step["query"].as_str().unwrap();
    let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
    let status = step["path"].as_str().unwrap_or_default().ends_with("/status");
    Writer {
        manager: manager.unwrap_or("unknown").to_owned(),
        api_version: info.api_version.to_owned(),
        subresource: if status { "status" } else { "" },
        has_status: info.status,
        time: "2026-01-01T00:00:00Z".to_owned(),
    }
}

/// Plays one step as the handlers do.
fn play(info: &KindInfo, live: Option<&Value>, step: &Value) -> Outcome {
    let media = step["contentType"].as_str().unwrap();
    let body = match &step["patch"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let query = step["query"].as_str().unwrap();
    let (patch, problems) = Patch::parse(body.as_bytes(), media).map_err(refused)?;
    let strict = query.contains("fieldValidation=Strict");
    if strict && !problems.is_empty() {
        return Err((400, problems.join(", ")));
    }
    let schema = Schema::of(info.api_version, info.kind);
    let writer = writer(info, step);
    let applies = matches!(patch, Patch::Apply(_));
    let mut value = match (&patch, live) {
        (Patch::Apply(wanted), live) => {
            let force = query.contains("force=true");
            serverside::apply(live, wanted, schema, &writer, force).map_err(refused)?
        }
        (_, None) => return Err((404, "not found".to_owned())),
        (patch, Some(live)) => apply(live, patch, schema).map_err(refused)?,
    };
    value["metadata"]["namespace"] = "demo".into();
    let strictness = if strict { Strictness::Strict } else { Strictness::Warn };
    let admitted = kinds::admit(value, strictness).map_err(|errors| {
        (422, errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    })?;
    let Some(live) = live else { return Ok(kinds::create(&admitted.object).value()) };
    let old = Object::from_value(live).unwrap();
    let change = if writer.subresource == "status" { kinds::update_status } else { kinds::update };
    let new = change(&old, &admitted.object).map_err(|errors| {
        (422, errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    })?;
    let mut value = new.value();
    let managed = match applies {
        true => admitted.object.value()["metadata"]["managedFields"].clone(),
        false => {
            let kept = managed::update(Some(live), &value, schema, &writer);
            kept["metadata"]["managedFields"].clone()
        }
    };
    match managed {
        Value::Null => value["metadata"].as_object_mut().unwrap().remove("managedFields"),
        managed => {
            value["metadata"].as_object_mut().unwrap().insert("managedFields".to_owned(), managed)
        }
    };
    Ok(value)
}

/// Takes away what State decides.
fn bare(mut value: Value, books: bool) -> Value {
    let meta = value["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        meta.remove(field);
    }
    if !books {
        meta.remove("managedFields");
    }
    value.as_object_mut().unwrap().remove("status");
    value
}

fn case(path: &Path) -> Result<bool, String> {
    let case = read(path);
    let steps = case["steps"].as_array().unwrap();
    let Some(info) = info(steps[0]["path"].as_str().unwrap()) else { return Ok(false) };
    let applies = path.file_name().unwrap().to_string_lossy().starts_with("apply-");
    let mut live = Some(case["start"]["stored"].clone()).filter(|stored| !stored.is_null());
    for (at, step) in steps.iter().enumerate() {
        let url = step["path"].as_str().unwrap();
        if url.ends_with("/scale") {
            return Ok(false);
        }
        let theirs = (step["code"].as_u64().unwrap(), step["result"].clone());
        let ours = play(info, live.as_ref(), step);
        match ours {
            Ok(ours) if theirs.0 < 300 => {
                let wanted = theirs.1.clone();
                let (a, b) = (bare(ours.clone(), applies), bare(wanted.clone(), applies));
                if a != b {
                    return Err(format!("step {at}:\n  ours   {a}\n  theirs {b}"));
                }
                if !step["query"].as_str().unwrap().contains("dryRun") {
                    live = Some(wanted);
                }
            }
            Err((code, _)) if code == theirs.0 && code != 409 => {}
            Err((409, text)) if theirs.0 == 409 && theirs.1["message"] == text.as_str() => {}
            ours => return Err(format!("step {at}:\n  ours   {ours:?}\n  theirs {theirs:?}")),
        }
    }
    Ok(true)
}

#[test]
fn patches_equal_kubernetes() {
    let excused = read(&Path::new(ORACLE).join("differences.json"));
    let excused = excused["patch"].as_object().cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    let mut played = 0;
    let entries = fs::read_dir(Path::new(ORACLE).join("patch")).unwrap();
    let paths: BTreeSet<_> = entries.map(|entry| entry.unwrap().path()).collect();
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match (case(&path), excused.get(&name)) {
            (Err(text), None) => wrong.push(format!("== {name} {text}")),
            (Ok(true), Some(_)) => {
                wrong.push(format!("== {name}: differs no more; drop its excuse"))
            }
            (Ok(true), None) => played += 1,
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
    assert!(played > 60, "{played} cases were played");
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
    assert_eq!(refused, Err(PatchError::UnknownType));
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
    let schema = Schema::of("v1", "ConfigMap");
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
        let schema = Schema::of("apps/v1", "Deployment");
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
