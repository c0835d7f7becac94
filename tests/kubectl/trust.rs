//! A cluster that takes signed commits alone: what is pushed by whoever can push, what a person
//! with a key signs, what two of them agree on, and what ran long ago.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::world::{World, git, kubectls, repository};

/// A new key; the path of its private half.
pub(crate) fn key(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let args = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path.to_str().unwrap()];
    assert!(Command::new("ssh-keygen").args(args).status().unwrap().success());
    path
}

/// What git is told before it commits with a key.
pub(crate) fn with(key: &Path) -> [String; 6] {
    let key = format!("user.signingkey={}", key.display());
    ["-c", "gpg.format=ssh", "-c", &key, "-c", "commit.gpgsign=true"].map(str::to_owned)
}

/// A cluster, and the folder with the keys.
struct Signed {
    world: World,
    keys: tempfile::TempDir,
}

impl Signed {
    /// Follows what Ann and Bob sign; `more` stands in `verify:` beside their keys.
    fn up(more: &str) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let (ann, bob) = (key(keys.path(), "ann"), key(keys.path(), "bob"));
        let public = |key: &Path| fs::read_to_string(key.with_extension("pub")).unwrap();
        let signers = format!("ann {}bob {}", public(&ann), public(&bob));
        let signers = serde_json::to_string(&signers).unwrap();
        let world = World::up_from(1, "", |dir| {
            repository(dir, &[]);
            // What was there before anybody signed.
            let since = git(&dir.join("work"), &["rev-parse", "HEAD"]);
            format!(
                ", intervalSeconds: 1, verify: {{allowedSigners: {signers}, since: {since}{more}}}"
            )
        });
        Self { world, keys }
    }

    /// Changes the object of the repository and commits it, signed by a key or not at all; the
    /// commit's id.
    fn commit(&self, by: Option<&str>, value: &str) -> String {
        let file = self.world.work().join("cluster.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let (before, _) = text.rsplit_once("data:").unwrap();
        fs::write(file, format!("{before}data: {{a: {value}}}\n")).unwrap();
        self.empty(by, value)
    }

    /// Commits what there is.
    fn empty(&self, by: Option<&str>, subject: &str) -> String {
        let config = by.map(|name| with(&self.keys.path().join(name))).unwrap_or_default();
        let mut args: Vec<&str> = config.iter().map(String::as_str).collect();
        args.retain(|arg| !arg.is_empty());
        args.extend(["commit", "--quiet", "--all", "--allow-empty", "--message", subject]);
        git(&self.world.work(), &args);
        git(&self.world.work(), &["push", "--quiet", "--force", "../repo.git", "HEAD:main"]);
        git(&self.world.work(), &["rev-parse", "HEAD"])
    }

    fn get(&self, args: &[&str]) -> String {
        self.world.kubectl(0, "kubectl", &[&["get"], args].concat()).unwrap_or_default()
    }

    fn refused(&self, commit: &str, why: &str) {
        let told = || self.get(&["commit", commit, "-o", "jsonpath={.status}"]);
        self.world.until(why, || told().contains("Refused"));
        assert!(told().contains(why), "{why} in {}", told());
    }

    fn runs(&self, value: &str) {
        let told = || self.get(&["cm", "owned", "-n", "free", "-o", "jsonpath={.data.a}"]);
        self.world.until(value, || told() == value);
    }
}

#[test]
fn only_signed_commits_that_follow_what_runs_are_taken() {
    let test = "only_signed_commits_that_follow_what_runs_are_taken";
    if kubectls(test).is_empty() {
        return;
    }
    let signed = Signed::up("");
    let first = signed.commit(Some("ann"), "one");
    signed.runs("one");
    let by = signed.get(&["commit", &first, "-o", "jsonpath={.spec.signedBy}"]);
    assert!(by.starts_with("ann (SHA256:"), "{by}");
    signed.refused(&signed.commit(None, "unsigned"), "it is not signed");
    // One that is signed does not vouch for one below it that is not.
    signed.refused(&signed.commit(Some("bob"), "on-top"), "(unsigned): it is not signed");
    key(signed.keys.path(), "eve");
    git(&signed.world.work(), &["reset", "--quiet", "--hard", &first]);
    signed.refused(&signed.commit(Some("eve"), "stranger"), "nobody who may sign");
    git(&signed.world.work(), &["reset", "--quiet", "--hard", &first]);
    let second = signed.commit(Some("bob"), "two");
    signed.runs("two");
    // An older state, signed as ever, by force.
    git(&signed.world.work(), &["reset", "--quiet", "--hard", &first]);
    let rewritten = signed.commit(Some("ann"), "rewritten");
    signed.refused(&rewritten, "history was rewritten");
    signed.runs("two");
    git(&signed.world.work(), &["reset", "--quiet", "--hard", &second]);
    signed.commit(Some("ann"), "three");
    signed.runs("three");
}

#[test]
fn a_change_needs_two_persons_where_that_is_asked_for() {
    let test = "a_change_needs_two_persons_where_that_is_asked_for";
    if kubectls(test).is_empty() {
        return;
    }
    let signed = Signed::up(", approval: true");
    let alone = signed.commit(Some("ann"), "alone");
    signed.refused(&alone, "needs an approval");
    signed.refused(&signed.empty(Some("ann"), "me"), "approved by its own key");
    signed.runs("b");
    signed.empty(Some("bob"), "Approve");
    signed.runs("alone");
}
