//! Who signed a commit.

use super::CommitId;

/// Who signed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Who, as the list of signers or the key names them.
    pub name: String,
    /// The fingerprint of the key.
    pub key: String,
    /// Whether it is mainstay's own.
    pub is_ours: bool,
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.key)
    }
}

/// A commit and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The commit.
    pub commit: CommitId,
    /// Its first line.
    pub subject: String,
    /// Whether it has something that none of its parents has and that merging them does not give.
    pub adds: bool,
    /// Who signed it, or why nobody did who may.
    pub by: Result<Signature, String>,
}
