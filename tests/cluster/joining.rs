//! Who gets in, and what others are told.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mainstay::{
    model::Timestamp,
    trust::{KeyFiles, Validity},
};

use crate::world::{CALM, NAMESPACE, World, deployment, throughout, until};

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

/// A token of the cluster's first server.
fn token(w: &World, seconds: u32) -> String {
    let dir = w.server_dir(1);
    let seconds = seconds.to_string();
    let args = ["token", "create", "--ttl-seconds", &seconds, "--joins", "1", "-o", "json"];
    let text = w.ok(1, &[&args[..], &["--dir", dir.to_str().unwrap()]].concat());
    let parts: serde_json::Value = serde_json::from_str(&text).unwrap();
    parts["token"].as_str().unwrap().to_owned()
}

/// What `agent join` says when it is refused.
fn refused(w: &World, token: &str, hash: &str, dir: &str) -> String {
    let (server, _, _) = w.join_parts();
    let dir = w.path(dir);
    let args = ["agent", "join", &server, "--token", token, "--ca-hash", hash, "--detach"];
    let (said, code) = w.fails(2, &[&args[..], &["--dir", dir.to_str().unwrap()]].concat());
    assert!(!dir.join("pki/node.crt").exists(), "nothing is left of a refused join");
    assert!([1, 2, 3].contains(&code), "{code}");
    said
}

#[test]
fn only_who_has_a_good_token_and_the_right_hash_joins() {
    let test = "only_who_has_a_good_token_and_the_right_hash_joins";
    let Some(w) = World::up(test, 2) else { return };
    w.servers(1, CALM);
    let (server, _, hash) = w.join_parts();

    // A wrong hash: nothing was sent, so the token is as good as before.
    let good = token(&w, 600);
    let wrong = format!("sha256:{}", "ab".repeat(32));
    let said = refused(&w, &good, &wrong, "a-wrong");
    assert!(said.contains(&wrong) && said.contains("nothing was sent"), "{said}");
    let said = refused(&w, &good, "sha256:12", "a-malformed");
    assert!(said.contains("is no hash"), "{said}");

    let short = token(&w, 1);
    throughout(Duration::from_millis(1500), "time passes", || true);
    let said = refused(&w, &short, &hash, "a-expired");
    assert!(said.contains("the token has expired"), "{said}");
    let said = refused(&w, "abcdef.0123456789abcdef", &hash, "a-unknown");
    assert!(said.contains("unknown token"), "{said}");
    let half = format!("{}0", &good[..good.len() - 1]);
    let other = if half == good { format!("{}1", &good[..good.len() - 1]) } else { half };
    let said = refused(&w, &other, &hash, "a-guess");
    assert!(said.contains("unknown token"), "{said}");

    // The token that survived all this is good once.
    let dir = w.agent_dir(2);
    let dir = dir.to_str().unwrap();
    let args = ["agent", "join", &server, "--token", &good, "--ca-hash", &hash, "--dir", dir];
    w.ok(2, &[&args[..], &["--address", &World::address(2), "--detach"]].concat());
    let said = refused(&w, &good, &hash, "a-replayed");
    assert!(said.contains("was used already"), "{said}");
    until("the node", || nodes(&w).contains(&w.host(2)).then_some(()));

    // A node's certificate under another node's name.
    let (intruder, own) = (w.path("intruder"), w.agent_dir(2));
    fs::create_dir_all(intruder.join("pki")).unwrap();
    for file in ["node.crt", "node.key", "ca.crt"] {
        fs::copy(own.join("pki").join(file), intruder.join("pki").join(file)).unwrap();
    }
    w.stop_agent(2);
    let config = fs::read_to_string(own.join("agent.yaml")).unwrap();
    fs::write(intruder.join("agent.yaml"), config.replace(&w.host(2), "intruder")).unwrap();
    w.ok(2, &["agent", "--dir", intruder.to_str().unwrap(), "--detach"]);
    let log = w.server_dir(1).join("server.log");
    until("the server's words about the intruder", || {
        let log = fs::read_to_string(&log).unwrap();
        log.lines().any(|l| l.contains("session ended") && l.contains("intruder")).then_some(())
    });
    assert!(!nodes(&w).iter().any(|n| n == "intruder"), "{:?}", nodes(&w));
    w.ok(2, &["agent", "stop", "--dir", intruder.to_str().unwrap()]);
}

