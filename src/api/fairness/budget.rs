//! How often strangers may ask for something that costs work before anybody knows who they are:
//! pure, time is an argument.
//!
//! Each address has a budget, and all of them together have one, so that who floods spends its own
//! first, and many who flood cost no more than a bound.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use crate::model::Timestamp;

/// What one request costs, in thousandths: budgets fill up by the millisecond.
const COST_MILLI: i64 = 1000;

/// Addresses from which on those are forgotten that have their whole budget again. Of the others
/// there are never more than all together may spend in the time in which one fills up.
const ADDRESSES_MAX: usize = 512;

/// How much somebody may ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// At once.
    pub(super) burst: i64,
    /// And again each second.
    pub(super) per_second: i64,
}

/// A host tells of pushes: one address seldom says more than one in a second, and hooks that are
/// refused come again or are made up for by the next look.
const EACH: Allowance = Allowance { burst: 60, per_second: 2 };

/// To judge a hook is to read a mebibyte and to hash it: eight in a second are some per cent of one
/// processor.
const ALL: Allowance = Allowance { burst: 240, per_second: 8 };

/// What is left of an allowance.
#[derive(Clone, Copy, Debug)]
struct Budget {
    left_milli: i64,
    at: Timestamp,
}

impl Budget {
    fn full(allowance: Allowance, now: Timestamp) -> Self {
        Self { left_milli: allowance.burst * COST_MILLI, at: now }
    }

    /// What is left after the time since; clocks that go back give nothing.
    fn filled(self, allowance: Allowance, now: Timestamp) -> Self {
        let more = now.0.saturating_sub(self.at.0).max(0).saturating_mul(allowance.per_second);
        let left_milli = self.left_milli.saturating_add(more).min(allowance.burst * COST_MILLI);
        Self { left_milli, at: now }
    }

    /// Seconds until one request can be paid; none when that is now.
    fn wait_seconds(self, allowance: Allowance) -> Option<u32> {
        let missing = COST_MILLI - self.left_milli;
        let fills_milli = allowance.per_second * 1000;
        let seconds = (missing + fills_milli - 1) / fills_milli;
        (missing > 0).then_some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    fn pay(&mut self) {
        self.left_milli -= COST_MILLI;
    }
}

/// The budgets of deliveries of hooks.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    all: Option<Budget>,
    each: BTreeMap<IpAddr, Budget>,
}

impl Budgets {
    /// Pays for one request; else says after how many seconds to come again.
    pub(super) fn take(&mut self, from: Option<IpAddr>, now: Timestamp) -> Result<(), u32> {
        let from = from.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), network);
        let own = self.each.get(&from).map(|own| own.filled(EACH, now));
        let mut own = own.unwrap_or_else(|| Budget::full(EACH, now));
        let all = self.all.map(|all| all.filled(ALL, now));
        let mut all = all.unwrap_or_else(|| Budget::full(ALL, now));
        if let Some(seconds) = own.wait_seconds(EACH).max(all.wait_seconds(ALL)) {
            return Err(seconds);
        }
        own.pay();
        all.pay();
        self.all = Some(all);
        self.each.insert(from, own);
        if self.each.len() > ADDRESSES_MAX {
            let full = EACH.burst * COST_MILLI;
            self.each.retain(|_, own| own.filled(EACH, now).left_milli < full);
        }
        Ok(())
    }
}

/// Whose address it is: of IPv6 a network, in which one machine has as many as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(1_700_000_000_000 + seconds * 1000)
    }

    /// How many of `n` requests are taken, and what the next one hears.
    fn flood(budgets: &mut Budgets, from: &str, n: usize, now: Timestamp) -> (usize, Option<u32>) {
        let from = Some(from.parse().unwrap());
        let taken = (0..n).filter(|_| budgets.take(from, now).is_ok()).count();
        (taken, budgets.take(from, now).err())
    }

    #[test]
    fn who_floods_spends_its_own() {
        let mut budgets = Budgets::default();
        assert_eq!(flood(&mut budgets, "192.0.2.1", 1000, at(0)), (60, Some(1)));
        assert_eq!(flood(&mut budgets, "::ffff:192.0.2.1", 9, at(0)), (0, Some(1)));
        assert_eq!(flood(&mut budgets, "192.0.2.2", 10, at(0)), (10, None));
        // Two more each second, and no more than at first however long it rests.
        assert_eq!(flood(&mut budgets, "192.0.2.1", 9, at(1)), (2, Some(1)));
        assert_eq!(flood(&mut budgets, "192.0.2.1", 1000, at(3600)).0, 60);
        // A clock that goes back gives nothing and takes nothing.
        assert_eq!(flood(&mut budgets, "192.0.2.1", 9, at(0)).0, 0);
    }

    #[test]
    fn many_who_flood_cost_no_more_than_a_bound() {
        let mut budgets = Budgets::default();
        let mut taken = 0;
        for second in 0..100 {
            for host in 0..200 {
                let from = format!("2001:db8:{second}:{host}::1");
                let (some, refused) = flood(&mut budgets, &from, 9, at(second));
                taken += some + usize::from(refused.is_none());
            }
        }
        assert_eq!(taken, 240 + 99 * 8);
        assert!(budgets.each.len() <= ADDRESSES_MAX + 1, "{}", budgets.each.len());
        // One network is one address.
        let mut budgets = Budgets::default();
        assert_eq!(flood(&mut budgets, "2001:db8::1", 60, at(0)).0, 60);
        assert_eq!(flood(&mut budgets, "2001:db8::2", 60, at(0)).0, 0);
    }
}
