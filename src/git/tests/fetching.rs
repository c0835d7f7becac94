//! What a mirror does when its remote moves, vanishes, misbehaves, and when it is itself damaged.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use super::{
    super::{Auth, Error, Mirror, Reference, Relation, Remote, silence},
    WITHIN, World, git, id, is_yaml, limits, main_branch,
    server::HttpServer,
};

/// The story of one branch, the same over every transport.
fn follows(world: &World, url: &str) {
    let first = world.commit(&[("a.yaml", "a: 1\n")], "first");
    let mirror = world.mirror_of("mirror", url);
    assert_eq!(mirror.tip().unwrap(), None);
    let fetched = mirror.fetch(WITHIN).unwrap();
    assert_eq!((&fetched.tip, fetched.relation), (&first, Relation::First));
    assert_eq!(mirror.fetch(WITHIN).unwrap().relation, Relation::Same);

    let second = world.commit(&[("a.yaml", "a: 2\n")], "second");
    let fetched = mirror.fetch(WITHIN).unwrap();
    assert_eq!((&fetched.tip, fetched.relation), (&second, Relation::FastForward));
    assert_eq!(fetched.previous, Some(first.clone()));

    git(&world.work(), &["reset", "-q", "--hard", first.as_str()]);
    world.push();
    assert_eq!(mirror.fetch(WITHIN).unwrap().relation, Relation::Rewound);

    let third = world.commit(&[("a.yaml", "a: 3\n")], "third");
    assert_eq!(mirror.fetch(WITHIN).unwrap().relation, Relation::FastForward);
    git(&world.work(), &["commit", "-q", "--amend", "-m", "third, in other words"]);
    let rewritten = world.push();
    let fetched = mirror.fetch(WITHIN).unwrap();
    assert_eq!((&fetched.tip, fetched.relation), (&rewritten, Relation::Rewritten));
    assert_eq!(fetched.previous, Some(third));

    git(&world.origin(), &["update-ref", "-d", "refs/heads/main"]);
    let error = mirror.fetch(WITHIN).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error:?}");
    assert!(error.to_string().contains("branch main does not exist"), "{error}");
    assert_eq!(mirror.tip().unwrap(), Some(rewritten.clone()), "the last good commit stays");

    world.push();
    assert_eq!(mirror.fetch(WITHIN).unwrap().relation, Relation::Same);
    let reopened = world.mirror_of("mirror", url);
    assert_eq!(reopened.tip().unwrap(), Some(rewritten));
}

#[test]
fn a_branch_is_followed_through_force_pushes_and_deletion_over_file() {
    let world = World::new();
    follows(&world, &world.url());
}

#[test]
fn a_branch_is_followed_through_force_pushes_and_deletion_over_http() {
    let world = World::new();
    let server = HttpServer::start(&world.root(), None);
    follows(&world, &server.url("origin.git"));
}

/// What a small step brings is whole: git finds every object, also after merges, and a step back
/// and forth brings nothing twice.
#[test]
fn a_small_step_over_file_brings_all_that_is_new_and_nothing_else() {
    let world = World::new();
    world.ten_thousand();
    let mirror = world.mirror("mirror");
    mirror.fetch(WITHIN).unwrap();
    let place = world.dir.path().join("mirror");
    let loose = || -> usize {
        let counted = git(&place, &["count-objects"]);
        counted.split(' ').next().and_then(|n| n.parse().ok()).unwrap()
    };
    let before = loose();
    git(&world.work(), &["checkout", "-q", "-b", "side"]);
    world.commit(&[("side/a.yaml", "a: 1\n")], "aside");
    git(&world.work(), &["checkout", "-q", "main"]);
    world.commit(&[("new/b.yaml", "b: 1\n")], "ahead");
    git(&world.work(), &["merge", "-q", "--no-ff", "-m", "both", "side"]);
    let merged = world.push();
    assert_eq!(mirror.fetch(WITHIN).unwrap().tip, merged);
    // Three commits; each has a tree, `aside` and `ahead` a folder and a file as well.
    assert_eq!(loose() - before, 3 + 3 + 2 + 2);
    let report = git(&place, &["fsck", "--strict", "--connectivity-only"]);
    assert!(!report.contains("missing") && !report.contains("broken"), "{report}");
    assert_eq!(mirror.fetch(WITHIN).unwrap().relation, Relation::Same);
    assert_eq!(loose() - before, 10);
}

