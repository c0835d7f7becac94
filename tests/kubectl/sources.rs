//! A source that Git names beside the main one: a team's own repository, in its own namespace.

use std::{fs, process::Command};

use crate::{
    git_server::HttpServer,
    world::{World, git, kubectls, repository},
};

pub(crate) const TEAM: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: team}}\n---\n";

pub(crate) fn map(name: &str, namespace: &str, value: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: {namespace}}}, \
         data: {{a: {value}}}}}\n"
    )
}

/// The team's repository.
pub(crate) struct Team {
    pub(crate) world: World,
}

impl Team {
    pub(crate) fn up() -> Self {
        Self::of(World::up(3))
    }

    pub(crate) fn of(world: World) -> Self {
        let place = world.work().join("../team");
        git(&world.work(), &["init", "--quiet", "--bare", "--initial-branch=main", "../team.git"]);
        git(&world.work(), &["init", "--quiet", "--initial-branch=main", "../team"]);
        fs::create_dir_all(place).unwrap();
        Self { world }
    }

    /// What the main source says of it, with more in its spec.
    fn source(&self, more: &str) -> String {
        let url = fs::canonicalize(self.world.work().join("../team.git")).unwrap();
        format!(
            "{TEAM}apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {{name: team}}\n\
             spec: {{url: \"file://{}\", namespaces: [team], intervalSeconds: 1{more}}}\n",
            url.display()
        )
    }

    /// Commits a file in the team's repository; an empty text takes it away.
    pub(crate) fn pushes(&self, path: &str, text: &str) -> String {
        let place = self.world.work().join("../team");
        match text {
            "" => fs::remove_file(place.join(path)).unwrap(),
            text => fs::write(place.join(path), text).unwrap(),
        }
        git(&place, &["add", "--all"]);
        git(&place, &["commit", "--quiet", "--message", path]);
        git(&place, &["push", "--quiet", "../team.git", "HEAD:main"]);
        git(&place, &["rev-parse", "HEAD"])
    }

    /// Through each server in turn.
    pub(crate) fn get(&self, at: usize, args: &[&str]) -> String {
        self.world.kubectl(at, "kubectl", &[&["get"], args].concat()).unwrap_or_default()
    }

    pub(crate) fn value(&self, name: &str) -> String {
        self.get(0, &["cm", name, "-n", "team", "-o", "jsonpath={.data.a}"])
    }

    pub(crate) fn is(&self, name: &str, value: &str) {
        self.world.until(&format!("{name} is {value:?}"), || self.value(name) == value);
    }

    fn says(&self, what: &str) {
        let told = || self.get(1, &["gitsource", "team", "-o", "jsonpath={.status}"]);
        self.world.until(what, || told().contains(what));
    }
}

