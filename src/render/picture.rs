//! The files of one commit together, kept so that the next commit costs what it changes.

use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, OrdSet};
use k8s_openapi::{
    api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use smol_str::SmolStr;

use super::{FileResult, Options, RenderedObject, file::judge_custom};
use crate::{
    kinds::Kinds,
    model::{GroupKind, Key, Problem},
};

/// Namespaces that every cluster has.
const BUILT_IN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Most problems (and most warnings) of one commit: they are written into its status, which goes
/// through the log.
const PROBLEMS_MAX: usize = 1000;

/// What the files of one commit say together: which file writes which object, how many there are of
/// each kind, which files have something to tell.
///
/// Putting a file in costs that file and the logarithm of the rest; cloning shares everything. The
/// order in which files come makes no difference (a property test).
#[derive(Clone, Debug, Default)]
pub struct Picture {
    files: OrdMap<SmolStr, Arc<FileResult>>,
    writers: OrdMap<Key, Writers>,
    /// Keys that are written more than once.
    twice: OrdSet<Key>,
    /// Files with problems or warnings.
    told: OrdSet<SmolStr>,
    /// Files with objects of kinds that are not built in.
    custom: OrdSet<SmolStr>,
    namespaces: OrdMap<SmolStr, usize>,
    kinds: OrdMap<GroupKind, u64>,
}

/// Where one key is written, in the order of files; the first one counts.
#[derive(Clone, Debug)]
struct Writers {
    first: Writer,
    rest: Vec<Writer>,
}

/// An object's file and its number in there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Writer {
    path: SmolStr,
    number: usize,
}

impl Picture {
    /// Puts a file in, in place of what its path said before; adds every key that one of them
    /// writes to `touched`.
    pub fn put(&mut self, file: Arc<FileResult>, touched: &mut BTreeSet<Key>) {
        self.remove(&file.path, touched);
        let path = SmolStr::from(&file.path);
        for (number, found) in file.objects.iter().enumerate() {
            touched.insert(found.object.key().clone());
            self.write(found.object.key(), Writer { path: path.clone(), number });
        }
        if !file.problems.is_empty() || !file.warnings.is_empty() {
            self.told.insert(path.clone());
        }
        if !file.custom.is_empty() {
            self.custom.insert(path.clone());
        }
        self.files.insert(path, file);
    }

    /// Takes a file out; adds the keys it wrote to `touched`.
    pub fn remove(&mut self, path: &str, touched: &mut BTreeSet<Key>) {
        let Some(file) = self.files.remove(path) else { return };
        self.told.remove(path);
        self.custom.remove(path);
        for (number, found) in file.objects.iter().enumerate() {
            touched.insert(found.object.key().clone());
            self.unwrite(found.object.key(), &Writer { path: path.into(), number });
        }
    }

    fn write(&mut self, key: &Key, writer: Writer) {
        let Some(writers) = self.writers.get_mut(key) else {
            self.writers.insert(key.clone(), Writers { first: writer, rest: Vec::new() });
            *self.namespaces.entry(key.namespace.clone()).or_default() += 1;
            *self.kinds.entry(key.kind.clone()).or_default() += 1;
            return;
        };
        writers.rest.push(writer);
        writers.rest.sort();
        if writers.rest[0] < writers.first {
            std::mem::swap(&mut writers.rest[0], &mut writers.first);
        }
        self.twice.insert(key.clone());
    }

    fn unwrite(&mut self, key: &Key, writer: &Writer) {
        let Some(writers) = self.writers.get_mut(key) else { return };
        if writers.rest.is_empty() {
            self.writers.remove(key);
            fewer(&mut self.namespaces, &key.namespace, |n| n.checked_sub(1).filter(|n| *n > 0));
            fewer(&mut self.kinds, &key.kind, |n| n.checked_sub(1).filter(|n| *n > 0));
            return;
        }
        if writers.first == *writer {
            writers.first = writers.rest.remove(0);
        } else {
            writers.rest.retain(|other| other != writer);
        }
        if writers.rest.is_empty() {
            self.twice.remove(key);
        }
    }

    /// The picture with its objects of custom kinds, which are judged by `kinds`; adds their keys
    /// to `touched`. Until then they count for nothing. Costs the files that have any.
    #[must_use]
    pub fn with_custom(&self, kinds: &Kinds, touched: &mut BTreeSet<Key>) -> Self {
        let mut whole = self.clone();
        let files = self.custom.iter().filter_map(|path| self.files.get(path));
        let judged = files.filter_map(|file| judge_custom(file, kinds));
        judged.for_each(|file| whole.put(Arc::new(file), touched));
        whole
    }

    /// The definitions of custom kinds.
    pub fn definitions(&self) -> impl Iterator<Item = RenderedObject> {
        self.of_kind(GroupKind::of::<CustomResourceDefinition>())
    }

