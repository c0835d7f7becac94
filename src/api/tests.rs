use std::{
    net::SocketAddr,
    process::{Command as Process, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::ConnectInfo,
    http::{HeaderMap, Request, Response, StatusCode},
};
use expect_test::expect;
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use super::{
    Audit, Backend, Check, Failure, Peer, Uncommitted, Wish, Writes, encode, metrics_router,
    routers,
};
use crate::{
    kinds::{self, Strictness},
    model::{CommitId, CommitName, NodeName, Object, Problem, RequestId, Timestamp},
    report::{
        LogFacts, NodeVerdict, PlanReport, Sample, Spread,
        fixture::{BAD, Cluster, FIRST, SECOND, START, unscheduled_status},
    },
    state::{Command, Entry, Expect, Op, Outcome, Part, State, View},
    trust::TokenKey,
};

/// A backend that remembers what it was asked, and whose log is a State in memory.
pub(super) struct Fake {
    pub(super) views: watch::Sender<View>,
    asked: Mutex<Vec<String>>,
    broken: Option<String>,
    state: Mutex<State>,
    drawn: Mutex<u128>,
    writes: Writes,
    /// Why it makes no commits, when it does not.
    pub(super) uncommitted: Mutex<Option<Uncommitted>>,
    audit: Audit,
    pub(super) token_key: TokenKey,
}

impl Fake {
    pub(super) fn new(cluster: &Cluster) -> Arc<Self> {
        Arc::new(Self::of(cluster))
    }

    fn of(cluster: &Cluster) -> Self {
        let views = watch::Sender::new(cluster.state.view().clone());
        let state = Mutex::new(cluster.state.clone());
        let (asked, drawn) = (Mutex::default(), Mutex::new(1000));
        let audit = Audit::off();
        let token_key = TokenKey::generate().unwrap();
        let writes = Writes::Refuse;
        let uncommitted = Mutex::default();
        Self { views, asked, broken: None, state, drawn, writes, uncommitted, audit, token_key }
    }

    /// One that takes every write.
    pub(super) fn direct(cluster: &Cluster) -> Arc<Self> {
        Arc::new(Self { writes: Writes::Direct, ..Self::of(cluster) })
    }

    /// One whose writes become commits.
    pub(super) fn committing(cluster: &Cluster) -> Arc<Self> {
        Arc::new(Self { writes: Writes::Commit, ..Self::of(cluster) })
    }

    /// What it was asked.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// One that takes every write, and writes down what it is asked.
    pub(super) fn audited(cluster: &Cluster, audit: Audit) -> Arc<Self> {
        Arc::new(Self { writes: Writes::Direct, audit, ..Self::of(cluster) })
    }

    /// Applies commands as the log would.
    pub(super) fn apply(&self, commands: Vec<Command>) -> Vec<Outcome> {
        let mut state = self.state.lock().unwrap();
        let outcomes = state.apply(Entry::new(RequestId(self.random()), self.now(), commands));
        self.views.send_replace(state.view().clone());
        outcomes
    }

    fn note(&self, text: String) {
        self.asked.lock().unwrap().push(text);
    }
}

impl Backend for Fake {
    fn views(&self) -> watch::Receiver<View> {
        self.views.subscribe()
    }
    fn log(&self) -> LogFacts {
        LogFacts { role: "leader".into(), term: 3, ..LogFacts::default() }
    }
    fn checks(&self) -> Vec<Check> {
        vec![
            Check { name: "log", failed: None },
            Check { name: "source", failed: self.broken.clone() },
        ]
    }
    fn now(&self) -> Timestamp {
        Timestamp(START + 90_000)
    }
    fn samples(&self) -> Vec<Sample> {
        vec![Sample::new("mainstay_driver_rounds_total", &[], 7.0)]
    }
    fn verdicts(&self, _view: &View, _pod: &Object) -> Vec<NodeVerdict> {
        vec![NodeVerdict { node: "n1".into(), reason: "Insufficient cpu".into() }]
    }
    fn contains(&self, of: CommitName, commit: CommitId) -> BoxFuture<'_, bool> {
        self.note(format!("contains {} {}", of.short(), commit.short()));
        async { false }.boxed()
    }
    fn plan(&self, revision: String, _: bool) -> BoxFuture<'_, Result<PlanReport, Failure>> {
        async move {
            assert_ne!(revision, "panic", "this test panics");
            if revision == "stuck" {
                std::future::pending::<()>().await;
            }
            if revision == "nowhere" {
                return Err(Failure::not_found("there is no revision \"nowhere\""));
            }
            let problem = Problem { message: "wrong".into(), ..Problem::default() };
            Err(Failure::invalid("1 problem", vec![problem]))
        }
        .boxed()
    }
    fn receive(
        &self,
        old: Option<CommitId>,
        new: CommitId,
        pack: Bytes,
    ) -> BoxFuture<'_, Result<PlanReport, Failure>> {
        let old = old.map(|old| old.short().to_owned());
        self.note(format!("receive {old:?} {} of {} bytes", new.short(), pack.len()));
        async { Ok(PlanReport::default()) }.boxed()
    }
    fn compare(
        &self,
        old: Option<CommitId>,
        new: CommitId,
        pack: Bytes,
        merged: bool,
    ) -> BoxFuture<'_, Result<PlanReport, Failure>> {
        let (old, bytes) = (old.map(|old| old.short().to_owned()), pack.len());
        self.note(format!("compare {old:?} {} of {bytes} bytes, merged {merged}", new.short()));
        async { Ok(PlanReport::default()) }.boxed()
    }
    fn promote(&self, revision: String, who: Peer) -> BoxFuture<'_, Result<CommitId, Failure>> {
        self.note(format!("promote {revision} by {}", who.user));
        async { Err(Failure::conflict("a.yaml: both changed it")) }.boxed()
    }
    fn rollback(
        &self,
        revision: Option<String>,
        who: Peer,
    ) -> BoxFuture<'_, Result<CommitId, Failure>> {
        self.note(format!("rollback {revision:?} by {}", who.user));
        async { Ok(CommitId::parse(SECOND).unwrap()) }.boxed()
    }
    fn draft(&self, wish: Wish) -> BoxFuture<'_, Result<crate::api::Draft, Uncommitted>> {
        self.note(format!("draft of {}", wish.key));
        let (file, patch) = ("shop/a.yaml".to_owned(), "+a: 1\n".to_owned());
        std::future::ready(Ok(crate::api::Draft { file, patch })).boxed()
    }
    fn commit(&self, wish: Wish) -> BoxFuture<'_, Result<CommitId, Uncommitted>> {
        let Wish { key, before, after, author, via, adopt: _ } = wish;
        let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
        self.note(format!("{author} via {via}: {key}: {} => {}", text(&before), text(&after)));
        if let Some(refused) = self.uncommitted.lock().unwrap().clone() {
            return std::future::ready(Err(refused)).boxed();
        }
        let op = match after {
            Some(value) => Op::Put {
                object: kinds::admit(value, Strictness::Strict).unwrap().object,
                expect: Expect::Any,
                part: Part::Main,
            },
            None => Op::Delete { key, uid: String::new(), grace_seconds: None },
        };
        let outcomes = self.apply(vec![Command::Write(vec![op])]);
        assert!(matches!(outcomes[..], [Outcome::Done(_)]), "{outcomes:?}");
        std::future::ready(Ok(CommitId::parse(SECOND).unwrap())).boxed()
    }
    fn hook(&self, headers: HeaderMap, body: Bytes) -> BoxFuture<'_, Result<bool, Failure>> {
        let signed = headers.contains_key("x-hub-signature-256");
        self.note(format!("hook of {} bytes", body.len()));
        async move {
            if signed { Ok(true) } else { Err(Failure::unauthorized("the signature is missing")) }
        }
        .boxed()
    }
    fn propose(&self, commands: Vec<Command>) -> BoxFuture<'_, Result<Vec<Outcome>, Failure>> {
        std::future::ready(Ok(self.apply(commands))).boxed()
    }
    fn barrier(&self) -> BoxFuture<'_, Result<(), Failure>> {
        std::future::ready(Ok(())).boxed()
    }
    fn writes(&self) -> Writes {
        self.writes
    }
    fn audit(&self) -> Audit {
        self.audit.clone()
    }
    fn random(&self) -> u128 {
        let mut drawn = self.drawn.lock().unwrap();
        *drawn += 1;
        *drawn << 64 | *drawn
    }
    fn sign_token(&self, claims: &[u8]) -> Result<String, Failure> {
        Ok(self.token_key.sign(claims).unwrap())
    }
    fn open_token(&self, token: &str) -> Option<Vec<u8>> {
        self.token_key.open(token)
    }
    fn token_keys(&self) -> Vec<Value> {
        vec![self.token_key.public()]
    }
    fn ask(
        &self,
        node: NodeName,
        request: Request<Body>,
    ) -> BoxFuture<'_, Result<Response<Body>, Failure>> {
        self.note(format!("{node}: {} {}", request.method(), request.uri()));
        let usage = r#"{"at": 1795219200000, "windowMs": 1000,
            "node": {"cpuNano": 250000000, "memoryBytes": 1073741824}, "containers": []}"#;
        let told = if request.uri().path() == "/usage" { usage } else { "one\ntwo\n" };
        async move { Ok(Response::new(Body::from(told))) }.boxed()
    }
}

