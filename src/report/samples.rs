//! The metrics that follow from State, as values.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ContainerStatus, Namespace, Node, Pod, Service},
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use std::collections::BTreeMap;

use super::{
    cluster::{is_not_run, newest_commit, running},
    health::{count, is_ready},
    history::state_word,
    metrics::{Metric, metric},
};
use crate::{
    kinds::{Commit, CommitState, CommitTally, GitSource},
    model::{Object, Quantity, Timestamp},
    state::{MAIN_SOURCE, View},
};

/// One series at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its metric; one of [`METRICS`](super::metrics::METRICS).
    pub metric: &'static Metric,
    /// The values of the metric's labels, in their order.
    pub labels: Vec<String>,
    /// In the metric's unit; of a histogram the sum.
    pub value: f64,
    /// Of a histogram, how its values are spread.
    pub spread: Option<Spread>,
}

/// How the values of a histogram are spread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// How many values are at most each bound; bounds and counts grow.
    pub buckets: Vec<(f64, u64)>,
    /// How many there are.
    pub count: u64,
}

impl Sample {
    /// A sample of a metric of the list. Panics when the list has no such metric or it has other
    /// labels: every name in the code is a literal, and a test scrapes them all.
    pub fn new(name: &str, labels: &[&str], value: f64) -> Self {
        let metric = metric(name).unwrap_or_else(|| panic!("{name} is not in the list of metrics"));
        assert_eq!(metric.labels.len(), labels.len(), "labels of {name}");
        let labels = labels.iter().map(|&l| l.to_owned()).collect();
        Self { metric, labels, value, spread: None }
    }

    /// A histogram's sum and spread.
    pub fn histogram(name: &str, labels: &[&str], sum: f64, spread: Spread) -> Self {
        Self { spread: Some(spread), ..Self::new(name, labels, sum) }
    }
}

/// Every metric that follows from State. `now` measures how long the newest commit has been on its
/// way.
pub fn samples(view: &View, now: Timestamp) -> Vec<Sample> {
    let mut out = vec![
        Sample::new("mainstay_build_info", &[env!("CARGO_PKG_VERSION")], 1.0),
        Sample::new("mainstay_state_revision", &[], number(view.revision().0)),
    ];
    commits(view, now, &mut out);
    objects(view, &mut out);
    view.list::<Namespace>(None).for_each(|(object, _)| namespace(object, &mut out));
    view.list::<Node>(None).for_each(|(_, node)| of_node(node, &mut out));
    view.list::<Deployment>(None).for_each(|(object, d)| deployment(object, d, &mut out));
    view.list::<ReplicaSet>(None).for_each(|(object, set)| replica_set(object, set, &mut out));
    view.list::<Service>(None).for_each(|(object, s)| service(object, s, &mut out));
    view.list::<Pod>(None).for_each(|(object, pod)| of_pod(object, pod, &mut out));
    out
}

/// Counts stay far below 2^53, where an f64 is exact.
fn number(n: u64) -> f64 {
    n as f64
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

fn commits(view: &View, now: Timestamp, out: &mut Vec<Sample>) {
    let newest = newest_commit(view);
    let states = [
        CommitState::Admitted,
        CommitState::Progressing,
        CommitState::Healthy,
        CommitState::Degraded,
        CommitState::Refused,
        CommitState::Held,
    ];
    for state in states {
        let on = newest.is_some_and(|c| c.status.state == state);
        out.push(Sample::new("mainstay_commit_state", &[state_word(state)], flag(on)));
    }
    let problems = newest.map_or(0, |c| c.status.problems.len());
    out.push(Sample::new("mainstay_commit_problems", &[], number(problems as u64)));
    if let Some(head) = view.head() {
        out.push(Sample::new("mainstay_commit_info", &[head.commit.as_str()], 1.0));
    }
    if let Some(commit) = running(view) {
        lag(commit, now, out);
    }
    reverts(view, out);
    out.push(Sample::new("mainstay_divergence_commits", &[], number(divergence(view))));
    let lag = super::files::unexported(view);
    out.push(Sample::new("mainstay_export_lag_revisions", &[], number(lag)));
    let waiting = view.outbox().count() as u64;
    out.push(Sample::new("mainstay_export_outbox_items", &[], number(waiting)));
    // Units answer when their source does.
    let sources = view.list::<GitSource>(None).filter(|(_, source)| source.parent().is_none());
    for (object, source) in sources {
        let ready = source.status.conditions.iter().find(|c| c.type_ == "SourceReady");
        let ready = ready.is_some_and(|c| c.status == "True");
        out.push(Sample::new("mainstay_source_ready", &[&object.key().name], flag(ready)));
    }
}

/// Why commits are gone back from most: told with 0 before the first one, so that a rise is seen.
const REVERT_REASONS: [&str; 2] = ["DeadlineExceeded", "ProgressDeadlineExceeded"];

/// How many commits were gone back from, for each reason.
fn reverts(view: &View, out: &mut Vec<Sample>) {
    let mut counts = BTreeMap::from(REVERT_REASONS.map(|reason| (reason, 0)));
    let tally = tally(view.list::<Commit>(None).map(|(_, commit)| commit));
    counts.extend(tally.failed.iter().map(|(reason, count)| (reason.as_str(), *count)));
    for (reason, count) in counts {
        out.push(Sample::new("mainstay_reverts_total", &[reason], number(count)));
    }
}

/// The commits that are over, and those before them that State has forgotten.
pub(super) fn tally<'a>(commits: impl Iterator<Item = &'a Commit>) -> CommitTally {
    let mut tally = CommitTally::default();
    commits.for_each(|commit| tally.add(&commit.status));
    tally
}

