//! A pod's status, as the kubelet would write it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        self as core, ContainerState, ContainerStateRunning, ContainerStateTerminated,
        ContainerStateWaiting, ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
        ResourceRequirements,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    assignment::{Assignment, ContainerSpec, RestartPolicy, Role, Wanted},
    probe,
    seen::{Container, Exit, Image, Observed, SANDBOX, State},
    step::{Next, container_next, initialized, is_started, resize_subject, resizing},
};
use crate::model::Timestamp;

/// The status of one pod. The phase never moves back, and a condition keeps the time of its last
/// change (kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle).
pub fn status(want: &Assignment, seen: &Observed, now: Timestamp) -> PodStatus {
    let init = statuses(want, &want.init, seen, now);
    let app = statuses(want, &want.app, seen, now);
    let ephemeral = statuses(want, &want.ephemeral, seen, now);
    let phase = forward(previous_phase(seen), phase(want, seen, &init, &app));
    let sandbox = seen.sandbox.as_ref().filter(|s| s.state.is_running());
    let ip = match (want.sandbox.host_network, sandbox.and_then(|s| s.ip)) {
        (true, _) => Some(want.host_ip.clone()).filter(|ip| !ip.is_empty()),
        (false, ip) => ip.map(|ip| ip.to_string()),
    };
    // A pod that is going or has ended keeps the address it was known by.
    let before = seen.previous.as_ref();
    let ip = ip.or_else(|| {
        let keeps = want.wanted != Wanted::Running || matches!(phase, "Succeeded" | "Failed");
        before.filter(|_| keeps).and_then(|p| p.pod_ip.clone())
    });
    let conditions = conditions(want, seen, phase, &init, &app, now);
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions),
        container_statuses: Some(app),
        init_container_statuses: Some(init).filter(|list| !list.is_empty()),
        ephemeral_container_statuses: Some(ephemeral).filter(|list| !list.is_empty()),
        host_ip: Some(want.host_ip.clone()),
        host_ips: Some(vec![HostIP { ip: want.host_ip.clone() }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        qos_class: Some(want.qos.as_str().to_owned()),
        start_time: before
            .and_then(|p| p.start_time.clone())
            .or_else(|| seen.start_time.map(Timestamp::to_time)),
        observed_generation: want.object.as_ref().and_then(|o| o.meta().generation),
        ..PodStatus::default()
    }
}

fn previous_phase(seen: &Observed) -> &str {
    seen.previous.as_ref().and_then(|p| p.phase.as_deref()).unwrap_or("Pending")
}

/// `Pending` → `Running` → `Succeeded` or `Failed`.
fn forward(before: &str, now: &'static str) -> &'static str {
    match (before, now) {
        ("Succeeded", _) => "Succeeded",
        ("Failed", _) => "Failed",
        ("Running", "Pending") => "Running",
        _ => now,
    }
}

fn phase(
    want: &Assignment,
    seen: &Observed,
    init: &[ContainerStatus],
    app: &[ContainerStatus],
) -> &'static str {
    let last = |s: &ContainerStatus| {
        terminated(s.state.as_ref()).or(terminated(s.last_state.as_ref())).cloned()
    };
    if !initialized(want, seen) {
        let failed = |(spec, s): (&ContainerSpec, &ContainerStatus)| {
            spec.role == Role::Init && last(s).is_some_and(|t| t.exit_code != 0)
        };
        if want.restart == RestartPolicy::Never && want.init.iter().zip(init).any(failed) {
            return "Failed";
        }
        if app.iter().all(|s| last(s).is_none()) {
            return "Pending";
        }
    }
    let running = app.iter().filter(|s| is_running(s)).count();
    let ends: Vec<_> = app.iter().filter(|s| !is_running(s)).map(last).collect();
    if ends.iter().any(Option::is_none) {
        return "Pending";
    }
    let succeeded = ends.iter().flatten().all(|t| t.exit_code == 0);
    let going = want.wanted == Wanted::Gone;
    match want.restart {
        _ if running > 0 => "Running",
        // A pod that was told to go has ended however its containers would else be restarted.
        RestartPolicy::Always if !going => "Running",
        RestartPolicy::OnFailure if !succeeded && !going => "Running",
        _ if succeeded => "Succeeded",
        _ => "Failed",
    }
}

