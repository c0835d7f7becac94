//! What is due: the pure half of the leader's loop.
//!
//! The loop notes every change here, asks for commands, proposes them, and comes back when they are applied or when
//! the next wake-up has come. Nothing is kept that could not be made anew from a View, so a new leader starts with
//! [`Agenda::everything`].

use std::collections::{BTreeMap, BTreeSet};

use super::{Controller, Inputs, Note};
use crate::{
    model::{Key, Revision, Timestamp},
    state::{Command, View},
};

/// How many commands one round proposes at the most; the rest follows in the next. Keeps one log entry small and
/// lets other proposers in between.
pub const ROUND_COMMANDS_MAX: usize = 512;

/// The first pause after a refused command, in milliseconds; doubled for each refusal in a row.
const RETRY_MS_FIRST: i64 = 200;
/// The longest pause between two tries, in milliseconds.
const RETRY_MS_MAX: i64 = 30_000;

/// A controller's number and one of its objects.
type Task = (usize, Key);

/// Which objects wait to be planned, and when others wake up.
#[derive(Debug, Default)]
pub struct Agenda {
    due: BTreeSet<Task>,
    wakes: BTreeMap<Task, Timestamp>,
    refusals: BTreeMap<Task, u32>,
    notes: BTreeMap<Task, Vec<Note>>,
    seen: Option<Revision>,
}

/// Commands to propose, each with the task it came from.
#[derive(Debug, Default)]
pub struct Round {
    /// To be proposed in this order.
    pub commands: Vec<Command>,
    /// `tasks[i]` planned `commands[i]`.
    tasks: Vec<Task>,
}

impl Agenda {
    /// An agenda with everything due: how a new leader starts.
    pub fn everything(controllers: &[Controller], view: &View) -> Self {
        let mut agenda = Self::default();
        agenda.add_everything(controllers, view);
        agenda
    }

    fn add_everything(&mut self, controllers: &[Controller], view: &View) {
        for (i, controller) in controllers.iter().enumerate() {
            self.due.extend((controller.all)(view).into_iter().map(|key| (i, key)));
        }
        self.seen = Some(view.revision());
    }

    /// Adds what the changes since the last call touch; everything when the history does not reach back that far.
    pub fn note_changes(&mut self, controllers: &[Controller], view: &View) {
        let Some(changes) = self.seen.and_then(|seen| view.changes_since(seen)) else {
            return self.add_everything(controllers, view);
        };
        for change in changes {
            for (i, controller) in controllers.iter().enumerate() {
                let affected = (controller.affected)(change, view);
                self.due.extend(affected.into_iter().map(|key| (i, key)));
            }
        }
        self.seen = Some(view.revision());
    }

    /// Plans what is due, up to [`ROUND_COMMANDS_MAX`] commands. Objects that were planned are not due any more.
    pub fn round(&mut self, controllers: &[Controller], view: &View, inputs: &Inputs<'_>) -> Round {
        self.wake(inputs.now);
        let mut round = Round::default();
        while round.commands.len() < ROUND_COMMANDS_MAX
            && let Some(task) = self.due.pop_first()
        {
            let Some(controller) = controllers.get(task.0) else { continue };
            let plan = (controller.plan)(view, &task.1, inputs);
            self.set_notes(&task, plan.notes);
            match plan.wake_at {
                Some(at) => self.wakes.insert(task.clone(), at),
                None => self.wakes.remove(&task),
            };
            round.tasks.extend(plan.commands.iter().map(|_| task.clone()));
            round.commands.extend(plan.commands);
        }
        round
    }

    fn set_notes(&mut self, task: &Task, notes: Vec<Note>) {
        if notes.is_empty() {
            self.notes.remove(task);
        } else {
            self.notes.insert(task.clone(), notes);
        }
    }

    fn wake(&mut self, now: Timestamp) {
        let awake: Vec<Task> =
            self.wakes.iter().filter(|(_, at)| **at <= now).map(|(task, _)| task.clone()).collect();
        for task in awake {
            self.wakes.remove(&task);
            self.due.insert(task);
        }
    }

    /// Notes that commands of a round were refused: their objects are planned again after a pause that grows.
    pub fn note_outcomes(
        &mut self,
        round: &Round,
        refused: impl IntoIterator<Item = bool>,
        now: Timestamp,
    ) {
        for (task, refused) in round.tasks.iter().zip(refused) {
            if !refused {
                self.refusals.remove(task);
                continue;
            }
            let times = self.refusals.entry(task.clone()).or_insert(0);
            let pause = RETRY_MS_FIRST.saturating_mul(1 << (*times).min(10)).min(RETRY_MS_MAX);
            *times = times.saturating_add(1);
            self.wakes.insert(task.clone(), Timestamp(now.0.saturating_add(pause)));
        }
    }

    /// Puts a round back that could not be proposed at all.
    pub fn put_back(&mut self, round: Round) {
        self.due.extend(round.tasks);
    }

    /// Whether something is due now.
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// When to look again if nothing changes.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wakes.values().min().copied()
    }

    /// Why things wait.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        self.notes.values().flatten()
    }
}
