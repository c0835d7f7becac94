//! Secrets that are sealed in Git: sealed by `mainstay seal`, shown to who may read them, written
//! down nowhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use crate::world::{World, kubectls, repository};

/// What is looked for everywhere.
const CANARY: &str = "yellow-canary-7319";

fn mainstay(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mainstay")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Servers that open what is sealed and write down what they are asked, and a desk for plain files.
struct Sealed {
    world: World,
    desk: tempfile::TempDir,
}

impl Sealed {
    fn up(count: usize) -> Self {
        let desk = tempfile::tempdir().unwrap();
        let key = desk.path().join("age.key");
        let made = mainstay(&["seal", "--keygen", key.to_str().unwrap()]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        assert!(text(&made.stdout).starts_with("age1"), "{}", text(&made.stdout));
        let world = World::up_from(count, "", |dir| {
            repository(dir, &[]);
            let audit = dir.join("audit.log");
            // What stands behind this closes the braces.
            format!(
                ", intervalSeconds: 1, decryption: {{ageKeyFile: {}}}}}\naudit: {{level: request, \
                 file: {}",
                key.display(),
                audit.display()
            )
        });
        Self { world, desk }
    }

    /// Seals a manifest for the cluster and gives it as it would be committed.
    fn seal(&self, plain: &str, more: &[&str]) -> String {
        let file = self.desk.path().join("plain.yaml");
        fs::write(&file, plain).unwrap();
        let (file, dir) = (file.to_str().unwrap(), self.dir().join("s0"));
        let args = [&["seal", file, "--dir", dir.to_str().unwrap()], more].concat();
        let output = mainstay(&args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    fn dir(&self) -> PathBuf {
        self.world.work().parent().unwrap().to_owned()
    }

    fn kubectl(&self, at: usize, args: &[&str]) -> Result<String, String> {
        self.world.kubectl(at, "kubectl", args)
    }

    fn password(&self, at: usize) -> String {
        let args = [
            "get",
            "secret",
            "db",
            "-n",
            "free",
            "-o",
            "go-template={{.data.password | base64decode}}",
        ];
        self.kubectl(at, &args).unwrap_or_default()
    }

    fn refused(&self, args: &[&str], why: &str) {
        let told = self.kubectl(0, args).unwrap_err();
        assert!(told.contains(why), "{args:?}: {told}");
        assert!(!told.contains(CANARY), "{told}");
    }
}

fn secret(password: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: free}}\nstringData:\n  \
         password: {password}\n"
    )
}

/// Every file below a folder that holds one of these; Git's objects are looked into by Git.
fn holding(dir: &Path, needles: &[String], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            if path.join("objects").is_dir() && path.join("HEAD").is_file() {
                let all = Command::new("git")
                    .args(["cat-file", "--batch-all-objects", "--batch"])
                    .current_dir(&path)
                    .output()
                    .unwrap();
                assert!(all.status.success(), "{}", path.display());
                if has(&all.stdout, needles) {
                    found.push(path.join("objects"));
                }
            }
            holding(&path, needles, found);
        } else if kind.is_file() && has(&fs::read(&path).unwrap_or_default(), needles) {
            found.push(path);
        }
    }
}

fn has(bytes: &[u8], needles: &[String]) -> bool {
    needles.iter().any(|n| bytes.windows(n.len()).any(|part| part == n.as_bytes()))
}

#[test]
fn what_is_sealed_is_shown_to_who_may_read_it_and_written_nowhere() {
    let test = "what_is_sealed_is_shown_to_who_may_read_it_and_written_nowhere";
    if kubectls(test).is_empty() {
        return;
    }
    let sealed = Sealed::up(2);
    let world = &sealed.world;
    // The looking itself finds what is there.
    let (needles, control) = (
        vec![CANARY.to_owned(), STANDARD_NO_PAD.encode(CANARY)],
        vec!["plain-control-4821".to_owned()],
    );
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: control, namespace: free}\ndata: {a: plain-control-4821}\n";
    world.pushes("control.yaml", map);
    world.pushes("db.yaml", &sealed.seal(&secret(&format!("first-{CANARY}")), &[]));
    for at in [0, 1] {
        world.until("the secret is opened", || sealed.password(at).starts_with("first-"));
        assert_eq!(sealed.password(at), format!("first-{CANARY}"));
        let list = sealed.kubectl(at, &["get", "secrets", "-A", "-o", "json"]).unwrap();
        assert!(list.contains(&STANDARD_NO_PAD.encode(format!("first-{CANARY}"))), "{list}");
    }
    let watched = world.follow(1, "kubectl", &["get", "secrets", "-n", "free", "-w", "-o", "json"]);
    world.pushes("db.yaml", &sealed.seal(&secret(CANARY), &[]));
    world.until("the change is watched", || {
        watched.text().contains(&STANDARD_NO_PAD.encode(CANARY)[..20])
    });
    drop(watched);
    fs::remove_file(sealed.dir().join("follow-1")).unwrap();
    // Whoever may not read it is not shown it, and a table tells nothing.
    sealed.refused(&["get", "secret", "db", "-n", "free", "--as", "eve"], "forbidden");
    let table = sealed.kubectl(0, &["get", "secret", "db", "-n", "free"]).unwrap();
    assert!(table.contains("Opaque") && !table.contains(CANARY), "{table}");
    // What is asked about is told without the values.
    for args in [
        ["why", "secret/db", "--namespace", "free"].as_slice(),
        &["plan", "main"],
        &["status"],
        &["history"],
        &["events"],
    ] {
        let output =
            mainstay(&[args, &["--dir", sealed.dir().join("s0").to_str().unwrap()]].concat());
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(!has(told.as_bytes(), &needles), "{args:?}: {told}");
    }
    let metrics = sealed.kubectl(0, &["get", "--raw", "/metrics"]).unwrap();
    let events = sealed.kubectl(0, &["get", "events", "-A", "-o", "json"]).unwrap();
    let commits = sealed.kubectl(0, &["get", "commits", "-o", "json"]).unwrap();
    let wrong = sealed.seal(&secret(CANARY), &[]).replace("name: db", "name: other");
    world.pushes("db.yaml", &wrong);
    world.until("a file that was changed is refused", || {
        sealed.kubectl(0, &["get", "commits", "-o", "json"]).unwrap().contains("was changed after")
    });
    let refusals = sealed.kubectl(0, &["get", "commits", "-o", "json"]).unwrap();
    for told in [metrics, events, commits, refusals] {
        assert!(!has(told.as_bytes(), &needles), "{told}");
    }
    world.until("the status branch tells of the refusal", || {
        let log = world.git(&["log", "--notes=mainstay", "--all", "--format=%B%N"]);
        log.contains("was changed after")
    });
    let mut found = Vec::new();
    holding(&sealed.dir(), &control, &mut found);
    let told = format!("{found:?}");
    assert!(told.contains("s0/log") && told.contains("objects"), "{told}");
    let mut found = Vec::new();
    holding(&sealed.dir(), &needles, &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
}

