#![expect(clippy::disallowed_methods, reason = "shell: reads and writes files")]
//! One file per verb.
//!
//! In: the command line. Out: data on stdout, talk on stderr, and an exit code: 0 done, 1 the answer is no, 2 you
//! erred, 3 we erred. `main.rs` calls [`main`]. Never here: logic that a test would want; what a verb prints is a
//! pure function in [`text`].

mod check;
mod client;
mod error;
mod events;
mod generate;
mod history;
mod logs;
mod output;
mod plan;
mod rollback;
mod status;
mod text;
mod vet;
mod wait;
mod why;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};

pub use error::{Error, Kind};
pub use output::Format;

/// Run a cluster of machines from a Git repository: the cluster stays what main says
#[derive(Parser, Debug)]
#[command(name = "mainstay", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done. The verbs that run a cluster (dev, server, agent, init, join) stand first.
#[derive(Subcommand, Debug)]
enum Verb {
    Status(status::Verb),
    Plan(plan::Verb),
    History(history::Verb),
    Why(why::Verb),
    Wait(wait::Verb),
    Rollback(rollback::Verb),
    Logs(logs::Verb),
    Events(events::Verb),
    Vet(vet::Verb),
    Check(check::Verb),
    Generate(generate::Verb),
}

/// What every verb that asks a cluster takes.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Folder of the cluster (endpoints.json and pki); ~/.mainstay when absent
    #[arg(long, env = "MAINSTAY_DIR", global = true)]
    dir: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed pipe is no reason to say more than clap already tried to.
            return match error.print() {
                Ok(()) if help => ExitCode::SUCCESS,
                _ => ExitCode::from(Kind::You.code()),
            };
        }
    };
    match run(cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.tell();
            ExitCode::from(error.kind.code())
        }
    }
}

fn run(verb: Verb) -> Result<(), Error> {
    match verb {
        Verb::Vet(verb) => vet::run(&verb),
        Verb::Generate(verb) => generate::run(&verb, &Cli::command()),
        asking => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| Error::ours(format!("no runtime: {e}")))?;
            runtime.block_on(ask(asking))
        }
    }
}

/// The verbs that ask a cluster.
async fn ask(verb: Verb) -> Result<(), Error> {
    match verb {
        Verb::Status(verb) => status::run(&verb).await,
        Verb::Plan(verb) => plan::run(&verb).await,
        Verb::History(verb) => history::run(&verb).await,
        Verb::Why(verb) => why::run(&verb).await,
        Verb::Wait(verb) => wait::run(&verb).await,
        Verb::Rollback(verb) => rollback::run(&verb).await,
        Verb::Logs(verb) => logs::run(&verb).await,
        Verb::Events(verb) => events::run(&verb).await,
        Verb::Check(verb) => check::run(&verb).await,
        Verb::Vet(verb) => vet::run(&verb),
        Verb::Generate(verb) => generate::run(&verb, &Cli::command()),
    }
}

#[cfg(test)]
mod tests;
