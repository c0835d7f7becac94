//! When a world has come to rest, and what must be so then.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{Node as CoreNode, Pod};

use super::{leader::ROOT_CA, world::World};
use crate::{
    kinds::{Commit, CommitState},
    model::{Key, NodeName, Revision, Timestamp},
    plan::{Agenda, Inputs},
    report,
    state::{MAIN_SOURCE, View},
};

/// How long nothing may change until a world counts as at rest: longer than any step of a pod
/// takes.
const QUIET: Duration = Duration::from_secs(3);

/// How a world that is at rest can be left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing is left to do.
    Reached,
    /// This was still to do when the time was over.
    Missed(String),
}

impl World {
    /// Lets time pass until nothing is left to do, at most until `limit`.
    pub(super) fn settle(&mut self, limit: Duration) -> Rest {
        let until = self.now + limit;
        loop {
            let missing = self.unrest();
            let Some(missing) = missing else { return Rest::Reached };
            if self.failure.is_some() || !self.step(until) {
                self.now = self.now.max(until.min(self.now + limit));
                return Rest::Missed(missing);
            }
        }
    }

    /// What is still to do; `None` when nothing is.
    pub(super) fn unrest(&self) -> Option<String> {
        if self.now < self.changed_at + QUIET {
            return Some("State changed a moment ago".to_owned());
        }
        let Some(view) = self.view() else { return Some("nobody leads".to_owned()) };
        if let Some(late) = (0..self.log.servers.len()).find(|s| self.log.is_behind(*s)) {
            return Some(format!("server {} lags", late + 1));
        }
        if crate::plan::failure::way_back(&view, MAIN_SOURCE).is_some() {
            return Some("the cluster has to go back".to_owned());
        }
        if !self.repository.is_down {
            if let Some(tip) = &self.repository.tip
                && crate::plan::admission::is_news(&view, MAIN_SOURCE, tip, self.now)
            {
                return Some(format!("commit {} was not looked at", tip.short()));
            }
            if !self.has_exported() {
                return Some("the status branch does not show everything".to_owned());
            }
        }
        let head = view.head()?;
        let commit = view.get::<Commit>("", head.commit.as_str())?;
        match commit.status.state {
            CommitState::Healthy | CommitState::Degraded => None,
            state => Some(format!("the head is {}", report::state_word(state))),
        }
    }

    /// What must be so when a world is at rest and nothing is broken any more.
    pub(super) fn examine_rest(&mut self) {
        self.log.examine_all();
        self.examine_log();
        let Some(view) = self.view() else { return };
        self.examine_plans(&view);
        self.examine_nodes(&view);
        self.examine_status(&view);
        self.examine_reverts();
    }

    /// Nothing is taken back twice.
    fn examine_reverts(&mut self) {
        let ids: Vec<_> = self.repository.ids().cloned().collect();
        if let Some(twice) = ids.iter().find(|id| self.repository.reverts_of(id) > 1) {
            self.fail(format!("{twice} was taken back twice"));
        }
    }

    /// A full pass over everything plans nothing: what is at rest stays so, and following changes
    /// one by one comes to the same as looking at everything.
    fn examine_plans(&mut self, view: &View) {
        let Some(leading) = &self.leading else { return };
        let mut heard: BTreeMap<NodeName, Timestamp> = leading.heard.clone();
        for (node, _) in view.list::<CoreNode>(None) {
            heard.entry(NodeName::new(&node.key().name)).or_insert(self.now);
        }
        let (now, timing) = (self.now, &self.timing);
        let (root_ca, survivors) = (ROOT_CA, &leading.survivors);
        let inputs = Inputs { now, heard: &heard, timing, root_ca, servers: &[], survivors };
        let planned = Agenda::default().round(view, &inputs);
        let mut busy = planned.into_iter().filter(|p| !p.commands.is_empty());
        if let Some(planned) = busy.next() {
            let (who, key, what) = (planned.controller, planned.key, planned.commands);
            self.fail(format!("at rest, and {who} still wants to change {key}: {what:?}"));
        }
    }

    /// Nodes that are in touch run exactly what State has for them.
    fn examine_nodes(&mut self, view: &View) {
        let mut wrong = None;
        for (name, node) in self.nodes.iter().filter(|(_, n)| n.agent.is_some() && !n.cut) {
            if node.machine.hangs {
                continue;
            }
            let wanted: BTreeMap<&str, &Key> =
                view.pods_on(name).map(|o| (o.uid(), o.key())).collect();
            for (uid, _) in node.machine.uids() {
                if !wanted.contains_key(uid) {
                    let left = node.machine.uids().collect::<Vec<_>>();
                    wrong = Some(format!("{name} has something of {uid}, nobody's: {left:?}"));
                }
            }
            let ready: Vec<(&str, &Key)> = view
                .pods_on(name)
                .filter(|o| o.view::<Pod>().is_some_and(crate::plan::pods::is_ready))
                .map(|o| (o.uid(), o.key()))
                .collect();
            for (uid, key) in ready {
                if !node.machine.uids().any(|(u, runs)| u == uid && runs) {
                    wrong = Some(format!("{key} is ready on {name} and does not run there"));
                }
            }
        }
        if let Some(text) = wrong {
            self.fail(text);
        }
    }

    /// The status branch is what a fresh look at State gives.
    fn examine_status(&mut self, view: &View) {
        if self.repository.is_down || view.head().is_none() {
            return;
        }
        let whole = report::status_branch(view, Revision(0));
        let wanted: BTreeMap<&String, &Vec<u8>> =
            whole.files.iter().filter_map(|(p, c)| Some((p, c.as_ref()?))).collect();
        let there: BTreeMap<&String, &Vec<u8>> = self.repository.status_tree.iter().collect();
        let mut paths = wanted.keys().chain(there.keys());
        let differs = paths.find(|p| wanted.get(**p) != there.get(**p)).map(|p| (*p).clone());
        if let Some(path) = differs {
            let show = |bytes: Option<&&Vec<u8>>| {
                bytes.map_or("nothing".into(), |b| String::from_utf8_lossy(b).into_owned())
            };
            let (is, should) = (show(there.get(&path)), show(wanted.get(&path)));
            self.fail(format!("status branch: {path} is\n{is}\nand should be\n{should}"));
        }
    }
}
