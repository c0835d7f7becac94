//! Servers on loopback, a repository they follow, and kubectl.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use mainstay::trust::KeyFiles;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// Generous: the machine may be busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Below the node ports, which are below those of outgoing connections.
const PORTS: Range<u16> = 20000..30000;

/// What every cluster of these tests follows: a namespace that takes writes, with one object that
/// Git owns, and one that refuses them.
const MANIFESTS: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: free
  annotations: {mainstay.io/writes: direct}
---
apiVersion: v1
kind: Namespace
metadata:
  name: closed
  annotations: {mainstay.io/writes: refuse}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: owned
  namespace: free
data: {a: b}
";

/// The oldest and the newest kubectl (`tests/kubectl/newest`), which are not the machine's own.
const PREPARED: [&str; 2] = ["1.20", "1.37"];

/// The kubectls of this machine, the default one first; empty with a printed reason.
pub(crate) fn kubectls(test: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|p| p.exists());
    let Some(found) = found else {
        eprintln!("skipped: {test}: needs kubectl");
        return Vec::new();
    };
    let real = fs::canonicalize(&found).unwrap();
    let beside = fs::read_dir(real.parent().unwrap()).into_iter().flatten().flatten();
    let is_one = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl."))
    };
    let mut others: Vec<PathBuf> = beside.map(|entry| entry.path()).filter(is_one).collect();
    for version in PREPARED {
        let above = Path::new(env!("CARGO_BIN_EXE_mainstay")).ancestors();
        let mut places =
            above.map(|dir| dir.join(format!("tools/kubectl-{version}/usr/bin/kubectl")));
        match places.find(|path| path.exists()) {
            Some(path) => others.push(path),
            None => {
                eprintln!("skipped: {test}: with kubectl {version}, which tests/run prepare makes");
            }
        }
    }
    others.sort();
    std::iter::once(found).chain(others).collect()
}

/// One server that runs.
pub(crate) struct Server {
    dir: PathBuf,
    /// `https://127.0.0.1:PORT`
    pub(crate) url: String,
    /// Port of its metrics.
    metrics: u16,
}

impl Server {
    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("https://")
    }

    /// The configuration of an administrator, which names this server.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        fs::read_to_string(self.dir.join("server.pid")).unwrap().trim().parse().unwrap()
    }

    /// Its memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// The certificate by which it is known.
    pub(crate) fn keys(&self) -> KeyFiles {
        KeyFiles::new(self.dir.join("pki"))
    }

    fn leads(&self) -> bool {
        let ask = |mut stream: TcpStream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        };
        let text = TcpStream::connect(("127.0.0.1", self.metrics)).and_then(ask);
        text.is_ok_and(|text| text.lines().any(|line| line == "mainstay_raft_leader 1"))
    }
}

/// A cluster of servers without nodes.
pub(crate) struct World {
    dir: TempDir,
    config: &'static str,
    source: String,
    pub(crate) servers: Vec<Server>,
}

impl World {
    /// Starts `count` servers that have admitted the manifests.
    pub(crate) fn up(count: usize) -> Self {
        Self::up_with(count, "")
    }

    /// As [`up`](Self::up), with more lines in the configuration of each server.
    pub(crate) fn up_with(count: usize, config: &'static str) -> Self {
        Self::up_from(count, config, |dir| {
            repository(dir, &[]);
            String::new()
        })
    }

    /// As [`up_with`](Self::up_with); `prepare` makes the repository in a folder and says what else
    /// stands in `source:`.
    pub(crate) fn up_from(
        count: usize,
        config: &'static str,
        prepare: impl FnOnce(&Path) -> String,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = prepare(dir.path());
        let mut world = Self { dir, config, source, servers: Vec::new() };
        for _ in 0..count {
            world.start_next();
        }
        for at in 0..count {
            world.until("the commit is admitted", || {
                world.kubectl(at, "kubectl", &["get", "cm", "owned", "-n", "free"]).is_ok()
            });
        }
        world
    }

