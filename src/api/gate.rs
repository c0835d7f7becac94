//! Who may come in, and how many at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Failure, RequestInfo};
use crate::report::Sample;

/// Most requests that are answered at once. Each holds at most a body of 2 MiB and a view, so this
/// bounds memory.
pub const REQUESTS_MAX: usize = 256;
/// Most requests at once that wait for the cluster or for a stream to begin, and most streams
/// (logs, exec, port-forward, proxies) that are open; they hold little, but for long.
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
pub(super) struct Gate {
    short: Semaphore,
    long: Semaphore,
    streams: Arc<Semaphore>,
    answered: Mutex<BTreeMap<u16, u64>>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            short: Semaphore::new(REQUESTS_MAX),
            long: Semaphore::new(STREAMS_MAX),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            answered: Mutex::default(),
        }
    }

    fn count(&self, code: u16) {
        // A panic while counting leaves at worst a count that is one too low.
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered.entry(code).or_default() += 1;
    }

    /// A place for one stream, for as long as it is open.
    pub(super) fn stream(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let full = |_| {
            Failure::too_many(format!("{STREAMS_MAX} streams are open on this server: close some"))
        };
        self.streams.clone().try_acquire_owned().map_err(full)
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

/// Lets in as many as there is room for and ends what takes too long. Health is always answered: a
/// server that is busy lives. A stream gives its place back with its answer's head; its own bounds
/// hold from there.
pub(super) async fn bounded(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let health = matches!(path, "/healthz" | "/livez" | "/readyz" | "/version");
    let long = is_long(&request);
    let response = if health {
        next.run(request).await
    } else {
        let room = if long { gate.long.try_acquire() } else { gate.short.try_acquire() };
        match room {
            Err(_) => Failure::too_many("too many requests at once: try again").into_response(),
            Ok(_permit) if long => next.run(request).await,
            Ok(_permit) => in_time(next.run(request)).await,
        }
    };
    gate.count(response.status().as_u16());
    response
}

/// Whether a request holds its connection for as long as it likes: waits, watches, streams.
fn is_long(request: &Request) -> bool {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let info = RequestInfo::of(request.method().as_str(), path, query);
    let streams = ["log", "exec", "attach", "portforward", "proxy"];
    match &info.resource {
        Some(resource) => info.verb == "watch" || streams.contains(&resource.subresource.as_str()),
        None => path.ends_with("/wait") || path.ends_with("/logs"),
    }
}

async fn in_time(answer: impl Future<Output = Response>) -> Response {
    let limit = Duration::from_secs(REQUEST_SECONDS_MAX);
    let late =
        || Failure::timeout(format!("no answer within {REQUEST_SECONDS_MAX}s: the server is busy"));
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| late().into_response())
}
