//! A cluster for one test: nodes from `tests/harness/cluster.sh`, a repository, and the product's
//! own verbs run inside the nodes. Everything is removed when the [`World`] is dropped, on panic
//! too.
//!
//! Worlds stand one after the other in one process, so that two cores stay usable.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use mainstay::{agent::image, node::seen::labels};
use serde_json::{Value, json};

/// The image that `tests/pods/testpod.rs` becomes; every node of a world has it.
pub(crate) const IMAGE: &str = "mainstay.test/testpod:1";

/// The longest a test waits for one thing: two busy cores make Docker and elections slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Between two looks at something that cannot be waited on.
const LOOK: Duration = Duration::from_millis(50);

/// Elections for tests in which an election is not what is tested: two busy cores must not cause
/// one.
pub(crate) const CALM: &str =
    "raft: {heartbeatMs: 300, electionMsMin: 3000, electionMsMax: 5000}\n";

static TURN: Mutex<()> = Mutex::new(());
static COUNT: Mutex<u32> = Mutex::new(0);

/// One cluster of nodes, empty until [`World::servers`] and [`World::agents`].
pub(crate) struct World {
    name: String,
    nodes: u8,
    dir: tempfile::TempDir,
    disks: Mutex<Vec<PathBuf>>,
    /// Goes last: the next world begins when this one is gone.
    _turn: MutexGuard<'static, ()>,
}

/// A container of a pod as Docker knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Container {
    /// Docker's id.
    pub(crate) id: String,
    /// `namespace/name`.
    pub(crate) pod: String,
    /// Its name in the pod; `sandbox` for the sandbox.
    pub(crate) name: String,
    /// Its process on the node's host, 0 when it does not run.
    pub(crate) pid: i64,
    /// Whether it runs.
    pub(crate) running: bool,
    /// When it was started last.
    pub(crate) started: String,
    /// All of its labels.
    pub(crate) labels: BTreeMap<String, String>,
}

impl World {
    /// Brings up `nodes` empty nodes; `None`, with the reason printed, where that is not possible.
    pub(crate) fn up(test: &str, nodes: u8) -> Option<Self> {
        Self::up_with(test, nodes, |_| {})
    }

