//! What a cluster tells a real Prometheus, and that an idle one rests. Needs root, dockerd, git,
//! rustc and Prometheus (Debian package `prometheus`, fetched with apt where it is not installed);
//! says so and passes where they are missing.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test of a shell")]

mod cluster;
#[path = "../pods/node.rs"]
#[allow(dead_code, reason = "shared with tests/pods")]
mod node;
mod prometheus;

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};

use self::{cluster::Cluster, prometheus::Prometheus};

/// Generous: two busy cores make everything slow.
const DEADLINE: Duration = Duration::from_secs(180);
/// Between two looks at something that has no event to wait for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long nothing may be written before a cluster counts as quiet.
const QUIET: Duration = Duration::from_secs(6);
/// How long a quiet cluster is watched: longer than any period of its loops (10 s).
const WATCHED: Duration = Duration::from_secs(15);
/// The share of one core that an idle cluster may use, in thousandths; it uses some 10, in a debug
/// build on a busy machine.
const IDLE_CPU_MILLI_MAX: u64 = 100;

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: mainstay.test/testpod:1
        args: [serve, "8080"]
        resources: {requests: {cpu: 50m, memory: 16Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"#;

const CRASH: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: crash}
spec:
  selector: {matchLabels: {app: crash}}
  template:
    metadata: {labels: {app: crash}}
    spec:
      containers:
      - {name: crash, image: "mainstay.test/testpod:1", args: [exit, "101"]}
"#;

const REFUSED: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: no}\nspec: {prots: []}\n";

/// Alerts that this cluster brings about: one commit was refused, one Deployment never comes up.
/// The others would need a dead server, node, engine or remote, or restarts over many minutes;
/// of those the data is looked for, not the alarm.
const RAISED: [&str; 2] = ["MainstayCommitRefused", "MainstayDeploymentUnavailable"];

#[test]
fn prometheus_finds_data_behind_every_panel_and_rule() {
    let test = "prometheus_finds_data_behind_every_panel_and_rule";
    let Some(tools) = prometheus::find() else {
        eprintln!("skipped {test}: needs prometheus and promtool (Debian package prometheus)");
        return;
    };
    node::inside(test, async move {
        node::load_image().await;
        let cluster = Cluster::start();
        let web = cluster.commit("web.yaml", WEB);
        cluster.wait_healthy(&web);
        cluster.commit("crash.yaml", CRASH);
        cluster.until_state("Progressing");
        let endpoints = cluster.endpoints();
        let prometheus = Prometheus::start(&tools, &endpoints);
        // While the pod that crashes is there and the newest commit is under way.
        prometheus.until_data(&prometheus::panels(), DEADLINE).await;
        cluster.commit("refused.yaml", REFUSED);
        cluster.until_state("Refused");
        for url in endpoints.values() {
            let text = prometheus::fetch(url).await;
            prometheus::promtool(&tools, &["check", "metrics"], &text);
        }
        prometheus::promtool(&tools, &["check", "rules", prometheus::RULES], "");
        prometheus.until_data(&prometheus::operands_of_rules(), DEADLINE).await;
        prometheus.until_rules_are_well(&RAISED, DEADLINE).await;
    });
}

#[test]
fn an_idle_cluster_writes_nothing_and_hardly_runs() {
    node::inside("an_idle_cluster_writes_nothing_and_hardly_runs", async {
        node::load_image().await;
        let cluster = Cluster::start();
        let web = cluster.commit("web.yaml", WEB);
        cluster.wait_healthy(&web);
        let metrics = cluster.endpoints()["metrics"].clone();
        let deadline = Instant::now() + DEADLINE;
        let mut before = cluster.files();
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            assert!(Instant::now() < deadline, "it never rests:\n{}", cluster.log());
            sleep(LOOK_EVERY).await;
            let now = cluster.files();
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        let fsyncs = async || {
            let text = prometheus::fetch(&metrics).await;
            let line = text.lines().find(|l| l.starts_with("mainstay_raft_fsync_seconds_count"));
            line.unwrap().to_owned()
        };
        let synced = fsyncs().await;
        let (files, before) = (cluster.files(), cluster.used());
        sleep(WATCHED).await;
        let after = cluster.used();
        assert_eq!(fsyncs().await, synced, "it fsyncs though nothing happens");
        let written: Vec<_> = cluster.files().into_iter().collect();
        let changed = written.iter().filter(|(path, seen)| files.get(path) != Some(seen));
        let changed: Vec<_> = changed.map(|(path, _)| path).collect();
        assert!(changed.is_empty(), "{changed:?} are written though nothing happens");
        let cpu_milli = (after.cpu_ms - before.cpu_ms) * 1000 / WATCHED.as_millis() as u64;
        eprintln!("idle: {cpu_milli}/1000 of a core, {} KiB resident", after.resident_kib);
        assert!(cpu_milli <= IDLE_CPU_MILLI_MAX, "{cpu_milli}/1000 of a core though idle");
    });
}

/// A query by the name of what asks it.
type Queries = BTreeMap<String, String>;
