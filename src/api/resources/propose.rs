//! From a decision to a result: into the log, or, for a dry run, onto a State that is thrown away.

use axum::http::StatusCode;

use crate::{
    api::{Api, Failure},
    kinds::{FieldError, KindInfo, Reason},
    model::{Key, Object, Problem, RequestId, Revision},
    state::{Command, Entry, Op, Outcome, Refusal, State, View},
};

/// What became of a write.
pub(super) struct Written {
    /// The object as it was stored, or as it was last, when it is gone.
    pub(super) object: Object,
    /// Whether it is gone.
    pub(super) gone: bool,
}

/// Applies ops to one object, all or none, and gives it as they left it.
pub(super) async fn write(
    api: &Api,
    info: &KindInfo,
    key: &Key,
    ops: Vec<Op>,
    dry_run: bool,
) -> Result<Written, Failure> {
    run(api, info, key, Command::Write(ops), dry_run).await
}

/// Runs one command that changes one object, and gives the object as it left it.
pub(super) async fn run(
    api: &Api,
    info: &KindInfo,
    key: &Key,
    command: Command,
    dry_run: bool,
) -> Result<Written, Failure> {
    let (revision, view) = match dry_run {
        true => attempt(api, info, key, command)?,
        false => {
            let outcomes = api.backend.propose(vec![command]).await?;
            (done(info, key, outcomes)?, api.view())
        }
    };
    left(&view, key, revision).ok_or_else(|| Failure::no_object(info, &key.name))
}

/// The object as it was left by the change at `revision`. When that change was no change, or lies
/// beyond the history, the object as it is now.
fn left(view: &View, key: &Key, revision: Revision) -> Option<Written> {
    let before = Revision(revision.0.saturating_sub(1));
    let changes = view.changes_since(before).into_iter().flatten();
    let ours = changes.take_while(|c| c.revision <= revision).find(|c| c.key == *key);
    match ours.map(|change| (change.old.clone(), change.new.clone())) {
        Some((_, Some(object))) => Some(Written { object, gone: false }),
        Some((Some(object), None)) => Some(Written { object, gone: true }),
        _ => Some(Written { object: view.object(key)?.clone(), gone: false }),
    }
}

fn attempt(
    api: &Api,
    info: &KindInfo,
    key: &Key,
    command: Command,
) -> Result<(Revision, View), Failure> {
    let mut trial = State::trial(&api.view());
    let id = RequestId(api.backend.random());
    let outcomes = trial.apply(Entry::new(id, api.backend.now(), vec![command]));
    Ok((done(info, key, outcomes)?, trial.view().clone()))
}

fn done(info: &KindInfo, key: &Key, outcomes: Vec<Outcome>) -> Result<Revision, Failure> {
    match outcomes.into_iter().next() {
        Some(Outcome::Done(revision)) => Ok(revision),
        Some(Outcome::Refused(refusal)) => Err(refused(info, key, refusal)),
        None => Err(Failure::internal("the log gave no answer")),
    }
}

/// A refusal of State in Kubernetes' words.
fn refused(info: &KindInfo, key: &Key, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::AlreadyExists(found) if found == *key => Failure::exists(info, &key.name),
        Refusal::NotFound(found) if found == *key => Failure::no_object(info, &key.name),
        Refusal::Conflict { key: found, .. } if found == *key => Failure::modified(info, &key.name),
        Refusal::NotFound(_) => Failure::not_found(refusal.to_string()),
        Refusal::Invalid { problems } => {
            let errors: Vec<FieldError> = problems.into_iter().map(field_error).collect();
            Failure::not_valid((&info.kind, &info.group), &key.name, &errors)
        }
        Refusal::Exhausted(text) => {
            Failure::of(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", text)
        }
        other => Failure::conflict(other.to_string()),
    }
}

/// What State found wrong, with the reason that its wording begins with.
fn field_error(problem: Problem) -> FieldError {
    let starts = |words: &str| problem.message.starts_with(words);
    let reason = match () {
        () if starts("Required value") => Reason::Required,
        () if starts("Forbidden") => Reason::Forbidden,
        () if starts("Duplicate value") => Reason::Duplicate,
        () if starts("Unsupported value") => Reason::NotSupported,
        () => Reason::Invalid,
    };
    FieldError { field: problem.field, reason, detail: problem.message }
}
