//! A push to a local repository is seen at once.

use std::time::Duration;

use super::{super::watch::Watch, World, git, person};
use crate::git::{STATUS_BRANCH, StatusCommit, embedded};

/// Waits for the next sign; a test fails rather than hangs.
async fn next(watch: &mut Watch) -> Option<()> {
    tokio::time::timeout(Duration::from_secs(60), watch.moved()).await.expect("a sign in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn notify_sees_a_push_to_the_wanted_branch_only() {
    let world = World::new();
    let mut watch = Watch::start(&world.origin(), Some("refs/heads/main")).unwrap();
    let mut every = Watch::start(&world.origin(), None).unwrap();
    world.commit(&[("a.yaml", "a: 1\n")], "first");
    next(&mut watch).await.unwrap();
    next(&mut every).await.unwrap();

    // Our own status commit must not wake the one, and the other proves that it was written and
    // seen.
    let mut watch = Watch::start(&world.origin(), Some("refs/heads/main")).unwrap();
    let mirror = world.mirror("mirror");
    let status = StatusCommit::default();
    mirror.write_status(STATUS_BRANCH, &status, &person(), super::WITHIN).unwrap();
    next(&mut every).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_millis(50), watch.moved()).await;
    assert!(quiet.is_err(), "a push to another branch is not ours");

    // A repacked repository keeps its branches in one file.
    git(&world.origin(), &["pack-refs", "--all"]);
    next(&mut watch).await.unwrap();
    world.commit(&[("a.yaml", "a: 2\n")], "second");
    next(&mut watch).await.unwrap();
}

#[test]
fn an_embedded_repository_takes_pushes_and_is_made_once() {
    let world = World::new();
    world.commit(&[("a.yaml", "a: 1\n")], "first");
    let dir = world.dir.path().join("deep/repo.git");
    embedded::init(&dir).unwrap();
    git(&world.work(), &["push", "-q", dir.to_str().unwrap(), "main"]);
    embedded::init(&dir).unwrap();
    assert_eq!(git(&dir, &["rev-parse", "HEAD"]), world.head().to_string());
    assert_eq!(git(&dir, &["config", "http.receivepack"]), "true");
    assert_eq!(git(&dir, &["fsck", "--strict"]), "");
    assert!(embedded::init(&world.work()).is_err(), "a work tree is not taken over");
}
