use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use serde_json::json;

use super::world::World;
use crate::{
    kinds::{Commit, CommitSpec, GitSource, GitSourceSpec},
    model::{CommitId, GroupKind, Key, Object},
    plan::admission::{self, Candidate, Facts},
    render::{self, Picture},
    state::{Command, Expect as Expects, Op, Outcome, Part},
};

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: team}\n";

/// A cluster whose main source names one more.
fn world(spec: serde_json::Value) -> World {
    let mut world = World::new();
    let source = json!({
        "apiVersion": "mainstay.io/v1", "kind": "GitSource", "metadata": { "name": "team" },
        "spec": spec,
    });
    let namespace = |name: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    world.commit('a', vec![source, namespace("team"), namespace("other")], None);
    world
}

fn spec_of(world: &World) -> GitSourceSpec {
    world.view().get::<GitSource>("", "team").map(|s| s.spec.clone()).unwrap_or_default()
}

/// A commit of a source, against what runs.
fn candidate(world: &World, source: &str, digit: char, files: &[(&str, &str)]) -> Candidate {
    let mut picture = Picture::default();
    let mut touched = BTreeSet::new();
    for (path, text) in files {
        picture.put(render::render_file(path, text.as_bytes()).into(), &mut touched);
    }
    let facts = Facts {
        commit: CommitId::parse(&digit.to_string().repeat(40)).unwrap(),
        spec: CommitSpec { source: source.to_owned(), ..CommitSpec::default() },
        trailers: Vec::new(),
        seen_at: world.now,
    };
    admission::candidate(world.view(), &spec_of(world), facts, &picture, None, Vec::new())
}

