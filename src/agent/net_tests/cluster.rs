//! Two nodes with a real dockerd each, which manages iptables as a Docker does that nobody
//! configured for us.

use std::{fs, net::Ipv4Addr, path::Path, process::Command};

use bollard::Docker;
use tokio::time::timeout;

use super::{
    super::{
        command::Netns,
        network::{Network, ensure_docker, remove_docker},
        proxy::{Config, Desired, Proxy},
    },
    WEB_IP,
    lab::{PATIENCE, calls, facts, may_run, node, serve},
    web, web_at,
};
use crate::{
    model::{NodeName, Revision},
    node::rules::Facts,
};

/// Docker's defaults but for its own network, which must not be that of the machine.
const FLAGS: &str = "--bip=10.200.0.1/24 --ip6tables=false";

/// Nodes of the harness under `tests/harness`; gone when dropped.
struct Cluster {
    name: String,
}

impl Cluster {
    fn up(nodes: u8) -> Self {
        let cluster = Self { name: format!("mc{}", std::process::id()) };
        cluster.run(&["up", &nodes.to_string()]);
        cluster
    }

    fn command(&self, args: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/cluster.sh");
        let mut command = Command::new("bash");
        command.arg(script).args(args);
        command.env("MS_NAME", &self.name).env("MS_DOCKERD_FLAGS", FLAGS);
        command.env("MS_NET", "172.31.78");
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cluster.sh {args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn netns(&self, node: u8) -> String {
        format!("/run/netns/{}-n{node}", self.name)
    }

    /// Makes an image with one program that waits, from the machine's own files.
    fn load_image(&self, node: u8) {
        let closure = Command::new("ldd").arg("/bin/sleep").output().unwrap();
        let closure = String::from_utf8(closure.stdout).unwrap();
        let paths = closure.split_whitespace().filter_map(|word| word.strip_prefix('/'));
        let tar = format!("/tmp/{}-cluster/n{node}/sleep.tar", self.name);
        let mut pack = Command::new("tar");
        pack.args(["-C", "/", "-chf", &tar, "bin/sleep"]).args(paths);
        assert!(pack.status().unwrap().success());
        self.run(&["docker", &node.to_string(), "import", &tar, "sleep"]);
    }

    /// Starts a container and returns the path of its network namespace.
    fn pod(&self, node: u8, name: &str, ip: &str) -> String {
        let node = node.to_string();
        let mut run = vec!["docker", &node, "run", "-d", "--name", name, "--network", "pods"];
        run.extend(["--ip", ip, "sleep", "/bin/sleep", "1000000"]);
        self.run(&run);
        let format = "{{.NetworkSettings.SandboxKey}}";
        let key = self.run(&["docker", &node, "inspect", "-f", format, name]);
        let holder = format!("/tmp/{}-cluster/n{node}/holder.pid", self.name);
        let holder = fs::read_to_string(holder).unwrap();
        let holder = holder.trim();
        let children =
            fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).unwrap();
        let init = children.split_whitespace().next().unwrap();
        format!("/proc/{init}/root{}", key.replacen("/var/run", "/run", 1))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.command(&["down"]).output());
    }
}

fn pods_of(node: u8) -> Network {
    let pods = format!("10.244.{node}.0/24").parse().unwrap();
    Network { name: "pods".into(), bridge: "podbr0".into(), pods }
}

fn config(cluster: &Cluster, node: u8) -> Config {
    Config {
        facts: Facts {
            node: NodeName::new(&format!("n{node}")),
            pod_cidr: pods_of(node).pods,
            ..facts()
        },
        netns: Netns::at(cluster.netns(node)),
        bridge: "podbr0".into(),
        dns: "127.0.0.1:0".parse().unwrap(),
        domain: "cluster.local".into(),
        resolv_conf: "/etc/resolv.conf".into(),
        loads: std::sync::Arc::default(),
    }
}

#[tokio::test]
async fn pods_reach_pods_and_services_on_other_nodes() {
    if !may_run() {
        return;
    }
    if Command::new("dockerd").arg("--version").output().is_err() {
        eprintln!("skipped: needs dockerd");
        return;
    }
    let cluster = Cluster::up(2);
    let (a, b) = (Ipv4Addr::new(10, 244, 1, 5), Ipv4Addr::new(10, 244, 2, 5));
    let mut proxies = vec![];
    let mut pods = vec![];
    for (number, ip, name) in [(1, a, "p1"), (2, b, "p2")] {
        let socket = cluster.run(&["sock", &number.to_string()]);
        let docker = Docker::connect_with_unix(&socket, 60, bollard::API_DEFAULT_VERSION).unwrap();
        let docker = docker.negotiate_version().await.unwrap();
        // Made, found as it should be, made anew when its range differs.
        let other = Network { pods: "10.245.0.0/24".parse().unwrap(), ..pods_of(number) };
        assert_eq!(ensure_docker(&docker, &other).await.unwrap().len(), 1);
        assert_eq!(ensure_docker(&docker, &pods_of(number)).await.unwrap().len(), 1);
        assert_eq!(ensure_docker(&docker, &pods_of(number)).await.unwrap(), Vec::<String>::new());
        cluster.load_image(number);
        let pod = cluster.pod(number, name, &ip.to_string());
        let in_use = ensure_docker(&docker, &other).await.unwrap_err().to_string();
        assert!(in_use.contains("10.245.0.0/24 and 1 containers"), "{in_use}");
        assert!(remove_docker(&docker, &pods_of(number)).await.is_err());
        serve(&pod, name, 8080);
        pods.push(pod);
        proxies.push(Proxy::start(config(&cluster, number)));
    }
    let objects = vec![
        web(),
        web_at(&[(a, "n1"), (b, "n2")]),
        node("n1", "10.244.1.0/24", "172.31.78.1"),
        node("n2", "10.244.2.0/24", "172.31.78.2"),
    ];
    for proxy in &proxies {
        proxy.desire(Desired { generation: Revision(1), objects: objects.clone() });
        proxy.look();
        let mut report = proxy.report();
        let done = report.wait_for(|r| r.programmed == Some(Revision(1)));
        let report = timeout(PATIENCE * 6, done).await.unwrap().unwrap().clone();
        assert_eq!(report.problems, Vec::<String>::new());
    }
    let (p1, p2) = (pods[0].as_str(), pods[1].as_str());
    assert_eq!(calls(p1, (b, 8080)), ["p2 called by 10.244.1.5"]);
    assert_eq!(calls(p2, (a, 8080)), ["p1 called by 10.244.2.5"]);
    assert_eq!(calls(p1, (WEB_IP, 80)), ["p1 called by 10.244.1.1", "p2 called by 10.244.1.5"]);
    assert_eq!(calls(p2, (WEB_IP, 80)), ["p1 called by 10.244.2.5", "p2 called by 10.244.2.1"]);
    let fabric = format!("/run/netns/{}-fab", cluster.name);
    for address in [Ipv4Addr::new(172, 31, 78, 1), Ipv4Addr::new(172, 31, 78, 2)] {
        assert_eq!(calls(&fabric, (address, 30080)).len(), 2);
    }
    assert_eq!(calls(&cluster.netns(1), (Ipv4Addr::LOCALHOST, 30080)).len(), 2);
}
