//! Sources that are taken by unit: each folder directly below the path is a source of its own.
//!
//! The source itself holds nothing. It says which units there are and what they follow, lets those
//! go whose folder is gone, and says how they do. All else of a unit is what it is of any source
//! that Git names ([`guest`]; docs/adr/0035-units.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Controller, Inputs, Plan,
    admission::Candidate,
    batch::{Batch, controlled_by},
    failure::RETRY_TRAILER,
    freeze, guest, precedence,
};
use crate::{
    kinds::{GitSource, GitSourceUnits, PruneSpec},
    model::{CommitId, Key, Object, ObjectError, Problem, Timestamp},
    render::{self, PruneOptions},
    state::{Change, Command, Expect, Op, Part, View},
};

/// Most units of one source. Each is an object with commits of its own, and all of them are looked
/// at whenever a commit of one ends; folders beyond are refused by name.
pub const UNITS_MAX: usize = 2_000;

/// What keeps a unit that goes until others have taken what moved to them.
const FINALIZER: &str = "mainstay.io/unit";

/// Most objects that one entry deletes: a key is some 100 bytes, and an entry may hold 1 MiB.
const DELETES_MAX: usize = 2_000;

/// Keeps what units follow as their source says it.
pub(super) const CONTROLLER: Controller =
    Controller { name: "unit-controller", affected, all, plan: follow };

/// What stands in one folder of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folder {
    /// Whether there is a manifest in it.
    pub is_used: bool,
    /// The folders with a kustomization: itself, or below.
    pub built: BTreeSet<String>,
    /// The paths that its kustomizations name.
    pub names: BTreeSet<String>,
}

/// What a commit has directly in the path of a source.
#[derive(Clone, Debug)]
pub struct Tip {
    /// The commit.
    pub commit: CommitId,
    /// Its folders, by name.
    pub folders: BTreeMap<String, Arc<Folder>>,
    /// The paths of manifests beside the folders.
    pub beside: Vec<String>,
    /// The trailers of its message.
    pub trailers: Vec<(String, String)>,
    /// What of it cannot be used.
    pub problems: Vec<Problem>,
}

impl Tip {
    /// The folders that are units: those with manifests, but for the ones that are there for
    /// others, whose kustomizations name theirs.
    pub fn units(&self) -> BTreeSet<&str> {
        let built = |(name, folder): (&'_ String, &'_ Arc<Folder>)| {
            folder.built.iter().map(|path| (path.clone(), name.clone())).collect::<Vec<_>>()
        };
        let holders: BTreeMap<String, String> = self.folders.iter().flat_map(built).collect();
        let bases = |name: &str| -> BTreeSet<&str> {
            let named = self.folders.get(name).into_iter().flat_map(|folder| &folder.names);
            let holders = named.filter_map(|path| holders.get(path)).map(String::as_str);
            let found: BTreeSet<&str> = holders.filter(|holder| *holder != name).collect();
            found
                .into_iter()
                .filter_map(|base| Some(self.folders.get_key_value(base)?.0.as_str()))
                .collect()
        };
        let names = || self.folders.keys().map(String::as_str);
        let named: BTreeSet<&str> = names().flat_map(bases).collect();
        // From those that nobody names: two that name each other are not left out without a word.
        let mut next: Vec<&str> = names().filter(|name| !named.contains(name)).collect();
        let mut reached = BTreeSet::new();
        while let Some(name) = next.pop() {
            next.extend(bases(name).into_iter().filter(|base| reached.insert(*base)));
        }
        let used = self.folders.iter().filter(|(_, folder)| folder.is_used);
        used.map(|(name, _)| name.as_str()).filter(|name| !reached.contains(name)).collect()
    }

    /// Whether its message asks for what was refused, was held or has failed to be looked at again.
    pub fn asks_again(&self) -> bool {
        let asks = |key: &str| {
            let known = [render::TRAILER, RETRY_TRAILER, freeze::OVERRIDE_TRAILER];
            known.iter().any(|trailer| trailer.eq_ignore_ascii_case(key))
        };
        self.trailers.iter().any(|(key, _)| asks(key))
    }
}

