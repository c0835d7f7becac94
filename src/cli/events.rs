//! `mainstay events`

use super::{
    Common, Error,
    client::{Client, quoted},
    output, text,
};
use crate::report::EventLine;

/// List what happened lately, the latest last
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// One namespace instead of all
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let path = match &verb.namespace {
        Some(namespace) => format!("/mainstay/v1/events?namespace={}", quoted(namespace)),
        None => "/mainstay/v1/events".to_owned(),
    };
    let lines: Vec<EventLine> = Client::find(&verb.common)?.get(&path).await?;
    output::print(verb.common.output, &lines, |lines| text::events(lines))
}
