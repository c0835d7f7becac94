//! The files of a commit as bytes by path: a walk over tree objects, never a work tree.

use std::fmt;

use git2::{Oid, TreeEntry};

use super::{
    error::{Error, Result},
    mirror::Reader,
};
use crate::model::{CommitId, Problem};

/// Most entries (files and folders) looked at in one commit. Ten times the largest repository of
/// manifests known to us; a commit with more is given a problem and its listing ends.
pub const COMMIT_ENTRIES_MAX: usize = 1_000_000;

/// Most bytes of one wanted file. Twice what Kubernetes accepts for one object (1.5 MiB in etcd) as
/// YAML.
pub const FILE_BYTES_MAX: u64 = 3 << 20;

/// Most bytes of all wanted files of a commit together, so that a server can hold them: 10,000
/// objects of 1.5 KB are 15 MB.
pub const COMMIT_BYTES_MAX: u64 = 256 << 20;

/// Deepest folder that is looked into.
pub const TREE_DEPTH_MAX: usize = 64;

/// Longest path in bytes, as Linux' `PATH_MAX`.
pub const PATH_BYTES_MAX: usize = 4096;

/// Most problems given for one commit; the last one says that there are more.
pub const COMMIT_PROBLEMS_MAX: usize = 1000;

const SYMLINK: i32 = 0o120_000;
const SUBMODULE: i32 = 0o160_000;
const FOLDER: i32 = 0o040_000;
const TYPE_MASK: i32 = 0o170_000;

/// The id of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub(super) Oid);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One wanted file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// Path inside the repository, `/` between the parts.
    pub path: String,
    /// Its content; read it with [`Reader::read`].
    pub blob: BlobId,
}

/// The wanted files of a commit, and what in it cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Sorted by path, each path once.
    pub files: Vec<File>,
    /// Links, submodules, odd names, files over the bounds; sorted by path.
    pub problems: Vec<Problem>,
}

/// What is at a path of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// A file.
    File(BlobId),
    /// A folder.
    Folder,
    /// A link or a submodule, which is not followed.
    Unfollowed,
    /// Nothing.
    Nothing,
}

/// The bounds of one commit. `Limits::default()` has the constants of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`COMMIT_ENTRIES_MAX`].
    pub entries: usize,
    /// See [`FILE_BYTES_MAX`].
    pub file_bytes: u64,
    /// See [`COMMIT_BYTES_MAX`].
    pub commit_bytes: u64,
    /// See [`TREE_DEPTH_MAX`].
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: COMMIT_ENTRIES_MAX,
            file_bytes: FILE_BYTES_MAX,
            commit_bytes: COMMIT_BYTES_MAX,
            depth: TREE_DEPTH_MAX,
        }
    }
}

impl Reader {
    /// Lists the files of `commit` under `root` (empty: everything) whose path `wanted` accepts.
    ///
    /// A `root` that is not there is a problem, so that a typing error does not look like an empty
    /// commit.
    pub fn files(
        &self,
        commit: &CommitId,
        root: &str,
        wanted: &dyn Fn(&str) -> bool,
        limits: &Limits,
    ) -> Result<Files> {
        let mut walk = Walk::new(self, wanted, limits);
        match self.tree_at(commit, root)? {
            Some(tree) => walk.folder(tree, &root_prefix(root), 0)?,
            None => {
                let message = format!(
                    "the folder {root:?} is not in commit {}; create it or \
                     change the configured path",
                    commit.short()
                );
                walk.problem("", message);
            }
        }
        Ok(walk.finish())
    }

    /// The bytes of a file. One above [`COMMIT_BYTES_MAX`] is refused before it is read; a listing
    /// keeps far below.
    pub fn read(&self, blob: BlobId) -> Result<Vec<u8>> {
        let header = self.repo.odb().and_then(|odb| odb.read_header(blob.0));
        let (bytes, _) = header.map_err(|cause| self.meaning(cause))?;
        if bytes as u64 > COMMIT_BYTES_MAX {
            let reason = format!("has {bytes} bytes, more than {COMMIT_BYTES_MAX}; split it");
            return Err(Error::Argument { what: format!("file {blob}"), reason });
        }
        let found = self.repo.find_blob(blob.0).map_err(|cause| self.meaning(cause))?;
        Ok(found.content().to_vec())
    }