/// The units of a source, by name; those that go are left out.
pub fn of<'a>(
    view: &'a View,
    source: &'a str,
) -> impl Iterator<Item = (&'a Object, &'a GitSource)> {
    owned(view, source).filter(|(object, _)| !object.is_terminating())
}

fn owned<'a>(view: &'a View, source: &'a str) -> impl Iterator<Item = (&'a Object, &'a GitSource)> {
    let object = view.object(&Key::of::<GitSource>("", source));
    let owned = object.into_iter().flat_map(|object| view.dependents_of(object.uid()));
    owned
        .filter_map(|object| Some((object, object.view::<GitSource>()?)))
        .filter(move |(_, unit)| unit.parent() == Some(source))
}

/// Whether commits of a source are worked off by whoever follows another: it is that one, or a unit
/// of it.
pub fn belongs(view: &View, source: &str, to: &str) -> bool {
    let parent = || view.get::<GitSource>("", source)?.parent();
    source == to || parent() == Some(to)
}

/// What a tip makes of the units of a source.
#[derive(Debug, Default)]
pub struct Planned {
    /// What makes, changes and ends units; each to be proposed by itself.
    pub commands: Vec<Command>,
    /// What is wrong with the tip beside its units.
    pub problems: Vec<Problem>,
    /// Whether a unit cannot be made before the one of its name is gone.
    pub again: bool,
}

/// Says what becomes of the units of a source with a tip.
pub fn plan(view: &View, source: &str, tip: &Tip, now: Timestamp) -> Result<Planned, ObjectError> {
    let mut planned = Planned { problems: tip.problems.clone(), ..Planned::default() };
    let Some(object) = view.object(&Key::of::<GitSource>("", source)) else { return Ok(planned) };
    let Some(parent) = object.view::<GitSource>() else { return Ok(planned) };
    planned.problems.extend(tip.beside.iter().map(|path| beside(source, path)));
    let mut wanted = BTreeSet::new();
    let folders = tip.units();
    let has_room = folders.len() <= UNITS_MAX;
    if !has_room {
        let message = format!(
            "has {} folders that would be units, more than {UNITS_MAX}: no further unit is made; \
             divide them among several sources",
            folders.len()
        );
        planned.problems.push(problem(parent.spec.path.clone(), message));
    }
    let mut batch = Vec::new();
    for folder in folders {
        let path = parent.spec.path_of(folder);
        let Some(name) = GitSource::unit_name(source, folder) else {
            planned.problems.push(problem(path, misnamed(source, folder)));
            continue;
        };
        let mut unit = GitSource::named(&name);
        unit.metadata.owner_references = Some(vec![controlled_by(object)]);
        unit.spec = parent.spec.of_unit(folder);
        match view.object(&Key::of::<GitSource>("", &name)) {
            None if has_room => batch.push(put(&unit, Expect::Absent)?),
            None => {}
            Some(live) if !is_unit_of(live, source) => {
                planned.problems.push(problem(path, clash(view, live)));
            }
            Some(live) if live.is_terminating() => planned.again = true,
            Some(live) => batch.extend(followed(live, &unit)?),
        }
        wanted.insert(name);
    }
    planned
        .commands
        .extend(batch.chunks(super::ENTRY_COMMANDS_MAX).map(|ops| Command::Write(ops.to_vec())));
    let mut gone = Vec::new();
    for (unit, _) in of(view, source).filter(|(unit, _)| !wanted.contains(unit.key().name.as_str()))
    {
        let name = unit.key().name.as_str();
        match freeze::keeps(view, name, &pruned(view, name), &tip.trailers, now) {
            Some(hold) => {
                let message = format!("its folder is gone, and {}", freeze::words(&hold));
                planned.problems.push(problem(name.to_owned(), message));
            }
            None => gone.push(unit),
        }
    }
    match guard(view, source, &parent.spec.prune, &gone, &tip.trailers) {
        Ok(()) => {
            let ends: Result<Vec<_>, _> = gone.into_iter().map(end).collect();
            planned.commands.extend(ends?);
        }
        Err(found) => planned.problems.push(found),
    }
    Ok(planned)
}

