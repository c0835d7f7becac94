//! What Kubernetes 1.37.1 answered, case by case (`tests/oracle/`), against what the door answers.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::*;
use crate::model::{GroupKind, Object};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle");

#[expect(clippy::disallowed_methods, reason = "test data")]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&read(path)).unwrap()
}

/// The documents of a file, read as render reads them.
fn documents(path: &Path) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_multiple_with_options(&read(path), options).map_err(|e| e.to_string())
}

/// Names (without ending) of the cases of a folder.
fn cases(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(Path::new(ORACLE).join(folder)).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter_map(|n| n.strip_suffix(".yaml").map(str::to_owned)).collect()
}

/// How the volume begins whose name is drawn.
const API_ACCESS: &str = "kube-api-access-";

/// The exceptions of `differences.json` for one folder: name of a case to reason.
fn differences(folder: &str) -> serde_json::Map<String, Value> {
    let all = json(&Path::new(ORACLE).join("differences.json"));
    all[folder].as_object().cloned().unwrap_or_default()
}

/// Compares every case and wants exactly those of `differences.json` to differ. An excuse that
/// names fields is for the case to look at.
fn compare(folder: &str, case: impl Fn(&str) -> Result<(), String>) {
    let excused = differences(folder);
    let mut wrong = Vec::new();
    for name in cases(folder) {
        match (case(&name), excused.get(&name)) {
            (Err(text), None | Some(Value::Object(_))) => {
                wrong.push(format!("== {name}\n{text}"));
            }
            (Ok(()), Some(Value::String(_))) => {
                wrong.push(format!("== {name}: differs no more; drop its excuse"))
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
}

fn with_namespace(mut value: Value) -> Value {
    let api_version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let info = Kinds::default().served(&api_version, &kind).map(|(info, _)| info.clone());
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
        let mut sent = documents(&path.with_extension("yaml"))?.pop().unwrap();
        if sent["metadata"].get("name").is_none() {
            let prefix = sent["metadata"]["generateName"].as_str().unwrap().to_owned();
            sent["metadata"]["name"] = format!("{prefix}xxxxx").into();
        }
        let mut sent = with_namespace(sent);
        if sent["kind"] == "Pod" {
            give_api_access(&mut sent, None);
        }
        let admitted = admit(sent, Strictness::Strict)
            .map_err(|e| e.iter().map(|e| format!("{e}\n")).collect::<String>())?;
        let expected = json(&path.with_file_name("warnings.json"));
        let expected = expected[name].as_array().cloned().unwrap_or_default();
        let expected: BTreeSet<String> =
            expected.iter().map(|w| w.as_str().unwrap().to_owned()).collect();
        if warnings(&admitted) != expected {
            return Err(format!("  warnings {:?}, theirs {expected:?}", warnings(&admitted)));
        }
        let mut theirs = json(&path.with_extension("json"));
        let ours = as_created(&admitted.object, theirs["apiVersion"].as_str().unwrap());
        normalise(&ours, &mut theirs);
        let mut lines = Vec::new();
        diff("", &ours, &theirs, &mut lines);
        for field in excused_fields("defaults", name) {
            let before = lines.len();
            lines.retain(|line| !line.starts_with(&format!("  {field}: ")));
            if lines.len() == before {
                lines.push(format!("  {field} differs no more; drop its excuse"));
            }
        }
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    });
}

/// A new object as the API shows it at `api_version`; a Job's selector is made of its uid.
fn as_created(object: &Object, api_version: &str) -> Value {
    let mut value = create(object).value();
    value["metadata"]["uid"] = "00000000-0000-0000-0000-000000000001".into();
    let created = with_own_selector(&Object::from_value(&value).unwrap());
    let info = lookup(&created.key().kind).unwrap();
    let mut value = info.served_at(api_version, created.value());
    value["metadata"].as_object_mut().unwrap().remove("uid");
    let text = value.to_string();
    let drawn = text.find(API_ACCESS).and_then(|at| text[at..].split('"').next());
    match drawn.filter(|_| object.key().is::<k8s_openapi::api::core::v1::Pod>()) {
        Some(drawn) => text.replace(drawn, "kube-api-access-xxxxx").parse().unwrap(),
        None => value,
    }
}

/// The fields of a case that may, and must, differ.
fn excused_fields(folder: &str, name: &str) -> Vec<String> {
    let excuse = differences(folder).remove(name).unwrap_or_default();
    let fields = excuse["fields"].as_array().cloned().unwrap_or_default();
    fields.iter().map(|f| f.as_str().unwrap().to_owned()).collect()
}

/// Takes away what State, not the door, decides: identity and allocated addresses.
fn normalise(ours: &Value, theirs: &mut Value) {
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
        let documents = documents(&path.with_extension("yaml"));
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
    let start = message.find(": {").or_else(|| message.find(": [{"));
    let end = message.rfind("}]").map(|end| end + 1).or_else(|| message.rfind('}'));
    match (start, end) {
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
    let new = with_namespace(new);
    let replaced = Kinds::default().replace(&live, new.clone(), strictness);
    // One step says what the two say of which it is made.
    let in_two = admit_change(new, strictness)
        .and_then(|admitted| Ok((update(&live, &admitted.object)?, admitted.warnings)));
    assert_eq!(in_two, replaced.clone().map(|admitted| (admitted.object, admitted.warnings)));
    let replaced = replaced.map_err(|e| refusal(&e))?;
    if let Some(error) = only_by_own_path(&live, &replaced.object) {
        return Err(refusal(&[error]));
    }
    Ok(warnings(&replaced))
}

fn admit_change(value: Value, strictness: Strictness) -> Result<Admitted, Vec<FieldError>> {
    Kinds::default().admit_change(value, strictness)
}

/// What must not happen: a writer moves what is not theirs to say, or is not told that it is wrong,
/// or brings the server down with a shape that nobody expects.
#[test]
fn what_the_cluster_says_stays_and_is_read_all_the_same() {
    let mut live = create(&admit(deployment(2), Strictness::Strict).unwrap().object).value();
    live["metadata"]["uid"] = "u-1".into();
    live["metadata"]["annotations"] =
        serde_json::json!({ "deployment.kubernetes.io/revision": "3" });
    live["status"] = serde_json::json!({ "replicas": 2 });
    let live = object(live);
    let told = |change: &dyn Fn(&mut Value)| {
        let mut sent = live.value();
        change(&mut sent);
        match Kinds::default().replace(&live, sent, Strictness::Warn) {
            Ok(done) if done.object == live => format!("the same {:?}", warnings(&done)),
            Ok(done) => format!("{} {:?}", done.object.value(), warnings(&done)),
            Err(errors) => errors.iter().map(|e| format!("{e}\n")).collect(),
        }
    };
    let same = "the same {}";
    assert_eq!(told(&|_| {}), same);
    assert_eq!(told(&|sent| sent["metadata"]["uid"] = "u-2".into()), same);
    assert_eq!(told(&|sent| sent["metadata"]["generation"] = 9.into()), same);
    assert_eq!(told(&|sent| sent["status"]["replicas"] = 7.into()), same);
    assert_eq!(told(&|sent| sent["metadata"]["annotations"] = Value::Null), same);
    let wrong = told(&|sent| sent["status"]["replicas"] = "many".into());
    assert_eq!(wrong, "status.replicas: expected integer, found string\n");
    let unknown = told(&|sent| sent["status"]["pods"] = 1.into());
    assert_eq!(unknown, r#"the same {"unknown field \"status.pods\""}"#);
    let wrong = told(&|sent| sent["metadata"]["generation"] = "many".into());
    assert_eq!(wrong, "metadata.generation: expected integer, found string\n");
    for shape in [Value::Array(vec![]), "text".into(), 1.into(), Value::Null] {
        assert_ne!(told(&|sent| sent["metadata"] = shape.clone()), same);
        told(&|sent| sent["metadata"]["annotations"] = shape.clone());
        told(&|sent| sent["status"] = shape.clone());
    }
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
            if !patch.is_empty() && patch.iter().all(|p| p.get("name").is_some()) =>
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

fn errors(value: Value) -> String {
    let errors = admit(value, Strictness::Strict).expect_err("refused");
    errors.iter().map(|e| format!("{e}\n")).collect()
}

#[test]
fn wrong_types_are_told_all_at_once_with_their_places() {
    let deployment = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "shop", "labels": { "a": 1 } },
        "spec": {
            "replicas": "3",
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "spec": { "containers": [
                { "name": "web", "image": "web:1", "ports": { "containerPort": 80 } },
                { "name": true, "resources": { "limits": { "cpu": "1 core" } } },
            ] } },
        },
    });
    expect_test::expect![[r#"
        spec.template.spec.containers[1].resources.limits.cpu: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
        metadata.labels.a: expected string, found integer
        spec.replicas: expected integer, found string
        spec.template.spec.containers[0].ports: expected list, found map
        spec.template.spec.containers[1].name: expected string, found boolean
    "#]]
    .assert_eq(&errors(deployment));
}

#[test]
fn a_kind_that_is_not_served_is_refused_by_name() {
    let refused = |api_version: &str, kind: &str| {
        errors(serde_json::json!({ "apiVersion": api_version, "kind": kind }))
    };
    let all = [
        refused("extensions/v1beta1", "Deployment"),
        refused("apps/v1", "StatefulSet"),
        refused("apps/v2", "Deployment"),
        refused("v1", "Deployment"),
        refused("v1", "configmap"),
        refused("example.com/v1", "Thing"),
        refused("", "Pod"),
    ];
    expect_test::expect![[r#"
        apiVersion: Unsupported value: "extensions/v1beta1": Deployment is served as apps/v1 now; write apiVersion: apps/v1
        metadata.name: Required value: name or generateName is required
        spec.selector: Required value
        spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
        spec.template.spec.containers: Required value
        apiVersion: Unsupported value: "apps/v2": Deployment is served as apps/v1; write apiVersion: apps/v1
        apiVersion: Unsupported value: "v1": Deployment is served as apps/v1; write apiVersion: apps/v1
        kind: Unsupported value: "configmap": v1 has no kind configmap; did you mean ConfigMap?
        kind: Unsupported value: "Thing": example.com/v1 has no kind Thing
        apiVersion: Required value
    "#]].assert_eq(&all.concat());
}

fn object(value: Value) -> Object {
    create(&admit(value, Strictness::Strict).unwrap().object)
}

fn service(spec: Value) -> Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "shop" }, "spec": spec,
    })
}

