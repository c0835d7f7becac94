//! Texts. Places in them count characters, not bytes.

use regex::RegexBuilder;

use super::{Failure, Function, Meter, Shape, Value, count, global, int, items, member, text};
use crate::kinds::rule::syntax::Pattern;

use Shape::{Any, Bool, Bytes, Int, List, Map, Text, Texts};

pub(super) const FUNCTIONS: &[Function] = &[
    global("size", &[Text], Int, size),
    global("size", &[Bytes], Int, size),
    global("size", &[List], Int, size),
    global("size", &[Map], Int, size),
    member("size", &[Text], Int, size),
    member("size", &[Bytes], Int, size),
    member("size", &[List], Int, size),
    member("size", &[Map], Int, size),
    member("contains", &[Text, Text], Bool, |args, meter| {
        both(args, meter, |text, part| text.contains(part))
    }),
    member("startsWith", &[Text, Text], Bool, |args, meter| {
        both(args, meter, |text, part| text.starts_with(part))
    }),
    member("endsWith", &[Text, Text], Bool, |args, meter| {
        both(args, meter, |text, part| text.ends_with(part))
    }),
    global("matches", &[Text, Text], Bool, matches),
    member("matches", &[Text, Text], Bool, matches),
    member("find", &[Text, Text], Text, find),
    member("findAll", &[Text, Text], Texts, find_all),
    member("findAll", &[Text, Text, Int], Texts, find_all),
    member("lowerAscii", &[Text], Text, |args, meter| made(args, meter, str::to_ascii_lowercase)),
    member("upperAscii", &[Text], Text, |args, meter| made(args, meter, str::to_ascii_uppercase)),
    member("trim", &[Text], Text, |args, meter| made(args, meter, |text| text.trim().to_owned())),
    member("reverse", &[Text], Text, |args, meter| {
        made(args, meter, |text| text.chars().rev().collect())
    }),
    global("strings.quote", &[Text], Text, |args, meter| {
        made(args, meter, |text| format!("{text:?}"))
    }),
    member("charAt", &[Text, Int], Text, char_at),
    member("substring", &[Text, Int], Text, substring),
    member("substring", &[Text, Int, Int], Text, substring),
    member("indexOf", &[Text, Text], Int, index_of),
    member("indexOf", &[Text, Text, Int], Int, index_of),
    member("lastIndexOf", &[Text, Text], Int, last_index_of),
    member("lastIndexOf", &[Text, Text, Int], Int, last_index_of),
    member("replace", &[Text, Text, Text], Text, replace),
    member("replace", &[Text, Text, Text, Int], Text, replace),
    member("split", &[Text, Text], Texts, split),
    member("split", &[Text, Text, Int], Texts, split),
    member("join", &[Texts], Text, join),
    member("join", &[Texts, Text], Text, join),
    global("dyn", &[Any], Any, |args, _| args.first().cloned().ok_or_else(Failure::no_overload)),
];

type Given<'a> = Result<Value<'a>, Failure>;

fn size<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    Ok(count(match args.first() {
        Some(Value::Text(text)) => {
            meter.spend_bytes(text.len())?;
            text.chars().count()
        }
        Some(Value::Bytes(bytes)) => bytes.len(),
        Some(Value::List(list)) => list.len(),
        Some(Value::Map(map)) => map.len(),
        _ => return Err(Failure::no_overload()),
    }))
}

fn both<'a>(args: &[Value<'a>], meter: &mut Meter, holds: fn(&str, &str) -> bool) -> Given<'a> {
    let (text, part) = (text(args, 0)?, text(args, 1)?);
    meter.spend_bytes(text.len() + part.len())?;
    Ok(Value::Bool(holds(text, part)))
}

fn made<'a>(args: &[Value<'a>], meter: &mut Meter, make: fn(&str) -> String) -> Given<'a> {
    let text = text(args, 0)?;
    meter.spend_bytes(text.len())?;
    Ok(Value::text(make(text)))
}

/// Sizes that a compiled expression may have, the smallest that does is taken: what a match costs
/// in the worst case follows from it.
const PATTERN_BYTES: [usize; 3] = [1 << 14, 1 << 17, 1 << 20];
/// How deep its groups may be.
const PATTERN_DEPTH: u32 = 50;
/// Longest pattern: what reading it costs follows from that.
const PATTERN_LENGTH: usize = 4096;

