//! Habits of the files themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    File,
    code::{only_code, without_comments},
    files, nothing,
};

/// Columns of a comment; code is held by rustfmt's `max_width`.
const COMMENT_COLUMNS_MAX: usize = 100;

/// Bytes of one file: what is larger belongs where it can be made from.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Folders whose files are read by listing them, and the file that does so.
const LISTED: &[(&str, &str)] = &[
    ("tests/oracle", "src/kinds/tests.rs"),
    ("tests/harness", "tests/pods/node.rs"),
    ("tests/scripts", "tests/scripts.rs"),
    ("tests/fixtures", "tests/"),
    ("tests/clients/go", "tests/clients/go.rs"),
    ("tests/kubectl/newest", "tests/kubectl/world.rs"),
    ("tests/clients/python", "tests/clients/environment.rs"),
    ("tests/kubectl/traces", "tests/kubectl/traces.rs"),
    ("tests/kustomize/layouts", "tests/kustomize/main.rs"),
];

/// Files of `tests/` that people or the gate start themselves.
const STARTED: &[&str] = &["tests/run"];

fn rust() -> Vec<File> {
    let ours = |f: &File| {
        let roots = ["src/", "tests/", "benches/", "examples/"];
        f.path.ends_with(".rs") && roots.iter().any(|root| f.path.starts_with(root))
    };
    files("").into_iter().filter(ours).collect()
}

#[test]
fn every_room_says_what_it_is() {
    let says = |file: &File| {
        let first = file.text().lines().find(|line| !line.is_empty());
        let licence = file.text().find("\n//! ").is_some();
        first.is_some_and(|line| line.starts_with("//! ")) || licence
    };
    let wrong: Vec<_> = rust()
        .into_iter()
        .filter(|f| f.path.starts_with("src/") && f.path.ends_with("/mod.rs") && !says(f))
        .map(|f| format!("{}: no module doc (what comes in, what goes out, never)", f.path))
        .collect();
    nothing(&wrong);
}

