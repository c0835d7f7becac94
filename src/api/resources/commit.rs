//! A write that becomes a commit: from what a request wants to what the repository is asked for.
//!
//! Whoever pushes is told the object before and after, without what only the cluster writes; the
//! file, the proof and the push are the server's ([`Backend::commit`](crate::api::Backend::commit),
//! docs/adr/0021-writes-become-commits.md). What comes back is the object as it was admitted.

use axum::http::{StatusCode, header};
use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Ask, propose::Written};
use crate::{
    api::{
        Api, Failure,
        failure::{Cause, Details},
    },
    kinds::{KindInfo, LAST_APPLIED},
    model::{Key, Object, Problem},
    state::{Command, Expect, Op, Part},
};

/// What of an object's metadata only the cluster writes.
const SERVER_SET: [&str; 10] = [
    "generateName",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
];

/// Annotations that tell of a write and are no wish: the first is kubectl's memory and stays with
/// the object alone, a Deployment's revision is counted by its controller, and where an object
/// comes from is written when it is admitted.
const NOT_WISHED: [&str; 4] =
    [LAST_APPLIED, "deployment.kubernetes.io/revision", "mainstay.io/commit", "mainstay.io/source"];

/// How often kubectl's memory is written while controllers write the same object. Without it
/// kubectl warns, once more.
const REMEMBER_TRIES_MAX: usize = 5;

/// Most characters of a program's name in a commit.
const PROGRAM_CHARS_MAX: usize = 64;

/// The reason of a conflict between a write and a commit: the same write on newer ground would
/// undo what somebody said.
const REAL: &str = "ChangedInGit";

/// A write that shall become a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// The object.
    pub key: Key,
    /// What the writer saw; none when it shall be made.
    pub before: Option<Value>,
    /// What it shall be; none when it shall go.
    pub after: Option<Value>,
    /// The name of who writes.
    pub author: String,
    /// The program that writes, and how: `kubectl/v1.33.2 (patch)`.
    pub via: String,
    /// Whether Git shall say what the live object says, where it says something else.
    #[serde(default)]
    pub adopt: bool,
}

/// What a wish would make of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draft {
    /// Its path in the repository.
    pub file: String,
    /// The difference, as `git diff` shows it.
    pub patch: String,
}

/// Why a write did not become a commit. Nothing changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Uncommitted {
    /// Somebody's commit changed the same fields to something else.
    Conflict {
        /// The fields.
        fields: Vec<String>,
        /// Who, and in which commit.
        other: String,
    },
    /// The object is no longer in Git.
    Gone,
    /// It is in Git already.
    Exists,
    /// The files with the change would say something else, or nothing valid.
    Refused(Vec<Problem>),
    /// The remote does not take our pushes.
    Forbidden(String),
    /// The remote, or the server that leads, does not answer.
    Unavailable(String),
}

/// Has a write made a commit; gives the object as that commit left it.
pub(super) async fn write(
    api: &Api,
    ask: &Ask,
    key: &Key,
    before: Option<&Object>,
    after: Option<&Value>,
) -> Result<Written, Failure> {
    if before.is_none() && key.is::<Secret>() {
        let why = "its namespace belongs to Git, and a secret would stand there for everybody to \
                   read: create it in a namespace that says mainstay.io/writes: direct";
        return Err(Failure::refused(&ask.info, &key.name, why));
    }
    let before_value = before.map(|object| wished(object.value()));
    let after_value = after.map(|value| wished(value.clone()));
    let applied = after.and_then(|value| value["metadata"]["annotations"][LAST_APPLIED].as_str());
    if let (Some(before), true) = (before, before_value == after_value) {
        let object = remember(api, before.clone(), applied).await?;
        return Ok(Written { object, gone: false });
    }
    let wish = Wish {
        key: key.clone(),
        before: before_value,
        after: after_value,
        author: ask.user.name.clone(),
        via: via(ask),
        adopt: false,
    };
    let author = wish.author.clone();
    let made = api.backend.commit(wish).await;
    made.map_err(|why| failure(&ask.info, key, &author, why))?;
    let view = api.view();
    match (view.object(key), before) {
        (Some(object), _) => {
            let object = remember(api, object.clone(), applied).await?;
            Ok(Written { object, gone: false })
        }
        (None, Some(before)) => Ok(Written { object: before.clone(), gone: true }),
        (None, None) => Err(Failure::no_object(&ask.info, &key.name)),
    }
}

