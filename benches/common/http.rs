//! A client that costs little: it writes requests as text and counts what comes back.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Result;
use mainstay::{
    server::PKI,
    trust::{self, ALPN_HTTP, KeyFiles, Leaf},
};

/// What is read at a time.
const READ_BYTES: usize = 64 << 10;

/// A client with the administrator's certificate.
#[derive(Clone)]
pub(crate) struct Client {
    tls: TlsConnector,
    address: SocketAddr,
}

/// A connection, and what was read of it that belongs to the next answer.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Client {
    /// A client of the server with the keys in `dir`.
    pub(crate) fn new(dir: &Path, address: SocketAddr) -> Result<Self> {
        let ca = KeyFiles::new(dir.join(PKI)).ca()?;
        let leaf = Leaf {
            common_name: "kubernetes-admin".to_owned(),
            organizations: vec!["system:masters".to_owned()],
            names: Vec::new(),
            days: 1,
        };
        let issued = ca.issue(&leaf, super::now()?)?;
        let tls = trust::client(ca.certificate(), &issued, b"http/1.1")?;
        Ok(Self { tls: TlsConnector::from(tls), address })
    }

    /// Connects, the handshake done.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let stream = self.tls.connect(name, stream).await?;
        Ok(Connection { stream, read: Vec::new() })
    }
}

impl Connection {
    /// Writes a request without a body.
    pub(crate) async fn get(&mut self, path: &str) -> Result<()> {
        let text = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        Ok(self.stream.write_all(text.as_bytes()).await?)
    }

    /// Reads to the end; how many bytes there were, and how they began.
    pub(crate) async fn count(&mut self) -> Result<(usize, String)> {
        let mut buffer = vec![0; READ_BYTES];
        let (mut count, mut begin) = (0, Vec::new());
        loop {
            // A server that closes without TLS's own words has said all the same.
            let n = self.stream.read(&mut buffer).await.unwrap_or(0);
            if n == 0 {
                return Ok((count, String::from_utf8_lossy(&begin).into_owned()));
            }
            if begin.len() < 64 {
                begin.extend_from_slice(&buffer[..n.min(64)]);
            }
            count += n;
        }
    }

    /// Reads until something ends in `end`; gives it.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Result<Vec<u8>> {
        loop {
            let at = self.read.windows(end.len()).position(|window| window == end);
            if let Some(at) = at {
                let rest = self.read.split_off(at + end.len());
                return Ok(std::mem::replace(&mut self.read, rest));
            }
            self.more().await?;
        }
    }

    /// Sends a JSON body and gives the answer's: both have a length.
    pub(crate) async fn put(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut text = format!(
            "PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        text.extend_from_slice(body);
        self.stream.write_all(&text).await?;
        let head = String::from_utf8(self.until(b"\r\n\r\n").await?)?.to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap_or("0");
        let length: usize = length.trim().parse()?;
        let body = self.exactly(length).await?;
        match head.starts_with("http/1.1 200") {
            true => Ok(body),
            false => Err(format!("{head}{}", String::from_utf8_lossy(&body)).into()),
        }
    }

    /// Reads so many bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.read.len() < count {
            self.more().await?;
        }
        let rest = self.read.split_off(count);
        Ok(std::mem::replace(&mut self.read, rest))
    }

    async fn more(&mut self) -> Result<()> {
        self.read.reserve(4 << 10);
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err("the server has closed the connection".into()),
            _ => Ok(()),
        }
    }
}

/// The TLS configuration of a plain server with the keys in `dir`: the same as the API's.
pub(crate) fn server_tls(dir: &Path) -> Result<Arc<rustls::ServerConfig>> {
    let keys = KeyFiles::new(dir.join(PKI));
    Ok(trust::server(&keys.ca_certificate()?, &keys.issued("server")?, &ALPN_HTTP)?)
}
