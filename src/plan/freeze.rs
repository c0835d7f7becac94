//! Whether a freeze holds a commit (docs/adr/0024-freezes.md).

use std::collections::BTreeMap;

use super::{admission::Candidate, guest, precedence};
use crate::{
    kinds::{CommitHold, CommitState, Freeze, FreezeSpec, GitSource},
    model::{CommitName, GroupKind, Key, Object, ObjectError, Problem, Timestamp},
    render::{Picture, RenderedObject},
    state::{Command, Desired, Expect, MAIN_SOURCE, Op, OutboxItem, Part, View},
};

/// The trailer with which a commit goes through a freeze; its value says why.
pub const OVERRIDE_TRAILER: &str = "Freeze-Override";

/// The freeze that holds a commit of a source, if one does: it runs by now, the commit has it too
/// where it is of the same source, and what the commit changes is in its scope. Of several the one
/// that ends last.
///
/// `wanted` are the objects of the commit that may differ from State, `deletes` those that it takes
/// away. Where an object stands is no change, and neither is a Freeze.
pub(super) fn hold(
    view: &View,
    (source, picture): (&str, &Picture),
    (wanted, deletes): (&[Desired], &[Key]),
    trailers: &[(String, String)],
    now: Timestamp,
) -> Option<CommitHold> {
    let mut active = active(view, source, picture, now);
    if active.is_empty() || overrides(trailers) {
        return None;
    }
    let changed = changed(view, wanted, deletes);
    active.retain(|_, (spec, _)| changed.iter().any(|(key, file)| concerns(spec, key, file)));
    let (name, (spec, until)) = active.into_iter().max_by_key(|(_, (_, until))| *until)?;
    Some(CommitHold { freeze: name, until_at: until.0, reason: spec.reason })
}

/// The freezes that are for a source. Those that it holds itself: what its commit shares with what
/// runs, as the commit has it, for it may prolong one or end it. Those of the main one: as they
/// are.
fn active(
    view: &View,
    source: &str,
    picture: &Picture,
    now: Timestamp,
) -> BTreeMap<String, (FreezeSpec, Timestamp)> {
    let running = view.list::<Freeze>(None).filter_map(|(object, freeze)| {
        let owner = view.origin(object.key())?.source.as_str();
        let spec = match owner == source {
            true => picture.object(object.key())?.object.view::<Freeze>()?.spec.clone(),
            false => freeze.spec.clone(),
        };
        let until = spec.end().filter(|until| *until > now)?;
        let whole = view.get::<GitSource>("", source).and_then(GitSource::parent);
        let of_whole = || whole.is_some_and(|whole| is_for(owner, &spec, whole));
        (is_for(owner, &spec, source) || of_whole())
            .then(|| (object.key().name.to_string(), (spec, until)))
    });
    running.collect()
}

/// Whether a freeze that `owner` holds is for the commits of a source: the main one's is for all of
/// them, or those it names, another one's for its own.
fn is_for(owner: &str, spec: &FreezeSpec, source: &str) -> bool {
    let named = |source: &str| spec.sources.iter().any(|name| name == source);
    match owner {
        MAIN_SOURCE => spec.sources.is_empty() || named(source),
        other => other == source,
    }
}

/// The freeze that keeps a unit whose folder is gone, with what it holds.
pub(super) fn keeps(
    view: &View,
    unit: &str,
    held: &[Key],
    trailers: &[(String, String)],
    now: Timestamp,
) -> Option<CommitHold> {
    hold(view, (unit, &Picture::default()), (&[], held), trailers, now)
}

/// Whether a freeze holds still what it held when State was at `judged`, as far as State tells: it
/// has not ended, and nobody changed it.
pub(super) fn still_holds(view: &View, hold: &CommitHold, judged: u64, now: Timestamp) -> bool {
    let freeze = view.object(&Key::of::<Freeze>("", &hold.freeze));
    hold.until_at > now.0 && freeze.is_some_and(|freeze| freeze.revision().0 <= judged)
}

/// What is wrong with the freezes of a source: those that are for a source which is nowhere, or for
/// another one without being the main one's.
pub(super) fn problems(source: &str, picture: &Picture, now: Timestamp) -> Vec<Problem> {
    let is_there = |name: &String| name == MAIN_SOURCE || precedence::is_named(picture, name);
    let wrong = |spec: &FreezeSpec| match source {
        MAIN_SOURCE => {
            let name = spec.sources.iter().find(|name| !is_there(name))?;
            Some(format!("holds the source {name}, which is nowhere: take it out"))
        }
        own => {
            let name = spec.sources.iter().find(|name| *name != own)?;
            Some(format!("only the source {MAIN_SOURCE} holds others: take {name} out"))
        }
    };
    let freezes = picture.of_kind(GroupKind::of::<Freeze>());
    let problem = |found: RenderedObject| {
        let spec = &found.object.view::<Freeze>()?.spec;
        let message = wrong(spec).filter(|_| spec.end().is_some_and(|end| end > now))?;
        let field = "spec.sources".to_owned();
        Some(Problem { file: found.file.clone(), line: found.line, field, message })
    };
    freezes.filter_map(problem).collect()
}

fn overrides(trailers: &[(String, String)]) -> bool {
    let mut found = trailers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(OVERRIDE_TRAILER));
    found.any(|(_, why)| !why.trim().is_empty())
}

