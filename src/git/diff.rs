//! What changed between two commits, by walking only the folders whose ids differ.

use std::{cmp::Ordering, path::Path};

use git2::{Oid, Patch, Tree, TreeEntry};

use super::{
    error::Result,
    mirror::Reader,
    tree::{BlobId, Files, Kind, Limits, Walk, kind, proper_name, root_prefix},
};
use crate::model::{CommitId, Problem};

/// What became of one wanted path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Added(BlobId),
    /// Its content changed.
    Modified {
        /// What it was.
        from: BlobId,
        /// What it is.
        to: BlobId,
    },
    /// It is gone (or became a link, a folder, or too large: then there is a problem too).
    Removed(BlobId),
}

/// The wanted paths that differ between two commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Sorted by path.
    pub changes: Vec<(String, Change)>,
    /// What in the changed part of the newer commit cannot be used; sorted by path.
    pub problems: Vec<Problem>,
}

/// The difference of one file as `git diff` shows it and `git apply` takes it; `None` where there
/// is no file.
pub fn patch(path: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<String> {
    let at = Some(Path::new(path));
    let mut patch =
        Patch::from_buffers(old.unwrap_or_default(), at, new.unwrap_or_default(), at, None)?;
    let text = String::from_utf8_lossy(&patch.to_buf()?).into_owned();
    let (head, rest) = text.split_at(text.find("@@").unwrap_or(text.len()));
    let line = |line: &str| match (old, new) {
        (None, _) if line.starts_with("index ") => format!("new file mode 100644\n{line}\n"),
        (_, None) if line.starts_with("index ") => format!("deleted file mode 100644\n{line}\n"),
        (None, _) if line.starts_with("--- ") => "--- /dev/null\n".to_owned(),
        (_, None) if line.starts_with("+++ ") => "+++ /dev/null\n".to_owned(),
        _ => format!("{line}\n"),
    };
    Ok(head.lines().map(line).collect::<String>() + rest)
}

impl Reader {
    /// Compares the wanted files of two commits under `root`.
    ///
    /// Costs what changed: equal subtree ids are skipped, so the result is exact only if the older
    /// commit was listed before and had no problems of its own. A `root` missing in one of them
    /// counts as empty there.
    pub fn diff(
        &self,
        from: &CommitId,
        to: &CommitId,
        root: &str,
        wanted: &dyn Fn(&str) -> bool,
        limits: &Limits,
    ) -> Result<Diff> {
        let (old, new) = (self.tree_at(from, root)?, self.tree_at(to, root)?);
        let mut sides =
            Sides { old: Walk::new(self, wanted, limits), new: Walk::new(self, wanted, limits) };
        sides.folders(old, new, &root_prefix(root), 0)?;
        if new.is_none() {
            let message = format!(
                "the folder {root:?} is not in commit {}; create it or change the configured path",
                to.short()
            );
            sides.new.problem("", message);
        }
        Ok(merge(sides.old.finish(), sides.new.finish()))
    }
}

/// The two sides, each within its own bounds.
struct Sides<'a> {
    old: Walk<'a>,
    new: Walk<'a>,
}

impl<'a> Sides<'a> {
    fn folders(
        &mut self,
        old: Option<Oid>,
        new: Option<Oid>,
        prefix: &str,
        depth: usize,
    ) -> Result<()> {
        match (old, new) {
            (Some(old), Some(new)) if old == new => Ok(()),
            (Some(old), Some(new)) if depth <= super::TREE_DEPTH_MAX => {
                let (old, new) = (self.tree(old)?, self.tree(new)?);
                self.entries(&old, &new, prefix, depth)
            }
            (old, new) => {
                old.map_or(Ok(()), |old| self.old.folder(old, prefix, depth))?;
                new.map_or(Ok(()), |new| self.new.folder(new, prefix, depth))
            }
        }
    }

    fn tree(&self, id: Oid) -> Result<Tree<'a>> {
        let reader = self.new.reader;
        reader.repo.find_tree(id).map_err(|cause| reader.meaning(cause))
    }

    /// Walks two sorted lists of entries side by side.
    fn entries(
        &mut self,
        old: &Tree<'_>,
        new: &Tree<'_>,
        prefix: &str,
        depth: usize,
    ) -> Result<()> {
        let (mut before, mut after) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => git_order(one, other),
            };
            let one = if order.is_le() { before.next() } else { None };
            let other = if order.is_ge() { after.next() } else { None };
            self.pair(one, other, prefix, depth)?;
        }
    }

    fn pair(
        &mut self,
        old: Option<TreeEntry<'_>>,
        new: Option<TreeEntry<'_>>,
        prefix: &str,
        depth: usize,
    ) -> Result<()> {
        if let (Some(old), Some(new)) = (&old, &new) {
            if old.id() == new.id() && kind(old) == kind(new) {
                return Ok(());
            }
            if kind(old) == Kind::Folder && kind(new) == Kind::Folder {
                let Ok(name) = proper_name(old.name_bytes()) else {
                    self.new.usable(new, prefix);
                    return Ok(());
                };
                let prefix = format!("{prefix}{name}/");
                return self.folders(Some(old.id()), Some(new.id()), &prefix, depth + 1);
            }
        }
        old.map_or(Ok(()), |old| self.old.entry(&old, prefix, depth))?;
        new.map_or(Ok(()), |new| self.new.entry(&new, prefix, depth))
    }
}

/// Git's order inside a tree: by name, a folder's name ending in '/'. Equal only for the same sort
/// of entry, so that a file that became a folder is one thing gone and another one new.
fn git_order(one: &TreeEntry<'_>, other: &TreeEntry<'_>) -> Ordering {
    let folder = |entry: &TreeEntry<'_>| (kind(entry) == Kind::Folder).then_some(b'/');
    let ending = |entry: &TreeEntry<'_>| folder(entry).into_iter();
    let (a, b) = (one.name_bytes(), other.name_bytes());
    a.iter().copied().chain(ending(one)).cmp(b.iter().copied().chain(ending(other)))
}

/// Both sides hold only what differs. Problems of the older one were told when it was new.
fn merge(old: Files, new: Files) -> Diff {
    let mut changes = std::collections::BTreeMap::new();
    for file in old.files {
        changes.insert(file.path, Change::Removed(file.blob));
    }
    for file in new.files {
        let change = match changes.get(&file.path) {
            Some(Change::Removed(from)) => Change::Modified { from: *from, to: file.blob },
            _ => Change::Added(file.blob),
        };
        changes.insert(file.path, change);
    }
    let same = |change: &Change| matches!(change, Change::Modified { from, to } if from == to);
    let changes = changes.into_iter().filter(|(_, change)| !same(change)).collect();
    Diff { changes, problems: new.problems }
}
