//! Which start of a CronJob is due, which was missed, and when the next one is.
//!
//! As in Kubernetes, how many were missed is estimated from the first two, and of several that were
//! missed the last counts. So a schedule whose runs lie unevenly may have one overlooked when many
//! were missed; whoever cannot live with that sets `startingDeadlineSeconds`.

use crate::{
    kinds::{Schedule, Zone},
    model::Timestamp,
};

/// More missed starts than this are told: the clocks may be wrong.
const MISSED_MAX: i64 = 100;

/// The starts of one CronJob.
#[derive(Clone, Copy)]
pub(super) struct Starts<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) zone: &'a Zone,
    /// The last one, or when the CronJob was made.
    pub(super) since: Timestamp,
    /// How late one may be.
    pub(super) deadline_seconds: Option<i64>,
}

/// A start that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    /// Whether more than a hundred were missed before it.
    pub(super) many: bool,
}

/// The starts between two moments.
#[derive(Clone, Copy, Debug, Default)]
struct Missed {
    last: Option<Timestamp>,
    /// How many there are, roughly.
    count: i64,
}

impl Starts<'_> {
    /// The start that is due; of several the last. Those that are later than the deadline allows
    /// do not count. An error in words when the schedule has no times.
    pub(super) fn due(&self, now: Timestamp) -> Result<Option<Due>, &'static str> {
        let earliest = self.deadline_seconds.map(|seconds| now.plus_seconds(-seconds));
        let since = earliest.map_or(self.since, |earliest| earliest.max(self.since));
        let missed = self.missed_between(since, now)?;
        Ok(missed.last.map(|at| Due { at, many: missed.count > MISSED_MAX }))
    }

    /// The last start that was too late to be made.
    pub(super) fn missed(&self, now: Timestamp) -> Option<Timestamp> {
        let seconds = self.deadline_seconds?;
        let last = self.missed_between(self.since, now).ok()?.last;
        last.filter(|at| at.plus_seconds(seconds) <= now)
    }

    /// The first start after now.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let from = match self.missed_between(self.since, now) {
            Ok(Missed { last: Some(at), .. }) => at,
            Ok(Missed { count: 0, .. }) => self.since,
            Ok(_) | Err(_) => now,
        };
        self.after(from)
    }

    fn after(&self, at: Timestamp) -> Option<Timestamp> {
        self.schedule.next(at, self.zone)
    }

    fn missed_between(&self, since: Timestamp, now: Timestamp) -> Result<Missed, &'static str> {
        const NO_TIMES: &str = "time difference between two schedules is less than 1 second";
        let first = self.after(since).ok_or(NO_TIMES)?;
        if now < first {
            return Ok(Missed::default());
        }
        let second = self.after(first).ok_or(NO_TIMES)?;
        if now < second {
            return Ok(Missed { last: Some(first), count: 1 });
        }
        let apart_seconds = (second.0 - first.0) / 1000;
        let count = (now.0 - first.0) / 1000 / apart_seconds + 1;
        let from = first.plus_seconds((count - 2) * apart_seconds);
        let later = std::iter::successors(self.after(from), |at| self.after(*at));
        Ok(Missed { last: later.take_while(|at| *at <= now).last(), count })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    /// What is due on a day, given when the last start was; the time of day is UTC.
    fn check(schedule: &str, since: &str, now: &str, deadline: Option<i64>, expect: &Expect) {
        let schedule = Schedule::parse(schedule).unwrap();
        let (zone, since, now) = (Zone::default(), at(since), at(now));
        let starts = Starts { schedule: &schedule, zone: &zone, since, deadline_seconds: deadline };
        let text = |at: Option<Timestamp>| at.map_or("nothing".to_owned(), |at| at.to_string());
        let due = match starts.due(now) {
            Ok(due) => {
                let many = due.is_some_and(|due| due.many);
                text(due.map(|due| due.at)) + if many { " after many" } else { "" }
            }
            Err(why) => why.to_owned(),
        };
        let (missed, next) = (text(starts.missed(now)), text(starts.next(now)));
        expect.assert_eq(&format!("due {due}, too late {missed}, next {next}"));
    }

    #[test]
    fn the_last_start_that_was_missed_is_due() {
        let (night, made) = ("0 3 * * *", "2026-11-20T12:00:00Z");
        check(
            night,
            made,
            "2026-11-21T02:59:59Z",
            None,
            &expect!["due nothing, too late nothing, next 2026-11-21T03:00:00Z"],
        );
        check(
            night,
            made,
            "2026-11-21T03:00:00Z",
            None,
            &expect!["due 2026-11-21T03:00:00Z, too late nothing, next 2026-11-22T03:00:00Z"],
        );
        check(
            night,
            made,
            "2026-11-24T01:00:00Z",
            None,
            &expect!["due 2026-11-23T03:00:00Z, too late nothing, next 2026-11-24T03:00:00Z"],
        );
        check(
            "*/5 * * * *",
            made,
            "2026-11-20T20:22:00Z",
            None,
            &expect!["due 2026-11-20T20:20:00Z, too late nothing, next 2026-11-20T20:25:00Z"],
        );
        check(
            "* * * * *",
            made,
            "2026-11-20T13:40:30Z",
            None,
            &expect!["due 2026-11-20T13:40:00Z, too late nothing, next 2026-11-20T13:41:00Z"],
        );
        check(
            "* * * * *",
            made,
            "2026-11-20T13:41:30Z",
            None,
            &expect![
                "due 2026-11-20T13:41:00Z after many, too late nothing, next 2026-11-20T13:42:00Z"
            ],
        );
        check(
            "@every 90s",
            made,
            "2026-11-20T12:10:00Z",
            None,
            &expect!["due 2026-11-20T12:09:00Z, too late nothing, next 2026-11-20T12:10:30Z"],
        );
        check(
            "0 0 30 2 *",
            made,
            "2026-11-24T01:00:00Z",
            None,
            &expect![
                "due time difference between two schedules is less than 1 second, too late nothing, next nothing"
            ],
        );
    }

    #[test]
    fn a_start_that_is_too_late_is_left_out() {
        let (night, made) = ("0 3 * * *", "2026-11-20T12:00:00Z");
        check(
            night,
            made,
            "2026-11-21T03:01:00Z",
            Some(120),
            &expect!["due 2026-11-21T03:00:00Z, too late nothing, next 2026-11-22T03:00:00Z"],
        );
        check(
            night,
            made,
            "2026-11-21T03:02:00Z",
            Some(120),
            &expect!["due nothing, too late 2026-11-21T03:00:00Z, next 2026-11-22T03:00:00Z"],
        );
        check(
            night,
            made,
            "2026-11-21T09:00:00Z",
            Some(120),
            &expect!["due nothing, too late 2026-11-21T03:00:00Z, next 2026-11-22T03:00:00Z"],
        );
        // What was missed before the deadline does not count as many.
        check(
            "* * * * *",
            made,
            "2026-11-21T12:00:30Z",
            Some(600),
            &expect!["due 2026-11-21T12:00:00Z, too late nothing, next 2026-11-21T12:01:00Z"],
        );
    }

    /// As in Kubernetes: how many were missed is estimated from the first two.
    #[test]
    fn an_uneven_schedule_may_have_a_start_overlooked() {
        let made = "2026-11-20T07:00:00Z";
        check(
            "30 6-16/4 * * 1-5",
            made,
            "2026-11-23T12:00:00Z",
            None,
            &expect!["due 2026-11-23T10:30:00Z, too late nothing, next 2026-11-23T14:30:00Z"],
        );
        check(
            "* 8 * * *",
            made,
            "2026-11-23T12:00:00Z",
            None,
            &expect!["due nothing, too late nothing, next 2026-11-24T08:00:00Z"],
        );
    }
}
