//! A range of IPv4 addresses.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A range of IPv4 addresses such as `10.244.1.0/24`. The host bits are always zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: Ipv4Addr,
    prefix: u8,
}

/// A text that is no IPv4 range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 range; write it like 10.244.0.0/16, with the host bits zero")]
pub struct CidrError(String);

impl Cidr {
    /// The range of `prefix` leading bits that holds `address`; a prefix above 32 counts as 32.
    pub fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self { base: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix }
    }

    /// The lowest address.
    pub fn base(self) -> Ipv4Addr {
        self.base
    }

    /// How many leading bits are fixed.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies in the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.base.to_bits()
    }

    /// Whether all of `other` lies in the range.
    pub fn covers(self, other: Cidr) -> bool {
        self.prefix <= other.prefix && self.contains(other.base)
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(self, other: Cidr) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The first address after the base: the gateway of a node's pod range.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits().wrapping_add(1))
    }
}

/// The bits that a prefix fixes.
fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = CidrError;
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let fail = || CidrError(text.to_owned());
        let (base, prefix) = text.split_once('/').ok_or_else(fail)?;
        let digits = (1..=2).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_digit());
        let base: Ipv4Addr = base.parse().map_err(|_| fail())?;
        let prefix: u8 = prefix.parse().map_err(|_| fail())?;
        let range = Self::around(base, prefix);
        if digits && prefix <= 32 && range.base == base { Ok(range) } else { Err(fail()) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;
    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn reads_and_writes() {
        for text in ["0.0.0.0/0", "10.244.0.0/16", "10.244.1.0/24", "10.0.0.7/32"] {
            assert_eq!(cidr(text).to_string(), text);
        }
        for text in ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/33", "10.0.0.0/+8", "::/0", "a/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn knows_what_it_holds() {
        let cluster = cidr("10.244.0.0/16");
        assert!(cluster.contains(Ipv4Addr::new(10, 244, 9, 9)));
        assert!(!cluster.contains(Ipv4Addr::new(10, 245, 0, 0)));
        assert!(cluster.covers(cidr("10.244.3.0/24")));
        assert!(!cidr("10.244.3.0/24").covers(cluster));
        assert!(cidr("10.244.3.0/24").overlaps(cluster));
        assert!(cidr("0.0.0.0/0").covers(cluster));
        assert_eq!(cidr("10.244.3.0/24").gateway(), Ipv4Addr::new(10, 244, 3, 1));
    }
}
