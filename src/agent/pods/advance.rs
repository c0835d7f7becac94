//! What to do next, pod by pod.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use super::{
    Effect, GRACE_AFTER_HOOK, LAST_LINES_BYTES_MAX, LAST_LINES_MAX, Pods, RETRY_MAX, STARTS_MAX,
    failures, record::Pod, words::is_start,
};
use crate::{
    agent::runtime::{Found, Make},
    model::{
        Timestamp,
        session::{ObservedEvent, ObservedPod},
    },
    node::{
        Assignment, Observed, Step,
        assignment::{RestartPolicy, Wanted},
        ipam, next_step,
        probe::Kind,
        registry,
        seen::{Image, State, Stopping},
        status,
    },
};

impl Pods {
    pub(super) fn advance_all(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let uids: Vec<_> = self.pods.keys().cloned().collect();
        for uid in uids {
            self.advance(&uid, now, out);
        }
    }

    pub(super) fn advance(&mut self, uid: &str, now: Timestamp, out: &mut Vec<Effect>) {
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
        if want.wanted == Wanted::Running {
            let (due, wake) = pod.due_tokens(now);
            pod.wake = wake;
            out.extend(due.into_iter().map(|wish| Effect::Token { want: want.clone(), wish }));
        }
        if pod.found.unknown {
            // Its probes go on; everything else waits until the machine has answered.
            self.probe(uid, &want, now, out);
            return;
        }
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
            let all = init.into_iter().chain(app).chain(s.ephemeral_container_statuses.clone());
            all.flatten().collect::<Vec<_>>()
        };
        let before = pod.status.as_ref().map(lists).unwrap_or_default();
        for status in lists(&new) {
            let before = before.iter().find(|b| b.name == status.name);
            let for_good = want.restart == RestartPolicy::Never && want.wanted != Wanted::Gone;
            if for_good && has_crashed(&status) && !before.is_some_and(has_crashed) {
                // Nothing else is told of what nobody starts again.
                told.extend(last_lines(want, &pod.found, &status.name).map(|t| ("Crashed", t)));
            }
            let before = before.and_then(waiting);
            let Some((reason, message)) = waiting(&status) else { continue };
            if before.as_ref().map(|b| &b.0) == Some(&reason) {
                continue;
            }
            let (name, image) = (&status.name, &status.image);
            match reason.as_str() {
                "CrashLoopBackOff" => {
                    told.push((
                        "BackOff",
                        format!(
                            "Back-off restarting failed container {name} in pod {}_{}({uid})",
                            want.key.name, want.key.namespace
                        ),
                    ));
                    told.extend(last_lines(want, &pod.found, name).map(|said| ("Crashed", said)));
                }
                "ImagePullBackOff" => {
                    told.push(("BackOff", format!("Back-off pulling image {image:?}")));
                }
                "ErrImageNeverPull" => told.push(("ErrImageNeverPull", message)),
                "CreateContainerConfigError" => told.push(("Failed", format!("Error: {message}"))),
                _ => {}
            }
        }
        let mut unmounted = want.volumes.iter().filter_map(|v| v.source.as_ref().err());
        let unmounted = unmounted.find(|why| !why.is_empty()).cloned();
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.unmounted != unmounted {
            told.extend(unmounted.clone().map(|m| ("FailedMount", m)));
            pod.unmounted = unmounted;
        }
        // What a controller is told of a pod that ended, it is to know why.
        for (reason, message) in told {
            self.tell(uid, true, reason, message, now, out);
        }
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.status = Some(new.clone());
        if pod.reported.as_ref() != Some(&new) {
            pod.reported = Some(new.clone());
            let (key, uid) = (pod.key.clone(), uid.to_owned());
            let status = Box::new(new);
            out.push(Effect::Report(ObservedPod { key, uid, status, gone: false }));
        }
    }

    fn take_steps(
        &mut self,
        uid: &str,
        want: &Arc<Assignment>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        // Steps that only begin something are followed by the next one; there are never more of
        // them than containers and images.
        loop {
            let Some(pod) = self.pods.get(uid) else { return };
            if pod.busy {
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
                    out.push(Effect::look_for(image));
                }
                Step::PullImage { image, container, attempt } => {
                    self.mark_busy(&image);
                    self.tell(uid, false, "Pulling", format!("Pulling image {image:?}"), now, out);
                    let pull = Some((uid.to_owned(), container, attempt));
                    let logins = registry::for_image(&want.logins, &image);
                    out.push(Effect::Image { image, pull, logins });
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
                let target = want.container(&name).and_then(|c| c.target.as_ref());
                let target = target.and_then(|name| pod.found.containers.get(name)?.last());
                let target = target.map(|c| c.id.clone());
                make = Some(Make { name, attempt, backoff, sandbox, target });
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

    pub(super) fn tell(
        &mut self,
        uid: &str,
        warning: bool,
        reason: &str,
        message: String,
        at: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if !pod.budget.take(at) {
            return;
        }
        let (regarding, uid) = (pod.key.clone(), uid.to_owned());
        let reason = reason.to_owned();
        out.push(Effect::Tell(ObservedEvent { regarding, uid, warning, reason, message, at }));
    }
}

/// What a container said before it failed, where its status does not say it.
fn last_lines(want: &Assignment, found: &Found, name: &str) -> Option<String> {
    if want.container(name).is_none_or(|spec| spec.message_from_logs) {
        return None;
    }
    let exit = found.containers.get(name)?.iter().rev().find_map(|c| c.state.exit())?;
    let lines: Vec<&str> = exit.tail.lines().rev().take(LAST_LINES_MAX).collect();
    let said = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
    let from = said.ceil_char_boundary(said.len().saturating_sub(LAST_LINES_BYTES_MAX));
    let said = said[from..].trim();
    let code = exit.code;
    (!said.is_empty()).then(|| format!("Container {name} ended with exit code {code}: {said}"))
}

fn has_crashed(status: &ContainerStatus) -> bool {
    let state = status.state.as_ref();
    state.and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code != 0)
}

fn waiting(status: &ContainerStatus) -> Option<(String, String)> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.clone()?, waiting.message.clone().unwrap_or_default()))
}
