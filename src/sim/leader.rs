//! The leader's loops, in the order in which the servers run them: drive, look, export, tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Node as CoreNode;

use super::{
    log::NotLeader,
    repository::UNREACHABLE,
    world::{Happening, World},
};
use crate::{
    kinds::{GitReference, GitSourceSpec, RevertState},
    model::{
        CommitId, NodeName, Problem, RequestId, Revision, Timestamp,
        session::{Survivor, ToAgent},
    },
    plan::{
        Agenda, ENTRY_COMMANDS_MAX, Inputs, Planned,
        admission::{self, Candidate},
        assign::Told,
        failure::{self, way_back},
        freeze,
        recall::Recalled,
        survivors::{Homecoming, Next, Rested, Survivors},
    },
    render,
    report::{self, Burst},
    server::recall,
    state::{Command, MAIN_SOURCE, Outcome, Refusal, View},
};

/// From a change to the round that it asks for: what a proposal takes on three machines.
const ROUND: Duration = Duration::from_millis(2);

/// From a change to the word about it for agents.
const TELL: Duration = Duration::from_millis(1);

/// The longest pause between two tries of the exporter (as `server::export`).
const RETRY_SECONDS_MAX: u64 = 60;

/// Between two looks at the remote when nobody tells us (as `server::import`).
pub(super) const POLL: Duration = Duration::from_secs(30);

/// What pods of simulated clusters trust: nothing there reads it.
pub(super) const ROOT_CA: &str = "simulated\n";

/// Most rounds that may follow each other without a pause: a controller that never comes to rest is
/// a bug.
const ROUNDS_MAX: u32 = 300;

/// One session as the leader has it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    told: Told,
    home: Homecoming,
}

/// What a server keeps while it leads; a new leader starts with nothing.
#[derive(Debug)]
pub(super) struct Leading {
    pub(super) term: u64,
    agenda: Agenda,
    start: Timestamp,
    pub(super) heard: BTreeMap<NodeName, Timestamp>,
    pub(super) sessions: BTreeMap<NodeName, Session>,
    /// What the proxies of each node are programmed to.
    pub(super) programmed: BTreeMap<NodeName, Revision>,
    pub(super) survivors: Survivors,
    rested: Rested,
    drive_at: Option<Timestamp>,
    tell_at: Option<Timestamp>,
    burst: Burst,
    export_at: Option<Timestamp>,
    /// When the exporter tries again what failed.
    export_again_at: Option<Timestamp>,
    look_at: Option<Timestamp>,
    look_failures: u32,
    export_failures: u32,
    /// Rounds that proposed something, one right after the other, and when the last one was.
    rounds: u32,
    round_at: Timestamp,
}

impl Leading {
    fn new(term: u64, now: Timestamp) -> Self {
        Self {
            term,
            agenda: Agenda::default(),
            start: now,
            heard: BTreeMap::new(),
            sessions: BTreeMap::new(),
            programmed: BTreeMap::new(),
            survivors: Survivors::default(),
            rested: Rested::default(),
            drive_at: None,
            tell_at: None,
            burst: Burst::default(),
            export_at: None,
            export_again_at: None,
            look_at: None,
            look_failures: 0,
            export_failures: 0,
            rounds: 0,
            round_at: now,
        }
    }
}

/// What the cluster follows.
pub(super) fn source() -> GitSourceSpec {
    GitSourceSpec {
        url: "https://git.example.org/shop.git".to_owned(),
        reference: GitReference { branch: Some("main".to_owned()), ..GitReference::default() },
        ..GitSourceSpec::default()
    }
}

impl World {
    /// What the cluster follows, as this world has it.
    pub(super) fn source(&self) -> GitSourceSpec {
        let deadlines = self.deadlines.clone();
        GitSourceSpec { on_failure: self.on_failure, deadlines, ..source() }
    }

    /// The picture of the leader.
    pub(super) fn view(&self) -> Option<View> {
        let leader = self.log.leader?;
        Some(self.log.servers[leader].state.view().clone())
    }

