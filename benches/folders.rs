//! A monorepo: a change in one of many folders, an image raised in a thousand of them, and the
//! first admission of 10,000 Deployments with their Services. Run with `cargo bench -- folders`,
//! `bump` or `pairs`.

use std::{path::Path, time::Instant};

use k8s_openapi::api::apps::v1::Deployment;
use mainstay::{server::Server, state::View};

use crate::common::{self, Result};

/// Folders of one ConfigMap each.
const FOLDERS: [usize; 3] = [1_000, 10_000, 50_000];
/// Pushes that are measured in each repository, after one that is not.
const PUSHES: usize = 30;
/// Folders whose image is raised by one commit.
const BUMPED: usize = 1_000;
/// How often it is raised.
const BUMPS: usize = 3;
/// Deployments that come with the first commit, each with a Service.
const PAIRS: usize = 10_000;

pub(crate) fn run() -> Result<()> {
    common::title("folders: a change in one of many, to admitted");
    let runtime = tokio::runtime::Runtime::new()?;
    let mut medians = Vec::new();
    for folders in FOLDERS {
        let times = runtime.block_on(one_change(folders))?;
        let worst = times.iter().copied().fold(0.0, f64::max);
        let verdict = if worst < 1000.0 { "reached" } else { "NOT reached" };
        let median = common::median(&times);
        eprintln!(
            "{folders:6} folders: median {median:.1} ms, worst {worst:.1} ms (below 1000: {verdict})"
        );
        medians.push(median);
    }
    eprintln!("50,000 folders to 1,000: {:.2} times", medians[2] / medians[0]);
    Ok(())
}

pub(crate) fn bumped() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    common::title("bump: an image raised in 1,000 folders, to every Deployment updated");
    for (updated, shown, commits) in runtime.block_on(bump())? {
        let verdict = if updated < 3000.0 && commits == 1 { "reached" } else { "NOT reached" };
        eprintln!(
            "updated after {updated:.0} ms (below 3000), shown after {shown:.0} ms by {commits} \
             status commits (1): {verdict}"
        );
    }
    Ok(())
}

pub(crate) fn pairs() -> Result<()> {
    common::title("pairs: 10,000 Deployments and 10,000 Services, first admission");
    let dir = tempfile::tempdir()?;
    let both = |i: usize| {
        let texts = [common::object(4 * i + 1, "first"), common::object(4 * i, "first")];
        texts.into_iter().enumerate().map(move |(n, text)| (format!("app-{i:05}/{n}.yaml"), text))
    };
    common::repository_of(&dir.path().join("repo.git"), (0..PAIRS).flat_map(both))?;
    let admitted = common::run_part("admit", dir.path())?;
    let verdict = if admitted["ms"] < 5000.0 && admitted["peak_mib"] < 150.0 {
        "reached"
    } else {
        "NOT reached"
    };
    eprintln!(
        "admitted after {:.0} ms (below 5000), peak {:.0} MiB (below 150): {verdict}",
        admitted["ms"], admitted["peak_mib"]
    );
    eprintln!(
        "status branch {:.0} ms later; peak {:.0} MiB, resident then {:.0} MiB",
        admitted["shown_ms"], admitted["peak_shown_mib"], admitted["rss_mib"]
    );
    Ok(())
}

fn map(i: usize, word: &str) -> (String, String) {
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: map-{i:05}\ndata:\n  word: {word}\n"
    );
    (format!("team-{:03}/app-{i:05}/map.yaml", i / 100), text)
}

/// From the moved branch to the admitted commit, in milliseconds.
async fn one_change(folders: usize) -> Result<Vec<f64>> {
    let dir = tempfile::tempdir()?;
    let repository = dir.path().join("repo.git");
    let mut before = common::repository_of(&repository, (0..folders).map(|i| map(i, "first")))?;
    let server = started(dir.path(), &repository).await?;
    common::until(&server, |view| common::runs(view, &before)).await?;
    let mut times = Vec::new();
    for round in 0..=PUSHES {
        common::settle(&server).await?;
        let change = map((round * 997 + 2) % folders, &format!("round-{round}"));
        let next = common::prepare(&repository, &before, std::iter::once(change))?;
        let begun = Instant::now();
        common::move_branch(&repository, &next)?;
        common::until(&server, |view| common::runs(view, &next)).await?;
        if round > 0 {
            times.push(common::ms(begun.elapsed()));
        }
        before = next;
    }
    server.stop().await;
    Ok(times)
}

async fn started(dir: &Path, repository: &Path) -> Result<Server> {
    let own = dir.join("server");
    std::fs::create_dir_all(&own)?;
    common::keys(&own)?;
    common::server(&own, repository).await
}

/// What a folder holds: an account, settings, a Service, and a Deployment that wants no pod.
fn app(i: usize, tag: usize) -> [(String, String); 2] {
    let settings = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: app-{i:04}}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: app-{i:04}}}\ndata: {{mode: fast}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: app-{i:04}}}\n\
         spec: {{selector: {{app: app-{i:04}}}, ports: [{{port: 80}}]}}\n"
    );
    [(format!("app-{i:04}/settings.yaml"), settings), deployment(i, tag)]
}

fn deployment(i: usize, tag: usize) -> (String, String) {
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: app-{i:04}}}\nspec:\n  \
         replicas: 0\n  selector: {{matchLabels: {{app: app-{i:04}}}}}\n  template:\n    \
         metadata: {{labels: {{app: app-{i:04}}}}}\n    spec:\n      \
         serviceAccountName: app-{i:04}\n      containers:\n      \
         - {{name: app, image: 'example.org/app:{tag}'}}\n"
    );
    (format!("app-{i:04}/deployment.yaml"), text)
}

/// Milliseconds until every Deployment is updated and until the branch shows it, and the status
/// commits that took, for each time the image was raised.
async fn bump() -> Result<Vec<(f64, f64, usize)>> {
    let dir = tempfile::tempdir()?;
    let repository = dir.path().join("repo.git");
    let mut before = common::repository_of(&repository, (0..BUMPED).flat_map(|i| app(i, 0)))?;
    let server = started(dir.path(), &repository).await?;
    common::until(&server, |view| common::runs(view, &before)).await?;
    let mut figures = Vec::new();
    for tag in 1..=BUMPS {
        common::settle(&server).await?;
        let files = (0..BUMPED).map(|i| deployment(i, tag));
        let next = common::prepare(&repository, &before, files)?;
        let commits = status_commits(&repository)?;
        let begun = Instant::now();
        common::move_branch(&repository, &next)?;
        common::until(&server, |view| common::runs(view, &next) && updated(view)).await?;
        let updated = common::ms(begun.elapsed());
        let revision = server.store().view().revision();
        common::until(&server, |view| view.exported() >= revision).await?;
        let shown = common::ms(begun.elapsed());
        common::settle(&server).await?;
        figures.push((updated, shown, status_commits(&repository)? - commits));
        before = next;
    }
    server.stop().await;
    Ok(figures)
}

/// Whether the controller has looked at the newest of every Deployment.
fn updated(view: &View) -> bool {
    view.list::<Deployment>(None).all(|(_, deployment)| {
        let seen = deployment.status.as_ref().and_then(|status| status.observed_generation);
        seen >= deployment.metadata.generation
    })
}

fn status_commits(repository: &Path) -> Result<usize> {
    Ok(common::git(repository, &["rev-list", "--count", "mainstay/status"])?.parse()?)
}
