//! Every metric there is: servers, agents, `docs/metrics.md` and the dashboards take their names
//! from here.
//!
//! A name from kube-state-metrics, cAdvisor or Kubernetes' API server means what it means there,
//! with the same labels; `mainstay_…` is what nobody else has. Label values come from closed sets
//! or name objects of the cluster.

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// Only grows, and starts at zero with its process (or its container).
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by size; only grows.
    Histogram,
}

/// Who serves a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Servers compute it from State; every server says the same.
    State,
    /// Each server says it of itself.
    Server,
    /// Each agent says it of its node.
    Agent,
    /// Servers compute it from State, in the words of Flux, for those who ask for these.
    Flux,
    /// The same in the words of Argo CD.
    ArgoCd,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As it is scraped.
    pub name: &'static str,
    /// What it says; ends with the unit.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: MetricType,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Who serves it.
    pub served: Served,
}

const fn of(
    served: Served,
    kind: MetricType,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, help, kind, labels, served }
}

use MetricType::{Counter, Gauge, Histogram};
use Served::{Agent, ArgoCd, Flux, Server, State};

const LANE: &[&str] = &["flow_schema", "priority_level"];
const DEPLOYMENT: &[&str] = &["namespace", "deployment"];
const SET: &[&str] = &["namespace", "replicaset"];
const CONTAINER: &[&str] = &["namespace", "pod", "uid", "container"];
const CADVISOR: &[&str] = &["namespace", "pod", "container"];
const APP: &[&str] = &[
    "namespace",
    "name",
    "project",
    "autosync_enabled",
    "repo",
    "dest_server",
    "dest_namespace",
    "sync_status",
    "health_status",
    "operation",
];
const TOOLKIT: &[&str] = &[
    "customresource_group",
    "customresource_kind",
    "customresource_version",
    "exported_namespace",
    "name",
    "ready",
    "suspended",
    "revision",
    "url",
    "source_name",
];
const RESOURCE: &[&str] = &["node", "resource", "unit"];

