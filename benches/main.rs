//! Every measurement, in one program so that it is linked once: `cargo bench -- NAME…`, `README.md`
//! says what each one is.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a measurement prints")]

mod admission;
mod common;
mod folders;
mod idle;
mod list;
#[allow(dead_code, reason = "a measurement uses a part of it")]
#[path = "../tests/pods/node.rs"]
mod node;
mod onefile;
mod pods;
mod propose;
mod push;
mod put;
mod serving;
mod watchers;
mod write;

use common::Result;

/// What is measured is what is released.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Run = fn() -> Result<()>;

/// The measurements by name.
const ALL: [(&str, Run); 13] = [
    ("admission", admission::run),
    ("bump", folders::bumped),
    ("folders", folders::run),
    ("idle", idle::run),
    ("list", list::run),
    ("onefile", onefile::run),
    ("pairs", folders::pairs),
    ("pods", pods::run),
    ("propose", propose::run),
    ("push", push::run),
    ("put", put::run),
    ("watchers", watchers::run),
    ("write", write::run),
];

fn main() -> Result<()> {
    // A copy of a measurement plays a part of it.
    match common::part() {
        Some((part, _)) if ["admit", "parse"].contains(&part.as_str()) => return admission::run(),
        Some((part, dir)) => return serving::run(&part, &dir),
        None => {}
    }
    // Cargo adds words of its own, with dashes.
    let names: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = ALL.iter().filter(|(name, _)| names.iter().any(|n| n == name));
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() || wanted.len() < names.len() {
        let known: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("cargo bench -- NAME…, with names of {}", known.join(", ")).into());
    }
    wanted.into_iter().try_for_each(|(_, run)| run())
}
