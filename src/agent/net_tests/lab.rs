//! A node, two pods and a neighbour as network namespaces of their own.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::MetadataExt,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    agent::command::Netns,
    model::{NodeName, Object},
    node::rules::{Facts, SERVICE_NAME_LABEL},
};

/// How long one connection may take on a busy machine before a test fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

static LABS: AtomicU32 = AtomicU32::new(0);

/// `node` has the bridge podbr0 (10.244.1.1/24) with `p1` (10.244.1.5) and `p2` (10.244.1.6), and
/// eth0 (192.168.7.2/24) to `out` (192.168.7.1), its default gateway. All are gone when it is
/// dropped.
pub(super) struct Lab {
    prefix: String,
}

pub(super) const P1: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 5);
pub(super) const P2: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 6);
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 2);

/// Whether this process may make namespaces; says why not.
pub(super) fn may_run() -> bool {
    let lacks = |program: &str| Command::new(program).arg("-V").output().is_err();
    let why = if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
        "needs root"
    } else if ["ip", "nsenter", "iptables"].into_iter().any(lacks) {
        "needs ip, nsenter and iptables"
    } else {
        return true;
    };
    eprintln!("skipped: {why}");
    false
}

impl Lab {
    pub(super) fn new() -> Self {
        let lab = Self {
            prefix: format!("ms{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed)),
        };
        for name in ["node", "p1", "p2", "out"] {
            ip(&format!("netns add {}", lab.name(name)));
            lab.ip(name, "link set lo up");
        }
        lab.ip("node", "link add podbr0 type bridge");
        lab.ip("node", "addr add 10.244.1.1/24 dev podbr0");
        lab.ip("node", "link set podbr0 up");
        for (pod, address) in [("p1", P1), ("p2", P2)] {
            lab.cable("node", pod, pod);
            lab.ip("node", &format!("link set {pod} master podbr0"));
            lab.ip(pod, &format!("addr add {address}/24 dev eth0"));
            lab.ip(pod, "route add default via 10.244.1.1");
        }
        lab.cable("node", "eth1", "out");
        lab.ip("node", "addr add 192.168.7.2/24 dev eth1");
        lab.ip("node", "route add default via 192.168.7.1");
        lab.ip("out", "addr add 192.168.7.1/24 dev eth0");
        lab
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(super) fn netns(&self, name: &str) -> Netns {
        Netns::at(format!("/run/netns/{}", self.name(name)))
    }

    /// A veth: `port` in `a`, eth0 in `b`.
    fn cable(&self, a: &str, port: &str, b: &str) {
        let b_ns = self.name(b);
        self.ip(a, &format!("link add {port} type veth peer name eth0 netns {b_ns}"));
        self.ip(a, &format!("link set {port} up"));
        self.ip(b, "link set eth0 up");
    }

    pub(super) fn ip(&self, name: &str, args: &str) {
        ip(&format!("-n {} {args}", self.name(name)));
    }

    /// Runs a tool in a namespace and returns what it printed.
    pub(super) fn tool(&self, name: &str, line: &str) -> String {
        let mut words = line.split(' ');
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name(name))).args(words.by_ref());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn path(&self, name: &str) -> String {
        format!("/run/netns/{}", self.name(name))
    }

    /// Runs work inside a namespace.
    pub(super) fn inside<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.path(name), work)
    }

    /// A TCP server that says its name and who called.
    pub(super) fn serve(&self, name: &'static str, port: u16) {
        serve(&self.path(name), name, port);
    }

    /// A UDP server that answers with its name.
    pub(super) fn serve_udp(&self, name: &'static str, port: u16) {
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let socket = self.inside(name, || UdpSocket::bind(at).unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                drop(socket.send_to(name.as_bytes(), from));
            }
        });
    }

    /// Calls a TCP server; the error is that of connecting.
    pub(super) fn call(&self, from: &str, to: (Ipv4Addr, u16)) -> Result<String, std::io::Error> {
        call(&self.path(from), to)
    }

    /// The different answers of many calls, in order.
    pub(super) fn calls(&self, from: &str, to: (Ipv4Addr, u16)) -> Vec<String> {
        calls(&self.path(from), to)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["node", "p1", "p2", "out"] {
            drop(Command::new("ip").args(["netns", "del", &self.name(name)]).status());
        }
    }
}

/// Runs work on a thread inside a namespace; sockets made there stay there.
pub(super) fn inside<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(netns).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// A TCP server that says its name and who called.
pub(super) fn serve(netns: &str, name: &'static str, port: u16) {
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let listener = inside(netns, || TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let from = stream.peer_addr().unwrap().ip();
            // A caller that went away before its answer is not this thread's business.
            drop(writeln!(stream, "{name} called by {from}"));
        }
    });
}

fn call(netns: &str, to: (Ipv4Addr, u16)) -> Result<String, std::io::Error> {
    inside(netns, || {
        let mut stream = TcpStream::connect_timeout(&to.into(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    })
}

/// The different answers of many calls, in order.
pub(super) fn calls(netns: &str, to: (Ipv4Addr, u16)) -> Vec<String> {
    /// Two endpoints are both seen in 40 calls but for one run in 2^39.
    const CALLS: usize = 40;
    // A broken network shows at once or not at all; waiting for each of its timeouts tells nothing
    // more.
    let mut all = vec![];
    for _ in 0..CALLS {
        match call(netns, to) {
            Ok(answer) => all.push(answer),
            Err(cause) => return vec![cause.to_string()],
        }
    }
    all.sort();
    all.dedup();
    all
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(super) fn facts() -> Facts {
    Facts {
        node: NodeName::new("n1"),
        pod_cidr: "10.244.1.0/24".parse().unwrap(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        node_port_addresses: vec![],
    }
}

pub(super) fn object(mut value: Value, api_version: &str, kind: &str) -> Object {
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Object::from_value(&value).unwrap()
}

/// A Service in namespace `shop`.
pub(super) fn service(name: &str, spec: Value) -> Object {
    object(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}), "v1", "Service")
}

/// Ready endpoints of a Service at one port.
pub(super) fn slice(
    service: &str,
    port: (&str, u16),
    protocol: &str,
    endpoints: &[(Ipv4Addr, &str)],
) -> Object {
    let endpoint = |(ip, node): &(Ipv4Addr, &str)| json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true}});
    let value = json!({
        "metadata": {"name": format!("{service}-{}", port.0), "namespace": "shop",
            "labels": {SERVICE_NAME_LABEL: service}},
        "addressType": "IPv4",
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": port.0, "port": port.1, "protocol": protocol}],
    });
    object(value, "discovery.k8s.io/v1", "EndpointSlice")
}

pub(super) fn node(name: &str, cidr: &str, ip: &str) -> Object {
    let value = json!({"metadata": {"name": name}, "spec": {"podCIDR": cidr},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}]}});
    object(value, "v1", "Node")
}
