//! Whether a server's SSH key is the one a `known_hosts` text names. Pure.
//!
//! libgit2 only reads the file of the user it runs as; a cluster's keys come from its
//! configuration. Format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// What the text says of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The host has exactly this key.
    Known,
    /// The host has other keys: a wrong server, or a new key.
    Changed,
    /// The host is not named (with a key of this sort).
    Unnamed,
    /// The key was taken back by an `@revoked` line.
    Revoked,
}

/// Looks up `key` (the wire form) of the sort `algorithm` (`ssh-ed25519`) for a host.
pub(super) fn verify(text: &str, host: &str, port: u16, algorithm: &str, key: &[u8]) -> Verdict {
    let name = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
    let mut verdict = Verdict::Unnamed;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace().peekable();
        let marker = words.next_if(|word| word.starts_with('@'));
        let (Some(hosts), Some(sort), Some(encoded)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if sort != algorithm || !names(hosts, &name) {
            continue;
        }
        let same = BASE64.decode(encoded).is_ok_and(|known| known == key);
        match (marker, same) {
            (Some("@revoked"), true) => return Verdict::Revoked,
            (None, true) => verdict = Verdict::Known,
            (None, false) if verdict == Verdict::Unnamed => verdict = Verdict::Changed,
            _ => {}
        }
    }
    verdict
}

/// Whether a hosts field (plain names with commas, or one hashed name) names the host.
fn names(field: &str, name: &str) -> bool {
    match field.strip_prefix("|1|") {
        Some(hashed) => is_hash_of(hashed, name).unwrap_or(false),
        None => field.split(',').any(|known| known.eq_ignore_ascii_case(name)),
    }
}

/// `HashKnownHosts`: base64 of a salt, then of HMAC-SHA1(salt, name).
fn is_hash_of(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let salt = BASE64.decode(salt).ok()?;
    let hash = BASE64.decode(hash).ok()?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIPl4yPpsaTTC3Ke5iC6bXyIUImuEXWKI1qbgs7JxvFGF";

    fn check(line: &str, host: &str, port: u16, expect: Verdict) {
        let key = BASE64.decode(KEY).unwrap();
        assert_eq!(verify(line, host, port, "ssh-ed25519", &key), expect, "{line}");
    }

    #[test]
    fn only_the_named_key_of_the_named_host_is_known() {
        check(
            &format!("git.example,10.0.0.1 ssh-ed25519 {KEY} me"),
            "10.0.0.1",
            22,
            Verdict::Known,
        );
        check(
            &format!("[git.example]:2222 ssh-ed25519 {KEY}"),
            "git.example",
            2222,
            Verdict::Known,
        );
        check(&format!("git.example ssh-ed25519 {KEY}"), "git.example", 2222, Verdict::Unnamed);
        check(&format!("other ssh-ed25519 {KEY}"), "git.example", 22, Verdict::Unnamed);
        check(&format!("git.example ssh-rsa {KEY}"), "git.example", 22, Verdict::Unnamed);
        check("git.example ssh-ed25519 AAAA", "git.example", 22, Verdict::Changed);
        check(&format!("# git.example ssh-ed25519 {KEY}"), "git.example", 22, Verdict::Unnamed);
        check("git.example ssh-ed25519", "git.example", 22, Verdict::Unnamed);
        let revoked = format!("a ssh-ed25519 {KEY}\n@revoked a ssh-ed25519 {KEY}");
        check(&revoked, "a", 22, Verdict::Revoked);
        check(&format!("@cert-authority a ssh-ed25519 {KEY}"), "a", 22, Verdict::Unnamed);
    }
}
