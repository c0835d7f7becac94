//! What somebody takes away behind Git's back comes back, and is noted.

use crate::world::{World, kubectls};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: lone, namespace: free}
spec:
  containers: [{name: c, image: \"web:1\"}]
";

#[test]
fn what_is_deleted_behind_git_comes_back_and_is_noted() {
    let test = "what_is_deleted_behind_git_comes_back_and_is_noted";
    if kubectls(test).is_empty() {
        return;
    }
    let world = World::up(1);
    let get = |args: &[&str]| world.kubectl(0, "kubectl", &[&["get"], args].concat());
    let uid = || get(&["pod", "lone", "-n", "free", "-o", "jsonpath={.metadata.uid}"]);
    world.pushes("lone.yaml", POD);
    world.until("the pod is there", || uid().is_ok());
    let first = uid().unwrap();
    world.kubectl(0, "kubectl", &["delete", "pod", "lone", "-n", "free", "--wait=false"]).unwrap();
    world.until("it is there again", || uid().is_ok_and(|uid| uid != first));
    let place = [
        "pod",
        "lone",
        "-n",
        "free",
        "-o",
        "jsonpath={.metadata.annotations.mainstay\\.io/source}",
    ];
    assert_eq!(get(&place).unwrap(), "lone.yaml:1");
    let told = || {
        let args = [
            "events",
            "-n",
            "free",
            "-o",
            "jsonpath={range .items[*]}{.reason} {.involvedObject.uid} {.message}{\"\\n\"}{end}",
        ];
        let lines = get(&args).unwrap_or_default();
        lines.lines().find(|line| line.starts_with("DriftCorrected")).map(str::to_owned)
    };
    world.until("it is noted", || told().is_some());
    let told = told().unwrap();
    assert!(told.contains(&uid().unwrap()) && told.contains("lone.yaml:1"), "{told}");
    assert!(
        told.contains("deleted behind Git's back by kubernetes-admin, and made again"),
        "{told}"
    );
    let metrics = get(&["--raw", "/metrics"]).unwrap();
    let line = "mainstay_drift_corrections_total{kind=\"Pod\"} 1";
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
    // What Git lets go stays away.
    let gone = uid().unwrap();
    world.pushes("lone.yaml", "# nothing\n");
    world.until("it goes", || uid().is_err());
    world.pushes("other.yaml", &POD.replace("lone", "other"));
    world.until("another one comes", || get(&["pod", "other", "-n", "free"]).is_ok());
    assert!(uid().is_err(), "{gone} came back");
}
