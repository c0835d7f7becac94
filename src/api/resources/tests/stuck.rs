//! A watcher that reads nothing, over real sockets: it slows nobody, and hears 410 when it reads
//! on.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::state::HISTORY_MAX;

/// What is changed before the one who reads is asked whether all of it came.
const BATCH: usize = 256;

/// Changes that no longer fit into the sockets of the one who does not read and the history: 4 KiB
/// each, where both ends of a connection keep some mebibytes.
const CHANGES: usize = HISTORY_MAX + 6000;

/// Long enough for a busy machine; a watcher that waited for the other would never read.
const SECONDS_MAX: u64 = 60;

/// Serves on loopback, where everybody is the administrator.
async fn serve(backend: &Arc<Fake>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front = routers(backend.clone()).tls;
    let router = axum::Router::new().fallback_service(front).layer(axum::Extension(admin()));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// A watch whose head was read. HTTP/1.0, so that the lines come as they are.
async fn watch(address: std::net::SocketAddr) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("GET {MAPS}?watch=1 HTTP/1.0\r\nhost: localhost\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    stream
}

/// The number the next line tells of, or the whole line; `None` at the end.
async fn next(stream: &mut BufReader<TcpStream>) -> Option<Result<usize, Value>> {
    let mut line = String::new();
    let read = tokio::time::timeout(Duration::from_secs(SECONDS_MAX), stream.read_line(&mut line));
    if read.await.expect("a line in time").unwrap() == 0 {
        return None;
    }
    let line: Value = serde_json::from_str(&line).unwrap();
    match line["object"]["data"]["number"].as_str() {
        Some(number) => Some(Ok(number.parse().unwrap())),
        None => Some(Err(line)),
    }
}

fn change(backend: &Arc<Fake>, number: usize) {
    let mut map = map("churn", &"x".repeat(4 << 10));
    map["metadata"]["namespace"] = "demo".into();
    map["data"]["number"] = number.to_string().into();
    let object = Object::from_value(&map).unwrap();
    let put = Op::Put { object, expect: Assume::Any, part: Part::Main };
    backend.apply(vec![Command::Write(vec![put])]);
}

#[tokio::test]
async fn a_stuck_watcher_slows_nobody_and_is_dropped_with_410() {
    let backend = demo();
    let address = serve(&backend).await;
    let (mut stuck, mut reading) = (watch(address).await, watch(address).await);
    for first in (0..CHANGES).step_by(BATCH) {
        let batch = first..CHANGES.min(first + BATCH);
        batch.clone().for_each(|number| change(&backend, number));
        for number in batch {
            assert_eq!(next(&mut reading).await, Some(Ok(number)));
        }
    }
    // What had been sent before it was stuck comes whole and in order, then the end.
    let mut told = 0;
    let last = loop {
        match next(&mut stuck).await {
            Some(Ok(number)) => assert_eq!(number, std::mem::replace(&mut told, number + 1)),
            Some(Err(line)) => break line,
            None => panic!("it ended without a word after {told} changes"),
        }
    };
    assert!(told < CHANGES, "it was never stuck");
    assert_eq!((&last["type"], &last["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(next(&mut stuck).await, None, "the watch is over");
}
