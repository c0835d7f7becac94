//! What Kubernetes 1.37.1 answered, case by case (`tests/oracle/`), against what the door answers.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::*;
use crate::{model::GroupKind, render};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle");

#[expect(clippy::disallowed_methods, reason = "test data")]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&read(path)).unwrap()
}

/// Names (without ending) of the cases of a folder.
fn cases(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(Path::new(ORACLE).join(folder)).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter_map(|n| n.strip_suffix(".yaml").map(str::to_owned)).collect()
}

/// The exceptions of `differences.json` for one folder: name of a case to reason.
fn differences(folder: &str) -> serde_json::Map<String, Value> {
    let all = json(&Path::new(ORACLE).join("differences.json"));
    all[folder].as_object().cloned().unwrap_or_default()
}

/// Compares every case and wants exactly those of `differences.json` to differ.
fn compare(folder: &str, case: impl Fn(&str) -> Result<(), String>) {
    let excused = differences(folder);
    let mut wrong = Vec::new();
    for name in cases(folder) {
        match (case(&name), excused.get(&name)) {
            (Err(text), None) => wrong.push(format!("== {name}\n{text}")),
            (Ok(()), Some(_)) => wrong.push(format!("== {name}: differs no more; drop its excuse")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
}

fn with_namespace(mut value: Value) -> Value {
    let api_version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let info = lookup(&GroupKind::from_api_version(&api_version, &kind));
    let bare = value.get("metadata").is_some_and(|m| m.get("namespace").is_none());
    if info.is_some_and(|i| i.namespaced) && bare {
        value["metadata"]["namespace"] = "demo".into();
    }
    value
}

#[test]
fn defaults_equal_kubernetes() {
    compare("defaults", |name| {
        let path = Path::new(ORACLE).join("defaults").join(name);
        let documents = render::documents(read(&path.with_extension("yaml")).as_bytes());
        let mut sent = documents.map_err(|p| format!("{p:?}"))?.pop().unwrap();
        if sent["metadata"].get("name").is_none() {
            let prefix = sent["metadata"]["generateName"].as_str().unwrap().to_owned();
            sent["metadata"]["name"] = format!("{prefix}xxxxx").into();
        }
        let admitted = admit(with_namespace(sent), Strictness::Strict)
            .map_err(|e| e.iter().map(|e| format!("{e}\n")).collect::<String>())?;
        let mut ours = create(&admitted.object).value();
        let mut theirs = json(&path.with_extension("json"));
        normalise(&mut ours, &mut theirs);
        if ours == theirs {
            return Ok(());
        }
        let mut lines = Vec::new();
        diff("", &ours, &theirs, &mut lines);
        Err(lines.join("\n"))
    });
}

/// Takes away what State, not the door, decides: identity, allocated addresses, the token volume.
fn normalise(ours: &mut Value, theirs: &mut Value) {
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        theirs["metadata"].as_object_mut().unwrap().remove(field);
    }
    if theirs["kind"] == "Service" {
        let ports = theirs["spec"]["ports"].as_array().map_or(0, Vec::len);
        for i in 0..ports {
            if theirs["spec"]["ports"][i]["nodePort"] == 30000 {
                theirs["spec"]["ports"][i].as_object_mut().unwrap().remove("nodePort");
            }
        }
        for field in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
            if ours["spec"].get(field).is_none() {
                theirs["spec"].as_object_mut().unwrap().remove(field);
            }
        }
    }
    let token = |v: &Value| v["name"] == "kube-api-access-xxxxx";
    let spec = &mut theirs["spec"];
    let all = ["containers", "initContainers"];
    for field in all {
        for c in spec[field].as_array_mut().into_iter().flatten() {
            drop_where(c, "volumeMounts", token);
        }
    }
    drop_where(spec, "volumes", token);
    for field in all.into_iter().chain(["volumes"]) {
        if spec.get(field).is_some_and(Value::is_null) {
            spec.as_object_mut().unwrap().remove(field);
        }
    }
    if spec.is_null() {
        theirs.as_object_mut().unwrap().remove("spec");
    }
    let _ = ours;
}

fn drop_where(parent: &mut Value, field: &str, unwanted: impl Fn(&Value) -> bool) {
    let Some(items) = parent.get_mut(field).and_then(Value::as_array_mut) else { return };
    items.retain(|v| !unwanted(v));
    if items.is_empty() {
        parent.as_object_mut().unwrap().remove(field);
    }
}

fn diff(at: &str, ours: &Value, theirs: &Value, lines: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let get =
                    |m: &serde_json::Map<String, Value>| m.get(key).cloned().unwrap_or_default();
                diff(&format!("{at}.{key}"), &get(a), &get(b), lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                diff(&format!("{at}[{i}]"), a, b, lines);
            }
        }
        _ if ours == theirs => {}
        _ => lines.push(format!("  {at}: ours {ours}, theirs {theirs}")),
    }
}

/// What one request was answered with: causes as (reason, field, message), or warnings.
type Answer = Result<BTreeSet<String>, (u64, BTreeSet<String>)>;

