//! The Docker network of a node's pods, and the host settings without which it does not carry
//! traffic.
//!
//! In: the bridge to have. Out: the network in Docker, the settings in the kernel, and sentences
//! about what was changed. The agent calls before pods start, `agent::proxy` again in its loop.

use std::{fs, io, path::Path, time::Duration};

use bollard::{
    Docker,
    models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect},
};
use serde::Deserialize;
use tokio::time::timeout;

use super::command::{CommandError, Netns, blocking, run};
use crate::model::Cidr;

/// Longest time for one call to Docker or the kernel; making a network takes 33 to 151 ms.
const DEADLINE: Duration = Duration::from_secs(20);

/// Docker's option for the name of the bridge.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// Docker's option for its own masquerading, which would hide pods of one node from those of
/// another.
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";

/// The Docker network to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Docker's name for it.
    pub name: String,
    /// The name of its bridge, at most 15 characters (`podbr0`).
    pub bridge: String,
    /// The node's pod range; its first address is the gateway.
    pub pods: Cidr,
}

/// Why the network is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker refused or could not be reached.
    #[error("{what}")]
    Docker {
        /// What was asked for.
        what: String,
        /// What Docker said.
        #[source]
        cause: bollard::errors::Error,
    },
    /// Docker did not answer.
    #[error("{what}: Docker did not answer within {DEADLINE:?}")]
    TimedOut {
        /// What was asked for.
        what: String,
    },
    /// A network of that name with another range is in use.
    #[error(
        "the Docker network {name} has range {found} instead of {wanted} and {containers} \
         containers; remove these, then it will be made anew"
    )]
    InUse {
        /// The network.
        name: String,
        /// Its range.
        found: String,
        /// The range to have.
        wanted: Cidr,
        /// How many containers are on it.
        containers: usize,
    },
    /// A tool of the host.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// `ip -j` printed something unexpected.
    #[error("ip -j link: {0}; iproute2 4.18 or newer is needed")]
    Json(#[from] serde_json::Error),
}

/// Makes the network unless it is there as wanted; one of another range or with masquerading is
/// made anew. Returns a sentence for each change.
pub async fn ensure_docker(docker: &Docker, want: &Network) -> Result<Vec<String>, Error> {
    let Some(found) = inspect(docker, want).await? else {
        create(docker, want).await?;
        return Ok(vec![format!("made the Docker network {} ({})", want.name, want.pods)]);
    };
    if fits(&found, want) {
        return Ok(vec![]);
    }
    let range = subnet(&found).unwrap_or_default();
    let containers = found.containers.as_ref().map_or(0, |all| all.len());
    if containers > 0 {
        let (name, wanted) = (want.name.clone(), want.pods);
        return Err(Error::InUse { name, found: range, wanted, containers });
    }
    remove_docker(docker, want).await?;
    create(docker, want).await?;
    Ok(vec![format!("made the Docker network {} anew: {range} became {}", want.name, want.pods)])
}

/// Removes the network; one that is not there is fine.
pub async fn remove_docker(docker: &Docker, want: &Network) -> Result<(), Error> {
    let what = format!("remove the Docker network {}", want.name);
    match asked(&what, docker.remove_network(&want.name)).await {
        Err(Error::Docker { cause, .. }) if is_absent(&cause) => Ok(()),
        other => other,
    }
}

async fn inspect(docker: &Docker, want: &Network) -> Result<Option<NetworkInspect>, Error> {
    let what = format!("look at the Docker network {}", want.name);
    match asked(&what, docker.inspect_network(&want.name, None)).await {
        Ok(found) => Ok(Some(found)),
        Err(Error::Docker { cause, .. }) if is_absent(&cause) => Ok(None),
        Err(other) => Err(other),
    }
}

async fn create(docker: &Docker, want: &Network) -> Result<(), Error> {
    let options = [(BRIDGE_NAME, want.bridge.as_str()), (MASQUERADE, "false")];
    let range = IpamConfig {
        subnet: Some(want.pods.to_string()),
        gateway: Some(want.pods.gateway().to_string()),
        ..IpamConfig::default()
    };
    let request = NetworkCreateRequest {
        name: want.name.clone(),
        driver: Some("bridge".into()),
        ipam: Some(Ipam { config: Some(vec![range]), ..Ipam::default() }),
        options: Some(options.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect()),
        ..NetworkCreateRequest::default()
    };
    let what = format!("make the Docker network {} ({})", want.name, want.pods);
    asked(&what, docker.create_network(request)).await.map(drop)
}

async fn asked<T>(
    what: &str,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, Error> {
    match timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(|cause| Error::Docker { what: what.to_owned(), cause }),
        Err(_) => Err(Error::TimedOut { what: what.to_owned() }),
    }
}