/// What an author leaves out must not be lost: the address a Service was given stays.
#[test]
fn allocated_addresses_survive_an_update_and_may_not_change() {
    let ports = serde_json::json!([{ "port": 80 }]);
    let mut live =
        object(service(serde_json::json!({ "type": "NodePort", "ports": ports }))).value();
    assert!(needs_cluster_ip(Object::from_value(&live).unwrap().view().unwrap()));
    live["spec"]["clusterIP"] = "10.96.0.7".into();
    live["spec"]["clusterIPs"] = serde_json::json!(["10.96.0.7"]);
    live["spec"]["ports"][0]["nodePort"] = 30007.into();
    live["metadata"]["uid"] = "u1".into();
    live["status"]["loadBalancer"] = serde_json::json!({ "ingress": [{ "ip": "10.0.0.1" }] });
    let live = Object::from_value(&live).unwrap();
    assert!(!needs_cluster_ip(live.view().unwrap()));
    assert!(needs_node_ports(live.view().unwrap()).is_empty());
    let admitted = |spec| admit(service(spec), Strictness::Strict).unwrap().object;
    let same = admitted(serde_json::json!({ "type": "NodePort", "ports": ports }));
    assert_eq!(update(&live, &same).unwrap(), live);
    assert_eq!(adopt(&live, &same).unwrap(), live);
    let other = admitted(serde_json::json!({ "ports": ports, "clusterIP": "10.96.0.8" }));
    let refused = update(&live, &other).unwrap_err();
    assert_eq!(refused[0].field, "spec.clusterIPs[0]");
}

