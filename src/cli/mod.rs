#![expect(clippy::disallowed_methods, reason = "shell: reads and writes files")]
//! One file per verb.
//!
//! In: the command line. Out: data on stdout, talk on stderr, and an exit code: 0 done, 1 the
//! answer is no, 2 you erred, 3 we erred. `main.rs` calls [`main`]. Never here: logic that a test
//! would want; what a verb prints is a pure function in [`text`].

mod adopt;
mod agent;
mod agent_metrics;
mod background;
mod bootstrap;
mod check;
mod client;
mod cluster;
mod dev;
mod diff;
mod error;
mod events;
mod freeze;
mod generate;
mod history;
mod joining;
mod kubeconfig;
mod logs;
mod machine;
mod output;
mod plan;
mod promote;
mod receive;
mod renewal;
mod rollback;
mod seal;
mod server;
mod sim;
mod status;
mod text;
mod token;
mod tree;
mod vet;
mod wait;
mod why;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

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
    Dev(dev::Verb),
    Init(cluster::Init),
    Bootstrap(bootstrap::Verb),
    Server(server::Verb),
    Agent(agent::Verb),
    Token(token::Verb),
    Kubeconfig(kubeconfig::Verb),
    Status(status::Verb),
    Plan(plan::Verb),
    Diff(diff::Verb),
    Adopt(adopt::Verb),
    History(history::Verb),
    Why(why::Verb),
    Tree(tree::Verb),
    Wait(wait::Verb),
    Promote(promote::Verb),
    Rollback(rollback::Verb),
    Freeze(freeze::Verb),
    Thaw(freeze::Thaw),
    Seal(seal::Verb),
    Logs(logs::Verb),
    Events(events::Verb),
    Vet(vet::Verb),
    Check(check::Verb),
    Receive(receive::Verb),
    Generate(generate::Verb),
    Sim(sim::Verb),
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
        Verb::Dev(verb) => dev::run(&verb),
        Verb::Init(verb) => cluster::init(&verb),
        Verb::Bootstrap(verb) => bootstrap::run(&verb),
        Verb::Server(verb) => server::run(&verb),
        Verb::Agent(verb) => agent::run(&verb),
        Verb::Kubeconfig(verb) => kubeconfig::run(&verb),
        Verb::Vet(verb) => vet::run(&verb),
        Verb::Generate(verb) => generate::run(&verb, &Cli::command()),
        Verb::Sim(verb) => sim::run(&verb),
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
        Verb::Diff(verb) => diff::run(&verb).await,
        Verb::Adopt(verb) => adopt::run(&verb).await,
        Verb::History(verb) => history::run(&verb).await,
        Verb::Why(verb) => why::run(&verb).await,
        Verb::Wait(verb) => wait::run(&verb).await,
        Verb::Rollback(verb) => rollback::run(&verb).await,
        Verb::Promote(verb) => promote::run(&verb).await,
        Verb::Tree(verb) => tree::run(&verb).await,
        Verb::Freeze(verb) => freeze::run(&verb).await,
        Verb::Thaw(verb) => freeze::thaw(&verb).await,
        Verb::Seal(verb) => seal::run(&verb).await,
        Verb::Logs(verb) => logs::run(&verb).await,
        Verb::Events(verb) => events::run(&verb).await,
        Verb::Check(verb) => check::run(&verb).await,
        Verb::Receive(verb) => receive::run(&verb).await,
        Verb::Token(verb) => token::run(&verb).await,
        Verb::Dev(_)
        | Verb::Init(_)
        | Verb::Bootstrap(_)
        | Verb::Server(_)
        | Verb::Agent(_)
        | Verb::Kubeconfig(_)
        | Verb::Vet(_)
        | Verb::Generate(_)
        | Verb::Sim(_) => Ok(()),
    }
}

/// The folder of the cluster a verb speaks of, as an absolute path.
fn cluster_dir(dir: Option<&Path>) -> Result<PathBuf, Error> {
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => std::env::home_dir()
            .map(|home| home.join(".mainstay"))
            .ok_or_else(|| Error::yours("there is no home folder; name one with --dir"))?,
    };
    std::path::absolute(&dir).map_err(|e| Error::yours(format!("{}: {e}", dir.display())))
}

/// Log lines on stderr, for verbs that go on running; `MAINSTAY_LOG` sets what is told (`info`,
/// `mainstay=debug`).
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MAINSTAY_LOG")
        .unwrap_or_else(|_| "info,openraft=warn".into());
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    lines.with_writer(std::io::stderr).init();
}

#[cfg(test)]
mod tests;
