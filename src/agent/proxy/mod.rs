//! Brings a node's services, routes and names to what the cluster says, and keeps them there.
//!
//! In: [`Desired`], of which only the newest counts. Out: a [`Report`] with the generation that is
//! programmed. The loop waits in `select`, decides by [`pace::Pace`] (a value), and works through
//! the rooms beside this one. The agent starts one; what it has programmed stays when it is gone,
//! so that pods outlive the agent.

mod pace;

use std::{
    error::Error,
    future::pending,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    Metadata,
    api::{
        core::v1::{Node, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use self::pace::{Pace, Work};
use super::{
    command::Netns, conntrack::Conntrack, dns::Dns, iptables::Iptables, network, routes,
    usage::Loads,
};
use crate::{
    model::{Object, Revision, Timestamp},
    node::{
        dns::{Zone, upstreams},
        routes::{Routes, plan},
        rules::{Facts, Program, UdpFronts, build, stale},
    },
};

/// What the proxy of a node is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node.
    pub facts: Facts,
    /// Where rules and routes go.
    pub netns: Netns,
    /// The bridge of the pods (`podbr0`).
    pub bridge: String,
    /// Where names are answered: the gateway of the pod range, port 53.
    pub dns: SocketAddr,
    /// The cluster's domain (`cluster.local`).
    pub domain: String,
    /// The node's own resolv.conf, read again at each check.
    pub resolv_conf: PathBuf,
    /// Where loads of rules are counted.
    pub loads: Arc<Loads>,
}

/// What the cluster says: all Services, EndpointSlices and Nodes. Other kinds are passed over.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// The generation this is of.
    pub generation: Revision,
    /// The objects, in any order.
    pub objects: Vec<Object>,
}

/// How things are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rules, routes and names are those of this generation.
    pub programmed: Option<Revision>,
    /// What keeps the newest generation from being programmed, or a part of the network from
    /// working.
    pub problems: Vec<String>,
    /// What the last pass changed on the host or repaired.
    pub changes: Vec<String>,
    /// What somebody had changed of the rules when that was last found; it is repaired.
    pub repaired: Vec<String>,
    /// How often that was.
    pub repairs: u64,
}

/// A running proxy; ends when dropped, and leaves everything in place.
pub struct Proxy {
    desired: watch::Sender<Option<Arc<Desired>>>,
    report: watch::Receiver<Report>,
    nudge: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts the loop. It touches the rules with the first [`Desired`] only, so what an earlier
    /// run programmed goes on until then.
    pub fn start(config: Config) -> Self {
        let (desired, wanted) = watch::channel(None);
        let (tell, report) = watch::channel(Report::default());
        let nudge = Arc::new(Notify::new());
        let task = tokio::spawn(Loop::new(config, wanted, tell, nudge.clone()).run());
        Self { desired, report, nudge, task }
    }

    /// Says what the cluster wants from now on. The caller passes over what is older: a generation
    /// of another cluster may be lower.
    pub fn desire(&self, desired: Desired) {
        self.desired.send_replace(Some(Arc::new(desired)));
    }

    /// Asks for a look at the host soon, as when a pod got a port on the bridge.
    pub fn look(&self) {
        self.nudge.notify_one();
    }

