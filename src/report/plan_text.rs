//! A plan for people: what `mainstay plan` prints, and the note on a branch.

use super::diff::{FieldChange, ObjectLine, PlanReport};
use crate::model::CommitId;

/// Most bytes of a plan note. Git hosts show a note whole; beyond this, `mainstay plan` is easier
/// to read.
pub const NOTE_BYTES_MAX: usize = 64 << 10;

/// Most characters of one value of a field: a script in a ConfigMap is read in the commit.
const VALUE_CHARS_MAX: usize = 200;

/// What `mainstay plan` prints.
pub fn plan_text(report: &PlanReport) -> String {
    let mut text: String = report.problems.iter().map(|p| format!("{p}\n")).collect();
    report.warnings.iter().for_each(|w| text += &format!("warning: {w}\n"));
    for line in &report.added {
        text += &format!("+ {} ({}:{})\n", line.object, line.file, line.line);
    }
    for change in &report.changed {
        let line = &change.object;
        text += &format!("~ {} ({}:{})\n", line.object, line.file, line.line);
        change.fields.iter().for_each(|f| text += &field(f));
    }
    for line in &report.pruned {
        text += &format!("- {} (was {}:{})\n", line.object, line.file, line.line);
    }
    if report.is_empty() && report.problems.is_empty() {
        text += "nothing would change\n";
    }
    for hook in &report.hooks {
        let ObjectLine { object, file, line } = &hook.object;
        text += &format!("would run as {} hook: {object} ({file}:{line})\n", hook.phase);
    }
    if !report.restarts.is_empty() {
        text += &format!("pods that would be replaced: {}\n", report.restarts.join(", "));
    }
    text + &places(report)
}

/// Where new pods would go, and which would go nowhere.
fn places(report: &PlanReport) -> String {
    let mut text = String::new();
    for placed in &report.placed {
        text +=
            &format!("would run: {} of {} on {}\n", pods(placed.pods), placed.object, placed.node);
    }
    for unplaced in &report.unplaced {
        let place = &unplaced.object;
        let (object, file, line) = (&place.object, &place.file, place.line);
        let (pods, reason) = (pods(unplaced.pods), &unplaced.reason);
        text += &format!("would not run: {pods} of {object} ({file}:{line}): {reason}\n");
    }
    text
}

fn pods(count: u64) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{count} pods") }
}

fn field(change: &FieldChange) -> String {
    let side = |value: &Option<serde_json::Value>| match value {
        None => "(none)".to_owned(),
        Some(value) => short(&value.to_string()),
    };
    format!("    {}: {} → {}\n", change.path, side(&change.old), side(&change.new))
}

fn short(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The note on the tip of a branch: what merging it into the commit that runs would change. Its
/// last paragraph says for which commit and cluster, for machines.
pub fn plan_note(report: &PlanReport, base: &CommitId, cluster: &str) -> String {
    let verdict = match report.problems.len() {
        0 => "Would be admitted".to_owned(),
        1 => "Would be refused: 1 problem".to_owned(),
        n => format!("Would be refused: {n} problems"),
    };
    bounded(format!("{verdict}\n\n{}", plan_text(report)), base, cluster)
}

/// The note on the tip of a branch that cannot be merged into what runs.
pub fn unmergeable(files: &[String], base: &CommitId, cluster: &str) -> String {
    let files: String = files.iter().map(|file| format!("{file}: both changed it\n")).collect();
    bounded(format!("Would conflict\n\n{files}"), base, cluster)
}

fn bounded(mut text: String, base: &CommitId, cluster: &str) -> String {
    if text.len() > NOTE_BYTES_MAX {
        let end = (0..=NOTE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
        let end = end.and_then(|end| text[..end].rfind('\n')).unwrap_or_default();
        let left = text[end..].lines().filter(|line| !line.is_empty()).count();
        text.truncate(end);
        text += &format!("\n… and {left} more lines: mainstay plan --merged <branch>\n");
    }
    format!("{}\n\n{}", text.trim_end(), identity(base, cluster))
}

fn identity(base: &CommitId, cluster: &str) -> String {
    format!("Base: {base}\nCluster: {cluster}\n")
}

/// Whether a note says what a branch changes against `base` in this cluster.
pub fn is_note_of(note: &str, base: &CommitId, cluster: &str) -> bool {
    note.trim_end().ends_with(identity(base, cluster).trim_end())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::report::{ObjectLine, PlacedPods, UnplacedPods};

    fn base() -> CommitId {
        CommitId::parse("9f8e7d6000000000000000000000000000000001").unwrap()
    }

    #[test]
    fn a_note_says_the_verdict_the_plan_and_for_what_it_holds() {
        let line =
            |object: &str| ObjectLine { object: object.into(), file: "a.yaml".into(), line: 3 };
        let report = PlanReport {
            added: vec![line("Deployment shop/web")],
            placed: vec![PlacedPods {
                object: "Deployment shop/web".into(),
                node: "n1".into(),
                pods: 2,
            }],
            unplaced: vec![UnplacedPods {
                object: line("Deployment shop/web"),
                pods: 1,
                reason: "0/1 nodes are available: 1 Insufficient cpu.".into(),
            }],
            ..PlanReport::default()
        };
        let note = plan_note(&report, &base(), "c1");
        expect![[r#"
            Would be admitted

            + Deployment shop/web (a.yaml:3)
            would run: 2 pods of Deployment shop/web on n1
            would not run: 1 pod of Deployment shop/web (a.yaml:3): 0/1 nodes are available: 1 Insufficient cpu.

            Base: 9f8e7d6000000000000000000000000000000001
            Cluster: c1
        "#]]
        .assert_eq(&note);
        assert!(is_note_of(&note, &base(), "c1"));
        assert!(!is_note_of(&note, &base(), "c2"));
        assert!(!is_note_of("by hand", &base(), "c1"));
    }

    /// What must not happen: a note without an end, or cut inside a character, or that says no more
    /// what it holds for.
    #[test]
    fn a_note_is_bounded_and_keeps_its_last_lines() {
        let line =
            |i: usize| ObjectLine { object: format!("ConfigMap é/{i}"), ..ObjectLine::default() };
        let report = PlanReport { added: (0..9000).map(line).collect(), ..PlanReport::default() };
        let note = plan_note(&report, &base(), "c1");
        assert!(note.len() < NOTE_BYTES_MAX + 300, "{}", note.len());
        assert!(note.contains(" more lines: mainstay plan --merged <branch>"));
        assert!(is_note_of(&note, &base(), "c1"));
        let value = serde_json::Value::from("é".repeat(1000));
        let change = FieldChange { path: "data.x".into(), old: None, new: Some(value) };
        assert!(field(&change).chars().count() < VALUE_CHARS_MAX + 40);
    }
}
