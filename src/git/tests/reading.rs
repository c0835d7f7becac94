//! Files, differences and facts of commits.

use expect_test::expect;

use super::{
    super::{Change, Error, Limits},
    World, git, id, is_yaml, limits,
};

#[test]
fn wanted_files_come_sorted_with_their_bytes() {
    let world = World::new();
    let files = [("b.yaml", "b"), ("a/z.yaml", "z"), ("a.yaml", "a"), ("README.md", "no")];
    let tip = world.commit(&files, "files");
    let reader = world.reader();
    let found = reader.files(&tip, "", &is_yaml, &limits()).unwrap();
    let paths: Vec<&str> = found.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a.yaml", "a/z.yaml", "b.yaml"]);
    assert_eq!(reader.read(found.files[1].blob).unwrap(), b"z");
    assert!(found.problems.is_empty());
    let below = reader.files(&tip, "/a/", &is_yaml, &limits()).unwrap();
    assert_eq!(below.files.len(), 1);
    assert_eq!(below.files[0].path, "a/z.yaml");
    assert_eq!(reader.read_path(&tip, "a/z.yaml").unwrap().as_deref(), Some(&b"z"[..]));
    assert_eq!(reader.read_path(&tip, "a").unwrap(), None);
    assert_eq!(reader.read_path(&tip, "x/y").unwrap(), None);
    let absent = reader.files(&tip, "typo", &is_yaml, &limits()).unwrap();
    assert!(absent.files.is_empty());
    assert!(absent.problems[0].message.contains("\"typo\" is not in commit"), "{absent:?}");
    let unknown = id("0123456789012345678901234567890123456789");
    let error = reader.files(&unknown, "", &is_yaml, &limits()).unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
}

