//! Signatures as git makes and reads them, by the keys of ssh-keygen and gpg.

use super::{WITHIN, World, git, git_with, id, message, person};
use crate::{
    git::{Auth, Keys, Mirror, Reference, Remote, SigningKey},
    model::{CommitId, Signed, Timestamp},
};

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// When signatures are judged.
const NOW: Timestamp = Timestamp(1_790_000_000_000);

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a program is there; says so when not.
fn lacks(test: &str, program: &str) -> bool {
    let lacks = Command::new(program).arg("--version").output().is_err();
    if lacks {
        eprintln!("skipped: {test}: needs {program}");
    }
    lacks
}

impl World {
    /// A new SSH key of a kind (`ed25519`); the path of its private half.
    fn key(&self, kind: &str, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let text = path.to_str().unwrap();
        run("ssh-keygen", &["-q", "-t", kind, "-N", "", "-C", name, "-f", text]);
        path
    }

    /// Commits with this signature (`-S` and the configuration it needs) and pushes.
    fn signed(&self, config: &[&str], subject: &str) -> CommitId {
        let mut args: Vec<&str> = config.iter().flat_map(|c| ["-c", c]).collect();
        args.extend(["commit", "-q", "--allow-empty", "-m", subject]);
        fs::write(self.work().join("file.yaml"), subject).unwrap();
        git(&self.work(), &["add", "-A"]);
        args.extend((!config.is_empty()).then_some("-S"));
        git(&self.work(), &args);
        self.push()
    }

    fn signed_by(&self, key: &Path, subject: &str) -> CommitId {
        let key = format!("user.signingkey={}", key.display());
        self.signed(&["gpg.format=ssh", &key], subject)
    }

    /// The new commits of main, newest first.
    fn check(&self, keys: &Keys, after: Option<&CommitId>) -> Vec<Signed> {
        let reader = self.reader();
        reader.signed(keys, &self.head(), after, None, Some(NOW)).unwrap().unwrap()
    }

    fn newest(&self, keys: &Keys) -> Result<String, String> {
        self.check(keys, None).remove(0).by.map(|by| by.name)
    }
}

fn public(key: &Path) -> String {
    fs::read_to_string(key.with_extension("pub")).unwrap().trim().to_owned()
}

fn allow(lines: &[String]) -> Keys {
    Keys::read(&lines.join("\n"), "", "", None).unwrap()
}

#[test]
fn ssh_keys_of_every_kind_sign_and_strangers_do_not() {
    if lacks("ssh_keys_of_every_kind_sign_and_strangers_do_not", "ssh-keygen") {
        return;
    }
    let world = World::new();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = world.key(kind, kind);
        let keys = allow(&[format!("{kind}@example.org {}", public(&key))]);
        world.signed_by(&key, kind);
        assert_eq!(world.newest(&keys), Ok(format!("{kind}@example.org")));
        let stranger = world.key(kind, &format!("{kind}-stranger"));
        world.signed_by(&stranger, "by a stranger");
        assert!(world.newest(&keys).unwrap_err().contains("nobody who may sign"));
    }
}

#[test]
fn what_is_not_signed_by_a_key_that_counts_says_why() {
    if lacks("what_is_not_signed_by_a_key_that_counts_says_why", "ssh-keygen") {
        return;
    }
    let world = World::new();
    let key = world.key("ed25519", "ann");
    let line = |options: &str| allow(&[format!("ann@example.org {options} {}", public(&key))]);
    let keys = line("");
    let says = |world: &World, keys: &Keys, word: &str| {
        let why = world.newest(keys).unwrap_err();
        assert!(why.contains(word), "{why}");
    };
    let first = world.commit(&[("a.yaml", "a")], "not signed");
    says(&world, &keys, "not signed");
    let good = world.signed_by(&key, "signed");
    assert_eq!(world.check(&keys, Some(&first)).len(), 1);
    says(&world, &line("valid-before=\"20260101\""), "not valid at that time");
    says(&world, &line("valid-after=\"20300101\""), "not valid at that time");
    says(&world, &line("namespaces=\"file\""), "nobody who may sign");
    says(&world, &Keys::default(), "nobody who may sign");
    let revoked = format!("ann@example.org {}", public(&key));
    let revoked = Keys::read(&revoked, &public(&key), "", None).unwrap();
    says(&world, &revoked, "is revoked");
    // The signature of one commit on another: the same words, other files.
    let raw = git(&world.work(), &["cat-file", "commit", good.as_str()]);
    let tree = git(&world.work(), &["rev-parse", &format!("{first}^{{tree}}")]);
    let own = git(&world.work(), &["rev-parse", &format!("{good}^{{tree}}")]);
    let forged = raw.replace(&own, &tree) + "\n";
    let write = ["hash-object", "-w", "-t", "commit", "--stdin"];
    let forged = id(&git_with(&world.work(), &write, forged.as_bytes()));
    git(&world.work(), &["reset", "-q", "--hard", forged.as_str()]);
    world.push();
    says(&world, &keys, "of something else");
}

