//! Who comes in, how long an answer may take, and what was answered.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;

use super::{Failure, RequestInfo, fairness::Class};
use crate::report::Sample;

/// Most requests that are answered at once. Each holds at most a body of 2 MiB and a view, so this
/// bounds memory. They are shared out by [`fairness`](super::fairness).
pub const REQUESTS_MAX: usize = 256;
/// Most requests at once that wait for the cluster or for a stream to begin, and most streams
/// (logs, exec, port-forward, proxies) that are open; they hold little, but for long. Shared out by
/// [`fairness`](super::fairness) too.
pub const STREAMS_MAX: usize = 256;
/// Seconds that an answer may take before the asker is told so; waits and streams bound themselves.
pub const REQUEST_SECONDS_MAX: u64 = 60;

/// Who asks, from the client's verified certificate: CN is the user, every O a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `kubernetes-admin`
    pub user: String,
    /// `system:masters`
    pub groups: Vec<String>,
}

/// Counts what runs and what was answered.
#[derive(Default)]
pub(super) struct Gate {
    answered: Mutex<BTreeMap<u16, u64>>,
}

impl Gate {
    fn count(&self, code: u16) {
        // A panic while counting leaves at worst a count that is one too low.
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered.entry(code).or_default() += 1;
    }

    /// How many requests were answered, by HTTP status.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = |(code, n): (&u16, &u64)| {
            Sample::new("mainstay_api_requests_total", &[&code.to_string()], *n as f64)
        };
        answered.iter().map(sample).collect()
    }
}

/// What lasts as long as a request's stream, wherever that goes on after the answer's head: its
/// place, its record.
#[derive(Clone, Default)]
pub(super) struct Held(Vec<Arc<dyn Any + Send + Sync>>);

impl Held {
    /// What is held for a request so far.
    pub(super) fn of(request: &Request) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Holds something more.
    pub(super) fn add(request: &mut Request, what: Arc<dyn Any + Send + Sync>) {
        let mut held = Self::of(request);
        held.0.push(what);
        request.extensions_mut().insert(held);
    }
}

/// Holds something until the body of an answer is over. One that has switched protocols is held by
/// whoever carries its bytes, by [`Held`].
pub(super) fn until_over(response: Response, what: Arc<dyn Any + Send + Sync>) -> Response {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    response.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |part| {
            let _held = &what;
            part
        }))
    })
}

/// Counts what is answered, and ends what takes too long. A stream's own bounds hold from its
/// answer's head.
pub(super) async fn counted<F: Future<Output = Response>>(
    gate: &Gate,
    info: &RequestInfo,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let response = match Class::of(info).is_long() {
        true => next(request).await,
        false => {
            let limit = Duration::from_secs(REQUEST_SECONDS_MAX);
            // Here, as a function that is given the future would hold it twice.
            let answer = tokio::time::timeout(limit, next(request)).await;
            answer.unwrap_or_else(|_late| late().into_response())
        }
    };
    gate.count(response.status().as_u16());
    response
}

fn late() -> Failure {
    Failure::timeout(format!("no answer within {REQUEST_SECONDS_MAX}s: the server is busy"))
}
