//! The commit that was read last, so that the next one costs what it changes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use imbl::OrdMap;
use smol_str::SmolStr;

use super::import::Error;
use crate::{
    git::{self, BlobId, Change, File, Files, Limits, Mirror, Reader},
    model::{CommitId, Key, Problem},
    render::{self, FileResult, Ignore, Picture},
    state::View,
};

/// After so many commits that were read as a difference one is listed whole: the bounds of a whole commit (files,
/// bytes) are only counted then.
const DIFFS_MAX: u32 = 100;

/// Files from which on more than one thread renders; below, starting threads costs more than it saves.
const PARALLEL_FILES_MIN: usize = 64;

/// Most threads that render. More would take the processors from the log while a large commit comes in.
const THREADS_MAX: usize = 4;

/// Files a thread takes at a time.
const BATCH_FILES: usize = 16;

/// One commit, read and rendered. Cheap to clone.
#[derive(Clone)]
pub(super) struct Known {
    commit: CommitId,
    rules: Vec<u8>,
    blobs: OrdMap<SmolStr, BlobId>,
    picture: Picture,
    /// What the tree itself has that cannot be used. A commit with any is no base for a difference.
    problems: Vec<Problem>,
    diffs: u32,
    /// The commit that this server admitted last, and the keys whose files changed since.
    admitted: Option<CommitId>,
    touched: BTreeSet<Key>,
}

impl Known {
    /// Reads a commit; from the difference to `before` where that is exact, with the unchanged files of it otherwise.
    pub(super) fn read(
        mirror: &Mirror,
        commit: &CommitId,
        root: &str,
        before: Option<Self>,
    ) -> Result<Self, Error> {
        let reader = mirror.reader()?;
        let rules = reader.read_path(commit, render::IGNORE_FILE)?.unwrap_or_default();
        let ignore = Ignore::parse(&rules);
        let is_wanted = |path: &str| ignore.is_manifest(path);
        let exact = |b: &Self| b.problems.is_empty() && b.diffs < DIFFS_MAX && b.rules == rules;
        let mut known = before.unwrap_or_else(|| Self::nothing(commit));
        let diff = match exact(&known) && !known.blobs.is_empty() {
            // The mirror may have been made anew without the older commit: then everything is listed.
            true => reader.diff(&known.commit, commit, root, &is_wanted, &Limits::default()).ok(),
            false => None,
        };
        let (changed, gone) = match diff {
            Some(diff) => {
                known.diffs += 1;
                known.problems = diff.problems;
                split(diff.changes)
            }
            None => {
                let files = reader.files(commit, root, &is_wanted, &Limits::default())?;
                known.diffs = 0;
                known.against(files)
            }
        };
        known.take(reader, changed, &gone)?;
        known.commit = commit.clone();
        known.rules = rules;
        Ok(known)
    }

    fn nothing(commit: &CommitId) -> Self {
        Self {
            commit: commit.clone(),
            rules: Vec::new(),
            blobs: OrdMap::new(),
            picture: Picture::default(),
            problems: Vec::new(),
            diffs: 0,
            admitted: None,
            touched: BTreeSet::new(),
        }
    }

    /// What a whole listing has that is new here, and the paths it no longer has.
    fn against(&mut self, files: Files) -> (Vec<File>, Vec<String>) {
        self.problems = files.problems;
        let listed: BTreeSet<&str> = files.files.iter().map(|f| f.path.as_str()).collect();
        let gone = self.blobs.keys().filter(|path| !listed.contains(path.as_str()));
        let gone = gone.map(SmolStr::to_string).collect();
        let is_new = |file: &File| self.blobs.get(file.path.as_str()) != Some(&file.blob);
        (files.files.into_iter().filter(is_new).collect(), gone)
    }

    fn take(&mut self, reader: Reader, changed: Vec<File>, gone: &[String]) -> Result<(), Error> {
        for path in gone {
            self.blobs.remove(path.as_str());
            self.picture.remove(path, &mut self.touched);
        }
        for (blob, result) in rendered(reader, changed)? {
            self.blobs.insert(SmolStr::from(&result.path), blob);
            self.picture.put(Arc::new(result), &mut self.touched);
        }
        Ok(())
    }

    /// The commit.
    pub(super) fn commit(&self) -> &CommitId {
        &self.commit
    }

    /// What its files say together.
    pub(super) fn picture(&self) -> &Picture {
        &self.picture
    }

    /// What the tree has that cannot be used.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The keys that may differ from State: those whose files changed since the head was read, and those whose object
    /// went away. `None` when the head is not what this server made it: then everything may differ.
    pub(super) fn suspects(&self, view: &View) -> Option<BTreeSet<Key>> {
        let head = view.head().map(|h| &h.commit);
        (head.is_some() && head == self.admitted.as_ref())
            .then(|| self.touched.iter().chain(view.drifted()).cloned().collect())
    }

    /// Remembers that State is now as this commit says.
    pub(super) fn admitted(&mut self, commit: &CommitId) {
        if self.commit == *commit {
            self.admitted = Some(commit.clone());
            self.touched.clear();
        }
    }
}

fn split(changes: Vec<(String, Change)>) -> (Vec<File>, Vec<String>) {
    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    for (path, change) in changes {
        match change {
            Change::Added(blob) | Change::Modified { to: blob, .. } => {
                changed.push(File { path, blob });
            }
            Change::Removed(_) => gone.push(path),
        }
    }
    (changed, gone)
}

/// Files that wait for a thread, and the reader they come from: one thread reads at a time, all of them render.
struct Queue {
    reader: Reader,
    files: std::vec::IntoIter<File>,
}

impl Queue {
    fn next(&mut self) -> git::Result<Vec<(File, Vec<u8>)>> {
        let files = self.files.by_ref().take(BATCH_FILES);
        files.map(|file| self.reader.read(file.blob).map(|bytes| (file, bytes))).collect()
    }
}

/// Reads and renders files.
fn rendered(reader: Reader, files: Vec<File>) -> Result<Vec<(BlobId, FileResult)>, Error> {
    let threads = match files.len() {
        0..PARALLEL_FILES_MIN => 1,
        _ => thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
    };
    let queue = Mutex::new(Queue { reader, files: files.into_iter() });
    let work = || {
        let mut results = Vec::new();
        loop {
            let batch = queue.lock().unwrap_or_else(PoisonError::into_inner).next()?;
            if batch.is_empty() {
                return Ok(results);
            }
            let render = |(file, bytes): (File, Vec<u8>)| {
                (file.blob, render::render_file(&file.path, &bytes))
            };
            results.extend(batch.into_iter().map(render));
        }
    };
    if threads == 1 {
        return work();
    }
    let results: Vec<Result<_, Error>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    });
    let parts = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(parts.into_iter().flatten().collect())
}
