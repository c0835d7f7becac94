//! The text of status commits and of the notes on desired commits.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::{Node, Pod},
    discovery::v1::EndpointSlice,
};

use super::{
    cluster::{moment, short},
    files::{Subject, addresses, root, service_of, touched},
    health::{controller, health, lasting_health, lasting_state},
    history::state_word,
};
use crate::{
    kinds::{Commit, CommitState, GitSource, RevertState},
    model::{CommitId, CommitName, Key, Object, Problem, Revision},
    state::{Change, View},
};

/// Most lines the body of a status commit has. Thousands of objects may change between two of them;
/// the tree says all.
const LINES_MAX: usize = 50;
/// Most names in a subject that has nothing else to say.
const NAMES_MAX: usize = 3;
/// Most problems and warnings a note lists; `commits/<sha>.yaml` on the status branch has all.
const PROBLEMS_MAX: usize = 20;

/// The message of the status commit that shows what changed after `since`.
///
/// One line for each change of state (`shop/web 3/3 on 1a2b3c4, was 9f8e7d6`); several get a
/// subject that says how many. The trailers are for machines: `Commit:` is what the cluster runs,
/// `Cluster:` who writes, since another cluster may have begun the branch, `Index:` the revision
/// shown, `Term:` the writer's.
pub fn status_commit_message(view: &View, since: Revision, term: u64) -> String {
    let changes = (since > Revision(0)).then(|| view.changes_since(since)).flatten();
    let (lines, subjects) = match changes {
        Some(changes) => {
            let changes: Vec<&Change> = changes.collect();
            (lines(view, &spans(&changes)), subjects(view, &changes))
        }
        None => Default::default(),
    };
    let mut message = match lines.as_slice() {
        [] => format!("{}\n", quiet(view, &subjects)),
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
    let cluster = view.config().map(|config| config.cluster_id.as_str()).unwrap_or_default();
    message + &format!("Cluster: {cluster}\nIndex: {}\nTerm: {term}\n", view.revision())
}

/// What to say when nothing that has a line changed.
fn quiet(view: &View, subjects: &BTreeSet<String>) -> String {
    let named: Vec<&str> = subjects.iter().take(NAMES_MAX).map(String::as_str).collect();
    match (named.as_slice(), subjects.len().saturating_sub(NAMES_MAX), view.head()) {
        ([], _, Some(head)) => format!("the cluster on {}", head.commit.short()),
        ([], _, None) => "the cluster before its first commit".to_owned(),
        (named, 0, _) => format!("details of {}", named.join(", ")),
        (named, more, _) => format!("details of {} and {more} more", named.join(", ")),
    }
}

/// Whose files the changes touch, as people call them.
fn subjects(view: &View, changes: &[&Change]) -> BTreeSet<String> {
    let name = |subject: Subject| match subject {
        Subject::Object(key) if key.is::<Deployment>() => {
            Some(format!("{}/{}", key.namespace, key.name))
        }
        Subject::Object(key) => Some(key.to_string()),
        Subject::Node(name) => Some(format!("node {name}")),
        // Its words repeat those of its objects.
        Subject::Commit(_) | Subject::Page => None,
    };
    changes.iter().flat_map(|change| touched(view, change)).filter_map(name).collect()
}

/// An object before the first and after the last of some changes.
type Span<'a> = (Option<&'a Object>, Option<&'a Object>);

fn spans<'a>(changes: &[&'a Change]) -> BTreeMap<&'a Key, Span<'a>> {
    let mut spans: BTreeMap<&Key, Span<'_>> = BTreeMap::new();
    for change in changes {
        let span = spans.entry(&change.key).or_insert((change.old.as_ref(), None));
        span.1 = change.new.as_ref();
    }
    spans
}

/// Commits first when they come to an end, then workloads, what ails their pods, commits on their
/// way, nodes, where Services answer, and the rest.
fn is_workload(key: &Key) -> bool {
    key.is::<Deployment>() || key.is::<ReplicaSet>() || key.is::<Job>() || key.is::<Pod>()
}

