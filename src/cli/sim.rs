//! `mainstay sim`

use super::{Error, output};
use crate::sim;

/// Run random simulated clusters and look for a broken promise
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Virtual minutes of commits and faults for each seed
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

pub(super) fn run(verb: &Verb) -> Result<(), Error> {
    for seed in verb.seed..verb.seed.saturating_add(verb.seeds) {
        match sim::random(seed, verb.minutes) {
            Ok(summary) => output::write(format!("{summary}\n").as_bytes())?,
            Err(failure) => {
                let again = format!("mainstay sim --seed {seed} --minutes {}", verb.minutes);
                return Err(Error::no(failure.to_string()).hint(format!("again: {again}")));
            }
        }
    }
    Ok(())
}
