//! A source that is taken by unit: each folder of one repository by itself, whatever ails another.

use std::fs;

use crate::{
    sources::{TEAM, Team, map, stuck},
    trust,
    world::{World, git, kubectls},
};

impl Team {
    /// Writes a file in the team's work tree; an empty text takes it away.
    fn writes(&self, path: &str, text: &str) {
        let place = self.world.work().join("../team").join(path);
        match text {
            "" => fs::remove_file(place).unwrap(),
            text => {
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                fs::write(place, text).unwrap();
            }
        }
    }

    /// Pushes what was written, with these words.
    fn pushes_all(&self, message: &str) -> String {
        let place = self.world.work().join("../team");
        git(&place, &["add", "--all"]);
        git(&place, &["commit", "--quiet", "--allow-empty", "--message", message]);
        git(&place, &["push", "--quiet", "../team.git", "HEAD:main"]);
        git(&place, &["rev-parse", "HEAD"])
    }

    /// The folders of `apps`, each by itself.
    fn by_unit(&self, more: &str) -> String {
        let url = fs::canonicalize(self.world.work().join("../team.git")).unwrap();
        format!(
            "{TEAM}apiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {{name: team}}\n\
             spec: {{url: \"file://{}\", path: apps, atomic: unit, intervalSeconds: 1{more}}}\n",
            url.display()
        )
    }

    /// A field of a source's status.
    fn status(&self, source: &str, field: &str) -> String {
        self.get(0, &["gitsource", source, "-o", &format!("jsonpath={{.status.{field}}}")])
    }

    fn ready(&self, source: &str) -> String {
        self.status(source, "conditions[?(@.type==\"Ready\")].message")
    }

    fn waits_for(&self, source: &str, what: &str) {
        self.world.until(&format!("{source} says {what}"), || self.ready(source).contains(what));
    }

    fn lead_passes_on(&self) {
        let leader = self.world.leader();
        self.world.kill(leader);
        self.world.until("another leads", || self.world.leader() != leader);
        self.world.start_again(leader);
    }
}

/// What must not happen: a folder that is held up, taken back or forgotten because of another one;
/// one that comes back because a server was started again.
#[test]
fn a_unit_that_fails_holds_up_no_other() {
    if kubectls("a_unit_that_fails_holds_up_no_other").is_empty() {
        return;
    }
    let team = Team::up();
    for unit in ["a", "b", "c"] {
        team.writes(&format!("apps/{unit}/map.yaml"), &map(&format!("of-{unit}"), "team", "one"));
    }
    let first = team.pushes_all("three");
    team.world.pushes("team.yaml", &team.by_unit(", deadlineSeconds: 8"));
    for unit in ["a", "b", "c"] {
        team.is(&format!("of-{unit}"), "one");
    }
    let wait = ["wait", "gitsource/team", "--for=condition=Ready", "--timeout=30s"];
    team.world.kubectl(0, "kubectl", &wait).unwrap();
    assert_eq!(team.ready("team"), "3 of 3 units are ready");
    assert_eq!(team.status("team", "admittedCommit"), first);
    let listed = team.get(1, &["gitsources", "--no-headers"]);
    assert_eq!(listed.lines().filter(|line| line.starts_with("team-")).count(), 3, "{listed}");

    // One is broken, one is changed, one is new.
    team.writes("apps/a/bad.yaml", "kind: Nonsense\n");
    team.writes("apps/a/map.yaml", &map("of-a", "team", "two"));
    team.writes("apps/b/map.yaml", &map("of-b", "team", "two"));
    team.writes("apps/d/map.yaml", &map("of-d", "team", "one"));
    let second = team.pushes_all("one is broken");
    team.is("of-b", "two");
    team.is("of-d", "one");
    team.waits_for("team-a", "apps/a/bad.yaml:1");
    team.waits_for("team", "3 of 4 units are ready; team-a: ");
    assert_eq!(team.value("of-a"), "one");
    assert_eq!(team.status("team-a", "refusedCommit"), second);
    assert_eq!(team.status("team-b", "admittedCommit"), second);
    // What nothing happened to says where that is from, and has no record of the push.
    assert_eq!(team.status("team-c", "admittedCommit"), first);
    let commits = team.get(0, &["commits", "-o", "name"]);
    assert!(!commits.contains(&format!("team-c.{second}")), "{commits}");

    // Another leader knows all that, and units are nobody's to write.
    team.lead_passes_on();
    let refused = team.world.kubectl(0, "kubectl", &["delete", "gitsource", "team-b"]).unwrap_err();
    assert!(refused.contains("the folder apps/b makes"), "{refused}");
    team.writes("apps/a/bad.yaml", "");
    team.pushes_all("mended");
    team.is("of-a", "two");
    team.waits_for("team", "4 of 4 units are ready");
    assert_eq!(team.status("team-b", "admittedCommit"), second);

    // A rollout fails: its folder is taken back, and nothing else of the push.
    team.writes("apps/b/web.yaml", stuck("team").trim_start_matches("---\n"));
    team.writes("apps/c/map.yaml", &map("of-c", "team", "two"));
    let bad = team.pushes_all("one fails");
    team.is("of-c", "two");
    let name = format!("team-b.{bad}");
    team.world.until("it is taken back", || team.reverts("main", &name) == 1);
    team.waits_for("team", "4 of 4 units are ready");
    assert_eq!(team.get(0, &["deploy", "-n", "team", "-o", "name"]), "");
    assert_eq!(team.value("of-c"), "two");
    let tree = team.git(&["ls-tree", "-r", "--name-only", "main"]);
    assert!(!tree.contains("apps/b/web.yaml"), "{tree}");
    assert!(team.git(&["show", "main:apps/c/map.yaml"]).contains("two"));

    // A folder goes with what it holds, and what is nowhere is told.
    team.pulls();
    team.lead_passes_on();
    team.writes("apps/d/map.yaml", "");
    team.writes("apps/beside.yaml", &map("beside", "team", "x"));
    team.writes("apps/No_Name/map.yaml", &map("no-name", "team", "x"));
    team.pushes_all("one goes");
    team.is("of-d", "");
    team.waits_for("team", "apps/beside.yaml:1: is beside the folders in apps");
    let problems = team.status("team", "problems");
    assert!(problems.contains("its unit would be the source team-No_Name"), "{problems}");
    assert_eq!(team.get(0, &["gitsource", "team-d", "--ignore-not-found", "-o", "name"]), "");
    assert_eq!(team.value("beside"), "");

    // Its source goes, and all of them with it.
    team.world.pushes("team.yaml", TEAM);
    team.is("of-a", "");
    team.world.until("no unit is left", || {
        team.get(0, &["gitsources", "-o", "name"]).lines().count() == 1
    });
}

