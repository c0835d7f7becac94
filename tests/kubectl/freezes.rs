//! A freeze, as people begin, meet and end it.

use std::{fs, process::Command};

use crate::world::{World, git, kubectls};

fn mainstay(world: &World, args: &[&str]) -> (String, Option<i32>) {
    let output = world.asks(args);
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code())
}

fn map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: free}}\n")
}

/// What must not happen: a change that gets in, by push or by kubectl; a freeze that cannot be
/// ended because something waits for it; one that outlives its time.
#[test]
fn a_freeze_is_begun_met_and_ended() {
    let name = "a_freeze_is_begun_met_and_ended";
    if kubectls(name).is_empty() {
        return;
    }
    let world = World::up(1);
    let there =
        |name: &str| world.kubectl(0, "kubectl", &["get", "cm", name, "-n", "free"]).is_ok();
    let (said, code) = mainstay(&world, &["freeze", "--for", "2h", "--reason", "the audit"]);
    assert_eq!(code, Some(0), "{said}");
    let told = world.git(&["log", "-1", "--format=%an%n%B", "main"]);
    assert!(told.starts_with("kubernetes-admin\nCreate Freeze freeze"), "{told}");
    assert!(told.contains("Via: mainstay freeze"), "{told}");

    let wrote = world.kubectl(0, "kubectl", &["label", "cm", "owned", "-n", "free", "x=y"]);
    let refused = wrote.unwrap_err();
    assert!(refused.contains("the freeze freeze holds it until"), "{refused}");
    assert!(refused.contains("the audit"), "{refused}");
    world.pushes("one.yaml", &map("one"));
    let held = git(&world.work(), &["rev-parse", "HEAD"]);
    world.until("it is held", || mainstay(&world, &["status"]).0.contains("Held"));
    let (status, _) = mainstay(&world, &["status"]);
    assert!(status.starts_with(&held[..7]) && status.contains("the audit"), "{status}");
    assert!(mainstay(&world, &["history"]).0.contains("Held"));
    assert!(!there("one"));
    let (waited, code) = mainstay(&world, &["wait", "--commit", &held, "--timeout", "1s"]);
    assert!(code == Some(1) && waited.contains("is held (Frozen)"), "{waited}");
    world.until("the note says so", || {
        let args = ["notes", "--ref=mainstay", "show", &held];
        let repository = world.work().join("../repo.git");
        let shown = Command::new("git").args(args).current_dir(repository).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).starts_with("Held (Frozen): the freeze freeze")
    });

    // Ended on top of what waits: that is let in with it.
    let (said, code) = mainstay(&world, &["thaw"]);
    assert_eq!(code, Some(0), "{said}");
    world.until("what waited is admitted", || there("one"));
    let (said, code) = mainstay(&world, &["thaw"]);
    assert!(code == Some(2) && said.contains("there is no freeze freeze"), "{said}");

    // By its time, without anybody doing anything; of one namespace alone.
    git(&world.work(), &["pull", "--quiet", "--rebase", "../repo.git", "main"]);
    let args = ["freeze", "--for", "4s", "--reason", "short", "--namespace", "free"];
    let (said, code) = mainstay(&world, &args);
    assert_eq!(code, Some(0), "{said}");
    let elsewhere = map("elsewhere").replace("namespace: free", "namespace: closed");
    world.pushes("elsewhere.yaml", &elsewhere);
    world.until("another namespace goes on", || {
        world.kubectl(0, "kubectl", &["get", "cm", "elsewhere", "-n", "closed"]).is_ok()
    });
    world.pushes("two.yaml", &map("two"));
    world.until("the end comes by itself", || there("two"));
    let history = mainstay(&world, &["history"]).0;
    assert!(!history.contains("Held"), "{history}");
    assert!(fs::read_dir(world.work()).unwrap().count() > 3);
}

/// A team's repository is frozen with the cluster; what is asked of it by name is its own.
/// What must not happen: its commit runs in the freeze, or waits on when that is over.
#[test]
fn a_freeze_of_the_cluster_holds_a_teams_commit() {
    if kubectls("a_freeze_of_the_cluster_holds_a_teams_commit").is_empty() {
        return;
    }
    let world = World::up(1);
    let team = world.work().join("../team");
    let pushes = |name: &str| {
        fs::write(team.join(format!("{name}.yaml")), map(name)).unwrap();
        git(&team, &["add", "--all"]);
        git(&team, &["commit", "--quiet", "--message", name]);
        git(&team, &["push", "--quiet", "../team.git", "HEAD:main"]);
        git(&team, &["rev-parse", "HEAD"])
    };
    git(&world.work(), &["init", "--quiet", "--bare", "--initial-branch=main", "../team.git"]);
    git(&world.work(), &["init", "--quiet", "--initial-branch=main", "../team"]);
    let first = pushes("one");
    let url = fs::canonicalize(world.work().join("../team.git")).unwrap();
    let source = format!(
        "apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {{name: team}}\n\
         spec: {{url: \"file://{}\", intervalSeconds: 3600}}\n",
        url.display()
    );
    world.pushes("team.yaml", &source);
    let waits = |commit: &str, seconds: &str| {
        mainstay(&world, &["wait", "--source", "team", "--commit", commit, "--timeout", seconds])
    };
    world.until("the team runs", || waits(&first, "30s").1 == Some(0));
    let (said, code) = mainstay(&world, &["history", "--source", "nobody"]);
    assert!(code == Some(2) && said.contains("there is no source nobody"), "{said}");

    let args = ["freeze", "--for", "2h", "--reason", "the audit", "--source", "team"];
    let (said, code) = mainstay(&world, &args);
    assert_eq!(code, Some(0), "{said}");
    let held = pushes("two");
    let history = || mainstay(&world, &["history", "--source", "team"]).0;
    world.until("it is held", || history().contains("Held"));
    assert!(history().contains(&held[..7]), "{}", history());
    assert!(!mainstay(&world, &["history"]).0.contains(&held[..7]));
    let (waited, code) = waits(&held, "1s");
    assert!(code == Some(1) && waited.contains("is held (Frozen)"), "{waited}");
    let (status, _) = mainstay(&world, &["status"]);
    assert!(status.contains("source team file://") && status.contains("the audit"), "{status}");
    let there = || world.kubectl(0, "kubectl", &["get", "cm", "two", "-n", "free"]).is_ok();
    assert!(!there());
    // The main source goes on: the freeze is not for it.
    world.pushes("three.yaml", &map("three"));
    let args = ["get", "cm", "three", "-n", "free"];
    world.until("main goes on", || world.kubectl(0, "kubectl", &args).is_ok());
    assert!(!there());

    // It would look again in an hour; that the freeze is gone is enough.
    let (said, code) = mainstay(&world, &["thaw"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(waits(&held, "30s").1, Some(0), "{}", history());
    assert!(there() && !history().contains("Held"), "{}", history());
}
