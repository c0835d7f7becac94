//! The text of status commits and of the notes on desired commits.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Node, Pod},
};

use super::{
    cluster::{moment, short},
    health::{controller, health},
    history::state_word,
};
use crate::{
    kinds::{Commit, CommitState},
    model::{CommitId, Key, Object, Problem, Revision},
    state::{Change, View},
};

/// Most lines the body of a status commit has. Thousands of objects may change between two of them; the tree says all.
const LINES_MAX: usize = 50;
/// Most problems and warnings a note lists; `commits/<sha>.yaml` on the status branch has all.
const PROBLEMS_MAX: usize = 20;

/// The message of the status commit that shows what changed after `since`.
///
/// One line for each change of state (`shop/web 3/3 on 1a2b3c4, was 9f8e7d6`); several get a subject that says how
/// many. The trailers are for machines: `Commit:` is what the cluster runs, `Index:` the revision shown, `Term:` the
/// writer's.
pub fn status_commit_message(view: &View, since: Revision, term: u64) -> String {
    let changes = (since > Revision(0)).then(|| view.changes_since(since)).flatten();
    let lines = match changes {
        Some(changes) => lines(view, &spans(changes)),
        None => Vec::new(),
    };
    let mut message = match lines.as_slice() {
        [] => format!("{}\n", quiet(view)),
        [one] => format!("{one}\n"),
        [first, rest @ ..] => {
            let mut text = format!("{first}, and {} more\n\n", rest.len());
            lines.iter().take(LINES_MAX).for_each(|line| text += &format!("{line}\n"));
            if lines.len() > LINES_MAX {
                text += &format!("and {} more\n", lines.len() - LINES_MAX);
            }
            text
        }
    };
    message.push('\n');
    if let Some(head) = view.head() {
        message += &format!("Commit: {}\n", head.commit);
    }
    message + &format!("Index: {}\nTerm: {term}\n", view.revision())
}

/// What to say when nothing that has a line changed.
fn quiet(view: &View) -> String {
    match view.head() {
        Some(head) => format!("the cluster on {}", head.commit.short()),
        None => "the cluster before its first commit".to_owned(),
    }
}

/// An object before the first and after the last of some changes.
type Span<'a> = (Option<&'a Object>, Option<&'a Object>);

fn spans<'a>(changes: impl Iterator<Item = &'a Change>) -> BTreeMap<&'a Key, Span<'a>> {
    let mut spans: BTreeMap<&Key, Span<'_>> = BTreeMap::new();
    for change in changes {
        let span = spans.entry(&change.key).or_insert((change.old.as_ref(), None));
        span.1 = change.new.as_ref();
    }
    spans
}

/// Workloads first, then commits, nodes and the rest.
fn lines(view: &View, spans: &BTreeMap<&Key, Span<'_>>) -> Vec<String> {
    let mut ranked: Vec<(u8, String)> = Vec::new();
    for (key, span) in spans {
        let line = if key.is::<Commit>() {
            commit_line(key, *span).map(|text| (1, text))
        } else if key.is::<Node>() {
            node_line(key, *span).map(|text| (2, text))
        } else if key.is::<Deployment>() || key.is::<ReplicaSet>() || key.is::<Pod>() {
            workload_line(view, key, *span).map(|text| (0, text))
        } else {
            other_line(key, *span).map(|text| (3, text))
        };
        ranked.extend(line);
    }
    ranked.sort();
    ranked.into_iter().map(|(_, line)| line).collect()
}

fn commit_line(key: &Key, (old, new): Span<'_>) -> Option<String> {
    let state = |object: Option<&Object>| Some(object?.view::<Commit>()?.status.state);
    let commit: &Commit = new?.view()?;
    let (before, after) = (state(old), commit.status.state);
    if before == Some(after) {
        return None;
    }
    let reason = match commit.status.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    Some(format!("{} {}{reason}", short(&key.name), state_word(after).to_lowercase()))
}

/// `shop/web 3/3 on 1a2b3c4, was 9f8e7d6`; nothing for what another workload of the view controls.
fn workload_line(view: &View, key: &Key, (old, new): Span<'_>) -> Option<String> {
    let name = match key.is::<Deployment>() {
        true => format!("{}/{}", key.namespace, key.name),
        false => format!("{}/{} ({})", key.namespace, key.name, key.kind.kind),
    };
    let controlled = |o: &Object| o.controller_uid().is_some();
    let Some(new) = new else {
        let gone = old.is_some_and(|o| !controlled(o) && had_commit(o));
        return gone.then(|| format!("{name} gone"));
    };
    if controller(view, new).is_some() || controlled(new) {
        return None;
    }
    let commit = |o: &Object| o.annotation("mainstay.io/commit").map(str::to_owned);
    let told = |o: &Object| {
        let health = health(o);
        let failed =
            !health.settled && !matches!(health.reason.as_str(), "Progressing" | "Complete");
        let word = if failed { format!(" {}", health.reason) } else { String::new() };
        (format!("{}{word}", health.ratio()), commit(o))
    };
    let (after, before) = (told(new), old.map(told));
    if before.as_ref() == Some(&after) {
        return None;
    }
    let (ratio, on) = after;
    let was = before.and_then(|(_, commit)| commit).filter(|was| Some(was) != on.as_ref());
    let was = was.or_else(|| previous_commit(view, new)).filter(|was| Some(was) != on.as_ref());
    let on = on.map(|id| format!(" on {}", short(&id))).unwrap_or_default();
    let was = was.map(|id| format!(", was {}", short(&id))).unwrap_or_default();
    Some(format!("{name} {ratio}{on}{was}"))
}

