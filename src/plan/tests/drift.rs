//! What is made again, and what is left alone.

use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;

use crate::{
    model::Key,
    plan::drift::{gone, note, put_back},
    report::fixture::Cluster,
    state::{Command, MAIN_SOURCE, Op},
};

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

/// The shop, in a namespace.
fn shop() -> Cluster {
    let mut cluster = Cluster::web();
    cluster.put(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" },
        "spec": { "finalizers": ["kubernetes"] },
    }));
    cluster
}

fn delete(cluster: &mut Cluster, text: &str) {
    let op = Op::Delete { key: key(text), uid: String::new(), grace_seconds: Some(0) };
    cluster.run(Command::Write(vec![op]));
}

/// What must not happen: something that Git did not say, that is still ending, or that another
/// source says, is made.
#[test]
fn what_git_says_and_nobody_else_took_is_made_again() {
    let mut cluster = shop();
    assert!(gone(cluster.state.view(), MAIN_SOURCE).is_empty(), "a settled cluster has no drift");
    let before = cluster.state.view().object(&key("Service/shop/web")).unwrap().clone();
    delete(&mut cluster, "Service/shop/web");
    let missing = gone(cluster.state.view(), MAIN_SOURCE);
    assert_eq!(missing.iter().map(Key::to_string).collect::<Vec<_>>(), ["Service shop/web"]);
    assert!(gone(cluster.state.view(), "other").is_empty());
    assert!(note(cluster.state.view(), &missing).is_none(), "nothing is noted before it is done");
    let origin = cluster.state.view().origin(before.key()).unwrap().clone();
    let wanted = [crate::state::Desired { object: before.clone(), origin }];
    for command in put_back(&wanted, &missing).unwrap() {
        let Command::Write(ops) = command else { panic!("a write") };
        cluster.run(Command::Write(ops));
    }
    let view = cluster.state.view();
    let after = view.object(before.key()).unwrap();
    assert_ne!(after.uid(), before.uid());
    assert_eq!(after.annotation("mainstay.io/source"), before.annotation("mainstay.io/source"));
    assert!(gone(view, MAIN_SOURCE).is_empty());
    let Some(Command::Write(ops)) = note(view, &missing) else { panic!("a note") };
    let [Op::Event(event)] = ops.as_slice() else { panic!("one event: {ops:?}") };
    assert_eq!((event.reason.as_str(), event.uid.as_str()), ("DriftCorrected", after.uid()));
    assert!(put_back(&[], &missing).unwrap().is_empty());
}

/// A namespace that ends takes its objects along; they wait for it.
#[test]
fn nothing_is_made_in_a_namespace_that_ends() {
    let mut cluster = shop();
    delete(&mut cluster, "Service/shop/web");
    assert_eq!(gone(cluster.state.view(), MAIN_SOURCE).len(), 1);
    let namespace = Key::of::<Namespace>("", "shop");
    let uid = String::new();
    cluster.run(Command::Write(vec![Op::Delete { key: namespace, uid, grace_seconds: None }]));
    assert!(gone(cluster.state.view(), MAIN_SOURCE).is_empty());
}
