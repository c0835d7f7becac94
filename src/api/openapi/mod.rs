//! The OpenAPI documents: what `kubectl explain`, validation and generated clients read.
//!
//! In: the kinds of a View. Out: [`Documents`], kept compressed, and [`routes`] that serve them.
//! `api` merges the routes; kubectl asks. Never here: a document that is built before somebody asks
//! for one, or kept unpacked.
//!
//! | path | what |
//! |---|---|
//! | `/openapi/v2` | one document, JSON or gnostic's protobuf |
//! | `/openapi/v3` | the paths of the documents below, each with its hash |
//! | `/openapi/v3/apis/apps/v1?hash=…` | one group and version; with the right hash kept for a year |

mod gnostic;
mod operations;
mod v2;
mod v3;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::{Api, Failure};
use crate::{
    kinds::{ANSWERED, Definitions, Kinds},
    model::Timestamp,
};
use operations::{Operation, Place, Route};

/// How long a client may keep a document whose hash it named, in seconds: as long as HTTP lets one
/// say.
const KEPT_SECONDS: i64 = 365 * 24 * 3600;

/// One document, compressed.
#[derive(Clone, Debug)]
struct Document {
    gzip: Bytes,
    /// SHA-512 of what is in it, in upper-case hexadecimal.
    hash: String,
}

/// Every document of one state of the registry.
#[derive(Debug)]
struct Documents {
    v2: Document,
    v2_protobuf: Document,
    /// By path (`apis/apps/v1`).
    v3: BTreeMap<String, Document>,
}

impl Documents {
    /// Builds them; takes tens of milliseconds and, for that time, some MiB.
    fn build(kinds: &Kinds) -> Self {
        let definitions = Definitions::of(kinds.iter().map(|info| &**info));
        let mut groups: BTreeMap<String, Vec<Route>> = BTreeMap::new();
        for info in kinds.iter() {
            for at in Place::all(info) {
                let routes = groups.entry(at.base()).or_default();
                routes.extend(operations::of_kind(info, at, &definitions));
            }
        }
        for of in ANSWERED {
            let routes = groups.entry(Place::of(of).base()).or_default();
            routes.extend(operations::of_answered(of, &definitions));
        }
        let pack = |value: &Value| Document::pack(value.to_string().as_bytes());
        let v3 = groups
            .iter()
            .map(|(path, routes)| (path.clone(), pack(&v3::document(&definitions, routes))))
            .collect();
        let all: Vec<Route> = groups.into_values().flatten().collect();
        let document = v2::document(&definitions, &all);
        let v2_protobuf = Document::pack(&gnostic::encode(&document));
        Self { v2: pack(&document), v2_protobuf, v3 }
    }

    /// `/openapi/v3`
    fn index(&self) -> Value {
        let url = |path: &str, of: &Document| format!("/openapi/v3/{path}?hash={}", of.hash);
        let entry = |(path, of): (&String, &Document)| {
            (path.clone(), json!({ "serverRelativeURL": url(path, of) }))
        };
        json!({ "paths": self.v3.iter().map(entry).collect::<serde_json::Map<_, _>>() })
    }
}

impl Document {
    fn pack(bytes: &[u8]) -> Self {
        let hash = Sha512::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect();
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        // Writing to memory does not fail.
        let packed = packer.write_all(bytes).and_then(|()| packer.finish());
        Self { gzip: packed.unwrap_or_default().into(), hash }
    }

    fn unpack(&self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let read = GzDecoder::new(&self.gzip[..]).read_to_end(&mut bytes);
        read.map_err(|e| Failure::internal(format!("a packed document does not unpack: {e}")))?;
        Ok(bytes)
    }

    /// The answer with this document; `304` when the client has it.
    fn answer(&self, asked: &HeaderMap, content_type: &'static str) -> Result<Response, Failure> {
        let tag = format!("\"{}\"", self.hash);
        let tag = HeaderValue::from_str(&tag).map_err(|e| Failure::internal(e.to_string()))?;
        let known = asked.get(header::IF_NONE_MATCH) == Some(&tag);
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else if takes_gzip(asked) {
            ([(header::CONTENT_ENCODING, "gzip")], self.gzip.clone()).into_response()
        } else {
            self.unpack()?.into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
        headers.insert(header::ETAG, tag);
        Ok(response)
    }
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let accepted = asked.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|list| list.split(',').any(|one| one.trim().starts_with("gzip")))
}

