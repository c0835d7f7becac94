//! One changed file among 10,000: the processor time from the look at the remote to the admitted
//! commit, against `git diff-tree` on the two trees. Run with `cargo bench -- onefile`.

use std::{path::Path, process::Command, time::Instant};

use crate::common::{self, Result};
use mainstay::model::CommitId;

/// Commits that are measured, after a first one that is not: it may still list everything.
const ROUNDS: usize = 9;

/// Runs of git together, since the kernel counts a child's time in hundredths of a second.
const GIT_RUNS: usize = 50;

pub(crate) fn run() -> Result<()> {
    common::title("onefile: one changed file among 10,000, processor time");
    let dir = tempfile::tempdir()?;
    common::repository(&dir.path().join("repo.git"))?;
    tokio::runtime::Runtime::new()?.block_on(measure(dir.path()))
}

async fn measure(dir: &Path) -> Result<()> {
    let repository = dir.join("repo.git");
    let first = common::head(&repository)?;
    let own = tempfile::tempdir_in(dir)?;
    common::keys(own.path())?;
    let server = common::server(own.path(), &repository).await?;
    common::until(&server, |view| common::runs(view, &first)).await?;
    let (mut ours, mut theirs, mut walls, mut before) = (vec![], vec![], vec![], first);
    for round in 0..=ROUNDS {
        common::settle(&server).await?;
        let i = (round * 997 + 2) % common::OBJECTS;
        let change = (common::file(i), common::object(i, &format!("round-{round}")));
        let next = common::prepare(&repository, &before, std::iter::once(change))?;
        let git = diff_tree_ms(&repository, &before, &next)?;
        let (cpu, begun) = (common::cpu_ms(), Instant::now());
        common::move_branch(&repository, &next)?;
        common::until(&server, |view| common::runs(view, &next)).await?;
        if round > 0 {
            ours.push(common::cpu_ms() - cpu);
            walls.push(common::ms(begun.elapsed()));
            theirs.push(git);
        }
        before = next;
    }
    common::compare(
        ("look to admitted, processor time", &ours),
        ("git diff-tree, processor time", &theirs),
        5.0,
    );
    eprintln!("from the moved ref to the admitted commit: {:.1} ms", common::median(&walls));
    eprintln!("resident memory: {:.0} MiB", common::memory_mib("VmRSS"));
    server.stop().await;
    Ok(())
}

/// The processor time of one `git diff-tree`, with its start.
fn diff_tree_ms(repository: &Path, from: &CommitId, to: &CommitId) -> Result<f64> {
    let line = format!(
        "for i in $(seq {GIT_RUNS}); do git diff-tree -r {from} {to} >/dev/null || exit 1; done; \
         cat /proc/$$/stat"
    );
    let output = Command::new("sh").args(["-c", &line]).current_dir(repository).output()?;
    let text = String::from_utf8(output.stdout)?;
    let (_, fields) = text.rsplit_once(") ").ok_or("git diff-tree failed")?;
    // `cutime` and `cstime`, proc(5); a tick is 10 ms.
    let ticks = fields.split(' ').skip(13).take(2).map(|n| n.parse::<f64>());
    Ok(ticks.sum::<std::result::Result<f64, _>>()? * 10.0 / GIT_RUNS as f64)
}
