//! From the bytes of a request to a JSON value, and whether it is what the path is for.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::{Ask, write};
use crate::{
    api::{
        Failure,
        codec::{self, CodecError, Decoded},
    },
    kinds::{FieldError, Strictness},
};

/// Reads a body. `kind` is what an error says it should have been.
pub(in crate::api) fn decode(
    headers: &HeaderMap,
    bytes: &Bytes,
    kind: &str,
) -> Result<Value, Failure> {
    read(headers, bytes, kind).map(|decoded| decoded.value)
}

/// Reads the body of a write. Fields that are there twice are refused when it is strict, else
/// told, unless nobody wants to hear.
pub(super) fn sent(ask: &Ask, strictness: Strictness) -> Result<(Value, Vec<FieldError>), Failure> {
    let Decoded { value, problems } = read(&ask.headers, &ask.body, &ask.info.kind)?;
    let problems: Vec<FieldError> = problems.into_iter().map(write::warned).collect();
    match strictness {
        Strictness::Strict if !problems.is_empty() => {
            let name = value["metadata"]["name"].as_str().unwrap_or_default();
            Err(write::not_admitted(&ask.info, name, problems))
        }
        Strictness::Ignore => Ok((value, Vec::new())),
        _ => Ok((value, problems)),
    }
}

fn read(headers: &HeaderMap, bytes: &Bytes, kind: &str) -> Result<Decoded, Failure> {
    let unrecognized = |why: String| {
        Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why}"
        ))
    };
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let decoded = codec::decode(bytes, media.unwrap_or_default());
    let decoded = match decoded {
        Ok(decoded) => decoded,
        Err(CodecError::UnknownFormat) => {
            let text = CodecError::UnknownFormat.to_string();
            let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Failure::of(code, "UnsupportedMediaType", text));
        }
        Err(CodecError::Malformed(why)) => {
            return Err(unrecognized(format!("couldn't get version/kind; {why}")));
        }
    };
    match decoded.value.is_object() {
        true => Ok(decoded),
        false => Err(unrecognized("couldn't get version/kind; it is no map".to_owned())),
    }
}

/// Gives a value the `apiVersion` and `kind` of its path where it has none, and refuses others.
pub(super) fn identify(ask: &Ask, value: &mut Value) -> Result<(), Failure> {
    typed_as(value, &ask.api_version, &ask.info.kind)
}

/// As [`identify`], for what is no stored kind.
pub(in crate::api) fn typed_as(
    value: &mut Value,
    api_version: &str,
    kind: &str,
) -> Result<(), Failure> {
    let text = |value: &Value, field: &str| {
        value[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let found_kind = text(value, "kind").unwrap_or_else(|| kind.to_owned());
    let found_version = text(value, "apiVersion").unwrap_or_else(|| api_version.to_owned());
    let version = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    if found_kind != kind {
        return Err(Failure::bad_request(format!(
            "{found_kind} in version {:?} cannot be handled as a {kind}: the path is for {kind} of \
             {api_version}",
            version(&found_version)
        )));
    }
    if found_version != api_version {
        return Err(Failure::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version \
             ({api_version})"
        )));
    }
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(())
}