#[test]
fn a_signed_tag_vouches_for_what_it_names() {
    if lacks("a_signed_tag_vouches_for_what_it_names", "ssh-keygen") {
        return;
    }
    let world = World::new();
    let (key, stranger) = (world.key("ed25519", "ann"), world.key("ed25519", "eve"));
    let keys = allow(&[format!("ann@example.org {}", public(&key))]);
    let first = world.commit(&[("a.yaml", "a")], "not signed");
    let remote = Remote::new(world.url(), Reference::Tag("v1".into()), Auth::None).unwrap();
    let mirror = Mirror::open(world.dir.path().join("tagged"), remote).unwrap();
    let tag = |args: &[&str], key: &Path| {
        let key = format!("user.signingkey={}", key.display());
        let config = ["-c", "gpg.format=ssh", "-c", &key, "tag", "-f"];
        git(&world.work(), &[&config, args].concat());
        git(&world.work(), &["push", "-q", "-f", "origin", "v1"]);
        mirror.fetch(WITHIN).unwrap();
    };
    let by = |tip: &CommitId, at: Option<Timestamp>| {
        let signed = mirror.reader().unwrap().signed_tag(&keys, "v1", tip, at).unwrap();
        assert_eq!((signed.subject.as_str(), signed.adds), ("tag v1", false));
        signed.by.map(|by| by.name)
    };
    let says = |tip: &CommitId, word: &str| {
        let why = by(tip, Some(NOW)).unwrap_err();
        assert!(why.contains(word), "{why}");
    };
    tag(&["v1"], &key);
    says(&first, "light one");
    tag(&["-a", "-m", "release", "v1"], &key);
    says(&first, "is not signed");
    tag(&["-s", "-m", "release", "v1"], &stranger);
    says(&first, "nobody who may sign");
    tag(&["-s", "-m", "release\n\n-----BEGIN SSH SIGNATURE-----\nno\n", "v1"], &key);
    assert_eq!(by(&first, Some(NOW)), Ok("ann@example.org".to_owned()));
    assert_eq!(by(&first, None), Ok("ann@example.org".to_owned()));
    let second = world.commit(&[("a.yaml", "b")], "next");
    says(&second, "names another commit");
    // A signature that was moved to another tag.
    let raw = git(&world.work(), &["cat-file", "tag", "v1"]);
    let forged = raw.replace(first.as_str(), second.as_str()) + "\n";
    let forged = git_with(&world.work(), &["mktag"], forged.as_bytes());
    git(&world.work(), &["update-ref", "refs/tags/v1", forged.trim()]);
    git(&world.work(), &["push", "-q", "-f", "origin", "v1"]);
    mirror.fetch(WITHIN).unwrap();
    says(&second, "of something else");
}

#[test]
fn merges_and_empty_commits_add_nothing() {
    let world = World::new();
    let work = world.work();
    world.commit(&[("a.yaml", "a\nb\nc\n")], "first");
    git(&work, &["checkout", "-q", "-b", "side"]);
    world.commit(&[("side.yaml", "s")], "side");
    git(&work, &["checkout", "-q", "main"]);
    world.commit(&[("b.yaml", "b")], "beside it");
    git(&work, &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    world.push();
    world.commit(&[], "empty");
    // A merge in which somebody hides a change.
    git(&work, &["checkout", "-q", "-b", "other"]);
    world.commit(&[("o.yaml", "o")], "other");
    git(&work, &["checkout", "-q", "main"]);
    world.commit(&[("c.yaml", "c")], "meanwhile");
    git(&work, &["merge", "-q", "--no-ff", "--no-commit", "other"]);
    fs::write(work.join("evil.yaml"), "e").unwrap();
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "evil merge"]);
    world.push();
    let found = world.check(&Keys::default(), None);
    let adds = |subject: &str| found.iter().find(|c| c.subject == subject).unwrap().adds;
    assert_eq!(found.len(), 8);
    assert!(!adds("merge") && !adds("empty"));
    assert!(adds("first") && adds("side") && adds("evil merge"));
}

