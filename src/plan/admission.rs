//! A rendered commit against State: is it taken, and what does it change?

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Namespace, Service},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Condition as SourceCondition,
};

use super::{
    bound, condition, deadline,
    failure::{self, FAILED_BEFORE, RETRY_TRAILER},
    freeze, guest, order, precedence,
};
use crate::{
    kinds::{
        Apply, Commit, CommitChanges, CommitHold, CommitSpec, CommitState, CommitStatus,
        CommitTally, CommitTimings, GitSource, GitSourceSpec, Hook, HookPhase, Kinds, OnFailure,
        PruneSpec,
    },
    model::{CommitId, CommitName, GroupKind, Key, Object, ObjectError, Problem, Timestamp},
    render::{self, Picture, PruneOptions, RenderedObject},
    state::{
        Adopt, Command, Desired, ENTRY_BYTES_MAX, Ending, Expect, MAIN_SOURCE, Op, Origin,
        OutboxItem, Part, View,
    },
};
use smol_str::SmolStr;

/// What Git says of a commit, its files aside.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The commit.
    pub commit: CommitId,
    /// Who wrote it and when.
    pub spec: CommitSpec,
    /// The trailers of its message, in order.
    pub trailers: Vec<(String, String)>,
    /// When it was first seen at the remote.
    pub seen_at: Timestamp,
}

/// A commit as it was read and rendered.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The commit.
    pub commit: CommitId,
    /// What Git says of it.
    pub spec: CommitSpec,
    /// When it was first seen at the remote.
    pub seen_at: Timestamp,
    /// How long it may take to become healthy, when it or its source says so.
    pub deadline_seconds: Option<i64>,
    /// What its failure leads to, when it says so.
    pub on_failure: Option<OnFailure>,
    /// How many objects it asks for, by kind.
    pub counts: BTreeMap<String, u64>,
    /// The objects it asks for that may differ from State, by key; the others are known to be as
    /// they were.
    pub wanted: Vec<Desired>,
    /// The objects it may delete: those Git owned and it no longer holds, let through by the prune
    /// guard.
    pub deletes: Vec<Key>,
    /// The objects it no longer holds and that stay because they say so.
    pub left: Vec<Key>,
    /// Everything that is wrong with it. One is enough to refuse it whole.
    pub problems: Vec<Problem>,
    /// What its author should know though it is taken.
    pub warnings: Vec<Problem>,
    /// The commit of the same content whose rollout failed.
    pub repeats: Option<CommitId>,
    /// The freeze that it has to wait for.
    pub held: Option<CommitHold>,
}

impl Candidate {
    /// The commit as its source has it.
    pub fn name(&self) -> CommitName {
        CommitName::new(&self.spec.source, &self.commit)
    }
}

/// Whether a source's tip is neither what runs, nor what was refused or failed before, nor held
/// still.
pub fn is_news(view: &View, source: &str, tip: &CommitId, now: Timestamp) -> bool {
    if source != MAIN_SOURCE {
        return guest::is_news(view, source, tip, now);
    }
    if view.head_of(source).is_some_and(|head| head.commit == *tip) {
        return false;
    }
    let known = view.get::<Commit>("", tip.as_str());
    known.map(|commit| &commit.status).is_none_or(|status| match status.state {
        CommitState::Refused => false,
        CommitState::Held => status.hold.as_ref().is_none_or(|hold| hold.until_at <= now.0),
        _ => status.failure.is_none(),
    })
}

