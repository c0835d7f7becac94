//! The kustomizations of the commit that was read last, so that each is rendered again only when a
//! path that it asked for changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::{OrdMap, OrdSet};
use smol_str::SmolStr;

use super::{import::Error, sealed::proven};
use crate::{
    git::{self, At, FILE_BYTES_MAX, Limits, Reader},
    model::{CommitId, Key},
    render::{self, Files, Found, Layout, Picture},
    seal::Keyring,
};

/// Which kustomizations there are, and what each of those that are rendered was made from. Cheap to
/// clone.
#[derive(Clone, Default)]
pub(super) struct Built {
    layout: Layout,
    /// Whether the layout changed since the roots were rendered.
    unsettled: bool,
    /// What is rendered, by folder.
    roots: OrdMap<SmolStr, Arc<Root>>,
    /// Who asked for a path.
    readers: OrdMap<SmolStr, OrdSet<SmolStr>>,
}

/// What kustomizations are rendered from.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) reader: &'a Reader,
    pub(super) commit: &'a CommitId,
    pub(super) keyring: &'a Keyring,
}

/// One kustomization that is rendered.
struct Root {
    /// The path of its result.
    path: String,
    /// What it asked for, and what was there.
    seen: BTreeMap<SmolStr, At>,
}

impl Built {
    /// Whether nothing is rendered.
    pub(super) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Whether a file stands for itself.
    pub(super) fn is_plain(&self, path: &str) -> bool {
        self.layout.is_plain(path)
    }

    /// Whether something is made out of a file.
    pub(super) fn reads(&self, path: &str) -> bool {
        self.readers.contains_key(path)
    }

    /// Takes a kustomization in; tells whether its folder had none.
    pub(super) fn learn(&mut self, path: &str, bytes: &[u8]) -> bool {
        self.unsettled = true;
        self.layout.put(path, bytes)
    }

    /// Takes a path out that is gone; tells whether its folder has no kustomization left.
    pub(super) fn forget(&mut self, path: &str) -> bool {
        if !Layout::is_kustomization(path) {
            return false;
        }
        self.unsettled = true;
        self.layout.remove(path)
    }

    /// The paths that kustomizations asked for and that differ between two commits, wherever they
    /// are; `None` when that cannot be said.
    pub(super) fn changed(
        &self,
        reader: &Reader,
        from: &CommitId,
        to: &CommitId,
    ) -> Result<Option<BTreeSet<String>>, Error> {
        let asked = |path: &str| self.readers.contains_key(path);
        let diff = reader.diff(from, to, "", &asked, &Limits::default())?;
        let paths = || diff.changes.iter().map(|(path, _)| path.clone()).collect();
        Ok(diff.problems.is_empty().then(paths))
    }

    /// Renders what changed. `moved` are the paths that did; without, each is looked at.
    pub(super) fn update(
        &mut self,
        read: &Read<'_>,
        moved: Option<&BTreeSet<String>>,
        picture: &mut Picture,
        touched: &mut BTreeSet<Key>,
    ) -> Result<(), Error> {
        let wanted = match std::mem::take(&mut self.unsettled) {
            true => self.layout.roots(),
            false => self.roots.keys().cloned().collect(),
        };
        let gone: Vec<SmolStr> =
            self.roots.keys().filter(|folder| !wanted.contains(*folder)).cloned().collect();
        for folder in &gone {
            self.take_out(folder, picture, touched);
        }
        let mut stale: BTreeSet<SmolStr> =
            wanted.iter().filter(|folder| !self.roots.contains_key(*folder)).cloned().collect();
        match moved {
            Some(paths) => {
                let asked = paths.iter().filter_map(|path| self.readers.get(path.as_str()));
                stale.extend(asked.flatten().cloned());
            }
            None => {
                for (folder, root) in &self.roots {
                    if root.is_stale(read.reader, read.commit)? {
                        stale.insert(folder.clone());
                    }
                }
            }
        }
        for folder in stale {
            self.take_out(&folder, picture, touched);
            self.render(&folder, read, picture, touched)?;
        }
        Ok(())
    }

    fn take_out(&mut self, folder: &str, picture: &mut Picture, touched: &mut BTreeSet<Key>) {
        let Some(root) = self.roots.remove(folder) else { return };
        picture.remove(&root.path, touched);
        for path in root.seen.keys() {
            let Some(readers) = self.readers.get_mut(path) else { continue };
            readers.remove(folder);
            if readers.is_empty() {
                self.readers.remove(path);
            }
        }
    }

    fn render(
        &mut self,
        folder: &SmolStr,
        read: &Read<'_>,
        picture: &mut Picture,
        touched: &mut BTreeSet<Key>,
    ) -> Result<(), Error> {
        let Read { reader, commit, keyring } = *read;
        let mut files = Asked { reader, commit, seen: BTreeMap::new(), failed: None };
        let result = proven(render::render_kustomization(folder, &mut files), keyring);
        if let Some(error) = files.failed {
            return Err(error.into());
        }
        for path in files.seen.keys() {
            self.readers.entry(path.clone()).or_default().insert(folder.clone());
        }
        let root = Root { path: result.path.clone(), seen: files.seen };
        self.roots.insert(folder.clone(), Arc::new(root));
        picture.put(Arc::new(result), touched);
        Ok(())
    }
}

impl Root {
    /// Whether something that it asked for is not what it was.
    fn is_stale(&self, reader: &Reader, commit: &CommitId) -> Result<bool, Error> {
        for (path, before) in &self.seen {
            if reader.at(commit, path)? != *before {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The files of a commit, and which of them were asked for.
struct Asked<'a> {
    reader: &'a Reader,
    commit: &'a CommitId,
    seen: BTreeMap<SmolStr, At>,
    /// Why Git did not answer: what was rendered since is worth nothing.
    failed: Option<git::Error>,
}

impl Files for Asked<'_> {
    fn find(&mut self, path: &str) -> Found {
        self.look(path).unwrap_or_else(|error| {
            self.failed.get_or_insert(error);
            Found::Nothing
        })
    }
}

impl Asked<'_> {
    fn look(&mut self, path: &str) -> git::Result<Found> {
        let at = self.reader.at(self.commit, path)?;
        self.seen.insert(path.into(), at);
        Ok(match at {
            At::File(blob) if self.reader.bytes(blob)? > FILE_BYTES_MAX => {
                Found::Unusable(format!("has more than {FILE_BYTES_MAX} bytes: split it"))
            }
            At::File(blob) => Found::File(Arc::from(self.reader.read(blob)?)),
            At::Folder => Found::Folder,
            At::Unfollowed => {
                Found::Unusable("is a link or a submodule, which is not followed".to_owned())
            }
            At::Nothing => Found::Nothing,
        })
    }
}
