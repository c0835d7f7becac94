//! A node of its own for a test: namespaces with a dockerd, made and removed by
//! `tests/harness/cluster.sh`.

use std::{process::Command, time::Duration};

use bollard::{
    Docker,
    auth::DockerCredentials,
    models::{Ipam, IpamConfig, NetworkCreateRequest},
    query_parameters::{
        ListContainersOptionsBuilder, PushImageOptionsBuilder, RemoveImageOptions,
        TagImageOptionsBuilder,
    },
};
use futures_util::StreamExt;
use mainstay::agent::{docker, image};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The image that `tests/pods/testpod.rs` becomes.
pub(crate) const IMAGE: &str = "mainstay.test/testpod:1";
/// Set in the copy of a test that runs inside its node.
const INSIDE: &str = "MAINSTAY_TEST_INSIDE";
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a test inside a node of its own: the outer copy makes the node and runs this test again in
/// it.
pub(crate) fn inside(test: &str, body: impl Future<Output = ()>) {
    if std::env::var(INSIDE).is_ok() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(body);
    }
    if let Some(missing) = missing() {
        eprintln!("skipped {test}: {missing}");
        return;
    }
    let node = Node::up(test);
    let exe = std::env::current_exe().unwrap();
    let status = node
        .command(&["exec", "1", exe.to_str().unwrap(), "--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    drop(node);
    assert!(status.success(), "{test} failed inside its node");
}

fn missing() -> Option<&'static str> {
    let works = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|o| o.status.success())
    };
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    match () {
        () if !root => Some("needs root"),
        () if !works("dockerd", &["--version"]) => Some("needs dockerd"),
        () if !works("rustc", &["--version"]) => Some("needs rustc"),
        () if !works("nsenter", &["--version"]) => Some("needs nsenter"),
        () => None,
    }
}

struct Node {
    name: String,
}

impl Node {
    fn up(test: &str) -> Self {
        let node = Self { name: format!("mp{}{}", std::process::id(), test.len()) };
        let status = node.command(&["up", "1"]).status().unwrap();
        assert!(status.success(), "the node did not come up");
        node
    }

    fn command(&self, args: &[&str]) -> Command {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/cluster.sh");
        let mut command = Command::new(script);
        command.args(args).env("MS_NAME", &self.name).stdout(std::process::Stdio::null());
        command
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let down = self.command(&["down"]).status();
        if !down.is_ok_and(|s| s.success()) {
            eprintln!("{} was not removed", self.name);
        }
    }
}

/// The engine's socket inside the node.
pub(crate) fn socket() -> String {
    "/run/docker.sock".to_owned()
}

fn engine() -> Docker {
    Docker::connect_with_unix(&socket(), 60, bollard::API_DEFAULT_VERSION).unwrap()
}

/// Makes the pod network and loads the test image.
pub(crate) async fn prepare(network: &str, range: &str) {
    let docker = engine().negotiate_version().await.unwrap();
    let pool = IpamConfig { subnet: Some(range.to_owned()), ..IpamConfig::default() };
    let request = NetworkCreateRequest {
        name: network.to_owned(),
        ipam: Some(Ipam { config: Some(vec![pool]), ..Ipam::default() }),
        ..NetworkCreateRequest::default()
    };
    docker.create_network(request).await.unwrap();
    load_image().await;
}

/// Loads the test image.
pub(crate) async fn load_image() {
    let docker = engine().negotiate_version().await.unwrap();
    let program = testpod();
    let file = image::File { path: "testpod", mode: 0o755, bytes: &program };
    let dirs = ["proc", "sys", "dev", "etc", "tmp"].map(|d| format!("{d}/.keep"));
    let mut files = vec![file];
    files.extend(dirs.iter().map(|path| image::File { path, mode: 0o644, bytes: b"" }));
    docker::load(&docker, image::archive(IMAGE, &files, &["/testpod"]).unwrap()).await.unwrap();
}

