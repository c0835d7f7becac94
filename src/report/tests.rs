use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use serde_json::json;

use super::{
    fixture::{BAD, Cluster, FIRST, SECOND, START, desired, key, unscheduled_status},
    metrics::METRICS,
    *,
};
use crate::model::{CommitId, CommitName, MAIN_SOURCE, Revision, Timestamp};

fn yaml<T: serde::Serialize>(value: &T) -> String {
    serde_yaml::to_string(value).unwrap()
}

fn facts() -> LogFacts {
    LogFacts { server: "a".into(), role: "leader".into(), term: 3, ..LogFacts::default() }
}

/// One file of the status branch.
fn file(files: &StatusFiles, path: &str, expect: Expect) {
    let content = files.files.get(path).unwrap_or_else(|| panic!("{path}: {:?}", paths(files)));
    expect.assert_eq(&String::from_utf8(content.clone().unwrap()).unwrap());
}

fn paths(files: &StatusFiles) -> Vec<String> {
    let mark = |content: &Option<Vec<u8>>| if content.is_some() { "" } else { " removed" };
    files.files.iter().map(|(path, content)| format!("{path}{}", mark(content))).collect()
}

#[test]
fn status_says_commit_state_counts_and_nodes_and_hides_credentials() {
    let mut cluster = Cluster::web();
    cluster.endpoints(&["10.244.0.2", "10.244.0.3"]);
    expect![[r#"
        commit: 9f8e7d6000000000000000000000000000000001
        state: Healthy
        reason: ''
        message: ''
        problems: []
        warnings: []
        running:
          commit: 9f8e7d6000000000000000000000000000000001
          state: Healthy
          subject: 'web: change 9'
          author: Ada
          admittedAt: 2026-11-21T00:00:00Z
        counts:
          Deployment:
            desired: 1
            ready: 1
          Node:
            desired: 1
            ready: 1
          Pod:
            desired: 2
            ready: 2
          Secret:
            desired: 1
            ready: 1
          Service:
            desired: 1
            ready: 1
        nodes:
        - name: n1
          ready: true
          schedulable: true
          pods: 2
          allocatableCpuMilli: 2000
          requestedCpuMilli: 200
          allocatableMemoryBytes: 4294967296
          requestedMemoryBytes: 134217728
        sources:
        - name: main
          url: https://git.example.org/shop.git
          reference: branch main
          path: ''
          observedCommit: 9f8e7d6000000000000000000000000000000001
          lastFetchAt: 2026-11-21T00:00:00Z
          conditions:
          - type: SourceReady
            status: 'True'
            reason: Fetched
            since: 2026-11-21T00:00:00Z
        revision: 18
        log:
          server: a
          role: leader
          term: 3
          lastLogIndex: 0
          appliedIndex: 0
          members: []
    "#]]
    .assert_eq(&yaml(&status(cluster.state.view(), facts())));
}

#[test]
fn status_speaks_of_a_refused_commit_and_names_the_one_that_runs() {
    let mut cluster = Cluster::web();
    cluster.refuse();
    let told = status(cluster.state.view(), facts());
    assert_eq!(told.commit.as_deref(), Some(BAD));
    assert_eq!(told.state.map(state_word), Some("Refused"));
    assert_eq!(told.problems[0].file, "apps/web.yaml");
    assert_eq!(told.running.unwrap().commit, FIRST);
    // Taken back at the source: what was refused is history.
    cluster.source(FIRST, true);
    let told = status(cluster.state.view(), facts());
    assert_eq!((told.commit.as_deref(), told.problems.len()), (Some(FIRST), 0));
}

#[test]
fn an_empty_cluster_has_a_status_and_a_page() {
    let cluster = Cluster::empty();
    let told = status(cluster.state.view(), facts());
    assert_eq!((told.commit, told.state, told.running), (None, None, None));
    let files = status_branch(cluster.state.view(), Revision(0));
    assert!(files.whole);
    assert_eq!(paths(&files), ["README.md", "nodes/n1.yaml"]);
}

#[test]
fn the_status_branch_shows_every_object_git_owns_and_nothing_of_a_secret() {
    let mut cluster = Cluster::web();
    cluster.endpoints(&["10.244.0.2", "10.244.0.3"]);
    let files = status_branch(cluster.state.view(), Revision(0));
    assert!(files.whole);
    expect![[r#"
        [
            "README.md",
            "commits/9f8e7d6000000000000000000000000000000001.yaml",
            "nodes/n1.yaml",
            "objects/shop/Deployment-web.yaml",
            "objects/shop/Secret-key.yaml",
            "objects/shop/Service-web.yaml",
        ]
    "#]]
    .assert_eq(&format!("{:#?}\n", paths(&files)));
    file(
        &files,
        "README.md",
        expect![[r#"
            # The cluster

            **Healthy**: 9f8e7d6 “web: change 9” by Ada.

            ## Workloads

            | Workload | Ready | State | Commit | Nodes |
            |---|---|---|---|---|
            | Deployment shop/web | 2/2 | Complete | 9f8e7d6 | n1 |

            ## Services

            | Service | Address | Ports | Ready endpoints |
            |---|---|---|---|
            | shop/web | 10.98.54.169 | 80:30080/TCP | 2 |

            ## Nodes

            | Node | State | Pods | CPU asked for | Memory asked for |
            |---|---|---|---|---|
            | n1 | Ready | 2 | 0.2 of 2 | 128Mi of 4Gi |

            ## Commits

            | Commit | State | Subject | Author |
            |---|---|---|---|
            | 9f8e7d6 | Healthy | web: change 9 | Ada |
        "#]],
    );
    file(
        &files,
        "objects/shop/Deployment-web.yaml",
        expect![[r#"
        apiVersion: apps/v1
        kind: Deployment
        namespace: shop
        name: web
        commit: 9f8e7d6000000000000000000000000000000001
        source: apps/web.yaml:1
        state: Complete
        replicas:
          desired: 2
          ready: 2
        conditions:
        - type: Available
          status: 'True'
          reason: MinimumReplicasAvailable
          message: Deployment has minimum availability.
          since: 2026-11-21T00:00:09Z
        nodes:
        - n1
        pods:
        - name: web-1-0
          node: n1
          state: Running
          ready: true
          restarts: 0
        - name: web-1-1
          node: n1
          state: Running
          ready: true
          restarts: 0
    "#]],
    );
    file(
        &files,
        "objects/shop/Service-web.yaml",
        expect![[r#"
        apiVersion: v1
        kind: Service
        namespace: shop
        name: web
        commit: 9f8e7d6000000000000000000000000000000001
        source: apps/web.yaml:20
        state: Stored
        service:
          clusterIp: 10.98.54.169
          ports:
          - 80:30080/TCP
          readyEndpoints: 2
    "#]],
    );
    file(
        &files,
        "objects/shop/Secret-key.yaml",
        expect![[r#"
        apiVersion: v1
        kind: Secret
        namespace: shop
        name: key
        commit: 9f8e7d6000000000000000000000000000000001
        source: apps/web.yaml:32
        state: Stored
    "#]],
    );
    file(
        &files,
        "nodes/n1.yaml",
        expect![[r#"
        name: n1
        ready: true
        schedulable: true
        pods: 2
        allocatableCpuMilli: 2000
        requestedCpuMilli: 200
        allocatableMemoryBytes: 4294967296
        requestedMemoryBytes: 134217728
        addresses:
          InternalIP: 10.0.0.1
        podRange: 10.244.0.0/24
        conditions:
        - type: Ready
          status: 'True'
          reason: AgentReady
          since: 2026-11-21T00:00:00Z
        podNames:
        - shop/web-1-0
        - shop/web-1-1
    "#]],
    );
    let commit = format!("commits/{FIRST}.yaml");
    file(
        &files,
        &commit,
        expect![[r#"
        commit: 9f8e7d6000000000000000000000000000000001
        subject: 'web: change 9'
        author: Ada <ada@example.org>
        state: Healthy
        timings:
          committed: 2026-11-20T23:59:58Z
          seen: 2026-11-21T00:00:00Z
          admitted: 2026-11-21T00:00:00Z
          healthy: 2026-11-21T00:00:12Z
        changes:
          added: 3
          changed: 0
          pruned: 0
        counts:
          Deployment: 1
          Service: 1
    "#]],
    );
    let all: String = files.files.values().flatten().map(|b| String::from_utf8_lossy(b)).collect();
    assert!(!all.contains("aHVudGVyMg") && !all.contains("hunter2") && !all.contains("ada:secret"));
}

#[test]
fn a_change_touches_only_the_files_it_concerns() {
    let mut cluster = Cluster::web();
    let since = cluster.state.view().revision();
    let touched = |cluster: &Cluster| paths(&status_branch(cluster.state.view(), since));
    assert_eq!(touched(&cluster), [""; 0]);
    cluster.pod("web-1", "web-1-9", None, unscheduled_status());
    assert_eq!(touched(&cluster), ["README.md", "objects/shop/Deployment-web.yaml"]);
    cluster.put(&json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "n1", "namespace": "kube-node-lease" }, "spec": {},
    }));
    assert_eq!(touched(&cluster), ["README.md", "objects/shop/Deployment-web.yaml"]);
    let since = cluster.state.view().revision();
    cluster.endpoints(&["10.244.0.2"]);
    let files = status_branch(cluster.state.view(), since);
    assert_eq!(paths(&files), ["README.md", "objects/shop/Service-web.yaml"]);
}

/// What the exporter would write counts, and nothing else: Events alone leave no lag behind.
#[test]
fn the_lag_of_the_branch_counts_what_it_would_show() {
    let mut cluster = Cluster::web();
    let lag = |cluster: &Cluster| files::unexported(cluster.state.view());
    cluster.run(crate::state::Command::Exported(cluster.state.view().revision()));
    assert_eq!(lag(&cluster), 0);
    cluster.run(crate::state::Command::Write(vec![crate::state::Op::Event(
        crate::state::NewEvent {
            regarding: key("Deployment.apps/shop/web"),
            uid: "u".into(),
            warning: true,
            reason: "FailedCreate".into(),
            message: "said".into(),
            source: "deployment-controller".into(),
        },
    )]));
    assert!(cluster.state.view().exported() < cluster.state.view().revision());
    assert_eq!(lag(&cluster), 0);
    cluster.endpoints(&["10.244.0.2"]);
    assert_eq!(lag(&cluster), 1);
    cluster.run(crate::state::Command::Exported(cluster.state.view().revision()));
    assert_eq!(lag(&cluster), 0);
}

/// What is written step by step and what is written at once are the same tree.
#[test]
fn steps_and_a_whole_pass_give_the_same_tree() {
    let mut cluster = Cluster::web();
    let mut tree = status_branch(cluster.state.view(), Revision(0)).files;
    let steps: [fn(&mut Cluster); 6] = [
        |c| c.endpoints(&["10.244.0.2"]),
        |c| c.adopt(SECOND, Some(FIRST), 3, "web:2"),
        |c| c.rolled_out(SECOND, 3, 2),
        |c| c.node("n2"),
        |c| c.refuse(),
        |c| {
            let key = key("Secret/shop/key");
            let op = crate::state::Op::Delete { key, uid: String::new(), grace_seconds: None };
            c.run(crate::state::Command::Write(vec![op]));
        },
    ];
    for step in steps {
        let since = cluster.state.view().revision();
        step(&mut cluster);
        let files = status_branch(cluster.state.view(), since);
        assert!(!files.whole);
        tree.extend(files.files);
        tree.retain(|_, content| content.is_some());
        let whole = status_branch(cluster.state.view(), Revision(0)).files;
        let names =
            |t: &std::collections::BTreeMap<String, _>| t.keys().cloned().collect::<Vec<String>>();
        assert_eq!(names(&tree), names(&whole));
        assert_eq!(tree, whole);
    }
    assert!(!tree.contains_key("objects/shop/Secret-key.yaml"));
}

#[test]
fn a_status_commit_says_one_line_for_a_change_of_state() {
    let mut cluster = Cluster::web();
    let since = cluster.state.view().revision();
    cluster.adopt(SECOND, Some(FIRST), 3, "web:2");
    let message = status_commit_message(cluster.state.view(), since, 4);
    expect![[r#"
        shop/web 0/3 on 1a2b3c4, was 9f8e7d6, and 3 more

        shop/web 0/3 on 1a2b3c4, was 9f8e7d6
        1a2b3c4 admitted: “web: change 1”
        Secret shop/key on 1a2b3c4, was 9f8e7d6
        Service shop/web on 1a2b3c4, was 9f8e7d6

        Commit: 1a2b3c4000000000000000000000000000000002
        Cluster: test
        Index: 22
        Term: 4
    "#]]
    .assert_eq(&message);
    let since = cluster.state.view().revision();
    cluster.rolled_out(SECOND, 3, 2);
    let message = status_commit_message(cluster.state.view(), since, 4);
    expect![[r#"
        shop/web 3/3 on 1a2b3c4, was 9f8e7d6

        Commit: 1a2b3c4000000000000000000000000000000002
        Cluster: test
        Index: 31
        Term: 4
    "#]]
    .assert_eq(&message);
    let since = cluster.state.view().revision();
    expect![[r#"
        the cluster on 1a2b3c4

        Commit: 1a2b3c4000000000000000000000000000000002
        Cluster: test
        Index: 31
        Term: 4
    "#]]
    .assert_eq(&status_commit_message(cluster.state.view(), since, 4));
}

#[test]
fn a_note_says_what_became_of_a_commit() {
    let mut cluster = Cluster::web();
    cluster.refuse();
    let note_on = |id| note(cluster.state.view(), &CommitId::parse(id).unwrap());
    expect![[r#"
        Healthy
        3 added, 0 changed, 0 pruned
        seen 2026-11-21T00:00:00Z, after 2.0s
        admitted 2026-11-21T00:00:00Z, after 0.4s
        healthy 2026-11-21T00:00:12Z, after 12.3s
    "#]]
    .assert_eq(&note_on(FIRST));
    expect![[r#"
        Refused (Invalid): 1 problem
        seen 2026-11-21T00:01:00Z, after 62.0s
        failed 2026-11-21T00:01:00Z, after 0.3s

        Problems:
        apps/web.yaml:14: spec.replicas: Invalid value: -1: must be greater than or equal to 0
    "#]]
    .assert_eq(&note_on(BAD));
    expect![[r#"
        The cluster does not know 1a2b3c4.
    "#]]
    .assert_eq(&note_on(SECOND));
}

#[test]
fn why_walks_from_the_container_to_the_author() {
    let cluster = Cluster::web();
    let none = |_: &crate::model::Object| Vec::new();
    let steps = why(cluster.state.view(), &key("Pod/shop/web-1-0"), &none).unwrap();
    expect![[r#"
        - what: container
          name: web
          says: running since 2026-11-21T00:00:07Z (web:1)
        - what: Pod
          name: shop/web-1-0
          says: Running on n1
        - what: ReplicaSet
          name: shop/web-1
          says: 2/2 Complete
        - what: Deployment
          name: shop/web
          says: 2/2 Complete
        - what: file
          name: apps/web.yaml:1
          says: holds Deployment shop/web
        - what: commit
          name: 9f8e7d6
          says: '“web: change 9” by Ada <ada@example.org>, Healthy'
    "#]]
    .assert_eq(&yaml(&steps));
    assert_eq!(why(cluster.state.view(), &key("Pod/shop/none"), &none), None);
}

#[test]
fn why_says_node_by_node_what_a_pod_waits_for() {
    let mut cluster = Cluster::web();
    cluster.pod("web-1", "web-1-9", None, unscheduled_status());
    let view = cluster.state.view().clone();
    let uid = view.object(&key("Pod/shop/web-1-9")).unwrap().uid().to_owned();
    cluster.run(crate::state::Command::Write(vec![crate::state::Op::Event(
        crate::state::NewEvent {
            regarding: key("Pod/shop/web-1-9"),
            uid,
            warning: true,
            reason: "FailedScheduling".into(),
            message: "0/1 nodes are available: 1 Insufficient cpu.".into(),
            source: "default-scheduler".into(),
        },
    )]));
    let verdict = NodeVerdict { node: "n1".into(), reason: "Insufficient cpu".into() };
    let verdicts = |_: &crate::model::Object| vec![verdict.clone()];
    let steps = why(cluster.state.view(), &key("Pod/shop/web-1-9"), &verdicts).unwrap();
    expect![[r#"
        - what: Pod
          name: shop/web-1-9
          says: 'Pending: 0/1 nodes are available: 1 Insufficient cpu.'
        - what: node
          name: n1
          says: Insufficient cpu
        - what: warning
          name: FailedScheduling
          says: '0/1 nodes are available: 1 Insufficient cpu.'
        - what: ReplicaSet
          name: shop/web-1
          says: 2/2 Complete
        - what: Deployment
          name: shop/web
          says: 2/2 Complete
        - what: file
          name: apps/web.yaml:1
          says: holds Deployment shop/web
        - what: commit
          name: 9f8e7d6
          says: '“web: change 9” by Ada <ada@example.org>, Healthy'
    "#]]
    .assert_eq(&yaml(&steps));
}

#[test]
fn history_puts_the_newest_first() {
    let mut cluster = Cluster::web();
    cluster.refuse();
    let lines = history(cluster.state.view(), MAIN_SOURCE);
    let told: Vec<_> = lines.iter().map(|l| (l.commit.as_str(), l.running)).collect();
    assert_eq!(told, [(BAD, false), (FIRST, true)]);
    assert_eq!(lines[1].healthy_after_ms, Some(12_300));
}

#[test]
fn a_plan_names_fields_places_and_pods_and_hides_secrets() {
    let cluster = Cluster::web();
    let mut new = desired(&CommitId::parse(SECOND).unwrap(), 3, "web:2");
    let gone = [new.remove(1).object.key().clone()];
    let mut secret = new[1].object.value();
    secret["data"]["password"] = "b3RoZXI=".into();
    new[1].object = crate::model::Object::from_value(&secret).unwrap();
    let mut extra = new[0].clone();
    let mut value = extra.object.value();
    value["metadata"]["name"] = "api".into();
    extra.object = crate::model::Object::from_value(&value).unwrap();
    extra.origin.file = "apps/api.yaml".into();
    new.push(extra);
    expect![[r#"
        base: 9f8e7d6000000000000000000000000000000001
        problems: []
        warnings: []
        added:
        - object: Deployment shop/api
          file: apps/api.yaml
          line: 1
        changed:
        - object: Deployment shop/web
          file: apps/web.yaml
          line: 1
          fields:
          - path: spec.replicas
            old: 2
            new: 3
          - path: spec.template.spec.containers[web].image
            old: web:1
            new: web:2
        - object: Secret shop/key
          file: apps/web.yaml
          line: 32
          fields:
          - path: data.password
            old: (secret)
            new: (secret)
        pruned:
        - object: Service shop/web
          file: apps/web.yaml
          line: 20
        restarts:
        - shop/web-1-0
        - shop/web-1-1
    "#]]
    .assert_eq(&yaml(&diff(cluster.state.view(), &new, &gone)));
}

#[test]
fn a_plan_of_what_runs_is_empty() {
    let cluster = Cluster::web();
    let same = desired(&CommitId::parse(SECOND).unwrap(), 2, "web:1");
    let report = diff(cluster.state.view(), &same, &[]);
    assert!(report.is_empty(), "{report:?}");
    assert_eq!(report.restarts, [""; 0]);
}

#[test]
fn samples_follow_the_list_and_no_series_comes_twice() {
    let mut cluster = Cluster::web();
    cluster.refuse();
    cluster.pod("web-1", "web-1-9", None, unscheduled_status());
    let found = samples(cluster.state.view(), Timestamp(START + 90_000));
    let series: BTreeSet<_> = found.iter().map(|s| (s.metric.name, s.labels.clone())).collect();
    assert_eq!(series.len(), found.len());
    let of = |name: &str| {
        let of = found.iter().filter(|s| s.metric.name == name);
        of.map(|s| format!("{}={}", s.labels.join(","), s.value)).collect::<Vec<_>>()
    };
    assert_eq!(of("kube_deployment_status_replicas_available"), ["shop,web=2"]);
    assert_eq!(of("mainstay_divergence_commits"), ["=1"]);
    assert_eq!(of("mainstay_commit_problems"), ["=1"]);
    assert_eq!(of("mainstay_source_ready"), ["main=1"]);
    assert_eq!(of("mainstay_commit_lag_seconds"), ["seen=2", "admitted=0.4", "healthy=12.3"]);
    assert_eq!(
        of("kube_node_status_allocatable"),
        ["n1,cpu,core=2", "n1,memory,byte=4294967296", "n1,pods,integer=110"]
    );
}

#[test]
fn the_stages_of_a_commit_are_told_as_far_as_it_came() {
    let check = |timings: serde_json::Value, expect: &[&str]| {
        let mut cluster = Cluster::web();
        cluster.commit_status(FIRST, json!({ "state": "Progressing", "timings": timings }));
        let found = samples(cluster.state.view(), Timestamp(START + 9_000));
        let found = found.iter().filter(|s| s.metric.name == "mainstay_commit_lag_seconds");
        let told: Vec<_> = found.map(|s| format!("{}={}", s.labels[0], s.value)).collect();
        assert_eq!(told[1..], *expect);
    };
    let (seen, admitted) = (START, START + 400);
    let (scheduled, running, healthy) = (START + 1_400, START + 3_400, START + 8_400);
    check(
        json!({ "seenAt": seen, "admittedAt": admitted }),
        &["admitted=0.4", "scheduled=8.6", "healthy=8.6"],
    );
    check(
        json!({ "seenAt": seen, "admittedAt": admitted, "scheduledAt": scheduled }),
        &["admitted=0.4", "scheduled=1", "running=7.6", "healthy=8.6"],
    );
    check(
        json!({
            "seenAt": seen, "admittedAt": admitted, "scheduledAt": scheduled,
            "failedAt": healthy,
        }),
        &["admitted=0.4", "scheduled=1", "running=7", "healthy=8"],
    );
    check(
        json!({
            "seenAt": seen, "admittedAt": admitted, "scheduledAt": scheduled,
            "runningAt": running, "healthyAt": healthy,
        }),
        &["admitted=0.4", "scheduled=1", "running=2", "healthy=8"],
    );
}

#[test]
fn metric_names_are_sorted_single_and_say_their_unit() {
    let names: Vec<&str> = METRICS.iter().map(|m| m.name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(names, sorted);
    for metric in METRICS {
        let counter = metric.kind == metrics::MetricType::Counter;
        assert_eq!(counter, metric.name.ends_with("_total"), "{}", metric.name);
        assert!(!metric.help.is_empty(), "{}", metric.name);
    }
}

#[test]
fn a_wait_ends_with_the_commit_or_one_after_it() {
    let id = |text| CommitName::parse(text).unwrap();
    let on = |cluster: &Cluster, text, follows| {
        let report = wait_on(cluster.state.view(), &id(text), follows);
        (report.outcome, report.by, report.waiting.len())
    };
    let mut cluster = Cluster::web();
    let first = || Some(FIRST.to_owned());
    assert_eq!(on(&cluster, FIRST, false), (WaitOutcome::Healthy, first(), 0));
    // Not seen, and not part of the head: it may come. Part of the head: it is healthy with it.
    assert_eq!(on(&cluster, SECOND, false), (WaitOutcome::Pending, None, 0));
    assert_eq!(on(&cluster, SECOND, true), (WaitOutcome::Healthy, first(), 0));
    cluster.refuse();
    assert_eq!(on(&cluster, BAD, false), (WaitOutcome::Failed, Some(BAD.to_owned()), 0));
    cluster.adopt(SECOND, Some(FIRST), 3, "web:2");
    assert_eq!(on(&cluster, SECOND, false), (WaitOutcome::Pending, Some(SECOND.to_owned()), 1));
    let degraded = json!({
        "state": "Degraded", "reason": "DeadlineExceeded", "message": "not healthy after 60s",
        "timings": { "seenAt": START + 90_000, "admittedAt": START + 90_100 },
    });
    cluster.commit_status(SECOND, degraded);
    cluster.pod("web-1", "web-1-9", None, unscheduled_status());
    let report = wait_on(cluster.state.view(), &id(SECOND), false);
    expect![[r#"
        commit: 1a2b3c4000000000000000000000000000000002
        outcome: Failed
        by: 1a2b3c4000000000000000000000000000000002
        message: '1a2b3c4 is degraded (DeadlineExceeded): not healthy after 60s'
        waiting:
        - 'Deployment shop/web 0/3 Progressing; pod web-1-9 Pending: 0/1 nodes are available: 1 Insufficient cpu.'
    "#]].assert_eq(&yaml(&report));
    let healthy = json!({ "state": "Healthy", "timings": { "seenAt": START + 90_000 } });
    cluster.commit_status(SECOND, healthy);
    assert_eq!(on(&cluster, SECOND, false).0, WaitOutcome::Healthy);
    // The refused commit stays refused, whatever came after it.
    assert_eq!(on(&cluster, BAD, false).0, WaitOutcome::Failed);
    // What was healthy once and ails now may recover.
    let ailing = json!({
        "state": "Degraded", "timings": { "seenAt": START + 90_000, "healthyAt": START + 91_000 },
    });
    cluster.commit_status(SECOND, ailing);
    assert_eq!(on(&cluster, SECOND, false).0, WaitOutcome::Pending);
}

#[test]
fn events_come_in_the_order_of_time() {
    let mut cluster = Cluster::web();
    for (reason, warning) in [("ScalingReplicaSet", false), ("FailedCreate", true)] {
        cluster.run(crate::state::Command::Write(vec![crate::state::Op::Event(
            crate::state::NewEvent {
                regarding: key("Deployment.apps/shop/web"),
                uid: "u".into(),
                warning,
                reason: reason.into(),
                message: "said".into(),
                source: "deployment-controller".into(),
            },
        )]));
    }
    let told = events(cluster.state.view(), Some("shop"));
    let told: Vec<_> = told.iter().map(|e| (e.reason.as_str(), e.object.as_str())).collect();
    let web = "Deployment shop/web";
    assert_eq!(told, [("ScalingReplicaSet", web), ("FailedCreate", web)]);
    assert_eq!(events(cluster.state.view(), Some("other")), []);
}
