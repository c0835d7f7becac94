//! Sealed values: what Git, the log and State hold of a value that only its readers may see.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Object;

/// How an encrypted value begins, in the form of SOPS.
const MARK: &str = "ENC[AES256_GCM,";

/// What a Secret or ConfigMap with encrypted values carries, as the annotation
/// [`NAME`](Self::NAME): who may open them, and what they are bound to.
///
/// Only `render` writes it, out of a sealed file; nobody may set it by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The key of the values, once for each who may open them.
    pub age: Vec<Wrapped>,
    /// The namespace that the file names: the values are opened in no other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Names of values that the file holds under `stringData`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub text: BTreeSet<String>,
}

/// A data key, encrypted for one recipient.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wrapped {
    /// `age1…`
    pub recipient: String,
    /// The data key as an armored age file.
    pub enc: String,
}

impl Seal {
    /// The annotation.
    pub const NAME: &'static str = "mainstay.io/sealed";

    /// The seal of an object as it is stored; `None` when it has none that can be read.
    pub fn of(object: &Object) -> Option<Self> {
        serde_json::from_str(object.annotation(Self::NAME)?).ok()
    }

    /// Whether a value is encrypted.
    pub fn covers(value: &[u8]) -> bool {
        value.starts_with(MARK.as_bytes())
    }

    /// Whether encrypted values stand somewhere in a text.
    pub fn is_in(text: &[u8]) -> bool {
        text.windows(MARK.len()).any(|part| part == MARK.as_bytes())
    }

    /// Who may open it: `age1…, age1…`.
    pub fn recipients(&self) -> String {
        Wrapped::recipients(&self.age)
    }
}

impl Wrapped {
    /// The recipients of a list, with commas between them.
    pub fn recipients(list: &[Self]) -> String {
        list.iter().map(|key| key.recipient.as_str()).collect::<Vec<_>>().join(", ")
    }
}
