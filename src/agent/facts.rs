//! What the machine is: its Node status.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use bollard::Docker;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints,
        NodeStatus, NodeSystemInfo,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::clock;
use crate::{model::NodeName, node::NodeFacts};

/// Most images a node tells of, the largest first (Kubernetes: 50).
const IMAGES_MAX: usize = 50;

/// Most pods a node takes (Kubernetes' default).
const PODS_MAX: &str = "110";

/// The machine as it was found when the agent started.
#[derive(Clone, Debug)]
pub struct MachineFacts {
    /// What pods may see of it.
    pub node: NodeFacts,
    /// Bytes of the disk that holds pods' files.
    pub disk_bytes: u64,
    /// Kernel, system, architecture, engine.
    pub info: NodeSystemInfo,
    /// Where the agent serves logs.
    pub port: u16,
}

impl MachineFacts {
    /// Looks at the machine. `root` is on the disk that holds pods' files.
    pub fn find(node: NodeName, ip: IpAddr, engine: &str, root: &Path, port: u16) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = memory_bytes(&read("/proc/meminfo"));
        let disk_bytes = nix::sys::statvfs::statvfs(root)
            .map_or(0, |disk| disk.blocks().saturating_mul(disk.fragment_size()));
        let cpu_milli = i64::try_from(cpus).unwrap_or(1).saturating_mul(1000);
        Self {
            node: NodeFacts { name: node, ip: ip.to_string(), cpu_milli, memory_bytes: memory },
            disk_bytes,
            info: system_info(engine),
            port,
        }
    }

    /// The status of the Node. The Ready condition says that the agent lives; a server says when it
    /// does not.
    pub fn status(
        &self,
        images: Vec<ContainerImage>,
        since: k8s_openapi::jiff::Timestamp,
    ) -> NodeStatus {
        let capacity = BTreeMap::from([
            ("cpu".to_owned(), Quantity(format!("{}m", self.node.cpu_milli))),
            ("memory".to_owned(), Quantity(self.node.memory_bytes.to_string())),
            ("ephemeral-storage".to_owned(), Quantity(self.disk_bytes.to_string())),
            ("pods".to_owned(), Quantity(PODS_MAX.to_owned())),
        ]);
        let address = |type_: &str, address: &str| NodeAddress {
            type_: type_.to_owned(),
            address: address.to_owned(),
        };
        let since = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(since);
        NodeStatus {
            allocatable: Some(capacity.clone()),
            capacity: Some(capacity),
            addresses: Some(vec![
                address("InternalIP", &self.node.ip),
                address("Hostname", self.node.name.as_str()),
            ]),
            conditions: Some(vec![NodeCondition {
                type_: "Ready".to_owned(),
                status: "True".to_owned(),
                reason: Some("AgentReady".to_owned()),
                message: Some("the agent is in touch".to_owned()),
                last_transition_time: Some(since.clone()),
                last_heartbeat_time: Some(since),
            }]),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(self.port) }),
            }),
            node_info: Some(self.info.clone()),
            images: Some(images),
            ..NodeStatus::default()
        }
    }

    /// Labels every node has.
    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("kubernetes.io/hostname".to_owned(), self.node.name.to_string()),
            ("kubernetes.io/os".to_owned(), "linux".to_owned()),
            ("kubernetes.io/arch".to_owned(), self.info.architecture.clone()),
        ])
    }
}

/// The images the engine has, as a Node tells them.
pub async fn images(docker: &Docker) -> Result<Vec<ContainerImage>, bollard::errors::Error> {
    let listed = docker.list_images(None::<bollard::query_parameters::ListImagesOptions>).await?;
    let mut images: Vec<ContainerImage> = listed
        .into_iter()
        .map(|image| {
            let named = |name: &String| !name.contains("<none>");
            let names = image.repo_tags.into_iter().chain(image.repo_digests).filter(named);
            ContainerImage { names: Some(names.collect()), size_bytes: Some(image.size) }
        })
        .filter(|image| image.names.as_ref().is_some_and(|names| !names.is_empty()))
        .collect();
    images.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    images.truncate(IMAGES_MAX);
    Ok(images)
}

/// The text of a file of the kernel or the system; empty when there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn memory_bytes(meminfo: &str) -> i64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|t| t.split_ascii_whitespace().next()?.parse::<i64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

fn system_info(engine: &str) -> NodeSystemInfo {
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    NodeSystemInfo {
        architecture: match std::env::consts::ARCH {
            "x86_64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        },
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        container_runtime_version: format!("docker://{engine}"),
        kernel_version: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        kube_proxy_version: String::new(),
        kubelet_version: format!("v1.37.1+mainstay.{}", env!("CARGO_PKG_VERSION")),
        machine_id: read("/etc/machine-id").trim().to_owned(),
        operating_system: "linux".to_owned(),
        os_image: name.unwrap_or("Linux").trim_matches('"').to_owned(),
        system_uuid: read("/sys/class/dmi/id/product_uuid").trim().to_owned(),
        ..NodeSystemInfo::default()
    }
}

/// When the agent started, for the condition that says it lives.
pub fn started() -> k8s_openapi::jiff::Timestamp {
    clock::now().to_time().0
}
