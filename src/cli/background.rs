//! Processes that go on by themselves: started so that they tell when they are ready, and stopped by their number.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Error, machine, output};
use crate::trust::write_private;

/// How long a stop may take.
const STOP_SECONDS_MAX: u64 = 30;

/// How many of its last words are shown of a process that ended before it was ready.
const LAST_LINES: usize = 8;

/// Starts this program again with `args` in a process group of its own, its talk appended to `dir`/`log`, and waits
/// for the line with which it says that it is ready; prints that line.
pub(super) fn detach(dir: &Path, log: &str, args: &[OsString]) -> Result<(), Error> {
    let ours = |what: &str| {
        let what = what.to_owned();
        move |e: std::io::Error| Error::ours(format!("{what}: {e}"))
    };
    fs::create_dir_all(dir).map_err(ours(&dir.display().to_string()))?;
    let log_path = dir.join(log);
    let log_file = fs::OpenOptions::new().create(true).append(true).open(&log_path);
    let log_file = log_file.map_err(ours(&log_path.display().to_string()))?;
    let program = std::env::current_exe().map_err(ours("this program"))?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .process_group(0)
        .spawn()
        .map_err(ours("start"))?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).map_err(ours("its first line"))?;
    }
    if said.trim().is_empty() {
        let status = child.wait().map_err(ours("its end"))?;
        let text = format!("it ended before it was ready ({status}):\n{}", last_lines(&log_path));
        return Err(Error::ours(text).hint(format!("all it said is in {}", log_path.display())));
    }
    output::write(said.as_bytes())
}

fn last_lines(path: &Path) -> String {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    if read.is_err() {
        return String::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// The file with the number of a running process; removed when it ends in order.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes our number. A process that runs already is an error.
    pub(super) fn take(dir: &Path, name: &str) -> Result<Self, Error> {
        let path = dir.join(name);
        if let Some(pid) = running(&path).filter(|pid| *pid != std::process::id().cast_signed()) {
            let text = format!("process {pid} runs in {} already", dir.display());
            return Err(Error::yours(text).hint("stop it first"));
        }
        write_private(&path, std::process::id().to_string().as_bytes())
            .map_err(|e| Error::ours(format!("{}: {e}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(event = "pid file stays", path = %self.0.display(), %error);
        }
    }
}

/// The process whose number stands in a file, if it is one of ours and runs.
fn running(path: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    machine::is_mainstay(pid).then_some(pid)
}

/// Asks the process whose number stands in `dir`/`name` to end and waits for it; tells whether there was one.
pub(super) fn stop(dir: &Path, name: &str) -> Result<bool, Error> {
    let Some(pid) = running(&dir.join(name)) else { return Ok(false) };
    match kill(Pid::from_raw(pid), Signal::SIGTERM) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(e) => return Err(Error::ours(format!("process {pid}: {e}"))),
    }
    let deadline = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
    while machine::is_mainstay(pid) {
        if Instant::now() > deadline {
            let text = format!("process {pid} did not end within {STOP_SECONDS_MAX} s");
            return Err(Error::ours(text).hint(format!("its talk is in {}", dir.display())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}
