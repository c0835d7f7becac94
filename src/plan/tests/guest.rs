use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use serde_json::json;

use super::world::World;
use crate::{
    kinds::{Commit, CommitSpec, CommitState, GitSource, GitSourceSpec, RevertState},
    model::{CommitId, CommitName, GroupKind, Key, Object},
    plan::{
        admission::{self, Candidate, Facts},
        failure::{self, Settled},
        precedence,
    },
    render::{self, Picture},
    state::{Command, Expect as Expects, MAIN_SOURCE, Op, OutboxItem, Outcome, Part},
};

pub(super) const MAP: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: team}\n";

/// A cluster whose main source names one more.
pub(super) fn world(spec: serde_json::Value) -> World {
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
pub(super) fn candidate(
    world: &World,
    source: &str,
    digit: char,
    files: &[(&str, &str)],
) -> Candidate {
    saying(world, source, digit, files, &[])
}

/// A commit whose message has these trailers.
pub(super) fn saying(
    world: &World,
    source: &str,
    digit: char,
    files: &[(&str, &str)],
    trailers: &[(&str, &str)],
) -> Candidate {
    let mut picture = Picture::default();
    let mut touched = BTreeSet::new();
    for (path, text) in files {
        picture.put(render::render_file(path, text.as_bytes()).into(), &mut touched);
    }
    let facts = Facts {
        commit: CommitId::parse(&digit.to_string().repeat(40)).unwrap(),
        spec: CommitSpec { source: source.to_owned(), ..CommitSpec::default() },
        trailers: trailers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        seen_at: world.now,
    };
    admission::candidate(world.view(), &spec_of(world), facts, &picture, None, Vec::new())
}

pub(super) fn problems(candidate: &Candidate) -> String {
    candidate.problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// What is wrong with a commit of the source.
fn check(spec: serde_json::Value, files: &[(&str, &str)], expect: Expect) {
    expect.assert_eq(&problems(&candidate(&world(spec), "team", 'b', files)));
}

pub(super) fn take(world: &mut World, candidate: &Candidate) {
    assert_eq!(problems(candidate), "");
    let commands = admission::admit(world.view(), candidate, world.now).unwrap();
    done(world, commands);
}

pub(super) fn done(world: &mut World, commands: Vec<Command>) {
    for command in commands {
        let outcomes = world.apply(vec![command]);
        assert!(matches!(outcomes[..], [Outcome::Done(_)]), "{outcomes:?}");
    }
}

pub(super) fn ready(world: &World) -> String {
    let source = world.view().get::<GitSource>("", "team").unwrap();
    let ready = source.status.conditions.iter().find(|c| c.type_ == "Ready");
    ready.map(|c| format!("{} {}: {}", c.status, c.reason, c.message)).unwrap_or_default()
}

pub(super) fn map(name: &str) -> Key {
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

/// Of another source than the main one a log of before has the `GitSource` as record.
#[test]
fn a_log_of_before_tells_a_source_alone() {
    let mut world = world(json!({ "url": URL }));
    let mut record = world.view().get::<GitSource>("", "team").unwrap().clone();
    record.spec.url = "https://example.org/another.git".to_owned();
    record.status.admitted_commit = Some(id('b').to_string());
    let adopt = json!({ "adopt": {
        "source": "team", "commit": id('b'), "base": null, "record": record, "upserts": [],
        "deletes": [], "part": 0, "parts": 1,
    } });
    done(&mut world, vec![serde_json::from_value(adopt).unwrap()]);
    let source = world.view().get::<GitSource>("", "team").unwrap();
    assert_eq!(source.status.admitted_commit.as_deref(), Some(id('b').as_str()));
    assert_eq!(source.spec.url, URL, "what it follows only the main source says");
    assert_eq!(world.view().head_of("team").unwrap().commit, id('b'));
    world.settle();
    assert_eq!(world.full_pass(), Vec::<String>::new());
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

pub(super) const URL: &str = "https://example.org/team.git";

pub(super) fn web(image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: team}}\n\
         spec:\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    \
         metadata: {{labels: {{app: web}}}}\n    \
         spec: {{containers: [{{name: web, image: '{image}'}}]}}\n"
    )
}

/// A cluster with a node, on which `b` of the team runs well.
fn running(spec: serde_json::Value) -> World {
    let mut world = world(spec);
    world.node("n", "8", "8Gi");
    let first = candidate(&world, "team", 'b', &[("web.yaml", &web("web:1"))]);
    take(&mut world, &first);
    world.roll();
    assert_eq!(ready(&world), "True Healthy: 1 workload is ready");
    world
}

/// The same after a minute in which `c` did not come up.
pub(super) fn failed(spec: serde_json::Value, trailers: &[(&str, &str)]) -> World {
    let mut world = running(spec);
    let next = saying(&world, "team", 'c', &[("web.yaml", &web("web:2"))], trailers);
    take(&mut world, &next);
    world.settle();
    world.live(61);
    world.settle();
    world
}

pub(super) fn id(digit: char) -> CommitId {
    CommitId::parse(&digit.to_string().repeat(40)).unwrap()
}

pub(super) fn named(digit: char) -> CommitName {
    CommitName::new("team", &id(digit))
}

fn due(world: &World) -> Vec<String> {
    world.view().due_reverts().map(|(_, name)| name.to_string()).collect()
}

pub(super) fn goes_back(world: &mut World) {
    let (bad, good) = failure::way_back(world.view(), "team").unwrap();
    assert_eq!((&bad, &good), (&id('c'), &id('b')));
    let again = candidate(world, "team", 'b', &[("web.yaml", &web("web:1"))]);
    let commands = admission::go_back(world.view(), &again, &bad).unwrap();
    done(world, commands);
    world.roll();
}

/// What must not happen: a source that fails takes the main one, or a third, back with it.
#[test]
fn a_rollout_of_another_source_that_fails_goes_back_and_is_taken_back_once() {
    let mut world = failed(json!({ "url": URL, "deadlineSeconds": 60, "path": "apps" }), &[]);
    assert_eq!(due(&world), [format!("team.{}", id('c'))]);
    assert_eq!(failure::way_back(world.view(), MAIN_SOURCE), None);
    goes_back(&mut world);
    assert_eq!(world.view().head_of("team").unwrap().commit, id('b'));
    assert_eq!(failure::way_back(world.view(), "team"), None, "once is enough");
    assert_eq!(due(&world).len(), 1);
    let told = ready(&world);
    assert!(told.starts_with("False DeadlineExceeded: Deployment team/web"), "{told}");
    let end = "the cluster went back to bbbbbbb; its revert is on its way";
    assert!(told.ends_with(end), "{told}");
    assert!(!admission::is_news(world.view(), "team", &id('c'), world.now));
    assert_eq!(world.get_commit('a').status.state, CommitState::Healthy);
    // What is pushed: of its folder alone, and found again by its own name.
    let revert = failure::revert(world.view(), &named('c')).unwrap();
    assert_eq!((revert.path.as_str(), &revert.good), ("apps", &id('b')));
    assert_eq!(revert.branch(), format!("mainstay/revert/team.{}", id('c')));
    let message = revert.message(None);
    assert!(message.ends_with(&format!("Mainstay-Reverts: team.{}\n", id('c'))), "{message}");
    let (state, commit, why) = (RevertState::Proposed, Some(id('e')), "protected".to_owned());
    let settled = Settled { state, commit, why };
    let commands = failure::settle(world.view(), &named('c'), settled).unwrap();
    done(&mut world, commands);
    world.settle();
    assert_eq!(failure::revert(world.view(), &named('c')), None);
    let told = ready(&world);
    assert!(told.contains("no revert was pushed (protected): it is proposed on"), "{told}");
    assert_eq!(world.said("RevertNotPushed").len(), 1);
}

#[test]
fn the_content_that_failed_is_not_run_again_and_a_newer_push_counts() {
    let mut world = failed(json!({ "url": URL, "deadlineSeconds": 60 }), &[]);
    goes_back(&mut world);
    let files = [("elsewhere.yaml", &*web("web:2"))];
    let again = candidate(&world, "team", 'd', &files);
    let problem = problems(&again);
    assert!(problem.starts_with("has the content of ccccccc, whose rollout failed"), "{problem}");
    let commands =
        admission::refuse(world.view(), &again, again.problems.clone(), world.now).unwrap();
    done(&mut world, commands);
    let revert = failure::revert(world.view(), &named('c')).unwrap();
    assert_eq!(revert.repeats, BTreeSet::from([id('d')]));
    let main = candidate(&world, MAIN_SOURCE, 'd', &files);
    assert!(main.repeats.is_none(), "it failed as the team's");
    let wanted = saying(&world, "team", 'e', &files, &[("Retry-Failed", "yes")]);
    take(&mut world, &wanted);
    world.roll();
    assert_eq!(ready(&world), "True Healthy: 1 workload is ready");
    assert_eq!(world.view().head_of("team").unwrap().commit, id('e'));
}

/// By another policy the commit that failed is asked for again: it is refused, what became of it
/// stays written, and it is not run.
#[test]
fn a_failed_commit_is_not_run_by_a_change_of_its_source() {
    let mut world = failed(json!({ "url": URL, "deadlineSeconds": 60 }), &[]);
    goes_back(&mut world);
    let mut source = world.view().get::<GitSource>("", "team").unwrap().clone();
    source.spec.interval_seconds = Some(7);
    let (object, expect) = (Object::of(&source).unwrap(), Expects::Any);
    done(&mut world, vec![Command::Write(vec![Op::Put { object, expect, part: Part::Main }])]);
    assert!(admission::is_news(world.view(), "team", &id('c'), world.now));
    let again = candidate(&world, "team", 'c', &[("web.yaml", &web("web:2"))]);
    let commands =
        admission::refuse(world.view(), &again, again.problems.clone(), world.now).unwrap();
    done(&mut world, commands);
    world.settle();
    assert!(!admission::is_news(world.view(), "team", &id('c'), world.now));
    assert!(world.view().commit(&named('c')).unwrap().status.failure.is_some());
    assert_eq!(due(&world).len(), 1, "its revert is still due");
}

#[test]
fn a_source_and_a_commit_of_it_say_what_a_failure_leads_to() {
    for (policy, trailer, goes_back, pushes) in [
        ("hold", None, true, 0),
        ("ignore", None, false, 0),
        ("hold", Some("revert"), true, 1),
        ("revert", Some("ignore"), false, 0),
    ] {
        let spec = json!({ "url": URL, "deadlineSeconds": 60, "onFailure": policy });
        let trailers: Vec<_> = trailer.iter().map(|said| ("On-Failure", *said)).collect();
        let world = failed(spec, &trailers);
        let goes = failure::way_back(world.view(), "team").is_some();
        assert_eq!((goes, due(&world).len()), (goes_back, pushes), "{policy} {trailer:?}");
        assert!(ready(&world).starts_with("False DeadlineExceeded"), "{}", ready(&world));
    }
}

#[test]
fn a_source_that_goes_takes_its_commits_and_what_was_to_be_pushed_there() {
    let mut world = failed(json!({ "url": URL, "deadlineSeconds": 60 }), &[]);
    let spaces = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\n\
                  apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n";
    let gone = candidate(&world, MAIN_SOURCE, 'd', &[("n.yaml", spaces)]);
    take(&mut world, &gone);
    world.settle();
    assert_eq!((due(&world).len(), world.view().commits_of("team").count()), (0, 0));
}

/// What must not happen: a hook of one source that holds up what another one brings.
#[test]
fn hooks_of_another_source_run_with_its_commits() {
    let mut world = running(json!({ "url": URL }));
    let hook = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: migrate\n  namespace: team\n  \
                annotations: {mainstay.io/hook: PreSync}\nspec:\n  template:\n    spec: \
                {restartPolicy: Never, containers: [{name: c, image: migrate}]}\n";
    let files = [("web.yaml", &*web("web:2")), ("hook.yaml", hook)];
    let next = candidate(&world, "team", 'c', &files);
    take(&mut world, &next);
    world.roll();
    let message = world.view().commit(&named('c')).unwrap().status.message.clone();
    assert!(message.contains("waits for the PreSync hook Job team/migrate"), "{message}");
    assert_eq!(world.get_commit('a').status.state, CommitState::Healthy);
    let image = |world: &World| {
        let pods = world.all::<k8s_openapi::api::core::v1::Pod>().into_iter();
        let images = pods.map(|(_, p)| p.spec.clone().unwrap().containers[0].image.clone());
        images.flatten().collect::<BTreeSet<_>>()
    };
    assert_eq!(image(&world), BTreeSet::from(["migrate".to_owned(), "web:1".to_owned()]));
    let pods = world.all::<k8s_openapi::api::core::v1::Pod>();
    let job = pods.iter().find(|(o, _)| o.key().name.starts_with("migrate")).unwrap();
    let key = job.0.key().clone();
    let status = k8s_openapi::api::core::v1::PodStatus {
        phase: Some("Succeeded".to_owned()),
        ..Default::default()
    };
    world.observe(&key, status, false);
    world.roll();
    assert!(image(&world).contains("web:2"), "{:?}", image(&world));
    assert!(ready(&world).starts_with("True Healthy"), "{}", ready(&world));
}

/// A second source, which waits for the first.
fn pair() -> World {
    let mut world = World::new();
    let source = |name: &str, spec: serde_json::Value| {
        json!({
            "apiVersion": "mainstay.io/v1", "kind": "GitSource", "metadata": { "name": name },
            "spec": spec,
        })
    };
    let team = source("team", json!({ "url": URL, "deadlineSeconds": 60 }));
    let app = json!({ "url": "https://example.org/app.git", "dependsOn": ["team"] });
    let space = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "team" },
    });
    world.commit('a', vec![team, source("app", app), space], None);
    world.node("n", "8", "8Gi");
    world.settle();
    world
}

