//! An agent's metrics: what it knows of itself, in the words of the one list.

use std::sync::Arc;

use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{agent::Health, api, report::Sample};

/// Serves `/metrics` until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    health: watch::Receiver<Health>,
    stop: CancellationToken,
) {
    let source = Arc::new(move || samples(&health.borrow()));
    let served = axum::serve(listener, api::metrics_router(source))
        .with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!(event = "metrics listener ended", %error);
    }
}

fn samples(health: &Health) -> Vec<Sample> {
    let number = |n: u64| n as f64;
    let mut samples = vec![
        Sample::new("mainstay_agent_session_up", &[], f64::from(u8::from(health.session))),
        Sample::new("mainstay_agent_generation", &[], number(health.generation.0)),
        Sample::new("mainstay_agent_rules_generation", &[], number(health.programmed.0)),
    ];
    for (phase, count) in &health.pods {
        samples.push(Sample::new("mainstay_agent_pods", &[phase], number(*count)));
    }
    samples
}