/// Reads a regular expression.
pub(in crate::kinds::rule) fn pattern(text: &str) -> Result<Pattern, String> {
    if text.len() > PATTERN_LENGTH {
        return Err(format!("pattern longer than {PATTERN_LENGTH} bytes"));
    }
    let mut failed = String::new();
    for size in PATTERN_BYTES {
        let built = RegexBuilder::new(text).size_limit(size).nest_limit(PATTERN_DEPTH).build();
        match built {
            Ok(regex) => return Ok(Pattern { regex, weight: (size >> 12) as u64 }),
            Err(error @ regex::Error::CompiledTooBig(_)) => failed = error.to_string(),
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(failed)
}

/// What reading a pattern during an evaluation costs, besides its length.
const PATTERN_COST: u64 = 2000;

/// The pattern of a call that does not spell it, paid for.
fn paid(args: &[Value<'_>], meter: &mut Meter) -> Result<Pattern, Failure> {
    let text = text(args, 1)?;
    meter.spend(PATTERN_COST + text.len() as u64 * 20)?;
    pattern(text).map_err(Failure::other)
}

impl Pattern {
    /// Pays for one look at a text.
    fn pay(&self, text: &str, meter: &mut Meter) -> Result<(), Failure> {
        meter.spend(1 + text.len() as u64 * self.weight)
    }

    /// What a call gives whose pattern was read when the rule was.
    pub(in crate::kinds::rule) fn run<'a>(
        &self,
        name: &str,
        args: &[Value<'a>],
        meter: &mut Meter,
    ) -> Given<'a> {
        match name {
            "matches" => self.matches(args, meter),
            "find" => self.find(args, meter),
            _ => self.find_all(args, meter),
        }
    }

    fn matches<'a>(&self, args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
        let text = text(args, 0)?;
        self.pay(text, meter)?;
        Ok(Value::Bool(self.regex.is_match(text)))
    }

    fn find<'a>(&self, args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
        let text = text(args, 0)?;
        self.pay(text, meter)?;
        Ok(Value::text(self.regex.find(text).map_or("", |found| found.as_str())))
    }

    fn find_all<'a>(&self, args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
        let text = text(args, 0)?;
        let most = match args.len() {
            2 => usize::MAX,
            _ => usize::try_from(int(args, 2)?).unwrap_or(usize::MAX),
        };
        self.pay(text, meter)?;
        let mut found = Vec::new();
        for part in self.regex.find_iter(text).take(most) {
            // Each may look at all that is left once more.
            self.pay(&text[part.start()..], meter)?;
            found.push(Value::text(part.as_str()));
        }
        Ok(Value::list(found))
    }
}

fn matches<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    paid(args, meter)?.matches(args, meter)
}

fn find<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    paid(args, meter)?.find(args, meter)
}

fn find_all<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    paid(args, meter)?.find_all(args, meter)
}

fn out_of_range(index: i64) -> Failure {
    Failure::other(format!("index out of range: {index}"))
}

/// The byte at which a character stands; the end counts.
fn byte_of(text: &str, index: i64) -> Result<usize, Failure> {
    let wanted = usize::try_from(index).map_err(|_| out_of_range(index))?;
    let starts = text.char_indices().map(|(at, _)| at);
    starts.chain([text.len()]).nth(wanted).ok_or_else(|| out_of_range(index))
}

fn char_at<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let text = text(args, 0)?;
    meter.spend_bytes(text.len())?;
    let at = byte_of(text, int(args, 1)?)?;
    Ok(Value::text(text[at..].chars().take(1).collect::<String>()))
}

fn substring<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let text = text(args, 0)?;
    meter.spend_bytes(text.len())?;
    let start = byte_of(text, int(args, 1)?)?;
    let end = match args.len() {
        2 => text.len(),
        _ => byte_of(text, int(args, 2)?)?,
    };
    match text.get(start..end) {
        Some(part) => Ok(Value::text(part)),
        None => {
            let (start, end) = (int(args, 1)?, int(args, 2)?);
            Err(Failure::other(format!("invalid substring range. start: {start}, end: {end}")))
        }
    }
}

fn searched(text: &str, part: &str, meter: &mut Meter) -> Result<(), Failure> {
    meter.spend_bytes(text.len() + part.len())
}

fn place(text: &str, byte: Option<usize>) -> Value<'static> {
    byte.map_or(Value::Int(-1), |byte| count(text[..byte].chars().count()))
}

fn index_of<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let (text, part) = (text(args, 0)?, text(args, 1)?);
    searched(text, part, meter)?;
    let from = match args.len() {
        2 => 0,
        _ => byte_of(text, int(args, 2)?)?,
    };
    Ok(place(text, text[from..].find(part).map(|at| at + from)))
}

fn last_index_of<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let (text, part) = (text(args, 0)?, text(args, 1)?);
    searched(text, part, meter)?;
    let until = match args.len() {
        2 => text.len(),
        _ => (byte_of(text, int(args, 2)?)? + part.len()).min(text.len()),
    };
    let until = (until..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    Ok(place(text, text[..until].rfind(part)))
}

fn replace<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let (text, from, to) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    searched(text, from, meter)?;
    let most = match args.len() {
        3 => usize::MAX,
        _ => usize::try_from(int(args, 3)?).unwrap_or(usize::MAX),
    };
    let times = text.matches(from).count().min(most);
    meter.spend_bytes(text.len().saturating_add(times.saturating_mul(to.len())))?;
    Ok(Value::text(text.replacen(from, to, times)))
}

fn split<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let (text, by) = (text(args, 0)?, text(args, 1)?);
    let most = match args.len() {
        2 => -1,
        _ => int(args, 2)?,
    };
    meter.spend(1 + text.len() as u64)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let parts: Vec<String> = match (most, by) {
        (0, _) => Vec::new(),
        (1, _) => vec![text.to_owned()],
        (_, "") => {
            let head = text.chars().take(most - 1);
            let mut parts: Vec<String> = head.map(String::from).collect();
            let rest: String = text.chars().skip(most - 1).collect();
            parts.extend(Some(rest).filter(|rest| !rest.is_empty()));
            parts
        }
        (most, by) => text.splitn(most, by).map(str::to_owned).collect(),
    };
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

fn join<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let between = match args.len() {
        1 => "",
        _ => text(args, 1)?,
    };
    let mut all = String::new();
    for (i, item) in items(args, 0, meter)?.iter().enumerate() {
        let Value::Text(item) = item else { return Err(Failure::no_overload()) };
        if i > 0 {
            all.push_str(between);
        }
        all.push_str(item);
        meter.spend_bytes(item.len() + between.len())?;
    }
    Ok(Value::text(all))
}