/// Puts the test image into a registry as `image:1`, and takes that name off the node again.
pub(crate) async fn push(image: &str, user: &str, password: &str) {
    let docker = engine().negotiate_version().await.unwrap();
    let tag = TagImageOptionsBuilder::new().repo(image).tag("1").build();
    docker.tag_image(IMAGE, Some(tag)).await.unwrap();
    let who = DockerCredentials {
        username: Some(user.to_owned()),
        password: Some(password.to_owned()),
        ..DockerCredentials::default()
    };
    let options = PushImageOptionsBuilder::new().tag("1").build();
    let pushed = docker.push_image(image, Some(options), Some(who));
    let parts: Vec<_> = pushed.collect().await;
    parts.into_iter().for_each(|part| drop(part.unwrap()));
    let name = format!("{image}:1");
    docker.remove_image(&name, None::<RemoveImageOptions>, None).await.unwrap();
}

/// Compiles the test program.
fn testpod() -> Vec<u8> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pods/testpod.rs");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("testpod");
    let options = ["-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols"];
    let status = Command::new("rustc")
        .args(["--edition", "2024"])
        .args(options)
        .arg("-o")
        .args([out.as_os_str(), source.as_ref()])
        .status()
        .unwrap();
    assert!(status.success(), "testpod.rs does not compile");
    std::fs::read(out).unwrap()
}

/// Names of containers of ours that are still there.
pub(crate) async fn leftovers() -> Vec<String> {
    let docker = engine().negotiate_version().await.unwrap();
    let all = ListContainersOptionsBuilder::new().all(true).build();
    let list = docker.list_containers(Some(all)).await.unwrap();
    list.into_iter().flat_map(|c| c.names.unwrap_or_default()).collect()
}

/// `GET`; the body, or an empty text when nobody answers whole.
pub(crate) async fn get(ip: &str, port: u16, path: &str) -> String {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect((ip, port)).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    let text = tokio::time::timeout(DEADLINE, ask).await.unwrap().unwrap_or_default();
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// Waits until something accepts connections there.
pub(crate) async fn until_answers(ip: &str, port: u16) {
    let wait = async {
        while tokio::net::TcpStream::connect((ip, port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("nobody answers");
}

/// Waits until a file in a container has this content.
pub(crate) async fn until_file(ip: &str, port: u16, path: &str, text: &str) {
    let wait = async {
        while get(ip, port, path).await != text {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the file did not change");
}

/// Waits until no container and no directory of a pod is left.
pub(crate) async fn until_empty(dir: &std::path::Path) {
    let directories = || {
        let list = ["disk", "memory"].map(|base| std::fs::read_dir(dir.join(base).join("pods")));
        list.into_iter().flatten().flatten().count()
    };
    let wait = async {
        while !leftovers().await.is_empty() || directories() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::time::timeout(DEADLINE, wait).await;
    if ended.is_err() {
        panic!("left: {:?} and {} directories", leftovers().await, directories());
    }
}

/// The process of a container.
pub(crate) async fn pid(id: &str) -> i32 {
    let docker = engine().negotiate_version().await.unwrap();
    let seen = docker.inspect_container(id, None).await.unwrap();
    i32::try_from(seen.state.unwrap().pid.unwrap()).unwrap()
}

/// What a container may use: microseconds of CPU in each 100 ms, and bytes of memory.
pub(crate) async fn share(id: &str) -> (i64, i64) {
    let docker = engine().negotiate_version().await.unwrap();
    let host = docker.inspect_container(id, None).await.unwrap().host_config.unwrap();
    (host.cpu_quota.unwrap(), host.memory.unwrap())
}

/// The node's dockerd.
pub(crate) fn daemon() -> i32 {
    std::fs::read_to_string("/run/docker.pid").unwrap().trim().parse().unwrap()
}

/// Sends a signal to a process of this node.
pub(crate) fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Kills the node's dockerd and returns its command line.
pub(crate) fn kill_daemon() -> Vec<String> {
    let pid = daemon();
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    signal(pid, nix::sys::signal::Signal::SIGKILL);
    line.split_terminator('\0').map(str::to_owned).collect()
}

/// Starts dockerd again; it dies with the node at the latest.
pub(crate) fn start_daemon(line: &[String]) -> std::process::Child {
    let _absent = std::fs::remove_file("/run/docker.pid");
    let quiet = std::process::Stdio::null;
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]).stdout(quiet()).stderr(quiet()).spawn().unwrap()
}
