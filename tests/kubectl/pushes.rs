//! A push that the cluster would refuse does not get in: git says why, at the desk.

use std::{fs, path::Path, process::Command};

use mainstay::git::embedded::{Guarded, guard};

use crate::{
    git_server::HttpServer,
    world::{World, git, kubectls},
};

/// Has the first server judge what is pushed, as `mainstay dev` does.
fn guarded(world: &World, more: &str) {
    let dir = world.servers[0].kubeconfig();
    let program = env!("CARGO_BIN_EXE_mainstay");
    let command = format!("{program} receive --dir {}{more}", dir.parent().unwrap().display());
    let repository = world.work().join("../repo.git");
    assert_eq!(guard(&repository, Some(&command)).unwrap(), Guarded::Done);
}

/// Commits a file and pushes it to `to`; what git said, and whether it was taken. What was not
/// taken is forgotten.
fn push(work: &Path, to: &str, file: &str, text: &str) -> (String, bool) {
    fs::write(work.join(file), text).unwrap();
    git(work, &["add", "."]);
    git(work, &["commit", "--quiet", "--message", file]);
    send(work, to, "HEAD:main")
}

fn send(work: &Path, to: &str, what: &str) -> (String, bool) {
    let output = Command::new("git").args(["push", to, what]).current_dir(work).output().unwrap();
    let taken = output.status.success();
    if !taken {
        git(work, &["reset", "--quiet", "--hard", "HEAD~1"]);
    }
    (String::from_utf8_lossy(&output.stderr).into_owned(), taken)
}

fn map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: free}}\n")
}

/// What must not happen: a commit on the branch that the cluster refuses; a word of a secret on the
/// pusher's screen; a push that is held up because the cluster is away; a write of mainstay's own
/// that its own hook keeps out.
#[test]
fn a_push_that_would_be_refused_is_refused_with_its_lines() {
    let name = "a_push_that_would_be_refused_is_refused_with_its_lines";
    if kubectls(name).is_empty() {
        return;
    }
    let world = World::up(1);
    guarded(&world, "");
    let work = world.work();
    let http = HttpServer::start(work.parent().unwrap(), None);
    git(&work, &["-C", "../repo.git", "config", "http.receivepack", "true"]);
    let urls = ["../repo.git".to_owned(), http.url("repo.git")];
    for (at, url) in urls.iter().enumerate() {
        let before = world.git(&["rev-parse", "main"]);
        let bad = format!("{}wrong: {{}}\n", map("bad"));
        let (said, taken) = push(&work, url, "bad.yaml", &bad);
        assert!(!taken, "{said}");
        assert!(said.contains("remote: mainstay: bad.yaml:4: wrong"), "{said}");
        assert!(said.contains("the cluster would refuse this commit: 1 problem"), "{said}");
        assert_eq!(world.git(&["rev-parse", "main"]), before);
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: free}\n\
                      data: {k: Y2FuYXJ5}\n";
        let file = format!("good{at}.yaml");
        let (said, taken) = push(&work, url, &file, &map(&format!("good{at}")));
        assert!(taken, "{said}");
        let told = format!("remote: mainstay: + ConfigMap free/good{at} (good{at}.yaml:1)");
        assert!(said.contains(&told), "{said}");
        let (said, taken) = push(&work, url, &format!("s{at}.yaml"), secret);
        // The second one is the first once more, which is a problem of its own.
        assert_eq!(taken, at == 0, "{said}");
        assert!(!said.contains("Y2FuYXJ5"), "{said}");
    }
    // What is there already, under another name, is judged as well.
    git(&work, &["checkout", "--quiet", "-b", "side"]);
    fs::write(work.join("side.yaml"), "kind: Nonsense\n").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "--message", "side"]);
    assert!(send(&work, "../repo.git", "side").1, "another branch is nobody's business");
    let (said, taken) = send(&work, "../repo.git", "side:main");
    assert!(!taken && said.contains("side.yaml:1"), "{said}");
    git(&work, &["checkout", "--quiet", "main"]);

    // Our own writes go by the hook: they were judged before.
    let wrote = world.kubectl(0, "kubectl", &["label", "cm", "owned", "-n", "free", "x=y"]);
    assert!(wrote.is_ok(), "{wrote:?}");
    git(&work, &["pull", "--quiet", "--rebase", "../repo.git", "main"]);

    guarded(&world, " --warn");
    let bad = format!("{}wrong: {{}}\n", map("bad"));
    let (said, taken) = push(&work, "../repo.git", "bad.yaml", &bad);
    assert!(taken && said.contains("bad.yaml:4: wrong"), "{said}");
    guarded(&world, "");
    git(&work, &["rm", "--quiet", "bad.yaml"]);
    let (said, taken) = push(&work, "../repo.git", "mended.yaml", &map("mended"));
    assert!(taken, "{said}");

    world.kill(0);
    let (said, taken) = push(&work, "../repo.git", "away.yaml", &bad);
    assert!(taken, "{said}");
    assert!(said.contains("remote: mainstay: cannot reach the cluster"), "{said}");
}