    /// A server begins to lead.
    pub(super) fn lead(&mut self) {
        let pick = self.pick();
        let Some(server) = self.log.elect(pick) else { return };
        let term = self.log.term;
        self.leading = Some(Leading::new(term, self.now));
        if self.log.servers.len() > 1 || term > 1 {
            self.story.tell(self.now, "leader", &format!("server {}", server + 1));
        }
        self.set_up();
        self.changed();
        self.look_in(Duration::ZERO);
    }

    /// Asks for what follows from a change of State.
    pub(super) fn changed(&mut self) {
        let now = self.now;
        if self.view().is_some_and(|view| way_back(&view, MAIN_SOURCE).is_some()) {
            self.look_in(ROUND);
        }
        self.changed_at = now;
        self.drive_by(now + ROUND);
        self.tell_by(now + TELL);
        self.export_in_time();
        for server in 0..self.log.servers.len() {
            if self.log.is_behind(server) {
                let after = self.latency(10);
                self.schedule(now + after, Happening::Follow { server });
            }
        }
    }

    /// Asks for word to agents.
    pub(super) fn tell_by(&mut self, at: Timestamp) {
        let Some(leading) = &mut self.leading else { return };
        let term = leading.term;
        if leading.tell_at.is_none_or(|before| at < before) {
            leading.tell_at = Some(at);
            self.schedule(at, Happening::Tell { term });
        }
    }

    fn drive_by(&mut self, at: Timestamp) {
        let Some(leading) = &mut self.leading else { return };
        let term = leading.term;
        if leading.drive_at.is_none_or(|before| at < before) {
            leading.drive_at = Some(at);
            self.schedule(at, Happening::Drive { term });
        }
    }

    /// Asks for a look at the remote.
    pub(super) fn look_in(&mut self, after: Duration) {
        let at = self.now + after;
        let Some(leading) = &mut self.leading else { return };
        let term = leading.term;
        if leading.look_at.is_none_or(|before| at < before) {
            leading.look_at = Some(at);
            self.schedule(at, Happening::Look { term });
        }
    }

    /// Proposes commands in one entry. The fuse burns here: a leader may die after any entry.
    pub(super) fn propose(&mut self, commands: Vec<Command>) -> Result<Vec<Outcome>, NotLeader> {
        let before = self.view().ok_or(NotLeader)?;
        let id = RequestId(self.random_u128());
        let slow = self.chaos;
        let rng = &mut self.rng;
        let mut late = || slow && rand::Rng::random_ratio(rng, 1, 4);
        let told = commands.clone();
        let mut outcomes = self.log.propose(id, self.now, commands.clone(), &mut late)?;
        if slow && rand::Rng::random_ratio(&mut self.rng, 1, 20) {
            // The answer was lost: the same entry once more, which must change nothing.
            let again = self.log.propose(id, self.now, commands, || false)?;
            if again != outcomes {
                self.fail(format!("a retried entry gave {again:?} after {outcomes:?}"));
            }
            outcomes = again;
        }
        if let Some(after) = self.view() {
            self.observe(&before, &after, &told, &outcomes);
        }
        self.changed();
        self.examine_log();
        if let Some(fuse) = &mut self.fuse {
            *fuse = fuse.saturating_sub(1);
            if *fuse == 0 {
                self.fuse = None;
                if let Some(leader) = self.log.leader {
                    self.kill_server(leader);
                    return Err(NotLeader);
                }
            }
        }
        Ok(outcomes)
    }

