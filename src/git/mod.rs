//! Git, in and out: commits of the desired branch come in as bytes, what happened goes out as
//! commits.
//!
//! In: the place of a repository ([`Remote`]), commit ids, files to write. Out: tips ([`Fetched`]),
//! files by path ([`Files`]), changed paths ([`Diff`]), facts of commits ([`Commit`]), pushed
//! commits ([`Pushed`]). Called by `server::import` (mirror, tree), `server::export` (writeback)
//! and the API server (hook). Every call blocks and is bounded by a `within`; callers put it on a
//! blocking thread. Only [`watch`] offers a channel.
//!
//! libgit2 cannot be interrupted while it waits for a server, so every byte of a server goes
//! through `relay`, which closes the connection at the deadline or the bound; HTTPS is left to
//! libgit2's own bound on silence (`silence`). What is left: a
//! path on a network file system that hangs, which hangs its caller's blocking thread as it would
//! any program.
//!
//! There is one bare mirror and never a work tree (but the one a person works in, which [`Desk`]
//! reads for that person's own process), so links, submodules, hooks and filters have
//! nowhere to act. This room never decides what a file means, never starts a process but `gpg` (to
//! judge OpenPGP signatures, where keys for them are configured), and never touches the desired
//! branch except by [`Mirror::revert`], [`Mirror::restore`], [`Mirror::undo`],
//! [`Mirror::promote`], [`Mirror::change`] and [`Mirror::begin`].
#![expect(
    clippy::disallowed_methods,
    reason = "shell: deadlines of network calls, files of the mirror"
)]

mod batch;
mod begin;
mod branches;
mod commit;
mod copy;
mod desk;
mod diff;
pub mod embedded;
mod error;
mod exchange;
mod folders;
pub mod hook;
mod known_hosts;
mod local;
mod mirror;
mod notes;
mod pack;
mod publish;
mod receive;
mod relay;
mod remote;
mod revert;
mod silence;
mod status;
mod tree;
mod verify;
pub mod watch;

pub use branches::{Merged, TIPS_MAX};
pub use commit::{Commit, HISTORY_COMMITS_MAX, Message, Person};
pub use desk::Desk;
pub use diff::{Change, Diff, patch};
pub use error::{Error, Result};
pub use folders::{FolderId, Listing};
pub use mirror::{Fetched, Mirror, Reader, Relation};
pub use pack::{LOOSE_OBJECTS_MAX, PACKS_MAX};
pub use publish::{PUSH_ATTEMPTS_MAX, Pushed};
pub use receive::{PUSH_BYTES_MAX, pack_push};
pub use remote::{Auth, RECEIVED_BYTES_MAX, Reference, Remote};
pub use revert::{Undo, Undone};
pub use status::StatusCommit;
pub use tree::{
    At, BlobId, COMMIT_BYTES_MAX, COMMIT_ENTRIES_MAX, COMMIT_PROBLEMS_MAX, FILE_BYTES_MAX, File,
    Files, Limits, PATH_BYTES_MAX, TREE_DEPTH_MAX,
};
pub use verify::{Keys, SIGNED_COMMITS_MAX, SigningKey, public_key};

/// The ref that holds mainstay's notes on desired commits (`git log --show-notes=mainstay`).
pub const NOTES_REFERENCE: &str = "refs/notes/mainstay";

/// The ref that holds the plans of branches: what merging the noted commit into the desired branch
/// would change (`git log --show-notes=mainstay-plan`).
pub const PLAN_NOTES_REFERENCE: &str = "refs/notes/mainstay-plan";

/// The branch that tells the state of every object.
pub const STATUS_BRANCH: &str = "mainstay/status";

#[cfg(test)]
mod tests;
