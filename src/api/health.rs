//! Whether the server lives and is ready, as Kubernetes' API server says it.

use axum::{
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::Api;

/// One thing that must be true of a server that answers requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// One word (`log`, `source`).
    pub name: &'static str,
    /// What is wrong; `None` when nothing is.
    pub failed: Option<String>,
}

/// That the process answers.
const PING: Check = Check { name: "ping", failed: None };

/// The process answers; nothing else is asked of it, so that a restart is only ever the answer to
/// being stuck.
pub(super) async fn live(RawQuery(query): RawQuery) -> Response {
    told("livez", &[PING], &query.unwrap_or_default())
}

/// Every check; with `?verbose` one line each, as with every failure. `?exclude=` leaves one out.
pub(super) async fn ready(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let checks = [vec![PING], api.backend.checks()].concat();
    told("readyz", &checks, &query.unwrap_or_default())
}

/// One check by its name.
pub(super) async fn one(State(api): State<Api>, Path(name): Path<String>) -> Response {
    let checks = [vec![PING], api.backend.checks()].concat();
    match checks.into_iter().find(|check| check.name == name) {
        Some(Check { failed: None, .. }) => "ok".into_response(),
        Some(Check { failed: Some(why), .. }) => {
            let text = format!("internal server error: {why}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
        None => super::discovery::no_page(),
    }
}

fn told(of: &str, checks: &[Check], query: &str) -> Response {
    let words = || query.split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
    let verbose = words().any(|(name, _)| name == "verbose");
    let excluded = |name: &str| words().any(|word| word == ("exclude", name));
    let checks: Vec<&Check> = checks.iter().filter(|check| !excluded(check.name)).collect();
    let failed = checks.iter().any(|check| check.failed.is_some());
    if !failed && !verbose {
        return "ok".into_response();
    }
    let mut text = String::new();
    for check in checks {
        match &check.failed {
            None => text += &format!("[+]{} ok\n", check.name),
            Some(why) => text += &format!("[-]{} failed: {why}\n", check.name),
        }
    }
    text += &format!("{of} check {}\n", if failed { "failed" } else { "passed" });
    let code = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, text).into_response()
}

/// Which program answers. `major` and `minor` are those of the Kubernetes API it serves, which is
/// what clients read.
pub(super) async fn version() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let body = json!({
        "major": "1", "minor": "37", "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": format!("v1.37.1+mainstay.{version}"),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, arch()),
    });
    let text = format!("{body:#}\n");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The architecture in Go's words, which clients know.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
