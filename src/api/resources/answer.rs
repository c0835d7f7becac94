//! From objects to the bytes of an answer, in the form that was asked for.

use std::{borrow::Cow, fmt, io::Write, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use smol_str::SmolStr;

use super::{
    Ask,
    table::{self, Include},
};
use crate::{
    api::{
        Backend, Failure,
        negotiate::{self, Accepted, Form, Format},
    },
    kinds::{FieldError, KindInfo, Reason},
    model::{Object, Seal, Timestamp},
};

/// How many bytes of a list are put together before they are sent: large enough that a chunk costs
/// little, small enough that many lists at once need no memory to speak of.
const CHUNK_BYTES: usize = 64 << 10;

/// Answers from this size on are compressed for those who take it: Kubernetes' own threshold. Below
/// it the time costs more than the bytes.
const GZIP_BYTES_MIN: usize = 128 << 10;

/// The form of one answer.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) info: Arc<KindInfo>,
    /// Where its objects are asked for.
    pub(super) api_version: SmolStr,
    pub(super) accepted: Accepted,
    pub(super) include: Include,
    pretty: bool,
    gzip: bool,
    opener: Opener,
    pub(super) now: Timestamp,
}

/// Opens what is sealed.
#[derive(Clone)]
pub(super) struct Opener(pub(super) Arc<dyn Backend>);

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

/// What stands in the `metadata` of a list.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMeta {
    pub(super) resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub(super) continue_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remaining_item_count: Option<usize>,
}

impl Shape {
    pub(super) fn of(ask: &Ask, list: bool, now: Timestamp) -> Result<Self, Failure> {
        let accepted = negotiate::accepted(&ask.headers, list, ask.verb == "watch")?;
        let include = match accepted.form {
            Form::Table(_) => Include::of(&ask.query)?,
            _ => Include::default(),
        };
        let pretty = ask.query.flag("pretty").unwrap_or_default();
        let gzip = takes_gzip(&ask.headers);
        let (info, api_version) = (ask.info.clone(), ask.api_version.clone());
        let opener = ask.opener.clone();
        Ok(Self { info, api_version, accepted, include, pretty, gzip, opener, now })
    }

    /// Whether objects are shown as they are stored.
    pub(super) fn is_stored(&self) -> bool {
        self.info.is_shown_as_stored(&self.api_version)
    }

    /// An object as it is shown where it was asked for, with plain values.
    pub(super) fn json<'a>(&self, object: &'a Object) -> Cow<'a, [u8]> {
        if object.annotation(Seal::NAME).is_some() {
            let opened = self.opener.0.opened(object).value();
            let shown = self.info.served_at(&self.api_version, opened);
            return Cow::Owned(shown.to_string().into_bytes());
        }
        if self.is_stored() {
            return Cow::Borrowed(object.bytes());
        }
        let shown = self.info.served_at(&self.api_version, object.value());
        Cow::Owned(shown.to_string().into_bytes())
    }

    /// An answer with one object.
    pub(super) fn one(&self, code: StatusCode, object: &Object) -> Response {
        match self.accepted.form {
            Form::Objects => self.bytes(code, self.json(object).into_owned()),
            Form::Metadata => self.bytes(code, metadata_of(object)),
            Form::Table(version) => {
                let meta = json!({ "resourceVersion": object.revision().to_string() });
                let mut body = table::head(self, version, &meta.to_string());
                table::row(self, object, self.now, &mut body);
                body.extend_from_slice(b"]}");
                self.bytes(code, body)
            }
        }
    }

    /// An answer that is no stored object.
    pub(super) fn value(&self, code: StatusCode, value: &Value) -> Response {
        self.bytes(code, value.to_string().into_bytes())
    }

    /// Canonical JSON in the format that was asked for.
    fn bytes(&self, code: StatusCode, mut json: Vec<u8>) -> Response {
        let media = match self.accepted.format {
            Format::Yaml => {
                json = reread(&json, |value| serde_yaml::to_string(value).ok());
                "application/yaml"
            }
            Format::Json => {
                if self.pretty {
                    json = reread(&json, |value| serde_json::to_string_pretty(value).ok());
                }
                json.push(b'\n');
                "application/json"
            }
        };
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(media))];
        if self.gzip && json.len() >= GZIP_BYTES_MIN {
            let pieces = vec![Bytes::from(json)];
            return zipped((code, headers, Body::from_stream(gzip(pieces.into_iter()))));
        }
        (code, headers, json).into_response()
    }

    /// A list. Sent in pieces that are put together as the asker reads, so that a large list costs
    /// the server one piece.
    pub(super) fn list(&self, meta: &ListMeta, objects: Vec<Object>) -> Response {
        let meta = serde_json::to_string(meta).unwrap_or_default();
        let size: usize = objects.iter().map(|object| object.bytes().len()).sum();
        let pieces = Pieces { shape: self.clone(), meta: Some(meta), objects: objects.into_iter() };
        if self.accepted.format == Format::Yaml || self.pretty {
            let whole: Vec<u8> = pieces.flat_map(|piece| piece.to_vec()).collect();
            return self.bytes(StatusCode::OK, whole);
        }
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        if size < CHUNK_BYTES {
            let mut whole: Vec<u8> = pieces.flat_map(|piece| piece.to_vec()).collect();
            whole.push(b'\n');
            return (headers, whole).into_response();
        }
        let end = std::iter::once(Bytes::from_static(b"\n"));
        let pieces = pieces.chain(end);
        if self.gzip && size >= GZIP_BYTES_MIN {
            return zipped((StatusCode::OK, headers, Body::from_stream(gzip(pieces))));
        }
        let body = Body::from_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>)));
        (headers, body).into_response()
    }

    fn list_head(&self, meta: &str) -> Vec<u8> {
        match self.accepted.form {
            Form::Table(version) => table::head(self, version, meta),
            Form::Metadata => head("PartialObjectMetadataList", "meta.k8s.io/v1", meta),
            Form::Objects => head(&self.info.list_kind, &self.api_version, meta),
        }
    }

    fn item(&self, object: &Object, out: &mut Vec<u8>) {
        match self.accepted.form {
            Form::Objects => out.extend_from_slice(&self.json(object)),
            Form::Metadata => out.extend(metadata_of(object)),
            Form::Table(_) => table::row(self, object, self.now, out),
        }
    }
}

