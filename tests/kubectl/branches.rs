//! A branch is told what it would change before anybody merges it.

use std::{fs, process::Command};

use crate::world::{World, git, kubectls};

/// Pushes a branch with one more file on top of what is at hand; its tip.
fn branch(world: &World, name: &str, file: &str, text: &str) -> String {
    let work = world.work();
    git(&work, &["checkout", "--quiet", "-B", name, "main"]);
    fs::write(work.join(file), text).unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "--message", name]);
    git(&work, &["push", "--quiet", "--force", "../repo.git", name]);
    let tip = git(&work, &["rev-parse", "HEAD"]);
    git(&work, &["checkout", "--quiet", "main"]);
    tip
}

/// The plan note on a commit, once it is there and holds `words`.
fn note(world: &World, commit: &str, words: &str) -> String {
    let repository = world.work().join("../repo.git");
    let show = || {
        let args = ["notes", "--ref=mainstay-plan", "show", commit];
        let shown = Command::new("git").args(args).current_dir(&repository).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    world.until(words, || show().contains(words));
    show()
}

fn notes(world: &World) -> String {
    world.git(&["rev-parse", "refs/notes/mainstay-plan"]).trim().to_owned()
}

/// What must not happen: a plan that shows a secret, that takes back what was merged meanwhile, or
/// that is written again and again.
#[test]
fn every_branch_gets_a_note_of_what_it_would_change() {
    let name = "every_branch_gets_a_note_of_what_it_would_change";
    if kubectls(name).is_empty() {
        return;
    }
    let world = World::up_with(1, "");
    let canary = "Y2FuYXJ5LTQ3MTE=";
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: free}}\ndata: {{k: {canary}}}\n"
    );
    let good = branch(&world, "good", "good.yaml", &secret);
    let bad = branch(
        &world,
        "bad",
        "bad.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: free}\nwrong: {}\n",
    );
    let told = note(&world, &good, "Would be admitted");
    assert!(told.contains("+ Secret free/s (good.yaml:1)"), "{told}");
    assert!(!told.contains(canary), "{told}");
    let told = note(&world, &bad, "Would be refused: 1 problem");
    assert!(told.contains("bad.yaml:4: wrong"), "{told}");

    // What runs moves on: the plan is made against that, and does not take it back.
    world.pushes(
        "more.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more, namespace: free}\n",
    );
    let head = git(&world.work(), &["rev-parse", "HEAD"]);
    let told = note(&world, &good, &format!("Base: {head}"));
    assert!(!told.contains("more"), "{told}");
    note(&world, &bad, &format!("Base: {head}"));
    // Nothing moves: nothing is written. Another branch is one more note, in one more commit.
    let before = notes(&world);
    let other = branch(
        &world,
        "other",
        "cluster.yaml",
        &fs::read_to_string(world.work().join("cluster.yaml")).unwrap().replace("a: b", "a: c"),
    );
    let told = note(&world, &other, "data.a: \"b\" → \"c\"");
    assert!(told.contains("~ ConfigMap free/owned (cluster.yaml:"), "{told}");
    let range = format!("{before}..refs/notes/mainstay-plan");
    assert_eq!(world.git(&["rev-list", "--count", &range]).trim(), "1");

    // The same on the command line; a merged branch has nothing left to say.
    let ask = |args: &[&str]| {
        let output = world.asks(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text, output.status.code())
    };
    let (text, code) = ask(&["plan", "--merged", "good"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text, "+ Secret free/s (good.yaml:1)\n");
    let (text, code) = ask(&["plan", "good"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("- ConfigMap free/more"), "by itself it takes that back: {text}");
    assert_eq!(ask(&["plan", "bad"]).1, Some(1));
    assert_eq!(ask(&["plan", "--merged", "main"]).0, "nothing would change\n");
}
