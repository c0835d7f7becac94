//! Drops connection-tracking entries that the rules have outlived.
//!
//! In: the list made by `node::rules::stale`. Out: the entries are gone. Without the tool
//! `conntrack` (Debian package of that name) nothing is dropped; [`Conntrack::problem`] says so.

use std::time::Duration;

use super::command::{CommandError, Netns, run};
use crate::node::rules::{StaleFlow, UdpFronts, stale_entries};

/// Longest time for one call; a table of 262,144 entries is listed in a second.
const DEADLINE: Duration = Duration::from_secs(10);

/// Most flows dropped one by one in one go, at 3 ms each. More come when a large service goes at
/// once; what is left out runs out by itself after `nf_conntrack_udp_timeout_stream` (120 s).
const FLOWS_MAX: usize = 1_000;

/// The connection tracking of one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    netns: Netns,
    missing: bool,
}

impl Conntrack {
    /// The table of a namespace.
    pub fn new(netns: Netns) -> Self {
        Self { netns, missing: false }
    }

    /// Drops the entries of `flows`. How many were dropped is not counted: they may end by
    /// themselves meanwhile.
    pub async fn drop_flows(&mut self, flows: &[StaleFlow]) -> Result<(), CommandError> {
        for flow in flows.iter().take(FLOWS_MAX) {
            let args = arguments(flow);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            match self.conntrack(&args).await {
                // "0 flow entries have been deleted" is an exit status of 1.
                Err(CommandError::Failed { stderr, .. }) if stderr.contains("0 flow entries") => {}
                Err(other) => return Err(other),
                Ok(_) if self.missing => return Ok(()),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Drops what is stale when nobody knows the rules before: at the start of the agent.
    pub async fn reconcile(&mut self, now: &UdpFronts) -> Result<(), CommandError> {
        if now.is_empty() {
            return Ok(());
        }
        let listing = self.conntrack(&["-L", "-f", "ipv4", "-p", "udp"]).await?;
        self.drop_flows(&stale_entries(&listing, now)).await
    }

    /// What a user should know: the tool is not installed.
    pub fn problem(&self) -> Option<&'static str> {
        self.missing.then_some(
            "conntrack is not installed: UDP clients may send to pods that are gone for up to 2 \
             minutes; install the package conntrack",
        )
    }

    /// Runs the tool; a missing one prints nothing, is said once in the log, and is looked for
    /// again next time.
    async fn conntrack(&mut self, args: &[&str]) -> Result<String, CommandError> {
        match run(&self.netns, "conntrack", args, "", DEADLINE).await {
            Err(cause) if is_missing(&cause) => {
                if !self.missing {
                    tracing::warn!("{cause}");
                }
                self.missing = true;
                Ok(String::new())
            }
            other => {
                self.missing = false;
                other
            }
        }
    }
}

/// Not installed, also when it was to be started through nsenter.
fn is_missing(cause: &CommandError) -> bool {
    match cause {
        CommandError::Missing(_) => true,
        CommandError::Failed { stderr, .. } => stderr.contains("failed to execute"),
        _ => false,
    }
}

/// `conntrack -D` for one flow.
fn arguments(flow: &StaleFlow) -> Vec<String> {
    let mut args = vec!["-D".to_owned(), "-f".into(), "ipv4".into(), "-p".into(), "udp".into()];
    let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
    if let Some(address) = flow.front.address {
        add("--orig-dst", address.to_string());
    }
    add("--orig-port-dst", flow.front.port.to_string());
    if let Some(endpoint) = flow.endpoint {
        add("--reply-src", endpoint.ip().to_string());
        add("--reply-port-src", endpoint.port().to_string());
    }
    args
}