fn terminated(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state?.terminated.as_ref()
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

// --- containers ---

fn statuses(
    want: &Assignment,
    specs: &[ContainerSpec],
    seen: &Observed,
    now: Timestamp,
) -> Vec<ContainerStatus> {
    specs.iter().map(|spec| container_status(want, spec, seen, now)).collect()
}

fn container_status(
    want: &Assignment,
    spec: &ContainerSpec,
    seen: &Observed,
    now: Timestamp,
) -> ContainerStatus {
    let Some(newest) = seen.newest(&spec.name) else {
        return never_seen(want, spec, seen, now);
    };
    let exits = || {
        let list = seen.containers.get(&spec.name).into_iter().flatten();
        list.rev().filter_map(|c| c.state.exit().map(|e| ended(spec, c, e)))
    };
    let waiting = || waiting(want, spec, seen, now);
    let (state, last) = match &newest.state {
        State::Running(since) => (running(*since), exits().next()),
        State::Created => (waiting(), exits().next()),
        State::Exited(exit) => match wait_reason(want, spec, seen, now) {
            Some(_) => (waiting(), exits().next()),
            None => (ended(spec, newest, exit), exits().nth(1)),
        },
    };
    ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone(),
        image_id: image_id(spec, newest, seen),
        container_id: Some(docker_id(&newest.id)),
        ready: is_ready(want, spec, newest, seen),
        started: Some(is_started(spec, newest, seen)),
        restart_count: i32::try_from(newest.attempt).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last.unwrap_or_default()),
        resources: resources(want, spec, newest, seen),
        allocated_resources: requests(want, spec),
        ..ContainerStatus::default()
    }
}

/// What a container may use: what it shall, unless it does not have that yet.
fn resources(
    want: &Assignment,
    spec: &ContainerSpec,
    newest: &Container,
    seen: &Observed,
) -> Option<ResourceRequirements> {
    let asked = declared(want, spec)?.resources.clone();
    let has = newest.limits.filter(|_| newest.state.is_running());
    if has.is_none_or(|has| has.differ(&spec.limits) == (false, false)) {
        return asked;
    }
    let lists = seen.previous.iter().flat_map(|p| p.container_statuses.iter().flatten());
    let before = lists.into_iter().find(|s| s.name == spec.name);
    before.and_then(|before| before.resources.clone())
}

fn requests(want: &Assignment, spec: &ContainerSpec) -> Option<BTreeMap<String, Quantity>> {
    declared(want, spec)?.resources.as_ref()?.requests.clone()
}

/// The container as the pod's object has it.
fn declared<'a>(want: &'a Assignment, spec: &ContainerSpec) -> Option<&'a core::Container> {
    let pod = want.pod()?.spec.as_ref()?;
    let all = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    all.into_iter().find(|c| c.name == spec.name)
}

/// Nothing of it on the node: not yet, or (in a pod that goes or has ended) not any more.
fn never_seen(
    want: &Assignment,
    spec: &ContainerSpec,
    seen: &Observed,
    now: Timestamp,
) -> ContainerStatus {
    let before = seen.previous.as_ref();
    let before = before.into_iter().flat_map(|p| {
        let main = p.container_statuses.iter().chain(&p.init_container_statuses);
        main.chain(&p.ephemeral_container_statuses).flatten()
    });
    let before = before.into_iter().find(|s| s.name == spec.name);
    if want.wanted != Wanted::Running
        && let Some(before) = before
    {
        return gone_from(before);
    }
    ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone(),
        started: Some(false),
        state: Some(waiting(want, spec, seen, now)),
        last_state: Some(ContainerState::default()),
        ..ContainerStatus::default()
    }
}

/// What was running when it was last seen cannot be told any more how it ended.
fn gone_from(before: &ContainerStatus) -> ContainerStatus {
    let mut status = before.clone();
    status.ready = false;
    status.started = Some(false);
    if is_running(before) {
        let terminated = ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            container_id: before.container_id.clone(),
            ..ContainerStateTerminated::default()
        };
        status.state =
            Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
    }
    status
}

fn docker_id(id: &str) -> String {
    format!("docker://{id}")
}

fn image_id(spec: &ContainerSpec, container: &Container, seen: &Observed) -> String {
    match seen.images.get(&spec.image) {
        Some(Image::Present { id, .. }) if !id.is_empty() => id.clone(),
        _ => docker_id(&container.image_id),
    }
}

