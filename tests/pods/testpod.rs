//! What runs in the containers of tests: `testpod serve PORT`, `testpod exit CODE`, `testpod say
//! WORDS…`, `testpod cat FILE`. Compiled by the test itself, statically, so that its image holds
//! nothing else.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::atomic::{AtomicBool, Ordering},
};

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(code: i32) -> !;
}

extern "C" fn on_term(_: i32) {
    unsafe { _exit(0) }
}

static READY: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicBool = AtomicBool::new(true);

fn main() {
    // Process 1 ignores what it does not handle.
    unsafe { signal(15, on_term) };
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", port] => serve(port),
        ["exit", code] => std::process::exit(code.parse().unwrap()),
        ["cat", file] => print!("{}", std::fs::read_to_string(file).unwrap()),
        ["say", words @ ..] => {
            println!("{}", words.join(" "));
            eprintln!("and on stderr");
            loop {
                std::thread::park();
            }
        }
        other => panic!("what is {other:?}?"),
    }
}

/// `/ready` and `/live` answer 200 or 503; `/toggle-ready` and `/toggle-live` change that;
/// `/exit/N` ends the process; `/env` lists the environment; `/file/PATH` gives a file.
fn serve(port: &str) {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).unwrap();
    println!("serving on {port}");
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() {
            continue;
        }
        let mut header = String::new();
        while reader.read_line(&mut header).is_ok_and(|n| n > 2) {
            header.clear();
        }
        let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let (status, body) = answer(&path);
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
    }
}

fn answer(path: &str) -> (u16, String) {
    let state = |flag: &AtomicBool| if flag.load(Ordering::SeqCst) { 200 } else { 503 };
    match path {
        "/ready" => (state(&READY), String::new()),
        "/live" => (state(&LIVE), String::new()),
        "/toggle-ready" => {
            READY.fetch_xor(true, Ordering::SeqCst);
            (200, String::new())
        }
        "/toggle-live" => {
            LIVE.fetch_xor(true, Ordering::SeqCst);
            (200, String::new())
        }
        "/env" => {
            let mut all: Vec<_> = std::env::vars().map(|(k, v)| format!("{k}={v}\n")).collect();
            all.sort();
            (200, all.concat())
        }
        path => {
            if let Some(code) = path.strip_prefix("/exit/") {
                std::process::exit(code.parse().unwrap());
            }
            let file = path.strip_prefix("/file").unwrap_or(path);
            match std::fs::read_to_string(file) {
                Ok(text) => (200, text),
                Err(e) => (404, e.to_string()),
            }
        }
    }
}
