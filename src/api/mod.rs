#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests start promtool"))]
//! HTTP for people and machines.
//!
//! In: requests with a [`Peer`] that the TLS listener found out, and a [`Backend`] that answers for
//! the server. Out: [`routers`] for the TLS port and the plain one. `server` serves them (an agent
//! the [`metrics_router`]); `cli` and kubectl ask. Never here: deciding what a controller decides,
//! or reaching the log but through [`Backend::propose`].
//!
//! | path | who | what |
//! |---|---|---|
//! | `/healthz` `/livez` `/readyz` `/version` | anybody | whether the server lives, is ready, and which it is |
//! | `/api` `/apis` and below, to the version | who may ([`authz`]) | what there is to ask for ([`discovery`]) |
//! | `/api/V/…` `/apis/G/V/…` | who may | objects ([`resources`], whose page says where the rest plugs in) |
//! | `/apis/metrics.k8s.io/…` | who may | what nodes and pods use now ([`top`]) |
//! | `POST /hooks/git` | anybody (the backend checks the signature) | something was pushed |
//! | `/openapi/v2` `/openapi/v3` | who may | what there is, as OpenAPI documents |
//! | `/.well-known/openid-configuration` `/openid/v1/jwks` | who may | how to verify tokens ([`tokens`]) |
//! | `/metrics` | who may | Prometheus text |
//! | `/mainstay/v1/…` | who may, by a rule for that path | what `mainstay <verb>` asks ([`talk`]) |
//!
//! Every request is bounded: its body ([`BODY_BYTES_MAX`]), its time ([`REQUEST_SECONDS_MAX`], or
//! what it asked for), and how many run at once ([`REQUESTS_MAX`], [`STREAMS_MAX`]), shared out
//! fairly ([`fairness`]). Each is written down, if so configured ([`audit`]).

mod admission;
mod adopt;
mod audit;
mod authn;
mod authz;
mod codec;
mod discovery;
mod failure;
mod fairness;
mod freeze;
mod gate;
mod headers;
mod health;
mod metrics;
mod negotiate;
mod openapi;
mod patch;
mod protobuf;
mod request;
mod resources;
mod reviews;
mod streams;
pub mod talk;
mod tokens;
mod top;

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::HeaderMap,
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::Value;
use tokio::sync::watch;
use tower::{Service, ServiceExt};

pub use adopt::{AdoptReport, adoptable};
pub use audit::{Audit, AuditLevel, AuditSettings};
pub use authn::User;
pub use failure::{Cause, Details, Failure};
pub use freeze::{FreezeReport, FreezeRequest};
pub use gate::{Peer, REQUEST_SECONDS_MAX, REQUESTS_MAX, STREAMS_MAX};
pub use health::Check;
pub use metrics::{encode, metrics_router};
pub use request::{RequestInfo, ResourceInfo};
pub use resources::{Draft, Uncommitted, Wish, Writes};

use crate::{
    model::{CommitId, CommitName, NodeName, Object, Timestamp},
    report::{LogFacts, NodeVerdict, PlanReport, Sample},
    state::{Command, Outcome, View},
};

/// Most bytes of a request's body. Forges describe whole pushes in their hooks; what we need of
/// them is small, and a body is only read, never parsed, before its signature is checked.
pub const BODY_BYTES_MAX: usize = 2 << 20;

