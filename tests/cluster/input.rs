//! Bad input at a running server: refused with its reason, within bounds, and nothing else stops.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::world::{CALM, NAMESPACE, World, run, until};

/// Most memory a server may hold while it reads what is below: twice the largest allowed commit
/// and the debug build itself.
const RSS_BYTES_MAX: u64 = 512 << 20;

/// Waits until a commit is refused; the problems, as one text.
fn refused(w: &World, commit: &str, what: &str) -> String {
    let mut most = 0;
    let problems = until(what, || {
        most = most.max(w.server_rss(1));
        let status = w.status(1)?;
        assert!(status["commit"] != commit || status["state"] != "Healthy", "{what}: admitted");
        let here = status["commit"] == commit && status["state"] == "Refused";
        here.then(|| status["problems"].to_string())
    });
    assert!(most < RSS_BYTES_MAX, "{what}: {} MiB", most >> 20);
    eprintln!("{what}: {} MiB: {}", most >> 20, &problems[..problems.len().min(300)]);
    problems
}

#[test]
fn bad_commits_are_refused_within_bounds_and_the_next_good_one_runs() {
    let test = "bad_commits_are_refused_within_bounds_and_the_next_good_one_runs";
    let Some(w) = World::up(test, 1) else { return };
    w.servers(1, CALM);
    let good = w.push(&[("ns.yaml", NAMESPACE)], "good");
    w.healthy(1, &good);
    let undo = || {
        run(w.git(&["reset", "-q", "--hard", &good]));
        run(w.git(&["clean", "-qfd"]));
    };
    let bad = |files: &[(&str, &str)], what: &str, words: &[&str]| {
        let commit = w.push(files, what);
        let problems = refused(&w, &commit, what);
        for word in words {
            assert!(problems.contains(word), "{what}: {word} in {problems}");
        }
        assert_eq!(w.status(1).unwrap()["running"]["commit"], good, "{what}");
        undo();
    };

    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let list = vec![format!("*a{}", n - 1); 9].join(", ");
        bomb += &format!("a{n}: &a{n} [{list}]\n");
    }
    bad(&[("bomb.yaml", &bomb)], "an alias bomb", &["bomb.yaml"]);
    let deep = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    bad(&[("deep.yaml", &deep)], "depth", &["deep.yaml"]);
    let huge = " ".repeat(100 << 20);
    bad(&[("huge.yaml", &huge)], "a file of 100 MB", &["huge.yaml"]);
    drop(huge);

    std::os::unix::fs::symlink("/etc/passwd", w.path("work/link.yaml")).unwrap();
    bad(&[], "a symbolic link", &["link.yaml"]);
    let entry = format!("160000,{good},module");
    run(w.git(&["update-index", "--add", "--cacheinfo", &entry]));
    fs::create_dir_all(w.path("work/module")).unwrap();
    run(w.git(&["commit", "-q", "-m", "a submodule"]));
    w.push_head();
    let commit = run(w.git(&["rev-parse", "HEAD"])).trim().to_owned();
    let problems = refused(&w, &commit, "a submodule");
    assert!(problems.contains("module") && problems.contains("submodule"), "{problems}");
    undo();

    let map = |n: u32, kind: &str| {
        let (name, namespace) = (format!("m{n}"), "shop");
        format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        )
    };
    let folder = w.path("work/many");
    fs::create_dir_all(&folder).unwrap();
    for n in 0..20_000 {
        let kind = if n == 13_579 { "ConfigMip" } else { "ConfigMap" };
        fs::write(folder.join(format!("m{n}.yaml")), map(n, kind)).unwrap();
    }
    bad(&[], "20,000 files, one bad", &["many/m13579.yaml", "ConfigMip"]);

    let next = w.push(&[("c.yaml", &map(1, "ConfigMap"))], "the next good one");
    w.healthy(1, &next);
    assert!(w.server_rss(1) < RSS_BYTES_MAX);
    until("the note", || w.note(&next).filter(|n| n.starts_with("Healthy")));
}

#[test]
fn hostile_urls_and_references_are_refused_with_words() {
    // No cluster: nothing of it may get as far as one.
    let dir = tempfile::tempdir().unwrap();
    let init = |n: usize, args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(["init", "--detach", "--dir"])
            .arg(dir.path().join(n.to_string()))
            .args(args)
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{args:?}: {said}");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(!dir.path().join(n.to_string()).exists(), "no keys were made: {said}");
        said
    };
    let touched = dir.path().join("touched");
    let command = format!("ext::touch {}", touched.display());
    let urls = [&*command, "-oProxyCommand=true", "fd::7", "git://example.com/x", "ftp://x/y"];
    for (n, url) in urls.iter().enumerate() {
        let said = init(n, &[&format!("--source={url}")]);
        assert!(said.contains("repository address"), "{url}: {said}");
    }
    for (n, branch) in ["--upload-pack=x", "a..b", "x.lock", "a b", "../../x"].iter().enumerate() {
        let branch = format!("--branch={branch}");
        let said = init(100 + n, &["--source", "file:///nowhere", &branch]);
        assert!(said.contains("error: reference"), "{branch}: {said}");
    }
    assert!(!touched.exists(), "nothing was run");
}
