//! `mainstay plan <rev>`

use super::{
    Common, Error,
    client::{Client, quoted},
    output,
};
use crate::report::{PlanReport, plan_text};

/// Show what a revision of the repository would change
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// Branch, tag or commit of the repository the cluster follows
    revision: String,
    /// Merge it into the commit that runs first, as a plan note on a branch does
    #[arg(long)]
    merged: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let (revision, merged) = (quoted(&verb.revision), verb.merged);
    let path = format!("/mainstay/v1/plan?revision={revision}&merged={merged}");
    let report: PlanReport = Client::find(&verb.common)?.get(&path).await?;
    output::print(verb.common.output, &report, plan_text)?;
    match report.problems.len() {
        0 => Ok(()),
        n => Err(Error::no(format!("it would be refused: {n} problems"))),
    }
}