    /// Asks the controllers and proposes what they say.
    pub(super) fn drive(&mut self) {
        let Some(view) = self.view() else { return };
        let now = self.now;
        let timing = self.timing.clone();
        let Some(leading) = &mut self.leading else { return };
        if leading.drive_at.is_none_or(|at| at > now) {
            return;
        }
        leading.drive_at = None;
        let mut heard = leading.heard.clone();
        for (node, _) in view.list::<CoreNode>(None) {
            heard.entry(NodeName::new(&node.key().name)).or_insert(leading.start);
        }
        let (timing, root_ca) = (&timing, ROOT_CA);
        let survivors = &leading.survivors;
        let inputs = Inputs { now, heard: &heard, timing, root_ca, servers: &[], survivors };
        let planned = leading.agenda.round(&view, &inputs);
        let commands: Vec<Command> = planned.iter().flat_map(|p| p.commands.clone()).collect();
        if commands.is_empty() {
            leading.rounds = 0;
            if !leading.survivors.is_empty() {
                leading.rested = Rested::new(&view, &leading.survivors);
            }
            let wake = leading.agenda.wake_at();
            if !leading.survivors.is_empty() {
                self.tell_by(now);
            }
            match wake {
                Some(at) if at <= now => {
                    let text = format!("the driver would spin: {at:?} is due and gave nothing");
                    self.fail(text);
                }
                Some(at) => self.drive_by(at),
                None => {}
            }
            return;
        }
        leading.rounds = if leading.round_at + ROUND * 4 >= now { leading.rounds + 1 } else { 1 };
        leading.round_at = now;
        if leading.rounds > ROUNDS_MAX {
            let who: BTreeSet<String> =
                planned.iter().map(|p| format!("{} {}", p.controller, p.key)).collect();
            self.fail(format!("planning does not come to rest: {who:?}"));
            return;
        }
        let mut outcomes = Vec::new();
        for chunk in commands.chunks(ENTRY_COMMANDS_MAX) {
            match self.propose(chunk.to_vec()) {
                Ok(some) => outcomes.extend(some),
                Err(NotLeader) => return,
            }
        }
        self.note_refusals(&planned, &outcomes);
        self.drive_by(now + ROUND);
    }

    fn note_refusals(&mut self, planned: &[Planned], outcomes: &[Outcome]) {
        let mut outcomes = outcomes.iter();
        let now = self.now;
        for planned in planned {
            for _ in &planned.commands {
                if let Some(Outcome::Refused(refusal)) = outcomes.next() {
                    let text = format!("{} of {}: {refusal}", planned.controller, planned.key);
                    self.refusals.push(text);
                    if let Some(leading) = &mut self.leading {
                        leading.agenda.refused(planned, now);
                    }
                }
            }
        }
    }

    /// Looks at the remote and takes its tip when it is news.
    pub(super) fn look(&mut self) {
        let now = self.now;
        let Some(leading) = &mut self.leading else { return };
        if leading.look_at.is_none_or(|at| at > now) {
            return;
        }
        leading.look_at = None;
        self.go_back();
        let tip = self.repository.tip.clone();
        let result = match tip {
            _ if self.repository.is_down => Err(("Unreachable", UNREACHABLE.to_owned())),
            None => Err(("ReferenceMissing", "the branch main is not there".to_owned())),
            Some(tip) => self.consider(&tip).map(|()| tip),
        };
        let Some(view) = self.view() else { return };
        let (tip, look) = match &result {
            Ok(tip) => (Some(tip), Ok(())),
            Err((reason, message)) => (None, Err((*reason, message.clone()))),
        };
        match admission::tell_source(&view, (MAIN_SOURCE, &self.source()), tip, look, now) {
            Ok(Some(command)) => drop(self.propose(vec![command])),
            Ok(None) => {}
            Err(error) => self.fail(format!("the source cannot be told: {error}")),
        }
        let Some(leading) = &mut self.leading else { return };
        leading.look_failures = if result.is_ok() { 0 } else { leading.look_failures + 1 };
        let pause = POLL * (1 << leading.look_failures.saturating_sub(1).min(2));
        let thawed = freeze::wake_at(&view, MAIN_SOURCE).map(|at| at.since(now));
        let pause = thawed.filter(|left| !left.is_zero()).map_or(pause, |left| pause.min(left));
        self.look_in(pause);
    }

    /// Takes the cluster back to the last good commit when the one it runs has failed.
    fn go_back(&mut self) {
        let Some(view) = self.view() else { return };
        let Some((bad, good)) = way_back(&view, MAIN_SOURCE) else { return };
        let Some(candidate) = self.take(&good, &view, true) else {
            return self.fail(format!("the good commit {good} is gone"));
        };
        if let Some(problem) = candidate.problems.first() {
            return self.fail(format!("the cluster cannot go back to {good}: {problem}"));
        }
        match admission::go_back(&view, &candidate, &bad) {
            Ok(commands) => {
                let mut commands = commands.into_iter();
                while commands.next().is_some_and(|c| self.propose(vec![c]).is_ok()) {}
            }
            Err(error) => self.fail(format!("the cluster cannot go back: {error}")),
        }
    }

