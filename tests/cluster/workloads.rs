//! What holds for the pods of real workloads: what they are given, how they end, how one version
//! follows another.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    look::{Pod, container, events, nothing_left, pods, why, workload},
    world::{CALM, NAMESPACE, World, run, throughout, until},
};

fn object(kind: &str, name: &str, rest: &Value) -> String {
    let mut value = json!({"apiVersion": "v1", "kind": kind,
        "metadata": {"name": name, "namespace": "shop"}});
    value.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    value.to_string()
}

fn begin(w: &World, agents: &[u8]) {
    begin_with(w, agents, CALM);
}

/// The same with another configuration of the server.
fn begin_with(w: &World, agents: &[u8], config: &str) {
    w.servers(1, config);
    w.agents(agents);
    let commit = w.push(&[("ns.yaml", NAMESPACE)], "namespace");
    w.healthy(1, &commit);
}

/// Pushes one Deployment and waits until it is healthy; its pods.
fn runs(w: &World, nodes: &[u8], value: &Value) -> Vec<Pod> {
    let name = value["metadata"]["name"].as_str().unwrap();
    let commit = w.push(&[(&format!("{name}.json"), &value.to_string())], name);
    w.healthy(1, &commit);
    pods(w, nodes, &format!("shop/{name}-"))
}

