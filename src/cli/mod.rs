#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads files and the clock, starts processes"
)]
//! One file per verb.

mod agent_metrics;
pub mod dev;
mod machine;

use std::path::{Path, PathBuf};

/// The folder of the cluster a verb speaks of.
fn cluster_dir(dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    match dir {
        Some(dir) => Ok(std::path::absolute(dir)?),
        None => {
            let home = std::env::home_dir()
                .ok_or_else(|| anyhow::anyhow!("no home folder; give --dir"))?;
            Ok(home.join(".mainstay"))
        }
    }
}

/// Prints one line of data.
fn print_line(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::debug!(event = "nobody reads stdout", %error);
    }
}

/// Log lines on stderr; `MAINSTAY_LOG` sets what is told (`info`, `mainstay=debug`).
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MAINSTAY_LOG")
        .unwrap_or_else(|_| "info,openraft=warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
