//! A write through the API to what Git owns, until it is admitted, against a `git push` of the same
//! change. Run with `cargo bench -- write`.

use std::{path::Path, process::Command, time::Instant};

use crate::common::{self, Result, http::Client};

/// Pairs of a write and a push, after one that is not measured.
const PAIRS: usize = 30;

pub(crate) fn run() -> Result<()> {
    common::title("write: a change through the API to what Git owns, to admitted");
    let dir = tempfile::tempdir()?;
    common::keys(dir.path())?;
    tokio::runtime::Runtime::new()?.block_on(measure(dir.path()))
}

fn manifest(word: &str) -> String {
    format!(
        "# What the shop reads.\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, \
         namespace: default}}\ndata:\n  word: {word}   # changes\n"
    )
}

async fn measure(dir: &Path) -> Result<()> {
    let repository = dir.join("repo.git");
    let files = [("apps/settings.yaml".to_owned(), manifest("first"))];
    let first = common::repository_of(&repository, files.into_iter())?;
    let server = common::server(dir, &repository).await?;
    common::until(&server, |view| common::runs(view, &first)).await?;
    // The peer: a repository of its own, which nobody follows.
    common::git(dir, &["clone", "-q", "--bare", "repo.git", "peer.git"])?;
    common::git(dir, &["clone", "-q", "peer.git", "desk"])?;
    let desk = dir.join("desk");
    for (key, value) in [("user.name", "Ann"), ("user.email", "ann@example.org")] {
        common::git(&desk, &["config", key, value])?;
    }
    let mut connection = Client::new(dir, server.api)?.connect().await?;
    let path = "/api/v1/namespaces/default/configmaps/settings";
    let (mut ours, mut theirs) = (vec![], vec![]);
    for round in 0..=PAIRS {
        let word = format!("round-{round}");
        let body = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": { "word": word },
            "metadata": { "name": "settings", "namespace": "default" },
        });
        let body = serde_json::to_vec(&body)?;
        let begun = Instant::now();
        connection.put(path, &body).await?;
        let took = common::ms(begun.elapsed());
        std::fs::write(desk.join("apps/settings.yaml"), manifest(&word))?;
        common::git(&desk, &["commit", "-q", "-a", "-m", "Change settings"])?;
        let begun = Instant::now();
        let push = Command::new("git")
            .args(["push", "-q", "origin", "main"])
            .current_dir(&desk)
            .status()?;
        if !push.success() {
            return Err("git push failed".into());
        }
        if round > 0 {
            ours.push(took);
            theirs.push(common::ms(begun.elapsed()));
        }
    }
    let told = common::git(&repository, &["show", "main:apps/settings.yaml"])?;
    assert_eq!(told, manifest(&format!("round-{PAIRS}")).trim_end());
    common::compare(("write through the API", &ours), ("git push", &theirs), 3.0);
    server.stop().await;
    Ok(())
}