fn lines(view: &View, spans: &BTreeMap<&Key, Span<'_>>) -> Vec<String> {
    let mut ranked: Vec<(u8, String)> = Vec::new();
    for (key, span) in spans {
        let line = if key.is::<Commit>() {
            commit_line(key, *span)
        } else if key.is::<Node>() {
            node_line(key, *span).map(|text| (4, text))
        } else if key.is::<EndpointSlice>() {
            answers_line(*span).map(|text| (5, text))
        } else if key.is::<GitSource>() {
            source_line(*span).map(|text| (0, text))
        } else if is_workload(key) {
            let workload = workload_line(view, key, *span).map(|text| (1, text));
            workload.or_else(|| pod_line(view, *span).map(|text| (2, text)))
        } else {
            other_line(key, *span).map(|text| (6, text))
        };
        ranked.extend(line);
    }
    ranked.sort();
    ranked.into_iter().map(|(_, line)| line).collect()
}

/// `b98d0ed degraded (ProgressDeadlineExceeded): “web: V=2”`
fn commit_line(key: &Key, (old, new): Span<'_>) -> Option<(u8, String)> {
    let state = |object: Option<&Object>| Some(object?.view::<Commit>()?.status.state);
    let commit: &Commit = new?.view()?;
    let (before, after) = (state(old), commit.status.state);
    let ended = revert_ended(old.and_then(|o| o.view::<Commit>()), commit);
    let name = CommitName::parse(&key.name)?.short();
    if before == Some(after) {
        return Some((0, format!("{name}: {}", ended?)));
    }
    let reason = reason_beside(after, &commit.status.reason);
    let ended = ended.map(|ended| format!(", {ended}")).unwrap_or_default();
    let word = state_word(after).to_lowercase();
    let line = format!("{name} {word}{reason}{ended}: “{}”", commit.spec.subject);
    let ends = matches!(
        after,
        CommitState::Healthy | CommitState::Degraded | CommitState::Refused | CommitState::Held
    );
    Some((if ends { 0 } else { 3 }, line))
}

/// `taken back by 1a2b3c4` when it is known what became of the revert.
fn revert_ended(old: Option<&Commit>, new: &Commit) -> Option<String> {
    let failure = new.status.failure.as_ref()?;
    let was = old.and_then(|c| c.status.failure.as_ref()).map(|f| f.revert);
    let by = failure.commit.as_deref().map(short).unwrap_or_default();
    match failure.revert {
        state if was == Some(state) => None,
        RevertState::Due => None,
        RevertState::Pushed => Some(format!("taken back by {by}")),
        RevertState::Proposed => Some(format!("held, its revert {by} is only proposed")),
        RevertState::Held => Some("held".to_owned()),
        RevertState::Overtaken => Some(format!("overtaken by {by}")),
    }
}

/// ` (DeadlineExceeded)`, or nothing when the reason only repeats the state.
pub(super) fn reason_beside(state: CommitState, reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason if reason == state_word(state) => String::new(),
        reason => format!(" ({reason})"),
    }
}

/// `the source does not answer: …` when that changes.
fn source_line((old, new): Span<'_>) -> Option<String> {
    let told = |object: Option<&Object>| {
        let source = object?.view::<GitSource>()?;
        // How their commits do stands in lines of its own.
        let mut conditions = source.status.conditions.iter().filter(|c| c.type_ == "SourceReady");
        let bad = conditions.find(|c| c.status == "False");
        Some(bad.map(|c| (c.reason.clone(), c.message.clone())))
    };
    let name = &new?.key().name;
    match (told(old).flatten(), told(new)?) {
        (before, Some(after)) if before.as_ref() != Some(&after) => {
            Some(format!("source {name}: {}: {}", after.0, after.1))
        }
        (Some(_), None) => Some(format!("source {name} answers again")),
        _ => None,
    }
}