fn deployment(replicas: u32) -> Value {
    serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
            },
        },
    })
}

#[test]
fn generation_counts_spec_changes_and_status_is_kept() {
    let mut live = object(deployment(2)).value();
    assert_eq!(live["metadata"]["generation"], 1);
    live["status"] = serde_json::json!({ "replicas": 2, "observedGeneration": 1 });
    live["metadata"]["annotations"] =
        serde_json::json!({ "deployment.kubernetes.io/revision": "1", "mine": "gone" });
    let live = Object::from_value(&live).unwrap();
    let new = admit(deployment(3), Strictness::Strict).unwrap().object;
    let updated = adopt(&live, &new).unwrap().value();
    assert_eq!(updated["metadata"]["generation"], 2);
    assert_eq!(updated["status"]["replicas"], 2);
    let annotations = serde_json::json!({ "deployment.kubernetes.io/revision": "1" });
    assert_eq!(updated["metadata"]["annotations"], annotations);

    let mut status = live.value();
    status["spec"]["replicas"] = 9.into();
    status["status"]["readyReplicas"] = 1.into();
    let updated = update_status(&live, &Object::from_value(&status).unwrap()).unwrap().value();
    assert_eq!(updated["spec"]["replicas"], 2, "a status update leaves the spec alone");
    assert_eq!(updated["status"]["readyReplicas"], 1);
    assert_eq!(updated["metadata"]["generation"], 1);
}

