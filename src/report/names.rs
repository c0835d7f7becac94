//! What the cluster says of its sources in the words of Flux and of Argo CD, so that dashboards and
//! alerts made for those find data. Every value is one of ours under another name.

use super::{
    Sample, Spread,
    cluster::{newest_commit, running, without_credentials},
    samples::tally,
};
use crate::{
    kinds::{COMMIT_SECONDS, CommitState, CommitTally, GitSource, GitSourceSpec},
    model::CommitId,
    state::{MAIN_SOURCE, View},
};

/// Where sources are said to be: they are in no namespace, and the dashboards ask for one.
const NAMESPACE: &str = "mainstay";
/// Argo CD's name of the cluster it runs in.
const SERVER: &str = "https://kubernetes.default.svc";
/// Argo CD's name of what is in no project.
const PROJECT: &str = "default";

/// One source, as both see it.
struct Followed<'a> {
    name: &'a str,
    spec: &'a GitSourceSpec,
    /// The newest commit seen.
    observed: Option<&'a str>,
    /// The commit the cluster runs.
    head: Option<&'a CommitId>,
    /// Whether the remote answers.
    answers: bool,
    health: Health,
    /// A freeze holds its newest commit.
    is_held: bool,
}

/// How what the cluster runs of a source fares.
#[derive(Clone, Copy, PartialEq)]
enum Health {
    Missing,
    Progressing,
    Healthy,
    Degraded,
}

impl<'a> Followed<'a> {
    fn all(view: &'a View) -> impl Iterator<Item = Self> {
        // One that is taken by unit runs nothing: its units do.
        let all = view.list::<GitSource>(None).filter(|(_, source)| !source.spec.is_by_unit());
        all.map(|(object, source)| {
            let name = object.key().name.as_str();
            let newest = newest_commit(view).filter(|_| name == MAIN_SOURCE);
            Self {
                name,
                spec: &source.spec,
                observed: source.status.observed_commit.as_deref(),
                head: view.head_of(name).map(|head| &head.commit),
                answers: condition(asked(view, source), "SourceReady") == Some("True"),
                health: health(view, name, source),
                is_held: newest.is_some_and(|commit| commit.status.state == CommitState::Held),
            }
        })
    }

    /// `main@sha1:<id>`, as Flux writes a commit of a branch.
    fn revision(&self, commit: &str) -> String {
        let reference = &self.spec.reference;
        let of = reference.branch.as_ref().or(reference.tag.as_ref());
        let of = of.map(|name| format!("{name}@")).unwrap_or_default();
        format!("{of}sha1:{commit}")
    }

    fn is_synced(&self) -> bool {
        self.head.is_some_and(|head| Some(head.as_str()) == self.observed)
    }
}

/// The source that asks the remote: of a unit, the one it is of.
fn asked<'a>(view: &'a View, source: &'a GitSource) -> &'a GitSource {
    let parent = source.parent().and_then(|parent| view.get::<GitSource>("", parent));
    parent.unwrap_or(source)
}

fn condition<'a>(source: &'a GitSource, kind: &str) -> Option<&'a str> {
    let mut found = source.status.conditions.iter().filter(|c| c.type_ == kind);
    found.next().map(|condition| condition.status.as_str())
}

/// Of the main source its commit knows; of the others their own condition.
fn health(view: &View, name: &str, source: &GitSource) -> Health {
    if view.head_of(name).is_none() {
        return Health::Missing;
    }
    let state = running(view).map(|commit| commit.status.state);
    match (name == MAIN_SOURCE, state, condition(source, "Ready")) {
        (true, Some(CommitState::Healthy), _) | (false, _, Some("True")) => Health::Healthy,
        (true, Some(CommitState::Degraded), _) | (false, _, Some("False")) => Health::Degraded,
        _ => Health::Progressing,
    }
}

/// The samples of `GET /metrics/flux`.
pub fn flux(view: &View) -> Vec<Sample> {
    let mut out = Vec::new();
    for source in Followed::all(view) {
        let (url, suspended) = (without_credentials(&source.spec.url), source.spec.suspend);
        let mut info = |group: &str, kind: &str, ready: &str, suspended: bool, rest: [&str; 3]| {
            let group = format!("{group}.toolkit.fluxcd.io");
            let suspended = suspended.to_string();
            let labels = [&group, kind, "v1", NAMESPACE, source.name, ready, &suspended];
            let labels: Vec<&str> = labels.into_iter().chain(rest).collect();
            out.push(Sample::new("gotk_resource_info", &labels, 1.0));
        };
        let answers = if source.answers { "True" } else { "False" };
        let seen = source.observed.map(|id| source.revision(id)).unwrap_or_default();
        info("source", "GitRepository", answers, suspended, [&seen, &url, ""]);
        let runs = source.head.map(|id| source.revision(id.as_str())).unwrap_or_default();
        let suspended = suspended || source.is_held;
        info("kustomize", "Kustomization", ready(&source), suspended, [&runs, "", source.name]);
    }
    if view.head().is_some() {
        let labels = ["Kustomization", MAIN_SOURCE, NAMESPACE];
        let (sum, spread) = spread(&main_tally(view));
        out.push(Sample::histogram("gotk_reconcile_duration_seconds", &labels, sum, spread));
    }
    out
}

