//! The driver of pods, its deciding half: events in, effects out.
//!
//! [`Pods::apply`] changes what is known and says what to do; it never waits, so a test or a simulation can drive it
//! with a machine of its own. [`super::driver`] is the loop around it. One step at a time for each pod, many pods at
//! once. Nothing is done to a pod before the machine was listed and, for pods nobody describes, before a whole
//! desired set is known.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod as CorePod, PodStatus};

use super::runtime::{Error, Found, FoundImage, Make};
use crate::{
    model::{
        Key, Object, Timestamp,
        session::{ObservedEvent, ObservedPod},
    },
    node::{
        Assignment, Memory, NodeFacts, Observed, Step,
        assignment::{GRACE, Wanted},
        files::PodDns,
        ipam::{self, PodRange},
        next_step,
        probe::{Action, Kind, Outcome, State as ProbeState},
        seen::{Failure, Image, SANDBOX, State, Stopping},
        status,
    },
};

/// Most sandboxes and containers that are made or started together. Measured on two cores: the same throughput as
/// 50 at once, and the slowest pod starts four times sooner.
pub const STARTS_MAX: usize = 6;
/// How often the whole machine is listed although no event asked for it: events may be lost.
pub const RELIST: Duration = Duration::from_secs(60);
/// The first wait after a failed step; it doubles to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait after failed steps.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long after its connection was lost the daemon is called again.
const RECONNECT: Duration = Duration::from_secs(1);
/// What a container gets for its signal after its hook has used all of the grace period (as the kubelet gives).
const GRACE_AFTER_HOOK: Duration = Duration::from_secs(2);
/// Most bytes of a probe's answer that an event repeats.
const EVENT_BYTES_MAX: usize = 1024;

/// What the node is, as far as its pods see it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node.
    pub node: NodeFacts,
    /// How its pods resolve names.
    pub dns: PodDns,
    /// Its pod range; `None` until the server has given one.
    pub range: Option<PodRange>,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A whole desired set: this node's pods and the ConfigMaps and Secrets they use.
    Desired(BTreeMap<Key, Object>),
    /// The node's facts, DNS or range changed.
    Settings(Settings),
    /// The machine was listed; `asked` is the number its effect carried.
    Listed {
        /// From [`Effect::List`] or [`Effect::Connect`].
        asked: u64,
        /// What there is.
        result: Result<BTreeMap<String, Found>, Error>,
    },
    /// The daemon went away.
    Disconnected,
    /// Something happened to a pod.
    Changed(String),
    /// A step (or a mere look) was done, and the pod was looked at after it.
    Stepped {
        /// The pod.
        uid: String,
        /// What was done; `None` for a look.
        step: Option<Step>,
        /// A warning, or why it failed.
        result: Result<Option<String>, Error>,
        /// What there is of the pod now.
        found: Result<Option<Found>, Error>,
    },
    /// An image was looked for or pulled.
    Image {
        /// Its reference.
        image: String,
        /// The pod and container start for which it was pulled; `None` for a look.
        pulled: Option<(String, String, u32)>,
        /// How long it took.
        took: Duration,
        /// What there is now.
        result: Result<Option<FoundImage>, Error>,
    },
    /// A container was asked to stop.
    Stopped {
        /// The pod.
        uid: String,
        /// What its hook said, when that failed.
        hook: Option<String>,
        /// What came of the signal.
        result: Result<(), Error>,
    },
    /// A probe was answered.
    Probed {
        /// The pod.
        uid: String,
        /// The container's id.
        id: String,
        /// Which.
        kind: Kind,
        /// The answer.
        outcome: Outcome,
    },
    /// The time that [`Pods::wake`] named has come.
    Tick,
}

