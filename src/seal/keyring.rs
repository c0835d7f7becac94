//! Private keys, and what they open.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use age_format::{secrecy::ExposeSecret, x25519};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

use super::cipher::{DataKey, KEY_BYTES};
use crate::{
    model::{Object, Problem, Seal, Wrapped},
    render::sealed::{Leaf, SealedFile, place},
};

/// Most data keys that are remembered, one a sealed file; unwrapping one costs some 0.1 ms. When
/// they are more, all are forgotten.
const KNOWN_MAX: usize = 4096;

/// What SOPS puts before the checksum of encrypted values alone, so that one is never taken for the
/// checksum of all.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b,
    0x0b, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// Private keys that open what is sealed.
#[derive(Default)]
pub struct Keyring {
    identities: Vec<x25519::Identity>,
    recipients: Vec<String>,
    /// See [`for_guests`](Self::for_guests).
    bound_only: bool,
    /// Data keys by the hash of what they were unwrapped from.
    known: Mutex<BTreeMap<[u8; 32], DataKey>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({})", self.recipients.join(", "))
    }
}

/// Why something stays sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// There is no key at all.
    #[error(
        "it is sealed for {recipients}, and there is no key here: set source.decryption.ageKeyFile \
         on every server"
    )]
    NoKey {
        /// Who could open it.
        recipients: String,
    },
    /// The keys are others.
    #[error(
        "it is sealed for {recipients}, and the key here is that of {ours}: seal it for that one \
         as well"
    )]
    OtherKey {
        /// Who could open it.
        recipients: String,
        /// Whose keys are here.
        ours: String,
    },
    /// Something was changed after it was sealed.
    #[error("{0}")]
    Broken(String),
}

/// A new private key as an age identity file, and the recipient that seals for it.
pub fn generate(now: &str) -> (String, String) {
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let text = format!("# created: {now}\n# public key: {recipient}\n{}\n", secret.expose_secret());
    (text, recipient)
}

impl Keyring {
    /// Reads an age identity file: a private key a line, and comments.
    ///
    /// # Errors
    ///
    /// Which line is none, without what it says.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keyring = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity: x25519::Identity =
                line.parse().map_err(|_| format!("line {} is no AGE-SECRET-KEY-1…", number + 1))?;
            keyring.recipients.push(identity.to_public().to_string());
            keyring.identities.push(identity);
        }
        match keyring.identities.is_empty() {
            true => Err("there is no AGE-SECRET-KEY-1… in it".to_owned()),
            false => Ok(keyring),
        }
    }

    /// The same keys for files of people who are trusted with some namespaces alone: these may only
    /// have opened what says its namespace itself, proven by the checksum of the whole file. They
    /// could have found anything else in somebody's repository.
    #[must_use]
    pub fn for_guests(&self) -> Self {
        let (identities, recipients) = (self.identities.clone(), self.recipients.clone());
        Self { identities, recipients, bound_only: true, known: Mutex::default() }
    }

    /// For whom to seal so that these keys open it: `age1…`.
    pub fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// Opens the values of an object of State; one without a seal is given back as it is.
    pub fn open(&self, object: &Object) -> Result<Object, Unopened> {
        let Some(seal) = Seal::of(object) else { return Ok(object.clone()) };
        let namespace = object.key().namespace.as_str();
        if seal.namespace.as_deref().is_some_and(|bound| bound != namespace) {
            return Err(Unopened::Broken("it is sealed for another namespace".to_owned()));
        }
        let key = self.data_key(&seal.age)?;
        let mut value = object.value();
        let is_secret = value["kind"] == "Secret";
        for field in ["data", "binaryData"] {
            let Some(values) = value.get_mut(field).and_then(Value::as_object_mut) else {
                continue;
            };
            for (name, stored) in values {
                let encoded = is_secret || field == "binaryData";
                if let Some(plain) = opened(&key, &seal, (field, name), encoded, stored)? {
                    *stored = plain.into();
                }
            }
        }
        if let Some(annotations) = value["metadata"]["annotations"].as_object_mut() {
            annotations.remove(Seal::NAME);
            if annotations.is_empty()
                && let Some(meta) = value["metadata"].as_object_mut()
            {
                meta.remove("annotations");
            }
        }
        Object::from_value(&value).map_err(|error| Unopened::Broken(error.to_string()))
    }

    /// Proves that a file is as it was sealed: every value opens where it stands, and together they
    /// give its checksum.
    pub fn prove(&self, file: &SealedFile) -> Vec<Problem> {
        let problem = |line: u32, field: &str, message: String| Problem {
            file: file.path.clone(),
            line,
            field: field.to_owned(),
            message,
        };
        if self.bound_only && !file.is_bound() {
            let message = "a file of this source has to say metadata.namespace in each of its \
                           documents, and not mac_only_encrypted: seal it again so";
            return vec![problem(file.line, "sops", message.to_owned())];
        }
        match self.data_key(&file.age) {
            Ok(key) => prove(&key, file, &problem),
            Err(why) => vec![problem(file.line, "sops.age", why.to_string())],
        }
    }

    fn data_key(&self, wrapped: &[Wrapped]) -> Result<DataKey, Unopened> {
        let recipients = || Wrapped::recipients(wrapped);
        if self.identities.is_empty() {
            return Err(Unopened::NoKey { recipients: recipients() });
        }
        let ours = |key: &&Wrapped| self.recipients.contains(&key.recipient);
        // A name may be wrong while the key fits, so the others are tried as well, later.
        let (named, others): (Vec<&Wrapped>, Vec<&Wrapped>) = wrapped.iter().partition(ours);
        let found = named.into_iter().chain(others).find_map(|key| self.unwrap(&key.enc));
        let ours = || self.recipients.join(", ");
        found.ok_or_else(|| Unopened::OtherKey { recipients: recipients(), ours: ours() })
    }

    fn unwrap(&self, enc: &str) -> Option<DataKey> {
        let hash: [u8; 32] = Sha256::digest(enc.as_bytes()).into();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known().get(&hash) {
            return Some(*key);
        }
        let opened = |identity| age_format::decrypt(identity, enc.as_bytes()).ok();
        let bytes = self.identities.iter().find_map(opened)?;
        let key = DataKey(<[u8; KEY_BYTES]>::try_from(bytes).ok()?);
        let mut known = known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(hash, key);
        Some(key)
    }
}