fn inspect(w: &World, pod: &Pod, container: &str) -> Value {
    let text = run(w.harness(&["docker", &pod.node.to_string(), "inspect", pod.id(container)]));
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

fn file(w: &World, pod: &Pod, path: &str) -> Option<String> {
    pod.get(w, "127.0.0.1:8080", &format!("/file{path}")).ok()
}

#[test]
fn pods_are_given_what_they_ask_for() {
    let test = "pods_are_given_what_they_ask_for";
    let Some(w) = World::up(test, 1) else { return };
    begin(&w, &[1]);
    let host = w.path("shared");
    let from = |key: &str, value: Value| json!({"name": key, "valueFrom": value});
    let mut web = container("web", &["serve", "8080"]);
    web["env"] = json!([
        from("GREETING", json!({"configMapKeyRef": {"name": "cfg", "key": "greeting"}})),
        from("PW", json!({"secretKeyRef": {"name": "sec", "key": "pw"}})),
        from("POD", json!({"fieldRef": {"fieldPath": "metadata.name"}})),
        from("IP", json!({"fieldRef": {"fieldPath": "status.podIP"}})),
        from("NODE", json!({"fieldRef": {"fieldPath": "spec.nodeName"}})),
        from("CPU", json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}})),
        {"name": "BOTH", "value": "$(GREETING)-$(PW)-$$(PW)-$(NOBODY)"},
    ]);
    web["envFrom"] = json!([{"configMapRef": {"name": "cfg"}, "prefix": "C_"}]);
    web["resources"] = json!({"requests": {"cpu": "100m", "memory": "32Mi"},
        "limits": {"cpu": "200m", "memory": "64Mi"}});
    let every = |action: Value| {
        let mut probe = json!({"periodSeconds": 1, "failureThreshold": 1});
        probe.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
        probe
    };
    web["startupProbe"] = every(json!({"tcpSocket": {"port": 8080}}));
    web["livenessProbe"] = every(json!({"httpGet": {"path": "/live", "port": 8080}}));
    let ready = ["/testpod", "cat", "/shared/ready"];
    web["readinessProbe"] = every(json!({"exec": {"command": ready}}));
    let write = ["/testpod", "write", "/shared/ready", "yes"];
    web["lifecycle"] = json!({"postStart": {"exec": {"command": write}}});
    web["volumeMounts"] = json!([
        {"name": "cfg", "mountPath": "/cfg"}, {"name": "sec", "mountPath": "/sec"},
        {"name": "both", "mountPath": "/shared"}, {"name": "host", "mountPath": "/host"},
    ]);
    let mut side = container("side", &["serve", "8081"]);
    side["volumeMounts"] = json!([{"name": "both", "mountPath": "/side"}]);
    let spec = json!({
        "containers": [web, side], "terminationGracePeriodSeconds": 1,
        "hostAliases": [{"ip": "10.9.8.7", "hostnames": ["old.example"]}],
        "volumes": [
            {"name": "cfg", "configMap": {"name": "cfg"}},
            {"name": "sec", "secret": {"secretName": "sec"}},
            {"name": "both", "emptyDir": {}},
            {"name": "host", "hostPath": {"path": host, "type": "DirectoryOrCreate"}},
        ],
    });
    let cfg = |text: &str| object("ConfigMap", "cfg", &json!({"data": {"greeting": text}}));
    let sec = object("Secret", "sec", &json!({"stringData": {"pw": "hunter2"}}));
    // Several documents in one file, and a List.
    let list = format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{sec}]}}"#);
    let rich = workload("rich", 1, spec).to_string();
    let all = format!("{}\n---\n{rich}\n---\n", cfg("hello"));
    let commit = w.push(&[("all.yaml", &all), ("list.json", &list)], "rich");
    w.healthy(1, &commit);
    let status = w.status(1).unwrap();
    assert_eq!(status["warnings"], json!([]), "all of this is acted on");

    let pod = pods(&w, &[1], "shop/rich-").remove(0);
    let env = pod.get(&w, "127.0.0.1:8080", "/env").unwrap();
    for line in [
        "GREETING=hello",
        "PW=hunter2",
        &format!("POD={}", pod.host()),
        &format!("IP={}", pod.ip),
        &format!("NODE={}", w.host(1)),
        "CPU=200",
        "BOTH=hello-hunter2-$(PW)-$(NOBODY)",
        "C_greeting=hello",
    ] {
        assert!(env.lines().any(|l| l == line), "{line} is not in {env}");
    }
    assert_eq!(file(&w, &pod, "/sec/pw").as_deref(), Some("hunter2"));
    assert_eq!(pod.run(&w, "side", &["cat", "/side/ready"]).1, "yes", "both see one emptyDir");
    assert_eq!(pod.run(&w, "web", &["write", "/host/mark", "here"]).0, 0);
    assert_eq!(std::fs::read_to_string(host.join("mark")).unwrap(), "here");
    assert!(file(&w, &pod, "/etc/hosts").unwrap().contains("10.9.8.7\told.example"));
    let limits = &inspect(&w, &pod, "web")["HostConfig"];
    assert_eq!(limits["Memory"], 64 << 20);
    assert_eq!(limits["CpuShares"], 102);
    assert_eq!((&limits["CpuQuota"], &limits["CpuPeriod"]), (&json!(20000), &json!(100_000)));
    // Burstable: 1000 minus the share of the machine's memory it asks for.
    assert!((2..1000).contains(&limits["OomScoreAdj"].as_i64().unwrap()), "{limits}");

    // A new ConfigMap reaches the file, not the environment, and restarts nothing.
    let all = format!("{}\n---\n{rich}\n", cfg("bye"));
    w.healthy(1, &w.push(&[("all.yaml", &all)], "bye"));
    until("the file changes", || (file(&w, &pod, "/cfg/greeting")? == "bye").then_some(()));
    assert_eq!(pods(&w, &[1], "shop/rich-"), std::slice::from_ref(&pod));

    // Its liveness goes: this container is started again, the other and the sandbox are not.
    pod.get(&w, "127.0.0.1:8080", "/toggle-live").unwrap();
    let again = until("the container was started again", || {
        let now = pods(&w, &[1], "shop/rich-").into_iter().next()?;
        now.running.get("web").is_some_and(|c| c.id != pod.id("web")).then_some(now)
    });
    assert_eq!(again.restarts("web"), 1);
    assert_eq!((again.id("side"), again.id("sandbox")), (pod.id("side"), pod.id("sandbox")));
    until("its log before that", || {
        let dir = w.server_dir(1);
        let verb =
            ["logs", "deployment/rich", "-n", "shop", "-c", "web", "--previous", "--tail", "1"];
        let output = w.mainstay(1, &[&verb[..], &["--dir", dir.to_str().unwrap()]].concat());
        (output.stdout == b"serving on 8080\n").then_some(())
    });
    let env = again.get(&w, "127.0.0.1:8080", "/env");
    assert!(env.is_ok_and(|e| e.contains("GREETING=bye")), "a new container, a new environment");

    // The namespace goes only with approval, and then everything with it.
    let work = w.path("work");
    for name in ["ns.yaml", "all.yaml", "list.json"] {
        std::fs::remove_file(work.join(name)).unwrap();
    }
    let other = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}"#;
    let refused = w.push(&[("other.yaml", other)], "no more shop");
    until("it is refused", || w.note(&refused).filter(|n| n.contains("Prune-Approved: yes")));
    let stays = "nothing goes without approval";
    assert_eq!(pods(&w, &[1], "shop/rich-"), [again], "{stays}");
    let commit = w.push(&[], "no more shop\n\nPrune-Approved: yes");
    w.healthy(1, &commit);
    nothing_left(&w, &[1], "shop/");
    assert_eq!(std::fs::read_to_string(host.join("mark")).unwrap(), "here", "the node's own file");
}

