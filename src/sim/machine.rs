//! A machine that runs containers, as values.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use crate::{
    agent::runtime::{Error, Found, FoundImage, Make},
    model::Timestamp,
    node::{
        Assignment, Step,
        probe::{Kind, Outcome},
        seen::{Container, Exit, Sandbox, State},
    },
};

/// How long a container needs until its readiness probe succeeds.
const WARM_UP: Duration = Duration::from_millis(300);

/// How images behave; the same on every machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Behaviour {
    /// The registry does not have them.
    pub(super) missing: BTreeSet<String>,
    /// Their readiness probe fails.
    pub(super) never_ready: BTreeSet<String>,
    /// Their liveness probe fails.
    pub(super) sick: BTreeSet<String>,
    /// They end with this code so long after their start.
    pub(super) ending: BTreeMap<String, (i32, Duration)>,
    /// What containers of an image say before they end.
    pub(super) last_words: BTreeMap<String, String>,
    /// They ignore the signal that asks them to stop.
    pub(super) stubborn: BTreeSet<String>,
}

/// A container that will end by itself.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) id: String,
    pub(super) code: i32,
    pub(super) after: Duration,
    /// What it says before.
    pub(super) said: String,
}

/// One machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    name: String,
    /// It has power.
    pub(super) powered: bool,
    /// How often it was started; what was under way in an earlier life has no effect.
    pub(super) boot: u64,
    /// Its container runtime gives no answer.
    pub(super) hangs: bool,
    pods: BTreeMap<String, Found>,
    images: BTreeSet<String>,
    /// The image and name of each container.
    made: BTreeMap<String, (String, String)>,
    count: u64,
    /// The first promise that broke.
    pub(super) broken: Option<String>,
}