fn problem(file: String, message: String) -> Problem {
    Problem { file, message, ..Problem::default() }
}

/// A manifest that is in no folder: there would be no folder to take back when it fails.
fn beside(source: &str, path: &str) -> Problem {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folder = if folder.is_empty() { "the top of the repository" } else { folder };
    let message = match render::Layout::is_kustomization(path) {
        true => format!(
            "makes one of the folders in {folder}, which the source {source} takes each by \
             itself: take it away, or take `atomic: unit` out of the source"
        ),
        false => format!(
            "is beside the folders in {folder}, which are the units of the source {source}, and is \
             not read: move it into one of them"
        ),
    };
    Problem { file: path.to_owned(), line: 1, message, ..Problem::default() }
}

fn misnamed(source: &str, folder: &str) -> String {
    format!(
        "its unit would be the source {source}-{folder}, which is no name of an object: rename the \
         folder to lower-case letters, digits, `-` and `.`"
    )
}

/// That a name is taken.
fn clash(view: &View, live: &Object) -> String {
    let name = &live.key().name;
    let parent = live.view::<GitSource>().and_then(GitSource::parent);
    match (parent, view.origin(live.key())) {
        (Some(other), _) => format!(
            "its unit would be the source {name}, which is one of the source {other}: rename the \
             folder"
        ),
        (None, Some(origin)) => format!(
            "its unit would be the source {name}, which Git names ({}): rename one of them",
            origin.place()
        ),
        (None, None) => {
            format!(
                "its unit would be the source {name}, which is there already: rename the folder"
            )
        }
    }
}

fn is_unit_of(object: &Object, source: &str) -> bool {
    object.view::<GitSource>().is_some_and(|unit| unit.parent() == Some(source))
}

fn put(unit: &GitSource, expect: Expect) -> Result<Op, ObjectError> {
    Ok(Op::Put { object: Object::of(unit)?, expect, part: Part::Main })
}

/// What makes a unit follow what its source says, where it does not.
fn followed(live: &Object, wanted: &GitSource) -> Result<Option<Op>, ObjectError> {
    let Some(unit) = live.view::<GitSource>().filter(|unit| unit.spec != wanted.spec) else {
        return Ok(None);
    };
    let unit = GitSource { spec: wanted.spec.clone(), ..unit.clone() };
    put(&unit, Expect::At(live.revision())).map(Some)
}

/// Marks a unit whose folder is gone: from then on others may take what it holds, and nobody
/// follows it.
fn end(live: &Object) -> Result<Command, ObjectError> {
    let mut unit = live.view::<GitSource>().cloned().unwrap_or_default();
    unit.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    let (key, uid) = (live.key().clone(), live.uid().to_owned());
    let mark = put(&unit, Expect::At(live.revision()))?;
    Ok(Command::Write(vec![mark, Op::Delete { key, uid, grace_seconds: None }]))
}

/// Whether units may go with what they hold, by the guard of their source.
fn guard(
    view: &View,
    source: &str,
    spec: &PruneSpec,
    gone: &[&Object],
    trailers: &[(String, String)],
) -> Result<(), Problem> {
    if gone.is_empty() || spec.disabled {
        return Ok(());
    }
    let with_all = |unit: &Object| -> Vec<Key> {
        let held = pruned(view, &unit.key().name).into_iter();
        held.chain([unit.key().clone()]).collect()
    };
    let owned: usize = of(view, source).map(|(unit, _)| with_all(unit).len()).sum();
    let keys: Vec<Key> = gone.iter().flat_map(|unit| with_all(unit)).collect();
    let (usual, stays) = (PruneOptions::default(), owned - keys.len());
    let share_percent_max =
        spec.share_percent_max.map_or(usual.share_percent_max, |share| share as usize);
    let options = PruneOptions { share_percent_max, ..usual };
    render::prune_guard(keys, (owned, stays), trailers, options).map(drop).map_err(|found| {
        let names: Vec<&str> = gone.iter().map(|unit| unit.key().name.as_str()).collect();
        let message = format!("{} (the folders of {} are gone)", found.message, names.join(", "));
        Problem { message, ..found }
    })
}

