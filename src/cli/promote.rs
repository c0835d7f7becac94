//! `mainstay promote <branch>`

use super::{
    Common, Error,
    client::{Client, quoted},
    output,
};
use crate::api::talk::RollbackReport;

/// Bring a branch into the one that the cluster follows: forward where that is all, else by a merge
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// Branch, tag or commit to promote
    revision: String,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let path = format!("/mainstay/v1/promote?revision={}", quoted(&verb.revision));
    let report: RollbackReport = Client::find(&verb.common)?.post(&path).await?;
    output::print(verb.common.output, &report, |report| format!("{}\n", report.commit))?;
    output::say(&format!("pushed; follow it with: mainstay wait --commit {}", report.commit));
    Ok(())
}
