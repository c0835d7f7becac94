//! A new tip of a repository on this machine, taken over object by object.
//!
//! libgit2's own way makes a pack, and to know what not to pack it reads every tree of the tip that
//! was brought before: with a hundred folders that is twenty milliseconds for one changed file. A
//! small step is cheaper told by its difference. Whatever is unusual here (no earlier tip, a large
//! step, an object that cannot be read) is left to libgit2, which also says what is wrong.

use std::{collections::BTreeSet, path::Path};

use git2::{ErrorClass, ErrorCode, ObjectType, Odb, OdbLookupFlags, Oid, Repository, Tree};

/// Most objects that are taken one by one; from there on a pack is cheaper, and tidier on disk.
const OBJECTS_MAX: usize = 1000;

/// Mode of an entry that is another repository's commit: its object is never here.
const SUBMODULE: i32 = 0o160_000;

/// Brings what `full_name` points to in the repository at `path`; none when this is not a small
/// step from something that `to` has. An object is written after everything it points to, so what
/// is in `to` is complete at any moment.
pub(super) fn bring(path: &Path, to: &Repository, full_name: &str, bytes_max: u64) -> Option<Oid> {
    let from = Repository::open(path).ok()?;
    let tip = from.refname_to_id(full_name).ok()?;
    let step = Step::new(&from, to, bytes_max).ok()?;
    step.take(tip).ok().map(|()| tip)
}

struct Step<'r> {
    from: &'r Repository,
    source: Odb<'r>,
    target: Odb<'r>,
    bytes_left: u64,
    objects: Vec<Oid>,
}

impl<'r> Step<'r> {
    fn new(from: &'r Repository, to: &'r Repository, bytes_max: u64) -> Result<Self, git2::Error> {
        let (source, target) = (from.odb()?, to.odb()?);
        Ok(Self { from, source, target, bytes_left: bytes_max, objects: Vec::new() })
    }

    fn take(mut self, tip: Oid) -> Result<(), git2::Error> {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![(tip, false)]);
        // Parents come before their children, so that each commit's tree is told by its difference
        // to its parent's, and is complete when it is written.
        while let Some((id, parents_noted)) = waiting.pop() {
            if parents_noted {
                self.commit(id)?;
            } else if !self.has(id) && seen.insert(id) {
                let parents: Vec<Oid> = self.from.find_commit(id)?.parent_ids().collect();
                if parents.is_empty() || seen.len() > OBJECTS_MAX {
                    return Err(not_small("the history is new"));
                }
                waiting.push((id, true));
                waiting.extend(parents.into_iter().map(|parent| (parent, false)));
            }
        }
        let objects = std::mem::take(&mut self.objects);
        objects.into_iter().try_for_each(|id| self.copy(id))
    }

    fn has(&self, id: Oid) -> bool {
        self.target.exists_ext(id, OdbLookupFlags::NO_REFRESH)
    }

    /// Notes a commit behind everything of its tree that is new.
    fn commit(&mut self, id: Oid) -> Result<(), git2::Error> {
        let commit = self.from.find_commit(id)?;
        let before = commit.parent_id(0).and_then(|parent| self.from.find_commit(parent));
        let before = before.and_then(|parent| parent.tree());
        self.tree(commit.tree()?, before.ok().as_ref())?;
        self.note(id)
    }

    fn tree(&mut self, tree: Tree<'r>, before: Option<&Tree<'r>>) -> Result<(), git2::Error> {
        if before.is_some_and(|b| b.id() == tree.id()) || self.has(tree.id()) {
            return Ok(());
        }
        for entry in &tree {
            let old = before.and_then(|tree| tree.get_name_bytes(entry.name_bytes()));
            let same = old.as_ref().is_some_and(|old| old.id() == entry.id());
            if same || entry.filemode() == SUBMODULE || self.has(entry.id()) {
                continue;
            }
            match entry.kind() {
                Some(ObjectType::Tree) => {
                    let old = old.and_then(|old| self.from.find_tree(old.id()).ok());
                    self.tree(self.from.find_tree(entry.id())?, old.as_ref())?;
                }
                _ => self.note(entry.id())?,
            }
        }
        self.note(tree.id())
    }

    fn note(&mut self, id: Oid) -> Result<(), git2::Error> {
        let (bytes, _) = self.source.read_header(id)?;
        let left = self.bytes_left.checked_sub(bytes as u64);
        self.bytes_left = left.ok_or_else(|| not_small("the step is large"))?;
        self.objects.push(id);
        let small = self.objects.len() <= OBJECTS_MAX;
        if small { Ok(()) } else { Err(not_small("many objects are new")) }
    }

    fn copy(&self, id: Oid) -> Result<(), git2::Error> {
        let object = self.source.read(id)?;
        self.target.write(object.kind(), object.data()).map(drop)
    }
}

fn not_small(words: &str) -> git2::Error {
    git2::Error::new(ErrorCode::GenericError, ErrorClass::Odb, words)
}
