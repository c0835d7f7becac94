use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::world::World;
use crate::{
    kinds::{CommitSpec, GitSource, GitSourceSpec},
    model::{CommitId, GroupKind, Key, Problem},
    plan::{
        admission::{self, Candidate, Facts},
        precedence,
        units::{self, Ended, Folder, Planned, Tip},
    },
    render::{self, Picture},
    state::{Command, Outcome},
};

const URL: &str = "https://example.org/team.git";

fn id(digit: char) -> CommitId {
    CommitId::parse(&digit.to_string().repeat(40)).unwrap()
}

fn source(spec: Value) -> Value {
    json!({ "apiVersion": "mainstay.io/v1", "kind": "GitSource", "metadata": { "name": "team" },
            "spec": spec })
}

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// A cluster whose main source names one that is taken by unit.
fn world(more: Value) -> World {
    let mut spec = json!({ "url": URL, "path": "apps", "atomic": "unit" });
    spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    let mut world = World::new();
    world.commit('a', vec![source(spec), namespace("team")], None);
    world
}

/// A folder with a manifest, or (`base` names one) with a kustomization that is built on another.
fn folder(path: &str, base: Option<&str>, is_built: bool) -> Arc<Folder> {
    Arc::new(Folder {
        is_used: true,
        built: is_built.then(|| format!("apps/{path}")).into_iter().collect(),
        names: base.map(|base| format!("apps/{base}")).into_iter().collect(),
    })
}

fn tip(digit: char, folders: &[&str]) -> Tip {
    let folders = folders.iter().map(|name| ((*name).to_owned(), folder(name, None, false)));
    Tip {
        commit: id(digit),
        folders: folders.collect(),
        beside: Vec::new(),
        trailers: Vec::new(),
        problems: Vec::new(),
    }
}

fn text(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// Does what a tip makes of the units; gives what is wrong with it.
fn look(world: &mut World, tip: &Tip) -> String {
    let Planned { commands, problems, .. } =
        units::plan(world.view(), "team", tip, world.now).unwrap();
    commands.into_iter().for_each(|command| world.done(vec![command]));
    for command in units::finish(world.view(), "team").unwrap() {
        world.done(vec![command]);
    }
    let told = text(&problems);
    let ended = units::ended(world.view(), "team", &tip.commit, Ended::Seen(problems)).unwrap();
    ended.into_iter().for_each(|command| world.done(vec![command]));
    told
}

fn names(world: &World) -> Vec<String> {
    units::of(world.view(), "team").map(|(unit, _)| unit.key().name.to_string()).collect()
}

fn spec_of(world: &World, name: &str) -> GitSourceSpec {
    world.view().get::<GitSource>("", name).unwrap().spec.clone()
}

fn ready(world: &World, name: &str) -> String {
    let source = world.view().get::<GitSource>("", name).unwrap();
    let ready = source.status.conditions.iter().find(|c| c.type_ == "Ready");
    ready.map(|c| format!("{} {}: {}", c.status, c.reason, c.message)).unwrap_or_default()
}

fn candidate(world: &World, unit: &str, digit: char, files: &[(&str, String)]) -> Candidate {
    let mut picture = Picture::default();
    for (path, text) in files {
        let found = render::render_file(path, text.as_bytes());
        picture.put(found.into(), &mut BTreeSet::new());
    }
    let facts = Facts {
        commit: id(digit),
        spec: CommitSpec { source: unit.to_owned(), ..CommitSpec::default() },
        trailers: Vec::new(),
        seen_at: world.now,
    };
    admission::candidate(world.view(), &spec_of(world, unit), facts, &picture, None, Vec::new())
}

fn take(world: &mut World, candidate: &Candidate) {
    assert_eq!(text(&candidate.problems), "");
    for command in admission::admit(world.view(), candidate, world.now).unwrap() {
        world.done(vec![command]);
    }
}

fn refuse(world: &mut World, candidate: &Candidate) {
    let problems = candidate.problems.clone();
    let commands = admission::refuse(world.view(), candidate, problems, world.now).unwrap();
    commands.into_iter().for_each(|command| world.done(vec![command]));
}

fn map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: team}}\n---\n")
}

