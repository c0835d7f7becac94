//! The Python client, in a virtual environment beside the build.

use std::{path::Path, process::Command};

use crate::{
    environment::{SOURCE, environment},
    servers::World,
};

/// Runs one of the scripts against a server that takes every write; what it printed.
fn run(programs: &Path, script: &str, more: &[&str]) -> String {
    let world = World::up_with(1, "writes: direct\n");
    let output = Command::new(programs.join("python"))
        .arg(Path::new(SOURCE).join(script))
        .arg(world.servers[0].kubeconfig())
        .arg("free")
        .args(more)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}{error}");
    out
}

#[test]
fn typed_calls_of_the_python_client_do_what_they_say() {
    let Some(programs) = environment("typed_calls_of_the_python_client_do_what_they_say") else {
        return;
    };
    let said = run(&programs, "typed.py", &[]);
    assert!(said.ends_with("fine\n"), "{said}");
}

/// How many requests schemathesis makes when nobody says: a minute's worth.
const REQUESTS: &str = "1800";

/// `MAINSTAY_SCHEMATHESIS_REQUESTS=20000` asks more.
#[test]
fn answers_have_the_shape_that_the_openapi_documents_say() {
    let Some(programs) = environment("answers_have_the_shape_that_the_openapi_documents_say")
    else {
        return;
    };
    let requests = std::env::var("MAINSTAY_SCHEMATHESIS_REQUESTS");
    let requests = requests.unwrap_or_else(|_| REQUESTS.to_owned());
    let said = run(&programs, "contract.py", &[&requests]);
    let made = said.lines().find(|line| line.contains(" generated, ")).unwrap_or(&said);
    eprintln!("{}", made.trim());
}
