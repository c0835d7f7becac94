//! Commands and what they print, in text files: `tests/kubectl/scripts`.
//!
//! | line | what |
//! |---|---|
//! | `$ get cm` | runs kubectl; below it what that prints and, where it is not 0, its exit code |
//! | `~ get cm` | the same, again and again until it prints that |
//! | `@1.20` | the lines below are what this kubectl prints instead |
//! | `== NAME` … `==` | a file the commands find |
//! | `# …` | says why |
//!
//! What differs from run to run is printed as what it is (`<age>`, `<uid>`), and runs of spaces as
//! one. `UPDATE_EXPECT=1` writes what the newest kubectl prints.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::{Duration, Instant},
};

use regex::Regex;

use crate::world::{DEADLINE, World, kubectls};

/// How long a command that is tried again may take to print what is written down, when that is
/// being written.
const SETTLED: Duration = Duration::from_secs(3);

/// The kubectls whose words are written down, the one that speaks for all others first.
pub(crate) const RECORDED: [&str; 3] = ["1.33", "1.20", "1.37"];

/// One command of a script.
#[derive(Debug)]
struct Step {
    line: usize,
    /// What stands before it: comments, files.
    before: Vec<String>,
    again: bool,
    args: String,
    expected: Vec<String>,
    /// What another kubectl prints, by its version.
    others: Vec<(String, Vec<String>)>,
}

impl Step {
    fn expects(&self, version: &str) -> &[String] {
        let other = self.others.iter().find(|(of, _)| of == version);
        other.map_or(&self.expected, |(_, lines)| lines)
    }
}

/// The commands of a script, what stands below the last one, and the files it brings.
fn parse(text: &str) -> (Vec<Step>, Vec<(String, String)>) {
    let (mut steps, mut files): (Vec<Step>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    let mut before = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(name) = line.strip_prefix("== ") {
            let body: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "==").collect();
            files.push((name.to_owned(), format!("{}\n", body.join("\n"))));
            before.push(line.to_owned());
            before.extend(body.iter().map(|line| (*line).to_owned()));
            before.push("==".to_owned());
        } else if line.is_empty() || line.starts_with('#') {
            before.push(line.to_owned());
        } else if let Some(args) = line.strip_prefix("$ ").or_else(|| line.strip_prefix("~ ")) {
            steps.push(Step {
                line: at + 1,
                before: std::mem::take(&mut before),
                again: line.starts_with('~'),
                args: args.to_owned(),
                expected: Vec::new(),
                others: Vec::new(),
            });
        } else if let Some(step) = steps.last_mut() {
            match (line.strip_prefix('@'), step.others.last_mut()) {
                (Some(version), _) => step.others.push((version.to_owned(), Vec::new())),
                (None, Some((_, lines))) => lines.push(line.to_owned()),
                (None, None) => step.expected.push(line.to_owned()),
            }
        }
    }
    (steps, files)
}

/// A script as its steps write it.
fn written(steps: &[Step]) -> String {
    let mut text = String::new();
    let mut put = |line: &str| text += &format!("{line}\n");
    for step in steps {
        step.before.iter().for_each(|line| put(line));
        put(&format!("{} {}", if step.again { '~' } else { '$' }, step.args));
        step.expected.iter().for_each(|line| put(line));
        for (version, lines) in &step.others {
            put(&format!("@{version}"));
            lines.iter().for_each(|line| put(line));
        }
    }
    text
}

/// Splits a command into words; quotes keep spaces together.
pub(crate) fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, ' ') => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words
}

/// What differs from run to run, and what is written instead.
static VARYING: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"https://127\.0\.0\.1:\d+", "<server>"),
        (r"(Created pod: [a-z0-9-]+)-[a-z0-9]{5}\b", "$1-<end>"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}", "<time>"),
        (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "<time>"),
        (r#"(resourceVersion"?: )\S+"#, "$1<version>"),
        (r"^([IW])\d{4} \S+ +\d+ ", "$1 <time> "),
        (r"-[bcdfghjklmnpqrstvwxz2-9]{10}-[bcdfghjklmnpqrstvwxz2-9]{5}\b", "-<hash>-<end>"),
        (r"(web|pod-template-hash[=:] ?)(-?)[bcdfghjklmnpqrstvwxz2-9]{8,10}\b", "$1$2<hash>"),
        (r"(^|\s)(\d+[dhms]){1,2}( ago)?(\s|$)", "$1<age>$3$4"),
        (r"\b10\.\d+\.\d+\.\d+", "<ip>"),
        (r"/tmp/\S+", "<path>"),
        (r"[ \t]+", " "),
        (r" $", ""),
    ]
    .into_iter()
    .map(|(pattern, text)| (Regex::new(pattern).unwrap(), text))
    .collect()
});