fn key(name: &str) -> Key {
    Key::new(GroupKind::new("", "ConfigMap"), "team", name)
}

fn holder(world: &World, name: &str) -> Option<String> {
    world.view().origin(&key(name)).map(|origin| origin.source.to_string())
}

/// Units that hold so many objects each.
fn filled(world: &mut World, digit: char, units: &[(&str, usize)]) {
    let folders: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
    assert_eq!(look(world, &tip(digit, &folders)), "");
    for (name, count) in units {
        let maps: String = (0..*count).map(|i| map(&format!("{name}-{i}"))).collect();
        let files = [("maps.yaml", maps)];
        let found = candidate(world, &format!("team-{name}"), digit, &files);
        take(world, &found);
    }
    world.settle();
}

#[test]
fn folders_with_manifests_are_units_but_for_those_others_are_built_on() {
    let check = |folders: &[(&str, Option<&str>, bool)], units: &[&str]| {
        let all =
            folders.iter().map(|(n, base, built)| ((*n).to_owned(), folder(n, *base, *built)));
        let tip = Tip { folders: all.collect(), ..tip('b', &[]) };
        assert_eq!(tip.units().into_iter().collect::<Vec<_>>(), units);
    };
    check(&[("a", None, false), ("b", None, true)], &["a", "b"]);
    check(&[("base", None, true), ("x", Some("base"), true)], &["x"]);
    // A base of a base.
    check(&[("b", None, true), ("m", Some("b"), true), ("x", Some("m"), true)], &["x"]);
    // Two that name each other are not left out without a word.
    check(&[("a", Some("b"), true), ("b", Some("a"), true)], &["a", "b"]);
    // A folder without a kustomization is read where it is, whoever names a file of it.
    check(&[("a", None, false), ("x", Some("a"), true)], &["a", "x"]);
    let empty = BTreeMap::from([("docs".to_owned(), Arc::new(Folder::default()))]);
    assert!(Tip { folders: empty, ..tip('b', &[]) }.units().is_empty());
}

#[test]
fn units_follow_their_source() {
    let mut world =
        world(json!({ "namespaces": ["team"], "deadlineSeconds": 60, "dependsOn": [] }));
    assert_eq!(look(&mut world, &tip('b', &["a", "b"])), "");
    assert_eq!(names(&world), ["team-a", "team-b"]);
    let expected = json!({
        "url": URL, "path": "apps/a", "namespaces": ["team"], "deadlineSeconds": 60,
        "reference": {}, "prune": {},
    });
    assert_eq!(serde_json::to_value(spec_of(&world, "team-a")).unwrap(), expected);
    // The same again is nothing to write.
    assert!(
        units::plan(world.view(), "team", &tip('b', &["a", "b"]), world.now)
            .unwrap()
            .commands
            .is_empty()
    );
    // What the source says its units say, though nothing is looked at.
    world.edit::<GitSource>("team", |source| source["spec"]["suspend"] = true.into());
    world.settle();
    assert!(spec_of(&world, "team-a").suspend);
    // Taken whole, it has none, and what they held is there to be taken.
    world.edit::<GitSource>("team", |source| source["spec"]["suspend"] = false.into());
    world.settle();
    let first = candidate(&world, "team-a", 'b', &[("a.yaml", map("m"))]);
    take(&mut world, &first);
    world.edit::<GitSource>("team", |source| {
        source["spec"].as_object_mut().unwrap().remove("atomic");
    });
    let whole = candidate(&world, "team", 'c', &[("a.yaml", map("m"))]);
    assert_eq!(text(&whole.problems), "", "before the unit is gone");
    world.settle();
    assert_eq!((names(&world), holder(&world, "m")), (vec![], None));
    assert!(world.view().object(&key("m")).is_some());
    assert!(world.view().head_of("team-a").is_none());
    take(&mut world, &whole);
    // By unit again: the source holds nothing itself.
    world.edit::<GitSource>("team", |source| source["spec"]["atomic"] = "unit".into());
    world.settle();
    assert_eq!((holder(&world, "m"), world.view().head_of("team")), (None, None));
    assert!(world.view().object(&key("m")).is_some());
}

