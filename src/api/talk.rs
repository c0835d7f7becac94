//! What `mainstay <verb>` asks, under `/mainstay/v1/`: each answer is the JSON that `-o json`
//! prints.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, Extension, FromRequest, Path, Query, Request, State},
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use serde::{Deserialize, Serialize};

use super::{
    Api, Failure, Peer,
    streams::log::{self, LogRequest},
};
use crate::{
    kinds::{self, KindInfo},
    model::{CommitId, CommitName, Key, NodeName, Object},
    report::{
        self, ClusterStatus, CommitLine, EventLine, ObjectFile, PlanReport, TreeReport,
        WaitOutcome, WaitReport, WhyStep,
    },
    state::{self, MAIN_SOURCE, View},
};

/// Longest that one wait holds its request; the caller asks again.
pub const WAIT_SECONDS_MAX: u64 = 600;
/// Most lines of a log that may be asked for from its end.
pub const TAIL_LINES_MAX: u32 = 1_000_000;
/// Most bytes of a push that is shown before it is taken (`git::PUSH_BYTES_MAX`, with room for the
/// end of its pack).
pub const PUSH_BYTES_MAX: usize = 65 << 20;
/// The header of a log's answer that names the pod it comes from.
pub const POD_HEADER: &str = "mainstay-pod";

/// The answer to a rollback or a promotion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackReport {
    /// The full id of the commit that is on the branch by now.
    pub commit: String,
}

/// One invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckLine {
    /// `Broken`: a promise is broken; `Untidy`: something waits to be tidied up, and will be.
    pub severity: String,
    /// What does not hold.
    pub message: String,
}

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/mainstay/v1/status", get(status))
        .route("/mainstay/v1/commits", get(commits))
        .route("/mainstay/v1/commits/{commit}/wait", get(wait))
        .route("/mainstay/v1/plan", get(plan))
        .route("/mainstay/v1/receive", post(receive).layer(DefaultBodyLimit::max(PUSH_BYTES_MAX)))
        .route("/mainstay/v1/diff", post(diff).layer(DefaultBodyLimit::max(PUSH_BYTES_MAX)))
        .route("/mainstay/v1/why", get(why))
        .route("/mainstay/v1/rollback", post(rollback))
        .route("/mainstay/v1/promote", post(promote))
        .route("/mainstay/v1/tree", get(tree))
        .route("/mainstay/v1/logs", get(logs))
        .route("/mainstay/v1/events", get(events))
        .route("/mainstay/v1/objects", get(objects))
        .route("/mainstay/v1/check", get(check))
        .route("/mainstay/v1/recipients", get(recipients))
}

async fn status(State(api): State<Api>) -> Json<ClusterStatus> {
    Json(report::status(&api.view(), api.backend.log()))
}

/// For whom to seal so that the cluster opens it; public keys.
async fn recipients(State(api): State<Api>) -> Json<Vec<String>> {
    Json(api.backend.recipients())
}

#[derive(Deserialize)]
struct CommitsQuery {
    #[serde(default = "main_source")]
    source: String,
}

fn main_source() -> String {
    MAIN_SOURCE.to_owned()
}

async fn commits(
    State(api): State<Api>,
    Query(query): Query<CommitsQuery>,
) -> Result<Json<Vec<CommitLine>>, Failure> {
    is_followed(&api.view(), &query.source)?;
    Ok(Json(report::history(&api.view(), &query.source)))
}

/// Refuses what is not the name of a source.
fn is_followed(view: &View, source: &str) -> Result<(), Failure> {
    match source == MAIN_SOURCE || view.get::<kinds::GitSource>("", source).is_some() {
        true => Ok(()),
        false => Err(Failure::not_found(format!("there is no source {source}"))),
    }
}

async fn check(State(api): State<Api>) -> Json<Vec<CheckLine>> {
    let line = |violation: state::Violation| CheckLine {
        severity: match violation.severity {
            state::Severity::Broken => "Broken".to_owned(),
            state::Severity::Untidy => "Untidy".to_owned(),
        },
        message: violation.to_string(),
    };
    Json(state::check(&api.view()).into_iter().map(line).collect())
}

/// How long to wait; the answer comes earlier when there is one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WaitQuery {
    #[serde(default)]
    timeout_seconds: u64,
    #[serde(default = "main_source")]
    source: String,
}