impl Operation {
    /// What the answer is written in.
    fn produces(&self) -> &'static str {
        if self.answer.is_some() { "application/json" } else { "text/plain" }
    }
}

/// What both versions say of an operation.
fn common(of: &Operation) -> Value {
    let (group, version, kind) = &of.about;
    json!({
        "operationId": of.id,
        "tags": [of.tag],
        "description": of.description,
        "x-kubernetes-action": of.action,
        "x-kubernetes-group-version-kind": { "group": group, "version": version, "kind": kind },
    })
}

fn info() -> Value {
    json!({ "title": "Kubernetes", "version": concat!("mainstay ", env!("CARGO_PKG_VERSION")) })
}

fn code_text(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        _ => "OK",
    }
}

/// The documents of the kinds as they were when they were last asked for.
#[derive(Debug, Default)]
struct Shelf(Mutex<Option<(Kinds, Arc<Documents>)>>);

impl Shelf {
    fn documents(&self, kinds: &Kinds) -> Arc<Documents> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, documents)) = kept.as_ref().filter(|(of, _)| of.is_same(kinds)) {
            return documents.clone();
        }
        let documents = Arc::new(Documents::build(kinds));
        *kept = Some((kinds.clone(), documents.clone()));
        documents
    }
}

/// Builds on a thread that may take its time.
async fn documents(api: &Api, shelf: Arc<Shelf>) -> Result<Arc<Documents>, Failure> {
    let view = api.view();
    let built = tokio::task::spawn_blocking(move || shelf.documents(view.kinds())).await;
    built.map_err(|e| Failure::internal(format!("building the OpenAPI documents: {e}")))
}

/// What is served below `/openapi`.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/openapi/v2", get(whole))
        .route("/openapi/v3", get(index))
        .route("/openapi/v3/{*path}", get(of_group))
        .layer(Extension(Arc::new(Shelf::default())))
}

async fn whole(
    State(api): State<Api>,
    Extension(shelf): Extension<Arc<Shelf>>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let accept = accept.unwrap_or_default();
    let documents = documents(&api, shelf).await?;
    let wants = |name: &str| accept.split(',').any(|one| one.split(';').next() == Some(name));
    if wants(gnostic::ASKED) {
        return documents.v2_protobuf.answer(&headers, gnostic::ANSWERED);
    }
    documents.v2.answer(&headers, "application/json")
}

async fn index(
    State(api): State<Api>,
    Extension(shelf): Extension<Arc<Shelf>>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let index = documents(&api, shelf).await?.index().to_string();
    Document::pack(index.as_bytes()).answer(&headers, "application/json")
}

async fn of_group(
    State(api): State<Api>,
    Extension(shelf): Extension<Arc<Shelf>>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let documents = documents(&api, shelf).await?;
    let Some(document) = documents.v3.get(&path) else {
        return Err(Failure::not_found(format!("there is no OpenAPI document of {path}")));
    };
    let query = query.unwrap_or_default();
    let Some(hash) = query.split('&').find_map(|pair| pair.strip_prefix("hash=")) else {
        return document.answer(&headers, "application/json");
    };
    if hash != document.hash {
        let there = format!("/openapi/v3/{path}?hash={}", document.hash);
        return Ok((StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, there)]).into_response());
    }
    let mut response = document.answer(&headers, "application/json")?;
    keep(&mut response, api.backend.now());
    Ok(response)
}

/// Lets the client keep an answer that never changes.
fn keep(response: &mut Response, now: Timestamp) {
    let until = now.0 / 1000 + KEPT_SECONDS;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    if let Ok(time) = jiff::Timestamp::from_second(until)
        && let Ok(text) = HeaderValue::from_str(&http_date(time))
    {
        headers.insert(header::EXPIRES, text);
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7)
fn http_date(time: jiff::Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests;
