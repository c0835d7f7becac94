//! From one type to another.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Failure, Function, Meter, Shape, Value, global, text, times};

use Shape::{Any, Bool, Bytes, Double, Duration, Int, Text, Time, Type, Uint};

pub(super) const FUNCTIONS: &[Function] = &[
    global("type", &[Any], Type, |args, _| {
        args.first().map(|v| Value::Type(v.type_name())).ok_or_else(Failure::no_overload)
    }),
    global("int", &[Any], Int, to_int),
    global("uint", &[Any], Uint, to_uint),
    global("double", &[Any], Double, to_double),
    global("string", &[Any], Text, |args, meter| {
        let value = args.first().ok_or_else(Failure::no_overload)?;
        if matches!(value, Value::List(_) | Value::Map(_) | Value::Null | Value::Optional(_)) {
            return Err(Failure::no_overload());
        }
        Ok(Value::text(as_text(value, meter)?))
    }),
    global("bool", &[Any], Bool, to_bool),
    global("bytes", &[Any], Bytes, |args, meter| match args {
        [Value::Text(text)] => {
            meter.spend_bytes(text.len())?;
            Ok(Value::Bytes(text.as_bytes().into()))
        }
        [Value::Bytes(bytes)] => Ok(Value::Bytes(bytes.clone())),
        _ => Err(Failure::no_overload()),
    }),
    global("timestamp", &[Text], Time, |args, _| times::time(text(args, 0)?)),
    global("timestamp", &[Time], Time, |args, _| Ok(args[0].clone())),
    global("duration", &[Text], Duration, |args, _| times::duration(text(args, 0)?)),
    global("duration", &[Duration], Duration, |args, _| Ok(args[0].clone())),
    global("base64.encode", &[Bytes], Text, |args, meter| match args {
        [Value::Bytes(bytes)] => {
            meter.spend_bytes(bytes.len() * 2)?;
            Ok(Value::text(STANDARD.encode(bytes)))
        }
        _ => Err(Failure::no_overload()),
    }),
    global("base64.decode", &[Text], Bytes, |args, meter| {
        let text = text(args, 0)?;
        meter.spend_bytes(text.len())?;
        let bytes = STANDARD.decode(text).map_err(|_| Failure::other("illegal base64 data"))?;
        Ok(Value::Bytes(bytes.into()))
    }),
];

type Given<'a> = Result<Value<'a>, Failure>;

/// Up to here every whole number is a float: 2⁶³.
const INT_END: f64 = 9_223_372_036_854_775_808.0;

fn overflow() -> Failure {
    Failure::other("integer overflow")
}

fn wrong(text: &str, type_: &str) -> Failure {
    let shown: String = text.chars().take(40).collect();
    Failure::other(format!("type conversion error from {shown:?} to '{type_}'"))
}

fn to_int<'a>(args: &[Value<'a>], _: &mut Meter) -> Given<'a> {
    let number = match args {
        [Value::Int(n)] => Some(*n),
        [Value::Uint(n)] => i64::try_from(*n).ok(),
        [Value::Double(n)] if *n > -INT_END && *n < INT_END => Some(*n as i64),
        [Value::Double(_)] => None,
        [Value::Text(text)] => Some(text.parse().map_err(|_| wrong(text, "int"))?),
        [Value::Time(time)] => Some(time.as_second()),
        [Value::Duration(length)] => i64::try_from(length.as_nanos()).ok(),
        _ => return Err(Failure::no_overload()),
    };
    number.map(Value::Int).ok_or_else(overflow)
}

fn to_uint<'a>(args: &[Value<'a>], _: &mut Meter) -> Given<'a> {
    let number = match args {
        [Value::Uint(n)] => Some(*n),
        [Value::Int(n)] => u64::try_from(*n).ok(),
        [Value::Double(n)] if *n >= 0.0 && *n < 2.0 * INT_END => Some(*n as u64),
        [Value::Double(_)] => None,
        [Value::Text(text)] => Some(text.parse().map_err(|_| wrong(text, "uint"))?),
        _ => return Err(Failure::no_overload()),
    };
    number.map(Value::Uint).ok_or_else(|| Failure::other("unsigned integer overflow"))
}

fn to_double<'a>(args: &[Value<'a>], _: &mut Meter) -> Given<'a> {
    Ok(Value::Double(match args {
        [Value::Double(n)] => *n,
        [Value::Int(n)] => *n as f64,
        [Value::Uint(n)] => *n as f64,
        [Value::Text(text)] => text.parse().map_err(|_| wrong(text, "double"))?,
        _ => return Err(Failure::no_overload()),
    }))
}

fn to_bool<'a>(args: &[Value<'a>], _: &mut Meter) -> Given<'a> {
    Ok(Value::Bool(match args {
        [Value::Bool(yes)] => *yes,
        [Value::Text(text)] => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
            "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
            _ => return Err(wrong(text, "bool")),
        },
        _ => return Err(Failure::no_overload()),
    }))
}

/// A value as `string()` and `%s` show it.
pub(in crate::kinds::rule) fn as_text(
    value: &Value<'_>,
    meter: &mut Meter,
) -> Result<String, Failure> {
    meter.spend(1)?;
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(yes) => yes.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Double(n) => double_text(*n),
        Value::Text(text) => {
            meter.spend_bytes(text.len())?;
            (**text).to_owned()
        }
        Value::Bytes(bytes) => {
            meter.spend_bytes(bytes.len())?;
            let invalid = |_| Failure::other("invalid UTF-8 in bytes, cannot convert to string");
            String::from_utf8(bytes.to_vec()).map_err(invalid)?
        }
        Value::Time(time) => time.to_string(),
        Value::Duration(length) => times::shown(*length),
        Value::Quantity(amount) => amount.to_string(),
        Value::Ip(address) => address.to_string(),
        Value::Cidr(address, length) => format!("{address}/{length}"),
        Value::Url(url) => url.to_string(),
        Value::Type(name) => (*name).to_owned(),
        Value::Optional(None) => "optional.none()".to_owned(),
        Value::Optional(Some(inner)) => format!("optional({})", as_text(inner, meter)?),
        Value::List(list) => {
            meter.spend(list.len() as u64)?;
            let shown: Result<Vec<String>, Failure> =
                list.items()?.iter().map(|item| as_text(item, meter)).collect();
            format!("[{}]", shown?.join(", "))
        }
        Value::Map(map) => {
            meter.spend(map.len() as u64)?;
            let mut shown = Vec::new();
            for (key, value) in map.entries()? {
                shown.push(format!("{}: {}", as_text(&key, meter)?, as_text(&value, meter)?));
            }
            shown.sort();
            format!("{{{}}}", shown.join(", "))
        }
    })
}

/// Very large and very small numbers have an exponent.
fn double_text(number: f64) -> String {
    let size = number.abs();
    match number.is_finite() && size != 0.0 && !(1e-4..1e21).contains(&size) {
        true => {
            let text = format!("{number:e}");
            match text.split_once('e') {
                Some((mantissa, power)) if power.starts_with('-') => {
                    format!("{mantissa}e-{:0>2}", &power[1..])
                }
                Some((mantissa, power)) => format!("{mantissa}e+{power:0>2}"),
                None => text,
            }
        }
        false if number.is_infinite() => if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        false => number.to_string(),
    }
}

/// Reads an address; one that has a zone or is an IPv4 one in IPv6's form is none here.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        address => Some(address),
    }
}
