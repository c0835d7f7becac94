//! What a server answers.

use flate2::{Compress, Compression, FlushCompress};

use super::{CONTROL, FLAG_FIN, HEAD_BYTES, StreamId, VERSION, dictionary::dictionary, kind};

/// Most bytes of one data frame; its length has 24 bits, and clients hold whole frames.
const DATA_BYTES_MAX: usize = 64 << 10;

/// Most bytes that the headers of a reply take: they are empty, so 32 are plenty.
const REPLY_BYTES_MAX: usize = 256;

/// Why a stream or connection is given up (SPDY draft 3.1, 2.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// What was asked for is not done.
    Refused = 3,
    /// It is not wanted any more.
    Cancel = 5,
}

/// Writes what a server answers.
#[derive(Debug)]
pub struct Encoder {
    headers: Compress,
}

impl Default for Encoder {
    fn default() -> Self {
        let mut headers = Compress::new(Compression::best(), true);
        // Both sides must begin alike. A reply has no headers, so nothing is lost if it cannot.
        let _unset = headers.set_dictionary(&dictionary());
        Self { headers }
    }
}

impl Encoder {
    /// Accepts a stream.
    pub fn reply(&mut self, stream: StreamId) -> Vec<u8> {
        // No headers: their number, which is zero.
        let none = 0u32.to_be_bytes();
        let mut packed = Vec::with_capacity(REPLY_BYTES_MAX);
        let packing = self.headers.compress_vec(&none, &mut packed, FlushCompress::Sync);
        debug_assert!(packing.is_ok(), "four bytes have room in {REPLY_BYTES_MAX}");
        control(kind::SYN_REPLY, &[&stream.0.to_be_bytes(), &packed[..]].concat())
    }

    /// Sends bytes on a stream.
    pub fn data(&self, stream: StreamId, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + HEAD_BYTES);
        for part in bytes.chunks(DATA_BYTES_MAX) {
            out.extend(data_head(stream, 0, part.len()));
            out.extend_from_slice(part);
        }
        out
    }

    /// Sends nothing more on a stream.
    pub fn finish(&self, stream: StreamId) -> Vec<u8> {
        data_head(stream, FLAG_FIN, 0).to_vec()
    }

    /// Gives a stream up.
    pub fn reset(&self, stream: StreamId, why: Reset) -> Vec<u8> {
        let why = (why as u32).to_be_bytes();
        control(kind::RST_STREAM, &[stream.0.to_be_bytes(), why].concat())
    }

    /// Sends a ping's number back.
    pub fn pong(&self, number: u32) -> Vec<u8> {
        control(kind::PING, &number.to_be_bytes())
    }
}

fn data_head(stream: StreamId, flags: u8, length: usize) -> [u8; HEAD_BYTES] {
    head(stream.0, flags, length)
}

fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let word = CONTROL | u32::from(VERSION) << 16 | u32::from(kind);
    [&head(word, 0, body.len())[..], body].concat()
}

fn head(word: u32, flags: u8, length: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = word.to_be_bytes();
    let [_, e, f, g] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, flags, e, f, g]
}
