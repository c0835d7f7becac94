//! Logs, exec, attach, cp, port-forward and proxies by a real kubectl, through a server that runs
//! on another node than the pod. Each protocol that kubectl speaks is asked for. Needs root,
//! dockerd, rustc and kubectl; says so and passes where they are missing.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test of a shell")]

#[path = "../clients/environment.rs"]
mod environment;
mod kubectl;
mod matrix;
#[path = "../cluster/world.rs"]
#[allow(dead_code, reason = "shared with the tests of clusters, which use all of it")]
mod world;

use std::{io::Write, process::Stdio};

use kubectl::{Kubectl, PROTOCOLS, Protocol};
use serde_json::{Value, json};
use world::{CALM, NAMESPACE, World, until};

/// What every pod of these tests waits for, so that it ends at once when it is asked to.
const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 0.2; done";

fn pod(name: &str, containers: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop" },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": containers },
    })
    .to_string()
}

fn shell(name: &str, script: &str) -> Value {
    json!({
        "name": name, "image": kubectl::IMAGE, "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", script],
    })
}

/// Servers on both nodes, an agent on the first; kubectl asks the second.
fn begin(test: &str) -> Option<(World, Kubectl)> {
    if let Some(missing) = kubectl::missing() {
        eprintln!("skipped {test}: {missing}");
        return None;
    }
    let w = World::up(test, 2)?;
    kubectl::load_image(&w, 1);
    w.servers(2, CALM);
    w.agents(&[1]);
    let kubectl = Kubectl::new(&w, 2);
    Some((w, kubectl))
}

