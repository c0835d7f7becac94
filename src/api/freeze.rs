//! `mainstay freeze` and `thaw`: a commit that begins or ends a freeze, by whoever asks.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Extension, State},
    routing::post,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, Failure, Peer, Uncommitted, Wish};
use crate::{
    kinds::{Freeze, FreezeSpec},
    model::Key,
};

/// Longest time that a freeze may be asked for: a year. Who wants more writes the file.
const SECONDS_MAX: u64 = 366 * 24 * 3600;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FreezeRequest {
    /// The name of the Freeze.
    pub name: String,
    /// How long it lasts from now, in seconds; nothing ends it.
    pub seconds: Option<u64>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Folders or files that stay as they are.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Namespaces that stay as they are.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// The sources whose commits are held; all when empty.
    #[serde(default)]
    pub sources: Vec<String>,
}

/// The commit that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FreezeReport {
    /// The name of the Freeze.
    pub freeze: String,
    /// The full id of the commit.
    pub commit: String,
    /// When it ends by itself (RFC 3339); absent when it has been ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/mainstay/v1/freeze", post(freeze))
}

async fn freeze(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Json<FreezeReport>, Failure> {
    let wrong = |e: serde_json::Error| Failure::bad_request(format!("the request: {e}"));
    let asked: FreezeRequest = serde_json::from_slice(&body).map_err(wrong)?;
    let too_long = asked.seconds.is_some_and(|seconds| seconds == 0 || seconds > SECONDS_MAX);
    if too_long {
        return Err(Failure::bad_request("a freeze lasts from a second to a year"));
    }
    let until = asked.seconds.map(|seconds| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        api.backend.now().plus_seconds(seconds).to_string()
    });
    let wish = wish(&api, &asked, until.clone(), &peer.user);
    let commit = api.backend.commit(wish).await.map_err(|why| failure(&asked.name, why))?;
    let (freeze, commit) = (asked.name, commit.to_string());
    Ok(Json(FreezeReport { freeze, commit, until }))
}

fn wish(api: &Api, asked: &FreezeRequest, until: Option<String>, user: &str) -> Wish {
    let key = Key::of::<Freeze>("", &asked.name);
    let stored = api.view().object(&key).and_then(|object| object.view::<Freeze>().cloned());
    let spec = until.map(|until| FreezeSpec {
        until,
        reason: asked.reason.clone(),
        paths: asked.paths.clone(),
        namespaces: asked.namespaces.clone(),
        sources: asked.sources.clone(),
    });
    let verb = if spec.is_some() { "freeze" } else { "thaw" };
    let before = stored.map(|freeze| written(&asked.name, &freeze.spec));
    Wish {
        before: before.or_else(|| spec.is_none().then(|| json!({}))),
        after: spec.map(|spec| written(&asked.name, &spec)),
        key,
        author: user.to_owned(),
        via: format!("mainstay {verb}"),
        adopt: false,
    }
}

fn written(name: &str, spec: &FreezeSpec) -> Value {
    let (api_version, kind) = (crate::kinds::API_VERSION, "Freeze");
    json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn failure(name: &str, why: Uncommitted) -> Failure {
    match why {
        Uncommitted::Conflict { other, .. } => {
            Failure::conflict(format!("{other} changed the freeze {name} meanwhile: try again"))
        }
        Uncommitted::Gone => Failure::not_found(format!("there is no freeze {name} in Git")),
        Uncommitted::Exists => Failure::conflict(format!("there is a freeze {name} already")),
        Uncommitted::Refused(problems) => {
            Failure::invalid("the freeze cannot be committed", problems)
        }
        Uncommitted::Forbidden(text) => Failure::forbidden(text),
        Uncommitted::Unavailable(text) => Failure::unavailable(text),
    }
}
