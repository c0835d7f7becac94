//! Sources that Git names itself: what they may hold, and what their status says of their commits.
//!
//! The main source, which the servers' configuration names, holds `GitSource` objects; each is
//! followed by itself. What becomes of their commits the same controller says as of the main
//! source's; `Ready` of a source repeats it of the newest one.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Condition};
use smol_str::SmolStr;

use super::{
    Controller, Inputs, Plan, admission::Candidate, batch::Batch, condition, freeze, precedence,
    units,
};
use crate::{
    kinds::{
        Commit, CommitState, CommitStatus, GitSource, GitSourceJudged, GitSourceSpec,
        GitSourceStatus,
    },
    model::{CommitId, CommitName, GroupKind, Key, Object, ObjectError, Problem, Timestamp},
    policy::rbac::{self, Asked, What, Who},
    render::Picture,
    state::{Change, Command, Desired, Expect, MAIN_SOURCE, NewEvent, Op, Origin, Part, View},
};

/// The condition that clients wait for.
const READY: &str = "Ready";

/// Most problems that a status names.
const PROBLEMS_MAX: usize = 20;

/// Says of other sources than the main one how their newest commit does.
pub(super) const CONTROLLER: Controller =
    Controller { name: "source-controller", affected, all, plan };

/// The sources that Git names, by name.
pub fn guests(view: &View) -> impl Iterator<Item = (&str, &GitSource)> {
    let all = view.list::<GitSource>(None).filter(|(object, _)| !object.is_terminating());
    all.map(|(object, source)| (object.key().name.as_str(), source))
        .filter(|(name, _)| *name != MAIN_SOURCE)
}

/// Whether whoever follows a source by this spec is to go on: Git says no other by now.
pub fn is_current(view: &View, source: &str, spec: &GitSourceSpec) -> bool {
    source == MAIN_SOURCE
        || view.get::<GitSource>("", source).is_some_and(|source| source.spec == *spec)
}

/// Whether the tip of a source was not judged before, neither taken nor refused nor held, by what
/// the source says now, by what its account may do now and by the freezes of now.
pub(super) fn is_news(view: &View, name: &str, tip: &CommitId, now: Timestamp) -> bool {
    let head = view.head_of(name).map(|head| &head.commit);
    let Some(source) = view.get::<GitSource>("", name) else { return head != Some(tip) };
    let GitSourceStatus { judged, refused_commit, .. } = &source.status;
    let Some(judged) = judged.as_ref().filter(|_| is_judged_now(source)) else { return true };
    if source.spec.is_by_unit() {
        return units::is_news(source, tip);
    }
    let known = view.commit_of(name, tip).map(|commit| &commit.status);
    if known.is_some_and(|status| status.failure.is_some()) {
        return false;
    }
    let held = known.filter(|status| status.state == CommitState::Held);
    if let Some(hold) = held.and_then(|status| status.hold.as_ref()) {
        return !freeze::still_holds(view, hold, judged.revision, now);
    }
    if refused_commit.as_deref() == Some(tip.as_str()) {
        return source.spec.service_account.is_some() && rbac::newest(view).0 > judged.revision;
    }
    refused_commit.is_some() || head != Some(tip)
}

/// Whether the newest commit of a source was judged by what the source says now.
pub fn is_judged(name: &str, source: &GitSource) -> bool {
    name == MAIN_SOURCE || is_judged_now(source)
}

fn is_judged_now(source: &GitSource) -> bool {
    let judged = source.status.judged.as_ref();
    judged.is_some_and(|judged| judged.generation == source.metadata.generation.unwrap_or_default())
}

/// By what a commit is judged now.
pub(super) fn judged(view: &View, source: &GitSource, commit: &CommitId) -> GitSourceJudged {
    let generation = source.metadata.generation.unwrap_or_default();
    let commit = Some(commit.to_string());
    GitSourceJudged { generation, revision: view.revision().0, commit }
}

/// The problems that a status names.
pub(super) fn first(problems: &[Problem]) -> &[Problem] {
    &problems[..problems.len().min(PROBLEMS_MAX)]
}

/// What a source says of its newest commit.
pub(super) fn ready(source: &GitSource) -> Option<&Condition> {
    source.status.conditions.iter().find(|condition| condition.type_ == READY)
}

