//! A log that replicas agree on, as values: what raft gives, without its messages.
//!
//! An entry counts once a majority of the servers has it on disk; any majority that elects a leader
//! has a server that holds every entry that counts. Followers apply later than the leader, and one
//! that was away for long is given a snapshot.

use std::sync::Arc;

use crate::{
    model::{RequestId, Timestamp, fnv1a},
    state::{Command, Entry, Outcome, Severity, State, View, Violation, check, check_step},
};

/// How many entries a server may lack before it is given a snapshot instead.
const BEHIND_MAX: usize = 40;

/// How many entries apart a server keeps a snapshot of its own.
const SNAPSHOT_EVERY: usize = 100;

/// One server.
#[derive(Debug, Default)]
pub(super) struct Server {
    /// It runs.
    pub(super) up: bool,
    /// How many entries it has on disk.
    stored: usize,
    /// How many entries its State shows.
    applied: usize,
    pub(super) state: State,
    /// What was looked at last, and broke no promise.
    looked_at: View,
    /// Its own snapshot on disk and how many entries it stands for.
    snapshot: Option<(Arc<[u8]>, usize)>,
}

/// Nobody leads, or the leader has no majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotLeader;

/// The servers and what they agreed on.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<Arc<[u8]>>,
    /// What the State that applied an entry first looked like after it.
    digests: Vec<u64>,
    pub(super) servers: Vec<Server>,
    /// Who leads.
    pub(super) leader: Option<usize>,
    /// How many leaders there were.
    pub(super) term: u64,
    /// Every how many entries a whole State is held against its invariants, which costs a pass over
    /// all objects. What an entry changed is looked at after each.
    pub(super) examine_every: usize,
    /// The first promise that broke.
    pub(super) broken: Option<String>,
}

impl Log {
    /// Adds servers that have nothing.
    pub(super) fn add_servers(&mut self, count: usize) {
        self.servers.extend((0..count).map(|_| Server { up: true, ..Server::default() }));
    }

    /// The servers are other machines from now on, which do not run yet and have nothing. The next
    /// leader is a later one all the same.
    pub(super) fn lose_all(&mut self) {
        let (term, examine_every) = (self.term, self.examine_every);
        let servers = self.servers.iter().map(|_| Server::default()).collect();
        *self = Self { term, examine_every, servers, ..Self::default() };
    }

    /// How many entries count.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether more than half of the servers run.
    pub(super) fn has_majority(&self) -> bool {
        self.servers.iter().filter(|s| s.up).count() * 2 > self.servers.len()
    }

    /// Makes a server lead that lacks nothing, if a majority runs. `pick` chooses among those.
    pub(super) fn elect(&mut self, pick: usize) -> Option<usize> {
        if !self.has_majority() {
            return None;
        }
        let newest = self.servers.iter().filter(|s| s.up).map(|s| s.stored).max()?;
        if newest != self.entries.len() {
            let text = format!("{} entries count and a majority has {newest}", self.entries.len());
            self.broken.get_or_insert(text);
        }
        let whole = |s: &Server| s.up && s.stored == newest;
        let able: Vec<usize> =
            (0..self.servers.len()).filter(|i| whole(&self.servers[*i])).collect();
        let leader = able[pick % able.len()];
        self.term += 1;
        self.leader = Some(leader);
        self.follow(leader);
        Some(leader)
    }

    /// Appends an entry and applies it at the leader. `late` says which followers store it only
    /// later, as long as a majority has it at once.
    pub(super) fn propose(
        &mut self,
        id: RequestId,
        at: Timestamp,
        commands: Vec<Command>,
        mut late: impl FnMut() -> bool,
    ) -> Result<Vec<Outcome>, NotLeader> {
        let leader = self.leader.filter(|_| self.has_majority()).ok_or(NotLeader)?;
        let entry = Entry::new(id, at, commands);
        let bytes = serde_json::to_vec(&entry).unwrap_or_else(|e| panic!("{entry:?}: {e}"));
        self.entries.push(bytes.into());
        let majority = self.servers.len() / 2 + 1;
        let mut have = 0;
        let order = (0..self.servers.len()).map(|i| (leader + i) % self.servers.len());
        for i in order.collect::<Vec<_>>() {
            let up = self.servers[i].up;
            // A follower that lacks an earlier entry is brought up to date by this one.
            if up && (have < majority || !late()) {
                self.servers[i].stored = self.entries.len();
                have += 1;
            }
        }
        Ok(self.apply_at(leader).unwrap_or_default())
    }