/// The first fetch of a local repository takes over its packs and loose objects as they are; where
/// they are not the whole story, what is fetched is whole all the same.
#[test]
fn the_first_fetch_over_file_is_whole_however_the_remote_keeps_its_objects() {
    let world = World::new();
    world.commit(&[("a/b.yaml", "a: 1\n")], "packed");
    git(&world.origin(), &["repack", "-q", "-a", "-d"]);
    let tip = world.commit(&[("a/c.yaml", "a: 2\n")], "loose");
    let borrower = world.dir.path().join("borrower.git");
    let (origin, borrows) = (world.origin(), borrower.display().to_string());
    git(world.dir.path(), &["clone", "-q", "--bare", "-s", origin.to_str().unwrap(), &borrows]);
    for (name, url, copied) in
        [("whole", world.url(), true), ("borrowing", format!("file://{borrows}"), false)]
    {
        let dir = world.dir.path().join(name);
        let remote = Remote::new(url, main_branch(), Auth::None).unwrap();
        let mirror = Mirror::open(&dir, remote).unwrap();
        assert_eq!(mirror.fetch(WITHIN).unwrap().tip, tip, "{name}");
        let report = git(&dir, &["fsck", "--strict"]);
        assert!(!report.contains("missing") && !report.contains("broken"), "{name}: {report}");
        let packs = |dir: &Path| fs::read_dir(dir.join("objects/pack")).unwrap().count();
        // The second commit: itself, two folders, a file.
        let loose = if copied { "4 " } else { "0 " };
        assert!(git(&dir, &["count-objects"]).starts_with(loose), "{name}");
        assert!(packs(&dir) >= 2, "{name}");
    }
}

/// What was copied is not believed: a damaged object is noticed when it is read, told, and brought
/// again once the remote is whole.
#[test]
fn damage_that_was_copied_is_noticed_when_it_is_read() {
    let world = World::new();
    let tip = world.commit(&[("a.yaml", "a: 1\n")], "first");
    let blob = git(&world.work(), &["rev-parse", &format!("{tip}:a.yaml")]);
    let object = world.origin().join("objects").join(&blob[..2]).join(&blob[2..]);
    let good = fs::read(&object).unwrap();
    fs::remove_file(&object).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 0x55;
    fs::write(&object, bad).unwrap();
    let mirror = world.mirror("mirror");
    mirror.fetch(WITHIN).unwrap();
    let read = || {
        let reader = mirror.reader()?;
        let files = reader.files(&tip, "", &is_yaml, &limits())?.files;
        reader.read(files[0].blob)
    };
    read().unwrap_err();
    mirror.fetch(WITHIN).unwrap_err();
    fs::write(&object, &good).unwrap();
    assert!(mirror.fetch(WITHIN).unwrap().repaired);
    assert_eq!(read().unwrap(), b"a: 1\n");
}

#[test]
fn a_path_works_as_an_address_and_a_work_tree_as_a_remote() {
    let world = World::new();
    let tip = world.commit(&[("a.yaml", "a: 1\n")], "first");
    let mirror = world.mirror_of("mirror", world.work().to_str().unwrap());
    assert_eq!(mirror.fetch(WITHIN).unwrap().tip, tip);
}

