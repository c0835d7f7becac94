//! Twenty pods on one agent, the image present, against the Docker API making the same forty
//! containers, all pods at once. In a node of its own: needs root and dockerd. Run with
//! `cargo bench -- pods`.

use std::{collections::BTreeMap, time::Instant};

use crate::{
    common::{self, Result},
    node,
};
use bollard::{
    Docker,
    models::{
        ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, NetworkingConfig,
    },
    query_parameters::RemoveContainerOptionsBuilder,
};
use mainstay::{
    agent::{
        disk::Disk,
        docker::Machine,
        driver::{self, Observation},
        image,
        pods::Settings,
    },
    model::{Key, NodeName, Object},
    node::{NodeFacts, files::PodDns, ipam::PodRange},
};
use serde_json::json;

/// Pods that start together.
const PODS: usize = 20;

/// Pairs of the two sides; each takes some ten seconds of two busy processors.
const PAIRS: usize = 3;

const NETWORK: &str = "mainstay-bench";
const RANGE: &str = "10.244.1.0/24";

pub(crate) fn run() -> Result<()> {
    node::inside("pods", async { measure().await.unwrap() });
    Ok(())
}

async fn measure() -> Result<()> {
    common::title("pods: 20 pods on one agent, image present");
    node::prepare(NETWORK, RANGE).await;
    let dir = tempfile::tempdir()?;
    let disk = Disk::new(dir.path().join("disk"), dir.path().join("memory"));
    let machine = Machine::connect(&node::socket(), NETWORK, disk).await?;
    let docker = machine.docker();
    let facts = NodeFacts {
        name: NodeName::new("n1"),
        ip: "172.31.77.1".into(),
        cpu_milli: 2000,
        memory_bytes: 4 << 30,
    };
    let dns = PodDns {
        nameserver: Some("10.96.0.10".parse()?),
        domain: "cluster.local".into(),
        host: String::new(),
    };
    let settings = Settings { node: facts, dns, range: PodRange::parse(RANGE) };
    let (handle, mut seen, task) = driver::start(machine, settings);
    handle.desired(BTreeMap::new()).await?;
    // The first pod loads the sandbox image.
    agent(&handle, &mut seen, 1).await?;
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..PAIRS {
        theirs.push(raw(&docker).await?);
        ours.push(agent(&handle, &mut seen, PODS).await?);
    }
    common::compare(("20 pods running, by the agent", &ours), ("by the Docker API", &theirs), 1.25);
    drop(handle);
    task.await?;
    Ok(())
}

fn pod(n: usize) -> Result<Object> {
    Ok(Object::from_value(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("web-{n}"), "namespace": "shop", "uid": uid(n)},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "web", "image": node::IMAGE, "imagePullPolicy": "IfNotPresent",
            "args": ["serve", "8080"]}]},
    }))?)
}

fn uid(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// Milliseconds from the desired set to all pods running; takes them away again.
async fn agent(
    handle: &driver::PodsHandle<Machine>,
    seen: &mut tokio::sync::mpsc::Receiver<Observation>,
    count: usize,
) -> Result<f64> {
    let objects: BTreeMap<Key, Object> =
        (0..count).map(|n| pod(n).map(|o| (o.key().clone(), o))).collect::<Result<_>>()?;
    let begun = Instant::now();
    handle.desired(objects).await?;
    let mut running = std::collections::BTreeSet::new();
    let wait = async {
        while running.len() < count {
            if let Some(Observation::Pod(pod)) = seen.recv().await
                && pod.status.phase.as_deref() == Some("Running")
            {
                running.insert(pod.uid);
            }
        }
    };
    tokio::time::timeout(common::DEADLINE, wait).await?;
    let took = common::ms(begun.elapsed());
    handle.desired(BTreeMap::new()).await?;
    let gone = async {
        while !node::leftovers().await.is_empty() {
            // The agent tells of each pod that has gone.
            let _told =
                tokio::time::timeout(std::time::Duration::from_millis(200), seen.recv()).await;
        }
    };
    tokio::time::timeout(common::DEADLINE, gone).await?;
    Ok(took)
}

/// The same containers by the API alone, every pod at once.
async fn raw(docker: &Docker) -> Result<f64> {
    let begun = Instant::now();
    let mut pods = tokio::task::JoinSet::new();
    for n in 0..PODS {
        let docker = docker.clone();
        pods.spawn(async move { raw_pod(&docker, n).await.map_err(|e| e.to_string()) });
    }
    let mut made = Vec::new();
    while let Some(pod) = pods.join_next().await {
        made.extend(pod??);
    }
    let took = common::ms(begun.elapsed());
    let force = RemoveContainerOptionsBuilder::new().force(true).build();
    let mut removed = tokio::task::JoinSet::new();
    for id in made {
        let (docker, force) = (docker.clone(), force.clone());
        removed.spawn(async move { docker.remove_container(&id, Some(force)).await });
    }
    while let Some(done) = removed.join_next().await {
        done??;
    }
    Ok(took)
}

/// A sandbox and a container in it, as the agent makes them.
async fn raw_pod(docker: &Docker, n: usize) -> Result<[String; 2]> {
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(format!("10.244.1.{}", 100 + n)),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    let sandbox = ContainerCreateBody {
        image: Some(image::SANDBOX.to_owned()),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(NETWORK.to_owned(), endpoint)].into()),
        }),
        host_config: Some(HostConfig {
            network_mode: Some(NETWORK.to_owned()),
            ipc_mode: Some("shareable".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let sandbox = docker.create_container(None, sandbox).await?.id;
    docker.start_container(&sandbox, None).await?;
    let join = Some(format!("container:{sandbox}"));
    let web = ContainerCreateBody {
        image: Some(node::IMAGE.to_owned()),
        cmd: Some(vec!["serve".to_owned(), "8080".to_owned()]),
        host_config: Some(HostConfig {
            network_mode: join.clone(),
            ipc_mode: join,
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let web = docker.create_container(None, web).await?.id;
    docker.start_container(&web, None).await?;
    Ok([sandbox, web])
}
