//! A write to what Git owns is a commit: what is typed, what the file becomes, who is named.

use std::{fmt::Write, fs, path::Path, thread, time::Duration};

use expect_test::expect_file;
use regex::Regex;

use crate::world::{World, kubectls};

/// What people write, with what a program must not touch: comments, quotes, an order of its own.
const SHOP: &str = "\
# The shop.
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
# What customers see first.
kind: Deployment
apiVersion: apps/v1
metadata:
  name: web          # short, it becomes a host name
  namespace: shop
  labels: {app: web}
spec:
  # Two is enough on Sundays.
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: \"web:1\"   # the newest
        env:
        # Where it listens.
        - {name: PORT, value: '80'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data:
  # One of fast, slow.
  mode: fast
";

const APPLIED: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {mode: slow, colour: red}
";

/// A cluster whose repository has the shop.
fn shop() -> World {
    let world = World::up(1);
    world.pushes("shop.yaml", SHOP);
    world.until("the shop is admitted", || {
        world.kubectl(0, "kubectl", &["get", "cm", "settings", "-n", "shop"]).is_ok()
    });
    world
}

/// The newest commit: who, what, and the lines that differ.
fn newest(world: &World) -> String {
    let told = world.git(&["log", "-1", "--format=%an <%ae>, %cn%n%B"]);
    let diff = world.git(&["show", "--format=", "-U0", "HEAD"]);
    let is_told = |line: &&str| {
        let noise = ["diff --git", "index ", "@@", "new file", "deleted file"];
        !noise.iter().any(|start| line.starts_with(start))
    };
    let lines: Vec<&str> = diff.lines().filter(is_told).collect();
    format!("{}\n{}\n", told.trim(), lines.join("\n"))
}

fn settled(text: &str) -> String {
    let time = Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)").unwrap();
    let version = Regex::new(r"kubectl/v[0-9.]+").unwrap();
    version.replace_all(&time.replace_all(text, "<time>"), "kubectl/<version>").into_owned()
}

#[test]
fn each_verb_makes_one_commit_with_the_lines_it_means() {
    let name = "each_verb_makes_one_commit_with_the_lines_it_means";
    let Some(kubectl) = kubectls(name).into_iter().next() else { return };
    let world = shop();
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("applied.yaml"), APPLIED).unwrap();
    let fewer = APPLIED.replace(", colour: red", "");
    std::fs::write(files.path().join("fewer.yaml"), fewer).unwrap();
    let again = APPLIED.replace("slow", "steady");
    std::fs::write(files.path().join("again.yaml"), again).unwrap();
    let mut all = String::new();
    for command in [
        "scale deployment web --replicas=5",
        "scale deployment web --replicas=5",
        "set image deployment/web web=web:2",
        "set env deployment/web LEVEL=info",
        "label deployment web tier=front",
        "annotate cm settings who=before",
        "edit cm settings",
        "patch deployment web -p {\"spec\":{\"minReadySeconds\":3}}",
        "patch deployment web --dry-run=server -p {\"spec\":{\"minReadySeconds\":9}}",
        "rollout restart deployment/web",
        "rollout undo deployment/web --to-revision=1",
        "apply -f applied.yaml",
        "apply -f applied.yaml",
        "apply -f fewer.yaml",
        "apply --server-side -f applied.yaml",
        "apply --server-side -f again.yaml",
        "apply --server-side --force-conflicts -f again.yaml",
        "label deployment web tier-",
        "create configmap more --from-literal=a=b",
        "create deployment side --image=side:1",
        "create secret generic s --from-literal=a=b",
        "delete cm more",
        "delete cm settings",
        "delete namespace shop",
        "delete deployment side",
        "delete deployment web",
        "delete namespace shop --wait=false",
        "create namespace next",
    ] {
        let before = world.git(&["rev-parse", "HEAD"]);
        let args = format!("-n shop {command}");
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        let (said, code) = world.exits(&kubectl, files.path(), &args);
        let after = world.git(&["rev-parse", "HEAD"]);
        writeln!(all, "$ {command}\n{}", said.trim()).unwrap();
        if code != 0 {
            writeln!(all, "exit {code}").unwrap();
        }
        if before != after {
            let count = world.git(&["rev-list", "--count", &format!("{}..HEAD", before.trim())]);
            assert_eq!(count.trim(), "1", "{command}");
            all += &newest(&world);
        }
        all.push('\n');
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl/scripts/commits.golden");
    expect_file![golden].assert_eq(&settled(&all));
}

