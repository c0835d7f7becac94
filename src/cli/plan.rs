//! `mainstay plan <rev>`

use super::{
    Common, Error,
    client::{Client, quoted},
    output, text,
};
use crate::report::PlanReport;

/// Show what a revision of the repository would change
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// Branch, tag or commit of the repository the cluster follows
    revision: String,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let path = format!("/mainstay/v1/plan?revision={}", quoted(&verb.revision));
    let report: PlanReport = Client::find(&verb.common)?.get(&path).await?;
    output::print(verb.common.output, &report, text::plan)?;
    match report.problems.len() {
        0 => Ok(()),
        n => Err(Error::no(format!("it would be refused: {n} problems"))),
    }
}