fn sees(world: &mut World, name: &str, digit: char) {
    let mut source = world.view().get::<GitSource>("", name).unwrap().clone();
    source.status.observed_commit = Some(id(digit).to_string());
    let (object, expect) = (Object::of(&source).unwrap(), Expects::Any);
    done(world, vec![Command::Write(vec![Op::Put { object, expect, part: Part::Status }])]);
    world.settle();
}

#[test]
fn a_commit_waits_for_the_sources_that_come_first_and_what_runs_does_not() {
    let mut world = pair();
    let waits = |world: &World, digit| {
        precedence::waits_for(world.view(), "app", &id(digit)).unwrap_or_default()
    };
    sees(&mut world, "app", '1');
    assert_eq!(waits(&world, '1'), "1111111 waits for the source team, which runs nothing yet");
    let app = world.view().get::<GitSource>("", "app").unwrap();
    let told = app.status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!((told.reason.as_str(), &told.message), ("DependencyNotReady", &waits(&world, '1')));
    assert!(!precedence::is_due(world.view(), "app", world.now));
    let first = candidate(&world, "team", 'b', &[("web.yaml", &web("web:1"))]);
    take(&mut world, &first);
    world.settle();
    let why = waits(&world, '1');
    assert!(why.starts_with("1111111 waits for the source team, which is not healthy: 0 of 1"));
    world.roll();
    assert_eq!(waits(&world, '1'), "");
    assert!(precedence::is_due(world.view(), "app", world.now));
    let taken = candidate(&world, "app", '1', &[("m.yaml", MAP)]);
    take(&mut world, &taken);
    world.settle();
    assert!(!precedence::is_due(world.view(), "app", world.now));
    // One that was seen and does not run yet counts, too.
    sees(&mut world, "team", 'c');
    assert!(waits(&world, '2').ends_with("whose newest commit is not what runs"));
    let next = candidate(&world, "team", 'c', &[("web.yaml", &web("web:2"))]);
    take(&mut world, &next);
    world.settle();
    world.live(61);
    world.settle();
    goes_back(&mut world);
    // It failed: the next commit of the other one waits, the one that runs goes on.
    assert!(waits(&world, '2').ends_with("whose newest commit is not what runs"));
    assert_eq!(waits(&world, '1'), "");
    assert!(world.view().object(&map("m")).is_some());
}