#[test]
fn commands_run_in_pods() {
    let Some((w, k)) = begin("commands_run_in_pods") else { return };
    let mut talker = shell("talk", "echo ready; while read line; do echo \"heard $line\"; done");
    talker["stdin"] = json!(true);
    let files = [
        ("ns.yaml", NAMESPACE.to_owned()),
        ("one.json", pod("one", &json!([shell("web", WAIT)]))),
        ("two.json", pod("two", &json!([shell("web", WAIT), shell("side", WAIT)]))),
        ("talk.json", pod("talk", &json!([talker]))),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    w.healthy(1, &w.push(&files, "pods"));

    for protocol in PROTOCOLS {
        eprintln!("-- {protocol:?}");
        exec(&w, &k, protocol);
        copy(&w, &k, protocol);
    }
    terminal(&w, &k);
    debug(&w, &k);
    refusals(&w, &k);
    for protocol in PROTOCOLS {
        attach(&w, &k, protocol);
    }
}

fn exec(w: &World, k: &Kubectl, protocol: Protocol) {
    let said =
        k.run(w, protocol, &["exec", "one", "--", "/bin/sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "out\n", "err\n"));
    let said = k.run(w, protocol, &["exec", "one", "--", "/bin/sh", "-c", "exit 7"]);
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.contains("command terminated with exit code 7"), "{}", said.err);
    let said =
        k.run(w, protocol, &["exec", "two", "-c", "side", "--", "/bin/cat", "/etc/hostname"]);
    assert_eq!(said.code, 0, "{}", said.err);
    // Input goes in whole, its end is heard, and as much comes out.
    let input: Vec<u8> = (0..3_000_000u32).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect();
    let said = k.feed(w, protocol, &["exec", "-i", "one", "--", "/bin/cat"], &input);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.bytes == input, "{} bytes of {} came back", said.bytes.len(), input.len());
    let said = k.run(w, protocol, &["exec", "one", "--", "/bin/absent"]);
    assert!(said.code == 126 || said.code == 127, "{}: {}{}", said.code, said.out, said.err);
}

fn copy(w: &World, k: &Kubectl, protocol: Protocol) {
    let (from, back) = (w.path("sent.bin"), w.path("back.bin"));
    let bytes: Vec<u8> = (0..500_000u32).map(|n| u8::try_from(n * 13 % 251).unwrap()).collect();
    std::fs::write(&from, &bytes).unwrap();
    let _absent = std::fs::remove_file(&back);
    let said = k.run(w, protocol, &["cp", from.to_str().unwrap(), "one:/tmp/there.bin"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let said = k.run(w, protocol, &["cp", "one:/tmp/there.bin", back.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(std::fs::read(&back).unwrap() == bytes, "the file changed on its way");
}

/// `kubectl debug` looks at a running container: it sees its processes, and is no part of the pod.
fn debug(w: &World, k: &Kubectl) {
    for (n, protocol) in PROTOCOLS.into_iter().enumerate() {
        let name = format!("look{n}");
        let image = format!("--image={}", kubectl::IMAGE);
        let script = "read line; echo \"pid 1 is $(cat /proc/1/comm)\"; echo \"heard $line\"";
        let args = ["debug", "-i", "one", &image, "--image-pull-policy=Never", "-q"];
        let more = ["--target=web", "-c", &name, "--", "/bin/sh", "-c", script];
        let mut child = k.start(w, protocol, &[&args[..], &more].concat());
        let mut keys = child.stdin.take().unwrap();
        keys.write_all(b"word\n").unwrap();
        let heard = kubectl::lines(child.stdout.take().unwrap());
        kubectl::wait_for_line(&heard, "pid 1 is sh");
        kubectl::wait_for_line(&heard, "heard word");
        assert!(child.wait().unwrap().success());
        let path = "{.status.ephemeralContainerStatuses[?(@.name==\"NAME\")].state}";
        let path = format!("jsonpath={}", path.replace("NAME", &name));
        let state = until("the container has ended", || {
            let said = k.run(w, protocol, &["get", "pod", "one", "-o", &path]);
            said.out.contains("terminated").then_some(said.out)
        });
        assert!(state.contains("\"exitCode\":0"), "{state}");
        let said = k.run(w, protocol, &["logs", "one", "-c", &name]);
        assert!(said.out.contains("heard word"), "{}{}", said.out, said.err);
    }
    let said = k.run(w, PROTOCOLS[0], &["get", "pod", "one", "--no-headers"]);
    assert!(said.out.contains("1/1") && said.out.contains("Running"), "{}", said.out);
}

/// `script` gives kubectl a terminal; the command in the pod has one of the same size.
fn terminal(w: &World, k: &Kubectl) {
    for protocol in PROTOCOLS {
        let inner = k.line(protocol, "exec -it one -- /bin/sh");
        let outer = format!("stty rows 31 cols 97; {inner}");
        let mut child = w
            .inside(2, &["script", "-qefc", &outer, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut keys = child.stdin.take().unwrap();
        // The size comes a moment after the shell.
        keys.write_all(b"until [ \"$(stty size)\" = '31 97' ]; do sleep 0.1; done; ").unwrap();
        keys.write_all(b"test -t 0 && echo SIZE $(stty size); exit 5\r").unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("SIZE 31 97"), "{protocol:?}: {text}");
        assert_eq!(output.status.code(), Some(5), "{protocol:?}: {text}");
    }
}

fn refusals(w: &World, k: &Kubectl) {
    let raw =
        |path: &str| k.curl(w, path, &["-H", "Connection: Upgrade", "-H", "Upgrade: SPDY/3.1"]);
    let pods = "/api/v1/namespaces/shop/pods";
    let (code, body) = raw(&format!("{pods}/none/exec?command=ls&stdout=1"));
    assert_eq!((code, body["message"].as_str()), (404, Some("pods \"none\" not found")));
    let (code, body) = raw(&format!("{pods}/two/exec?command=ls&stdout=1"));
    let text = "a container name must be specified for pod two, choose one of: [web side]";
    assert_eq!((code, body["message"].as_str()), (400, Some(text)));
    let (code, body) = raw(&format!("{pods}/two/exec?command=ls&stdout=1&container=db"));
    let text = "container db is not valid for pod two";
    assert_eq!((code, body["message"].as_str()), (400, Some(text)));
    let (code, body) = k.curl(w, &format!("{pods}/one/exec?command=ls&stdout=1"), &[]);
    assert_eq!((code, body["message"].as_str()), (400, Some("Upgrade request required")));
}

fn attach(w: &World, k: &Kubectl, protocol: Protocol) {
    let mut child = k.start(w, protocol, &["attach", "-i", "talk"]);
    let mut keys = child.stdin.take().unwrap();
    let marked = format!("{protocol:?}");
    let lines = kubectl::lines(child.stdout.take().unwrap());
    keys.write_all(format!("{marked}\n").as_bytes()).unwrap();
    kubectl::wait_for_line(&lines, &format!("heard {marked}"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn ports_and_logs_of_pods_are_reached() {
    let Some((w, k)) = begin("ports_and_logs_of_pods_are_reached") else { return };
    let web = json!({
        "name": "web", "image": world::IMAGE, "imagePullPolicy": "Never",
        "args": ["serve", "8080"], "ports": [{ "name": "http", "containerPort": 8080 }],
    });
    let mut serving: Value = serde_json::from_str(&pod("web", &json!([web]))).unwrap();
    serving["metadata"]["labels"] = json!({ "app": "web" });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    let counting = "i=0; while :; do i=$((i+1)); echo line $i; echo err $i >&2; sleep 0.2; done";
    let files = [
        ("ns.yaml", NAMESPACE.to_owned()),
        ("web.json", serving.to_string()),
        ("service.json", service.to_string()),
        ("count.json", pod("count", &json!([shell("count", counting)]))),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    w.healthy(1, &w.push(&files, "pods"));
    for protocol in PROTOCOLS {
        forward(&w, &k, protocol);
    }
    proxies(&w, &k);
    python(&w, &k);
    logs(&w, &k);
}

/// The Python client speaks WebSocket as its authors read it.
fn python(w: &World, k: &Kubectl) {
    let Some(programs) = environment::environment("ports_and_logs_of_pods_are_reached") else {
        return;
    };
    let python = programs.join("python");
    let script = format!("{}/streams.py", environment::SOURCE);
    let words = [python.to_str().unwrap(), &script, k.config(), "shop", "count", "web", "8080"];
    let said = world::run(w.inside(2, &words));
    assert!(said.ends_with("fine\n"), "{said}");
}

fn forward(w: &World, k: &Kubectl, protocol: Protocol) {
    let mut child = k.start(w, protocol, &["port-forward", "pod/web", "18080:8080", "18081:8081"]);
    let lines = kubectl::lines(child.stdout.take().unwrap());
    kubectl::wait_for_line(&lines, "Forwarding from 127.0.0.1:18081 -> 8081");
    let errors = kubectl::lines(child.stderr.take().unwrap());
    // Several connections of one session, one after the other and at once.
    for _ in 0..3 {
        assert_eq!(w.get(2, "http://127.0.0.1:18080/name").as_deref(), Some("web"), "{protocol:?}");
    }
    let many = "for i in 1 2 3 4 5 6 7 8; do curl -sf --max-time 20 http://127.0.0.1:18080/name & done; wait";
    let text = world::run(w.inside(2, &["bash", "-c", many]));
    assert_eq!(text, "web".repeat(8), "{protocol:?}");
    assert_eq!(w.get(2, "http://127.0.0.1:18081/"), None);
    kubectl::wait_for_line(&errors, "connection refused");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn proxies(w: &World, k: &Kubectl) {
    let get = |path: &str| k.text(w, &format!("/api/v1/namespaces/shop/{path}"));
    assert_eq!(get("pods/web:8080/proxy/name"), (200, "web".to_owned()));
    assert_eq!(get("pods/web/proxy/name"), (200, "web".to_owned()), "its declared port");
    assert_eq!(get("services/web:80/proxy/name"), (200, "web".to_owned()));
    assert_eq!(get("services/http:web:80/proxy/name?x=1"), (200, "web".to_owned()));
    assert_eq!(get("pods/web/proxy/ready").0, 503, "the pod's own answer");
    assert_eq!(get("pods/web/proxy").0, 301);
    let (code, text) = get("pods/web:81/proxy/");
    assert_eq!(code, 503);
    assert!(text.contains("error trying to reach service: dial tcp"), "{text}");
    assert_eq!(get("services/web:81/proxy/").0, 503);
}

fn logs(w: &World, k: &Kubectl) {
    let run = |args: &[&str]| k.run(w, Protocol::WebSocket, args);
    let said = run(&["logs", "count", "--tail", "3"]);
    assert_eq!((said.code, said.out.lines().count()), (0, 3), "{}{}", said.out, said.err);
    let said = run(&["logs", "count", "--limit-bytes", "10"]);
    assert_eq!(said.bytes.len(), 10, "{}", said.out);
    let said = run(&["logs", "count", "--timestamps", "--tail", "1"]);
    let time = said.out.split(' ').next().unwrap_or_default();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{}", said.out);
    // Nothing of before: the log began a while ago, and two lines are written every 200 ms.
    let said = run(&["logs", "count", "--since", "1s"]);
    let lines = said.out.lines().count();
    assert!((1..=20).contains(&lines) && !said.out.contains("line 1\n"), "{}", said.out);
    let said = run(&["logs", "count", "--since-time", time]);
    let first = said.out.lines().next().unwrap_or_default().to_owned();
    let counted: u32 = first.rsplit(' ').next().unwrap_or_default().parse().unwrap();
    assert!(counted > 1, "{first}");
    let said = run(&["logs", "count", "--previous"]);
    let text = "previous terminated container \"count\" in pod \"count\" not found";
    assert!(said.code == 1 && said.err.contains(text), "{}", said.err);
    let (code, body) =
        k.curl(w, "/api/v1/namespaces/shop/pods/count/log?tailLines=-1&limitBytes=0", &[]);
    assert_eq!((code, body["reason"].as_str()), (422, Some("Invalid")), "{body}");
    // One that is followed goes on, and ends when the container does.
    let mut child = k.start(w, Protocol::WebSocket, &["logs", "-f", "count", "--tail", "1"]);
    let lines = kubectl::lines(child.stdout.take().unwrap());
    let heard = kubectl::wait_for_line(&lines, "line ");
    let next: u32 = heard.rsplit(' ').next().unwrap().parse::<u32>().unwrap() + 3;
    kubectl::wait_for_line(&lines, &format!("line {next}"));
    let count = w.ids(&[1], "shop/count").into_iter().find(|(_, c)| c.name == "count").unwrap().1;
    world::run(w.harness(&["docker", "1", "kill", &count.id]));
    let ended = until("the followed log ends", || child.try_wait().unwrap());
    assert!(ended.success());
    // The one before the restart has another log.
    until("the container is restarted", || {
        let all = w.ids(&[1], "shop/count");
        all.iter().any(|(_, c)| c.name == "count" && c.running && c.id != count.id).then_some(())
    });
    let before = until("the log before the restart", || {
        let said = run(&["logs", "count", "--previous"]);
        (said.code == 0).then_some(said.out)
    });
    assert!(before.contains("line 1\n") && before.contains(&format!("line {next}\n")), "{before}");
}
