//! What a client sends.

use std::collections::BTreeSet;

use flate2::{Decompress, FlushDecompress, Status};

use super::{CONTROL, FLAG_FIN, HEAD_BYTES, StreamId, VERSION, dictionary::dictionary, kind};

/// Most bytes of a control frame. Kubernetes' headers have less than 100.
pub(super) const CONTROL_BYTES_MAX: usize = 16 << 10;

/// Most bytes of one frame's headers once they are unpacked: a small frame can hold large ones.
pub(super) const HEADER_BYTES_MAX: usize = 64 << 10;

/// Most streams on which a client may be sending at once. A forwarded connection has two; browsers
/// open a few dozen connections.
pub(super) const STREAMS_MAX: usize = 1024;

/// What the client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It opened a stream. Names of headers are in lower case.
    Opened {
        /// The stream.
        stream: StreamId,
        /// What it is for.
        headers: Vec<(String, String)>,
    },
    /// It opened one stream more than it may; the stream is to be reset.
    Refused(StreamId),
    /// It sent something on a stream that is open.
    Data {
        /// The stream.
        stream: StreamId,
        /// What it sent, cut as it came.
        bytes: Vec<u8>,
    },
    /// It will send nothing more on a stream.
    Finished(StreamId),
    /// It gave a stream up, in both directions.
    Reset(StreamId),
    /// It wants the same number back.
    Ping(u32),
    /// It will open no more streams.
    GoAway,
}

/// Bytes that are no SPDY/3.1. The connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another version.
    #[error("SPDY version {0} is not spoken here, only 3.1")]
    Version(u16),
    /// A control frame or its headers above their bounds.
    #[error("a frame of type {kind} is too large")]
    TooLarge {
        /// Its type.
        kind: u16,
    },
    /// A frame that is shorter than its type needs, or headers that cannot be unpacked.
    #[error("a frame of type {kind} is broken")]
    Broken {
        /// Its type.
        kind: u16,
    },
    /// A stream's number that is used, even or zero.
    #[error("stream {0} cannot be opened")]
    Stream(u32),
}

/// Reads what a client sends. Holds at most one control frame.
#[derive(Debug)]
pub struct Decoder {
    /// Of a frame whose head or control part is not whole yet.
    held: Vec<u8>,
    /// Of the data frame that is being read: its stream, bytes that are missing, whether it is the
    /// last.
    data: Option<(StreamId, usize, bool)>,
    headers: Headers,
    /// On which the client may send.
    open: BTreeSet<StreamId>,
    newest: u32,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            data: None,
            headers: Headers(Decompress::new(true)),
            open: BTreeSet::new(),
            newest: 0,
        }
    }
}

