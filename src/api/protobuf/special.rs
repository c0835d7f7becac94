//! Types whose JSON is not their message.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Error,
    wire::{Raw, Reader},
};
use crate::kinds::types::Type;

/// The value of a message (or bytes) that has a JSON form of its own.
pub(super) fn value(typ: &Type, bytes: &[u8]) -> Result<Value, Error> {
    Ok(match typ {
        Type::Bytes => STANDARD.encode(bytes).into(),
        Type::Time => time(bytes, "%Y-%m-%dT%H:%M:%SZ")?,
        Type::MicroTime => time(bytes, "%Y-%m-%dT%H:%M:%S%.6fZ")?,
        Type::Duration => duration(numbers::<1>(bytes)?[0]).into(),
        Type::Quantity => first_text(bytes)?.into(),
        Type::IntOrString => int_or_string(bytes)?,
        Type::Raw | Type::Fields => json_inside(bytes)?,
        Type::Wrapped => texts(bytes)?,
        _ => return Err(Error::Malformed),
    })
}

/// The numbers in the first `N` fields.
fn numbers<const N: usize>(bytes: &[u8]) -> Result<[i64; N], Error> {
    let mut found = [0; N];
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        let at = usize::try_from(number).map_err(|_| Error::Malformed)? - 1;
        if let (Some(place), Raw::Number(value)) = (found.get_mut(at), raw) {
            *place = value.cast_signed();
        }
    }
    Ok(found)
}

/// An empty message is no time, which JSON says as null.
fn time(bytes: &[u8], format: &str) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let [seconds, nanos] = numbers::<2>(bytes)?;
    let nanos = i32::try_from(nanos).map_err(|_| Error::BadValue)?;
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| Error::BadValue)?;
    Ok(time.strftime(format).to_string().into())
}

/// As Go prints a duration: `1h2m3.5s`.
fn duration(nanos: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let sign = if nanos < 0 { "-" } else { "" };
    let all = nanos.unsigned_abs();
    let fraction = |number: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let text = format!("{}.{:0digits$}", number / unit, number % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match all {
        0 => "0s".to_owned(),
        1..1_000 => format!("{all}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(all, 1_000)),
        1_000_000..SECOND => format!("{}ms", fraction(all, 1_000_000)),
        _ => {
            let seconds = format!("{}s", fraction(all % (60 * SECOND), SECOND));
            match (all / (3600 * SECOND), all / (60 * SECOND) % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

fn first_text(bytes: &[u8]) -> Result<String, Error> {
    let mut text = String::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        if number == 1 {
            text = raw.text()?;
        }
    }
    // An unset quantity is zero in JSON.
    Ok(if text.is_empty() { "0".to_owned() } else { text })
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let [kind, number] = numbers::<2>(bytes)?;
    if kind == 0 {
        return Ok(number.into());
    }
    let mut text = String::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        if number == 3 {
            text = raw.text()?;
        }
    }
    Ok(text.into())
}

/// The JSON that stands as bytes in the first field.
fn json_inside(bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(bytes);
    let mut value = Value::Null;
    while let Some((number, raw)) = reader.next()? {
        if number == 1 && !raw.bytes()?.is_empty() {
            value = serde_json::from_slice(raw.bytes()?).map_err(|_| Error::BadValue)?;
        }
    }
    Ok(value)
}

fn texts(bytes: &[u8]) -> Result<Value, Error> {
    let mut found = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        if number == 1 {
            found.push(raw.text()?);
        }
    }
    Ok(json!(found))
}