/// Admitting what was admitted changes nothing: Git, API and controllers see the same bytes.
#[test]
fn the_door_is_idempotent() {
    for name in cases("defaults") {
        let path = Path::new(ORACLE).join("defaults").join(&name);
        let mut stored = json(&path.with_extension("json"));
        stored.as_object_mut().unwrap().remove("status");
        let once = admit(stored, Strictness::Strict).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let twice = admit(once.object.value(), Strictness::Strict).unwrap();
        assert_eq!(once.object, twice.object, "{name}");
        assert!(Kinds::default().decodes(&once.object, &once.object.value()), "{name}");
    }
}

#[test]
fn fields_that_are_not_acted_on_give_a_warning_by_name() {
    let mut value = deployment(1);
    let port = serde_json::json!([{ "containerPort": 80, "hostPort": 80 }]);
    let probe = serde_json::json!({ "tcpSocket": { "port": 80 } });
    let spec = &mut value["spec"]["template"]["spec"];
    spec["affinity"] = serde_json::json!({ "nodeAffinity": {}, "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname" } }] } });
    spec["hostAliases"] = serde_json::json!([{ "ip": "10.0.0.1", "hostnames": ["a"] }]);
    spec["containers"][0]["startupProbe"] = probe;
    spec["containers"][0]["ports"] = port;
    let warned = |value: &Value| {
        let admitted = admit(value.clone(), Strictness::Strict).unwrap();
        admitted.warnings.iter().map(ToString::to_string).collect::<Vec<String>>()
    };
    let fields = ["affinity.podAntiAffinity", "containers[0].ports[0].hostPort"];
    let text = |field| format!("spec.template.spec.{field}: accepted but not acted on yet");
    assert_eq!(warned(&value), fields.map(text));
    // On the host's network a host port is the container's own.
    value["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    assert_eq!(warned(&value), [text(fields[0])]);
}

#[test]
fn template_hashes_are_stable_and_safe_in_names() {
    let template = |image: &str| {
        let mut value = deployment(1);
        value["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        serde_json::from_value(value["spec"]["template"].clone()).unwrap()
    };
    let one = template_hash(&template("web:1"), 0);
    // A changed hash would start every pod of every cluster anew.
    expect_test::expect!["wmqnbst42q"].assert_eq(&one);
    assert_eq!(one, template_hash(&template("web:1"), 0));
    assert_ne!(one, template_hash(&template("web:2"), 0));
    assert_ne!(one, template_hash(&template("web:1"), 1));
    assert!(one.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b)), "{one}");
}

