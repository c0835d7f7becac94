//! The half of the agent that touches the machine.
//!
//! In: what this node shall run and know. Out: what was seen. It carries values between the pure
//! `node` room and Docker, the disk and the network; it decides nothing that `node` can decide. It
//! never speaks raft or git.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: runs containers, reads the clock, writes volumes"
)]

pub mod disk;
pub mod docker;
pub mod driver;
mod failpoint;
pub mod image;
pub mod pods;
pub mod prober;
pub mod runtime;