/// A commit's rendered files against a View. `suspects` are the keys that may differ from State
/// (all when absent); `problems` were found while its files were read.
pub fn candidate(
    view: &View,
    source: &GitSourceSpec,
    facts: Facts,
    picture: &Picture,
    suspects: Option<&BTreeSet<Key>>,
    mut problems: Vec<Problem>,
) -> Candidate {
    let Facts { commit, spec, trailers, seen_at } = facts;
    let name = spec.source.as_str();
    let mut custom = custom_keys(view, name);
    let kinds = kinds(view, name, picture);
    let picture = &picture.with_custom(&kinds, &mut custom);
    // Hooks run again, though nothing of them changes.
    custom.extend(view.hooks().filter(|key| view.origin_in(name, key).is_some()).cloned());
    let suspects = suspects.map(|keys| keys.union(&custom).cloned().collect::<BTreeSet<_>>());
    let suspects = suspects.as_ref();
    let options = options(view, name);
    problems.extend(picture.problems(&options));
    problems.extend(guest::trespasses(view, (name, source), picture));
    problems.extend(freeze::problems(name, picture, seen_at));
    if name == MAIN_SOURCE {
        problems.extend(precedence::problems(picture));
    }
    let (mut deletes, mut left) = (Vec::new(), Vec::new());
    if problems.is_empty() {
        match prune(view, name, picture, suspects, &trailers, &source.prune) {
            Ok(keys) => (deletes, left) = keys,
            Err(problem) => problems.push(problem),
        }
    }
    let on_failure = failure::on_failure(&trailers).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let mut wanted = wanted(picture, name, &commit, suspects);
    wanted.retain(|desired| is_applied(view, desired));
    let touched = wanted.iter().filter(|desired| differs(view, desired));
    let deadline = deadline::of(view, source, &trailers, touched, deletes.iter());
    let deadline = deadline.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    problems.extend(order::problems(view, name, picture, &wanted));
    problems.extend(wanted.iter().filter_map(|desired| view.claimed(desired)));
    if name != MAIN_SOURCE {
        let changed = wanted.iter().filter(|desired| differs(view, desired));
        problems.extend(guest::not_allowed(view, source, changed, &deletes));
    }
    let mut warnings = picture.warnings();
    warnings.extend(left.iter().filter_map(|key| stays(view, key)));
    if problems.is_empty() {
        problems.extend(bound::broken_rules(view, &kinds, &wanted, |d| differs(view, d)));
        let judged = bound::judge(view, &mut wanted, &deletes, seen_at, |d| differs(view, d));
        problems.extend(judged.problems);
        warnings.extend(judged.warnings);
    }
    let repeats = failure::repeated(view, picture, &CommitName::new(name, &commit), &trailers);
    let repeats = repeats.filter(|_| problems.is_empty());
    problems.extend(repeats.as_ref().map(|earlier| failure::repeats(view, name, earlier)));
    problems.sort();
    let held = freeze::hold(view, (name, picture), (&wanted, &deletes), &trailers, seen_at);
    Candidate {
        held: held.filter(|_| problems.is_empty()),
        repeats,
        spec,
        seen_at,
        deadline_seconds: deadline,
        on_failure,
        counts: picture.kinds().map(|(kind, count)| (kind.to_string(), count)).collect(),
        wanted,
        deletes,
        left,
        problems,
        warnings,
        commit,
    }
}

/// The kinds that there will be once the commit is what runs of its source.
pub fn kinds(view: &View, source: &str, picture: &Picture) -> Kinds {
    let mut kinds = view.kinds().clone();
    let owned = view.origins_of(&GroupKind::of::<CustomResourceDefinition>());
    let own = owned.filter(|(key, origin)| origin.source == source && !picture.contains(key));
    own.for_each(|(key, _)| kinds.forget(key));
    for found in picture.definitions() {
        let stored = view.list::<CustomResourceDefinition>(None).map(|(_, other)| other);
        kinds.promise(&found.object, view.object(found.object.key()), stored);
    }
    kinds
}

/// The objects of custom kinds that a source holds.
fn custom_keys(view: &View, source: &str) -> BTreeSet<Key> {
    let kinds: Vec<GroupKind> = view.kinds().custom().map(|info| info.group_kind()).collect();
    let own = |(_, origin): &(&Key, &Origin)| origin.source == source;
    let keys = |kind: &GroupKind| view.origins_of(kind).filter(own).map(|(key, _)| key.clone());
    kinds.iter().flat_map(keys).collect()
}

/// What the commits of a source are rendered against.
pub fn options(view: &View, source: &str) -> render::Options {
    render::Options { live_namespaces: foreign_namespaces(view, source) }
}

