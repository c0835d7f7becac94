//! Fair shares: nobody's requests keep another's from being answered.
//!
//! In: a request and its [`User`]. Out: its answer, or 429 with `Retry-After`. A layer behind
//! [`authn`](super::authn): who asks decides the [`Lane`]. Each lane has seats of its own, and
//! inside it users take turns ([`seats`]); who gets no seat waits for a short time. Watches and
//! streams take no seats, they have bounds of their own and hold their place until they are over.
//! Hooks, which anybody may send, have a [`budget`] of their own. Never here: what a request may
//! do.

mod budget;
mod lanes;
mod seats;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use tokio::sync::oneshot;

pub(super) use lanes::{Class, is_health};

use self::{
    budget::Budgets,
    lanes::Lane,
    seats::{Bounds, Seats},
};
use super::{
    Api, Failure, RequestInfo, STREAMS_MAX, User,
    gate::{Held, until_over},
};
use crate::{model::Timestamp, report::Sample};

/// Seconds that a request waits for a seat: Kubernetes' quarter of the time for an answer. A client
/// that hears 429 before its own patience ends can do something about it.
const WAIT_SECONDS_MAX: u64 = 15;

/// Most watches at once: as many as there are connections. One that is idle holds a few KiB.
const WATCHES_MAX: usize = 8192;

/// What Kubernetes says, which clients know.
const TOO_MANY: &str = "Too many requests, please try again later.";

/// Which rule sorted the request, and into what. Kubernetes sends ids here, we the lane's name.
const SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// The shares of all lanes.
pub(super) struct Shares {
    lanes: [(Lane, Arc<Line>); 6],
    watches: Arc<Line>,
    streams: Arc<Line>,
    hooks: Mutex<Budgets>,
    wait: Duration,
}

/// The seats of a lane and those who wait for one.
struct Line {
    seats: Mutex<Seats<oneshot::Sender<Place>>>,
    dispatched: AtomicU64,
    full: AtomicU64,
    late: AtomicU64,
}

/// A seat that is taken; it goes to the next when this one is dropped.
struct Place {
    line: Option<Arc<Line>>,
    user: String,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self::with(Duration::from_secs(WAIT_SECONDS_MAX), Lane::bounds)
    }

    fn with(wait: Duration, bounds: impl Fn(Lane) -> Bounds) -> Self {
        let long = |seats| Line::new(Bounds { seats, seats_user: seats * 3 / 4, waiting: 0 });
        Self {
            lanes: Lane::ALL.map(|lane| (lane, Line::new(bounds(lane)))),
            watches: long(WATCHES_MAX),
            streams: long(STREAMS_MAX),
            hooks: Mutex::default(),
            wait,
        }
    }

    /// A seat for one request, at once or after others; 429 when that takes too long.
    async fn seat(&self, lane: Lane, user: &str) -> Result<Place, Failure> {
        let line = &self.lanes.iter().find(|(of, _)| *of == lane).unwrap_or(&self.lanes[5]).1;
        let Some(called) = line.enter(user)? else { return Ok(line.place(user)) };
        match tokio::time::timeout(self.wait, called).await {
            Ok(Ok(place)) => Ok(line.counted(place)),
            // Somebody who waits less was let in for it.
            Ok(Err(_)) => Err(line.refuse(&line.full)),
            Err(_) => Err(line.refuse(&line.late)),
        }
    }

    /// Lets a hook in whose sender nobody knows yet; 429 when there were too many, from there or in
    /// all.
    pub(super) fn hook(&self, from: Option<IpAddr>, now: Timestamp) -> Result<(), Failure> {
        let mut budgets = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.take(from, now).map_err(|seconds| Failure::too_many_for(seconds, TOO_MANY))
    }

    /// A place for a request that lasts.
    fn open(&self, class: Class, user: &str) -> Result<Place, Failure> {
        let line = if class == Class::Watch { &self.watches } else { &self.streams };
        match line.seats().sit(user) {
            true => Ok(line.place(user)),
            false => Err(line.refuse(&line.full)),
        }
    }

    /// How the lanes are doing.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let of = |(lane, line): &(Lane, Arc<Line>)| line.samples(lane.name());
        let mut samples: Vec<Sample> = self.lanes.iter().flat_map(of).collect();
        for (class, line) in [("watch", &self.watches), ("stream", &self.streams)] {
            let open = line.seats().seated() as f64;
            samples.push(Sample::new("mainstay_api_long_requests", &[class], open));
        }
        samples
    }
}