#[test]
fn what_we_write_is_signed_and_git_says_so_too() {
    if lacks("what_we_write_is_signed_and_git_says_so_too", "ssh-keygen") {
        return;
    }
    let world = World::new();
    let bad = world.commit(&[("a.yaml", "a")], "first");
    let bad = (bad, world.commit(&[("a.yaml", "b")], "bad")).1;
    let path = world.key("ed25519", "ours");
    let key = SigningKey::read(&path).unwrap();
    let keys = Keys::read("", "", "", Some(&key)).unwrap();
    let mirror = world.mirror("mirror").signing(Some(key));
    mirror.fetch(WITHIN).unwrap();
    let pushed = mirror.revert(&bad, &message("Revert"), &person(), &person(), WITHIN).unwrap();
    let reader = mirror.reader().unwrap();
    let signed = reader.signed(&keys, &pushed.commit, Some(&bad), None, Some(NOW)).unwrap();
    let by = signed.unwrap().remove(0).by.unwrap();
    assert!(by.is_ours);
    let signers = world.dir.path().join("signers");
    fs::write(&signers, format!("mainstay@example.org {}", public(&path))).unwrap();
    let config = format!("gpg.ssh.allowedSignersFile={}", signers.display());
    git(&world.origin(), &["-c", &config, "verify-commit", pushed.commit.as_str()]);
    // Keys that cannot sign are refused when they are read.
    let rsa = SigningKey::read(&world.key("rsa", "rsa")).unwrap_err();
    assert!(rsa.contains("ssh-keygen -t ed25519"), "{rsa}");
    let locked = world.dir.path().join("locked");
    let args = ["-q", "-t", "ed25519", "-N", "secret", "-f", locked.to_str().unwrap()];
    run("ssh-keygen", &args);
    assert!(SigningKey::read(&locked).unwrap_err().contains("passphrase"));
}

/// A home of gpg with one key; its configuration for git, and the public key.
fn pgp(world: &World, name: &str, expires: &str) -> (PathBuf, String) {
    let home = world.dir.path().join(name);
    fs::create_dir(&home).unwrap();
    run("chmod", &["700", home.to_str().unwrap()]);
    let at = home.to_str().unwrap();
    let user = format!("{name} <{name}@example.org>");
    let base = ["--homedir", at, "--batch", "--quiet", "--passphrase", ""];
    let make = [
        "--faked-system-time",
        "20260101T000000",
        "--quick-generate-key",
        &user,
        "ed25519",
        "sign",
        expires,
    ];
    run("gpg", &[&base[..], &make[..]].concat());
    let program = world.dir.path().join(format!("{name}.sh"));
    let script = format!(
        "#!/bin/sh\nexec gpg --homedir '{at}' --faked-system-time 20260102T000000 \"$@\"\n"
    );
    fs::write(&program, script).unwrap();
    run("chmod", &["755", program.to_str().unwrap()]);
    let public = run("gpg", &["--homedir", at, "--armor", "--export"]);
    (program, public)
}

#[test]
fn openpgp_keys_sign_until_they_expire_or_are_revoked() {
    let test = "openpgp_keys_sign_until_they_expire_or_are_revoked";
    if lacks(test, "gpg") {
        return;
    }
    let world = World::new();
    let sign = |(program, _): &(PathBuf, String), name: &str| {
        let program = format!("gpg.program={}", program.display());
        let key = format!("user.signingkey={name}@example.org");
        world.signed(&[&program, &key], name);
    };
    let read = |keys: &str| Keys::read("", "", keys, None).unwrap();
    let ann = pgp(&world, "ann", "never");
    sign(&ann, "ann");
    assert_eq!(world.newest(&read(&ann.1)), Ok("ann <ann@example.org>".to_owned()));
    assert!(world.newest(&Keys::default()).unwrap_err().contains("no pgpKeys"));
    let bob = pgp(&world, "bob", "never");
    assert!(world.newest(&read(&bob.1)).unwrap_err().contains("nobody who may sign"));
    assert_eq!(world.newest(&read(&(bob.1 + &ann.1))), Ok("ann <ann@example.org>".to_owned()));
    let old = pgp(&world, "old", "2d");
    sign(&old, "old");
    assert!(world.newest(&read(&old.1)).unwrap_err().contains("expired"));
    // Revoked by the certificate that gpg makes beside each key.
    sign(&ann, "ann");
    let home = world.dir.path().join("ann");
    let made = fs::read_dir(home.join("openpgp-revocs.d")).unwrap().next().unwrap().unwrap();
    let text = fs::read_to_string(made.path()).unwrap().replace("\n:-----", "\n-----");
    fs::write(home.join("revoke"), text).unwrap();
    let at = home.to_str().unwrap();
    run("gpg", &["--homedir", at, "--batch", "--import", home.join("revoke").to_str().unwrap()]);
    let revoked = run("gpg", &["--homedir", at, "--armor", "--export"]);
    assert!(world.newest(&read(&revoked)).unwrap_err().contains("revoked"));
}

#[test]
fn history_is_checked_from_where_it_was_agreed_upon() {
    let world = World::new();
    let old = world.commit(&[("a.yaml", "a")], "old");
    world.commit(&[("a.yaml", "b")], "new");
    let reader = world.reader();
    let count = |after: Option<&CommitId>, since: Option<&CommitId>| {
        let found = reader.signed(&Keys::default(), &world.head(), after, since, None).unwrap();
        found.unwrap().len()
    };
    assert_eq!((count(None, None), count(None, Some(&old)), count(Some(&old), None)), (2, 1, 1));
    // One that the mirror does not know hides nothing.
    let unknown = id(&"1".repeat(40));
    assert_eq!(count(Some(&unknown), None), 2);
}
