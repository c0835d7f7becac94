//! What holds when the repository is away, rewritten, or somewhere else.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::world::{CALM, NAMESPACE, World, deployment, run, throughout, until};

/// The condition of the source: status and reason.
fn source_ready(w: &World) -> Option<(String, String)> {
    let status = w.status(1)?;
    let conditions = status["sources"][0]["conditions"].as_array()?.clone();
    let found = conditions.iter().find(|c| c["type"] == "SourceReady")?;
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason")))
}

fn ready(w: &World, status: &str, reason: &str) {
    let wanted = (status.to_owned(), reason.to_owned());
    until(&format!("SourceReady={status} {reason}"), || (source_ready(w)? == wanted).then_some(()));
}

#[test]
fn a_remote_that_is_down_or_rewritten_holds_nothing_up() {
    let test = "a_remote_that_is_down_or_rewritten_holds_nothing_up";
    let Some(w) = World::up(test, 1) else { return };
    w.servers(1, &format!("{CALM}source: {{intervalSeconds: 1}}\n"));
    w.agents(&[1]);
    let first = w.push(&[("ns.yaml", NAMESPACE), ("web.yaml", &deployment("web", 2, "1"))], "one");
    w.healthy(1, &first);
    ready(&w, "True", "Fetched");

    // Down in the middle of a rollout.
    let second = w.push(&[("web.yaml", &deployment("web", 2, "2"))], "two");
    until("the rollout begins", || (w.status(1)?["commit"] == second).then_some(()));
    fs::rename(w.path("repo.git"), w.path("repo.away")).unwrap();
    until("SourceReady=False", || (source_ready(&w)?.0 == "False").then_some(()));
    w.healthy(1, &second);
    let (_, reason) = source_ready(&w).unwrap();
    assert!(["Unreachable", "Missing", "ReferenceMissing"].contains(&&*reason), "{reason}");
    fs::rename(w.path("repo.away"), w.path("repo.git")).unwrap();
    ready(&w, "True", "Fetched");
    until("the note of what happened meanwhile", || {
        w.note(&second).filter(|n| n.starts_with("Healthy"))
    });
    until("the status of what happened meanwhile", || {
        w.status_file(&format!("commits/{second}.yaml")).filter(|t| t.contains("Healthy"))
    });

    // The branch is gone: the last good commit goes on.
    let before = w.ids(&[1], "shop/web");
    w.bare(&["update-ref", "-d", "refs/heads/main"]).unwrap();
    ready(&w, "False", "ReferenceMissing");
    assert_eq!(w.status(1).unwrap()["running"]["commit"], second);
    assert_eq!(w.ids(&[1], "shop/web"), before, "nothing is pruned");

    // It comes back rewritten, twice in a row: the newest wins.
    run(w.git(&["reset", "-q", "--hard", &first]));
    let third = w.commit(&[("web.yaml", &deployment("web", 1, "3"))], "three");
    w.push_head();
    let fourth = w.push(&[("web.yaml", &deployment("web", 3, "4"))], "four");
    w.healthy(1, &fourth);
    ready(&w, "True", "Fetched");
    let status = w.status(1).unwrap();
    assert_eq!(status["running"]["commit"], fourth);
    // Whether it was seen or not, it is not what runs.
    let note = w.note(&third).unwrap_or_default();
    assert!(!note.contains("Progressing"), "{note}");
    until("three pods of the newest", || (w.ids(&[1], "shop/web").len() == 6).then_some(()));
}

#[test]
fn a_rollout_that_fails_is_taken_back_by_the_cluster_itself() {
    let test = "a_rollout_that_fails_is_taken_back_by_the_cluster_itself";
    let Some(w) = World::up(test, 1) else { return };
    w.servers(1, CALM);
    w.agents(&[1]);
    let good = w.push(&[("ns.yaml", NAMESPACE), ("web.yaml", &deployment("web", 2, "1"))], "one");
    w.healthy(1, &good);
    let serving = w.ids(&[1], "shop/web");

    let broken = deployment("web", 2, "2").replace("/live", "/nowhere");
    let bad = w.push(&[("web.yaml", &broken)], "two\n\nDeploy-Deadline: 5s");
    let revert = until("the revert on the branch", || {
        w.bare(&["rev-parse", "main"]).map(|tip| tip.trim().to_owned()).filter(|tip| *tip != bad)
    });
    w.healthy(1, &revert);
    let log = w.bare(&["log", "-1", "--format=%P%n%an%n%B", &revert]).unwrap();
    assert!(log.starts_with(&format!("{bad}\nmainstay\nRevert \"two\"\n")), "{log}");
    for words in ["DeadlineExceeded", "web.yaml:1", &format!("Mainstay-Reverts: {bad}")] {
        assert!(log.contains(words), "{words} in {log}");
    }
    until("only what served before", || (w.ids(&[1], "shop/web") == serving).then_some(()));
    until("the note says what became of it", || {
        w.note(&bad).filter(|n| n.starts_with("Degraded") && n.contains("takes it back"))
    });

    // The same again is not run, and nothing is pushed for it.
    let again = w.push(&[("web.yaml", &broken)], "two again");
    until("it is refused", || {
        let status = w.status(1)?;
        (status["commit"] == again && status["reason"] == "FailedBefore").then_some(())
    });
    let status = w.status(1).unwrap();
    assert_eq!(status["running"]["commit"], revert);
    assert_eq!(w.ids(&[1], "shop/web"), serving);
}

/// A process inside a node, ended with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // What runs in a node dies with it at the latest.
        let ended = self.0.kill().and_then(|()| self.0.wait().map(drop));
        if let Err(error) = ended {
            eprintln!("a daemon of a test stays: {error}");
        }
    }
}

