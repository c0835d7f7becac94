//! The half of the agent that touches the machine.
//!
//! In: what this node shall run and know. Out: what was seen. It carries values between the pure
//! `node` room and Docker, the disk and the network; it decides nothing that `node` can decide. It
//! never speaks raft or git.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: runs containers and tools, reads the clock and the host, writes volumes"
)]

pub mod cache;
mod clock;
pub mod command;
pub mod conntrack;
pub mod disk;
pub mod dns;
pub mod docker;
pub mod driver;
pub mod facts;
mod failpoint;
mod grpc;
pub mod image;
pub mod iptables;
pub mod network;
pub mod pods;
pub mod prober;
pub mod proxy;
mod rates;
pub mod routes;
pub mod runtime;
mod serve;
pub mod servers;
pub mod session;
pub mod streams;
pub mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::Docker;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Node, Pod, Secret, Service},
    discovery::v1::EndpointSlice,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    cache::{Cache, Known},
    command::Netns,
    disk::Disk,
    docker::Machine,
    driver::{Observation, PodsHandle},
    facts::MachineFacts,
    network::Network,
    pods::Settings,
    proxy::Proxy,
    rates::Rates,
    servers::Servers,
    session::News,
    usage::{Loads, Running, Vitals},
};
use crate::{
    model::{
        Cidr, Key, NodeName, Object, Revision,
        session::{Hello, ObservedEvent, ObservedPod, ToAgent, ToServer},
    },
    node::{files::PodDns, ipam::PodRange, rules},
    trust::{self, ALPN_AGENT, ALPN_HTTP, KeyFiles},
};

/// Between two tries to reach a Docker that does not answer when the agent starts.
const DOCKER_RETRY: Duration = Duration::from_secs(1);

/// Between two looks at the engine's images.
const IMAGES_EVERY: Duration = Duration::from_secs(60);

/// How long changes gather before what is known is written to disk.
const SAVE_AFTER: Duration = Duration::from_millis(200);

/// How many reports wait for the session; the agent waits when they are that many.
const REPORTS_MAX: usize = 64;

/// What an agent must be told to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The agent's folder: keys, what the servers said, volumes.
    pub dir: PathBuf,
    /// A folder on a tmpfs for secrets of pods.
    pub memory: PathBuf,
    /// The node's name.
    pub node: NodeName,
    /// The node's own address.
    pub address: IpAddr,
    /// Servers to dial, `host:port`.
    pub servers: Vec<String>,
    /// Docker's socket.
    pub docker: PathBuf,
    /// Name of the bridge and of the Docker network of the node's pods.
    pub bridge: String,
    /// Domain of service names.
    pub cluster_domain: String,
    /// Address and port on which servers read logs.
    pub listen: SocketAddr,
    /// Labels the agent gives its node, beside those every node has.
    pub labels: BTreeMap<String, String>,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys or certificates.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}; is another agent running?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        cause: std::io::Error,
    },
    /// A folder cannot be made.
    #[error("{path}")]
    Folder {
        /// The folder.
        path: String,
        /// The cause.
        #[source]
        cause: std::io::Error,
    },
    /// It was stopped before Docker answered.
    #[error("stopped while waiting for Docker at {0}")]
    Stopped(String),
}

/// How an agent does; read by metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether a session is open.
    pub session: bool,
    /// The generation the node knows.
    pub generation: Revision,
    /// The generation rules, routes and names are of.
    pub programmed: Revision,
    /// Pods by phase.
    pub pods: BTreeMap<String, u64>,
    /// The containers that run.
    pub running: Vec<Running>,
}

/// A running agent. Dropping it stops nothing on the node: containers, rules and names stay.
pub struct Agent {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    vitals: Vitals,
    keys: KeyFiles,
    dial: watch::Sender<Arc<rustls::ClientConfig>>,
    ask: watch::Sender<Arc<rustls::ClientConfig>>,
    serve: watch::Sender<Arc<rustls::ServerConfig>>,
}

