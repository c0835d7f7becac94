//! The driver of pods, its deciding half: events in, effects out.
//!
//! [`Pods::apply`] changes what is known and says what to do; it never waits, so a test or a
//! simulation can drive it with a machine of its own. [`super::driver`] is the loop around it. One
//! step at a time for each pod, many pods at once. Nothing is done to a pod before the machine was
//! listed and, for pods nobody describes, before a whole desired set is known.

mod advance;
mod find;
mod record;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod as CorePod;

pub use self::{
    find::{Missing, Place, Wanted},
    words::{Effect, Event, Settings},
};
use self::{record::Pod, words::is_start};
use super::runtime::{Error, Found, FoundImage};
use crate::{
    model::{Key, Object, Timestamp},
    node::{
        Step,
        probe::{Kind, Outcome},
        seen::{Failure, Image, SANDBOX},
        step::resize_subject,
        tokens::{Token, Wish},
    },
};

/// Most sandboxes and containers that are made or started together. Measured on two cores: the same
/// throughput as 50 at once, and the slowest pod starts four times sooner.
pub const STARTS_MAX: usize = 6;
/// How often the whole machine is listed although no event asked for it: events may be lost.
pub const RELIST: Duration = Duration::from_secs(60);
/// The first wait after a failed step; it doubles to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait after failed steps.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long after its connection was lost the daemon is called again.
const RECONNECT: Duration = Duration::from_secs(1);
/// What a container gets for its signal after its hook has used all of the grace period (as the
/// kubelet gives).
const GRACE_AFTER_HOOK: Duration = Duration::from_secs(2);
/// Most bytes of a probe's answer that an event repeats.
const EVENT_BYTES_MAX: usize = 1024;
/// Most of a failed container's last log lines that an event repeats: enough for an error and where
/// it comes from, and little enough for the log of the servers.
const LAST_LINES_MAX: usize = 8;
/// Most bytes of those lines.
const LAST_LINES_BYTES_MAX: usize = 800;

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

    /// Takes one event in and says what to do. Never waits.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        let mut out = vec![];
        match event {
            Event::Desired(objects) => self.on_desired(objects, now),
            Event::Settings(settings) => self.on_settings(*settings),
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
            Event::Stopped { uid, id, hook, result } => {
                if let Some(said) = hook {
                    self.tell(&uid, true, "FailedPreStopHook", said, now, &mut out);
                }
                if let Err(Error::Unreachable(_)) = result {
                    // It may not have heard us: it is asked again, with its whole grace period.
                    if let Some(pod) = self.pods.get_mut(&uid) {
                        pod.memory.stopping.remove(&id);
                    }
                    self.lose(&mut out);
                }
                return out;
            }
            Event::Probed { uid, id, kind, outcome } => {
                self.on_probed(&uid, &id, kind, &outcome, now, &mut out);
                self.advance(&uid, now, &mut out);
                return out;
            }
            Event::Token { uid, wish, result } => {
                self.on_token(&uid, wish, result, now);
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
                // What the server last heard from us (or from the agent before us) is where we go
                // on.
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
        // Images may have been removed meanwhile; a failed pull that a pod waits for keeps its
        // back-off.
        let wants = self.pods.values().filter_map(|p| p.want.as_ref());
        let used: BTreeSet<_> =
            wants.flat_map(|w| w.containers()).map(|c| c.image.as_str()).collect();
        self.images.retain(|name, image| match image {
            Image::Busy { .. } => true,
            _ => used.contains(name.as_str()),
        });
        // One that was not there may have come meanwhile. What is known stands until the answer is
        // here: without it every status would say something else for a moment, each time the
        // machine is listed.
        let absent = self.images.iter().filter(|(_, image)| matches!(image, Image::Absent));
        out.extend(absent.map(|(name, _)| Effect::look_for(name.clone())));
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
        found: Result<Option<Box<Found>>, Error>,
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
                    pod.see(uid, *found, &self.objects, &self.settings);
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
            Step::CreateContainer { name, .. } | Step::StartContainer { name, .. } => name.clone(),
            Step::Resize { name, .. } => resize_subject(name),
            _ => SANDBOX.to_owned(),
        };
        let message = match result {
            Ok(warning) => {
                pod.retry = None;
                pod.memory.failures.remove(&subject);
                if let Some(warning) = warning {
                    self.tell(uid, true, "HostLimits", warning, now, out);
                } else {
                    match step {
                        Step::Resize { name, id, limits } => {
                            pod.memory.resized.insert(id.clone(), *limits);
                            let text = format!("Pod resize completed: container {name}");
                            self.tell(uid, false, "ResizeCompleted", text, now, out);
                        }
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
        pod.retry = Some((tries.saturating_add(1), now + retry_after(tries)));
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
            Step::Resize { .. } => ("ResizeError", "ResizeError", message.clone()),
            _ => ("", "FailedKillPod", message.clone()),
        };
        if !reason.is_empty() {
            let count = pod.memory.failures.get(&subject).map_or(0, |f| f.count);
            let count = count.saturating_add(1);
            let failure = Failure { reason: reason.into(), message, count, at: now };
            // A failed start has a container that ended; that one's back-off is enough.
            if !matches!(step, Step::StartContainer { .. }) {
                pod.memory.failures.insert(subject, failure);
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

    /// The same message as the kubelet's reaches the pod's event by way of its volume.
    fn on_token(&mut self, uid: &str, wish: Wish, result: Result<Token, Error>, now: Timestamp) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if let Some(why) = pod.take_token(wish, result.map_err(|e| e.to_string()), now) {
            tracing::info!(event = "no token", pod = %pod.key, why);
        }
        pod.refresh(uid, &self.objects, &self.settings);
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
}

/// How long a step waits that has failed so many times before.
fn retry_after(failures: u32) -> Duration {
    (RETRY * 2u32.saturating_pow(failures.min(10))).min(RETRY_MAX)
}

fn failures(image: &Image) -> u32 {
    match image {
        Image::Busy { failures } => *failures,
        Image::Failed { count, .. } => *count,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