    fn consider(&mut self, tip: &CommitId) -> Result<(), (&'static str, String)> {
        let gone = || ("NotRecorded", "another server leads".to_owned());
        let view = self.view().ok_or_else(gone)?;
        if !admission::is_news(&view, MAIN_SOURCE, tip, self.now) {
            return Ok(());
        }
        let Some(mut candidate) = self.candidate(tip, &view) else {
            return Err(("ReferenceMissing", format!("there is no commit {tip}")));
        };
        let before = self.recalled(&view, &mut candidate);
        match freeze::record_hold(&view, &candidate) {
            Ok(None) => {}
            Ok(Some(commands)) => return self.propose(commands).map(drop).map_err(|_| gone()),
            Err(error) => return Err(("NotRecorded", error.to_string())),
        }
        let refusal = match candidate.problems.is_empty() {
            true => {
                let until = self.now.plus_seconds(self.timing.node_return_seconds);
                for command in before.await_nodes(&view, until) {
                    self.propose(vec![command]).map_err(|_| gone())?;
                }
                self.adopt(&view, &candidate)?
            }
            false => Some(candidate.problems.clone()),
        };
        let Some(problems) = refusal else { return Ok(()) };
        let commands = admission::refuse(&view, &candidate, problems, self.now)
            .map_err(|e| ("NotRecorded", e.to_string()))?;
        self.propose(commands).map(drop).map_err(|_| gone())
    }

    /// What the status branch remembers, for a cluster that runs nothing yet.
    fn recalled(&self, view: &View, candidate: &mut Candidate) -> Recalled {
        let mut before = Recalled::default();
        let Some(config) = view.config().filter(|_| view.head().is_none()) else { return before };
        let files = self.repository.status_tree.iter();
        for (path, bytes) in files.filter(|(path, _)| report::is_remembered(path)) {
            recall(&mut before, path, bytes);
        }
        before.give(&mut candidate.wanted, config);
        before
    }

    /// A commit read and rendered against a View.
    pub(super) fn candidate(&mut self, commit: &CommitId, view: &View) -> Option<Candidate> {
        self.take(commit, view, false)
    }

    fn take(&mut self, commit: &CommitId, view: &View, again: bool) -> Option<Candidate> {
        let mut facts = self.repository.facts(commit, self.now)?;
        if again {
            admission::again(&mut facts);
        }
        let tree = self.repository.get(commit)?.tree.clone();
        let rules = tree.get(render::IGNORE_FILE).map(|b| &b[..]).unwrap_or_default();
        let ignore = render::Ignore::parse(rules);
        let mut picture = render::Picture::default();
        let wanted = || tree.iter().filter(|(path, _)| ignore.is_manifest(path));
        let mut layout = render::Layout::default();
        for (path, bytes) in wanted().filter(|(path, _)| render::Layout::is_kustomization(path)) {
            layout.put(path, bytes);
        }
        for (path, bytes) in wanted().filter(|(path, _)| layout.is_plain(path)) {
            let key = (path.clone(), bytes.clone());
            let rendered = || Arc::new(render::render_file(path, bytes));
            let file = self.rendered.entry(key).or_insert_with(rendered).clone();
            picture.put(file, &mut BTreeSet::new());
        }
        let mut held: render::Held<'_> = tree.iter().map(|(p, b)| (p.as_str(), &b[..])).collect();
        for folder in layout.roots() {
            let built = render::render_kustomization(&folder, &mut held);
            picture.put(Arc::new(built), &mut BTreeSet::new());
        }
        Some(admission::candidate(view, &self.source(), facts, &picture, None, Vec::new()))
    }