/// Something to do.
#[derive(Debug)]
pub enum Effect {
    /// Wait, watch the machine, then list it.
    Connect {
        /// To be given back.
        asked: u64,
        /// How long to wait first.
        after: Duration,
    },
    /// List the machine.
    List {
        /// To be given back.
        asked: u64,
    },
    /// Do a step, then look at the pod; only look when there is none.
    Do {
        /// The pod.
        want: Arc<Assignment>,
        /// What to do.
        step: Option<Step>,
        /// The address for a new sandbox.
        ip: Option<Ipv4Addr>,
        /// The container to make.
        make: Option<Make>,
        /// Done when the container was started.
        post_start: Option<Action>,
        /// The pod's address.
        pod_ip: Option<IpAddr>,
    },
    /// Look for an image, or pull it.
    Image {
        /// Its reference.
        image: String,
        /// The pod and container start that ask for a pull.
        pull: Option<(String, String, u32)>,
    },
    /// Run the hook, then send the signal.
    Stop {
        /// The pod.
        uid: String,
        /// The container's id.
        id: String,
        /// Done before the signal.
        hook: Option<Action>,
        /// How long the hook may take.
        grace: Duration,
        /// The signal the pod asks for.
        signal: Option<String>,
        /// The pod's address.
        pod_ip: Option<IpAddr>,
    },
    /// Probe a container.
    Probe {
        /// The pod.
        uid: String,
        /// The container's id.
        id: String,
        /// Which.
        kind: Kind,
        /// What to ask.
        action: Action,
        /// How long it may take.
        timeout: Duration,
        /// The pod's address.
        pod_ip: Option<IpAddr>,
    },
    /// Tell the server about a pod.
    Report(ObservedPod),
    /// Tell the server an event.
    Tell(ObservedEvent),
}

/// All pods of this node.
#[derive(Debug)]
pub struct Pods {
    settings: Settings,
    objects: BTreeMap<Key, Object>,
    /// A whole desired set was given: what is not in it is nobody's.
    desired: bool,
    /// The machine was listed and has not gone away since.
    connected: bool,
    /// The machine was listed once: what was not found is not there.
    listed: bool,
    pods: BTreeMap<String, Pod>,
    images: BTreeMap<String, Image>,
    /// Pods that wait for one of [`STARTS_MAX`].
    queue: VecDeque<String>,
    starts: usize,
    /// The address given last.
    cursor: Option<Ipv4Addr>,
    /// Counts what was asked, so that an old answer cannot overwrite a newer one.
    asked: u64,
    relist_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Pod {
    key: Key,
    object: Option<Object>,
    want: Option<Arc<Assignment>>,
    want_ip: Option<IpAddr>,
    found: Found,
    memory: Memory,
    status: Option<PodStatus>,
    reported: Option<PodStatus>,
    start_time: Timestamp,
    /// A step is under way.
    busy: bool,
    /// Something happened meanwhile.
    again: bool,
    wake: Option<Timestamp>,
    /// Nothing is left and that was reported.
    gone: bool,
    /// The address of a sandbox that is being made.
    claim: Option<Ipv4Addr>,
    /// Failed steps in a row, and when the next may be tried.
    retry: Option<(u32, Timestamp)>,
    /// The last thing said about volumes that cannot be made.
    unmounted: Option<String>,
    touched: u64,
}

impl Pods {
    /// Knows nothing yet. The first effect is to connect.
    pub fn new(settings: Settings) -> (Self, Vec<Effect>) {
        let pods = Self {
            settings,
            objects: BTreeMap::new(),
            desired: false,
            connected: false,
            listed: false,
            pods: BTreeMap::new(),
            images: BTreeMap::new(),
            queue: VecDeque::new(),
            starts: 0,
            cursor: None,
            asked: 0,
            relist_at: None,
        };
        (pods, vec![Effect::Connect { asked: 0, after: Duration::ZERO }])
    }

    /// When to send [`Event::Tick`] if nothing happens before.
    pub fn wake(&self) -> Option<Timestamp> {
        let pods = self.pods.values().filter_map(|p| p.wake);
        pods.chain(self.relist_at.filter(|_| self.connected)).min()
    }

    /// Whether the machine answers.
    pub fn connected(&self) -> bool {
        self.connected
    }

    /// Docker's id of a container of a pod, for its logs; the one before its last restart when `previous`.
    pub fn container_id(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        previous: bool,
    ) -> Result<String, String> {
        let named = |p: &&Pod| p.key.namespace == namespace && p.key.name == pod;
        let found = self.pods.values().filter(named).max_by_key(|p| p.object.is_some());
        let found = found.ok_or_else(|| format!("pod {namespace}/{pod} is not on this node"))?;
        let specs = found.want.iter().flat_map(|w| w.app.iter().map(|c| c.name.as_str()));
        let name = container.or(specs.into_iter().next()).unwrap_or_default();
        let list = found.found.containers.get(name).map(Vec::as_slice).unwrap_or_default();
        let chosen = match (previous, list) {
            (false, [.., last]) => Some(last),
            (true, [.., before, _]) => Some(before),
            _ => None,
        };
        chosen.map(|c| c.id.clone()).ok_or_else(|| match previous {
            true => format!("previous terminated container {name:?} in pod {pod:?} not found"),
            false => format!("container {name:?} in pod {pod:?} is waiting to start"),
        })
    }

