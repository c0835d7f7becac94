//! Git hosts and chats hear what became of a commit: fakes of their APIs, strict about what real
//! ones are strict about.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::{HeaderMap, Response, StatusCode},
};
use serde_json::Value;

use crate::world::{World, git, kubectls};

const TOKEN: &str = "glpat-canary-4711";
const SECRET: &str = "hook-canary-4712";

/// One delivery: path, headers, body.
type Told = (String, HeaderMap, Vec<u8>);

/// Remembers what is posted to it; says no to the first deliveries.
struct Fake {
    port: u16,
    told: Arc<Mutex<Vec<Told>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    fn start(refusals: usize) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, left) = (Arc::<Mutex<Vec<Told>>>::default(), Arc::new(Mutex::new(refusals)));
        let shared = told.clone();
        let app = Router::new().fallback(move |request: Request| {
            let (told, left) = (shared.clone(), left.clone());
            async move { answer(&told, &left, request).await }
        });
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
        Self { port, told, _runtime: runtime }
    }

    fn to(&self, path: &str) -> Vec<(HeaderMap, Value)> {
        let told = self.told.lock().unwrap();
        let here = told.iter().filter(|(p, _, _)| p == path);
        here.map(|(_, headers, body)| (headers.clone(), serde_json::from_slice(body).unwrap()))
            .collect()
    }
}

/// What each host takes: the path, the method, its own way to say who asks, its own words.
async fn answer(
    told: &Mutex<Vec<Told>>,
    left: &Mutex<usize>,
    request: Request,
) -> Response<axum::body::Body> {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let reply = |status: StatusCode, text: String| {
        Response::builder().status(status).body(axum::body::Body::from(text)).unwrap()
    };
    {
        let mut left = left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            // As a proxy may: with all that it was sent.
            let text = format!("busy; you said {:?}", parts.headers);
            return reply(StatusCode::SERVICE_UNAVAILABLE, text);
        }
    }
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let host = parts.uri.path().split('/').nth(1).unwrap_or_default();
    let is_one = |field: &str, words: &[&str]| words.iter().any(|word| json[field] == *word);
    let right = match host {
        "github" => {
            header("authorization") == format!("Bearer {TOKEN}")
                && header("accept") == "application/vnd.github+json"
                && header("user-agent").starts_with("mainstay/")
                && is_one("state", &["error", "failure", "pending", "success"])
                && json["description"].as_str().is_some_and(|d| d.chars().count() <= 140)
                && json["context"].is_string()
        }
        "gitlab" => {
            header("private-token") == TOKEN
                && is_one("state", &["pending", "running", "success", "failed", "canceled"])
                && json["name"].is_string()
        }
        "gitea" => {
            header("authorization") == format!("token {TOKEN}")
                && is_one("state", &["error", "failure", "pending", "success", "warning"])
                && json["context"].is_string()
        }
        "hook" => header("x-mainstay-signature-256") == signature(&body),
        "chat" => json.as_object().is_some_and(|o| o.len() == 1) && json["text"].is_string(),
        _ => false,
    };
    if parts.method != "POST" || !right || header("content-type") != "application/json" {
        return reply(StatusCode::UNAUTHORIZED, format!("no: {parts:?}"));
    }
    told.lock().unwrap().push((parts.uri.path().to_owned(), parts.headers, body.to_vec()));
    reply(StatusCode::CREATED, "{}".into())
}

