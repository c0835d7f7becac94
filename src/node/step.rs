//! The next step of one pod.

use std::time::Duration;

use super::{
    assignment::{Assignment, ContainerSpec, PullPolicy, RestartPolicy, Role, Wanted},
    backoff, probe,
    resources::Limits,
    seen::{Container, Exit, Image, Observed, SANDBOX, State},
};
use crate::model::Timestamp;

/// How long a container that was killed may take to be gone before it is killed again. Docker needs
/// some 100 ms; ten seconds leave a busy daemon alone.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// How long a failed pull shows its own reason before it shows as waiting for the next.
const PULL_ERROR_SHOWN: Duration = Duration::from_secs(2);
/// Containers of one name that are kept: the newest, and the one before it for its state and logs.
const CONTAINERS_KEPT: usize = 2;

/// One thing to do for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bring the volumes on disk to their wanted content.
    WriteVolumes,
    /// Make the sandbox, with an address.
    CreateSandbox,
    /// Start it.
    StartSandbox {
        /// Docker's id.
        id: String,
    },
    /// Look whether an image is on the node.
    FindImage {
        /// Its reference.
        image: String,
    },
    /// Pull an image.
    PullImage {
        /// Its reference.
        image: String,
        /// The container that asks for it.
        container: String,
        /// Which start of that container.
        attempt: u32,
    },
    /// Make a container.
    CreateContainer {
        /// Its name.
        name: String,
        /// How often it was started before.
        attempt: u32,
        /// The delay before its next restart.
        backoff: Duration,
    },
    /// Start it.
    StartContainer {
        /// Its name.
        name: String,
        /// Docker's id.
        id: String,
    },
    /// Give a running container another share of the node.
    Resize {
        /// Its name.
        name: String,
        /// Docker's id.
        id: String,
        /// What it may use.
        limits: Limits,
    },
    /// Ask a container to stop: its hook, then its signal. What comes of it is seen later.
    Stop {
        /// Its name.
        name: String,
        /// Docker's id.
        id: String,
        /// How long it may take.
        grace: Duration,
        /// Kubernetes' sentence for the `Killing` event.
        why: String,
    },
    /// End a container or sandbox at once.
    Kill {
        /// Docker's id.
        id: String,
    },
    /// Remove a container that has ended.
    RemoveContainer {
        /// Docker's id.
        id: String,
    },
    /// Remove the sandbox, running or not; its address is free again.
    RemoveSandbox {
        /// Docker's id.
        id: String,
    },
    /// Remove the pod's directory with its volumes.
    RemoveDirectory,
    /// Tell the server that nothing is left.
    ReportGone,
    /// Look again at that time, or when something happens.
    Wait(Option<Timestamp>),
    /// Nothing to do until something changes.
    Settled,
}

/// Returns the next step that brings one pod closer to its assignment.
///
/// One call, one step: the agent does it, looks again, and calls again, so a crash between steps
/// loses nothing. `now` only matters for back-off and grace periods. Order of a start: volumes,
/// sandbox, init containers in turn, then the rest
/// (kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle).
pub fn next_step(want: &Assignment, seen: &Observed, now: Timestamp) -> Step {
    match want.wanted {
        Wanted::Gone => remove(want, seen, now),
        Wanted::Ended => end(want, seen, now),
        Wanted::Running if is_over(want, seen) => end(want, seen, now),
        Wanted::Running => start(want, seen, now),
    }
}

/// Whether the pod has come to its end by itself: every container has ended and none may be
/// restarted.
pub fn is_over(want: &Assignment, seen: &Observed) -> bool {
    let ended = |c: &ContainerSpec| {
        let exit = seen.newest(&c.name).and_then(|c| c.state.exit());
        exit.is_some_and(|e| !restarts(want.restart, Role::App, e))
    };
    let init_failed = |c: &ContainerSpec| {
        let exit = seen.newest(&c.name).and_then(|c| c.state.exit());
        c.role == Role::Init
            && exit.is_some_and(|e| e.code != 0 && want.restart == RestartPolicy::Never)
    };
    let init_failed = !initialized(want, seen) && want.init.iter().any(init_failed);
    init_failed || (!want.app.is_empty() && want.app.iter().all(ended))
}