fn settled(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let plain = |line: String, (pattern, text): &(Regex, &str)| {
            pattern.replace_all(&line, *text).into_owned()
        };
        VARYING.iter().fold(line.to_owned(), plain)
    };
    // What would be read as something else stands behind a bar.
    let marked = |line: String| match line.starts_with(['#', '$', '~', '@', '=']) {
        _ if line.is_empty() => "|".to_owned(),
        true => format!("|{line}"),
        false => line,
    };
    text.lines().map(line).map(marked).collect()
}

/// Runs a step; what it printed, and its exit code.
fn run(world: &World, kubectl: &Path, files: &Path, step: &Step) -> Vec<String> {
    let (text, code) = world.exits(kubectl, files, &words(&step.args));
    let mut lines = settled(&text);
    if code != 0 {
        lines.push(format!("exit {code}"));
    }
    lines
}

fn run_until(
    world: &World,
    kubectl: &Path,
    files: &Path,
    step: &Step,
    version: &str,
) -> Vec<String> {
    let limit = if std::env::var_os("UPDATE_EXPECT").is_some() { SETTLED } else { DEADLINE };
    let begun = Instant::now();
    loop {
        let lines = run(world, kubectl, files, step);
        if !step.again || lines == step.expects(version) || begun.elapsed() > limit {
            return lines;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// `1.20` of a kubectl that says it is 1.20.2.
pub(crate) fn version(kubectl: &Path) -> String {
    let output =
        Command::new(kubectl).args(["version", "--client", "-o", "json"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let full = told["clientVersion"]["gitVersion"].as_str().unwrap_or_default();
    full.trim_start_matches('v').split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Runs a script with each kubectl whose words are written down, in a cluster of its own.
fn check(name: &str) {
    let all: Vec<(String, PathBuf)> =
        kubectls(name).into_iter().map(|kubectl| (version(&kubectl), kubectl)).collect();
    let mut wrong = Vec::new();
    for recorded in RECORDED {
        match all.iter().find(|(version, _)| version == recorded) {
            Some((version, kubectl)) => wrong.extend(check_with(name, version, kubectl)),
            None => eprintln!("skipped: {name}: with kubectl {recorded}, which is not here"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check_with(name: &str, version: &str, kubectl: &Path) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl/scripts").join(name);
    let (mut steps, files) = parse(&fs::read_to_string(&path).unwrap());
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let place: PathBuf = folder.path().join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    }
    eprintln!("{name} with kubectl {version}");
    let world = World::up_with(1, "writes: direct\n");
    let mut wrong = Vec::new();
    for step in &mut steps {
        let told = run_until(&world, kubectl, folder.path(), step, version);
        if told == step.expects(version) {
            continue;
        }
        wrong.push(format!(
            "{name}:{} with kubectl {version}: {}\n--- expected\n{}\n--- printed\n{}",
            step.line,
            step.args,
            step.expects(version).join("\n"),
            told.join("\n")
        ));
        if version == RECORDED[0] {
            step.expected = told;
        } else {
            step.others.retain(|(of, _)| of != version);
            step.others.push((version.to_owned(), told));
        }
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, written(&steps)).unwrap();
        return Vec::new();
    }
    wrong
}

#[test]
fn objects() {
    check("objects.txt");
}

#[test]
fn workloads() {
    check("workloads.txt");
}

#[test]
fn jobs() {
    check("jobs.txt");
}

#[test]
fn cluster() {
    check("cluster.txt");
}

#[test]
fn kinds_that_users_add() {
    check("custom.txt");
}
