//! A whole cluster in one thread, from a seed.
//!
//! In: a script ([`run`]), or a seed and a length ([`random()`]). Out: the story of what happened,
//! or the first promise that broke. Servers, agents, machines, the wire, the clock and the remote
//! are values here; what decides (render, admission, State, controllers, scheduler, the agent's
//! pods, reports) is the real thing, and the loops between them do what the shells' loops do, in
//! the same order. After every entry each State is held against its invariants and against the
//! other replicas'; machines are watched for a container that runs twice or a pod on two nodes.
//!
//! `tests/scripts.rs` and `mainstay sim` call it. Never here: the real clock, threads, files, the
//! network.

mod leader;
mod log;
mod machine;
mod manifest;
mod names;
mod node;
mod observe;
mod questions;
mod random;
mod repository;
mod script;
mod settle;
mod story;
mod verbs;
mod world;

pub use random::{Failure, Summary, random};
pub use script::run;
