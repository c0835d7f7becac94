//! `mainstay rollback [<rev>]`

use super::{
    Common, Error,
    client::{Client, quoted},
    output,
};
use crate::api::talk::RollbackReport;

/// Go back to the last healthy commit, or to the one named
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// The commit to go back to; when absent the last one that was healthy
    revision: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let path = match &verb.revision {
        Some(revision) => format!("/mainstay/v1/rollback?revision={}", quoted(revision)),
        None => "/mainstay/v1/rollback".to_owned(),
    };
    let report: RollbackReport = Client::find(&verb.common)?.post(&path).await?;
    output::print(verb.common.output, &report, |report| format!("{}\n", report.commit))?;
    output::say(&format!("pushed; follow it with: mainstay wait --commit {}", report.commit));
    Ok(())
}
