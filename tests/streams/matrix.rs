//! Everyday commands on pods that run: three servers, agents on two of their nodes, each kubectl
//! through a server that runs no agent.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use crate::{
    kubectl::{self, Kubectl, Protocol, Said},
    world::{self, CALM, World, until},
};

/// Every write of a user goes straight into the cluster.
const DIRECT: &str = "writes: direct\n";

/// The node of the kubectl, and those with agents.
const HAND: u8 = 1;
const AGENTS: [u8; 2] = [2, 3];

/// What kubectl 1.20 describes through versions that Kubernetes 1.37 does not have any more.
const OF_GONE_VERSIONS: [&str; 3] =
    ["cronjobs.batch", "endpointslices.discovery.k8s.io", "poddisruptionbudgets.policy"];

/// One kubectl and its cluster.
struct Hand<'a> {
    w: &'a World,
    k: Kubectl,
    is_old: bool,
}

impl Hand<'_> {
    fn run(&self, args: &[&str]) -> Said {
        self.k.run(self.w, Protocol::WebSocket, args)
    }

    /// What a command prints that must succeed.
    fn does(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{args:?}: {}{}", said.out, said.err);
        said.out
    }

    /// What a command says that must fail.
    fn fails(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_ne!(said.code, 0, "{args:?} went through: {}", said.out);
        said.err + &said.out
    }

    /// Runs a command line in a terminal.
    fn in_terminal(&self, args: &str, keys: &str) -> String {
        let line = self.k.line(Protocol::WebSocket, args);
        let mut child = self
            .w
            .inside(HAND, &["script", "-qefc", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args}: {text}");
        text
    }

    /// A manifest in a file that the kubectl finds.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.w.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn rolled_out(&self) {
        let said = self.does(&["rollout", "status", "deployment/web", "--timeout", "100s"]);
        assert!(said.contains("successfully rolled out"), "{said}");
    }

    fn version(&self) -> String {
        let path = "jsonpath={.spec.template.spec.containers[0].env[0].value}";
        self.does(&["get", "deployment", "web", "-o", path])
    }
}

fn web(replicas: u32) -> String {
    let mut object: Value = serde_json::from_str(&world::deployment("web", replicas, "1")).unwrap();
    object["metadata"]["labels"] = json!({ "app": "web" });
    object.to_string()
}

#[test]
fn everyday_commands_on_pods_that_run() {
    let test = "everyday_commands_on_pods_that_run";
    if let Some(missing) = kubectl::missing() {
        eprintln!("skipped {test}: {missing}");
        return;
    }
    let Some(w) = World::up(test, 3) else { return };
    AGENTS.iter().for_each(|node| kubectl::load_image(&w, *node));
    w.servers(3, &format!("{CALM}{DIRECT}"));
    w.agents(&AGENTS);
    let commit = w.push(&[("ns.yaml", world::NAMESPACE)], "a namespace");
    w.healthy(1, &commit);
    for version in [kubectl::NEWEST, kubectl::OLDEST] {
        let Some(program) = kubectl::prepared(version) else {
            eprintln!("skipped: {test}: with kubectl {version}, which tests/run prepare makes");
            continue;
        };
        eprintln!("-- with {}", program.display());
        let is_old = version == kubectl::OLDEST;
        let k = Kubectl::new(&w, HAND).with(program.to_str().unwrap());
        let hand = Hand { w: &w, k, is_old };
        rollouts(&hand);
        waits(&hand);
        services(&hand);
        one_shots(&hand);
        changes(&hand);
        nodes(&hand);
        descriptions(&hand);
        endings(&hand);
    }
}

fn rollouts(hand: &Hand<'_>) {
    let file = hand.file("web.json", &web(2));
    assert_eq!(hand.does(&["apply", "-f", &file]), "deployment.apps/web created\n");
    hand.rolled_out();
    hand.does(&["set", "env", "deployment/web", "VERSION=2"]);
    hand.rolled_out();
    let history = hand.does(&["rollout", "history", "deployment/web"]);
    let revisions = history.lines().filter(|line| line.starts_with(['1', '2'])).count();
    assert_eq!(revisions, 2, "{history}");
    hand.does(&["rollout", "undo", "deployment/web"]);
    hand.rolled_out();
    assert_eq!(hand.version(), "1");
    let names = ["get", "pods", "-l", "app=web", "-o", "name"];
    let before = hand.does(&names);
    hand.does(&["rollout", "restart", "deployment/web"]);
    hand.rolled_out();
    until("the pods of before are gone", || {
        let now = hand.does(&names);
        let new = now.lines().all(|pod| !before.contains(pod));
        (new && now.lines().count() == 2).then_some(())
    });
    hand.does(&["rollout", "pause", "deployment/web"]);
    hand.does(&["set", "resources", "deployment/web", "--limits", "memory=200Mi"]);
    hand.does(&["set", "serviceaccount", "deployment/web", "default"]);
    let one = "jsonpath={.status.updatedReplicas}";
    assert_ne!(hand.does(&["get", "deployment", "web", "-o", one]), "2", "it is paused");
    hand.does(&["rollout", "resume", "deployment/web"]);
    hand.rolled_out();
    let image = format!("web={}", world::IMAGE);
    hand.does(&["set", "image", "deployment/web", &image]);
    let scaled = hand.does(&["scale", "deployment/web", "--replicas", "3"]);
    assert_eq!(scaled, "deployment.apps/web scaled\n");
    hand.rolled_out();
    let hpa = hand.does(&["autoscale", "deployment", "web", "--min", "1", "--max", "3"]);
    assert!(hpa.ends_with("/web autoscaled\n"), "{hpa}");
    hand.does(&["delete", "hpa", "web"]);
}

