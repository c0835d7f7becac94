//! The first admission of 10,000 small objects, against reading and parsing their blobs in one
//! thread. Also how much memory the server takes and when the status branch shows it all.
//! Run with `cargo bench -- admission`.

use std::{path::Path, time::Instant};

use crate::common::{self, Result};

/// Pairs of one admission and one plain reading, each in a process of its own.
const PAIRS: usize = 5;

pub(crate) fn run() -> Result<()> {
    match common::part() {
        Some((part, dir)) if part == "parse" => parse(&dir),
        Some((_, dir)) => tokio::runtime::Runtime::new()?.block_on(admit(&dir)),
        None => measure(),
    }
}

fn measure() -> Result<()> {
    common::title("admission: 10,000 small objects, one file each");
    let dir = tempfile::tempdir()?;
    let (mut ours, mut theirs, mut peaks, mut shown) = (vec![], vec![], vec![], vec![]);
    let repository = dir.path().join("repo.git");
    for _ in 0..PAIRS {
        // A repository that mainstay has written nothing to yet.
        common::repository(&repository)?;
        theirs.push(common::run_part("parse", dir.path())?["ms"]);
        let admitted = common::run_part("admit", dir.path())?;
        ours.push(admitted["ms"]);
        peaks.push(admitted["peak_mib"]);
        shown.push((admitted["shown_ms"], admitted["peak_shown_mib"], admitted["rss_mib"]));
        std::fs::remove_dir_all(&repository)?;
    }
    common::compare(("admitted", &ours), ("blobs read and parsed", &theirs), 3.0);
    let peak = common::median(&peaks);
    let verdict = if peak <= 200.0 { "reached" } else { "NOT reached" };
    eprintln!("peak resident memory at the admission: {peak:.0} MiB (at most 200: {verdict})");
    for (ms, peak, rss) in shown {
        eprintln!("status branch {ms:.0} ms later; peak {peak:.0} MiB, resident then {rss:.0} MiB");
    }
    Ok(())
}

/// What the figure is held against: every blob, through the same parser, to plain values.
fn parse(dir: &Path) -> Result<()> {
    let repo = git2::Repository::open_bare(dir.join("repo.git"))?;
    let begun = Instant::now();
    let tree = repo.find_reference("refs/heads/main")?.peel_to_tree()?;
    let mut blobs = Vec::new();
    tree.walk(git2::TreeWalkMode::PreOrder, |_, entry| {
        if entry.kind() == Some(git2::ObjectType::Blob) {
            blobs.push(entry.id());
        }
        git2::TreeWalkResult::Ok
    })?;
    let mut documents = 0;
    for id in blobs {
        let blob = repo.find_blob(id)?;
        documents += mainstay::render::documents(blob.content()).map_err(|f| f.message)?.len();
    }
    assert_eq!(documents, common::OBJECTS);
    println!("ms={}", common::ms(begun.elapsed()));
    Ok(())
}

async fn admit(dir: &Path) -> Result<()> {
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    }
    let repository = dir.join("repo.git");
    let commit = common::head(&repository)?;
    let own = tempfile::tempdir_in(dir)?;
    common::keys(own.path())?;
    let server = common::server(own.path(), &repository).await?;
    let begun = Instant::now();
    common::until(&server, |view| common::runs(view, &commit)).await?;
    println!("ms={}", common::ms(begun.elapsed()));
    println!("peak_mib={}", common::memory_mib("VmHWM"));
    let revision = server.store().view().head().map(|h| h.revision).unwrap_or_default();
    let shown = common::until(&server, |view| view.exported() >= revision).await?;
    println!("shown_ms={}", common::ms(shown));
    println!("peak_shown_mib={}", common::memory_mib("VmHWM"));
    println!("rss_mib={}", common::memory_mib("VmRSS"));
    server.stop().await;
    Ok(())
}
