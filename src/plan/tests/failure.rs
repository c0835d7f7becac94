use expect_test::{Expect, expect};
use serde_json::json;

use super::world::{World, deployment};
use crate::{
    kinds::{Commit, CommitFailure, GitSource, RevertState},
    model::{CommitId, CommitName, Object},
    plan::{
        Rollback,
        failure::{Settled, revert, settle, way_back},
        rollback,
    },
    state::{Command, Expect as Assumed, MAIN_SOURCE, Op, OutboxItem, Part},
};

fn id(digit: char) -> CommitId {
    CommitId::parse(&digit.to_string().repeat(40)).unwrap()
}

fn named(digit: char) -> CommitName {
    CommitName::new(MAIN_SOURCE, &id(digit))
}

/// `a` runs, and the rollout of `b` does not end.
fn world() -> World {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world.commit('a', vec![deployment("web", 1, "web:1", json!({}))], None);
    world.roll();
    world.commit('b', vec![deployment("web", 1, "web:2", json!({}))], Some(60));
    world.settle();
    world
}

fn put(world: &mut World, source: &GitSource) {
    let object = Object::of(source).unwrap();
    let put = |part| Op::Put { object: object.clone(), expect: Assumed::Any, part };
    world.apply(vec![Command::Write(vec![put(Part::Main), put(Part::Status)])]);
}

fn failure(world: &World) -> Option<&CommitFailure> {
    world.view().get::<Commit>("", id('b').as_str())?.status.failure.as_ref()
}

fn reverts(world: &World) -> usize {
    world.view().outbox().filter(|(_, item)| matches!(item, OutboxItem::Revert(_))).count()
}

fn check(settled: Settled, expect: &Expect) {
    let mut world = world();
    world.live(61);
    world.settle();
    let commands = settle(world.view(), &named('b'), settled).unwrap();
    world.apply(commands);
    let message = &world.view().get::<Commit>("", id('b').as_str()).unwrap().status.message;
    let (_, end) = message.split_once("; the cluster").unwrap();
    expect.assert_eq(end);
    assert_eq!(revert(world.view(), &named('b')), None, "nothing is left to push");
}

#[test]
fn a_rollout_that_fails_goes_back_and_is_taken_back_once() {
    let mut world = world();
    world.live(59);
    world.settle();
    assert_eq!((way_back(world.view(), MAIN_SOURCE), reverts(&world)), (None, 0));
    world.live(2);
    world.settle();
    assert_eq!(way_back(world.view(), MAIN_SOURCE), Some((id('b'), id('a'))));
    assert_eq!(reverts(&world), 1);
    let due = revert(world.view(), &named('b')).unwrap();
    let message = due.message(Some((&id('b'), "web: two")));
    let said = message.lines().filter(|line| !line.contains("web-"));
    expect![[r#"
        Revert "web: two"

        This reverts commit bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.

        Its rollout failed (DeadlineExceeded): Deployment default/web: 1 pods of an earlier version are still there
        The cluster went back to aaaaaaa at once.

        - web.yaml:3: Deployment default/web: 1 pods of an earlier version are still there

        Mainstay-Reverts: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
    "#]]
    .assert_eq(&(said.collect::<Vec<_>>().join("\n") + "\n"));
    // It is decided: not even its becoming healthy changes that.
    world.roll();
    assert!(failure(&world).is_some());
    assert_eq!(reverts(&world), 1);
}

#[test]
fn how_a_revert_ended_is_said() {
    let settled = |state, commit, why: &str| Settled { state, commit, why: why.to_owned() };
    check(
        settled(RevertState::Pushed, Some(id('c')), ""),
        &expect![" went back to aaaaaaa; ccccccc takes it back"],
    );
    check(
        settled(RevertState::Overtaken, Some(id('c')), ""),
        &expect![" went back to aaaaaaa; ccccccc took its place at the source"],
    );
    check(
        settled(RevertState::Proposed, Some(id('c')), "protected"),
        &expect![
            " went back to aaaaaaa; no revert was pushed (protected): it is proposed on the branch mainstay/revert/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
        ],
    );
    check(
        settled(RevertState::Held, None, "read only"),
        &expect![" went back to aaaaaaa; no revert was pushed (read only): take it back"],
    );
}

#[test]
fn the_source_says_what_a_failure_leads_to() {
    for (policy, held) in [("hold", true), ("ignore", false)] {
        let mut world = world();
        let mut source = GitSource::named(MAIN_SOURCE);
        source.spec.url = "file:///srv/repo.git".to_owned();
        source.spec.on_failure = serde_json::from_value(json!(policy)).unwrap();
        put(&mut world, &source);
        world.live(61);
        world.settle();
        assert_eq!(reverts(&world), 0, "{policy} pushes nothing");
        assert_eq!(way_back(world.view(), MAIN_SOURCE).is_some(), held, "{policy}");
        if held {
            // Back on `a`, with `b` at the source: a rollback takes `b` away, not `a`.
            world.commit('a', vec![deployment("web", 1, "web:1", json!({}))], None);
            source.status.observed_commit = Some(id('b').to_string());
            put(&mut world, &source);
            assert_eq!(rollback(world.view()), Some(Rollback::Restore(id('a'))));
        }
    }
}

#[test]
fn the_first_commit_stays_as_there_is_nothing_to_go_back_to() {
    let mut world = World::new();
    world.commit('b', vec![deployment("web", 1, "web:2", json!({}))], Some(60));
    world.settle();
    world.live(61);
    world.settle();
    assert_eq!(
        (way_back(world.view(), MAIN_SOURCE), failure(&world), reverts(&world)),
        (None, None, 0)
    );
}
