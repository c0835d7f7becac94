//! A `mainstay dev` cluster in the node the test runs in.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Output},
    time::{Instant, SystemTime},
};

use serde_json::Value;

use super::DEADLINE;

pub(crate) struct Cluster {
    dir: tempfile::TempDir,
}

/// What its process has used so far.
#[derive(Debug)]
pub(crate) struct Used {
    /// CPU, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// Memory, in KiB.
    pub(crate) resident_kib: u64,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let cluster = Self { dir: tempfile::tempdir().unwrap() };
        // What is refused is looked at, too: the push of it has to get in.
        let output = cluster.mainstay(&["dev", "--detach", "--on-push", "warn"]);
        assert!(output.status.success(), "{output:?}\n{}", cluster.log());
        let work = cluster.work();
        cluster.git(&["init", "-q", "-b", "main", work.to_str().unwrap()]);
        let origin = cluster.path("dev/repo.git").display().to_string();
        cluster.git(&["remote", "add", "origin", &origin]);
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn work(&self) -> PathBuf {
        let work = self.path("work");
        fs::create_dir_all(&work).unwrap();
        work
    }

    fn mainstay(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command.args(args).arg("--dir").arg(self.path("dev")).output().unwrap()
    }

    fn git(&self, args: &[&str]) -> String {
        let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
        let output =
            Command::new("git").current_dir(self.work()).args(who).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits a file, pushes, and gives the commit's id.
    pub(crate) fn commit(&self, name: &str, text: &str) -> String {
        fs::write(self.work().join(name), text).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "-q", "-m", name]);
        self.git(&["push", "-q", "origin", "main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn wait_healthy(&self, commit: &str) {
        let timeout = format!("{}s", DEADLINE.as_secs());
        let output = self.mainstay(&["wait", "--commit", commit, "--timeout", &timeout]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", self.log());
    }

    /// Waits until the newest commit is in the state.
    pub(crate) fn until_state(&self, state: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let output = self.mainstay(&["status", "-o", "json"]);
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if status["state"] == state {
                return;
            }
            assert!(Instant::now() < deadline, "never {state}: {status:#}\n{}", self.log());
            std::thread::sleep(super::LOOK_EVERY);
        }
    }

    /// Where its metrics are, by `metrics` and `agentMetrics`.
    pub(crate) fn endpoints(&self) -> BTreeMap<String, String> {
        let text = fs::read(self.path("dev/endpoints.json")).unwrap();
        let mut all: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap();
        all.remove("api");
        all
    }

    pub(crate) fn used(&self) -> Used {
        let pid = fs::read_to_string(self.path("dev/dev.pid")).unwrap();
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let number = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = [11, 12].map(|at: usize| fields[at].parse::<u64>().unwrap()).iter().sum();
        Used {
            // A tick is 10 ms on every Linux (USER_HZ).
            cpu_ms: ticks * 10,
            resident_kib: number(&read("status"), "VmRSS:"),
        }
    }

    /// Every file of the cluster, its log and its talk, with its size and the time it was changed.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, (u64, SystemTime)> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path("dev")];
        while let Some(folder) = folders.pop() {
            // What vanishes meanwhile is a change too: it is missing.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    folders.push(entry.path());
                } else {
                    files.insert(entry.path(), (meta.len(), meta.modified().unwrap()));
                }
            }
        }
        files
    }

    /// What it has said, for a test that fails.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("dev/dev.log")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = self.mainstay(&["dev", "stop", "--clean"]);
        if !stopped.status.success() {
            eprintln!("not cleaned: {}", String::from_utf8_lossy(&stopped.stderr));
        }
    }
}