fn waits(hand: &Hand<'_>) {
    let ready = ["wait", "pod", "-l", "app=web", "--for=condition=Ready", "--timeout=60s"];
    let said = hand.does(&ready);
    assert_eq!(said.lines().filter(|line| line.ends_with(" condition met")).count(), 3, "{said}");
    let no = hand.fails(&["wait", "deployment/web", "--for=condition=Never", "--timeout=1s"]);
    assert!(no.contains("timed out waiting for the condition"), "{no}");
    if !hand.is_old {
        let phase = "--for=jsonpath={.status.phase}=Running";
        hand.does(&["wait", "pod", "-l", "app=web", phase, "--timeout=60s"]);
    }
    let pod =
        hand.does(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"]);
    let name = format!("pod/{pod}");
    let waiting = ["wait", &name, "--for=delete", "--timeout=60s"];
    let mut child = hand.k.start(hand.w, Protocol::WebSocket, &waiting);
    hand.does(&["delete", &name, "--wait=false"]);
    let ended = until("the wait for its end", || child.try_wait().unwrap());
    assert!(ended.success());
    let gone = hand.fails(&["get", &name]);
    assert!(gone.contains("NotFound"), "{gone}");
    hand.rolled_out();
}

fn services(hand: &Hand<'_>) {
    let exposed =
        hand.does(&["expose", "deployment", "web", "--port", "80", "--target-port", "8080"]);
    assert_eq!(exposed, "service/web exposed\n");
    until("its endpoints", || {
        let path = "jsonpath={.subsets[*].addresses[*].ip}";
        let ips = hand.run(&["get", "endpoints", "web", "-o", path]).out;
        (ips.split_whitespace().count() == 3).then_some(())
    });
    let missing = hand.fails(&["port-forward", "service/web", "18090:81"]);
    assert!(missing.contains("does not have a service port 81"), "{missing}");
    // What is killed outside the node may keep its port for a while inside.
    let first = if hand.is_old { 18090 } else { 18190 };
    for (port, what, target) in [(first, "service/web", 80), (first + 1, "deployment/web", 8080)] {
        let ports = format!("{port}:{target}");
        let args = ["port-forward", what, &ports];
        let mut child = hand.k.start(hand.w, Protocol::WebSocket, &args);
        let lines = kubectl::lines(child.stdout.take().unwrap());
        let errors = kubectl::lines(child.stderr.take().unwrap());
        if lines.recv_timeout(world::DEADLINE).is_err() {
            panic!("{what} is not forwarded: {:?}", errors.iter().collect::<Vec<_>>());
        }
        let url = format!("http://127.0.0.1:{port}/env");
        let env = until("an answer", || hand.w.get(HAND, &url));
        assert!(env.contains("VERSION=1"), "{what}: {env}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    hand.does(&["delete", "service", "web"]);
}

fn one_shots(hand: &Hand<'_>) {
    let image = format!("--image={}", kubectl::IMAGE);
    let common = ["--rm", "--restart=Never", "--image-pull-policy=Never", &image];
    let piped = [&["run", "piped", "-i"], &common[..], &["--command", "--", "/bin/cat"]].concat();
    let said = hand.k.feed(hand.w, Protocol::WebSocket, &piped, b"through the pod\n");
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let all = said.out + &said.err;
    assert!(all.contains("through the pod") && all.contains("\"piped\" deleted"), "{all}");
    let line = format!("run shown -it {} --command -- /bin/sh", common.join(" "));
    let said = hand.in_terminal(&line, "test -t 0 && echo it is a $((6 * 7)); exit\r");
    assert!(said.contains("it is a 42") && said.contains("\"shown\" deleted"), "{said}");
    let gone = hand.fails(&["get", "pod", "shown"]);
    assert!(gone.contains("NotFound"), "{gone}");
    let all = hand.does(&["logs", "deployment/web", "--tail", "1", "--all-containers"]);
    assert!(all.lines().count() <= 3, "{all}");
    hand.does(&["exec", "deployment/web", "--", "/testpod", "cat", "/etc/hostname"]);
}

fn changes(hand: &Hand<'_>) {
    let labelled = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop, \
             labels: {{set: pruned}}}}\ndata: {{a: before}}\n"
        )
    };
    let both = hand.file("set.yaml", &format!("{}---\n{}", labelled("keep"), labelled("drop")));
    let list = if hand.is_old { "--prune-whitelist" } else { "--prune-allowlist" };
    let prune = ["--prune", "-l", "set=pruned", list, "core/v1/ConfigMap"];
    hand.does(&["apply", "-f", &both]);
    let fewer = hand.file("fewer.yaml", &labelled("keep").replace("before", "after"));
    let differs = hand.run(&["diff", "-f", &fewer]);
    assert!(differs.code == 1 && differs.out.contains("+  a: after"), "{}", differs.out);
    let said = hand.does(&[&["apply", "-f", &fewer], &prune[..]].concat());
    assert!(said.contains("keep configured") && said.contains("drop pruned"), "{said}");
    let same = hand.run(&["diff", "-f", &fewer]);
    assert_eq!((same.code, same.out.as_str()), (0, ""), "{}", same.err);
    let edited = hand.k.line(Protocol::WebSocket, "edit configmap keep");
    let said = world::run(
        hand.w
            .inside(HAND, &["sh", "-c", &format!("KUBE_EDITOR='sed -i s/after/edited/' {edited}")]),
    );
    assert!(said.contains("configmap/keep edited"), "{said}");
    let replaced = hand.file("forced.yaml", &labelled("keep"));
    let said = hand.does(&["replace", "--force", "-f", &replaced]);
    assert!(said.contains("keep\" deleted") && said.contains("keep replaced"), "{said}");
    std::fs::create_dir_all(hand.w.path("kustom")).unwrap();
    hand.file("kustom/map.yaml", &labelled("base"));
    let kustomization = "namePrefix: our-\nresources: [map.yaml]\n";
    hand.file("kustom/kustomization.yaml", kustomization);
    let folder = hand.w.path("kustom");
    let folder = folder.to_str().unwrap();
    assert!(hand.does(&["kustomize", folder]).contains("name: our-base"));
    assert_eq!(hand.does(&["apply", "-k", folder]), "configmap/our-base created\n");
    hand.does(&["delete", "-k", folder]);
    hand.does(&["delete", "configmap", "keep", "--wait"]);
}