    /// The bytes of one file of a commit; none when it is not there or is no file.
    pub fn read_path(&self, commit: &CommitId, path: &str) -> Result<Option<Vec<u8>>> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(tree) = self.tree_at(commit, folder)? else { return Ok(None) };
        let tree = self.repo.find_tree(tree).map_err(|cause| self.meaning(cause))?;
        match tree.get_name(name) {
            Some(entry) if kind(&entry) == Kind::File => self.read(BlobId(entry.id())).map(Some),
            _ => Ok(None),
        }
    }

    /// What is at a path of a commit; the empty path is its top.
    pub fn at(&self, commit: &CommitId, path: &str) -> Result<At> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(tree) = self.tree_at(commit, folder)? else { return Ok(At::Nothing) };
        if path.is_empty() {
            return Ok(At::Folder);
        }
        let tree = self.repo.find_tree(tree).map_err(|cause| self.meaning(cause))?;
        Ok(tree.get_name(name).map_or(At::Nothing, |entry| match kind(&entry) {
            Kind::File => At::File(BlobId(entry.id())),
            Kind::Folder => At::Folder,
            Kind::Symlink | Kind::Submodule => At::Unfollowed,
        }))
    }

    /// How many bytes a file has, without reading it.
    pub fn bytes(&self, blob: BlobId) -> Result<u64> {
        let header = self.repo.odb().and_then(|odb| odb.read_header(blob.0));
        header.map(|(bytes, _)| bytes as u64).map_err(|cause| self.meaning(cause))
    }

    /// The tree of `root` in a commit; none when there is no such folder.
    pub(super) fn tree_at(&self, commit: &CommitId, root: &str) -> Result<Option<Oid>> {
        let mut id = self.find(commit)?.tree_id();
        for part in root.split('/').filter(|part| !part.is_empty()) {
            let tree = self.repo.find_tree(id).map_err(|cause| self.meaning(cause))?;
            match tree.get_name(part) {
                Some(entry) if kind(&entry) == Kind::Folder => id = entry.id(),
                _ => return Ok(None),
            }
        }
        Ok(Some(id))
    }
}

/// What the path of everything under `root` begins with.
pub(super) fn root_prefix(root: &str) -> String {
    let parts: Vec<&str> = root.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { String::new() } else { format!("{}/", parts.join("/")) }
}

/// What an entry is, by its mode as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Symlink,
    Submodule,
}

/// What an entry is.
pub(super) fn kind(entry: &TreeEntry<'_>) -> Kind {
    match entry.filemode_raw() & TYPE_MASK {
        FOLDER => Kind::Folder,
        SYMLINK => Kind::Symlink,
        SUBMODULE => Kind::Submodule,
        _ => Kind::File,
    }
}

