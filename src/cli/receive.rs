//! `mainstay receive`: what a `pre-receive` hook asks.

use std::{
    io::{BufRead, Write},
    path::PathBuf,
};

use super::{Common, Error, Kind, client::Client};
use crate::{
    git::{self, PUSH_BYTES_MAX},
    model::CommitId,
    report::{PlanReport, plan_text},
};

/// How long a push waits for the cluster's word. Beyond it the push is let in: a cluster that is
/// away must not keep people from committing.
const ANSWER_SECONDS_MAX: u64 = 30;

/// Most lines of a plan that a pusher sees.
const LINES_MAX: usize = 60;

/// What Git writes for a ref that is not there.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// Judge a push in a pre-receive hook: print what it would change, and refuse what the cluster
/// would
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// The branch that the cluster follows
    #[arg(long, default_value = "main")]
    branch: String,
    /// Say what is wrong, and let the push in all the same
    #[arg(long)]
    warn: bool,
    #[command(flatten)]
    common: Common,
}

/// One line of what Git tells the hook.
#[derive(Debug, PartialEq, Eq)]
struct Update {
    old: Option<CommitId>,
    new: CommitId,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let lines = std::io::stdin().lock().lines().map_while(Result::ok);
    let wanted = format!("refs/heads/{}", verb.branch);
    let Some(update) = lines.filter_map(|line| update(&line, &wanted)).last() else {
        return Ok(());
    };
    let plan = match judge(verb, &update).await {
        Ok(plan) => plan,
        Err(why) => {
            say(&format!("{why}\nit is judged once it is pushed: see mainstay status\n"));
            return Ok(());
        }
    };
    say(&bounded(&plan_text(&plan)));
    match plan.problems.len() {
        0 => Ok(()),
        _ if verb.warn => {
            say("the cluster will refuse this commit\n");
            Ok(())
        }
        _ => Err(Error { kind: Kind::No, message: refusal(plan.problems.len()), hint: None }),
    }
}

fn refusal(problems: usize) -> String {
    let what = if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") };
    format!("the cluster would refuse this commit: {what}; mend it and push again")
}

/// What the line says of the branch; nothing when it speaks of another one, or of its end.
fn update(line: &str, wanted: &str) -> Option<Update> {
    let mut words = line.split(' ');
    let (old, new, reference) = (words.next()?, words.next()?, words.next()?);
    if reference != wanted || new == NOTHING {
        return None;
    }
    Some(Update {
        old: CommitId::parse(old).filter(|_| old != NOTHING),
        new: CommitId::parse(new)?,
    })
}

/// Asks the cluster; the error says why it has no word to say.
async fn judge(verb: &Verb, update: &Update) -> Result<PlanReport, String> {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let dir = path("GIT_DIR").unwrap_or_else(|| PathBuf::from("."));
    let packed = git::pack_push(
        &dir,
        path("GIT_QUARANTINE_PATH").as_deref(),
        update.old.as_ref(),
        &update.new,
    );
    let pack = match packed {
        Ok(pack) => pack,
        Err(git::Error::Oversized { .. }) => {
            return Err(format!("it is larger than {} MiB", PUSH_BYTES_MAX >> 20));
        }
        Err(error) => return Err(format!("it cannot be read: {error}")),
    };
    let old = update.old.as_ref().map(|old| format!("&old={old}")).unwrap_or_default();
    let path = format!("/mainstay/v1/receive?new={}{old}", update.new);
    let client = Client::find(&verb.common).map_err(|e| e.message)?;
    client.upload(&path, pack, ANSWER_SECONDS_MAX).await.map_err(|e| e.message)
}

/// The first lines of a plan.
fn bounded(text: &str) -> String {
    let count = text.lines().count();
    let mut kept: String = text.lines().take(LINES_MAX).map(|line| format!("{line}\n")).collect();
    if count > LINES_MAX {
        kept += &format!("… and {} more lines\n", count - LINES_MAX);
    }
    kept
}

/// Git shows it to who pushes, each line behind `remote:`. Nobody is left to tell when it is
/// closed.
fn say(text: &str) {
    let lines: String = text.lines().map(|line| format!("mainstay: {line}\n")).collect();
    drop(std::io::stderr().write_all(lines.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_move_of_the_branch_is_judged() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let of = |old: &str, new: &str, name: &str| {
            update(&format!("{old} {new} refs/heads/{name}"), "refs/heads/main")
        };
        let parsed = |id: &str| CommitId::parse(id).unwrap();
        assert_eq!(of(&a, &b, "main"), Some(Update { old: Some(parsed(&a)), new: parsed(&b) }));
        assert_eq!(of(NOTHING, &b, "main"), Some(Update { old: None, new: parsed(&b) }));
        assert_eq!(of(&a, NOTHING, "main"), None, "it is deleted");
        assert_eq!(of(&a, &b, "next"), None);
        assert_eq!(of(&a, &b, "mainstay/status"), None);
        assert_eq!(update("nonsense", "refs/heads/main"), None);
    }

    #[test]
    fn a_long_plan_is_cut_with_a_word() {
        let long: String = (0..100).map(|n| format!("+ line {n}\n")).collect();
        let told = bounded(&long);
        assert_eq!(told.lines().count(), LINES_MAX + 1);
        assert!(told.ends_with("… and 40 more lines\n"));
        assert_eq!(bounded("one\n"), "one\n");
    }
}
