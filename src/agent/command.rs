//! Runs the host's network tools.
//!
//! In: fixed arguments and text for stdin. Out: what the tool printed, or an error that says what
//! went wrong. Every call has a deadline and no call goes through a shell.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command, sync::oneshot, time::timeout};

/// Most bytes of a tool's complaint that an error carries.
const STDERR_BYTES_MAX: usize = 2_000;

/// The network namespace in which the tools run: the agent's own, or in tests one of many on a
/// machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netns(Option<PathBuf>);

/// A tool that did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program is not installed.
    #[error("{0} is not installed or not in PATH; install it and it will be used")]
    Missing(String),
    /// It could not be started or talked to.
    #[error("run {program}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It was still running at its deadline and was killed.
    #[error("{program} did not end within {deadline:?} and was killed")]
    TimedOut {
        /// The program.
        program: String,
        /// How long it was given.
        deadline: Duration,
    },
    /// It said no.
    #[error("{program} failed ({status}): {stderr}")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status, in words.
        status: String,
        /// What it complained about.
        stderr: String,
    },
}

impl Netns {
    /// The namespace of this process.
    pub fn own() -> Self {
        Self(None)
    }

    /// The namespace that is mounted at a path such as `/run/netns/NAME`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Some(path.into()))
    }

    fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    fn command(&self, program: &str) -> Command {
        let Some(path) = self.path() else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", path.display())).arg(program);
        command
    }
}

/// Runs a program and returns what it printed to stdout. It is killed at the deadline.
pub async fn run(
    netns: &Netns,
    program: &str,
    args: &[&str],
    stdin: &str,
    deadline: Duration,
) -> Result<String, CommandError> {
    let start = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => CommandError::Missing(program.to_owned()),
        _ => CommandError::Start { program: program.to_owned(), cause },
    };
    let mut command = netns.command(program);
    // The tools' messages are parsed, so they must not be translated.
    command.args(args).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    let mut pipe = child.stdin.take();
    let feed = async {
        if let Some(mut pipe) = pipe.take() {
            // A tool that stops reading has failed; its exit status tells why, not our broken pipe.
            drop(pipe.write_all(stdin.as_bytes()).await);
        }
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let Ok(ended) = timeout(deadline, both).await else {
        return Err(CommandError::TimedOut { program: program.to_owned(), deadline });
    };
    check(program, ended.map_err(start)?)
}

fn check(program: &str, output: Output) -> Result<String, CommandError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(CommandError::Failed {
        program: program.to_owned(),
        status: output.status.to_string(),
        stderr: stderr.trim().chars().take(STDERR_BYTES_MAX).collect(),
    })
}

/// Runs blocking work on a thread of its own that has entered the namespace, so that files under
/// `/proc/sys/net` and child processes are those of the namespace. A thread that is late is left to
/// end by itself.
pub async fn blocking<T: Send + 'static>(
    netns: &Netns,
    what: &str,
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CommandError> {
    let failed = |cause: io::Error| CommandError::Start { program: what.to_owned(), cause };
    let (done, result) = oneshot::channel();
    let netns = netns.clone();
    let entered = move || -> io::Result<T> {
        if let Some(path) = netns.path() {
            nix::sched::setns(File::open(path)?, nix::sched::CloneFlags::CLONE_NEWNET)?;
        }
        Ok(work())
    };
    let thread = std::thread::Builder::new().name(what.to_owned());
    // The receiver is gone when the caller stopped waiting: then nobody wants the result.
    thread.spawn(move || drop(done.send(entered()))).map_err(failed)?;
    match timeout(deadline, result).await {
        Ok(Ok(result)) => result.map_err(failed),
        Ok(Err(_)) => Err(failed(io::Error::other("the thread panicked"))),
        Err(_) => Err(CommandError::TimedOut { program: what.to_owned(), deadline }),
    }
}
