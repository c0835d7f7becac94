//! A rollout that failed: where the cluster goes back to, what takes the commit back in Git, and
//! that the same content is not run again.
//!
//! The `Commit` object holds all of it (`status.failure`), so that every leader comes to the same.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

use super::{
    commit::{key_of, newest_pods},
    rollback::last_good,
    standing,
};
use crate::{
    kinds::{Commit, CommitFailure, CommitState, GitSource, OnFailure, RevertState},
    model::{CommitId, CommitName, Key, Object, ObjectError, Problem, fnv1a, fnv1a_from},
    render::Picture,
    state::{Command, Expect, NewEvent, Op, OutboxItem, Part, View},
};

/// The trailer of a revert that names the commit whose rollout failed. By it a revert that was
/// pushed already is found.
pub const REVERT_TRAILER: &str = "Mainstay-Reverts";

/// The trailer with which a commit says what its failure leads to.
pub(super) const ON_FAILURE_TRAILER: &str = "On-Failure";

/// The trailer by which people run again what failed before.
pub const RETRY_TRAILER: &str = "Retry-Failed";

/// The reason of a commit that is refused because its content failed before.
pub const FAILED_BEFORE: &str = "FailedBefore";

/// Most lines of evidence that a failure keeps: a revert is read by people.
const EVIDENCE_MAX: usize = 20;

/// Most pods of one workload that evidence is taken from; they fail alike.
const PODS_MAX: usize = 2;

/// One workload that kept a commit from becoming healthy.
pub(super) struct Failed<'a> {
    /// Which.
    pub(super) key: &'a Key,
    /// Where it stands and what ails it.
    pub(super) problem: &'a Problem,
}

/// What follows from a rollout that failed: `None` when nothing of what failed was brought by a
/// commit that never was healthy, when there is nothing to go back to, or when the source says that
/// people decide.
pub(super) fn of(
    view: &View,
    head: &CommitName,
    message: &str,
    failed: &[Failed<'_>],
) -> Option<CommitFailure> {
    let policy = policy(view, head);
    let until = good_until(view, &head.source);
    let guilty: Vec<&Failed<'_>> =
        failed.iter().filter(|f| is_guilty(view, f.key, until)).collect();
    if policy == OnFailure::Ignore || guilty.is_empty() {
        return None;
    }
    let files: BTreeSet<String> = guilty.iter().map(|f| f.problem.file.clone()).collect();
    let revert = if policy == OnFailure::Hold { RevertState::Held } else { RevertState::Due };
    Some(CommitFailure {
        good: last_good(view, head)?.to_string(),
        problem: message.to_owned(),
        content: content(
            view.origins_in(&head.source).map(|(key, origin)| (key, origin.digest.clone())),
        ),
        files: files.into_iter().collect(),
        evidence: evidence(view, &guilty),
        revert,
        ..CommitFailure::default()
    })
}

/// What the last trailer of that name says.
pub(super) fn on_failure(trailers: &[(String, String)]) -> Result<Option<OnFailure>, Problem> {
    let mut found =
        trailers.iter().rev().filter(|(k, _)| k.eq_ignore_ascii_case(ON_FAILURE_TRAILER));
    let Some((_, text)) = found.next() else { return Ok(None) };
    match text.trim().to_ascii_lowercase().as_str() {
        "revert" => Ok(Some(OnFailure::Revert)),
        "hold" => Ok(Some(OnFailure::Hold)),
        "ignore" => Ok(Some(OnFailure::Ignore)),
        _ => Err(Problem {
            message: format!("{ON_FAILURE_TRAILER}: {text:?}: write revert, hold or ignore"),
            ..Problem::default()
        }),
    }
}

/// What the commit's trailer says, else its source.
fn policy(view: &View, head: &CommitName) -> OnFailure {
    let said = view.commit(head).and_then(|c| c.status.on_failure);
    if let Some(said) = said {
        return said;
    }
    let source = view.get::<GitSource>("", &head.source);
    source.and_then(|source| source.spec.on_failure).unwrap_or_default()
}

/// When the newest commit of a source was admitted that became healthy.
pub(super) fn good_until(view: &View, source: &str) -> Option<i64> {
    let all = view.commits_of(source).map(|(.., c)| &c.status.timings);
    all.filter(|timings| timings.healthy_at.is_some()).filter_map(|t| t.admitted_at).max()
}

/// Whether a workload is as a commit left it and was never healthy so, neither with that commit nor
/// with one after it ([`good_until`]): what ran before and ails now is no failure of a rollout.
pub(super) fn is_guilty(view: &View, key: &Key, good_until: Option<i64>) -> bool {
    let commit = view.origin(key).and_then(|o| view.commit_of(&o.source, &o.commit));
    commit
        .map(|c| &c.status.timings)
        .is_some_and(|timings| timings.healthy_at.is_none() && timings.admitted_at >= good_until)
}

/// A digest of what a commit asks for: objects and their content, wherever they stand.
fn content<'a>(objects: impl Iterator<Item = (&'a Key, String)>) -> String {
    let sorted: BTreeMap<String, String> =
        objects.map(|(key, digest)| (key.to_string(), digest)).collect();
    let begin = fnv1a(b"content");
    let sum = sorted.iter().fold(begin, |sum, (key, digest)| {
        fnv1a_from(fnv1a_from(sum, key.as_bytes()), digest.as_bytes())
    });
    format!("{sum:016x}")
}