/// Whether the init containers have done their work for this sandbox.
pub fn initialized(want: &Assignment, seen: &Observed) -> bool {
    let begun = want.app.iter().any(|c| seen.current(&c.name).is_some());
    begun || (seen.sandbox.is_some() && want.init.iter().all(|c| init_done(c, seen)))
}

fn init_done(c: &ContainerSpec, seen: &Observed) -> bool {
    let Some(current) = seen.current(&c.name) else { return false };
    match c.role {
        Role::Sidecar => is_started(c, current, seen),
        _ => current.state.exit().is_some_and(|e| e.code == 0),
    }
}

/// Whether a container runs and its startup probe, if it has one, has succeeded.
pub fn is_started(c: &ContainerSpec, current: &Container, seen: &Observed) -> bool {
    let probed = !c.probes.contains_key(&probe::Kind::Startup)
        || seen.verdict(&current.id, probe::Kind::Startup) == Some(true);
    current.state.is_running() && probed
}

/// Whether a container that ended like this is started again.
fn restarts(policy: RestartPolicy, role: Role, exit: &Exit) -> bool {
    match (role, policy) {
        (Role::Ephemeral, _) => false,
        (Role::Sidecar, _) | (Role::App, RestartPolicy::Always) => true,
        (_, RestartPolicy::Never) => false,
        _ => exit.code != 0 || !exit.error.is_empty(),
    }
}

// --- starting ---

fn start(want: &Assignment, seen: &Observed, now: Timestamp) -> Step {
    if volumes_differ(want, seen) {
        return after_failure(seen, SANDBOX, now).unwrap_or(Step::WriteVolumes);
    }
    match &seen.sandbox {
        None => begin(want, seen, now),
        Some(sandbox) => match sandbox.state {
            State::Created => {
                let id = sandbox.id.clone();
                after_failure(seen, SANDBOX, now).unwrap_or(Step::StartSandbox { id })
            }
            State::Running(_) => run(want, seen, now),
            // Its containers hold a network namespace that nobody routes to any more.
            State::Exited(_) => {
                let why = "Pod sandbox changed, it will be killed and re-created.";
                let id = sandbox.id.clone();
                stop(want, seen, now, |_, _| Some(why.into())).unwrap_or(Step::RemoveSandbox { id })
            }
        },
    }
}

/// Whether a volume that can be made is not on disk as it should be. One that cannot be made yet
/// holds a new pod back ([`begin`]) but does not disturb one that runs.
fn volumes_differ(want: &Assignment, seen: &Observed) -> bool {
    let differs = |v: &super::volumes::VolumeSpec| {
        v.source.is_ok() && seen.volumes.get(&v.name) != Some(&v.hash())
    };
    want.volumes.iter().any(differs)
}

fn begin(want: &Assignment, seen: &Observed, now: Timestamp) -> Step {
    let stray = stop(want, seen, now, |_, _| Some("Stopping container without sandbox".into()));
    if let Some(step) = stray {
        return step;
    }
    if want.volumes.iter().any(|v| v.source.is_err()) {
        return Step::Wait(None);
    }
    if !seen.network_ready && !want.sandbox.host_network {
        return Step::Wait(None);
    }
    after_failure(seen, SANDBOX, now).unwrap_or(Step::CreateSandbox)
}

/// Waits until a failed step may be tried again.
fn after_failure(seen: &Observed, name: &str, now: Timestamp) -> Option<Step> {
    let failure = seen.memory.failures.get(name)?;
    let until = failure.at + backoff::of_failures(failure.count);
    (now < until).then_some(Step::Wait(Some(until)))
}

