//! Sets of completion indexes, and the text that a Job's status and its policies have of them:
//! `0,2-4,7`.

use std::collections::BTreeSet;

/// Reads a set; of what is no number or not below `end` nothing is taken.
pub(super) fn parse(text: &str, end: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            found.extend(first.max(0)..last.min(end - 1).saturating_add(1));
        }
    }
    found
}

/// Writes a set in ascending order; three in a row and more by their ends.
pub(super) fn text(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let run = |(first, last): &(i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_read_and_written_as_kubernetes_does() {
        let check = |input: &str, output: &str| {
            assert_eq!(text(&parse(input, 10)), output, "{input}");
        };
        check("", "");
        check("0", "0");
        check("1,3-5,7", "1,3-5,7");
        check("1,2", "1,2");
        check("1-2,3", "1-3");
        check("8-20", "8,9");
        check("x,3,y-z", "3");
    }
}
