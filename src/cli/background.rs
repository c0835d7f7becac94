//! Processes that go on by themselves: started so that they tell when they are ready, and stopped
//! by their number.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Error, output};

/// How long a stop may take.
const STOP_SECONDS_MAX: u64 = 30;

/// How many of its last words are shown of a process that ended before it was ready.
const LAST_LINES: usize = 8;

/// Starts this program again with `args` in a process group of its own, its talk appended to
/// `dir`/`log`, and waits for the line with which it says that it is ready; prints that line.
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
///
/// The process holds a lock on it as long as it lives, however it ends: a number alone may be
/// another process's by now.
pub(super) struct PidFile {
    path: PathBuf,
    /// Holds the lock until it is closed.
    _lock: fs::File,
}

impl PidFile {
    /// Writes our number. A process that runs already is an error.
    pub(super) fn take(dir: &Path, name: &str) -> Result<Self, Error> {
        let path = dir.join(name);
        let ours = |e: std::io::Error| Error::ours(format!("{}: {e}", path.display()));
        let mut options = fs::OpenOptions::new();
        let options = options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let mut file = options.open(&path).map_err(ours)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let number = number_in(&mut file).map(|n| n.to_string()).unwrap_or_default();
                let text = format!("process {number} runs in {} already", dir.display());
                return Err(Error::yours(text).hint("stop it first"));
            }
            Err(fs::TryLockError::Error(e)) => return Err(ours(e)),
        }
        file.set_len(0).map_err(ours)?;
        file.write_all(std::process::id().to_string().as_bytes()).map_err(ours)?;
        Ok(Self { path, _lock: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(event = "pid file stays", path = %self.path.display(), %error);
        }
    }
}

/// The process whose number stands in a file, if it still holds the lock.
fn running(path: &Path) -> Option<i32> {
    let mut file = fs::File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(fs::TryLockError::WouldBlock) => number_in(&mut file),
        _ => None,
    }
}

fn number_in(file: &mut fs::File) -> Option<i32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Asks the process whose number stands in `dir`/`name` to end and waits for it; tells whether
/// there was one.
pub(super) fn stop(dir: &Path, name: &str) -> Result<bool, Error> {
    let path = dir.join(name);
    let Some(pid) = running(&path) else { return Ok(false) };
    match kill(Pid::from_raw(pid), Signal::SIGTERM) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(e) => return Err(Error::ours(format!("process {pid}: {e}"))),
    }
    let deadline = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
    while running(&path) == Some(pid) {
        if Instant::now() > deadline {
            let text = format!("process {pid} did not end within {STOP_SECONDS_MAX} s");
            return Err(Error::ours(text).hint(format!("its talk is in {}", dir.display())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_only_while_its_process_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        // Left by a process that was killed; its number is somebody else's now, here our own.
        fs::write(&path, std::process::id().to_string()).unwrap();
        assert_eq!(running(&path), None);
        assert!(!stop(dir.path(), "x.pid").unwrap());

        let held = PidFile::take(dir.path(), "x.pid").unwrap();
        assert_eq!(running(&path), Some(std::process::id().cast_signed()));
        let again = PidFile::take(dir.path(), "x.pid").err().unwrap();
        assert!(again.message.contains("runs in"), "{}", again.message);
        drop(held);
        assert!(!path.exists());
        assert_eq!(running(&path), None);
    }
}
