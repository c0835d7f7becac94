//! An agent's metrics: what it knows of itself, in the words of the one list.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::usage::{Look, Vitals},
    api,
    report::Sample,
};

/// The phases of pods, each of which has a series from the start.
const PHASES: [&str; 5] = ["Failed", "Pending", "Running", "Succeeded", "Unknown"];

/// Serves `/metrics` until `stop`.
pub(super) async fn serve(listener: TcpListener, vitals: Vitals, stop: CancellationToken) {
    let source = move || {
        let vitals = vitals.clone();
        async move { samples(&vitals.look().await) }.boxed()
    };
    let served = axum::serve(listener, api::metrics_router(Arc::new(source)))
        .with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!(event = "metrics listener ended", %error);
    }
}

fn samples(look: &Look) -> Vec<Sample> {
    let number = |n: u64| n as f64;
    let flag = |on: bool| f64::from(u8::from(on));
    let health = &look.health;
    let mut samples = vec![
        Sample::new("mainstay_agent_session_up", &[], flag(health.session)),
        Sample::new("mainstay_agent_generation", &[], number(health.generation.0)),
        Sample::new("mainstay_agent_rules_generation", &[], number(health.programmed.0)),
        Sample::new("mainstay_agent_docker_up", &[], flag(look.docker_up)),
        Sample::new("mainstay_agent_docker_errors_total", &[], number(look.docker_errors)),
        Sample::new("mainstay_agent_rule_loads_total", &["done"], number(look.loads_done)),
        Sample::new("mainstay_agent_rule_loads_total", &["failed"], number(look.loads_failed)),
    ];
    for phase in PHASES {
        let count = health.pods.get(phase).copied().unwrap_or_default();
        samples.push(Sample::new("mainstay_agent_pods", &[phase], number(count)));
    }
    for usage in &look.usage {
        let of = &usage.of;
        let labels = [of.namespace.as_str(), &of.pod, &of.container];
        let memory = number(usage.working_set_bytes);
        samples.push(Sample::new("container_cpu_usage_seconds_total", &labels, usage.cpu_seconds));
        samples.push(Sample::new("container_memory_working_set_bytes", &labels, memory));
    }
    samples
}
