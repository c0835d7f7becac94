use expect_test::{Expect, expect};
use serde_json::Value;

use super::{gather::change, *};
use crate::{
    git::Message,
    kinds::GitSourceSpec,
    model::{Key, Timestamp},
    render::edit,
    report::fixture::{Cluster, FIRST, SECOND},
    seal::Keyring,
    server::known::tests::{World, map},
};

/// The wish of somebody who saw the first commit, when the second one runs, which has five
/// replicas of `web:1`.
fn check(changed: impl Fn(&mut Value), expected: Expect) {
    let mut cluster = Cluster::web();
    let key = Key::parse("Deployment.apps/shop/web").unwrap();
    let before = cluster.state.view().object(&key).unwrap().value();
    cluster.adopt(SECOND, Some(FIRST), 5, "web:1");
    let view = cluster.state.view();
    let mut after = before.clone();
    changed(&mut after);
    let wish = Wish {
        key: key.clone(),
        before: Some(before),
        after: Some(after).filter(|after| !after.is_null()),
        author: "ada".to_owned(),
        via: "kubectl/v1.33.2 (patch)".to_owned(),
        adopt: false,
    };
    let change = self::change(&wish, view.object(&key), view);
    let message = |change: &edit::Wish| words::message(&[words::Line::of(&wish, change)]).render();
    let words = change.as_ref().map(message).unwrap_or_default();
    let text = match change {
        Ok(edit::Wish::Change(delta)) => {
            let now = view.object(&key).unwrap().value();
            let next = delta.apply(Some(&now)).unwrap();
            let containers = &next["spec"]["template"]["spec"]["containers"];
            format!("{} of {}", next["spec"]["replicas"], containers[0]["image"])
        }
        other => format!("{other:?}"),
    };
    expected.assert_eq(&format!("{text}\n{words}"));
}

