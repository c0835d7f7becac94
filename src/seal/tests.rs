//! Held against SOPS itself: files that it made are recorded in `tests/sealed`, and where the
//! program is there, it opens what is sealed here.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use expect_test::{Expect, expect};
use serde_json::Value;

use super::*;
use crate::{
    model::{Key, Object, Problem, Seal},
    render::{
        FileResult, Held, render_file, render_kustomization,
        sealed::{Rule, is_sealed},
    },
};

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sealed").join(name)
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(path_of(name)).unwrap()
}

/// The keys of a file of identities.
fn keys(name: &str) -> Keyring {
    Keyring::parse(&fixture(name)).unwrap()
}

/// The objects of a file, opened, and everything that is wrong with it.
fn opened(text: &str, keyring: &Keyring) -> (Vec<Value>, Vec<Problem>) {
    let result = render_file("a.yaml", text.as_bytes());
    let mut problems = result.problems.clone();
    problems.extend(result.sealed.iter().flat_map(|file| keyring.prove(file)));
    let open = |found: &crate::render::FileObject| keyring.open(&found.object).map(|o| o.value());
    match result.objects.iter().map(open).collect::<Result<Vec<_>, _>>() {
        Ok(objects) => (objects, problems),
        Err(why) => {
            problems.push(Problem { message: why.to_string(), ..Problem::default() });
            (Vec::new(), problems)
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// What a file says that SOPS or we have sealed is what the plain one says.
fn same_as_plain(sealed: &str, plain: &str) {
    let (objects, problems) = opened(sealed, &keys("key.txt"));
    assert_eq!(lines(&problems), "", "{sealed}");
    let wanted = render_file("a.yaml", plain.as_bytes());
    assert_eq!(lines(&wanted.problems), "");
    let wanted: Vec<Value> = wanted.objects.iter().map(|found| found.object.value()).collect();
    assert_eq!(objects, wanted);
    assert!(!sealed.contains("canary"), "{sealed}");
    let stored = render_file("a.yaml", sealed.as_bytes());
    for found in &stored.objects {
        let text = String::from_utf8_lossy(found.object.bytes()).into_owned();
        assert!(!text.contains("canary") && !text.contains(&base64("canary")), "{text}");
    }
}

fn base64(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    STANDARD_NO_PAD.encode(text)
}

#[test]
fn what_sops_sealed_is_opened() {
    same_as_plain(&fixture("secret.yaml"), &fixture("plain/secret.yaml"));
    same_as_plain(&fixture("only_encrypted.yaml"), &fixture("plain/secret.yaml"));
    same_as_plain(&fixture("unencrypted_regex.yaml"), &fixture("plain/secret.yaml"));
    same_as_plain(&fixture("several.yaml"), &fixture("plain/several.yaml"));
    same_as_plain(&fixture("secret.json"), &fixture("plain/secret.json"));
}

fn check(text: &str, keyring: &Keyring, expected: Expect) {
    let (_, problems) = opened(text, keyring);
    let lines = lines(&problems);
    assert!(!lines.contains("canary") && !lines.contains("AGE-SECRET"), "{lines}");
    expected.assert_eq(
        &lines
            .replace("age18ycppx2e62nxz5gdrc0sm4k9exsamjqu38hu47cl44gm8ns37edsgcp5ns", "age1ours"),
    );
}

/// What must not happen: a change of a sealed file that goes unseen, and a value told in an error.
#[test]
fn what_was_changed_after_it_was_sealed_is_refused() {
    let keyring = keys("key.txt");
    let file = fixture("secret.yaml");
    check(
        &file.replace("name: db", "name: web"),
        &keyring,
        expect![[r#"
        a.yaml:22: sops.mac: the file was changed after it was sealed, and its checksum does not fit: change it with `sops`, or seal it again
    "#]],
    );
    check(
        &file.replace("tier: \"1\"", "tier: \"2\""),
        &keyring,
        expect![[r#"
        a.yaml:22: sops.mac: the file was changed after it was sealed, and its checksum does not fit: change it with `sops`, or seal it again
    "#]],
    );
    check(
        &file.replace("token: ENC", "other: ENC"),
        &keyring,
        expect![[r#"
        a.yaml:16: data.other: this value was changed, or moved here, after it was sealed: seal it again
        data.other was changed after it was sealed
    "#]],
    );
    let (before, value) = file.split_once("password: ENC[AES256_GCM,data:").unwrap();
    let other = if value.starts_with('A') { "B" } else { "A" };
    let bent = format!("{before}password: ENC[AES256_GCM,data:{other}{}", &value[1..]);
    check(
        &bent,
        &keyring,
        expect![[r#"
        a.yaml:18: stringData.password: this value was changed, or moved here, after it was sealed: seal it again
        data.password was changed after it was sealed
    "#]],
    );
    check(
        &file.replace("    empty: \"\"", "    empty: canary"),
        &keyring,
        expect![[r#"
        a.yaml:20: stringData.empty: this value should be encrypted and is not: seal the file again, and take the value for known to everybody who can read the repository
    "#]],
    );
    check(
        &file.replace("lastmodified: \"2026", "lastmodified: \"2025"),
        &keyring,
        expect![[r#"
        a.yaml:22: sops.mac: the file was changed after it was sealed, and its checksum does not fit: change it with `sops`, or seal it again
    "#]],
    );
    // Only what is encrypted is proven here.
    let file = fixture("only_encrypted.yaml");
    check(&file.replace("name: db", "name: web"), &keyring, expect![[""]]);
    check(
        &file.replace("mac_only_encrypted: true", "mac_only_encrypted: false"),
        &keyring,
        expect![[r#"
        a.yaml:22: sops.mac: the file was changed after it was sealed, and its checksum does not fit: change it with `sops`, or seal it again
    "#]],
    );
}

#[test]
fn what_cannot_be_opened_says_for_whom_it_is_sealed() {
    check(
        &fixture("others.yaml"),
        &keys("key.txt"),
        expect![[r#"
        a.yaml:22: sops.age: it is sealed for age18ldv4z5haf2kezvlqr79zpapc7f2w2da8j4600hey60tu82c6fxqyq5xxm, and the key here is that of age1ours: seal it for that one as well
        it is sealed for age18ldv4z5haf2kezvlqr79zpapc7f2w2da8j4600hey60tu82c6fxqyq5xxm, and the key here is that of age1ours: seal it for that one as well
    "#]],
    );
    check(
        &fixture("secret.yaml"),
        &Keyring::default(),
        expect![[r#"
        a.yaml:22: sops.age: it is sealed for age1ours, and there is no key here: set source.decryption.ageKeyFile on every server
        it is sealed for age1ours, and there is no key here: set source.decryption.ageKeyFile on every server
    "#]],
    );
    check(
        &fixture("everything.yaml"),
        &keys("key.txt"),
        expect![[r#"
            a.yaml:3: kind: only the data of Secrets and ConfigMaps may be sealed, since everything else is shown to everybody: seal the file with encrypted_regex: ^(data|stringData)$
        "#]],
    );
    let file = fixture("secret.yaml");
    check(
        &file.replace("    age:", "    pgp:"),
        &keys("key.txt"),
        expect![[r#"
        a.yaml:22: sops: it has no age recipient, and other keys are not opened here: seal it for the cluster's age recipient as well
    "#]],
    );
    check(
        &file.replace("encrypted_regex: ^(data|stringData)$", "encrypted_comment_regex: x"),
        &keys("key.txt"),
        expect![[r#"
        a.yaml:22: sops: values that comments select are not opened here: select them by encrypted_regex and seal the file again
    "#]],
    );
    check(
        "sops:\n  mac: x\n---\nkind: Secret\n",
        &keys("key.txt"),
        expect![[r#"
        a.yaml:1: sops: the block does not read as one of SOPS: missing field `lastmodified`
    "#]],
    );
    // A number is no text, whoever encrypted it.
    check(
        &file.replacen("type:str", "type:int", 1),
        &keys("key.txt"),
        expect![[r#"
        a.yaml:16: data.token: a value has to be a text and this is of type int: open the file and write it in quotes
    "#]],
    );
    assert!(Keyring::parse("# none\n").is_err());
    let wrong = Keyring::parse("AGE-SECRET-KEY-1CANARY").unwrap_err();
    assert_eq!(wrong, "line 1 is no AGE-SECRET-KEY-1…");
    assert!(!format!("{:?}", keys("key.txt")).contains("SECRET"));
}

/// What must not happen: a seal that is brought along, or moved to where others read.
#[test]
fn a_seal_opens_only_what_it_was_made_for() {
    let keyring = keys("key.txt");
    let result = render_file("a.yaml", fixture("secret.yaml").as_bytes());
    let sealed = result.objects[0].object.clone();
    // Written out by hand, as somebody would who has read the log.
    let mut value = sealed.value();
    value["metadata"]["namespace"] = "mine".into();
    let forged = render_file("b.yaml", value.to_string().as_bytes());
    assert_eq!(forged.objects.len(), 0);
    let told = lines(&forged.problems);
    assert!(
        told.starts_with("b.yaml:1: metadata.annotations[mainstay.io/sealed]: Forbidden"),
        "{told}"
    );
    let moved = Object::from_value(&value).unwrap();
    assert!(keyring.open(&moved).is_err(), "opened in another namespace");
    // By those who are trusted with some namespaces alone.
    let guests = |name: &str, without: &str| {
        let text = fixture(name).replace(without, "");
        let result = render_file("a.yaml", text.as_bytes());
        let guests = keyring.for_guests();
        lines(&result.sealed.iter().flat_map(|file| guests.prove(file)).collect::<Vec<_>>())
    };
    assert_eq!(guests("secret.yaml", "\u{0}"), "");
    assert!(guests("only_encrypted.yaml", "\u{0}").contains("has to say metadata.namespace"));
    assert!(guests("secret.yaml", "    namespace: shop\n").contains("has to say"));
    // Through a kustomization, which may change names but not the namespace a file says.
    let files = |kustomization: &'static str| {
        let secret = fixture("secret.yaml");
        let files = [("kustomization.yaml", kustomization.to_owned()), ("secret.yaml", secret)];
        let mut held: Held<'_> =
            files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        render_kustomization("", &mut held)
    };
    let built = files("resources: [secret.yaml]\nnamePrefix: new-\n");
    assert_eq!(lines(&built.problems), "");
    assert_eq!(built.sealed.iter().flat_map(|file| keyring.prove(file)).count(), 0);
    let open = keyring.open(&built.objects[0].object).unwrap();
    assert_eq!(open.key(), &Key::parse("Secret/shop/new-db").unwrap());
    assert_eq!(open.value()["data"]["password"], base64("canary-in-sops") + "=");
    let built = files("resources: [secret.yaml]\nnamespace: mine\n");
    assert!(lines(&built.problems).contains("sealed for namespace shop"), "{built:?}");
    let generator = "secretGenerator: [{name: x, files: [secret.yaml]}]\n";
    assert!(lines(&files(generator).problems).contains("no generator opens it"));
}

fn order<'a>(recipients: &'a [String], rule: &'a Rule) -> Order<'a> {
    let now = "2026-11-26T02:45:36Z";
    Order { path: "a.yaml", recipients, rule, only_encrypted: false, now }
}

/// Where the program SOPS is.
fn sops() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/sops");
    let found = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&found).map(|dir| dir.join("sops"));
    found.find(|path| path.is_file()).or(Some(tools).filter(|path| path.is_file()))
}

fn run_sops(program: &Path, key: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).env("SOPS_AGE_KEY_FILE", path_of(key)).output().unwrap()
}

/// Seals a file and opens it again: here, and by SOPS where it is there.
fn round(name: &str, rule: &Rule, only_encrypted: bool) {
    let plain = fixture(&format!("plain/{name}"));
    let both: Vec<String> =
        ["other.txt", "key.txt"].iter().flat_map(|name| keys(name).recipients().to_vec()).collect();
    let order = Order { only_encrypted, ..order(&both, rule) };
    let sealed = seal(&plain, &order).unwrap();
    same_as_plain(&sealed, &plain);
    assert!(!sealed.contains("hunter1"), "a comment shows what was sealed: {sealed}");
    assert!(seal(&sealed, &order).unwrap_err().to_string().contains("sealed already"));
    let Some(program) = sops() else {
        println!("skipped: no sops to open {name} with");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, &sealed).unwrap();
    for key in ["key.txt", "other.txt"] {
        let output = run_sops(&program, key, &["decrypt", path.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let wanted = render_file("a", plain.as_bytes());
        let found = render_file("a", text.as_bytes());
        let objects =
            |r: &FileResult| r.objects.iter().map(|o| o.object.clone()).collect::<Vec<_>>();
        assert_eq!(objects(&found), objects(&wanted), "{text}");
    }
}

#[test]
fn what_is_sealed_here_is_opened_by_sops() {
    for name in ["secret.yaml", "several.yaml", "secret.json"] {
        round(name, &Rule::usual(), false);
        round(name, &Rule::usual(), true);
    }
    let rest = "^(apiVersion|kind|metadata|type|immutable)$";
    round("secret.yaml", &Rule::unencrypted_regex(rest).unwrap(), false);
}

/// And the other way, with the program as it is now.
#[test]
fn what_sops_seals_now_is_opened_here() {
    let Some(program) = sops() else { return println!("skipped: no sops to seal with") };
    let recipient = keys("key.txt").recipients().join(",");
    for name in ["secret.yaml", "several.yaml", "secret.json"] {
        let path = path_of(&format!("plain/{name}"));
        let rule = "^(data|stringData|binaryData)$";
        let args =
            ["encrypt", "--age", &recipient, "--encrypted-regex", rule, path.to_str().unwrap()];
        let output = run_sops(&program, "key.txt", &args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let sealed = String::from_utf8(output.stdout).unwrap();
        same_as_plain(&sealed, &fixture(&format!("plain/{name}")));
    }
}

#[test]
fn layout_and_comments_outside_stay() {
    let recipients = keys("key.txt").recipients().to_vec();
    let plain = "# Ours.\napiVersion: v1\nkind: Secret\nmetadata: {name: a} # here\nstringData:\n  \
                 # was: hunter1\n  a: 'x'\n  b: >-\n    y\n    z\n\n  # hunter2\n# end\n";
    let sealed = seal(plain, &order(&recipients, &Rule::usual())).unwrap();
    let shown: Vec<String> = sealed
        .lines()
        .take_while(|line| !line.starts_with("sops:"))
        .map(|line| match line.split_once("ENC[") {
            Some((before, rest)) => format!("{before}ENC[… {}", rest.rsplit(',').next().unwrap()),
            None => line.to_owned(),
        })
        .collect();
    expect![[r#"
        # Ours.
        apiVersion: v1
        kind: Secret
        metadata: {name: a} # here
        stringData:
          #ENC[… type:comment]
          a: ENC[… type:str]
          b: ENC[… type:str]

          #ENC[… type:comment]
        #ENC[… type:comment]
    "#]]
    .assert_eq(&(shown.join("\n") + "\n"));
    assert!(is_sealed(sealed.as_bytes()) && !is_sealed(plain.as_bytes()));
    let objects = opened(&sealed, &keys("key.txt")).0;
    assert_eq!(objects[0]["data"]["b"], base64("y z"));
    assert_eq!(
        Seal::of(&render_file("a", sealed.as_bytes()).objects[0].object).unwrap().text.len(),
        2
    );
}

#[test]
fn what_cannot_be_sealed_says_why() {
    let recipients = keys("key.txt").recipients().to_vec();
    let usual = Rule::usual();
    let why = |text: &str, order: &Order<'_>| seal(text, order).unwrap_err().to_string();
    let mut told = Vec::new();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: canary}\n";
    told.push(why(secret, &order(&[], &usual)));
    told.push(why(secret, &order(&["age1canary".to_owned()], &usual)));
    told.push(why("kind: Secret\n", &order(&recipients, &usual)));
    told.push(why(&secret.replace("canary", "&x canary"), &order(&recipients, &usual)));
    told.push(why(&secret.replace("canary", "2026-01-01"), &order(&recipients, &usual)));
    told.push(why(&secret.replace("canary", "17"), &order(&recipients, &usual)));
    told.push(why(&secret.replace("Secret", "Pod"), &order(&recipients, &usual)));
    expect![[r#"
        there is nobody to seal it for
        "age1canary" is no age recipient (age1…)
        a.yaml: there is nothing to seal in it by encrypted_regex: ^(data|stringData|binaryData)$
        a.yaml: anchors, aliases and tags are not read in a sealed file: write it out
        a.yaml: a date without quotes is a time to some readers and a text to others: write it in quotes
        a.yaml:4: stringData.a: a value has to be a text and this is of type int: open the file and write it in quotes
        a.yaml:4: stringData.a: only the data of Secrets and ConfigMaps may be sealed, since everything else is shown to everybody: seal the file with encrypted_regex: ^(data|stringData)$
    "#]].assert_eq(&(told.join("\n") + "\n"));
}

#[test]
fn a_new_key_is_one_that_age_reads() {
    let (text, recipient) = generate("2026-11-26T02:45:36Z");
    let keyring = Keyring::parse(&text).unwrap();
    assert_eq!(keyring.recipients(), std::slice::from_ref(&recipient));
    let plain = fixture("plain/secret.yaml");
    let sealed = seal(&plain, &order(&[recipient], &Rule::usual())).unwrap();
    assert_eq!(opened(&sealed, &keyring).1, []);
    assert_eq!(opened(&sealed, &keys("key.txt")).1.len(), 2);
}
