//! The house rules as tests: which room may use which, what pure rooms never touch, and habits of
//! the files themselves. `ARCHITECTURE.md` says why; here is what holds it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test that reads the source tree"
)]

mod code;
mod habits;
mod rooms;
mod words;

use std::path::{Path, PathBuf};

/// One file that Git knows (or would, if it were added), with its path from the top.
struct File {
    path: String,
    bytes: Vec<u8>,
}

impl File {
    /// Its text; empty when it is not UTF-8.
    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` (a path from the top; empty for all), in order; nothing that a build
/// or Git itself writes.
fn files(folder: &str) -> Vec<File> {
    let mut found = Vec::new();
    collect(&top().join(folder), &mut found);
    found.sort();
    found.into_iter().map(read).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_symlink() || matches!(name.as_str(), "target" | ".git") {
            continue;
        } else if path.is_dir() {
            collect(&path, found);
        } else if !name.ends_with(".swp") {
            found.push(path);
        }
    }
}

fn read(path: PathBuf) -> File {
    let bytes = std::fs::read(&path).unwrap();
    let path = path.strip_prefix(top()).unwrap().to_string_lossy().into_owned();
    File { path, bytes }
}

/// Fails with every line of `wrong`, so that one run tells all there is to mend.
fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
