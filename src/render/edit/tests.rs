//! What a text becomes when one value in it changes.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Makes the first document of a text say something else, and gives the lines that differ.
fn edited(text: &str, change: impl Fn(&mut Value)) -> String {
    let read = Read::of(text).unwrap();
    let (document, old) = &read.documents[0];
    let mut new = old.clone();
    change(&mut new);
    let style = Style { lists_at_key: text::lists_at_key(text, &document.root), quoted: false };
    let mut edits = Edits::new(text, style);
    edits.value(&document.root, old, &new, &Place::Document);
    let out = edits.finish();
    let read = yaml::documents(out.as_bytes()).unwrap_or_else(|e| panic!("{e:?}: {out}"));
    assert_eq!(read.first().unwrap_or(&Value::Null), &new, "{out}");
    out
}

fn check(text: &str, change: impl Fn(&mut Value), expected: Expect) {
    expected.assert_eq(&edited(text, change));
}

const WEB: &str = "\
# The shop's front.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: 'web'   # short
  labels: {app: web, tier: \"front\"}
spec:
  # Two is enough on Sundays.
  replicas: 2 # see above
  template:
    spec:
      containers:
      - name: web
        image: \"web:1\" # the image
        args: [\"-a\", '-b']
        env:
        # Where it listens.
        - {name: PORT, value: \"80\"}
        - name: LEVEL
          value: info

      # Looks after it.
      - image: side:1
        name: side
  notes: |
    one
    two
  folded: >-
    a
    b
";

fn container(value: &mut Value, at: usize) -> &mut Value {
    &mut value["spec"]["template"]["spec"]["containers"][at]
}

#[test]
fn a_scalar_changes_where_it_stands_in_its_own_quotes() {
    check(
        "a: 1 # one\nb: 'x'\nc: \"y\"\nd: plain text\ne:\nf: ~\n",
        |v| {
            *v = json!({ "a": 2, "b": "it's", "c": "z", "d": "yes", "e": "new", "f": true });
        },
        expect![[r#"
            a: 2 # one
            b: 'it''s'
            c: "z"
            d: "yes"
            e: new
            f: true
        "#]],
    );
}

#[test]
fn a_field_of_a_deployment_changes_and_nothing_else() {
    check(
        WEB,
        |v| {
            v["spec"]["replicas"] = 5.into();
            container(v, 0)["image"] = "web:2".into();
            container(v, 0)["env"][0]["value"] = "8080".into();
            v["metadata"]["labels"]["tier"] = "back".into();
        },
        expect![[r##"
            # The shop's front.
            apiVersion: apps/v1
            kind: Deployment
            metadata:
              name: 'web'   # short
              labels: {app: web, tier: "back"}
            spec:
              # Two is enough on Sundays.
              replicas: 5 # see above
              template:
                spec:
                  containers:
                  - name: web
                    image: "web:2" # the image
                    args: ["-a", '-b']
                    env:
                    # Where it listens.
                    - {name: PORT, value: "8080"}
                    - name: LEVEL
                      value: info

                  # Looks after it.
                  - image: side:1
                    name: side
              notes: |
                one
                two
              folded: >-
                a
                b
        "##]],
    );
}

#[test]
fn keys_and_items_come_and_go() {
    check(
        WEB,
        |v| {
            v["metadata"]["annotations"] = json!({ "who": "ann", "a/b": "on" });
            v["metadata"]["labels"]["new"] = "l".into();
            v["metadata"]["labels"].as_object_mut().unwrap().remove("app");
            container(v, 0)["env"].as_array_mut().unwrap().remove(0);
            let more = json!({ "name": "MORE", "value": "1" });
            container(v, 0)["env"].as_array_mut().unwrap().push(more);
            container(v, 0)["args"] = json!(["-a", "-c", "-b"]);
            container(v, 1).as_object_mut().unwrap().remove("image");
            v["spec"].as_object_mut().unwrap().remove("folded");
            v["spec"]["notes"] = "one\nthree\n".into();
        },
        expect![[r##"
            # The shop's front.
            apiVersion: apps/v1
            kind: Deployment
            metadata:
              name: 'web'   # short
              labels: {tier: "front", new: l}
              annotations:
                a/b: "on"
                who: ann
            spec:
              # Two is enough on Sundays.
              replicas: 2 # see above
              template:
                spec:
                  containers:
                  - name: web
                    image: "web:1" # the image
                    args: ["-a", "-c", '-b']
                    env:
                    # Where it listens.
                    - name: LEVEL
                      value: info
                    - name: MORE
                      value: "1"

                  # Looks after it.
                  - name: side
              notes: |
                one
                three
        "##]],
    );
}

#[test]
fn a_list_loses_its_first_item_and_gets_another_in_front() {
    check(
        "list:\n  - a\n  # about b\n  - b\n  - c\n",
        |v| v["list"] = json!(["z", "b", "c", "d"]),
        expect![[r#"
            list:
              - z
              # about b
              - b
              - c
              - d
        "#]],
    );
    check(
        "list:\n- a\nx: 1\n",
        |v| v["list"] = json!([]),
        expect![[r#"
        list: []
        x: 1
    "#]],
    );
    check(
        "list: []\nx: 1\n",
        |v| v["list"] = json!(["a", { "b": 1 }]),
        expect![[r#"
        list:
          - a
          - b: 1
        x: 1
    "#]],
    );
    check(
        "list: [a]\n",
        |v| v["list"] = json!([]),
        expect![[r#"
        list: []
    "#]],
    );
}

#[test]
fn what_had_no_line_break_gets_one() {
    check(
        "a: 1",
        |v| v["b"] = json!({ "c": [1, 2] }),
        expect![[r#"
        a: 1
        b:
          c:
            - 1
            - 2"#]],
    );
    let out = edited("a:\r\n  b: 1\r\n", |v| v["a"]["c"] = json!(2));
    assert_eq!(out, "a:\r\n  b: 1\r\n  c: 2\r\n");
}

#[test]
fn json_stays_json() {
    let text = "{\n  \"kind\": \"X\",\n  \"spec\": {\n    \"a\": 1,\n    \"l\": [\n      \"x\"\n    ]\n  }\n}\n";
    check(
        text,
        |v| {
            v["spec"]["b"] = "yes".into();
            v["spec"]["l"] = json!(["x", "y"]);
            v["spec"].as_object_mut().unwrap().remove("a");
        },
        expect![[r#"
            {
              "kind": "X",
              "spec": {
                "l": [
                  "x",
                  "y"
                ],
                "b": "yes"
              }
            }
        "#]],
    );
}

#[test]
fn texts_of_several_lines_keep_their_shape() {
    check(
        "t: |-\n    one\n    two\n\n# c\nz: 1\n",
        |v| v["t"] = "x\n\ny".into(),
        expect![[r#"
        t: |-
          x

          y

        # c
        z: 1
    "#]],
    );
    check(
        "t: short\nz: 1\n",
        |v| v["t"] = "x\ny\n".into(),
        expect![[r#"
        t: |
          x
          y
        z: 1
    "#]],
    );
    check(
        "t: |\n  x\nz: 1\n",
        |v| v["t"] = "one".into(),
        expect![[r#"
        t: one
        z: 1
    "#]],
    );
    // The spaces at its end are part of it.
    check(
        "t: |-\n  x\n  y \n\nz: 1\n",
        |v| v["t"] = "x\ny".into(),
        expect![[r#"
        t: |-
          x
          y

        z: 1
    "#]],
    );
    check(
        "t: |+\n  x\n\nz: 1\n",
        |v| v["y"] = "one".into(),
        expect![[r#"
        t: |+
          x

        z: 1
        "y": one
    "#]],
    );
}

fn map(name: &str, data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata: {{k: \"{data}\"}}\n"
    )
}

const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

/// Carries a wish out on some files, and gives what becomes of them, or the refusal.
fn wished(files: &[(&str, &str)], key: &str, wish: &Wish) -> String {
    let (mut picture, mut touched) = (Picture::default(), BTreeSet::new());
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    for (path, text) in &files {
        picture.put(Arc::new(render_file(path, text.as_bytes())), &mut touched);
    }
    let mut kinds = Kinds::default();
    picture.definitions().for_each(|d| kinds.promise(&d.object, None, std::iter::empty()));
    let options = Options::default();
    let repository = Repository {
        picture: &picture,
        options: &options,
        kinds: &kinds,
        root: "",
        read: &|path| files.get(path).map(|text| text.as_bytes().to_vec()),
        is_wanted: &|path| path.ends_with(".yaml"),
    };
    match rewrite(&repository, &Key::parse(key).unwrap(), wish) {
        Ok(Rewritten { path, bytes: Some(bytes), .. }) => {
            format!("{path}\n{}", String::from_utf8(bytes).unwrap())
        }
        Ok(Rewritten { path, .. }) => format!("{path} goes\n"),
        Err(problem) => format!("refused: {problem}\n"),
    }
}

fn between(old: Value, new: Value) -> Wish {
    Wish::Change(Delta::between(&old, &new))
}

#[test]
fn an_object_is_found_among_others_in_a_file() {
    let files = [
        ("a.yaml", format!("{SHOP}---\n# m\n{}---\n{}", map("m", "1"), map("q", "1"))),
        (
            "list.yaml",
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  \
             metadata: {name: o, namespace: shop}\n- apiVersion: v1\n  kind: ConfigMap\n  \
             metadata: {name: p, namespace: shop}\n  data:\n    # k\n    k: \"1\"\n"
                .to_owned(),
        ),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (*p, t.as_str())).collect();
    let two = between(json!({ "data": { "k": "1" } }), json!({ "data": { "k": "2" } }));
    let mut all = String::new();
    for (key, wish) in [
        ("ConfigMap/shop/q", &two),
        ("ConfigMap/shop/p", &two),
        ("ConfigMap/shop/m", &Wish::Delete),
        ("ConfigMap/shop/q", &Wish::Delete),
        ("ConfigMap/shop/o", &Wish::Delete),
        ("ConfigMap/shop/gone", &Wish::Delete),
        // Others are still in it.
        ("Namespace//shop", &Wish::Delete),
    ] {
        all += &format!("== {key}\n{}", wished(&files, key, wish));
    }
    expect![[r#"
        == ConfigMap/shop/q
        a.yaml
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop}
        ---
        # m
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: m, namespace: shop}
        data: {k: "1"}
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: q, namespace: shop}
        data: {k: "2"}
        == ConfigMap/shop/p
        list.yaml
        apiVersion: v1
        kind: List
        items:
        - apiVersion: v1
          kind: ConfigMap
          metadata: {name: o, namespace: shop}
        - apiVersion: v1
          kind: ConfigMap
          metadata: {name: p, namespace: shop}
          data:
            # k
            k: "2"
        == ConfigMap/shop/m
        a.yaml
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop}
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: q, namespace: shop}
        data: {k: "1"}
        == ConfigMap/shop/q
        a.yaml
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop}
        ---
        # m
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: m, namespace: shop}
        data: {k: "1"}
        == ConfigMap/shop/o
        list.yaml
        apiVersion: v1
        kind: List
        items:
        - apiVersion: v1
          kind: ConfigMap
          metadata: {name: p, namespace: shop}
          data:
            # k
            k: "1"
        == ConfigMap/shop/gone
        refused: ConfigMap shop/gone is no longer in Git
        == Namespace//shop
        refused: a.yaml:1: ConfigMap shop/m is still in it, at a.yaml:6: delete that, and what else is in it, first
    "#]].assert_eq(&all);
}

#[test]
fn a_new_object_gets_a_file_without_defaults() {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { "a": "b" } },
            "template": {
                "metadata": { "labels": { "a": "b" } },
                "spec": { "containers": [{ "name": "c", "image": "i:1", "args": ["x\ny"] }] },
            },
        },
    });
    let full = admitted(&Kinds::default(), deployment).unwrap().value();
    let text = wished(&[("a.yaml", SHOP)], "Deployment.apps/shop/web", &Wish::Create(full));
    expect![[r#"
        shop/deployment-web.yaml
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: web
          namespace: shop
        spec:
          selector:
            matchLabels:
              a: b
          template:
            metadata:
              labels:
                a: b
            spec:
              containers:
                - name: c
                  args:
                    - |-
                      x
                      y
                  image: i:1
    "#]]
    .assert_eq(&text);
    // A new container brings no defaults along either.
    let (path, file) = text.split_once('\n').unwrap();
    let live = admitted(&Kinds::default(), yaml::documents(file.as_bytes()).unwrap().remove(0))
        .unwrap()
        .value();
    let mut more = live.clone();
    let side = json!({ "name": "side", "image": "s:1" });
    more["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(side);
    let more = admitted(&Kinds::default(), more).unwrap().value();
    let files = [("a.yaml", SHOP), (path, file)];
    let text = wished(&files, "Deployment.apps/shop/web", &between(live, more));
    assert!(
        text.ends_with("          image: i:1\n        - name: side\n          image: s:1\n"),
        "{text}"
    );
}

#[test]
fn an_object_of_a_kind_that_the_repository_defines_is_edited_too() {
    let definition = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: tubs.example.org}
spec:
  group: example.org
  names: {kind: Tub, plural: tubs}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {litres: {type: integer}, warm: {type: boolean}}}
";
    let tub = "kind: Tub\napiVersion: example.org/v1\nmetadata: {name: t, namespace: shop}\n\
               spec:\n  litres: 5 # each\n";
    let files = [("a.yaml", SHOP), ("tub.yaml", tub), ("tubs.yaml", definition)];
    let spec = |litres: u32| json!({ "spec": { "litres": litres } });
    let more = between(spec(5), spec(7));
    let text = wished(&files, "Tub.example.org/shop/t", &more);
    assert!(text.ends_with("spec:\n  litres: 7 # each\n"), "{text}");
    let gone = wished(&files, "Tub.example.org/shop/t", &Wish::Delete);
    assert_eq!(gone, "tub.yaml goes\n");
}

/// What must not happen: a change that changes more, or less, than what was wanted.
#[test]
fn a_change_that_would_be_another_one_is_refused() {
    let anchored = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\ndata: &d {k: \"1\"}\n---\n";
    let two = between(json!({ "data": { "k": "1" } }), json!({ "data": { "k": "2" } }));
    let generated = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\ndata: {k: &x \"1\", l: *x}\n---\n";
    let mut all = String::new();
    for (path, text) in [("a.yaml", anchored), ("a.yaml", generated), ("base.yml", anchored)] {
        let text = format!("{text}{SHOP}");
        all += &wished(&[(path, &text)], "ConfigMap/shop/a", &two);
    }
    expect![[r#"
        a.yaml
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: a, namespace: shop}
        data: &d {k: "2"}
        ---
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop}
        refused: a.yaml:1: ConfigMap shop/a would become something else than was asked for: edit it there and commit
        refused: base.yml:1: a kustomization makes something out of it: edit it there and commit
    "#]].assert_eq(&all);
}

#[test]
fn a_delta_is_made_on_another_value() {
    let list = |a: u32, b: &str| json!({ "c": [{ "name": "a", "n": a }, { "name": "b", "t": b }] });
    let delta = Delta::between(&list(1, "x"), &list(2, "x"));
    let other = json!({ "c": [{ "name": "b", "t": "y" }, { "name": "a", "n": 1, "m": 0 }] });
    expect![[r#"{"c":[{"m":0,"n":2,"name":"a"},{"name":"b","t":"y"}]}"#]]
        .assert_eq(&delta.apply(Some(&other)).unwrap().to_string());
    assert_eq!(delta.fields(), ["c[a].n"]);
    let conflicts = |now: &Value| delta.conflicts(Some(&list(1, "x")), Some(now));
    assert_eq!(conflicts(&list(1, "z")), [""; 0]);
    assert_eq!(conflicts(&list(2, "z")), [""; 0]);
    assert_eq!(conflicts(&list(3, "x")), ["c[a].n"]);
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        "([a-z :#]{0,4}\n){0,3}[a-z]{0,2}".prop_map(Value::from),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-e]", tree(), 1..5)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// What is edited says exactly what it shall, whatever it was, in each style of writing; and
    /// what is not edited keeps its bytes.
    #[test]
    fn what_is_edited_says_what_it_shall(old in document(), new in document(), flow in 0..3) {
        let map = old.as_object().unwrap();
        let text = match flow {
            0 => format!("# top\n{}\n# end\n", emit::block_map(map, 0, Style::default())),
            1 => format!("{}\n", emit::block_map(map, 0, Style { lists_at_key: true, quoted: true })),
            _ => serde_json::to_string_pretty(&old).unwrap(),
        };
        prop_assert_eq!(yaml::documents(text.as_bytes()).unwrap(), vec![old.clone()]);
        let out = edited(&text, |value| *value = new.clone());
        prop_assert!(flow != 0 || out.starts_with("# top\n") && out.ends_with("# end\n"));
        prop_assert_eq!(edited(&text, |_| ()), text);
    }

    /// A delta makes of the old value the new one.
    #[test]
    fn a_delta_leads_from_one_to_the_other(old in document(), new in document()) {
        prop_assert_eq!(Delta::between(&old, &new).apply(Some(&old)), Some(new));
    }
}
