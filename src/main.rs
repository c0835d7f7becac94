//! The `mainstay` binary.

use clap::Parser;

#[derive(Parser)]
enum Verb {
    /// Run a whole cluster
    Dev(mainstay::cli::dev::DevArgs),
}

fn main() -> anyhow::Result<()> {
    match Verb::parse() {
        Verb::Dev(args) => mainstay::cli::dev::run(&args),
    }
}
