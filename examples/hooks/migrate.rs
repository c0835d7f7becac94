//! The migration of the story about hooks: says what it does, and fails where it is told to.

use std::{env, process, thread, time::Duration};

/// As long as a migration that has something to do, seen from the story.
const WORK: Duration = Duration::from_secs(1);

fn main() {
    let to = env::var("SCHEMA").unwrap_or_default();
    println!("migrating to schema {to}");
    thread::sleep(WORK);
    if env::var("FAILS").is_ok_and(|fails| fails == "1") {
        println!("column \"colour\" exists already");
        process::exit(3);
    }
    println!("schema {to} is there");
}
