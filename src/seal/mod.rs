#![expect(clippy::disallowed_methods, reason = "shell: draws keys and nonces")]
//! Opens and makes sealed values: SOPS' file format with age keys.
//!
//! In: the private keys of whoever opens ([`Keyring`]); a sealed file, whose checksum is proven
//! ([`Keyring::prove`]); an object of State with a [`Seal`](crate::model::Seal), which becomes one
//! with plain values ([`Keyring::open`]); a manifest to seal ([`seal`]). Called by `server`, where
//! commits are read and where what is sealed goes to those who may read it, and by `mainstay seal`.
//! Which values are encrypted, and how an object holds them, is `render::sealed`'s. Never here:
//! writing a plain value, or a key, into an error or a log.

mod cipher;
mod keyring;
mod make;
#[cfg(test)]
mod tests;

pub use keyring::{Keyring, Unopened, generate};
pub use make::{Fault, Order, seal};