/// The objects of a commit: those of `suspects`, or all.
fn wanted(
    picture: &Picture,
    source: &str,
    commit: &CommitId,
    suspects: Option<&BTreeSet<Key>>,
) -> Vec<Desired> {
    let source = SmolStr::new(source);
    let desired = |found: RenderedObject| Desired {
        object: found.object,
        origin: Origin {
            source: source.clone(),
            commit: commit.clone(),
            file: found.file,
            line: found.line,
            made_by: found.made_by,
            open: found.open,
            ended: None,
            digest: format!("{:032x}", found.digest),
        },
    };
    match suspects {
        Some(keys) => keys.iter().filter_map(|key| picture.object(key)).map(desired).collect(),
        None => picture.objects().map(|(_, found)| desired(found)).collect(),
    }
}

/// Namespaces that exist and that no commit of this source made: they stay whatever it holds.
fn foreign_namespaces(view: &View, source: &str) -> BTreeSet<String> {
    view.list::<Namespace>(None)
        .filter(|(object, _)| view.origin_in(source, object.key()).is_none())
        .map(|(object, _)| object.key().name.to_string())
        .collect()
}

/// Whether an object is written: some say that only one that is not there is, or none.
fn is_applied(view: &View, desired: &Desired) -> bool {
    match crate::kinds::order(&desired.object).apply {
        Apply::Always => true,
        Apply::IfNotPresent => view.object(desired.object.key()).is_none_or(Object::is_terminating),
        Apply::Never => false,
    }
}

/// That an object stays though its file is gone.
fn stays(view: &View, key: &Key) -> Option<Problem> {
    let origin = view.origin(key)?;
    let message = format!("{key} stays, as its annotations ask for; no commit owns it any more");
    Some(Problem { file: origin.file.clone(), line: origin.line, message, ..Problem::default() })
}

/// What the commit deletes, and what stays because it says so: of `suspects`, or of all that its
/// source holds; with a source that is no longer followed, what that one holds.
fn prune(
    view: &View,
    source: &str,
    picture: &Picture,
    suspects: Option<&BTreeSet<Key>>,
    trailers: &[(String, String)],
    spec: &PruneSpec,
) -> Result<(Vec<Key>, Vec<Key>), Problem> {
    let is_gone = |key: &&Key| view.origin_in(source, key).is_some() && !picture.contains(key);
    let mut gone: Vec<Key> = match suspects {
        Some(keys) => keys.iter().filter(is_gone).cloned().collect(),
        None => view.origins_in(source).map(|(key, _)| key).filter(is_gone).cloned().collect(),
    };
    let kept = |key: &Key| view.object(key).is_some_and(|object| crate::kinds::order(object).keep);
    let left: Vec<Key> = gone.extract_if(.., |key| kept(key)).collect();
    if gone.is_empty() {
        return Ok((gone, left));
    }
    let of_guests = guest::left_behind(view, &gone);
    let owned = view.origins_in(source).count() + of_guests.len();
    gone.extend(of_guests);
    let usual = PruneOptions::default();
    let options = PruneOptions {
        share_percent_max: spec
            .share_percent_max
            .map_or(usual.share_percent_max, |share| share as usize),
        disabled: spec.disabled,
        ..usual
    };
    let deletes = render::prune_guard(gone, (owned, picture.len()), trailers, options)?;
    Ok((deletes, left))
}

