//! Servers, agents, machines and a remote in one thread, and a queue of what happens next.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    leader::Leading,
    log::Log,
    machine::{Behaviour, Ending},
    node::{Node, Wants},
    repository::Repository,
    story::Story,
};
use crate::{
    agent::{
        pods::{Effect, Event},
        runtime::Error,
    },
    kinds::{OnFailure, PathDeadline},
    model::{
        Labels, NodeName, Revision, Timestamp,
        session::{ToAgent, ToServer, Welcome},
    },
    node::{Step, tokens::Token},
    plan::{Timing, hearing, survivors::Homecoming},
    render::FileResult,
    state::{ClusterConfig, Command},
};

/// When every simulated story begins: 2026-11-21T00:00:00Z.
pub(super) const START: Timestamp = Timestamp(1_795_219_200_000);

/// How long the servers need to elect one after a leader is gone.
const ELECTION: Duration = Duration::from_secs(1);

/// Between two heartbeats of an agent, and how long it waits for a word (as `agent::session`).
const HEARTBEAT: Duration = Duration::from_secs(3);
const SILENCE_MAX: Duration = Duration::from_secs(12);

/// From a set to its rules on the node, and to the agent's file.
const PROGRAM: Duration = Duration::from_millis(100);
const SAVE: Duration = Duration::from_millis(200);

/// How long a call takes to a runtime that gives no answer.
const CALL_MAX: Duration = Duration::from_secs(10);

/// What happens at a moment.
#[derive(Debug)]
pub(super) enum Happening {
    /// The servers elect a leader.
    Elect,
    /// A follower applies what counts.
    Follow {
        server: usize,
    },
    Drive {
        term: u64,
    },
    Look {
        term: u64,
    },
    Export {
        term: u64,
    },
    Tell {
        term: u64,
    },
    /// An agent dials the leader.
    Dial {
        node: NodeName,
        epoch: u64,
    },
    Beat {
        node: NodeName,
        session: u64,
    },
    /// The agent's end of a session that may be dead.
    Silent {
        node: NodeName,
        session: u64,
    },
    ToAgent {
        node: NodeName,
        session: u64,
        message: Box<ToAgent>,
    },
    ToServer {
        node: NodeName,
        session: u64,
        message: Box<ToServer>,
    },
    /// A machine does what its agent asked for.
    Deed {
        node: NodeName,
        epoch: u64,
        boot: u64,
        effect: Box<Effect>,
    },
    /// A container ends by itself.
    Exit {
        node: NodeName,
        boot: u64,
        ending: Ending,
    },
    Tick {
        node: NodeName,
        epoch: u64,
    },
    Save {
        node: NodeName,
        epoch: u64,
    },
    Programmed {
        node: NodeName,
        epoch: u64,
        generation: Revision,
    },
    /// Something that a random run has in store.
    Fate(super::random::Fate),
}

/// A cluster.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    count: u64,
    pub(super) rng: StdRng,
    pub(super) log: Log,
    pub(super) leading: Option<Leading>,
    pub(super) repository: Repository,
    pub(super) rendered: BTreeMap<(String, Arc<[u8]>), Arc<FileResult>>,
    pub(super) nodes: BTreeMap<NodeName, Node>,
    pub(super) behaviour: Behaviour,
    pub(super) timing: Timing,
    pub(super) story: Story,
    /// When State changed last.
    pub(super) changed_at: Timestamp,
    /// Delays vary, answers get lost, followers lag.
    pub(super) chaos: bool,
    /// The leader dies after the next push, before it says so.
    pub(super) dies_after_push: bool,
    /// What the source says of rollouts that fail.
    pub(super) on_failure: Option<OnFailure>,
    /// How long commits may take that touch some paths.
    pub(super) deadlines: Vec<PathDeadline>,
    /// Random faults may stop servers.
    pub(super) servers_die: bool,
    /// The leader dies after so many more entries.
    pub(super) fuse: Option<u32>,
    /// The uids that ran, and where.
    pub(super) ran_on: BTreeMap<String, NodeName>,
    /// Commands of controllers that State refused.
    pub(super) refusals: Vec<String>,
    /// The first promise that broke.
    pub(super) failure: Option<String>,
    electing: bool,
    /// How many clusters there were before this one.
    clusters: u32,
}