    fn start_next(&mut self) {
        let (port, metrics) = (free_port(), free_port());
        let dir = self.dir.path().join(format!("s{}", self.servers.len()));
        let config = dir.with_extension("yaml");
        let text = format!(
            "listen: 127.0.0.1:{port}\nmetrics: 127.0.0.1:{metrics}\nsource: {{url: \"file://{}\"{}}}\n{}",
            self.dir.path().join("repo.git").display(),
            self.source,
            self.config
        );
        fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap().to_owned();
        let place = dir.to_str().unwrap().to_owned();
        match self.servers.first() {
            None => mainstay(&["init", "--dir", &place, "--config", &config, "--detach"]),
            Some(first) => {
                let join = fs::read(first.dir.join("join.json")).unwrap();
                let join: serde_json::Value = serde_json::from_slice(&join).unwrap();
                let text = |field: &str| join[field].as_str().unwrap().to_owned();
                mainstay(&[
                    "server",
                    "join",
                    &text("server"),
                    "--token",
                    &text("token"),
                    "--ca-hash",
                    &text("caHash"),
                    "--config",
                    &config,
                    "--dir",
                    &place,
                    "--detach",
                ]);
            }
        }
        self.servers.push(Server { dir, url: format!("https://127.0.0.1:{port}"), metrics });
    }

    /// The folder in which people commit; `../repo.git` is what the cluster follows.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The server that leads.
    pub(crate) fn leader(&self) -> usize {
        self.until("a server leads", || self.servers.iter().any(Server::leads));
        self.servers.iter().position(Server::leads).unwrap_or_default()
    }

