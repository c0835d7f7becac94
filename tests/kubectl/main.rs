//! Real kubectl against real servers: what people type, and what they see. Needs kubectl and git;
//! says so and passes where they are missing. Every `kubectl.VERSION` beside the first one found is
//! tried as well.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test of a shell")]

mod bootstrap;
mod branches;
mod certificates;
mod cold;
mod commits;
mod disaster;
mod drift;
mod everyday;
mod freezes;
#[path = "../../src/git/tests/server.rs"]
#[allow(clippy::unwrap_used, reason = "shared with the tests of the room")]
mod git_server;
mod notices;
mod options;
mod proxy;
mod pushes;
mod scaling;
mod script;
mod sealed;
mod servers;
mod sources;
#[path = "../../src/git/tests/ssh_server.rs"]
#[allow(clippy::unwrap_used, reason = "shared with the tests of the room")]
mod ssh_server;
mod strangers;
mod traces;
mod trust;
mod units;
mod verbs;
#[allow(dead_code, reason = "shared with the tests of other clients")]
mod world;