    /// Takes one event in and says what to do. Never waits.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        let mut out = vec![];
        match event {
            Event::Desired(objects) => self.on_desired(objects, now),
            Event::Settings(settings) => self.on_settings(settings),
            Event::Listed { asked, result } => return self.on_listed(asked, result, now),
            Event::Disconnected => self.lose(&mut out),
            Event::Changed(uid) => {
                self.on_changed(&uid, &mut out);
                return out;
            }
            Event::Stepped { uid, step, result, found } => {
                return self.on_stepped(&uid, step.as_ref(), result, found, now);
            }
            Event::Image { image, pulled, took, result } => {
                self.on_image(&image, pulled, took, result, now, &mut out);
            }
            Event::Stopped { uid, hook, result } => {
                if let Some(said) = hook {
                    self.tell(&uid, true, "FailedPreStopHook", said, now, &mut out);
                }
                if let Err(Error::Unreachable(_)) = result {
                    self.lose(&mut out);
                }
                return out;
            }
            Event::Probed { uid, id, kind, outcome } => {
                self.on_probed(&uid, &id, kind, &outcome, now, &mut out);
                self.advance(&uid, now, &mut out);
                return out;
            }
            Event::Tick => {
                if self.connected && self.relist_at.is_some_and(|at| at <= now) {
                    self.relist_at = Some(now + RELIST);
                    self.asked += 1;
                    out.push(Effect::List { asked: self.asked });
                }
                let due = |p: &Pod| p.wake.is_some_and(|at| at <= now);
                let due: Vec<_> =
                    self.pods.iter().filter(|(_, p)| due(p)).map(|(u, _)| u.clone()).collect();
                for uid in due {
                    self.advance(&uid, now, &mut out);
                }
                return out;
            }
        }
        self.advance_all(now, &mut out);
        out
    }

    // --- what happened ---

    fn on_desired(&mut self, objects: BTreeMap<Key, Object>, now: Timestamp) {
        self.desired = true;
        self.objects = objects;
        for pod in self.pods.values_mut() {
            pod.object = None;
        }
        for (key, object) in &self.objects {
            if !key.is::<CorePod>() || object.uid().is_empty() {
                continue;
            }
            let uid = object.uid().to_owned();
            let pod = self.pods.entry(uid).or_insert_with(|| Pod::new(key.clone(), now));
            pod.object = Some(object.clone());
            if pod.status.is_none() {
                // What the server last heard from us (or from the agent before us) is where we go on.
                pod.status = object.view::<CorePod>().and_then(|p| p.status.clone());
            }
        }
        for (uid, pod) in &mut self.pods {
            pod.refresh(uid, &self.objects, &self.settings);
        }
        self.pods.retain(|_, p| p.object.is_some() || !p.gone);
    }

    fn on_settings(&mut self, settings: Settings) {
        self.settings = settings;
        for (uid, pod) in &mut self.pods {
            pod.refresh(uid, &self.objects, &self.settings);
        }
    }

    fn on_listed(
        &mut self,
        asked: u64,
        result: Result<BTreeMap<String, Found>, Error>,
        now: Timestamp,
    ) -> Vec<Effect> {
        let mut out = vec![];
        let Ok(mut listing) = result else {
            self.connected = false;
            self.asked += 1;
            out.push(Effect::Connect { asked: self.asked, after: RECONNECT });
            return out;
        };
        if self.cursor.is_none() {
            let newest = listing.values().filter_map(|f| f.sandbox.as_ref().zip(f.claimed));
            self.cursor = newest.max_by_key(|(s, _)| s.created).map(|(_, ip)| ip);
        }
        for (uid, found) in &listing {
            let unnamed = || Key::of::<CorePod>("", uid);
            let key = || found.key.clone().unwrap_or_else(unnamed);
            self.pods.entry(uid.clone()).or_insert_with(|| Pod::new(key(), now));
        }
        for (uid, pod) in &mut self.pods {
            let found = listing.remove(uid).unwrap_or_default();
            if pod.busy || pod.touched > asked {
                // It was looked at, or something was done to it, after this list was begun.
                pod.again |= pod.busy;
                continue;
            }
            pod.see(uid, found, &self.objects, &self.settings);
        }
        // Images may have been removed meanwhile; a failed pull keeps its back-off.
        self.images.retain(|_, i| matches!(i, Image::Busy { .. } | Image::Failed { .. }));
        self.listed = true;
        self.connected = true;
        self.relist_at = Some(now + RELIST);
        self.advance_all(now, &mut out);
        out
    }

