//! Random runs: commits, reverts and faults from a seed, and then peace, in which everything must
//! come right.

use std::{fmt, time::Duration};

use rand::Rng;

use super::{
    settle::Rest,
    verbs::Stage,
    world::{Happening, World},
};
use crate::{
    kinds::{Commit, CommitState},
    model::NodeName,
};

/// Lines of the story that a failure shows.
const TAIL: usize = 60;

/// How long a world may take to come to rest once nothing is broken any more: the longest back-off
/// (5 min), the longest toleration (5 min), and a rollout.
const PEACE: Duration = Duration::from_secs(25 * 60);

/// How far apart commits and faults lie on average, in milliseconds.
const PAUSE_MS: u64 = 4000;

/// The longest a fault lasts, in seconds: longer than a node may be silent.
const FAULT_SECONDS_MAX: u32 = 70;

/// How many entries apart all invariants are looked at, and not only those of what changed.
const EXAMINE_EVERY: usize = 64;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// Servers and nodes.
    pub size: (usize, usize),
    /// Commits that were pushed.
    pub commits: u32,
    /// Faults that were made.
    pub faults: u32,
    /// Entries of the log.
    pub entries: usize,
    /// How often a leader was elected.
    pub terms: u64,
    /// Commands of controllers that State refused.
    pub refusals: usize,
    /// Virtual seconds it took in all.
    pub seconds: i64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} servers, {} nodes, {} commits, {} faults, {} entries, {} terms, {} refusals, {} s",
            self.seed,
            self.size.0,
            self.size.1,
            self.commits,
            self.faults,
            self.entries,
            self.terms,
            self.refusals,
            self.seconds
        )
    }
}

/// A promise that broke.
#[derive(Clone, Debug, thiserror::Error)]
#[error("seed {seed}: {what}\n\nthe last steps:\n{steps}")]
pub struct Failure {
    /// The seed that shows it again.
    pub seed: u64,
    /// What broke.
    pub what: String,
    /// The end of the story.
    pub steps: String,
}

/// Something that a random run does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    StartServer(usize),
    PowerOn(usize),
    StartAgent(usize),
    Heal(usize),
    Unhang(usize),
    Uncordon(usize),
    RemoteUp,
}

/// The Deployments that random commits are about.
const NAMES: [&str; 5] = ["web", "api", "shop/web", "cart", "mail"];

/// Runs a random cluster for so many virtual minutes, then lets it come to rest.
pub fn random(seed: u64, minutes: u64) -> Result<Summary, Failure> {
    let mut run = Run::new(seed);
    run.play(Duration::from_secs(minutes * 60));
    run.make_peace();
    let world = &run.stage.world;
    if let Some(what) = &world.failure {
        let steps = world.story.tail(TAIL);
        return Err(Failure { seed, what: what.clone(), steps });
    }
    Ok(Summary {
        seed,
        size: (world.log.servers.len(), world.nodes.len()),
        commits: run.commits,
        faults: run.faults,
        entries: world.log.len(),
        terms: world.log.term,
        refusals: world.refusals.len(),
        seconds: (world.now.0 - super::world::START.0) / 1000,
    })
}