/// What the API needs of a server. Everything that follows from State follows from the view; this
/// is the rest.
pub trait Backend: Send + Sync + 'static {
    /// The latest view, and notice of each one after it.
    fn views(&self) -> watch::Receiver<View>;

    /// What the log says of itself.
    fn log(&self) -> LogFacts;

    /// What must be true of a server that answers requests.
    fn checks(&self) -> Vec<Check>;

    /// The server's clock.
    fn now(&self) -> Timestamp;

    /// The metrics that do not follow from State: counters of this server.
    fn samples(&self) -> Vec<Sample>;

    /// Why each node does not take a pod that waits.
    fn verdicts(&self, view: &View, pod: &Object) -> Vec<NodeVerdict>;

    /// Whether `commit` is an ancestor of `of` (or the same), as Git says. False when one is not
    /// known here.
    fn contains(&self, of: CommitName, commit: CommitId) -> BoxFuture<'_, bool>;

    /// What a revision of the source's repository would change: as it is, or merged into the commit
    /// that runs.
    fn plan(&self, revision: String, merged: bool) -> BoxFuture<'_, Result<PlanReport, Failure>>;

    /// What a push would change that is on its way to the source's repository: from `old` (nothing
    /// when the branch begins) to `new`, of which `pack` has what is not in `old`.
    fn receive(
        &self,
        old: Option<CommitId>,
        new: CommitId,
        pack: Bytes,
    ) -> BoxFuture<'_, Result<PlanReport, Failure>>;

    /// What files would change that are on somebody's desk: `new` is a commit that is nowhere else,
    /// of which `pack` has what is not in `old`; as it is, or merged into the commit that runs.
    fn compare(
        &self,
        old: Option<CommitId>,
        new: CommitId,
        pack: Bytes,
        merged: bool,
    ) -> BoxFuture<'_, Result<PlanReport, Failure>>;

    /// Pushes a commit that restores the files of `revision` (when absent: that reverts the head),
    /// authored by `who`. Answers with its id.
    fn rollback(
        &self,
        revision: Option<String>,
        who: Peer,
    ) -> BoxFuture<'_, Result<CommitId, Failure>>;

    /// Brings a revision into the desired branch: forward where that is all, else by a merge that
    /// `who` wrote. Answers with the branch's tip.
    fn promote(&self, revision: String, who: Peer) -> BoxFuture<'_, Result<CommitId, Failure>>;

    /// Makes a write a commit: edits the file, proves that nothing else changes, pushes and admits
    /// it. Answers with the commit once this server's View shows it; with the head when the files
    /// say it already.
    fn commit(&self, wish: Wish) -> BoxFuture<'_, Result<CommitId, Uncommitted>>;

    /// What a write would make of the file it belongs to; nothing is pushed.
    fn draft(&self, wish: Wish) -> BoxFuture<'_, Result<Draft, Uncommitted>>;

    /// Something was pushed; true when it was a source of ours. The signature is checked before the
    /// body is parsed.
    fn hook(&self, headers: HeaderMap, body: Bytes) -> BoxFuture<'_, Result<bool, Failure>>;

    /// Sends a request to a node's agent and gives its answer, of whatever status. One that has
    /// switched protocols carries the connection ([`hyper::upgrade::on`]). Fails when the node is
    /// not known or does not answer.
    fn ask(&self, node: NodeName, request: Request) -> BoxFuture<'_, Result<Response, Failure>>;

    /// Brings commands into the log, whoever leads, and gives their outcomes once this server's
    /// View shows them.
    fn propose(&self, commands: Vec<Command>) -> BoxFuture<'_, Result<Vec<Outcome>, Failure>>;

    /// Waits until this server's View shows everything that was acknowledged before the call, by
    /// any server.
    fn barrier(&self) -> BoxFuture<'_, Result<(), Failure>>;

    /// What becomes of writes that no namespace decides.
    fn writes(&self) -> Writes;

    /// Where what is asked is written down; nowhere unless somebody said where.
    fn audit(&self) -> Audit {
        Audit::off()
    }

    /// An object with plain values, for those who may read it. What is not sealed, or cannot be
    /// opened here, is given back as it is.
    fn opened(&self, object: &Object) -> Object {
        object.clone()
    }

    /// For whom to seal so that this server opens it: `age1…`.
    fn recipients(&self) -> Vec<String> {
        Vec::new()
    }

    /// Bits that nobody can guess: for names, ids of requests.
    fn random(&self) -> u128;

    /// The token that says `claims`, signed with the cluster's key.
    fn sign_token(&self, claims: &[u8]) -> Result<String, Failure>;

    /// What a token says that the cluster's key has signed; `None` for every other text.
    fn open_token(&self, token: &str) -> Option<Vec<u8>>;

    /// The public keys that verify the cluster's tokens, as JSON Web Keys (RFC 7517).
    fn token_keys(&self) -> Vec<Value>;
}

/// What handlers share.
#[derive(Clone)]
struct Api {
    backend: Arc<dyn Backend>,
    gate: Arc<gate::Gate>,
    shares: Arc<fairness::Shares>,
    audit: Audit,
    lines: Arc<resources::Lines>,
}

impl Api {
    fn view(&self) -> View {
        self.backend.views().borrow().clone()
    }
}

/// Everything a server serves over TLS. The listener puts a [`Peer`] into each request's extensions
/// when the client showed a certificate; without one only the open paths answer.
///
/// Also gives [`plain`](Routers::plain), and both count their answers together.
pub fn routers(backend: Arc<dyn Backend>) -> Routers {
    let (gate, shares) = (Arc::new(gate::Gate::default()), Arc::new(fairness::Shares::new()));
    let audit = backend.audit();
    let api = Api { backend, gate, shares, audit, lines: Arc::default() };
    Routers { tls: tls(api.clone()), plain: plain(api) }
}