/// The commit of the same source and content whose rollout failed, unless a trailer says to run it
/// again.
pub(super) fn repeated(
    view: &View,
    picture: &Picture,
    commit: &CommitName,
    trailers: &[(String, String)],
) -> Option<CommitId> {
    let again = |(key, value): &(String, String)| {
        key.eq_ignore_ascii_case(RETRY_TRAILER) && value.eq_ignore_ascii_case("yes")
    };
    // Another source than the main one may ask again for the commit that failed, by another spec.
    let failures: Vec<(CommitName, &CommitFailure)> = view
        .commits_of(&commit.source)
        .filter_map(|(name, _, c)| Some((name, c.status.failure.as_ref()?)))
        .filter(|(name, _)| name != commit || !commit.is_main())
        .collect();
    if failures.is_empty() || trailers.iter().any(again) {
        return None;
    }
    let wanted = content(picture.objects().map(|(k, found)| (k, format!("{:032x}", found.digest))));
    let mut same = failures.into_iter().filter(|(_, failure)| failure.content == wanted);
    same.next().map(|(name, _)| name.id)
}

/// What is wrong with a commit whose content failed before.
pub(super) fn repeats(view: &View, source: &str, earlier: &CommitId) -> Problem {
    let commit = view.commit_of(source, earlier);
    let why = commit.and_then(|c| c.status.failure.as_ref()).map(|f| f.problem.clone());
    let message = format!(
        "has the content of {}, whose rollout failed ({}): change what failed, or run it again \
         with the trailer {RETRY_TRAILER}: yes",
        earlier.short(),
        why.unwrap_or_default()
    );
    Problem { message, ..Problem::default() }
}

/// Where the cluster has to go, and from which commit, when what runs of a source has failed.
pub fn way_back(view: &View, source: &str) -> Option<(CommitId, CommitId)> {
    let head = view.head_of(source)?.commit.clone();
    let failure = view.commit_of(source, &head)?.status.failure.as_ref()?;
    Some((head, CommitId::parse(&failure.good)?))
}

/// A revert that has to be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert {
    /// The commit whose rollout failed.
    pub bad: CommitName,
    /// The commit to go back to where no single one can be taken back.
    pub good: CommitId,
    /// Other commits at the source that brought the same content and were refused.
    pub repeats: BTreeSet<CommitId>,
    /// The files of the objects that failed.
    pub files: Vec<String>,
    /// The folder that the source reads: nothing else is taken back. Empty for all of it.
    pub path: String,
    /// What follows the subject of its message.
    body: String,
}

impl Revert {
    /// The branch on which it is proposed where it cannot be pushed.
    pub fn branch(&self) -> String {
        branch(&self.bad)
    }

    /// The message of the commit that takes `taken` back, which has this subject; of one that
    /// brings back all files of the good commit when there is none.
    pub fn message(&self, taken: Option<(&CommitId, &str)>) -> String {
        let (subject, what) = match taken {
            Some((id, subject)) => {
                (format!("Revert \"{subject}\""), format!("This reverts commit {id}."))
            }
            None => {
                let good = self.good.short();
                (format!("Go back to {good}"), format!("This brings back the files of {good}."))
            }
        };
        format!("{subject}\n\n{what}\n\n{}\n\n{REVERT_TRAILER}: {}\n", self.body, self.bad)
    }
}

fn branch(bad: &CommitName) -> String {
    format!("mainstay/revert/{bad}")
}

/// What has to be pushed for a commit that failed; `None` when that is settled.
pub fn revert(view: &View, bad: &CommitName) -> Option<Revert> {
    let commit = view.commit(bad)?;
    let failure = commit.status.failure.as_ref().filter(|f| f.revert == RevertState::Due)?;
    let repeats = view
        .commits_of(&bad.source)
        .filter(|(.., c)| {
            c.status.state == CommitState::Refused && c.status.reason == FAILED_BEFORE
        })
        .map(|(name, ..)| name.id)
        .collect();
    let good = CommitId::parse(&failure.good)?;
    let mut body = format!(
        "Its rollout failed ({}): {}\nThe cluster went back to {} at once.\n",
        commit.status.reason,
        failure.problem,
        good.short()
    );
    for line in &failure.evidence {
        body += &format!("\n- {line}");
    }
    let source = view.get::<GitSource>("", &bad.source);
    let path = source.map(|source| source.spec.path.clone()).unwrap_or_default();
    let files = failure.files.clone();
    Some(Revert { bad: bad.clone(), good, repeats, files, path, body })
}