#[test]
fn a_team_follows_its_own_repository_in_its_own_namespace() {
    let test = "a_team_follows_its_own_repository_in_its_own_namespace";
    if kubectls(test).is_empty() {
        return;
    }
    let team = Team::up();
    let first = team.pushes("one.yaml", &map("one", "team", "first"));
    team.world.pushes("team.yaml", &team.source(""));
    team.is("one", "first");
    team.says(&first);
    let wait = ["wait", "gitsource/team", "--for=condition=Ready", "--timeout=30s"];
    team.world.kubectl(0, "kubectl", &wait).unwrap();
    let place = "jsonpath={.metadata.annotations.mainstay\\.io/source}";
    assert_eq!(team.get(2, &["cm", "one", "-n", "team", "-o", place]), "team:one.yaml:1");

    // What is not the team's is refused with all that came with it, and said where it stands.
    let foreign = map("far", "free", "x") + "---\n" + &map("one", "team", "second");
    team.pushes("one.yaml", &foreign);
    team.says("one.yaml:1: the source team may hold objects of team, not of free");
    assert_eq!(team.value("one"), "first");
    let ready =
        ["gitsource", "team", "-o", "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}"];
    assert_eq!(team.get(0, &ready), "Refused");
    team.pushes("one.yaml", &map("one", "team", "third"));
    team.is("one", "third");

    // A write through the API would have to be a commit there.
    let patch = ["patch", "cm", "one", "-n", "team", "-p", "{\"data\":{\"a\":\"mine\"}}"];
    let refused = team.world.kubectl(0, "kubectl", &patch).unwrap_err();
    assert!(refused.contains("comes from the source team: change one.yaml:1"), "{refused}");

    // Another leader goes on, and the main source does not delete what is the team's.
    let leader = team.world.leader();
    team.world.kill(leader);
    team.world.until("another leads", || team.world.leader() != leader);
    team.world.start_again(leader);
    team.world.pushes("more.yaml", &map("more", "team", "main"));
    team.is("more", "main");
    team.pushes("two.yaml", &map("two", "team", "two"));
    team.is("two", "two");
    assert_eq!(team.value("one"), "third");
    team.pushes("two.yaml", "");
    team.is("two", "");

    // What the main source holds is not to be had.
    team.pushes("two.yaml", &map("more", "team", "theirs"));
    team.says("ConfigMap team/more is held by the source main already (more.yaml:1)");
    team.pushes("two.yaml", "");

    // A narrower policy judges what runs, too, which goes on; so does a wider one.
    team.world.pushes("team.yaml", &team.source(", kinds: [Secret]"));
    team.says("the source team may hold Secret, no ConfigMap");
    assert_eq!(team.value("one"), "third");
    team.world.pushes("team.yaml", &team.source(", kinds: [ConfigMap]"));
    team.world.kubectl(0, "kubectl", &wait).unwrap();

    // A role that comes later is seen by the next look.
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: ci, namespace: team}\n";
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
                metadata: {name: ci, namespace: team}\nroleRef: {apiGroup: rbac.authorization.k8s.io, \
                kind: ClusterRole, name: edit}\nsubjects: [{kind: ServiceAccount, name: ci, \
                namespace: team}]\n";
    let acting = format!("{}---\n{account}", team.source(", serviceAccount: team/ci"));
    team.world.pushes("team.yaml", &acting);
    team.pushes("one.yaml", &map("one", "team", "fourth"));
    team.says("system:serviceaccount:team:ci may not update ConfigMap team/one");
    team.world.pushes("role.yaml", role);
    team.is("one", "fourth");

    // A wrong address is told, and what runs goes on; then it is let go.
    team.world.pushes("team.yaml", &team.source(", secret: team/none"));
    team.says("there is no Secret team/none");
    assert_eq!(team.value("one"), "fourth");
    team.world.pushes("team.yaml", TEAM);
    team.is("one", "");
    assert_eq!(team.value("more"), "main");
}

/// Folders of one repository as a source each: one that is refused holds nobody else up.
#[test]
fn folders_of_a_repository_are_taken_each_by_itself() {
    if kubectls("folders_of_a_repository_are_taken_each_by_itself").is_empty() {
        return;
    }
    let team = Team::of(World::up(1));
    let place = team.world.work().join("../team");
    fs::create_dir_all(place.join("a")).unwrap();
    fs::create_dir_all(place.join("b")).unwrap();
    team.pushes("a/map.yaml", &map("of-a", "team", "one"));
    team.pushes("b/map.yaml", &map("of-b", "team", "one"));
    let url = fs::canonicalize(team.world.work().join("../team.git")).unwrap();
    let of = |folder: &str| {
        format!(
            "apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {{name: team-{folder}}}\n\
             spec: {{url: \"file://{}\", path: {folder}, intervalSeconds: 1}}\n",
            url.display()
        )
    };
    team.world.pushes("team.yaml", &format!("{TEAM}{}---\n{}", of("a"), of("b")));
    team.is("of-a", "one");
    team.is("of-b", "one");
    fs::write(place.join("a/bad.yaml"), "kind: Nonsense\n").unwrap();
    fs::write(place.join("a/map.yaml"), map("of-a", "team", "two")).unwrap();
    team.pushes("b/map.yaml", &map("of-b", "team", "two"));
    team.is("of-b", "two");
    let refused = ["gitsource", "team-a", "-o", "jsonpath={.status.problems}"];
    team.world.until("a is refused", || team.get(0, &refused).contains("bad.yaml"));
    assert_eq!(team.value("of-a"), "one");
}

