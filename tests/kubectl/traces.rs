//! What kubectl sends: every request of each everyday command, as a proxy saw it, in
//! `tests/kubectl/traces`, a file for each kubectl. `UPDATE_EXPECT=1` writes them anew.
//!
//! Discovery is asked for many groups at once, so its requests are sorted; the others stand in
//! their order.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use expect_test::expect_file;

use crate::{
    proxy::{Proxy, Seen},
    script::{RECORDED, version, words},
    world::{World, kubectls},
};

/// The most requests of the first `get pods` on a machine, of a kubectl that knows aggregated
/// discovery.
const COLD_MAX: usize = 5;

/// The commands, the first one without anything remembered.
const COMMANDS: [&str; 24] = [
    "get pods",
    "get pods",
    "get pods -o yaml",
    "get pods -A -l app=web --field-selector status.phase=Pending --sort-by metadata.name",
    "get cm --chunk-size 1",
    "get deployments,services",
    "get cm -w --request-timeout 3s",
    "describe configmap owned",
    "create configmap made --from-literal a=1",
    "label configmap made tier=front",
    "patch configmap made --type merge -p {\"data\":{\"b\":\"2\"}}",
    "apply -f apply.yaml",
    "apply --server-side --force-conflicts -f apply.yaml",
    "apply --dry-run=server -f apply.yaml",
    "diff -f apply.yaml",
    "replace -f apply.yaml",
    "delete configmap made",
    "create deployment web --image web:1",
    "scale deployment web --replicas 2",
    "rollout status deployment web --timeout 3s",
    "wait deployment web --for condition=Available --timeout 3s",
    "delete deployment web",
    "auth can-i create pods",
    "explain pods.spec.containers",
];

const APPLIED: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: made}
data: {a: one}
";

/// Whether a request asks what there is, rather than for something.
fn is_discovery(seen: &Seen) -> bool {
    let path = seen.target.split('?').next().unwrap_or_default();
    let parts = path.split('/').count();
    (path.starts_with("/api") && parts <= 3) || (path.starts_with("/apis/") && parts == 4)
}

fn written(seen: &Seen) -> String {
    let plain = |text: &str| {
        let number = regex::Regex::new(r"(resourceVersion=|timeoutSeconds=)[1-9]\d*").unwrap();
        let hash = regex::Regex::new(r"hash=[0-9A-F]+").unwrap();
        let uid = regex::Regex::new(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").unwrap();
        let text = number.replace_all(text, "$1<number>");
        let token = regex::Regex::new(r"continue=[\w-]+").unwrap();
        let text = token.replace_all(&text, "continue=<token>").into_owned();
        let text = uid.replace_all(&text, "<uid>").into_owned();
        hash.replace_all(&text, "hash=<hash>").into_owned()
    };
    let mut text = format!("{} {}\n", seen.method, plain(&in_order(&seen.target)));
    for (name, value) in [("accept", &seen.accept), ("content", &seen.content_type)] {
        if !value.is_empty() {
            text += &format!("  {name} {value}\n");
        }
    }
    text
}

/// The target with the parts of a field selector in order: kubectl draws it anew each time.
fn in_order(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let sorted = |pair: &str| match pair.strip_prefix("fieldSelector=") {
        Some(selector) => {
            let mut parts: Vec<&str> = selector.split("%2C").collect();
            parts.sort_unstable();
            format!("fieldSelector={}", parts.join("%2C"))
        }
        None => pair.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(sorted).collect();
    format!("{path}?{}", query.join("&")).trim_end_matches('?').to_owned()
}

/// Sorts what was asked of discovery before the rest.
fn ordered(seen: Vec<Seen>) -> Vec<Seen> {
    let (mut first, rest): (Vec<Seen>, Vec<Seen>) = seen.into_iter().partition(is_discovery);
    first.sort();
    [first, rest].concat()
}

fn kubectl(kubectl: &Path, proxy: &Proxy, dir: &Path, args: &str) -> Vec<Seen> {
    proxy.seen();
    let mut command = Command::new(kubectl);
    command
        .args(["--server", &proxy.url, "--namespace", "free", "--cache-dir"])
        .arg(dir.join("cache"))
        .args(words(args))
        .env("HOME", dir)
        .env("KUBECONFIG", "/dev/null")
        .current_dir(dir)
        .stdin(Stdio::null());
    // Some of them must end with an error: nothing becomes available here.
    command.output().unwrap();
    proxy.seen()
}

#[test]
fn every_kubectl_sends_what_is_written_down() {
    let test = "every_kubectl_sends_what_is_written_down";
    let all: Vec<_> = kubectls(test).into_iter().map(|found| (version(&found), found)).collect();
    for recorded in RECORDED {
        let Some((_, found)) = all.iter().find(|(version, _)| version == recorded) else {
            eprintln!("skipped: {test}: with kubectl {recorded}, which is not here");
            continue;
        };
        let world = World::up_with(1, "writes: direct\n");
        let proxy = Proxy::before(&world.servers[0]);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("apply.yaml"), APPLIED).unwrap();
        let mut text = String::new();
        for (at, args) in COMMANDS.iter().enumerate() {
            let seen = kubectl(found, &proxy, dir.path(), args);
            let is_cold = at == 0 && recorded == RECORDED[0];
            assert!(!is_cold || seen.len() <= COLD_MAX, "a cold get pods: {seen:#?}");
            assert!(!seen.is_empty(), "{args} asked nothing");
            text += &format!("$ {args}\n");
            text.extend(ordered(seen).iter().map(written));
        }
        expect_file![format!("{}/tests/kubectl/traces/{recorded}.txt", env!("CARGO_MANIFEST_DIR"))]
            .assert_eq(&text);
    }
}
