//! mainstay's own verbs that speak of files and live objects.

use std::fs;

use expect_test::expect;

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

/// A pod that stands in Git, as somebody wrote it.
const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: alone
  namespace: free
  labels: {app: alone}   # who it is
spec:
  containers: [{name: c, image: 'web:1'}]
";

/// What must not happen: an adoption that changes what runs, that writes what the cluster filled
/// in, or that puts a secret or what others make into Git.
#[test]
fn what_was_made_without_git_is_taken_into_it() {
    let name = "what_was_made_without_git_is_taken_into_it";
    if kubectls(name).is_empty() {
        return;
    }
    let world = World::up(1);
    let kubectl = |args: &str| {
        let args: Vec<&str> = ["-n", "free"].into_iter().chain(args.split(' ')).collect();
        world.kubectl(0, "kubectl", &args).unwrap()
    };
    let adopt = |what: &str, more: &[&str]| {
        asks(&world, &[&["adopt", what, "--namespace", "free"], more].concat())
    };
    kubectl("create deployment web --image=web:1 --replicas=2");
    kubectl("create service nodeport web --tcp=80:8080");
    kubectl("create secret generic s --from-literal=k=canary");
    let runs = || {
        let spec = kubectl("get deployment web -o jsonpath={.metadata.uid}/{.spec}");
        spec + &kubectl("get replicasets -o jsonpath={.items[*].metadata.uid}")
    };
    world.until("it has a ReplicaSet", || kubectl("get replicasets -o name").contains("web-"));
    let before = runs();
    let head = world.git(&["rev-parse", "HEAD"]);

    let (patch, said, code) = adopt("deploy/web", &["--dry-run"]);
    assert_eq!((said.as_str(), code), ("", Some(0)), "{patch}");
    let (first, rest) = patch.split_once("@@").unwrap();
    assert!(first.ends_with("--- /dev/null\n+++ b/free/deployment-web.yaml\n"), "{patch}");
    assert_eq!(world.git(&["rev-parse", "HEAD"]), head, "a dry run writes nothing");

    let (commit, said, code) = adopt("deploy/web", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said, "Deployment free/web stands in free/deployment-web.yaml now\n");
    assert_eq!(commit, world.git(&["rev-parse", "HEAD"]));
    expect![[r#"
        kubernetes-admin: Adopt Deployment free/web

        Via: adopt"#]]
    .assert_eq(world.git(&["log", "-1", "--format=%an: %B"]).trim());
    let file = world.git(&["show", "HEAD:free/deployment-web.yaml"]);
    expect![[r#"
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: web
          namespace: free
          labels:
            app: web
        spec:
          replicas: 2
          selector:
            matchLabels:
              app: web
          template:
            metadata:
              labels:
                app: web
            spec:
              containers:
                - name: web
                  image: web:1
    "#]]
    .assert_eq(&file);
    let added: String = file.lines().map(|line| format!("+{line}\n")).collect();
    assert!(rest.ends_with(&added), "the dry run showed something else: {rest}");
    assert_eq!(runs(), before, "what runs is as it was");
    let again = adopt("deploy/web", &[]);
    assert!(again.1.contains("there is nothing to adopt"), "{}", again.1);
    assert_eq!(again.2, Some(1));
    kubectl("scale deployment web --replicas=3");
    let file = world.git(&["show", "HEAD:free/deployment-web.yaml"]);
    assert!(file.contains("replicas: 3"), "Git owns it now: {file}");

    assert_eq!(adopt("svc/web", &[]).2, Some(0));
    let address =
        kubectl("get service web -o jsonpath={.spec.clusterIP}:{.spec.ports[0].nodePort}");
    let file = world.git(&["show", "HEAD:free/service-web.yaml"]);
    let given: Vec<&str> = address.split(':').collect();
    assert!(given.iter().all(|part| !part.is_empty() && !file.contains(part)), "{file}");

    // Changed where it stands, with the comment.
    world.pushes("pod.yaml", POD);
    world.until("the pod is there", || {
        world.kubectl(0, "kubectl", &["get", "pod", "alone", "-n", "free"]).is_ok()
    });
    kubectl("label pod alone who=me");
    assert_eq!(adopt("pod/alone", &[]).2, Some(0));
    let file = world.git(&["show", "HEAD:pod.yaml"]);
    assert_eq!(file, POD.replace("app: alone}", "app: alone, who: me}"));
    assert_eq!(adopt("pod/alone", &[]).2, Some(1));

    let set = kubectl("get replicasets -o name");
    let set = set.trim().replace("replicaset.apps/", "rs/");
    for (what, why) in [
        ("secret/s", "seal that with `mainstay seal`"),
        (set.as_str(), "Deployment web owns it"),
        ("cm/kube-root-ca.crt", "the cluster made it by itself"),
        ("commit/none", "not found"),
        ("cm/none", "not found"),
    ] {
        let (_, said, code) = adopt(what, &[]);
        assert!(said.contains(why), "{what}: {said}");
        assert_eq!(code, Some(2), "{what}");
    }
    let files = world.git(&["log", "-p", "--format="]);
    assert!(!files.contains("canary") && !files.contains("Y2FuYXJ5"), "a secret is in Git");
}