impl Agent {
    /// Starts the agent of a node whose keys (`node.crt`, `node.key`, `ca.crt`) are in `dir`/pki.
    /// Waits for Docker.
    pub async fn start(options: Options, stop: CancellationToken) -> Result<Self, StartError> {
        for folder in [&options.dir, &options.memory] {
            std::fs::create_dir_all(folder).map_err(|cause| StartError::Folder {
                path: folder.display().to_string(),
                cause,
            })?;
        }
        let keys = KeyFiles::new(options.dir.join("pki"));
        let Tls { dial, ask, serve } = Tls::of(&keys)?;
        let (dial, dial_tls) = watch::channel(dial);
        let (ask, ask_tls) = watch::channel(ask);
        let (serve, serve_tls) = watch::channel(serve);
        let listener = TcpListener::bind(options.listen).await;
        let listener =
            listener.map_err(|cause| StartError::Listen { address: options.listen, cause })?;
        let port = listener.local_addr().map_or(options.listen.port(), |a| a.port());

        let (servers, known_servers) = watch::channel(options.servers.clone());
        let machine = wait_for_docker(&options, &stop).await?;
        let machine = machine.asking(Servers::new(ask_tls, known_servers));
        let (docker, calls) = (machine.docker(), machine.calls());
        let engine = docker.version().await.ok().and_then(|v| v.version).unwrap_or_default();
        let facts =
            MachineFacts::find(options.node.clone(), options.address, &engine, &options.dir, port);
        let settings = Settings { node: facts.node.clone(), dns: PodDns::default(), range: None };
        let (pods, observations, pods_task) = driver::start(machine, settings);
        let (tell, health) = watch::channel(Health::default());
        let mut tasks = JoinSet::new();
        let loads = Arc::<Loads>::default();
        let vitals = Vitals {
            docker: docker.clone(),
            health,
            calls,
            loads: loads.clone(),
            last: Arc::default(),
        };
        let router = serve::router(pods.clone(), Rates::new(vitals.clone()));
        tasks.spawn(serve::run(listener, serve_tls, router, stop.clone()));
        let main = Main {
            cache: Cache::new(&options.dir),
            known: Known::default(),
            facts,
            docker,
            loads,
            pods,
            proxy: None,
            range: None,
            latest: BTreeMap::new(),
            images: Vec::new(),
            started: facts::started(),
            open: false,
            programmed: None,
            repairs: 0,
            unsaved: false,
            behind: false,
            brought: false,
            tell,
            options,
        };
        let stopped = stop.clone();
        tasks.spawn(async move {
            main.run(dial_tls, servers, observations, stopped).await;
            pods_task.abort();
        });
        Ok(Self { stop, tasks, vitals, keys, dial, ask, serve })
    }

    /// Takes up the node's key and certificate from its folder again, after they were renewed. What
    /// is open stays open; what is dialled or accepted from now on uses the new ones.
    pub fn reload_keys(&self) -> Result<(), trust::Error> {
        let Tls { dial, ask, serve } = Tls::of(&self.keys)?;
        self.dial.send_replace(dial);
        self.ask.send_replace(ask);
        self.serve.send_replace(serve);
        Ok(())
    }

    /// How it does, now and whenever it changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.vitals.health.clone()
    }

    /// How it, its engine and its containers do, whenever somebody asks.
    pub fn vitals(&self) -> Vitals {
        self.vitals.clone()
    }

    /// Stops the agent's loops; everything on the node stays as it is.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// How the node speaks to servers.
struct Tls {
    /// Dialling for a session.
    dial: Arc<rustls::ClientConfig>,
    /// Asking the API.
    ask: Arc<rustls::ClientConfig>,
    /// Answering them.
    serve: Arc<rustls::ServerConfig>,
}

impl Tls {
    fn of(keys: &KeyFiles) -> Result<Self, trust::Error> {
        let (ca, issued) = (keys.ca_certificate()?, keys.issued("node")?);
        Ok(Self {
            dial: trust::client(&ca, &issued, ALPN_AGENT)?,
            ask: trust::client(&ca, &issued, ALPN_HTTP[1])?,
            serve: trust::server(&ca, &issued, &[ALPN_HTTP[1]])?,
        })
    }
}

