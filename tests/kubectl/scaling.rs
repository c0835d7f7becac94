//! Autoscalers scale what Git leaves open, without a commit; people say in Git how many there are.

use crate::world::{World, kubectls};

const WEB: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: \"web:1\"}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: scaler}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: scaler, namespace: shop}]
";

/// As whom an autoscaler writes.
const SCALER: &str = "--as=system:serviceaccount:shop:scaler";

/// What must not happen: a commit by a program every few seconds, or a push that takes back what
/// was scaled.
#[test]
fn autoscalers_scale_what_git_leaves_open() {
    if kubectls("autoscalers_scale_what_git_leaves_open").is_empty() {
        return;
    }
    let world = World::up(1);
    let run = |line: &str| {
        let args: Vec<&str> = line.split(' ').collect();
        world.kubectl(0, "kubectl", &[&["-n", "shop"], args.as_slice()].concat())
    };
    let runs = |replicas: &str, image: &str| {
        let path = "jsonpath={.spec.replicas}_{.spec.template.spec.containers[0].image}";
        let found = || run(&format!("get deployment web -o {path}")).unwrap_or_default();
        world.until(&format!("{replicas} of {image}"), || found() == format!("{replicas}_{image}"));
    };
    let tip = || world.git(&["rev-parse", "HEAD"]);
    world.pushes("web.yaml", WEB);
    runs("1", "web:1");
    let first = tip();
    run(&format!("scale deployment web --replicas=5 {SCALER}")).unwrap();
    runs("5", "web:1");
    assert_eq!(tip(), first, "no commit");

    // A push of something else, and a commit through kubectl, leave the number alone.
    world.pushes("web.yaml", &WEB.replace("web:1", "web:2"));
    runs("5", "web:2");
    run("set image deployment/web web=web:3").unwrap();
    runs("5", "web:3");
    let lines = world.git(&["show", "--format=", "-U0", "HEAD"]);
    assert!(lines.contains("web:3") && !lines.contains("replicas"), "{lines}");

    // A person says how many, and from then on the file does.
    let refused = run("scale deployment web --replicas=1").unwrap_err();
    assert!(refused.contains("write `replicas: 1` there"), "{refused}");
    run("scale deployment web --replicas=3").unwrap();
    runs("3", "web:3");
    let lines = world.git(&["show", "--format=", "-U0", "HEAD"]);
    assert!(lines.contains("+  replicas: 3"), "{lines}");
    let said = tip();
    let refused = run(&format!("scale deployment web --replicas=5 {SCALER}")).unwrap_err();
    assert!(refused.contains("take `replicas` out of there"), "{refused}");
    assert_eq!(tip(), said);
}