fn run(want: &Assignment, seen: &Observed, now: Timestamp) -> Step {
    if let Some(id) = surplus(seen) {
        return Step::RemoveContainer { id };
    }
    let mut wake = None;
    match stop(want, seen, now, |name, c| condemned(want, seen, name, c)) {
        Some(Step::Wait(until)) => wake = earlier(wake, until),
        Some(step) => return step,
        None => {}
    }
    if let Some(step) = resize(want, seen, now) {
        match step {
            Step::Wait(until) => wake = earlier(wake, until),
            step => return step,
        }
    }
    // They look at what goes wrong, at the beginning too.
    for spec in want.ephemeral.iter().filter(|spec| target_runs(spec, seen)) {
        match container_next(want, spec, seen, now) {
            Next::Step(step) => return step,
            Next::Blocked { until, .. } => wake = earlier(wake, until),
            Next::Nothing => {}
        }
    }
    let initialized = initialized(want, seen);
    for spec in &want.init {
        if initialized && spec.role == Role::Init {
            continue;
        }
        match container_next(want, spec, seen, now) {
            Next::Step(step) => return step,
            Next::Blocked { until, .. } => wake = earlier(wake, until),
            Next::Nothing => {}
        }
        if !initialized && !init_done(spec, seen) {
            return Step::Wait(wake);
        }
    }
    for spec in &want.app {
        match container_next(want, spec, seen, now) {
            Next::Step(step) => return step,
            Next::Blocked { until, .. } => wake = earlier(wake, until),
            Next::Nothing => {}
        }
    }
    if wake.is_some() { Step::Wait(wake) } else { Step::Settled }
}

/// Whether the container that this one is to look at can be looked at.
fn target_runs(spec: &ContainerSpec, seen: &Observed) -> bool {
    let runs = |name: &String| seen.current(name).is_some_and(|c| c.state.is_running());
    spec.target.as_ref().is_none_or(runs)
}

/// Gives a running container what it may use by now; one that must start anew for it is stopped
/// instead ([`condemned`]).
fn resize(want: &Assignment, seen: &Observed, now: Timestamp) -> Option<Step> {
    let (name, id, limits) = want.containers().find_map(|spec| {
        let current = seen.current(&spec.name)?;
        let differs = resized(want, spec, current, seen)?;
        (differs == Resized::InPlace).then(|| (spec.name.clone(), current.id.clone(), spec.limits))
    })?;
    let failed = after_failure(seen, &resize_subject(&name), now);
    Some(failed.unwrap_or(Step::Resize { name, id, limits }))
}

/// The name under which a failed resize is remembered: no container can be called so.
pub fn resize_subject(name: &str) -> String {
    format!("{name}/resize")
}

/// How a container gets another share of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resized {
    InPlace,
    ByRestart,
}

/// Whether a running container has another share of the node than it shall have.
fn resized(
    want: &Assignment,
    spec: &ContainerSpec,
    container: &Container,
    seen: &Observed,
) -> Option<Resized> {
    let has = container.limits.filter(|_| container.state.is_running())?;
    let (cpu, memory) = has.differ(&spec.limits);
    let given = seen.memory.resized.get(&container.id) == Some(&spec.limits);
    if !cpu && !memory || given || want.infeasible.is_some() {
        return None;
    }
    let restarts = cpu && spec.resize_restarts.0 || memory && spec.resize_restarts.1;
    Some(if restarts { Resized::ByRestart } else { Resized::InPlace })
}

/// Whether some running container waits for its share.
pub fn resizing(want: &Assignment, seen: &Observed) -> bool {
    want.containers().any(|spec| {
        let current = seen.current(&spec.name);
        current.is_some_and(|current| resized(want, spec, current, seen).is_some())
    })
}

/// The oldest container that is kept for nobody.
fn surplus(seen: &Observed) -> Option<String> {
    let too_many = |list: &&Vec<Container>| list.len() > CONTAINERS_KEPT;
    let list = seen.containers.values().find(too_many)?;
    list.first().filter(|c| !c.state.is_running()).map(|c| c.id.clone())
}

/// Why a running container must stop although its pod goes on.
fn condemned(
    want: &Assignment,
    seen: &Observed,
    name: &str,
    container: &Container,
) -> Option<String> {
    let current = seen.current(name).is_some_and(|c| c.id == container.id);
    let Some(spec) = want.container(name).filter(|_| current) else {
        return Some(format!("Stopping container {name}"));
    };
    let failed = |kind| seen.verdict(&container.id, kind) == Some(false);
    if failed(probe::Kind::Startup) {
        return Some(format!("Container {name} failed startup probe, will be restarted"));
    }
    if failed(probe::Kind::Liveness) {
        return Some(format!("Container {name} failed liveness probe, will be restarted"));
    }
    if resized(want, spec, container, seen) == Some(Resized::ByRestart) {
        return Some(format!("Container {name} resize requires restart"));
    }
    (spec.hash != container.hash)
        .then(|| format!("Container {name} definition changed, will be restarted"))
}

