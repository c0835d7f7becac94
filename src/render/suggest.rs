//! What an author may have meant.

/// The name nearest to `wrong`, when it is near enough to be a slip.
pub(super) fn nearest<'a>(wrong: &str, names: &'a [String]) -> Option<&'a str> {
    let starts = |n: &&String| wrong.len() >= 3 && n.starts_with(wrong);
    if let Some(longer) = names.iter().find(starts) {
        return Some(longer);
    }
    let most = 1 + wrong.len() / 4;
    let far = |name: &String| distance(&wrong.to_lowercase(), &name.to_lowercase());
    let near = names.iter().map(|n| (far(n), n)).min()?;
    (near.0 <= most).then_some(near.1.as_str())
}

/// How many letters to add, drop, change or swap (Damerau and Levenshtein, neighbours only).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            next[j] = change.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                next[j] = next[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let names: Vec<String> =
            ["replicas", "selector", "strategy", "template"].map(str::to_owned).into();
        for (wrong, right) in [
            ("replica", Some("replicas")),
            ("relpicas", Some("replicas")),
            ("Replicas", Some("replicas")),
            ("selectors", Some("selector")),
            ("templ", Some("template")),
            ("image", None),
        ] {
            assert_eq!(nearest(wrong, &names), right, "{wrong}");
        }
    }
}