#[test]
fn tags_stand_for_their_commit_and_a_commit_for_itself() {
    let world = World::new();
    let first = world.commit(&[("a.yaml", "a: 1\n")], "first");
    git(&world.work(), &["tag", "-a", "v1", "-m", "release"]);
    git(&world.work(), &["push", "-q", "origin", "v1"]);
    world.commit(&[("a.yaml", "a: 2\n")], "second");
    let open = |name: &str, reference| {
        let remote = Remote::new(world.url(), reference, Auth::None).unwrap();
        Mirror::open(world.dir.path().join(name), remote).unwrap()
    };
    let tip = |name: &str, reference| open(name, reference).fetch(WITHIN).map(|f| f.tip);
    assert_eq!(tip("tag", Reference::Tag("v1".into())).unwrap(), first);
    assert_eq!(tip("commit", Reference::Commit(first.clone())).unwrap(), first);
    let absent = id("0123456789012345678901234567890123456789");
    let error = tip("commit", Reference::Commit(absent)).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error:?}");
    git(&world.origin(), &["tag", "tree", &format!("{first}^{{tree}}")]);
    let error = tip("tree", Reference::Tag("tree".into())).unwrap_err();
    assert!(matches!(error, Error::Reference { .. }), "{error:?}");
}

#[test]
fn a_remote_that_is_gone_is_unreachable_until_it_is_back() {
    let world = World::new();
    let tip = world.commit(&[("a.yaml", "a: 1\n")], "first");
    let mirror = world.mirror("mirror");
    mirror.fetch(WITHIN).unwrap();
    let away = world.dir.path().join("away");
    fs::rename(world.origin(), &away).unwrap();
    let error = mirror.fetch(WITHIN).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    fs::rename(&away, world.origin()).unwrap();
    assert_eq!(mirror.fetch(WITHIN).unwrap().tip, tip);

    let server = HttpServer::start(&world.root(), None);
    let (url, nowhere) = (server.url("origin.git"), server.url("nothing.git"));
    let error = world.mirror_of("http-404", &nowhere).fetch(WITHIN).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    drop(server);
    let error = world.mirror_of("http", &url).fetch(WITHIN).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn a_silent_remote_is_left_at_the_deadline() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for scheme in ["http", "ssh"] {
        // The kernel accepts for a listener that never does: the connection stands and nobody
        // answers.
        let auth = Auth::Key {
            private_key: "/nonexistent".into(),
            passphrase: None,
            known_hosts: String::new(),
        };
        let url = format!("{scheme}://127.0.0.1:{port}/repo.git");
        let remote = Remote::new(url, main_branch(), auth).unwrap();
        let mirror = Mirror::open(world.dir.path().join(scheme), remote).unwrap();
        let error = mirror.fetch(Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{scheme}: {error:?}");
    }
}

/// HTTPS has no relay that could hang up: libgit2's own bound on silence ends it.
#[test]
fn a_silent_https_remote_is_left_when_its_silence_is_too_long() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://127.0.0.1:{}/repo.git", listener.local_addr().unwrap().port());
    let begun = std::time::Instant::now();
    let error = world.mirror_of("silent", &url).fetch(Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    let bound = Duration::from_millis(silence::SILENCE_MS_MAX.unsigned_abs().into());
    assert!(begun.elapsed() < bound * 2, "{:?}", begun.elapsed());
}

#[test]
fn wrong_credentials_are_told_apart_from_none() {
    let world = World::new();
    let tip = world.commit(&[("a.yaml", "a: 1\n")], "first");
    let server = HttpServer::start(&world.root(), Some("ann:right"));
    let fetch = |name: &str, auth| {
        let remote = Remote::new(server.url("origin.git"), main_branch(), auth).unwrap();
        Mirror::open(world.dir.path().join(name), remote).unwrap().fetch(WITHIN)
    };
    let password = |p: &str| Auth::Password { user: "ann".into(), password: p.into() };
    assert_eq!(fetch("right", password("right")).unwrap().tip, tip);
    let wrong = fetch("wrong", password("wrong-one")).unwrap_err();
    assert!(matches!(wrong, Error::Denied { .. }), "{wrong:?}");
    assert!(!format!("{wrong:?}").contains("wrong-one"), "a password is never shown");
    let none = fetch("none", Auth::None).unwrap_err();
    assert!(matches!(none, Error::Denied { .. }), "{none:?}");
    assert!(none.to_string().contains("none are configured"), "{none}");
}

/// The second kind of place crashes libgit2 1.9.7 when it gets to see it.
#[test]
fn a_redirect_is_not_followed_but_told() {
    let world = World::new();
    let server = HttpServer::start(&world.root(), None);
    for place in ["elsewhere", "relative"] {
        let mirror = world.mirror_of(place, &server.url(&format!("{place}/origin.git")));
        let error = mirror.fetch(WITHIN).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("not followed"), "{error}");
    }
}

