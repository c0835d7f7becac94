//! Volumes and the small files of pods, on disk.
//!
//! `<root>/pods/<uid>/` holds what may be on a disk, `<memory>/pods/<uid>/` what must not (Secrets,
//! `medium: Memory`): `volumes/<name>` with the content, `written/<name>` with the name of the
//! content. Calls block; the caller moves them off the event loop.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use super::failpoint;
use crate::node::{
    Assignment,
    assignment::Mount,
    volumes::{File, Files, HostKind, Source, VolumeSpec},
};

/// Most bytes of a termination message (Kubernetes' own limit).
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// Where pods' files are.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    memory: PathBuf,
}

impl Disk {
    /// `root` is on a disk (`/var/lib/mainstay`), `memory` on a tmpfs (`/run/mainstay`).
    pub fn new(root: impl Into<PathBuf>, memory: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), memory: memory.into() }
    }

    /// The volumes of every pod that has a directory, by uid and name, with the name of what was
    /// written last.
    pub fn list(&self) -> io::Result<BTreeMap<String, BTreeMap<String, String>>> {
        let mut pods = BTreeMap::new();
        for base in [&self.root, &self.memory] {
            for uid in names(&base.join("pods"))? {
                let written = self.written(base, &uid)?;
                pods.entry(uid).or_insert_with(BTreeMap::new).extend(written);
            }
        }
        Ok(pods)
    }

    /// The volumes of one pod; `None` when it has no directory.
    pub fn pod(&self, uid: &str) -> io::Result<Option<BTreeMap<String, String>>> {
        let uid = component(uid)?;
        let mut found = None;
        for base in [&self.root, &self.memory] {
            if base.join("pods").join(uid).is_dir() {
                found.get_or_insert_with(BTreeMap::new).extend(self.written(base, uid)?);
            }
        }
        Ok(found)
    }

    fn written(&self, base: &Path, uid: &str) -> io::Result<BTreeMap<String, String>> {
        let dir = base.join("pods").join(uid).join("written");
        let read = |name: String| Ok((name.clone(), fs::read_to_string(dir.join(&name))?));
        names(&dir)?.into_iter().map(read).collect()
    }

    /// Brings every volume that can be made to its wanted content; the name is written after the
    /// content, so what was interrupted is done again.
    pub fn write(&self, want: &Assignment) -> io::Result<()> {
        let uid = component(&want.uid)?;
        let have = self.pod(uid)?.unwrap_or_default();
        directory(&self.root.join("pods").join(uid), 0o700)?;
        failpoint::reached("after-pod-directory");
        for volume in &want.volumes {
            let hash = volume.hash();
            if have.get(&volume.name) == Some(&hash) {
                continue;
            }
            let Ok(source) = &volume.source else { continue };
            self.write_one(uid, volume, source).map_err(|e| explain(volume, &e))?;
            failpoint::reached("after-volume");
            let dir = self.base(source).join("pods").join(uid).join("written");
            directory(&dir, 0o700)?;
            replace(&dir.join(component(&volume.name)?), hash.as_bytes(), 0o600)?;
            failpoint::reached("after-volume-written");
        }
        Ok(())
    }

    fn base(&self, source: &Source) -> &Path {
        match source {
            Source::Files(Files { secret: true, .. }) | Source::Empty { memory: true } => {
                &self.memory
            }
            _ => &self.root,
        }
    }

    fn write_one(&self, uid: &str, volume: &VolumeSpec, source: &Source) -> io::Result<()> {
        let pod = self.base(source).join("pods").join(uid);
        directory(&pod, 0o700)?;
        let dir = pod.join("volumes").join(component(&volume.name)?);
        match source {
            Source::Host { path, kind } => host(Path::new(path), *kind),
            Source::Empty { .. } => owned_directory(&dir, 0o777, volume.group),
            Source::Files(files) => {
                owned_directory(&dir, 0o755, volume.group)?;
                swap(&dir, files, volume)
            }
        }
    }

    /// The path on the node that appears in a container at `mount`. What was written once serves a
    /// container that starts again while nobody can say what it should hold now: no server gives
    /// a token, a ConfigMap is gone.
    pub fn mount_source(&self, want: &Assignment, mount: &Mount) -> io::Result<PathBuf> {
        let not_ready = || io::Error::other(format!("volume {:?} is not ready", mount.volume));
        let volume = want.volumes.iter().find(|v| v.name == mount.volume).ok_or_else(not_ready)?;
        let below = |base: &Path| -> io::Result<PathBuf> {
            let pod = base.join("pods").join(component(&want.uid)?);
            Ok(pod.join("volumes").join(component(&mount.volume)?))
        };
        let base = match &volume.source {
            Ok(Source::Host { path, .. }) => PathBuf::from(path),
            Ok(source) => below(self.base(source))?,
            Err(_) => {
                let kept = [below(&self.memory)?, below(&self.root)?];
                kept.into_iter().find(|dir| dir.exists()).ok_or_else(not_ready)?
            }
        };
        if mount.sub_path.is_empty() { Ok(base) } else { sub_path(&base, &mount.sub_path) }
    }

    /// Writes a file of the pod that is mounted into its containers (`hosts`, `resolv.conf`) and
    /// returns its path.
    pub fn pod_file(&self, uid: &str, name: &str, text: &str) -> io::Result<PathBuf> {
        let dir = self.root.join("pods").join(component(uid)?).join("etc");
        directory(&dir, 0o700)?;
        let path = dir.join(component(name)?);
        // A bind mount holds the file, not its name: containers that are already there see a change
        // only when the file itself is written.
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            fs::write(&path, text)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        Ok(path)
    }

    /// The file in which a container may leave its last words; made empty.
    pub fn message_file(&self, uid: &str, name: &str, attempt: u32) -> io::Result<PathBuf> {
        let path = self.message_path(uid, name, attempt)?;
        if let Some(dir) = path.parent() {
            directory(dir, 0o700)?;
        }
        fs::write(&path, "")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        Ok(path)
    }

    fn message_path(&self, uid: &str, name: &str, attempt: u32) -> io::Result<PathBuf> {
        let dir = self.root.join("pods").join(component(uid)?).join("messages");
        Ok(dir.join(format!("{}-{attempt}", component(name)?)))
    }

    /// What a container left as its last words.
    pub fn message(&self, uid: &str, name: &str, attempt: u32) -> String {
        let read = || {
            let file = fs::File::open(self.message_path(uid, name, attempt)?)?;
            let mut bytes = vec![];
            io::Read::read_to_end(&mut io::Read::take(file, MESSAGE_BYTES_MAX as u64), &mut bytes)?;
            io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        // No message is the usual case, and one that cannot be read is none.
        read().unwrap_or_default()
    }

    /// Removes everything of a pod. Host paths are not its own and stay.
    pub fn remove(&self, uid: &str) -> io::Result<()> {
        let uid = component(uid)?;
        for base in [&self.memory, &self.root] {
            match fs::remove_dir_all(base.join("pods").join(uid)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            failpoint::reached("after-directory-part");
        }
        Ok(())
    }
}

fn explain(volume: &VolumeSpec, e: &io::Error) -> io::Error {
    let text = format!("MountVolume.SetUp failed for volume {:?} : {e}", volume.name);
    io::Error::new(e.kind(), text)
}

/// One part of a path, given by a server: it must not lead elsewhere.
fn component(name: &str) -> io::Result<&str> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ok = !name.is_empty() && !name.starts_with('.') && name.bytes().all(fine);
    if ok { Ok(name) } else { Err(io::Error::other(format!("{name:?} cannot name a file"))) }
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries?,
    };
    let mut names = vec![];
    for entry in entries {
        // What we did not name ourselves (`lost+found` is fine, `.nfs…` is not ours) is left alone.
        names.extend(entry?.file_name().into_string().ok().filter(|n| component(n).is_ok()));
    }
    Ok(names)
}

fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A directory of a group: what is made in it is the group's too.
fn owned_directory(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    const OF_GROUP: u32 = 0o2050;
    directory(path, mode)?;
    if group.is_some() {
        chown(path, None, group)?;
        // After the change of owner, which takes the bit away.
        fs::set_permissions(path, fs::Permissions::from_mode(mode | OF_GROUP))?;
    }
    Ok(())
}

/// Puts a file in place whole.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("..tmp");
    let temporary = path.with_file_name(format!(".{}", name.to_string_lossy()));
    write(&temporary, bytes, mode)?;
    fs::rename(&temporary, path)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, bytes)?;
    // Not at creation: there the umask would take bits away.
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Writes a file for its user and group; the group may read it.
fn write_owned(path: &Path, file: &File, group: Option<u32>) -> io::Result<()> {
    const OF_GROUP: u32 = 0o440;
    let mode = if group.is_some() { file.mode | OF_GROUP } else { file.mode };
    write(path, &file.bytes, mode)?;
    match (file.user, group) {
        (None, None) => Ok(()),
        (user, group) => chown(path, user, group),
    }
}

/// Replaces all files at once, as the kubelet does: the content lies in a directory of its own,
/// `..data` points to it, and every name points through `..data`. A reader sees the old files or
/// the new ones, never a mixture.
fn swap(dir: &Path, files: &Files, volume: &VolumeSpec) -> io::Result<()> {
    let fresh = format!("..{}", volume.hash());
    let _absent = fs::remove_dir_all(dir.join(&fresh));
    owned_directory(&dir.join(&fresh), 0o755, volume.group)?;
    for (path, file) in &files.files {
        let mut at = dir.join(&fresh);
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            at.push(part);
            if parts.peek().is_some() && !at.is_dir() {
                owned_directory(&at, 0o755, volume.group)?;
            }
        }
        write_owned(&at, file, volume.group)?;
    }
    let temporary = dir.join("..data_tmp");
    let _absent = fs::remove_file(&temporary);
    symlink(&fresh, &temporary)?;
    fs::rename(&temporary, dir.join("..data"))?;
    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let tops: std::collections::BTreeSet<String> = files.files.keys().map(first).collect();
    for top in &tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(top), &link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("..") && name != "..data" && name != fresh {
            fs::remove_dir_all(dir.join(&*name))?;
        } else if !name.starts_with("..") && !tops.contains(&*name) {
            fs::remove_file(dir.join(&*name))?;
        }
    }
    Ok(())
}

