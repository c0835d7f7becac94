//! Carries the bytes between libgit2 and one server, and cuts them at a deadline or a bound.
//!
//! libgit2 calls us back only while a pack arrives: a server that accepts and stays silent, or
//! sends its list of refs one byte a minute, would hold the calling thread for ever. So libgit2
//! connects to a loopback port of ours, which ends both halves when the time is over. It goes to
//! that one server only, so a redirect to another host ends here too, and with it any try to
//! collect credentials.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Bytes copied at once; one TCP window on a LAN.
const COPY_BYTES: usize = 64 << 10;

/// Most connections of one exchange; libgit2 needs one, and a few more when a server closes between
/// requests.
const CONNECTIONS_MAX: u32 = 64;

/// Why the bytes were cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The exchange is over.
    Finished,
    /// Its time is over.
    Deadline,
    /// It brought more bytes than its bound.
    Oversized,
}

/// What the client's bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// HTTP requests that name the loopback port as their host.
    Http,
    /// Anything: it is passed on.
    Tunnel,
}

/// The one server the bytes go to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Name or address, without brackets.
    pub(super) host: String,
    /// TCP port.
    pub(super) port: u16,
    /// What is spoken on the loopback side.
    pub(super) speech: Speech,
}

/// A loopback port that lives as long as this value.
pub(super) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    target: Target,
    until: Instant,
    bytes_max: u64,
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    cut: Option<Cut>,
    bytes: u64,
    failure: Option<String>,
    streams: Vec<TcpStream>,
}

impl Relay {
    /// Opens the port. Everything ends at `until` or after `bytes_max` bytes from the server.
    pub(super) fn start(target: Target, until: Instant, bytes_max: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Mutex::new(State::default());
        let shared =
            Arc::new(Shared { address, target, until, bytes_max, state, over: Condvar::new() });
        let relay = Self { address, shared: Arc::clone(&shared) };
        let accepting = Arc::clone(&shared);
        spawn("git-relay", move || accept(&listener, &accepting))?;
        spawn("git-deadline", move || shared.keep_deadline())?;
        Ok(relay)
    }

    /// The loopback port.
    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Why the bytes were cut, if they were.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.shared.lock().cut
    }

    /// What went wrong on the way to the server, in its own words.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.lock().failure.clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.cut(Cut::Finished);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every connection; the first reason stays.
    fn cut(&self, why: Cut) {
        let mut state = self.lock();
        state.cut.get_or_insert(why);
        for stream in state.streams.drain(..) {
            // A stream whose other side is gone already cannot be shut down again.
            stream.shutdown(Shutdown::Both).ok();
        }
        self.over.notify_all();
    }

    /// Waits for the end of the exchange or its deadline, then frees the accepting thread.
    fn keep_deadline(&self) {
        let mut state = self.lock();
        while state.cut.is_none() {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                self.cut(Cut::Deadline);
                break;
            }
            let waited = self.over.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        // `accept` has no deadline of its own: one connection from ourselves wakes it.
        TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).ok();
    }

    /// Remembers a stream so that a cut reaches it; false when the cut came first.
    fn adopt(&self, stream: &TcpStream) -> io::Result<bool> {
        let clone = stream.try_clone()?;
        let mut state = self.lock();
        let open = state.cut.is_none();
        if open {
            state.streams.push(clone);
        }
        Ok(open)
    }

    fn fail(&self, reason: String) {
        self.lock().failure.get_or_insert(reason);
    }

    /// Looks at bytes from the server; false once they pass the bound.
    ///
    /// Redirects end here: libgit2 1.9 crashes on some `Location` headers (no scheme).
    fn allow(&self, bytes: &[u8]) -> bool {
        let redirects = bytes.starts_with(b"HTTP/1.") && bytes.get(9) == Some(&b'3');
        if redirects && self.target.speech == Speech::Http {
            let text = String::from_utf8_lossy(bytes);
            let mut places = text.lines().filter_map(|line| line.split_once(": "));
            let place = places.find(|(name, _)| name.eq_ignore_ascii_case("location"));
            self.fail(elsewhere(place.map_or("another place", |(_, place)| place)).to_string());
            self.cut(Cut::Finished);
        }
        let mut state = self.lock();
        state.bytes += bytes.len() as u64;
        state.bytes <= self.bytes_max
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(body).map(drop)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for _ in 0..CONNECTIONS_MAX {
        let Ok((client, _)) = listener.accept() else { return };
        if shared.lock().cut.is_some() {
            return;
        }
        let connection = Arc::clone(shared);
        let serving = spawn("git-relay", move || {
            if let Err(cause) = serve(&client, &connection) {
                connection.fail(cause.to_string());
            }
            client.shutdown(Shutdown::Both).ok();
        });
        if let Err(cause) = serving {
            shared.fail(cause.to_string());
        }
    }
}

/// One connection: the head when there is one, then bytes both ways until one side ends.
fn serve(client: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    if !shared.adopt(client)? {
        return Ok(());
    }
    let server = connect(shared)?;
    if !shared.adopt(&server)? {
        return Ok(());
    }
    let to_client = client.try_clone()?;
    let (from_server, down) = (server.try_clone()?, Arc::clone(shared));
    spawn("git-relay", move || {
        let ended = copy(&from_server, &to_client, |bytes| down.allow(bytes));
        if let Ok(false) = ended {
            down.cut(Cut::Oversized);
        }
        to_client.shutdown(Shutdown::Both).ok();
    })?;
    // An error here means that one side closed: the other thread and libgit2 see the end of the
    // stream.
    copy(client, &server, |bytes| {
        name_server(bytes, shared);
        true
    })
    .ok();
    server.shutdown(Shutdown::Write)
}

fn elsewhere(place: &str) -> io::Error {
    io::Error::other(format!(
        "it redirects to {place:?}, which is not followed; configure the address it redirects to"
    ))
}

/// Puts the server's name where an HTTP request names our port. libgit2 sends the head of a request
/// by itself and at once, so it begins a read.
fn name_server(bytes: &mut Vec<u8>, shared: &Shared) {
    let head = bytes.starts_with(b"GET ") || bytes.starts_with(b"POST ");
    if shared.target.speech != Speech::Http || !head {
        return;
    }
    let ours = format!("\r\nHost: {}\r\n", shared.address);
    let found = bytes.windows(ours.len()).position(|window| window == ours.as_bytes());
    if let Some(at) = found {
        let Target { host, port, .. } = &shared.target;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let port = if *port == 80 { String::new() } else { format!(":{port}") };
        let theirs = format!("\r\nHost: {host}{port}\r\n").into_bytes();
        bytes.splice(at..at + ours.len(), theirs);
    }
}

/// Connects to the first address that answers in time.
fn connect(shared: &Shared) -> io::Result<TcpStream> {
    let target = &shared.target;
    let mut last = io::Error::other("its name has no address");
    for address in (target.host.as_str(), target.port).to_socket_addrs()? {
        let left = shared.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(cause) => last = cause,
        }
    }
    Err(last)
}

/// Copies until the end, through `look`; false when that says no.
fn copy(
    mut from: &TcpStream,
    mut to: &TcpStream,
    look: impl Fn(&mut Vec<u8>) -> bool,
) -> io::Result<bool> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(true);
        }
        let mut bytes = buffer[..read].to_vec();
        if !look(&mut bytes) {
            return Ok(false);
        }
        to.write_all(&bytes)?;
    }
}