/// A hook comes to whichever server its sender knows; what is new is taken by the one that leads.
#[test]
fn a_hook_that_reaches_any_server_is_heard_by_the_leader() {
    if kubectls("a_hook_that_reaches_any_server_is_heard_by_the_leader").is_empty() {
        return;
    }
    let world = World::up_from(3, "", |dir| {
        repository(dir, &[]);
        let secret = dir.join("hook-secret");
        fs::write(&secret, "s3cret").unwrap();
        format!(", hookSecretFile: {}", secret.display())
    });
    let team = Team::of(world);
    team.pushes("one.yaml", &map("one", "team", "first"));
    let http = HttpServer::start(team.world.work().parent().unwrap(), None);
    // It would look again in an hour only.
    let source = format!(
        "{TEAM}apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {{name: team}}\n\
         spec: {{url: \"{}\", namespaces: [team], intervalSeconds: 3600}}\n",
        http.url("team.git")
    );
    team.world.pushes("team.yaml", &source);
    team.is("one", "first");
    for (at, server) in team.world.servers.iter().enumerate() {
        let value = format!("v{at}");
        team.pushes("one.yaml", &map("one", "team", &value));
        let body = r#"{"ref": "refs/heads/main"}"#;
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret");
        let tag = ring::hmac::sign(&key, body.as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let url = format!("https://{}/hooks/git", server.address());
        let signed = format!("x-hub-signature-256: sha256={hex}");
        let args = ["--silent", "--insecure", "--fail", "--header", &signed, "--data", body, &url];
        assert!(Command::new("curl").args(args).status().unwrap().success(), "{url}");
        team.is("one", &value);
    }
}

/// A workload for which there is no node: it never comes up.
pub(crate) fn stuck(namespace: &str) -> String {
    format!(
        "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: \
         {namespace}}}, spec: {{selector: {{matchLabels: {{a: b}}}}, template: {{metadata: \
         {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: none}}]}}}}}}}}\n"
    )
}

impl Team {
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.world.work().join("../team.git"), args)
    }

    /// How many commits of a branch take a failed one back.
    pub(crate) fn reverts(&self, branch: &str, bad: &str) -> usize {
        let grep = format!("--grep=^Mainstay-Reverts: {bad}$");
        self.git(&["log", "--format=%H", &grep, branch]).lines().count()
    }

    /// Takes the repository away, or brings it back.
    fn hide(&self, away: bool) {
        let (here, there) = ("../team.git", "../away.git");
        let (from, to) = if away { (here, there) } else { (there, here) };
        fs::rename(self.world.work().join(from), self.world.work().join(to)).unwrap();
    }

    /// The team goes on from what is on the branch.
    pub(crate) fn pulls(&self) {
        let place = self.world.work().join("../team");
        git(&place, &["fetch", "--quiet", "../team.git", "main"]);
        git(&place, &["reset", "--quiet", "--hard", "FETCH_HEAD"]);
    }
}

/// What must not happen: a rollout of a team that fails and stays, is taken back twice, or takes
/// what others run back with it.
#[test]
fn what_fails_of_a_team_goes_back_and_is_taken_back_once() {
    if kubectls("what_fails_of_a_team_goes_back_and_is_taken_back_once").is_empty() {
        return;
    }
    let team = Team::up();
    team.pushes("one.yaml", &map("one", "team", "first"));
    let source = team.source(", deadlineSeconds: 8");
    team.world.pushes("team.yaml", &(source.clone() + "---\n" + &map("mine", "default", "x")));
    team.is("one", "first");

    // Its repository goes away, and then the leader: the cluster goes back all the same.
    let bad = team.pushes("one.yaml", &(map("one", "team", "second") + &stuck("team")));
    team.is("one", "second");
    team.hide(true);
    let leader = team.world.leader();
    team.world.kill(leader);
    team.world.until("another leads", || team.world.leader() != leader);
    team.world.start_again(leader);
    team.is("one", "first");
    assert_eq!(team.get(0, &["deploy", "-n", "team", "-o", "name"]), "");
    team.says("its revert is on its way");
    // And once more, before anything could be pushed.
    let leader = team.world.leader();
    team.world.kill(leader);
    team.world.until("another leads", || team.world.leader() != leader);
    team.world.start_again(leader);
    team.hide(false);
    let name = format!("team.{bad}");
    team.world.until("the revert is pushed", || team.reverts("main", &name) == 1);
    let wait = ["wait", "gitsource/team", "--for=condition=Ready", "--timeout=30s"];
    team.world.kubectl(0, "kubectl", &wait).unwrap();
    let message = team.git(&["log", "-1", "--format=%B", "main"]);
    for words in ["Revert \"one.yaml\"", "DeadlineExceeded", "one.yaml:3", "went back to"] {
        assert!(message.contains(words), "{words} in {message}");
    }
    let state = ["commit", &name, "-o", "jsonpath={.status.failure.revert}"];
    assert_eq!(team.get(1, &state), "Pushed");

    // The same content is not run again, wherever it stands; without a word to that end.
    team.pulls();
    team.pushes("two.yaml", &stuck("team"));
    team.pushes("one.yaml", &map("one", "team", "second"));
    team.says("whose rollout failed");
    assert_eq!(team.value("one"), "first");
    team.pushes("two.yaml", "");
    team.is("one", "second");
    assert_eq!(team.reverts("main", &name), 1);
    assert_eq!(team.get(0, &["cm", "mine", "-o", "jsonpath={.data.a}"]), "x");
}