/// App containers and sidecars: running and started and their readiness probe says so. Init
/// containers: done.
fn is_ready(want: &Assignment, spec: &ContainerSpec, c: &Container, seen: &Observed) -> bool {
    match spec.role {
        Role::Init => return c.state.exit().is_some_and(|e| e.code == 0),
        // Nothing waits for it.
        Role::Ephemeral => return false,
        Role::Sidecar | Role::App => {}
    }
    let probed = !spec.probes.contains_key(&probe::Kind::Readiness)
        || seen.verdict(&c.id, probe::Kind::Readiness) == Some(true);
    let connected = seen.current(&spec.name).is_some() && sandbox_runs(seen);
    // A terminating pod's containers stay ready while they answer, as in Kubernetes: its endpoints
    // say "serving" and "terminating". One that was told to stop is not.
    let stopping = want.wanted != Wanted::Gone && seen.memory.stopping.contains_key(&c.id);
    is_started(spec, c, seen) && probed && connected && !stopping
}

fn sandbox_runs(seen: &Observed) -> bool {
    seen.sandbox.as_ref().is_some_and(|s| s.state.is_running())
}

fn running(since: Timestamp) -> ContainerState {
    let running = ContainerStateRunning { started_at: Some(since.to_time()) };
    ContainerState { running: Some(running), ..ContainerState::default() }
}

