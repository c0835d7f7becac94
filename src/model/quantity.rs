//! Amounts: `100m`, `1.5`, `64Mi`, `2G`, `1e3`.

use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// An amount in thousandths of its unit (millicores, millibytes), rounded up as Kubernetes does.
///
/// Source: kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i128);

/// A text that is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub struct QuantityError;

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity(0);

    /// Reads a quantity: a decimal number with a binary (`Ki`…`Ei`), decimal (`n`…`E`) or exponent
    /// (`e3`) suffix.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let digits_end = text
            .char_indices()
            .find(|(i, c)| {
                !(c.is_ascii_digit() || *c == '.' || (*i == 0 && matches!(c, '+' | '-')))
            })
            .map_or(text.len(), |(i, _)| i);
        let (number, suffix) = text.split_at(digits_end);
        let (numerator, denominator) = scale(suffix).ok_or(QuantityError)?;
        let (mantissa, decimals) = decimal(number).ok_or(QuantityError)?;
        let scaled = mantissa
            .checked_mul(numerator)
            .and_then(|v| v.checked_mul(1000))
            .ok_or(QuantityError)?;
        let divisor = 10i128
            .checked_pow(decimals)
            .and_then(|v| v.checked_mul(denominator))
            .ok_or(QuantityError)?;
        Ok(Self(scaled.div_euclid(divisor) + i128::from(scaled.rem_euclid(divisor) != 0)))
    }

    /// The quantity of a Kubernetes field; unreadable text counts as zero (validation has refused
    /// it before).
    pub fn of(text: &Text) -> Self {
        Self::parse(&text.0).unwrap_or_default()
    }

    /// An amount of whole units.
    pub fn units(n: i64) -> Self {
        Self(i128::from(n) * 1000)
    }

    /// An amount of thousandths.
    pub fn milli(n: i64) -> Self {
        Self(i128::from(n))
    }

    /// In thousandths, saturating.
    pub fn as_milli(self) -> i64 {
        i64::try_from(self.0).unwrap_or(if self.0 < 0 { i64::MIN } else { i64::MAX })
    }

    /// In whole units, rounded up, saturating.
    pub fn as_units(self) -> i64 {
        let units = self.0.div_euclid(1000) + i128::from(self.0.rem_euclid(1000) != 0);
        i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
    }

    /// Whether this is below zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Both together, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// This less `other`; may go below zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Quantity {
    /// Plain decimal: `1500m` or `2`. Binary suffixes are not restored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % 1000 == 0 { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

/// The factor of a suffix as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let binary = |n: u32| Some((1i128 << (10 * n), 1));
    let decimal = |n: u32| Some((10i128.pow(n), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs().min(30))?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

/// A signed decimal number as an integer and how many of its digits stand behind the point.
fn decimal(number: &str) -> Option<(i128, u32)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if !number.bytes().any(|b| b.is_ascii_digit()) || fraction.contains('.') {
        return None;
    }
    let fraction: &str = &fraction[..fraction.len().min(15)];
    let digits = format!("{whole}{fraction}");
    let mantissa = digits.strip_prefix('+').unwrap_or(&digits).parse::<i128>().ok()?;
    Some((mantissa, u32::try_from(fraction.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, milli: Option<i64>) {
        assert_eq!(Quantity::parse(text).ok().map(Quantity::as_milli), milli, "{text:?}");
    }

    #[test]
    fn reads_what_kubernetes_reads_and_rounds_up() {
        check("100m", Some(100));
        check("0.5", Some(500));
        check("1.5", Some(1500));
        check("64Mi", Some(64 * 1024 * 1024 * 1000));
        check("1k", Some(1_000_000));
        check("1e3", Some(1_000_000));
        check("1E-3", Some(1));
        check("1n", Some(1));
        check("-1", Some(-1000));
        check("-0.5", Some(-500));
        check(".5", Some(500));
        check("5.", Some(5000));
        for bad in ["", "m", "1 Mi", "1mi", "--1", "1.2.3", "0x10", "1ee3", "nan"] {
            check(bad, None);
        }
    }
}
