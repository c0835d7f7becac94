//! Notes on desired commits: `git log --show-notes=mainstay` tells what became of each.

use std::{collections::BTreeMap, path::Path, sync::PoisonError, time::Duration};

use git2::{ObjectType, Oid, Tree};

use super::{
    batch::Batch,
    commit::{Message, Person},
    error::Result,
    exchange::Deadline,
    mirror::{Mirror, target, tracking},
    publish::{Pushed, Step},
    status::{Changes, commit, updated},
};
use crate::model::CommitId;

impl Mirror {
    /// Writes or replaces the notes of many commits by one push to a notes ref; notes that others
    /// wrote meanwhile stay.
    ///
    /// A note that is there word for word is not written again.
    pub fn write_notes(
        &self,
        reference: &str,
        notes: &BTreeMap<CommitId, String>,
        by: &Person,
        within: Duration,
    ) -> Result<Pushed> {
        let signature = by.signature()?;
        let message = Message { subject: "Notes added by mainstay".into(), ..Message::default() };
        let key = self.key.as_ref();
        self.publish(reference, within, |repo, tip| {
            let base = tip.map(|tip| repo.find_commit(tip)?.tree()).transpose()?;
            let mut batch = Batch::new(repo)?;
            let changes = changes(&mut batch, base.as_ref(), notes)?;
            match tip {
                Some(tip) if changes.is_empty() => Ok(Step::Already(tip)),
                _ => {
                    let tree = updated(&mut batch, tip, &changes)?;
                    batch.write()?;
                    commit(repo, tip, tree, &message, (&signature, &signature), key)
                        .map(Step::Commit)
                }
            }
        })
    }

    /// Brings what others noted, so that [`Mirror::note`] knows of it.
    pub fn fetch_notes(&self, reference: &str, within: Duration) -> Result<()> {
        let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        let repo = self.repository()?;
        self.fetch_reference(&repo, reference, Deadline::after(within)).map(drop)
    }

    /// The note of a commit, as the notes were fetched or written last. Does not ask the remote.
    pub fn note(&self, reference: &str, on: &CommitId) -> Result<Option<String>> {
        let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        let repo = self.repository()?;
        let Some(tip) = target(&repo, &tracking(reference))? else { return Ok(None) };
        let tree = repo.find_commit(tip)?.tree()?;
        let found = places(on).into_iter().find_map(|path| blob_at(&tree, &path));
        let text = |id| Ok(String::from_utf8_lossy(repo.find_blob(id)?.content()).into_owned());
        found.map(text).transpose()
    }
}

/// Where Git may keep the note of a commit: flat, or in folders by the first digits. Ours go into
/// one level of folders, so that one more note rewrites a small tree also when there are thousands.
fn places(on: &CommitId) -> [String; 3] {
    let id = on.as_str();
    let flat = id.to_owned();
    let once = format!("{}/{}", &id[..2], &id[2..]);
    let twice = format!("{}/{}/{}", &id[..2], &id[2..4], &id[4..]);
    [once, flat, twice]
}

fn blob_at(tree: &Tree<'_>, path: &str) -> Option<Oid> {
    let entry = tree.get_path(Path::new(path)).ok()?;
    (entry.kind() == Some(ObjectType::Blob)).then(|| entry.id())
}

fn changes<'a>(
    batch: &mut Batch<'a>,
    base: Option<&Tree<'_>>,
    notes: &'a BTreeMap<CommitId, String>,
) -> Result<Changes> {
    let mut changes = Changes::new();
    for (on, note) in notes {
        let blob = batch.add(ObjectType::Blob, note.as_bytes())?;
        let [ours, others @ ..] = places(on);
        let there = |path: &str| base.and_then(|tree| blob_at(tree, path));
        let old: Vec<String> = others.into_iter().filter(|path| there(path).is_some()).collect();
        if there(&ours) != Some(blob) {
            changes.insert(ours, Some(blob));
        }
        changes.extend(old.into_iter().map(|path| (path, None)));
    }
    Ok(changes)
}