#[test]
fn schemas_refuse_fields_that_no_kind_has() {
    let schemas = schemas();
    assert_eq!(schemas.len(), registry().len());
    let deployment = &schemas["apps_v1_deployment.json"];
    assert_eq!(deployment["additionalProperties"], false);
    assert_eq!(deployment["properties"]["kind"]["const"], "Deployment");
    let info = lookup(&GroupKind::new("apps", "Deployment")).unwrap();
    let names = field_names(info, "spec.template.spec.containers[0]");
    assert!(names.iter().any(|n| n == "imagePullPolicy"), "{names:?}");
    assert!(field_names(info, "spec.nothing").is_empty());
}

#[test]
fn our_own_kinds_pass_the_door() {
    let mut commit = Commit::named("0123456789012345678901234567890123456789");
    commit.status.state = CommitState::Healthy;
    let object = Object::of(&commit).unwrap();
    let admitted = admit(object.value(), Strictness::Strict).unwrap();
    assert_eq!(admitted.object.view::<Commit>().unwrap().status.state, CommitState::Healthy);
    let source = Object::of(&GitSource::named("main")).unwrap();
    let refused = admit(source.value(), Strictness::Strict).unwrap_err();
    assert_eq!(refused[0].to_string(), "spec.url: Required value");
    let freeze = |spec: Value| {
        let meta = serde_json::json!({ "name": "f" });
        let value = serde_json::json!({
            "apiVersion": "mainstay.io/v1", "kind": "Freeze", "metadata": meta, "spec": spec,
        });
        let errors = admit(value, Strictness::Strict).err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let whole = serde_json::json!({ "until": "2026-12-24T18:00:00Z", "reason": "holidays" });
    assert_eq!(freeze(whole), "");
    expect_test::expect![[r#"
        spec.until: Invalid value: "tomorrow": must be a time with a zone, as 2026-12-24T18:00:00Z
        spec.reason: Required value: whoever is held reads it
        spec.paths[0]: Invalid value: "../x": must be a path inside the repository, as apps/shop"#]]
    .assert_eq(&freeze(serde_json::json!({ "until": "tomorrow", "paths": ["../x"] })));
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let class = |resources: Value| {
        let spec = serde_json::json!({ "containers": [{ "name": "a", "resources": resources }] });
        qos_class(&serde_json::from_value(spec).unwrap())
    };
    let full = serde_json::json!({ "cpu": "1", "memory": "1Gi" });
    assert_eq!(class(serde_json::json!({})), "BestEffort");
    assert_eq!(class(serde_json::json!({ "requests": { "cpu": "1" } })), "Burstable");
    assert_eq!(class(serde_json::json!({ "limits": full, "requests": full })), "Guaranteed");
}

/// A pod of Git is bound by the scheduler: the next commit must not unbind it, nor change what a
/// pod cannot change.
#[test]
fn an_adopted_pod_keeps_its_node_and_its_spec() {
    let pod = |image: &str, command: &str| {
        let value = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "containers": [{ "name": "web", "image": image, "command": [command] }] },
        });
        admit(value, Strictness::Strict).unwrap().object
    };
    let mut live = create(&pod("web:1", "run")).value();
    live["spec"]["nodeName"] = "n1".into();
    live["metadata"]["finalizers"] = serde_json::json!(["example.com/hold"]);
    let live = Object::from_value(&live).unwrap();
    assert_eq!(adopt(&live, &pod("web:1", "run")).unwrap(), live);
    let changed = adopt(&live, &pod("web:2", "run")).unwrap().value();
    assert_eq!(changed["spec"]["nodeName"], "n1");
    assert_eq!(changed["metadata"]["generation"], 2);
    let refused = adopt(&live, &pod("web:1", "walk")).unwrap_err();
    assert_eq!((refused.len(), refused[0].field.as_str()), (1, "spec"));
    let unbound = update(&live, &pod("web:1", "run")).unwrap_err();
    assert_eq!(unbound[0].field, "spec", "over the API a bound pod stays bound, too");
}