/// What must not happen: a server that takes a write and does not show it.
#[test]
fn a_write_through_any_server_is_a_commit_and_is_read_there() {
    let name = "a_write_through_any_server_is_a_commit_and_is_read_there";
    if kubectls(name).is_empty() {
        return;
    }
    let world = World::up(3);
    world.pushes("shop.yaml", SHOP);
    for at in 0..3 {
        world.until("the shop is admitted", || {
            world.kubectl(at, "kubectl", &["get", "cm", "settings", "-n", "shop"]).is_ok()
        });
    }
    for at in 0..3 {
        let replicas = format!("--replicas={}", at + 4);
        let scale = ["scale", "deployment", "web", "-n", "shop", &replicas];
        world.kubectl(at, "kubectl", &scale).unwrap();
        let read = ["get", "deployment", "web", "-n", "shop", "-o", "jsonpath={.spec.replicas}"];
        assert_eq!(world.kubectl(at, "kubectl", &read).unwrap(), (at + 4).to_string());
    }
    let ours = world.git(&["log", "--format=%s", "--grep=^Via: kubectl"]);
    assert_eq!(ours.lines().count(), 3, "{ours}");
}

/// What must not happen: a write, or a push, that is lost while both go on.
#[test]
fn ten_writers_and_somebody_who_pushes_lose_nothing() {
    let name = "ten_writers_and_somebody_who_pushes_lose_nothing";
    if kubectls(name).is_empty() {
        return;
    }
    let world = shop();
    let (writers, rounds) = (10, 3);
    thread::scope(|scope| {
        for writer in 0..writers {
            let world = &world;
            scope.spawn(move || {
                for round in 0..rounds {
                    let patch = format!("{{\"data\":{{\"w{writer}\":\"{round}\"}}}}");
                    let args = ["patch", "cm", "settings", "-n", "shop", "-p", &patch];
                    world.until("the write is taken", || {
                        match world.kubectl(0, "kubectl", &args) {
                            Ok(_) => true,
                            Err(why) => {
                                assert!(why.contains("keeps moving"), "{why}");
                                false
                            }
                        }
                    });
                }
            });
        }
        for round in 0..rounds * 2 {
            let text = SHOP.split("---\n").next().unwrap().replace("shop", &format!("p{round}"));
            world.pushes(&format!("p{round}.yaml"), &text);
            thread::sleep(Duration::from_millis(300));
        }
    });
    let file = world.git(&["show", "HEAD:shop.yaml"]);
    for writer in 0..writers {
        assert!(file.contains(&format!("\n  w{writer}: \"{}\"\n", rounds - 1)), "{file}");
    }
    assert!(file.contains("  # One of fast, slow.\n  mode: fast\n"), "{file}");
    for round in 0..rounds * 2 {
        world.git(&["show", &format!("HEAD:p{round}.yaml")]);
    }
    // Those that waited for each other are one commit, which names each of them.
    let words = world.git(&["log", "--format=%B%x00", "--grep=^Via: kubectl"]);
    let commits: Vec<&str> = words.split('\0').filter(|text| text.contains("Via:")).collect();
    let count = |text: &&str| {
        let lines = text.lines().filter(|line| line.starts_with("Change ConfigMap shop/settings"));
        lines.count().saturating_sub(1).max(1)
    };
    let written: usize = commits.iter().map(count).sum();
    assert_eq!(written, writers * rounds, "{words}");
    assert!(commits.len() < writers * rounds, "none of them waited for another: {words}");
    let data = ["get", "cm", "settings", "-n", "shop", "-o", "jsonpath={.data}"];
    let data = world.kubectl(0, "kubectl", &data).unwrap();
    assert_eq!(data.matches(&format!(":\"{}\"", rounds - 1)).count(), writers, "{data}");
}

/// What must not happen: a change in the cluster whose commit the remote did not take.
#[test]
fn a_remote_that_does_not_take_the_commit_is_told_of_and_nothing_changes() {
    let name = "a_remote_that_does_not_take_the_commit_is_told_of_and_nothing_changes";
    if kubectls(name).is_empty() {
        return;
    }
    let world = shop();
    let scale = ["scale", "deployment", "web", "-n", "shop", "--replicas=7"];
    let replicas = ["get", "deployment", "web", "-n", "shop", "-o", "jsonpath={.spec.replicas}"];
    world.guard("#!/bin/sh\nexit 1\n");
    let refused = world.kubectl(0, "kubectl", &scale).unwrap_err();
    assert!(refused.contains("Forbidden") && refused.contains("pre-receive hook"), "{refused}");
    assert_eq!(world.kubectl(0, "kubectl", &replicas).unwrap(), "2");
    world.hide(true);
    let away = world.kubectl(0, "kubectl", &scale).unwrap_err();
    assert!(away.contains("comes from Git") && away.contains("cannot reach"), "{away}");
    assert_eq!(world.kubectl(0, "kubectl", &replicas).unwrap(), "2");
    world.hide(false);
    world.guard("");
    world.kubectl(0, "kubectl", &scale).unwrap();
    assert_eq!(world.kubectl(0, "kubectl", &replicas).unwrap(), "7");
}