fn problems(candidate: &Candidate) -> String {
    candidate.problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// What is wrong with a commit of the source.
fn check(spec: serde_json::Value, files: &[(&str, &str)], expect: Expect) {
    expect.assert_eq(&problems(&candidate(&world(spec), "team", 'b', files)));
}

fn take(world: &mut World, candidate: &Candidate) {
    assert_eq!(problems(candidate), "");
    let commands = admission::admit(world.view(), candidate, world.now).unwrap();
    done(world, commands);
}

fn done(world: &mut World, commands: Vec<Command>) {
    for command in commands {
        let outcomes = world.apply(vec![command]);
        assert!(matches!(outcomes[..], [Outcome::Done(_)]), "{outcomes:?}");
    }
}

fn ready(world: &World) -> String {
    let source = world.view().get::<GitSource>("", "team").unwrap();
    let ready = source.status.conditions.iter().find(|c| c.type_ == "Ready");
    ready.map(|c| format!("{} {}: {}", c.status, c.reason, c.message)).unwrap_or_default()
}

fn map(name: &str) -> Key {
    Key::new(GroupKind::new("", "ConfigMap"), "team", name)
}

#[test]
fn a_source_holds_what_it_may() {
    let url = "https://example.org/team.git";
    let elsewhere = MAP.replace("namespace: team", "namespace: other");
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\n";
    check(json!({ "url": url }), &[("a.yaml", MAP), ("b.yaml", &elsewhere)], expect![""]);
    let narrow = json!({ "url": url, "namespaces": ["team"] });
    check(
        narrow.clone(),
        &[("a.yaml", MAP), ("b.yaml", &elsewhere), ("c.yaml", role)],
        expect![[r#"
            b.yaml:1: the source team may hold objects of team, not of other
            c.yaml:1: the source team may hold objects of team: name ClusterRole in its spec.kinds
        "#]],
    );
    let source = "apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {name: more}\n\
                  spec: {url: https://example.org/more.git}\n";
    check(
        json!({ "url": url, "kinds": ["Deployment", "GitSource"] }),
        &[("a.yaml", MAP), ("b.yaml", source)],
        expect![[r#"
            a.yaml:1: the source team may hold Deployment, GitSource, no ConfigMap
            b.yaml:1: only the source main says what else is followed
        "#]],
    );
    let main = source.replace("more}", "main}");
    let found = candidate(&world(narrow), "main", 'b', &[("m.yaml", &main)]);
    expect![[r#"
        m.yaml:1: the source main is what the configuration of the servers names
    "#]]
    .assert_eq(&problems(&found));
}

#[test]
fn a_source_does_what_its_service_account_may() {
    let mut world = world(json!({
        "url": "https://example.org/team.git", "serviceAccount": "team/deployer",
    }));
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n\
                metadata: {name: r, namespace: team}\n";
    let files = [("a.yaml", MAP), ("r.yaml", role)];
    let refused = problems(&candidate(&world, "team", 'b', &files));
    expect![[r#"
        a.yaml:1: system:serviceaccount:team:deployer may not create ConfigMap team/m: bind it to a role that may
        r.yaml:1: system:serviceaccount:team:deployer may not create Role team/r: bind it to a role that may
    "#]]
    .assert_eq(&refused);
    world.put(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "deployer", "namespace": "team" },
        "rules": [{ "apiGroups": ["", "rbac.authorization.k8s.io"], "verbs": ["create", "update"],
                    "resources": ["configmaps", "roles"] }],
    }));
    world.put(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "deployer", "namespace": "team" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer" },
        "subjects": [{ "kind": "ServiceAccount", "name": "deployer", "namespace": "team" }],
    }));
    let refused = problems(&candidate(&world, "team", 'b', &files));
    expect![[r#"
        r.yaml:1: system:serviceaccount:team:deployer may not escalate Role team/r: bind it to a role that may
    "#]]
    .assert_eq(&refused);
    let first =
        candidate(&world, "team", 'b', &[("a.yaml", MAP), ("b.yaml", &MAP.replace("m,", "more,"))]);
    take(&mut world, &first);
    let next = candidate(&world, "team", 'c', &[("a.yaml", MAP)]);
    expect![[r#"
        system:serviceaccount:team:deployer may not delete ConfigMap team/more: bind it to a role that may
    "#]]
    .assert_eq(&problems(&next));
}

#[test]
fn an_object_has_one_place() {
    let mut world = world(json!({ "url": "https://example.org/team.git" }));
    let first = candidate(&world, "team", 'b', &[("a.yaml", MAP)]);
    take(&mut world, &first);
    assert_eq!(world.view().origin(&map("m")).unwrap().place(), "team:a.yaml:1");
    let second = candidate(&world, "main", 'c', &[("apps/m.yaml", MAP)]);
    expect![[r#"
        apps/m.yaml:1: ConfigMap team/m is held by the source team already (team:a.yaml:1): an object has one place; take it out of one of them
    "#]]
    .assert_eq(&problems(&second).lines().filter(|l| l.contains("held")).map(|l| format!("{l}\n")).collect::<String>());
    // State has the last word: two sources may be read at once.
    let forced = Candidate { problems: Vec::new(), deletes: Vec::new(), ..second };
    let commands = admission::admit(world.view(), &forced, world.now).unwrap();
    let outcomes = world.apply(commands);
    assert!(matches!(outcomes[..], [Outcome::Refused(_)]), "{outcomes:?}");
}

#[test]
fn each_source_deletes_what_is_its_own() {
    let mut world = world(json!({ "url": "https://example.org/team.git" }));
    let two = MAP.replace("name: m,", "name: two,");
    let both = candidate(&world, "team", 'b', &[("a.yaml", MAP), ("b.yaml", &two)]);
    take(&mut world, &both);
    assert_eq!(world.view().head_of("team").unwrap().commit, both.commit);
    let one = candidate(&world, "team", 'c', &[("a.yaml", MAP)]);
    assert_eq!((problems(&one), &one.deletes[..]), (String::new(), &[map("two")][..]));
    take(&mut world, &one);
    assert!(world.view().object(&map("two")).is_none());
    // What the main source asks for does not touch the others, until it lets one go.
    let source = "apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {name: team}\n\
                  spec: {url: https://example.org/team.git}\n";
    let spaces = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\n\
                  apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n";
    let kept = candidate(&world, "main", 'd', &[("s.yaml", source), ("n.yaml", spaces)]);
    assert_eq!((problems(&kept), kept.deletes.len()), (String::new(), 0));
    let gone = candidate(&world, "main", 'd', &[("n.yaml", spaces)]);
    assert_eq!(gone.deletes.len(), 2, "{:?}", gone.deletes);
    take(&mut world, &gone);
    assert!(world.view().object(&map("m")).is_none());
    assert!(world.view().head_of("team").is_none());
}

#[test]
fn what_a_source_brought_stays_when_it_says_so() {
    let spec = json!({ "url": "https://example.org/team.git", "prune": { "disabled": true } });
    let mut world = world(spec);
    let first = candidate(&world, "team", 'b', &[("a.yaml", MAP)]);
    take(&mut world, &first);
    let spaces = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\n\
                  apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n";
    let gone = candidate(&world, "main", 'd', &[("n.yaml", spaces)]);
    // The policy of the main source is another one than that of the source that goes.
    let gone = Candidate { deletes: vec![Key::of::<GitSource>("", "team")], ..gone };
    take(&mut world, &gone);
    assert!(world.view().object(&map("m")).is_some());
    assert!(world.view().origin(&map("m")).is_none());
}

#[test]
fn the_status_of_a_source_says_how_its_newest_commit_does() {
    let mut world = world(json!({ "url": "https://example.org/team.git", "deadlineSeconds": 60 }));
    let web = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: team}\n\
               spec:\n  selector: {matchLabels: {app: web}}\n  template:\n    \
               metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: 'web:1'}]}\n";
    let first = candidate(&world, "team", 'b', &[("web.yaml", web)]);
    take(&mut world, &first);
    world.settle();
    let told = ready(&world);
    assert!(
        told.starts_with("False Progressing: 0 of 1 workloads are ready; Deployment"),
        "{told}"
    );
    // It says nothing about the commit of the main source.
    let main = world.view().get::<Commit>("", &"a".repeat(40)).unwrap();
    assert_eq!(main.status.message, "0 workloads are ready");
    world.now = world.now.plus_seconds(61);
    world.settle();
    let told = ready(&world);
    assert!(told.starts_with("False DeadlineExceeded"), "{told}");
    let bad = candidate(&world, "team", 'c', &[("web.yaml", "kind: Deployment\n")]);
    let commands = admission::refuse(world.view(), &bad, bad.problems.clone(), world.now).unwrap();
    done(&mut world, commands);
    world.settle();
    let told = ready(&world);
    assert!(told.starts_with("False Refused: ccccccc was refused: web.yaml:1"), "{told}");
    let is_news = |commit: &CommitId| admission::is_news(world.view(), "team", commit, world.now);
    assert!(!is_news(&bad.commit));
    assert!(is_news(&CommitId::parse(&"d".repeat(40)).unwrap()));
    let nothing = candidate(&world, "team", 'd', &[("a.yaml", MAP), ("web.yaml", "")]);
    take(&mut world, &nothing);
    world.settle();
    assert_eq!(ready(&world), "True Healthy: 0 workloads are ready");
}

/// What a source says and what its account may do are asked again when they change, of the commit
/// that runs too; that goes on either way.
#[test]
fn a_commit_is_judged_again_by_a_newer_policy() {
    let url = "https://example.org/team.git";
    let mut world = world(json!({ "url": url }));
    let first = candidate(&world, "team", 'b', &[("a.yaml", MAP)]);
    let is_news =
        |world: &World| admission::is_news(world.view(), "team", &first.commit, world.now);
    let says = |world: &mut World, spec: serde_json::Value| {
        let mut source = world.view().get::<GitSource>("", "team").unwrap().clone();
        source.spec = serde_json::from_value(spec).unwrap();
        let (object, expect) = (Object::of(&source).unwrap(), Expects::Any);
        done(world, vec![Command::Write(vec![Op::Put { object, expect, part: Part::Main }])]);
    };
    assert!(is_news(&world));
    take(&mut world, &first);
    assert!(!is_news(&world));
    says(&mut world, json!({ "url": url, "kinds": ["Secret"] }));
    assert!(is_news(&world));
    let judge = |world: &mut World| {
        let again = candidate(world, "team", 'b', &[("a.yaml", MAP)]);
        let commands = match again.problems.is_empty() {
            true => admission::admit(world.view(), &again, world.now),
            false => admission::refuse(world.view(), &again, again.problems.clone(), world.now),
        };
        done(world, commands.unwrap());
        world.settle();
        assert!(!is_news(world));
        ready(world)
    };
    let told = judge(&mut world);
    assert!(told.contains("a.yaml:1: the source team may hold Secret, no ConfigMap"), "{told}");
    assert!(world.view().object(&map("m")).is_some());
    says(&mut world, json!({ "url": url, "serviceAccount": "team/deployer" }));
    world.settle();
    assert!(is_news(&world));
    assert_eq!(judge(&mut world), "True Healthy: 0 workloads are ready");
    let more = [("a.yaml", MAP), ("b.yaml", "apiVersion: v1\nkind: Pod\n")];
    let refused = candidate(&world, "team", 'c', &more);
    let commands = admission::refuse(world.view(), &refused, Vec::new(), world.now).unwrap();
    done(&mut world, commands);
    let is_news =
        |world: &World| admission::is_news(world.view(), "team", &refused.commit, world.now);
    assert!(!is_news(&world));
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "r", "namespace": "team" }, "rules": [],
    });
    let (object, expect) = (Object::from_value(&role).unwrap(), Expects::Any);
    let put = Op::Put { object, expect, part: Part::Main };
    done(&mut world, vec![Command::Write(vec![put])]);
    assert!(is_news(&world));
}

/// The main source's own commands carry what they did before there were others.
#[test]
fn a_log_of_before_reads_as_the_main_source() {
    let record = Object::of(&Commit::named(&"a".repeat(40))).unwrap();
    let text = json!({ "adopt": {
        "commit": "a".repeat(40), "base": null, "record": record.value(), "upserts": [],
        "deletes": [], "part": 0, "parts": 1,
    } });
    let Command::Adopt(adopt) = serde_json::from_value(text).unwrap() else { panic!("no Adopt") };
    assert_eq!(adopt.source, "main");
}
