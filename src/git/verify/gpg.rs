//! Signatures by OpenPGP, judged by the machine's `gpg`: it knows expiry and revocation in all
//! their forms. It gets a home of its own with nothing but the keys of the configuration in it.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::git::error::{Error, Result};

/// A home of `gpg` with the keys that may sign.
pub(super) struct Keyring(TempDir);

impl Keyring {
    /// Puts armoured public keys into a new home.
    pub(super) fn import(keys: &str) -> Result<Self> {
        let dir = tempfile::tempdir().map_err(|e| failed(&e.to_string()))?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700))
            .map_err(|e| failed(&e.to_string()))?;
        let output = gpg(dir.path(), &["--import"], keys.as_bytes())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(failed(&format!("pgpKeys: {}", said.trim())));
        }
        Ok(Self(dir))
    }

    /// The name and the fingerprint of who signed; why it counts for nothing otherwise.
    pub(super) fn check(
        &self,
        signature: &[u8],
        signed: &[u8],
    ) -> Result<std::result::Result<(String, String), String>> {
        let path = self.0.path().join("signature");
        fs::write(&path, signature).map_err(|e| failed(&e.to_string()))?;
        let path = path.to_string_lossy();
        let output = gpg(self.0.path(), &["--status-fd", "1", "--verify", &path, "-"], signed)?;
        Ok(verdict(&String::from_utf8_lossy(&output.stdout)))
    }
}

fn failed(reason: &str) -> Error {
    Error::Argument { what: "the check of an OpenPGP signature".into(), reason: reason.into() }
}

fn gpg(home: &Path, args: &[&str], input: &[u8]) -> Result<Output> {
    let run = || {
        let mut child = Command::new("gpg")
            .args(["--batch", "--no-tty", "--quiet", "--no-autostart", "--no-auto-key-retrieve"])
            .arg("--homedir")
            .arg(home)
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input)?;
        }
        child.wait_with_output()
    };
    run().map_err(|e| failed(&format!("gpg: {e}: install gnupg on the servers")))
}

/// Reads gpg's status lines (doc/DETAILS of GnuPG): one good signature and no other.
pub(super) fn verdict(status: &str) -> std::result::Result<(String, String), String> {
    let lines: Vec<Vec<&str>> = status
        .lines()
        .filter_map(|line| line.strip_prefix("[GNUPG:] "))
        .map(|line| line.split(' ').collect())
        .collect();
    let find = |word: &str| lines.iter().find(|line| line[0] == word);
    for (word, why) in [
        ("BADSIG", "the signature is of something else"),
        ("EXPKEYSIG", "its key has expired"),
        ("REVKEYSIG", "its key is revoked"),
        ("EXPSIG", "the signature has expired"),
    ] {
        if find(word).is_some() {
            return Err(why.to_owned());
        }
    }
    if let Some(missing) = find("NO_PUBKEY") {
        let key = missing.get(1).copied().unwrap_or_default();
        return Err(format!("nobody who may sign has the key {key}"));
    }
    let signatures = lines.iter().filter(|line| line[0] == "NEWSIG").count();
    let (Some(good), Some(valid), 0 | 1) = (find("GOODSIG"), find("VALIDSIG"), signatures) else {
        return Err("gpg cannot tell whose it is".to_owned());
    };
    let key = valid.last().copied().unwrap_or_default();
    Ok((good.get(2..).unwrap_or_default().join(" "), key.to_owned()))
}