/// What a commit changes, with the file it stands in.
fn changed<'a>(
    view: &'a View,
    wanted: &'a [Desired],
    deletes: &'a [Key],
) -> Vec<(&'a Key, &'a str)> {
    let differs = |desired: &&Desired| {
        let before = view.origin(desired.object.key());
        before.is_none_or(|origin| origin.digest != desired.origin.digest)
    };
    let new = wanted.iter().filter(differs);
    let new = new.map(|desired| (desired.object.key(), desired.origin.file.as_str()));
    let file = |key: &'a Key| view.origin(key).map(|origin| (key, origin.file.as_str()));
    let all = new.chain(deletes.iter().filter_map(file));
    all.filter(|(key, _)| !key.is::<Freeze>()).collect()
}

/// Whether a change is in the scope of a freeze; one that names no scope means everything.
fn concerns(spec: &FreezeSpec, key: &Key, file: &str) -> bool {
    let below = |path: &String| {
        let folder = path.trim_end_matches('/');
        file.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let everything = spec.paths.is_empty() && spec.namespaces.is_empty();
    everything
        || spec.paths.iter().any(below)
        || spec.namespaces.iter().any(|namespace| *namespace == key.namespace.as_str())
}

/// Why a commit waits, in one sentence.
pub fn words(hold: &CommitHold) -> String {
    format!(
        "the freeze {} holds it until {}: {}; the trailer {OVERRIDE_TRAILER} lets one commit through",
        hold.freeze,
        Timestamp(hold.until_at),
        hold.reason
    )
}

/// When a held commit of a source has to be looked at again: the first end of what holds one.
pub fn wake_at(view: &View, source: &str) -> Option<Timestamp> {
    let held = view.commits_of(source).filter(|(.., c)| c.status.state == CommitState::Held);
    held.filter_map(|(.., c)| Some(Timestamp(c.status.hold.as_ref()?.until_at))).min()
}

/// What records that a commit waits; nothing to do when that is known. `None` when it does not.
pub fn record_hold(
    view: &View,
    candidate: &Candidate,
) -> Result<Option<Vec<Command>>, ObjectError> {
    let Some(hold) = &candidate.held else { return Ok(None) };
    let known = view.commit(&candidate.name()).map(|commit| &commit.status);
    let is_known = known.is_some_and(|status| {
        status.state == CommitState::Held && status.hold.as_ref() == Some(hold)
    });
    let put = |object: &Object, part| Op::Put { object: object.clone(), expect: Expect::Any, part };
    let mut commands = displaced(view, &candidate.name())?;
    if let Some(told) = guest::held(view, candidate)? {
        commands.push(Command::Write(vec![put(&told, Part::Status)]));
    }
    if is_known {
        return Ok(Some(commands));
    }
    let record = super::admission::held(view, candidate, hold)?;
    commands.push(Command::Write(vec![put(&record, Part::Main), put(&record, Part::Status)]));
    commands.push(Command::Enqueue(OutboxItem::Note(candidate.name())));
    Ok(Some(commands))
}

/// Says of the commits of its source that waited that another one took their place.
pub(super) fn displaced(view: &View, by: &CommitName) -> Result<Vec<Command>, ObjectError> {
    let held = view
        .commits_of(&by.source)
        .filter(|(name, _, commit)| commit.status.state == CommitState::Held && name != by);
    let mut commands = Vec::new();
    for (name, _, commit) in held {
        let mut commit = commit.clone();
        commit.status.state = CommitState::Superseded;
        commit.status.reason = "Superseded".to_owned();
        commit.status.message = format!("{} took its place while it was held", by.id.short());
        let put = Op::Put { object: Object::of(&commit)?, expect: Expect::Any, part: Part::Status };
        commands.push(Command::Write(vec![put]));
        commands.push(Command::Enqueue(OutboxItem::Note(name)));
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_folder_a_file_or_a_namespace() {
        let key = Key::parse("Deployment.apps/shop/web").unwrap();
        let scope = |paths: &[&str], namespaces: &[&str]| {
            let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let spec = FreezeSpec {
                paths: list(paths),
                namespaces: list(namespaces),
                ..FreezeSpec::default()
            };
            concerns(&spec, &key, "apps/web.yaml")
        };
        assert!(scope(&[], &[]));
        assert!(scope(&["apps"], &[]) && scope(&["apps/"], &[]) && scope(&["apps/web.yaml"], &[]));
        assert!(!scope(&["app"], &[]) && !scope(&["apps/web"], &[]) && !scope(&["other"], &[]));
        assert!(scope(&["other"], &["shop"]) && !scope(&[], &["web"]));
    }

    #[test]
    fn the_main_source_holds_those_it_names_and_another_itself() {
        let spec = |sources: &[&str]| FreezeSpec {
            sources: sources.iter().map(|name| (*name).to_owned()).collect(),
            ..FreezeSpec::default()
        };
        assert!(is_for(MAIN_SOURCE, &spec(&[]), MAIN_SOURCE));
        assert!(is_for(MAIN_SOURCE, &spec(&[]), "team"));
        assert!(is_for(MAIN_SOURCE, &spec(&["team"]), "team"));
        assert!(!is_for(MAIN_SOURCE, &spec(&["team"]), MAIN_SOURCE));
        assert!(is_for("team", &spec(&[]), "team"));
        assert!(!is_for("team", &spec(&[]), "other"));
        assert!(!is_for("team", &spec(&[MAIN_SOURCE]), MAIN_SOURCE));
    }

    #[test]
    fn only_a_reason_overrides() {
        let trailer = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        assert!(overrides(&trailer("freeze-override", "the shop is down")));
        assert!(!overrides(&trailer("Freeze-Override", " ")));
        assert!(!overrides(&trailer("Freeze", "x")));
    }
}