/// What a commit holds that its source may not.
pub(super) fn trespasses(
    view: &View,
    (name, spec): (&str, &GitSourceSpec),
    picture: &Picture,
) -> Vec<Problem> {
    let problem = |key: &Key, message: String| {
        let found = picture.object(key)?;
        Some(Problem { file: found.file, line: found.line, message, ..Problem::default() })
    };
    if name == MAIN_SOURCE {
        let text =
            format!("the source {MAIN_SOURCE} is what the configuration of the servers names");
        let own = problem(&Key::of::<GitSource>("", MAIN_SOURCE), text);
        let named = picture.of_kind(GroupKind::of::<GitSource>());
        let taken = named.filter_map(|found| {
            let key = found.object.key();
            let parent = view.get::<GitSource>("", &key.name)?.parent()?;
            let text = format!("{} is a unit of the source {parent}: take another name", key.name);
            problem(key, text)
        });
        return own.into_iter().chain(taken).collect();
    }
    picture.keys().filter_map(|key| problem(key, forbidden(name, spec, key)?)).collect()
}

/// What a commit changes that the service account of its source may not change.
pub(super) fn not_allowed<'a>(
    view: &View,
    spec: &GitSourceSpec,
    changed: impl Iterator<Item = &'a Desired>,
    deletes: &[Key],
) -> Vec<Problem> {
    let named = spec.service_account.as_deref().and_then(|named| named.split_once('/'));
    let Some((namespace, name)) = named else { return Vec::new() };
    let account = Account::new(namespace, name);
    let of_change = |desired: &Desired| {
        let Origin { file, line, .. } = &desired.origin;
        let verb = match view.object(desired.object.key()) {
            Some(_) => "update",
            None => "create",
        };
        let message = account.refusal(view, verb, desired.object.key())?;
        Some(Problem { file: file.clone(), line: *line, message, ..Problem::default() })
    };
    let of_deletion = |key: &Key| {
        let message = account.refusal(view, "delete", key)?;
        Some(Problem { message, ..Problem::default() })
    };
    changed.filter_map(of_change).chain(deletes.iter().filter_map(of_deletion)).collect()
}

/// A service account as roles and bindings know it.
struct Account {
    name: String,
    groups: [String; 3],
}

impl Account {
    fn new(namespace: &str, name: &str) -> Self {
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ];
        Self { name: format!("system:serviceaccount:{namespace}:{name}"), groups }
    }

    /// Why it may not do this to an object; nothing when it may.
    fn refusal(&self, view: &View, verb: &str, key: &Key) -> Option<String> {
        let info = view.kinds().lookup(&key.kind)?;
        let more = match key.kind.kind.as_str() {
            _ if verb == "delete" || info.group != "rbac.authorization.k8s.io" => None,
            "Role" | "ClusterRole" => Some("escalate"),
            _ => Some("bind"),
        };
        let who = Who { name: &self.name, groups: &self.groups };
        let may_not = |verb: &&str| {
            let asked = Asked {
                group: &info.group,
                resource: &info.plural,
                namespace: &key.namespace,
                name: &key.name,
                ..Asked::default()
            };
            !rbac::may(view, who, verb, What::Resource(asked))
        };
        let verb = [verb].into_iter().chain(more).find(may_not)?;
        Some(format!("{} may not {verb} {key}: bind it to a role that may", self.name))
    }
}

/// Why a source may not hold an object.
fn forbidden(name: &str, spec: &GitSourceSpec, key: &Key) -> Option<String> {
    let named = |all: &[String], text: &str| all.iter().any(|one| one == text);
    let kind = key.kind.kind.as_str();
    if key.is::<GitSource>() {
        return Some(format!("only the source {MAIN_SOURCE} says what else is followed"));
    }
    if !spec.kinds.is_empty() && !named(&spec.kinds, kind) {
        return Some(format!("the source {name} may hold {}, no {kind}", spec.kinds.join(", ")));
    }
    if spec.namespaces.is_empty() || named(&spec.namespaces, &key.namespace) {
        return None;
    }
    let allowed = spec.namespaces.join(", ");
    if !key.namespace.is_empty() {
        let other = &key.namespace;
        return Some(format!("the source {name} may hold objects of {allowed}, not of {other}"));
    }
    let own = key.is::<Namespace>() && named(&spec.namespaces, &key.name);
    (!own && !named(&spec.kinds, kind)).then(|| {
        format!("the source {name} may hold objects of {allowed}: name {kind} in its spec.kinds")
    })
}

