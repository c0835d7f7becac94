//! What the pages say must be true of the binary and the code.

use std::{collections::BTreeSet, process::Command};

use super::{files, nothing, top};

fn page(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap()
}

fn help(arguments: &[&str]) -> String {
    let ran = Command::new(env!("CARGO_BIN_EXE_mainstay")).args(arguments).output().unwrap();
    assert!(ran.status.success(), "mainstay {arguments:?}: {ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

/// The lines of the fenced blocks of a page, without their comments.
fn commands(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside && line == "```sh";
        } else if inside {
            found.push(line.split(" #").next().unwrap_or_default());
        }
    }
    found
}

/// The words of each call of mainstay in a line of shell.
fn calls(line: &str) -> Vec<Vec<&str>> {
    let parts = line.split("&&").filter_map(|part| part.trim().strip_prefix("mainstay "));
    parts.map(|part| part.split_whitespace().collect()).collect()
}

fn lists(help: &str, verb: &str) -> bool {
    help.lines().any(|line| line.trim_start().starts_with(&format!("{verb} ")))
}

/// A reader who copies a line from a page must not be told that there is no such verb.
#[test]
fn verbs_and_options_in_pages_exist() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let verbs = help(&["--help"]);
    for path in ["README.md", "CONTRIBUTING.md"] {
        let text = page(path);
        for call in commands(&text).into_iter().flat_map(calls) {
            let verb = call[0];
            if !lists(&verbs, verb) {
                wrong.push(format!("{path}: there is no `mainstay {verb}`"));
                continue;
            }
            seen.insert(verb.to_owned());
            let mut own = help(&[verb, "--help"]);
            // `dev stop` has options of its own.
            if let Some(second) =
                call.get(1).filter(|word| !word.starts_with('-') && lists(&own, word))
            {
                own = help(&[verb, second, "--help"]);
            }
            let options = call.iter().filter(|word| word.starts_with("--"));
            for option in options.filter(|option| !own.contains(**option)) {
                wrong.push(format!("{path}: mainstay {verb} has no {option}"));
            }
        }
    }
    assert!(seen.contains("wait") && seen.contains("status"), "no calls were found: {seen:?}");
    nothing(&wrong);
}

/// The manifest of the tour is admitted as it stands.
#[test]
fn the_readmes_manifest_is_admitted() {
    let text = page("README.md");
    let manifest = text.split("<<'YAML'\n").nth(1).and_then(|rest| rest.split("\nYAML\n").next());
    let manifest = manifest.expect("README.md holds a manifest between YAML marks");
    let options = mainstay::render::Options::default();
    let rendered = mainstay::render::render([("web.yaml", manifest.as_bytes())], &options);
    assert_eq!(rendered.problems, []);
    assert_eq!(rendered.warnings, []);
    assert_eq!(rendered.objects.len(), 2);
}

/// The map names every room, and no room that is gone.
#[test]
fn the_map_names_every_room() {
    let map = page("ARCHITECTURE.md");
    let rooms: BTreeSet<String> = files("src")
        .iter()
        .filter_map(|f| f.path.strip_prefix("src/")?.split_once('/').map(|(r, _)| r.to_owned()))
        .collect();
    let named =
        |room: &String| map.lines().any(|l| l.starts_with('|') && l.contains(&format!("`{room}`")));
    let missing: Vec<_> = rooms.into_iter().filter(|room| !named(room)).collect();
    nothing(&missing);
}

/// The generated table of the README has a place.
#[test]
fn the_readme_has_a_place_for_what_is_supported() {
    let text = page("README.md");
    let begin = text.find("<!-- supported:begin -->\n").expect("no begin marker");
    assert!(text[begin..].contains("\n<!-- supported:end -->"), "no end marker");
}

/// What is said to answer an ask, or to stop an attack, is a test that there is.
#[test]
fn every_answer_is_shown_by_a_test() {
    let rows = page("docs/answers.md");
    let rows: Vec<&str> = rows.lines().filter(|line| line.starts_with("| ")).collect();
    let shown = |row: &&str| row.trim_matches('|').split('|').nth(2).map(str::to_owned);
    let scripts = files("tests/scripts");
    let mut sources = files("src");
    sources.extend(files("tests"));
    let is_there = |name: &str| match name.strip_suffix(".txt") {
        Some(_) => scripts.iter().any(|f| f.path.ends_with(&format!("/{name}"))),
        None => sources.iter().any(|f| f.text().contains(&format!("fn {name}("))),
    };
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|row| !row.contains("| shown by |")) {
        let tests = shown(row).unwrap_or_default();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            wrong.push(format!("no test: {row}"));
        }
        let gone = names.into_iter().filter(|name| !is_there(name));
        wrong.extend(gone.map(|name| format!("docs/answers.md: there is no test {name}")));
    }
    assert!(rows.len() > 30, "{} rows", rows.len());
    nothing(&wrong);
}
