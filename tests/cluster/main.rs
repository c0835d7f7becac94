//! Whole clusters on this machine, and what breaks in them. Each node has its own namespaces and
//! dockerd (`tests/harness/cluster.sh`). Needs root, dockerd and rustc; says so and passes where
//! they are missing.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test of a shell")]

mod drill;
mod input;
mod joining;
mod look;
mod nodes;
mod servers;
mod services;
mod source;
mod storage;
mod workloads;
mod world;