/// What each stage took, or has taken so far for the stage the commit is in.
fn lag(commit: &Commit, now: Timestamp, out: &mut Vec<Sample>) {
    let timings = &commit.status.timings;
    let committed = (commit.spec.committed_at > 0).then_some(commit.spec.committed_at);
    let ended = timings.healthy_at.or(timings.failed_at).or(Some(now.0));
    // A commit that was healthy before this was noted of commits has nothing to tell.
    let so_far = |at: Option<i64>| at.or(ended.filter(|_| timings.healthy_at.is_none()));
    let stages = [
        ("seen", committed, timings.seen_at),
        ("admitted", timings.seen_at, timings.admitted_at),
        ("scheduled", timings.admitted_at, so_far(timings.scheduled_at)),
        ("running", timings.scheduled_at, so_far(timings.running_at)),
        ("healthy", timings.admitted_at, ended),
    ];
    for (stage, start, end) in stages {
        if let (Some(start), Some(end)) = (start, end) {
            let seconds = Timestamp(end).since(Timestamp(start)).as_secs_f64();
            out.push(Sample::new("mainstay_commit_lag_seconds", &[stage], seconds));
        }
    }
}

/// Commits seen after the one the cluster runs: refused or failed ones, as every other newer commit
/// would be the head.
fn divergence(view: &View) -> u64 {
    let Some(newest) = newest_commit(view) else { return 0 };
    if !is_not_run(newest) {
        return 0;
    }
    let since = view.head().map_or(i64::MIN, |head| head.at.0);
    let commits = view.commits_of(MAIN_SOURCE).filter(|(.., c)| {
        is_not_run(c)
            && c.status.timings.seen_at.or(c.status.timings.failed_at).is_some_and(|at| at > since)
    });
    (commits.count() as u64).max(1)
}

fn objects(view: &View, out: &mut Vec<Sample>) {
    let mut stored = BTreeMap::<&str, u64>::new();
    let mut owned = BTreeMap::<&str, u64>::new();
    view.objects().for_each(|o| *stored.entry(&o.key().kind.kind).or_default() += 1);
    view.origins().for_each(|(key, _)| *owned.entry(&key.kind.kind).or_default() += 1);
    for (kind, n) in stored {
        out.push(Sample::new("mainstay_objects", &[kind], number(n)));
    }
    for (kind, n) in owned {
        out.push(Sample::new("mainstay_commit_objects", &[kind], number(n)));
    }
}

fn namespace(object: &Object, out: &mut Vec<Sample>) {
    for (phase, on) in
        [("Active", !object.is_terminating()), ("Terminating", object.is_terminating())]
    {
        let labels = [object.key().name.as_str(), phase];
        out.push(Sample::new("kube_namespace_status_phase", &labels, flag(on)));
    }
}

fn of_node(node: &Node, out: &mut Vec<Sample>) {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let spec = node.spec.clone().unwrap_or_default();
    let status = node.status.clone().unwrap_or_default();
    let version = status.node_info.as_ref().map_or("", |i| i.kubelet_version.as_str());
    let addresses = status.addresses.iter().flatten();
    let internal = addresses.into_iter().find(|a| a.type_ == "InternalIP");
    let address = internal.map_or("", |a| a.address.as_str());
    let range = spec.pod_cidr.as_deref().unwrap_or_default();
    out.push(Sample::new("kube_node_info", &[name, version, address, range], 1.0));
    let unschedulable = flag(spec.unschedulable == Some(true));
    out.push(Sample::new("kube_node_spec_unschedulable", &[name], unschedulable));
    for (metric, amounts) in [
        ("kube_node_status_allocatable", &status.allocatable),
        ("kube_node_status_capacity", &status.capacity),
    ] {
        for (resource, unit, value) in amounts.iter().flatten().filter_map(amount) {
            out.push(Sample::new(metric, &[name, &resource, unit], value));
        }
    }
    for condition in status.conditions.iter().flatten() {
        for state in ["true", "false", "unknown"] {
            let on = flag(condition.status.to_lowercase() == state);
            let labels = [name, condition.type_.as_str(), state];
            out.push(Sample::new("kube_node_status_condition", &labels, on));
        }
    }
}