/// The command that writes what was found at the remote into the GitSource; `None` when it says so
/// already.
///
/// `look` is how the last look ended: one word and one sentence when it failed.
pub fn tell_source(
    view: &View,
    (name, spec): (&str, &GitSourceSpec),
    tip: Option<&CommitId>,
    look: Result<(), (&str, String)>,
    now: Timestamp,
) -> Result<Option<Command>, ObjectError> {
    let before = view.get::<GitSource>("", name);
    if before.is_none() && name != MAIN_SOURCE {
        return Ok(None);
    }
    let mut source = before.cloned().unwrap_or_else(|| GitSource::named(name));
    if name == MAIN_SOURCE {
        source.spec = spec.clone();
    }
    if let Some(tip) = tip {
        source.status.observed_commit = Some(tip.to_string());
    }
    if !source.spec.is_by_unit() {
        source.status.admitted_commit = view.head_of(name).map(|h| h.commit.to_string());
    }
    let (status, reason, message) = match look {
        Ok(()) => ("True", "Fetched", String::new()),
        Err((reason, message)) => ("False", reason, message),
    };
    let ready = SourceCondition {
        type_: "SourceReady".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: now.to_time(),
        observed_generation: None,
    };
    condition::set(&mut source.status.conditions, ready);
    if before.is_some_and(|b| b.spec == source.spec && b.status == source.status) {
        return Ok(None);
    }
    let object = Object::of(&source)?;
    let put = |part| Op::Put { object: object.clone(), expect: Expect::Any, part };
    Ok(Some(Command::Write(match name {
        MAIN_SOURCE => vec![put(Part::Main), put(Part::Status)],
        _ => vec![put(Part::Status)],
    })))
}

/// Everything to propose so that the commit becomes the head, in order, one entry each; the last
/// makes it visible.
pub fn admit(
    view: &View,
    candidate: &Candidate,
    now: Timestamp,
) -> Result<Vec<Command>, ObjectError> {
    let changed = changed(view, candidate);
    let told = guest::admitted(view, candidate)?;
    if let Some(record) = as_it_is(view, candidate, &changed)? {
        return Ok(adopt(view, candidate, (&record, told.as_ref()), &changed));
    }
    let (added, changed_n) = changed.iter().fold((0, 0), |(added, changed), desired| {
        let known = view.origin(desired.object.key()).is_some();
        if known { (added, changed + 1) } else { (added + 1, changed) }
    });
    let changes =
        CommitChanges { added, changed: changed_n, pruned: candidate.deletes.len() as u64 };
    let status = CommitStatus {
        state: CommitState::Admitted,
        changes,
        timings: CommitTimings {
            seen_at: Some(first_seen(view, candidate)),
            admitted_at: Some(now.0),
            ..CommitTimings::default()
        },
        ..status_of(view, candidate)
    };
    let mut commands = freeze::displaced(view, &candidate.name())?;
    let record = record(candidate, status)?;
    commands.extend(adopt(view, candidate, (&record, told.as_ref()), &changed));
    Ok(commands)
}

/// The record of a commit that runs, when it was judged again and changes nothing.
fn as_it_is(
    view: &View,
    candidate: &Candidate,
    changed: &[&Desired],
) -> Result<Option<Object>, ObjectError> {
    let runs = view.head_of(&candidate.spec.source).is_some_and(|h| h.commit == candidate.commit);
    let same = runs && changed.is_empty() && candidate.deletes.is_empty();
    let known = view.commit(&candidate.name()).filter(|_| same);
    known.map(|known| record(candidate, known.status.clone())).transpose()
}

/// When a commit was first seen, in milliseconds: one that was held is looked at again.
fn first_seen(view: &View, candidate: &Candidate) -> i64 {
    let known = view.commit(&candidate.name());
    known.and_then(|c| c.status.timings.seen_at).unwrap_or(candidate.seen_at.0)
}

/// A commit as it is recorded while a freeze holds it.
pub(super) fn held(
    view: &View,
    candidate: &Candidate,
    hold: &CommitHold,
) -> Result<Object, ObjectError> {
    let status = CommitStatus {
        state: CommitState::Held,
        reason: "Frozen".to_owned(),
        message: freeze::words(hold),
        hold: Some(hold.clone()),
        timings: CommitTimings {
            seen_at: Some(first_seen(view, candidate)),
            ..CommitTimings::default()
        },
        ..status_of(view, candidate)
    };
    record(candidate, status)
}

/// Facts with which a commit that ran before is taken again: that needs nobody's approval.
pub fn again(facts: &mut Facts) {
    for trailer in [render::TRAILER, RETRY_TRAILER, freeze::OVERRIDE_TRAILER] {
        facts.trailers.push((trailer.to_owned(), "yes".to_owned()));
    }
}

fn hook(desired: &Desired) -> Option<Hook> {
    crate::kinds::order(&desired.object).hook
}