/// What is newest at the source has to run, and to run well; a freeze is no failure.
fn ready(source: &Followed<'_>) -> &'static str {
    match source.health {
        Health::Progressing | Health::Missing => "Unknown",
        Health::Healthy if source.is_synced() || source.is_held => "True",
        Health::Healthy | Health::Degraded => "False",
    }
}

fn main_tally(view: &View) -> CommitTally {
    tally(view.commits_of(MAIN_SOURCE).map(|(.., commit)| commit))
}

/// From seen to the end, for each commit of the main source.
fn spread(tally: &CommitTally) -> (f64, Spread) {
    let mut count = 0;
    let below = |(bound, within): (&f64, &u64)| {
        count += within;
        (*bound, count)
    };
    let none = [0; COMMIT_SECONDS.len()];
    let took = if tally.took.is_empty() { &none[..] } else { &tally.took };
    let buckets = COMMIT_SECONDS.iter().zip(took).map(below).collect();
    (tally.took_ms as f64 / 1000.0, Spread { buckets, count: took.iter().sum() })
}

/// The samples of `GET /metrics/argocd`.
pub fn argocd(view: &View) -> Vec<Sample> {
    let mut out: Vec<Sample> = Followed::all(view).map(|source| app(&source)).collect();
    if view.head().is_none() {
        return out;
    }
    let tally = main_tally(view);
    let failed = tally.failed.values().sum();
    let phases = [("Error", tally.refused), ("Failed", failed), ("Succeeded", tally.succeeded)];
    for (phase, count) in phases {
        let labels = [NAMESPACE, MAIN_SOURCE, PROJECT, SERVER, phase, "false"];
        out.push(Sample::new("argocd_app_sync_total", &labels, count as f64));
    }
    out
}

fn app(source: &Followed<'_>) -> Sample {
    let repo = without_credentials(&source.spec.url);
    let into = match source.spec.namespaces.as_slice() {
        [one] => one.as_str(),
        _ => "",
    };
    let autosync = (!source.spec.suspend).to_string();
    let sync = match (source.answers, source.is_synced()) {
        (false, _) => "Unknown",
        (true, true) => "Synced",
        (true, false) => "OutOfSync",
    };
    let health = match source.health {
        Health::Missing => "Missing",
        Health::Progressing => "Progressing",
        Health::Healthy if source.spec.suspend || source.is_held => "Suspended",
        Health::Healthy => "Healthy",
        Health::Degraded => "Degraded",
    };
    let operation = if source.health == Health::Progressing { "sync" } else { "" };
    let who = [NAMESPACE, source.name, PROJECT, &autosync, &repo, SERVER, into];
    let labels: Vec<&str> = who.into_iter().chain([sync, health, operation]).collect();
    Sample::new("argocd_app_info", &labels, 1.0)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::report::fixture::{Cluster, SECOND, START};

    fn check(samples: &[Sample], expect: Expect) {
        let line = |sample: &Sample| {
            let labels = sample.metric.labels.iter().zip(&sample.labels);
            let labels = labels.filter(|(_, value)| !value.is_empty());
            let labels: Vec<String> = labels.map(|(name, v)| format!("{name}={v}")).collect();
            format!("{}{{{}}} {}\n", sample.metric.name, labels.join(" "), sample.value)
        };
        expect.assert_eq(&samples.iter().map(line).collect::<String>());
    }

    #[test]
    fn a_healthy_cluster_in_the_words_of_both() {
        let cluster = Cluster::web();
        check(
            &flux(cluster.state.view()),
            expect![[r#"
            gotk_resource_info{customresource_group=source.toolkit.fluxcd.io customresource_kind=GitRepository customresource_version=v1 exported_namespace=mainstay name=main ready=True suspended=false revision=main@sha1:9f8e7d6000000000000000000000000000000001 url=https://git.example.org/shop.git} 1
            gotk_resource_info{customresource_group=kustomize.toolkit.fluxcd.io customresource_kind=Kustomization customresource_version=v1 exported_namespace=mainstay name=main ready=True suspended=false revision=main@sha1:9f8e7d6000000000000000000000000000000001 source_name=main} 1
            gotk_reconcile_duration_seconds{kind=Kustomization name=main namespace=mainstay} 12.7
        "#]],
        );
        check(
            &argocd(cluster.state.view()),
            expect![[r#"
            argocd_app_info{namespace=mainstay name=main project=default autosync_enabled=true repo=https://git.example.org/shop.git dest_server=https://kubernetes.default.svc sync_status=Synced health_status=Healthy} 1
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Error dry_run=false} 0
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Failed dry_run=false} 0
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Succeeded dry_run=false} 1
        "#]],
        );
        let spread = flux(cluster.state.view()).pop().and_then(|sample| sample.spread).unwrap();
        assert_eq!((spread.count, spread.buckets[4], spread.buckets[5]), (1, (10.0, 0), (30.0, 1)));
    }

    #[test]
    fn what_is_refused_under_way_or_unreachable_is_told() {
        let mut cluster = Cluster::web();
        cluster.refuse();
        check(
            &flux(cluster.state.view()),
            expect![[r#"
            gotk_resource_info{customresource_group=source.toolkit.fluxcd.io customresource_kind=GitRepository customresource_version=v1 exported_namespace=mainstay name=main ready=True suspended=false revision=main@sha1:bad0bad000000000000000000000000000000003 url=https://git.example.org/shop.git} 1
            gotk_resource_info{customresource_group=kustomize.toolkit.fluxcd.io customresource_kind=Kustomization customresource_version=v1 exported_namespace=mainstay name=main ready=False suspended=false revision=main@sha1:9f8e7d6000000000000000000000000000000001 source_name=main} 1
            gotk_reconcile_duration_seconds{kind=Kustomization name=main namespace=mainstay} 13
        "#]],
        );
        check(
            &argocd(cluster.state.view()),
            expect![[r#"
            argocd_app_info{namespace=mainstay name=main project=default autosync_enabled=true repo=https://git.example.org/shop.git dest_server=https://kubernetes.default.svc sync_status=OutOfSync health_status=Healthy} 1
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Error dry_run=false} 1
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Failed dry_run=false} 0
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Succeeded dry_run=false} 1
        "#]],
        );
        let first = crate::report::fixture::FIRST;
        cluster.adopt(SECOND, Some(first), 3, "web:2");
        cluster.source(SECOND, false);
        check(
            &argocd(cluster.state.view()),
            expect![[r#"
            argocd_app_info{namespace=mainstay name=main project=default autosync_enabled=true repo=https://git.example.org/shop.git dest_server=https://kubernetes.default.svc sync_status=Unknown health_status=Progressing operation=sync} 1
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Error dry_run=false} 1
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Failed dry_run=false} 0
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Succeeded dry_run=false} 1
        "#]],
        );
    }

    #[test]
    fn a_held_commit_suspends_and_is_no_failure() {
        let mut cluster = Cluster::web();
        let hold = json!({ "freeze": "holidays", "untilAt": START + 9_000_000, "reason": "x" });
        let record = Cluster::record(SECOND, &json!({ "state": "Held", "hold": hold }));
        cluster.put(&record);
        cluster.source(SECOND, true);
        check(
            &flux(cluster.state.view()),
            expect![[r#"
            gotk_resource_info{customresource_group=source.toolkit.fluxcd.io customresource_kind=GitRepository customresource_version=v1 exported_namespace=mainstay name=main ready=True suspended=false revision=main@sha1:1a2b3c4000000000000000000000000000000002 url=https://git.example.org/shop.git} 1
            gotk_resource_info{customresource_group=kustomize.toolkit.fluxcd.io customresource_kind=Kustomization customresource_version=v1 exported_namespace=mainstay name=main ready=True suspended=true revision=main@sha1:9f8e7d6000000000000000000000000000000001 source_name=main} 1
            gotk_reconcile_duration_seconds{kind=Kustomization name=main namespace=mainstay} 12.7
        "#]],
        );
        check(
            &argocd(cluster.state.view()),
            expect![[r#"
            argocd_app_info{namespace=mainstay name=main project=default autosync_enabled=true repo=https://git.example.org/shop.git dest_server=https://kubernetes.default.svc sync_status=OutOfSync health_status=Suspended} 1
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Error dry_run=false} 0
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Failed dry_run=false} 0
            argocd_app_sync_total{namespace=mainstay name=main project=default dest_server=https://kubernetes.default.svc phase=Succeeded dry_run=false} 1
        "#]],
        );
    }

    #[test]
    fn an_empty_cluster_says_nothing() {
        let cluster = Cluster::empty();
        assert_eq!(flux(cluster.state.view()), []);
        assert_eq!(argocd(cluster.state.view()), []);
    }
}
