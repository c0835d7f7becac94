//! Connections of nobody: what they may cost a server before it knows who asks.

use std::time::Duration;

use mainstay::trust;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

use crate::world::{DEADLINE, Server, World, kubectls};

/// Connections of each sort.
const EACH: usize = 300;

/// What one of them may cost at most: the bound on heads, TLS's buffers and a task, and as much
/// again for what the allocator keeps.
const ONE_BYTES_MAX: u64 = 256 << 10;

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(100);

/// Bytes of the heads that are too large.
const HUGE: usize = 1 << 20;

/// A connection without a certificate.
async fn stranger(server: &Server) -> TlsStream<TcpStream> {
    let hash = server.keys().ca().unwrap().hash().unwrap();
    let tls = trust::client_pinned(&hash, b"http/1.1").unwrap();
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(tls).connect(name, stream).await.unwrap()
}

/// The most memory of the server while many strangers hold on to it.
async fn crowd(server: &Server) -> u64 {
    let mut held = JoinSet::new();
    for _ in 0..EACH {
        // One that says nothing, one that is slow, and one whose head does not end.
        let (idle, slow, huge) =
            (stranger(server).await, stranger(server).await, stranger(server).await);
        held.spawn(hold(idle, b"".to_vec()));
        held.spawn(hold(slow, b"GET /version HTTP/1.1\r\nHost: a\r\nX-Slow: ".to_vec()));
        let head = [b"GET /version HTTP/1.1\r\nHost: a\r\nX-Huge: ", &vec![b'a'; HUGE][..]];
        held.spawn(hold(huge, head.concat()));
    }
    let mut most = server.memory();
    while !held.is_empty() {
        let ended = tokio::time::timeout(LOOK, held.join_next()).await;
        if let Ok(Some(held)) = ended {
            held.unwrap();
        }
        most = most.max(server.memory());
    }
    most
}

/// Sends something and waits until the server has had enough.
async fn hold(mut stream: TlsStream<TcpStream>, text: Vec<u8>) {
    // The server may hang up while this is sent: that is what is wanted.
    stream.write_all(&text).await.ok();
    stream.flush().await.ok();
    let mut answer = Vec::new();
    let ends = stream.read_to_end(&mut answer);
    let ended = tokio::time::timeout(DEADLINE, ends).await;
    assert!(ended.is_ok(), "a stranger is held on to for ever");
}

#[test]
fn strangers_cost_little_and_keep_nobody_out() {
    if kubectls("strangers_cost_little_and_keep_nobody_out").is_empty() {
        return;
    }
    let world = World::up(1);
    let server = &world.servers[0];
    let before = server.memory();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let most = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| runtime.block_on(crowd(server)));
        // Whoever may ask is answered meanwhile.
        while !crowd.is_finished() {
            let asked = world.kubectl(0, "kubectl", &["get", "cm", "owned", "-n", "free"]);
            assert!(asked.is_ok(), "{asked:?}");
            std::thread::sleep(Duration::from_secs(2));
        }
        crowd.join().unwrap()
    });
    let more = most.saturating_sub(before);
    eprintln!("{} strangers took {} KiB", 3 * EACH, more >> 10);
    let limit = u64::try_from(3 * EACH).unwrap() * ONE_BYTES_MAX;
    assert!(more < limit, "{more} bytes, more than {limit}");
}