    /// The daemon does not answer: everything stays as it was last seen until it does.
    fn lose(&mut self, out: &mut Vec<Effect>) {
        if self.connected {
            self.connected = false;
            self.asked += 1;
            out.push(Effect::Connect { asked: self.asked, after: RECONNECT });
        }
    }

    fn on_changed(&mut self, uid: &str, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.busy {
            pod.again = true;
        } else if let Some(want) = pod.want.clone() {
            self.asked += 1;
            pod.busy = true;
            pod.touched = self.asked;
            out.push(Effect::look(want));
        }
    }

    fn on_stepped(
        &mut self,
        uid: &str,
        step: Option<&Step>,
        result: Result<Option<String>, Error>,
        found: Result<Option<Found>, Error>,
        now: Timestamp,
    ) -> Vec<Effect> {
        let mut out = vec![];
        if step.is_some_and(is_start) {
            self.starts -= 1;
        }
        let unreachable = |e: Option<&Error>| matches!(e, Some(Error::Unreachable(_)));
        if unreachable(result.as_ref().err()) || unreachable(found.as_ref().err()) {
            self.lose(&mut out);
        }
        self.asked += 1;
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.busy = false;
            pod.touched = self.asked;
            match found {
                Ok(found) => {
                    let found = found.unwrap_or_default();
                    pod.see(uid, found, &self.objects, &self.settings);
                }
                Err(_) => pod.found.unknown = true,
            }
        }
        if let Some(step) = step {
            self.settle(uid, step, result, now, &mut out);
        }
        let again = self.pods.get_mut(uid).is_some_and(|p| std::mem::take(&mut p.again));
        if again {
            self.on_changed(uid, &mut out);
        } else {
            self.advance(uid, now, &mut out);
        }
        if self.starts < STARTS_MAX
            && let Some(next) = self.queue.pop_front()
        {
            self.advance(&next, now, &mut out);
        }
        out
    }

    /// Remembers what came of a step and tells it.
    fn settle(
        &mut self,
        uid: &str,
        step: &Step,
        result: Result<Option<String>, Error>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let subject = match step {
            Step::CreateContainer { name, .. } | Step::StartContainer { name, .. } => name.as_str(),
            _ => SANDBOX,
        };
        let message = match result {
            Ok(warning) => {
                pod.retry = None;
                pod.memory.failures.remove(subject);
                if let Some(warning) = warning {
                    self.tell(uid, true, "HostLimits", warning, now, out);
                } else {
                    match step {
                        Step::CreateContainer { name, .. } => {
                            let text = format!("Created container: {name}");
                            self.tell(uid, false, "Created", text, now, out);
                        }
                        Step::StartContainer { name, .. } => {
                            let text = format!("Started container {name}");
                            self.tell(uid, false, "Started", text, now, out);
                        }
                        _ => {}
                    }
                }
                return;
            }
            Err(Error::Unreachable(_)) => return,
            Err(e) => e.to_string(),
        };
        let tries = pod.retry.map_or(0, |(tries, _)| tries);
        let wait = (RETRY * 2u32.saturating_pow(tries.min(10))).min(RETRY_MAX);
        pod.retry = Some((tries.saturating_add(1), now + wait));
        let (reason, event, text) = match step {
            Step::WriteVolumes => ("FailedMount", "FailedMount", message.clone()),
            Step::CreateSandbox | Step::StartSandbox { .. } => {
                let text = format!("Failed to create pod sandbox: {message}");
                ("FailedCreatePodSandBox", "FailedCreatePodSandBox", text)
            }
            Step::CreateContainer { .. } => {
                ("CreateContainerError", "Failed", format!("Error: {message}"))
            }
            Step::StartContainer { .. } => {
                ("RunContainerError", "Failed", format!("Error: {message}"))
            }
            _ => ("", "FailedKillPod", message.clone()),
        };
        if !reason.is_empty() {
            let count = pod.memory.failures.get(subject).map_or(0, |f| f.count);
            let count = count.saturating_add(1);
            let failure = Failure { reason: reason.into(), message, count, at: now };
            // A failed start has a container that ended; that one's back-off is enough.
            if !matches!(step, Step::StartContainer { .. }) {
                pod.memory.failures.insert(subject.to_owned(), failure);
            }
        }
        if let Step::CreateContainer { name, .. } = step
            && let Some(spec) = pod.want.as_ref().and_then(|w| w.container(name))
        {
            // It may be the image that went away.
            self.images.remove(&spec.image);
        }
        self.tell(uid, true, event, text, now, out);
    }

    fn on_image(
        &mut self,
        image: &str,
        pulled: Option<(String, String, u32)>,
        took: Duration,
        result: Result<Option<FoundImage>, Error>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let state = match result {
            Ok(Some(found)) => Image::Present { id: found.id, user: found.user },
            Ok(None) => Image::Absent,
            Err(Error::Unreachable(_)) if pulled.is_none() => {
                self.lose(out);
                Image::Unknown
            }
            Err(e) => {
                let count = self.images.get(image).map_or(0, failures).saturating_add(1);
                Image::Failed { message: e.to_string(), count, at: now }
            }
        };
        if let Some((uid, container, attempt)) = pulled {
            match &state {
                Image::Failed { message, .. } => {
                    let text = format!("Failed to pull image {image:?}: {message}");
                    self.tell(&uid, true, "Failed", text, now, out);
                    self.tell(&uid, true, "Failed", "Error: ErrImagePull".into(), now, out);
                }
                _ => {
                    let took = took.as_secs_f64();
                    let text = format!("Successfully pulled image {image:?} in {took:.3}s");
                    self.tell(&uid, false, "Pulled", text, now, out);
                    if let Some(pod) = self.pods.get_mut(&uid) {
                        pod.memory.pulled.insert((container, attempt));
                    }
                }
            }
        }
        self.images.insert(image.to_owned(), state);
    }

    fn on_probed(
        &mut self,
        uid: &str,
        id: &str,
        kind: Kind,
        outcome: &Outcome,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let name = pod.found.containers.iter().find(|(_, l)| l.iter().any(|c| c.id == id));
        let spec = name.and_then(|(name, _)| pod.want.as_ref()?.container(name));
        let Some(probe) = spec.and_then(|s| s.probes.get(&kind)) else { return };
        let state = pod.memory.probes.entry((id.to_owned(), kind)).or_default();
        *state = probe.record(state, outcome);
        if let Outcome::Failure(why) = outcome {
            let mut text = format!("{} probe failed: {why}", kind.as_str());
            text.truncate(text.floor_char_boundary(EVENT_BYTES_MAX));
            self.tell(uid, true, "Unhealthy", text, now, out);
        }
    }

    // --- what to do ---

    fn advance_all(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let uids: Vec<_> = self.pods.keys().cloned().collect();
        for uid in uids {
            self.advance(&uid, now, out);
        }
    }

    fn advance(&mut self, uid: &str, now: Timestamp, out: &mut Vec<Effect>) {
        if !self.listed {
            return;
        }
        let elder = self.has_elder(uid);
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.want.is_none() && self.desired {
            pod.refresh(uid, &self.objects, &self.settings);
        }
        let Some(want) = pod.want.clone().filter(|w| self.desired || w.object.is_some()) else {
            return;
        };
        if pod.gone {
            return;
        }
        pod.wake = None;
        self.tell_status(uid, &want, now, out);
        if self.connected && !elder {
            self.take_steps(uid, &want, now, out);
        }
        self.probe(uid, &want, now, out);
    }

    /// Whether an earlier pod of the same name is still here: its successor waits.
    fn has_elder(&self, uid: &str) -> bool {
        let Some(pod) = self.pods.get(uid).filter(|p| p.object.is_some()) else { return false };
        let same = |(other, p): (&String, &Pod)| {
            other != uid && p.key == pod.key && p.object.is_none() && !p.gone
        };
        self.pods.iter().any(same)
    }

    fn observe(&self, pod: &Pod) -> Observed {
        let images = pod.want.iter().flat_map(|w| w.containers());
        let image = |image: &String| {
            let known = self.images.get(image).cloned().unwrap_or(Image::Unknown);
            (image.clone(), known)
        };
        Observed {
            sandbox: pod.found.sandbox.clone(),
            containers: pod.found.containers.clone(),
            volumes: pod.found.volumes.clone(),
            directory: pod.found.directory,
            images: images.map(|c| image(&c.image)).collect(),
            network_ready: self.settings.range.is_some(),
            memory: pod.memory.clone(),
            previous: pod.status.clone(),
            start_time: Some(pod.start_time),
        }
    }

    /// Makes the status anew, reports it when it changed, and tells what is new in it.
    fn tell_status(&mut self, uid: &str, want: &Assignment, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get(uid) else { return };
        if want.object.is_none() {
            return;
        }
        let new = status(want, &self.observe(pod), now);
        let mut told = vec![];
        let lists = |s: &PodStatus| {
            let (init, app) = (s.init_container_statuses.clone(), s.container_statuses.clone());
            init.into_iter().chain(app).flatten().collect::<Vec<_>>()
        };
        let before = pod.status.as_ref().map(lists).unwrap_or_default();
        for status in lists(&new) {
            let before = before.iter().find(|b| b.name == status.name).and_then(waiting);
            let Some((reason, message)) = waiting(&status) else { continue };
            if before.as_ref().map(|b| &b.0) == Some(&reason) {
                continue;
            }
            let (name, image) = (&status.name, &status.image);
            match reason.as_str() {
                "CrashLoopBackOff" => told.push((
                    "BackOff",
                    format!(
                        "Back-off restarting failed container {name} in pod {}_{}({uid})",
                        want.key.name, want.key.namespace
                    ),
                )),
                "ImagePullBackOff" => {
                    told.push(("BackOff", format!("Back-off pulling image {image:?}")));
                }
                "ErrImageNeverPull" => told.push(("ErrImageNeverPull", message)),
                "CreateContainerConfigError" => told.push(("Failed", format!("Error: {message}"))),
                _ => {}
            }
        }
        let unmounted = want.volumes.iter().find_map(|v| v.source.as_ref().err()).cloned();
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.unmounted != unmounted {
            told.extend(unmounted.clone().map(|m| ("FailedMount", m)));
            pod.unmounted = unmounted;
        }
        pod.status = Some(new.clone());
        if pod.reported.as_ref() != Some(&new) {
            pod.reported = Some(new.clone());
            let (key, uid) = (pod.key.clone(), uid.to_owned());
            let status = Box::new(new);
            out.push(Effect::Report(ObservedPod { key, uid, status, gone: false }));
        }
        for (reason, message) in told {
            self.tell(uid, true, reason, message, now, out);
        }
    }

    fn take_steps(
        &mut self,
        uid: &str,
        want: &Arc<Assignment>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        // Steps that only begin something are followed by the next one; there are never more of them than
        // containers and images.
        loop {
            let Some(pod) = self.pods.get(uid) else { return };
            if pod.busy || pod.found.unknown {
                return;
            }
            if let Some((_, at)) = pod.retry.filter(|(_, at)| now < *at) {
                self.wake_at(uid, Some(at));
                return;
            }
            match next_step(want, &self.observe(pod), now) {
                Step::Settled => return,
                Step::Wait(until) => {
                    self.wake_at(uid, until);
                    return;
                }
                Step::ReportGone => {
                    self.report_gone(uid, now, out);
                    return;
                }
                Step::FindImage { image } => {
                    self.mark_busy(&image);
                    out.push(Effect::Image { image, pull: None });
                }
                Step::PullImage { image, container, attempt } => {
                    self.mark_busy(&image);
                    self.tell(uid, false, "Pulling", format!("Pulling image {image:?}"), now, out);
                    let pull = Some((uid.to_owned(), container, attempt));
                    out.push(Effect::Image { image, pull });
                }
                Step::Stop { name, id, grace, why } => {
                    self.stop(uid, want, &name, id, grace, now, out);
                    self.tell(uid, false, "Killing", why, now, out);
                }
                step => {
                    self.perform(uid, want, step, now, out);
                    return;
                }
            }
        }
    }

    fn mark_busy(&mut self, image: &str) {
        let failures = self.images.get(image).map_or(0, failures);
        self.images.insert(image.to_owned(), Image::Busy { failures });
    }

    fn report_gone(&mut self, uid: &str, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.gone = true;
        let status = Box::new(pod.status.clone().unwrap_or_default());
        let (key, uid) = (pod.key.clone(), uid.to_owned());
        if pod.object.is_none() {
            self.pods.remove(&uid);
        }
        let waiting = self.pods.iter().filter(|(_, p)| p.key == key && !p.gone);
        let waiting: Vec<_> = waiting.map(|(uid, _)| uid.clone()).collect();
        out.push(Effect::Report(ObservedPod { key, uid, status, gone: true }));
        for successor in waiting {
            self.advance(&successor, now, out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call; a struct would be built and dropped")]
    fn stop(
        &mut self,
        uid: &str,
        want: &Assignment,
        name: &str,
        id: String,
        grace: Duration,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let spec = want.container(name);
        let hook = spec.and_then(|s| s.pre_stop.clone()).filter(|_| !grace.is_zero());
        let after_hook = if hook.is_some() { GRACE_AFTER_HOOK } else { Duration::ZERO };
        let deadline = now + grace + after_hook;
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.memory.stopping.insert(id.clone(), Stopping { deadline, killed: None });
        let signal = spec.and_then(|s| s.stop_signal.clone());
        let (uid, pod_ip) = (uid.to_owned(), pod.address(want));
        out.push(Effect::Stop { uid, id, hook, grace, signal, pod_ip });
    }

    fn perform(
        &mut self,
        uid: &str,
        want: &Arc<Assignment>,
        step: Step,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let mut ip = None;
        if is_start(&step) {
            if self.starts >= STARTS_MAX {
                if !self.queue.iter().any(|q| q == uid) {
                    self.queue.push_back(uid.to_owned());
                }
                return;
            }
            if step == Step::CreateSandbox && !want.sandbox.host_network {
                let Some(free) = self.free_address() else {
                    let text = "Failed to create pod sandbox: no address is free in the node's \
                                pod range";
                    self.tell(uid, true, "FailedCreatePodSandBox", text.into(), now, out);
                    self.wake_at(uid, Some(now + RETRY_MAX));
                    return;
                };
                self.cursor = Some(free);
                ip = Some(free);
            }
            self.starts += 1;
        }
        self.asked += 1;
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.busy = true;
        pod.touched = self.asked;
        pod.claim = ip.or(pod.claim);
        if let Step::Kill { id } = &step {
            let stopping = Stopping { deadline: now, killed: None };
            pod.memory.stopping.entry(id.clone()).or_insert(stopping).killed = Some(now);
        }
        let sandbox = pod.found.sandbox.as_ref().map(|s| s.id.clone()).unwrap_or_default();
        let (mut make, mut post_start, mut already) = (None, None, None);
        match &step {
            Step::CreateContainer { name, attempt, backoff } => {
                let (name, attempt, backoff) = (name.clone(), *attempt, *backoff);
                if !pod.memory.pulled.contains(&(name.clone(), attempt)) {
                    already = want.container(&name).map(|c| c.image.clone());
                }
                make = Some(Make { name, attempt, backoff, sandbox });
            }
            Step::StartContainer { name, .. } => {
                post_start = want.container(name).and_then(|c| c.post_start.clone());
            }
            _ => {}
        }
        let pod_ip = pod.address(want);
        if let Some(image) = already {
            let text = format!("Container image {image:?} already present on machine");
            self.tell(uid, false, "Pulled", text, now, out);
        }
        let want = want.clone();
        out.push(Effect::Do { want, step: Some(step), ip, make, post_start, pod_ip });
    }

    /// The next address that no sandbox has or is about to have.
    fn free_address(&self) -> Option<Ipv4Addr> {
        let used = self.pods.values().flat_map(|p| p.claim.into_iter().chain(p.found.claimed));
        ipam::next_free(self.settings.range?, &used.collect(), self.cursor)
    }

    /// Begins the probes that are due.
    fn probe(&mut self, uid: &str, want: &Assignment, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if want.wanted == Wanted::Ended {
            return;
        }
        let pod_ip = pod.address(want);
        let mut wake = None;
        for (name, list) in &pod.found.containers {
            let (Some(spec), Some(container)) = (want.container(name), list.last()) else {
                continue;
            };
            let State::Running(since) = container.state else { continue };
            let id = &container.id;
            let stopping = pod.memory.stopping.contains_key(id) || want.wanted == Wanted::Gone;
            let key = |kind| (id.clone(), kind);
            let started = !spec.probes.contains_key(&Kind::Startup)
                || pod.memory.probes.get(&key(Kind::Startup)).and_then(|s| s.verdict) == Some(true);
            for (kind, probe) in &spec.probes {
                let wanted = match kind {
                    Kind::Startup => !started && !stopping,
                    Kind::Liveness => started && !stopping,
                    Kind::Readiness => started,
                };
                let state = pod.memory.probes.entry(key(*kind)).or_default();
                if !wanted || state.busy {
                    continue;
                }
                let due = probe.due(state, since);
                if now < due {
                    wake = wake.into_iter().chain([due]).min();
                    continue;
                }
                state.busy = true;
                state.begun = Some(now);
                let (uid, id, kind) = (uid.to_owned(), id.clone(), *kind);
                let (action, timeout) = (probe.action.clone(), probe.timeout);
                out.push(Effect::Probe { uid, id, kind, action, timeout, pod_ip });
            }
        }
        self.wake_at(uid, wake);
    }

    fn wake_at(&mut self, uid: &str, at: Option<Timestamp>) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.wake = pod.wake.into_iter().chain(at).min();
        }
    }

    fn tell(
        &self,
        uid: &str,
        warning: bool,
        reason: &str,
        message: String,
        at: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some(pod) = self.pods.get(uid) else { return };
        let (regarding, uid) = (pod.key.clone(), uid.to_owned());
        let reason = reason.to_owned();
        out.push(Effect::Tell(ObservedEvent { regarding, uid, warning, reason, message, at }));
    }
}