/// What a unit holds and does not ask to keep.
fn pruned(view: &View, unit: &str) -> Vec<Key> {
    let keeps = |key: &Key| view.object(key).is_some_and(|o| crate::kinds::order(o).keep);
    let held = view.origins_in(unit).map(|(key, _)| key).filter(|key| !keeps(key));
    held.cloned().collect()
}

/// The commands with which the units of a source are gone that go, and what they still hold.
pub fn finish(view: &View, source: &str) -> Result<Vec<Command>, ObjectError> {
    let mut commands = Vec::new();
    for (object, unit) in owned(view, source).filter(|(object, _)| object.is_terminating()) {
        let mut gone = match unit.spec.prune.disabled {
            true => Vec::new(),
            false => pruned(view, &object.key().name),
        };
        gone.retain(|key| view.object(key).is_some_and(|object| !object.is_terminating()));
        render::apply_order(&mut gone);
        let delete =
            |key: &Key| Op::Delete { key: key.clone(), uid: String::new(), grace_seconds: None };
        let mut ops: Vec<Op> = gone.iter().rev().map(delete).collect();
        // What the unit held is nobody's once it is gone, and then deleted.
        let last = ops.split_off(ops.len().saturating_sub(DELETES_MAX));
        commands.extend(ops.chunks(DELETES_MAX).map(|ops| Command::Write(ops.to_vec())));
        let let_go = release(object)?;
        commands.push(Command::Write([let_go].into_iter().chain(last).collect()));
    }
    Ok(commands)
}

/// Lets an object go that is only kept by us.
fn release(object: &Object) -> Result<Op, ObjectError> {
    let mut unit = object.view::<GitSource>().cloned().unwrap_or_default();
    unit.metadata.finalizers = None;
    put(&unit, Expect::At(object.revision()))
}

/// The objects that a commit wants and siblings of its unit hold, when nothing else is wrong with
/// it: of siblings that are looked at too, which may let go of them.
pub fn claims(
    view: &View,
    candidate: &Candidate,
    looked_at: &BTreeSet<String>,
) -> Option<BTreeSet<Key>> {
    let claimed = candidate.wanted.iter().filter(|desired| view.claimed(desired).is_some());
    let keys: BTreeSet<Key> = claimed.map(|desired| desired.object.key().clone()).collect();
    let may_go =
        |key: &Key| view.origin(key).is_some_and(|o| looked_at.contains(o.source.as_str()));
    let only = keys.len() == candidate.problems.len() && keys.iter().all(may_go);
    (only && !keys.is_empty()).then_some(keys)
}

/// Leaves to others what they take over instead of deleting it.
pub fn hand_over(candidate: &mut Candidate, taken: &BTreeSet<Key>) {
    candidate.left.extend(candidate.deletes.extract_if(.., |key| taken.contains(key)));
}

/// Whether judging a commit of a unit brings nothing to write: it is refused for what it was
/// refused for already; or nothing is wrong with it, it changes nothing, and it was only looked at
/// because it might (`maybe`).
pub fn is_known(view: &View, candidate: &Candidate, maybe: bool) -> bool {
    let name = candidate.spec.source.as_str();
    let Some(unit) = view.get::<GitSource>("", name) else { return true };
    let status = &unit.status;
    let judged =
        status.judged.as_ref().and_then(|judged| CommitId::parse(judged.commit.as_deref()?));
    if !maybe || !guest::is_judged(name, unit) {
        return false;
    }
    if candidate.repeats.is_some() && candidate.repeats == judged {
        return true;
    }
    if status.refused_commit.is_some() {
        return guest::first(&candidate.problems) == status.problems.as_slice()
            && !candidate.problems.is_empty();
    }
    let runs = view.head_of(name).is_some_and(|head| Some(&head.commit) == judged.as_ref());
    runs && candidate.problems.is_empty() && super::admission::changes_nothing(view, candidate)
}

