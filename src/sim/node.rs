//! One node: its machine, its agent, and the wire between the agent and the leader.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Node as CoreNode, NodeSystemInfo, Pod, Secret, Service},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::machine::Machine;
use crate::{
    agent::{
        cache::Known,
        facts::MachineFacts,
        pods::{Effect, Event, Pods, Settings},
    },
    model::{
        Key, Labels, NodeName, Object, Revision, Timestamp,
        session::{Hello, ObservedPod, ToAgent, ToServer},
    },
    node::{NodeFacts, files::PodDns, ipam::PodRange},
};

/// The first and the longest pause between two tries to reach a server, as the agent's session has
/// them.
const DIAL_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A node of the cluster.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) facts: MachineFacts,
    pub(super) labels: Labels,
    pub(super) machine: Machine,
    /// The agent's process; `None` while it does not run.
    pub(super) agent: Option<Agent>,
    /// What the agent's cache has on disk.
    pub(super) disk: Known,
    /// No packet passes between it and the servers.
    pub(super) cut: bool,
    /// How many agents there were.
    pub(super) epoch: u64,
}

/// A running agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) epoch: u64,
    pods: Pods,
    pub(super) known: Known,
    range: Option<PodRange>,
    latest: BTreeMap<String, ObservedPod>,
    /// The number of the open session.
    pub(super) session: Option<u64>,
    /// The session has brought a first word.
    open: bool,
    /// The session was told what still runs of the cluster before.
    brought: bool,
    pub(super) pause: Duration,
    /// The watch of the container runtime is there.
    pub(super) watches: bool,
    started: Timestamp,
    /// When the next tick was asked for.
    pub(super) tick_at: Option<Timestamp>,
}

/// What an agent wants done after something happened to it.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// For the machine.
    pub(super) effects: VecDeque<Effect>,
    /// For the server, over the open session.
    pub(super) reports: Vec<ToServer>,
    /// What it knows changed: its disk is to be written.
    pub(super) save: bool,
    /// Its rules will be of this generation.
    pub(super) programs: Option<Revision>,
    /// A promise broke.
    pub(super) broken: Option<String>,
}

impl Node {
    /// A node with these amounts, without an agent.
    pub(super) fn new(
        name: &str,
        ip: IpAddr,
        cpu_milli: i64,
        memory_bytes: i64,
        labels: Labels,
    ) -> Self {
        let facts =
            NodeFacts { name: NodeName::new(name), ip: ip.to_string(), cpu_milli, memory_bytes };
        let info = NodeSystemInfo {
            architecture: "amd64".to_owned(),
            operating_system: "linux".to_owned(),
            kubelet_version: "v1.37.1+mainstay.sim".to_owned(),
            ..NodeSystemInfo::default()
        };
        Self {
            name: NodeName::new(name),
            facts: MachineFacts { node: facts, disk_bytes: 100 << 30, info, port: 10250 },
            labels,
            machine: Machine::new(name),
            agent: None,
            disk: Known::default(),
            cut: false,
            epoch: 0,
        }
    }

    /// Starts the agent; it goes on with what its disk has.
    pub(super) fn start_agent(&mut self, now: Timestamp) -> Wants {
        self.epoch += 1;
        let settings =
            Settings { node: self.facts.node.clone(), dns: PodDns::default(), range: None };
        let (pods, effects) = Pods::new(settings);
        self.agent = Some(Agent {
            epoch: self.epoch,
            pods,
            known: self.disk.clone(),
            range: None,
            latest: BTreeMap::new(),
            session: None,
            open: false,
            brought: false,
            pause: DIAL_PAUSE.0,
            watches: false,
            started: now,
            tick_at: None,
        });
        let mut wants = Wants { effects: effects.into(), ..Wants::default() };
        if self.disk != Known::default() {
            self.act(now, &mut wants);
        }
        wants
    }

    /// The first word of a session.
    pub(super) fn hello(&self) -> Option<Hello> {
        let agent = self.agent.as_ref()?;
        let Time(since) = agent.started.to_time();
        let mut labels = self.labels.clone();
        labels.extend(self.facts.labels());
        Some(Hello {
            node: self.name.clone(),
            version: "sim".to_owned(),
            generation: agent.known.generation,
            cluster: agent.known.cluster().to_owned(),
            pod_range: self.pod_range().unwrap_or_default(),
            labels,
            status: Box::new(self.facts.status(Vec::new(), since)),
        })
    }

    /// The session has ended; gives the pause until the next try.
    pub(super) fn close(&mut self) -> Duration {
        let Some(agent) = &mut self.agent else { return DIAL_PAUSE.0 };
        agent.session = None;
        if agent.open {
            agent.pause = DIAL_PAUSE.0;
        }
        (agent.open, agent.brought) = (false, false);
        agent.known.drop_coming();
        let pause = agent.pause;
        agent.pause = (pause * 2).min(DIAL_PAUSE.1);
        pause
    }