    /// How things are; changes when they do.
    pub fn report(&self) -> watch::Receiver<Report> {
        self.report.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Removes all rules and routes of ours from the node; for `--clean`. Returns what could not be
/// removed.
pub async fn remove_all(netns: &Netns) -> Result<(), Vec<String>> {
    let mut problems = vec![];
    match Iptables::open(netns.clone()).await {
        Ok(mut iptables) => problems.extend(iptables.remove_all().await.err().map(|e| chain(&e))),
        Err(cause) => problems.push(chain(&cause)),
    }
    problems.extend(routes::remove_all(netns).await.err().map(|e| chain(&e)));
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What the loop waits for.
enum Event {
    Desired,
    Nudged,
    Due,
    NoNames(String),
    Over,
}

struct Loop {
    config: Config,
    wanted: watch::Receiver<Option<Arc<Desired>>>,
    tell: watch::Sender<Report>,
    nudge: Arc<Notify>,
    /// The moment that counts as zero; only differences matter, and they do not jump with the wall
    /// clock.
    epoch: Instant,
    pace: Pace,
    iptables: Option<Iptables>,
    conntrack: Conntrack,
    dns: Option<Dns>,
    zone: Arc<Zone>,
    routes: Option<Routes>,
    /// The UDP fronts of the rules in the kernel; unknown at the start.
    udp: Option<UdpFronts>,
}

impl Loop {
    fn new(
        config: Config,
        wanted: watch::Receiver<Option<Arc<Desired>>>,
        tell: watch::Sender<Report>,
        nudge: Arc<Notify>,
    ) -> Self {
        let conntrack = Conntrack::new(config.netns.clone());
        Self {
            config,
            wanted,
            tell,
            nudge,
            epoch: Instant::now(),
            pace: Pace::default(),
            iptables: None,
            conntrack,
            dns: None,
            zone: Arc::default(),
            routes: None,
            udp: None,
        }
    }

    async fn run(mut self) {
        loop {
            match self.pace.due(self.now()) {
                Some(Work::Program) => self.program().await,
                Some(Work::Check) => self.check().await,
                None => match self.select().await {
                    Event::Desired => self.pace.wanted(),
                    Event::Nudged => self.pace.nudged(),
                    Event::Due => {}
                    Event::NoNames(why) => {
                        tracing::warn!("{why}");
                        self.dns = None;
                        self.pace.nudged();
                    }
                    Event::Over => return,
                },
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    async fn select(&mut self) -> Event {
        let millis = u64::try_from(self.pace.wake_at().0).unwrap_or(0);
        let wake_at = self.epoch + Duration::from_millis(millis);
        let names = async {
            match &mut self.dns {
                Some(dns) => dns.failed().await,
                None => pending().await,
            }
        };
        tokio::select! {
            changed = self.wanted.changed() => match changed {
                Ok(()) => Event::Desired,
                Err(_) => Event::Over,
            },
            () = self.nudge.notified() => Event::Nudged,
            () = sleep_until(wake_at) => Event::Due,
            why = names => Event::NoNames(why),
        }
    }

    /// Programs the newest desired state: rules, then the entries they made stale, routes, names. A
    /// part that fails does not keep the others from being done.
    async fn program(&mut self) {
        let Some(desired) = self.wanted.borrow_and_update().clone() else { return };
        let mut report = Report { programmed: self.tell.borrow().programmed, ..Report::default() };
        let (services, slices) = (views::<Service>(&desired), views::<EndpointSlice>(&desired));
        let program = build(&self.config.facts, services.clone(), slices.clone());
        let mut failures: Vec<String> = vec![];
        failures.extend(self.put_rules(program).await.err());
        let Facts { node, pod_cidr, cluster_cidr, .. } = &self.config.facts;
        let plan = plan(views::<Node>(&desired), node, *pod_cidr, *cluster_cidr);
        report.problems.extend(plan.problems);
        self.routes = Some(plan.routes);
        failures.extend(self.put_routes(&mut report).await.err());
        self.zone = Arc::new(Zone::new(&self.config.domain, services, slices));
        failures.extend(self.put_names().await.err());
        report.problems.extend(self.conntrack.problem().map(str::to_owned));
        if failures.is_empty() {
            report.programmed = Some(desired.generation);
        }
        self.pace.programmed(failures.is_empty(), self.now());
        report.problems.splice(0..0, failures);
        self.say(report);
    }

    async fn put_rules(&mut self, program: Program) -> Result<(), String> {
        if self.iptables.is_none() {
            let opened = Iptables::open(self.config.netns.clone()).await;
            self.iptables = Some(opened.map_err(|e| chain(&e))?);
        }
        if let Some(iptables) = &mut self.iptables {
            let loaded = iptables.sync(&program.rules).await;
            self.config.loads.count(loaded.is_ok());
            loaded.map_err(|e| chain(&e))?;
        }
        let dropped = match &self.udp {
            Some(before) => self.conntrack.drop_flows(&stale(before, &program.udp)).await,
            None => self.conntrack.reconcile(&program.udp).await,
        };
        dropped.map_err(|e| chain(&e))?;
        self.udp = Some(program.udp);
        Ok(())
    }

    async fn put_routes(&mut self, report: &mut Report) -> Result<(), String> {
        let Some(want) = &self.routes else { return Ok(()) };
        let synced = routes::sync(&self.config.netns, want).await.map_err(|e| chain(&e))?;
        report.changes.extend(synced.made);
        report.problems.extend(synced.refused);
        Ok(())
    }

    /// Starts the name server if it does not run, and gives it the zone.
    async fn put_names(&mut self) -> Result<(), String> {
        let at = self.config.dns;
        let servers = self.upstreams().await;
        if self.dns.is_none() {
            let started = Dns::start(at, servers.clone()).await;
            self.dns = Some(started.map_err(|e| format!("answer names at {at}: {e}"))?);
        }
        if let Some(dns) = &self.dns {
            dns.set_upstreams(servers);
            dns.set_zone(self.zone.clone());
        }
        Ok(())
    }

    /// The node's resolvers; none when its file cannot be read: then only the cluster's names are
    /// answered.
    async fn upstreams(&self) -> Vec<SocketAddr> {
        let own: IpAddr = self.config.dns.ip();
        let text = tokio::fs::read_to_string(&self.config.resolv_conf).await;
        text.map_or_else(|_| vec![], |text| upstreams(&text, own))
    }

    /// Looks whether the host is still as it was made, and repairs it.
    async fn check(&mut self) {
        let mut report = Report { programmed: self.tell.borrow().programmed, ..Report::default() };
        match network::ensure_host(&self.config.netns, &self.config.bridge).await {
            Ok(checked) => {
                report.changes.extend(checked.changed);
                report.problems.extend(checked.problems);
            }
            Err(cause) => report.problems.push(chain(&cause)),
        }
        if let Some(iptables) = &mut self.iptables {
            match iptables.check().await {
                Ok(repaired) => {
                    report.changes.extend(repaired.iter().cloned());
                    report.repaired = repaired;
                }
                Err(cause) => report.problems.push(chain(&cause)),
            }
        }
        let routes = self.put_routes(&mut report).await.err();
        report.problems.extend(routes);
        if self.udp.is_some() {
            let names = self.put_names().await.err();
            report.problems.extend(names);
        }
        report.problems.extend(self.conntrack.problem().map(str::to_owned));
        self.pace.checked(self.now());
        self.say(report);
    }

    fn say(&self, mut report: Report) {
        let before = self.tell.borrow().clone();
        report.repairs = before.repairs + u64::from(!report.repaired.is_empty());
        if report.repaired.is_empty() {
            report.repaired = before.repaired;
        }
        report.changes.iter().for_each(|change| tracing::info!("{change}"));
        let known = self.tell.borrow().problems.clone();
        let new = report.problems.iter().filter(|problem| !known.contains(problem));
        new.for_each(|problem| tracing::warn!("{problem}"));
        self.tell.send_if_modified(|before| {
            let differs = *before != report;
            *before = report;
            differs
        });
    }
}

/// The objects of one kind, decoded.
fn views<T>(desired: &Desired) -> impl Iterator<Item = &T> + Clone
where
    T: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    desired.objects.iter().filter_map(Object::view::<T>)
}

/// An error with what lies below it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        text = format!("{text}: {cause}");
        below = cause.source();
    }
    text
}
