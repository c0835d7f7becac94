//! Who goes when an owner goes.

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use serde_json::{Value, json};

use super::world::World;
use crate::{
    model::{GroupKind, Key, Object},
    state::{Command, Expect as At, Op, Part},
};

fn map(name: &str, owners: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": "default", "ownerReferences": owners },
    })
}

fn uid(world: &World, key: &Key) -> String {
    world.view().object(key).unwrap().uid().to_owned()
}

fn key(name: &str) -> Key {
    Key::of::<ConfigMap>("default", name)
}

/// A reference to a ConfigMap of `default`.
fn owner(world: &World, name: &str, blocks: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid(world, &key(name)),
        "blockOwnerDeletion": blocks,
    })
}

/// Puts ConfigMaps, each with the names of its owners, which stand before it.
fn world(maps: &[(&str, &[&str])]) -> World {
    let mut world = World::new();
    for (name, owners) in maps {
        let owners: Vec<Value> = owners.iter().map(|o| owner(&world, o, true)).collect();
        world.put(map(name, &owners));
    }
    world.settle();
    world
}

/// Deletes as the API does, with the finalizer of a propagation.
fn delete(world: &mut World, name: &str, finalizer: Option<&str>) {
    let object = world.view().object(&key(name)).unwrap().clone();
    let mut value = object.value();
    if let Some(finalizer) = finalizer {
        value["metadata"]["finalizers"] = json!([finalizer]);
    }
    let put =
        Op::Put { object: Object::from_value(&value).unwrap(), expect: At::Any, part: Part::Main };
    let uid = object.uid().to_owned();
    let gone = Op::Delete { key: key(name), uid, grace_seconds: None };
    world.apply(vec![Command::Write(vec![put, gone])]);
}

/// Each ConfigMap with the names of its owners, and whether it is on its way out.
fn check(world: &World, expect: &Expect) {
    let line = |o: &Object| {
        let owners = o.meta().owner_references.iter().flatten();
        let owners: Vec<&str> = owners.map(|owner| owner.name.as_str()).collect();
        let going = if o.is_terminating() { " going" } else { "" };
        format!("{} [{}]{going}", o.key().name, owners.join(" "))
    };
    let ours = |o: &&Object| o.key().name != "kube-root-ca.crt";
    let maps = world.view().of_kind(&GroupKind::of::<ConfigMap>(), Some("default"));
    let lines: Vec<String> = maps.filter(ours).map(line).collect();
    expect.assert_eq(&lines.join("\n"));
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

#[test]
fn what_was_owned_follows_its_owner() {
    let mut world = world(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("free", &[])]);
    delete(&mut world, "a", None);
    world.settle();
    check(&world, &expect!["free []"]);
}

/// The last of several owners decides; the others are forgotten.
#[test]
fn an_object_outlives_all_but_the_last_of_its_owners() {
    let mut world = world(&[("a", &[]), ("b", &[]), ("both", &["a", "b"])]);
    delete(&mut world, "a", None);
    world.settle();
    check(
        &world,
        &expect![[r#"
            b []
            both [b]"#]],
    );
    delete(&mut world, "b", Some("foregroundDeletion"));
    world.settle();
    check(&world, &expect![""]);
}

/// An owner that goes in the foreground does not take along what somebody else owns too.
#[test]
fn a_foreground_deletion_spares_what_another_owns() {
    let mut world = world(&[("a", &[]), ("b", &[]), ("both", &["a", "b"]), ("only", &["a"])]);
    delete(&mut world, "a", Some("foregroundDeletion"));
    world.settle();
    check(
        &world,
        &expect![[r#"
            b []
            both [b]"#]],
    );
}

/// In the foreground the owner goes last: it waits for a dependent that blocks it, and not for one
/// that does not.
#[test]
fn a_foreground_deletion_waits_for_what_blocks_it() {
    let held = |blocks: bool| {
        let mut world = world(&[("a", &[])]);
        let owner = owner(&world, "a", blocks);
        let mut held = map("held", &[owner]);
        held["metadata"]["finalizers"] = json!(["example.com/hold"]);
        world.put(held);
        world.settle();
        delete(&mut world, "a", Some("foregroundDeletion"));
        world.settle();
        world
    };
    let mut world = held(true);
    check(
        &world,
        &expect![[r#"
            a [] going
            held [a] going"#]],
    );
    world.edit::<ConfigMap>("held", |value| value["metadata"]["finalizers"] = json!([]));
    world.settle();
    check(&world, &expect![""]);
    check(&held(false), &expect!["held [a] going"]);
}

/// The dependents of a dependent go first too.
#[test]
fn a_foreground_deletion_goes_from_the_leaves_up() {
    let mut world = world(&[("a", &[]), ("b", &["a"])]);
    let mut leaf = map("leaf", &[owner(&world, "b", true)]);
    leaf["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.put(leaf);
    delete(&mut world, "a", Some("foregroundDeletion"));
    world.settle();
    check(
        &world,
        &expect![[r#"
            a [] going
            b [a] going
            leaf [b] going"#]],
    );
    world.edit::<ConfigMap>("leaf", |value| value["metadata"]["finalizers"] = json!([]));
    world.settle();
    check(&world, &expect![""]);
}

/// Two that own each other do not wait for each other.
#[test]
fn a_circle_of_owners_comes_to_its_end() {
    let mut world = world(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]);
    let back = owner(&world, "c", true);
    world.edit::<ConfigMap>("a", |value| value["metadata"]["ownerReferences"] = json!([back]));
    world.settle();
    delete(&mut world, "a", Some("foregroundDeletion"));
    world.settle();
    check(&world, &expect![""]);
}

#[test]
fn an_orphaning_owner_lets_go_of_what_it_owned() {
    let mut world = world(&[("a", &[]), ("b", &[]), ("both", &["a", "b"]), ("only", &["a"])]);
    delete(&mut world, "a", Some("orphan"));
    world.settle();
    check(
        &world,
        &expect![[r#"
            b []
            both [b]
            only []"#]],
    );
}

fn reference(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({ "apiVersion": api_version, "kind": kind, "name": name, "uid": uid })
}

/// An owner in another namespace is no owner, whatever its uid; of kinds that nobody keeps nothing
/// is known, so they are left alone.
#[test]
fn owners_are_looked_for_where_they_can_be() {
    let mut world = World::new();
    world.put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }));
    world.put(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "far", "namespace": "shop" },
    }));
    let far = uid(&world, &Key::of::<Secret>("shop", "far"));
    let shop = uid(&world, &Key::of::<Namespace>("", "shop"));
    world.put(map("lost", &[reference("v1", "Secret", "far", &far)]));
    world.put(map("cluster", &[reference("v1", "Namespace", "shop", &shop)]));
    world.put(map("foreign", &[reference("example.com/v1", "Thing", "x", "1-2-3")]));
    world.put(map("other-uid", &[reference("v1", "Namespace", "shop", "1-2-3")]));
    world.settle();
    check(
        &world,
        &expect![[r#"
            cluster [shop]
            foreign [x]"#]],
    );
    assert!(world.view().get::<Secret>("shop", "far").is_some());
    world.delete::<Namespace>("", "shop");
    world.settle();
    check(&world, &expect!["foreign [x]"]);
}
