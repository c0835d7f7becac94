use expect_test::expect;
use serde_json::json;

use super::{
    guest::{MAP, URL, candidate, done, failed, goes_back, id, map, named, problems, ready},
    guest::{saying, take, web, world},
    world::World,
};
use crate::{
    kinds::CommitState,
    model::{CommitName, Timestamp},
    plan::{
        admission::{self, Candidate},
        freeze, precedence,
    },
    state::MAIN_SOURCE,
};

/// What the main source says beside its freezes.
const SOURCES: &str = "apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {name: team}\n\
                       spec: {url: https://example.org/team.git}\n---\n\
                       apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\n\
                       apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n";

fn frozen(until: Timestamp, more: &str) -> String {
    format!(
        "apiVersion: mainstay.io/v1\nkind: Freeze\nmetadata: {{name: audit}}\n\
         spec: {{until: '{until}', reason: the audit{more}}}\n"
    )
}

/// The main source with a freeze, or without one when the text is empty.
fn main_says(world: &mut World, digit: char, freeze: &str) {
    let files = [("s.yaml", SOURCES), ("f.yaml", freeze)];
    let trailers = [("Prune-Approved", "yes")];
    let asked = saying(world, MAIN_SOURCE, digit, &files, &trailers);
    take(world, &asked);
    world.settle();
}

/// A cluster that runs `b` of the team, in a freeze for an hour.
fn in_a_freeze(more: &str) -> World {
    let mut world = world(json!({ "url": URL }));
    let first = candidate(&world, "team", 'b', &[("a.yaml", MAP)]);
    take(&mut world, &first);
    let until = world.now.plus_seconds(3600);
    main_says(&mut world, 'e', &frozen(until, more));
    world
}

fn changed() -> String {
    MAP.to_owned() + "data: {a: b}\n"
}

fn next(world: &World) -> Candidate {
    candidate(world, "team", 'c', &[("a.yaml", &changed())])
}

fn waits(world: &mut World) {
    let commands = freeze::record_hold(world.view(), &next(world)).unwrap().unwrap();
    done(world, commands);
    world.settle();
    assert_eq!(world.full_pass(), Vec::<String>::new());
    assert!(!is_due(world) && !is_news(world));
}

fn is_news(world: &World) -> bool {
    admission::is_news(world.view(), "team", &id('c'), world.now)
}

fn is_due(world: &World) -> bool {
    precedence::is_due(world.view(), "team", world.now)
}

fn state(world: &World, name: &CommitName) -> CommitState {
    world.view().commit(name).unwrap().status.state
}

/// What must not happen: a team's commit that runs in a freeze of the whole cluster; one that waits
/// although the freeze was ended, or does not say for what it waits.
#[test]
fn a_commit_of_another_source_is_held_until_the_main_one_thaws() {
    let mut world = in_a_freeze("");
    waits(&mut world);
    expect!["False Frozen: the freeze audit holds it until 2023-11-14T23:13:20Z: the audit; the trailer Freeze-Override lets one commit through"]
    .assert_eq(&ready(&world));
    assert_eq!(state(&world, &named('c')), CommitState::Held);
    assert_eq!(world.view().head_of("team").unwrap().commit, id('b'));
    assert!(world.view().due_notes().any(|(_, name)| *name == named('c')));
    assert!(!world.view().due_notes().any(|(_, name)| name.is_main() && name.id == id('c')));

    // Prolonged, it is told so.
    let until = world.now.plus_seconds(7200);
    main_says(&mut world, 'f', &frozen(until, ""));
    assert!(is_due(&world) && is_news(&world));
    waits(&mut world);
    assert!(ready(&world).contains("until 2023-11-15T00:13:20Z"), "{}", ready(&world));
    assert_eq!(freeze::wake_at(world.view(), "team"), Some(until));
    assert_eq!(freeze::wake_at(world.view(), MAIN_SOURCE), None);

    // Ended, it is taken.
    main_says(&mut world, '1', "");
    assert!(is_due(&world) && is_news(&world));
    let thawed = next(&world);
    assert_eq!(thawed.held, None);
    take(&mut world, &thawed);
    world.settle();
    assert_eq!(ready(&world), "True Healthy: 0 workloads are ready");
    assert_eq!(state(&world, &named('c')), CommitState::Healthy);
}

