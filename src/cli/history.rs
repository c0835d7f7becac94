//! `mainstay history`

use super::{
    Common, Error,
    client::{Client, quoted},
    output, text,
};
use crate::{model::MAIN_SOURCE, report::CommitLine};

/// List the commits the cluster has seen, the newest first
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// The source whose commits are listed
    #[arg(long, default_value = MAIN_SOURCE)]
    source: String,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let path = format!("/mainstay/v1/commits?source={}", quoted(&verb.source));
    let lines: Vec<CommitLine> = Client::find(&verb.common)?.get(&path).await?;
    output::print(verb.common.output, &lines, |lines| text::history(lines))
}
