//! What is to be planned next: the objects that changes touched and those whose time has come.

use std::collections::{BTreeMap, BTreeSet};

use super::{CONTROLLERS, Inputs, Note};
use crate::{
    model::{Key, Revision, Timestamp},
    state::{Command, View},
};

/// How long after a refused command its object is planned again when nothing changes meanwhile:
/// long enough not to fill the log with refusals, short enough for a person who frees an exhausted
/// range.
const RETRY_SECONDS: i64 = 5;

/// Commands from which on a round is full and the rest waits for the next one. What a round decides
/// is held in memory until it is applied, about 10 KiB for each command; and its changes must stay
/// well below what the history keeps, or the next round would have to look at everything again.
pub(super) const ROUND_COMMANDS_MAX: usize = 1024;

/// What one controller wants done for one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The controller's name.
    pub controller: &'static str,
    /// The object.
    pub key: Key,
    /// To be proposed in this order; each whole or not at all.
    pub commands: Vec<Command>,
    /// Why something waits.
    pub notes: Vec<Note>,
}

/// Remembers up to which revision changes were looked at and which objects want to be looked at
/// when.
///
/// Holds nothing that does not follow from State: a new leader starts with an empty one, which
/// plans everything once.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    seen: Option<Revision>,
    wakes: BTreeMap<(usize, Key), Timestamp>,
    /// What a full round left for the next one.
    waiting: BTreeSet<(usize, Key)>,
}

impl Agenda {
    /// Plans what changed since the last round and what is due at `inputs.now`, in the order of the
    /// controllers, until there are [`ROUND_COMMANDS_MAX`] commands. No commands at all means that
    /// nothing is left to do.
    ///
    /// Every command in the result must be applied (or refused) before the next round is asked for.
    /// Costs what changed; the first round, and one after more changes than the history keeps,
    /// looks for everything there is.
    pub fn round(&mut self, view: &View, inputs: &Inputs<'_>) -> Vec<Planned> {
        let mut due = self.due(view, inputs.now);
        due.append(&mut self.waiting);
        self.seen = Some(view.revision());
        let (mut planned, mut commands) = (Vec::new(), 0);
        while commands < ROUND_COMMANDS_MAX
            && let Some((index, key)) = due.pop_first()
        {
            let controller = &CONTROLLERS[index];
            let plan = (controller.plan)(view, &key, inputs);
            match plan.wake_at {
                Some(at) => self.wakes.insert((index, key.clone()), at),
                None => self.wakes.remove(&(index, key.clone())),
            };
            commands += plan.commands.len();
            if !plan.commands.is_empty() || !plan.notes.is_empty() {
                let (commands, notes) = (plan.commands, plan.notes);
                planned.push(Planned { controller: controller.name, key, commands, notes });
            }
        }
        self.waiting = due;
        planned
    }

    fn due(&self, view: &View, now: Timestamp) -> BTreeSet<(usize, Key)> {
        let mut due: BTreeSet<_> =
            self.wakes.iter().filter(|(_, at)| **at <= now).map(|(of, _)| of.clone()).collect();
        let changes: Option<Vec<_>> =
            self.seen.and_then(|seen| view.changes_since(seen)).map(Iterator::collect);
        for (index, controller) in CONTROLLERS.iter().enumerate() {
            let keys = match &changes {
                None => (controller.all)(view),
                Some(changes) => {
                    changes.iter().flat_map(|c| (controller.affected)(c, view)).collect()
                }
            };
            due.extend(keys.into_iter().map(|key| (index, key)));
        }
        due
    }

    /// Takes back a plan whose command was refused: its object is planned again soon, or when
    /// something changes.
    pub fn refused(&mut self, planned: &Planned, now: Timestamp) {
        if let Some(index) = CONTROLLERS.iter().position(|c| c.name == planned.controller) {
            let retry = now.plus_seconds(RETRY_SECONDS);
            let at = self.wakes.entry((index, planned.key.clone())).or_insert(retry);
            *at = retry.min(*at);
        }
    }

    /// Asks for a node to be looked at in the next round: its agent was silent and is heard again.
    pub fn heard_again(&mut self, node: &crate::model::NodeName) {
        let key = Key::of::<k8s_openapi::api::core::v1::Node>("", node.as_str());
        if let Some(index) = CONTROLLERS.iter().position(|c| c.name == super::node::NAME) {
            self.wakes.insert((index, key), Timestamp(i64::MIN));
        }
    }

    /// When a round is due even if nothing changes.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wakes.values().min().copied()
    }
}
