//! What tests/kustomize does not hold against kubectl: which folders are rendered, where objects
//! come from, and what is too much.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::*;
use crate::render::{Options, render};

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";

/// Renders a repository and writes down what comes out.
fn check(files: &[(&str, &str)], expected: Expect) {
    let files = files.iter().map(|(path, text)| (*path, text.as_bytes()));
    let rendered = render(files, &Options::default());
    let mut text = String::new();
    for (key, found) in &rendered.objects {
        let made_by = found.made_by.as_ref().map_or(String::new(), |by| format!(" by {by}"));
        text.push_str(&format!("{key} {}:{}{made_by}\n", found.file, found.line));
    }
    rendered.problems.iter().for_each(|p| text.push_str(&format!("problem {p}\n")));
    rendered.warnings.iter().for_each(|p| text.push_str(&format!("warning {p}\n")));
    expected.assert_eq(&text);
}

/// What must not happen: a base that becomes part of the cluster by itself, a folder that is left
/// out without a word.
#[test]
fn what_is_rendered_is_what_nobody_else_takes_in() {
    let roots = |files: &[(&str, &str)]| {
        let mut layout = Layout::default();
        for (path, text) in files {
            layout.put(path, text.as_bytes());
        }
        let roots: Vec<String> = layout.roots().iter().map(ToString::to_string).collect();
        roots.join(" ")
    };
    let file = "kustomization.yaml";
    let component = "kind: Component\nresources: []\n";
    for (files, wanted) in [
        // The top stands for everything.
        (vec![("kustomization.yaml", "resources: [a]"), ("a/kustomization.yaml", "b: c")], ""),
        // Bases and components are there for others.
        (
            vec![
                ("base/kustomization.yaml", "resources: [x.yaml]"),
                ("parts/p/kustomization.yaml", component),
                ("prod/kustomization.yml", "resources: [../base]\ncomponents: [../parts/p]"),
                ("test/Kustomization", "bases: [../base/]"),
            ],
            "prod test",
        ),
        // What is below a kustomization is its own affair.
        (
            vec![
                ("app/kustomization.yaml", "resources: [web]"),
                ("app/web/kustomization.yaml", "resources: [x.yaml]"),
                ("app/old/kustomization.yaml", "resources: [x.yaml]"),
            ],
            "app",
        ),
        // Named only by what is not rendered itself: rendered.
        (
            vec![
                ("app/kustomization.yaml", "resources: [x.yaml]"),
                ("app/old/kustomization.yaml", "resources: [../../lib]"),
                ("lib/kustomization.yaml", "resources: [x.yaml]"),
            ],
            "app lib",
        ),
        // A round is rendered, so that somebody hears of it.
        (
            vec![
                ("a/kustomization.yaml", "resources: [../b]"),
                ("b/kustomization.yaml", "resources: [../a]"),
            ],
            "a",
        ),
        // A component that nobody names.
        (vec![("parts/p/kustomization.yaml", component)], "parts/p"),
        // Not YAML: rendering says so.
        (vec![("a/kustomization.yaml", "a: [b")], "a"),
    ] {
        assert_eq!(roots(&files), wanted, "{files:?}");
    }
    let mut layout = Layout::default();
    assert!(layout.put("a/kustomization.yaml", b"resources: []"));
    assert!(!layout.put("a/kustomization.yml", b"resources: []"));
    let plain = ["b/x.yaml", "x.yaml", "a/x.yaml", "a/b/c/x.yaml"].map(|p| layout.is_plain(p));
    assert_eq!(plain, [true, true, false, false]);
    assert!(!layout.remove(&format!("a/{file}")) && layout.remove("a/kustomization.yml"));
    assert!(layout.is_empty() && layout.is_plain("a/x.yaml") && !layout.remove("c/Kustomization"));
}

