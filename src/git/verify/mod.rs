//! Signatures of commits and tags: whose they are, and ours.
//!
//! In: the keys that a configuration allows ([`Keys`]), commits of the mirror. Out: who signed each
//! ([`Signed`]), or why nobody did who may. Called by `server::import`, which gives the answers to
//! `plan::trust` to judge. Never here: what a missing signature means for a commit.
//!
//! What is signed is the commit itself, without the signature: a signature that is moved to another
//! commit is of something else.

mod gpg;
mod signers;
mod ssh;
#[cfg(test)]
mod tests;

use std::path::Path;

use git2::{Oid, Repository};
use ssh_key::{HashAlg, LineEnding, PrivateKey, SshSig};

use self::{
    gpg::Keyring,
    signers::{Signer, Signers},
};
use super::{
    error::{Error, Result},
    mirror::{Reader, commit_id, find_commit, target, tracking},
};
use crate::model::{CommitId, Signature, Signed, Timestamp};

/// Most commits whose signatures one look checks. An SSH signature takes about 0.1 ms, one by gpg
/// 10 ms.
pub const SIGNED_COMMITS_MAX: usize = 1000;

/// How an OpenPGP signature begins.
const PGP: &[u8] = b"-----BEGIN PGP SIGNATURE-----";

/// How an SSH signature begins.
const SSH: &[u8] = b"-----BEGIN SSH SIGNATURE-----";

/// The keys that may sign.
#[derive(Debug, Default)]
pub struct Keys {
    signers: Signers,
    pgp: Option<String>,
}

impl Keys {
    /// Reads what a configuration says: `allowed_signers` and revoked keys of OpenSSH, public keys
    /// of OpenPGP. The error names line and field.
    pub fn read(
        allowed: &str,
        revoked: &str,
        pgp: &str,
        ours: Option<&SigningKey>,
    ) -> std::result::Result<Self, String> {
        let mut allowed = signers::allowed(allowed)?;
        let ours = ours.map(|key| key.0.public_key().key_data().clone());
        allowed.extend(ours.map(Signer::ourselves));
        let signers = Signers { allowed, revoked: signers::keys(revoked)? };
        let pgp = (!pgp.trim().is_empty()).then(|| pgp.to_owned());
        Ok(Self { signers, pgp })
    }
}

/// The key with which mainstay signs what it writes.
#[derive(Clone, Debug)]
pub struct SigningKey(PrivateKey);

/// The public half of an OpenSSH private key, as a host is given it: `ssh-ed25519 AAAA… comment`.
pub fn public_key(path: &Path) -> Result<String> {
    let wrong = |reason: String| Error::Argument { what: path.display().to_string(), reason };
    let key = PrivateKey::read_openssh_file(path).map_err(|e| wrong(e.to_string()))?;
    key.public_key().to_openssh().map_err(|e| wrong(e.to_string()))
}

impl SigningKey {
    /// Reads an OpenSSH private key that has no passphrase.
    pub fn read(path: &Path) -> std::result::Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let key = PrivateKey::from_openssh(&text)
            .map_err(|e| format!("{}: no OpenSSH private key: {e}", path.display()))?;
        if key.is_encrypted() {
            let text = "has a passphrase: servers have nobody to ask";
            return Err(format!("{}: {text}", path.display()));
        }
        // Whether it can is known before it has to.
        ssh::sign(&key, b"").map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(Self(key))
    }

    /// The signature of a commit's bytes, armoured.
    pub(super) fn sign(&self, commit: &str) -> Result<String> {
        let fail = |reason| Error::Argument { what: "signing a commit".into(), reason };
        let signature = ssh::sign(&self.0, commit.as_bytes()).map_err(fail)?;
        signature.to_pem(LineEnding::LF).map_err(|e| fail(e.to_string()))
    }
}

impl Reader {
    /// The commits of `tip` that `after` does not have, newest first, each with who signed it;
    /// `at` is when the signatures have to be valid, the commit's own time when absent.
    ///
    /// Stops at `since`, which needs no signature, nor does anything before it. `None` when there
    /// are more than [`SIGNED_COMMITS_MAX`].
    pub fn signed(
        &self,
        keys: &Keys,
        tip: &CommitId,
        after: Option<&CommitId>,
        since: Option<&CommitId>,
        at: Option<Timestamp>,
    ) -> Result<Option<Vec<Signed>>> {
        let mut walk = self.repo.revwalk()?;
        walk.set_sorting(git2::Sort::TOPOLOGICAL)?;
        walk.push(find_commit(&self.repo, tip)?.id())?;
        for known in [after, since].into_iter().flatten() {
            // One that the mirror does not have hides nothing: more has to be signed, not less.
            if let Ok(known) = find_commit(&self.repo, known) {
                walk.hide(known.id())?;
            }
        }
        let ring = keys.pgp.as_deref().map(Keyring::import).transpose()?;
        let mut found = Vec::new();
        for id in walk {
            if found.len() == SIGNED_COMMITS_MAX {
                return Ok(None);
            }
            found.push(signed(&self.repo, keys, ring.as_ref(), id?, at)?);
        }
        Ok(Some(found))
    }
}

