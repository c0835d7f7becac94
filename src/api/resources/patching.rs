//! Patches of requests: from headers and a body to the value that is wanted.

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::{Ask, books, options, write};
use crate::{
    api::{
        Failure,
        failure::{Cause, Details},
        patch::{self, Patch, PatchError, Schema},
    },
    kinds::{FieldError, Reason, Strictness},
};

/// What a server-side apply is sent as.
const APPLY: &str = "application/apply-patch+yaml";

/// Whether a request is a server-side apply.
pub(super) fn is_apply(ask: &Ask) -> bool {
    let media = media(&ask.headers).split(';').next().unwrap_or_default().trim();
    ask.verb == "patch" && media == APPLY
}

fn media(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Reads the patch of a request. Fields that are there twice are refused when it is strict, else
/// told, unless nobody wants to hear.
pub(super) fn read(ask: &Ask, strictness: Strictness) -> Result<(Patch, Vec<FieldError>), Failure> {
    let (patch, problems) = Patch::parse(&ask.body, media(&ask.headers)).map_err(failure)?;
    books::check(ask)?;
    match (strictness, &patch) {
        (Strictness::Strict, Patch::Apply(_)) if !problems.is_empty() => {
            let why = problems.join(", ");
            let text = format!("error strict decoding patch: error converting YAML to JSON: {why}");
            Err(Failure::bad_request(text))
        }
        (Strictness::Strict, patch) if !problems.is_empty() => Err(not_strict(patch, &problems)),
        (Strictness::Ignore, _) => Ok((patch, Vec::new())),
        _ => Ok((patch, problems.into_iter().map(write::warned).collect())),
    }
}

/// What the door of kinds found wrong with a patched object. A field that no kind has is the
/// patch's fault, unless it is an apply.
pub(super) fn not_admitted(ask: &Ask, name: &str, errors: Vec<FieldError>) -> Failure {
    let any = |reason: Reason| errors.iter().any(|error| error.reason == reason);
    let parsed = Patch::parse(&ask.body, media(&ask.headers));
    match parsed {
        Ok((patch, _)) if any(Reason::Unknown) && !any(Reason::TypeInvalid) && !is_apply(ask) => {
            let unknown = errors.iter().filter(|error| error.reason == Reason::Unknown);
            let lines: Vec<String> = unknown.map(|error| error.detail.clone()).collect();
            not_strict(&patch, &lines)
        }
        _ => write::not_admitted(&ask.info, name, errors),
    }
}

fn not_strict(patch: &Patch, problems: &[String]) -> Failure {
    let why = format!("strict decoding error: {}", problems.join(", "));
    failure(PatchError::Invalid { value: patch.to_string(), why })
}

/// Applies a patch that is no server-side apply to a live value; gives a map.
pub(super) fn apply(schema: Schema<'_>, patch: &Patch, live: &Value) -> Result<Value, Failure> {
    let value = patch::apply(live, patch, schema).map_err(failure)?;
    match value.is_object() {
        true => Ok(value),
        false => Err(failure(PatchError::Rejected)),
    }
}

/// A patch that gives nothing, as Kubernetes answers it.
pub(super) fn failure(error: PatchError) -> Failure {
    let text = error.to_string();
    match error {
        PatchError::UnknownType | PatchError::NotStrategic => {
            let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Failure::of(code, "UnsupportedMediaType", text).with(Details::default())
        }
        PatchError::Malformed(_) => Failure::bad_request(text),
        PatchError::TooLarge(_) => {
            Failure::of(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", text)
        }
        PatchError::Rejected => {
            Failure::of(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", text).with(Details::default())
        }
        PatchError::Invalid { .. } => {
            let cause = Cause {
                reason: "FieldValueInvalid".to_owned(),
                message: text.trim_start_matches("patch: ").to_owned(),
                field: "patch".to_owned(),
            };
            let details = Details { causes: vec![cause], ..Details::default() };
            let text = format!(" \"\" is invalid: {text}");
            Failure::of(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", text).with(details)
        }
        PatchError::Unfit(_) => options::without_reason(text),
        PatchError::Conflicts(conflicts) => {
            let causes = conflicts.into_iter().map(|conflict| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {}", conflict.manager),
                field: conflict.field,
            });
            let details = Details { causes: causes.collect(), ..Details::default() };
            Failure::conflict(text).with(details)
        }
    }
}
