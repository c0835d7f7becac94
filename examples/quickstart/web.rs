//! The page of the quickstart: a web server in one file, without any crate, so that its image is
//! made on the spot.
//!
//! `/` says which version answers and which pod, `/ready` whether the pod takes requests: never
//! when BROKEN=1. SIGTERM lets it finish what has come in.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Where it listens.
const PORT: u16 = 8080;

/// How long it goes on after SIGTERM without a request: connections that were on their way arrive
/// within this.
const QUIET: Duration = Duration::from_millis(300);

/// How long one client may take for its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

const SIGTERM: i32 = 15;

static TERMINATED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: i32) {
    TERMINATED.store(true, Ordering::SeqCst);
}

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

fn main() {
    // Process 1 of a container ignores signals that it does not handle. The handler only sets a
    // flag.
    unsafe { signal(SIGTERM, on_signal) };
    let page = Arc::new(Page::from_env());
    let busy = Arc::new(AtomicUsize::new(0));
    thread::spawn({
        let busy = busy.clone();
        move || end_when_quiet(&busy)
    });
    let listener = TcpListener::bind(("0.0.0.0", PORT)).expect("the port is free in a pod");
    println!("version {} listens on {PORT}", page.version);
    for stream in listener.incoming().flatten() {
        busy.fetch_add(1, Ordering::SeqCst);
        let (page, busy) = (page.clone(), busy.clone());
        thread::spawn(move || {
            if let Err(error) = serve(&page, &stream) {
                eprintln!("a request failed: {error}");
            }
            busy.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Ends the process once it was asked to and nothing has been going on for a moment.
fn end_when_quiet(busy: &AtomicUsize) {
    let mut quiet_since = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(20));
        if busy.load(Ordering::SeqCst) > 0 || !TERMINATED.load(Ordering::SeqCst) {
            quiet_since = Instant::now();
        }
        if quiet_since.elapsed() > QUIET {
            println!("asked to end, and done");
            process::exit(0);
        }
    }
}

/// What it says.
struct Page {
    version: String,
    pod: String,
    broken: bool,
}

impl Page {
    fn from_env() -> Self {
        let read = |name| env::var(name).unwrap_or_default();
        Self { version: read("VERSION"), pod: read("POD"), broken: read("BROKEN") == "1" }
    }

    fn answer(&self, path: &str) -> (&'static str, String) {
        match path.split('?').next().unwrap_or_default() {
            "/" => ("200 OK", format!("version {} from {}\n", self.version, self.pod)),
            "/ready" if self.broken => ("503 Service Unavailable", "broken\n".to_owned()),
            "/ready" => ("200 OK", "ready\n".to_owned()),
            _ => ("404 Not Found", "only / and /ready are here\n".to_owned()),
        }
    }
}

fn serve(page: &Page, stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut bytes = first.len();
    let mut line = String::new();
    while bytes < HEAD_BYTES_MAX && reader.read_line(&mut line)? > 2 {
        bytes += line.len();
        line.clear();
    }
    let (status, body) = page.answer(first.split(' ').nth(1).unwrap_or_default());
    let length = body.len();
    let mut writer = stream;
    write!(
        writer,
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}