/// What waits for something that no node runs, and what it waits for.
const ORDERED: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: db}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: 'db:1'}]}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  annotations: {config.kubernetes.io/depends-on: apps/namespaces/default/Deployment/db}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'web:1'}]}
";

/// A commit is waited for as everything else is. What must not happen: that one which does not run
/// yet counts as ready, or that a workload starts before what it waits for.
#[test]
fn kubectl_waits_for_a_commit_and_a_workload_for_another() {
    let name = "kubectl_waits_for_a_commit_and_a_workload_for_another";
    if kubectls(name).is_empty() {
        return;
    }
    let world = World::up(1);
    let settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n";
    let pushed = |file: &str, text: &str| {
        world.pushes(file, text);
        let commit = format!("commit/{}", world.git(&["rev-parse", "HEAD"]).trim());
        world
            .until("the commit is seen", || world.kubectl(0, "kubectl", &["get", &commit]).is_ok());
        commit
    };
    let wait = |condition: &str, commit: &str, seconds: &str| {
        let (condition, limit) =
            (format!("--for=condition={condition}"), format!("--timeout={seconds}s"));
        world.kubectl(0, "kubectl", &["wait", &condition, commit, &limit])
    };
    let first = pushed("settings.yaml", settings);
    wait("Ready", &first, "60").unwrap();
    let second = pushed("ordered.yaml", ORDERED);
    wait("Reconciling", &second, "60").unwrap();
    assert!(wait("Ready", &second, "1").is_err());
    let path = "jsonpath={.status.conditions[?(@.type==\"Waiting\")].message}";
    let why = || world.kubectl(0, "kubectl", &["get", "deployment", "web", "-o", path]);
    world.until("web waits", || why().is_ok_and(|why| why == "waits for Deployment default/db"));
    let sets = world.kubectl(0, "kubectl", &["get", "replicasets", "-o", "name"]).unwrap();
    assert!(sets.contains("/db-") && !sets.contains("/web-"), "{sets}");
    let third = pushed("broken.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: X}\n");
    wait("Stalled", &third, "60").unwrap();
}

const NIGHTLY: &str = "\
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: free}
spec:
  schedule: 0 0 29 2 *
  timeZone: Europe/Berlin
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: none}]}}}}
";

/// What a CronJob does is in Git, and so is what somebody starts of it by hand. What must not
/// happen: a commit for each such run, or another Job that gets past Git under its name.
#[test]
fn a_run_of_a_cron_job_by_hand_is_no_commit_and_nothing_else_passes_as_one() {
    let name = "a_run_of_a_cron_job_by_hand_is_no_commit_and_nothing_else_passes_as_one";
    if kubectls(name).is_empty() {
        return;
    }
    let world = World::up(1);
    let kubectl = |args: &[&str]| world.kubectl(0, "kubectl", args);
    let shop = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n";
    world.pushes("nightly.yaml", &(shop.to_owned() + &NIGHTLY.replace("free", "shop")));
    let get = ["get", "cronjob", "nightly", "-n", "shop", "-o", "jsonpath={.metadata.uid}"];
    world.until("it is there", || kubectl(&get).is_ok());
    let wait = ["wait", "commit", "--all", "--for=condition=Ready", "--timeout=60s"];
    kubectl(&wait).unwrap();
    let head = newest(&world);
    let run = ["create", "job", "now", "--from=cronjob/nightly", "-n", "shop"];
    assert_eq!(kubectl(&run).unwrap().trim(), "job.batch/now created");
    assert_eq!(newest(&world), head);
    let pods = ["get", "pods", "-n", "shop", "-o", "name"];
    world.until("its pod is there", || kubectl(&pods).is_ok_and(|pods| pods.contains("/now-")));
    let events = ["get", "events", "-n", "shop", "-o", "jsonpath={.items[*].reason}"];
    world.until("it is told", || kubectl(&events).unwrap().contains("UnexpectedJob"));

    let uid = kubectl(&get).unwrap();
    let forged = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: forged, namespace: shop, \
         ownerReferences: [{{apiVersion: batch/v1, kind: CronJob, name: nightly, uid: {uid}, \
         controller: true}}]}}\nspec: {{template: {{spec: {{restartPolicy: Never, containers: \
         [{{name: c, image: other}}]}}}}}}\n"
    );
    let path = world.work().join("../forged.yaml");
    fs::write(&path, forged).unwrap();
    let forged = kubectl(&["create", "-f", path.to_str().unwrap()]);
    assert!(forged.is_err() || newest(&world) != head, "{forged:?}");
    // It goes with what it started.
    world.pushes("nightly.yaml", shop);
    let jobs = ["get", "job", "now", "-n", "shop"];
    world.until("the Job goes with it", || kubectl(&jobs).is_err());
}