/// Collects files and problems within the bounds; shared by listing and diff.
pub(super) struct Walk<'a> {
    pub(super) reader: &'a Reader,
    odb: Option<git2::Odb<'a>>,
    wanted: &'a dyn Fn(&str) -> bool,
    limits: &'a Limits,
    entries: usize,
    bytes: u64,
    full: bool,
    found: Files,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        reader: &'a Reader,
        wanted: &'a dyn Fn(&str) -> bool,
        limits: &'a Limits,
    ) -> Self {
        let found = Files::default();
        Self { reader, odb: None, wanted, limits, entries: 0, bytes: 0, full: false, found }
    }

    /// Everything under one tree.
    pub(super) fn folder(&mut self, id: Oid, prefix: &str, depth: usize) -> Result<()> {
        if depth > self.limits.depth {
            let deepest = self.limits.depth;
            self.problem(prefix, format!("is deeper than {deepest} folders; move it up"));
            return Ok(());
        }
        let reader = self.reader;
        let tree = reader.repo.find_tree(id).map_err(|cause| reader.meaning(cause))?;
        for entry in &tree {
            if self.full {
                return Ok(());
            }
            self.entry(&entry, prefix, depth)?;
        }
        Ok(())
    }

    /// One entry and what is under it.
    pub(super) fn entry(
        &mut self,
        entry: &TreeEntry<'_>,
        prefix: &str,
        depth: usize,
    ) -> Result<()> {
        let Some((path, kind)) = self.usable(entry, prefix) else { return Ok(()) };
        match kind {
            Kind::Folder => self.folder(entry.id(), &format!("{path}/"), depth + 1),
            _ => self.file(path, entry.id()),
        }
    }

    /// The path of an entry we may use; counts it, and notes why when we may not.
    pub(super) fn usable(&mut self, entry: &TreeEntry<'_>, prefix: &str) -> Option<(String, Kind)> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            let most = self.limits.entries;
            self.problem(
                "",
                format!("the commit has more than {most} files; split the repository"),
            );
            self.full = true;
            return None;
        }
        let name = match proper_name(entry.name_bytes()) {
            Ok(name) => name,
            Err(reason) => {
                let name = shown(entry.name_bytes());
                self.problem(&format!("{prefix}{name}"), reason.into());
                return None;
            }
        };
        let path = format!("{prefix}{name}");
        let reason = match kind(entry) {
            _ if path.len() > PATH_BYTES_MAX => "its path is longer than 4096 bytes; shorten it",
            Kind::Symlink => "is a symbolic link, which is not followed; commit the file itself",
            Kind::Submodule => "is a submodule, which is not followed; commit its files themselves",
            kind => return Some((path, kind)),
        };
        self.problem(&path, reason.into());
        None
    }

    /// Whether a path is wanted.
    pub(super) fn wants(&self, path: &str) -> bool {
        (self.wanted)(path)
    }

    /// Takes a file in, if it is wanted and within the bounds.
    pub(super) fn file(&mut self, path: String, id: Oid) -> Result<()> {
        if !self.wants(&path) {
            return Ok(());
        }
        let bytes = self.size(id)?;
        if bytes > self.limits.file_bytes {
            let most = self.limits.file_bytes;
            self.problem(&path, format!("has {bytes} bytes, more than {most}; split the file"));
            return Ok(());
        }
        self.bytes += bytes;
        if self.bytes > self.limits.commit_bytes {
            let most = self.limits.commit_bytes;
            let message = format!(
                "the files of the commit have more than {most} bytes together; split the repository"
            );
            self.problem("", message);
            self.full = true;
            return Ok(());
        }
        self.found.files.push(File { path, blob: BlobId(id) });
        Ok(())
    }

    /// Notes what is wrong, up to a bound.
    pub(super) fn problem(&mut self, file: &str, message: String) {
        let problems = &mut self.found.problems;
        if problems.len() < COMMIT_PROBLEMS_MAX {
            problems.push(Problem { file: file.into(), message, ..Problem::default() });
        } else if !self.full {
            let message = format!("there are more than {COMMIT_PROBLEMS_MAX} problems");
            problems.push(Problem { message, ..Problem::default() });
            self.full = true;
        }
    }

    /// The result in order. A path that a crafted tree holds twice is a problem, and neither is
    /// used.
    pub(super) fn finish(mut self) -> Files {
        self.found.files.sort();
        let twice: Vec<String> = (self.found.files)
            .windows(2)
            .filter(|pair| pair[0].path == pair[1].path)
            .map(|pair| pair[0].path.clone())
            .collect();
        for path in &twice {
            self.problem(path, "appears twice in its folder; rewrite the commit with git".into());
        }
        self.found.files.retain(|file| twice.binary_search(&file.path).is_err());
        self.found.problems.sort();
        self.found
    }

    fn size(&mut self, id: Oid) -> Result<u64> {
        let reader = self.reader;
        let damage = |cause| reader.meaning(cause);
        let odb = match self.odb.take() {
            Some(odb) => odb,
            None => reader.repo.odb().map_err(damage)?,
        };
        let (bytes, kind) = odb.read_header(id).map_err(damage)?;
        self.odb = Some(odb);
        if kind != git2::ObjectType::Blob {
            let reason = format!("{id} should be a file and is a {kind}");
            return Err(Error::Argument { what: "the tree of the commit".into(), reason });
        }
        Ok(bytes as u64)
    }
}

/// A name that can be one part of a path, or why it cannot. Names that file systems or Git itself
/// take for something else are refused although we never write them: a user checks the repository
/// out elsewhere.
pub(super) fn proper_name(name: &[u8]) -> std::result::Result<&str, &'static str> {
    let text = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8; rename it")?;
    let lower = text.to_ascii_lowercase();
    match text {
        "" => Err("has an empty name; rewrite the commit with git"),
        "." | ".." => Err("its name leaves the folder; rewrite the commit with git"),
        _ if text.contains('/') => Err("its name holds a '/'; rewrite the commit with git"),
        _ if text.chars().any(char::is_control) => {
            Err("its name holds control characters; rename it")
        }
        _ if lower == "git~1" || lower.trim_end_matches(['.', ' ']) == ".git" => {
            Err("its name is one of Git's own; rename it")
        }
        _ => Ok(text),
    }
}

/// A name as it may be shown: control characters cannot forge lines of a report.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .take(255)
        .collect()
}
