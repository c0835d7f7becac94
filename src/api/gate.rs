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
use tokio::sync::Semaphore;

use super::{Failure, RequestInfo, ResourceInfo};
use crate::report::Sample;

/// Most requests that are answered at once. Each holds at most a body of 2 MiB and a view, so this
/// bounds memory.
pub const REQUESTS_MAX: usize = 256;
/// Most requests at once that wait for the cluster or stream a log; they hold little, but for long.
pub const STREAMS_MAX: usize = 256;
/// Seconds that an answer may take before the asker is told so; waits and streams bound themselves.
pub const REQUEST_SECONDS_MAX: u64 = 60;

/// The group that may do everything, as in Kubernetes.
const MASTERS: &str = "system:masters";

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
    answered: Mutex<BTreeMap<u16, u64>>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            short: Semaphore::new(REQUESTS_MAX),
            long: Semaphore::new(STREAMS_MAX),
            answered: Mutex::default(),
        }
    }

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

/// Lets in members of `system:masters` alone.
pub(super) async fn masters_only(request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>() else {
        return nobody().into_response();
    };
    if !peer.groups.iter().any(|group| group == MASTERS) {
        let text = format!("{} is not in the group {MASTERS}", peer.user);
        return Failure::forbidden(text).into_response();
    }
    next.run(request).await
}

/// Lets in whoever is known by name.
pub(super) async fn somebody(request: Request, next: Next) -> Response {
    match request.extensions().get::<Peer>() {
        Some(_) => next.run(request).await,
        None => nobody().into_response(),
    }
}

/// What somebody hears who is not known.
pub(super) fn nobody() -> Failure {
    Failure::unauthorized("Unauthorized: show a client certificate of this cluster")
}

/// Whether somebody may do something to a resource: members of `system:masters` may do everything,
/// nobody else anything.
pub(super) fn allowed(peer: &Peer, verb: &str, resource: &ResourceInfo) -> Result<(), Failure> {
    if peer.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let scope = match resource.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    Err(Failure::forbidden(format!(
        "{} is forbidden: User {:?} cannot {verb} resource {:?} in API group {:?} {scope}",
        super::failure::qualified(&resource.resource, &resource.group),
        peer.user,
        resource.resource,
        resource.group,
    )))
}
