//! From a repository to a cluster that follows it, by one command.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    git_server::HttpServer,
    ssh_server::Sshd,
    world::{free_port, git, kubectls, until},
};

/// A folder with a configuration that listens where nobody does.
fn config(dir: &Path) -> String {
    let path = dir.join("server.yaml");
    let (port, metrics) = (free_port(), free_port());
    let text = format!("listen: 127.0.0.1:{port}\nmetrics: 127.0.0.1:{metrics}\n");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs mainstay: what it complained of, and its exit code.
fn mainstay(args: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

/// Stops the server of a folder when the test ends, however it ends.
struct Stops<'a>(&'a str);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        mainstay(&["server", "stop", "--dir", self.0]);
    }
}

/// What must not happen: a commit into a repository that has some, a second cluster in one folder,
/// or a cluster of a repository that cannot be reached.
#[test]
fn a_repository_becomes_a_cluster_that_follows_it_by_one_command() {
    let name = "a_repository_becomes_a_cluster_that_follows_it_by_one_command";
    if kubectls(name).is_empty() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "--quiet", "--bare", "--initial-branch", "main", "repo.git"]);
    let repository = dir.path().join("repo.git");
    git(&repository, &["config", "http.receivepack", "true"]);
    let http = HttpServer::start(dir.path(), None);
    let (url, config) = (http.url("repo.git"), config(dir.path()));
    let place = dir.path().join("s").to_str().unwrap().to_owned();
    let bootstrap =
        |url: &str| mainstay(&["bootstrap", url, "--dir", &place, "--config", &config, "--detach"]);
    let (said, code) = bootstrap(&http.url("nowhere.git"));
    assert!(code == Some(2) && said.contains("nowhere.git"), "{code:?}: {said}");
    assert!(!Path::new(&place).join("pki").exists(), "a cluster was begun of nothing");

    let (said, code) = bootstrap(&url);
    let _stops = Stops(&place);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("begins with commit"), "{said}");
    let files = git(&repository, &["ls-tree", "-r", "--name-only", "main"]);
    assert_eq!(files, "README.md\napps/configmap-hello.yaml\ncluster/namespace-apps.yaml");
    let kubeconfig = Path::new(&place).join("kubeconfig");
    let hello = || {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("--kubeconfig").arg(&kubeconfig).arg("--cache-dir").arg(dir.path());
        kubectl.args(["get", "cm", "hello", "-n", "apps", "-o", "jsonpath={.data.text}"]);
        String::from_utf8_lossy(&kubectl.output().unwrap().stdout).into_owned()
    };
    until("the first commit runs", || hello() == "from Git");
    let work = dir.path().join("work");
    git(dir.path(), &["clone", "--quiet", repository.to_str().unwrap(), "work"]);
    let file = work.join("apps/configmap-hello.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("from Git", "from a push")).unwrap();
    git(&work, &["commit", "--quiet", "--all", "--message", "change"]);
    git(&work, &["push", "--quiet", "origin", "main"]);
    until("the push runs", || hello() == "from a push");
    until("what happened is told", || {
        git(&repository, &["for-each-ref"]).contains("refs/heads/mainstay/status")
    });

    let (said, code) = bootstrap(&url);
    assert!(code == Some(0) && said.starts_with("nothing to do"), "{code:?}: {said}");
    assert_eq!(git(&repository, &["rev-list", "--count", "main"]), "2");
    let (said, code) = bootstrap("https://git.example.org/other.git");
    assert!(code == Some(2) && said.contains("follows http://127.0.0.1"), "{code:?}: {said}");

    // A folder that has commits is followed as it is.
    let other = dir.path().join("t").to_str().unwrap().to_owned();
    let config = self::config(dir.path());
    let folder = repository.to_str().unwrap();
    let (said, code) =
        mainstay(&["bootstrap", folder, "--dir", &other, "--config", &config, "--detach"]);
    let _stops = Stops(&other);
    assert!(code == Some(0) && said.contains("nothing was committed"), "{code:?}: {said}");
    assert_eq!(git(&repository, &["rev-list", "--count", "main"]), "2");
}

/// The two keys that ssh needs are asked for by name, and nothing is begun without them.
#[test]
fn a_repository_behind_ssh_asks_for_the_keys_it_needs_and_then_begins() {
    let name = "a_repository_behind_ssh_asks_for_the_keys_it_needs_and_then_begins";
    if kubectls(name).is_empty() {
        return;
    }
    let (dir, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(sshd) = Sshd::start(keys.path()) else { return };
    git(dir.path(), &["init", "--quiet", "--bare", "--initial-branch", "main", "repo.git"]);
    let repository = dir.path().join("repo.git");
    let known = dir.path().join("known_hosts");
    fs::write(&known, sshd.known_host("host")).unwrap();
    let (url, config) = (sshd.url(&repository), config(dir.path()));
    let place = dir.path().join("s").to_str().unwrap().to_owned();
    let bootstrap = |key: &str, known: Option<&Path>| {
        let key = sshd.key(key).to_str().unwrap().to_owned();
        let mut args = vec!["bootstrap", &url, "--dir", &place, "--config", &config, "--detach"];
        args.extend(["--ssh-key-file", &key]);
        args.extend(
            known.and_then(Path::to_str).into_iter().flat_map(|k| ["--known-hosts-file", k]),
        );
        mainstay(&args)
    };
    let (said, code) = bootstrap("client", None);
    assert!(code == Some(2) && said.contains("ssh-keyscan -p"), "{code:?}: {said}");
    let (said, code) = bootstrap("client-other", Some(&known));
    let public = fs::read_to_string(sshd.key("client-other.pub")).unwrap();
    let public = public.split_whitespace().nth(1).unwrap();
    assert!(code == Some(2) && said.contains(public), "{code:?}: {said}");
    assert!(!Path::new(&place).join("pki").exists(), "a cluster was begun of nothing");

    let (said, code) = bootstrap("client", Some(&known));
    let _stops = Stops(&place);
    assert!(code == Some(0) && said.contains("begins with commit"), "{code:?}: {said}");
    until("what happened is told", || {
        git(&repository, &["for-each-ref"]).contains("refs/heads/mainstay/status")
    });
}