    /// The objects of one kind, by key. Costs those alone.
    pub fn of_kind(&self, kind: GroupKind) -> impl Iterator<Item = RenderedObject> {
        let first = Key::new(kind.clone(), "", "");
        let found = self.writers.range(first..).take_while(move |(key, _)| key.kind == kind);
        found.map(|(_, writers)| self.found(&writers.first))
    }

    /// What a file says; `None` when it is not in here.
    pub fn file(&self, path: &str) -> Option<&Arc<FileResult>> {
        self.files.get(path)
    }

    /// The object of a key and where it is written.
    pub fn object(&self, key: &Key) -> Option<RenderedObject> {
        Some(self.found(&self.writers.get(key)?.first))
    }

    fn found(&self, writer: &Writer) -> RenderedObject {
        let file = &self.files[&writer.path];
        let found = &file.objects[writer.number];
        RenderedObject {
            object: found.object.clone(),
            file: found.file.as_ref().map_or_else(|| file.path.clone(), SmolStr::to_string),
            line: found.line,
            made_by: file.built.then(|| file.path.clone()),
            digest: found.digest,
            open: found.open,
        }
    }

    /// Every object, by key.
    pub fn objects(&self) -> impl Iterator<Item = (&Key, RenderedObject)> {
        self.writers.iter().map(|(key, writers)| (key, self.found(&writers.first)))
    }

    /// The key of every object, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.writers.keys()
    }

    /// Whether an object of this key is written.
    pub fn contains(&self, key: &Key) -> bool {
        self.writers.contains_key(key)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.writers.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.writers.is_empty()
    }

    /// How many objects there are of each kind.
    pub fn kinds(&self) -> impl Iterator<Item = (&GroupKind, u64)> {
        self.kinds.iter().map(|(kind, count)| (kind, *count))
    }

    /// Why the commit cannot be admitted, in the order of files and lines: what is wrong in a file,
    /// objects that are written twice, namespaces that are nowhere. Costs the files that have
    /// something to tell, and the namespaces.
    pub fn problems(&self, options: &Options) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.telling().flat_map(|f| f.problems.iter().cloned()).collect();
        for key in &self.twice {
            let Some(writers) = self.writers.get(key) else { continue };
            let first = self.found(&writers.first);
            problems.extend(writers.rest.iter().map(|writer| {
                let again = self.found(writer);
                let message = format!(
                    "{key} is already defined at {}:{}: keep one of the two",
                    first.file, first.line
                );
                let field = "metadata.name".to_owned();
                Problem { file: again.file, line: again.line, field, message }
            }));
        }
        self.lost(options, &mut problems);
        settle(&mut problems);
        problems
    }

    /// What the commit's author should know though it can be admitted.
    pub fn warnings(&self) -> Vec<Problem> {
        let mut warnings = self.telling().flat_map(|f| f.warnings.iter().cloned()).collect();
        settle(&mut warnings);
        warnings
    }

    fn telling(&self) -> impl Iterator<Item = &Arc<FileResult>> {
        self.told.iter().filter_map(|path| self.files.get(path))
    }

    /// Objects in namespaces that do not exist.
    fn lost(&self, options: &Options, problems: &mut Vec<Problem>) {
        let exists = |namespace: &str| {
            namespace.is_empty()
                || BUILT_IN.contains(&namespace)
                || options.live_namespaces.contains(namespace)
                || self.contains(&Key::of::<Namespace>("", namespace))
        };
        let lost: BTreeSet<&SmolStr> =
            self.namespaces.keys().filter(|namespace| !exists(namespace)).collect();
        if lost.is_empty() {
            return;
        }
        for (key, found) in self.objects().filter(|(key, _)| lost.contains(&key.namespace)) {
            problems.push(Problem {
                file: found.file,
                line: found.line,
                field: "metadata.namespace".to_owned(),
                message: format!(
                    "namespaces {:?} not found: add a Namespace to the repository",
                    key.namespace.as_str()
                ),
            });
        }
    }
}

/// Counts one less; what comes to nothing goes.
fn fewer<K: Ord + Clone, N: Copy>(
    counts: &mut OrdMap<K, N>,
    key: &K,
    less: impl Fn(N) -> Option<N>,
) {
    match counts.get(key).copied().and_then(less) {
        Some(left) => counts.insert(key.clone(), left),
        None => counts.remove(key),
    };
}

/// Orders by file and line (what belongs to no line last) and cuts what nobody would read.
fn settle(problems: &mut Vec<Problem>) {
    let place = |p: &Problem| (p.line.wrapping_sub(1), p.field.clone());
    problems.sort_by(|a, b| a.file.cmp(&b.file).then_with(|| place(a).cmp(&place(b))));
    // A file that several kustomizations read has the same to tell each time.
    problems.dedup();
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    if more > 0 {
        problems.truncate(PROBLEMS_MAX);
        let message = format!("and {more} more in this commit");
        problems.push(Problem { message, ..Problem::default() });
    }
}
