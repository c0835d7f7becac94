//! A real Prometheus with the repository's rules, and what the dashboard asks it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{DEADLINE, LOOK_EVERY, Queries};

pub(crate) const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/rules.yaml");
const BOARDS: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/mainstay-overview.json"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/mainstay-commit.json"),
];
/// Free in the node, which has its own network namespace.
const ADDRESS: &str = "127.0.0.1:9390";

/// Where the programs are.
pub(crate) struct Tools {
    prometheus: PathBuf,
    promtool: PathBuf,
}

/// The programs in PATH, or from the Debian package, which is fetched once into the build's folder.
pub(crate) fn find() -> Option<Tools> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prometheus");
    let there = || {
        let dirs = std::env::split_paths(&path).chain([cache.join("usr/bin")]);
        let found = dirs.map(|dir| Tools {
            prometheus: dir.join("prometheus"),
            promtool: dir.join("promtool"),
        });
        found.into_iter().find(|t| t.prometheus.is_file() && t.promtool.is_file())
    };
    if let Some(tools) = there() {
        return Some(tools);
    }
    fs::create_dir_all(&cache).ok()?;
    let fetch = "apt-get download -q prometheus >&2 && dpkg -x prometheus_*.deb . && rm *.deb";
    let fetched = Command::new("sh").current_dir(&cache).args(["-c", fetch]).status();
    if fetched.is_ok_and(|status| status.success()) { there() } else { None }
}

pub(crate) struct Prometheus {
    child: Child,
    dir: tempfile::TempDir,
}

impl Prometheus {
    pub(crate) fn start(tools: &Tools, endpoints: &BTreeMap<String, String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("prometheus.yml");
        let targets: Vec<String> = endpoints.values().map(|url| host(url).to_owned()).collect();
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{RULES}]\n\
             scrape_configs:\n- job_name: mainstay\n  static_configs: [{{targets: {targets:?}}}]\n"
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(&tools.prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    /// Waits until every query has an answer that is not empty.
    pub(crate) async fn until_data(&self, queries: &Queries, within: Duration) {
        let deadline = Instant::now() + within;
        for (name, query) in queries {
            while self.query(query).await.is_empty() {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                assert!(Instant::now() < deadline, "no data for {name}: {query}\n{log}");
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// The series of an instant query; none while Prometheus starts.
    async fn query(&self, query: &str) -> Vec<Value> {
        let answer = self.api(&format!("query?query={}", encoded(query))).await;
        assert_ne!(answer["status"], "error", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    async fn api(&self, path: &str) -> Value {
        let text = fetch(&format!("http://{ADDRESS}/api/v1/{path}")).await;
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Waits until every rule was evaluated without an error and those of `raised` are in alarm (or
    /// about to be, after their `for`).
    pub(crate) async fn until_rules_are_well(&self, raised: &[&str], within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let answer = self.api("rules").await;
            let rules = answer["data"]["groups"][0]["rules"].as_array().cloned();
            let rules = rules.unwrap_or_default();
            let bad = rules.iter().find(|rule| rule["health"] == "err");
            assert_eq!(bad, None, "a rule that cannot be evaluated");
            let well = rules.iter().filter(|rule| rule["health"] == "ok").count();
            let calm = raised.iter().filter(|name| {
                let rule = rules.iter().find(|rule| rule["name"] == **name);
                rule.is_none_or(|rule| rule["state"] == "inactive")
            });
            let calm: Vec<_> = calm.collect();
            if well == rules.len() && !rules.is_empty() && calm.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "not raised: {calm:?}; {answer:#}");
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            eprintln!("prometheus: {error}");
        }
    }
}

/// What each panel of the dashboards asks.
pub(crate) fn panels() -> Queries {
    let read = |path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let boards: Vec<Value> = BOARDS.into_iter().map(read).collect();
    let mut queries = Queries::new();
    for panel in boards.iter().flat_map(|board| board["panels"].as_array().unwrap()) {
        for (at, target) in panel["targets"].as_array().into_iter().flatten().enumerate() {
            let name = format!("{} [{at}]", panel["title"].as_str().unwrap());
            queries.insert(name, target["expr"].as_str().unwrap().to_owned());
        }
    }
    assert!(queries.len() > 10, "{queries:?}");
    queries
}

/// What each rule compares: data must be there though the comparison is false.
pub(crate) fn operands_of_rules() -> Queries {
    let rules: Value = serde_yaml::from_slice(&fs::read(RULES).unwrap()).unwrap();
    let mut queries = Queries::new();
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        let (name, expr) = (rule["alert"].as_str().unwrap(), rule["expr"].as_str().unwrap());
        let compared = [" == ", " > ", " < "].iter().find_map(|sign| expr.rsplit_once(sign));
        let (left, right) = compared.unwrap_or_else(|| panic!("{name} compares nothing: {expr}"));
        queries.insert(name.to_owned(), left.to_owned());
        if right.parse::<f64>().is_err() {
            queries.insert(format!("{name}, right"), right.to_owned());
        }
    }
    queries
}

/// Fails on any word of complaint.
pub(crate) fn promtool(tools: &Tools, args: &[&str], input: &str) {
    let mut child = Command::new(&tools.promtool)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "promtool {args:?}: {said}");
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap()
}

/// The body of a `GET`; empty when nobody answers.
pub(crate) async fn fetch(url: &str) -> String {
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    let path = path.map_or("", |(_, path)| path);
    let ask = async {
        let mut stream = TcpStream::connect(host(url)).await?;
        stream.write_all(format!("GET /{path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    let text = timeout(DEADLINE, ask).await.unwrap().unwrap_or_default();
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// Percent-encoded as a query parameter.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}
