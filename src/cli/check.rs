//! `mainstay check`

use super::{Common, Error, client::Client, output, text};
use crate::api::talk::CheckLine;

/// Check the invariants of the cluster's state
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let lines: Vec<CheckLine> = Client::find(&verb.common)?.get("/mainstay/v1/check").await?;
    output::print(verb.common.output, &lines, |lines| text::check(lines))?;
    match lines.iter().filter(|line| line.severity == "Broken").count() {
        0 => Ok(()),
        n => Err(Error::no(format!("{n} promises are broken"))),
    }
}
