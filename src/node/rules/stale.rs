//! Which connection-tracking entries the rules have outlived.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Front, UdpFronts};

/// UDP entries to drop. Without that, a client that keeps its socket goes on sending to a pod that
/// is gone, or past a service that now has endpoints, for as long as it sends
/// (kubernetes/kubernetes#126130, #139628).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaleFlow {
    /// Where the client sends.
    pub front: Front,
    /// The endpoint it was translated to; `None`: all entries of the front, which were not
    /// translated to a live one.
    pub endpoint: Option<SocketAddrV4>,
}

/// The entries to drop once the rules of `old` have become those of `new`: of endpoints that went
/// (with their service, too), and of fronts that got their first endpoint. TCP is left alone: it
/// ends by itself, and dropping its entries would break connections that are closing in good order.
pub fn stale(old: &UdpFronts, new: &UdpFronts) -> Vec<StaleFlow> {
    let mut flows = vec![];
    for (front, before) in old {
        let after = new.get(front);
        let gone = before.iter().filter(|at| !after.is_some_and(|now| now.contains(at)));
        flows.extend(gone.map(|at| StaleFlow { front: *front, endpoint: Some(*at) }));
    }
    for (front, after) in new {
        let was_empty = old.get(front).is_none_or(|before| before.is_empty());
        if was_empty && !after.is_empty() {
            flows.push(StaleFlow { front: *front, endpoint: None });
        }
    }
    flows.sort();
    flows.dedup();
    flows
}

/// Longest `conntrack -L` output that is read line by line; more than a full table of 262,144
/// entries.
const ENTRIES_MAX: usize = 300_000;

/// The entries to drop when nobody knows what the rules were before, as after a restart of the
/// agent: `listing` is what `conntrack -L -p udp` prints, and an entry is stale when it was sent to
/// a front of ours and is answered by an address that is not (any more) behind that front.
///
/// Node ports are recognised by being translated: an entry to that port that is answered from where
/// it was sent to is the node's own.
pub fn stale_entries(listing: &str, now: &UdpFronts) -> Vec<StaleFlow> {
    let mut flows: Vec<StaleFlow> =
        listing.lines().take(ENTRIES_MAX).filter_map(|line| stale_entry(line, now)).collect();
    flows.sort();
    flows.dedup();
    flows
}

fn stale_entry(line: &str, now: &UdpFronts) -> Option<StaleFlow> {
    // udp 17 25 src=C dst=V sport=1 dport=53 [UNREPLIED] src=E dst=C sport=53 dport=1 mark=0 use=1
    let field = |name: &str, nth: usize| {
        let mut values = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name));
        values.nth(nth)
    };
    let sent_to: Ipv4Addr = field("dst=", 0)?.parse().ok()?;
    let port: u16 = field("dport=", 0)?.parse().ok()?;
    let answered_by: Ipv4Addr = field("src=", 1)?.parse().ok()?;
    let answering_port: u16 = field("sport=", 1)?.parse().ok()?;
    let by_address = Front { address: Some(sent_to), port };
    let by_port = Front { address: None, port };
    let (front, behind) = match now.get(&by_address) {
        Some(behind) => (by_address, behind),
        None if answered_by != sent_to => (by_port, now.get(&by_port)?),
        None => return None,
    };
    let endpoint = SocketAddrV4::new(answered_by, answering_port);
    let live = behind.contains(&endpoint);
    // A front without endpoints answers nobody: its untranslated entries do no harm until it gets
    // one.
    let harmless = live || behind.is_empty() && answered_by == sent_to;
    (!harmless).then_some(StaleFlow { front, endpoint: Some(endpoint) })
}