    fn adopt(
        &mut self,
        view: &View,
        candidate: &Candidate,
    ) -> Result<Option<Vec<Problem>>, (&'static str, String)> {
        let commands = admission::admit(view, candidate, self.now);
        for command in commands.map_err(|e| ("NotRecorded", e.to_string()))? {
            let outcomes = self.propose(vec![command]);
            let outcomes = outcomes.map_err(|_| ("NotRecorded", "another server leads".into()))?;
            match outcomes.into_iter().next() {
                Some(Outcome::Refused(Refusal::Invalid { problems })) => return Ok(Some(problems)),
                Some(Outcome::Refused(Refusal::Exhausted(message))) => {
                    return Ok(Some(vec![Problem { message, ..Problem::default() }]));
                }
                Some(Outcome::Refused(refusal)) => {
                    return Err(("NotRecorded", refusal.to_string()));
                }
                Some(Outcome::Done(_)) | None => {}
            }
        }
        Ok(None)
    }

    /// Asks for the exporter when something is due that it does not know of yet.
    fn export_in_time(&mut self) {
        let (now, view) = (self.now, self.view());
        let (Some(leading), Some(view)) = (&mut self.leading, view) else { return };
        leading.burst.see(&view, now);
        let reverts = view.due_reverts().next().map(|_| now);
        let due = leading.export_again_at.or(reverts).or_else(|| leading.burst.due());
        let (Some(at), term) = (due.map(|at| at.max(now)), leading.term) else { return };
        if leading.export_at.is_none_or(|before| at < before) {
            leading.export_at = Some(at);
            self.schedule(at, Happening::Export { term });
        }
    }

    /// Takes back what failed, and writes what State has to tell once that is due, as the exporter
    /// does.
    pub(super) fn export(&mut self) {
        let now = self.now;
        let Some(leading) = &mut self.leading else { return };
        if leading.export_at.is_none_or(|at| at > now) {
            return;
        }
        leading.export_at = None;
        if leading.export_again_at.is_none_or(|at| at <= now) {
            let ended = self.export_round();
            let Some(leading) = &mut self.leading else { return };
            leading.export_failures = if ended.is_ok() { 0 } else { leading.export_failures + 1 };
            let seconds = (1 << leading.export_failures.min(6)).min(RETRY_SECONDS_MAX);
            leading.export_again_at = ended.is_err().then(|| now + Duration::from_secs(seconds));
        }
        self.export_in_time();
    }

    fn export_round(&mut self) -> Result<(), String> {
        let view = self.view().ok_or("nobody leads")?;
        let reverted = self.reverts(&view);
        let leading = self.leading.as_ref().ok_or("nobody leads")?;
        if leading.burst.due().is_some_and(|at| at <= self.now) {
            let (view, term) = (self.view().ok_or("nobody leads")?, leading.term);
            self.show(&view, term)?;
            if let Some(leading) = &mut self.leading {
                leading.burst.shown(&view);
            }
        }
        reverted
    }

    /// Status first, then notes.
    fn show(&mut self, view: &View, term: u64) -> Result<(), String> {
        let lost = |_| "another server leads".to_owned();
        let since = view.exported();
        if since < view.revision() {
            let files = report::status_branch(view, since);
            if !files.files.is_empty() || files.whole {
                let message = report::status_commit_message(view, since, term);
                let wrote =
                    self.repository.write_status(files.files, files.whole, &message, self.now)?;
                if wrote {
                    let subject = message.lines().next().unwrap_or_default().to_owned();
                    self.story.tell(self.now, "status:", &subject);
                }
                self.crash_between()?;
                self.propose(vec![Command::Exported(view.revision())]).map_err(lost)?;
            }
        }
        let items: Vec<(u64, CommitId)> =
            view.due_notes().map(|(id, commit)| (id, commit.id.clone())).collect();
        if !items.is_empty() {
            let of = |(_, commit): &(u64, CommitId)| (commit.clone(), report::note(view, commit));
            self.repository.write_notes(items.iter().map(of).collect())?;
            self.crash_between()?;
            let done = items.iter().map(|(id, _)| Command::Done(*id)).collect();
            self.propose(done).map_err(lost)?;
        }
        Ok(())
    }

