//! Whether the server lives and is ready, as Kubernetes' API server says it.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::Api;

/// One thing that must be true of a server that answers requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// One word (`log`, `source`).
    pub name: &'static str,
    /// What is wrong; `None` when nothing is.
    pub failed: Option<String>,
}

/// The process answers; nothing else is asked of it, so that a restart is only ever the answer to
/// being stuck.
pub(super) async fn live() -> &'static str {
    "ok"
}

/// Every check; with `?verbose` one line each, as with every failure.
pub(super) async fn ready(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let verbose = query.split('&').any(|part| part.split('=').next() == Some("verbose"));
    let checks = api.backend.checks();
    let failed = checks.iter().any(|check| check.failed.is_some());
    if !failed && !verbose {
        return "ok".into_response();
    }
    let mut text = String::new();
    for check in &checks {
        match &check.failed {
            None => text += &format!("[+]{} ok\n", check.name),
            Some(why) => text += &format!("[-]{} failed: {why}\n", check.name),
        }
    }
    text += if failed { "readyz check failed\n" } else { "readyz check passed\n" };
    let code = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, text).into_response()
}

/// Which program answers. `major` and `minor` are those of the Kubernetes API it serves, which is
/// what clients read.
pub(super) async fn version() -> Json<Value> {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({
        "major": "1", "minor": "37",
        "gitVersion": format!("v1.37.1+mainstay.{version}"),
        "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, arch()),
    }))
}

/// The architecture in Go's words, which clients know.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
