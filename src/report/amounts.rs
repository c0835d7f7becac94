//! Amounts as people read them.

/// Thousandths of a core as cores: `2`, `0.15`.
pub fn cores(milli: i64) -> String {
    let text = format!("{}.{:03}", milli / 1000, (milli % 1000).abs());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Bytes in the largest unit that leaves a number above one, three digits at most: `48Mi`,
/// `23.5Gi`.
pub fn bytes(bytes: i64) -> String {
    const UNITS: [(&str, u32); 4] = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let Some((unit, shift)) = UNITS.into_iter().find(|(_, shift)| bytes >> shift > 0) else {
        return bytes.to_string();
    };
    let (whole, tenths) = (bytes >> shift, (bytes >> (shift - 10)) % 1024 * 10 / 1024);
    match (whole, tenths) {
        (100.., _) | (_, 0) => format!("{whole}{unit}"),
        _ => format!("{whole}.{tenths}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        let all = [0, 50, 150, 1000, 2500, 64_000].map(cores);
        assert_eq!(all, ["0", "0.05", "0.15", "1", "2.5", "64"]);
        let all = [0, 900, 48 << 20, 1536 << 20, 24105 << 20, 300 << 30].map(bytes);
        assert_eq!(all, ["0", "900", "48Mi", "1.5Gi", "23.5Gi", "300Gi"]);
    }
}
