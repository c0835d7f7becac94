//! The repository inside `mainstay dev`: an ordinary bare one that anybody on the machine may push
//! to.

use std::path::Path;

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

fn create(dir: &Path) -> Result<Repository> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).mkpath(true).external_template(false).initial_head(BRANCH);
    Ok(Repository::init_opts(dir, &options)?)
}