async fn wait_for_docker(
    options: &Options,
    stop: &CancellationToken,
) -> Result<Machine, StartError> {
    let socket = options.docker.display().to_string();
    let mut told = false;
    loop {
        let disk = Disk::new(options.dir.join("pods"), options.memory.join("pods"));
        match Machine::connect(&socket, &options.bridge, disk).await {
            Ok(machine) => return Ok(machine),
            Err(error) if !told => {
                told = true;
                tracing::warn!(event = "waiting for Docker", socket, %error);
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Err(StartError::Stopped(socket)),
            () = sleep_until(Instant::now() + DOCKER_RETRY) => {}
        }
    }
}

/// The loop between the session, the pods and the network.
struct Main {
    options: Options,
    facts: MachineFacts,
    docker: Docker,
    loads: Arc<Loads>,
    cache: Cache,
    known: Known,
    pods: PodsHandle<Machine>,
    /// Runs once the node's pod range is known.
    proxy: Option<Proxy>,
    range: Option<(PodRange, Cidr)>,
    /// The last report of each pod, by uid; told again whenever a session opens.
    latest: BTreeMap<String, ObservedPod>,
    images: Vec<k8s_openapi::api::core::v1::ContainerImage>,
    started: k8s_openapi::jiff::Timestamp,
    open: bool,
    /// What the proxy has programmed; told again whenever a session opens, so that servers wait for
    /// no more than that.
    programmed: Option<Revision>,
    /// How many repairs of rules that somebody changed were told.
    repairs: u64,
    unsaved: bool,
    /// Some reports did not fit into the session's queue.
    behind: bool,
    /// The session was told what still runs of the cluster before.
    brought: bool,
    tell: watch::Sender<Health>,
}

impl Main {
    async fn run(
        mut self,
        tls: watch::Receiver<Arc<rustls::ClientConfig>>,
        servers_tell: watch::Sender<Vec<String>>,
        mut observations: mpsc::Receiver<Observation>,
        stop: CancellationToken,
    ) {
        self.load().await;
        self.look_at_images().await;
        let servers = servers_tell.subscribe();
        let (reports, to_send) = mpsc::channel(REPORTS_MAX);
        let (news_tell, mut news) = mpsc::channel(REPORTS_MAX);
        let (hello_tell, hello) = watch::channel(self.hello());
        let said = move || hello.borrow().clone();
        let dialing = tokio::spawn(session::run(tls, servers, said, news_tell, to_send));
        let mut images_at = Instant::now() + IMAGES_EVERY;
        let mut save_at = None;
        loop {
            let mut proxy_report = self.proxy.as_ref().map(Proxy::report);
            tokio::select! {
                () = stop.cancelled() => break,
                heard = news.recv() => match heard {
                    Some(heard) => self.hear(heard, &reports, &servers_tell).await,
                    None => break,
                },
                seen = observations.recv() => match seen {
                    Some(seen) => self.observe(seen, &reports),
                    None => break,
                },
                () = changed(&mut proxy_report, self.programmed, self.repairs) => {
                    let report = proxy_report.map(|r| r.borrow().clone()).unwrap_or_default();
                    for change in &report.changes {
                        tracing::info!(event = "network", change);
                    }
                    for problem in &report.problems {
                        tracing::warn!(event = "network", problem);
                    }
                    if report.repairs != self.repairs {
                        self.repairs = report.repairs;
                        self.report_drift(&report.repaired, &reports);
                    }
                    self.programmed = report.programmed;
                    self.report_programmed(&reports);
                }
                () = sleep_until(images_at) => {
                    images_at = Instant::now() + IMAGES_EVERY;
                    if self.look_at_images().await {
                        let status = Box::new(self.facts.status(self.images.clone(), self.started));
                        self.report(ToServer::Node(status), &reports);
                    }
                }
                () = sleep_until(save_at.unwrap_or(images_at)), if self.unsaved => {
                    save_at = None;
                    self.save();
                }
            }
            if self.unsaved && save_at.is_none() {
                save_at = Some(Instant::now() + SAVE_AFTER);
            }
            self.catch_up(&reports);
            self.bring_survivors(&reports);
            hello_tell.send_replace(self.hello());
            self.tell_health();
        }
        if self.unsaved {
            self.save();
        }
        dialing.abort();
    }

    /// Goes on with what was known before, so that pods and services live without any server.
    async fn load(&mut self) {
        match self.cache.load() {
            Ok(Some(known)) => {
                self.known = known;
                self.act().await;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(event = "cache unreadable, waiting for a server", %error),
        }
    }

    fn save(&mut self) {
        self.unsaved = false;
        if let Err(error) = self.cache.save(&self.known) {
            tracing::warn!(event = "cache not written", %error);
            self.unsaved = true;
        }
    }

    async fn hear(
        &mut self,
        news: News,
        reports: &mpsc::Sender<ToServer>,
        servers: &watch::Sender<Vec<String>>,
    ) {
        match news {
            News::Closed => {
                (self.open, self.brought) = (false, false);
                self.known.drop_coming();
            }
            News::Open => {
                self.open = true;
                self.report_all(reports);
            }
            News::Said(said) => match *said {
                ToAgent::Welcome(welcome) => {
                    let known = welcome.servers.iter().chain(&self.options.servers);
                    let unique: BTreeSet<String> = known.cloned().collect();
                    servers.send_replace(unique.into_iter().collect());
                    self.unsaved |= self.known.greet(welcome);
                }
                ToAgent::Desired(desired) => {
                    let was_elsewhere = self.known.is_elsewhere();
                    match self.known.take(desired) {
                        Ok(true) => {
                            self.unsaved = true;
                            self.act().await;
                            // What happened to survivors until they were kept was told of pods
                            // that nobody knew.
                            self.behind |= was_elsewhere;
                        }
                        Ok(false) => {}
                        Err(error) => tracing::error!(event = "older generation refused", %error),
                    }
                }
                ToAgent::Heard(_) | ToAgent::Goodbye(_) => {}
            },
        }
    }

    /// Hands what is known to the pods and the network.
    async fn act(&mut self) {
        self.find_range().await;
        let for_pods = |key: &Key| {
            key.is::<Pod>() || key.is::<ConfigMap>() || key.is::<Secret>() || key.is::<Service>()
        };
        let objects = self.known.objects.iter().filter(|(key, _)| for_pods(key));
        let objects: BTreeMap<Key, Object> =
            objects.map(|(key, object)| (key.clone(), object.clone())).collect();
        let uids: BTreeSet<&str> = objects.values().map(Object::uid).collect();
        self.latest.retain(|uid, seen| !seen.gone || uids.contains(uid.as_str()));
        if self.pods.desired(objects).await.is_err() {
            tracing::error!(event = "the driver of pods has ended");
        }
        if let Some(proxy) = &self.proxy {
            let for_network =
                |key: &Key| key.is::<Service>() || key.is::<EndpointSlice>() || key.is::<Node>();
            let objects = self.known.objects.iter().filter(|(key, _)| for_network(key));
            proxy.desire(proxy::Desired {
                generation: self.known.generation,
                objects: objects.map(|(_, object)| object.clone()).collect(),
            });
        }
    }

    /// The range that the servers gave the node.
    fn pod_range(&self) -> Option<String> {
        let key = Key::of::<Node>("", self.options.node.as_str());
        let node = self.known.objects.get(&key).and_then(|o| o.view::<Node>());
        node.and_then(|n| n.spec.as_ref()?.pod_cidr.clone())
    }

    /// Once the servers have given the node its pod range: makes the network and starts the proxy.
    async fn find_range(&mut self) {
        let Some(cidr) = self.pod_range() else { return };
        let cluster = self.known.welcome.as_ref().and_then(|w| w.cluster_cidr.parse().ok());
        let parsed = PodRange::parse(&cidr).zip(cidr.parse::<Cidr>().ok());
        let (Some((range, pods)), Some(cluster_cidr)) = (parsed, cluster) else { return };
        if self.range == Some((range, cluster_cidr)) {
            return;
        }
        let want = Network {
            name: self.options.bridge.clone(),
            bridge: self.options.bridge.clone(),
            pods,
        };
        match network::ensure_docker(&self.docker, &want).await {
            Ok(changes) => {
                changes.iter().for_each(|change| tracing::info!(event = "network", change));
            }
            // The proxy and the next set try again; pods wait meanwhile.
            Err(error) => return tracing::warn!(event = "network not made", %error),
        }
        self.range = Some((range, cluster_cidr));
        let dns = SocketAddr::new(IpAddr::V4(range.gateway()), 53);
        let settings = Settings {
            node: self.facts.node.clone(),
            dns: PodDns {
                nameserver: Some(dns.ip()),
                domain: self.options.cluster_domain.clone(),
                host: std::fs::read_to_string(RESOLV_CONF).unwrap_or_default(),
            },
            range: Some(range),
        };
        if self.pods.settings(settings).await.is_err() {
            tracing::error!(event = "the driver of pods has ended");
        }
        self.proxy = Some(Proxy::start(proxy::Config {
            facts: rules::Facts {
                node: self.options.node.clone(),
                pod_cidr: pods,
                cluster_cidr,
                node_port_addresses: Vec::new(),
            },
            netns: Netns::own(),
            bridge: self.options.bridge.clone(),
            dns,
            domain: self.options.cluster_domain.clone(),
            resolv_conf: RESOLV_CONF.into(),
            loads: self.loads.clone(),
        }));
    }

    fn observe(&mut self, seen: Observation, reports: &mpsc::Sender<ToServer>) {
        let report = match seen {
            Observation::Pod(pod) => {
                self.latest.insert(pod.uid.clone(), pod.clone());
                if let Some(proxy) = &self.proxy {
                    proxy.look();
                }
                ToServer::Pods(vec![pod])
            }
            Observation::Event(event) => ToServer::Events(vec![event]),
        };
        self.report(report, reports);
    }

    /// Tells that somebody changed the node's rules, as an event of the node.
    fn report_drift(&mut self, repaired: &[String], reports: &mpsc::Sender<ToServer>) {
        let key = Key::of::<Node>("", self.options.node.as_str());
        let uid = self.known.objects.get(&key).map(|node| node.uid().to_owned());
        let event = ObservedEvent {
            regarding: key,
            uid: uid.unwrap_or_default(),
            warning: true,
            reason: "DriftCorrected".to_owned(),
            message: repaired.join("; "),
            at: clock::now(),
        };
        self.report(ToServer::Events(vec![event]), reports);
    }

    /// What was programmed for another cluster says nothing to this one.
    fn report_programmed(&mut self, reports: &mpsc::Sender<ToServer>) {
        let known = self.known.generation;
        if let Some(generation) = self.programmed.filter(|programmed| *programmed <= known)
            && !self.known.is_elsewhere()
        {
            self.report(ToServer::Programmed(generation), reports);
        }
    }

    /// Sends a report when a session is open; otherwise everything is told when one opens. Never
    /// waits: the session may be waiting for us. What does not fit is made up for by telling
    /// everything once there is room.
    fn report(&mut self, report: ToServer, reports: &mpsc::Sender<ToServer>) {
        if self.open && reports.try_send(report).is_err() {
            self.behind = true;
        }
    }

    /// Tells everything again after some reports did not fit.
    fn catch_up(&mut self, reports: &mpsc::Sender<ToServer>) {
        if self.behind && reports.capacity() == reports.max_capacity() {
            self.behind = false;
            self.report_all(reports);
        }
    }

    /// Tells a server of another cluster what still runs here, once each pod was seen.
    fn bring_survivors(&mut self, reports: &mpsc::Sender<ToServer>) {
        if self.brought || !self.open {
            return;
        }
        if let Some(survivors) = self.known.survivors(&self.latest) {
            tracing::info!(event = "survivors", pods = survivors.len());
            self.brought = reports.try_send(ToServer::Survivors(survivors)).is_ok();
        }
    }

    fn report_all(&mut self, reports: &mpsc::Sender<ToServer>) {
        let pods: Vec<ObservedPod> = self.latest.values().cloned().collect();
        if !pods.is_empty() {
            self.report(ToServer::Pods(pods), reports);
        }
        self.report_programmed(reports);
    }

    /// Looks which images the engine has; tells whether they changed.
    async fn look_at_images(&mut self) -> bool {
        match facts::images(&self.docker).await {
            Ok(images) if images != self.images => {
                self.images = images;
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::debug!(event = "images not listed", %error);
                false
            }
        }
    }

    fn hello(&self) -> Hello {
        let mut labels = self.options.labels.clone();
        labels.extend(self.facts.labels());
        Hello {
            node: self.options.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: self.known.generation,
            cluster: self.known.cluster().to_owned(),
            pod_range: self.pod_range().unwrap_or_default(),
            labels,
            status: Box::new(self.facts.status(self.images.clone(), self.started)),
        }
    }

    fn tell_health(&self) {
        let mut pods = BTreeMap::new();
        for seen in self.latest.values().filter(|seen| !seen.gone) {
            let phase = seen.status.phase.clone().unwrap_or_default();
            *pods.entry(phase).or_insert(0) += 1;
        }
        let health = Health {
            session: self.open,
            generation: self.known.generation,
            programmed: self.programmed.unwrap_or_default(),
            pods,
            running: self.latest.values().filter(|seen| !seen.gone).flat_map(running).collect(),
        };
        self.tell.send_if_modified(|before| {
            let changed = *before != health;
            *before = health;
            changed
        });
    }
}

/// The containers of a pod that run, by name.
fn running(seen: &ObservedPod) -> impl Iterator<Item = Running> {
    let statuses = seen.status.container_statuses.iter().flatten();
    let running = statuses.filter(|s| s.state.as_ref().is_some_and(|s| s.running.is_some()));
    running.filter_map(|status| {
        Some(Running {
            namespace: seen.key.namespace.to_string(),
            pod: seen.key.name.to_string(),
            container: status.name.clone(),
            id: status.container_id.as_deref()?.rsplit('/').next()?.to_owned(),
        })
    })
}

/// The node's own resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Waits until the proxy reports something else than `programmed`; for ever without a proxy.
async fn changed(
    report: &mut Option<watch::Receiver<proxy::Report>>,
    programmed: Option<Revision>,
    repairs: u64,
) {
    let is_told =
        |report: &proxy::Report| report.programmed == programmed && report.repairs == repairs;
    match report {
        Some(report) => {
            while is_told(&report.borrow_and_update()) {
                if report.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
        None => std::future::pending().await,
    }
}

/// Removes everything this agent made on the node: containers, network, rules, routes, files. Gives
/// what could not be.
pub async fn clean(options: &Options) -> Vec<String> {
    let mut problems = Vec::new();
    let socket = options.docker.display().to_string();
    let disk = Disk::new(options.dir.join("pods"), options.memory.join("pods"));
    match Machine::connect(&socket, &options.bridge, disk).await {
        Ok(machine) => {
            problems.extend(machine.remove_everything().await);
            let pods = Cidr::around(std::net::Ipv4Addr::UNSPECIFIED, 0);
            let name = options.bridge.clone();
            let network = Network { bridge: name.clone(), name, pods };
            if let Err(error) = network::remove_docker(&machine.docker(), &network).await {
                problems.push(format!("network {}: {error}", options.bridge));
            }
        }
        Err(error) => problems.push(format!("Docker at {socket}: {error}")),
    }
    if let Err(found) = proxy::remove_all(&Netns::own()).await {
        problems.extend(found);
    }
    for folder in [&options.dir, &options.memory] {
        problems.extend(remove_folder(folder));
    }
    problems
}

fn remove_folder(folder: &Path) -> Option<String> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Some(format!("{}: {e}", folder.display()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod net_tests;