/// A value of an object, opened; `None` when it is not encrypted.
fn opened(
    key: &DataKey,
    seal: &Seal,
    (field, name): (&str, &str),
    encoded: bool,
    stored: &Value,
) -> Result<Option<String>, Unopened> {
    let broken = |why: &str| Unopened::Broken(format!("{field}.{name} {why}"));
    let Some(stored) = stored.as_str() else { return Ok(None) };
    let text = match encoded {
        true => match STANDARD.decode(stored).map(String::from_utf8) {
            Ok(Ok(text)) => text,
            _ => return Ok(None),
        },
        false => stored.to_owned(),
    };
    if !Seal::covers(text.as_bytes()) {
        return Ok(None);
    }
    let is_text = encoded && seal.text.contains(name);
    let written = if is_text { "stringData" } else { field };
    let at = place(&[written.to_owned(), name.to_owned()]);
    let plain = key.open(&text, &at).ok_or_else(|| broken("was changed after it was sealed"))?;
    match (encoded, is_text) {
        (true, true) => Ok(Some(STANDARD.encode(plain))),
        (true, false) => {
            let bytes = from_base64(&plain).ok_or_else(|| broken("is no base64"))?;
            Ok(Some(STANDARD.encode(bytes)))
        }
        _ => String::from_utf8(plain).map(Some).map_err(|_| broken("is not UTF-8")),
    }
}

/// Base64 as Kubernetes reads it: line breaks count for nothing.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let joined: Vec<u8> = text.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
    STANDARD.decode(joined).ok()
}

fn prove(
    key: &DataKey,
    file: &SealedFile,
    problem: &dyn Fn(u32, &str, String) -> Problem,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut sum = Sum::new(file.only_encrypted);
    for leaf in &file.leaves {
        if !leaf.is_sealed {
            sum.add(leaf, leaf.text.as_bytes());
            continue;
        }
        match key.open(&leaf.text, &leaf.place()) {
            Some(plain) => {
                if !leaf.is_base64 || from_base64(&plain).is_some() {
                    sum.add(leaf, &plain);
                    continue;
                }
                let message = "this is no base64: write it under stringData, and seal it again";
                problems.push(problem(leaf.line, &leaf.field(), message.to_owned()));
            }
            None => {
                let message = "this value was changed, or moved here, after it was sealed: seal it \
                               again";
                problems.push(problem(leaf.line, &leaf.field(), message.to_owned()));
            }
        }
    }
    let wanted = key.open(&file.mac, &file.modified);
    if problems.is_empty() && wanted.as_deref() != Some(sum.text().as_bytes()) {
        let message = "the file was changed after it was sealed, and its checksum does not fit: \
                       change it with `sops`, or seal it again";
        problems.push(problem(file.line, "sops.mac", message.to_owned()));
    }
    problems
}

/// The checksum of a file's values.
pub(super) struct Sum {
    hash: Sha512,
    only_encrypted: bool,
}

impl Sum {
    pub(super) fn new(only_encrypted: bool) -> Self {
        let mut hash = Sha512::new();
        if only_encrypted {
            hash.update(ONLY_ENCRYPTED);
        }
        Self { hash, only_encrypted }
    }

    pub(super) fn add(&mut self, leaf: &Leaf, plain: &[u8]) {
        if leaf.is_sealed || !self.only_encrypted {
            self.hash.update(plain);
        }
    }

    pub(super) fn text(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
    }
}
