//! When a CronJob runs: five fields, or a word such as `@daily`.
//!
//! Source: kubernetes.io/docs/concepts/workloads/controllers/cron-jobs (schedule syntax).

/// Words that stand for a whole schedule.
const WORDS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

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

/// Reads a schedule, or says in words what is wrong with it.
pub(super) fn read(schedule: &str) -> Result<(), String> {
    if schedule.contains("TZ=") {
        let text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        return Err(text.to_owned());
    }
    if let Some(every) = schedule.strip_prefix("@every ") {
        return interval(every).ok_or_else(|| format!("failed to parse duration {schedule}"));
    }
    if schedule.starts_with('@') {
        let known = WORDS.contains(&schedule);
        return known.then_some(()).ok_or_else(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let n = fields.len();
        return Err(format!("expected exactly 5 fields, found {n}: [{}]", fields.join(" ")));
    }
    fields.iter().zip(&FIELDS).try_for_each(|(text, field)| {
        text.split(',').filter(|part| !part.is_empty()).try_for_each(|part| range(part, field))
    })
}

/// `1h30m`: at least one number with its unit.
fn interval(text: &str) -> Option<()> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        rest[..digits].parse::<f64>().ok()?;
        rest = &rest[digits..];
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"].iter().find(|u| {
            rest.strip_prefix(**u).is_some_and(|r| !r.starts_with(|c: char| c.is_alphabetic()))
        })?;
        rest = &rest[unit.len()..];
    }
    Some(())
}

/// One part of a field: `*`, `*/5`, `3`, `1-5`, `mon-fri/2`.
fn range(part: &str, field: &Field) -> Result<(), String> {
    let mut halves = part.split('/');
    let (span, step) = (halves.next().unwrap_or_default(), halves.next());
    if halves.next().is_some() {
        return Err(format!("too many slashes: {part}"));
    }
    let mut ends = span.split('-');
    let (first, last) = (ends.next().unwrap_or_default(), ends.next());
    if ends.next().is_some() {
        return Err(format!("too many hyphens: {part}"));
    }
    if matches!(first, "*" | "?") {
        if last.is_some() {
            return Err(format!("too many hyphens: {part}"));
        }
    } else {
        let first = number(first, field)?;
        let last = last.map_or(Ok(first), |last| number(last, field))?;
        let (least, most) = (field.least, field.most);
        if first < least {
            return Err(format!("beginning of range ({first}) below minimum ({least}): {part}"));
        }
        if last > most {
            return Err(format!("end of range ({last}) above maximum ({most}): {part}"));
        }
        if first > last {
            return Err(format!(
                "beginning of range ({first}) beyond end of range ({last}): {part}"
            ));
        }
    }
    match step.map(str::parse::<u32>) {
        Some(Ok(0)) => Err(format!("step of range should be a positive number: {part}")),
        Some(Err(e)) => Err(format!("failed to parse int from {part}: {e}")),
        _ => Ok(()),
    }
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
    use super::read;

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
            assert_eq!(read(good), Ok(()), "{good}");
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
        expect_test::expect![[r#"
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
}
