//! Whole files in, objects and problems out.

use std::{collections::BTreeSet, time::Duration};

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::model::GroupKind;

/// Most processor time that any hostile file may take, in an unoptimised build.
const HOSTILE_SECONDS_MAX: u64 = 20;

fn rendered(files: &[(&str, &str)]) -> Rendered {
    render(files.iter().map(|(path, text)| (*path, text.as_bytes())), &Options::default())
}

fn check(files: &[(&str, &str)], expect: Expect) {
    let rendered = rendered(files);
    let mut text = String::new();
    for (key, object) in &rendered.objects {
        text.push_str(&format!("{key} ({}:{})\n", object.file, object.line));
    }
    for problem in &rendered.problems {
        text.push_str(&format!("problem {problem}\n"));
    }
    for warning in &rendered.warnings {
        text.push_str(&format!("warning {warning}\n"));
    }
    expect.assert_eq(&text);
}

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:1
";

#[test]
fn documents_lists_and_json_of_one_commit() {
    check(
        &[
            (
                "apps/web.yaml",
                &format!(
                    "# comment\n---\n{WEB}---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n"
                ),
            ),
            (
                "apps/list.yml",
                "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: a, namespace: shop}\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: b, namespace: shop}\n",
            ),
            (
                "apps/c.json",
                "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"ConfigMap\",\n\t\"metadata\": {\"name\": \"c\"}\n}\n",
            ),
            ("README.md", "# not read"),
            (".github/x.yaml", "not: read"),
            ("docs/x.yaml", "not: read"),
            (".mainstayignore", "# folders\ndocs/\n"),
        ],
        expect![[r#"
            ConfigMap default/c (apps/c.json:1)
            ConfigMap shop/a (apps/list.yml:4)
            Deployment default/web (apps/web.yaml:3)
            Namespace shop (apps/web.yaml:18)
            Secret shop/b (apps/list.yml:7)
        "#]],
    );
}

#[test]
fn every_problem_has_its_line() {
    check(
        &[(
            "web.yaml",
            "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  lables: {app: web}
spec:
  replica: 2
  minReadySeconds: \"3\"
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: other}}
    spec:
      containers:
      - name: web
        image: web:1
        ports:
        - containerPort: 80
          prot: TCP
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  ports:
  - port: 70000
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
---
apiVersion: extensions/v1beta1
kind: Deployment
metadata: {name: old}
---
hello: world
---
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: lost, namespace: nowhere}
---
apiVersion: v1
kind: ConfigMap
metadata: {generateName: x-}
",
        )],
        expect![[r#"
            ConfigMap nowhere/lost (web.yaml:42)
            problem web.yaml:5: metadata.lables: unknown field "lables": did you mean "labels"?
            problem web.yaml:7: spec.replica: unknown field "replica": did you mean "replicas"?
            problem web.yaml:8: spec.minReadySeconds: expected integer, found string
            problem web.yaml:18: spec.template.spec.containers[0].ports[0].prot: unknown field "prot": did you mean "protocol"?
            problem web.yaml:26: spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive
            problem web.yaml:26: spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            problem web.yaml:29: kind: Unsupported value: "StatefulSet": apps/v1 StatefulSet is not supported yet
            problem web.yaml:32: apiVersion: Unsupported value: "extensions/v1beta1": Deployment is served as apps/v1 now; write apiVersion: apps/v1
            problem web.yaml:36: apiVersion and kind are required: add them, or name the file in .mainstayignore if it is no Kubernetes object
            problem web.yaml:39: kind: Forbidden: Node objects are made by the cluster itself: remove this one from the repository
            problem web.yaml:42: metadata.namespace: namespaces "nowhere" not found: add a Namespace to the repository
            problem web.yaml:48: metadata.generateName: Forbidden: a generated name would make a new object with each commit: write metadata.name
        "#]],
    );
}

/// A kind whose controller is not there yet would be a promise that nobody keeps: the API takes it,
/// Git does not.
#[test]
fn kinds_without_a_controller_are_refused_by_name() {
    check(
        &[(
            "shop.yaml",
            "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: 'system:reader'}
rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: few}
spec: {hard: {pods: 5}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {nothing: true}
---
apiVersion: networking.k8s.io/v1beta1
kind: Ingress
metadata: {name: web}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
---
apiVersion: v1
kind: StorageClass
metadata: {name: fast}
---
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: mine}
",
        )],
        expect![[r#"
            ResourceQuota default/few (shop.yaml:6)
            Role default/system:reader (shop.yaml:1)
            problem shop.yaml:12: kind: Unsupported value: "Ingress": networking.k8s.io/v1 Ingress is not supported yet
            problem shop.yaml:16: apiVersion: Unsupported value: "networking.k8s.io/v1beta1": Ingress is networking.k8s.io/v1 now, which is not supported yet
            problem shop.yaml:21: kind: Unsupported value: "PersistentVolumeClaim": v1 PersistentVolumeClaim is not supported yet
            problem shop.yaml:25: kind: Unsupported value: "StorageClass": storage.k8s.io/v1 StorageClass is not supported yet
            problem shop.yaml:29: kind: Forbidden: CertificateSigningRequest objects are made by the cluster itself: remove this one from the repository
        "#]],
    );
}

/// A definition of plums, which are ripe or not and weigh something.
const PLUMS: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: plums.fruit.example}
spec:
  group: fruit.example
  scope: Namespaced
  names: {kind: Plum, plural: plums, singular: plum, listKind: PlumList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [grams]
            properties: {grams: {type: integer, minimum: 1}, ripe: {type: boolean, default: false}}
";

#[test]
fn objects_of_custom_kinds_are_judged_by_their_definition() {
    let plum = |name: &str, rest: &str| {
        format!("apiVersion: fruit.example/v1\nkind: Plum\nmetadata: {{name: {name}}}\n{rest}---\n")
    };
    let good = plum("a", "spec: {grams: 20}\nstatus: {eaten: true}\n");
    let bad =
        plum("light", "spec:\n  grams: 0\n") + &plum("typo", "spec:\n  grams: 1\n  ripa: true\n");
    let twice = plum("a", "spec: {grams: 21}\n");
    let other = "apiVersion: fruit.example/v2\nkind: Plum\nmetadata: {name: p}\n---\n\
                 apiVersion: fruit.example/v1\nkind: Pear\nmetadata: {name: p}\n";
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: fruit.example/v1\n  kind: Plum\n  \
                metadata:\n    generateName: p-\n  spec: {grams: 1}\n";
    check(
        &[
            // What stands before its definition is judged by it all the same.
            ("a.yaml", &good),
            ("bad.yaml", &bad),
            ("kinds.yaml", PLUMS),
            ("list.yaml", list),
            ("other.yaml", other),
            ("twice.yaml", &twice),
        ],
        expect![[r#"
            CustomResourceDefinition plums.fruit.example (kinds.yaml:1)
            Plum default/a (a.yaml:1)
            problem bad.yaml:5: spec.grams: Invalid value: 0: spec.grams in body should be greater than or equal to 1
            problem bad.yaml:12: spec.ripa: unknown field "ripa": did you mean "ripe"?
            problem list.yaml:7: metadata.generateName: Forbidden: a generated name would make a new object with each commit: write metadata.name
            problem other.yaml:2: kind: Unsupported value: "Plum": fruit.example/v2 has no kind Plum
            problem other.yaml:6: kind: Unsupported value: "Pear": no CustomResourceDefinition adds this kind to fruit.example/v1: add it to the repository
            problem twice.yaml:1: metadata.name: Plum default/a is already defined at a.yaml:1: keep one of the two
        "#]],
    );
    let ripe = super::render(
        [("a.yaml", good.as_bytes()), ("kinds.yaml", PLUMS.as_bytes())],
        &Options::default(),
    );
    let found = ripe.objects.values().find(|o| o.file == "a.yaml").unwrap();
    assert_eq!(found.object.value()["spec"], serde_json::json!({"grams": 20, "ripe": false}));
    assert_eq!(found.object.value().get("status"), None);
}

#[test]
fn what_yaml_itself_forbids() {
    check(
        &[
            (
                "double.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: b\n  a: c\n",
            ),
            ("tab.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n\tname: a\n"),
            (
                "bool.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: on}\ndata:\n  a: yes\n",
            ),
            (
                "merge.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, annotations: &a {x: \"1\"}}\ndata: {<<: *a}\n",
            ),
            ("anchor.yaml", "a: *nothing\n"),
            ("chart/Chart.yaml", "name: a\n"),
            ("empty.yaml", "\n# nothing\n"),
            ("scalar.yaml", "just text\n"),
        ],
        expect![[r#"
            ConfigMap default/m (merge.yaml:1)
            problem anchor.yaml:1: alias references unknown anchor
            problem bool.yaml:3: metadata.name: expected string, found boolean
            problem bool.yaml:5: data.a: expected string, found boolean
            problem chart/Chart.yaml: Helm is not supported yet: commit what it renders, and name this file in .mainstayignore
            problem double.yaml:6: duplicate mapping key: a
            problem scalar.yaml:1: apiVersion and kind are required: add them, or name the file in .mainstayignore if it is no Kubernetes object
            problem tab.yaml:4: tabs disallowed within this context (block indentation)
        "#]],
    );
}

#[test]
fn an_object_may_be_written_once() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    check(
        &[("a.yaml", map), ("b.yaml", map)],
        expect![[r#"
        ConfigMap default/a (a.yaml:1)
        problem b.yaml:1: metadata.name: ConfigMap default/a is already defined at a.yaml:1: keep one of the two
    "#]],
    );
}

#[test]
fn live_namespaces_count() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n";
    let file = render_file("a.yaml", map.as_bytes());
    let options = Options { live_namespaces: ["shop".to_owned()].into() };
    assert_eq!(combine([&file], &options).problems, []);
    assert_eq!(combine([&file], &Options::default()).problems.len(), 1);
}

/// Exports of live objects may be committed: what the cluster wrote is dropped and changes no
/// digest.
#[test]
fn exports_render_like_what_was_written() {
    let plain = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let export = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default, uid: u, \
                  resourceVersion: \"7\", creationTimestamp: \"2026-01-01T00:00:00Z\"}\n";
    let digest = |text: &str| render_file("a.yaml", text.as_bytes()).objects[0].digest;
    assert_eq!(digest(plain), digest(export));
}

/// One bad input: it must give a problem, soon.
/// Processor time of this thread: what other programs do to the clock is no matter of a file's.
fn busy() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the test bounds the time")]
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn hostile(name: &str, bytes: &[u8]) {
    let start = busy();
    let result = render_file("bad.yaml", bytes);
    let took = busy() - start;
    assert!(!result.problems.is_empty(), "{name}: no problem");
    assert!(result.objects.is_empty(), "{name}");
    assert!(took < Duration::from_secs(HOSTILE_SECONDS_MAX), "{name}: {took:?}");
}

#[test]
fn hostile_files_are_problems_soon() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let before = format!("*a{}", i - 1);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![before; 9].join(",")));
    }
    hostile("alias bomb", bomb.as_bytes());
    let merges: String = (1..2000).map(|i| format!("m{i}: {{<<: *m{}}}\n", i - 1)).collect();
    hostile("merge chain", merges.as_bytes());
    hostile("flow depth", "[".repeat(100_000).as_bytes());
    hostile("map depth", "{a: ".repeat(100_000).as_bytes());
    hostile("block depth", "- ".repeat(100_000).as_bytes());
    let steps: String = (0..1500).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    hostile("indented depth", steps.as_bytes());
    hostile("100 MB", &vec![b'a'; 100 << 20]);
    hostile("not UTF-8", b"apiVersion: v1\nkind: \xff\xfe\n");
    hostile("NUL", b"apiVersion: v1\nkind: \0\n");
    hostile("documents", "---\na\n".repeat(20_000).as_bytes());
    hostile("quotes", "\"".repeat(1_000_001).as_bytes());
    hostile("keys", "? ".repeat(100_000).as_bytes());
    hostile("anchors", "&a ".repeat(100_000).as_bytes());
    hostile("directives", "%YAML 9.9\n".repeat(100_000).as_bytes());
    let wide: String = (0..140_000).map(|i| format!("k{i}: x\n")).collect();
    hostile("wide map", wide.as_bytes());
    hostile("wide list", "- x\n".repeat(750_000).as_bytes());
    hostile("long scalar", format!("a: {}", "x".repeat(3_000_000)).as_bytes());
    let same = "apiVersion: v1\nkind: Pod\nmetadata: {nam: 1}\nspec: {x: 1, y: 2}\n---\n";
    hostile("many problems", same.repeat(3_000).as_bytes());
}

#[test]
fn problems_of_one_file_are_bounded() {
    let bad = "a: b\n---\n".repeat(500);
    let result = render_file("a.yaml", bad.as_bytes());
    assert_eq!(result.problems.len(), 101);
    assert_eq!(result.problems[100].message, "and 400 more in this file");
}

fn keys(names: &[&str]) -> BTreeSet<Key> {
    names.iter().map(|n| Key::parse(n).unwrap()).collect()
}

fn prune(
    live: &BTreeSet<Key>,
    wanted: &BTreeSet<Key>,
    trailers: &[(String, String)],
    options: PruneOptions,
) -> Result<Vec<Key>, Problem> {
    let gone = live.difference(wanted).cloned().collect();
    prune_guard(gone, (live.len(), wanted.len()), trailers, options)
}

#[test]
fn pruning_asks_before_it_takes_much() {
    let live = keys(&["ConfigMap/a/1", "ConfigMap/a/2", "Pod/a/3", "Namespace//a"]);
    let guard = |wanted: &[&str], trailers: &[(&str, &str)]| {
        let trailers: Vec<(String, String)> =
            trailers.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        match prune(&live, &keys(wanted), &trailers, PruneOptions::default()) {
            Ok(gone) => gone.iter().map(Key::to_path).collect::<Vec<_>>().join(" "),
            Err(problem) => format!("refused: {problem}"),
        }
    };
    let yes = [("prune-approved", "Yes")];
    let all = [
        guard(&["Namespace//a", "ConfigMap/a/1"], &[]),
        guard(&["ConfigMap/a/1", "ConfigMap/a/2", "Pod/a/3"], &[]),
        guard(&["ConfigMap/a/1"], &yes),
        guard(&[], &[]),
        guard(&[], &yes),
    ];
    expect![[r#"
        Pod/a/3 ConfigMap/a/2
        refused: the commit deletes Namespace a and all it holds: add the trailer "Prune-Approved: yes" to the commit message if it is meant
        Pod/a/3 ConfigMap/a/2 Namespace//a
        refused: the commit holds no object, and 4 are live: an empty tree never deletes; check branch and path, or delete the objects one by one
        refused: the commit holds no object, and 4 are live: an empty tree never deletes; check branch and path, or delete the objects one by one"#]].assert_eq(&all.join("\n"));
}

#[test]
fn pruning_is_approved_in_a_persons_words() {
    let live = keys(&["Namespace//a", "Namespace//b"]);
    let guard = |said: &str| {
        let trailers = [("Prune-Approved".to_owned(), said.to_owned())];
        prune(&live, &keys(&["Namespace//a"]), &trailers, PruneOptions::default())
    };
    for said in ["yes", "YES", " Yes. ", "y", "true", "OK", "ok!", "\"yes\"", "Approved"] {
        assert!(guard(said).is_ok(), "{said}");
    }
    for said in ["no", "", "not yes", "yesterday", "false", "0"] {
        assert!(guard(said).is_err(), "{said}");
    }
    let refused = guard("maybe").unwrap_err().to_string();
    expect![[r#"the commit deletes Namespace b and all it holds: the trailer says "Prune-Approved: maybe", which approves nothing; write "Prune-Approved: yes" in the commit message if it is meant"#]]
        .assert_eq(&refused);
}

#[test]
fn pruning_a_large_share_waits() {
    let live: BTreeSet<Key> =
        (0..20).map(|i| Key::new(GroupKind::new("", "ConfigMap"), "a", &i.to_string())).collect();
    let kept = |n: usize| live.iter().take(n).cloned().collect::<BTreeSet<_>>();
    let options = PruneOptions::default();
    assert_eq!(prune(&live, &kept(10), &[], options).unwrap().len(), 10);
    assert!(prune(&live, &kept(9), &[], options).is_err());
    let off = PruneOptions { disabled: true, ..options };
    assert_eq!(prune(&live, &kept(9), &[], off).unwrap(), []);
}

#[test]
fn ignore_rules() {
    let ignore = Ignore::parse(b"# c\nvalues*.yaml\n/charts/x\nci/\n");
    for (path, read) in [
        ("a.yaml", true),
        ("a/b.YML", true),
        ("a.json", true),
        ("a.txt", false),
        (".hidden/a.yaml", false),
        ("a/values-prod.yaml", false),
        ("charts/x/a.yaml", false),
        ("other/charts/x/a.yaml", true),
        ("ci/a.yaml", false),
        ("deep/ci/a.yaml", false),
        ("ci.yaml", true),
        ("a/Kustomization", true),
    ] {
        assert_eq!(ignore.is_manifest(path), read, "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the bytes are, there is an answer.
    #[test]
    fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let result = render_file("a.yaml", &bytes);
        prop_assert!(result.problems.len() <= 101);
    }

    /// Bytes that are nearly a manifest reach deeper.
    #[test]
    fn any_damage_has_an_answer(
        at in 0..WEB.len(),
        cut in 0..20usize,
        put in "[-:{}\\[\\]&*!|>'\"%@`a0 \n\t]{0,6}",
    ) {
        let end = (at + cut).min(WEB.len());
        let text = format!("{}{put}{}", &WEB[..at], &WEB[end..]);
        let result = render_file("a.yaml", text.as_bytes());
        let combined = combine([&result], &Options::default());
        prop_assert!(combined.problems.iter().all(|p| p.file == "a.yaml"));
    }

    /// A picture that followed file by file says the same as one made in one go.
    #[test]
    fn a_picture_follows_its_files(
        steps in proptest::collection::vec((0..6usize, proptest::option::of(0..8usize)), 1..24),
    ) {
        let (mut picture, mut last) = (Picture::default(), std::collections::BTreeMap::new());
        for (file, content) in steps {
            let path = format!("{file}.yaml");
            let before = picture.clone();
            let mut touched = BTreeSet::new();
            match content {
                Some(content) => {
                    let result = render_file(&path, variant(content).as_bytes());
                    picture.put(result.clone().into(), &mut touched);
                    last.insert(path, result);
                }
                None => {
                    picture.remove(&path, &mut touched);
                    last.remove(&path);
                }
            }
            let whole = combine(last.values(), &Options::default());
            let objects: std::collections::BTreeMap<_, _> =
                picture.objects().map(|(k, o)| (k.clone(), o)).collect();
            prop_assert_eq!(&objects, &whole.objects);
            prop_assert_eq!(picture.len(), whole.objects.len());
            prop_assert_eq!(picture.problems(&Options::default()), whole.problems);
            prop_assert_eq!(picture.warnings(), whole.warnings);
            let of_kind = |kind: &GroupKind| objects.keys().filter(|k| k.kind == *kind).count();
            prop_assert!(picture.kinds().all(|(k, n)| n > 0 && of_kind(k) as u64 == n));
            let differ = |k: &&Key| picture.object(k) != before.object(k);
            let keys: BTreeSet<Key> =
                picture.objects().chain(before.objects()).map(|(k, _)| k.clone()).collect();
            prop_assert!(keys.iter().filter(differ).all(|k| touched.contains(k)));
        }
    }
}

/// Files that write the same objects, twice in one file too, lose a namespace, or are no YAML.
fn variant(number: usize) -> String {
    let map = |name: &str, namespace: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: {namespace}\n---\n"
        )
    };
    match number {
        0 => map("a", "default"),
        1 => map("a", "default") + &map("b", "default"),
        2 => map("b", "default") + &map("b", "default"),
        3 => map("a", "shop"),
        4 => "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n".to_owned(),
        5 => "a: [".to_owned(),
        6 => map("c", "default") + "apiVersion: v1\nkind: ConfigMap\nmetadata: {nam: x}\n",
        _ => String::new(),
    }
}

#[test]
fn a_file_that_says_no_replicas_leaves_them_open() {
    let text = |kind: &str, spec: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: web}}\nspec:\n{spec}  selector: \
             {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
             spec: {{containers: [{{name: web, image: 'web:1'}}]}}\n"
        )
    };
    let open = |text: &str| render_file("a.yaml", text.as_bytes()).objects[0].open;
    assert!(open(&text("Deployment", "")));
    assert!(open(&text("Deployment", "  replicas: null\n")));
    assert!(!open(&text("Deployment", "  replicas: 1\n")));
    assert!(open(&text("ReplicaSet", "")));
    assert!(!open("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n"));
}
