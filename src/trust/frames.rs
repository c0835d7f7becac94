//! Typed messages over a stream: a length (4 bytes, big endian), then that many bytes of JSON.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::model::session::FRAME_BYTES_MAX;

/// Reads one message; `None` when the peer closed the stream between two messages.
pub async fn read_frame<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let length = match stream.read_u32().await {
        Ok(length) => length as usize,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    };
    if length > FRAME_BYTES_MAX {
        let text = format!("a frame of {length} bytes; {FRAME_BYTES_MAX} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    // Grows with what arrives, not with what the peer announces.
    let mut frame = Vec::new();
    stream.take(length as u64).read_to_end(&mut frame).await?;
    if frame.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&frame).map(Some).map_err(io::Error::from)
}

/// Writes one message and flushes it.
pub async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let frame = serde_json::to_vec(message)?;
    if frame.len() > FRAME_BYTES_MAX {
        let text = format!("a frame of {} bytes; {FRAME_BYTES_MAX} are allowed", frame.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    // One write: with TLS each write becomes a record, and a packet, of its own.
    let bytes = [&length.to_be_bytes()[..], &frame].concat();
    stream.write_all(&bytes).await?;
    stream.flush().await
}