fn ended(spec: &ContainerSpec, container: &Container, exit: &Exit) -> ContainerState {
    let reason = match exit {
        Exit { oom: true, .. } => "OOMKilled",
        Exit { error, .. } if !error.is_empty() => "ContainerCannotRun",
        Exit { code: 0, .. } => "Completed",
        _ => "Error",
    };
    let message = match exit {
        Exit { error, .. } if !error.is_empty() => error,
        Exit { message, .. } if !message.is_empty() => message,
        Exit { tail, .. } if spec.message_from_logs && exit.code != 0 => tail,
        Exit { message, .. } => message,
    };
    let terminated = ContainerStateTerminated {
        exit_code: exit.code,
        reason: Some(reason.to_owned()),
        message: Some(message.clone()).filter(|m| !m.is_empty()),
        started_at: Some(exit.started.to_time()),
        finished_at: Some(exit.finished.to_time()),
        container_id: Some(docker_id(&container.id)),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn waiting(
    want: &Assignment,
    spec: &ContainerSpec,
    seen: &Observed,
    now: Timestamp,
) -> ContainerState {
    let (reason, message) = wait_reason(want, spec, seen, now).unwrap_or_else(|| {
        let first = if want.init.is_empty() || initialized(want, seen) || spec.role != Role::App {
            "ContainerCreating"
        } else {
            "PodInitializing"
        };
        (first.to_owned(), String::new())
    });
    let message = Some(message).filter(|m| !m.is_empty());
    let waiting = ContainerStateWaiting { reason: Some(reason), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// Why the container waits, when it waits for something of its own.
fn wait_reason(
    want: &Assignment,
    spec: &ContainerSpec,
    seen: &Observed,
    now: Timestamp,
) -> Option<(String, String)> {
    let its_turn = sandbox_runs(seen)
        && (spec.role != Role::App || initialized(want, seen))
        && want.wanted == Wanted::Running;
    if !its_turn || (spec.role == Role::Init && initialized(want, seen)) {
        return None;
    }
    match container_next(want, spec, seen, now) {
        Next::Blocked { reason, message, .. } => Some((reason, message)),
        // It is about to be made again.
        Next::Step(_) if seen.newest(&spec.name).is_some() => {
            Some(("ContainerCreating".into(), String::new()))
        }
        _ => None,
    }
}

// --- conditions ---

fn conditions(
    want: &Assignment,
    seen: &Observed,
    phase: &str,
    init: &[ContainerStatus],
    app: &[ContainerStatus],
    now: Timestamp,
) -> Vec<PodCondition> {
    let over = matches!(phase, "Succeeded" | "Failed");
    let sidecars = want.init.iter().zip(init).filter(|(spec, _)| spec.role == Role::Sidecar);
    let must_be_ready: Vec<_> = sidecars.map(|(_, s)| s).chain(app).collect();
    let unready = names(must_be_ready.iter().filter(|s| !s.ready).map(|s| s.name.as_str()));
    let containers = match phase {
        "Succeeded" => no("PodCompleted", String::new()),
        "Failed" => no("PodFailed", String::new()),
        _ if unready.is_empty() => yes(),
        _ => no("ContainersNotReady", format!("containers with unready status: [{unready}]")),
    };
    let initialized = if over && phase == "Succeeded" || initialized(want, seen) {
        let reason = (phase == "Succeeded").then_some("PodCompleted");
        Verdict { reason: reason.unwrap_or_default(), ..yes() }
    } else {
        let waiting: Vec<_> = init.iter().filter(|s| !s.ready).map(|s| &*s.name).collect();
        match (waiting.is_empty(), want.init.is_empty()) {
            (_, true) | (true, _) => yes(),
            _ => no(
                "ContainersNotInitialized",
                format!("containers with incomplete status: [{}]", waiting.join(" ")),
            ),
        }
    };
    let sandbox = match seen.memory.failures.get(SANDBOX) {
        _ if sandbox_runs(seen) => yes(),
        Some(failure) => no("", failure.message.clone()),
        None => no("", String::new()),
    };
    let list = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized),
        ("Ready", ready(want, seen, &containers)),
        ("ContainersReady", containers),
        ("PodScheduled", yes()),
    ];
    let mut conditions: Vec<_> =
        list.into_iter().map(|(type_, verdict)| condition(type_, verdict, seen, now)).collect();
    let resize = resize(want, seen);
    conditions.extend(resize.map(|(type_, verdict)| condition(type_, verdict, seen, now)));
    conditions.extend(foreign(seen, &conditions));
    conditions
}

/// What is told of a change of resources that is not done yet
/// (kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources).
fn resize(want: &Assignment, seen: &Observed) -> Option<(&'static str, Verdict)> {
    let running = want.containers().filter_map(|spec| Some((spec, seen.current(&spec.name)?)));
    let mut differing = running.filter(|(spec, c)| {
        let has = c.limits.filter(|_| c.state.is_running());
        has.is_some_and(|has| has.differ(&spec.limits) != (false, false))
    });
    if let Some(why) = want.infeasible.clone().filter(|_| differing.next().is_some()) {
        return Some((RESIZE[0], Verdict { reason: "Infeasible", message: why, ..yes() }));
    }
    if !resizing(want, seen) {
        return None;
    }
    let failure = |spec: &ContainerSpec| seen.memory.failures.get(&resize_subject(&spec.name));
    let verdict = match want.containers().find_map(failure) {
        Some(failure) => Verdict { reason: "Error", message: failure.message.clone(), ..yes() },
        None => yes(),
    };
    Some((RESIZE[1], verdict))
}

/// Conditions that are there only while something is to be resized.
const RESIZE: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

#[derive(Clone)]
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

fn yes() -> Verdict {
    Verdict { holds: true, reason: "", message: String::new() }
}

fn no(reason: &'static str, message: String) -> Verdict {
    Verdict { holds: false, reason, message }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(" ")
}

/// Ready: the containers are, and every readiness gate's condition is true.
fn ready(want: &Assignment, seen: &Observed, containers: &Verdict) -> Verdict {
    let gates = want.pod().and_then(|p| p.spec.as_ref()).into_iter();
    let gates = gates.flat_map(|s| s.readiness_gates.iter().flatten());
    let told = |type_: &str| {
        let status = want.pod().and_then(|p| p.status.as_ref());
        status
            .into_iter()
            .chain(seen.previous.as_ref())
            .flat_map(|s| s.conditions.iter().flatten())
            .any(|c| c.type_ == type_ && c.status == "True")
    };
    let closed: Vec<_> = gates.map(|g| &*g.condition_type).filter(|t| !told(t)).collect();
    if !containers.holds || closed.is_empty() {
        return containers.clone();
    }
    let text = |t: &&str| {
        format!(
            "corresponding condition of pod readiness gate \"{t}\" does not exist or is not True."
        )
    };
    no("ReadinessGatesNotReady", closed.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn condition(type_: &str, verdict: Verdict, seen: &Observed, now: Timestamp) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let before = seen.previous.iter().flat_map(|p| p.conditions.iter().flatten());
    let before = before.into_iter().find(|c| c.type_ == type_ && c.status == status);
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(verdict.reason.to_owned()).filter(|r| !r.is_empty()),
        message: Some(verdict.message).filter(|m| !m.is_empty()),
        last_transition_time: before
            .and_then(|c| c.last_transition_time.clone())
            .or_else(|| Some(now.to_time())),
        ..PodCondition::default()
    }
}

/// Conditions that others have set (readiness gates, `DisruptionTarget`) are kept.
fn foreign(seen: &Observed, own: &[PodCondition]) -> Vec<PodCondition> {
    let before = seen.previous.iter().flat_map(|p| p.conditions.iter().flatten());
    let others = before.filter(|c| !RESIZE.contains(&c.type_.as_str()));
    others.filter(|c| own.iter().all(|o| o.type_ != c.type_)).cloned().collect()
}
