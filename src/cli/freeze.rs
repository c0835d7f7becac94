//! `mainstay freeze` and `mainstay thaw`

use std::time::Duration;

use super::{Common, Error, client::Client, output};
use crate::api::{FreezeReport, FreezeRequest};

/// How long a commit may take, with those before it.
const COMMIT_SECONDS_MAX: u64 = 70;

/// Hold every change for a while, by a commit that says why
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// How long: 30m, 2h
    #[arg(long = "for", value_name = "TIME", value_parser = super::wait::duration)]
    length: Duration,
    /// Why; whoever is held reads it
    #[arg(long)]
    reason: String,
    /// Folder or file whose objects stay as they are; may be given several times
    #[arg(long = "path")]
    paths: Vec<String>,
    /// Namespace whose objects stay as they are; may be given several times
    #[arg(short, long = "namespace")]
    namespaces: Vec<String>,
    /// Source whose commits are held, all unless named; may be given several times
    #[arg(long = "source")]
    sources: Vec<String>,
    /// Name of the freeze
    #[arg(long, default_value = "freeze")]
    name: String,
    #[command(flatten)]
    common: Common,
}

/// End a freeze before its time, by a commit
#[derive(clap::Args, Debug)]
pub(super) struct Thaw {
    /// Name of the freeze
    #[arg(long, default_value = "freeze")]
    name: String,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let request = FreezeRequest {
        name: verb.name.clone(),
        seconds: Some(verb.length.as_secs()),
        reason: verb.reason.clone(),
        paths: verb.paths.clone(),
        namespaces: verb.namespaces.clone(),
        sources: verb.sources.clone(),
    };
    let report = ask(&verb.common, &request).await?;
    let until = report.until.unwrap_or_default();
    output::say(&format!("frozen until {until}; end it with: mainstay thaw"));
    Ok(())
}

pub(super) async fn thaw(verb: &Thaw) -> Result<(), Error> {
    let request = FreezeRequest { name: verb.name.clone(), ..FreezeRequest::default() };
    ask(&verb.common, &request).await.map(drop)
}

async fn ask(common: &Common, request: &FreezeRequest) -> Result<FreezeReport, Error> {
    let body = serde_json::to_vec(request).map_err(|e| Error::ours(e.to_string()))?;
    let client = Client::find(common)?;
    let report: FreezeReport =
        client.upload("/mainstay/v1/freeze", body, COMMIT_SECONDS_MAX).await?;
    output::print(common.output, &report, |report| format!("{}\n", report.commit))?;
    Ok(report)
}