/// Every metric, by name.
pub const METRICS: &[Metric] = &[
    of(
        Server,
        Counter,
        "apiserver_audit_error_total",
        &["plugin"],
        "Audit events that are not in the log, in events",
    ),
    of(Server, Counter, "apiserver_audit_event_total", &[], "Audit events, in events"),
    of(
        Server,
        Gauge,
        "apiserver_flowcontrol_current_executing_requests",
        LANE,
        "Requests being answered, in requests",
    ),
    of(
        Server,
        Gauge,
        "apiserver_flowcontrol_current_inqueue_requests",
        LANE,
        "Requests that wait for their turn, in requests",
    ),
    of(
        Server,
        Counter,
        "apiserver_flowcontrol_dispatched_requests_total",
        LANE,
        "Requests that had their turn, in requests",
    ),
    of(
        Server,
        Counter,
        "apiserver_flowcontrol_rejected_requests_total",
        &["flow_schema", "priority_level", "reason"],
        "Requests told to come back later, in requests",
    ),
    of(ArgoCd, Gauge, "argocd_app_info", APP, "A source the cluster follows, always 1"),
    of(
        ArgoCd,
        Counter,
        "argocd_app_sync_total",
        &["namespace", "name", "project", "dest_server", "phase", "dry_run"],
        "Commits that are over, by what became of them, in commits",
    ),
    of(Agent, Counter, "container_cpu_usage_seconds_total", CADVISOR, "CPU time used, in seconds"),
    of(Agent, Gauge, "container_memory_working_set_bytes", CADVISOR, "Memory in use, in bytes"),
    of(
        Flux,
        Histogram,
        "gotk_reconcile_duration_seconds",
        &["kind", "name", "namespace"],
        "From a commit seen to its end, in seconds",
    ),
    of(Flux, Gauge, "gotk_resource_info", TOOLKIT, "A source and what runs of it, always 1"),
    of(
        State,
        Gauge,
        "kube_deployment_metadata_generation",
        DEPLOYMENT,
        "Generation of the spec, in changes",
    ),
    of(
        State,
        Gauge,
        "kube_deployment_spec_paused",
        DEPLOYMENT,
        "Whether the rollout is paused, 0 or 1",
    ),
    of(State, Gauge, "kube_deployment_spec_replicas", DEPLOYMENT, "Wanted, in pods"),
    of(
        State,
        Gauge,
        "kube_deployment_status_observed_generation",
        DEPLOYMENT,
        "Generation the controller has seen, in changes",
    ),
    of(State, Gauge, "kube_deployment_status_replicas", DEPLOYMENT, "Existing, in pods"),
    of(State, Gauge, "kube_deployment_status_replicas_available", DEPLOYMENT, "Available, in pods"),
    of(State, Gauge, "kube_deployment_status_replicas_ready", DEPLOYMENT, "Ready, in pods"),
    of(
        State,
        Gauge,
        "kube_deployment_status_replicas_unavailable",
        DEPLOYMENT,
        "Unavailable, in pods",
    ),
    of(
        State,
        Gauge,
        "kube_deployment_status_replicas_updated",
        DEPLOYMENT,
        "Of the current template, in pods",
    ),
    of(
        State,
        Gauge,
        "kube_namespace_status_phase",
        &["namespace", "phase"],
        "Whether the namespace is in the phase, 0 or 1",
    ),
    of(
        State,
        Gauge,
        "kube_node_info",
        &["node", "kubelet_version", "internal_ip", "pod_cidr"],
        "The node exists, always 1",
    ),
    of(
        State,
        Gauge,
        "kube_node_spec_unschedulable",
        &["node"],
        "Whether it takes no new pods, 0 or 1",
    ),
    of(
        State,
        Gauge,
        "kube_node_status_allocatable",
        RESOURCE,
        "What pods may ask for, in the unit of its label",
    ),
    of(
        State,
        Gauge,
        "kube_node_status_capacity",
        RESOURCE,
        "What the node has, in the unit of its label",
    ),
    of(
        State,
        Gauge,
        "kube_node_status_condition",
        &["node", "condition", "status"],
        "Whether the condition has the status, 0 or 1",
    ),
    of(
        State,
        Gauge,
        "kube_pod_container_resource_requests",
        &["namespace", "pod", "uid", "container", "node", "resource", "unit"],
        "Asked for, in the unit of its label",
    ),
    of(
        State,
        Gauge,
        "kube_pod_container_status_ready",
        CONTAINER,
        "Whether the container is ready, 0 or 1",
    ),
    of(
        State,
        Counter,
        "kube_pod_container_status_restarts_total",
        CONTAINER,
        "Times the container was started again, in restarts",
    ),
    of(
        State,
        Gauge,
        "kube_pod_container_status_waiting_reason",
        &["namespace", "pod", "uid", "container", "reason"],
        "The container waits for the reason, always 1",
    ),
    of(
        State,
        Gauge,
        "kube_pod_info",
        &["namespace", "pod", "uid", "node", "pod_ip", "created_by_kind", "created_by_name"],
        "The pod exists, always 1",
    ),
    of(
        State,
        Gauge,
        "kube_pod_status_phase",
        &["namespace", "pod", "uid", "phase"],
        "Whether the pod is in the phase, 0 or 1",
    ),
    of(
        State,
        Gauge,
        "kube_pod_status_ready",
        &["namespace", "pod", "uid", "condition"],
        "Whether readiness is what the label says, 0 or 1",
    ),
    of(State, Gauge, "kube_replicaset_spec_replicas", SET, "Wanted, in pods"),
    of(State, Gauge, "kube_replicaset_status_ready_replicas", SET, "Ready, in pods"),
    of(State, Gauge, "kube_replicaset_status_replicas", SET, "Existing, in pods"),
    of(
        State,
        Gauge,
        "kube_service_info",
        &["namespace", "service", "uid", "cluster_ip"],
        "The Service exists, always 1",
    ),
    of(
        Agent,
        Counter,
        "mainstay_agent_docker_errors_total",
        &[],
        "Requests the engine refused or did not answer in time, in requests",
    ),
    of(Agent, Gauge, "mainstay_agent_docker_up", &[], "Whether the engine answers, 0 or 1"),
    of(
        Agent,
        Gauge,
        "mainstay_agent_generation",
        &[],
        "Newest desired state received, in revisions",
    ),
    of(Agent, Gauge, "mainstay_agent_pods", &["state"], "Pods on the node, in pods"),
    of(
        Agent,
        Counter,
        "mainstay_agent_rule_loads_total",
        &["result"],
        "Times Service rules were loaded, in loads",
    ),
    of(
        Agent,
        Gauge,
        "mainstay_agent_rules_generation",
        &[],
        "Newest desired state that Service rules show, in revisions",
    ),
    of(Agent, Gauge, "mainstay_agent_session_up", &[], "Whether a server is connected, 0 or 1"),
    of(
        Server,
        Gauge,
        "mainstay_agents_connected",
        &[],
        "Agents with a session to this server, in agents",
    ),
    of(
        Server,
        Gauge,
        "mainstay_api_long_requests",
        &["class"],
        "Watches and streams that are open, in requests",
    ),
    of(Server, Counter, "mainstay_api_requests_total", &["code"], "Requests answered, in requests"),
    of(State, Gauge, "mainstay_build_info", &["version"], "The program that answers, always 1"),
    of(State, Gauge, "mainstay_commit_info", &["commit"], "The commit the cluster runs, always 1"),
    of(
        State,
        Gauge,
        "mainstay_commit_lag_seconds",
        &["stage"],
        "What the newest admitted commit needed (or needs so far) until it was seen, admitted, scheduled and running, each from the one before, and healthy from admitted, in seconds",
    ),
    of(State, Gauge, "mainstay_commit_objects", &["kind"], "Objects Git owns, in objects"),
    of(
        State,
        Gauge,
        "mainstay_commit_problems",
        &[],
        "What is wrong with the newest commit of the source, in problems",
    ),
    of(
        State,
        Gauge,
        "mainstay_commit_state",
        &["state"],
        "Whether the newest commit of the source is in the state, 0 or 1",
    ),
    of(
        State,
        Gauge,
        "mainstay_divergence_commits",
        &[],
        "Commits seen at the source after the one the cluster runs, in commits",
    ),
    of(
        Server,
        Counter,
        "mainstay_drift_corrections_total",
        &["kind"],
        "Objects made again that were deleted behind Git's back, in objects",
    ),
    of(
        Server,
        Gauge,
        "mainstay_driver_round_seconds",
        &[],
        "What the last round of the controllers took, in seconds",
    ),
    of(
        Server,
        Counter,
        "mainstay_driver_rounds_total",
        &[],
        "Rounds of the controllers, in rounds",
    ),
    of(
        Server,
        Counter,
        "mainstay_export_commits_total",
        &["result"],
        "Status commits pushed or failed, in commits",
    ),
    of(
        State,
        Gauge,
        "mainstay_export_lag_revisions",
        &[],
        "Changes the status branch does not show yet, in revisions",
    ),
    of(
        State,
        Gauge,
        "mainstay_export_outbox_items",
        &[],
        "What must still leave the cluster, in items",
    ),
    of(
        Server,
        Gauge,
        "mainstay_nodes_awaited",
        &[],
        "Nodes of the cluster before that a new one awaits, in nodes",
    ),
    of(
        Server,
        Counter,
        "mainstay_notify_deliveries_total",
        &["result"],
        "Notices of commits that were taken, failed or given up, in deliveries",
    ),
    of(State, Gauge, "mainstay_objects", &["kind"], "Objects stored, in objects"),
    of(Server, Gauge, "mainstay_raft_applied_index", &[], "The last entry applied, in entries"),
    of(
        Server,
        Histogram,
        "mainstay_raft_fsync_seconds",
        &[],
        "What making entries durable took, in seconds",
    ),
    of(Server, Gauge, "mainstay_raft_last_log_index", &[], "The last entry in the log, in entries"),
    of(Server, Gauge, "mainstay_raft_leader", &[], "Whether this server leads, 0 or 1"),
    of(Server, Gauge, "mainstay_raft_members", &["role"], "Servers of the cluster, in servers"),
    of(
        Server,
        Gauge,
        "mainstay_raft_peer_lag_entries",
        &["peer"],
        "How far another server's disk is behind; only the leader knows, in entries",
    ),
    of(Server, Gauge, "mainstay_raft_term", &[], "The term, in elections"),
    of(
        State,
        Counter,
        "mainstay_reverts_total",
        &["reason"],
        "Commits gone back from because their rollout failed, in commits",
    ),
    of(
        Server,
        Counter,
        "mainstay_source_fetches_total",
        &["result"],
        "Looks at the remote, in fetches",
    ),
    of(State, Gauge, "mainstay_source_ready", &["source"], "Whether the remote answers, 0 or 1"),
    of(State, Gauge, "mainstay_state_revision", &[], "The revision of State, in changes"),
    of(
        Server,
        Counter,
        "mainstay_survivors_total",
        &["result"],
        "Pods of the cluster before that its nodes brought, by what became of them (kept, let_go), in pods",
    ),
    of(
        Server,
        Gauge,
        "mainstay_survivors_waiting",
        &[],
        "Pods of the cluster before for which nothing is decided yet, in pods",
    ),
];

/// One metric by its name.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// `docs/metrics.md`.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\nGenerated by `mainstay generate metrics`. Every server and every agent answers `GET /metrics`.\n\
         Names of kube-state-metrics and cAdvisor mean what they mean there. Flux's and Argo CD's names are\n\
         for dashboards and alerts made for those: whoever wants them scrapes their path as well.\n",
    );
    let parts = [
        (State, "State (every server says the same)"),
        (Server, "Each server of itself"),
        (Agent, "Each agent of its node"),
        (Flux, "Flux's names (each server, at `/metrics/flux`)"),
        (ArgoCd, "Argo CD's names (each server, at `/metrics/argocd`)"),
    ];
    for (served, title) in parts {
        page += &format!(
            "\n## {title}\n\n| Metric | Type | Labels | What it says |\n|---|---|---|---|\n"
        );
        for metric in METRICS.iter().filter(|m| m.served == served) {
            let kind = match metric.kind {
                Counter => "counter",
                Gauge => "gauge",
                Histogram => "histogram",
            };
            let labels = metric.labels.join(", ");
            page += &format!("| `{}` | {kind} | {labels} | {} |\n", metric.name, metric.help);
        }
    }
    page
}
