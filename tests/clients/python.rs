//! The Python client, in a virtual environment beside the build.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use crate::servers::World;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python");

/// The folder of the programs of an environment with what `requirements.txt` names; or nothing,
/// with a printed reason, where none can be made.
pub(crate) fn environment(test: &str) -> Option<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clients-python");
    let requirements = Path::new(SOURCE).join("requirements.txt");
    let (wanted, made) = (std::fs::read(&requirements).unwrap(), to.join("requirements.txt"));
    if std::fs::read(&made).is_ok_and(|text| text == wanted) {
        return Some(to.join("bin"));
    }
    let begun = said("python3", &["-m", "venv", "--clear", to.to_str().unwrap()]);
    let pip = to.join("bin/pip");
    let pip = pip.to_str().unwrap();
    let install = ["install", "--quiet", "--requirement", requirements.to_str().unwrap()];
    match begun.and_then(|()| said(pip, &install)) {
        Ok(()) => std::fs::write(made, wanted).unwrap(),
        Err(why) => {
            eprintln!("skipped: {test}: needs Python with venv, and its packages: {why}");
            return None;
        }
    }
    Some(to.join("bin"))
}

/// Runs something; why it failed.
fn said(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")),
    }
}

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
