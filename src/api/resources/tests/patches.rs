//! Patches over HTTP: what Kubernetes 1.37.1 made of the same ones (`tests/oracle/patch/`), and
//! server-side apply.

use super::*;

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle");

const APPLY: &str = "application/apply-patch+yaml";

/// Takes away what State decides and what is no part of a patch's fact: ids, addresses, times,
/// status, the tokens of pods. The generation of a Deployment counts its spec alone here.
fn bare(mut value: Value) -> Value {
    let of_pod = value["kind"] == "Pod";
    if value["kind"] == "Status" {
        return value;
    }
    cut(&mut value, &["status"]);
    cut(&mut value["metadata"], &["uid", "resourceVersion", "creationTimestamp", "generation"]);
    cut(&mut value["spec"], &["clusterIP", "clusterIPs"]);
    if of_pod {
        cut(&mut value["spec"], &["volumes"]);
        cut(&mut value["spec"]["containers"][0], &["volumeMounts"]);
    }
    let entries = value["metadata"].get_mut("managedFields").and_then(Value::as_array_mut);
    for entry in entries.into_iter().flatten() {
        // Kubernetes forgets when a replica count was set through a Scale.
        if entry["subresource"] == "scale" || !entry["time"].is_null() {
            entry["time"] = "then".into();
        }
    }
    value
}

fn cut(value: &mut Value, fields: &[&str]) {
    let Some(map) = value.as_object_mut() else { return };
    map.retain(|field, _| !fields.contains(&field.as_str()));
}