#[test]
fn every_kind_is_found_by_its_names() {
    for info in registry() {
        assert!(std::ptr::eq(lookup(&info.group_kind()).unwrap(), info));
        assert!(std::ptr::eq(lookup_resource(&info.group, &info.plural).unwrap(), info));
        assert_eq!(info.singular, info.kind.to_lowercase());
        let ours = info.group == GROUP;
        assert_eq!(known_kubernetes_kind(&info.api_version, &info.kind), !ours, "{}", info.kind);
    }
}

/// Clients build paths and choose columns by what discovery says; it must say what Kubernetes says.
#[test]
fn every_kind_has_the_names_and_paths_of_kubernetes() {
    let resources = json(&Path::new(ORACLE).join("resources.json"));
    let resources = resources.as_array().unwrap();
    let seen = json(&Path::new(ORACLE).join("kinds.json"));
    let list = |v: &Value| serde_json::from_value::<Vec<String>>(v.clone()).unwrap_or_default();
    for info in registry().iter().filter(|info| info.group != GROUP) {
        let of = |name: &str| {
            let here = |r: &&Value| r["groupVersion"] == *info.api_version && r["name"] == name;
            resources.iter().find(here)
        };
        let theirs = of(&info.plural).unwrap_or_else(|| panic!("{} is unknown", info.plural));
        assert_eq!(theirs["kind"], *info.kind);
        assert_eq!(theirs["singularName"], *info.singular, "{}", info.kind);
        assert_eq!(theirs["namespaced"], info.namespaced, "{}", info.kind);
        assert_eq!(list(&theirs["shortNames"]), info.short_names, "{}", info.kind);
        assert_eq!(list(&theirs["categories"]), info.categories, "{}", info.kind);
        let status = of(&format!("{}/status", info.plural)).is_some();
        assert_eq!(status, info.status, "{}", info.kind);
        let kind = &seen[format!("{}/{}", info.api_version, info.plural)];
        if kind.is_object() {
            assert_eq!(kind["generationOnCreate"] == 1, info.generation, "{}", info.kind);
        }
    }
}

/// What people annotate counts for a Deployment alone; what its controller writes down does not.
#[test]
fn a_deployment_counts_what_people_annotate() {
    let after = |live: Value, name: &str| {
        let live = object(live);
        let mut value = live.value();
        value["metadata"]["annotations"][name] = "x".into();
        let updated = update(&live, &Object::from_value(&value).unwrap()).unwrap();
        updated.value()["metadata"]["generation"].as_u64()
    };
    assert_eq!(after(deployment(1), "mine"), Some(2));
    assert_eq!(after(deployment(1), "deployment.kubernetes.io/revision"), Some(1));
    let mut set = deployment(1);
    set["kind"] = "ReplicaSet".into();
    assert_eq!(after(set, "mine"), Some(1));
}

/// What has no spec counts its changes, though not those of its labels.
#[test]
fn a_webhook_counts_its_changes_but_those_of_its_labels() {
    let path = Path::new(ORACLE).join("defaults/mutatingwebhookconfiguration.yaml");
    let live = object(documents(&path).unwrap().remove(0));
    let after = |change: fn(&mut Value)| {
        let mut value = live.value();
        change(&mut value);
        let updated = update(&live, &Object::from_value(&value).unwrap()).unwrap();
        updated.value()["metadata"]["generation"].as_u64()
    };
    assert_eq!(after(|v| v["metadata"]["labels"]["a"] = "b".into()), Some(1));
    assert_eq!(after(|v| v["webhooks"][0]["timeoutSeconds"] = 5.into()), Some(2));
}

