//! The pure half of the agent.
//!
//! In: what a node shall run ([`Assignment`], made of the objects a server sent), what is seen of
//! it ([`Observed`]), and the time. Out: the next step of each pod ([`next_step`]), its status
//! ([`status()`]), and the text of everything the agent writes. The agent's loop calls it. It never
//! touches Docker, a socket, a file or a clock.

pub mod assignment;
pub mod backoff;
pub mod budget;
pub mod dns;
pub mod env;
pub mod files;
pub mod ipam;
pub mod probe;
pub mod registry;
pub mod resources;
pub mod routes;
pub mod rules;
pub mod seen;
mod service_env;
pub mod status;
pub mod step;
pub mod streams;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod volumes;

pub use assignment::{Assignment, ContainerSpec, NodeFacts};
pub use seen::{Memory, Observed};
pub use status::status;
pub use step::{Step, next_step};