fn head(kind: &str, api_version: &str, meta: &str) -> Vec<u8> {
    let (kind, api_version) = (json!(kind), json!(api_version));
    format!(r#"{{"kind":{kind},"apiVersion":{api_version},"metadata":{meta},"items":["#)
        .into_bytes()
}

/// The pieces of a list, from its first byte to its last.
struct Pieces {
    shape: Shape,
    /// Until the head is sent.
    meta: Option<String>,
    objects: std::vec::IntoIter<Object>,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (mut out, mut first) = match self.meta.take() {
            Some(meta) => (self.shape.list_head(&meta), true),
            None if self.objects.len() == 0 => return None,
            None => (Vec::with_capacity(CHUNK_BYTES + (CHUNK_BYTES >> 2)), false),
        };
        while out.len() < CHUNK_BYTES {
            let Some(object) = self.objects.next() else { break };
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            self.shape.item(&object, &mut out);
        }
        if self.objects.len() == 0 {
            out.extend_from_slice(b"]}");
        }
        Some(out.into())
    }
}

/// The object with nothing but its metadata.
pub(super) fn metadata_of(object: &Object) -> Vec<u8> {
    #[derive(Deserialize)]
    struct Parts<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let parts: Option<Parts<'_>> = serde_json::from_slice(object.bytes()).ok();
    let metadata = parts.map_or("{}", |parts| parts.metadata.get());
    format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{metadata}}}"#
    )
    .into_bytes()
}

fn reread(json: &[u8], write: impl Fn(&Value) -> Option<String>) -> Vec<u8> {
    let value: Option<Value> = serde_json::from_slice(json).ok();
    value.and_then(|value| write(&value)).map_or_else(|| json.to_vec(), String::into_bytes)
}

/// Success without an object to show.
pub(super) fn success(code: StatusCode) -> Value {
    let mut body =
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
    if code != StatusCode::OK {
        body["code"] = code.as_u16().into();
    }
    body
}

/// Adds what the asker should know, a header each.
pub(super) fn warn(mut response: Response, warnings: &[FieldError]) -> Response {
    for warning in warnings {
        let text = match warning.reason {
            Reason::Unknown => warning.detail.clone(),
            _ => warning.to_string(),
        };
        add_warning(&mut response, &text);
    }
    response
}

/// Most warnings of one answer: some clients read no more than 100 headers.
const WARNINGS_MAX: usize = 64;

/// Most characters of all warnings of one answer, and of one that would not fit: the bounds of
/// Kubernetes.
const WARNING_CHARS_MAX: usize = 4096;
const ONE_WARNING_CHARS_MAX: usize = 256;

/// Adds one `Warning` header (RFC 7234 §5.5, as Kubernetes writes it), while there is room for it.
pub(super) fn add_warning(response: &mut Response, text: &str) {
    let there = response.headers().get_all(header::WARNING);
    let (count, taken) = there.iter().fold((0, 0), |(n, sum), value| (n + 1, sum + value.len()));
    let left = WARNING_CHARS_MAX.saturating_sub(taken);
    let length = text.chars().count();
    let most = if length > left { ONE_WARNING_CHARS_MAX } else { length };
    if count >= WARNINGS_MAX || most.min(length) > left {
        return;
    }
    let readable = |c: char| if c.is_control() { ' ' } else { c };
    let plain: String = text.chars().take(most).map(readable).collect();
    let value = format!("299 - {}", json!(plain));
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().append(header::WARNING, value);
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && parts.all(|q| !matches!(q, "q=0" | "q=0.0"))
    })
}

fn zipped(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Compresses pieces as they are asked for; what is compressed waits at most for the next piece.
fn gzip(
    pieces: impl Iterator<Item = Bytes> + Send + 'static,
) -> impl stream::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let mut pieces = pieces;
    let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    stream::iter(std::iter::from_fn(move || {
        let mut open = encoder.take()?;
        let done = match pieces.next() {
            Some(piece) => open.write_all(&piece).map(|()| {
                let ready = std::mem::take(open.get_mut());
                encoder = Some(open);
                ready
            }),
            None => open.finish(),
        };
        Some(done.map(Bytes::from))
    }))
}