/// What must not happen: most of what runs deleted because folders went, an object that is made
/// anew because it moved, a base that is a unit or whose change nobody sees.
#[test]
fn units_move_share_bases_and_are_guarded() {
    if kubectls("units_move_share_bases_and_are_guarded").is_empty() {
        return;
    }
    let team = Team::of(World::up(1));
    for unit in ["a", "b", "c"] {
        let maps: String =
            (0..3).map(|i| map(&format!("{unit}-{i}"), "team", "one") + "---\n").collect();
        team.writes(&format!("apps/{unit}/maps.yaml"), &maps);
    }
    team.writes("apps/base/kustomization.yaml", "resources: [map.yaml]\n");
    team.writes("apps/base/map.yaml", &map("shared", "team", "one"));
    team.writes("apps/x/kustomization.yaml", "resources: [../base]\nnamePrefix: x-\n");
    team.writes("apps/y/kustomization.yaml", "resources: [../base]\nnamePrefix: y-\n");
    team.pushes_all("all");
    team.world.pushes("team.yaml", &team.by_unit(""));
    team.is("x-shared", "one");
    team.is("y-shared", "one");
    team.waits_for("team", "5 of 5 units are ready");
    assert_eq!(team.value("shared"), "");

    // A base changes, and with it whoever is built on it.
    team.writes("apps/base/map.yaml", &map("shared", "team", "two"));
    let base = team.pushes_all("base");
    team.is("x-shared", "two");
    team.is("y-shared", "two");
    assert_eq!(team.status("team-x", "admittedCommit"), base);
    assert_ne!(team.status("team-a", "admittedCommit"), base);

    // A file moves from one unit to another: it is the same object.
    let uid = || team.get(0, &["cm", "a-0", "-n", "team", "-o", "jsonpath={.metadata.uid}"]);
    let before = uid();
    team.writes("apps/a/maps.yaml", &map("a-1", "team", "one"));
    team.writes("apps/c/more.yaml", &map("a-0", "team", "moved"));
    team.pushes_all("moved");
    team.is("a-0", "moved");
    team.is("a-2", "");
    assert_eq!(uid(), before);
    team.waits_for("team", "5 of 5 units are ready");

    // A folder is renamed, with a word for its guard: the same objects once more.
    let place = team.world.work().join("../team");
    git(&place, &["mv", "apps/b", "apps/bb"]);
    git(&place, &["mv", "apps/c", "apps/cc"]);
    git(&place, &["mv", "apps/a", "apps/aa"]);
    team.pushes_all("renamed");
    team.waits_for("team", "(the folders of team-a, team-b, team-c are gone)");
    assert_eq!(team.value("b-0"), "one");
    team.pushes_all("approved\n\nPrune-Approved: yes");
    team.waits_for("team", "5 of 5 units are ready");
    assert_eq!(uid(), before);
    let origin = "jsonpath={.metadata.annotations.mainstay\\.io/source}";
    let place = || team.get(0, &["cm", "a-0", "-n", "team", "-o", origin]);
    assert_eq!(place(), "team-cc:apps/cc/more.yaml:1");

    // Taken whole and by unit again: what runs is the same.
    let whole = team.by_unit("").replace("atomic: unit, ", "");
    team.world.pushes("team.yaml", &whole);
    team.world.until("it is the team's", || place() == "team:apps/cc/more.yaml:1");
    team.world.pushes("team.yaml", &team.by_unit(""));
    team.world.until("it is the unit's", || place() == "team-cc:apps/cc/more.yaml:1");
    team.waits_for("team", "5 of 5 units are ready");
    assert_eq!(uid(), before);

    // A unit's name is taken.
    let other = "---\napiVersion: mainstay.io/v1\nkind: GitSource\nmetadata: {name: team-x}\n\
                 spec: {url: \"https://example.org/x.git\"}\n";
    team.world.pushes("other.yaml", other.trim_start_matches("---\n"));
    let refused = || team.get(0, &["commits", "-o", "jsonpath={.items[*].status.problems}"]);
    team.world.until("it is told", || {
        refused().contains("team-x is a unit of the source team: take another name")
    });
    assert_eq!(team.value("x-shared"), "two");
}