/// libgit2 refuses repositories of other users; the words say how to allow it.
#[test]
fn a_repository_of_another_user_is_denied_with_the_way_out() {
    let world = World::new();
    world.commit(&[("a.yaml", "a: 1\n")], "first");
    let mirror = world.mirror("mirror");
    if std::os::unix::fs::chown(world.origin(), Some(12_345), None).is_err() {
        println!("skipped: only root can give a folder to another user");
        return;
    }
    let error = mirror.fetch(WITHIN).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("safe.directory"), "{error}");
}

#[test]
fn an_oversized_repository_is_refused_and_leaves_nothing_behind() {
    let world = World::new();
    let small = world.commit(&[("a.yaml", "a: 1\n")], "small");
    let server = HttpServer::start(&world.root(), None);
    for (name, url) in [("file", world.url()), ("http", server.url("origin.git"))] {
        git(&world.work(), &["reset", "-q", "--hard", small.as_str()]);
        world.push();
        let mut remote = Remote::new(url, main_branch(), Auth::None).unwrap();
        remote.received_bytes_max = 100_000;
        let dir = world.dir.path().join(name);
        let mirror = Mirror::open(&dir, remote).unwrap();
        mirror.fetch(WITHIN).unwrap();
        let before = bytes_below(&dir);
        for n in 0..30 {
            fs::write(world.work().join(format!("{n}.bin")), noise(40_000, n)).unwrap();
        }
        world.commit(&[], "large");
        let error = mirror.fetch(WITHIN).unwrap_err();
        assert!(matches!(error, Error::Oversized { .. }), "{name}: {error:?}");
        assert_eq!(mirror.tip().unwrap(), Some(small.clone()), "{name}");
        assert!(bytes_below(&dir) < before + 50_000, "{name}: no part of it stays on disk");
    }
}

/// Bytes that do not compress (xorshift).
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed + 0x9E37_79B9;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let size = |entry: fs::DirEntry| match entry.metadata().unwrap() {
        found if found.is_dir() => bytes_below(&entry.path()),
        found => found.len(),
    };
    entries.map(size).sum()
}

#[test]
fn a_damaged_mirror_is_cloned_afresh() {
    let world = World::new();
    let first = world.commit(&[("a.yaml", "a: 1\n"), ("b/c.yaml", "c: 1\n")], "first");
    let dir = world.dir.path().join("mirror");
    let list = |mirror: &Mirror| {
        let reader = mirror.reader()?;
        let files = reader.files(&first, "", &is_yaml, &limits())?.files;
        files.iter().map(|file| reader.read(file.blob)).collect::<Result<Vec<_>, _>>()
    };

    // The objects are cut short under an open mirror: the reader notices, the next fetch repairs.
    let mirror = world.mirror("mirror");
    mirror.fetch(WITHIN).unwrap();
    for folder in fs::read_dir(dir.join("objects")).unwrap() {
        for entry in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = entry.unwrap().path();
            fs::remove_file(&path).unwrap();
            fs::write(&path, b"PACK").unwrap();
        }
    }
    list(&mirror).unwrap_err();
    let fetched = mirror.fetch(WITHIN).unwrap();
    assert!(fetched.repaired);
    assert_eq!((fetched.tip, fetched.relation), (first.clone(), Relation::Same));
    assert_eq!(list(&mirror).unwrap().len(), 2);

    // HEAD is gone while the mirror is closed: opened anew, filled by the next fetch.
    drop(mirror);
    fs::remove_file(dir.join("HEAD")).unwrap();
    let mirror = world.mirror("mirror");
    assert_eq!(mirror.fetch(WITHIN).unwrap().tip, first);
    assert_eq!(list(&mirror).unwrap().len(), 2);

    // HEAD is gone while the mirror is open.
    fs::remove_file(dir.join("HEAD")).unwrap();
    assert!(mirror.fetch(WITHIN).unwrap().repaired);
    assert_eq!(list(&mirror).unwrap().len(), 2);
    assert!(!mirror.fetch(WITHIN).unwrap().repaired);
}

