//! A virtual environment with the Python packages of these tests.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// The folder of the scripts.
pub(crate) const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python");

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
