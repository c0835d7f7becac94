//! mainstay's own verbs that speak of files and live objects.

use std::fs;

use crate::world::{World, git, kubectls};

/// Runs a verb: what it printed, what it complained of, and its exit code.
fn asks(world: &World, args: &[&str]) -> (String, String, Option<i32>) {
    let output = world.asks(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// What must not happen: a comparison that pushes or changes anything, that takes back what others
/// pushed without a word, or that shows a secret.
#[test]
fn files_that_nobody_committed_are_compared_with_the_cluster() {
    let name = "files_that_nobody_committed_are_compared_with_the_cluster";
    if kubectls(name).is_empty() {
        return;
    }
    let world = World::up(1);
    let work = world.work();
    let files = work.to_str().unwrap();
    let diff = |more: &[&str]| asks(&world, &[&["diff", "--files", files], more].concat());
    let nothing = ("nothing would change\n".to_owned(), String::new(), Some(0));
    assert_eq!(diff(&[]), nothing);

    let cluster = fs::read_to_string(work.join("cluster.yaml")).unwrap();
    fs::write(work.join("cluster.yaml"), cluster.replace("a: b", "a: c")).unwrap();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: free}\n\
                  data: {k: Y2FuYXJ5}\n";
    fs::write(work.join("new.yaml"), secret).unwrap();
    let (told, said, code) = diff(&[]);
    let expected = "+ Secret free/s (new.yaml:1)\n\
                    ~ ConfigMap free/owned (cluster.yaml:13)\n    data.a: \"b\" → \"c\"\n";
    assert_eq!((told.as_str(), said.as_str(), code), (expected, "", Some(1)));
    assert_eq!(diff(&["HEAD"]), nothing, "what is committed differs from nothing");
    assert_eq!(git(&work, &["status", "--porcelain"]), "M cluster.yaml\n?? new.yaml");

    // What Git has and the cluster has not seen; a secret whose value differs.
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "--message", "both"]);
    assert_eq!(diff(&["HEAD"]).2, Some(1));
    assert_eq!(diff(&["HEAD~1"]), nothing);
    git(&work, &["push", "--quiet", "../repo.git", "main"]);
    world.until("the secret is admitted", || {
        world.kubectl(0, "kubectl", &["get", "secret", "s", "-n", "free"]).is_ok()
    });
    fs::write(work.join("new.yaml"), secret.replace("Y2FuYXJ5", "b3RoZXI=")).unwrap();
    let (told, _, code) = diff(&[]);
    let hidden = "~ Secret free/s (new.yaml:1)\n    data.k: \"(secret)\" → \"(secret)\"\n";
    assert_eq!((told.as_str(), code), (hidden, Some(1)));

    // What would be refused is neither same nor different.
    fs::write(work.join("new.yaml"), "kind: Nonsense\n").unwrap();
    let (told, said, code) = diff(&[]);
    assert!(told.contains("new.yaml:1"), "{told}");
    assert_eq!((said.as_str(), code), ("error: it would be refused: 1 problems\n", Some(2)));

    // Others pushed: that would be taken back, which has to be meant; merged it stays.
    git(&work, &["checkout", "--quiet", "new.yaml"]);
    git(&work, &["clone", "--quiet", "../repo.git", "../other"]);
    let other = work.join("../other");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: theirs, namespace: free}\n";
    fs::write(other.join("theirs.yaml"), map).unwrap();
    git(&other, &["add", "."]);
    git(&other, &["commit", "--quiet", "--message", "theirs"]);
    git(&other, &["push", "--quiet", "origin", "main"]);
    world.until("theirs is admitted", || {
        world.kubectl(0, "kubectl", &["get", "cm", "theirs", "-n", "free"]).is_ok()
    });
    let (_, said, code) = diff(&[]);
    assert!(said.contains("which is not in") && said.contains("git fetch"), "{said}");
    assert_eq!(code, Some(2));
    git(&work, &["fetch", "--quiet", "../repo.git", "main"]);
    assert_eq!(diff(&[]).0, "- ConfigMap free/theirs (was theirs.yaml:1)\n");
    assert_eq!(diff(&["--merged"]), nothing);
    // A branch that is only at the remote, and a folder by itself.
    assert_eq!(diff(&["refs-nowhere"]).2, Some(2));
    let (told, _, code) = asks(&world, &["diff", "--alone", "--files", files]);
    assert_eq!((told.contains("- ConfigMap free/theirs"), code), (true, Some(1)), "{told}");
}