impl Decoder {
    /// Takes bytes in, cut anywhere. After an error nothing more can be read.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        loop {
            if let Some((stream, left, last)) = self.data.take() {
                let (piece, rest) = bytes.split_at(left.min(bytes.len()));
                bytes = rest;
                self.on_data(stream, piece, left - piece.len(), last, &mut events);
                if self.data.is_some() {
                    return Ok(events);
                }
            } else if bytes.is_empty() {
                return Ok(events);
            } else {
                bytes = self.gather(bytes)?;
                self.take_frame(&mut events)?;
            }
        }
    }

    /// The stream is over for us: what still comes on it is dropped.
    pub fn forget(&mut self, stream: StreamId) {
        self.open.remove(&stream);
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn on_data(
        &mut self,
        stream: StreamId,
        piece: &[u8],
        left: usize,
        last: bool,
        events: &mut Vec<Event>,
    ) {
        let open = self.open.contains(&stream);
        if open && !piece.is_empty() {
            events.push(Event::Data { stream, bytes: piece.to_vec() });
        }
        if left > 0 {
            self.data = Some((stream, left, last));
        } else if last && self.open.remove(&stream) {
            events.push(Event::Finished(stream));
        }
    }

    /// Takes as much as the frame at hand still needs.
    fn gather<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
        let wanted = match self.head() {
            None => HEAD_BYTES,
            Some((_, length)) => HEAD_BYTES + length,
        };
        let missing = wanted - self.held.len();
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        self.held.extend_from_slice(part);
        match self.head() {
            Some((word, length)) if word & CONTROL != 0 => {
                let version = u16::try_from((word & !CONTROL) >> 16).unwrap_or(u16::MAX);
                if version != VERSION {
                    return Err(Error::Version(version));
                }
                if length > CONTROL_BYTES_MAX {
                    return Err(Error::TooLarge { kind: low(word) });
                }
            }
            _ => {}
        }
        Ok(rest)
    }

    /// The first word of the frame at hand and the length of its body, once its head is there.
    fn head(&self) -> Option<(u32, usize)> {
        let length = u32_at(&self.held, 4)? & 0x00ff_ffff;
        Some((u32_at(&self.held, 0)?, length as usize))
    }

    fn take_frame(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        let Some((word, length)) = self.head() else { return Ok(()) };
        let flags = self.held[4];
        if word & CONTROL == 0 {
            self.held.clear();
            self.data = Some((StreamId(word), length, flags & FLAG_FIN != 0));
            return Ok(());
        }
        if self.held.len() < HEAD_BYTES + length {
            return Ok(());
        }
        let frame = std::mem::take(&mut self.held);
        self.control(low(word), flags, &frame[HEAD_BYTES..], events)
    }

    fn control(
        &mut self,
        kind: u16,
        flags: u8,
        body: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        let number = |at| u32_at(body, at).ok_or(Error::Broken { kind });
        let stream = |at| number(at).map(|n| StreamId(n & !CONTROL));
        match kind {
            kind::SYN_STREAM => {
                let packed = body.get(10..).ok_or(Error::Broken { kind })?;
                let headers = self.headers.unpack(packed, kind)?;
                self.open(stream(0)?, headers, flags & FLAG_FIN != 0, events)?;
            }
            kind::SYN_REPLY | kind::HEADERS => {
                // Of no meaning here, but the compression goes on through all of them.
                self.headers.unpack(body.get(4..).ok_or(Error::Broken { kind })?, kind)?;
                let stream = stream(0)?;
                if flags & FLAG_FIN != 0 && self.open.remove(&stream) {
                    events.push(Event::Finished(stream));
                }
            }
            kind::RST_STREAM => {
                let stream = stream(0)?;
                self.open.remove(&stream);
                events.push(Event::Reset(stream));
            }
            // Even numbers would be answers to pings of ours.
            kind::PING if number(0)? % 2 == 1 => events.push(Event::Ping(number(0)?)),
            kind::GOAWAY => events.push(Event::GoAway),
            _ => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        stream: StreamId,
        headers: Vec<(String, String)>,
        last: bool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        let StreamId(number) = stream;
        if number % 2 == 0 || number <= self.newest {
            return Err(Error::Stream(number));
        }
        self.newest = number;
        if self.open.len() >= STREAMS_MAX {
            events.push(Event::Refused(stream));
            return Ok(());
        }
        events.push(Event::Opened { stream, headers });
        match last {
            true => events.push(Event::Finished(stream)),
            false => drop(self.open.insert(stream)),
        }
        Ok(())
    }
}

fn low(word: u32) -> u16 {
    u16::try_from(word & 0xffff).unwrap_or_default()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// Unpacks headers: one compressed stream through all frames of a connection.
#[derive(Debug)]
struct Headers(Decompress);

impl Headers {
    fn unpack(&mut self, packed: &[u8], kind: u16) -> Result<Vec<(String, String)>, Error> {
        let text = self.inflate(packed, kind)?;
        read(&text).ok_or(Error::Broken { kind })
    }

    fn inflate(&mut self, packed: &[u8], kind: u16) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; HEADER_BYTES_MAX];
        let (begun_in, begun_out) = (self.0.total_in(), self.0.total_out());
        let mut asked = false;
        loop {
            let taken = usize::try_from(self.0.total_in() - begun_in).unwrap_or(usize::MAX);
            let made = usize::try_from(self.0.total_out() - begun_out).unwrap_or(usize::MAX);
            let (rest, room) = (&packed[taken.min(packed.len())..], &mut out[made..]);
            if room.is_empty() {
                return Err(Error::TooLarge { kind });
            }
            if rest.is_empty() {
                out.truncate(made);
                return Ok(out);
            }
            match self.0.decompress(rest, room, FlushDecompress::Sync) {
                Ok(Status::Ok) if self.0.total_in() - begun_in > taken as u64 => {}
                Err(e) if e.needs_dictionary().is_some() && !asked => {
                    asked = true;
                    let set = self.0.set_dictionary(&dictionary());
                    set.map_err(|_| Error::Broken { kind })?;
                }
                _ => return Err(Error::Broken { kind }),
            }
        }
    }
}

/// Names and values, each with its length before it.
fn read(text: &[u8]) -> Option<Vec<(String, String)>> {
    let count = u32_at(text, 0)?;
    let mut at = 4;
    let mut string = || {
        let length = usize::try_from(u32_at(text, at)?).ok()?;
        let bytes = text.get(at + 4..(at + 4).checked_add(length)?)?;
        at += 4 + length;
        Some(String::from_utf8_lossy(bytes).into_owned())
    };
    // The text is bounded, and each pair takes eight bytes of it: so is the list.
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((string()?.to_lowercase(), string()?));
    }
    Some(pairs)
}