struct Run {
    stage: Stage,
    commits: u32,
    faults: u32,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut stage = Stage::new(World::new(seed));
        let world = &mut stage.world;
        world.chaos = true;
        world.log.examine_every = EXAMINE_EVERY;
        let servers = if world.rng.random_ratio(1, 4) { 1 } else { 3 };
        let nodes = world.rng.random_range(2..=4);
        world.servers_die = true;
        world.add_servers(servers);
        for node in 0..nodes {
            world.add_node(&format!("n{node}"), 8000, 16 << 30, Default::default());
        }
        for name in NAMES {
            let app = name.rsplit('/').next().unwrap_or(name);
            let image = |version: &str| format!("{app}:{version}");
            let behaviour = &mut world.behaviour;
            behaviour.missing.insert(image("missing"));
            behaviour.never_ready.insert(image("unready"));
            behaviour.stubborn.insert(image("stubborn"));
            behaviour.ending.insert(image("crash"), (1, Duration::from_secs(2)));
        }
        Self { stage, commits: 0, faults: 0 }
    }

    fn draw(&mut self, count: u32) -> u32 {
        self.stage.world.rng.random_range(0..count)
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.draw(count) == 0
    }

    fn play(&mut self, span: Duration) {
        let until = self.stage.world.now + span;
        self.commit();
        while self.stage.world.now < until && self.stage.world.failure.is_none() {
            let pause = self.stage.world.rng.random_range(100..PAUSE_MS * 2);
            let next = self.stage.world.now + Duration::from_millis(pause);
            self.stage.world.run_until(next.min(until));
            self.stage.world.story.trim(TAIL * 2);
            if self.one_in(3) { self.commit() } else { self.fault() }
        }
    }

    // --- commits ---

    fn commit(&mut self) {
        self.stage.pull();
        self.commits += 1;
        let name = format!("c{}", self.commits);
        let choice = self.draw(12);
        if choice == 0 && self.commits > 1 {
            let bad = format!("c{}", self.commits - 1);
            if self.stage.revert(&bad, &name).is_err() {
                self.stage.commit(&name, "again");
            }
            return;
        }
        for _ in 0..=self.draw(2) {
            self.edit();
        }
        if choice == 1 {
            let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {}\n";
            self.stage.tree.insert("bad.yaml".to_owned(), text.as_bytes().into());
        } else {
            self.stage.tree.remove("bad.yaml");
        }
        let approved = if self.one_in(2) { "change | Prune-Approved: yes" } else { "change" };
        self.stage.commit(&name, approved);
    }

    fn edit(&mut self) {
        let name = NAMES[self.draw(NAMES.len() as u32) as usize];
        let app = name.rsplit('/').next().unwrap_or(name);
        if name.starts_with("shop/") {
            self.stage.put_namespace("shop");
        }
        let versions = ["1", "2", "3", "missing", "unready", "crash", "stubborn"];
        let version = versions[self.draw(versions.len() as u32) as usize];
        match self.draw(8) {
            0 if self.stage.tree.len() > 2 => {
                self.stage.tree.remove(&format!("{name}.yaml"));
            }
            1 => {
                let replicas = format!("replicas={}", self.draw(5));
                self.stage.deploy(name, &[&replicas]);
            }
            2 => {
                let words = ["strategy=Recreate", "strategy=RollingUpdate"];
                let strategy = words[self.draw(2) as usize];
                self.stage.deploy(name, &[strategy]);
            }
            3 => {
                let value = format!("level={}", self.draw(100));
                let config = format!("{name}-settings");
                self.stage.put_config(&config, &value);
                let reference = format!("config={app}-settings");
                self.stage.deploy(name, &[&reference]);
            }
            4 => self.stage.put_service(name),
            _ => {
                let image = format!("image={app}:{version}");
                self.stage.deploy(name, &["grace=5", "cpu=100m", "deadline=60", &image]);
            }
        }
    }

    // --- faults ---

    fn fault(&mut self) {
        self.faults += 1;
        let nodes = self.stage.world.nodes.len();
        let node = self.draw(nodes as u32) as usize;
        let name = NodeName::new(&format!("n{node}"));
        let back = Duration::from_secs(u64::from(1 + self.draw(FAULT_SECONDS_MAX)));
        let world = &mut self.stage.world;
        match world.rng.random_range(0..15) {
            0 => self.kill_server(back),
            1 => world.fuse = Some(world.rng.random_range(1..6)),
            2 => {
                world.power_off(&name);
                self.later(back, Fate::PowerOn(node));
            }
            3 | 4 => {
                world.cut(&name);
                self.later(back, Fate::Heal(node));
            }
            5 | 6 => {
                world.kill_agent(&name);
                self.later(back, Fate::StartAgent(node));
            }
            7 => {
                world.hang(&name, true);
                self.later(back, Fate::Unhang(node));
            }
            8 | 9 => {
                let running = world.nodes.get(&name).map(|n| n.machine.running());
                let running = running.unwrap_or_default();
                if !running.is_empty() {
                    let at = world.rng.random_range(0..running.len());
                    world.end_container(&name, &running[at].2, 139);
                }
            }
            10 => {
                world.repository.is_down = true;
                self.later(back, Fate::RemoteUp);
            }
            11 => {
                // Nobody leads, perhaps: then nothing can be written, which is no failure.
                let drained = self.stage.world.drain(name.as_str());
                if drained.is_ok() {
                    self.later(back, Fate::Uncordon(node));
                }
            }
            12 => self.delete_some_pod(),
            13 => self.lose_cluster(back),
            _ => self.force_push(),
        }
    }

    fn later(&mut self, after: Duration, fate: Fate) {
        let at = self.stage.world.now + after;
        self.stage.world.schedule(at, Happening::Fate(fate));
    }

    fn kill_server(&mut self, back: Duration) {
        let world = &mut self.stage.world;
        let server = world.rng.random_range(0..world.log.servers.len());
        world.kill_server(server);
        self.later(back, Fate::StartServer(server));
    }

    /// Every server is lost with its disk; new ones begin with what Git and the nodes have.
    fn lose_cluster(&mut self, back: Duration) {
        self.stage.world.lose_cluster();
        for server in 0..self.stage.world.log.servers.len() {
            self.later(back, Fate::StartServer(server));
        }
    }

    fn delete_some_pod(&mut self) {
        let Some(view) = self.stage.world.view() else { return };
        let pods: Vec<String> = view
            .list::<k8s_openapi::api::core::v1::Pod>(None)
            .map(|(o, _)| self.stage.world.story.names.of(&o.key().name))
            .collect();
        if !pods.is_empty() {
            let at = self.stage.world.rng.random_range(0..pods.len());
            // It may be gone by the time the server hears of it.
            let _gone = self.stage.delete_pod(&pods[at]);
        }
    }

    fn force_push(&mut self) {
        let back = 1 + self.draw(self.commits.min(4));
        let name = format!("c{}", self.commits.saturating_sub(back).max(1));
        // The oldest commit is c1, which is always there.
        let _there = self.stage.perform(&format!("force-push {name}"), "");
    }

    // --- peace ---

    /// Ends every fault, pushes a commit that can be run, and waits.
    fn make_peace(&mut self) {
        let world = &mut self.stage.world;
        if world.failure.is_some() {
            return;
        }
        world.fuse = None;
        world.servers_die = false;
        world.repository.is_down = false;
        world.behaviour = Default::default();
        for server in 0..world.log.servers.len() {
            world.start_server(server);
        }
        for name in world.nodes.keys().cloned().collect::<Vec<_>>() {
            world.power_on(&name);
            world.start_agent(&name);
            world.heal(&name);
            world.hang(&name, false);
        }
        // Long enough for every agent to dial once.
        world.run_until(world.now + Duration::from_secs(10));
        for name in self.stage.world.nodes.keys().cloned().collect::<Vec<_>>() {
            if let Err(error) = self.stage.world.unschedulable(name.as_str(), false) {
                self.stage.world.fail(format!("node {name} cannot be uncordoned: {error}"));
            }
        }
        self.stage.pull();
        self.stage.tree.remove("bad.yaml");
        self.stage.put_namespace("shop");
        for name in NAMES {
            // What a Deployment refers to is there.
            self.stage.put_config(&format!("{name}-settings"), "level=0");
        }
        self.stage.deploy("web", &["image=web:9", "replicas=2"]);
        self.commits += 1;
        let name = format!("c{}", self.commits);
        self.stage.commit(&name, "peace | Prune-Approved: yes | Deploy-Deadline: 5m");
        self.expect_rest();
    }

    fn expect_rest(&mut self) {
        let world = &mut self.stage.world;
        // Faults that were still to be undone have their time, and so do nodes that were lost.
        world.run_until(world.now + Duration::from_secs(u64::from(FAULT_SECONDS_MAX) + 5));
        let rest = world.settle(PEACE);
        if let Rest::Missed(what) = rest {
            return world.fail(format!("no rest after {PEACE:?} of peace: {what}"));
        }
        let healthy = |world: &World| {
            let view = world.view()?;
            let head = view.head()?.commit.clone();
            let commit = view.get::<Commit>("", head.as_str())?.clone();
            Some((Some(head) == world.repository.tip, commit.status))
        };
        for _ in 0..40 {
            match healthy(world) {
                Some((true, status)) if status.state == CommitState::Healthy => {
                    world.settle(PEACE);
                    return world.examine_rest();
                }
                _ if world.failure.is_some() => return,
                // A container that crashed often waits for up to five minutes.
                _ => world.run_until(world.now + Duration::from_secs(30)),
            }
        }
        let found = healthy(world).map(|(at_tip, status)| (at_tip, status.state, status.message));
        world.fail(format!("in peace, and not healthy: {found:?}"));
    }
}

impl World {
    /// Undoes a fault.
    pub(super) fn befall(&mut self, fate: Fate) {
        let node = |node: usize| NodeName::new(&format!("n{node}"));
        match fate {
            Fate::StartServer(server) => self.start_server(server),
            Fate::PowerOn(n) => self.power_on(&node(n)),
            Fate::StartAgent(n) => self.start_agent(&node(n)),
            Fate::Heal(n) => self.heal(&node(n)),
            Fate::Unhang(n) => self.hang(&node(n), false),
            Fate::Uncordon(n) => {
                // Without a leader it stays cordoned until peace.
                let _later = self.unschedulable(node(n).as_str(), false);
            }
            Fate::RemoteUp => self.repository.is_down = false,
        }
    }
}