    /// The same; `before` runs before the nodes boot, for [`World::small_disk`].
    pub(crate) fn up_with(test: &str, nodes: u8, before: impl Fn(&Self)) -> Option<Self> {
        if let Some(missing) = missing() {
            eprintln!("skipped {test}: {missing}");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let count = {
            let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            *count
        };
        let name = format!("w{}x{count}", std::process::id());
        let dir = tempfile::Builder::new().prefix("mainstay-world").tempdir().unwrap();
        let world = Self { name, nodes, dir, disks: Mutex::default(), _turn: turn };
        before(&world);
        run(world.harness(&["up", &nodes.to_string()]));
        for node in 1..=nodes {
            let image = image_file().to_str().unwrap();
            run(world.harness(&["docker", &node.to_string(), "load", "-q", "-i", image]));
        }
        world.git_init();
        Some(world)
    }

    /// Puts a file system of so many megabytes at a folder; only before the nodes boot, or they do
    /// not see it.
    pub(crate) fn small_disk(&self, folder: &Path, megabytes: u32) {
        fs::create_dir_all(folder).unwrap();
        let size = format!("size={megabytes}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder));
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_owned());
    }

    /// A command of the harness.
    pub(crate) fn harness(&self, args: &[&str]) -> Command {
        let mut command =
            Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/cluster.sh"));
        command
            .args(args)
            .env("MS_NAME", &self.name)
            .env("MS_DIR", self.dir.path().join("nodes"))
            .stdin(Stdio::null());
        command
    }

    /// A command inside a node.
    pub(crate) fn inside(&self, node: u8, args: &[&str]) -> Command {
        self.harness(&[&["exec", &node.to_string()], args].concat())
    }

    /// The name of a node's machine, which its agent takes as the node's name.
    pub(crate) fn host(&self, node: u8) -> String {
        format!("{}-n{node}", self.name)
    }

    /// A node's address.
    pub(crate) fn address(node: u8) -> String {
        format!("172.31.77.{node}")
    }

    /// A folder that every node sees.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder of a node's server.
    pub(crate) fn server_dir(&self, node: u8) -> PathBuf {
        self.path(&format!("s{node}"))
    }

    /// The folder of a node's agent.
    pub(crate) fn agent_dir(&self, node: u8) -> PathBuf {
        self.path(&format!("a{node}"))
    }

    // ---- the product ----

    /// Runs a verb inside a node; data and talk are in what it gives.
    pub(crate) fn mainstay(&self, node: u8, args: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_mainstay");
        let all = [&[program], args].concat();
        self.inside(node, &all).output().unwrap()
    }

    /// Runs a verb that must succeed; its data.
    pub(crate) fn ok(&self, node: u8, args: &[&str]) -> String {
        let output = self.mainstay(node, args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mainstay {args:?} on node {node}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a verb that must fail; what it said and its exit code.
    pub(crate) fn fails(&self, node: u8, args: &[&str]) -> (String, i32) {
        let output = self.mainstay(node, args);
        assert!(!output.status.success(), "mainstay {args:?} should have failed");
        (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
    }

    /// Begins a cluster on node 1 and lets nodes 2 to `count` join as servers. `config` is YAML
    /// for all of them; [`CALM`] where elections are not the matter, empty for the defaults.
    pub(crate) fn servers(&self, count: u8, config: &str) {
        let url = format!("file://{}", self.path("repo.git").display());
        self.servers_of(count, config, &url);
    }

    /// The same with another source.
    pub(crate) fn servers_of(&self, count: u8, config: &str, url: &str) {
        fs::write(self.path("server.yaml"), config).unwrap();
        let config = self.path("server.yaml");
        let (dir, at) = (self.server_dir(1), format!("{}:6443", Self::address(1)));
        let dir = dir.to_str().unwrap();
        let config = config.to_str().unwrap();
        let args = ["init", "--dir", dir, "--source", url, "--advertise", &at];
        self.ok(1, &[&args[..], &["--config", config, "--detach"]].concat());
        for node in 2..=count {
            let (dir, at) = (self.server_dir(node), format!("{}:6443", Self::address(node)));
            let (server, token, hash) = self.join_parts();
            let args = ["server", "join", &server, "--token", &token, "--ca-hash", &hash];
            let own = ["--dir", dir.to_str().unwrap(), "--advertise", &at, "--config", config];
            self.ok(node, &[&args[..], &own, &["--detach"]].concat());
        }
    }

    /// Lets nodes join as nodes of the cluster.
    pub(crate) fn agents(&self, nodes: &[u8]) {
        for &node in nodes {
            let (server, token, hash) = self.join_parts();
            let dir = self.agent_dir(node);
            let args = ["agent", "join", &server, "--token", &token, "--ca-hash", &hash];
            let own = ["--dir", dir.to_str().unwrap(), "--address", &Self::address(node)];
            self.ok(node, &[&args[..], &own, &["--detach"]].concat());
        }
    }

    /// Server, token and CA hash of `init`.
    pub(crate) fn join_parts(&self) -> (String, String, String) {
        let text = fs::read(self.server_dir(1).join("join.json")).unwrap();
        let parts: Value = serde_json::from_slice(&text).unwrap();
        let part = |name: &str| parts[name].as_str().unwrap().to_owned();
        (part("server"), part("token"), part("caHash"))
    }

    /// Starts a stopped server and waits until it is ready.
    pub(crate) fn start_server(&self, node: u8) {
        let dir = self.server_dir(node);
        self.ok(node, &["server", "--dir", dir.to_str().unwrap(), "--detach"]);
    }

    /// Starts a stopped server without waiting until it has a leader: for several at once.
    pub(crate) fn start_server_soon(&self, node: u8) -> std::process::Child {
        let dir = self.server_dir(node);
        let args = ["server", "--dir", dir.to_str().unwrap(), "--detach"];
        let all = [&[env!("CARGO_BIN_EXE_mainstay")], &args[..]].concat();
        self.inside(node, &all).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Stops a server in order.
    pub(crate) fn stop_server(&self, node: u8) {
        let dir = self.server_dir(node);
        self.ok(node, &["server", "stop", "--dir", dir.to_str().unwrap()]);
    }

    /// SIGKILL to a server.
    pub(crate) fn kill_server(&self, node: u8) {
        self.signal(node, &self.server_dir(node).join("server.pid"), "-KILL");
    }

    /// Starts a stopped agent and waits until it is ready.
    pub(crate) fn start_agent(&self, node: u8) {
        let dir = self.agent_dir(node);
        self.ok(node, &["agent", "--dir", dir.to_str().unwrap(), "--detach"]);
    }

    /// Stops an agent in order; containers go on.
    pub(crate) fn stop_agent(&self, node: u8) {
        let dir = self.agent_dir(node);
        self.ok(node, &["agent", "stop", "--dir", dir.to_str().unwrap()]);
    }

    /// SIGKILL to an agent.
    pub(crate) fn kill_agent(&self, node: u8) {
        self.signal(node, &self.agent_dir(node).join("agent.pid"), "-KILL");
    }

    /// Sends a signal to the process whose number (in its node) stands in a file; after a KILL it
    /// is gone when this returns.
    pub(crate) fn signal(&self, node: u8, pid_file: &Path, signal: &str) {
        let pid = fs::read_to_string(pid_file).unwrap();
        run(self.inside(node, &["kill", signal, pid.trim()]));
        if signal == "-KILL" {
            until("the killed process is gone", || {
                let alive = self.inside(node, &["kill", "-0", pid.trim()]).output().unwrap();
                // A zombie waits for its parent; it holds nothing any more.
                let state = format!("/proc/{}/stat", pid.trim());
                let stat = self.inside(node, &["cat", &state]).output().unwrap().stdout;
                let stat = String::from_utf8_lossy(&stat).into_owned();
                (!alive.status.success() || stat.contains(") Z")).then_some(())
            });
        }
    }

    /// Resident memory of a node's server, in bytes.
    pub(crate) fn server_rss(&self, node: u8) -> u64 {
        let pid = fs::read_to_string(self.server_dir(node).join("server.pid")).unwrap();
        let status = format!("/proc/{}/status", pid.trim());
        let text = self.inside(node, &["cat", &status]).output().unwrap().stdout;
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
        let kb = line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
        kb.unwrap_or_default() * 1024
    }

    /// What a process of mine said, for messages of tests.
    pub(crate) fn talk(&self, node: u8) -> String {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let tail = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(30)..].join("\n")
        };
        let server = tail(read(self.server_dir(node).join("server.log")));
        let agent = tail(read(self.agent_dir(node).join("agent.log")));
        format!("server {node}:\n{server}\nagent {node}:\n{agent}")
    }

    // ---- asking ----

    /// `mainstay status -o json` of a server, when it answers.
    pub(crate) fn status(&self, node: u8) -> Option<Value> {
        let dir = self.server_dir(node);
        let args = ["status", "-o", "json", "--dir", dir.to_str().unwrap()];
        let output = self.mainstay(node, &args);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until a commit is healthy; panics with the reason when it is not.
    pub(crate) fn healthy(&self, node: u8, commit: &str) {
        let dir = self.server_dir(node);
        let dir = dir.to_str().unwrap();
        let output =
            self.mainstay(node, &["wait", "--commit", commit, "--timeout", "120s", "--dir", dir]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commit}: {said}\n{}", self.talk(node));
    }

    /// The text of a server's metrics, when it answers.
    pub(crate) fn metrics(&self, node: u8) -> Option<String> {
        self.get(node, "http://127.0.0.1:9345/metrics")
    }

    /// One value of a server's metrics.
    pub(crate) fn metric(&self, node: u8, name: &str) -> Option<f64> {
        let text = self.metrics(node)?;
        let line = text.lines().find(|l| l.split([' ', '{']).next() == Some(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The node whose server leads, among those that answer.
    pub(crate) fn leader(&self) -> Option<u8> {
        (1..=self.nodes).find(|n| self.metric(*n, "mainstay_raft_leader") == Some(1.0))
    }

    /// Waits for a leader.
    pub(crate) fn some_leader(&self) -> u8 {
        until("a leader", || self.leader())
    }

    /// `GET` by curl inside a node; the body of a 2xx.
    pub(crate) fn get(&self, node: u8, url: &str) -> Option<String> {
        let output = self.inside(node, &["curl", "-sfk", "--max-time", "5", url]).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// curl inside a node: status code (0 when nobody answers) and body.
    pub(crate) fn curl(&self, node: u8, args: &[&str]) -> (u16, String) {
        let usual = ["curl", "-sk", "--max-time", "20", "-w", "\n%{http_code}"];
        let output = self.inside(node, &[&usual[..], args].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, code) = text.rsplit_once('\n').unwrap_or(("", "0"));
        (code.parse().unwrap_or(0), body.to_owned())
    }

    // ---- Docker ----

    /// The containers of pods on a node, sandboxes too, by id; `docker` must answer.
    pub(crate) fn containers(&self, node: u8) -> Vec<Container> {
        let node = node.to_string();
        let ids = run(self.harness(&["docker", &node, "ps", "-aq", "--no-trunc"]));
        let ids: Vec<&str> = ids.lines().collect();
        if ids.is_empty() {
            return Vec::new();
        }
        // One that goes meanwhile makes inspect fail but not silent.
        let args = [&["docker", &node, "inspect"], &ids[..]].concat();
        let text = self.harness(&args).stderr(Stdio::null()).output().unwrap().stdout;
        let all: Vec<Value> = serde_json::from_slice(&text).unwrap();
        let mut all: Vec<Container> = all.iter().filter_map(container).collect();
        all.sort();
        all
    }

    /// The ids of all containers of pods whose name begins with `pod`, over all nodes given.
    pub(crate) fn ids(&self, nodes: &[u8], pod: &str) -> Vec<(u8, Container)> {
        let mut found = Vec::new();
        for &node in nodes {
            let all = self.containers(node).into_iter().filter(|c| c.pod.starts_with(pod));
            found.extend(all.map(|c| (node, c)));
        }
        found
    }

    // ---- Git ----

    fn git_init(&self) {
        let bare = self.path("repo.git");
        run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&bare));
        let work = self.path("work");
        run(Command::new("git").arg("clone").arg("-q").arg(&bare).arg(&work));
        run(self.git(&["checkout", "-q", "-b", "main"]));
    }

    /// Git in the work tree.
    pub(crate) fn git(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.path("work"))
            .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
            .args(["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"])
            .args(args)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", self.dir.path());
        command
    }

    /// Writes files into the work tree, commits them and gives the commit's id; not pushed.
    pub(crate) fn commit(&self, files: &[(&str, &str)], message: &str) -> String {
        for (name, text) in files {
            let path = self.path("work").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        run(self.git(&["add", "-A"]));
        run(self.git(&["commit", "-q", "--allow-empty", "-m", message]));
        run(self.git(&["rev-parse", "HEAD"])).trim().to_owned()
    }

    /// Pushes the work tree's head to `main`.
    pub(crate) fn push_head(&self) {
        run(self.git(&["push", "-q", "-f", "origin", "HEAD:refs/heads/main"]));
    }

    /// Writes, commits, pushes; the commit's id.
    pub(crate) fn push(&self, files: &[(&str, &str)], message: &str) -> String {
        let commit = self.commit(files, message);
        self.push_head();
        commit
    }

    /// Git in the bare repository; `None` when it fails.
    pub(crate) fn bare(&self, args: &[&str]) -> Option<String> {
        let output = Command::new("git").arg("-C").arg(self.path("repo.git")).args(args).output();
        let output = output.unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The note on a commit.
    pub(crate) fn note(&self, commit: &str) -> Option<String> {
        self.bare(&["notes", "--ref=mainstay", "show", commit])
    }

    /// A file of the status branch.
    pub(crate) fn status_file(&self, path: &str) -> Option<String> {
        self.bare(&["show", &format!("mainstay/status:{path}")])
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in 1..=self.nodes {
                eprintln!("{}", self.talk(node));
            }
            if let Ok(keep) = std::env::var("MAINSTAY_TEST_KEEP") {
                let to = Path::new(&keep).join(&self.name);
                let copied = Command::new("cp").arg("-r").arg(self.dir.path()).arg(&to).status();
                eprintln!("folders copied to {}: {copied:?}", to.display());
            }
        }
        let down = self.harness(&["down"]).stdout(Stdio::null()).status();
        if !down.is_ok_and(|s| s.success()) {
            eprintln!("{} was not removed", self.name);
        }
        for disk in self.disks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let gone = Command::new("umount").arg(disk).status();
            if !gone.is_ok_and(|s| s.success()) {
                eprintln!("{} stays mounted", disk.display());
            }
        }
    }
}

fn container(seen: &Value) -> Option<Container> {
    let found = seen["Config"]["Labels"].as_object()?;
    let found: BTreeMap<String, String> =
        found.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().into())).collect();
    let label = |name: &str| found.get(name).cloned().unwrap_or_default();
    found.contains_key(labels::UID).then(|| Container {
        id: seen["Id"].as_str().unwrap().to_owned(),
        pod: format!("{}/{}", label(labels::NAMESPACE), label(labels::POD)),
        name: match label(labels::KIND).as_str() {
            "sandbox" => "sandbox".to_owned(),
            _ => label(labels::CONTAINER),
        },
        pid: seen["State"]["Pid"].as_i64().unwrap_or_default(),
        running: seen["State"]["Running"] == true,
        started: seen["State"]["StartedAt"].as_str().unwrap_or_default().to_owned(),
        labels: found.clone(),
    })
}

/// Why no world can stand here.
fn missing() -> Option<&'static str> {
    let works = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|o| o.status.success())
    };
    let root =
        fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    match () {
        () if !root => Some("needs root"),
        () if !works("dockerd", &["--version"]) => Some("needs dockerd"),
        () if !works("rustc", &["--version"]) => Some("needs rustc"),
        () if !works("nsenter", &["--version"]) => Some("needs nsenter"),
        () if !works("curl", &["--version"]) => Some("needs curl"),
        () if !works("git", &["--version"]) => Some("needs git"),
        () => None,
    }
}

