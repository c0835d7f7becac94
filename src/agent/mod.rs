//! The half of the agent that touches the machine.
#![expect(clippy::disallowed_methods, reason = "shell: runs tools, reads the clock and the host")]

pub mod command;
pub mod conntrack;
pub mod dns;
pub mod iptables;
pub mod network;
pub mod proxy;
pub mod routes;

#[cfg(test)]
mod net_tests;