/// What became of a revert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// How it ended.
    pub state: RevertState,
    /// The commit that takes the failed one back, or that took its place.
    pub commit: Option<CommitId>,
    /// Why it is not on the desired branch.
    pub why: String,
}

/// The commands that record what became of the revert of `bad`.
pub fn settle(
    view: &View,
    bad: &CommitName,
    settled: Settled,
) -> Result<Vec<Command>, ObjectError> {
    let key = key_of(bad);
    let found = view.object(&key).and_then(|o| Some((o, o.view::<Commit>()?.clone())));
    let Some((object, mut commit)) = found else { return Ok(Vec::new()) };
    let Some(failure) = commit.status.failure.as_mut() else { return Ok(Vec::new()) };
    failure.revert = settled.state;
    failure.commit = settled.commit.map(|commit| commit.to_string());
    failure.why = settled.why;
    let warning = matches!(failure.revert, RevertState::Proposed | RevertState::Held);
    commit.status.message = words(bad, failure);
    standing::note(&mut commit.status, object, view.applied_at());
    let event = NewEvent {
        regarding: key,
        uid: object.uid().to_owned(),
        warning,
        reason: if warning { "RevertNotPushed" } else { "Reverted" }.to_owned(),
        message: commit.status.message.clone(),
        source: "commit-controller".to_owned(),
    };
    let put = Op::Put {
        object: Object::of(&commit)?,
        expect: Expect::At(object.revision()),
        part: Part::Status,
    };
    let note = Command::Enqueue(OutboxItem::Note(bad.clone()));
    Ok(vec![Command::Write(vec![put, Op::Event(event)]), note])
}

/// The message of a commit whose rollout failed.
pub(super) fn words(bad: &CommitName, failure: &CommitFailure) -> String {
    let short = |id: &str| id.get(..7).unwrap_or(id).to_owned();
    let by = failure.commit.as_deref().map(short).unwrap_or_default();
    let end = match failure.revert {
        RevertState::Due => "its revert is on its way".to_owned(),
        RevertState::Pushed => format!("{by} takes it back"),
        RevertState::Proposed => format!(
            "no revert was pushed ({}): it is proposed on the branch {}",
            failure.why,
            branch(bad)
        ),
        RevertState::Held if failure.why.is_empty() => {
            format!("{} is held: take it back, or push what mends it", bad.id.short())
        }
        RevertState::Held => format!("no revert was pushed ({}): take it back", failure.why),
        RevertState::Overtaken => format!("{by} took its place at the source"),
    };
    format!("{}; the cluster went back to {}; {end}", failure.problem, short(&failure.good))
}

/// What people want to see first: the objects with their places, how containers ended, and what was
/// warned of.
fn evidence(view: &View, guilty: &[&Failed<'_>]) -> Vec<String> {
    let mut lines: Vec<String> = guilty.iter().map(|f| f.problem.to_string()).collect();
    for object in guilty.iter().filter_map(|f| view.object(f.key)) {
        for pod in newest_pods(view, object).into_iter().take(PODS_MAX) {
            lines.extend(endings(pod));
            lines.extend(warnings(view, pod));
        }
    }
    let mut seen = BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    lines.truncate(EVIDENCE_MAX);
    lines
}

/// How the containers of a pod ended.
fn endings(object: &Object) -> Vec<String> {
    let status = object.view::<Pod>().and_then(|pod| pod.status.clone()).unwrap_or_default();
    let inits = status.init_container_statuses.into_iter().flatten();
    let all = inits.chain(status.container_statuses.into_iter().flatten());
    all.filter_map(|container| ending(&object.key().name, &container)).collect()
}

fn ending(pod: &str, container: &ContainerStatus) -> Option<String> {
    let ended = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().and_then(|s| s.terminated.clone())
    };
    let ended = ended(&container.state).or_else(|| ended(&container.last_state))?;
    let words = ended.message.unwrap_or_default();
    let words = if words.is_empty() { words } else { format!(": {}", words.trim_end()) };
    Some(format!(
        "pod {pod}, container {}: exit code {}, restarted {} times{words}",
        container.name, ended.exit_code, container.restart_count
    ))
}

/// The warnings about a pod.
fn warnings(view: &View, pod: &Object) -> Vec<String> {
    let about = |event: &Event| {
        event.type_.as_deref() == Some("Warning")
            && event.involved_object.uid.as_deref() == Some(pod.uid())
    };
    let line = |event: &Event| {
        let often = match event.count.unwrap_or(1) {
            1 => String::new(),
            n => format!(" ({n} times)"),
        };
        let reason = event.reason.as_deref().unwrap_or_default();
        let message = event.message.as_deref().unwrap_or_default();
        format!("pod {}: {reason}: {message}{often}", pod.key().name)
    };
    let namespace = Some(pod.key().namespace.as_str());
    view.list::<Event>(namespace).filter(|(_, e)| about(e)).map(|(_, e)| line(e)).collect()
}
