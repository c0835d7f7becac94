//! The truth: every object, the commit they come from, and what must still leave the cluster.
//!
//! In: [`Entry`]s from the log, in order. Out: [`Outcome`]s for the proposers and, after each, a
//! [`View`] for everybody who reads. `raft` drives [`State::apply`]; controllers, the API and the
//! report read Views.
//!
//! Never here: clocks, randomness, I/O, deciding what a controller decides. The same entries give
//! the same State, byte for byte, on every replica: an entry carries its own time and its own
//! random bits. A command that does not fit is refused with a reason and never panics, because it
//! stands in every replica's log.

mod adopt;
mod allocate;
mod apply;
mod check;
mod command;
mod event;
mod index;
mod keep;
mod snapshot;
mod view;

pub use crate::model::MAIN_SOURCE;
pub use apply::State;
pub use check::{Severity, Violation, check, check_step};
pub use command::{
    Adopt, Command, Desired, ENTRY_BYTES_MAX, Entry, Expect, Keep, LOG_VERSION, NewEvent, Notice,
    Op, OutboxItem, Outcome, Part, Refusal,
};
pub use event::DELETED;
pub use view::{Change, ClusterConfig, Ending, HISTORY_MAX, Head, Origin, View};

#[cfg(test)]
mod tests;