/// Where nothing can be pushed to what is followed, the last good commit is held, the revert stands
/// on a branch beside it, and all of that is said.
#[test]
fn a_team_that_follows_a_tag_is_held_and_has_the_revert_proposed() {
    if kubectls("a_team_that_follows_a_tag_is_held_and_has_the_revert_proposed").is_empty() {
        return;
    }
    let team = Team::of(World::up(1));
    let releases = || {
        team.git(&["tag", "--force", "v1", "main"]);
    };
    team.pushes("one.yaml", &map("one", "team", "first"));
    releases();
    let source = team.source(", reference: {tag: v1}, deadlineSeconds: 5");
    team.world.pushes("team.yaml", &source);
    let value = || team.get(0, &["cm", "one", "-n", "team", "-o", "jsonpath={.data.a}"]);
    team.world.until("the first runs", || value() == "first");
    let bad = team.pushes("one.yaml", &(map("one", "team", "second") + &stuck("team")));
    releases();
    let branch = format!("mainstay/revert/team.{bad}");
    let told = || team.get(0, &["gitsource", "team", "-o", "jsonpath={.status}"]);
    let words = format!("it is proposed on the branch {branch}");
    team.world.until("it is proposed", || told().contains(&words));
    assert_eq!(value(), "first");
    assert_eq!(team.reverts(&branch, &format!("team.{bad}")), 1);
    assert_eq!(team.git(&["rev-parse", "v1"]), bad);
    let events = ["events", "-A", "-o", "jsonpath={.items[*].reason}"];
    team.world.until("an event says so", || team.get(0, &events).contains("RevertNotPushed"));
    // Where the source says so, nothing is pushed at all.
    let hold = team.source(", reference: {tag: v1}, deadlineSeconds: 5, onFailure: hold");
    team.world.pushes("team.yaml", &hold);
    let third = team.pushes("one.yaml", &(map("one", "team", "third") + &stuck("team")));
    releases();
    team.world.until("it is held", || told().contains("is held: take it back"));
    assert_eq!(value(), "first");
    let branches = team.git(&["for-each-ref", "--format=%(refname)", "refs/heads/mainstay/revert"]);
    assert!(!branches.contains(&third), "{branches}");
}

/// Folders of one repository in their order: of one push the second is taken when the first runs
/// well, and a first one that fails takes its own folder back, not the other.
#[test]
fn a_source_is_taken_after_those_it_depends_on() {
    if kubectls("a_source_is_taken_after_those_it_depends_on").is_empty() {
        return;
    }
    let team = Team::of(World::up(1));
    let place = team.world.work().join("../team");
    let url = fs::canonicalize(team.world.work().join("../team.git")).unwrap();
    let of = |folder: &str, more: &str| {
        format!(
            "apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {{name: {folder}}}\n\
             spec: {{url: \"file://{}\", path: {folder}, intervalSeconds: 1, deadlineSeconds: 5{more}}}\n",
            url.display()
        )
    };
    let sources = |before: &str| {
        format!(
            "{TEAM}{}---\n{}",
            of("first", ""),
            of("second", &format!(", dependsOn: [{before}]"))
        )
    };
    team.world.pushes("team.yaml", &sources("nowhere"));
    let refused = || team.get(0, &["commits", "-o", "jsonpath={.items[*].status.problems}"]);
    team.world.until("who is nowhere is told", || {
        refused().contains("second waits for the source nowhere, which is nowhere: add it")
    });
    fs::create_dir_all(place.join("first")).unwrap();
    fs::create_dir_all(place.join("second")).unwrap();
    fs::write(place.join("first/map.yaml"), map("of-first", "team", "one")).unwrap();
    team.pushes("second/map.yaml", &map("of-second", "team", "one"));
    team.world.pushes("team.yaml", &sources("first"));
    let value = |name: &str| team.get(0, &["cm", name, "-n", "team", "-o", "jsonpath={.data.a}"]);
    team.world.until("both run", || value("of-first") == "one" && value("of-second") == "one");

    fs::write(place.join("first/map.yaml"), map("of-first", "team", "two") + &stuck("team"))
        .unwrap();
    let bad = team.pushes("second/map.yaml", &map("of-second", "team", "two"));
    let told = || team.get(0, &["gitsource", "second", "-o", "jsonpath={.status.conditions}"]);
    team.world.until("the second waits", || told().contains("DependencyNotReady"));
    assert_eq!(value("of-second"), "one");
    let name = format!("first.{bad}");
    team.world.until("the first is taken back", || team.reverts("main", &name) == 1);
    // Then the first is as it was, and the second has its turn.
    team.world.until("the second runs", || value("of-second") == "two");
    assert_eq!(value("of-first"), "one");
    assert!(team.git(&["show", "main:second/map.yaml"]).contains("two"));
    assert!(!team.git(&["show", "main:first/map.yaml"]).contains("two"));
}