    /// Brings one server's State up to everything that counts.
    pub(super) fn follow(&mut self, server: usize) {
        let len = self.entries.len();
        let this = &self.servers[server];
        if !this.up {
            return;
        }
        let source = self.leader.filter(|l| *l != server && self.servers[*l].applied == len);
        if let Some(source) = source.filter(|_| len > this.applied + BEHIND_MAX) {
            let snapshot = self.servers[source].state.to_snapshot();
            self.restore(server, &snapshot, len);
        }
        self.servers[server].stored = len;
        self.apply_at(server);
    }

    /// Whether a server's State shows everything that counts.
    pub(super) fn is_behind(&self, server: usize) -> bool {
        self.servers[server].up && self.servers[server].applied < self.entries.len()
    }

    /// Stops a server as a loss of power would: what it had in memory is gone.
    pub(super) fn stop(&mut self, server: usize) {
        let this = &mut self.servers[server];
        this.up = false;
        this.applied = 0;
        this.state = State::default();
        this.looked_at = View::default();
        if self.leader == Some(server) || !self.has_majority() {
            self.leader = None;
        }
    }

    /// Starts a server from its disk.
    pub(super) fn start(&mut self, server: usize) {
        if self.servers[server].up {
            return;
        }
        self.servers[server].up = true;
        if let Some((bytes, index)) = self.servers[server].snapshot.clone() {
            self.restore(server, &bytes, index);
        }
        let stored = self.servers[server].stored;
        self.apply_to(server, stored);
    }

    fn restore(&mut self, server: usize, bytes: &[u8], index: usize) {
        match State::from_snapshot(bytes) {
            Ok(state) => {
                let this = &mut self.servers[server];
                this.state = state;
                this.applied = index;
                this.snapshot = Some((bytes.into(), index));
                self.compare(server);
                self.examine(server);
            }
            Err(error) => {
                self.broken
                    .get_or_insert(format!("server {server} cannot read a snapshot: {error}"));
            }
        }
    }

    fn apply_at(&mut self, server: usize) -> Option<Vec<Outcome>> {
        self.apply_to(server, self.entries.len())
    }

    /// Gives the outcomes of the last entry.
    fn apply_to(&mut self, server: usize, until: usize) -> Option<Vec<Outcome>> {
        let mut last = None;
        while self.servers[server].applied < until {
            let index = self.servers[server].applied;
            let bytes = self.entries[index].clone();
            let this = &mut self.servers[server];
            match serde_json::from_slice::<Entry>(&bytes) {
                Ok(entry) => last = Some(this.state.apply(entry)),
                Err(error) => {
                    self.broken.get_or_insert(format!("entry {index} cannot be read: {error}"));
                }
            }
            let this = &mut self.servers[server];
            this.applied += 1;
            if this.applied.is_multiple_of(SNAPSHOT_EVERY) {
                this.snapshot = Some((this.state.to_snapshot().into(), this.applied));
            }
            self.compare(server);
            self.examine_step(server);
        }
        let every = self.examine_every.max(1);
        let leads = every == 1 || self.leader == Some(server);
        if last.is_some() && until.is_multiple_of(every) && leads {
            self.examine(server);
        }
        last
    }

    /// Holds a State against what another server's looked like at the same place.
    fn compare(&mut self, server: usize) {
        let (index, view) = (self.servers[server].applied, self.servers[server].state.view());
        let text = format!(
            "{}:{}:{:?}:{:?}",
            view.digest(),
            view.revision(),
            view.head(),
            view.outbox().collect::<Vec<_>>()
        );
        let digest = fnv1a(text.as_bytes());
        match self.digests.get(index) {
            Some(other) if *other != digest => {
                let text = format!("server {server} differs from the others after entry {index}");
                self.broken.get_or_insert(text);
            }
            Some(_) => {}
            None => {
                self.digests.resize(index, 0);
                self.digests.push(digest);
            }
        }
    }

    /// Looks for a broken promise in every State.
    pub(super) fn examine_all(&mut self) {
        (0..self.servers.len()).for_each(|server| self.examine(server));
    }

    /// Looks for a broken promise in a State.
    fn examine(&mut self, server: usize) {
        let this = &mut self.servers[server];
        this.looked_at = this.state.view().clone();
        let found = check(&this.looked_at);
        self.judge(server, found);
    }

    /// Looks for a promise that was broken since the last look.
    fn examine_step(&mut self, server: usize) {
        let this = &mut self.servers[server];
        let before = std::mem::replace(&mut this.looked_at, this.state.view().clone());
        let found = check_step(&before, &this.looked_at);
        self.judge(server, found);
    }

    fn judge(&mut self, server: usize, found: Vec<Violation>) {
        if let Some(worst) = found.into_iter().find(|v| v.severity == Severity::Broken) {
            self.broken.get_or_insert(format!("server {server}: {worst}"));
        }
    }
}
