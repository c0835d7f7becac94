//! `README.md` of the status branch: the cluster on one page. No ages: a page changes only when a
//! state does.

use std::fmt::Write as _;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::{Node, Pod, Service},
};

use super::{
    amounts,
    cluster::{lasting_node_summary, newest_commit, nodes_of, running, short},
    diary::reason_beside,
    files::service_line,
    health::{controller, lasting_health},
    history::{history, state_word},
};
use crate::{
    kinds::{Commit, CommitState, GitSource},
    model::{GroupKind, Object},
    state::{MAIN_SOURCE, View},
};

/// Most rows of one table; a page that nobody scrolls to the end of helps nobody.
const ROWS_MAX: usize = 200;
/// Most commits the page names.
const COMMITS_MAX: usize = 10;

/// The page as Markdown.
pub(super) fn readme(view: &View) -> String {
    let mut page = String::from("# The cluster\n\n");
    page += &headline(view);
    sources(view, &mut page);
    let columns = ["Workload", "Ready", "State", "Commit", "Nodes"];
    table(&mut page, "Workloads", &columns, workloads(view), |o| workload_row(view, o));
    let columns = ["Service", "Address", "Ports", "Ready endpoints"];
    let services = view.of_kind(&GroupKind::of::<Service>(), None);
    table(&mut page, "Services", &columns, services, |o| service_row(view, o));
    let columns = ["Node", "State", "Pods", "CPU asked for", "Memory asked for"];
    let nodes = view.list::<Node>(None).map(|(_, node)| node);
    table(&mut page, "Nodes", &columns, nodes, |node| node_row(view, node));
    let commits = history(view, MAIN_SOURCE).into_iter().take(COMMITS_MAX);
    table(&mut page, "Commits", &["Commit", "State", "Subject", "Author"], commits, |line| {
        let state = state_word(line.state).to_owned();
        vec![short(&line.commit).to_owned(), state, line.subject, line.author]
    });
    page
}

fn headline(view: &View) -> String {
    let Some(newest) = newest_commit(view) else {
        return "No commit was admitted yet.\n".to_owned();
    };
    let mut text = sentence(newest);
    if matches!(newest.status.state, CommitState::Refused | CommitState::Held) {
        text += &match running(view) {
            Some(commit) => {
                format!("\nIt changed nothing: the cluster runs on. {}", sentence(commit))
            }
            None => "\nThe cluster runs no commit yet.\n".to_owned(),
        };
    } else if newest.status.failure.is_some()
        && let Some(commit) = running(view)
    {
        text += &format!("\nThe cluster runs what was good before. {}", sentence(commit));
    }
    let problems = &newest.status.problems;
    if !problems.is_empty() {
        text += "\n## Problems\n\n";
        problems.iter().for_each(|p| text += &format!("- {}\n", cell(&p.to_string())));
    }
    text
}

/// `**Healthy** on 1a2b3c4 "web: 3 replicas" by Ada.`
fn sentence(commit: &Commit) -> String {
    let (spec, status) = (&commit.spec, &commit.status);
    let id = commit.metadata.name.as_deref().unwrap_or_default();
    let subject = cell(&spec.subject);
    let word = state_word(status.state);
    let mut text = format!("**{word}**: {} “{subject}” by {}", short(id), cell(&spec.author));
    match (status.reason.is_empty(), status.message.is_empty()) {
        (true, true) => text += ".\n",
        (_, false) => text += &format!(". {}\n", cell(&status.message)),
        (false, true) => {
            text += &format!("{}.\n", cell(&reason_beside(status.state, &status.reason)))
        }
    }
    text
}

/// A line for each source that does not answer; a source that does needs none.
fn sources(view: &View, page: &mut String) {
    for (object, source) in view.list::<GitSource>(None) {
        for condition in source.status.conditions.iter().filter(|c| c.status == "False") {
            let name = &object.key().name;
            let text = format!("{}: {}", condition.reason, condition.message);
            *page += &format!("\nSource `{name}` is not ready. {}\n", cell(&text));
        }
    }
}