    /// Takes a server's word in.
    pub(super) fn hear(&mut self, message: ToAgent, now: Timestamp) -> Wants {
        let mut wants = Wants::default();
        let Some(agent) = &mut self.agent else { return wants };
        if !agent.open {
            agent.open = true;
            self.report_all(&mut wants);
        }
        let Some(agent) = &mut self.agent else { return wants };
        let was_elsewhere = agent.known.is_elsewhere();
        match message {
            ToAgent::Welcome(welcome) => wants.save |= agent.known.greet(welcome),
            ToAgent::Desired(desired) => match agent.known.take(desired) {
                Ok(true) => {
                    wants.save = true;
                    wants.programs = Some(agent.known.generation);
                    self.act(now, &mut wants);
                    // What happened to survivors until they were kept was told of pods that nobody
                    // knew.
                    if was_elsewhere {
                        self.report_all(&mut wants);
                    }
                }
                Ok(false) => {}
                Err(error) => {
                    let text =
                        format!("{}: a leader of now says something old: {error}", self.name);
                    wants.broken = Some(text);
                }
            },
            ToAgent::Heard(_) | ToAgent::Goodbye(_) => {}
        }
        self.bring(&mut wants);
        wants
    }

    fn report_all(&self, wants: &mut Wants) {
        let latest = self.agent.iter().flat_map(|agent| agent.latest.values());
        let pods: Vec<ObservedPod> = latest.cloned().collect();
        if !pods.is_empty() {
            wants.reports.push(ToServer::Pods(pods));
        }
    }

    /// Tells a server of another cluster what still runs here, once each pod was seen.
    fn bring(&mut self, wants: &mut Wants) {
        let Some(agent) = self.agent.as_mut().filter(|a| a.open && !a.brought) else { return };
        if let Some(survivors) = agent.known.survivors(&agent.latest) {
            agent.brought = true;
            wants.reports.push(ToServer::Survivors(survivors));
        }
    }

    /// Hands what is known to the pods.
    fn act(&mut self, now: Timestamp, wants: &mut Wants) {
        self.find_range(now, wants);
        let Some(agent) = &mut self.agent else { return };
        let for_pods = |key: &Key| {
            key.is::<Pod>() || key.is::<ConfigMap>() || key.is::<Secret>() || key.is::<Service>()
        };
        let objects = agent.known.objects.iter().filter(|(key, _)| for_pods(key));
        let objects: BTreeMap<Key, Object> = objects.map(|(k, o)| (k.clone(), o.clone())).collect();
        let uids: BTreeSet<&str> = objects.values().map(Object::uid).collect();
        agent.latest.retain(|uid, seen| !seen.gone || uids.contains(uid.as_str()));
        let event = Event::Desired(objects);
        self.apply_into(event, now, wants);
    }

    fn pod_range(&self) -> Option<String> {
        let key = Key::of::<CoreNode>("", self.name.as_str());
        let known = &self.agent.as_ref()?.known;
        known.objects.get(&key)?.view::<CoreNode>()?.spec.as_ref()?.pod_cidr.clone()
    }

    fn find_range(&mut self, now: Timestamp, wants: &mut Wants) {
        let cidr = self.pod_range();
        let Some(agent) = &mut self.agent else { return };
        let range = cidr.and_then(|cidr| PodRange::parse(&cidr));
        if range.is_none() || agent.range == range {
            return;
        }
        agent.range = range;
        let dns = PodDns {
            nameserver: range.map(|r| IpAddr::V4(r.gateway())),
            domain: "cluster.local".to_owned(),
            host: String::new(),
        };
        let settings = Settings { node: self.facts.node.clone(), dns, range };
        self.apply_into(Event::Settings(Box::new(settings)), now, wants);
    }

    /// Takes an event of the machine in.
    pub(super) fn apply(&mut self, event: Event, now: Timestamp) -> Wants {
        let mut wants = Wants::default();
        self.apply_into(event, now, &mut wants);
        wants
    }

    fn apply_into(&mut self, event: Event, now: Timestamp, wants: &mut Wants) {
        let Some(agent) = &mut self.agent else { return };
        for effect in agent.pods.apply(event, now) {
            match effect {
                Effect::Report(pod) => {
                    agent.latest.insert(pod.uid.clone(), pod.clone());
                    wants.reports.push(ToServer::Pods(vec![pod]));
                }
                Effect::Tell(event) => wants.reports.push(ToServer::Events(vec![event])),
                other => wants.effects.push_back(other),
            }
        }
        self.bring(wants);
    }

    /// When the agent wants a tick.
    pub(super) fn wake(&self) -> Option<Timestamp> {
        self.agent.as_ref().and_then(|a| a.pods.wake())
    }
}

impl Agent {
    /// The session over which reports go; what is reported without one is told again when one
    /// opens.
    pub(super) fn reporting(&self) -> Option<u64> {
        self.session.filter(|_| self.open)
    }
}
