//! The repository inside `mainstay dev`: an ordinary bare one that anybody on the machine may push
//! to.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use git2::{Repository, RepositoryInitOptions};

use super::error::{Error, Result};

/// The branch a fresh repository begins with.
pub const BRANCH: &str = "main";

/// Makes the bare repository in `dir`, or mends the settings of the one that is there. Keeps all
/// commits.
///
/// Refuses a folder that holds a repository with a work tree.
pub fn init(dir: &Path) -> Result<()> {
    let repo = match Repository::open_ext(
        dir,
        git2::RepositoryOpenFlags::NO_SEARCH,
        std::iter::empty::<&Path>(),
    ) {
        Ok(repo) => repo,
        Err(cause) if cause.code() == git2::ErrorCode::NotFound => create(dir)?,
        Err(cause) => {
            let reason = format!("it cannot be opened: {}; move it away", cause.message());
            return Err(Error::Disk { path: dir.into(), reason });
        }
    };
    if !repo.is_bare() {
        let reason = "it is a repository with a work tree; give another folder".into();
        return Err(Error::Disk { path: dir.into(), reason });
    }
    let mut config = repo.config()?.open_level(git2::ConfigLevel::Local)?;
    // Pushing over HTTP is allowed to whoever reaches it: `mainstay dev` serves it on loopback
    // only.
    config.set_bool("http.receivepack", true)?;
    // What is pushed must be whole: objects are checked as they arrive, and on disk before the push
    // answers.
    config.set_bool("receive.fsckObjects", true)?;
    config.set_str("core.fsync", "committed,reference")?;
    Ok(())
}

/// The line by which a hook of ours is known.
const MARK: &str = "# Written by mainstay; `mainstay dev --on-push` decides what it does.";

/// What becomes of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// It is as it was asked for.
    Done,
    /// Somebody has a hook of their own there, which stays.
    Foreign,
}

/// Has a command judge pushes before they are taken (`pre-receive`), or none. A hook that somebody
/// else wrote is left alone.
pub fn guard(dir: &Path, command: Option<&str>) -> Result<Guarded> {
    let path = dir.join("hooks/pre-receive");
    if path.exists() && !is_ours(&path) {
        return Ok(Guarded::Foreign);
    }
    let disk = |cause: std::io::Error| Error::disk(&path, &cause);
    let Some(command) = command else {
        if path.exists() {
            fs::remove_file(&path).map_err(disk)?;
        }
        return Ok(Guarded::Done);
    };
    fs::create_dir_all(dir.join("hooks")).map_err(disk)?;
    // Git may run it at any moment: it is there whole or not at all.
    let new = path.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{MARK}\nexec {command}\n")).map_err(disk)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).map_err(disk)?;
    fs::rename(&new, &path).map_err(disk)?;
    Ok(Guarded::Done)
}

/// Whether a hook is ours. It judges what others push; what mainstay writes was judged before.
pub(super) fn is_ours(hook: &Path) -> bool {
    fs::read_to_string(hook).is_ok_and(|text| text.lines().nth(1) == Some(MARK))
}

fn create(dir: &Path) -> Result<Repository> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).mkpath(true).external_template(false).initial_head(BRANCH);
    Ok(Repository::init_opts(dir, &options)?)
}