fn is_absent(cause: &bollard::errors::Error) -> bool {
    use bollard::errors::Error::DockerResponseServerError;
    matches!(cause, DockerResponseServerError { status_code: 404, .. })
}

fn subnet(found: &NetworkInspect) -> Option<String> {
    found.ipam.as_ref()?.config.as_ref()?.first()?.subnet.clone()
}

fn fits(found: &NetworkInspect, want: &Network) -> bool {
    let option = |name| found.options.as_ref().and_then(|all| all.get(name)).map(String::as_str);
    subnet(found).as_deref() == Some(want.pods.to_string().as_str())
        && option(BRIDGE_NAME) == Some(want.bridge.as_str())
        && option(MASQUERADE) == Some("false")
}

/// A kernel setting without which pods do not reach each other.
struct Setting {
    path: &'static str,
    /// What does not work without it.
    why: &'static str,
}

const SETTINGS: [Setting; 3] = [
    Setting { path: "/proc/sys/net/ipv4/ip_forward", why: "pods reach other nodes" },
    Setting {
        path: "/proc/sys/net/bridge/bridge-nf-call-iptables",
        why: "services answer pods of the same node",
    },
    Setting {
        path: "/proc/sys/net/ipv4/conf/all/route_localnet",
        why: "node ports answer on 127.0.0.1",
    },
];

/// What [`ensure_host`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// A sentence for each setting that was changed.
    pub changed: Vec<String>,
    /// A sentence for each setting that could not be.
    pub problems: Vec<String>,
}

/// Checks and sets what the pod network needs of the host: forwarding, iptables for bridged
/// packets, node ports on 127.0.0.1, and hairpin on each port of `bridge` (absent ports and an
/// absent bridge are fine).
pub async fn ensure_host(netns: &Netns, bridge: &str) -> Result<Checked, Error> {
    if !Path::new("/proc/sys/net/bridge").exists() {
        // Where it is built in or cannot be loaded, the setting below tells.
        drop(run(&Netns::own(), "modprobe", &["br_netfilter"], "", DEADLINE).await);
    }
    let mut checked = blocking(netns, "sysctl", DEADLINE, || {
        let mut checked = Checked::default();
        SETTINGS.iter().for_each(|setting| ensure(setting, &mut checked));
        checked
    })
    .await?;
    for port in ports_without_hairpin(netns, bridge).await? {
        let args = ["link", "set", "dev", &port, "type", "bridge_slave", "hairpin", "on"];
        match run(netns, "ip", &args, "", DEADLINE).await {
            Ok(_) => checked.changed.push(format!(
                "switched hairpin on for {port} of {bridge}, so that a pod reaches itself through \
                 its service"
            )),
            // The pod may have gone meanwhile; a port that stays is seen again at the next check.
            Err(CommandError::Failed { stderr, .. }) if stderr.contains("Cannot find device") => {}
            Err(cause) => checked.problems.push(format!("hairpin of {port}: {cause}")),
        }
    }
    Ok(checked)
}

fn ensure(setting: &Setting, checked: &mut Checked) {
    let Setting { path, why } = setting;
    let set = || -> io::Result<bool> {
        if fs::read_to_string(path)?.trim() == "1" {
            return Ok(false);
        }
        fs::write(path, "1")?;
        Ok(true)
    };
    match set() {
        Ok(false) => {}
        Ok(true) => checked.changed.push(format!("set {path} to 1, so that {why}")),
        Err(cause) => checked.problems.push(format!("{path} must be 1, so that {why}: {cause}")),
    }
}

/// One port of a bridge as `ip -j -d` prints it.
#[derive(Deserialize)]
struct Port {
    ifname: String,
    linkinfo: Option<LinkInfo>,
}

#[derive(Deserialize)]
struct LinkInfo {
    info_slave_data: Option<SlaveData>,
}

#[derive(Deserialize)]
struct SlaveData {
    hairpin: Option<bool>,
}

async fn ports_without_hairpin(netns: &Netns, bridge: &str) -> Result<Vec<String>, Error> {
    let args = ["-j", "-d", "link", "show", "master", bridge];
    let text = match run(netns, "ip", &args, "", DEADLINE).await {
        Ok(text) => text,
        Err(CommandError::Failed { stderr, .. }) if stderr.contains("Device does not exist") => {
            return Ok(vec![]);
        }
        Err(other) => return Err(other.into()),
    };
    let text = if text.trim().is_empty() { "[]" } else { &text };
    let ports: Vec<Port> = serde_json::from_str(text)?;
    let off = |port: &Port| {
        let data = port.linkinfo.as_ref().and_then(|l| l.info_slave_data.as_ref());
        data.and_then(|d| d.hairpin) == Some(false)
    };
    Ok(ports.into_iter().filter(off).map(|port| port.ifname).collect())
}
