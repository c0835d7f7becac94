//! mainstay's own kinds.

use serde_json::Value;

use super::{
    AGE, Column, NAME,
    age::{age, since},
    text::name,
};
use crate::{
    kinds::{Commit, CommitChanges, CommitState, Freeze, GitReference, GitSource},
    model::{Object, Timestamp},
};

pub(in crate::kinds) const COMMIT: [Column; 8] = [
    NAME,
    Column::text("State", "How far the commit has come."),
    Column::text("Subject", "The first line of its message."),
    Column::text("Author", "Who wrote it."),
    AGE,
    Column::text("Changes", "Objects added, changed and pruned.").wide(),
    Column::text("Source", "The GitSource it came from.").wide(),
    Column::text("Message", "Why it is in this state.").wide(),
];
pub(in crate::kinds) const GIT_SOURCE: [Column; 7] = [
    NAME,
    Column::text(
        "Ready",
        "Whether the remote answers and, of other sources than main, the newest commit runs well.",
    ),
    Column::text("Reference", "The branch, tag or commit that is followed."),
    Column::text("Admitted", "The newest commit that was admitted."),
    Column::text("Last Fetch", "How long ago the remote last answered."),
    AGE,
    Column::text("URL", "Where the repository is.").wide(),
];

pub(in crate::kinds) const FREEZE: [Column; 5] = [
    NAME,
    Column::text("Active", "Whether it holds commits now."),
    Column::text("Until", "When it ends by itself."),
    Column::text("Reason", "Why there is one."),
    AGE,
];

/// Characters of a commit's id that are shown beside other things, as Git shortens them.
const SHORT_ID: usize = 12;

pub(in crate::kinds) fn commit(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let commit: &Commit = object.view()?;
    let (spec, status) = (&commit.spec, &commit.status);
    Some(vec![
        name(object),
        state(status.state).into(),
        spec.subject.as_str().into(),
        spec.author.as_str().into(),
        age(object, now),
        changes(&status.changes).into(),
        spec.source.as_str().into(),
        status.message.as_str().into(),
    ])
}

fn state(state: CommitState) -> &'static str {
    match state {
        CommitState::Admitted => "Admitted",
        CommitState::Progressing => "Progressing",
        CommitState::Healthy => "Healthy",
        CommitState::Degraded => "Degraded",
        CommitState::Refused => "Refused",
        CommitState::Superseded => "Superseded",
        CommitState::Held => "Held",
    }
}

/// `+3 ~1 -0`
fn changes(changes: &CommitChanges) -> String {
    format!("+{} ~{} -{}", changes.added, changes.changed, changes.pruned)
}

pub(in crate::kinds) fn git_source(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let source: &GitSource = object.view()?;
    let status = &source.status;
    let condition = |kind: &str| status.conditions.iter().find(|c| c.type_ == kind);
    let unreachable = condition("SourceReady").filter(|c| c.status != "True");
    let ready = unreachable.or(condition("Ready")).or(condition("SourceReady"));
    let admitted = status.admitted_commit.as_deref().unwrap_or("<none>");
    let fetched = status.last_fetch_at.map(|at| since(Timestamp(at), now));
    Some(vec![
        name(object),
        ready.map_or("Unknown", |c| c.status.as_str()).into(),
        reference(&source.spec.reference).into(),
        admitted.get(..SHORT_ID).unwrap_or(admitted).into(),
        fetched.unwrap_or_else(|| "<never>".to_owned()).into(),
        age(object, now),
        source.spec.url.as_str().into(),
    ])
}

pub(in crate::kinds) fn freeze(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let spec = &object.view::<Freeze>()?.spec;
    let active = spec.end().is_some_and(|end| end > now);
    Some(vec![
        name(object),
        if active { "True" } else { "False" }.into(),
        spec.until.as_str().into(),
        spec.reason.as_str().into(),
        age(object, now),
    ])
}

fn reference(reference: &GitReference) -> &str {
    let given = [&reference.branch, &reference.tag, &reference.commit];
    given.into_iter().flatten().next().map_or("HEAD", String::as_str)
}