/// Links, submodules and odd names are told, never followed; the rest of the commit is still
/// listed.
#[test]
fn odd_entries_are_problems() {
    let world = World::new();
    world.commit(&[("a.yaml", "a")], "seed");
    let blob = world.blob("x");
    let folder = git(&world.origin(), &["rev-parse", "main^{tree}"]);
    let head = git(&world.origin(), &["rev-parse", "main"]);
    let tip = world.commit_raw_tree(&[
        ("100644", b"..", &blob),
        ("40000", b".GIT", &folder),
        ("100644", b"/etc/passwd.yaml", &blob),
        ("100644", b"bad-\xff.yaml", &blob),
        ("100644", b"line\nbreak.yaml", &blob),
        ("120000", b"link.yaml", &blob),
        ("100755", b"ok.yaml", &blob),
        ("160000", b"sub", &head),
        ("100644", b"twice.yaml", &blob),
        ("100644", b"twice.yaml", &blob),
    ]);
    let found = world.reader().files(&tip, "", &is_yaml, &limits()).unwrap();
    assert_eq!(found.files.len(), 1);
    assert_eq!(found.files[0].path, "ok.yaml");
    let lines: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
    expect![[r#"
        ..: its name leaves the folder; rewrite the commit with git
        .GIT: its name is one of Git's own; rename it
        /etc/passwd.yaml: its name holds a '/'; rewrite the commit with git
        bad-�.yaml: its name is not UTF-8; rename it
        line\nbreak.yaml: its name holds control characters; rename it
        link.yaml: is a symbolic link, which is not followed; commit the file itself
        sub: is a submodule, which is not followed; commit its files themselves
        twice.yaml: appears twice in its folder; rewrite the commit with git"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn every_bound_is_a_problem_and_ends_the_work() {
    let world = World::new();
    let deep = format!("{}deep.yaml", "d/".repeat(6));
    let files = [("a.yaml", "12345678"), ("b.yaml", "12345678"), (&deep, "x")];
    let tip = world.commit(&files, "files");
    let reader = world.reader();
    let check = |limits: Limits, files: usize, words: &str| {
        let found = reader.files(&tip, "", &is_yaml, &limits).unwrap();
        assert_eq!(found.files.len(), files, "{words}");
        assert!(found.problems.iter().any(|p| p.message.contains(words)), "{words}: {found:?}");
    };
    check(Limits { entries: 2, ..limits() }, 2, "more than 2 files");
    check(Limits { file_bytes: 7, ..limits() }, 1, "8 bytes, more than 7");
    check(Limits { commit_bytes: 10, ..limits() }, 1, "more than 10 bytes together");
    check(Limits { depth: 5, ..limits() }, 2, "deeper than 5 folders");
}

#[test]
fn a_difference_names_what_was_added_modified_and_removed() {
    let world = World::new();
    let files = [("keep/a.yaml", "a"), ("b.yaml", "b"), ("c", "c"), ("d.yaml", "d"), ("e.md", "e")];
    let old = world.commit(&files, "old");
    for gone in ["c", "d.yaml"] {
        std::fs::remove_file(world.work().join(gone)).unwrap();
    }
    let files = [("b.yaml", "B"), ("c/x.yaml", "x"), ("d.yaml/y.yaml", "y"), ("e.md", "E")];
    let new = world.commit(&files, "new");
    let reader = world.reader();
    let show = |from, to, root: &str| {
        let diff = reader.diff(from, to, root, &is_yaml, &limits()).unwrap();
        assert!(diff.problems.is_empty(), "{:?}", diff.problems);
        let line = |(path, change): &(String, Change)| match change {
            Change::Added(_) => format!("+{path}"),
            Change::Modified { .. } => format!("~{path}"),
            Change::Removed(_) => format!("-{path}"),
        };
        diff.changes.iter().map(line).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(show(&old, &new, ""), "~b.yaml +c/x.yaml -d.yaml +d.yaml/y.yaml");
    assert_eq!(show(&new, &old, ""), "~b.yaml -c/x.yaml +d.yaml -d.yaml/y.yaml");
    assert_eq!(show(&old, &new, "keep"), "");
    assert_eq!(show(&old, &old, ""), "");
    assert_eq!(show(&old, &new, "c"), "+c/x.yaml");
}

#[test]
fn an_odd_entry_in_the_changed_part_is_a_problem() {
    let world = World::new();
    let old = world.commit(&[("a.yaml", "a"), ("b.yaml", "b")], "old");
    std::fs::remove_file(world.work().join("b.yaml")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", world.work().join("b.yaml")).unwrap();
    let new = world.commit(&[], "a link");
    let diff = world.reader().diff(&old, &new, "", &is_yaml, &limits()).unwrap();
    assert_eq!(diff.changes.len(), 1);
    assert!(matches!(diff.changes[0].1, Change::Removed(_)));
    assert_eq!(diff.problems[0].file, "b.yaml");
}

/// One changed file among 10,000: what a diff and a listing say must agree, and the diff must read
/// only the three trees on the way to the file (the figure is in benches/).
#[test]
fn one_changed_file_among_ten_thousand() {
    let world = World::new();
    let old = world.ten_thousand();
    let new = world.commit(&[("apps/42/4217.yaml", "name: changed\n")], "one");
    let reader = world.reader();
    let all = |commit| reader.files(commit, "", &is_yaml, &limits()).unwrap().files;
    let (before, after) = (all(&old), all(&new));
    assert_eq!(before.len(), 10_000);
    let diff = reader.diff(&old, &new, "", &is_yaml, &Limits { entries: 1, ..limits() }).unwrap();
    assert!(diff.problems.is_empty(), "unchanged entries are not even counted");
    let [(path, Change::Modified { from, to })] = diff.changes.as_slice() else {
        panic!("{:?}", diff.changes)
    };
    assert_eq!(path, "apps/42/4217.yaml");
    let at = before.binary_search_by(|file| file.path.as_str().cmp(path)).unwrap();
    assert_eq!((*from, *to), (before[at].blob, after[at].blob));
    assert_eq!(reader.read(*to).unwrap(), b"name: changed\n");
}

#[test]
fn the_facts_of_a_commit_are_read_as_git_reads_them() {
    let world = World::new();
    let first = world.commit(&[("a.yaml", "a")], "first");
    let text = "web: three replicas\n\nBecause: it is not a trailer here.\n\nMore words.\n\n\
                Prune-Approved: yes\nDeploy-Deadline: 3m\nSigned-off-by: Ann <ann@example.org>\n";
    let tip = world.commit(&[("a.yaml", "b")], text);
    let commit = world.reader().commit(&tip).unwrap();
    assert_eq!(commit.subject, "web: three replicas");
    assert!(commit.body.starts_with("Because: it is not"));
    assert_eq!(commit.parents, [first]);
    assert_eq!((commit.author.name.as_str(), commit.committer.name.as_str()), ("Ann", "Bob"));
    assert_eq!(commit.author.email, "ann@example.org");
    let seconds = git(&world.work(), &["log", "-1", "--format=%at"]);
    assert_eq!((commit.author.at.0 / 1000).to_string(), seconds);
    let keys: Vec<&str> = commit.trailers.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["Prune-Approved", "Deploy-Deadline", "Signed-off-by"]);
    assert_eq!(commit.trailer("deploy-deadline"), Some("3m"));
    assert_eq!(commit.trailer("Because"), None);
}

#[test]
fn history_follows_first_parents() {
    let world = World::new();
    let first = world.commit(&[("a.yaml", "a")], "first");
    git(&world.work(), &["checkout", "-q", "-b", "side"]);
    let side = world.commit(&[("b.yaml", "b")], "side");
    git(&world.work(), &["checkout", "-q", "main"]);
    world.commit(&[("c.yaml", "c")], "second");
    git(&world.work(), &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let tip = world.push();
    let reader = world.reader();
    let subjects = |after| {
        let history = reader.history(after, &tip).unwrap();
        history.into_iter().map(|commit| commit.subject).collect::<Vec<_>>()
    };
    assert_eq!(subjects(None), ["merge", "second", "first"]);
    assert_eq!(subjects(Some(&first)), ["merge", "second"]);
    assert_eq!(subjects(Some(&tip)), Vec::<String>::new());
    assert!(reader.contains(&tip, &side).unwrap());
    assert!(!reader.contains(&side, &tip).unwrap());
}

/// What must not happen: a patch that `git apply` does not take.
#[test]
fn a_patch_of_one_file_is_one_that_git_applies() {
    let world = World::new();
    world.commit(&[("a.yaml", "a: 1\nb: 2\n"), ("gone.yaml", "g: 1\n")], "first");
    let patch = |path: &str, old: Option<&str>, new: Option<&str>| {
        crate::git::patch(path, old.map(str::as_bytes), new.map(str::as_bytes)).unwrap()
    };
    let all = patch("a.yaml", Some("a: 1\nb: 2\n"), Some("a: 2\nb: 2\n"))
        + &patch("sub/new.yaml", None, Some("n: 1\n"))
        + &patch("gone.yaml", Some("g: 1\n"), None);
    super::git_with(&world.work(), &["apply", "-"], all.as_bytes());
    let status = git(&world.work(), &["status", "--porcelain"]);
    assert_eq!(status, " M a.yaml\n D gone.yaml\n?? sub/", "{all}");
    assert_eq!(patch("a.yaml", Some("a\n"), Some("a\n")), "");
}