/// Sends one step of a case; says how the answer differs.
async fn step(backend: &Arc<Fake>, step: &Value, books: bool) -> Result<(), String> {
    let text = |field: &str| step[field].as_str().unwrap_or_default();
    let sent = match &step["patch"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let target = format!("{}?{}", text("path"), text("query"));
    let response = ask(backend, "PATCH", &target, text("contentType"), "*/*", sent).await;
    let code = response.status().as_u16();
    let warnings: Vec<String> = response
        .headers()
        .get_all(header::WARNING)
        .iter()
        .map(|value| value.to_str().unwrap().to_owned())
        .filter(|warning| !warning.contains("not acted on yet"))
        .collect();
    let told: Value = serde_json::from_str(&body(response).await).unwrap();
    let (mut ours, mut theirs) = (bare(told), bare(step["result"].clone()));
    if !books {
        for value in [&mut ours, &mut theirs] {
            cut(&mut value["metadata"], &["managedFields"]);
        }
    }
    let known = step["warnings"].as_array().map_or(0, Vec::len);
    match step["code"] == code && warnings.len() == known && ours == theirs {
        true => Ok(()),
        false => Err(format!(
            "\n  ours   {code} {warnings:?} {ours}\n  theirs {} {} {theirs}",
            step["code"], step["warnings"]
        )),
    }
}

/// Plays a case; `false` when its kind is not served here.
async fn play(name: &str, case: &Value) -> Result<bool, String> {
    let backend = demo();
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    told(&backend, "POST", "/api/v1/namespaces/demo/serviceaccounts", account).await;
    if let Some(start) = case.get("start").filter(|start| !start.is_null()) {
        let path = case["steps"][0]["path"].as_str().unwrap();
        let (collection, _) = path.split_once(&format!("/{name}")).unwrap();
        let target = format!("{collection}?{}", start["query"].as_str().unwrap_or_default());
        let (code, told) = told(&backend, "POST", &target, start["sent"].clone()).await;
        if code == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        assert_eq!(code, StatusCode::CREATED, "{name}: {told}");
    }
    for (at, sent) in case["steps"].as_array().unwrap().iter().enumerate() {
        if sent["code"] != 404 && sent["path"].as_str().unwrap().contains("patch.example") {
            return Ok(false);
        }
        let books = name.starts_with("apply-");
        step(&backend, sent, books).await.map_err(|why| format!("step {at}: {why}"))?;
    }
    Ok(true)
}

fn read(path: &std::path::Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[tokio::test]
async fn patches_are_answered_as_kubernetes_answered_them() {
    let folder = std::path::Path::new(ORACLE);
    let differences = read(&folder.join("differences.json"));
    let excused = differences["patch"].as_object().unwrap();
    let mut paths: Vec<_> =
        std::fs::read_dir(folder.join("patch")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let (mut wrong, mut played) = (Vec::new(), 0);
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match (play(&name, &read(&path)).await, excused.get(&name)) {
            (Err(text), None) => wrong.push(format!("== {name} {text}")),
            (Ok(true), Some(_)) => {
                wrong.push(format!("== {name}: differs no more; drop its excuse"));
            }
            (Ok(true), None) => played += 1,
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
    assert!(played > 90, "{played} cases were played");
}

/// Sends an apply; gives its code and a line about it.
async fn applied(backend: &Arc<Fake>, query: &str, wish: Value) -> (u16, Value) {
    let target = format!("{}?{query}", one("a"));
    let response = ask(backend, "PATCH", &target, APPLY, "*/*", wish.to_string()).await;
    let code = response.status().as_u16();
    (code, serde_json::from_str(&body(response).await).unwrap())
}

fn wish(data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": data,
    })
}

/// Who owns which data.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let data = |entry: &Value| entry["fieldsV1"]["f:data"].to_string();
    entries.map(|e| format!("{} {} {}", e["operation"], e["manager"], data(e))).collect()
}

#[tokio::test]
async fn an_apply_creates_conflicts_takes_by_force_and_gives_up() {
    let backend = demo();
    let both = json!({ "x": "1", "y": "1" });
    let (code, dry) = applied(&backend, "fieldManager=one&dryRun=All", wish(both.clone())).await;
    assert_eq!((code, &dry["data"]), (201, &both));
    assert_eq!(told(&backend, "GET", &one("a"), Value::Null).await.0, StatusCode::NOT_FOUND);
    let (code, made) = applied(&backend, "fieldManager=one", wish(both.clone())).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(owners(&made), [r#""Apply" "one" {"f:x":{},"f:y":{}}"#]);
    let (code, again) = applied(&backend, "fieldManager=one", wish(both)).await;
    assert_eq!((code, &again), (200, &made), "the same wish changes nothing, not even a time");

    let other = wish(json!({ "x": "2" }));
    let (code, conflict) = applied(&backend, "fieldManager=two", other.clone()).await;
    assert_eq!(code, 409);
    assert_eq!(
        conflict["message"],
        r#"Apply failed with 1 conflict: conflict with "one": .data.x"#
    );
    let cause = json!([{
        "reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.x",
    }]);
    assert_eq!(conflict["details"]["causes"], cause);
    let (code, forced) = applied(&backend, "fieldManager=two&force=true", other).await;
    assert_eq!((code, &forced["data"]), (200, &json!({ "x": "2", "y": "1" })));
    assert_eq!(owners(&forced), [r#""Apply" "one" {"f:y":{}}"#, r#""Apply" "two" {"f:x":{}}"#]);

    let (code, given) = applied(&backend, "fieldManager=one", wish(json!({ "z": "1" }))).await;
    assert_eq!((code, &given["data"]), (200, &json!({ "x": "2", "z": "1" })));
    let (_, stored) = told(&backend, "GET", &one("a"), Value::Null).await;
    assert_eq!(stored, given);
}

#[tokio::test]
async fn an_apply_names_its_manager_and_others_know_no_force() {
    let backend = demo();
    let (code, refused) = applied(&backend, "", wish(json!({}))).await;
    let text = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is \
                required for apply patch";
    assert_eq!((code, &refused["message"]), (422, &json!(text)));
    let long = format!("fieldManager={}", "m".repeat(129));
    assert_eq!(applied(&backend, &long, wish(json!({}))).await.0, 422);
    let media = "application/merge-patch+json";
    let target = format!("{}?force=true", one("a"));
    let response = ask(&backend, "PATCH", &target, media, "*/*", "{}".to_owned()).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(told(&backend, "GET", &one("a"), Value::Null).await.0, StatusCode::NOT_FOUND);
}

/// Plain writes are kept by the program that asks, field by field; what Git wrote is not kept.
#[tokio::test]
async fn every_write_keeps_the_books() {
    let backend = demo();
    let made = |name: &str| format!("{MAPS}?fieldManager={name}");
    let (_, created) = told(&backend, "POST", &made("one"), map("a", "1")).await;
    assert_eq!(owners(&created), [r#""Update" "one" {".":{},"f:key":{}}"#]);
    let (_, same) = told(&backend, "PUT", &one("a"), map("a", "1")).await;
    assert_eq!(same, created, "a write that changes nothing takes nothing over");
    let (_, replaced) = told(&backend, "PUT", &one("a"), map("a", "2")).await;
    assert_eq!(owners(&replaced), [r#""Update" "one" {}"#, r#""Update" "unknown" {"f:key":{}}"#]);
    let mut request = Request::patch(one("a"))
        .header(header::CONTENT_TYPE, "application/merge-patch+json")
        .header(header::USER_AGENT, "kubectl/v1.37.1 (linux/amd64)")
        .body(Body::from(r#"{"data":{"more":"1"}}"#))
        .unwrap();
    request.extensions_mut().insert(admin());
    let response = routers(backend.clone()).tls.oneshot(request).await.unwrap();
    let patched: Value = serde_json::from_str(&body(response).await).unwrap();
    assert!(owners(&patched).contains(&r#""Update" "kubectl" {"f:more":{}}"#.to_owned()));

    let git = Fake::direct(&Cluster::web());
    let web = "/apis/apps/v1/namespaces/shop/deployments/web";
    let (_, before) = told(&git, "GET", web, Value::Null).await;
    assert_eq!(before["metadata"].get("managedFields"), None);
}

/// A status is somebody else's, and so are its books.
#[tokio::test]
async fn a_status_has_books_of_its_own() {
    let backend = demo();
    let (_, made) =
        told(&backend, "POST", "/apis/apps/v1/namespaces/demo/deployments", deployment("web"))
            .await;
    let target = "/apis/apps/v1/namespaces/demo/deployments/web/status?fieldManager=c";
    let status = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "status": { "replicas": 2 },
    });
    let response = ask(&backend, "PATCH", target, APPLY, "*/*", status.to_string()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let applied: Value = serde_json::from_str(&body(response).await).unwrap();
    assert_eq!(applied["status"]["replicas"], 2);
    assert_eq!(applied["spec"], made["spec"]);
    let entries = applied["metadata"]["managedFields"].as_array().unwrap();
    let c = entries.iter().find(|entry| entry["manager"] == "c").unwrap();
    assert_eq!(c["subresource"], "status");
    assert_eq!(c["fieldsV1"], json!({ "f:status": { "f:replicas": {} } }));
    let (_, stored) = told(&backend, "GET", target.split('?').next().unwrap(), Value::Null).await;
    assert_eq!(stored, applied);
}

/// Replicas that are applied through a Scale are owned there.
#[tokio::test]
async fn a_scale_is_applied_and_conflicts() {
    let backend = demo();
    let deployments = "/apis/apps/v1/namespaces/demo/deployments";
    told(&backend, "POST", &format!("{deployments}?fieldManager=maker"), deployment("web")).await;
    let scale = |replicas: i64| {
        json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": "web" },
            "spec": { "replicas": replicas },
        })
        .to_string()
    };
    let target = format!("{deployments}/web/scale?fieldManager=hpa");
    let response = ask(&backend, "PATCH", &target, APPLY, "*/*", scale(5)).await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    let target = format!("{target}&force=true");
    let response = ask(&backend, "PATCH", &target, APPLY, "*/*", scale(5)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let (_, stored) = told(&backend, "GET", &format!("{deployments}/web"), Value::Null).await;
    assert_eq!(stored["spec"]["replicas"], 5);
    let response = ask(&backend, "PATCH", &target, APPLY, "*/*", scale(-1)).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn fields_that_are_there_twice_are_told_or_refused() {
    let backend = demo();
    let twice = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"1","a":"2"}}"#;
    let send = async |query: &str| {
        let target = format!("{MAPS}?{query}");
        ask(&backend, "POST", &target, "application/json", "*/*", twice.to_owned()).await
    };
    let refused: Value =
        serde_json::from_str(&body(send("fieldValidation=Strict").await).await).unwrap();
    assert_eq!(
        refused["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         duplicate field \"data.a\""
    );
    assert_eq!(refused["code"], 400);
    let quiet = send("fieldValidation=Ignore&dryRun=All").await;
    assert!(!quiet.headers().contains_key(header::WARNING));
    let warned = send("").await;
    assert_eq!(warned.headers()[header::WARNING], r#"299 - "duplicate field \"data.a\"""#);
    let created: Value = serde_json::from_str(&body(warned).await).unwrap();
    assert_eq!(created["data"]["a"], "2");
}

/// Patches whose result is no object must not be indexed like one.
#[tokio::test]
async fn patches_that_leave_no_object_are_refused() {
    let backend = demo();
    told(&backend, "POST", MAPS, map("a", "1")).await;
    let send = async |operations: Value| {
        let media = "application/json-patch+json";
        ask(&backend, "PATCH", &one("a"), media, "*/*", operations.to_string()).await.status()
    };
    let replace = |path: &str| json!([{ "op": "replace", "path": path, "value": "x" }]);
    assert_eq!(send(replace("")).await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(send(replace("/metadata")).await, StatusCode::BAD_REQUEST);
    let put = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": "x" });
    assert_eq!(told(&backend, "PUT", &one("a"), put).await.0, StatusCode::BAD_REQUEST);
}
