//! client-go: its shared informers, its leader election, and Prometheus' discovery built on it, in
//! the program of `tests/clients/go`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Instant,
};

use crate::servers::{DEADLINE, World};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/go");

/// The program, built; or nothing, with a printed reason, where no Go is that can.
fn program(test: &str) -> Option<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let needed = needed();
    match installed() {
        None => {
            eprintln!("skipped: {test}: needs Go {needed}");
            return None;
        }
        Some(version) if numbers(&version) < numbers(&needed) => {
            eprintln!("skipped: {test}: needs Go {needed}, here is {version}");
            return None;
        }
        Some(_) => {}
    }
    let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clients-go");
    let build = ["build", "-mod=readonly", "-o", to.to_str().unwrap(), "."];
    let output = Command::new("go")
        .args(build)
        .current_dir(SOURCE)
        .env("CGO_ENABLED", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "go build: {said}");
    Some(to)
}

/// The version that the module asks for.
fn needed() -> String {
    let module = fs::read_to_string(Path::new(SOURCE).join("go.mod")).unwrap();
    module.lines().find_map(|line| line.strip_prefix("go ")).unwrap().to_owned()
}

fn installed() -> Option<String> {
    let output = Command::new("go").args(["env", "GOVERSION"]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().strip_prefix("go").map(str::to_owned)
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// The program while it runs.
struct Running {
    child: Child,
    words: ChildStdin,
    lines: Receiver<String>,
}

impl Running {
    /// Starts it; the server at `first` is the one that it dials first.
    fn start(program: &Path, world: &World, first: usize, args: [&str; 2], env: &str) -> Self {
        let [what, name] = args;
        let count = world.servers.len();
        let servers = (0..count).map(|at| world.servers[(first + at) % count].address());
        let (key, value) = env.split_once('=').unwrap();
        let mut command = Command::new(program);
        command.arg(what).arg(world.servers[first].kubeconfig()).args(["free", name]);
        command.args(servers).env(key, value).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { words: child.stdin.take().unwrap(), child, lines }
    }

    fn say(&mut self, word: &str) {
        writeln!(self.words, "{word}").unwrap();
    }

    /// Waits for a line that begins so.
    fn hears(&self, what: &str) {
        self.hears_again(what, 1);
    }

    /// Waits until it has said so that often.
    fn hears_again(&self, what: &str, mut times: usize) {
        let begun = Instant::now();
        while times > 0 {
            let left = DEADLINE.saturating_sub(begun.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    eprintln!("{line}");
                    assert!(!line.starts_with("problem"), "{line}");
                    times -= usize::from(line.starts_with(what));
                }
                Err(RecvTimeoutError::Timeout) => panic!("not in time: {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before: {what}"),
            }
        }
    }

    /// Lets it say what was wrong; nothing may be.
    fn check(mut self) {
        self.say("check");
        let said: Vec<String> = self.lines.iter().collect();
        for line in &said {
            eprintln!("{line}");
        }
        let problems: Vec<_> = said.iter().filter(|line| line.starts_with("problem")).collect();
        assert!(self.child.wait().unwrap().success(), "{problems:#?}");
        assert_eq!(said.last().map(String::as_str), Some("fine"));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended by itself, unless the test failed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Both ways in which client-go begins: a list and then a watch, and a watch that sends all first.
const BEGINNINGS: [&str; 2] =
    ["KUBE_FEATURE_WatchListClient=false", "KUBE_FEATURE_WatchListClient=true"];

#[test]
fn informers_see_every_event_once_while_the_leader_dies_and_they_change_servers() {
    let test = "informers_see_every_event_once_while_the_leader_dies_and_they_change_servers";
    let Some(program) = program(test) else { return };
    let world = World::up(3);
    let leader = world.leader();
    let names = ["lists", "watches"];
    let begin =
        |n: usize| Running::start(&program, &world, leader, ["informers", names[n]], BEGINNINGS[n]);
    let mut all = [begin(0), begin(1)];
    all.iter().for_each(|one| one.hears("synced"));
    all.iter_mut().for_each(|one| one.say("write"));
    let written = |all: &mut [Running], times| {
        all.iter().for_each(|one| one.hears_again("written", times));
        all.iter_mut().for_each(|one| one.say("seen"));
        all.iter().for_each(|one| one.hears("seen"));
    };
    written(&mut all, 4);
    world.kill(leader);
    written(&mut all, 8);
    all.iter_mut().for_each(|one| one.say("next"));
    written(&mut all, 4);
    world.start_again(leader);
    all.iter_mut().for_each(|one| one.say("next"));
    written(&mut all, 4);
    // Both write into one namespace: one may only look when both are quiet.
    all.iter_mut().for_each(|one| one.say("quiet"));
    all.iter().for_each(|one| one.hears("quiet"));
    all.into_iter().for_each(Running::check);
}

#[test]
fn leader_election_outlives_the_leader_of_the_servers() {
    let Some(program) = program("leader_election_outlives_the_leader_of_the_servers") else {
        return;
    };
    let world = World::up(3);
    let leader = world.leader();
    let mut running = Running::start(&program, &world, leader, ["election", "lock"], BEGINNINGS[1]);
    running.hears("leads first");
    world.kill(leader);
    running.say("renewed");
    running.hears("renewed");
    running.say("release");
    running.hears("leads second");
    running.say("renewed");
    running.hears("renewed");
    running.check();
}

/// The targets that Prometheus would scrape come and go with the objects, in every role.
#[test]
fn prometheus_discovers_what_there_is() {
    let Some(program) = program("prometheus_discovers_what_there_is") else { return };
    let world = World::up(1);
    let running = Running::start(&program, &world, 0, ["discovery", "seen"], BEGINNINGS[1]);
    running.hears_again("looked for", 6);
    running.check();
}
