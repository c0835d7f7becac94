//! Who may sign: `allowed_signers` as OpenSSH writes it (ssh-keygen(1), ALLOWED SIGNERS), and keys
//! that may not any more.

use ssh_key::{HashAlg, PublicKey, public::KeyData};

use crate::model::Timestamp;

/// The namespace of Git's signatures (git-config(1), gpg.format).
pub(super) const NAMESPACE: &str = "git";

/// One line of `allowed_signers`.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    /// Who it is, as the file names them.
    pub(super) name: String,
    key: KeyData,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
    /// Whether it is mainstay itself.
    pub(super) is_ours: bool,
}

impl Signer {
    /// One whose key has no end.
    fn always(name: &str, key: KeyData) -> Self {
        Self { name: name.to_owned(), key, after: None, before: None, is_ours: false }
    }

    /// mainstay itself.
    pub(super) fn ourselves(key: KeyData) -> Self {
        Self { is_ours: true, ..Self::always("mainstay", key) }
    }
}

/// The lines of `allowed_signers` that may sign commits, and the keys that were taken back.
#[derive(Clone, Debug, Default)]
pub(super) struct Signers {
    pub(super) allowed: Vec<Signer>,
    pub(super) revoked: Vec<KeyData>,
}

impl Signers {
    /// Who a key belongs to at a time; why it counts for nothing otherwise.
    pub(super) fn who(&self, key: &KeyData, at: Timestamp) -> Result<&Signer, String> {
        let print = key.fingerprint(HashAlg::Sha256);
        if self.revoked.contains(key) {
            return Err(format!("the key {print} is revoked"));
        }
        let mut owners = self.allowed.iter().filter(|signer| signer.key == *key).peekable();
        if owners.peek().is_none() {
            return Err(format!("nobody who may sign has the key {print}"));
        }
        let is_valid = |signer: &&Signer| {
            signer.after.is_none_or(|after| at >= after)
                && signer.before.is_none_or(|before| at < before)
        };
        owners.find(is_valid).ok_or_else(|| format!("the key {print} is not valid at that time"))
    }
}

/// Reads `allowed_signers`. Lines for other namespaces than Git's are left out; a line that cannot
/// be read is an error that names it, since leaving it out would make its author a stranger.
pub(super) fn allowed(text: &str) -> Result<Vec<Signer>, String> {
    let mut signers = Vec::new();
    for (n, line) in lines(text) {
        let fail = |why: String| format!("allowedSigners, line {n}: {why}");
        signers.extend(signer(line).map_err(fail)?);
    }
    Ok(signers)
}

/// Reads a list of public keys.
pub(super) fn keys(text: &str) -> Result<Vec<KeyData>, String> {
    let read = |(n, line): (usize, &str)| {
        let key = PublicKey::from_openssh(line);
        key.map(|key| key.key_data().clone())
            .map_err(|e| format!("revokedKeys, line {n}: {e}: write `ssh-ed25519 AAAA…`"))
    };
    lines(text).map(read).collect()
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// One line: principals, options, key type, key, comment.
fn signer(line: &str) -> Result<Option<Signer>, String> {
    let (name, mut rest) = word(line);
    let mut options = "";
    if !is_key_type(word(rest).0) {
        (options, rest) = word(rest);
    }
    let key = PublicKey::from_openssh(rest)
        .map_err(|e| format!("{e}: write `ann@example.org ssh-ed25519 AAAA…`"))?;
    let key = key.key_data().clone();
    let mut signer = Signer::always(name.trim_matches('"'), key);
    let mut for_git = true;
    for option in split_outside_quotes(options, ',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.trim_matches('"');
        match name.to_ascii_lowercase().as_str() {
            "namespaces" => for_git = value.split(',').any(|n| n == NAMESPACE || n == "*"),
            "valid-after" => signer.after = Some(time(value)?),
            "valid-before" => signer.before = Some(time(value)?),
            "cert-authority" => {
                return Err("certificate authorities are not supported: list the keys".to_owned());
            }
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    Ok(for_git.then_some(signer))
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| word.starts_with(kind))
}

/// The first word, where quotes keep spaces, and the rest.
fn word(text: &str) -> (&str, &str) {
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    });
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    (word, rest.trim_start())
}

fn split_outside_quotes(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == at && !quoted
    })
}

/// `YYYYMMDD[HHMM[SS]][Z]`. Without `Z` OpenSSH takes the local time of the machine; servers have
/// no common one, so it is UTC here.
fn time(text: &str) -> Result<Timestamp, String> {
    let fail = || format!("{text:?} is no time: write 20261231 or 20261231235959Z");
    let digits = text.trim_end_matches(['Z', 'z']);
    if !digits.is_ascii() || ![8, 12, 14].contains(&digits.len()) {
        return Err(fail());
    }
    let number = |from: usize, to: usize| digits.get(from..to).map_or(Ok(0), str::parse::<i8>);
    let read = || -> Option<jiff::civil::DateTime> {
        let year = digits[..4].parse().ok()?;
        let (month, day) = (number(4, 6).ok()?, number(6, 8).ok()?);
        let (hour, minute) = (number(8, 10).ok()?, number(10, 12).ok()?);
        jiff::civil::DateTime::new(year, month, day, hour, minute, number(12, 14).ok()?, 0).ok()
    };
    let zoned = read().and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC).ok()).ok_or_else(fail)?;
    Ok(Timestamp(zoned.timestamp().as_millisecond()))
}