#[test]
fn it_is_taken_when_the_time_is_over_or_says_why_it_cannot_wait() {
    let mut world = in_a_freeze("");
    waits(&mut world);
    let urgent = [("Freeze-Override", "the shop is down")];
    let files = [("a.yaml", MAP), ("b.yaml", "")];
    assert_eq!(saying(&world, "team", 'd', &files, &urgent).held, None);
    // What changes nothing is not held, and what waited has had its time.
    let same = candidate(&world, "team", 'd', &[("moved.yaml", MAP)]);
    assert_eq!(same.held, None);
    world.now = world.now.plus_seconds(3600);
    assert!(is_due(&world) && is_news(&world));
    assert_eq!(next(&world).held, None);
    take(&mut world, &same);
    assert_eq!(state(&world, &named('c')), CommitState::Superseded);
}

#[test]
fn a_freeze_is_for_the_sources_it_names() {
    let held = |more: &str| {
        let world = in_a_freeze(more);
        let until = world.now.plus_seconds(3600);
        let files = [("s.yaml", SOURCES), ("f.yaml", &frozen(until, more)), ("m.yaml", &other())];
        let of_main = candidate(&world, MAIN_SOURCE, 'f', &files);
        assert_eq!(problems(&of_main), "");
        (of_main.held.is_some(), next(&world).held.is_some())
    };
    assert_eq!(held(""), (true, true));
    assert_eq!(held(", sources: [main]"), (true, false));
    assert_eq!(held(", sources: [team]"), (false, true));
    assert_eq!(held(", sources: [team, main]"), (true, true));
    assert_eq!(held(", namespaces: [other]"), (true, false));
    assert_eq!(held(", sources: [team], namespaces: [other]"), (false, false));
}

fn other() -> String {
    MAP.replace("namespace: team", "namespace: other")
}

/// A team that freezes itself; it says nothing about others, and nobody about who is nowhere.
#[test]
fn a_team_freezes_itself_and_nobody_else() {
    let mut world = world(json!({ "url": URL }));
    let own = |more: &str| frozen(Timestamp(world.now.0 + 60_000), more);
    let (mine, others) = (own(""), own(", sources: [main]"));
    let refused = candidate(&world, "team", 'b', &[("a.yaml", MAP), ("f.yaml", &others)]);
    expect![[r#"
        f.yaml:1: spec.sources: only the source main holds others: take main out
    "#]]
    .assert_eq(&problems(&refused));
    let files = [("s.yaml", SOURCES), ("f.yaml", &own(", sources: [tema]"))];
    expect![[r#"
        f.yaml:1: spec.sources: holds the source tema, which is nowhere: take it out
    "#]]
    .assert_eq(&problems(&candidate(&world, MAIN_SOURCE, 'e', &files)));
    let first = candidate(&world, "team", 'b', &[("a.yaml", MAP), ("f.yaml", &mine)]);
    take(&mut world, &first);
    let files = [("a.yaml", changed()), ("f.yaml", mine.clone())];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    assert!(candidate(&world, "team", 'c', &files).held.is_some());
    assert_eq!(next(&world).held, None, "it takes the freeze away");
    let files = [("s.yaml", SOURCES), ("m.yaml", &other())];
    assert_eq!(candidate(&world, MAIN_SOURCE, 'e', &files).held, None);
}

/// The freeze is there so that the cluster stays good: what fails in one is taken back as ever.
#[test]
fn what_fails_in_a_freeze_is_taken_back() {
    let mut world = failed(json!({ "url": URL, "deadlineSeconds": 60 }), &[]);
    let until = world.now.plus_seconds(3600);
    main_says(&mut world, 'e', &frozen(until, ""));
    goes_back(&mut world);
    let revert = candidate(&world, "team", 'd', &[("web.yaml", &web("web:1"))]);
    assert_eq!((problems(&revert), &revert.held), (String::new(), &None));
    let other = candidate(&world, "team", 'd', &[("web.yaml", &web("web:3"))]);
    assert!(other.held.is_some());
    assert!(world.view().object(&map("m")).is_none());
}
