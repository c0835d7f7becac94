//! Kustomizations: what we make of a layout is what the kustomize inside kubectl makes of it.
//!
//! Each file of `layouts/` is a small repository as text, the folder that is built, and what comes
//! out. `expected` was written by kubectl, and kubectl is asked again where there is one; what is
//! `refused` kubectl refuses too, in other words; what is `unsupported` is refused by us alone.
//! `UPDATE_EXPECT=1` writes the results anew.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test of a shell")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mainstay::render::{self, Held};
use serde_json::Value;

/// What is said of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Expected,
    Refused,
    Unsupported,
}

const KINDS: [(&str, Kind); 3] = [
    ("== expected ==", Kind::Expected),
    ("== refused ==", Kind::Refused),
    ("== unsupported ==", Kind::Unsupported),
];

struct Layout {
    path: PathBuf,
    /// Everything before the result.
    head: String,
    folder: String,
    files: BTreeMap<String, Vec<u8>>,
    kind: Kind,
    result: String,
}

impl Layout {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let (mark, kind) = *KINDS.iter().find(|(mark, _)| text.contains(mark)).unwrap();
        let (given, result) = text.split_once(&format!("{mark}\n")).unwrap();
        let mut lines = given.lines();
        assert!(lines.next().unwrap().starts_with("# "), "{path:?} says nothing of itself");
        let folder = lines.next().unwrap().strip_prefix("build ").unwrap();
        let folder = if folder == "." { "" } else { folder }.to_owned();
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut here = None;
        for line in given.split_inclusive('\n').skip(2) {
            let name = line.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --\n"));
            match (name, &here) {
                (Some(name), _) => {
                    here = Some(name.to_owned());
                    files.insert(name.to_owned(), String::new());
                }
                (None, Some(name)) => files.get_mut(name).unwrap().push_str(line),
                (None, None) => panic!("{path:?}: {line}"),
            }
        }
        let files = files.into_iter().map(decoded).collect();
        Self {
            head: format!("{given}{mark}\n"),
            result: result.to_owned(),
            path,
            folder,
            files,
            kind,
        }
    }

    fn name(&self) -> String {
        self.path.file_stem().unwrap().to_string_lossy().into_owned()
    }

    fn write(&self, result: &str) {
        fs::write(&self.path, format!("{}{result}", self.head)).unwrap();
    }

    /// What we make of it: objects, or lines of problems.
    fn ours(&self) -> Result<Vec<Value>, String> {
        let mut held: Held<'_> =
            self.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        render::build_values(&self.folder, &mut held).map_err(|mut problems| {
            problems.sort();
            problems.iter().map(|problem| format!("{problem}\n")).collect()
        })
    }

    /// What kubectl prints; nothing when it refuses.
    fn kubectl(&self) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in &self.files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let folder = dir.path().join(&self.folder);
        let output = Command::new("kubectl").arg("kustomize").arg(folder).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }
}

/// A file whose name ends with `(base64)` is no text, or ends without a line break.
fn decoded((name, text): (String, String)) -> (String, Vec<u8>) {
    match name.strip_suffix(" (base64)") {
        Some(name) => (name.to_owned(), STANDARD.decode(text.trim()).unwrap()),
        None => (name, text.into_bytes()),
    }
}

fn layouts() -> Vec<Layout> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kustomize/layouts");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let only = std::env::var("MAINSTAY_LAYOUT").unwrap_or_default();
    paths.retain(|path| path.to_string_lossy().contains(&only));
    paths.into_iter().map(Layout::read).collect()
}

fn updates() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

/// Objects in an order of their own, and without what makes no difference: nulls, and line breaks
/// in base64.
fn canonical(mut objects: Vec<Value>) -> Vec<Value> {
    objects.iter_mut().for_each(tidy);
    objects.sort_by_key(|object| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let meta = &object["metadata"];
        [&object["kind"], &object["apiVersion"], &meta["namespace"], &meta["name"]].map(text)
    });
    objects
}