/// What goes with the sources that go: what they hold, unless they say that nothing is deleted.
pub(super) fn left_behind(view: &View, gone: &[Key]) -> Vec<Key> {
    let sources = gone.iter().filter(|key| key.is::<GitSource>());
    let prunes = |key: &&Key| {
        let source = view.object(key).and_then(|object| object.view::<GitSource>());
        source.is_some_and(|source| !source.spec.prune.disabled)
    };
    let with_units = |key: &'_ Key| {
        let units = units::of(view, &key.name).map(|(unit, _)| unit.key().name.clone());
        units.chain([key.name.clone()]).collect::<Vec<_>>()
    };
    let names: Vec<SmolStr> = sources.filter(prunes).flat_map(with_units).collect();
    let held = names.iter().flat_map(|name| view.origins_in(name));
    held.map(|(key, _)| key.clone()).collect()
}

/// What a source says whose commit is taken; `None` for the main one.
pub(super) fn admitted(view: &View, candidate: &Candidate) -> Result<Option<Object>, ObjectError> {
    if candidate.name().is_main() {
        return Ok(None);
    }
    let mut source = source_of(view, candidate);
    source.status.observed_commit = Some(candidate.commit.to_string());
    source.status.admitted_commit = Some(candidate.commit.to_string());
    source.status.refused_commit = None;
    source.status.deadline_seconds = candidate.deadline_seconds;
    source.status.judged = Some(judged(view, &source, &candidate.commit));
    source.status.problems = first(&candidate.warnings).to_vec();
    Object::of(&source).map(Some)
}

/// What a source says whose commit is held by a freeze; `None` for the main one.
pub(super) fn held(view: &View, candidate: &Candidate) -> Result<Option<Object>, ObjectError> {
    let there = view.get::<GitSource>("", &candidate.spec.source);
    let Some(mut source) = there.filter(|_| !candidate.name().is_main()).cloned() else {
        return Ok(None);
    };
    source.status.observed_commit = Some(candidate.commit.to_string());
    source.status.refused_commit = None;
    source.status.judged = Some(judged(view, &source, &candidate.commit));
    source.status.problems = first(&candidate.warnings).to_vec();
    Object::of(&source).map(Some)
}

/// What a source says whose last good commit is taken again; `None` for the main one. What was seen
/// at its repository, and judged, is as it was.
pub(super) fn went_back(view: &View, candidate: &Candidate) -> Result<Option<Object>, ObjectError> {
    if candidate.name().is_main() {
        return Ok(None);
    }
    let mut source = source_of(view, candidate);
    source.status.admitted_commit = Some(candidate.commit.to_string());
    source.status.deadline_seconds = candidate.deadline_seconds;
    Object::of(&source).map(Some)
}

/// The commands that record why a source's commit was not taken.
pub(super) fn refused(
    view: &View,
    candidate: &Candidate,
    problems: Vec<Problem>,
    now: Timestamp,
) -> Result<Vec<Command>, ObjectError> {
    let mut source = source_of(view, candidate);
    let key = Key::of::<GitSource>("", &candidate.spec.source);
    let Some(live) = view.object(&key) else { return Ok(Vec::new()) };
    let short = candidate.commit.short();
    let why = problems.first().map(ToString::to_string).unwrap_or_default();
    let message = match problems.len() {
        0 | 1 => format!("{short} was refused: {why}"),
        n => format!("{short} was refused: {why} (and {} more)", n - 1),
    };
    source.status.observed_commit = Some(candidate.commit.to_string());
    source.status.refused_commit = Some(candidate.commit.to_string());
    source.status.judged = Some(judged(view, &source, &candidate.commit));
    source.status.problems = first(&problems).to_vec();
    set_ready(&mut source, "False", "Refused", message.clone(), now);
    let object = Object::of(&source)?;
    let event = NewEvent {
        regarding: key,
        uid: live.uid().to_owned(),
        warning: true,
        reason: "Refused".to_owned(),
        message,
        source: CONTROLLER.name.to_owned(),
    };
    let put = Op::Put { object, expect: Expect::Any, part: Part::Status };
    Ok(vec![Command::Write(vec![put, Op::Event(event)])])
}

