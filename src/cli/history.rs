//! `mainstay history`

use super::{Common, Error, client::Client, output, text};
use crate::report::CommitLine;

/// List the commits the cluster has seen, the newest first
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let lines: Vec<CommitLine> = Client::find(&verb.common)?.get("/mainstay/v1/commits").await?;
    output::print(verb.common.output, &lines, |lines| text::history(lines))
}