#[test]
fn refusals_equal_kubernetes() {
    compare("errors", |name| {
        let path = Path::new(ORACLE).join("errors").join(name);
        let case = json(&path.with_extension("json"));
        let documents = render::documents(read(&path.with_extension("yaml")).as_bytes());
        let last = case["steps"].as_array().unwrap().last().unwrap();
        let ours = match documents {
            Err(_) => Err((400, BTreeSet::new())),
            Ok(documents) => answer(&documents, last, &case),
        };
        let theirs = observed(last);
        if ours == theirs { Ok(()) } else { Err(format!("  ours   {ours:?}\n  theirs {theirs:?}")) }
    });
}

fn observed(step: &Value) -> Answer {
    let code = step["code"].as_u64().unwrap();
    if code < 300 {
        let warnings = step["warnings"].as_array().into_iter().flatten();
        return Ok(warnings.map(|w| w.as_str().unwrap().to_owned()).collect());
    }
    let causes = step["status"]["details"]["causes"].as_array().into_iter().flatten();
    let line = |c: &Value| {
        let get = |f: &str| c[f].as_str().unwrap_or_default();
        // Kubernetes prints differences after a message.
        let message = get("message").split("\n@@").next().unwrap_or_default();
        let hidden = hide_struct(message);
        format!("{} {}: {hidden}", get("reason"), get("field"))
    };
    Err((code, if code == 422 { causes.map(line).collect() } else { BTreeSet::new() }))
}

/// A Go struct in a message has field names of its own: the value is not compared.
fn hide_struct(message: &str) -> String {
    match (message.find(": {"), message.rfind('}')) {
        (Some(start), Some(end)) if !message[start..].starts_with(": {\"a\"") => {
            format!("{}: {{…}}{}", &message[..start], &message[end + 1..])
        }
        _ => message.to_owned(),
    }
}

fn answer(documents: &[Value], step: &Value, case: &Value) -> Answer {
    let strictness = match step["query"].as_str().unwrap_or_default() {
        q if q.contains("fieldValidation=Strict") => Strictness::Strict,
        q if q.contains("fieldValidation=Ignore") => Strictness::Ignore,
        _ => Strictness::Warn,
    };
    let index = step["document"].as_u64().map_or(0, |i| usize::try_from(i).unwrap());
    let sent = documents.get(index).cloned().unwrap_or_default();
    if step["method"] == "POST" {
        let mut sent = sent;
        if sent.get("metadata").is_some_and(Value::is_object)
            && sent["metadata"].get("name").is_none()
            && let Some(prefix) = sent["metadata"].get("generateName").and_then(Value::as_str)
        {
            sent["metadata"]["name"] = format!("{prefix}xxxxx").into();
        }
        let admitted = admit(with_namespace(sent), strictness).map_err(|e| refusal(&e))?;
        return Ok(warnings(&admitted));
    }
    let first = case["steps"][0]["document"].as_u64().map_or(0, |i| usize::try_from(i).unwrap());
    let stored = admit(with_namespace(documents[first].clone()), Strictness::Strict)
        .map_err(|e| refusal(&e))?;
    let live = create(&stored.object);
    let new = if step["method"] == "PATCH" { merged(live.value(), &sent) } else { sent };
    let admitted = admit(with_namespace(new), strictness).map_err(|e| refusal(&e))?;
    update(&live, &admitted.object).map_err(|e| refusal(&e))?;
    Ok(warnings(&admitted))
}

/// A strategic merge patch as far as the cases need it: lists by name, or as a whole.
fn merged(live: Value, patch: &Value) -> Value {
    match (live, patch) {
        (Value::Object(mut live), Value::Object(patch)) => {
            for (key, value) in patch {
                let before = live.remove(key).unwrap_or_default();
                live.insert(key.clone(), merged(before, value));
            }
            Value::Object(live)
        }
        (Value::Array(mut live), Value::Array(patch))
            if patch.iter().all(|p| p.get("name").is_some()) =>
        {
            for item in patch {
                match live.iter_mut().find(|l| l["name"] == item["name"]) {
                    Some(same) => *same = merged(same.clone(), item),
                    None => live.push(item.clone()),
                }
            }
            Value::Array(live)
        }
        (_, patch) => patch.clone(),
    }
}

fn refusal(errors: &[FieldError]) -> (u64, BTreeSet<String>) {
    if errors.iter().any(|e| e.reason.is_decoding())
        || errors.iter().any(|e| e.field == "kind" || e.field == "apiVersion")
    {
        return (400, BTreeSet::new());
    }
    let line =
        |e: &FieldError| format!("{} {}: {}", e.reason.as_cause(), e.field, hide_struct(&e.detail));
    (422, errors.iter().map(line).collect())
}

/// Warnings without ours of fields that are not acted on yet.
fn warnings(admitted: &Admitted) -> BTreeSet<String> {
    let ours = admitted.warnings.iter().filter(|w| !w.detail.ends_with("not acted on yet"));
    ours.map(|w| if w.reason == Reason::Unknown { w.detail.clone() } else { w.to_string() })
        .collect()
}
