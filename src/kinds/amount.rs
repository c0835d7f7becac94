//! The canonical form of a quantity: what Kubernetes stores when it is given `0.5Gi` or `1000m`.
//!
//! Source: kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::model::QuantityError;

/// A billionth: the finest amount there is.
const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// Writes a quantity with the largest suffix that leaves a whole number.
pub(super) fn canonical(text: &str) -> Result<String, QuantityError> {
    // A float of JSON: `1000000000.0`.
    let text = text.strip_suffix(".0").unwrap_or(text);
    let (nanos, format) = parse(text).ok_or(QuantityError)?;
    let small = nanos.unsigned_abs() < 1024 * NANO.unsigned_abs();
    Ok(match format {
        Format::Binary if !small => binary(nanos),
        Format::Exponent => decimal(nanos, true),
        Format::Decimal | Format::Binary => decimal(nanos, false),
    })
}

fn binary(nanos: i128) -> String {
    let mut whole = nanos.div_euclid(NANO) + i128::from(nanos.rem_euclid(NANO) != 0);
    let mut step = 0;
    while whole != 0 && whole % 1024 == 0 && step + 1 < BINARY.len() {
        whole /= 1024;
        step += 1;
    }
    format!("{whole}{}", BINARY[step])
}

fn decimal(nanos: i128, exponent: bool) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let (mut mantissa, mut step) = (nanos, 0);
    while mantissa % 1000 == 0 && step + 1 < DECIMAL.len() {
        mantissa /= 1000;
        step += 1;
    }
    let (suffix, power) = DECIMAL[step];
    match (exponent, power) {
        (true, 0) => mantissa.to_string(),
        (true, power) => format!("{mantissa}e{power}"),
        _ => format!("{mantissa}{suffix}"),
    }
}

/// The amount in billionths, rounded up, and how it was written.
fn parse(text: &str) -> Option<(i128, Format)> {
    let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-');
    let end = text.find(|c| !number(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let decimal = DECIMAL.iter().find(|(s, _)| *s == suffix).map(|(_, power)| *power);
    let binary = BINARY.iter().position(|s| *s == suffix && !s.is_empty());
    let (numerator, power, format) = match (decimal, binary) {
        (Some(power), _) => (1, power, Format::Decimal),
        (_, Some(step)) => (1i128 << (10 * step), 0, Format::Binary),
        _ => {
            let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (1, power, Format::Exponent)
        }
    };
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mantissa = all.parse::<i128>().ok()?.checked_mul(numerator)?;
    let power = power.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(9)?;
    let scale = 10i128.checked_pow(power.unsigned_abs());
    let nanos = match (power >= 0, scale) {
        (true, Some(scale)) => mantissa.checked_mul(scale)?,
        (true, None) => return (mantissa == 0).then_some((0, format)),
        (false, scale) => {
            let scale = scale.unwrap_or(i128::MAX);
            mantissa / scale + i128::from(mantissa % scale != 0)
        }
    };
    Some((if negative { -nanos } else { nanos }, format))
}

/// As [`canonical`], rounded up to thousandths: resource lists hold nothing finer.
fn canonical_milli(text: &str) -> Result<String, QuantityError> {
    let (nanos, _) = parse(text).ok_or(QuantityError)?;
    if nanos % 1_000_000 == 0 {
        return canonical(text);
    }
    let milli = nanos.div_euclid(1_000_000) + 1;
    Ok(decimal(milli * 1_000_000, false))
}

/// Rounds a list of resources up to thousandths, as Kubernetes does in every such list.
pub(super) fn round(list: Option<&mut BTreeMap<String, Quantity>>) {
    for quantity in list.into_iter().flat_map(BTreeMap::values_mut) {
        if let Ok(rounded) = canonical_milli(&quantity.0) {
            quantity.0 = rounded;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_suffix_that_leaves_a_whole_number() {
        for (text, expect) in [
            ("1000m", "1"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("1073741824", "1073741824"),
            ("1000000000.0", "1G"),
            ("0.25", "250m"),
            ("524288Ki", "512Mi"),
            ("1e3", "1e3"),
            ("0", "0"),
            ("-1", "-1"),
            ("1500m", "1500m"),
            ("100Ki", "100Ki"),
            ("0.5Ki", "512"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expect), "{text}");
        }
        assert_eq!(canonical_milli("0.0001").as_deref(), Ok("1m"));
        for bad in ["", "x", "1 Mi", "1.2.3", "--1", "1ee3", "Mi", "99999999999999999999999999E"] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
    }
}