#[test]
fn objects_know_their_line_and_who_made_them() {
    check(
        &[
            ("plain.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\n"),
            ("base/kustomization.yaml", "resources: [all.yaml, list.yaml]\n"),
            ("base/all.yaml", &format!("# a comment\n{MAP}---\n{}", MAP.replace(": a}", ": b}"))),
            (
                "base/list.yaml",
                "kind: List\napiVersion: v1\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  \
                 metadata: {name: l}\n",
            ),
            ("base/unused.yaml", &MAP.replace(": a}", ": unused}")),
            (
                "prod/kustomization.yaml",
                "namespace: kube-public\nresources:\n- ../base\nconfigMapGenerator:\n- name: one\n  \
                 literals: [a=b]\n- name: two\n  options: {disableNameSuffixHash: true}\n",
            ),
        ],
        expect![[r#"
            ConfigMap default/plain plain.yaml:1
            ConfigMap kube-public/a base/all.yaml:2 by prod/kustomization.yaml
            ConfigMap kube-public/b base/all.yaml:6 by prod/kustomization.yaml
            ConfigMap kube-public/l base/list.yaml:1 by prod/kustomization.yaml
            ConfigMap kube-public/one-4h2mbtbbt6 prod/kustomization.yaml:5 by prod/kustomization.yaml
            ConfigMap kube-public/two prod/kustomization.yaml:7 by prod/kustomization.yaml
        "#]],
    );
}

#[test]
fn what_is_wrong_with_an_object_is_told_where_it_is_written() {
    check(
        &[
            ("base/kustomization.yaml", "resources: [a.yaml]\nsecretGenerator:\n- name: UPPER\n"),
            (
                "base/a.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: 5\n",
            ),
            ("one/kustomization.yaml", "resources: [../base]\nnameSuffix: -one\n"),
            ("two/kustomization.yaml", "resources: [../base, ../gone]\nnameSuffix: -two\n"),
            ("part/kustomization.yaml", "kind: Component\nnamePrefix: a-\n"),
        ],
        expect![[r#"
            problem base/a.yaml:5: data.x: expected string, found integer (as one/kustomization.yaml makes it)
            problem base/kustomization.yaml:3: metadata.name: Invalid value: "UPPER-one-8226t8dd99": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*') (as one/kustomization.yaml makes it)
            problem two/kustomization.yaml:1: resources[1]: there is no file or folder gone in the repository
            warning part/kustomization.yaml:1: kind: this Component is named by no kustomization of the source: nothing of it is read
        "#]],
    );
}

/// What must not happen: a repository of a few lines that takes all memory there is.
#[test]
fn nothing_grows_beyond_its_bound() {
    let refused = |files: Vec<(String, String)>, folder: &str| {
        let mut held: Held<'_> = files.iter().map(|(p, t)| (p.as_str(), t.as_bytes())).collect();
        let problems = build_values(folder, &mut held).expect_err("too much is taken");
        problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("\n")
    };
    let at = |folder: &str, text: String| (format!("{folder}/kustomization.yaml"), text);
    let many = |n: usize| -> String {
        (0..n).map(|i| MAP.replace(": a}", &format!(": m{i}}}")) + "---\n").collect()
    };
    // Each level twice what is below it.
    let mut doubled = vec![("0/a.yaml".to_owned(), MAP.to_owned())];
    doubled.push(at("0", "resources: [a.yaml]".to_owned()));
    for level in 1..=20 {
        let (below, left) = (level - 1, format!("{level}l"));
        doubled.push(at(&left, format!("resources: [../{below}]\nnamePrefix: l{level}-\n")));
        let text = format!("resources: [../{left}, ../{below}]\n");
        doubled.push(at(&level.to_string(), text));
    }
    assert!(refused(doubled, "20").contains("more than 10000"));
    // A long chain.
    let mut chain = vec![at("0", "resources: []".to_owned())];
    chain.extend((1..50).map(|i| at(&i.to_string(), format!("resources: [../{}]", i - 1))));
    assert!(refused(chain, "49").contains("more than 32 kustomizations name each other"));
    // One long text for many.
    let all = ("all.yaml".to_owned(), many(5000));
    let long = "x".repeat(100_000);
    for (field, message) in [
        (format!("commonAnnotations: {{a: {long}}}"), "grow by more than"),
        (format!("namePrefix: {long}"), "longer than 253 bytes"),
        (
            format!(
                "patches:\n- target: {{kind: ConfigMap}}\n  patch: '[{{\"op\": \"add\", \"path\": \
                 \"/data\", \"value\": {{\"a\": \"{long}\"}}}}]'"
            ),
            "grow by more than",
        ),
    ] {
        let top = ("kustomization.yaml".to_owned(), format!("resources: [all.yaml]\n{field}\n"));
        assert!(refused(vec![all.clone(), top], "").contains(message), "{message}");
    }
    // A value that is added to itself.
    let double = "- source: {kind: ConfigMap, fieldPath: metadata.annotations.a}\n  targets:\n  - \
                  select: {kind: ConfigMap}\n    fieldPaths: [metadata.annotations.a]\n    options: \
                  {delimiter: '|', index: 9999}\n";
    let own = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {a: x}}\n";
    let top = format!("resources: [a.yaml]\nreplacements:\n{}", double.repeat(40));
    let files = vec![("a.yaml".to_owned(), own.to_owned()), ("kustomization.yaml".to_owned(), top)];
    assert!(refused(files, "").contains("grows beyond"));
    // An operation that copies.
    let copy = |i: usize| format!("- {{op: copy, from: /data, path: /data/x{i}}}\n");
    let copies: String = (0..40).map(copy).collect();
    let data = format!("{MAP}data: {{a: b}}\n");
    let top = "resources: [a.yaml]\npatches: [{path: p.yaml, target: {kind: ConfigMap}}]\n";
    let files = [("a.yaml", data.as_str()), ("p.yaml", &copies), ("kustomization.yaml", top)];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert!(refused(files.to_vec(), "").contains("copies more than"));
    // Paths that make an object deeper than anybody reads.
    let deep = "x.".repeat(100_000);
    for field in [
        format!(
            "labels: [{{pairs: {{a: b}}, fields: [{{path: {}, create: true}}]}}]",
            deep.replace('.', "/")
        ),
        format!(
            "replacements:\n- source: {{kind: ConfigMap}}\n  targets: [{{select: {{kind: ConfigMap}}, \
             fieldPaths: [{deep}x], options: {{create: true}}}}]"
        ),
    ] {
        let top = ("kustomization.yaml".to_owned(), format!("resources: [a.yaml]\n{field}\n"));
        let files = vec![("a.yaml".to_owned(), MAP.to_owned()), top];
        assert!(refused(files, "").contains("deeper than 64"), "{}", &field[..20]);
    }
    let deeper: String = (0..500)
        .map(|i| format!("- {{op: add, path: /data{}, value: {{x: {{}}}}}}\n", "/x".repeat(i)))
        .collect();
    let files = [("a.yaml", data.as_str()), ("p.yaml", &deeper), ("kustomization.yaml", top)];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert!(refused(files.to_vec(), "").contains("deeper than 64"));
}

/// What must not happen: a result that depends on a path that was not asked for.
#[test]
fn every_path_is_asked_for() {
    struct Asked<'a>(Held<'a>, BTreeMap<String, Found>);
    impl Files for Asked<'_> {
        fn find(&mut self, path: &str) -> Found {
            let found = self.0.find(path);
            self.1.insert(path.to_owned(), found.clone());
            found
        }
    }
    let files = [
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", MAP),
        (
            "prod/kustomization.yml",
            "resources: [../base]\nconfigMapGenerator: [{name: g, files: [x]}]\n",
        ),
        ("prod/x", "text"),
        ("prod/other", "text"),
    ];
    let held = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
    let mut asked = Asked(held, BTreeMap::new());
    let result = render_kustomization("prod", &mut asked);
    assert_eq!((result.path.as_str(), result.objects.len()), ("prod/kustomization.yml", 2));
    let paths: Vec<&str> = asked.1.keys().map(String::as_str).collect();
    let wanted = [
        "base",
        "base/Kustomization",
        "base/a.yaml",
        "base/kustomization.yaml",
        "base/kustomization.yml",
        "prod/Kustomization",
        "prod/kustomization.yaml",
        "prod/kustomization.yml",
        "prod/x",
    ];
    assert_eq!(paths, wanted);
}
