//! Writes that become commits: what the repository is asked for, and what is answered.

use super::*;
use crate::{api::Uncommitted, model::Problem};

const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
const SHOP: &str = "/api/v1/namespaces/shop";

fn scale(replicas: u32) -> Value {
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": { "name": "web" },
        "spec": { "replicas": replicas },
    })
}

fn secret() -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" } })
}

/// The cluster whose Deployment Git owns, with its namespace.
fn shop() -> Cluster {
    let mut cluster = Cluster::web();
    let name = json!({ "name": "shop" });
    cluster.put(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": name }));
    cluster
}

/// What differs between the two objects of each wish that was made.
fn wishes(backend: &Fake) -> String {
    let line = |asked: &String| {
        let (head, objects) = asked.split_once(": ").unwrap();
        let (before, after) = objects.split_once(" => ").unwrap();
        let (before, after) = (read(before), read(after));
        let before_text = before.to_string();
        match (before.is_null(), after.is_null()) {
            (false, false) => {
                let patch = json!(json_patch::diff(&before, &after));
                // The object of this test was stored without its defaults.
                let ops = patch.as_array().unwrap().iter().filter(|op| op["op"] != "add");
                let ops: Vec<String> = ops.map(Value::to_string).collect();
                format!("{head}: {}\n", ops.join(", "))
            }
            (true, _) => format!("{head}: + {after}\n"),
            (_, true) => {
                format!("{head}: -{}\n", if before_text.contains("uid") { " uid" } else { "" })
            }
        }
    };
    backend.asked().iter().filter(|asked| asked.contains(" => ")).map(line).collect()
}

fn read(object: &str) -> Value {
    let (_, object) = object.split_once(": ").unwrap_or(("", object));
    serde_json::from_str(object).unwrap_or_default()
}

#[tokio::test]
async fn a_write_to_what_git_owns_asks_for_what_it_changes_and_nothing_else() {
    let backend = Fake::committing(&shop());
    let dry = format!("{WEB}/scale?dryRun=All");
    check(
        &backend,
        &[
            ("PUT", &format!("{WEB}/scale"), scale(9)),
            // It says so already.
            ("PUT", &format!("{WEB}/scale"), scale(9)),
            ("PUT", &dry, scale(3)),
            ("POST", &format!("{SHOP}/configmaps"), map("m", "1")),
            ("POST", &format!("{SHOP}/secrets"), secret()),
            ("DELETE", &format!("{SHOP}/configmaps/m"), Value::Null),
            // What runs is no wish.
            ("DELETE", &format!("{SHOP}/pods/web-1-0"), Value::Null),
        ],
        expect![[r#"
            200 Scale web
            200 Scale web
            200 Scale web
            201 ConfigMap m
            403 Forbidden: secrets "s" is forbidden: its namespace belongs to Git, and a secret would stand there for everybody to read: create it in a namespace that says mainstay.io/writes: direct
            200 : 
            200 Pod web-1-0
        "#]],
    )
    .await;
    expect![[r#"
        ada via unknown (update scale): {"op":"replace","path":"/spec/replicas","value":9}
        ada via unknown (create): + {"apiVersion":"v1","data":{"key":"1"},"kind":"ConfigMap","metadata":{"name":"m","namespace":"shop"}}
        ada via unknown (delete): -
    "#]].assert_eq(&wishes(&backend));
}

/// What must not happen: a write that is made again on top of what somebody else said.
#[tokio::test]
async fn why_there_was_no_commit_is_answered_and_not_tried_again() {
    let backend = Fake::committing(&shop());
    let problem = Problem {
        file: "apps/web.yaml".into(),
        line: 14,
        message: "it is made there from other files".into(),
        ..Problem::default()
    };
    let mut all = String::new();
    for why in [
        Uncommitted::Conflict {
            fields: vec!["spec.replicas".into()],
            other: "Ann (commit 1)".into(),
        },
        Uncommitted::Refused(vec![problem]),
        Uncommitted::Forbidden("the branch is protected".into()),
        Uncommitted::Unavailable("cannot reach it".into()),
        Uncommitted::Gone,
    ] {
        *backend.uncommitted.lock().unwrap() = Some(why);
        all += &line(&backend, "PUT", &format!("{WEB}/scale"), scale(9)).await;
        all.push('\n');
    }
    expect![[r#"
        409 Conflict: Operation cannot be fulfilled on deployments.apps "web": Ann (commit 1) changed spec.replicas meanwhile, and ada wants something else of it: read it again and decide
        403 Forbidden: deployments.apps "web" is forbidden: it comes from Git, and this cannot be committed: apps/web.yaml:14: it is made there from other files
        403 Forbidden: deployments.apps "web" is forbidden: it comes from Git, and the commit was not taken: the branch is protected
        503 ServiceUnavailable: Deployment shop/web comes from Git, and the commit could not be made: cannot reach it
        404 NotFound: deployments.apps "web" not found
    "#]].assert_eq(&all);
    assert_eq!(wishes(&backend).lines().count(), 5);
    let (_, live) = told(&backend, "GET", WEB, Value::Null).await;
    assert_ne!(live["spec"]["replicas"], 9);
}
