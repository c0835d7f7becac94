//! What Kubernetes asks of a log beyond Docker's own words: times to the millisecond, so many bytes
//! and no more.

use super::multiplex::Source;
use crate::model::Timestamp;

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Nothing that was written before.
    pub since: Option<Timestamp>,
    /// Leave the time before each line.
    pub timestamps: bool,
    /// Only one of the two outputs.
    pub only: Option<Source>,
    /// No more than so many bytes; the last line may be cut.
    pub limit_bytes: Option<u64>,
}

impl Filter {
    /// Whether the log must be read with its times: they are wanted, or needed to tell which lines
    /// are.
    pub fn needs_times(&self) -> bool {
        self.timestamps || self.since.is_some()
    }

    /// What is left of one record of the log (a line, or the part of one that was written at once)
    /// as Docker gives it; `None` when the log ends here.
    pub fn pass<'a>(&mut self, source: Source, record: &'a [u8]) -> Option<&'a [u8]> {
        if self.limit_bytes == Some(0) {
            return None;
        }
        let kept = match self.only {
            Some(only) if only != source => &[],
            _ => self.in_time(record),
        };
        let Some(left) = self.limit_bytes else { return Some(kept) };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let kept = &kept[..kept.len().min(most)];
        self.limit_bytes = Some(left - kept.len() as u64);
        Some(kept)
    }

    fn in_time<'a>(&self, record: &'a [u8]) -> &'a [u8] {
        if !self.needs_times() {
            return record;
        }
        // A record without a time is the rest of one that had: it stays.
        let Some((time, text)) = split_time(record) else { return record };
        match self.since {
            Some(since) if time < since => &[],
            _ if self.timestamps => record,
            _ => text,
        }
    }
}

/// The time that Docker wrote before a record, and the record.
fn split_time(record: &[u8]) -> Option<(Timestamp, &[u8])> {
    let at = record.iter().position(|byte| *byte == b' ')?;
    let time: jiff::Timestamp = std::str::from_utf8(&record[..at]).ok()?.parse().ok()?;
    Some((Timestamp(time.as_millisecond()), &record[at + 1..]))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    const RECORDS: [(Source, &[u8]); 4] = [
        (Source::Stdout, b"2026-01-02T03:04:05.100000000Z early\n"),
        (Source::Stderr, b"2026-01-02T03:04:05.600000001Z an error\n"),
        (Source::Stdout, b"2026-01-02T03:04:05.700000001Z same second\n"),
        (Source::Stdout, b"2026-01-02T03:04:06.000000001Z late\n"),
    ];

    fn check(mut filter: Filter, expected: Expect) {
        let passed = RECORDS.iter().map_while(|(source, record)| filter.pass(*source, record));
        let passed: Vec<u8> = passed.flatten().copied().collect();
        expected.assert_eq(&String::from_utf8(passed).unwrap());
    }

    /// 03:04:05.600
    const SINCE: Option<Timestamp> = Some(Timestamp(1_767_323_045_600));

    #[test]
    fn a_log_is_cut_to_what_was_asked_for() {
        let all = Filter::default();
        check(
            Filter { since: SINCE, ..all.clone() },
            expect![[r#"
                an error
                same second
                late
            "#]],
        );
        check(
            Filter { since: SINCE, timestamps: true, ..all.clone() },
            expect![[r#"
                2026-01-02T03:04:05.600000001Z an error
                2026-01-02T03:04:05.700000001Z same second
                2026-01-02T03:04:06.000000001Z late
            "#]],
        );
        check(
            Filter { since: SINCE, only: Some(Source::Stdout), ..all.clone() },
            expect![[r#"
                same second
                late
            "#]],
        );
        check(
            Filter { since: SINCE, limit_bytes: Some(12), ..all.clone() },
            expect![[r#"
                an error
                sam"#]],
        );
        check(Filter { limit_bytes: Some(0), ..all }, expect![""]);
    }

    #[test]
    fn a_log_that_is_full_ends() {
        let mut filter = Filter { limit_bytes: Some(3), ..Filter::default() };
        assert_eq!(filter.pass(Source::Stdout, b"four"), Some(&b"fou"[..]));
        assert_eq!(filter.pass(Source::Stdout, b"five"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(record: Vec<u8>, limit: Option<u64>, stamped: bool) {
            let mut filter = Filter { limit_bytes: limit, since: SINCE, ..Filter::default() };
            filter.timestamps = stamped;
            let passed = filter.pass(Source::Stdout, &record).unwrap_or_default().len();
            prop_assert!(passed <= record.len());
        }
    }
}