/// How a tip ended for its source.
#[derive(Debug)]
pub enum Ended {
    /// All units have looked at it; beside them this is wrong with it.
    Seen(Vec<Problem>),
    /// No unit looks at it, for it is not to be trusted.
    Refused(Vec<Problem>),
}

/// The command that records what became of a tip; `None` when that stands there.
pub fn ended(
    view: &View,
    source: &str,
    tip: &CommitId,
    ended: Ended,
) -> Result<Option<Command>, ObjectError> {
    let Some(before) = view.get::<GitSource>("", source) else { return Ok(None) };
    let mut after = before.clone();
    let status = &mut after.status;
    status.observed_commit = Some(tip.to_string());
    status.refused_commit = None;
    let problems = match ended {
        Ended::Seen(problems) => {
            status.admitted_commit = Some(tip.to_string());
            problems
        }
        Ended::Refused(problems) => {
            status.refused_commit = Some(tip.to_string());
            problems
        }
    };
    status.problems = guest::first(&problems).to_vec();
    let judged = guest::judged(view, before, tip);
    let is_same = |old: &crate::kinds::GitSourceJudged| {
        (old.generation, &old.commit) == (judged.generation, &judged.commit)
    };
    if !status.judged.as_ref().is_some_and(is_same) {
        status.judged = Some(judged);
    }
    if after.status == before.status {
        return Ok(None);
    }
    let put = Op::Put { object: Object::of(&after)?, expect: Expect::Any, part: Part::Status };
    Ok(Some(Command::Write(vec![put])))
}

/// Whether the tip of a source has to be looked at.
pub(super) fn is_news(source: &GitSource, tip: &CommitId) -> bool {
    let status = &source.status;
    let seen = status.refused_commit.as_ref().or(status.admitted_commit.as_ref());
    seen.map(String::as_str) != Some(tip.as_str())
}

/// Why a source is not as its tip says, in a word and a sentence; `None` when all its units are.
pub(super) fn lacks(view: &View, name: &str, source: &GitSource) -> Option<(&'static str, String)> {
    let status = &source.status;
    let tip = status.observed_commit.as_deref().and_then(CommitId::parse);
    let more = |n: usize| if n > 1 { format!(" (and {} more)", n - 1) } else { String::new() };
    if let Some(first) = status.problems.first() {
        let what = format!("{first}{}", more(status.problems.len()));
        return Some(match status.refused_commit.is_some() {
            true => ("Refused", what),
            false => ("Incomplete", what),
        });
    }
    let behind: Vec<_> = of(view, name).filter(|(_, unit)| !is_ready(unit)).collect();
    if let Some((first, unit)) = behind.first() {
        let why = guest::ready(unit).map(|ready| format!(": {}", ready.message));
        let first = format!("{}{}", first.key().name, why.unwrap_or_default());
        return Some(("UnitsNotReady", format!("{first}{}", more(behind.len()))));
    }
    let is_seen = tip.is_some_and(|tip| status.admitted_commit.as_deref() == Some(tip.as_str()));
    (!is_seen).then(|| ("Progressing", "its units look at the newest commit".to_owned()))
}

/// That the tip of a source waits for others.
fn waits(view: &View, name: &str, source: &GitSource) -> Option<(&'static str, String)> {
    let tip = source.status.observed_commit.as_deref().and_then(CommitId::parse);
    let why = precedence::waits_for(view, name, &tip.filter(|tip| is_news(source, tip))?)?;
    Some(("DependencyNotReady", why))
}

