//! What can go wrong between mainstay and a repository, by what the caller does about it.

use std::{path::PathBuf, time::Duration};

use crate::model::CommitId;

/// What the calls of this room return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call of this room did not do its work. Each variant asks something else of the caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the repository is not one mainstay uses. Not retried: the configuration must
    /// change.
    #[error("repository address {url:?}: {reason}")]
    Url {
        /// The address without any password.
        url: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// A branch, tag or commit name that Git would not accept. Not retried.
    #[error("reference {name:?}: {reason}")]
    Reference {
        /// The name as given.
        name: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// A path, identity or text that cannot be put into a commit. Not retried: the caller erred.
    #[error("{what}: {reason}")]
    Argument {
        /// Which argument.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The remote does not answer or holds no repository. Retried with back-off; the last good
    /// commit goes on.
    #[error("cannot reach {url}: {reason}; check the address and that the server is up")]
    Unreachable {
        /// Where it was sought.
        url: String,
        /// What the network or the server said.
        reason: String,
    },
    /// The remote did not finish in time. Retried with back-off; nothing was changed here.
    #[error("{url} did not answer within {after:?}; check the network, or allow more time")]
    Timeout {
        /// Which remote.
        url: String,
        /// How long it was given.
        after: Duration,
    },
    /// The remote does not let us in, or we do not trust it. Retried slowly: a human must mend it.
    #[error("{url} refused access: {reason}")]
    Denied {
        /// Which remote.
        url: String,
        /// What was refused and what to change.
        reason: String,
    },
    /// The branch, tag or commit is not there (deleted, or never pushed). The last good commit goes
    /// on.
    #[error("{reference} does not exist in {url}; push it, or change the configured reference")]
    Missing {
        /// Which remote.
        url: String,
        /// The reference in words (`branch main`).
        reference: String,
    },
    /// Objects are damaged or absent. [`super::Mirror::fetch`] has already cloned afresh when it
    /// says this, so the remote itself is damaged; from a [`super::Reader`] it means: fetch, which
    /// repairs the mirror.
    #[error("the repository {} is damaged: {reason}; run `git fsck` in the remote", path.display())]
    Corrupt {
        /// The damaged repository.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The remote sent more than its bound. Not retried before the tip moves or the bound is
    /// raised.
    #[error(
        "{url} sent more than {bytes_max} bytes; make the repository smaller or raise the bound"
    )]
    Oversized {
        /// Which remote.
        url: String,
        /// The bound in bytes.
        bytes_max: u64,
    },
    /// Somebody else moved the ref faster than we could build on it. Retried by the caller later.
    #[error("{reference} kept moving: gave up after {attempts} attempts; it is tried again later")]
    Moved {
        /// The full ref name.
        reference: String,
        /// How many times the push was rebuilt.
        attempts: u32,
    },
    /// The remote refused the push (hook, protected branch). Retried slowly; shown with the hook's
    /// words.
    #[error("{url} refused the push to {reference}: {reason}")]
    Rejected {
        /// Which remote.
        url: String,
        /// The full ref name.
        reference: String,
        /// The status the server gave, then what its hook printed.
        reason: String,
    },
    /// A commit cannot be taken back by itself, since later commits changed the same lines. Not
    /// retried.
    #[error(
        "commit {} cannot be reverted on its own: later commits changed {}; revert those first, or \
         roll back to a whole commit",
        commit.short(),
        paths.join(", ")
    )]
    Conflict {
        /// The commit that was to be reverted.
        commit: CommitId,
        /// The paths that conflict, sorted.
        paths: Vec<String>,
    },
    /// The mirror does not hold that commit. Fetch, or tell the user that it does not exist.
    #[error("commit {commit} is not in the mirror; check the id, and that it was pushed")]
    Unknown {
        /// The id that was asked for.
        commit: String,
    },
    /// The disk under the mirror refused. Retried with back-off.
    #[error("cannot use {}: {reason}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Anything else libgit2 says. Retried with back-off.
    #[error("git: {0}")]
    Git(#[from] git2::Error),
}

impl Error {
    /// Says that the disk refused `path`.
    pub(super) fn disk(path: impl Into<PathBuf>, cause: &std::io::Error) -> Self {
        Self::Disk { path: path.into(), reason: cause.to_string() }
    }
}

/// Whether libgit2 speaks of damaged or absent objects rather than of the network or an argument.
pub(super) fn speaks_of_damage(cause: &git2::Error) -> bool {
    use git2::ErrorClass as Class;
    let class = matches!(
        cause.class(),
        Class::Odb | Class::Object | Class::Zlib | Class::Indexer | Class::Tree | Class::Sha1
    );
    let repository = cause.class() == Class::Repository && !speaks_of_owner(cause);
    let reference =
        cause.class() == Class::Reference && cause.code() == git2::ErrorCode::GenericError;
    class || repository || reference
}

/// Whether libgit2 refuses a repository that another user owns. Its local transport loses the code.
pub(super) fn speaks_of_owner(cause: &git2::Error) -> bool {
    cause.code() == git2::ErrorCode::Owner || cause.message().contains("not owned by current user")
}

/// What to do when a repository belongs to another user.
pub(super) fn owner_advice(path: &std::path::Path) -> String {
    format!(
        "the folder belongs to another user; allow it by `git config --system --add safe.directory \
         {}`",
        path.display()
    )
}