impl World {
    /// A world with nothing in it.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: START,
            queue: BTreeMap::new(),
            count: 0,
            rng: StdRng::seed_from_u64(seed),
            log: Log::default(),
            leading: None,
            repository: Repository::default(),
            rendered: BTreeMap::new(),
            nodes: BTreeMap::new(),
            behaviour: Behaviour::default(),
            timing: Timing::default(),
            story: Story::new(START),
            changed_at: START,
            chaos: false,
            dies_after_push: false,
            on_failure: None,
            deadlines: Vec::new(),
            servers_die: false,
            fuse: None,
            ran_on: BTreeMap::new(),
            refusals: Vec::new(),
            failure: None,
            electing: false,
            clusters: 0,
        }
    }

    pub(super) fn schedule(&mut self, at: Timestamp, what: Happening) {
        self.count += 1;
        self.queue.insert((at.max(self.now), self.count), what);
    }

    pub(super) fn fail(&mut self, text: String) {
        let at = self.story.clock(self.now);
        self.failure.get_or_insert(format!("{at} {text}"));
    }

    pub(super) fn random_u128(&mut self) -> u128 {
        self.rng.random()
    }

    /// A number for a choice; always the first one without chaos.
    pub(super) fn pick(&mut self) -> usize {
        if self.chaos { self.rng.random_range(0..1000) } else { 0 }
    }

    /// So many milliseconds, or, with chaos, up to three times as many.
    pub(super) fn latency(&mut self, ms: u64) -> Duration {
        let ms = if self.chaos { self.rng.random_range(1..=ms * 3) } else { ms };
        Duration::from_millis(ms)
    }

    // --- time ---

    /// Lets everything happen up to a moment.
    pub(super) fn run_until(&mut self, until: Timestamp) {
        while self.failure.is_none() && self.step(until) {}
        self.now = self.now.max(until);
    }

    /// One happening, if there is one until then.
    pub(super) fn step(&mut self, until: Timestamp) -> bool {
        match self.queue.first_key_value() {
            Some(((at, _), _)) if *at <= until => {}
            _ => return false,
        }
        if let Some(((at, _), what)) = self.queue.pop_first() {
            self.now = at;
            self.happen(what);
            self.examine_log();
        }
        true
    }

    pub(super) fn examine_log(&mut self) {
        if let Some(text) = self.log.broken.take() {
            self.fail(text);
        }
    }

    fn happen(&mut self, what: Happening) {
        let term = self.leading.as_ref().map(|l| l.term);
        match what {
            Happening::Elect => {
                self.electing = false;
                if self.leading.is_none() {
                    self.lead();
                }
            }
            Happening::Follow { server } => self.log.follow(server),
            Happening::Drive { term: t } if term == Some(t) => self.drive(),
            Happening::Look { term: t } if term == Some(t) => self.look(),
            Happening::Export { term: t } if term == Some(t) => self.export(),
            Happening::Tell { term: t } if term == Some(t) => self.tell_agents(),
            Happening::Drive { .. }
            | Happening::Look { .. }
            | Happening::Export { .. }
            | Happening::Tell { .. } => {}
            Happening::Dial { node, epoch } => self.dial(&node, epoch),
            Happening::Beat { node, session } => self.beat(&node, session),
            Happening::Silent { node, session } => self.agent_closes(&node, session),
            Happening::ToAgent { node, session, message } => {
                self.agent_hears(&node, session, *message);
            }
            Happening::ToServer { node, session, message } => {
                self.server_hears(&node, session, *message);
            }
            Happening::Deed { node, epoch, boot, effect } => {
                self.deed(&node, epoch, boot, *effect);
            }
            Happening::Exit { node, boot, ending } => self.exit(&node, boot, &ending),
            Happening::Tick { node, epoch } => self.tick(&node, epoch),
            Happening::Save { node, epoch } => {
                if let Some(node) = self.nodes.get_mut(&node)
                    && let Some(agent) = node.agent.as_ref().filter(|a| a.epoch == epoch)
                {
                    node.disk = agent.known.clone();
                }
            }
            Happening::Programmed { node, epoch, generation } => {
                let agent = self.nodes.get(&node).and_then(|n| n.agent.as_ref());
                if let Some(session) = agent.filter(|a| a.epoch == epoch).and_then(|a| a.session) {
                    self.send_to_server(&node, session, ToServer::Programmed(generation));
                }
            }
            Happening::Fate(fate) => self.befall(fate),
        }
    }

    // --- servers ---

    /// Adds servers; the first ones elect a leader at once.
    pub(super) fn add_servers(&mut self, count: usize) {
        self.log.add_servers(count);
        if self.log.leader.is_none() {
            self.lead();
        }
    }

    /// What a new cluster starts with.
    pub(super) fn set_up(&mut self) {
        let configured = self.view().is_some_and(|view| view.config().is_some());
        if !configured {
            let id = format!("sim-{}", self.clusters);
            let config = Command::Configure(ClusterConfig::with_id(&id));
            // Who died of it has left it to the next one.
            if self.propose(vec![config]).is_err() && self.log.leader.is_some() {
                self.fail("a new cluster could not be set up".to_owned());
            }
        }
    }

    pub(super) fn kill_server(&mut self, server: usize) {
        self.log.stop(server);
        if self.log.leader.is_none() {
            self.lose_leader();
        }
    }

    /// Every server is lost, disks and all. What is left are the repository and the nodes.
    pub(super) fn lose_cluster(&mut self) {
        (0..self.log.servers.len()).for_each(|server| self.kill_server(server));
        self.log.lose_all();
        self.clusters += 1;
    }

    pub(super) fn start_server(&mut self, server: usize) {
        self.log.start(server);
        let after = self.latency(50);
        self.schedule(self.now + after, Happening::Follow { server });
        if self.leading.is_none() {
            self.elect_soon();
        }
    }

    fn lose_leader(&mut self) {
        if let Some(leading) = self.leading.take() {
            for (node, session) in leading.sessions {
                self.agent_closes(&node, session.id);
            }
        }
        self.elect_soon();
    }

    fn elect_soon(&mut self) {
        if !self.electing {
            self.electing = true;
            self.schedule(self.now + ELECTION, Happening::Elect);
        }
    }

    // --- sessions ---

    fn dial(&mut self, name: &NodeName, epoch: u64) {
        self.count += 1;
        let id = self.count;
        let cluster = self.view().and_then(|v| v.config().cloned());
        let Some(node) = self.nodes.get_mut(name) else { return };
        let (cut, hello) = (node.cut, node.hello());
        let Some(agent) = node.agent.as_mut().filter(|a| a.epoch == epoch) else { return };
        if agent.session.is_some() {
            return;
        }
        let answers = self.leading.is_some() && !cut;
        let (Some(config), Some(hello), true) = (cluster, hello, answers) else {
            let pause = node.close();
            self.schedule(self.now + pause, Happening::Dial { node: name.clone(), epoch });
            return;
        };
        agent.session = Some(id);
        self.begin_session(name, id, Homecoming::of(&hello, &config.cluster_id));
        if let Some(command) = hearing::command(name, ToServer::Hello(hello)) {
            drop(self.propose(vec![command]));
        }
        let welcome = Welcome {
            cluster: config.cluster_id,
            cluster_cidr: format!("{}/{}", config.pod_base, config.pod_prefix),
            servers: vec!["192.0.2.1:6443".to_owned()],
        };
        self.send_to_agent(name, id, ToAgent::Welcome(welcome));
        let (node, session) = (name.clone(), id);
        self.schedule(self.now + HEARTBEAT, Happening::Beat { node, session });
    }

    /// The agent's end of a session is gone; it dials again.
    pub(super) fn agent_closes(&mut self, name: &NodeName, session: u64) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let Some(agent) = node.agent.as_ref().filter(|a| a.session == Some(session)) else {
            return;
        };
        let epoch = agent.epoch;
        let pause = node.close();
        self.schedule(self.now + pause, Happening::Dial { node: name.clone(), epoch });
    }

    fn beat(&mut self, name: &NodeName, session: u64) {
        let agent = self.nodes.get(name).and_then(|n| n.agent.as_ref());
        if agent.is_none_or(|a| a.session != Some(session)) {
            return;
        }
        self.send_to_server(name, session, ToServer::Heartbeat(self.now));
        let node = name.clone();
        self.schedule(self.now + HEARTBEAT, Happening::Beat { node, session });
    }

    /// Packets of one session keep their order.
    fn wire(&self, session: u64) -> Duration {
        Duration::from_millis(if self.chaos { 2 + session % 29 } else { 2 })
    }

    pub(super) fn send_to_agent(&mut self, node: &NodeName, session: u64, message: ToAgent) {
        let (node, message) = (node.clone(), Box::new(message));
        let at = self.now + self.wire(session);
        self.schedule(at, Happening::ToAgent { node, session, message });
    }

    fn send_to_server(&mut self, node: &NodeName, session: u64, message: ToServer) {
        let (node, message) = (node.clone(), Box::new(message));
        let at = self.now + self.wire(session);
        self.schedule(at, Happening::ToServer { node, session, message });
    }

    fn agent_hears(&mut self, name: &NodeName, session: u64, message: ToAgent) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let listens = node.agent.as_ref().is_some_and(|a| a.session == Some(session));
        if node.cut || !listens {
            return;
        }
        let wants = node.hear(message, self.now);
        self.carry(name, wants);
    }

    fn server_hears(&mut self, name: &NodeName, session: u64, message: ToServer) {
        let cut = self.nodes.get(name).is_none_or(|n| n.cut);
        let Some(leading) = &mut self.leading else { return };
        let known = leading.sessions.get(name).is_some_and(|s| s.id == session);
        if cut || !known {
            return;
        }
        leading.heard.insert(name.clone(), self.now);
        match &message {
            ToServer::Heartbeat(at) => {
                if self.view().is_some_and(|view| hearing::is_lost(&view, name)) {
                    // It shall say hello again.
                    if let Some(leading) = &mut self.leading {
                        leading.sessions.remove(name);
                        leading.programmed.remove(name);
                    }
                    self.agent_closes(name, session);
                    return;
                }
                let answer = ToAgent::Heard(*at);
                self.send_to_agent(name, session, answer);
            }
            ToServer::Programmed(revision) => {
                leading.programmed.insert(name.clone(), *revision);
                self.tell_by(self.now);
            }
            _ => {}
        }
        if let ToServer::Survivors(pods) = message {
            self.bring(name, pods);
        } else if let Some(command) = hearing::command(name, message) {
            drop(self.propose(vec![command]));
        }
    }

    // --- nodes ---

    /// Adds a node with its agent.
    pub(super) fn add_node(&mut self, name: &str, cpu_milli: i64, memory: i64, labels: Labels) {
        let number = u8::try_from(self.nodes.len() + 11).unwrap_or(u8::MAX);
        let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, number));
        let node = Node::new(name, ip, cpu_milli, memory, labels);
        self.nodes.insert(NodeName::new(name), node);
        self.start_agent(&NodeName::new(name));
    }

    pub(super) fn start_agent(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        if node.agent.is_some() || !node.machine.powered {
            return;
        }
        let wants = node.start_agent(self.now);
        let epoch = node.epoch;
        self.carry(name, wants);
        let after = self.latency(5);
        self.schedule(self.now + after, Happening::Dial { node: name.clone(), epoch });
    }

    pub(super) fn kill_agent(&mut self, name: &NodeName) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.agent = None;
        }
    }

    pub(super) fn power_off(&mut self, name: &NodeName) {
        let now = self.now;
        self.kill_agent(name);
        if let Some(node) = self.nodes.get_mut(name) {
            node.machine.power_off(now);
        }
    }

    pub(super) fn power_on(&mut self, name: &NodeName) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.machine.powered = true;
        }
        self.start_agent(name);
    }

    /// No packet passes any more; both ends find out by silence.
    pub(super) fn cut(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.cut = true;
        if let Some(session) = node.agent.as_ref().and_then(|a| a.session) {
            let (node, at) = (name.clone(), self.now + SILENCE_MAX);
            self.schedule(at, Happening::Silent { node, session });
        }
    }

    /// Packets pass again; what was lost meanwhile has broken the session.
    pub(super) fn heal(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.cut = false;
        if let Some(session) = node.agent.as_ref().and_then(|a| a.session) {
            self.agent_closes(name, session);
        }
    }

    /// Does what an agent wants.
    fn carry(&mut self, name: &NodeName, wants: Wants) {
        let Some(node) = self.nodes.get(name) else { return };
        let Some(agent) = &node.agent else { return };
        let (epoch, boot, hangs) = (agent.epoch, node.machine.boot, node.machine.hangs);
        let session = agent.reporting();
        for effect in wants.effects {
            let took = if hangs { CALL_MAX } else { Duration::ZERO };
            let took = took + self.duration_of(&effect);
            let (node, effect) = (name.clone(), Box::new(effect));
            self.schedule(self.now + took, Happening::Deed { node, epoch, boot, effect });
        }
        if let Some(session) = session {
            for report in wants.reports {
                self.send_to_server(name, session, report);
            }
        }
        if wants.save {
            let after = self.latency(u64::try_from(SAVE.as_millis()).unwrap_or(200));
            self.schedule(self.now + after, Happening::Save { node: name.clone(), epoch });
        }
        if let Some(generation) = wants.programs {
            let node = name.clone();
            let at = self.now + PROGRAM;
            self.schedule(at, Happening::Programmed { node, epoch, generation });
        }
        if let Some(text) = wants.broken {
            self.fail(text);
        }
        self.tick_later(name);
    }

    /// How long a machine takes, roughly what Docker was measured at.
    fn duration_of(&mut self, effect: &Effect) -> Duration {
        let ms = match effect {
            Effect::Connect { after, .. } => {
                let more = self.latency(5);
                return *after + more;
            }
            Effect::Image { pull: Some(_), .. } => 800,
            Effect::Do { step: Some(step), .. } => match step {
                Step::CreateSandbox => 100,
                Step::StartSandbox { .. } => 200,
                Step::CreateContainer { .. } => 50,
                Step::StartContainer { .. } => 150,
                Step::RemoveContainer { .. } | Step::RemoveSandbox { .. } => 50,
                _ => 10,
            },
            _ => 5,
        };
        self.latency(ms)
    }

    fn tick_later(&mut self, name: &NodeName) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(name) else { return };
        let wake = node.wake();
        let Some((agent, at)) = node.agent.as_mut().zip(wake) else { return };
        let at = (at + Duration::from_millis(1)).max(now + Duration::from_millis(1));
        if agent.tick_at.is_none_or(|before| at < before || before <= now) {
            agent.tick_at = Some(at);
            let epoch = agent.epoch;
            self.schedule(at, Happening::Tick { node: name.clone(), epoch });
        }
    }

    fn tick(&mut self, name: &NodeName, epoch: u64) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(name) else { return };
        let Some(agent) = node.agent.as_mut().filter(|a| a.epoch == epoch) else { return };
        if agent.tick_at.is_some_and(|at| at > now) {
            return;
        }
        agent.tick_at = None;
        let wants = node.apply(Event::Tick, now);
        self.carry(name, wants);
    }

    fn exit(&mut self, name: &NodeName, boot: u64, ending: &Ending) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(name).filter(|n| n.machine.boot == boot) else {
            return;
        };
        let Some(uid) = node.machine.end(&ending.id, ending.code, now) else { return };
        node.machine.note_last_words(ending);
        if node.agent.as_ref().is_some_and(|a| a.watches) && !node.machine.hangs {
            let wants = node.apply(Event::Changed(uid), now);
            self.carry(name, wants);
        }
    }

    /// Ends a container from outside.
    pub(super) fn end_container(&mut self, name: &NodeName, id: &str, code: i32) {
        let boot = self.nodes.get(name).map_or(0, |n| n.machine.boot);
        let ending = Ending { id: id.to_owned(), code, after: Duration::ZERO, said: String::new() };
        self.exit(name, boot, &ending);
    }

    /// The runtime stops answering, or answers again.
    pub(super) fn hang(&mut self, name: &NodeName, hangs: bool) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.machine.hangs = hangs && node.machine.powered;
        if hangs && let Some(agent) = &mut node.agent {
            agent.watches = false;
            let wants = node.apply(Event::Disconnected, now);
            self.carry(name, wants);
        }
    }

    /// A machine does what was asked of it, and tells the agent that asked, if that one still
    /// lives.
    fn deed(&mut self, name: &NodeName, epoch: u64, boot: u64, effect: Effect) {
        let now = self.now;
        let lost = self.chaos && self.rng.random_ratio(1, 2);
        let behaviour = self.behaviour.clone();
        let Some(node) = self.nodes.get_mut(name) else { return };
        if !node.machine.powered || node.machine.boot != boot {
            return;
        }
        let alive = node.agent.as_ref().is_some_and(|a| a.epoch == epoch);
        if !alive && lost {
            // The agent died before its call reached the runtime.
            return;
        }
        let (event, ending) = perform(node, effect, now, &behaviour);
        if let (true, Event::Listed { result, .. }) = (alive, &event)
            && let Some(agent) = &mut node.agent
        {
            agent.watches = result.is_ok();
        }
        let wants = alive.then(|| node.apply(event, now));
        if let Some(text) = node.machine.broken.take() {
            self.fail(text);
        }
        if let Some(ending) = ending {
            let (node, at) = (name.clone(), now + ending.after);
            self.schedule(at, Happening::Exit { node, boot, ending });
        }
        if let Some(wants) = wants {
            self.carry(name, wants);
        }
        self.examine_machine(name);
    }

    /// No pod runs on two nodes.
    fn examine_machine(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get(name) else { return };
        let running: BTreeSet<String> =
            node.machine.uids().filter(|(_, runs)| *runs).map(|(uid, _)| uid.to_owned()).collect();
        for uid in running {
            let first = self.ran_on.entry(uid.clone()).or_insert_with(|| name.clone()).clone();
            if first != *name {
                self.fail(format!("pod {uid} ran on {first} and runs on {name}"));
            }
        }
    }
}