fn source_of(view: &View, candidate: &Candidate) -> GitSource {
    let name = &candidate.spec.source;
    view.get::<GitSource>("", name).cloned().unwrap_or_else(|| GitSource::named(name))
}

pub(super) fn set_ready(
    source: &mut GitSource,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let new = Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: now.to_time(),
        observed_generation: source.metadata.generation,
    };
    condition::set(&mut source.status.conditions, new);
}

fn all(view: &View) -> BTreeSet<Key> {
    guests(view).map(|(name, _)| Key::of::<GitSource>("", name)).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let name = match change.key.is::<GitSource>() {
        true => Some(change.key.name.clone()),
        false => CommitName::parse(&change.key.name)
            .filter(|_| change.key.is::<Commit>())
            .map(|name| name.source),
    };
    let Some(name) = name else { return BTreeSet::new() };
    let version = |object: &'_ Option<Object>| {
        let source = object.as_ref().and_then(|object| object.view::<GitSource>());
        source.and_then(GitSource::parent).map(SmolStr::from)
    };
    let parent = view.get::<GitSource>("", &name).and_then(GitSource::parent).map(SmolStr::from);
    let parent = parent.or_else(|| version(&change.old));
    let waits = |source: &GitSource| !source.spec.depends_on.is_empty();
    guests(view)
        .filter(|(other, source)| {
            *other == name || parent.as_deref() == Some(*other) || waits(source)
        })
        .map(|(name, _)| Key::of::<GitSource>("", name))
        .collect()
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let Some((object, source)) = view.object(key).and_then(|o| Some((o, o.view::<GitSource>()?)))
    else {
        return Plan::default();
    };
    let mut changed = source.clone();
    say(view, &mut changed, inputs.now);
    let mut batch = Batch::default();
    if changed.status != source.status {
        batch.status(object, &changed);
    }
    batch.into_plan(None)
}

/// Says in the status of a source how its newest commit does.
fn say(view: &View, source: &mut GitSource, now: Timestamp) {
    if source.spec.is_by_unit() {
        return units::say(view, source, now);
    }
    source.status.units = None;
    let name = source.metadata.name.clone().unwrap_or_default();
    if let Some(failed) = failed(view, &name, source) {
        return set_ready(source, "False", &failed.reason, failed.message.clone(), now);
    }
    let tip = source.status.observed_commit.as_deref().and_then(CommitId::parse);
    if let Some(held) = tip.as_ref().and_then(|tip| held_tip(view, &name, tip)) {
        return set_ready(source, "False", &held.reason, held.message.clone(), now);
    }
    let waits = tip.filter(|tip| is_news(view, &name, tip, now));
    if let Some(why) = waits.and_then(|tip| precedence::waits_for(view, &name, &tip)) {
        return set_ready(source, "False", "DependencyNotReady", why, now);
    }
    if source.status.refused_commit.is_some() || !is_judged_now(source) {
        // What runs is not, or may not be, what is asked for, however well it runs.
        return;
    }
    let head = view.head_of(&name).and_then(|head| view.commit_of(&name, &head.commit));
    let Some(CommitStatus { state, reason, message, .. }) = head.map(|commit| &commit.status)
    else {
        return;
    };
    match state {
        CommitState::Healthy => set_ready(source, "True", "Healthy", message.clone(), now),
        CommitState::Admitted => set_ready(source, "False", "Admitted", message.clone(), now),
        _ => set_ready(source, "False", reason, message.clone(), now),
    }
}

/// What became of the commit that stands at a source, when its rollout failed: it stays so until
/// another one takes its place there, however well the one runs that the cluster went back to.
fn failed<'a>(view: &'a View, name: &str, source: &GitSource) -> Option<&'a CommitStatus> {
    let tip = CommitId::parse(source.status.observed_commit.as_deref()?)?;
    let status = &view.commit_of(name, &tip)?.status;
    status.failure.is_some().then_some(status)
}

/// What became of the commit that stands at a source, while a freeze holds it.
fn held_tip<'a>(view: &'a View, name: &str, tip: &CommitId) -> Option<&'a CommitStatus> {
    let status = &view.commit_of(name, tip)?.status;
    (status.state == CommitState::Held).then_some(status)
}