/// How many units there are, and how many are ready.
pub(super) fn count(view: &View, name: &str) -> GitSourceUnits {
    let ready = of(view, name).filter(|(_, unit)| is_ready(unit)).count() as u64;
    GitSourceUnits { count: of(view, name).count() as u64, ready }
}

fn is_ready(unit: &GitSource) -> bool {
    guest::ready(unit).is_some_and(|ready| ready.status == "True")
}

/// How many units are ready, and what they are called that `lacks` speaks of.
pub(super) fn words(units: &GitSourceUnits, why: Option<String>) -> String {
    let many = match units.count {
        1 => format!("{} of 1 unit is ready", units.ready),
        n => format!("{} of {n} units are ready", units.ready),
    };
    why.map_or(many.clone(), |why| format!("{many}; {why}"))
}

fn all(view: &View) -> BTreeSet<Key> {
    let units = view.list::<GitSource>(None).filter(|(_, source)| source.parent().is_some());
    units.map(|(object, _)| object.key().clone()).collect()
}

/// A source has its units follow it; one that Git no longer names, too.
fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if !change.key.is::<GitSource>() {
        return BTreeSet::new();
    }
    let spec = |object: &Option<Object>| {
        object.as_ref().and_then(|o| o.view::<GitSource>()).map(|source| source.spec.clone())
    };
    if change.old.is_some() && spec(&change.old) == spec(&change.new) {
        return super::still(&change.key, view)
            .into_iter()
            .filter(|key| is_unit(view, key))
            .collect();
    }
    let uid = change.new.as_ref().or(change.old.as_ref()).map(|object| object.uid().to_owned());
    let units = uid.into_iter().flat_map(|uid| {
        let dependents = view.dependents_of(&uid).map(|object| object.key().clone());
        dependents.collect::<Vec<_>>()
    });
    units.chain([change.key.clone()]).filter(|key| is_unit(view, key)).collect()
}

fn is_unit(view: &View, key: &Key) -> bool {
    view.object(key).and_then(|o| o.view::<GitSource>()).is_some_and(|s| s.parent().is_some())
}

/// Has a unit follow its source. One of a source that is taken whole is let go, and what it holds
/// is left for that one to take. What is wrong with the folder is for the next look.
fn follow(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let found = view.object(key).and_then(|o| Some((o, o.view::<GitSource>()?)));
    let Some((object, unit)) = found else { return Plan::default() };
    let Some(source) = unit.parent() else { return Plan::default() };
    let parent = view.get::<GitSource>("", source);
    let by_unit = parent.filter(|parent| parent.spec.is_by_unit());
    let mut batch = Batch::default();
    match (by_unit, object.is_terminating()) {
        (Some(parent), false) => {
            let folder = key.name.strip_prefix(source).and_then(|rest| rest.strip_prefix('-'));
            let spec = parent.spec.of_unit(folder.unwrap_or_default());
            if spec != unit.spec {
                batch.update(object, &GitSource { spec, ..unit.clone() });
            }
        }
        (Some(_), true) => {}
        (None, true) => {
            let mut unit = unit.clone();
            unit.metadata.finalizers = None;
            batch.update(object, &unit);
        }
        (None, false) if parent.is_some() => batch.delete(object),
        // It goes with its source.
        (None, false) => {}
    }
    batch.into_plan(None)
}

/// Says of a source how its units do.
pub(super) fn say(view: &View, source: &mut GitSource, now: Timestamp) {
    let name = source.metadata.name.clone().unwrap_or_default();
    let units = count(view, &name);
    let lacks = waits(view, &name, source).or_else(|| lacks(view, &name, source));
    let (status, reason) = lacks.as_ref().map_or(("True", "Healthy"), |(why, _)| ("False", why));
    let message = words(&units, lacks.as_ref().map(|(_, why)| why.clone()));
    source.status.units = Some(units);
    guest::set_ready(source, status, reason, message, now);
}
