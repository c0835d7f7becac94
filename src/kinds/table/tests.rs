//! Rows, columns and ages that Kubernetes 1.37.1 printed (`tests/oracle/tables`).

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::*;
use crate::{
    kinds::{lookup, registry},
    model::Object,
};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle");

#[expect(clippy::disallowed_methods, reason = "test data")]
fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn oracle(file: &str) -> Value {
    read(&Path::new(ORACLE).join(file))
}

#[test]
fn ages_are_printed_as_kubernetes_prints_them() {
    for (seconds, text) in oracle("durations.json").as_object().unwrap() {
        assert_eq!(duration(seconds.parse().unwrap()), text.as_str().unwrap(), "{seconds} s");
    }
}

#[test]
fn columns_are_those_of_kubernetes() {
    let theirs = oracle("tables.json");
    for info in registry().iter().filter(|i| i.group != crate::kinds::GROUP) {
        let ours: Vec<Value> = columns(info).iter().map(column).collect();
        let path = format!("{}/{}", info.api_version, info.plural);
        if columns(info) == BARE {
            // Name and time of creation, until somebody asks for more.
            continue;
        }
        assert_eq!(Value::Array(ours), theirs[&path], "{path}");
        for column in columns(info) {
            assert!(column.description.ends_with('.'), "{path}: {}", column.name);
        }
    }
}

fn column(c: &Column) -> Value {
    json!({ "name": c.name, "type": c.type_, "format": c.format, "priority": c.priority })
}

#[test]
fn every_row_is_as_kubernetes_prints_it() {
    let folder = Path::new(ORACLE).join("tables");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in files {
        let case = read(&file);
        let object = Object::from_value(&case["object"]).unwrap();
        let info = lookup(&object.key().kind).unwrap();
        let now: k8s_openapi::jiff::Timestamp = case["now"].as_str().unwrap().parse().unwrap();
        let now = Timestamp(now.as_millisecond());
        let ours = Value::Array(cells(info, &info.api_version, &object, now));
        let told = case.get("conditions").cloned().unwrap_or_else(|| json!([]));
        if ours != case["cells"] || Value::Array(conditions(&object)) != told {
            wrong.push(format!("{}\n  ours   {ours}\n  theirs {}", file.display(), case["cells"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn our_own_kinds_say_what_a_person_wants_to_know() {
    let now = Timestamp(1_767_268_800_000);
    let row = |value: Value| {
        let object = Object::from_value(&value).unwrap();
        let info = lookup(&object.key().kind).unwrap();
        Value::Array(cells(info, &info.api_version, &object, now)).to_string()
    };
    let meta = |name: &str| json!({ "name": name, "creationTimestamp": "2026-01-01T11:00:00Z" });
    let commit = row(json!({
        "apiVersion": "mainstay.io/v1", "kind": "Commit",
        "metadata": meta("6bf8f4506bf8f4506bf8f4506bf8f4506bf8f450"),
        "spec": { "source": "main", "author": "Ada", "subject": "web: three replicas" },
        "status": {
            "state": "Healthy", "message": "all is well",
            "changes": { "added": 3, "changed": 1, "pruned": 0 },
        },
    }));
    let source = row(json!({
        "apiVersion": "mainstay.io/v1", "kind": "GitSource", "metadata": meta("main"),
        "spec": { "url": "https://git.example/shop.git", "reference": { "branch": "main" } },
        "status": {
            "admittedCommit": "6bf8f4506bf8f4506bf8f4506bf8f4506bf8f450",
            "lastFetchAt": now.0 - 20_000,
            "conditions": [{
                "type": "SourceReady", "status": "True", "reason": "Fetched", "message": "",
                "lastTransitionTime": "2026-01-01T11:00:00Z",
            }],
        },
    }));
    let new = row(json!({
        "apiVersion": "mainstay.io/v1", "kind": "GitSource", "metadata": meta("new"),
        "spec": { "url": "https://git.example/shop.git" },
    }));
    let freeze = row(json!({
        "apiVersion": "mainstay.io/v1", "kind": "Freeze", "metadata": meta("release"),
        "spec": { "until": "2026-01-01T14:00:00+02:00", "reason": "release 2" },
    }));
    expect_test::expect![[r#"
        ["6bf8f4506bf8f4506bf8f4506bf8f4506bf8f450","Healthy","web: three replicas","Ada","60m","+3 ~1 -0","main","all is well"]
        ["main","True","main","6bf8f4506bf8","20s","60m","https://git.example/shop.git"]
        ["new","Unknown","HEAD","<none>","<never>","60m","https://git.example/shop.git"]
        ["release","False","2026-01-01T14:00:00+02:00","release 2","60m"]"#]].assert_eq(&[commit, source, new, freeze].join("\n"));
}

/// Kinds of which Kubernetes' rows are not known in full: their cells fit their columns.
#[test]
fn rows_of_kinds_that_are_seldom_printed() {
    let names = [
        "apiservice",
        "clusterrolebinding",
        "clustertrustbundle",
        "csinode",
        "deviceclass",
        "flowschema",
        "ipaddress",
        "mutatingwebhookconfiguration",
        "prioritylevelconfiguration",
        "resourceclaim",
        "runtimeclass",
        "servicecidr",
        "validatingadmissionpolicy",
        "validatingadmissionpolicybinding",
        "volumeattachment",
        "volumeattributesclass",
    ];
    let now = Timestamp(1_767_268_800_000);
    let rows = names.map(|name| {
        let object = Object::from_value(&oracle(&format!("defaults/{name}.json"))).unwrap();
        let info = lookup(&object.key().kind).unwrap();
        let cells = cells(info, &info.api_version, &object, now);
        assert_eq!(cells.len(), columns(info).len(), "{name}");
        Value::Array(cells).to_string()
    });
    expect_test::expect![[r#"
        ["v1.oracle.example","demo/api","Unknown","12h"]
        ["oracle-clusterrolebinding","ClusterRole/view","12h","jane","",""]
        ["clustertrustbundle","<none>"]
        ["csinode",1,"12h"]
        ["deviceclass","12h"]
        ["oracle-flowschema","workload-low",1000,"<none>","12h","?"]
        ["10.96.3.3","services/demo/other"]
        ["oracle-mwc",1,"12h"]
        ["oracle-plc","Limited",30,64,8,50,"12h"]
        ["resourceclaim","pending","12h"]
        ["runtimeclass","runsc","12h"]
        ["servicecidr","10.97.0.0/24","12h"]
        ["oracle-vap",1,"<unset>","12h"]
        ["oracle-vapb","oracle-vap","<unset>","12h"]
        ["volumeattachment","csi.example","pv-csi","node-a",false,"12h"]
        ["volumeattributesclass","csi.example","12h"]"#]]
    .assert_eq(&rows.join("\n"));
}

/// A row must not be lost because one object cannot be read.
#[test]
fn an_object_that_does_not_decode_shows_its_name() {
    let broken = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "shop" }, "spec": { "replicas": "three" },
    });
    let object = Object::from_value(&broken).unwrap();
    let info = lookup(&object.key().kind).unwrap();
    let row = cells(info, &info.api_version, &object, Timestamp(0));
    assert_eq!(row.len(), columns(info).len());
    assert_eq!(row[0], "web");
    assert!(row[1..].iter().all(Value::is_null));
}
