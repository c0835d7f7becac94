//! What the node and its containers use right now, for `kubectl top`: CPU time between two looks.
//!
//! In: [`Vitals`] and the kernel's own counts. Out: [`NodeUsage`], for a server that asks. As with
//! metrics nothing is read in a loop: who asks after a pause waits for two looks.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{
    clock,
    usage::{Usage, Vitals},
};
use crate::model::session::{ContainerUse, NodeUsage, Use};

/// Shortest time over which CPU is counted: the kernel counts the machine's in hundredths of a
/// second.
const WINDOW_MIN: Duration = Duration::from_secs(1);
/// Longest: an older look says nothing of now.
const WINDOW_MAX: Duration = Duration::from_secs(60);
/// How long an answer counts as new.
const KEPT: Duration = Duration::from_secs(5);
/// How often the kernel counts in a second what `/proc/stat` tells; the same on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures when it is asked. Cheap to clone.
#[derive(Clone)]
pub(super) struct Rates {
    vitals: Vitals,
    last: Arc<Mutex<Option<Last>>>,
}

/// The last look, and what it said when it was compared with the one before.
struct Last {
    look: Look,
    answer: Option<NodeUsage>,
}

/// What was counted at one moment.
struct Look {
    at: Instant,
    node: Counts,
    containers: Vec<Usage>,
}

/// What the kernel says of the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    cpu_seconds: f64,
    memory_bytes: u64,
}

impl Rates {
    pub(super) fn new(vitals: Vitals) -> Self {
        Self { vitals, last: Arc::default() }
    }

    /// What is used now. Who comes while somebody measures gets the same answer.
    pub(super) async fn measure(&self) -> NodeUsage {
        let mut last = self.last.lock().await;
        let answered = last.as_ref().filter(|last| last.look.at.elapsed() < KEPT);
        if let Some(answer) = answered.and_then(|last| last.answer.clone()) {
            return answer;
        }
        let before = last.take().map(|last| last.look);
        let before = match before.filter(|look| look.at.elapsed() < WINDOW_MAX) {
            Some(look) => look,
            None => self.look().await,
        };
        sleep(WINDOW_MIN.saturating_sub(before.at.elapsed())).await;
        let look = self.look().await;
        let answer = between(&before, &look);
        *last = Some(Last { look, answer: Some(answer.clone()) });
        answer
    }

    async fn look(&self) -> Look {
        let containers = self.vitals.measure().await;
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        let node = counts(&text("/proc/stat"), &text("/proc/meminfo"));
        Look { at: Instant::now(), node, containers }
    }
}

/// What was used between two looks. A container that was not there at both is left out.
fn between(before: &Look, after: &Look) -> NodeUsage {
    let window = after.at.duration_since(before.at);
    let amount = |from: f64, to: f64, memory_bytes: u64| {
        let nano = (to - from).max(0.0) / window.as_secs_f64().max(f64::EPSILON) * 1e9;
        Use { cpu_nano: nano.round() as u64, memory_bytes }
    };
    let container = |now: &Usage| {
        let then = before.containers.iter().find(|then| then.of.id == now.of.id)?;
        Some(ContainerUse {
            namespace: now.of.namespace.clone(),
            pod: now.of.pod.clone(),
            container: now.of.container.clone(),
            amount: amount(then.cpu_seconds, now.cpu_seconds, now.working_set_bytes),
        })
    };
    NodeUsage {
        at: clock::now(),
        window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        node: amount(before.node.cpu_seconds, after.node.cpu_seconds, after.node.memory_bytes),
        containers: after.containers.iter().filter_map(container).collect(),
    }
}

/// The machine's CPU time that was not idle, and its memory that is not available
/// (proc_stat(5), proc_meminfo(5)).
fn counts(stat: &str, meminfo: &str) -> Counts {
    let total = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let times: Vec<u64> =
        total.unwrap_or_default().split_whitespace().map_while(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are in user and nice already.
    let busy = times.iter().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4));
    let ticks: u64 = busy.map(|(_, ticks)| ticks).sum();
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    let used = kib("MemTotal:").saturating_sub(kib("MemAvailable:"));
    Counts { cpu_seconds: ticks as f64 / TICKS_PER_SECOND, memory_bytes: used * 1024 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::usage::Running;

    fn usage(id: &str, cpu_seconds: f64) -> Usage {
        let of = Running {
            namespace: "shop".into(),
            pod: "web".into(),
            container: format!("c-{id}"),
            id: id.into(),
        };
        Usage { of, cpu_seconds, working_set_bytes: 1024 }
    }

    #[test]
    fn cpu_is_counted_between_two_looks() {
        let at = Instant::now();
        let look = |seconds: u64, cpu_seconds, containers| Look {
            at: at + Duration::from_secs(seconds),
            node: Counts { cpu_seconds, memory_bytes: 4096 },
            containers,
        };
        let before = look(0, 10.0, vec![usage("a", 1.0), usage("gone", 1.0)]);
        let after = look(4, 12.0, vec![usage("a", 1.5), usage("new", 9.0)]);
        let told = between(&before, &after);
        assert_eq!((told.window_ms, told.node.cpu_nano), (4000, 500_000_000));
        let containers: Vec<_> =
            told.containers.iter().map(|c| (c.container.as_str(), c.amount.cpu_nano)).collect();
        assert_eq!(containers, [("c-a", 125_000_000)]);
        // A counter that starts anew is no negative use.
        let again = look(5, 1.0, vec![usage("a", 0.0)]);
        assert_eq!(between(&after, &again).node.cpu_nano, 0);
    }

    #[test]
    fn the_kernels_counts_are_read() {
        let stat = "cpu  100 20 30 4000 500 6 7 8 90 10\ncpu0 1 2 3\n";
        let meminfo = "MemTotal:  2048 kB\nMemFree: 10 kB\nMemAvailable:   1024 kB\n";
        let counts = counts(stat, meminfo);
        assert_eq!(counts, Counts { cpu_seconds: 1.71, memory_bytes: 1 << 20 });
        assert_eq!(super::counts("", ""), Counts::default());
    }
}
