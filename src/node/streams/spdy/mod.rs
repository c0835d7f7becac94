//! SPDY/3.1 as Kubernetes speaks it: many streams over one upgraded connection
//! (chromium.org/spdy: "SPDY Protocol - Draft 3.1").
//!
//! In: bytes of the client ([`Decoder`]) and what to answer ([`Encoder`]). Out: [`Event`]s, and
//! bytes to send. The two halves share nothing, so that reading never waits for writing. Clients
//! open all streams; a server only answers.
//!
//! Windows are neither kept nor announced: no client of Kubernetes keeps to them, and some stumble
//! over frames that speak of them. What holds a fast sender back is that the connection is not read
//! while a stream's reader is behind.

mod decode;
mod dictionary;
mod encode;

pub use decode::{Decoder, Error, Event};
pub use encode::{Encoder, Reset};

/// The name under which an HTTP connection is upgraded to this protocol.
pub const UPGRADE: &str = "SPDY/3.1";

/// Bytes of a frame's head, of both kinds of frame.
const HEAD_BYTES: usize = 8;

/// The version in control frames; 3.1 writes 3.
const VERSION: u16 = 3;

/// Names a stream: odd, because clients open them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u32);

/// The bit that tells control frames from data, and that no stream's number has.
const CONTROL: u32 = 1 << 31;

/// The flag of the last frame that a side sends on a stream.
const FLAG_FIN: u8 = 1;

/// Types of control frames.
mod kind {
    pub(super) const SYN_STREAM: u16 = 1;
    pub(super) const SYN_REPLY: u16 = 2;
    pub(super) const RST_STREAM: u16 = 3;
    pub(super) const PING: u16 = 6;
    pub(super) const GOAWAY: u16 = 7;
    pub(super) const HEADERS: u16 = 8;
}

#[cfg(test)]
mod tests;