/// Keeps what kubectl applied with the object, where the next `kubectl apply` looks for it; gives
/// the object with it.
async fn remember(api: &Api, object: Object, applied: Option<&str>) -> Result<Object, Failure> {
    let Some(applied) = applied else { return Ok(object) };
    let mut object = object;
    for _ in 0..REMEMBER_TRIES_MAX {
        if object.annotation(LAST_APPLIED) == Some(applied) {
            return Ok(object);
        }
        let mut value = object.value();
        value["metadata"]["annotations"][LAST_APPLIED] = applied.into();
        let with = Object::from_value(&value).map_err(|e| Failure::internal(e.to_string()))?;
        let expect = Expect::At(object.revision());
        let put = Op::Put { object: with, expect, part: Part::Main };
        api.backend.propose(vec![Command::Write(vec![put])]).await?;
        // A controller may have written in between: then once more on what there is.
        let Some(newest) = api.view().object(object.key()).cloned() else { break };
        object = newest;
    }
    Ok(object)
}

/// Whether a failure says that a commit changed what the write changes.
pub(super) fn is_real_conflict(failure: &Failure) -> bool {
    let causes = failure.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == REAL)
}

/// An object without what only the cluster writes.
pub(in crate::api) fn wished(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        // kubectl sends one for a Namespace that says nothing.
        if object.get("spec").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
            object.remove("spec");
        }
    }
    let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) else { return value };
    for field in SERVER_SET {
        meta.remove(field);
    }
    meta.retain(|_, value| !value.is_null());
    if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| !NOT_WISHED.contains(&name.as_str()));
        if annotations.is_empty() {
            meta.remove("annotations");
        }
    }
    value
}

/// The program that asks, in letters that cannot forge a line of a commit.
fn via(ask: &Ask) -> String {
    let agent = ask.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let agent = agent.and_then(|agent| agent.split_whitespace().next()).unwrap_or_default();
    let safe = |c: &char| c.is_ascii_alphanumeric() || "._/+-".contains(*c);
    let name = |text: &str| text.chars().filter(safe).take(PROGRAM_CHARS_MAX).collect::<String>();
    let program = match name(agent) {
        program if program.is_empty() => "unknown".to_owned(),
        program => program,
    };
    let part = match ask.resource.subresource.as_str() {
        "" => ask.verb.to_owned(),
        subresource => format!("{} {}", ask.verb, name(subresource)),
    };
    format!("{program} ({part})")
}

fn failure(info: &KindInfo, key: &Key, author: &str, why: Uncommitted) -> Failure {
    match why {
        Uncommitted::Conflict { fields, other } => {
            let named = fields.join(", ");
            let text = format!(
                "{other} changed {named} meanwhile, and {author} wants something else of it: read \
                 it again and decide"
            );
            let cause = |field: String| Cause {
                reason: REAL.to_owned(),
                message: format!("conflict with {other}"),
                field,
            };
            let causes = fields.into_iter().map(cause).collect();
            let details = Details { causes, ..Details::of(info, &key.name) };
            Failure::cannot(info, &key.name, &text).with(details)
        }
        Uncommitted::Gone => Failure::no_object(info, &key.name),
        Uncommitted::Exists => Failure::exists(info, &key.name),
        Uncommitted::Refused(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let why =
                format!("it comes from Git, and this cannot be committed: {}", lines.join("; "));
            Failure { problems, ..Failure::refused(info, &key.name, &why) }
        }
        Uncommitted::Forbidden(text) => {
            let why = format!("it comes from Git, and the commit was not taken: {text}");
            Failure::refused(info, &key.name, &why)
        }
        Uncommitted::Unavailable(text) => Failure::of(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            format!("{key} comes from Git, and the commit could not be made: {text}"),
        ),
    }
}