/// `Service shop/web answered by 2 pods, was 3`
fn answers_line((old, new): Span<'_>) -> Option<String> {
    let service = service_of(new?)?;
    let count =
        |o: Option<&Object>| addresses(o.and_then(|o| o.view::<EndpointSlice>()).into_iter());
    let (before, after) = (count(old), count(new));
    let was = old.map(|_| format!(", was {before}")).unwrap_or_default();
    let pods = match after {
        0 => "by nobody".to_owned(),
        1 => "by 1 pod".to_owned(),
        n => format!("by {n} pods"),
    };
    (before != after).then(|| format!("{service} answered {pods}{was}"))
}

/// `shop/web: pod web-5d7f-abcde CrashLoopBackOff (exit code 101)` when a pod begins to ail, ails
/// otherwise, or is well again; the pods of a rollout that goes well have no lines.
fn pod_line(view: &View, (old, new): Span<'_>) -> Option<String> {
    let new = new.filter(|o| !o.is_terminating())?;
    let after = new.view::<Pod>()?;
    let (word, message) = lasting_state(after);
    let before = old.and_then(|o| o.view::<Pod>()).map(lasting_state);
    let of = root(view, new);
    let pod = match of == new.key() {
        true => format!("{}/{} (Pod)", of.namespace, of.name),
        false => format!("{}/{}: pod {}", of.namespace, of.name, new.key().name),
    };
    let restarts = |pod: &Pod| super::files::pod_line(pod).restarts;
    let often = restarts(after);
    let more = old.and_then(|o| o.view::<Pod>()).is_some_and(|pod| restarts(pod) < often);
    let often = match (often, more) {
        (1, true) => ", restarted once".to_owned(),
        (often, true) => format!(", restarted {often} times"),
        _ => String::new(),
    };
    let why = if message.is_empty() { String::new() } else { format!(" ({message})") };
    let was_ill = before.as_ref().is_some_and(|(word, message)| is_ill(word, message));
    if is_ill(&word, &message) {
        let told = before.as_ref() != Some(&(word.clone(), message)) || more;
        return told.then(|| format!("{pod} {word}{why}{often}"));
    }
    match word.as_str() {
        "Running" if was_ill => Some(format!("{pod} runs{often}")),
        "Running" if more => Some(format!("{pod} Running{often}")),
        _ => None,
    }
}

/// Whether a state does not pass by itself; one with a message that waits for a node is one.
fn is_ill(word: &str, message: &str) -> bool {
    let on_its_way =
        ["Pending", "ContainerCreating", "PodInitializing", "Running", "Succeeded", "Completed"];
    let init = word.strip_prefix("Init:").unwrap_or(word);
    !on_its_way.contains(&init) || (word == "Pending" && !message.is_empty())
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
        let health = lasting_health(o);
        let failed = !health.settled
            && !matches!(health.reason.as_str(), "Progressing" | "Complete")
            && !o.key().is::<Pod>();
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
    text += &reason_beside(status.state, &status.reason);
    if !status.message.is_empty() {
        text += &format!(": {}", status.message);
    }
    text.push('\n');
    if !matches!(status.state, CommitState::Refused | CommitState::Held) {
        let changes = &status.changes;
        let (added, changed, pruned) = (changes.added, changes.changed, changes.pruned);
        text += &format!("{added} added, {changed} changed, {pruned} pruned\n");
    }
    stages(found).into_iter().for_each(|line| text += &line);
    list(&mut text, "Problems", &status.problems);
    list(&mut text, "Warnings", &status.warnings);
    let evidence = status.failure.iter().flat_map(|failure| &failure.evidence);
    let evidence: String = evidence.map(|line| format!("- {line}\n")).collect();
    if !evidence.is_empty() {
        text += &format!("\nEvidence:\n{evidence}");
    }
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
