//! `mainstay tree`

use super::{Common, Error, client::Client, output};
use crate::report::{TreeReport, tree_text};

/// Show the commit that runs, its objects, and what was made of them, down to the pods
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let report: TreeReport = Client::find(&verb.common)?.get("/mainstay/v1/tree").await?;
    output::print(verb.common.output, &report, tree_text)
}