#[test]
fn sources_that_wait_for_nobody_or_for_each_other_are_refused_with_their_place() {
    let source = |name: &str, before: &str| {
        format!(
            "apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {{name: {name}}}\n\
             spec: {{url: 'https://example.org/{name}.git', dependsOn: [{before}]}}\n"
        )
    };
    let check = |sources: &[(&str, &str)], expect: Expect| {
        let files: Vec<(String, String)> = sources
            .iter()
            .map(|(name, before)| (format!("{name}.yaml"), source(name, before)))
            .collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        expect.assert_eq(&problems(&candidate(&World::new(), MAIN_SOURCE, 'b', &files)));
    };
    check(&[("a", "main"), ("b", "a"), ("c", "'a', b")], expect![[""]]);
    check(
        &[("a", "x"), ("b", "b")],
        expect![[r#"
        a.yaml:1: spec.dependsOn: a waits for the source x, which is nowhere: add it
        b.yaml:4: spec.dependsOn: Forbidden: may not name the source itself
    "#]],
    );
    check(
        &[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")],
        expect![[r#"
        a.yaml:1: spec.dependsOn: a waits for b waits for c waits for a: no new commit of these is ever taken: take one of these waits away
    "#]],
    );
}

/// A revert of before is that of the main source; of another one it is found by its name.
#[test]
fn the_names_of_commits_stand_in_the_log_as_before() {
    let item = |item: &OutboxItem| serde_json::to_value(item).unwrap();
    let main = CommitName::new(MAIN_SOURCE, &id('b'));
    assert_eq!(item(&OutboxItem::Revert(main.clone())), json!({ "revert": "b".repeat(40) }));
    let read: OutboxItem = serde_json::from_value(json!({ "note": "b".repeat(40) })).unwrap();
    assert_eq!(read, OutboxItem::Note(main));
    let team = item(&OutboxItem::Revert(named('c')));
    assert_eq!(team, json!({ "revert": format!("team.{}", id('c')) }));
    assert_eq!(serde_json::from_value::<OutboxItem>(team).unwrap(), OutboxItem::Revert(named('c')));
    for wrong in ["", "team.", "team.abc", ".", &format!("main.{}", id('c'))] {
        assert_eq!(CommitName::parse(wrong), None, "{wrong}");
    }
}
