//! Everyday commands, with each kubectl of this machine.

use crate::world::{World, kubectls};

const MAP: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: m, namespace: free}
data: {key: one}
";

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: free}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web}]}
";

/// One kubectl against one server, in a namespace.
struct Hand<'a> {
    world: &'a World,
    kubectl: String,
    namespace: &'static str,
}

impl Hand<'_> {
    fn said(&self, args: &[&str]) -> Result<String, String> {
        let args = [&["--namespace", self.namespace], args].concat();
        self.world.kubectl(0, &self.kubectl, &args)
    }

    /// What a command prints when it does what it should.
    fn does(&self, args: &[&str]) -> String {
        self.said(args).unwrap_or_else(|e| panic!("{} {args:?}: {e}", self.kubectl))
    }

    /// What a command says when it must not do it.
    fn refuses(&self, args: &[&str]) -> String {
        match self.said(args) {
            Ok(text) => panic!("{} {args:?} went through: {text}", self.kubectl),
            Err(text) => text,
        }
    }

    fn creates(&self, manifest: &str) -> Result<String, String> {
        let args = ["create", "--validate=false", "-f", "-"];
        self.world.feed(0, &self.kubectl, &args, manifest)
    }
}

#[test]
fn every_kubectl_creates_reads_changes_and_deletes() {
    let all = kubectls("every_kubectl_creates_reads_changes_and_deletes");
    if all.is_empty() {
        return;
    }
    let world = World::up(1);
    for kubectl in all {
        let kubectl = kubectl.to_str().unwrap().to_owned();
        eprintln!("with {kubectl}");
        let hand = Hand { world: &world, kubectl, namespace: "free" };
        objects(&hand);
        workloads(&hand);
        what_git_owns(&hand);
        discovery(&hand);
    }
}

fn objects(hand: &Hand<'_>) {
    let watch =
        hand.world.follow(0, &hand.kubectl, &["get", "cm", "-n", "free", "-w", "-o", "name"]);
    hand.world.until("the watch begins", || watch.text().contains("configmap/owned"));
    assert_eq!(hand.creates(MAP).unwrap(), "configmap/m created\n");
    let again = hand.creates(MAP).unwrap_err();
    assert!(again.contains(r#"configmaps "m" already exists"#), "{again}");
    assert_eq!(hand.does(&["get", "cm", "m", "-o", "jsonpath={.data.key}"]), "one");
    let table = hand.does(&["get", "cm"]);
    assert!(table.starts_with("NAME") && table.contains("\nm "), "{table}");
    assert_eq!(hand.does(&["label", "cm", "m", "tier=front"]), "configmap/m labeled\n");
    let named = hand.does(&["get", "cm", "-l", "tier in (front)", "-o", "name"]);
    assert_eq!(named, "configmap/m\n");
    let named = hand.does(&["get", "cm", "--field-selector", "metadata.name=m", "-o", "name"]);
    assert_eq!(named, "configmap/m\n");
    let paged = hand.does(&["get", "cm", "--chunk-size=1", "-o", "name"]);
    assert_eq!(paged, "configmap/kube-root-ca.crt\nconfigmap/m\nconfigmap/owned\n");
    let deleted = hand.does(&["delete", "cm", "m"]);
    assert!(deleted.starts_with("configmap \"m\" deleted"), "{deleted}");
    let gone = hand.refuses(&["get", "cm", "m"]);
    assert_eq!(gone, "Error from server (NotFound): configmaps \"m\" not found\n");
    hand.world.until("the watch tells it all", || {
        watch.text().lines().filter(|line| *line == "configmap/m").count() == 3
    });
}

fn workloads(hand: &Hand<'_>) {
    assert_eq!(hand.creates(DEPLOYMENT).unwrap(), "deployment.apps/web created\n");
    hand.world.until("its pods are there", || {
        let pods = hand.does(&["get", "pods", "-l", "app=web", "-o", "name"]);
        pods.lines().count() == 2
    });
    assert_eq!(
        hand.does(&["scale", "deployment", "web", "--replicas=3"]),
        "deployment.apps/web scaled\n"
    );
    hand.world.until("one pod more", || {
        hand.does(&["get", "pods", "-l", "app=web", "-o", "name"]).lines().count() == 3
    });
    let told = hand.does(&["describe", "deployment", "web"]);
    for line in ["Replicas:", "3 desired", "ScalingReplicaSet", "from 2 to 3"] {
        assert!(told.contains(line), "{line} in {told}");
    }
    let waits = hand.refuses(&["rollout", "status", "deployment/web", "--timeout=1s"]);
    assert!(waits.contains("0 of 3 updated replicas are available"), "{waits}");
    hand.does(&["delete", "deployment", "web"]);
    hand.world.until("everything it owned is gone", || {
        hand.does(&["get", "replicasets,pods", "-o", "name"]).is_empty()
    });
}

fn what_git_owns(hand: &Hand<'_>) {
    let owned = hand.refuses(&["label", "namespace", "closed", "a=b"]);
    assert!(owned.contains("Forbidden") && owned.contains("edit cluster.yaml:7"), "{owned}");
    let closed = hand.creates(&MAP.replace("free", "closed")).unwrap_err();
    assert!(closed.contains("mainstay.io/writes: direct"), "{closed}");
    let kept = hand.refuses(&["delete", "namespace", "kube-system"]);
    assert!(kept.contains("this namespace may not be deleted"), "{kept}");
}

fn discovery(hand: &Hand<'_>) {
    let resources = hand.does(&["api-resources"]);
    let deployments = resources.lines().find(|line| line.starts_with("deployments "));
    let words: Vec<&str> = deployments.unwrap_or_default().split_whitespace().collect();
    assert_eq!(words, ["deployments", "deploy", "apps/v1", "true", "Deployment"]);
    let versions = hand.does(&["api-versions"]);
    assert!(versions.lines().any(|line| line == "apps/v1"), "{versions}");
    assert!(hand.does(&["version"]).contains("v1.37"));
    assert_eq!(hand.does(&["get", "--raw", "/readyz"]), "ok");
}