fn host(path: &Path, kind: HostKind) -> io::Result<()> {
    let meta = fs::metadata(path);
    let must = |ok: fn(&fs::FileType) -> bool, what: &str| match &meta {
        Ok(meta) if ok(&meta.file_type()) => Ok(()),
        _ => Err(io::Error::other(format!(
            "hostPath type check failed: {} is not a {what}",
            path.display()
        ))),
    };
    match kind {
        HostKind::Any => Ok(()),
        HostKind::Directory => must(fs::FileType::is_dir, "directory"),
        HostKind::File => must(fs::FileType::is_file, "file"),
        HostKind::Socket => must(FileTypeExt::is_socket, "socket file"),
        HostKind::CharDevice => must(FileTypeExt::is_char_device, "character device"),
        HostKind::BlockDevice => must(FileTypeExt::is_block_device, "block device"),
        HostKind::DirectoryOrCreate if meta.is_err() => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
        }
        HostKind::DirectoryOrCreate => must(fs::FileType::is_dir, "directory"),
        HostKind::FileOrCreate if meta.is_err() => write(path, b"", 0o644),
        HostKind::FileOrCreate => must(fs::FileType::is_file, "file"),
    }
}

/// The part of a volume at `sub`, made as a directory when absent. A symlink that leads out of the
/// volume is refused.
fn sub_path(base: &Path, sub: &str) -> io::Result<PathBuf> {
    let base = fs::canonicalize(base)?;
    let mut path = base.clone();
    for part in sub.split('/') {
        let next = path.join(part);
        if fs::symlink_metadata(&next).is_err() {
            fs::DirBuilder::new().mode(0o750).create(&next)?;
        }
        path = fs::canonicalize(&next)?;
        if !path.starts_with(&base) {
            return Err(io::Error::other(format!("subPath {sub:?} leads out of its volume")));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::{model::Key, node::volumes::VolumeSpec};

    fn pod(volumes: Vec<VolumeSpec>) -> Assignment {
        let key = Key::of::<k8s_openapi::api::core::v1::Pod>("shop", "web");
        Assignment { volumes, ..Assignment::orphan(key, "u1", std::time::Duration::ZERO) }
    }

    fn files(list: &[(&str, &str)], secret: bool) -> VolumeSpec {
        let entry = |(path, text): &(&str, &str)| {
            let file = File { bytes: text.as_bytes().to_vec(), mode: 0o640, user: None };
            ((*path).to_owned(), file)
        };
        let files = Files { files: list.iter().map(entry).collect(), secret };
        VolumeSpec { name: "v".into(), source: Ok(Source::Files(files)), group: None }
    }

    fn empty(group: Option<u32>) -> VolumeSpec {
        VolumeSpec { name: "v".into(), source: Ok(Source::Empty { memory: false }), group }
    }

    fn mount(sub_path: &str) -> Mount {
        let (volume, path) = ("v".to_owned(), "/v".to_owned());
        Mount { volume, path, sub_path: sub_path.into(), read_only: true, propagation: "" }
    }

    fn disk() -> (tempfile::TempDir, Disk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(dir.path().join("disk"), dir.path().join("memory"));
        (dir, disk)
    }

    #[test]
    fn what_was_written_serves_while_nobody_says_what_it_should_be() {
        let (_dir, disk) = disk();
        let unknown = || VolumeSpec { source: Err("no token".into()), ..files(&[], true) };
        let refused = disk.mount_source(&pod(vec![unknown()]), &mount("")).unwrap_err();
        assert_eq!(refused.to_string(), "volume \"v\" is not ready");
        let known = pod(vec![files(&[("token", "t")], true)]);
        disk.write(&known).unwrap();
        let want = pod(vec![unknown()]);
        disk.write(&want).unwrap();
        let at = disk.mount_source(&want, &mount("")).unwrap();
        assert_eq!(at, disk.mount_source(&known, &mount("")).unwrap());
        assert_eq!(fs::read_to_string(at.join("token")).unwrap(), "t");
    }

    #[test]
    fn files_change_all_at_once_and_leave_nothing_behind() {
        let (_dir, disk) = disk();
        let want = pod(vec![files(&[("a", "1"), ("x/y", "2")], false)]);
        disk.write(&want).unwrap();
        let at = disk.mount_source(&want, &mount("")).unwrap();
        assert_eq!(fs::read_to_string(at.join("x/y")).unwrap(), "2");
        let mode = fs::metadata(at.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let hash = want.volumes[0].hash();
        assert_eq!(disk.pod("u1").unwrap().unwrap().get("v"), Some(&hash));

        let want = pod(vec![files(&[("a", "new"), ("b", "3")], false)]);
        disk.write(&want).unwrap();
        assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "new");
        let mut left: Vec<_> = fs::read_dir(&at)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let fresh = format!("..{}", want.volumes[0].hash());
        let mut expect = vec![fresh, "..data".into(), "a".into(), "b".into()];
        expect.sort();
        assert_eq!(left, expect);

        disk.remove("u1").unwrap();
        assert_eq!(disk.pod("u1").unwrap(), None);
        assert_eq!(disk.list().unwrap(), BTreeMap::new());
    }

    /// Only root gives files away; without it there is nothing to see.
    #[test]
    fn a_group_reads_files_and_writes_directories() {
        let (dir, disk) = disk();
        let probe = dir.path().join("probe");
        fs::write(&probe, "").unwrap();
        if chown(&probe, Some(7), Some(7)).is_err() {
            return eprintln!("skipped: needs root");
        }
        let facts = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.permissions().mode() & 0o7777, MetadataExt::uid(&meta), MetadataExt::gid(&meta))
        };
        let mut volume = files(&[("a", "1"), ("x/y", "2")], true);
        volume.group = Some(2000);
        if let Ok(Source::Files(files)) = &mut volume.source {
            let token = File { bytes: b"t".to_vec(), mode: 0o600, user: Some(65532) };
            files.files.insert("token".into(), token);
        }
        let want = pod(vec![volume]);
        disk.write(&want).unwrap();
        let at = disk.mount_source(&want, &mount("")).unwrap();
        assert_eq!(facts(&at), (0o2755, 0, 2000));
        assert_eq!(facts(&at.join("a")), (0o640, 0, 2000));
        assert_eq!(facts(&at.join("x")), (0o2755, 0, 2000));
        assert_eq!(facts(&at.join("token")), (0o640, 65532, 2000));
        disk.remove("u1").unwrap();
        let want = pod(vec![empty(Some(2000))]);
        disk.write(&want).unwrap();
        assert_eq!(facts(&disk.mount_source(&want, &mount("")).unwrap()), (0o2777, 0, 2000));
    }

    #[test]
    fn secrets_never_touch_the_disk() {
        let (dir, disk) = disk();
        disk.write(&pod(vec![files(&[("pw", "hunter2")], true)])).unwrap();
        let text = |base: &str| {
            let path = dir.path().join(base).join("pods/u1/volumes/v/pw");
            fs::read_to_string(path).ok()
        };
        assert_eq!(text("memory").as_deref(), Some("hunter2"));
        assert_eq!(text("disk"), None);
    }

    #[test]
    fn a_sub_path_cannot_leave_its_volume() {
        let (_dir, disk) = disk();
        let want = pod(vec![empty(None)]);
        disk.write(&want).unwrap();
        let at = disk.mount_source(&want, &mount("")).unwrap();
        assert_eq!(disk.mount_source(&want, &mount("a/b")).unwrap(), at.join("a/b"));
        symlink("/etc", at.join("out")).unwrap();
        let refused = disk.mount_source(&want, &mount("out/passwd")).unwrap_err();
        assert_eq!(refused.to_string(), "subPath \"out/passwd\" leads out of its volume");
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        let (_dir, disk) = disk();
        for bad in ["", "..", "a/b", ".hidden", "/etc"] {
            assert!(disk.pod(bad).is_err(), "{bad:?}");
            assert!(disk.remove(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn host_paths_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        assert!(host(&new, HostKind::Directory).is_err());
        host(&new, HostKind::DirectoryOrCreate).unwrap();
        host(&new, HostKind::Directory).unwrap();
        assert!(host(&new, HostKind::File).is_err());
        host(&dir.path().join("f"), HostKind::FileOrCreate).unwrap();
        host(&dir.path().join("f"), HostKind::File).unwrap();
        host(Path::new("/dev/null"), HostKind::CharDevice).unwrap();
    }
}
