//! Patches of requests: from headers and a body to the value that is wanted.

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::options;
use crate::{
    api::{
        Failure,
        failure::{Cause, Details},
        patch::{self, Patch, PatchError, Schema},
    },
    kinds::KindInfo,
};

/// Applies the patch of a request to a live value.
pub(super) fn apply(
    info: &KindInfo,
    headers: &HeaderMap,
    live: &Value,
    body: &[u8],
) -> Result<Value, Failure> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let (patch, _) = Patch::parse(body, media.unwrap_or_default()).map_err(failure)?;
    let schema = Schema::of(info.api_version, info.kind);
    patch::apply(live, &patch, schema).map_err(failure)
}

/// A patch that gives nothing, as Kubernetes answers it.
fn failure(error: PatchError) -> Failure {
    let text = error.to_string();
    match error {
        PatchError::UnknownType => {
            Failure::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", text)
        }
        PatchError::Malformed(_) => Failure::bad_request(text),
        PatchError::TooLarge(_) => {
            Failure::of(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", text)
        }
        PatchError::Rejected => Failure::of(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", text),
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