fn nodes(hand: &Hand<'_>) {
    let [first, second] = AGENTS.map(|node| hand.w.host(node));
    let on = |node: &str| {
        let selector = format!("spec.nodeName={node}");
        let args = ["get", "pods", "-l", "app=web", "--field-selector", &selector, "-o", "name"];
        hand.does(&args).lines().count()
    };
    let flags = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=100s"];
    let said = hand.does(&[&["drain", &first], &flags[..]].concat());
    assert!(said.contains(&format!("node/{first} cordoned")), "{said}");
    assert!(said.contains("drained") || said.contains("evicted"), "{said}");
    hand.rolled_out();
    assert_eq!((on(&first), on(&second)), (0, 3));
    let listed = hand.does(&["get", "node", &first]);
    assert!(listed.contains("Ready,SchedulingDisabled"), "{listed}");
    assert_eq!(hand.does(&["uncordon", &first]), format!("node/{first} uncordoned\n"));
    hand.does(&["taint", "node", &first, "key=value:NoSchedule"]);
    hand.does(&["taint", "node", &first, "key:NoSchedule-"]);
    hand.does(&["label", "node", &first, "disk=fast"]);
    hand.does(&["label", "node", &first, "disk-"]);
}

/// Whatever is there can be described, and listed as YAML.
fn descriptions(hand: &Hand<'_>) {
    let names = hand.does(&["api-resources", "--verbs=list,get", "-o", "name"]);
    for resource in names.lines() {
        let told = hand.run(&["describe", resource, "-A"]);
        let gone = hand.is_old && OF_GONE_VERSIONS.contains(&resource);
        let excused = gone && told.err.contains("could not find the requested resource");
        assert!(told.code == 0 || excused, "{resource}: {}", told.err);
    }
    // The newest kubectl shows no events of several objects unless it is asked to.
    let told = hand.does(&["describe", "pods", "-l", "app=web", "--show-events"]);
    for word in ["Node:", "Started container web", "Successfully assigned", "Readiness:"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    let node = hand.does(&["describe", "node", &hand.w.host(AGENTS[1])]);
    for word in ["Non-terminated Pods:", "Allocated resources:", "Ready", "web-"] {
        assert!(node.contains(word), "{word} in {node}");
    }
    let events = hand.does(&["get", "events", "--sort-by", ".lastTimestamp"]);
    assert!(events.contains("Scheduled"), "{events}");
    if !hand.is_old {
        assert!(hand.does(&["events", "--for", "deployment/web"]).contains("ScalingReplicaSet"));
    }
}

fn endings(hand: &Hand<'_>) {
    let pod =
        hand.does(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"]);
    hand.does(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    let orphaned = hand.does(&["delete", "deployment", "web", "--cascade=orphan"]);
    assert!(orphaned.contains("\"web\" deleted"), "{orphaned}");
    let left = hand.does(&["get", "replicasets", "-l", "app=web", "-o", "name"]);
    assert!(left.contains("replicaset.apps/web-"), "{left}");
    hand.does(&["delete", "replicasets", "-l", "app=web", "--wait"]);
    until("nothing is left", || hand.does(&["get", "all", "-o", "name"]).is_empty().then_some(()));
}