impl Reader {
    /// The tag of that name as it was fetched last, with who signed it; `at` is when the signature
    /// has to be valid, the tag's own time when absent.
    ///
    /// A tag that names another commit than `tip` by now is not the one to judge.
    pub fn signed_tag(
        &self,
        keys: &Keys,
        name: &str,
        tip: &CommitId,
        at: Option<Timestamp>,
    ) -> Result<Signed> {
        let id = target(&self.repo, &tracking(&format!("refs/tags/{name}")))?;
        let tag = id.map(|id| self.repo.find_object(id, None)).transpose()?;
        let names_tip = |object: &git2::Object<'_>| {
            object.peel_to_commit().is_ok_and(|commit| commit_id(commit.id()) == *tip)
        };
        let by = match tag.filter(names_tip).map(git2::Object::into_tag) {
            None => Err("it names another commit by now".to_owned()),
            Some(Err(_)) => Err("it is a light one, which nobody can sign".to_owned()),
            Some(Ok(tag)) => self.by_tag(keys, &tag, at)?,
        };
        Ok(Signed { commit: tip.clone(), subject: format!("tag {name}"), adds: false, by })
    }

    fn by_tag(
        &self,
        keys: &Keys,
        tag: &git2::Tag<'_>,
        at: Option<Timestamp>,
    ) -> Result<std::result::Result<Signature, String>> {
        let made = tag.tagger().map_or(0, |tagger| tagger.when().seconds());
        let at = at.unwrap_or(Timestamp(made.saturating_mul(1000)));
        let odb = self.repo.odb()?;
        let object = odb.read(tag.id())?;
        let Some((signed, signature)) = split_signature(object.data()) else {
            return Ok(Err("it is not signed".to_owned()));
        };
        let ring = keys.pgp.as_deref().map(Keyring::import).transpose()?;
        whose(keys, ring.as_ref(), signature, signed, at)
    }
}

/// What is signed of a tag, and the signature: that begins with the last line that may begin one,
/// as Git has it.
fn split_signature(tag: &[u8]) -> Option<(&[u8], &[u8])> {
    let begins = |at: &usize| {
        let rest = tag.get(*at..).unwrap_or_default();
        rest.starts_with(SSH) || rest.starts_with(PGP)
    };
    let newlines = tag.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let at = newlines.map(|(at, _)| at + 1).rfind(begins)?;
    tag.split_at_checked(at)
}

fn signed(
    repo: &Repository,
    keys: &Keys,
    ring: Option<&Keyring>,
    id: Oid,
    at: Option<Timestamp>,
) -> Result<Signed> {
    let commit = repo.find_commit(id)?;
    let at = at.unwrap_or(Timestamp(commit.committer().when().seconds().saturating_mul(1000)));
    let by = match repo.extract_signature(&id, None) {
        Ok((signature, signed)) => whose(keys, ring, &signature, &signed, at)?,
        Err(cause) if cause.code() == git2::ErrorCode::NotFound => Err("it is not signed".into()),
        Err(cause) => return Err(cause.into()),
    };
    let subject = commit.summary_bytes().unwrap_or_default();
    let subject = String::from_utf8_lossy(subject).into_owned();
    Ok(Signed { commit: commit_id(id), subject, adds: adds(repo, &commit)?, by })
}

fn whose(
    keys: &Keys,
    ring: Option<&Keyring>,
    signature: &[u8],
    signed: &[u8],
    at: Timestamp,
) -> Result<std::result::Result<Signature, String>> {
    if signature.starts_with(SSH) {
        return Ok(by_ssh(&keys.signers, signature, signed, at));
    }
    if !signature.starts_with(PGP) {
        return Ok(Err("its signature is neither of SSH nor of OpenPGP".into()));
    }
    let Some(ring) = ring else {
        return Ok(Err("it is signed by OpenPGP, and no pgpKeys are configured".into()));
    };
    let by = ring.check(signature, signed)?;
    Ok(by.map(|(name, key)| Signature { name, key, is_ours: false }))
}

fn by_ssh(
    signers: &Signers,
    signature: &[u8],
    signed: &[u8],
    at: Timestamp,
) -> std::result::Result<Signature, String> {
    let signature =
        SshSig::from_pem(signature).map_err(|e| format!("its signature cannot be read: {e}"))?;
    let signer = signers.who(signature.public_key(), at)?;
    if !ssh::holds(&signature, signed) {
        return Err("the signature is of something else".to_owned());
    }
    Ok(Signature {
        name: signer.name.clone(),
        key: signature.public_key().fingerprint(HashAlg::Sha256).to_string(),
        is_ours: signer.is_ours,
    })
}

/// Whether a commit has something of its own: a merge that gives what Git would give by itself has
/// not, nor has a commit with the files of its parent.
fn adds(repo: &Repository, commit: &git2::Commit<'_>) -> Result<bool> {
    let mut parents = commit.parents();
    let tree = commit.tree_id();
    let (Some(first), second) = (parents.next(), parents.next()) else { return Ok(true) };
    if first.tree_id() == tree {
        return Ok(false);
    }
    let (Some(second), None) = (second, parents.next()) else { return Ok(true) };
    if second.tree_id() == tree {
        // Taking the whole of the other side is a change of the first one, unless that has nothing
        // the other side lacks.
        return Ok(!repo.graph_descendant_of(second.id(), first.id())?);
    }
    let mut merged = repo.merge_commits(&first, &second, None)?;
    Ok(merged.has_conflicts() || merged.write_tree_to(repo)? != tree)
}