#[test]
fn a_seal_is_neither_broken_nor_brought_along() {
    let test = "a_seal_is_neither_broken_nor_brought_along";
    if kubectls(test).is_empty() {
        return;
    }
    let sealed = Sealed::up(1);
    let world = &sealed.world;
    let both = format!(
        "{}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: beside, namespace: free}}\n",
        secret(CANARY)
    );
    let file = sealed.seal(&both, &[]);
    world.pushes("db.yaml", &file);
    world.until("the secret is opened", || sealed.password(0) == CANARY);
    let place = "edit db.yaml:1 with `sops`, or write it anew and seal it with `mainstay seal`";
    let of = ["secret", "db", "-n", "free"];
    sealed.refused(&[&["label"], &of[..], &["a=b"]].concat(), place);
    let patch = ["-p", r#"{"stringData":{"password":"x"}}"#];
    sealed.refused(&[&["patch"], &of[..], &patch].concat(), place);
    sealed.refused(&[&["patch"], &of[..], &patch, &["--dry-run=server"]].concat(), place);
    sealed.refused(&[&["delete"], &of[..]].concat(), place);
    sealed.refused(&["label", "cm", "beside", "-n", "free", "a=b"], "its file is sealed");
    // In a namespace of one's own, with what anybody reads in the repository.
    let stolen = mainstay::render::render_file("db.yaml", file.as_bytes());
    let mut stolen = stolen.objects[0].object.value();
    stolen["metadata"]["name"] = "mine".into();
    let made = world.feed(0, "kubectl", &["create", "-f", "-"], &stolen.to_string());
    assert!(made.unwrap_err().contains("written out of sealed files alone"));
    let plain = "apiVersion: v1\nkind: Secret\nmetadata: {name: mine, namespace: free}\n";
    world.feed(0, "kubectl", &["create", "-f", "-"], plain).unwrap();
    let mark = format!(
        "mainstay.io/sealed={}",
        stolen["metadata"]["annotations"]["mainstay.io/sealed"].as_str().unwrap()
    );
    sealed.refused(
        &["annotate", "secret", "mine", "-n", "free", &mark],
        "written out of sealed files alone",
    );
    // A key that nobody here has.
    let other = mainstay::seal::generate("now").1;
    world.pushes("db.yaml", &sealed.seal(&secret(CANARY), &["--recipient", &other]));
    world.until("what nobody can open is refused", || {
        let commits = sealed.kubectl(0, &["get", "commits", "-o", "json"]).unwrap();
        commits.contains(&format!("it is sealed for {other}")) && commits.contains("db.yaml")
    });
    assert_eq!(sealed.password(0), CANARY, "what runs stays");
    assert_eq!(sealed.kubectl(0, &["get", "--raw", "/readyz/sealed"]).unwrap().trim(), "ok");
    // A server with another key says so and shows nothing.
    let process = format!("/proc/{}", world.servers[0].pid());
    world.kill(0);
    world.until("it has ended", || !Path::new(&process).exists());
    let key = sealed.desk.path().join("age.key");
    fs::write(key, mainstay::seal::generate("now").0).unwrap();
    world.start_again(0);
    world.until("it is told what stays sealed", || {
        let told = sealed.kubectl(0, &["get", "--raw", "/readyz/sealed"]);
        told.is_err_and(|why| why.contains("source.decryption.ageKeyFile"))
    });
    assert!(sealed.password(0).starts_with("ENC[AES256_GCM,"), "{}", sealed.password(0));
    let log = fs::read_to_string(sealed.dir().join("s0/server.log")).unwrap();
    let told = log.lines().rfind(|line| line.contains("stays sealed")).unwrap();
    assert!(told.contains("db.yaml") && told.contains("it is sealed for age1"), "{told}");
}
