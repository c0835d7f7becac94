//! New objects on their way into a repository: a few go as files of their own, many as one pack.
//!
//! An object by itself is a file that the kernel makes, writes and renames, and the first status
//! commit of a large cluster has tens of thousands. A pack is two files whatever it holds, and both
//! are on the disk before anything names what is in them.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use flate2::{Compress, Compression, FlushCompress, Status};
use git2::{Indexer, ObjectType, Odb, OdbLookupFlags, Oid, Repository};
use sha1::{Digest, Sha1};

use super::error::{Error, Result};

/// From so many objects on they go as one pack; with fewer, packs would pile up. Git's own
/// `transfer.unpackLimit`.
pub(super) const PACK_OBJECTS_MIN: usize = 100;

/// Objects that a repository does not have yet, each behind all that it points to. Nothing of them
/// is on the disk before [`Batch::write`].
pub(super) struct Batch<'a> {
    pub(super) repo: &'a Repository,
    store: Odb<'a>,
    ids: BTreeSet<Oid>,
    objects: Vec<New<'a>>,
}

struct New<'a> {
    kind: ObjectType,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Batch<'a> {
    /// Nothing yet, on its way into `repo`.
    pub(super) fn new(repo: &'a Repository) -> Result<Self> {
        let store = repo.odb()?;
        // Once: looking again for packs at each object that is new would cost more than the object.
        store.refresh()?;
        Ok(Self { repo, store, ids: BTreeSet::new(), objects: Vec::new() })
    }

    /// Whether the repository has an object, or will once this is written.
    pub(super) fn has(&self, id: Oid) -> bool {
        self.ids.contains(&id) || self.store.exists_ext(id, OdbLookupFlags::NO_REFRESH)
    }

    /// Takes an object, where it is new; gives its id.
    pub(super) fn add(&mut self, kind: ObjectType, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Oid> {
        let bytes = bytes.into();
        let id = Oid::hash_object(kind, &bytes)?;
        if !self.has(id) {
            self.ids.insert(id);
            self.objects.push(New { kind, bytes });
        }
        Ok(id)
    }

    /// Puts what was taken into the repository. A crash leaves nothing that names what is not
    /// there.
    pub(super) fn write(self) -> Result<()> {
        if self.objects.len() >= PACK_OBJECTS_MIN {
            return write_pack(self.repo, &self.objects);
        }
        for New { kind, bytes } in &self.objects {
            self.store.write(*kind, bytes)?;
        }
        Ok(())
    }
}

/// Writes a pack and its index; they get their names when they are whole, and are on the disk when
/// this returns.
fn write_pack(repo: &Repository, objects: &[New<'_>]) -> Result<()> {
    let dir = repo.commondir().join("objects/pack");
    let disk = |cause: io::Error| Error::disk(&dir, &cause);
    fs::create_dir_all(&dir).map_err(disk)?;
    let mut pack = Pack { indexer: Indexer::new(None, &dir, 0o444, false)?, sum: Sha1::new() };
    pack.all(objects).map_err(disk)?;
    let name = pack.indexer.commit()?;
    for ending in ["pack", "idx"] {
        sync(&dir.join(format!("pack-{name}.{ending}")))?;
    }
    sync(&dir)
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|cause| Error::disk(path, &cause))
}

/// A pack that is being written, as git-scm.com/docs/gitformat-pack says. Nothing in it is told by
/// its difference to something else: what is read again soon is read at once.
struct Pack {
    indexer: Indexer<'static>,
    sum: Sha1,
}

impl Pack {
    fn all(&mut self, objects: &[New<'_>]) -> io::Result<()> {
        let count = u32::try_from(objects.len()).map_err(io::Error::other)?;
        self.put(b"PACK\0\0\0\x02")?;
        self.put(&count.to_be_bytes())?;
        let mut press = Compress::new(Compression::fast(), true);
        let mut entry = Vec::new();
        for object in objects {
            entry.clear();
            head(object.kind, object.bytes.len(), &mut entry);
            compressed(&mut press, &object.bytes, &mut entry)?;
            self.put(&entry)?;
        }
        let sum = self.sum.finalize_reset();
        self.indexer.write_all(&sum)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.indexer.write_all(bytes)
    }
}

/// What stands before an object: its kind and its size, seven bits to a byte, the last four bits of
/// the size first.
fn head(kind: ObjectType, bytes: usize, to: &mut Vec<u8>) {
    let kind: u8 = match kind {
        ObjectType::Commit => 1,
        ObjectType::Tree => 2,
        ObjectType::Tag => 4,
        ObjectType::Any | ObjectType::Blob => 3,
    };
    let (mut byte, mut left) = (kind << 4 | (bytes & 0xf) as u8, bytes >> 4);
    while left > 0 {
        to.push(byte | 0x80);
        (byte, left) = ((left & 0x7f) as u8, left >> 7);
    }
    to.push(byte);
}

fn compressed(press: &mut Compress, bytes: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    press.reset();
    loop {
        to.reserve(bytes.len() / 2 + 64);
        let done = usize::try_from(press.total_in()).map_err(io::Error::other)?;
        let status = press.compress_vec(&bytes[done..], to, FlushCompress::Finish)?;
        if status == Status::StreamEnd {
            return Ok(());
        }
    }
}