/// What is sealed in Git is plain in the pods that use it, and nowhere that the server writes.
#[test]
fn sealed_values_reach_the_pods_that_use_them() {
    let test = "sealed_values_reach_the_pods_that_use_them";
    let Some(w) = World::up(test, 1) else { return };
    let (key, recipient) = mainstay::seal::generate("2026-11-26T02:45:36Z");
    std::fs::write(w.path("age.key"), key).unwrap();
    let key = w.path("age.key").display().to_string();
    begin_with(&w, &[1], &format!("{CALM}source: {{decryption: {{ageKeyFile: {key}}}}}\n"));
    let canary = |of: &str| format!("blue-canary-{of}");
    let sealed = |of: &str| {
        let secret = object("Secret", "sec", &json!({"stringData": {"pw": canary(of)}}));
        let map = object("ConfigMap", "cfg", &json!({"data": {"word": canary(of)}}));
        let order = mainstay::seal::Order {
            path: "sec.yaml",
            recipients: std::slice::from_ref(&recipient),
            rule: &mainstay::render::sealed::Rule::usual(),
            only_encrypted: false,
            now: "2026-11-26T02:45:36Z",
        };
        let yaml = |json: String| {
            let value: Value = serde_json::from_str(&json).unwrap();
            serde_yaml::to_string(&value).unwrap()
        };
        let plain = format!("{}---\n{}", yaml(secret), yaml(map));
        mainstay::seal::seal(&plain, &order).unwrap()
    };
    let mut web = container("web", &["serve", "8080"]);
    web["env"] = json!([
        {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
        {"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "word"}}},
    ]);
    web["volumeMounts"] = json!([{"name": "sec", "mountPath": "/sec"}]);
    let volumes = json!([{"name": "sec", "secret": {"secretName": "sec"}}]);
    let spec = json!({"containers": [web], "volumes": volumes, "terminationGracePeriodSeconds": 1});
    let rich = workload("rich", 1, spec).to_string();
    w.healthy(1, &w.push(&[("rich.json", &rich), ("sec.yaml", &sealed("one"))], "rich"));
    let pod = pods(&w, &[1], "shop/rich-").remove(0);
    let env = pod.get(&w, "127.0.0.1:8080", "/env").unwrap();
    for line in ["PW", "WORD"].map(|name| format!("{name}={}", canary("one"))) {
        assert!(env.lines().any(|l| l == line), "{line} is not in {env}");
    }
    assert_eq!(file(&w, &pod, "/sec/pw"), Some(canary("one")));
    // A new one reaches the file and restarts nothing.
    w.healthy(1, &w.push(&[("sec.yaml", &sealed("two"))], "another word"));
    until("the file changes", || (file(&w, &pod, "/sec/pw")? == canary("two")).then_some(()));
    assert_eq!(pods(&w, &[1], "shop/rich-"), [pod]);
    let holds = |path: &std::path::Path, word: &str| {
        let args = ["-rlF", word, path.to_str().unwrap()];
        let found = Command::new("grep").args(args).output().unwrap();
        String::from_utf8(found.stdout).unwrap()
    };
    let log = w.agent_dir(1).join("agent.log");
    assert!(log.is_file() && holds(&w.server_dir(1), "rich").contains("log"));
    for place in [w.server_dir(1), w.path("repo.git"), log] {
        for word in [canary(""), "Ymx1ZS1jYW5hcnkt".to_owned()] {
            assert_eq!(holds(&place, &word), "");
        }
    }
}

/// What does not run says why, where one looks: in the note, in `why`, in the events. A revert
/// takes it back.
#[test]
fn what_does_not_run_says_why() {
    let test = "what_does_not_run_says_why";
    let Some(w) = World::up(test, 2) else { return };
    // What fails is looked at, and taken back by hand.
    begin_with(&w, &[1, 2], &format!("{CALM}source: {{onFailure: ignore}}\n"));
    let good = workload("web", 2, json!({"containers": [container("web", &["serve", "8080"])]}));
    let before = runs(&w, &[1, 2], &good);
    assert_eq!(before.iter().map(|p| p.node).collect::<Vec<_>>(), [1, 2], "spread over nodes");

    let broken = |name: &str, c: Value| {
        let spec = json!({"containers": [c], "terminationGracePeriodSeconds": 1});
        workload(name, 1, spec).to_string()
    };
    let mut image = container("c", &["serve", "8080"]);
    image["image"] = "127.0.0.1:5999/none:1".into();
    image["imagePullPolicy"] = "IfNotPresent".into();
    let mut unpulled: Value = serde_json::from_str(&broken("image", image)).unwrap();
    unpulled["spec"]["progressDeadlineSeconds"] = 20.into();
    let mut big = container("c", &["serve", "8080"]);
    big["resources"] = json!({"requests": {"cpu": "64"}});
    let mut elsewhere: Value =
        serde_json::from_str(&broken("far", container("c", &["serve", "8080"]))).unwrap();
    elsewhere["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    for (name, text, words) in [
        ("image", unpulled.to_string(), vec!["ImagePullBackOff", "connection refused"]),
        ("crash", broken("crash", container("c", &["exit", "3"])), vec!["exit code 3"]),
        ("big", broken("big", big), vec!["0/2 nodes are available: 2 Insufficient cpu."]),
        ("far", elsewhere.to_string(), vec!["didn't match Pod's node affinity/selector"]),
    ] {
        let path = format!("{name}.yaml");
        let commit = w.push(&[(&path, &text)], name);
        let says = |text: &str| words.iter().all(|word| text.contains(word));
        until(&format!("the status of {name}"), || {
            let status = w.status(1)?;
            (status["commit"] == commit.as_str() && says(status["message"].as_str()?)).then_some(())
        });
        if name == "image" {
            // Its progress deadline is short: the commit fails, and the note says of what.
            let note = until("the note", || w.note(&commit).filter(|n| n.contains("Degraded")));
            assert!(note.contains("connection refused"), "{note}");
        }
        until(&format!("why {name}"), || {
            let text = why(&w, &format!("deployment/{name}"));
            (words.iter().any(|word| text.contains(word)) && text.contains(&path)).then_some(())
        });
        let reason = if ["big", "far"].contains(&name) { "FailedScheduling" } else { "BackOff" };
        until(&format!("an event of {name}"), || {
            events(&w)
                .lines()
                .any(|l| l.contains(reason) && l.contains(&format!("shop/{name}-")))
                .then_some(())
        });
        assert_eq!(pods(&w, &[1, 2], "shop/web-"), before, "the others run on");
        // Taken back by a revert.
        run(Command::new("git").args(["-C", w.path("work").to_str().unwrap()]).args([
            "revert",
            "--no-edit",
            "HEAD",
        ]));
        let reverted = w.push(&[], &format!("{name} is gone"));
        w.healthy(1, &reverted);
        nothing_left(&w, &[1, 2], &format!("shop/{name}-"));
    }
    assert_eq!(pods(&w, &[1, 2], "shop/web-"), before);
}

fn follow(w: &World, object: &str) -> Child {
    let dir = w.server_dir(1);
    let verb = ["logs", object, "-n", "shop", "-f", "--dir", dir.to_str().unwrap()];
    let all = [&[env!("CARGO_BIN_EXE_mainstay")], &verb[..]].concat();
    w.inside(1, &all).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// One version follows another as its Deployment asks, and a pod has its grace to end.
#[test]
fn versions_follow_each_other_as_asked() {
    let test = "versions_follow_each_other_as_asked";
    let Some(w) = World::up(test, 1) else { return };
    begin(&w, &[1]);
    let version = |seconds: &str, grace: u32, version: &str| {
        let mut web = container("web", &["sleepy", seconds]);
        web["env"] = json!([{"name": "VERSION", "value": version}]);
        json!({"containers": [web], "terminationGracePeriodSeconds": grace})
    };
    // Recreate: all of the old are gone before one of the new is there; each ends by itself.
    let mut value = workload("one", 2, version("1", 20, "1"));
    value["spec"]["strategy"] = json!({"type": "Recreate"});
    let old = runs(&w, &[1], &value);
    assert_eq!(old.len(), 2);
    let log = follow(&w, &format!("pod/{}", old[0].host()));
    value["spec"]["template"]["spec"] = version("1", 20, "2");
    let commit = w.push(&[("one.json", &value.to_string())], "2");
    until("the new version is there", || {
        let now = pods(&w, &[1], "shop/one-");
        let new = now.iter().filter(|p| !old.iter().any(|o| o.name == p.name)).count();
        let left = now.iter().filter(|p| old.iter().any(|o| o.name == p.name)).count();
        assert!(new == 0 || left == 0, "old and new together: {now:?}");
        (new == 2).then_some(())
    });
    w.healthy(1, &commit);
    let said = log.wait_with_output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said, "serving on 80\nasked to end\nended by itself\n", "SIGTERM, then its time");

    // Grace is a bound: what does not end is killed, and not before.
    let mut stuck = workload("stuck", 1, version("300", 3, "1"));
    assert_eq!(runs(&w, &[1], &stuck).len(), 1);
    stuck["spec"]["replicas"] = 0.into();
    let begun = std::time::Instant::now();
    w.push(&[("stuck.json", &stuck.to_string())], "none");
    nothing_left(&w, &[1], "shop/stuck-");
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(3), "killed after {took:?}");
    assert!(took < Duration::from_secs(60), "killed after {took:?}");

    // Paused: a new version waits, nothing is replaced; then it goes on.
    let mut paused = workload("paused", 1, version("0", 1, "1"));
    let old = runs(&w, &[1], &paused);
    paused["spec"]["paused"] = true.into();
    paused["spec"]["template"]["spec"] = version("0", 1, "2");
    let commit = w.push(&[("paused.json", &paused.to_string())], "paused");
    until("it is admitted", || {
        w.status(1).filter(|s| s["running"]["commit"] == commit.as_str()).map(drop)
    });
    throughout(Duration::from_secs(3), "nothing is replaced", || {
        pods(&w, &[1], "shop/paused-") == old
    });
    paused["spec"]["paused"] = false.into();
    let new = runs(&w, &[1], &paused);
    let env = until("the new one answers", || new.first()?.get(&w, "127.0.0.1:80", "/env").ok());
    assert!(env.contains("VERSION=2") && new[0].name != old[0].name, "{env}");

    // minReadySeconds: available only that long after it was ready.
    let mut slow = workload("slow", 1, version("0", 1, "1"));
    slow["spec"]["minReadySeconds"] = 4.into();
    let begun = std::time::Instant::now();
    assert_eq!(runs(&w, &[1], &slow).len(), 1);
    // The time of a condition has whole seconds, so that it may count up to one too many.
    assert!(begun.elapsed() >= Duration::from_secs(3), "available after {:?}", begun.elapsed());
}