    /// Takes back what failed, as the exporter does.
    fn reverts(&mut self, view: &View) -> Result<(), String> {
        let lost = |_| "another server leads".to_owned();
        for (id, bad) in view.due_reverts() {
            if let Some(revert) = failure::revert(view, bad) {
                let settled = self.repository.undo(&revert, self.now)?;
                if let Some(commit) = &settled.commit
                    && settled.state != RevertState::Overtaken
                    && self.story.names.of(commit.as_str()) == commit.as_str()
                {
                    let name = format!("revert-of-{}", self.story.names.of(bad.id.as_str()));
                    self.story.names.give(commit.as_str(), &name);
                    self.story.names.give(commit.short(), &name);
                    let how = format!("{:?}", settled.state).to_lowercase();
                    self.story.tell(self.now, "revert", &format!("{name} {how}"));
                }
                self.crash_between()?;
                self.look_in(Duration::from_millis(100));
                let commands = failure::settle(view, bad, settled).map_err(|e| e.to_string())?;
                let outcomes = self.propose(commands).map_err(lost)?;
                if let Some(Outcome::Refused(refusal)) =
                    outcomes.into_iter().find(|o| matches!(o, Outcome::Refused(_)))
                {
                    return Err(refusal.to_string());
                }
            }
            self.propose(vec![Command::Done(id)]).map_err(lost)?;
        }
        Ok(())
    }

    /// A leader may die between a push and its acknowledgement.
    fn crash_between(&mut self) -> Result<(), String> {
        let random = self.chaos && self.servers_die;
        let random = random && rand::Rng::random_ratio(&mut self.rng, 1, 100);
        if (std::mem::take(&mut self.dies_after_push) || random)
            && let Some(leader) = self.log.leader
        {
            self.kill_server(leader);
            return Err("died after the push".to_owned());
        }
        Ok(())
    }

    /// Tells every agent what it must know.
    pub(super) fn tell_agents(&mut self) {
        let Some(view) = self.view() else { return };
        let now = self.now;
        let Some(leading) = &mut self.leading else { return };
        if leading.tell_at.is_none_or(|at| at > now) {
            return;
        }
        leading.tell_at = None;
        let return_seconds = self.timing.node_return_seconds;
        let (mut words, mut asked, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        for (node, session) in &mut leading.sessions {
            let times = (now, return_seconds);
            match session.home.next(&view, &leading.rested, &leading.survivors, times) {
                Next::Propose(commands) => {
                    asked.extend(commands);
                    continue;
                }
                Next::Wait(at) => {
                    waits.extend(at);
                    continue;
                }
                Next::Tell => {
                    leading.survivors.leave(node);
                }
            }
            for desired in session.told.update(&view, &leading.programmed, now) {
                words.push((node.clone(), session.id, ToAgent::Desired(desired)));
            }
        }
        let wake = leading.sessions.values().filter_map(|s| s.told.wake_at()).chain(waits).min();
        wake.into_iter().for_each(|at| self.tell_by(at));
        for (node, session, message) in words {
            self.send_to_agent(&node, session, message);
        }
        if !asked.is_empty() {
            // Whoever leads then asks again.
            drop(self.propose(asked));
        }
    }

    /// Takes what an agent still runs of another cluster.
    pub(super) fn bring(&mut self, node: &NodeName, pods: Vec<Survivor>) {
        let Some(leading) = &mut self.leading else { return };
        let count = leading.survivors.bring(node, pods);
        if let Some(session) = leading.sessions.get_mut(node) {
            session.home.bring(count);
        }
        // No change of State tells what they touch.
        leading.agenda = Agenda::default();
        self.drive_by(self.now + ROUND);
        self.tell_by(self.now + TELL);
    }

    /// Begins a session, which ends the node's earlier one.
    pub(super) fn begin_session(&mut self, node: &NodeName, id: u64, home: Homecoming) {
        let now = self.now;
        if let Some(leading) = &mut self.leading {
            let told = Told::nothing(node.clone());
            leading.survivors.leave(node);
            leading.sessions.insert(node.clone(), Session { id, told, home });
            leading.programmed.insert(node.clone(), Revision::default());
            leading.heard.insert(node.clone(), now);
        }
    }

    /// Whether everything State shows has left the cluster.
    pub(super) fn has_exported(&self) -> bool {
        let Some(view) = self.view() else { return false };
        let is_shown = |l: &Leading| l.burst.due().is_none() && l.export_again_at.is_none();
        self.leading.as_ref().is_some_and(is_shown) && view.outbox().next().is_none()
    }
}