#[test]
fn comments_fit() {
    let mut wrong = Vec::new();
    for file in rust() {
        for (number, line) in file.text().lines().enumerate() {
            let comment = line.trim_start().starts_with("//");
            // A table row, a link and a path cannot be broken.
            let whole = line.contains("://") || line.trim_start().starts_with("//! |");
            let columns = line.chars().count();
            if comment && !whole && columns > COMMENT_COLUMNS_MAX {
                wrong.push(format!("{}:{}: {columns} columns", file.path, number + 1));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn what_is_left_to_do_has_an_issue() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut wrong = Vec::new();
    // What others said, and what is generated of it, is not ours to do.
    let others = ["tests/oracle/", "schemas/"];
    let is_ours = |path: &str| !others.iter().any(|folder| path.starts_with(folder));
    for file in files("").iter().filter(|f| is_ours(&f.path)) {
        for (number, line) in file.text().lines().enumerate() {
            let marked = words.iter().any(|word| {
                line.match_indices(word).any(|(at, _)| {
                    !line[at + word.len()..].starts_with("(#")
                        && !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '`')
                })
            });
            if marked {
                wrong.push(format!("{}:{}: name the issue, as (#12)", file.path, number + 1));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn nothing_is_left_out_or_switched_off() {
    let bans = [
        concat!("#[ign", "ore"),
        concat!("todo", "!("),
        concat!("unimple", "mented!("),
        // With a reason it is a module that several binaries share.
        concat!("allow(dead", "_code)"),
    ];
    let mut wrong = Vec::new();
    for file in rust() {
        let code = only_code(file.text());
        for (number, line) in code.lines().enumerate() {
            for ban in bans.iter().filter(|ban| line.contains(**ban)) {
                wrong.push(format!("{}:{}: {ban}", file.path, number + 1));
            }
        }
        if code.trim().is_empty() && !file.text().starts_with("//!") {
            wrong.push(format!("{}: an empty file", file.path));
        }
    }
    nothing(&wrong);
}

#[test]
fn unsafe_code_has_one_place() {
    let word = concat!("unsa", "fe {");
    let ours = rust().into_iter().filter(|file| file.path.starts_with("src/"));
    let found = ours.filter(|file| only_code(file.text()).contains(word));
    let found: Vec<_> = found.map(|file| file.path).collect();
    assert_eq!(found, ["src/git/silence.rs"]);
}

#[test]
fn no_file_is_large() {
    let wrong: Vec<_> = files("")
        .into_iter()
        .filter(|f| f.bytes.len() > FILE_BYTES_MAX)
        .map(|f| format!("{}: {} bytes, at most {FILE_BYTES_MAX}", f.path, f.bytes.len()))
        .collect();
    nothing(&wrong);
}

/// rustc does not say a word about a file that nobody declares: its tests would never run.
#[test]
fn every_source_file_is_reached() {
    let rust = rust();
    let declared: BTreeSet<String> = rust.iter().flat_map(declared).collect();
    let wrong: Vec<_> = rust
        .iter()
        .filter(|f| !is_root(&f.path) && !declared.contains(&f.path) && !compiled(&f.path))
        .map(|f| format!("{}: no `mod` declares it", f.path))
        .collect();
    nothing(&wrong);
}

/// Files that cargo finds by itself.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let is_target = |folder: &str| matches!(folder, "tests" | "benches" | "examples");
    match parts.as_slice() {
        ["src", "lib.rs" | "main.rs"] => true,
        [folder, _] | [folder, _, "main.rs"] => is_target(folder),
        _ => false,
    }
}

/// Whether a test or a story hands the file to rustc itself.
fn compiled(path: &str) -> bool {
    let story = matches!(path, "examples/quickstart/web.rs" | "examples/hooks/migrate.rs");
    story || path.starts_with("tests/") && named(path)
}

/// The files that the `mod` items of one file may mean.
fn declared(file: &File) -> Vec<String> {
    let folder = match file.path.rsplit_once('/') {
        Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
        _ if is_root(&file.path) => file.path.rsplit_once('/').unwrap().0.to_owned(),
        _ => file.path.trim_end_matches(".rs").to_owned(),
    };
    let mut paths = Vec::new();
    let mut place = None;
    for line in without_comments(file.text()).lines() {
        let line = line.trim();
        if let Some(path) = line.strip_prefix("#[path = \"") {
            let beside = file.path.rsplit_once('/').unwrap().0;
            place = path.split('"').next().map(|path| normal(&format!("{beside}/{path}")));
        } else if let Some(name) = module(line) {
            match place.take() {
                Some(path) => paths.push(path),
                None => {
                    paths.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")])
                }
            }
        }
    }
    paths
}

/// The name in `pub(crate) mod name;`.
fn module(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => line,
    };
    line.strip_prefix("mod ")?.strip_suffix(';')
}

fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| *part != ".") {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn every_file_of_the_tests_is_used() {
    let tests = files("tests");
    let mut wrong = Vec::new();
    for file in tests.iter().filter(|f| !f.path.ends_with(".rs")) {
        let listed = LISTED.iter().any(|(folder, _)| file.path.starts_with(&format!("{folder}/")));
        if !listed && !STARTED.contains(&&*file.path) && !named(&file.path) {
            wrong.push(format!("{}: no test names it, and its folder is not listed", file.path));
        }
    }
    for (folder, reader) in LISTED.iter().filter(|(folder, _)| super::top().join(folder).exists()) {
        let name = folder.trim_start_matches("tests/");
        let reads = |f: &File| f.path.ends_with(".rs") && f.text().contains(name);
        if !files(reader_folder(reader)).iter().any(|f| f.path.starts_with(reader) && reads(f)) {
            wrong.push(format!("{folder}: {reader} does not name it"));
        }
    }
    nothing(&wrong);
}

fn reader_folder(reader: &str) -> &str {
    reader.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether a source file or a script names the last part of a path.
fn named(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let reads = |f: &File| f.path != path && f.text().contains(name);
    rust().iter().any(reads) || files(".ci").iter().chain(&files("tests")).any(reads)
}

/// A panel over a metric that nobody serves stays empty for ever and nobody notices.
#[test]
fn dashboards_use_metrics_that_exist() {
    let listed: BTreeSet<&str> =
        mainstay::report::metrics::METRICS.iter().map(|m| m.name).collect();
    let mut wrong = BTreeMap::new();
    for file in files("dashboards") {
        // A histogram is asked for by its parts.
        let part = |name: &str| {
            let parts = ["_bucket", "_sum", "_count"];
            parts.iter().any(|end| name.strip_suffix(end).is_some_and(|n| listed.contains(n)))
        };
        let unknown = |name: &&str| !listed.contains(*name) && !part(name);
        for name in metric_names(file.text()).filter(unknown) {
            wrong.insert(name.to_owned(), file.path.clone());
        }
    }
    let wrong: Vec<_> = wrong
        .into_iter()
        .map(|(name, path)| format!("{path}: {name} is not in src/report/metrics.rs"))
        .collect();
    nothing(&wrong);
}

/// Words that look like a metric of ours: a known family, then more words.
fn metric_names(text: &str) -> impl Iterator<Item = &str> {
    let families = ["mainstay_", "kube_", "container_", "process_"];
    text.split(|c: char| {
        !(c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '-' || c == '/')
    })
    .filter(move |word| families.iter().any(|family| word.starts_with(family)))
    .filter(|word| !word.contains([':', '-', '/']) && word.matches('_').count() >= 2)
}

/// An ADR that grows past a page is a design document; the number finds it.
#[test]
fn decisions_are_short_and_numbered_once() {
    const LINES_MAX: usize = 60;
    let mut numbers = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in files("docs/adr") {
        let name = file.path.rsplit('/').next().unwrap();
        let number = name.split('-').next().unwrap().to_owned();
        let lines = file.text().lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines, at most {LINES_MAX}", file.path));
        }
        if number.len() != 4 || !number.bytes().all(|b| b.is_ascii_digit()) {
            wrong.push(format!("{}: no four-digit number", file.path));
        }
        if !file.text().starts_with(&format!("# {number}: ")) {
            wrong.push(format!("{}: its title does not begin with its number", file.path));
        }
        if !numbers.insert(number) {
            wrong.push(format!("{}: its number is taken", file.path));
        }
    }
    nothing(&wrong);
}

/// What a page points at must be there.
#[test]
fn links_between_pages_lead_somewhere() {
    let mut wrong = Vec::new();
    let pages = files("").into_iter().filter(|f| f.path.ends_with(".md"));
    for page in pages.filter(|f| !f.path.starts_with("tests/oracle/")) {
        let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (_, rest) in
            page.text().match_indices("](").map(|(at, m)| (at, &page.text()[at + m.len()..]))
        {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let path = normal(&format!("{folder}/{target}"));
            if !super::top().join(path.trim_start_matches('/')).exists() {
                wrong.push(format!("{}: {target} does not exist", page.path));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn the_map_is_short_enough_to_read() {
    const LINES_MAX: usize = 400;
    let map = std::fs::read_to_string(super::top().join("ARCHITECTURE.md")).unwrap();
    let lines = map.lines().count();
    assert!(lines <= LINES_MAX, "ARCHITECTURE.md has {lines} lines, at most {LINES_MAX}");
}