/// What a server serves.
pub struct Routers {
    /// On its TLS port.
    pub tls: Front,
    /// The metrics and the health paths without TLS, for a Prometheus on the same machine.
    pub plain: Router,
}

fn tls(api: Api) -> Front {
    let closed = talk::routes().merge(freeze::routes()).merge(adopt::routes());
    let closed = closed.merge(metrics::routes());
    let open = Router::new()
        .route("/healthz", get(health::live))
        .route("/healthz/{check}", get(health::one))
        .route("/livez", get(health::live))
        .route("/livez/{check}", get(health::one))
        .route("/readyz", get(health::ready))
        .route("/readyz/{check}", get(health::one))
        .route("/version", get(health::version))
        .route("/hooks/git", post(talk::hook));
    let known = Router::new()
        .route("/", get(discovery::paths))
        .route("/api", get(discovery::core))
        .route("/apis", get(discovery::groups))
        .route("/apis/{group}", get(discovery::group))
        .merge(openapi::routes())
        .merge(tokens::routes());
    let kubernetes = Router::new()
        .route("/api/{version}", get(discovery::core_version))
        .route("/apis/{group}/{version}", get(discovery::group_version))
        .route("/apis/authentication.k8s.io/v1/{plural}", post(reviews::authentication))
        .route("/apis/authorization.k8s.io/v1/{plural}", post(reviews::authorization))
        .route(
            "/apis/authorization.k8s.io/v1/namespaces/{namespace}/{plural}",
            post(reviews::local),
        );
    let routes = open
        .merge(closed)
        .merge(known)
        .merge(kubernetes)
        .merge(top::routes())
        .fallback(discovery::nothing)
        .method_not_allowed_fallback(failure::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api.clone());
    let guarded = Guarded(Arc::new((api, routes)));
    let rest = guarded.clone();
    let others = Router::new().fallback(async move |request| rest.answer(request).await);
    Front { guarded, others }
}

fn plain(api: Api) -> Router {
    metrics::routes()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(discovery::nothing)
        .layer(middleware::from_fn_with_state(api.clone(), shared))
        .with_state(api)
}

/// Everything that is served over TLS: the API, which asks of everybody who they are, and the
/// routes of other rooms, which do that themselves.
///
/// No router is asked for what is Kubernetes' alone: it costs as much as some of the answers.
#[derive(Clone)]
pub struct Front {
    guarded: Guarded,
    /// All routes; what none of them takes is the API's.
    others: Router,
}

impl Front {
    /// Serves the routes of another room, too. None may begin with `/api`.
    pub fn merge(self, routes: Router) -> Self {
        Self { others: self.others.merge(routes), ..self }
    }

    /// Answers a request.
    pub fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        if request.uri().path().starts_with("/api") {
            let guarded = self.guarded.clone();
            return Box::pin(async move { guarded.answer(request).await });
        }
        let others = self.others.clone();
        Box::pin(
            async move { others.oneshot(request).await.unwrap_or_else(|never| match never {}) },
        )
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.answer(request).map(Ok).boxed()
    }
}

/// What every request passes before it is answered: the API and the routes of what is no stored
/// object. Objects, of which most requests are, have been read out of the path by then.
#[derive(Clone)]
struct Guarded(Arc<(Api, Router)>);

impl Guarded {
    /// Answers a request, the outermost guard first.
    async fn answer(&self, mut request: Request) -> Response {
        let (api, routes) = &*self.0;
        let info = &Arc::new(RequestInfo::read(&request));
        request.extensions_mut().insert(info.clone());
        let answered = async |request| {
            let request = request::without_last_slash(request);
            match resources::is_stored(info) {
                // On the heap: each guard around it would make room for it in its own future.
                true => {
                    Box::pin(headers::sized(request, |request| resources::serve(api, request)))
                        .await
                }
                false => {
                    routes.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
                }
            }
        };
        let authorized = |request| authz::authorize(api, info, request, answered);
        let shared = |request| fairness::share(api, info, request, authorized);
        let recorded = |request| audit::record(api, request, shared);
        let identified = |request| authn::identify(api, request, recorded);
        let common = |request| headers::common(api, request, identified);
        gate::counted(&api.gate, info, request, common).await
    }
}

/// As [`Guarded`], where nobody is asked who they are.
async fn shared(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (api, info) = (&api, &RequestInfo::read(&request));
    let shared = |request| fairness::share(api, info, request, |request| next.run(request));
    gate::counted(&api.gate, info, request, shared).await
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
