//! The push of a one-line change until its container runs (`mainstay dev`), against `git fetch` of
//! it and Docker making the same pod. In a node of its own: needs root and dockerd. Run with
//! `cargo bench -- push`.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    common::{self, Result},
    node,
};
use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{EventsOptionsBuilder, RemoveContainerOptionsBuilder},
};
use futures_util::{Stream, StreamExt};
use mainstay::agent::image;

/// Pairs of a push and its counterpart.
const PAIRS: usize = 5;

const NETWORK: &str = "mainstay-bench";

pub(crate) fn run() -> Result<()> {
    node::inside("push", async { measure().await.unwrap() });
    Ok(())
}

async fn measure() -> Result<()> {
    common::title("push: a one-line change until its container runs");
    node::prepare(NETWORK, "10.245.1.0/24").await;
    let docker = Docker::connect_with_unix(&node::socket(), 60, bollard::API_DEFAULT_VERSION)?;
    let docker = docker.negotiate_version().await?;
    let dir = tempfile::tempdir()?;
    let cluster = dir.path().join("cluster");
    let mut dev = Dev(start(&cluster)?);
    let repository = cluster.join("repo.git");
    wait_for(&cluster.join("endpoints.json"), &mut dev).await?;
    let work = dir.path().join("work");
    common::git(dir.path(), &["clone", "-q", &repository.display().to_string(), "work"])?;
    for (key, value) in [("user.name", "Ann"), ("user.email", "ann@example.org")] {
        common::git(&work, &["config", key, value])?;
    }
    let copy = dir.path().join("copy.git");
    let (mut ours, mut theirs) = (vec![], vec![]);
    for round in 0..=PAIRS {
        let word = format!("round-{round}");
        std::fs::write(work.join("web.yaml"), manifest(&word))?;
        common::git(&work, &["add", "."])?;
        common::git(&work, &["commit", "-q", "-m", &word])?;
        let mut events = starts(&docker);
        common::git(&work, &["push", "-q", "origin", "HEAD:main"])?;
        let begun = Instant::now();
        let running = async {
            while let Some(id) = events.next().await {
                let seen = docker.inspect_container(&id, None).await?;
                let env = seen.config.and_then(|c| c.env).unwrap_or_default();
                if env.contains(&format!("WORD={word}")) {
                    return Ok(());
                }
            }
            Result::Err("docker's events ended".into())
        };
        tokio::time::timeout(common::DEADLINE, running).await??;
        let took = common::ms(begun.elapsed());
        settled(&docker).await?;
        if round == 0 {
            let from = repository.display().to_string();
            common::git(dir.path(), &["clone", "-q", "--bare", &from, "copy.git"])?;
            continue;
        }
        ours.push(took);
        theirs.push(counterpart(&docker, &copy).await?);
    }
    common::compare(
        ("end of the push to container running", &ours),
        ("git fetch and Docker making the pod", &theirs),
        1.5,
    );
    Ok(())
}

/// `mainstay dev`; it ends with this value, its containers end with the node.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ended = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _reaped = self.0.wait();
    }
}

fn start(cluster: &Path) -> Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.args(["dev", "--dir"]).arg(cluster).args(["--docker", &node::socket()]);
    let log = std::env::var_os("MAINSTAY_BENCH_LOG");
    match log {
        Some(_) => command.stdout(Stdio::null()).env("RUST_LOG", "mainstay=debug"),
        None => command.stdout(Stdio::null()).stderr(Stdio::null()),
    };
    Ok(command.spawn()?)
}

async fn wait_for(path: &Path, dev: &mut Dev) -> Result<()> {
    let begun = Instant::now();
    while !path.exists() {
        if let Some(status) = dev.0.try_wait()? {
            return Err(format!("mainstay dev ended: {status}").into());
        }
        if begun.elapsed() > common::DEADLINE {
            return Err("mainstay dev does not become ready".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn manifest(word: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  selector:\n    \
         matchLabels:\n      app: web\n  template:\n    metadata:\n      labels:\n        app: \
         web\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers:\n      - name: \
         web\n        image: {}\n        imagePullPolicy: IfNotPresent\n        args: [serve, \
         \"8080\"]\n        env:\n        - name: WORD\n          value: {word}\n",
        node::IMAGE
    )
}

/// Ids of containers as they start.
fn starts(docker: &Docker) -> impl Stream<Item = String> + Unpin + use<> {
    let only = [("type", vec!["container"]), ("event", vec!["start"])];
    let options = EventsOptionsBuilder::new().filters(&only.into()).build();
    let ids = docker.events(Some(options));
    Box::pin(ids.filter_map(async |e| e.ok()?.actor?.id))
}

/// Waits until only the newest pod is left: its sandbox and its container.
async fn settled(docker: &Docker) -> Result<()> {
    let begun = Instant::now();
    while docker.list_containers(None).await?.len() > 2 {
        if begun.elapsed() > common::DEADLINE {
            return Err("the old pod does not end".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    Ok(())
}

/// `git fetch`, then a sandbox and a container in it; milliseconds.
async fn counterpart(docker: &Docker, copy: &Path) -> Result<f64> {
    let begun = Instant::now();
    common::git(copy, &["fetch", "-q", "origin", "main"])?;
    let host = |mode: &str| {
        Some(HostConfig { network_mode: Some(mode.to_owned()), ..HostConfig::default() })
    };
    let sandbox = ContainerCreateBody {
        image: Some(image::SANDBOX.to_owned()),
        host_config: host(NETWORK),
        ..ContainerCreateBody::default()
    };
    let sandbox = docker.create_container(None, sandbox).await?.id;
    docker.start_container(&sandbox, None).await?;
    let web = ContainerCreateBody {
        image: Some(node::IMAGE.to_owned()),
        cmd: Some(vec!["serve".to_owned(), "8080".to_owned()]),
        host_config: host(&format!("container:{sandbox}")),
        ..ContainerCreateBody::default()
    };
    let web = docker.create_container(None, web).await?.id;
    docker.start_container(&web, None).await?;
    let took = common::ms(begun.elapsed());
    let force = RemoveContainerOptionsBuilder::new().force(true).build();
    for id in [web, sandbox] {
        docker.remove_container(&id, Some(force.clone())).await?;
    }
    Ok(took)
}