impl Line {
    fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            seats: Mutex::new(Seats::new(bounds)),
            dispatched: AtomicU64::new(0),
            full: AtomicU64::new(0),
            late: AtomicU64::new(0),
        })
    }

    fn seats(&self) -> MutexGuard<'_, Seats<oneshot::Sender<Place>>> {
        // Nothing in there panics half-way.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing when there is a seat; else where the call for one will come.
    fn enter(&self, user: &str) -> Result<Option<oneshot::Receiver<Place>>, Failure> {
        let mut seats = self.seats();
        if seats.sit(user) {
            return Ok(None);
        }
        seats.prune(oneshot::Sender::is_closed);
        let (ticket, called) = oneshot::channel();
        match seats.wait(user, ticket) {
            Ok(_turned_away) => Ok(Some(called)),
            Err(_) => Err(self.refuse(&self.full)),
        }
    }

    fn place(self: &Arc<Self>, user: &str) -> Place {
        self.counted(Place { line: Some(self.clone()), user: user.to_owned() })
    }

    fn counted(&self, place: Place) -> Place {
        self.dispatched.fetch_add(1, Ordering::Relaxed);
        place
    }

    fn refuse(&self, counter: &AtomicU64) -> Failure {
        counter.fetch_add(1, Ordering::Relaxed);
        Failure::too_many(TOO_MANY)
    }

    /// Passes a seat on to whoever is next and still there.
    fn pass_on(self: &Arc<Self>, mut user: String) {
        loop {
            let next = self.seats().leave(&user);
            let Some((next, ticket)) = next else { return };
            let place = Place { line: Some(self.clone()), user: next };
            let Err(mut unwanted) = ticket.send(place) else { return };
            // The seat stays in this loop.
            unwanted.line = None;
            user = std::mem::take(&mut unwanted.user);
        }
    }

    fn samples(&self, name: &str) -> Vec<Sample> {
        let (seated, waiting) = {
            let mut seats = self.seats();
            seats.prune(oneshot::Sender::is_closed);
            (seats.seated(), seats.waiting())
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let labels = &[name, name];
        let of = |what: &str| format!("apiserver_flowcontrol_{what}");
        let refused = |why, counter| {
            Sample::new(&of("rejected_requests_total"), &[name, name, why], count(counter))
        };
        vec![
            Sample::new(&of("current_executing_requests"), labels, seated as f64),
            Sample::new(&of("current_inqueue_requests"), labels, waiting as f64),
            Sample::new(&of("dispatched_requests_total"), labels, count(&self.dispatched)),
            refused("queue-full", &self.full),
            refused("time-out", &self.late),
        ]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            line.pass_on(std::mem::take(&mut self.user));
        }
    }
}

/// Lets a request through when it is its turn.
pub(super) async fn share<F: Future<Output = Response>>(
    api: &Api,
    info: &RequestInfo,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let nobody = User::anonymous();
    let user = request.extensions().get::<User>().unwrap_or(&nobody);
    let (lane, user) = (Lane::of(user, info), user.name.clone());
    let answered = match Class::of(info) {
        Class::Free => Ok(next(request).await),
        Class::Short => match api.shares.seat(lane, &user).await {
            Ok(_place) => Ok(next(request).await),
            Err(full) => Err(full),
        },
        class => match api.shares.open(class, &user) {
            Ok(place) => Ok(long(place, request, next).await),
            Err(full) => Err(full),
        },
    };
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    let name = HeaderValue::from_static(lane.name());
    response.headers_mut().insert(SCHEMA, name.clone());
    response.headers_mut().insert(LEVEL, name);
    response
}

/// Answers a request whose place is taken until its stream is over.
async fn long<F: Future<Output = Response>>(
    place: Place,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let place = Arc::new(place);
    Held::add(&mut request, place.clone());
    until_over(next(request).await, place)
}