    /// SIGKILL to a server.
    pub(crate) fn kill(&self, at: usize) {
        let pid = i32::try_from(self.servers[at].pid()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }

    /// Stops a server as its operator does; what it has logged.
    pub(crate) fn stop(&self, at: usize) -> String {
        let dir = &self.servers[at].dir;
        mainstay(&["server", "stop", "--dir", dir.to_str().unwrap()]);
        fs::read_to_string(dir.join("server.log")).unwrap()
    }

    /// Starts a server again that was killed.
    pub(crate) fn start_again(&self, at: usize) {
        mainstay(&["server", "--dir", self.servers[at].dir.to_str().unwrap(), "--detach"]);
    }

    /// Runs a kubectl against one server; its output, or what it complained of.
    pub(crate) fn kubectl(
        &self,
        at: usize,
        kubectl: &str,
        args: &[&str],
    ) -> Result<String, String> {
        said(self.command(at, kubectl, args).output().unwrap())
    }

    /// As [`kubectl`](Self::kubectl), with something to read on its standard input.
    pub(crate) fn feed(
        &self,
        at: usize,
        kubectl: &str,
        args: &[&str],
        input: &str,
    ) -> Result<String, String> {
        let mut command = self.command(at, kubectl, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        said(child.wait_with_output().unwrap())
    }

    /// Starts a kubectl that goes on; it is killed when it is dropped.
    pub(crate) fn follow(&self, at: usize, kubectl: &str, args: &[&str]) -> Follower {
        let mut command = self.command(at, kubectl, args);
        let path = self.dir.path().join(format!("follow-{at}"));
        let out = fs::File::create(&path).unwrap();
        Follower { child: command.stdout(out).spawn().unwrap(), path }
    }

    /// Runs a kubectl where the files of a test lie; everything it said, and its exit code.
    pub(crate) fn exits(&self, kubectl: &Path, files: &Path, args: &[String]) -> (String, i32) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.command(0, &kubectl.to_string_lossy(), &args);
        let output =
            command.current_dir(files).env("KUBE_EDITOR", "sed -i s/before/after/").output();
        let output = output.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        (said, output.status.code().unwrap_or(-1))
    }

    fn command(&self, at: usize, kubectl: &str, args: &[&str]) -> Command {
        let server = &self.servers[at];
        let mut command = Command::new(kubectl);
        command
            .arg("--kubeconfig")
            .arg(server.dir.join("kubeconfig"))
            .args(["--server", &server.url, "--cache-dir"])
            .arg(self.dir.path().join("cache"))
            .args(args)
            .env("HOME", self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs one of mainstay's own verbs against the first server.
    pub(crate) fn asks(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command.args(args).arg("--dir").arg(&self.servers[0].dir).output().unwrap()
    }

    /// Runs git in the repository that the servers follow, and gives what it prints.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git").args(args).current_dir(self.repository()).output();
        said(output.unwrap()).unwrap_or_else(|e| panic!("git {args:?}: {e}"))
    }

    fn repository(&self) -> PathBuf {
        self.dir.path().join("repo.git")
    }

    /// Commits a file on top of whatever is on the branch and pushes it, as somebody at a desk
    /// does.
    pub(crate) fn pushes(&self, path: &str, text: &str) {
        let desk = self.dir.path().join("work");
        let git = |args: &[&str]| {
            let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
            said(Command::new("git").args(who).args(args).current_dir(&desk).output().unwrap())
        };
        let does = |args: &[&str]| git(args).unwrap_or_else(|e| panic!("git {args:?}: {e}"));
        fs::write(desk.join(path), text).unwrap();
        does(&["add", "."]);
        does(&["commit", "--quiet", "--message", path]);
        self.until("the push is taken", || {
            does(&["pull", "--quiet", "--rebase", "../repo.git", "main"]);
            git(&["push", "--quiet", "../repo.git", "HEAD:main"]).is_ok()
        });
    }

    /// Gives the repository a hook that decides on pushes; an empty one is none.
    pub(crate) fn guard(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let hook = self.repository().join("hooks/pre-receive");
        if script.is_empty() {
            return fs::remove_file(hook).unwrap();
        }
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, script).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Takes the repository away, or brings it back.
    pub(crate) fn hide(&self, away: bool) {
        let (here, there) = (self.repository(), self.dir.path().join("away.git"));
        let (from, to) = if away { (here, there) } else { (there, here) };
        fs::rename(from, to).unwrap();
    }

    /// Waits until something holds.
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        until(what, holds);
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for server in &self.servers {
            let dir = server.dir.to_str().unwrap_or_default();
            let stopped = Command::new(env!("CARGO_BIN_EXE_mainstay"))
                .args(["server", "stop", "--dir", dir])
                .output();
            if let Err(error) = stopped {
                eprintln!("server in {dir} not stopped: {error}");
            }
        }
    }
}

/// A kubectl that goes on, and what it has printed.
pub(crate) struct Follower {
    child: Child,
    path: PathBuf,
}

impl Follower {
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn said(output: Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{}{}", text(&output.stdout), text(&output.stderr))),
    }
}

fn mainstay(args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_mainstay")).args(args).output().unwrap();
    let told = said(output);
    assert!(told.is_ok(), "mainstay {args:?}: {told:?}");
}

/// A port that nobody listens on, below those that the kernel gives to whoever connects: a server
/// that was killed finds its own free again.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Programs of tests that run beside each other begin at places of their own.
    let begin = u16::try_from(std::process::id() % 1000).unwrap() * 10;
    let ports = (0..u16::MAX).map(|_| NEXT.fetch_add(1, Ordering::Relaxed));
    let ports = ports.map(|n| PORTS.start + (begin + n) % (PORTS.end - PORTS.start));
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().unwrap()
}

/// Runs git in a folder as Ada; what it printed. It must succeed.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    let told = said(output);
    assert!(told.is_ok(), "git {args:?}: {told:?}");
    told.unwrap_or_default().trim().to_owned()
}

/// Makes the repository that a cluster follows; `commit` stands before what git is told to commit.
pub(crate) fn repository(dir: &Path, commit: &[&str]) {
    let work = dir.join("work");
    fs::create_dir_all(&work).unwrap();
    git(&work, &["init", "--quiet", "--bare", "--initial-branch", "main", "../repo.git"]);
    git(&work, &["init", "--quiet", "--initial-branch", "main"]);
    fs::write(work.join("cluster.yaml"), MANIFESTS).unwrap();
    git(&work, &["add", "."]);
    git(&work, &[commit, &["commit", "--quiet", "--message", "begin"]].concat());
    git(&work, &["push", "--quiet", "../repo.git", "main"]);
}