/// Set in the copy of this test that serves Git inside a node; names the file for its port.
const SERVE: &str = "MAINSTAY_TEST_SERVE_GIT";

#[test]
fn commits_come_over_http_at_once_by_a_signed_hook() {
    let test = "source::commits_come_over_http_at_once_by_a_signed_hook";
    if let Ok(place) = std::env::var(SERVE) {
        return serve_git(Path::new(&place));
    }
    if !Path::new("/usr/lib/git-core/git-http-backend").exists() {
        return eprintln!("skipped {test}: needs git http-backend");
    }
    let Some(w) = World::up(test, 1) else { return };
    run(std::process::Command::new("git").arg("-C").arg(w.path("repo.git")).args([
        "config",
        "http.receivepack",
        "true",
    ]));
    let place = w.path("port");
    let exe = std::env::current_exe().unwrap();
    let serve = format!("{SERVE}={}", place.display());
    let args = ["env", &serve, exe.to_str().unwrap(), "--exact", test, "--nocapture"];
    let child = w.inside(1, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _daemon = Daemon(child);
    let port: u16 = until("git over HTTP", || fs::read_to_string(&place).ok()?.parse().ok());

    // It would look again in an hour only.
    fs::write(w.path("secret"), "s3cret\n").unwrap();
    let secret = w.path("secret");
    let config =
        format!("{CALM}source: {{intervalSeconds: 3600, hookSecretFile: {}}}\n", secret.display());
    let first = w.push(&[("ns.yaml", NAMESPACE)], "one");
    w.servers_of(1, &config, &format!("http://127.0.0.1:{port}/repo.git"));
    w.healthy(1, &first);
    until("the note over HTTP", || w.note(&first).filter(|n| n.starts_with("Healthy")));

    let second = w.push(
        &[("c.yaml", r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}}"#)],
        "two",
    );
    let body = format!(r#"{{"ref": "refs/heads/main", "after": "{second}"}}"#);
    let hook = |signature: Option<&str>| {
        let url = "https://127.0.0.1:6443/hooks/git";
        let header = signature.map(|s| format!("x-hub-signature-256: sha256={s}"));
        let mut args = vec!["-d", &body];
        args.extend(header.iter().flat_map(|h| ["-H", h]));
        w.curl(1, &[&args[..], &[url]].concat()).0
    };
    let sign = |secret: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(body.as_bytes());
        let bytes = mac.finalize().into_bytes();
        bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    assert_eq!(hook(None), 401, "no signature");
    assert_eq!(hook(Some(&sign(b"guess"))), 403, "a wrong one");
    throughout(Duration::from_secs(2), "nobody looks for a forged hook", || {
        w.status(1).is_some_and(|s| s["commit"] == first)
    });
    let code = hook(Some(&sign(b"s3cret")));
    assert!((200..300).contains(&code), "{code}");
    w.healthy(1, &second);
}

#[path = "../../src/git/tests/server.rs"]
mod http_server;

/// Serves the repositories beside `place` until it is killed.
fn serve_git(place: &Path) {
    let server = http_server::HttpServer::start(place.parent().unwrap(), None);
    fs::write(place.with_extension("new"), server.port.to_string()).unwrap();
    fs::rename(place.with_extension("new"), place).unwrap();
    assert!(server.url("x").starts_with("http://"));
    loop {
        std::thread::park();
    }
}

#[test]
fn commits_come_over_ssh() {
    let test = "commits_come_over_ssh";
    if !Path::new("/usr/sbin/sshd").exists() {
        return eprintln!("skipped {test}: needs sshd");
    }
    let Some(w) = World::up(test, 1) else { return };
    let path = |name: &str| w.path(name).display().to_string();
    for key in ["host", "user"] {
        let mut keygen = std::process::Command::new("ssh-keygen");
        run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]));
    }
    fs::copy(w.path("user.pub"), w.path("authorized_keys")).unwrap();
    let config = format!(
        "Port 2222\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
         SetEnv HOME=/nonexistent\n",
        path("host"),
        path("authorized_keys")
    );
    fs::write(w.path("sshd_config"), config).unwrap();
    run(w.inside(1, &["mkdir", "-p", "/run/sshd"]));
    let log = fs::File::create(w.path("sshd.log")).unwrap();
    let args = ["/usr/sbin/sshd", "-D", "-e", "-f", &path("sshd_config")];
    let child = w.inside(1, &args).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let _daemon = Daemon(child);
    let said = || fs::read_to_string(w.path("sshd.log")).unwrap_or_default();
    until("sshd listens", || said().contains("listening").then_some(()));
    let host = fs::read_to_string(w.path("host.pub")).unwrap();
    let known: Vec<&str> = host.split_whitespace().take(2).collect();
    fs::write(w.path("known_hosts"), format!("[127.0.0.1]:2222 {}\n", known.join(" "))).unwrap();

    let first = w.push(&[("ns.yaml", NAMESPACE)], "one");
    let config = format!(
        "{CALM}source: {{intervalSeconds: 1, sshKeyFile: {}, knownHostsFile: {}}}\n",
        path("user"),
        path("known_hosts")
    );
    w.servers_of(1, &config, &format!("ssh://root@127.0.0.1:2222{}", path("repo.git")));
    w.healthy(1, &first);
    until("the note over ssh", || w.note(&first).filter(|n| n.starts_with("Healthy")));
    let second = w.push(&[("d.yaml", r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d", "namespace": "shop"}}"#)], "two");
    w.healthy(1, &second);
}
