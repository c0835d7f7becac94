//! The audit log: who asked what of this server, and how it ended.
//!
//! In: requests that [`authn`](super::authn) has seen, and what was answered. Out: lines of JSON in
//! Kubernetes' format, in the file the configuration names. What is written is decided in
//! [`mod@event`], pure; [`mod@file`] writes it. A request never fails because of its line: when the
//! file cannot be written, lines are lost, counted, and told. Never here: bodies that carry
//! credentials.

mod event;
mod file;
#[cfg(test)]
mod tests;

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    body::Bytes,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;

pub use event::AuditLevel;
pub(super) use event::Decision;
pub use file::{Audit, AuditSettings};

use self::event::{Asked, Sent, Stage, Told};
use super::{
    Api, Backend, Failure, User,
    fairness::Class,
    gate::{Held, until_over},
};

/// What is known of one request so far. Its last event is written at the latest when nobody holds
/// this any more: at the end of a stream, or when the client went away.
pub(super) struct Record {
    audit: Audit,
    level: AuditLevel,
    backend: Arc<dyn Backend>,
    asked: Asked,
    sent: OnceLock<Sent>,
    told: OnceLock<Told>,
    over: AtomicBool,
}

impl Record {
    fn of(api: &Api, request: &Request) -> Option<Self> {
        let level = api.audit.level()?;
        let (audit, backend) = (api.audit.clone(), api.backend.clone());
        let asked = Asked::of(request, backend.now());
        let (sent, told, over) = (OnceLock::new(), OnceLock::new(), AtomicBool::new(false));
        Some(Self { audit, level, backend, asked, sent, told, over })
    }

    /// Keeps the body of a request, as it was read.
    pub(super) fn keep(&self, headers: &HeaderMap, bytes: &Bytes) {
        let media = headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
        let media = media.unwrap_or_default().to_owned();
        self.sent.get_or_init(|| Sent { media, bytes: bytes.clone() });
    }

    fn event(&self, stage: Stage) -> Option<serde_json::Value> {
        let (sent, told) = (self.sent.get(), self.told.get());
        event::event(&self.asked, sent, told, self.level, (stage, self.backend.now()))
    }

    async fn write(&self, stage: Stage) {
        if let Some(event) = self.event(stage) {
            self.audit.write(&event).await;
        }
    }

    async fn end(&self, stage: Stage) {
        self.over.store(true, Ordering::Relaxed);
        self.write(stage).await;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.over.load(Ordering::Relaxed)
            && let Some(event) = self.event(Stage::ResponseComplete)
        {
            self.audit.offer(&event);
        }
    }
}

/// Writes down what is asked and how it ends. A handler that panics is answered for with 500.
pub(super) async fn record<F: Future<Output = Response>>(
    api: &Api,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let Some(record) = Record::of(api, &request).map(Arc::new) else {
        return caught(request, next).await.unwrap_or_else(IntoResponse::into_response);
    };
    let long = Class::of(&record.asked.info).is_long();
    if record.asked.is_told_early() {
        record.write(Stage::RequestReceived).await;
    }
    request.extensions_mut().insert(record.clone());
    Held::add(&mut request, record.clone());
    let (response, stage) = match caught(request, next).await {
        Ok(response) => (response, Stage::ResponseComplete),
        Err(panic) => (panic.into_response(), Stage::Panic),
    };
    record.told.get_or_init(|| Told::of(&response));
    let goes_on = [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS].contains(&response.status());
    if long && goes_on {
        record.write(Stage::ResponseStarted).await;
        until_over(response, record)
    } else {
        record.end(stage).await;
        response
    }
}

async fn caught<F: Future<Output = Response>>(
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Result<Response, Failure> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    AssertUnwindSafe(next(request)).catch_unwind().await.map_err(|_| {
        tracing::error!(event = "request panicked", %method, path = uri.path());
        Failure::internal("the server erred while it answered: its log says where")
    })
}

/// Writes down a request that got no further than its credentials, and answers it. `user` is who
/// asks, as far as that is known.
pub(super) async fn refused(
    api: &Api,
    mut request: Request,
    user: Option<User>,
    failure: Failure,
) -> Response {
    if let Some(user) = user {
        request.extensions_mut().insert(user);
    }
    let response = failure.into_response();
    if let Some(record) = Record::of(api, &request) {
        record.told.get_or_init(|| Told::of(&response));
        record.end(Stage::ResponseComplete).await;
    }
    response
}
