//! The facts of a commit, and the words of one that we write.

use git2::{Oid, Repository, Sort};

use super::{
    error::{Error, Result},
    mirror::{Reader, commit_id, find_commit},
};
use crate::model::{CommitId, Timestamp};

/// Most commits that one look at the history gives; the newest are given, older ones are left out.
pub const HISTORY_COMMITS_MAX: usize = 10_000;

/// Who wrote something, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Name; never empty in a commit we write.
    pub name: String,
    /// Mail address.
    pub email: String,
    /// When (whole seconds are kept in Git).
    pub at: Timestamp,
}

impl Person {
    /// In libgit2's form, in UTC.
    pub(super) fn signature(&self) -> Result<git2::Signature<'static>> {
        // libgit2 only looks for < and >; a line break would begin another header of the commit.
        if [&self.name, &self.email].iter().any(|text| text.chars().any(char::is_control)) {
            let reason = "holds control characters".into();
            return Err(Error::Argument { what: format!("identity {:?}", self.name), reason });
        }
        let time = git2::Time::new(self.at.0.div_euclid(1000), 0);
        git2::Signature::new(&self.name, &self.email, &time).map_err(|cause| Error::Argument {
            what: format!("identity {:?} <{}>", self.name, self.email),
            reason: format!("{cause}; a name and an address without < > are needed"),
        })
    }

    fn of(signature: &git2::Signature<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            name: text(signature.name_bytes()),
            email: text(signature.email_bytes()),
            at: Timestamp(signature.when().seconds().saturating_mul(1000)),
        }
    }
}

/// The facts of one commit. Text that is not UTF-8 is shown with replacement characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// Its parents, the first one first; empty for a first commit.
    pub parents: Vec<CommitId>,
    /// Who made the change.
    pub author: Person,
    /// Who made the commit.
    pub committer: Person,
    /// The first paragraph in one line.
    pub subject: String,
    /// What follows the subject, trailers included; may be empty.
    pub body: String,
    /// `Key: value` lines of the last paragraph, in order, as git-interpret-trailers reads them.
    pub trailers: Vec<(String, String)>,
}

impl Commit {
    /// The value of the last trailer of that name (case does not matter, as in Git).
    pub fn trailer(&self, key: &str) -> Option<&str> {
        let mut values = self.trailers.iter().rev().filter(|(k, _)| k.eq_ignore_ascii_case(key));
        values.next().map(|(_, value)| value.as_str())
    }

    pub(super) fn of(commit: &git2::Commit<'_>) -> Result<Self> {
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        Ok(Self {
            id: commit_id(commit.id()),
            parents: commit.parent_ids().map(commit_id).collect(),
            author: Person::of(&commit.author()),
            committer: Person::of(&commit.committer()),
            subject: text(commit.summary_bytes()),
            body: text(commit.body_bytes()),
            trailers: trailers(commit.message_bytes())?,
        })
    }
}

fn trailers(message: &[u8]) -> Result<Vec<(String, String)>> {
    let found = git2::message_trailers_bytes(message)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(found.iter().map(|(key, value)| (text(key), text(value))).collect())
}

/// The words of a commit that we write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub subject: String,
    /// More, or empty.
    pub body: String,
    /// `Key: value` lines at the end. Line breaks in them become spaces, so none can forge another.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// Takes a text apart: its first line, what stands between, and the trailers of its last
    /// paragraph.
    pub fn from_text(text: &str) -> Result<Self> {
        let trailers = trailers(text.as_bytes())?;
        let (subject, rest) = text.split_once('\n').unwrap_or((text, ""));
        let rest = rest.trim_matches('\n');
        let body = match rest.rsplit_once("\n\n") {
            _ if trailers.is_empty() => rest,
            Some((body, _)) => body,
            None => "",
        };
        Ok(Self { subject: subject.to_owned(), body: body.to_owned(), trailers })
    }

    /// The whole text as Git stores it.
    pub fn render(&self) -> String {
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut text = line(&self.subject).replace('\0', "");
        text.push('\n');
        let body = self.body.replace('\0', "");
        if !body.trim().is_empty() {
            text.push('\n');
            text.push_str(body.trim_end());
            text.push('\n');
        }
        if !self.trailers.is_empty() {
            text.push('\n');
        }
        for (key, value) in &self.trailers {
            let line = format!("{}: {}\n", line(key), line(value)).replace('\0', "");
            text.push_str(&line);
        }
        text
    }
}

impl Reader {
    /// The facts of a commit.
    pub fn commit(&self, id: &CommitId) -> Result<Commit> {
        Commit::of(&find_commit(&self.repo, id)?)
    }

    /// The commits after `after` up to `tip` on the line of first parents, newest first.
    ///
    /// Without `after`, the whole line. At most [`HISTORY_COMMITS_MAX`] of them.
    pub fn history(&self, after: Option<&CommitId>, tip: &CommitId) -> Result<Vec<Commit>> {
        let tip = find_commit(&self.repo, tip)?.id();
        let after = after.map(|id| find_commit(&self.repo, id)).transpose()?;
        first_parents(&self.repo, after.map(|commit| commit.id()), tip)?
            .into_iter()
            .map(|id| Commit::of(&self.repo.find_commit(id)?))
            .collect()
    }

    /// Whether `later` is `earlier` or has it among its ancestors.
    pub fn contains(&self, later: &CommitId, earlier: &CommitId) -> Result<bool> {
        let later = find_commit(&self.repo, later)?.id();
        let earlier = find_commit(&self.repo, earlier)?.id();
        Ok(later == earlier || self.repo.graph_descendant_of(later, earlier)?)
    }
}

fn first_parents(repo: &Repository, after: Option<Oid>, tip: Oid) -> Result<Vec<Oid>> {
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL)?;
    walk.push(tip)?;
    if let Some(after) = after {
        walk.hide(after)?;
    }
    walk.simplify_first_parent()?;
    walk.take(HISTORY_COMMITS_MAX).map(|id| Ok(id?)).collect()
}