fn tidy(value: &mut Value) {
    let data = match value["kind"].as_str() {
        Some("Secret") => value.get_mut("data"),
        Some("ConfigMap") => value.get_mut("binaryData"),
        _ => None,
    };
    for text in data.and_then(Value::as_object_mut).into_iter().flat_map(|map| map.values_mut()) {
        *text = text.as_str().unwrap_or_default().replace('\n', "").into();
    }
    without_nulls(value);
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// The objects that only one side has.
fn difference(expected: &[Value], ours: &[Value]) -> Option<String> {
    let only = |some: &[Value], others: &[Value], mark: &str| -> String {
        let alone = some.iter().filter(|object| !others.contains(object));
        alone.map(|object| format!("{mark} {object}\n")).collect()
    };
    let text = only(expected, ours, "-") + &only(ours, expected, "+");
    (expected != ours).then_some(text)
}

#[test]
fn every_layout_gives_what_is_expected() {
    let mut wrong = Vec::new();
    for layout in layouts() {
        let name = layout.name();
        match (layout.kind, layout.ours()) {
            (Kind::Expected, Ok(ours)) => {
                let expected = render::documents(layout.result.as_bytes()).unwrap();
                let found = difference(&canonical(expected), &canonical(ours));
                wrong.extend(found.map(|text| format!("{name}:\n{text}")));
            }
            (Kind::Expected, Err(problems)) => wrong.push(format!("{name}: {problems}")),
            (_, Ok(objects)) => wrong.push(format!("{name} is not refused: {objects:?}")),
            (_, Err(problems)) if problems == layout.result => {}
            (_, Err(problems)) if updates() => layout.write(&problems),
            (_, Err(problems)) => wrong.push(format!("{name}: -{}+{problems}", layout.result)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A corpus that shrinks proves less.
#[test]
fn there_are_enough_layouts() {
    let count = |kind: Kind| layouts().iter().filter(|layout| layout.kind == kind).count();
    assert!(std::env::var_os("MAINSTAY_LAYOUT").is_some() || count(Kind::Expected) >= 80);
}

#[test]
fn the_kustomize_inside_kubectl_says_the_same() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        println!("skipped: there is no kubectl");
        return;
    }
    let mut wrong = Vec::new();
    for layout in layouts().iter().filter(|layout| layout.kind != Kind::Unsupported) {
        let name = layout.name();
        match (layout.kind, layout.kubectl()) {
            (Kind::Expected, Some(text)) if updates() => layout.write(&text),
            (Kind::Expected, Some(text)) => {
                let objects = |text: &str| canonical(render::documents(text.as_bytes()).unwrap());
                let found = difference(&objects(&layout.result), &objects(&text));
                wrong.extend(found.map(|text| format!("{name}:\n{text}")));
            }
            (Kind::Expected, None) => wrong.push(format!("{name} is refused by kubectl")),
            (_, Some(text)) => wrong.push(format!("{name} is taken by kubectl:\n{text}")),
            (_, None) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What must not happen: a repository that ends a server. Bytes of the layouts are changed at
/// random; whatever comes out, it comes out, and twice the same.
#[test]
fn changed_layouts_are_rendered_or_refused() {
    let layouts = layouts();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2000 {
        let layout = &layouts[random.below(layouts.len())];
        let mut files = layout.files.clone();
        let paths: Vec<String> = files.keys().cloned().collect();
        for _ in 0..=random.below(4) {
            let bytes = files.get_mut(&paths[random.below(paths.len())]).unwrap();
            random.change(bytes);
        }
        let build = || {
            let mut held: Held<'_> =
                files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
            render::render_kustomization(&layout.folder, &mut held)
        };
        assert!(build() == build(), "{} is rendered in two ways: {files:?}", layout.name());
    }
}

/// What means something in YAML or in a path.
const MARKS: &[u8] = b"[]{}:-#&*!|>'\"%@`,?~\n \t/.$0";

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }

    /// Changes, takes away or repeats some bytes.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(12)).min(bytes.len());
        match self.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let copied = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, copied);
            }
            2 => bytes.truncate(at),
            3 => bytes.insert(at, MARKS[self.below(MARKS.len())]),
            _ => bytes.extend_from_within(at..end),
        }
    }
}
