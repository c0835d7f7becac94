//! What holds when a server's disk is full or does not hold what was written.

use std::{fs, path::PathBuf};

use crate::world::{CALM, NAMESPACE, World, until};

/// A ConfigMap with so many bytes; big ones fill a log quickly.
fn config_map(name: &str, bytes: usize) -> String {
    let data = "x".repeat(bytes);
    format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {{\"name\": \"{name}\", \
         \"namespace\": \"shop\"}}, \"data\": {{\"x\": \"{data}\"}}}}"
    )
}

fn readyz(w: &World, node: u8) -> (u16, String) {
    w.curl(node, &["https://127.0.0.1:6443/readyz"])
}

#[test]
fn a_full_disk_stops_one_server_from_writing_and_no_other() {
    let test = "a_full_disk_stops_one_server_from_writing_and_no_other";
    let Some(w) = World::up_with(test, 3, |w| w.small_disk(&w.server_dir(3), 48)) else { return };
    w.servers(3, CALM);
    let first = w.push(&[("ns.yaml", NAMESPACE)], "one");
    w.healthy(1, &first);
    until("server 3 is ready", || (readyz(&w, 3).0 == 200).then_some(()));
    // Something else takes all the room.
    let filler = w.server_dir(3).join("filler");
    fs::write(&filler, vec![1; 48 << 20]).unwrap_err();
    // The log has room set aside; commits use it up.
    let mut last = first;
    let mut n = 0;
    let said = until("server 3 says that its disk is full", || {
        n += 1;
        let text = config_map("big", 200_000 + n);
        last = w.push(&[("big.yaml", &text)], &format!("big {n}"));
        w.healthy(1, &last);
        let (code, said) = readyz(&w, 3);
        (code != 200 && said.contains("disk")).then_some(said)
    });
    assert!(said.contains("the disk is full: free space"), "{said}");
    // The others go on, and it does not pretend to.
    let more = w.push(&[("c.yaml", &config_map("c", 10))], "more");
    w.healthy(1, &more);
    assert_eq!(readyz(&w, 1).0, 200);
    assert_eq!(readyz(&w, 2).0, 200);

    fs::remove_file(&filler).unwrap();
    until("server 3 is ready again", || (readyz(&w, 3).0 == 200).then_some(()));
    until("server 3 has everything", || (w.status(3)?["running"]["commit"] == more).then_some(()));
    let last = w.push(&[("c.yaml", &config_map("c", 11))], "last");
    w.healthy(3, &last);
}

/// The newest segment of a stopped server's log, and where its last byte is.
fn segment(w: &World, node: u8) -> (PathBuf, Vec<u8>, usize) {
    let mut found = Vec::new();
    let mut folders = vec![w.server_dir(node).join("log")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "wal") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    let used = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        let end = bytes.iter().rposition(|b| *b != 0)?;
        Some((path, bytes, end))
    };
    // The last ones are room set aside, with nothing but their first record.
    found.into_iter().filter_map(used).max_by_key(|(_, _, end)| *end).unwrap()
}

/// Flips the bits of a byte that was written long ago.
fn flip(w: &World, node: u8) {
    let (path, mut bytes, end) = segment(w, node);
    bytes[end / 2] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_log_is_healed_by_the_others() {
    let Some(w) = World::up("a_damaged_log_is_healed_by_the_others", 3) else { return };
    w.servers(3, CALM);
    let mut last = w.push(&[("ns.yaml", NAMESPACE)], "one");
    for n in 0..5 {
        last = w.push(&[("c.yaml", &config_map("c", 100 + n))], &format!("commit {n}"));
        w.healthy(1, &last);
    }
    // A write that power cut short: the last bytes are not there.
    w.kill_server(3);
    let (path, mut bytes, end) = segment(&w, 3);
    bytes[end - 20..=end].fill(0);
    fs::write(path, bytes).unwrap();
    let next = w.push(&[("c.yaml", &config_map("c", 1))], "while one is down");
    w.healthy(1, &next);
    w.start_server(3);
    until("server 3 catches up", || (w.status(3)?["running"]["commit"] == next).then_some(()));

    // Bytes that were acknowledged and are something else now.
    w.stop_server(3);
    flip(&w, 3);
    w.start_server(3);
    until("server 3 is whole again", || (readyz(&w, 3).0 == 200).then_some(()));
    let log = fs::read_to_string(w.server_dir(3).join("server.log")).unwrap();
    assert!(log.contains("fetching the lost entries again before voting"), "{}", w.talk(3));
    let next = w.push(&[("c.yaml", &config_map("c", 2))], "after");
    w.healthy(3, &next);
    // It counts again: with another one away, two are a majority.
    w.kill_server(2);
    let next = w.push(&[("c.yaml", &config_map("c", 3))], "with two");
    w.healthy(3, &next);
    assert_ne!(next, last);
}

#[test]
fn a_single_server_with_a_damaged_log_says_what_to_do() {
    let Some(w) = World::up("a_single_server_with_a_damaged_log_says_what_to_do", 1) else {
        return;
    };
    w.servers(1, CALM);
    w.push(&[("ns.yaml", NAMESPACE)], "one");
    let commit = w.push(&[("c.yaml", &config_map("c", 100_000))], "two");
    w.healthy(1, &commit);
    w.stop_server(1);
    flip(&w, 1);
    let before = segment(&w, 1).1;
    let dir = w.server_dir(1);
    let dir = dir.to_str().unwrap();
    let (said, code) = w.fails(1, &["server", "--dir", dir, "--detach"]);
    assert_eq!(code, 3, "{said}");
    for word in
        ["segment 1 is damaged", "only voter", "from a backup", "mainstay server --accept-loss"]
    {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert_eq!(segment(&w, 1).1, before, "nothing was touched");
    w.ok(1, &["server", "--dir", dir, "--detach", "--accept-loss"]);
    // Git has what the log lost.
    w.healthy(1, &commit);
    w.stop_server(1);
    w.start_server(1);
    let next = w.push(&[("c.yaml", &config_map("c", 5))], "three");
    w.healthy(1, &next);
}
