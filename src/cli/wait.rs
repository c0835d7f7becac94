//! `mainstay wait --commit <sha>`

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    Common, Error, Kind,
    client::{Client, quoted},
    output, text,
};
use crate::{
    model::{CommitId, MAIN_SOURCE},
    report::{WaitOutcome, WaitReport},
};

/// Longest that one request waits; a new one finds the new leader when a server goes away.
const STEP_SECONDS_MAX: u64 = 30;
/// How much later than the server the client gives up, for the way.
const SLACK_SECONDS: u64 = 5;
/// How often a cluster that does not answer is asked again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Wait until a commit, or one after it, is healthy
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// The full id of the commit
    #[arg(long)]
    commit: String,
    /// The source whose commit it is
    #[arg(long, default_value = MAIN_SOURCE)]
    source: String,
    /// How long to wait: 60s, 5m
    #[arg(long, default_value = "60s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let commit = CommitId::parse(&verb.commit).ok_or_else(|| {
        Error::yours(format!("{:?} is not a full commit id", verb.commit))
            .hint("git rev-parse prints it: mainstay wait --commit $(git rev-parse HEAD)")
    })?;
    let client = Client::find(&verb.common)?;
    let progress = progress(&commit);
    let report = until(&client, (&commit, &verb.source), verb.timeout, &progress).await;
    progress.finish_and_clear();
    let report = report?;
    output::print(verb.common.output, &report, text::wait)?;
    match report.outcome {
        WaitOutcome::Healthy => Ok(()),
        WaitOutcome::Failed => Err(Error::no(text::why_not(&report))),
        WaitOutcome::Pending => {
            let time = verb.timeout.as_secs();
            Err(Error::no(format!("not healthy within {time}s: {}", text::why_not(&report))))
        }
    }
}

/// Asks until there is an answer or the time is over. A server that goes away meanwhile is asked
/// again.
async fn until(
    client: &Client,
    (commit, source): (&CommitId, &str),
    timeout: Duration,
    progress: &ProgressBar,
) -> Result<WaitReport, Error> {
    let end = Instant::now() + timeout;
    let mut retry = tokio::time::interval(RETRY_EVERY);
    retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        retry.tick().await;
        let left = end.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
        let step = (left as u64).min(STEP_SECONDS_MAX);
        let path = format!("/mainstay/v1/commits/{commit}/wait?timeoutSeconds={step}");
        let path = format!("{path}&source={}", quoted(source));
        let report: Result<WaitReport, Error> =
            client.ask(Method::GET, &path, step + SLACK_SECONDS).await;
        let over = Instant::now() >= end;
        match report {
            Ok(report) if report.outcome != WaitOutcome::Pending || over => return Ok(report),
            Ok(report) => progress.set_message(report.message),
            Err(error) if error.kind != Kind::We => return Err(error),
            Err(error) if over => {
                let message = format!("not healthy within {}s: {error}", timeout.as_secs());
                return Err(Error { kind: Kind::No, message, hint: error.hint });
            }
            Err(error) => progress.set_message(error.message),
        }
    }
}

/// A spinner when a terminal looks on, nothing otherwise.
fn progress(commit: &CommitId) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.set_message(format!("waiting for {}", commit.short()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// `60`, `60s`, `5m`, `1h`, `500ms`
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("{text:?} is not a time: write 60s, 5m or 1h");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}
