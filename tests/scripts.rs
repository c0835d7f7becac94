//! The whole brain in one thread: scripts that read from top to bottom, and random runs from seeds.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test of a shell")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use mainstay::sim;

/// How many seeds are run unless `MAINSTAY_SEEDS` says otherwise.
const SEEDS: u64 = 200;

/// Virtual minutes of commits and faults in each; `mainstay sim` runs longer ones.
const MINUTES: u64 = 1;

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "txt")).collect();
    paths.sort();
    paths
}

/// What a script gave stands below its commands; `UPDATE_EXPECT=1` writes it anew, and the diff is
/// reviewed.
#[test]
fn every_script_gives_what_it_says() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let only = std::env::var("MAINSTAY_SCRIPT").unwrap_or_default();
    let mut wrong = Vec::new();
    let paths = scripts();
    for path in paths.iter().filter(|p| p.to_string_lossy().contains(&only)) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap();
        match sim::run(&text) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(now) if now == text => {}
            Ok(now) if update => fs::write(path, now).unwrap(),
            Ok(now) => wrong.push(format!("{name} differs{}", difference(&text, &now))),
        }
    }
    assert!(paths.len() >= 30, "only {} scripts were found", paths.len());
    assert!(wrong.is_empty(), "{}\n\nUPDATE_EXPECT=1 writes them anew", wrong.join("\n\n"));
}

/// The first lines that differ.
fn difference(before: &str, now: &str) -> String {
    let mut lines = before.lines().zip(now.lines()).enumerate();
    match lines.find(|(_, (before, now))| before != now) {
        Some((line, (before, now))) => format!(" in line {}:\n-{before}\n+{now}", line + 1),
        None => " in length".to_owned(),
    }
}

/// No promise breaks under any fault, and everything comes right once faults end.
#[test]
fn random_runs_keep_every_promise() {
    let seeds = std::env::var("MAINSTAY_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    let minutes = std::env::var("MAINSTAY_MINUTES").ok().and_then(|n| n.parse().ok());
    let minutes = minutes.unwrap_or(MINUTES);
    let first = std::env::var("MAINSTAY_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let begun = Instant::now();
    let run = |seeds: Vec<u64>| {
        let failed = seeds.into_iter().filter_map(move |seed| sim::random(seed, minutes).err());
        failed.map(|failure| failure.to_string()).collect::<Vec<_>>()
    };
    let failed = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let seeds = (first..first + seeds).filter(|s| s % 2 == half).collect();
            scope.spawn(move || run(seeds))
        });
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect::<Vec<_>>()
    });
    println!("{seeds} seeds in {:.1} s", begun.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{} of {seeds} seeds failed:\n{}", failed.len(), failed[0]);
}