pub(super) fn admin() -> Peer {
    Peer { user: "ada".into(), groups: vec!["system:masters".into()] }
}

async fn send(backend: &Arc<Fake>, request: Request<Body>) -> (StatusCode, String) {
    let response = routers(backend.clone()).tls.oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 16 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn request(method: &str, path: &str, peer: Option<Peer>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    request
}

async fn get(backend: &Arc<Fake>, path: &str) -> (StatusCode, String) {
    send(backend, request("GET", path, Some(admin()))).await
}

async fn get_json(backend: &Arc<Fake>, path: &str) -> Value {
    let (status, body) = get(backend, path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn health_and_version_answer_anybody_and_nothing_else_does() {
    let backend = Fake::new(&Cluster::web());
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = send(&backend, request("GET", path, None)).await;
        assert_eq!(answer, (StatusCode::OK, "ok".into()), "{path}");
    }
    assert_eq!(send(&backend, request("GET", "/version", None)).await.0, StatusCode::OK);
    let guest = Peer { user: "eve".into(), groups: vec!["guests".into()] };
    for path in ["/metrics", "/mainstay/v1/status", "/mainstay/v1/logs?object=web-1-0"] {
        let (status, body) = send(&backend, request("GET", path, None)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["kind"], "Status");
        let (status, _) = send(&backend, request("GET", path, Some(guest.clone()))).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
    let (status, _) = send(&backend, request("POST", "/mainstay/v1/rollback", None)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(*backend.asked.lock().unwrap(), [""; 0]);
}

/// Generated clients ask for `/version/` and `/apis/apps/`.
#[tokio::test]
async fn a_slash_at_the_end_changes_nothing() {
    let backend = Fake::new(&Cluster::web());
    for path in ["/version", "/api", "/apis", "/apis/apps", "/apis/apps/v1", "/api/v1/namespaces"] {
        let slashed = get(&backend, &format!("{path}/")).await;
        assert_eq!(slashed, get(&backend, path).await, "{path}");
        assert_eq!(slashed.0, StatusCode::OK, "{path}");
    }
    assert_eq!(get(&backend, "/apis/absent/").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&backend, "/version//").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn readyz_names_what_is_not_ready() {
    let cluster = Cluster::web();
    let broken = Some("could not connect".to_owned());
    let backend = Arc::new(Fake { broken, ..Fake::of(&cluster) });
    let (status, body) = send(&backend, request("GET", "/readyz", None)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    expect![[r#"
        [+]ping ok
        [+]log ok
        [-]source failed: could not connect
        readyz check failed
    "#]]
    .assert_eq(&body);
    assert_eq!(send(&backend, request("GET", "/healthz", None)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn errors_are_kubernetes_status_objects() {
    let backend = Fake::new(&Cluster::web());
    let mut told = String::new();
    for (method, path) in [
        ("DELETE", "/mainstay/v1/status"),
        ("GET", "/mainstay/v1/plan?revision=nowhere"),
        ("GET", "/mainstay/v1/plan?revision=bad"),
        ("GET", "/mainstay/v1/why?object=web"),
        ("GET", "/mainstay/v1/why?object=gadget/web"),
        ("GET", "/mainstay/v1/why?object=pod/none&namespace=shop"),
        ("GET", "/mainstay/v1/logs?object=svc/web&namespace=shop"),
        ("GET", "/mainstay/v1/logs?object=web-1-0&namespace=shop&container=db"),
        ("GET", "/mainstay/v1/commits/abc/wait"),
    ] {
        let (_, body) = send(&backend, request(method, path, Some(admin()))).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        told += &format!("{} {}: {}\n", body["code"], body["reason"], body["message"]);
    }
    expect![[r#"
        405 "MethodNotAllowed": "DELETE is not possible at /mainstay/v1/status"
        404 "NotFound": "there is no revision \"nowhere\""
        422 "Invalid": "1 problem"
        400 "BadRequest": "\"web\" does not name an object: write it as deployment/web or pod/web-1"
        400 "BadRequest": "there is no kind \"gadget\"; known are namespace, customresourcedefinition, serviceaccount, limitrange, resourcequota, clusterrole, role, priorityclass, configmap, secret, clusterrolebinding, rolebinding, service, poddisruptionbudget, pod, replicaset, deployment, job, cronjob, node, componentstatus, endpoints, lease, endpointslice, event, commit, gitsource, freeze, certificatesigningrequest, validatingadmissionpolicy, validatingadmissionpolicybinding, apiservice"
        404 "NotFound": "Pod shop/none not found"
        400 "BadRequest": "Service shop/web has no log: ask for a pod or a deployment"
        400 "BadRequest": "Pod shop/web-1-0 has no container \"db\", only web"
        400 "BadRequest": "\"abc\" is not a full commit id"
    "#]].assert_eq(&told);
    let (code, page) = send(&backend, request("GET", "/nowhere", Some(admin()))).await;
    assert_eq!((code.as_u16(), page.as_str()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn verbs_get_what_the_report_says() {
    let mut cluster = Cluster::web();
    cluster.pod("web-1", "web-1-9", None, unscheduled_status());
    let backend = Fake::new(&cluster);
    let status = get_json(&backend, "/mainstay/v1/status").await;
    assert_eq!((&status["commit"], &status["state"]), (&json!(FIRST), &json!("Healthy")));
    assert_eq!(status["log"]["term"], 3);
    let commits = get_json(&backend, "/mainstay/v1/commits").await;
    assert_eq!(commits[0]["commit"], FIRST);
    let why = get_json(&backend, "/mainstay/v1/why?object=po/web-1-9&namespace=shop").await;
    let says: Vec<&Value> = why.as_array().unwrap().iter().map(|step| &step["says"]).collect();
    assert!(says.contains(&&json!("Insufficient cpu")), "{says:?}");
    let objects = get_json(&backend, "/mainstay/v1/objects?kind=deployment&namespace=shop").await;
    assert_eq!(objects[0]["name"], "web");
    assert_eq!(objects.as_array().unwrap().len(), 1);
    assert_eq!(get_json(&backend, "/mainstay/v1/check").await, json!([]));
    let answer = send(&backend, request("POST", "/mainstay/v1/rollback", Some(admin()))).await;
    assert_eq!(answer.0, StatusCode::OK);
    assert_eq!(*backend.asked.lock().unwrap(), ["rollback None by ada"]);
}

#[tokio::test]
async fn a_log_comes_from_a_ready_pod_of_the_deployment() {
    let mut cluster = Cluster::web();
    cluster.pod("web-1", "web-0-waits", None, unscheduled_status());
    let backend = Fake::new(&cluster);
    let path = "/mainstay/v1/logs?object=deployment/web&namespace=shop&follow=true&tailLines=5";
    let response =
        routers(backend.clone()).tls.oneshot(request("GET", path, Some(admin()))).await.unwrap();
    assert_eq!(response.headers()[super::talk::POD_HEADER], "web-1-0");
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert_eq!(&body[..], b"one\ntwo\n");
    let asked = backend.asked.lock().unwrap()[0].clone();
    expect![[r#"n1: GET /containerLogs/shop/web-1-0/web?follow=true&previous=false&timestamps=false&tailLines=5"#]]
        .assert_eq(&asked);
}

#[tokio::test]
async fn a_hook_is_open_but_bounded_and_refused_without_its_signature() {
    let backend = Fake::new(&Cluster::web());
    let hook = |body: Vec<u8>, signed: bool| {
        let mut request = Request::builder().method("POST").uri("/hooks/git");
        if signed {
            request = request.header("x-hub-signature-256", "sha256=00");
        }
        request.body(Body::from(body)).unwrap()
    };
    assert_eq!(send(&backend, hook(vec![0; 10], true)).await.0, StatusCode::OK);
    assert_eq!(send(&backend, hook(vec![0; 10], false)).await.0, StatusCode::UNAUTHORIZED);
    let large = vec![0; super::BODY_BYTES_MAX + 1];
    assert_eq!(send(&backend, hook(large, true)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(*backend.asked.lock().unwrap(), ["hook of 10 bytes", "hook of 10 bytes"]);
}

/// What must not happen: that whoever sends hooks by the thousand has each of them read and judged,
/// or keeps those of somebody else out.
#[tokio::test]
async fn a_flood_of_hooks_is_answered_with_when_to_come_back() {
    let backend = Fake::new(&Cluster::web());
    let app = routers(backend.clone()).tls;
    let hook = |host: u8| {
        let from = SocketAddr::from(([192, 0, 2, host], 40_000));
        let request = Request::builder().method("POST").uri("/hooks/git");
        let mut request = request.body(Body::from(vec![0; 10])).unwrap();
        request.extensions_mut().insert(ConnectInfo(from));
        app.clone().oneshot(request)
    };
    for _ in 0..60 {
        assert_eq!(hook(1).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    for _ in 0..1000 {
        let full = hook(1).await.unwrap();
        assert_eq!(full.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(full.headers()["retry-after"], "1");
    }
    assert_eq!(hook(2).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(backend.asked.lock().unwrap().len(), 61);
}

/// The wait is answered by the change itself, and by the clock when none comes.
#[tokio::test]
async fn a_wait_returns_with_health_with_failure_or_with_time() {
    let mut cluster = Cluster::web();
    let backend = Fake::new(&cluster);
    let wait = |commit: &str, seconds: u32| {
        let path = format!("/mainstay/v1/commits/{commit}/wait?timeoutSeconds={seconds}");
        let backend = backend.clone();
        async move { get_json(&backend, &path).await }
    };
    assert_eq!(wait(FIRST, 60).await["outcome"], "Healthy");
    let started = std::time::Instant::now();
    assert_eq!(wait(SECOND, 1).await["outcome"], "Pending");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(*backend.asked.lock().unwrap(), ["contains 9f8e7d6 1a2b3c4"]);
    cluster.refuse();
    backend.views.send_replace(cluster.state.view().clone());
    let refused = wait(BAD, 60).await;
    assert_eq!(
        (&refused["outcome"], &refused["problems"][0]["line"]),
        (&json!("Failed"), &json!(14))
    );
    let waiting = tokio::spawn(wait(SECOND, 600));
    tokio::task::yield_now().await;
    cluster.adopt(SECOND, Some(FIRST), 2, "web:2");
    backend.views.send_replace(cluster.state.view().clone());
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    cluster.commit_status(SECOND, json!({ "state": "Healthy" }));
    backend.views.send_replace(cluster.state.view().clone());
    assert_eq!(waiting.await.unwrap()["outcome"], "Healthy");
    assert_eq!(wait(BAD, 0).await["outcome"], "Failed");
}

#[tokio::test]
async fn more_requests_than_there_is_room_for_are_told_to_come_back() {
    let backend = Fake::new(&Cluster::web());
    let app = routers(backend.clone()).tls;
    let path = format!("/mainstay/v1/commits/{SECOND}/wait?timeoutSeconds=600");
    let mut waits = tokio::task::JoinSet::new();
    // One user leaves a quarter to others.
    let places = super::STREAMS_MAX * 3 / 4;
    for _ in 0..places {
        let (app, path) = (app.clone(), path.clone());
        waits.spawn(async move { app.oneshot(request("GET", &path, Some(admin()))).await });
    }
    // Each wait has its place once it has asked the backend whether the head holds its commit.
    while backend.asked.lock().unwrap().len() < places {
        tokio::task::yield_now().await;
    }
    let probe = app.clone().oneshot(request("GET", &path, Some(admin())));
    let probe = tokio::time::timeout(Duration::from_secs(20), probe).await;
    let status = probe.expect("refused at once").unwrap().status();
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let status = app.clone().oneshot(request("GET", "/mainstay/v1/status", Some(admin()))).await;
    assert_eq!(status.unwrap().status(), StatusCode::OK, "short requests have room of their own");
    waits.abort_all();
}

#[tokio::test]
async fn metrics_are_prometheus_text_that_promtool_accepts() {
    let mut cluster = Cluster::web();
    cluster.pod("web-1", "web-1-9", None, unscheduled_status());
    let backend = Fake::new(&cluster);
    let (status, text) = get(&backend, "/metrics").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    for line in [
        "# TYPE mainstay_driver_rounds_total counter",
        "mainstay_driver_rounds_total 7",
        "mainstay_raft_leader 1",
        r#"kube_deployment_status_replicas_available{deployment="web",namespace="shop"} 2"#,
        r#"kube_node_status_condition{condition="Ready",node="n1",status="true"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    promtool(&["check", "metrics"], &text);
}

/// What must not happen: the same series on two paths, which whoever scrapes both would add up.
#[tokio::test]
async fn names_of_flux_and_argo_cd_are_for_those_who_ask() {
    let backend = Fake::new(&Cluster::web());
    let (_, ours) = get(&backend, "/metrics").await;
    let names = |text: &str| -> Vec<String> {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut names: Vec<_> = types.filter_map(|line| line.split(' ').next()).collect();
        names.sort_unstable();
        names.into_iter().map(str::to_owned).collect()
    };
    for (path, own) in [
        ("/metrics/flux", ["gotk_reconcile_duration_seconds", "gotk_resource_info"]),
        ("/metrics/argocd", ["argocd_app_info", "argocd_app_sync_total"]),
    ] {
        let (status, text) = get(&backend, path).await;
        assert_eq!((status, names(&text)), (StatusCode::OK, own.map(str::to_owned).to_vec()));
        assert!(!text.contains("secret") && own.iter().all(|name| !ours.contains(name)), "{text}");
        promtool(&["check", "metrics"], &text);
    }
}

#[tokio::test]
async fn an_agent_serves_its_samples_the_same_way() {
    let samples = || async { vec![Sample::new("mainstay_agent_pods", &["running"], 3.0)] }.boxed();
    let app = metrics_router(Arc::new(samples));
    let response = app.oneshot(request("GET", "/metrics", None)).await.unwrap();
    let text = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains("mainstay_agent_pods{state=\"running\"} 3"), "{text}");
}

/// Every metric of the list, so that promtool sees each name and help once.
#[test]
fn every_metric_of_the_list_encodes_and_lints() {
    let metrics = crate::report::metrics::METRICS.iter();
    let samples = metrics.map(|m| Sample {
        metric: m,
        labels: m.labels.iter().map(|_| "x\"\\\n".to_owned()).collect(),
        value: 1.0,
        spread: None,
    });
    promtool(&["check", "metrics"], &encode(&samples.collect::<Vec<_>>()).unwrap());
}

#[test]
fn a_histogram_shows_its_buckets_sum_and_count() {
    let spread = Spread { buckets: vec![(0.001, 2), (0.01, 5)], count: 6 };
    let sample = Sample::histogram("mainstay_raft_fsync_seconds", &[], 0.25, spread);
    let text = encode(&[sample]).unwrap();
    for line in [
        "# TYPE mainstay_raft_fsync_seconds histogram",
        r#"mainstay_raft_fsync_seconds_bucket{le="0.001"} 2"#,
        r#"mainstay_raft_fsync_seconds_bucket{le="0.01"} 5"#,
        r#"mainstay_raft_fsync_seconds_bucket{le="+Inf"} 6"#,
        "mainstay_raft_fsync_seconds_sum 0.25",
        "mainstay_raft_fsync_seconds_count 6",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

/// A Prometheus that reads the plain port sees what the TLS port answered.
#[tokio::test]
async fn both_ports_count_their_answers_together() {
    let api = routers(Fake::new(&Cluster::web()));
    api.tls.oneshot(request("GET", "/version", None)).await.unwrap();
    let response = api.plain.oneshot(request("GET", "/metrics", None)).await.unwrap();
    let text = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains("mainstay_api_requests_total{code=\"200\"} 1"), "{text}");
}

#[test]
fn a_series_that_comes_twice_keeps_one_value_and_wrong_labels_are_an_error() {
    let mut sample = Sample::new("mainstay_agent_pods", &["running"], 3.0);
    let twice = encode(&[sample.clone(), sample.clone()]).unwrap();
    assert_eq!(twice.matches("mainstay_agent_pods{").count(), 1);
    sample.labels.clear();
    assert!(encode(&[sample]).is_err());
}

/// Feeds promtool and fails on any word of complaint; says so when there is no promtool.
pub(crate) fn promtool(arguments: &[&str], input: &str) {
    let started = Process::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(e) => {
            eprintln!("skipped: promtool (Debian package prometheus) does not start: {e}");
            return;
        }
    };
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "promtool: {said}");
}

/// `kubectl top`: what agents measured, of the nodes that there are.
#[tokio::test]
async fn what_nodes_use_is_asked_of_them() {
    let backend = Fake::new(&Cluster::empty());
    let get = async |path: &str| {
        let (code, text) = send(&backend, request("GET", path, Some(admin()))).await;
        (code.as_u16(), serde_json::from_str::<serde_json::Value>(&text).unwrap())
    };
    let at = "/apis/metrics.k8s.io/v1beta1";
    let (_, told) = get(at).await;
    let names: Vec<_> =
        told["resources"].as_array().unwrap().iter().map(|r| r["name"].clone()).collect();
    assert_eq!(names, ["nodes", "pods"]);
    let (code, list) = get(&format!("{at}/nodes")).await;
    assert_eq!((code, &list["kind"]), (200, &"NodeMetricsList".into()));
    assert_eq!(list["items"][0]["metadata"]["name"], "n1");
    assert_eq!(list["items"][0]["usage"]["cpu"], "250000000n");
    assert_eq!(get(&format!("{at}/nodes/n1")).await.1["usage"]["memory"], "1048576Ki");
    assert_eq!(get(&format!("{at}/nodes/n2")).await.0, 404);
    let (code, told) = get(&format!("{at}/namespaces/shop/pods/web")).await;
    let text = "podmetrics.metrics.k8s.io \"shop/web\" not found";
    assert_eq!((code, &told["message"]), (404, &text.into()));
    assert_eq!(get(&format!("{at}/pods")).await.1["items"], serde_json::json!([]));
    let (code, _) = send(&backend, request("GET", &format!("{at}/nodes"), None)).await;
    assert_eq!(code.as_u16(), 401);
}
