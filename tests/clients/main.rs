//! Programs built on the usual client libraries, against real servers: what they were written for
//! on Kubernetes holds here. Each needs its language's tools and git; says so and passes where they
//! are missing.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test of a shell")]

mod environment;
mod go;
mod python;
mod rust;
#[path = "../kubectl/world.rs"]
#[allow(dead_code, reason = "shared with the tests of kubectl, which use all of it")]
mod servers;