/// What one container needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it runs, or has ended for good.
    Nothing,
    /// This.
    Step(Step),
    /// It waits: Kubernetes' reason and message, and until when if time ends it.
    Blocked {
        /// One word.
        reason: String,
        /// One sentence; may be empty.
        message: String,
        /// When to look again.
        until: Option<Timestamp>,
    },
}

/// What one container of a pod with a running sandbox needs.
pub fn container_next(
    want: &Assignment,
    spec: &ContainerSpec,
    seen: &Observed,
    now: Timestamp,
) -> Next {
    let Some(newest) = seen.newest(&spec.name) else {
        return launch(spec, seen, now, 0, Duration::ZERO);
    };
    let current = seen.current(&spec.name).is_some();
    match &newest.state {
        State::Running(_) => Next::Nothing,
        State::Created if current => {
            let id = newest.id.clone();
            Next::Step(Step::StartContainer { name: spec.name.clone(), id })
        }
        // Made for a sandbox that is gone and never started.
        State::Created => Next::Step(Step::RemoveContainer { id: newest.id.clone() }),
        State::Exited(exit) => {
            // A new sandbox runs every init container again, whatever it did in the old one.
            let again = spec.role == Role::Init && !current;
            if !again && !restarts(want.restart, spec.role, exit) {
                return Next::Nothing;
            }
            if again && exit.code == 0 {
                let attempt = newest.attempt.saturating_add(1);
                return launch(spec, seen, now, attempt, newest.backoff);
            }
            relaunch(want, spec, seen, now, newest, exit)
        }
    }
}

fn relaunch(
    want: &Assignment,
    spec: &ContainerSpec,
    seen: &Observed,
    now: Timestamp,
    dead: &Container,
    exit: &Exit,
) -> Next {
    let ran = exit.finished.since(exit.started);
    let delay = backoff::before_restart(dead.backoff, ran);
    let until = exit.finished + delay;
    if now < until {
        let message = format!(
            "back-off {} restarting failed container={} pod={}_{}({})",
            go_duration(delay),
            spec.name,
            want.key.name,
            want.key.namespace,
            want.uid
        );
        return Next::Blocked { reason: "CrashLoopBackOff".into(), message, until: Some(until) };
    }
    launch(spec, seen, now, dead.attempt.saturating_add(1), backoff::after(delay))
}

/// `10s`, `1m20s`, `5m0s`: as Kubernetes' messages write it.
pub(super) fn go_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s}s"),
        (m, s) => format!("{m}m{s}s"),
    }
}

fn launch(
    spec: &ContainerSpec,
    seen: &Observed,
    now: Timestamp,
    attempt: u32,
    backoff: Duration,
) -> Next {
    if let Some(next) = image_next(spec, seen, now, attempt) {
        return next;
    }
    if let Some(message) = spec.refusal(seen.images.get(&spec.image)) {
        let reason = "CreateContainerConfigError".into();
        return Next::Blocked { reason, message, until: None };
    }
    if let Some(f) = seen.memory.failures.get(&spec.name) {
        let until = f.at + backoff::of_failures(f.count);
        if now < until {
            let (reason, message) = (f.reason.clone(), f.message.clone());
            return Next::Blocked { reason, message, until: Some(until) };
        }
    }
    Next::Step(Step::CreateContainer { name: spec.name.clone(), attempt, backoff })
}

/// What the image needs before the container can be made; `None`: it is there.
fn image_next(spec: &ContainerSpec, seen: &Observed, now: Timestamp, attempt: u32) -> Option<Next> {
    let image = spec.image.clone();
    let pulled = seen.memory.pulled.contains(&(spec.name.clone(), attempt));
    let pull = || {
        Next::Step(Step::PullImage { image: image.clone(), container: spec.name.clone(), attempt })
    };
    let blocked = |reason: &str, message: String, until| {
        Some(Next::Blocked { reason: reason.into(), message, until })
    };
    match seen.images.get(&spec.image).unwrap_or(&Image::Unknown) {
        Image::Unknown => Some(Next::Step(Step::FindImage { image })),
        Image::Busy { .. } => blocked("ContainerCreating", String::new(), None),
        Image::Failed { message, count, at } => {
            let (shown, until) = (*at + PULL_ERROR_SHOWN, *at + backoff::of_failures(*count));
            if now >= until {
                Some(pull())
            } else if now < shown {
                blocked("ErrImagePull", message.clone(), Some(shown))
            } else {
                let text = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
                blocked("ImagePullBackOff", text, Some(until))
            }
        }
        Image::Present { .. } if spec.pull == PullPolicy::Always && !pulled => Some(pull()),
        Image::Present { .. } => None,
        Image::Absent if spec.pull == PullPolicy::Never => {
            let text =
                format!("Container image {image:?} is not present with pull policy of Never");
            blocked("ErrImageNeverPull", text, None)
        }
        Image::Absent => Some(pull()),
    }
}