#[test]
fn what_can_be_no_unit_is_told() {
    let mut world = world(json!({}));
    let other = json!({ "apiVersion": "mainstay.io/v1", "kind": "GitSource",
                        "metadata": { "name": "team-b" }, "spec": { "url": URL } });
    world.commit('b', vec![source(json!(spec_of(&world, "team"))), namespace("team"), other], None);
    let mut found = tip('c', &["a", "b", "No_Name"]);
    found.beside = vec!["apps/loose.yaml".to_owned(), "apps/kustomization.yaml".to_owned()];
    expect![[r#"
        apps/loose.yaml:1: is beside the folders in apps, which are the units of the source team, and is not read: move it into one of them
        apps/kustomization.yaml:1: makes one of the folders in apps, which the source team takes each by itself: take it away, or take `atomic: unit` out of the source
        apps/No_Name: its unit would be the source team-No_Name, which is no name of an object: rename the folder to lower-case letters, digits, `-` and `.`
        apps/b: its unit would be the source team-b, which Git names (team-b.yaml:3): rename one of them
    "#]]
    .assert_eq(&look(&mut world, &found));
    assert_eq!(names(&world), ["team-a"]);
    world.settle();
    let told = ready(&world, "team");
    assert!(
        told.starts_with("False Incomplete: 0 of 1 unit is ready; apps/loose.yaml:1"),
        "{told}"
    );
    // The main source may not take a name away.
    let text_of = "apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {name: team-a}\n\
                   spec: {url: https://example.org/x.git}\n";
    let mut picture = Picture::default();
    picture.put(render::render_file("s.yaml", text_of.as_bytes()).into(), &mut BTreeSet::new());
    let facts = Facts {
        commit: id('d'),
        spec: CommitSpec { source: "main".to_owned(), ..CommitSpec::default() },
        trailers: vec![("Prune-Approved".to_owned(), "yes".to_owned())],
        seen_at: world.now,
    };
    let spec = GitSourceSpec::default();
    let main = admission::candidate(world.view(), &spec, facts, &picture, None, Vec::new());
    expect![[r#"
        s.yaml:1: team-a is a unit of the source team: take another name
    "#]]
    .assert_eq(&text(&main.problems));
    // Most folders by far: those there are go on.
    let many: Vec<String> = (0..=units::UNITS_MAX).map(|i| format!("f{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["a"]).collect();
    let told = look(&mut world, &tip('e', &many));
    assert!(
        told.starts_with("apps: has 2002 folders that would be units, more than 2000"),
        "{told}"
    );
    assert_eq!(names(&world), ["team-a"]);
}

/// What goes when folders go, and what the source says then.
fn check_prune(more: Value, trailer: Option<&str>, stay: &[&str], left: &[&str], expect: Expect) {
    let mut world = world(more);
    filled(&mut world, 'b', &[("a", 4), ("b", 2), ("c", 1)]);
    let mut next = tip('c', stay);
    next.trailers =
        trailer.map(|said| ("Prune-Approved".to_owned(), said.to_owned())).into_iter().collect();
    let told = look(&mut world, &next);
    world.settle();
    let held: BTreeSet<String> =
        ["a-0", "b-0", "c-0"].into_iter().filter_map(|name| holder(&world, name)).collect();
    assert_eq!(held.into_iter().collect::<Vec<_>>(), left);
    assert_eq!(names(&world), left);
    expect.assert_eq(&told);
}

#[test]
fn folders_that_go_take_what_their_units_hold_as_the_guard_lets_them() {
    let all = ["team-a", "team-b", "team-c"];
    check_prune(json!({}), None, &["a", "b"], &all[..2], expect![""]);
    check_prune(
        json!({}),
        None,
        &["c"],
        &all,
        expect![[r#"
            the commit deletes 8 of 10 objects, more than 50 %: add the trailer "Prune-Approved: yes" to the commit message if it is meant (the folders of team-a, team-b are gone)
        "#]],
    );
    check_prune(json!({}), Some("yes"), &["c"], &all[2..], expect![""]);
    check_prune(
        json!({ "prune": { "sharePercentMax": 90 } }),
        None,
        &["c"],
        &all[2..],
        expect![""],
    );
    check_prune(
        json!({}),
        Some("yes"),
        &[],
        &all,
        expect![[r#"
            the commit holds no object, and 10 are live: an empty tree never deletes; check branch and path, or delete the objects one by one (the folders of team-a, team-b, team-c are gone)
        "#]],
    );
    // Where nothing is ever deleted the unit goes, and what it held is nobody's.
    let mut world = world(json!({ "prune": { "disabled": true } }));
    filled(&mut world, 'b', &[("a", 1), ("b", 1)]);
    assert_eq!(look(&mut world, &tip('c', &["a"])), "");
    assert_eq!((names(&world), holder(&world, "b-0")), (vec!["team-a".to_owned()], None));
    assert!(world.view().object(&key("b-0")).is_some());
    // And all go with their source.
    world.edit::<GitSource>("team", |source| source["spec"]["prune"] = json!({}));
    world.settle();
    world.commit('d', vec![namespace("team")], None);
    world.settle();
    assert!(world.view().get::<GitSource>("", "team-a").is_none());
    assert!(world.view().head_of("team-a").is_none());
}

/// What must not happen: a folder that goes in a freeze and takes along what it held.
#[test]
fn a_freeze_of_the_source_keeps_its_units_as_they_are() {
    let mut world = world(json!({}));
    filled(&mut world, 'b', &[("a", 1), ("b", 1)]);
    let until = world.now.plus_seconds(60);
    let freeze = json!({
        "apiVersion": "mainstay.io/v1", "kind": "Freeze", "metadata": { "name": "audit" },
        "spec": { "until": until.to_string(), "reason": "an audit", "sources": ["team"] },
    });
    let spec = json!(spec_of(&world, "team"));
    let main = candidate_of_main(&world, &[source(spec), namespace("team"), freeze]);
    take(&mut world, &main);
    let changes = candidate(&world, "team-a", 'c', &[("maps.yaml", map("a-0") + &map("new"))]);
    assert_eq!(changes.held.map(|hold| hold.freeze).as_deref(), Some("audit"));
    let told = look(&mut world, &tip('c', &["a"]));
    assert!(
        told.starts_with("team-b: its folder is gone, and the freeze audit holds it"),
        "{told}"
    );
    assert_eq!(names(&world), ["team-a", "team-b"]);
    let why = vec![("Freeze-Override".to_owned(), "it is broken".to_owned())];
    assert!(Tip { trailers: why.clone(), ..tip('c', &["a"]) }.asks_again());
    assert_eq!(look(&mut world, &Tip { trailers: why, ..tip('d', &["a"]) }), "");
    assert_eq!(names(&world), ["team-a"]);
}

/// A commit of the main source with these objects.
fn candidate_of_main(world: &World, objects: &[Value]) -> Candidate {
    let files: Vec<String> = objects.iter().map(Value::to_string).collect();
    let mut picture = Picture::default();
    for (at, text) in files.iter().enumerate() {
        let found = render::render_file(&format!("f{at}.yaml"), text.as_bytes());
        picture.put(found.into(), &mut BTreeSet::new());
    }
    let facts = Facts {
        commit: id('e'),
        spec: CommitSpec { source: "main".to_owned(), ..CommitSpec::default() },
        trailers: Vec::new(),
        seen_at: world.now,
    };
    let spec = GitSourceSpec::default();
    admission::candidate(world.view(), &spec, facts, &picture, None, Vec::new())
}

/// What must not happen: an object that is deleted and made again because its file moved.
#[test]
fn what_moves_from_unit_to_unit_is_the_same_object() {
    let mut world = world(json!({}));
    filled(&mut world, 'b', &[("a", 2), ("b", 1), ("c", 1)]);
    let uid = |world: &World, name: &str| world.view().object(&key(name)).unwrap().uid().to_owned();
    let before = uid(&world, "a-0");
    let names = BTreeSet::from(["team-a".to_owned(), "team-b".to_owned()]);
    let both = map("b-0") + &map("a-0");
    let wants = candidate(&world, "team-b", 'c', &[("maps.yaml", both.clone())]);
    let taken = units::claims(world.view(), &wants, &names).unwrap();
    assert_eq!(taken, BTreeSet::from([key("a-0")]));
    // Of one that is not looked at, or with something else wrong, nothing is to be had.
    assert_eq!(units::claims(world.view(), &wants, &BTreeSet::new()), None);
    let bad = [("maps.yaml", both.clone()), ("bad.yaml", "kind: Nonsense\n".to_owned())];
    let bad = candidate(&world, "team-b", 'c', &bad);
    assert_eq!(units::claims(world.view(), &bad, &names), None);
    let mut gives = candidate(&world, "team-a", 'c', &[("maps.yaml", map("a-1"))]);
    assert_eq!(gives.deletes, [key("a-0")]);
    units::hand_over(&mut gives, &taken);
    take(&mut world, &gives);
    assert_eq!(holder(&world, "a-0"), None);
    let wants = candidate(&world, "team-b", 'c', &[("maps.yaml", both)]);
    take(&mut world, &wants);
    assert_eq!(holder(&world, "a-0").as_deref(), Some("team-b"));
    // A folder that is renamed: its unit goes once the other one has taken what it held.
    let next = Tip {
        trailers: vec![("Prune-Approved".into(), "yes".into())],
        ..tip('d', &["a", "bb", "c"])
    };
    for command in units::plan(world.view(), "team", &next, world.now).unwrap().commands {
        world.done(vec![command]);
    }
    world.settle();
    let renamed = candidate(&world, "team-bb", 'd', &[("maps.yaml", map("a-0"))]);
    take(&mut world, &renamed);
    units::finish(world.view(), "team").unwrap().into_iter().for_each(|c| world.done(vec![c]));
    world.settle();
    assert_eq!(uid(&world, "a-0"), before);
    assert_eq!(holder(&world, "a-0").as_deref(), Some("team-bb"));
    assert!(world.view().object(&key("b-0")).is_none());
    assert!(world.view().get::<GitSource>("", "team-b").is_none());
}

#[test]
fn a_source_is_ready_when_its_units_are() {
    let mut world = world(json!({}));
    assert_eq!(ready(&world, "team"), "");
    filled(&mut world, 'b', &[("a", 1), ("b", 1)]);
    assert_eq!(ready(&world, "team"), "True Healthy: 2 of 2 units are ready");
    let bad = candidate(&world, "team-a", 'c', &[("bad.yaml", "kind: Nonsense\n".to_owned())]);
    refuse(&mut world, &bad);
    assert_eq!(look(&mut world, &tip('c', &["a", "b"])), "");
    world.settle();
    let told = ready(&world, "team");
    let words =
        "False UnitsNotReady: 1 of 2 units are ready; team-a: ccccccc was refused: bad.yaml:1";
    assert!(told.starts_with(words), "{told}");
    let status = &world.view().get::<GitSource>("", "team").unwrap().status;
    let tip = id('c').to_string();
    assert_eq!(status.admitted_commit.as_ref(), Some(&tip));
    assert_eq!(status.units.as_ref().map(|u| (u.count, u.ready)), Some((2, 1)));
    // The same refusal at a later tip is nothing new; another one is.
    let again = candidate(&world, "team-a", 'd', &[("bad.yaml", "kind: Nonsense\n".to_owned())]);
    assert!(units::is_known(world.view(), &again, true));
    assert!(!units::is_known(world.view(), &again, false));
    let other = candidate(&world, "team-a", 'd', &[("worse.yaml", "kind: Nonsense\n".to_owned())]);
    assert!(!units::is_known(world.view(), &other, true));
    // What runs and would change nothing, too.
    let maps = |digit| candidate(&world, "team-b", digit, &[("maps.yaml", map("b-0"))]);
    assert!(units::is_known(world.view(), &maps('d'), true));
    // A tip that is not to be trusted is looked at by none.
    let problem = Problem { message: "is signed by nobody".to_owned(), ..Problem::default() };
    let ended = units::ended(world.view(), "team", &id('e'), Ended::Refused(vec![problem]));
    world.done(ended.unwrap().into_iter().collect());
    world.settle();
    let told = ready(&world, "team");
    assert!(
        told.starts_with("False Refused: 1 of 2 units are ready; is signed by nobody"),
        "{told}"
    );
}

#[test]
fn others_wait_for_all_units_or_for_one() {
    let mut world = World::new();
    let by_unit = json!({ "url": URL, "path": "apps", "atomic": "unit" });
    let other = |name: &str, on: &str| {
        json!({ "apiVersion": "mainstay.io/v1", "kind": "GitSource", "metadata": { "name": name },
                "spec": { "url": URL, "path": name, "dependsOn": [on] } })
    };
    let all = vec![source(by_unit), namespace("team"), other("x", "team"), other("y", "team-b")];
    world.commit('a', all, None);
    let waits = |world: &World, name: &str, digit| {
        precedence::waits_for(world.view(), name, &id(digit)).unwrap_or_default()
    };
    assert_eq!(waits(&world, "y", 'b'), "bbbbbbb waits for the source team-b, which is nowhere");
    filled(&mut world, 'b', &[("a", 1), ("b", 1)]);
    assert_eq!((waits(&world, "x", 'b'), waits(&world, "y", 'b')), (String::new(), String::new()));
    // Of one push the order is kept, though nothing of that unit changed.
    assert_eq!(
        waits(&world, "y", 'c'),
        "ccccccc waits for the source team-b, which has not seen it yet"
    );
    let bad = candidate(&world, "team-a", 'c', &[("bad.yaml", "kind: Nonsense\n".to_owned())]);
    refuse(&mut world, &bad);
    look(&mut world, &tip('c', &["a", "b"]));
    world.settle();
    assert_eq!(waits(&world, "y", 'c'), "");
    let told = waits(&world, "x", 'c');
    assert!(
        told.starts_with("ccccccc waits for the source team, which is not ready: team-a: "),
        "{told}"
    );
}

/// What must not happen: two that wait for each other for ever, because one names a unit.
#[test]
fn an_order_that_names_a_unit_is_checked_where_it_is_said() {
    let mut world = World::new();
    let check = |world: &World, team: &str, other: &str, expect: Expect| {
        let text_of = |name: &str, more: &str| {
            format!(
                "apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {{name: {name}}}\n\
                 spec: {{url: {URL}{more}}}\n"
            )
        };
        let files =
            text_of("team", &format!(", atomic: unit{team}")) + "---\n" + &text_of("x", other);
        let mut picture = Picture::default();
        picture.put(render::render_file("s.yaml", files.as_bytes()).into(), &mut BTreeSet::new());
        let facts = Facts {
            commit: id('b'),
            spec: CommitSpec { source: "main".to_owned(), ..CommitSpec::default() },
            trailers: Vec::new(),
            seen_at: world.now,
        };
        let spec = GitSourceSpec::default();
        let found = admission::candidate(world.view(), &spec, facts, &picture, None, Vec::new());
        expect.assert_eq(&text(&found.problems));
    };
    world.settle();
    check(&world, "", ", dependsOn: [team-a]", expect![""]);
    check(
        &world,
        "",
        ", dependsOn: [teams-a]",
        expect![[r#"
            s.yaml:6: spec.dependsOn: x waits for the source teams-a, which is nowhere: add it
        "#]],
    );
    check(
        &world,
        ", dependsOn: [x]",
        ", dependsOn: [team-a]",
        expect![[r#"
            s.yaml:1: spec.dependsOn: team waits for x waits for team: no new commit of these is ever taken: take one of these waits away
        "#]],
    );
}

#[test]
fn a_unit_that_is_deleted_lets_go_of_what_it_held() {
    let mut world = world(json!({}));
    filled(&mut world, 'b', &[("a", 1)]);
    let unit = Key::of::<GitSource>("", "team-a");
    let uid = world.view().object(&unit).unwrap().uid().to_owned();
    let delete = crate::state::Op::Delete { key: unit, uid, grace_seconds: None };
    let outcomes = world.apply(vec![Command::Write(vec![delete])]);
    assert!(matches!(outcomes[..], [Outcome::Done(_)]));
    assert_eq!((holder(&world, "a-0"), world.view().head_of("team-a")), (None, None));
    assert!(world.view().object(&key("a-0")).is_some());
    world.settle();
}