/// Runs a command that must succeed; its output.
pub(crate) fn run(mut command: impl std::borrow::BorrowMut<Command>) -> String {
    let command = command.borrow_mut();
    let output = command.output().unwrap();
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{error}");
    out.into_owned()
}

/// Looks until there is an answer; panics after [`DEADLINE`].
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, what, look)
}

/// Looks until there is an answer; panics when `limit` is over.
pub(crate) fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < limit, "not within {} s: {what}", limit.as_secs());
        std::thread::sleep(LOOK);
    }
}

/// Asserts that something holds at every look during `time`.
pub(crate) fn throughout(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        assert!(holds(), "{what}, after {} ms", begun.elapsed().as_millis());
        std::thread::sleep(LOOK);
    }
}

/// The docker-archive with the test program, made once a process.
fn image_file() -> &'static Path {
    static FILE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pods/testpod.rs");
        let out = dir.path().join("testpod");
        let options = ["-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols"];
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition", "2024"]).args(options).arg("-o").arg(&out).arg(source);
        run(rustc);
        let program = fs::read(out).unwrap();
        let dirs = ["proc", "sys", "dev", "etc", "tmp"].map(|d| format!("{d}/.keep"));
        let mut files = vec![image::File { path: "testpod", mode: 0o755, bytes: &program }];
        files.extend(dirs.iter().map(|path| image::File { path, mode: 0o644, bytes: b"" }));
        let tar = dir.path().join("image.tar");
        fs::write(&tar, image::archive(IMAGE, &files, &["/testpod"]).unwrap()).unwrap();
        (dir, tar)
    };
    &FILE.get_or_init(make).1
}

/// A Deployment of the test program that serves on 8080 and is ready once it answers, as YAML
/// (JSON is YAML). `version` is in its environment, so another version is another rollout.
pub(crate) fn deployment(name: &str, replicas: u32, version: &str) -> String {
    let container = json!({
        "name": "web", "image": IMAGE, "imagePullPolicy": "Never", "args": ["serve", "8080"],
        "env": [{"name": "VERSION", "value": version}],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/live", "port": 8080}, "periodSeconds": 1},
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 2},
            },
        },
    })
    .to_string()
}

/// A Service of that Deployment: port 80 and a node port.
pub(crate) fn service(name: &str, node_port: u16) -> String {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "type": "NodePort", "selector": {"app": name},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": node_port}],
        },
    })
    .to_string()
}

/// The namespace of the two above.
pub(crate) const NAMESPACE: &str =
    r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}"#;