/// What must not happen: a unit that takes what nobody signed, or that is refused for it, since its
/// source is asked for all of them.
#[test]
fn units_take_what_their_source_trusts() {
    if kubectls("units_take_what_their_source_trusts").is_empty() {
        return;
    }
    let team = Team::of(World::up(1));
    let keys = tempfile::tempdir().unwrap();
    let ann = trust::key(keys.path(), "ann");
    let place = team.world.work().join("../team");
    let signs = |message: &str| {
        let config = trust::with(&ann);
        let mut args: Vec<&str> = config.iter().map(String::as_str).collect();
        args.extend(["commit", "--quiet", "--message", message]);
        git(&place, &["add", "--all"]);
        git(&place, &args);
        git(&place, &["push", "--quiet", "--force", "../team.git", "HEAD:main"]);
        git(&place, &["rev-parse", "HEAD"])
    };
    team.writes("apps/a/map.yaml", &map("of-a", "team", "one"));
    team.writes("apps/b/map.yaml", &map("of-b", "team", "one"));
    let first = signs("both");
    let public = fs::read_to_string(ann.with_extension("pub")).unwrap();
    let signers = serde_json::to_string(&format!("ann {public}")).unwrap();
    let verify = format!(", verify: {{allowedSigners: {signers}}}");
    team.world.pushes("team.yaml", &team.by_unit(&verify));
    team.is("of-a", "one");
    team.is("of-b", "one");
    let by = ["commit", &format!("team-a.{first}"), "-o", "jsonpath={.spec.signedBy}"];
    assert!(team.get(0, &by).starts_with("ann (SHA256:"), "{}", team.get(0, &by));

    team.writes("apps/a/map.yaml", &map("of-a", "team", "sly"));
    team.pushes_all("unsigned");
    team.waits_for("team", "it is not signed");
    assert_eq!(
        (team.value("of-a"), team.status("team-a", "admittedCommit")),
        ("one".into(), first.clone())
    );
    assert_eq!(team.status("team-a", "conditions[?(@.type==\"Ready\")].status"), "True");

    git(&place, &["reset", "--quiet", "--hard", &first]);
    team.writes("apps/a/map.yaml", &map("of-a", "team", "two"));
    signs("signed");
    team.is("of-a", "two");
    team.waits_for("team", "2 of 2 units are ready");
    // An older state, signed as ever, by force.
    git(&place, &["reset", "--quiet", "--hard", &first]);
    git(&place, &["push", "--quiet", "--force", "../team.git", "HEAD:main"]);
    team.world.until("it is refused", || team.status("team", "refusedCommit") == first);
    assert_eq!(team.value("of-a"), "two");
}
