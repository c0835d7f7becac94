#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads and writes key files, reads the clock"
)]
//! Who is who: the cluster's CA, the certificates it signs, the key that signs tokens, and TLS both
//! ways between all parts.
//!
//! In: names and key files. Out: certificates, rustls configurations and [`Identity`]s of peers.
//! Used by `server`, `agent` and `cli`. Never here: who may do what and what a token says (`api`
//! decides), join tokens' bookkeeping (`server::join`).
//!
//! Only TLS 1.3 is spoken. A certificate's CN is the user, its O are the groups, as Kubernetes
//! reads them.

mod ca;
mod files;
mod frames;
mod jwt;
mod name;
mod renewal;
mod tls;

pub use ca::{Ca, Error, Issued, Leaf, Request, Terms, Usage, ca_hash};
pub use files::{KeyFiles, write_private};
pub use frames::{read_frame, write_frame};
pub use jwt::TokenKey;
pub use renewal::Validity;
pub use tls::{
    ALPN_AGENT, ALPN_HTTP, ALPN_RAFT, Identity, client, client_pinned, identity, server,
};

#[cfg(test)]
mod tests;
