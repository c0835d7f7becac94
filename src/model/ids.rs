//! Small ids that must not be swapped by mistake.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// A Git commit id as 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(SmolStr);

impl CommitId {
    /// Reads a full id; abbreviations and upper case are refused.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (hex && matches!(text.len(), 40 | 64)).then(|| Self(text.into()))
    }

    /// The full id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven digits, as `git log --oneline` prints them.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CommitId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not a full commit id"))
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> String {
        id.0.into()
    }
}

/// The source that the servers' configuration names: it says what else is followed.
pub const MAIN_SOURCE: &str = "main";

/// A commit as one source has it: two sources may be at the same commit of one repository, and each
/// makes something else of it.
///
/// As text the id alone for the main source, else `<source>.<id>`: what the `Commit` object is
/// named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitName {
    /// The name of the source.
    pub source: SmolStr,
    /// The commit.
    pub id: CommitId,
}

impl CommitName {
    /// The commit of a source.
    pub fn new(source: &str, id: &CommitId) -> Self {
        Self { source: source.into(), id: id.clone() }
    }

    /// Reads what it is as text; the main source is not named there.
    pub fn parse(text: &str) -> Option<Self> {
        match text.rsplit_once('.') {
            None => Some(Self::new(MAIN_SOURCE, &CommitId::parse(text)?)),
            Some(("" | MAIN_SOURCE, _)) => None,
            Some((source, id)) => Some(Self::new(source, &CommitId::parse(id)?)),
        }
    }

    /// Whether it is the main source's.
    pub fn is_main(&self) -> bool {
        self.source == MAIN_SOURCE
    }

    /// As people call it: `1a2b3c4`, of another source than the main one `team 1a2b3c4`.
    pub fn short(&self) -> String {
        match self.is_main() {
            true => self.id.short().to_owned(),
            false => format!("{} {}", self.source, self.id.short()),
        }
    }
}

impl fmt::Display for CommitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_main() {
            true => self.id.fmt(f),
            false => write!(f, "{}.{}", self.source, self.id),
        }
    }
}

impl TryFrom<String> for CommitName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is neither a full id nor source.id"))
    }
}

impl From<CommitName> for String {
    fn from(name: CommitName) -> String {
        name.to_string()
    }
}

/// The counter in State that each object change raises by one: Kubernetes' `resourceVersion`.
///
/// The same on every replica, unique inside one transaction, and only growing; so an assignment
/// made from a View carries its revision as generation, and an agent can refuse an older one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one proposal, so that a retried one is applied once. 128 random bits drawn by the
/// proposer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(pub u128);

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl TryFrom<String> for RequestId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        u128::from_str_radix(&text, 16).map(Self).map_err(|e| format!("request id {text:?}: {e}"))
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> String {
        format!("{:032x}", id.0)
    }
}
