//! Histograms by powers of two, with the names that openraft counts its batches under.
//!
//! Nobody reads what it counts there; our own figures come from `raft::Metrics`. The crate of this
//! name keeps tables for sixteen precisions of which openraft uses one, 26 MiB of memory from the
//! first count on. Here a histogram is its 65 counters.

use std::{fmt, marker::PhantomData};

/// One bucket for zero, and one for each power of two.
const BUCKETS: usize = u64::BITS as usize + 1;

/// How often values of each magnitude were recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    of: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// A histogram of nothing yet.
    pub fn new() -> Self {
        Self { counts: [0; BUCKETS], of: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value that was there `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        self.counts[(u64::BITS - value.leading_zeros()) as usize] += count;
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The lower bound of the bucket below which `permille` thousandths of the values lie.
    fn at_permille(&self, permille: u64) -> u64 {
        let rank = self.total().saturating_mul(permille).div_ceil(1000).max(1);
        let mut below = 0;
        let bucket = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        bucket.filter(|bucket| *bucket > 0).map_or(0, |bucket| 1 << (bucket - 1))
    }

    /// Where the values lie.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.at_permille(1),
            p1: self.at_permille(10),
            p5: self.at_permille(50),
            p10: self.at_permille(100),
            p50: self.at_permille(500),
            p90: self.at_permille(900),
            p99: self.at_permille(990),
            p99_9: self.at_permille(999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles of a histogram; each is the lower bound of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values there are.
    pub samples: u64,
    /// The value that a thousandth lies below.
    pub p0_1: u64,
    /// One hundredth.
    pub p1: u64,
    /// A twentieth.
    pub p5: u64,
    /// A tenth.
    pub p10: u64,
    /// Half.
    pub p50: u64,
    /// Nine tenths.
    pub p90: u64,
    /// Ninety-nine hundredths.
    pub p99: u64,
    /// All but a thousandth.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, .. } = self;
        write!(f, "{samples} values, half below {p50}, 90 % below {p90}, 99 % below {p99}")
    }
}

/// Histograms as text, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl AsciiChart {
    /// A chart of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a histogram under a name.
    #[must_use]
    pub fn add<T>(mut self, name: impl ToString, histogram: Histogram<T>) -> Self {
        self.0.push((name.to_string(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_by_their_magnitude() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        for value in [0, 1, 3, 5, 5, 6, 7, 4, 1000, u64::MAX] {
            histogram.record(value);
        }
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p10, stats.p50, stats.p90), (10, 0, 4, 512));
        assert_eq!(stats.p99, 1 << 63);
    }
}
