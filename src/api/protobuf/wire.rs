//! Tags, varints and lengths (protobuf.dev/programming-guides/encoding).

use super::Error;

/// A field's value as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    /// A varint.
    Number(u64),
    /// Four or eight bytes.
    Fixed(u64),
    /// Bytes with their length: texts, messages, packed numbers.
    Bytes(&'a [u8]),
}

impl<'a> Raw<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Error::Malformed),
        }
    }

    pub(super) fn text(self) -> Result<String, Error> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Error::BadValue)
    }

    /// A number; the absent one of a map's entry is zero.
    pub(super) fn number(self) -> Result<u64, Error> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes([]) => Ok(0),
            _ => Err(Error::Malformed),
        }
    }

    pub(super) fn fixed(self) -> Result<u64, Error> {
        match self {
            Self::Fixed(bits) => Ok(bits),
            _ => Err(Error::Malformed),
        }
    }
}

/// Bytes that are read from the front.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field and its number; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Raw<'a>)>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Error::Malformed)?;
        let raw = match tag & 7 {
            0 => Raw::Number(self.varint()?),
            1 => Raw::Fixed(little_endian(self.take(8)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::Malformed)?;
                Raw::Bytes(self.take(length)?)
            }
            5 => Raw::Fixed(little_endian(self.take(4)?)),
            _ => return Err(Error::Malformed),
        };
        match number {
            0 => Err(Error::Malformed),
            _ => Ok(Some((number, raw))),
        }
    }

    /// Seven bits a byte, the lowest first, at most ten bytes.
    pub(super) fn varint(&mut self) -> Result<u64, Error> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = u64::from(self.take(1)?[0]);
            number |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Error::Malformed)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Error::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
