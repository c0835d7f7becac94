//! A repository before there is a cluster that follows it: whether it can be read and written, and
//! its first commit where it has none.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{Error, export, open_mirror};
use crate::{
    config::SourceConfig,
    git::{self, Message},
    model::CommitId,
};

/// How long one conversation with the repository may take.
const REMOTE_SECONDS_MAX: u64 = 60;

/// Notes of our own, by which it shows that we may write what no branch holds.
const NOTES_REFERENCE: &str = "refs/notes/mainstay-bootstrap";

/// What stands in such a note.
const NOTE: &str = "A cluster of mainstay follows this branch.\n";

/// A repository that can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The tip of the branch.
    pub commit: CommitId,
    /// Whether it was made just now.
    pub made: bool,
}

/// Sees to it that a cluster can follow a repository: it answers, its branch is there (with `files`
/// when it was not), and it takes what we push. The mirror is the one of a server in `dir`.
pub async fn begin(
    dir: &Path,
    config: &SourceConfig,
    files: BTreeMap<String, Option<Vec<u8>>>,
) -> Result<Begun, Error> {
    let mirror = open_mirror(dir, config).await?;
    let work = move || {
        let within = Duration::from_secs(REMOTE_SECONDS_MAX);
        let message = Message {
            subject: "Begin what the cluster runs".to_owned(),
            trailers: vec![("Via".to_owned(), "mainstay bootstrap".to_owned())],
            ..Message::default()
        };
        let us = export::us();
        let (commit, made) = mirror.begin(&files, &message, &us, within)?;
        let note = BTreeMap::from([(commit.clone(), NOTE.to_owned())]);
        mirror.write_notes(NOTES_REFERENCE, &note, &us, within)?;
        Ok::<_, git::Error>(Begun { commit, made })
    };
    Ok(tokio::task::spawn_blocking(work).await??)
}