impl Effect {
    /// Only look at a pod.
    fn look(want: Arc<Assignment>) -> Self {
        Self::Do { want, step: None, ip: None, make: None, post_start: None, pod_ip: None }
    }
}

impl Pod {
    fn new(key: Key, now: Timestamp) -> Self {
        Self {
            key,
            object: None,
            want: None,
            want_ip: None,
            found: Found::default(),
            memory: Memory::default(),
            status: None,
            reported: None,
            start_time: now,
            busy: false,
            again: false,
            wake: None,
            gone: false,
            claim: None,
            retry: None,
            unmounted: None,
            touched: 0,
        }
    }

    fn address(&self, want: &Assignment) -> Option<IpAddr> {
        let sandbox = self.found.sandbox.as_ref().and_then(|s| s.ip);
        sandbox.or_else(|| Some(&want.host_ip).filter(|_| want.sandbox.host_network)?.parse().ok())
    }

    /// Reads the assignment anew. A pod that is not desired any more is to be removed, as it was last described.
    fn refresh(&mut self, uid: &str, objects: &BTreeMap<Key, Object>, settings: &Settings) {
        self.want_ip = self.found.sandbox.as_ref().and_then(|s| s.ip);
        let want = match &self.object {
            Some(object) => {
                Assignment::of(object, objects, &settings.node, &settings.dns, self.want_ip)
            }
            None => None,
        };
        let want = want.unwrap_or_else(|| match self.want.as_deref() {
            Some(before) => before.clone().gone(),
            None => {
                let grace = self.found.grace.unwrap_or(GRACE);
                Assignment::orphan(self.key.clone(), uid, grace)
            }
        });
        self.want = Some(Arc::new(want));
    }

