//! A tiny HTTP server in front of `git http-backend`, on loopback.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Response, StatusCode},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

/// Serves until it is dropped.
pub(super) struct HttpServer {
    pub(super) port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl HttpServer {
    /// Serves the repositories under `root`; with `login` (`user:password`) only to who presents
    /// it.
    pub(super) fn start(root: &Path, login: Option<&str>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (root, login) = (root.to_owned(), login.map(|l| format!("Basic {}", BASE64.encode(l))));
        let app = Router::new().fallback(move |request: Request| {
            let (root, login) = (root.clone(), login.clone());
            async move { serve(root, login, request).await }
        });
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
        Self { port, _runtime: runtime }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

async fn serve(root: PathBuf, login: Option<String>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let given = parts.headers.get("authorization").and_then(|v| v.to_str().ok());
    if login.is_some() && login.as_deref() != given {
        return Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header("WWW-Authenticate", "Basic realm=\"git\"")
            .body(Body::empty())
            .unwrap();
    }
    let redirect = match parts.uri.path().split('/').nth(1) {
        Some("elsewhere") => Some(format!("http://localhost.invalid{}", parts.uri.path())),
        Some("relative") => Some("nowhere".into()),
        _ => None,
    };
    if let Some(to) = redirect {
        let moved = Response::builder().status(StatusCode::FOUND).header("Location", to);
        return moved.body(Body::empty()).unwrap();
    }
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let env = environment(&root, &parts.method, &parts.uri, &parts.headers);
    tokio::task::spawn_blocking(move || backend(&env, &body)).await.unwrap()
}

fn environment(
    root: &Path,
    method: &axum::http::Method,
    uri: &axum::http::Uri,
    headers: &HeaderMap,
) -> BTreeMap<String, String> {
    let header =
        |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    BTreeMap::from([
        ("GIT_PROJECT_ROOT".into(), root.display().to_string()),
        ("GIT_HTTP_EXPORT_ALL".into(), "1".into()),
        ("GIT_CONFIG_GLOBAL".into(), "/dev/null".into()),
        ("PATH_INFO".into(), uri.path().into()),
        ("QUERY_STRING".into(), uri.query().unwrap_or_default().into()),
        ("REQUEST_METHOD".into(), method.to_string()),
        ("CONTENT_TYPE".into(), header("content-type")),
        ("HTTP_CONTENT_ENCODING".into(), header("content-encoding")),
        ("GIT_PROTOCOL".into(), header("git-protocol")),
        ("REMOTE_USER".into(), "tester".into()),
    ])
}

fn backend(env: &BTreeMap<String, String>, body: &[u8]) -> Response<Body> {
    let mut child = Command::new("git")
        .arg("http-backend")
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // A backend that answers an error may not read its input.
    child.stdin.take().unwrap().write_all(body).ok();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").expect("CGI headers");
    let head = String::from_utf8_lossy(&output[..end]);
    let mut response = Response::builder();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).unwrap()
}
