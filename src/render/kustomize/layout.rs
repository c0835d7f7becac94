//! Which kustomizations of a source are rendered, and which of its files stand for themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::OrdMap;
use smol_str::SmolStr;

use super::{
    build::resolve,
    file::{Kustomization, NAMES},
    resource::Source,
};

/// The folders of a source that have a kustomization, and what those name.
///
/// A folder with a kustomization stands for everything below it: its files are read when a
/// kustomization names them, and not otherwise. What is rendered by itself are the topmost of
/// these folders ([`Layout::roots`]), but for those that are there for others. Cloning shares
/// everything.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    folders: OrdMap<SmolStr, BTreeMap<SmolStr, Said>>,
}

/// What one kustomization says that matters for others.
#[derive(Clone, Debug, Default)]
struct Said {
    component: bool,
    /// What it names, as paths in the repository.
    names: Vec<SmolStr>,
}

impl Layout {
    /// Whether a path is that of a kustomization, by its name.
    pub fn is_kustomization(path: &str) -> bool {
        NAMES.contains(&path.rsplit('/').next().unwrap_or(path))
    }

    /// The paths in the repository that a kustomization names.
    pub fn names_of(path: &str, bytes: &[u8]) -> Vec<String> {
        said(path, bytes).names.iter().map(SmolStr::to_string).collect()
    }

    /// Puts a kustomization in, in place of what its path said before; tells whether its folder had
    /// none.
    pub fn put(&mut self, path: &str, bytes: &[u8]) -> bool {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_new = !self.folders.contains_key(folder);
        let files = self.folders.entry(folder.into()).or_default();
        files.insert(name.into(), said(path, bytes));
        is_new
    }

    /// Takes a kustomization out; tells whether its folder has none left.
    pub fn remove(&mut self, path: &str) -> bool {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(files) = self.folders.get_mut(folder) else { return false };
        files.remove(name);
        let is_gone = files.is_empty();
        if is_gone {
            self.folders.remove(folder);
        }
        is_gone
    }

    /// Whether there is no kustomization.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// Whether a file stands for itself: no folder that holds it has a kustomization.
    pub fn is_plain(&self, path: &str) -> bool {
        self.folders.is_empty() || !ancestors(path).any(|folder| self.folders.contains_key(folder))
    }

    /// The folders whose kustomizations are rendered by themselves: the topmost ones that no
    /// kustomization of the source names and that are no Component. A topmost one that none of
    /// these reaches is rendered too, so that nothing is left out without a word.
    pub fn roots(&self) -> BTreeSet<SmolStr> {
        let topmost = |folder: &&SmolStr| {
            folder.is_empty() || !ancestors(folder).any(|above| self.folders.contains_key(above))
        };
        let topmost: Vec<&SmolStr> = self.folders.keys().filter(topmost).collect();
        let named: BTreeSet<&SmolStr> =
            self.folders.keys().flat_map(|folder| self.names(folder)).collect();
        let mut roots = BTreeSet::new();
        let mut reached = BTreeSet::new();
        let free = |folder: &&&SmolStr| !named.contains(**folder) && !self.is_component(folder);
        for folder in topmost.iter().filter(free) {
            roots.insert((*folder).clone());
            self.reach(folder, &mut reached);
        }
        let (parts, wholes): (Vec<&SmolStr>, Vec<&SmolStr>) =
            topmost.into_iter().partition(|folder| self.is_component(folder));
        for folder in wholes.into_iter().chain(parts) {
            if !reached.contains(folder) {
                roots.insert(folder.clone());
                self.reach(folder, &mut reached);
            }
        }
        roots
    }

    fn is_component(&self, folder: &str) -> bool {
        let files = self.folders.get(folder);
        files.is_some_and(|files| files.values().any(|said| said.component))
    }

    /// What the kustomization of a folder names, itself left out.
    fn names<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a SmolStr> {
        let files = self.folders.get(folder).into_iter().flat_map(BTreeMap::values);
        files.flat_map(|said| &said.names).filter(move |name| name.as_str() != folder)
    }

    /// Adds a folder and all it leads to.
    fn reach(&self, folder: &SmolStr, reached: &mut BTreeSet<SmolStr>) {
        let mut next = vec![folder];
        while let Some(folder) = next.pop() {
            if reached.insert(folder.clone()) {
                next.extend(self.names(folder));
            }
        }
    }
}

fn said(path: &str, bytes: &[u8]) -> Said {
    let source = Source { path: path.to_owned(), bytes: Arc::from(bytes) };
    // What cannot be read names nothing; rendering it says why.
    let Ok(file) = Kustomization::read(Arc::new(source)) else { return Said::default() };
    let (folder, _) = path.rsplit_once('/').unwrap_or(("", path));
    let names = file.references().into_iter().filter_map(|name| resolve(folder, name).ok());
    Said { component: file.is_component(), names: names.map(SmolStr::from).collect() }
}

/// The folders that hold a path, the nearest first, the top of the repository last.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| above(path)).skip(1)
}

fn above(path: &str) -> Option<&str> {
    let folder = || path.rsplit_once('/').map_or("", |(folder, _)| folder);
    (!path.is_empty()).then(folder)
}