async fn wait(
    State(api): State<Api>,
    Path(commit): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<WaitReport>, Failure> {
    let commit = CommitName::new(&query.source, &full_id(&commit)?);
    is_followed(&api.view(), &query.source)?;
    let mut last = WaitReport::default();
    let waiting = async {
        let mut views = api.backend.views();
        loop {
            let view = views.borrow_and_update().clone();
            let follows = follows(&api, &view, &commit).await;
            last = report::wait_on(&view, &commit, follows);
            if last.outcome != WaitOutcome::Pending || views.changed().await.is_err() {
                return;
            }
        }
    };
    let limit = Duration::from_secs(query.timeout_seconds.min(WAIT_SECONDS_MAX));
    // Over or not, `last` says how things stand; a wait of no time looks once.
    let over = tokio::time::timeout(limit, waiting).await.is_err();
    tracing::debug!(%commit, over, outcome = ?last.outcome, "wait answered");
    if last.commit.is_empty() {
        last = report::wait_on(&api.view(), &commit, false);
    }
    Ok(Json(last))
}

/// Git is asked only about commits that the cluster did not see by themselves.
async fn follows(api: &Api, view: &View, commit: &CommitName) -> bool {
    let Some(head) = view.head_of(&commit.source) else { return false };
    let head = CommitName::new(&commit.source, &head.commit);
    view.commit(commit).is_none() && api.backend.contains(head, commit.id.clone()).await
}

#[derive(Deserialize)]
struct PlanQuery {
    revision: String,
    #[serde(default)]
    merged: bool,
}

async fn plan(
    State(api): State<Api>,
    Query(query): Query<PlanQuery>,
) -> Result<Json<PlanReport>, Failure> {
    api.backend.plan(query.revision, query.merged).await.map(Json)
}

#[derive(Deserialize)]
struct ReceiveQuery {
    old: Option<String>,
    new: String,
}

async fn receive(
    State(api): State<Api>,
    Query(query): Query<ReceiveQuery>,
    pack: Bytes,
) -> Result<Json<PlanReport>, Failure> {
    let old = query.old.as_deref().map(full_id).transpose()?;
    api.backend.receive(old, full_id(&query.new)?, pack).await.map(Json)
}

fn full_id(text: &str) -> Result<CommitId, Failure> {
    let wrong = || Failure::bad_request(format!("{text:?} is not a full commit id"));
    CommitId::parse(text).ok_or_else(wrong)
}

#[derive(Deserialize)]
struct DiffQuery {
    old: Option<String>,
    new: String,
    #[serde(default)]
    merged: bool,
}

async fn diff(
    State(api): State<Api>,
    Query(query): Query<DiffQuery>,
    pack: Bytes,
) -> Result<Json<PlanReport>, Failure> {
    let old = query.old.as_deref().map(full_id).transpose()?;
    api.backend.compare(old, full_id(&query.new)?, pack, query.merged).await.map(Json)
}

#[derive(Deserialize)]
struct RollbackQuery {
    revision: Option<String>,
}

async fn rollback(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Query(query): Query<RollbackQuery>,
) -> Result<Json<RollbackReport>, Failure> {
    let commit = api.backend.rollback(query.revision, peer).await?;
    Ok(Json(RollbackReport { commit: commit.to_string() }))
}

#[derive(Deserialize)]
struct PromoteQuery {
    revision: String,
}

async fn promote(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Query(query): Query<PromoteQuery>,
) -> Result<Json<RollbackReport>, Failure> {
    let commit = api.backend.promote(query.revision, peer).await?;
    Ok(Json(RollbackReport { commit: commit.to_string() }))
}

async fn tree(State(api): State<Api>) -> Json<TreeReport> {
    Json(report::tree(&api.view()))
}

/// An object as people name it: `deployment/web`, `po/web-1`, `node/n1`.
#[derive(Deserialize)]
struct ObjectQuery {
    object: String,
    #[serde(default = "default_namespace")]
    namespace: String,
}

pub(super) fn default_namespace() -> String {
    "default".to_owned()
}

async fn why(
    State(api): State<Api>,
    Query(query): Query<ObjectQuery>,
) -> Result<Json<Vec<WhyStep>>, Failure> {
    let view = api.view();
    let object = find(&view, &query.object, &query.namespace)?;
    let verdicts = |pod: &Object| api.backend.verdicts(&view, pod);
    let steps = report::why(&view, object.key(), &verdicts);
    steps.map(Json).ok_or_else(|| Failure::not_found(format!("{} not found", object.key())))
}

/// The object a person names. A kind goes by its name, its plural or a short name, in any case.
pub(super) fn find<'a>(view: &'a View, text: &str, namespace: &str) -> Result<&'a Object, Failure> {
    let form = || {
        let text =
            format!("{text:?} does not name an object: write it as deployment/web or pod/web-1");
        Failure::bad_request(text)
    };
    let (kind, name) = text.split_once('/').ok_or_else(form)?;
    let wanted = kind.to_lowercase();
    let named = |info: &&Arc<KindInfo>| {
        let short = || info.short_names.iter().any(|name| *name == wanted);
        wanted == info.singular || wanted == info.plural || short()
    };
    let info = view.kinds().iter().find(named).ok_or_else(|| {
        // Those that a repository may hold or the cluster makes, not all that the API takes.
        let told = view.kinds().iter().filter(|info| !info.inert);
        let kinds: Vec<&str> = told.map(|info| info.singular.as_str()).collect();
        let text = format!("there is no kind {kind:?}; known are {}", kinds.join(", "));
        Failure::bad_request(text)
    })?;
    let namespace = if info.namespaced { namespace } else { "" };
    let key = Key::new(info.group_kind(), namespace, name);
    view.object(&key).ok_or_else(|| Failure::not_found(format!("{key} not found")))
}

