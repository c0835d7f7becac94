//! When to look at the remote: at once when a local repository moved, else after a while.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{Event, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::error::{Error, Result};

/// Longest wait between two looks at a remote that keeps failing. A fixed remote is noticed within
/// it.
pub const POLL_SECONDS_MAX: u64 = 300;

/// Share of the wait that jitter may add, so that many servers do not ask a Git host in step.
pub const POLL_JITTER_SHARE: f64 = 0.2;

/// How long to wait before the next look.
///
/// `every` is the configured interval, `failures` how many looks failed in a row (each doubles the
/// wait, up to [`POLL_SECONDS_MAX`]), `jitter` a random number from 0 to 1 that adds up to
/// [`POLL_JITTER_SHARE`].
pub fn poll_after(every: Duration, failures: u32, jitter: f64) -> Duration {
    let longest = Duration::from_secs(POLL_SECONDS_MAX).max(every);
    let doubled = every.saturating_mul(1_u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX));
    let wait = doubled.min(longest);
    wait + wait.mul_f64(POLL_JITTER_SHARE * jitter.clamp(0.0, 1.0))
}

/// Watches a local repository. Dropping it ends the watching.
pub struct Watch {
    moved: mpsc::Receiver<()>,
    _watcher: notify::RecommendedWatcher,
}

impl Watch {
    /// Watches the refs of the repository in `path` (bare or not).
    ///
    /// `reference` (`refs/heads/main`) leaves out what happens to other refs, our own status
    /// commits among them; without it every ref counts. Only writes on this machine are seen: keep
    /// polling beside it.
    pub fn start(path: &Path, reference: Option<&str>) -> Result<Self> {
        let dir = git_dir(path)?;
        let refs = dir.join("refs");
        let wanted = reference.map(|name| dir.join(name));
        let (tell, moved) = mpsc::channel(1);
        let packed = dir.join("packed-refs");
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let relevant = match event {
                Ok(event) => is_move(&event, &packed, wanted.as_deref()),
                // The queue overflowed or the folder went away: looking once more does no harm.
                Err(_) => true,
            };
            if relevant {
                // A full channel means that a look is due already.
                tell.try_send(()).ok();
            }
        })
        .map_err(|cause| watching(&dir, &cause))?;
        let mut add =
            |path: &Path, mode| watcher.watch(path, mode).map_err(|cause| watching(path, &cause));
        add(&refs, RecursiveMode::Recursive)?;
        add(&dir, RecursiveMode::NonRecursive)?;
        Ok(Self { moved, _watcher: watcher })
    }

    /// Waits until a ref moved; many moves give one answer. None when watching ended.
    pub async fn moved(&mut self) -> Option<()> {
        self.moved.recv().await
    }
}

fn git_dir(path: &Path) -> Result<PathBuf> {
    let repo = git2::Repository::open(path)?;
    let dir = repo.commondir();
    dir.canonicalize().map_err(|cause| Error::disk(dir, &cause))
}

fn watching(path: &Path, cause: &notify::Error) -> Error {
    let reason = format!(
        "it cannot be watched: {cause}; raise fs.inotify.max_user_watches if that is the limit"
    );
    Error::Disk { path: path.into(), reason }
}

/// Whether an event can mean that the wanted ref moved. Git writes `main.lock` and renames it to
/// `main`; a new folder on the way counts, since what is in it may have been written before it was
/// watched.
fn is_move(event: &Event, packed: &Path, wanted: Option<&Path>) -> bool {
    let lock = |path: &Path| path.extension().is_some_and(|ending| ending == "lock");
    if event.kind.is_access() {
        return false;
    }
    event.paths.iter().filter(|path| !lock(path)).any(|path| {
        let in_refs = || packed.parent().is_some_and(|dir| path.starts_with(dir.join("refs")));
        path == packed || wanted.map_or_else(in_refs, |wanted| wanted.starts_with(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_with_failures_up_to_a_bound_and_jitter_only_adds() {
        let check = |failures, jitter, seconds: f64| {
            let wait = poll_after(Duration::from_secs(10), failures, jitter).as_secs_f64();
            assert!((wait - seconds).abs() < 1e-6, "{failures} {jitter}: {wait}");
        };
        check(0, 0.0, 10.0);
        check(0, 1.0, 12.0);
        check(1, 0.0, 20.0);
        check(4, 0.5, 176.0);
        check(5, 0.0, 300.0);
        check(u32::MAX, 1.0, 360.0);
        check(0, 7.0, 12.0);
        // A configured interval above the bound is kept.
        assert_eq!(poll_after(Duration::from_secs(900), 3, 0.0), Duration::from_secs(900));
    }
}
