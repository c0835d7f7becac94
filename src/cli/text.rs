//! What verbs print for people: pure, from the values that `-o json` prints.

use crate::{
    api::talk::CheckLine,
    model::MAIN_SOURCE,
    report::{
        ClusterStatus, CommitLine, EventLine, WaitOutcome, WaitReport, WhyStep, amounts, state_word,
    },
};

use super::vet::VetReport;

/// The first seven digits of a commit id.
fn short(id: &str) -> &str {
    id.get(..7).unwrap_or(id)
}

/// Columns as wide as their widest cell, two spaces apart.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header.get(column).map_or(0, |h| h.len())]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut header.iter().copied());
    rows.iter().for_each(|row| text += &line(&mut row.iter().map(String::as_str)));
    text
}

pub(super) fn status(status: &ClusterStatus) -> String {
    let mut text = match (&status.commit, status.state) {
        (Some(commit), Some(state)) => {
            let word = state_word(state);
            // `Healthy: Healthy` says nothing twice.
            let reason = [status.reason.as_str(), status.message.as_str()];
            let told = reason.into_iter().filter(|text| !text.is_empty() && *text != word);
            let told: String = told.map(|text| format!(": {text}")).collect();
            format!("{} {word}{told}\n", short(commit))
        }
        _ => "no commit was admitted yet\n".to_owned(),
    };
    status.problems.iter().for_each(|problem| text += &format!("  {problem}\n"));
    status.warnings.iter().for_each(|problem| text += &format!("  warning: {problem}\n"));
    if let Some(running) = &status.running
        && Some(&running.commit) != status.commit.as_ref()
    {
        text += &format!("running {} {}\n", short(&running.commit), state_word(running.state));
    }
    for source in &status.sources {
        let bad = source.conditions.iter().find(|c| c.status != "True");
        let state = bad.map_or(String::new(), |c| format!(": {} {}", c.reason, c.message));
        let name = match source.name.as_str() {
            MAIN_SOURCE => String::new(),
            other => format!("{other} "),
        };
        text += &format!("source {name}{} {}{state}\n", source.url, source.reference);
    }
    if !status.counts.is_empty() {
        let row = |(kind, count): (&String, &crate::report::KindCount)| {
            vec![kind.clone(), format!("{}/{}", count.ready, count.desired)]
        };
        let rows: Vec<_> = status.counts.iter().map(row).collect();
        text += &format!("\n{}", table(&["KIND", "READY"], &rows));
    }
    if !status.nodes.is_empty() {
        let rows: Vec<_> = status.nodes.iter().map(node).collect();
        text += &format!("\n{}", table(&["NODE", "STATE", "PODS", "CPU", "MEMORY"], &rows));
    }
    text
}

fn node(node: &crate::report::NodeSummary) -> Vec<String> {
    let of = |text: fn(i64) -> String, part, whole| format!("{}/{}", text(part), text(whole));
    let state = match (node.ready, node.schedulable) {
        (true, true) => "Ready",
        (true, false) => "Ready,SchedulingDisabled",
        (false, _) => "NotReady",
    };
    vec![
        node.name.clone(),
        state.to_owned(),
        node.pods.to_string(),
        of(amounts::cores, node.requested_cpu_milli, node.allocatable_cpu_milli),
        of(amounts::bytes, node.requested_memory_bytes, node.allocatable_memory_bytes),
    ]
}

pub(super) fn history(lines: &[CommitLine]) -> String {
    let row = |line: &CommitLine| {
        let changes = &line.changes;
        let healthy = line.healthy_after_ms.map(|ms| format!("{}.{}s", ms / 1000, ms % 1000 / 100));
        vec![
            if line.running { "*" } else { "" }.to_owned(),
            short(&line.commit).to_owned(),
            state_word(line.state).to_owned(),
            healthy.unwrap_or_default(),
            format!("+{} ~{} -{}", changes.added, changes.changed, changes.pruned),
            line.author.clone(),
            line.subject.clone(),
        ]
    };
    let rows: Vec<_> = lines.iter().map(row).collect();
    table(&["", "COMMIT", "STATE", "HEALTHY AFTER", "CHANGES", "AUTHOR", "SUBJECT"], &rows)
}

pub(super) fn why(steps: &[WhyStep]) -> String {
    let row = |step: &WhyStep| vec![step.what.clone(), step.name.clone(), step.says.clone()];
    let rows: Vec<_> = steps.iter().map(row).collect();
    table(&["WHAT", "NAME", "SAYS"], &rows)
}

pub(super) fn events(lines: &[EventLine]) -> String {
    let row = |line: &EventLine| {
        vec![
            line.last.clone(),
            line.type_.clone(),
            line.reason.clone(),
            line.object.clone(),
            line.count.to_string(),
            line.message.clone(),
        ]
    };
    let rows: Vec<_> = lines.iter().map(row).collect();
    table(&["LAST", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"], &rows)
}

pub(super) fn check(lines: &[CheckLine]) -> String {
    lines.iter().map(|line| format!("{}: {}\n", line.severity, line.message)).collect()
}

pub(super) fn wait(report: &WaitReport) -> String {
    match report.outcome {
        WaitOutcome::Healthy => format!("{}\n", report.message),
        // The reason is told with the error, once.
        WaitOutcome::Pending | WaitOutcome::Failed => String::new(),
    }
}

/// Why a wait did not end well.
pub(super) fn why_not(report: &WaitReport) -> String {
    let mut text = report.message.clone();
    report.problems.iter().for_each(|problem| text += &format!("\n  {problem}"));
    report.waiting.iter().for_each(|line| text += &format!("\n  {line}"));
    text
}

pub(super) fn vet(report: &VetReport) -> String {
    let mut text: String = report.problems.iter().map(|p| format!("{p}\n")).collect();
    report.warnings.iter().for_each(|w| text += &format!("{w} (warning)\n"));
    if report.problems.is_empty() {
        text += &format!("{} objects, no problems\n", report.objects);
    }
    text
}