/// Whether a commit runs its hooks: with whatever it changes, wherever its objects stand.
pub fn runs_hooks(view: &View, wanted: &[Desired], deletes: &[Key]) -> bool {
    let is_new = |desired: &Desired| {
        let key = desired.object.key();
        let said = view.origin(key).is_some_and(|o| o.digest == desired.origin.digest);
        let done = view.origin(key).is_some_and(|o| o.ended.is_some());
        !said || !done && view.object(key).is_none_or(Object::is_terminating)
    };
    !deletes.is_empty() || wanted.iter().any(is_new)
}

/// Everything to propose so that a commit that ran before becomes the head once more, because `bad`
/// failed. What it was stays written: when it was admitted and healthy.
pub fn go_back(
    view: &View,
    candidate: &Candidate,
    bad: &CommitId,
) -> Result<Vec<Command>, ObjectError> {
    let candidate = &without_hooks(view, candidate);
    let changed = changed(view, candidate);
    let before = view.commit(&candidate.name());
    let mut status = before.map(|c| c.status.clone()).unwrap_or_else(|| status_of(view, candidate));
    status.state = CommitState::Progressing;
    status.reason = "WentBack".to_owned();
    // What it was before says nothing of now.
    status.conditions = Vec::new();
    status.message = format!("the cluster went back to it: the rollout of {} failed", bad.short());
    let (record, told) = (record(candidate, status)?, guest::went_back(view, candidate)?);
    Ok(adopt(view, candidate, (&record, told.as_ref()), &changed))
}

/// A commit that is gone back to, whose hooks have run before; what was to run when the other one
/// failed runs now.
fn without_hooks(view: &View, candidate: &Candidate) -> Candidate {
    let mut candidate = candidate.clone();
    for desired in candidate.wanted.iter_mut().filter(|desired| hook(desired).is_some()) {
        desired.origin.ended = Some(Ending::Succeeded);
    }
    candidate.deletes.retain(|key| {
        let live = view.object(key).filter(|live| Ending::of(live).is_none());
        let hook = live.and_then(|live| crate::kinds::order(live).hook);
        hook.is_none_or(|hook| hook.phase != HookPhase::SyncFail)
    });
    candidate
}

/// Whether a commit is what State says already.
pub(super) fn changes_nothing(view: &View, candidate: &Candidate) -> bool {
    candidate.deletes.is_empty() && candidate.left.is_empty() && changed(view, candidate).is_empty()
}

/// What a commit changes, in the order in which it is applied.
fn changed<'a>(view: &View, candidate: &'a Candidate) -> Vec<&'a Desired> {
    let hooks = runs_hooks(view, &candidate.wanted, &candidate.deletes);
    let is_due = |d: &&Desired| match hook(d) {
        Some(_) => hooks,
        None => differs(view, d),
    };
    let mut changed: Vec<&Desired> = candidate.wanted.iter().filter(is_due).collect();
    changed.sort_by_key(|desired| rank(&desired.object));
    changed
}

/// The difference in its parts.
fn adopt(
    view: &View,
    candidate: &Candidate,
    (record, told): (&Object, Option<&Object>),
    changed: &[&Desired],
) -> Vec<Command> {
    let source = candidate.spec.source.as_str();
    let head = view.head_of(source).map(|h| h.commit.clone());
    let chunks = chunks(changed);
    let parts = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    let adopt = |(i, upserts): (usize, Vec<Desired>)| {
        Command::Adopt(Box::new(Adopt {
            source: source.into(),
            commit: candidate.commit.clone(),
            base: head.clone(),
            record: record.clone(),
            told: told.cloned(),
            upserts,
            deletes: if i == 0 { candidate.deletes.clone() } else { Vec::new() },
            left: if i == 0 { candidate.left.clone() } else { Vec::new() },
            part: u32::try_from(i).unwrap_or(u32::MAX),
            parts,
        }))
    };
    chunks.into_iter().enumerate().map(adopt).collect()
}