impl Machine {
    /// A machine with power and nothing on it.
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), powered: true, ..Self::default() }
    }

    /// Everything of ours.
    pub(super) fn list(&self) -> Result<BTreeMap<String, Found>, Error> {
        if self.hangs { Err(no_answer()) } else { Ok(self.pods.clone()) }
    }

    /// One pod.
    pub(super) fn look(&self, uid: &str) -> Result<Option<Box<Found>>, Error> {
        if self.hangs {
            return Err(no_answer());
        }
        Ok(self.pods.get(uid).cloned().map(Box::new))
    }

    /// The uids of all pods of which something is here, and whether a container of theirs runs.
    pub(super) fn uids(&self) -> impl Iterator<Item = (&str, bool)> {
        self.pods.iter().map(|(uid, found)| {
            let all = found.containers.values().flatten();
            (uid.as_str(), all.into_iter().any(|c| c.state.is_running()))
        })
    }

    /// The containers that run: their pod's name, their own, their id.
    pub(super) fn running(&self) -> Vec<(String, String, String)> {
        let mut running = Vec::new();
        for found in self.pods.values() {
            let pod = found.key.as_ref().map(|k| k.name.to_string()).unwrap_or_default();
            for (name, list) in &found.containers {
                let runs = list.iter().filter(|c| c.state.is_running());
                running.extend(runs.map(|c| (pod.clone(), name.clone(), c.id.clone())));
            }
        }
        running
    }

    /// Does one step. What is left to happen by itself is given back.
    pub(super) fn step(
        &mut self,
        want: &Assignment,
        step: &Step,
        ip: Option<Ipv4Addr>,
        make: Option<&Make>,
        now: Timestamp,
        behaviour: &Behaviour,
    ) -> (Result<Option<String>, Error>, Option<Ending>) {
        if self.hangs {
            return (Err(no_answer()), None);
        }
        let mut ending = None;
        let result = match (step, make) {
            (Step::WriteVolumes, _) => {
                let volumes = want.volumes.iter().filter(|v| v.source.is_ok());
                let volumes = volumes.map(|v| (v.name.clone(), v.hash())).collect();
                let found = self.found(want);
                (found.directory, found.volumes) = (true, volumes);
                Ok(())
            }
            (Step::CreateSandbox, _) => self.create_sandbox(want, ip, now),
            (Step::StartSandbox { .. }, _) => {
                let found = self.found(want);
                let ip = found.claimed.map(IpAddr::V4);
                match &mut found.sandbox {
                    Some(sandbox) => {
                        (sandbox.state, sandbox.ip) = (State::Running(now), ip);
                        Ok(())
                    }
                    None => Err(Error::NotFound("no such sandbox".into())),
                }
            }
            (Step::CreateContainer { .. }, Some(make)) => self.create_container(want, make, now),
            (Step::StartContainer { id, name }, _) => {
                let result = self.start_container(&want.uid, name, id, now);
                if result.is_ok() {
                    ending = self.ending(id, behaviour);
                }
                result
            }
            (Step::Kill { id }, _) => {
                self.end(id, 137, now);
                Ok(())
            }
            (Step::RemoveContainer { id }, _) => {
                let found = self.found(want);
                for list in found.containers.values_mut() {
                    list.retain(|c| c.id != *id);
                }
                found.containers.retain(|_, list| !list.is_empty());
                Ok(())
            }
            (Step::RemoveSandbox { .. }, _) => {
                let found = self.found(want);
                (found.sandbox, found.claimed) = (None, None);
                Ok(())
            }
            (Step::RemoveDirectory, _) => {
                let found = self.found(want);
                found.directory = false;
                found.volumes.clear();
                Ok(())
            }
            (other, _) => Err(Error::Refused(format!("{other:?} is no step for a machine"))),
        };
        let left = |f: &Found| f.sandbox.is_some() || !f.containers.is_empty() || f.directory;
        self.pods.retain(|_, found| left(found));
        (result.map(|()| None), ending)
    }

    fn found(&mut self, want: &Assignment) -> &mut Found {
        let found = self.pods.entry(want.uid.clone()).or_default();
        found.key = Some(want.key.clone());
        found.grace = Some(want.grace);
        found
    }

    fn create_sandbox(
        &mut self,
        want: &Assignment,
        ip: Option<Ipv4Addr>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let holder = self.pods.iter().find(|(_, f)| ip.is_some() && f.claimed == ip);
        if let Some((uid, _)) = holder.filter(|(uid, _)| **uid != want.uid) {
            let text = format!("{}: {ip:?} is {uid}'s and given to {}", self.name, want.uid);
            self.broken.get_or_insert(text);
        }
        self.count += 1;
        let id = format!("{}-sandbox-{}", self.name, self.count);
        let name = self.name.clone();
        let found = self.found(want);
        let had = found.sandbox.is_some();
        found.directory = true;
        found.claimed = ip;
        found.sandbox = Some(Sandbox { id, state: State::Created, ip: None, created: now });
        if had {
            self.broken.get_or_insert(format!("{name}: two sandboxes for {}", want.key));
        }
        Ok(())
    }

    fn create_container(
        &mut self,
        want: &Assignment,
        make: &Make,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Some(spec) = want.container(&make.name) else {
            return Err(Error::NotFound(format!("no container {}", make.name)));
        };
        if !self.images.contains(&spec.image) {
            return Err(Error::NotFound(format!("No such image: {}", spec.image)));
        }
        self.count += 1;
        let id = format!("{}-{}", self.name, self.count);
        self.made.insert(id.clone(), (spec.image.clone(), make.name.clone()));
        let container = Container {
            id,
            attempt: make.attempt,
            backoff: make.backoff,
            sandbox: make.sandbox.clone(),
            hash: spec.hash.clone(),
            image_id: format!("sha256:{}", spec.image),
            created: now,
            limits: None,
            state: State::Created,
        };
        let list = self.found(want).containers.entry(make.name.clone()).or_default();
        // Docker refuses a second container of the same name.
        if list.iter().any(|c| c.attempt == make.attempt) {
            return Err(Error::Refused("the container name is already in use".into()));
        }
        list.push(container);
        Ok(())
    }

    fn start_container(
        &mut self,
        uid: &str,
        name: &str,
        id: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let found = self.pods.get_mut(uid);
        let sandbox = found.as_ref().and_then(|f| f.sandbox.as_ref());
        let runs = sandbox.is_some_and(|s| s.state.is_running());
        let list = found.and_then(|f| f.containers.get_mut(name)).map(Vec::as_mut_slice);
        let list = list.unwrap_or_default();
        let others = list.iter().any(|c| c.id != id && c.state.is_running());
        if others {
            let text = format!("{}: container {name} of {uid} runs twice", self.name);
            self.broken.get_or_insert(text);
        }
        match list.iter_mut().find(|c| c.id == id) {
            _ if !runs => Err(Error::Refused("its sandbox does not run".into())),
            Some(container) => {
                container.state = State::Running(now);
                Ok(())
            }
            None => Err(Error::NotFound(format!("no container {id}"))),
        }
    }

    /// How the container ends by itself.
    fn ending(&self, id: &str, behaviour: &Behaviour) -> Option<Ending> {
        let (image, _) = self.made.get(id)?;
        let (code, after) = *behaviour.ending.get(image)?;
        let said = behaviour.last_words.get(image).cloned().unwrap_or_default();
        Some(Ending { id: id.to_owned(), code, after, said })
    }

    /// Notes the last log lines of a container that has ended.
    pub(super) fn note_last_words(&mut self, ending: &Ending) {
        let mut all = self.pods.values_mut().flat_map(|f| f.containers.values_mut().flatten());
        if let Some(container) = all.find(|c| c.id == ending.id)
            && let State::Exited(exit) = &mut container.state
        {
            exit.tail.clone_from(&ending.said);
        }
    }

    /// Ends a running container; gives its pod's uid when it ran.
    pub(super) fn end(&mut self, id: &str, code: i32, now: Timestamp) -> Option<String> {
        for (uid, found) in &mut self.pods {
            let sandbox = found.sandbox.iter_mut().find(|s| s.id == id);
            if let Some(sandbox) = sandbox {
                (sandbox.state, sandbox.ip) = (exited(&sandbox.state, code, now)?, None);
                return Some(uid.clone());
            }
            let container = found.containers.values_mut().flatten().find(|c| c.id == id);
            if let Some(container) = container {
                container.state = exited(&container.state, code, now)?;
                return Some(uid.clone());
            }
        }
        None
    }

    /// Asks a container to stop; gives how it will.
    pub(super) fn terminate(
        &self,
        id: &str,
        behaviour: &Behaviour,
    ) -> (Result<(), Error>, Option<Ending>) {
        if self.hangs {
            return (Err(no_answer()), None);
        }
        let image = self.made.get(id).map(|(image, _)| image.as_str()).unwrap_or_default();
        let stops = !behaviour.stubborn.contains(image);
        let after = Duration::from_millis(200);
        (Ok(()), stops.then(|| Ending { id: id.to_owned(), code: 0, after, said: String::new() }))
    }

    /// Looks for an image.
    pub(super) fn find_image(&self, image: &str) -> Result<Option<FoundImage>, Error> {
        if self.hangs {
            return Err(no_answer());
        }
        let found = || FoundImage { id: format!("docker://sha256:{image}"), user: String::new() };
        Ok(self.images.contains(image).then(found))
    }

    /// Pulls an image.
    pub(super) fn pull(
        &mut self,
        image: &str,
        behaviour: &Behaviour,
    ) -> Result<Option<FoundImage>, Error> {
        if self.hangs {
            return Err(no_answer());
        }
        if behaviour.missing.contains(image) {
            return Err(Error::NotFound(format!("manifest for {image} not found")));
        }
        self.images.insert(image.to_owned());
        self.find_image(image)
    }

    /// Answers a probe.
    pub(super) fn probe(
        &self,
        id: &str,
        kind: Kind,
        now: Timestamp,
        behaviour: &Behaviour,
    ) -> Outcome {
        if self.hangs {
            return Outcome::Unknown;
        }
        let mut all = self.pods.values().flat_map(|f| f.containers.values().flatten());
        let Some(container) = all.find(|c| c.id == id) else { return Outcome::Unknown };
        let State::Running(since) = container.state else {
            return Outcome::Failure("connection refused".into());
        };
        let image = self.made.get(id).map(|(image, _)| image.as_str()).unwrap_or_default();
        let fails = match kind {
            Kind::Liveness => behaviour.sick.contains(image),
            Kind::Readiness => behaviour.never_ready.contains(image) || now < since + WARM_UP,
            Kind::Startup => now < since + WARM_UP,
        };
        match fails {
            true => Outcome::Failure("HTTP probe failed with statuscode: 503".into()),
            false => Outcome::Success,
        }
    }

    /// Power goes: everything that ran has ended.
    pub(super) fn power_off(&mut self, now: Timestamp) {
        self.powered = false;
        self.boot += 1;
        self.hangs = false;
        for found in self.pods.values_mut() {
            if let Some(sandbox) = &mut found.sandbox
                && let Some(state) = exited(&sandbox.state, 255, now)
            {
                (sandbox.state, sandbox.ip) = (state, None);
            }
            for container in found.containers.values_mut().flatten() {
                if let Some(state) = exited(&container.state, 255, now) {
                    container.state = state;
                }
            }
        }
    }
}

/// The state of something that ran and has ended; `None` when it did not run.
fn exited(state: &State, code: i32, now: Timestamp) -> Option<State> {
    let State::Running(started) = *state else { return None };
    Some(State::Exited(Exit { code, started, finished: now, ..Exit::default() }))
}

fn no_answer() -> Error {
    Error::Unreachable("no answer within 10 s".into())
}