/// A request for a certificate: who asks and what is asked for are not for an update to say.
#[test]
fn a_certificate_request_is_asked_for_once() {
    let path = Path::new(ORACLE).join("defaults/csr.yaml");
    let mut sent = documents(&path).unwrap().remove(0);
    let live = object(sent.clone());
    sent["spec"]["username"] = "system:admin".into();
    sent["spec"]["usages"] = serde_json::json!(["any"]);
    let new = admit(sent, Strictness::Strict).unwrap().object;
    assert_eq!(update(&live, &new).unwrap(), live);
}

/// A claim that is bound may grow; nothing else of it changes, and it does not shrink below what it
/// has.
#[test]
fn a_bound_claim_may_only_grow() {
    let claim = |storage: &str, class: &str| {
        let value = serde_json::json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": "data", "namespace": "shop" },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "resources": { "requests": { "storage": storage } },
            },
        });
        admit(value, Strictness::Strict).unwrap().object
    };
    let mut live = create(&claim("2Gi", "a")).value();
    live["status"] = serde_json::json!({ "phase": "Bound", "capacity": { "storage": "2Gi" } });
    let live = Object::from_value(&live).unwrap();
    let refused = |new: &Object| update(&live, new).unwrap_err()[0].field.clone();
    assert!(update(&live, &claim("3Gi", "a")).is_ok());
    assert_eq!(refused(&claim("1Gi", "a")), "spec.resources.requests.storage");
    assert_eq!(refused(&claim("2Gi", "b")), "spec");
}

/// Controllers build typed values; what they write must not differ from what the door would write.
#[test]
fn typed_objects_are_written_as_the_door_writes_them() {
    let created = object(deployment(2));
    let typed: &k8s_openapi::api::apps::v1::Deployment = created.view().unwrap();
    assert_eq!(to_object(typed).unwrap(), created);
    // An update that says the same in more words is none.
    let mut wordy = created.value();
    wordy["spec"]["paused"] = false.into();
    wordy["spec"]["minReadySeconds"] = 0.into();
    let wordy = Object::from_value(&wordy).unwrap();
    assert_eq!(update(&created, &wordy).unwrap(), created);
    assert_eq!(update(&wordy, &created).unwrap(), wordy);
}

/// What a policy cannot mean is told when it is written, with the words of Kubernetes.
#[test]
fn policies_that_cannot_work_are_refused() {
    let policy = |field: &str, said: Value| {
        let mut value = serde_json::json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": "p" },
            "spec": {
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["pods"],
                }] },
                "validations": [{ "expression": "true" }],
            },
        });
        value["spec"][field] = said;
        value
    };
    let validation = |text: &str| serde_json::json!([{ "expression": text }]);
    for (text, wanted) in [
        ("authorizer.group('').check('x').allowed()", "undeclared reference to 'authorizer'"),
        ("params.x == 1", "undeclared reference to 'params'"),
        ("variables.x", "undeclared reference to 'variables'"),
        ("object.nosuch()", "undeclared reference to 'nosuch'"),
        ("request.user == 'a'", "undefined field 'user'"),
        ("'text'", "must evaluate to bool"),
    ] {
        let told = errors(policy("validations", validation(text)));
        assert!(told.starts_with("spec.validations[0].expression: Invalid value: "), "{told}");
        assert!(told.contains(wanted), "{text}: {told}");
    }
    let later = serde_json::json!([
        { "name": "a", "expression": "variables.b" }, { "name": "b", "expression": "1" },
    ]);
    assert!(errors(policy("variables", later)).contains("undeclared reference to 'variables'"));
    let twice = serde_json::json!([{ "name": "a", "expression": "'" }]);
    let told = errors(policy("matchConditions", twice));
    assert!(told.starts_with("spec.matchConditions[0].expression: Invalid value: "), "{told}");
    let annotated =
        policy("auditAnnotations", serde_json::json!([{ "key": "a", "valueExpression": "'b'" }]));
    let admitted = admit(annotated, Strictness::Strict).unwrap();
    let told: Vec<String> = admitted.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["spec.auditAnnotations: accepted but not acted on yet"]);
}