fn perform(
    node: &mut Node,
    effect: Effect,
    now: Timestamp,
    behaviour: &Behaviour,
) -> (Event, Option<Ending>) {
    let machine = &mut node.machine;
    match effect {
        Effect::Connect { asked, .. } | Effect::List { asked } => {
            (Event::Listed { asked, result: machine.list() }, None)
        }
        Effect::Do { want, step, ip, make, .. } => {
            let (result, ending) = match &step {
                Some(step) => machine.step(&want, step, ip, make.as_ref(), now, behaviour),
                None => (Ok(None), None),
            };
            let found = machine.look(&want.uid);
            (Event::Stepped { uid: want.uid.clone(), step, result, found }, ending)
        }
        Effect::Image { image, pull, .. } => {
            let result: Result<_, Error> = match &pull {
                Some(_) => machine.pull(&image, behaviour),
                None => machine.find_image(&image),
            };
            let took = Duration::from_millis(if pull.is_some() { 800 } else { 5 });
            (Event::Image { image, pulled: pull, took, result }, None)
        }
        Effect::Stop { uid, id, .. } => {
            let (result, ending) = machine.terminate(&id, behaviour);
            (Event::Stopped { uid, id, hook: None, result }, ending)
        }
        Effect::Probe { uid, id, kind, .. } => {
            let outcome = machine.probe(&id, kind, now, behaviour);
            (Event::Probed { uid, id, kind, outcome }, None)
        }
        Effect::Token { want, wish } => {
            let text = format!("token of {}", want.uid);
            let result = Ok(Token { text, expires: now.plus_seconds(wish.seconds) });
            (Event::Token { uid: want.uid.clone(), wish, result }, None)
        }
        Effect::Report(_) | Effect::Tell(_) => (Event::Tick, None),
    }
}