/// The commands that record why a commit was not taken; nothing else changes.
pub fn refuse(
    view: &View,
    candidate: &Candidate,
    problems: Vec<Problem>,
    now: Timestamp,
) -> Result<Vec<Command>, ObjectError> {
    let mut commands = Vec::new();
    if !candidate.name().is_main() {
        commands = guest::refused(view, candidate, problems.clone(), now)?;
        let known = view.commit(&candidate.name());
        if known.is_some_and(|known| known.status.timings.admitted_at.is_some()) {
            // It was taken before, and what became of that stays written.
            return Ok(commands);
        }
    }
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    let status = CommitStatus {
        state: CommitState::Refused,
        reason: if candidate.repeats.is_some() { FAILED_BEFORE } else { "Invalid" }.to_owned(),
        message: match problems.len() {
            0 | 1 => first,
            n => format!("{first} (and {} more)", n - 1),
        },
        problems,
        timings: CommitTimings {
            seen_at: Some(candidate.seen_at.0),
            failed_at: Some(now.0),
            ..CommitTimings::default()
        },
        ..status_of(view, candidate)
    };
    let object = record(candidate, status)?;
    let put = |part| Op::Put { object: object.clone(), expect: Expect::Any, part };
    commands.push(Command::Write(vec![put(Part::Main), put(Part::Status)]));
    commands.push(Command::Enqueue(OutboxItem::Note(candidate.name())));
    Ok(commands)
}

/// The commit as an object, as a plan would show it.
fn record(candidate: &Candidate, status: CommitStatus) -> Result<Object, ObjectError> {
    let mut commit = Commit::named(&candidate.name().to_string());
    commit.spec = candidate.spec.clone();
    commit.status = status;
    Object::of(&commit)
}

fn status_of(view: &View, candidate: &Candidate) -> CommitStatus {
    // One that ran before is counted again, not anew.
    let mut before = CommitTally::default();
    if let Some(known) = view.commit(&candidate.name()) {
        before.add(&known.status);
    }
    CommitStatus {
        before: Some(before).filter(|before| !before.is_empty()),
        counts: candidate.counts.clone(),
        warnings: candidate.warnings.clone(),
        deadline_seconds: candidate.deadline_seconds,
        on_failure: candidate.on_failure,
        ..CommitStatus::default()
    }
}

/// Whether adopting this object would change anything.
fn differs(view: &View, desired: &Desired) -> bool {
    let key = desired.object.key();
    let same = |o: &crate::state::Origin| {
        o.source == desired.origin.source
            && o.digest == desired.origin.digest
            && o.file == desired.origin.file
            && o.line == desired.origin.line
            && o.made_by == desired.origin.made_by
            && o.open == desired.origin.open
    };
    // What did its work and was taken away is not made again as long as it says the same.
    let is_done = |o: &crate::state::Origin| {
        o.ended.is_some() && o.source == desired.origin.source && o.digest == desired.origin.digest
    };
    let away = view.object(key).is_none_or(Object::is_terminating);
    let origin = view.origin(key);
    !origin.is_some_and(|o| if away { is_done(o) } else { same(o) })
}

/// The order in which State takes the objects of a commit: a kind before its objects, what asks for
/// an address or a node port before what takes any.
pub(super) fn rank(object: &Object) -> u8 {
    let Some(service) = object.read::<Service>() else {
        return u8::from(!object.key().is::<CustomResourceDefinition>());
    };
    let spec = service.spec.as_ref();
    let has_ports =
        spec.is_some_and(|spec| spec.ports.iter().flatten().all(|port| port.node_port.is_some()));
    match spec.and_then(|spec| spec.cluster_ip.as_ref()) {
        Some(_) if has_ports => 1,
        Some(_) => 2,
        None => 3,
    }
}

/// Splits the upserts so that each part stays below half an entry; there is always one part.
fn chunks(changed: &[&Desired]) -> Vec<Vec<Desired>> {
    let mut chunks = vec![Vec::new()];
    let mut bytes = 0;
    for desired in changed {
        let size = desired.object.bytes().len() + 256;
        if bytes + size > ENTRY_BYTES_MAX / 2 && bytes > 0 {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = chunks.last_mut() {
            last.push((*desired).clone());
        }
    }
    chunks
}