// --- stopping ---

/// The pod has ended: sidecars stop, the sandbox gives its address back, the containers stay for
/// their logs.
fn end(want: &Assignment, seen: &Observed, now: Timestamp) -> Step {
    if let Some(step) = stop_all(want, seen, now) {
        return step;
    }
    match &seen.sandbox {
        Some(s) if s.state.is_running() => kill_again(seen, &s.id, now),
        _ => Step::Settled,
    }
}

fn remove(want: &Assignment, seen: &Observed, now: Timestamp) -> Step {
    if let Some(step) = stop_all(want, seen, now) {
        return step;
    }
    if let Some((_, c)) = seen.all().next() {
        return Step::RemoveContainer { id: c.id.clone() };
    }
    if let Some(sandbox) = &seen.sandbox {
        // It has no work of its own to end: it is removed as it runs.
        return Step::RemoveSandbox { id: sandbox.id.clone() };
    }
    if seen.directory { Step::RemoveDirectory } else { Step::ReportGone }
}

/// Kills, and kills again when that did not help.
fn kill_again(seen: &Observed, id: &str, now: Timestamp) -> Step {
    let killed = seen.memory.stopping.get(id).and_then(|s| s.killed);
    match killed.map(|k| k + KILL_AGAIN) {
        Some(again) if now < again => Step::Wait(Some(again)),
        _ => Step::Kill { id: id.to_owned() },
    }
}

/// Stops every container; sidecars after the others, the last started first.
fn stop_all(want: &Assignment, seen: &Observed, now: Timestamp) -> Option<Step> {
    let why = |name: &str| Some(format!("Stopping container {name}"));
    let is_sidecar =
        |name: &str| want.container(name).is_some_and(|spec| spec.role == Role::Sidecar);
    let others = stop(want, seen, now, |name, _| why(name).filter(|_| !is_sidecar(name)));
    if others.is_some() {
        return others;
    }
    let sidecars = want.init.iter().rev().filter(|c| c.role == Role::Sidecar);
    for sidecar in sidecars {
        let step = stop(want, seen, now, |name, _| why(name).filter(|_| name == sidecar.name));
        if step.is_some() {
            return step;
        }
    }
    None
}

/// Stops the running containers for which `why` has a reason, all at the same time; `None` when
/// none runs.
fn stop(
    want: &Assignment,
    seen: &Observed,
    now: Timestamp,
    why: impl Fn(&str, &Container) -> Option<String>,
) -> Option<Step> {
    let running = seen.all().filter(|(_, c)| c.state.is_running());
    let mut wake = None;
    for (name, container) in running {
        let Some(why) = why(name, container) else { continue };
        let id = container.id.clone();
        let Some(stopping) = seen.memory.stopping.get(&id) else {
            let grace = grace(want, seen, name, container);
            return Some(Step::Stop { name: name.to_owned(), id, grace, why });
        };
        let next = match stopping.killed {
            Some(killed) => killed + KILL_AGAIN,
            None => stopping.deadline,
        };
        if now >= next {
            return Some(Step::Kill { id });
        }
        wake = earlier(wake, Some(next));
    }
    wake.map(|at| Step::Wait(Some(at)))
}

/// A probe that kills may have a grace period of its own; a pod that is being deleted has its
/// deletion's.
fn grace(want: &Assignment, seen: &Observed, name: &str, container: &Container) -> Duration {
    let own = |kind| {
        let failed = seen.verdict(&container.id, kind) == Some(false);
        want.container(name)?.probes.get(&kind)?.grace.filter(|_| failed)
    };
    match want.wanted {
        Wanted::Gone => want.grace,
        _ => own(probe::Kind::Startup).or(own(probe::Kind::Liveness)).unwrap_or(want.grace),
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}
