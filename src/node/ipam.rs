//! Which address a new pod gets.
//!
//! The addresses in use are those of the sandboxes that exist, not those of a file of promises; so
//! nothing leaks when an agent dies half-way.

use std::{collections::BTreeSet, net::Ipv4Addr};

/// The node's pod range: an IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRange {
    base: u32,
    prefix: u8,
}

impl PodRange {
    /// Reads `10.244.1.0/24`. Prefixes from 8 to 30 are accepted: a smaller range holds no pod.
    pub fn parse(cidr: &str) -> Option<Self> {
        let (base, prefix) = cidr.split_once('/')?;
        let prefix: u8 = prefix.parse().ok().filter(|p| (8..=30).contains(p))?;
        let base: Ipv4Addr = base.parse().ok()?;
        let mask = u32::MAX << (32 - prefix);
        Some(Self { base: u32::from(base) & mask, prefix })
    }

    /// How many addresses the range has, network, gateway and broadcast included.
    fn size(self) -> u32 {
        1 << (32 - self.prefix)
    }

    /// The bridge's own address: the first of the range.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Whether the range has this address.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address).wrapping_sub(self.base) < self.size()
    }
}

impl std::fmt::Display for PodRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

/// The next free address after `last`, going round, or `None` when the range is full.
///
/// Round-robin, because an address that is used again at once would get the traffic that stale
/// endpoints and connection-tracking entries still send to its former pod.
pub fn next_free(
    range: PodRange,
    used: &BTreeSet<Ipv4Addr>,
    last: Option<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    // 0 is the network, 1 the gateway, size-1 the broadcast address.
    let (first, end) = (2, range.size() - 1);
    let last = last.filter(|l| range.contains(*l)).map_or(1, |l| u32::from(l) - range.base);
    let after = (last + 1).max(first)..end;
    let before = first..(last + 1).clamp(first, end);
    after.chain(before).map(|n| Ipv4Addr::from(range.base + n)).find(|a| !used.contains(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(used: &[u8], last: Option<u8>, expect: Option<u8>) {
        let range = PodRange::parse("10.244.1.0/29").unwrap();
        let address = |n: &u8| Ipv4Addr::new(10, 244, 1, *n);
        let used = used.iter().map(address).collect();
        let got = next_free(range, &used, last.as_ref().map(address));
        assert_eq!(got, expect.as_ref().map(address));
    }

    #[test]
    fn goes_round_and_skips_what_is_used() {
        check(&[], None, Some(2));
        check(&[2, 3], None, Some(4));
        check(&[], Some(4), Some(5));
        check(&[5, 6], Some(4), Some(2));
        check(&[], Some(6), Some(2));
        check(&[], Some(7), Some(2));
        check(&[2, 3, 4, 5, 6], Some(3), None);
        check(&[2, 3, 5, 6], Some(4), Some(4));
    }

    #[test]
    fn a_last_address_of_another_range_starts_over() {
        let range = PodRange::parse("10.244.2.0/24").unwrap();
        let last = Some(Ipv4Addr::new(10, 9, 9, 9));
        assert_eq!(next_free(range, &BTreeSet::new(), last), Some(Ipv4Addr::new(10, 244, 2, 2)));
    }

    #[test]
    fn reads_only_ranges_that_hold_pods() {
        for bad in ["10.0.0.0", "10.0.0.0/31", "10.0.0.0/7", "x/24", "10.0.0.0/x", "::/64"] {
            assert_eq!(PodRange::parse(bad), None, "{bad}");
        }
        let range = PodRange::parse("10.0.0.77/24").unwrap();
        assert_eq!(range.to_string(), "10.0.0.0/24");
        assert_eq!(range.gateway(), Ipv4Addr::new(10, 0, 0, 1));
    }
}
