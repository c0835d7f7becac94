//! `mainstay diff [<rev>]`

use std::path::{Path, PathBuf};

use super::{
    Common, Error,
    client::{Client, quoted},
    machine, output,
};
use crate::{
    git::{Desk, Person},
    model::CommitId,
    report::{ClusterStatus, PlanReport, plan_text},
};

/// How long the cluster may take to look at what it is shown.
const ANSWER_SECONDS_MAX: u64 = 70;

/// Compare files or a revision with the cluster; exit 1 when they would change something, 2 when
/// they would be refused
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// Commit, branch or tag: of the repository at hand, else of the one that the cluster follows;
    /// when absent the files as they are, committed or not
    revision: Option<String>,
    /// The working tree that this folder is in; the folder by itself when it is in none
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    files: PathBuf,
    /// Take the folder by itself, whatever repository it is in
    #[arg(long, conflicts_with = "revision")]
    alone: bool,
    /// Merge it into the commit that runs first, so that what others changed meanwhile stays
    #[arg(long, conflicts_with = "alone")]
    merged: bool,
    #[command(flatten)]
    common: Common,
}

/// Where what is compared is found.
#[derive(Debug)]
enum Found {
    /// Here: what the cluster has not seen.
    Here { old: Option<CommitId>, new: CommitId, pack: Vec<u8> },
    /// In the repository that the cluster follows.
    There(String),
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let client = Client::find(&verb.common)?;
    let status: ClusterStatus = client.get("/mainstay/v1/status").await?;
    let running = status.running.and_then(|running| CommitId::parse(&running.commit));
    let merged = verb.merged;
    let report: PlanReport = match find(verb, running.as_ref())? {
        Found::Here { old, new, pack } => {
            let old = old.map(|old| format!("&old={old}")).unwrap_or_default();
            let path = format!("/mainstay/v1/diff?new={new}&merged={merged}{old}");
            client.upload(&path, pack, ANSWER_SECONDS_MAX).await?
        }
        Found::There(revision) => {
            let revision = quoted(&revision);
            let path = format!("/mainstay/v1/plan?revision={revision}&merged={merged}");
            client.get(&path).await?
        }
    };
    output::print(verb.common.output, &report, plan_text)?;
    match (report.problems.len(), report.is_empty()) {
        (0, true) => Ok(()),
        // The difference has been printed; that there is one is no error to speak of.
        (0, false) => Err(Error::no("")),
        (n, _) => Err(Error::yours(format!("it would be refused: {n} problems"))),
    }
}

fn find(verb: &Verb, running: Option<&CommitId>) -> Result<Found, Error> {
    let dir = verb.files.as_path();
    let around = if verb.alone { None } else { Desk::around(dir).map_err(|e| wrong(dir, &e))? };
    let desk = match (around, &verb.revision) {
        (Some(desk), _) => desk,
        (None, Some(revision)) => return Ok(Found::There(revision.clone())),
        (None, None) => return whole(dir),
    };
    let here = running.is_none_or(|running| desk.has(running));
    let new = match &verb.revision {
        Some(revision) => match desk.revision(revision).filter(|_| here) {
            Some(new) => new,
            None => return Ok(Found::There(revision.clone())),
        },
        None if here => desk.draft(&nobody()).map_err(|e| wrong(dir, &e))?,
        None => return Err(stranger(&desk, dir, running)),
    };
    let pack = desk.pack(running, &new).map_err(|e| wrong(dir, &e))?;
    Ok(Found::Here { old: running.cloned(), new, pack })
}

/// A folder as all there is.
fn whole(dir: &Path) -> Result<Found, Error> {
    let desk = Desk::alone(dir).map_err(|e| wrong(dir, &e))?;
    let new = desk.draft(&nobody()).map_err(|e| wrong(dir, &e))?;
    let pack = desk.pack(None, &new).map_err(|e| wrong(dir, &e))?;
    Ok(Found::Here { old: None, new, pack })
}

fn wrong(dir: &Path, error: &crate::git::Error) -> Error {
    Error::yours(format!("{}: {error}", dir.display()))
}

fn stranger(desk: &Desk, dir: &Path, running: Option<&CommitId>) -> Error {
    let place = desk.files().unwrap_or(dir).display().to_string();
    let running = running.map_or("?", CommitId::short);
    Error::yours(format!("the cluster runs commit {running}, which is not in {place}")).hint(
        "fetch it (git fetch), name the right working tree with --files, or compare the folder by \
         itself with --alone",
    )
}

/// Whose a commit is that nobody made.
fn nobody() -> Person {
    Person { name: "you".to_owned(), email: "you@localhost".to_owned(), at: machine::now() }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    fn git(dir: &Path, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn verb(files: &Path, revision: Option<&str>, alone: bool) -> Verb {
        let common = Common { dir: None, output: output::Format::Text };
        let revision = revision.map(str::to_owned);
        Verb { revision, files: files.to_owned(), alone, merged: false, common }
    }

    /// What must not happen: a working tree that has nothing to do with the cluster, compared with
    /// it as if everything were to go.
    #[test]
    fn what_is_compared_is_what_was_meant() {
        let dir = tempfile::tempdir().unwrap();
        let (repo, plain) = (dir.path().join("repo"), dir.path().join("plain"));
        fs::create_dir_all(repo.join("apps")).unwrap();
        fs::create_dir_all(&plain).unwrap();
        fs::write(plain.join("a.yaml"), "a: 1\n").unwrap();
        fs::write(repo.join("apps/a.yaml"), "a: 1\n").unwrap();
        git(&repo, &["init", "--quiet", "--initial-branch", "main"]);
        git(&repo, &["add", "."]);
        git(&repo, &["commit", "--quiet", "--message", "one"]);
        let first = CommitId::parse(&git(&repo, &["rev-parse", "HEAD"])).unwrap();
        let other = CommitId::parse(&"7".repeat(40)).unwrap();
        let here = |verb: &Verb, running: Option<&CommitId>| match find(verb, running).unwrap() {
            Found::Here { old, new, pack } => (old, new, pack.len()),
            Found::There(revision) => panic!("{revision} was looked for elsewhere"),
        };
        let apps = repo.join("apps");
        let clean = here(&verb(&apps, None, false), Some(&first));
        assert_eq!((clean.0, clean.1), (Some(first.clone()), first.clone()));
        let (old, new, size) = here(&verb(&apps, None, true), Some(&first));
        assert!(old.is_none() && new != first && size > 100, "by itself it has no history");
        let (old, _, size) = here(&verb(&plain, None, false), Some(&first));
        assert!(old.is_none() && size > 100);
        let at_main = here(&verb(&apps, Some("main"), false), Some(&first));
        assert_eq!(at_main.1, first);
        let refused = find(&verb(&apps, None, false), Some(&other)).unwrap_err();
        assert!(refused.message.contains("runs commit 7777777"), "{}", refused.message);
        assert!(refused.hint.unwrap().contains("--alone"));
        for (place, revision) in [(&apps, "nowhere"), (&plain, "main")] {
            let found = find(&verb(place, Some(revision), false), Some(&first)).unwrap();
            assert!(matches!(found, Found::There(name) if name == revision));
        }
        let unrelated = find(&verb(&apps, Some("main"), false), Some(&other)).unwrap();
        assert!(matches!(unrelated, Found::There(_)), "main of the cluster's repository is meant");
    }
}
