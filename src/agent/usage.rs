//! What the node's containers use, and how the engine does: read when somebody asks, never in a
//! loop.
//!
//! In: the engine and the agent's [`Health`]. Out: [`Vitals`], of which each scrape of the agent's
//! metrics takes one look. A look asks the engine about each container once; looks that follow
//! soon get the same answer, so scrapes cost a bounded amount however many there are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bollard::{Docker, models::ContainerStatsResponse, query_parameters::StatsOptionsBuilder};
use futures_util::StreamExt;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout},
};

use super::Health;

/// How long a look at the containers counts as new: shorter than any usual scrape interval.
const LOOK_KEPT: Duration = Duration::from_secs(5);
/// Longest wait for one container's figures (some 2 ms each when the engine is idle).
const LOOK_ONE: Duration = Duration::from_secs(2);
/// Longest wait for all of them, below Prometheus' usual 10 s for a scrape.
const LOOK_ALL: Duration = Duration::from_secs(5);
/// Most containers asked about together.
const LOOKS_TOGETHER: usize = 8;

/// Requests to the engine, counted since the agent started.
#[derive(Debug, Default)]
pub struct Calls {
    errors: AtomicU64,
    silent: AtomicBool,
}

impl Calls {
    /// The engine answered, as wanted or that there is no such thing.
    pub(super) fn answered(&self) {
        self.silent.store(false, Ordering::Relaxed);
    }

    /// The engine refused.
    pub(super) fn refused(&self) {
        self.answered();
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// No answer in time, or no engine.
    pub(super) fn unanswered(&self) {
        self.silent.store(true, Ordering::Relaxed);
        self.errors.fetch_add(1, Ordering::Relaxed);
    }
}

/// Loads of Service rules, counted since the agent started.
#[derive(Debug, Default)]
pub struct Loads {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Loads {
    pub(super) fn count(&self, done: bool) {
        let counter = if done { &self.done } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container's name in the pod.
    pub container: String,
    /// Its id in the engine.
    pub id: String,
}

/// What one container uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// Which.
    pub of: Running,
    /// CPU time since it started, in seconds.
    pub cpu_seconds: f64,
    /// Memory it holds without the file pages that can be dropped at once, in bytes.
    pub working_set_bytes: u64,
}

/// One look.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// How the agent does.
    pub health: Health,
    /// Whether the engine answered the last request.
    pub docker_up: bool,
    /// Requests that were refused or not answered.
    pub docker_errors: u64,
    /// Loads of Service rules that were done.
    pub loads_done: u64,
    /// And that failed.
    pub loads_failed: u64,
    /// What the containers use; without those the engine gave no figures for in time.
    pub usage: Vec<Usage>,
}

/// What was seen at the last look, and when that was.
type Looked = (Instant, Vec<Usage>);

/// Tells how an agent does whenever it is asked. Cheap to clone.
#[derive(Clone)]
pub struct Vitals {
    pub(super) docker: Docker,
    pub(super) health: watch::Receiver<Health>,
    pub(super) calls: Arc<Calls>,
    pub(super) loads: Arc<Loads>,
    pub(super) last: Arc<Mutex<Option<Looked>>>,
}

impl Vitals {
    /// One look. Takes at most [`LOOK_ALL`], and holds up nothing of the agent.
    pub async fn look(&self) -> Look {
        let health = self.health.borrow().clone();
        let usage = self.usage(&health.running).await;
        Look {
            docker_up: !self.calls.silent.load(Ordering::Relaxed),
            docker_errors: self.calls.errors.load(Ordering::Relaxed),
            loads_done: self.loads.done.load(Ordering::Relaxed),
            loads_failed: self.loads.failed.load(Ordering::Relaxed),
            usage,
            health,
        }
    }

    async fn usage(&self, running: &[Running]) -> Vec<Usage> {
        // Who comes while a look is under way waits for it and gets its answer.
        let mut last = self.last.lock().await;
        if let Some((at, usage)) = last.as_ref()
            && at.elapsed() < LOOK_KEPT
        {
            return usage.clone();
        }
        let usage = self.measure_all(running).await;
        *last = Some((Instant::now(), usage.clone()));
        usage
    }

    /// What the containers use at this moment, however lately somebody looked.
    pub(super) async fn measure(&self) -> Vec<Usage> {
        let running = self.health.borrow().running.clone();
        self.measure_all(&running).await
    }

    async fn measure_all(&self, running: &[Running]) -> Vec<Usage> {
        let looks = running.iter().cloned().map(|of| one(&self.docker, of));
        let mut looks = futures_util::stream::iter(looks).buffer_unordered(LOOKS_TOGETHER);
        let mut usage = Vec::new();
        let all = async {
            while let Some(found) = looks.next().await {
                usage.extend(found);
            }
        };
        if timeout(LOOK_ALL, all).await.is_err() {
            tracing::debug!(event = "figures of containers are late");
        }
        usage
    }
}

async fn one(docker: &Docker, of: Running) -> Option<Usage> {
    let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let mut stats = std::pin::pin!(docker.stats(&of.id, Some(options)));
    let stats = timeout(LOOK_ONE, stats.next()).await.ok()??.ok()?;
    Some(figures(of, &stats))
}

/// The figures as cAdvisor counts them: the working set is what is in use without the file pages
/// that have not been touched lately.
fn figures(of: Running, stats: &ContainerStatsResponse) -> Usage {
    let cpu = stats.cpu_stats.as_ref().and_then(|c| c.cpu_usage.as_ref()?.total_usage);
    let memory = stats.memory_stats.as_ref();
    let used = memory.and_then(|m| m.usage).unwrap_or_default();
    let details = memory.and_then(|m| m.stats.as_ref());
    // The first is what control groups of version 1 call it, for the group and all below it.
    let inactive = ["total_inactive_file", "inactive_file"];
    let inactive = inactive.iter().find_map(|name| details?.get(*name)).copied();
    Usage {
        of,
        cpu_seconds: cpu.unwrap_or_default() as f64 / 1e9,
        working_set_bytes: used.saturating_sub(inactive.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Running {
        Running {
            namespace: "shop".into(),
            pod: "web-1".into(),
            container: "web".into(),
            id: "1f".into(),
        }
    }

    fn stats(json: &str) -> ContainerStatsResponse {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn figures_are_cadvisors() {
        let v1 = r#"{"cpu_stats": {"cpu_usage": {"total_usage": 1500000000}}, "memory_stats":
            {"usage": 9000, "stats": {"inactive_file": 1, "total_inactive_file": 4000}}}"#;
        let usage = figures(running(), &stats(v1));
        assert_eq!((usage.cpu_seconds, usage.working_set_bytes), (1.5, 5000));
        let v2 = r#"{"memory_stats": {"usage": 9000, "stats": {"inactive_file": 10000}}}"#;
        assert_eq!(figures(running(), &stats(v2)).working_set_bytes, 0);
        assert_eq!(figures(running(), &stats("{}")).cpu_seconds, 0.0);
    }

    #[test]
    fn an_engine_is_up_until_it_is_silent() {
        let calls = Calls::default();
        calls.refused();
        assert!(!calls.silent.load(Ordering::Relaxed));
        calls.unanswered();
        assert!(calls.silent.load(Ordering::Relaxed));
        calls.answered();
        assert!(!calls.silent.load(Ordering::Relaxed));
        assert_eq!(calls.errors.load(Ordering::Relaxed), 2);
    }
}
