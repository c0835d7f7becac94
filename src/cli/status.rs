//! `mainstay status`

use super::{Common, Error, client::Client, output, text};
use crate::report::ClusterStatus;

/// Show which commit the cluster runs and how it fares
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let status: ClusterStatus = Client::find(&verb.common)?.get("/mainstay/v1/status").await?;
    output::print(verb.common.output, &status, text::status)
}
