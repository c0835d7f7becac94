//! What runs in the containers of tests: `testpod serve PORT`, `testpod exit CODE`, `testpod say
//! WORDS…`, `testpod cat FILE`, `testpod sleepy SECONDS` (serves 80 and takes that long to end);
//! and what is run beside it: `testpod get HOST:PORT PATH [TIMES]`, `testpod resolve NAME`,
//! `testpod write FILE TEXT`. Compiled by the test itself, statically, so that its image holds
//! nothing else: names are resolved by its own few lines, because a static libc cannot.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(code: i32) -> !;
}

extern "C" fn on_term(_: i32) {
    let linger = LINGER.load(Ordering::SeqCst);
    if linger == 0 {
        unsafe { _exit(0) }
    }
    TERM.store(true, Ordering::SeqCst);
}

/// How many seconds after its signal `sleepy` ends.
static LINGER: AtomicU64 = AtomicU64::new(0);
static TERM: AtomicBool = AtomicBool::new(false);
static READY: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicBool = AtomicBool::new(true);

fn main() {
    // Process 1 ignores what it does not handle.
    unsafe { signal(15, on_term) };
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", port] => serve(port),
        ["sleepy", seconds] => {
            LINGER.store(seconds.parse().unwrap(), Ordering::SeqCst);
            std::thread::spawn(|| serve("80"));
            while !TERM.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            println!("asked to end");
            std::thread::sleep(Duration::from_secs(LINGER.load(Ordering::SeqCst)));
            println!("ended by itself");
        }
        ["get", to, path] => std::process::exit(get(to, path)),
        ["get", to, path, times] => {
            for _ in 0..times.parse().unwrap() {
                println!(" {}", get(to, path));
            }
        }
        ["resolve", name] => {
            let found = resolve(name);
            found.iter().for_each(|ip| println!("{ip}"));
            std::process::exit(i32::from(found.is_empty()));
        }
        ["write", file, text] => std::fs::write(file, text).unwrap(),
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

/// Prints the body of an answer; ends with 0, 7 (refused), 6 (no such name), 28 (nobody answered in
/// time) or 52 (cut off), as curl does.
fn get(to: &str, path: &str) -> i32 {
    const PATIENCE: Duration = Duration::from_secs(3);
    let (host, port) = to.rsplit_once(':').unwrap();
    let ip = host.parse::<Ipv4Addr>().ok().or_else(|| resolve(host).first().copied());
    let Some(ip) = ip else { return 6 };
    let address = SocketAddr::from((ip, port.parse::<u16>().unwrap()));
    let mut stream = match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(stream) => stream,
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => return 7,
        Err(e) => {
            eprintln!("{e}");
            return 28;
        }
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    if write!(stream, "GET {path} HTTP/1.0\r\n\r\n").is_err() {
        return 52;
    }
    let mut text = String::new();
    if stream.read_to_string(&mut text).is_err() {
        return 52;
    }
    match text.split_once("\r\n\r\n") {
        Some((_, body)) => print!("{body}"),
        None => return 52,
    }
    0
}

/// Asks the first resolver of `/etc/resolv.conf` for addresses, along the search path.
fn resolve(name: &str) -> Vec<Ipv4Addr> {
    let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let words = |key: &str| {
        let line = conf.lines().find_map(|l| l.strip_prefix(key).map(str::to_owned));
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let Some(server) = words("nameserver ").first().cloned() else { return vec![] };
    let searched = words("search ").into_iter().map(|domain| format!("{name}.{domain}"));
    let mut names: Vec<String> = searched.collect();
    let absolute = name.trim_end_matches('.').to_owned();
    match name.ends_with('.') {
        true => names = vec![absolute],
        false => names.push(absolute),
    }
    names.iter().map(|name| ask(&server, name)).find(|f| !f.is_empty()).unwrap_or_default()
}

fn ask(server: &str, name: &str) -> Vec<Ipv4Addr> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut answer = [0; 1500];
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        let sent = socket.send_to(&question, (server, 53));
        if sent.is_ok()
            && let Ok(length) = socket.recv(&mut answer)
        {
            return addresses(&answer[..length], question.len());
        }
    }
    vec![]
}

/// The A records of an answer whose names are all pointers or are walked over.
fn addresses(answer: &[u8], mut at: usize) -> Vec<Ipv4Addr> {
    let mut found = vec![];
    for _ in 0..u16::from_be_bytes([answer[6], answer[7]]) {
        while answer[at] != 0 && answer[at] < 0xc0 {
            at += 1 + usize::from(answer[at]);
        }
        at += if answer[at] == 0 { 1 } else { 2 };
        let kind = u16::from_be_bytes([answer[at], answer[at + 1]]);
        let length = usize::from(u16::from_be_bytes([answer[at + 8], answer[at + 9]]));
        let data = &answer[at + 10..at + 10 + length];
        if kind == 1 {
            found.push(Ipv4Addr::new(data[0], data[1], data[2], data[3]));
        }
        at += 10 + length;
    }
    found
}

/// `/name` gives the host's name, `/peer` who asks; `/ready` and `/live` answer 200 or 503;
/// `/toggle-ready` and `/toggle-live` change that;
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
        let path = line.split(' ').nth(1).unwrap_or("/");
        let path = path.split('?').next().unwrap_or(path).to_owned();
        let peer = stream.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
        let (status, body) = if path == "/peer" { (200, peer) } else { answer(&path) };
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
        "/name" => {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
            (200, name.trim().to_owned())
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
