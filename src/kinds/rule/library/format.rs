//! `'%s is %d'.format([...])`

use super::{Failure, Function, Meter, Shape, Value, as_text, items, member, text};

use Shape::{List, Text};

pub(super) const FUNCTIONS: &[Function] = &[member("format", &[Text, List], Text, format)];

/// Most digits behind the point.
const PRECISION_MAX: usize = 100;

fn format<'a>(args: &[Value<'a>], meter: &mut Meter) -> Result<Value<'a>, Failure> {
    let mut rest = text(args, 0)?;
    let mut values = items(args, 1, meter)?.into_iter();
    let mut all = String::new();
    while let Some((plain, after)) = rest.split_once('%') {
        all.push_str(plain);
        let (precision, clause) = precision(after)?;
        let letter = clause.chars().next();
        let letter = letter.ok_or_else(|| Failure::other("unexpected end of format string"))?;
        rest = &clause[letter.len_utf8()..];
        if letter == '%' {
            all.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| Failure::other("index out of range"))?;
        let shown = clause_of(letter, precision, &value, meter)?;
        meter.spend_bytes(shown.len())?;
        all.push_str(&shown);
    }
    all.push_str(rest);
    meter.spend_bytes(all.len())?;
    Ok(Value::text(all))
}

/// `.3` before the letter.
fn precision(after: &str) -> Result<(Option<usize>, &str), Failure> {
    let Some(digits) = after.strip_prefix('.') else { return Ok((None, after)) };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let wrong = || Failure::other("invalid precision in format string");
    let number: usize = digits[..end].parse().map_err(|_| wrong())?;
    match number <= PRECISION_MAX {
        true => Ok((Some(number), &digits[end..])),
        false => Err(wrong()),
    }
}

fn clause_of(
    letter: char,
    precision: Option<usize>,
    value: &Value<'_>,
    meter: &mut Meter,
) -> Result<String, Failure> {
    let wrong = || {
        let type_ = value.type_name();
        Failure::other(format!("error during formatting: %{letter} does not take a {type_}"))
    };
    let digits = precision.unwrap_or(6);
    Ok(match (letter, value) {
        ('s', value) => as_text(value, meter)?,
        ('d', Value::Int(n)) => n.to_string(),
        ('d', Value::Uint(n)) => n.to_string(),
        ('f', Value::Double(n)) => format!("{n:.digits$}"),
        ('f', Value::Int(n)) => format!("{:.digits$}", *n as f64),
        ('e', Value::Double(n)) => exponent(*n, digits),
        ('e', Value::Int(n)) => exponent(*n as f64, digits),
        ('b', Value::Int(n)) => signed(*n, |n| format!("{n:b}")),
        ('b', Value::Uint(n)) => format!("{n:b}"),
        ('b', Value::Bool(yes)) => u8::from(*yes).to_string(),
        ('o', Value::Int(n)) => signed(*n, |n| format!("{n:o}")),
        ('o', Value::Uint(n)) => format!("{n:o}"),
        ('x', Value::Int(n)) => signed(*n, |n| format!("{n:x}")),
        ('x', Value::Uint(n)) => format!("{n:x}"),
        ('X', Value::Int(n)) => signed(*n, |n| format!("{n:X}")),
        ('X', Value::Uint(n)) => format!("{n:X}"),
        ('x' | 'X', Value::Text(text)) => hex(text.as_bytes(), letter, meter)?,
        ('x' | 'X', Value::Bytes(bytes)) => hex(bytes, letter, meter)?,
        _ => return Err(wrong()),
    })
}

fn signed(number: i64, digits: fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", digits(number.unsigned_abs()))
}

/// `1.5e+01`: the exponent has a sign and two digits.
fn exponent(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, amount) = match exponent.strip_prefix('-') {
        Some(amount) => ('-', amount),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{amount:0>2}")
}

fn hex(bytes: &[u8], letter: char, meter: &mut Meter) -> Result<String, Failure> {
    meter.spend_bytes(bytes.len() * 2)?;
    let each = bytes.iter().map(|byte| match letter {
        'x' => format!("{byte:02x}"),
        _ => format!("{byte:02X}"),
    });
    Ok(each.collect())
}
