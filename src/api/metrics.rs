//! Samples as Prometheus text.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use futures_util::future::BoxFuture;
use prometheus::{
    CounterVec, Encoder, GaugeVec, Opts, Registry, TextEncoder,
    process_collector::ProcessCollector,
    proto::{self, Bucket, LabelPair, MetricFamily},
};

use super::{Api, Failure};
use crate::report::{
    LogFacts, Sample,
    metrics::{Metric, MetricType},
    names, samples,
};

/// The samples, and what the process says of itself (`process_…`), as Prometheus text.
///
/// Each scrape fills a registry of its own: the values follow from State, so there is nothing to
/// keep between scrapes and a series whose object is gone is gone. A sample that comes twice or has
/// the wrong labels is an error.
pub fn encode(samples: &[Sample]) -> Result<String, prometheus::Error> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    text(&registry, samples)
}

/// The samples, and what a registry has already.
fn text(registry: &Registry, samples: &[Sample]) -> Result<String, prometheus::Error> {
    let mut by_name: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        by_name.entry(sample.metric.name).or_default().push(sample);
    }
    let mut spreads = Vec::new();
    for family in by_name.values() {
        match family.first().map(|sample| sample.metric) {
            Some(metric) if metric.kind == MetricType::Histogram => {
                spreads.push(histogram(metric, family));
            }
            _ => register(registry, family)?,
        }
    }
    let mut text = Vec::new();
    let families = [registry.gather(), spreads].concat();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A histogram that was counted elsewhere; the registry only knows those it counts itself.
fn histogram(metric: &Metric, family: &[&Sample]) -> MetricFamily {
    let one = |sample: &&Sample| {
        let spread = sample.spread.clone().unwrap_or_default();
        let bucket = |(bound, count): &(f64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*count);
            bucket
        };
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(spread.count);
        histogram.set_sample_sum(sample.value);
        histogram.set_bucket(spread.buckets.iter().map(bucket).collect());
        let label = |(name, value): (&&str, &String)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone());
            pair
        };
        let mut of = proto::Metric::from_label(
            metric.labels.iter().zip(&sample.labels).map(label).collect(),
        );
        of.set_histogram(histogram);
        of
    };
    let mut found = MetricFamily::default();
    found.set_name(metric.name.to_owned());
    found.set_help(metric.help.to_owned());
    found.set_field_type(proto::MetricType::HISTOGRAM);
    found.set_metric(family.iter().map(one).collect());
    found
}

fn register(registry: &Registry, family: &[&Sample]) -> Result<(), prometheus::Error> {
    let Some(metric) = family.first().map(|sample| sample.metric) else { return Ok(()) };
    let options = Opts::new(metric.name, metric.help);
    let labels = |sample: &Sample| sample.labels.clone();
    match metric.kind {
        MetricType::Counter => {
            let counters = CounterVec::new(options, metric.labels)?;
            for sample in family {
                counters.get_metric_with_label_values(&labels(sample))?.inc_by(sample.value);
            }
            registry.register(Box::new(counters))
        }
        MetricType::Gauge => {
            let gauges = GaugeVec::new(options, metric.labels)?;
            for sample in family {
                gauges.get_metric_with_label_values(&labels(sample))?.set(sample.value);
            }
            registry.register(Box::new(gauges))
        }
        // Made by `histogram`.
        MetricType::Histogram => Ok(()),
    }
}

/// `GET /metrics` over samples that `source` gives at each scrape: what an agent serves.
pub fn metrics_router(
    source: Arc<dyn Fn() -> BoxFuture<'static, Vec<Sample>> + Send + Sync>,
) -> Router {
    let handler = move || async move { answer(&source().await) };
    Router::new().route("/metrics", get(handler)).route("/healthz", get(super::health::live))
}

async fn of_server(State(api): State<Api>) -> Result<impl IntoResponse, Failure> {
    let mut all = samples(&api.view(), api.backend.now());
    all.extend(of_log(&api.backend.log()));
    all.extend(api.backend.samples());
    all.extend(api.gate.samples());
    all.extend(api.shares.samples());
    all.extend(api.audit.samples());
    answer(&all)
}

/// `GET /metrics/flux`: a path of its own, so that who does not ask has no series twice.
async fn flux(State(api): State<Api>) -> Result<impl IntoResponse, Failure> {
    told(text(&Registry::new(), &names::flux(&api.view())))
}

/// `GET /metrics/argocd`
async fn argocd(State(api): State<Api>) -> Result<impl IntoResponse, Failure> {
    told(text(&Registry::new(), &names::argocd(&api.view())))
}

/// What servers serve of metrics.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/metrics", get(of_server))
        .route("/metrics/flux", get(flux))
        .route("/metrics/argocd", get(argocd))
}

fn answer(samples: &[Sample]) -> Result<impl IntoResponse + use<>, Failure> {
    told(encode(samples))
}

fn told(text: Result<String, prometheus::Error>) -> Result<impl IntoResponse, Failure> {
    let text = text.map_err(|e| Failure::internal(format!("metrics: {e}")))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

fn of_log(log: &LogFacts) -> Vec<Sample> {
    let voters = log.members.iter().filter(|member| member.voter).count();
    let learners = log.members.len() - voters;
    let leads = if log.role == "leader" { 1.0 } else { 0.0 };
    vec![
        Sample::new("mainstay_raft_term", &[], log.term as f64),
        Sample::new("mainstay_raft_last_log_index", &[], log.last_log_index as f64),
        Sample::new("mainstay_raft_applied_index", &[], log.applied_index as f64),
        Sample::new("mainstay_raft_leader", &[], leads),
        Sample::new("mainstay_raft_members", &["voter"], voters as f64),
        Sample::new("mainstay_raft_members", &["learner"], learners as f64),
    ]
}
