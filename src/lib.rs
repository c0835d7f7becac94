//! mainstay runs a cluster of machines from a Git repository: *the cluster stays what main says*.
//!
//! The rooms stand in the order of the data flow. Pure rooms decide (values in, values out); shell
//! rooms carry values between them and the world. `tests/architecture.rs` holds which room may use
//! which.

pub mod model;

pub mod kinds;

pub mod git;
pub mod render;
pub mod seal;

pub mod state;

pub mod trust;

pub mod raft;

pub mod policy;

pub mod plan;
pub mod schedule;

pub mod report;

pub mod server;

pub mod api;

pub mod node;

pub mod agent;

pub mod sim;

pub mod cli;
pub mod config;