/// What must not happen: a write that undoes what somebody pushed, or is refused for what
/// nobody else touched.
#[test]
fn a_write_is_made_on_what_was_pushed_meanwhile_field_by_field() {
    let image = |v: &mut Value| {
        v["spec"]["template"]["spec"]["containers"][0]["image"] = "web:9".into();
    };
    check(
        image,
        expect![[r#"
        5 of "web:9"
        Change Deployment shop/web: spec.template.spec.containers[web].image

        Via: kubectl/v1.33.2 (patch)
    "#]],
    );
    check(
        |v| v["spec"]["replicas"] = 5.into(),
        expect![[r#"
        5 of "web:1"
        Change Deployment shop/web: spec.replicas

        Via: kubectl/v1.33.2 (patch)
    "#]],
    );
    check(
        |v| v["spec"]["replicas"] = 7.into(),
        expect![[r#"
            Err(Conflict { fields: ["spec.replicas"], other: "Ada (commit 1a2b3c4)" })
        "#]],
    );
    check(
        |v| *v = Value::Null,
        expect![[r#"
        Ok(Delete)
        Delete Deployment shop/web

        Via: kubectl/v1.33.2 (patch)
        Prune-Approved: yes
    "#]],
    );
}

/// What must not happen: a line of a commit that somebody smuggles in.
#[test]
fn names_cannot_forge_a_trailer_or_an_author() {
    let forged = "\n\nPrune-Approved: yes\n";
    check(
        |v| v["metadata"]["annotations"][forged] = "x".into(),
        expect![[r#"
            5 of "web:1"
            Change Deployment shop/web: metadata.annotations. Prune-Approved: yes

            Via: kubectl/v1.33.2 (patch)
        "#]],
    );
    check(
        |v| v["metadata"]["annotations"][format!("{}{forged}", "x".repeat(80))] = "x".into(),
        expect![[r#"
            5 of "web:1"
            Change Deployment shop/web: metadata.annotations.xxxxxxxxxxxxxxxxxxxxxx…

            Change Deployment shop/web: metadata.annotations.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx Prune-Approved: yes

            Via: kubectl/v1.33.2 (patch)
        "#]],
    );
    let author = |user: &str| words::author(user, Timestamp(0));
    let person = author("Ada <root@example.org>\ncommitter x");
    assert_eq!(person.name, "Ada root@example.orgcommitter x");
    assert_eq!(person.email, "Ada.root@example.orgcommitter.x");
    assert_eq!(author("\n<>").name, "unknown");
    assert_eq!(author("system:serviceaccount:a:b").email, "system.serviceaccount.a.b@mainstay");
}

/// A wish of ada's, who saw `before` and wants `after`.
fn wish(name: &str, before: Option<Value>, after: Option<Value>) -> Wish {
    Wish {
        key: Key::parse(&format!("ConfigMap/default/{name}")).unwrap(),
        before,
        after,
        author: "ada".to_owned(),
        via: "kubectl/v1.33.2 (apply)".to_owned(),
        adopt: false,
    }
}

fn settings(name: &str, data: Value) -> Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": "default" }, "data": data,
    })
}

/// What must not happen: a write that fails for another one, that is answered with a commit it is
/// not in, or that undoes what the one before it did.
#[test]
fn writes_that_wait_become_one_commit_and_each_has_its_own_answer() {
    use serde_json::json;

    let mut world = World::new();
    world.commit(&[
        ("a.yaml", Some(map("a", "one"))),
        ("b.yaml", Some(map("b", "one"))),
        ("gone.yaml", Some(map("gone", "one"))),
    ]);
    let tip = world.known().commit().clone();
    let known = Known::read(world.mirror(), &tip, "", None, &Keyring::default()).unwrap();
    let (reader, spec) = (world.mirror().reader().unwrap(), GitSourceSpec::default());
    let ground = Ground {
        reader: &reader,
        known: &known,
        view: world.view(),
        spec: &spec,
        now: Timestamp(1_790_000_000_000),
    };
    let a = |data: Value| Some(settings("a", data));
    let stale = wish(
        "b",
        Some(settings("b", json!({ "text": "zero" }))),
        Some(settings("b", json!({ "text": "two" }))),
    );
    let again = wish("a", a(json!({ "text": "one" })), a(json!({ "text": "three" })));
    let wishes = [
        wish("a", a(json!({ "text": "one" })), a(json!({ "text": "two" }))),
        stale.clone(),
        wish("new", None, Some(settings("new", json!({ "k": "v" })))),
        wish("a", a(json!({ "text": "one" })), a(json!({ "text": "one", "more": "m" }))),
        again.clone(),
        wish("gone", Some(settings("gone", json!({ "text": "one" }))), None),
    ];
    let made = gather(&ground, &wishes);
    use Verdict::{Later, Made};
    assert_eq!(made.verdicts, [Made, Later, Made, Made, Later, Made]);
    let text = |path: &str| {
        let bytes = made.changes[path].as_ref();
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    assert_eq!(made.changes.len(), 3, "{:?}", made.changes.keys());
    assert!(text("a.yaml").unwrap().contains("data:\n  text: two\n  more: m\n"));
    assert!(text("default/configmap-new.yaml").unwrap().contains("k: v"));
    assert_eq!(text("gone.yaml"), None);
    expect![[r#"
        Change 3 objects: ConfigMap default/a, ConfigMap default/gone, ConfigMa…

        Change ConfigMap default/a: data.text
        Create ConfigMap default/new
        Change ConfigMap default/a: data.more
        Delete ConfigMap default/gone

        Via: kubectl/v1.33.2 (apply)
        Prune-Approved: yes
    "#]]
    .assert_eq(&made.message.render());

    // What was left is answered when it comes first; nobody else's write is to blame then.
    let alone = gather(&ground, &[stale, again]);
    let [Verdict::Refused(Uncommitted::Conflict { fields, other }), Made] = &alone.verdicts[..]
    else {
        panic!("{:?}", alone.verdicts);
    };
    assert_eq!(
        (fields.as_slice(), other.starts_with("Ann")),
        (&["data.text".to_owned()][..], true)
    );
    let nothing = gather(&ground, &[wish("none", Some(settings("none", json!({}))), None)]);
    assert_eq!(nothing.verdicts, [Verdict::Refused(Uncommitted::Gone)]);
    assert_eq!((nothing.changes.len(), nothing.message), (0, Message::default()));
}
