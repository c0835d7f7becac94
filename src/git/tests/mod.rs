//! Real git on the other side: repositories on disk, `git http-backend`, `sshd` where it is
//! installed.

mod branches;
mod desk;
mod fetching;
mod folders;
mod packing;
mod reading;
mod receiving;
mod remotes;
mod reverting;
mod server;
mod signing;
mod ssh_server;
mod watching;
mod writing;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{Auth, Limits, Message, Mirror, Person, Reader, Reference, Remote};
use crate::model::{CommitId, Timestamp};

/// Enough for a loaded machine; no test waits for it to pass.
const WITHIN: Duration = Duration::from_secs(60);

/// A bare repository, a clone of it to commit in, and room for mirrors.
struct World {
    dir: TempDir,
}

/// What `git` printed; it must have succeeded.
fn git(dir: &Path, args: &[&str]) -> String {
    git_with(dir, args, b"")
}

fn git_with(dir: &Path, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "Ann"), ("GIT_AUTHOR_EMAIL", "ann@example.org")])
        .envs([("GIT_COMMITTER_NAME", "Bob"), ("GIT_COMMITTER_EMAIL", "bob@example.org")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {words}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn id(text: &str) -> CommitId {
    CommitId::parse(text).unwrap_or_else(|| panic!("{text:?} is no commit id"))
}

fn main_branch() -> Reference {
    Reference::Branch("main".into())
}

fn person() -> Person {
    let at = Timestamp(1_700_000_000_000);
    Person { name: "mainstay".into(), email: "mainstay@example.org".into(), at }
}

fn message(subject: &str) -> Message {
    Message { subject: subject.into(), ..Message::default() }
}

fn is_yaml(path: &str) -> bool {
    path.ends_with(".yaml")
}

fn limits() -> Limits {
    Limits::default()
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(world.root()).unwrap();
        git(&world.root(), &["init", "--bare", "-q", "-b", "main", "origin.git"]);
        git(&world.origin(), &["config", "http.receivepack", "true"]);
        git(world.dir.path(), &["init", "-q", "-b", "main", "work"]);
        git(&world.work(), &["remote", "add", "origin", world.origin().to_str().unwrap()]);
        world
    }

    /// The folder a server serves.
    fn root(&self) -> PathBuf {
        self.dir.path().join("served")
    }

    fn origin(&self) -> PathBuf {
        self.root().join("origin.git")
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn url(&self) -> String {
        format!("file://{}", self.origin().display())
    }

    /// Commits files in the clone and pushes them by force.
    fn commit(&self, files: &[(&str, &str)], message: &str) -> CommitId {
        for (path, content) in files {
            let path = self.work().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "--allow-empty", "-m", message]);
        self.push()
    }

    fn push(&self) -> CommitId {
        git(&self.work(), &["push", "-q", "--force", "origin", "HEAD:main"]);
        self.head()
    }

    fn head(&self) -> CommitId {
        id(&git(&self.work(), &["rev-parse", "HEAD"]))
    }

    fn mirror(&self, name: &str) -> Mirror {
        self.mirror_of(name, &self.url())
    }

    fn mirror_of(&self, name: &str, url: &str) -> Mirror {
        let remote = Remote::new(url, main_branch(), Auth::None).unwrap();
        Mirror::open(self.dir.path().join(name), remote).unwrap()
    }

    /// A fetched mirror and its reader.
    fn reader(&self) -> Reader {
        let mirror = self.mirror("reader");
        mirror.fetch(WITHIN).unwrap();
        mirror.reader().unwrap()
    }

    /// A commit with exactly this root tree, given as raw bytes, on main.
    fn commit_raw_tree(&self, entries: &[(&str, &[u8], &str)]) -> CommitId {
        let mut raw = Vec::new();
        for (mode, name, object) in entries {
            raw.extend_from_slice(mode.as_bytes());
            raw.push(b' ');
            raw.extend_from_slice(name);
            raw.push(0);
            let byte = |at: usize| u8::from_str_radix(&object[at..at + 2], 16).unwrap();
            raw.extend((0..40).step_by(2).map(byte));
        }
        let origin = self.origin();
        let write = ["hash-object", "-w", "-t", "tree", "--literally", "--stdin"];
        let tree = git_with(&origin, &write, &raw);
        let commit = git(&origin, &["commit-tree", &tree, "-m", "odd"]);
        git(&origin, &["update-ref", "refs/heads/main", &commit]);
        id(&commit)
    }

    fn blob(&self, content: &str) -> String {
        git_with(&self.origin(), &["hash-object", "-w", "--stdin"], content.as_bytes())
    }

    /// 10,000 small files in 100 folders on main.
    fn ten_thousand(&self) -> CommitId {
        let mut stream = String::from(
            "commit refs/heads/main\ncommitter Bob <bob@example.org> 1700000000 +0000\n\
             data 3\nall\n",
        );
        for n in 0..10_000 {
            let content = format!("name: object-{n}\n");
            let (folder, len) = (n / 100, content.len());
            stream +=
                &format!("M 100644 inline apps/{folder:02}/{n}.yaml\ndata {len}\n{content}\n");
        }
        git_with(&self.origin(), &["fast-import", "--quiet"], stream.as_bytes());
        git(&self.work(), &["pull", "-q", "origin", "main"]);
        self.head()
    }

    fn hook(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.origin().join("hooks").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
