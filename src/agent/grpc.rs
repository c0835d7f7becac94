//! Asks a server by gRPC whether it is healthy: one call of `grpc.health.v1.Health/Check`
//! (github.com/grpc/grpc/blob/master/doc/health-checking.md).
//!
//! A client of gRPC with code made of its definitions would be a dependency for two fields; the
//! messages are written and read here, hyper speaks HTTP/2.

use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Request, StatusCode, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Most bytes of an answer: a message has five of its own and two of content.
const ANSWER_BYTES_MAX: usize = 1 << 10;

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// `HealthCheckResponse.ServingStatus`, by number.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Statuses of gRPC that have words of their own here.
const UNIMPLEMENTED: &str = "12";

/// Whether the server behind a connection says that `service` serves; else why not, in the
/// kubelet's words.
pub(super) async fn check(stream: TcpStream, service: &str) -> Result<(), String> {
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(failed)?;
    let driving = tokio::spawn(connection);
    let asked = async {
        let request = Request::post("http://localhost/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/mainstay")
            .body(Full::new(Bytes::from(question(service))))
            .map_err(failed)?;
        let answer = sender.send_request(request).await.map_err(failed)?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            return Err(failed(format!("HTTP status {}", head.status)));
        }
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(failed)?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        verdict(&head.headers, &trailers, &body.to_bytes())
    };
    let result = asked.await;
    driving.abort();
    result
}

fn failed(cause: impl std::fmt::Display) -> String {
    format!("error: health rpc failed: {cause}")
}

/// A `HealthCheckRequest` with its prefix. The length of a service's name is a varint.
fn question(service: &str) -> Vec<u8> {
    const SERVICE_FIELD: u8 = 1 << 3 | 2;
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(SERVICE_FIELD);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend(service.bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, &message].concat()
}

/// What an answer means. Its status stands in the trailers, or in the head of one without a body.
fn verdict(head: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let text = |name: &str| {
        let value = trailers.get(name).or_else(|| head.get(name));
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    match text("grpc-status") {
        "0" => {}
        UNIMPLEMENTED => {
            let why = text("grpc-message");
            return Err(format!(
                "error: this server does not implement the grpc health protocol \
                 (grpc.health.v1.Health): {why}"
            ));
        }
        status => return Err(failed(format!("status {status}: {}", text("grpc-message")))),
    }
    match status(body.get(PREFIX..).unwrap_or_default()) {
        Some(1) => Ok(()),
        other => {
            let name = other.and_then(|n| STATUSES.get(usize::try_from(n).ok()?).copied());
            Err(format!("service unhealthy (responded with {:?})", name.unwrap_or(STATUSES[0])))
        }
    }
}

/// The field `status` of a `HealthCheckResponse`; 0 when it is not there.
fn status(message: &[u8]) -> Option<u64> {
    const STATUS_FIELD: u8 = 1 << 3;
    match message {
        [] => Some(0),
        [STATUS_FIELD, value, ..] if *value < 0x80 => Some(u64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_message_with_its_length() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("db"), [&[0, 0, 0, 0, 4, 10, 2][..], b"db"].concat());
        let long = question(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 10, 0xc8, 1]);
    }

    #[test]
    fn answers_mean_what_the_kubelet_says() {
        let told = |status: &str, body: &[u8]| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            trailers.insert("grpc-message", "why".parse().unwrap());
            match verdict(&HeaderMap::new(), &trailers, body) {
                Ok(()) => "healthy".to_owned(),
                Err(why) => why,
            }
        };
        assert_eq!(told("0", &[0, 0, 0, 0, 2, 8, 1]), "healthy");
        let unhealthy = |name: &str| format!("service unhealthy (responded with {name:?})");
        assert_eq!(told("0", &[0, 0, 0, 0, 2, 8, 2]), unhealthy("NOT_SERVING"));
        assert_eq!(told("0", &[0, 0, 0, 0, 0]), unhealthy("UNKNOWN"));
        assert_eq!(told("5", &[]), "error: health rpc failed: status 5: why");
        let text = "error: this server does not implement the grpc health protocol \
                    (grpc.health.v1.Health): why";
        assert_eq!(told("12", &[]), text);
    }

    /// A server that answers as gRPC servers do, over a real connection.
    #[tokio::test]
    async fn a_server_is_asked_over_http2() {
        use std::convert::Infallible;

        use http_body_util::StreamBody;
        use hyper::{Response, body::Frame, server::conn::http2, service::service_fn};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = |request: Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let asked = request.into_body().collect().await.unwrap().to_bytes();
                    let status = if asked.ends_with(b"up") { 1 } else { 2 };
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    let body = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                    let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
                    let frames = frames.map(|frame: Result<_, Infallible>| frame);
                    let body = StreamBody::new(futures_util::stream::iter(frames));
                    Ok::<_, Infallible>(Response::new(body))
                };
                let serving = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(async move {
                    let _end: Result<(), hyper::Error> = serving.await;
                });
            }
        });
        let ask =
            async |service: &str| check(TcpStream::connect(address).await.unwrap(), service).await;
        assert_eq!(ask("up").await, Ok(()));
        let down = ask("down").await.unwrap_err();
        assert_eq!(down, "service unhealthy (responded with \"NOT_SERVING\")");
    }
}