fn signature(body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = ring::hmac::sign(&key, body);
    format!("sha256={}", tag.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn deliveries(fake: &Fake) -> BTreeSet<String> {
    let told = fake.to("/hook/x");
    told.iter().map(|(_, body)| body["delivery"].as_str().unwrap().to_owned()).collect()
}

/// What must not happen: a word that a host does not know; one that is lost because a host was away
/// or a leader died; a token in a log.
#[test]
fn hosts_and_chats_hear_what_became_of_a_commit() {
    let name = "hosts_and_chats_hear_what_became_of_a_commit";
    if kubectls(name).is_empty() {
        return;
    }
    let fake = Fake::start(3);
    let files = tempfile::tempdir().unwrap();
    let (token, secret) = (files.path().join("token"), files.path().join("secret"));
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    fs::write(&secret, SECRET).unwrap();
    let (base, token) = (format!("http://127.0.0.1:{}", fake.port), token.display());
    let config = format!(
        "notify:\n\
         - {{name: gh, kind: github, url: \"{base}/github/repos/o/r\", tokenFile: {token}, context: mainstay/test}}\n\
         - {{name: gl, kind: gitlab, url: \"{base}/gitlab/api/v4/projects/7/\", tokenFile: {token}}}\n\
         - {{name: tea, kind: gitea, url: \"{base}/gitea/api/v1/repos/o/r\", tokenFile: {token}}}\n\
         - {{name: own, kind: webhook, url: \"{base}/hook/x?y=z\", secretFile: {secret}}}\n\
         - {{name: chat, kind: slack, url: \"{base}/chat/T0/B0/canary-4713\"}}\n",
        secret = secret.display(),
    );
    let world = World::up_with(3, Box::leak(config.into_boxed_str()));
    let commit = || git(&world.work(), &["rev-parse", "HEAD"]);
    let states = |path: String, field: &str| {
        let told = fake.to(&path);
        told.iter().map(|(_, body)| body[field].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let hear = |commit: &str, last: [&str; 3]| {
        let paths = [
            format!("/github/repos/o/r/statuses/{commit}"),
            format!("/gitlab/api/v4/projects/7/statuses/{commit}"),
            format!("/gitea/api/v1/repos/o/r/statuses/{commit}"),
        ];
        for (path, word) in paths.into_iter().zip(last) {
            world.until(&format!("{path} hears {word}"), || {
                states(path.clone(), "state").last().is_some_and(|state| state == word)
            });
        }
    };
    hear(&commit(), ["success", "success", "success"]);
    let (headers, body) = fake.to("/hook/x").pop().unwrap();
    assert_eq!((&body["commit"], &body["state"]), (&commit().into(), &"Healthy".into()));
    assert_eq!(body["author"], "Ada");
    assert_eq!(headers["mainstay-delivery"], body["delivery"].as_str().unwrap());

    world.pushes("bad.yaml", "kind: Nonsense\n");
    hear(&commit(), ["error", "failed", "error"]);
    world.until("the chat hears it", || {
        let told = fake.to("/chat/T0/B0/canary-4713");
        told.iter().any(|(_, body)| {
            let text = body["text"].as_str().unwrap();
            text.starts_with("*Refused*") && text.contains("“bad.yaml” by Ada")
        })
    });
    let problem = fake.to("/hook/x").pop().unwrap().1["problems"][0].clone();
    assert!(problem.as_str().unwrap().starts_with("bad.yaml:1"), "{problem}");

    // Another server leads: it goes on. What the old one had said and not yet noted may be said
    // again, under the same delivery, by which a receiver knows it.
    let said = deliveries(&fake);
    world.kill(world.leader());
    git(&world.work(), &["rm", "--quiet", "bad.yaml"]);
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: free}\n";
    world.pushes("good.yaml", good);
    hear(&commit(), ["success", "success", "success"]);
    world.until("the hook hears it", || deliveries(&fake).len() > said.len());
    let mut words = BTreeMap::new();
    for (_, body) in fake.to("/hook/x") {
        let id = body["delivery"].as_str().unwrap().to_owned();
        let said_of_it = (body["state"].clone(), body["message"].clone());
        assert_eq!(*words.entry(id.clone()).or_insert_with(|| said_of_it.clone()), said_of_it);
        assert!(said.contains(&id) || body["commit"] == commit(), "{body} {said:?}");
    }
    for server in &world.servers {
        let dir = server.kubeconfig();
        let log = fs::read_to_string(dir.parent().unwrap().join("server.log")).unwrap();
        for canary in [TOKEN, SECRET, "canary-4713"] {
            assert!(!log.contains(canary), "{log}");
        }
    }
}