/// The commit of the ReplicaSet before the current one, which a Deployment's ReplicaSets remember.
fn previous_commit(view: &View, deployment: &Object) -> Option<String> {
    let revision = |o: &Object| {
        let text = o.annotation("deployment.kubernetes.io/revision")?;
        text.parse::<u64>().ok()
    };
    let sets = view.owned_by(deployment.uid()).filter(|o| o.key().is::<ReplicaSet>());
    let mut sets: Vec<(u64, &Object)> = sets.filter_map(|o| Some((revision(o)?, o))).collect();
    sets.sort_by_key(|(revision, _)| std::cmp::Reverse(*revision));
    sets.get(1)?.1.annotation("mainstay.io/commit").map(str::to_owned)
}

fn had_commit(object: &Object) -> bool {
    object.annotation("mainstay.io/commit").is_some()
}

fn node_line(key: &Key, (old, new): Span<'_>) -> Option<String> {
    let word = |o: &Object| health(o).reason;
    match (old.map(word), new.map(word)) {
        (before, Some(after)) if before.as_ref() != Some(&after) => {
            Some(format!("node {} {}", key.name, after.to_lowercase()))
        }
        (Some(_), None) => Some(format!("node {} gone", key.name)),
        _ => None,
    }
}

/// What Git owns and has no replicas is worth a line when it comes, changes with a commit, or goes.
fn other_line(key: &Key, (old, new): Span<'_>) -> Option<String> {
    let commit = |o: Option<&Object>| o?.annotation("mainstay.io/commit").map(str::to_owned);
    let (before, after) = (commit(old), commit(new));
    if before == after {
        return None;
    }
    Some(match (&after, &before) {
        (None, _) => format!("{key} gone"),
        (Some(on), None) => format!("{key} on {}", short(on)),
        (Some(on), Some(was)) => format!("{key} on {}, was {}", short(on), short(was)),
    })
}

/// The note on a desired commit: a few plain lines that say what became of it.
pub fn note(view: &View, commit: &CommitId) -> String {
    let Some(found) = view.get::<Commit>("", commit.as_str()) else {
        return format!("The cluster does not know {}.\n", commit.short());
    };
    let status = &found.status;
    let mut text = state_word(status.state).to_owned();
    if !status.reason.is_empty() {
        text += &format!(" ({})", status.reason);
    }
    if !status.message.is_empty() {
        text += &format!(": {}", status.message);
    }
    text.push('\n');
    if status.state != CommitState::Refused {
        let changes = &status.changes;
        let (added, changed, pruned) = (changes.added, changes.changed, changes.pruned);
        text += &format!("{added} added, {changed} changed, {pruned} pruned\n");
    }
    stages(found).into_iter().for_each(|line| text += &line);
    list(&mut text, "Problems", &status.problems);
    list(&mut text, "Warnings", &status.warnings);
    text
}

/// A line for each stage the commit has reached: when, and how long after the one before.
fn stages(commit: &Commit) -> Vec<String> {
    let timings = &commit.status.timings;
    let committed = (commit.spec.committed_at > 0).then_some(commit.spec.committed_at);
    let stages = [
        ("seen", timings.seen_at, committed),
        ("admitted", timings.admitted_at, timings.seen_at),
        ("healthy", timings.healthy_at, timings.admitted_at),
        ("failed", timings.failed_at, timings.admitted_at.or(timings.seen_at)),
    ];
    let line = |(word, at, before): (&str, Option<i64>, Option<i64>)| {
        let at = at?;
        let took = before.map(|b| format!(", after {}", seconds(at - b))).unwrap_or_default();
        Some(format!("{word} {}{took}\n", moment(at)))
    };
    stages.into_iter().filter_map(line).collect()
}

/// `0.4s`, `12.3s`
pub(super) fn seconds(milliseconds: i64) -> String {
    let tenths = milliseconds.max(0) / 100;
    format!("{}.{}s", tenths / 10, tenths % 10)
}

fn list(text: &mut String, title: &str, problems: &[Problem]) {
    if problems.is_empty() {
        return;
    }
    *text += &format!("\n{title}:\n");
    problems.iter().take(PROBLEMS_MAX).for_each(|p| *text += &format!("{p}\n"));
    if problems.len() > PROBLEMS_MAX {
        *text += &format!("and {} more\n", problems.len() - PROBLEMS_MAX);
    }
}
