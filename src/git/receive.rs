//! A push on its way in: what it brings, and how the mirror comes to know it before it is taken.
//!
//! Git runs a `pre-receive` hook with the new objects in quarantine: they are in a folder of their
//! own, and no ref names them yet. The hook packs what is new and shows it to the cluster.

use std::{io::Write, path::Path, sync::PoisonError};

use git2::{Repository, RepositoryOpenFlags};

use super::{
    error::{Error, Result},
    mirror::{Mirror, find_commit},
};
use crate::model::CommitId;

/// Most bytes of a push that is judged before it is taken. A larger one is let in, and judged like
/// any commit then.
pub const PUSH_BYTES_MAX: usize = 64 << 20;

/// Packs everything that `new` reaches and `old` does not. `dir` is the repository that is pushed
/// to, `quarantine` where the objects of the push are.
pub fn pack_push(
    dir: &Path,
    quarantine: Option<&Path>,
    old: Option<&CommitId>,
    new: &CommitId,
) -> Result<Vec<u8>> {
    let nothing = std::iter::empty::<&Path>();
    let repo = Repository::open_ext(dir, RepositoryOpenFlags::NO_SEARCH, nothing)?;
    if let Some(path) = quarantine {
        let path = path.to_str().ok_or_else(|| Error::Argument {
            what: format!("quarantine {}", path.display()),
            reason: "its name is not UTF-8".into(),
        })?;
        repo.odb()?.add_disk_alternate(path)?;
    }
    pack(&repo, old, new)
}

/// Packs everything that `new` reaches and `old` does not.
pub(super) fn pack(repo: &Repository, old: Option<&CommitId>, new: &CommitId) -> Result<Vec<u8>> {
    let mut walk = repo.revwalk()?;
    walk.push(find_commit(repo, new)?.id())?;
    if let Some(old) = old {
        walk.hide(find_commit(repo, old)?.id())?;
    }
    let mut builder = repo.packbuilder()?;
    builder.insert_walk(&mut walk)?;
    let mut pack = Vec::new();
    let mut fits = true;
    let written = builder.foreach(|bytes| {
        fits = pack.len() + bytes.len() <= PUSH_BYTES_MAX;
        if fits {
            pack.extend_from_slice(bytes);
        }
        fits
    });
    if !fits {
        let bytes_max = PUSH_BYTES_MAX as u64;
        return Err(Error::Oversized { url: "the push".into(), bytes_max });
    }
    written?;
    Ok(pack)
}

impl Mirror {
    /// Puts the objects of a push into the mirror. No ref names them: when the push is refused they
    /// go with the next packing.
    pub fn take_pack(&self, pack: &[u8]) -> Result<()> {
        let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        let repo = self.repository()?;
        let odb = repo.odb()?;
        let mut writer = odb.packwriter()?;
        let unreadable = |cause: String| Error::Argument { what: "pack".into(), reason: cause };
        writer.write_all(pack).map_err(|e| unreadable(e.to_string()))?;
        writer.commit().map_err(|e| unreadable(e.message().to_owned()))?;
        Ok(())
    }

    /// Whether a commit is in the mirror.
    pub fn has(&self, commit: &CommitId) -> Result<bool> {
        let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        match find_commit(&self.repository()?, commit) {
            Ok(_) => Ok(true),
            Err(Error::Unknown { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }
}
