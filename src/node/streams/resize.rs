//! Sizes of a terminal, as clients tell them.

use serde::Deserialize;

/// Most bytes that are kept of a size that is not whole yet; one has about 30.
const BYTES_MAX: usize = 1 << 10;

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Size {
    /// In columns.
    #[serde(rename = "Width")]
    pub width: u16,
    /// In rows.
    #[serde(rename = "Height")]
    pub height: u16,
}

/// Reads sizes out of a stream of JSON documents that may be cut anywhere.
#[derive(Debug, Default)]
pub struct Sizes {
    rest: Vec<u8>,
}

impl Sizes {
    /// Takes bytes in; gives the newest whole size in them, for only the newest counts. What is not
    /// a size is skipped: a terminal of the wrong size is better than a command that ends.
    pub fn receive(&mut self, bytes: &[u8]) -> Option<Size> {
        self.rest.extend_from_slice(bytes);
        let mut newest = None;
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'}') {
            let document: Vec<u8> = self.rest.drain(..=end).collect();
            newest = serde_json::from_slice(&document).ok().or(newest);
        }
        if self.rest.len() > BYTES_MAX {
            self.rest.clear();
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_come_whole_or_in_pieces() {
        let mut sizes = Sizes::default();
        let size = |width, height| Some(Size { width, height });
        assert_eq!(sizes.receive(b"{\"Width\":80,\"Height\":24}\n"), size(80, 24));
        assert_eq!(sizes.receive(b"{\"Width\":1"), None);
        assert_eq!(sizes.receive(b"20,\"Height\":50}{\"Width\":1,\"Height\":2}"), size(1, 2));
        assert_eq!(sizes.receive(b"nonsense}"), None);
        assert_eq!(sizes.receive(b"{\"Width\":70000,\"Height\":2}"), None, "not of this world");
        assert_eq!(sizes.receive(b"{\"Width\":3,\"Height\":4}"), size(3, 4));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it_and_it_keeps_few(parts: Vec<Vec<u8>>) {
            let mut sizes = Sizes::default();
            for part in parts {
                sizes.receive(&part);
                prop_assert!(sizes.rest.len() <= BYTES_MAX);
            }
        }
    }
}