/// kube-state-metrics' label for a resource, its unit and the amount.
fn amount((resource, text): (&String, &QuantityText)) -> Option<(String, &'static str, f64)> {
    let value = Quantity::of(text).as_milli() as f64 / 1000.0;
    let unit = match resource.as_str() {
        "cpu" => "core",
        "memory" | "ephemeral-storage" => "byte",
        "pods" => "integer",
        _ if resource.starts_with("hugepages-") => "byte",
        _ => return None,
    };
    Some((resource.replace(['-', '.', '/'], "_"), unit, value))
}

fn deployment(object: &Object, deployment: &Deployment, out: &mut Vec<Sample>) {
    let labels = [object.key().namespace.as_str(), object.key().name.as_str()];
    let spec = &deployment.spec;
    let status = deployment.status.clone().unwrap_or_default();
    let plain = |n: Option<i64>| n.unwrap_or(0) as f64;
    let pods = |n: Option<i32>| number(count(n));
    let paused = flag(spec.paused == Some(true));
    let values = [
        ("kube_deployment_metadata_generation", plain(object.meta().generation)),
        ("kube_deployment_spec_paused", paused),
        ("kube_deployment_spec_replicas", pods(spec.replicas.or(Some(1)))),
        ("kube_deployment_status_observed_generation", plain(status.observed_generation)),
        ("kube_deployment_status_replicas", pods(status.replicas)),
        ("kube_deployment_status_replicas_available", pods(status.available_replicas)),
        ("kube_deployment_status_replicas_ready", pods(status.ready_replicas)),
        ("kube_deployment_status_replicas_unavailable", pods(status.unavailable_replicas)),
        ("kube_deployment_status_replicas_updated", pods(status.updated_replicas)),
    ];
    out.extend(values.map(|(name, value)| Sample::new(name, &labels, value)));
}

fn replica_set(object: &Object, set: &ReplicaSet, out: &mut Vec<Sample>) {
    let labels = [object.key().namespace.as_str(), object.key().name.as_str()];
    let status = set.status.clone().unwrap_or_default();
    let wanted = set.spec.replicas.or(Some(1));
    let values = [
        ("kube_replicaset_spec_replicas", count(wanted)),
        ("kube_replicaset_status_ready_replicas", count(status.ready_replicas)),
        ("kube_replicaset_status_replicas", count(Some(status.replicas))),
    ];
    out.extend(values.map(|(name, value)| Sample::new(name, &labels, number(value))));
}

fn service(object: &Object, service: &Service, out: &mut Vec<Sample>) {
    let address = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
    let labels = [&object.key().namespace, &object.key().name, object.uid(), address];
    out.push(Sample::new("kube_service_info", &labels, 1.0));
}

fn of_pod(object: &Object, pod: &Pod, out: &mut Vec<Sample>) {
    let (namespace, name) = (object.key().namespace.as_str(), object.key().name.as_str());
    let id = [namespace, name, object.uid()];
    let with = |rest: &[&str]| -> Vec<String> {
        id.iter().chain(rest).map(|&label| label.to_owned()).collect()
    };
    let mut push = |metric: &str, rest: &[&str], value: f64| {
        let labels = with(rest);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        out.push(Sample::new(metric, &labels, value));
    };
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let node = spec.node_name.as_deref().unwrap_or_default();
    let owners = object.owners().iter();
    let owner = owners.into_iter().find(|o| o.controller == Some(true));
    let (kind, by) = owner.map_or(("", ""), |o| (o.kind.as_str(), o.name.as_str()));
    let address = status.pod_ip.as_deref().unwrap_or_default();
    push("kube_pod_info", &[node, address, kind, by], 1.0);
    let current = status.phase.as_deref().unwrap_or("Pending");
    for phase in ["Pending", "Running", "Succeeded", "Failed", "Unknown"] {
        push("kube_pod_status_phase", &[phase], flag(phase == current));
    }
    for (condition, on) in [("true", is_ready(pod)), ("false", !is_ready(pod))] {
        push("kube_pod_status_ready", &[condition], flag(on));
    }
    for container in &spec.containers {
        let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        for (resource, unit, value) in requests.into_iter().flatten().filter_map(amount) {
            let labels = [container.name.as_str(), node, &resource, unit];
            push("kube_pod_container_resource_requests", &labels, value);
        }
    }
    for container in status.container_statuses.iter().flatten() {
        let name = container.name.as_str();
        push("kube_pod_container_status_ready", &[name], flag(container.ready));
        let restarts = number(count(Some(container.restart_count)));
        push("kube_pod_container_status_restarts_total", &[name], restarts);
        if let Some(reason) = waiting(container) {
            push("kube_pod_container_status_waiting_reason", &[name, reason], 1.0);
        }
    }
}

fn waiting(container: &ContainerStatus) -> Option<&str> {
    container.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}
