//! The pure half of the agent.

mod cidr;
pub mod dns;
pub mod routes;
pub mod rules;

pub use cidr::{Cidr, CidrError};