/// Which objects; all of them when nothing is said.
#[derive(Deserialize)]
struct ListQuery {
    kind: Option<String>,
    namespace: Option<String>,
}

async fn events(State(api): State<Api>, Query(query): Query<ListQuery>) -> Json<Vec<EventLine>> {
    Json(report::events(&api.view(), query.namespace.as_deref()))
}

/// The objects Git owns, as the status branch shows them.
async fn objects(State(api): State<Api>, Query(query): Query<ListQuery>) -> Json<Vec<ObjectFile>> {
    let view = api.view();
    let wanted = view.origins().filter_map(|(key, _)| view.object(key)).filter(|object| {
        let key = object.key();
        query.kind.as_ref().is_none_or(|kind| key.kind.kind.eq_ignore_ascii_case(kind))
            && query.namespace.as_ref().is_none_or(|namespace| key.namespace == namespace.as_str())
    });
    Json(wanted.map(|object| report::object_file(&view, object)).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogsQuery {
    /// `web-1`, `pod/web-1` or `deployment/web`.
    object: String,
    #[serde(default = "default_namespace")]
    namespace: String,
    container: Option<String>,
    #[serde(default)]
    follow: bool,
    tail_lines: Option<u32>,
    #[serde(default)]
    previous: bool,
}

async fn logs(State(api): State<Api>, Query(query): Query<LogsQuery>) -> Result<Response, Failure> {
    let (node, request) = log_request(&api.view(), query)?;
    let body = log::open(&api, node, &request).await?;
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8"),
        (POD_HEADER, request.pod.as_str()),
    ];
    Ok((headers, body).into_response())
}

fn log_request(view: &View, query: LogsQuery) -> Result<(NodeName, LogRequest), Failure> {
    let text = match query.object.contains('/') {
        true => query.object,
        false => format!("pod/{}", query.object),
    };
    let object = find(view, &text, &query.namespace)?;
    if !object.key().is::<Pod>() && !object.key().is::<Deployment>() {
        let text = format!("{} has no log: ask for a pod or a deployment", object.key());
        return Err(Failure::bad_request(text));
    }
    let (key, pod, node) = speaker(view, object)
        .ok_or_else(|| Failure::not_found(format!("{} has no pod on a node", object.key())))?;
    let containers = pod.spec.iter().flat_map(|spec| {
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| c.name.as_str())
    });
    let containers: Vec<&str> = containers.collect();
    let container = match &query.container {
        Some(name) if !containers.contains(&name.as_str()) => {
            let text = format!("{key} has no container {name:?}, only {}", containers.join(", "));
            return Err(Failure::bad_request(text));
        }
        Some(name) => name.clone(),
        None => containers.first().map(|&name| name.to_owned()).unwrap_or_default(),
    };
    let request = LogRequest {
        namespace: key.namespace.to_string(),
        pod: key.name.to_string(),
        container,
        follow: query.follow,
        tail_lines: query.tail_lines.map(|n| n.min(TAIL_LINES_MAX).into()),
        previous: query.previous,
        ..LogRequest::default()
    };
    Ok((node, request))
}

/// The pod that speaks for an object: a ready one before others, then by name.
fn speaker<'a>(view: &'a View, object: &'a Object) -> Option<(&'a Key, &'a Pod, NodeName)> {
    let mut pods = report::pods_of(view, object);
    pods.sort_by_key(|pod| !report::health(pod).settled);
    let node = |pod: &Pod| pod.spec.as_ref()?.node_name.as_deref().map(NodeName::new);
    let bound = |o: &'a Object| {
        let pod = o.view::<Pod>()?;
        Some((o.key(), pod, node(pod)?))
    };
    pods.into_iter().find_map(bound)
}

/// Something was pushed: look now. Who asks too often is told so before anything of the body is
/// read; the backend checks the signature before it parses that.
pub(super) async fn hook(
    State(api): State<Api>,
    request: Request,
) -> Result<Json<serde_json::Value>, Response> {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|from| from.0.ip());
    let refused = IntoResponse::into_response;
    api.shares.hook(from, api.backend.now()).map_err(refused)?;
    let headers = request.headers().clone();
    let body = Bytes::from_request(request, &api).await.map_err(IntoResponse::into_response)?;
    let ours = api.backend.hook(headers, body).await.map_err(refused)?;
    Ok(Json(serde_json::json!({ "accepted": ours })))
}