/// Workloads nothing else controls, Deployments first.
fn workloads(view: &View) -> impl Iterator<Item = &Object> {
    let deployments = view.of_kind(&GroupKind::of::<Deployment>(), None);
    let sets = view.of_kind(&GroupKind::of::<ReplicaSet>(), None);
    let jobs = view.of_kind(&GroupKind::of::<Job>(), None);
    let pods = view.of_kind(&GroupKind::of::<Pod>(), None);
    let alone = sets.chain(jobs).chain(pods).filter(|o| controller(view, o).is_none());
    deployments.chain(alone)
}

fn workload_row(view: &View, object: &Object) -> Vec<String> {
    let (key, health) = (object.key(), lasting_health(object));
    let state = match health.message.is_empty() {
        true => health.reason.clone(),
        false => format!("{}: {}", health.reason, health.message),
    };
    let commit = view.origin(key).map_or("", |o| o.commit.short()).to_owned();
    let name = format!("{} {}/{}", key.kind.kind, key.namespace, key.name);
    vec![name, health.ratio(), state, commit, nodes_of(view, object).join(", ")]
}

fn service_row(view: &View, object: &Object) -> Vec<String> {
    let name = format!("{}/{}", object.key().namespace, object.key().name);
    let Some(service) = object.view::<Service>() else { return vec![name] };
    let line = service_line(view, object, service);
    vec![name, line.cluster_ip, line.ports.join(", "), line.ready_endpoints.to_string()]
}

fn node_row(view: &View, node: &Node) -> Vec<String> {
    let line = lasting_node_summary(view, node);
    let state = match (line.ready, line.schedulable) {
        (true, true) => "Ready",
        (true, false) => "Ready, takes no new pods",
        (false, _) => "Not ready",
    };
    let cpu = format!(
        "{} of {}",
        amounts::cores(line.requested_cpu_milli),
        amounts::cores(line.allocatable_cpu_milli)
    );
    let memory = format!(
        "{} of {}",
        amounts::bytes(line.requested_memory_bytes),
        amounts::bytes(line.allocatable_memory_bytes)
    );
    vec![line.name, state.to_owned(), line.pods.to_string(), cpu, memory]
}

/// A table of what there is; only what it shows is looked at.
fn table<T>(
    page: &mut String,
    title: &str,
    columns: &[&str],
    all: impl Iterator<Item = T>,
    row: impl Fn(T) -> Vec<String>,
) {
    let mut all = all.peekable();
    if all.peek().is_none() {
        return;
    }
    *page += &format!(
        "\n## {title}\n\n| {} |\n|{}\n",
        columns.join(" | "),
        "---|".repeat(columns.len())
    );
    for one in all.by_ref().take(ROWS_MAX) {
        let cells: Vec<String> = row(one).iter().map(|text| cell(text)).collect();
        let written = writeln!(page, "| {} |", cells.join(" | "));
        debug_assert!(written.is_ok(), "writing to a String does not fail");
    }
    let more = all.count();
    if more > 0 {
        *page += &format!("\nand {more} more\n");
    }
}

/// Text of users, so that it cannot leave its cell or become markup.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => safe.push(' '),
            '<' => safe += "&lt;",
            '|' | '\\' | '`' | '*' | '[' | ']' | '!' => safe.extend(['\\', c]),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Subjects, names and messages are whatever somebody commits.
    #[test]
    fn what_is_shown_is_no_markup() {
        for (text, shown) in [
            ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
            ("[here](javascript:alert(1))", "\\[here\\](javascript:alert(1))"),
            ("![x](https://example.org/x.png)", "\\!\\[x\\](https://example.org/x.png)"),
            ("a | b\n# c", "a \\| b # c"),
            ("`rm` *now*", "\\`rm\\` \\*now\\*"),
        ] {
            assert_eq!(cell(text), shown);
        }
    }
}