    /// Takes in what there is of the pod now.
    fn see(
        &mut self,
        uid: &str,
        found: Found,
        objects: &BTreeMap<Key, Object>,
        settings: &Settings,
    ) {
        self.found = found;
        if self.found.sandbox.is_some() {
            self.claim = None;
        }
        let containers = self.found.containers.values().flatten();
        let mut ids: Vec<&str> = containers.clone().map(|c| c.id.as_str()).collect();
        ids.extend(self.found.sandbox.iter().map(|s| s.id.as_str()));
        self.memory.probes.retain(|(id, _), _| ids.contains(&id.as_str()));
        self.memory.stopping.retain(|id, _| ids.contains(&id.as_str()));
        for container in containers.filter(|c| c.state.is_running()) {
            seed(&mut self.memory, self.status.as_ref(), &container.id);
        }
        let ip = self.found.sandbox.as_ref().and_then(|s| s.ip);
        if self.object.is_some() && self.want_ip != ip {
            self.refresh(uid, objects, settings);
        }
    }
}

/// A container that an agent before us (or a look before this one) knew as ready stays so until a probe says
/// otherwise: a restart of the agent takes no endpoint away.
fn seed(memory: &mut Memory, status: Option<&PodStatus>, id: &str) {
    let known = format!("docker://{id}");
    let lists = status
        .into_iter()
        .flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten());
    let mut lists = lists.filter(|s| s.container_id.as_ref() == Some(&known));
    let Some(status) = lists.next() else { return };
    let verdicts = [(Kind::Readiness, status.ready), (Kind::Startup, status.started == Some(true))];
    for (kind, holds) in verdicts {
        if holds {
            let state = ProbeState { verdict: Some(true), ..ProbeState::default() };
            memory.probes.entry((id.to_owned(), kind)).or_insert(state);
        }
    }
}

fn waiting(status: &ContainerStatus) -> Option<(String, String)> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.clone()?, waiting.message.clone().unwrap_or_default()))
}

fn failures(image: &Image) -> u32 {
    match image {
        Image::Busy { failures } => *failures,
        Image::Failed { count, .. } => *count,
        _ => 0,
    }
}

/// Steps of which only [`STARTS_MAX`] are done together.
fn is_start(step: &Step) -> bool {
    matches!(
        step,
        Step::CreateSandbox
            | Step::StartSandbox { .. }
            | Step::CreateContainer { .. }
            | Step::StartContainer { .. }
    )
}

#[cfg(test)]
mod tests;