#[test]
fn a_damaged_remote_does_not_cost_us_the_mirror() {
    let world = World::new();
    let first = world.commit(&[("a.yaml", "a: 1\n")], "first");
    let mirror = world.mirror("mirror");
    mirror.fetch(WITHIN).unwrap();
    let second = world.commit(&[("a.yaml", "a: 2\n")], "second");
    let object = |id: &str| world.origin().join("objects").join(&id[..2]).join(&id[2..]);
    let tree = git(&world.work(), &["rev-parse", &format!("{second}^{{tree}}")]);
    fs::remove_file(object(&tree)).unwrap();
    let error = mirror.fetch(WITHIN).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert_eq!(mirror.tip().unwrap(), Some(first));
}

#[test]
fn a_folder_that_is_something_else_is_refused() {
    let world = World::new();
    let dir = world.dir.path().join("precious");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("thesis.txt"), "years of work").unwrap();
    let remote = Remote::new(world.url(), main_branch(), Auth::None).unwrap();
    let error = Mirror::open(&dir, remote).unwrap_err();
    assert!(matches!(error, Error::Disk { .. }), "{error:?}");
    assert!(dir.join("thesis.txt").exists());
}

#[test]
fn a_repository_with_sha256_ids_is_refused_in_words() {
    let world = World::new();
    let dir = world.root().join("long.git");
    git(&world.root(), &["init", "-q", "--object-format=sha256", "-b", "main", "long.git"]);
    git(&dir, &["commit", "-q", "--allow-empty", "-m", "first"]);
    let server = HttpServer::start(&world.root(), None);
    for (name, url) in
        [("file", format!("file://{}", dir.display())), ("http", server.url("long.git/.git"))]
    {
        let error = world.mirror_of(name, &url).fetch(WITHIN).unwrap_err();
        assert!(error.to_string().contains("SHA-256"), "{name}: {error}");
    }
}

/// A server that keeps talking never runs into a silence: only the deadline of the whole call ends
/// it.
#[test]
fn a_dripping_remote_is_left_at_the_deadline_and_a_talkative_one_at_the_bound() {
    use std::io::{Read, Write};
    let world = World::new();
    let serve = |chunk: usize, pace: Duration| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: \
                        application/x-git-upload-pack-advertisement\r\n\
                        Content-Length: 99999999999\r\n\r\n001e# service=git-upload-pack\n0000";
            stream.write_all(head.as_bytes()).unwrap();
            let line = "00410123456789012345678901234567890123456789 refs/heads/aaaaaaaa\n";
            let mut bytes = line.bytes().cycle();
            // Ends when the other side goes away.
            while stream.write_all(&bytes.by_ref().take(chunk).collect::<Vec<_>>()).is_ok() {
                std::thread::park_timeout(pace);
            }
        });
        format!("http://127.0.0.1:{port}/repo.git")
    };
    let slow = world.mirror_of("slow", &serve(1, Duration::from_millis(20)));
    let error = slow.fetch(Duration::from_millis(500)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");

    let url = serve(65 * 1000, Duration::ZERO);
    let mut remote = Remote::new(url, main_branch(), Auth::None).unwrap();
    remote.received_bytes_max = 1_000_000;
    let mirror = Mirror::open(world.dir.path().join("talkative"), remote).unwrap();
    let error = mirror.fetch(WITHIN).unwrap_err();
    assert!(matches!(error, Error::Oversized { .. }), "{error:?}");
}

/// Nothing is asked of a server whose certificate cannot be checked.
#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    use std::{io::Read, sync::Arc};
    let world = World::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut bytes = Vec::new();
        // The client breaks off: an error here is what is expected, bytes would be a request.
        rustls::StreamOwned::new(session, stream).read_to_end(&mut bytes).ok();
        bytes
    });
    let mirror = world.mirror_of("mirror", &format!("https://localhost:{port}/repo.git"));
    let error = mirror.fetch(WITHIN).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(server.join().unwrap(), b"", "nothing is asked of a server that is not trusted");
}