#[test]
fn a_stranger_is_told_health_and_version_only() {
    let Some(w) = World::up("a_stranger_is_told_health_and_version_only", 2) else { return };
    w.servers(1, CALM);
    w.agents(&[2]);
    let url = |path: &str| format!("https://{}:6443{path}", World::address(1));
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(w.curl(2, &[&url(path)]).0, 200, "{path}");
    }
    let secret =
        ["/metrics", "/mainstay/v1/status", "/mainstay/v1/commits", "/mainstay/v1/objects"];
    for path in secret {
        let (code, body) = w.curl(2, &[&url(path)]);
        assert!([401, 403].contains(&code), "{path}: {code} {body}");
    }
    let post = |path: &str, body: &str, more: &[&str]| {
        let args = ["-H", "content-type: application/json", "-d", body];
        w.curl(2, &[&args[..], more, &[&url(path)]].concat())
    };
    for (path, body) in [
        ("/mainstay/v1/tokens", r#"{"ttlSeconds": 60, "joins": 1}"#),
        ("/mainstay/v1/members", r#"{"id": 7, "address": "172.31.77.2:6443"}"#),
        ("/mainstay/v1/renew", r#"{"csr": "x"}"#),
    ] {
        let (code, said) = post(path, body, &[]);
        assert!([401, 403].contains(&code), "{path}: {code} {said}");
    }
    // A node is no administrator and no server.
    let pki = w.agent_dir(2).join("pki");
    let (cert, key) = (pki.join("node.crt"), pki.join("node.key"));
    let me = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    for path in secret {
        let (code, body) = w.curl(2, &[&me[..], &[&url(path)]].concat());
        assert!([401, 403].contains(&code), "{path} as a node: {code} {body}");
    }
    let (code, said) = post("/mainstay/v1/tokens", r#"{"ttlSeconds": 60, "joins": 1}"#, &me);
    assert_eq!(code, 403, "{said}");
    let member = r#"{"id": 7, "address": "172.31.77.2:6443"}"#;
    assert_eq!(post("/mainstay/v1/members", member, &me).0, 403);
}

#[test]
fn certificates_are_renewed_before_they_end() {
    let Some(w) = World::up("certificates_are_renewed_before_they_end", 2) else { return };
    w.servers(1, CALM);
    w.agents(&[2]);
    let web = deployment("web", 1, "1");
    let commit = w.push(&[("ns.yaml", NAMESPACE), ("web.yaml", &web)], "web");
    w.healthy(1, &commit);
    let before = w.ids(&[2], "shop/web");
    w.stop_agent(2);
    w.stop_server(1);

    // All certificates were made 80 of their 90 days ago.
    let server = KeyFiles::new(w.server_dir(1).join("pki"));
    let node = KeyFiles::new(w.agent_dir(2).join("pki"));
    let ca = server.ca().unwrap();
    let then = now().plus_seconds(-80 * 86_400);
    for (keys, name) in [(&server, "server"), (&node, "node")] {
        let old = ca.renew(&keys.issued(name).unwrap().certificate, then).unwrap();
        keys.write_issued(name, &old).unwrap();
    }
    let days_left = |keys: &KeyFiles, name: &str| {
        let validity = Validity::of(&keys.issued(name).unwrap().certificate).unwrap();
        validity.until.since(now()).as_secs() / 86_400
    };
    assert_eq!((days_left(&server, "server"), days_left(&node, "node")), (9, 9));
    w.start_server(1);
    assert_eq!(days_left(&server, "server"), 89);
    w.start_agent(2);
    until("the node's new certificate", || (days_left(&node, "node") == 89).then_some(()));

    // Both go on with them: a session, logs from the node's own port, the same containers.
    until("the node is ready", || {
        let status = w.status(1)?;
        let nodes = status["nodes"].as_array()?.clone();
        nodes.iter().any(|n| n["ready"] == true).then_some(())
    });
    let dir = w.server_dir(1);
    until("a log by the new certificate", || {
        let pod = before[0].1.pod.strip_prefix("shop/").unwrap();
        let args = ["logs", pod, "-n", "shop", "--dir", dir.to_str().unwrap()];
        let output = w.mainstay(1, &args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("serving on 8080").then_some(())
    });
    let commit = w.push(&[("web.yaml", &deployment("web", 2, "1"))], "more");
    w.healthy(1, &commit);
    let after = w.ids(&[2], "shop/web");
    assert!(before.iter().all(|c| after.contains(c)), "{before:#?}\n{after:#?}");
}

fn nodes(w: &World) -> Vec<String> {
    let status = w.status(1).unwrap();
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().map(|n| n["name"].as_str().unwrap().to_owned()).collect()
}
