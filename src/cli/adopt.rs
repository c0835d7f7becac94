//! `mainstay adopt <object>`

use super::{
    Common, Error,
    client::{Client, quoted},
    output,
};
use crate::api::AdoptReport;

/// How long a commit may take, with those before it.
const COMMIT_SECONDS_MAX: u64 = 70;

/// Take a live object, or what was changed of it without a commit, into Git
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// Kind and name: deployment/web, cm/settings
    object: String,
    /// Its namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Print what would be committed, and commit nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let (object, namespace, dry_run) =
        (quoted(&verb.object), quoted(&verb.namespace), verb.dry_run);
    let path = format!("/mainstay/v1/adopt?object={object}&namespace={namespace}&dryRun={dry_run}");
    let client = Client::find(&verb.common)?;
    let report: AdoptReport = client.ask(hyper::Method::POST, &path, COMMIT_SECONDS_MAX).await?;
    output::print(verb.common.output, &report, text)?;
    if report.commit.is_some() {
        output::say(&format!("{} stands in {} now", report.object, report.file));
    }
    Ok(())
}

/// The commit, or what it would be.
fn text(report: &AdoptReport) -> String {
    match (&report.commit, &report.patch) {
        (Some(commit), _) => format!("{commit}\n"),
        (None, patch) => patch.clone().unwrap_or_default(),
    }
}
