//! Docker's way of carrying two outputs on one stream
//! (docs.docker.com/reference/api/engine: "Stream format").

/// Bytes of a frame's head: source, three zeros, length.
const HEAD_BYTES: usize = 8;

/// Which of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The output, and what a terminal shows.
    Stdout,
    /// The errors.
    Stderr,
}

/// A stream that is not what Docker sends; most likely the container has a terminal, and its stream
/// is bare.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {0} does not begin one of Docker's frames")]
pub struct Error(u8);

/// Takes frames apart. Holds less than one head; bodies go through as they come.
#[derive(Debug, Default)]
pub struct Frames {
    head: Vec<u8>,
    source: Option<Source>,
    left: usize,
}

impl Frames {
    /// Takes bytes in, cut anywhere, and gives the pieces of the two outputs in their order.
    pub fn receive<'a>(&mut self, mut bytes: &'a [u8]) -> Result<Vec<(Source, &'a [u8])>, Error> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = self.read_head(bytes)?;
                continue;
            }
            let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= piece.len();
            bytes = rest;
            out.extend(self.source.map(|source| (source, piece)));
        }
        Ok(out)
    }

    fn read_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
        let missing = HEAD_BYTES - self.head.len();
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        self.head.extend_from_slice(part);
        if let [source, _, _, _, a, b, c, d] = self.head[..] {
            self.left = u32::from_be_bytes([a, b, c, d]) as usize;
            self.head.clear();
            self.source = match source {
                // Input that is echoed counts as output.
                0 | 1 => Some(Source::Stdout),
                2 => Some(Source::Stderr),
                other => return Err(Error(other)),
            };
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(source: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[source, 0, 0, 0], &length[..], body].concat()
    }

    /// The two outputs, put together again.
    fn outputs(parts: &[&[u8]]) -> Result<(String, String), Error> {
        let mut frames = Frames::default();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for part in parts {
            for (source, piece) in frames.receive(part)? {
                match source {
                    Source::Stdout => out.extend_from_slice(piece),
                    Source::Stderr => err.extend_from_slice(piece),
                }
            }
        }
        Ok((String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap()))
    }

    #[test]
    fn outputs_are_told_apart_wherever_the_stream_is_cut() {
        let all = [frame(1, b"one"), frame(2, b"two"), frame(1, b""), frame(1, b"three")].concat();
        let whole = Ok(("onethree".to_owned(), "two".to_owned()));
        for at in 0..all.len() {
            let (a, b) = all.split_at(at);
            assert_eq!(outputs(&[a, b]), whole, "cut at {at}");
        }
    }

    #[test]
    fn a_bare_stream_is_refused() {
        assert_eq!(outputs(&[b"/ # ls -l\r\n"]), Err(Error(b'/')));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it_and_it_keeps_less_than_a_head(parts: Vec<Vec<u8>>) {
            let mut frames = Frames::default();
            for part in parts {
                let length = part.len();
                if let Ok(pieces) = frames.receive(&part) {
                    prop_assert!(pieces.iter().map(|(_, p)| p.len()).sum::<usize>() <= length);
                }
                prop_assert!(frames.head.len() < HEAD_BYTES);
            }
        }
    }
}
