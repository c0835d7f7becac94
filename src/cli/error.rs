//! What goes wrong on the command line, and the exit code it gives.

use std::io::Write as _;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer is no: the commit failed, the files have problems.
    No,
    /// The command line, the configuration or the files are wrong.
    You,
    /// The cluster does not answer as it should.
    We,
}

impl Kind {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::No => 1,
            Self::You => 2,
            Self::We => 3,
        }
    }
}

/// Why a verb did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Whose turn it is.
    pub kind: Kind,
    /// What happened; empty when the verb has said it on its own.
    pub message: String,
    /// What to try.
    pub hint: Option<String>,
}

impl Error {
    /// The answer is no.
    pub fn no(message: impl Into<String>) -> Self {
        Self { kind: Kind::No, message: message.into(), hint: None }
    }

    /// The asker erred.
    pub fn yours(message: impl Into<String>) -> Self {
        Self { kind: Kind::You, message: message.into(), hint: None }
    }

    /// We erred.
    pub fn ours(message: impl Into<String>) -> Self {
        Self { kind: Kind::We, message: message.into(), hint: None }
    }

    /// With something to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says it on stderr. Nobody is left to tell when stderr is closed.
    pub(super) fn tell(&self) {
        let mut text = String::new();
        if !self.message.is_empty() {
            text += &format!("error: {}\n", self.message);
        }
        if let Some(hint) = &self.hint {
            text += &format!("hint: {hint}\n");
        }
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
}
