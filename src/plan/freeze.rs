//! Whether a freeze holds a commit (docs/adr/0024-freezes.md).

use std::collections::BTreeMap;

use super::admission::Candidate;
use crate::{
    kinds::{Commit, CommitHold, CommitState, Freeze, FreezeSpec},
    model::{CommitId, CommitName, Key, Object, ObjectError, Timestamp},
    render::Picture,
    state::{Command, Desired, Expect, Op, OutboxItem, Part, View},
};

/// The trailer with which a commit goes through a freeze; its value says why.
pub const OVERRIDE_TRAILER: &str = "Freeze-Override";

/// The freeze that holds a commit, if one does: it runs by now, the commit has it too, and what the
/// commit changes is in its scope. Of several the one that ends last.
///
/// `wanted` are the objects of the commit that may differ from State, `deletes` those that it takes
/// away. Where an object stands is no change, and neither is a Freeze.
pub(super) fn hold(
    view: &View,
    picture: &Picture,
    (wanted, deletes): (&[Desired], &[Key]),
    trailers: &[(String, String)],
    now: Timestamp,
) -> Option<CommitHold> {
    let mut active = active(view, picture, now);
    if active.is_empty() || overrides(trailers) {
        return None;
    }
    let changed = changed(view, wanted, deletes);
    active.retain(|_, (spec, _)| changed.iter().any(|(key, file)| concerns(spec, key, file)));
    let (name, (spec, until)) = active.into_iter().max_by_key(|(_, (_, until))| *until)?;
    Some(CommitHold { freeze: name, until_at: until.0, reason: spec.reason })
}

/// The freezes that a commit shares with what runs, as the commit has them: it may prolong one, or
/// end it.
fn active(
    view: &View,
    picture: &Picture,
    now: Timestamp,
) -> BTreeMap<String, (FreezeSpec, Timestamp)> {
    let shared = view.list::<Freeze>(None).filter_map(|(object, _)| {
        let found = picture.object(object.key())?.object;
        let spec = found.view::<Freeze>()?.spec.clone();
        let until = spec.end().filter(|until| *until > now)?;
        Some((object.key().name.to_string(), (spec, until)))
    });
    shared.collect()
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

/// When a held commit has to be looked at again: the first end of what holds one.
pub fn wake_at(view: &View) -> Option<Timestamp> {
    let held = view.list::<Commit>(None).filter(|(_, c)| c.status.state == CommitState::Held);
    held.filter_map(|(_, c)| Some(Timestamp(c.status.hold.as_ref()?.until_at))).min()
}

/// What records that a commit waits; nothing to do when that is known. `None` when it does not.
pub fn record_hold(
    view: &View,
    candidate: &Candidate,
) -> Result<Option<Vec<Command>>, ObjectError> {
    let Some(hold) = &candidate.held else { return Ok(None) };
    let known = view.get::<Commit>("", candidate.commit.as_str()).map(|commit| &commit.status);
    let is_known = known.is_some_and(|status| {
        status.state == CommitState::Held && status.hold.as_ref() == Some(hold)
    });
    let mut commands = displaced(view, &candidate.commit)?;
    if is_known {
        return Ok(Some(commands));
    }
    let record = super::admission::held(view, candidate, hold)?;
    let put = |part| Op::Put { object: record.clone(), expect: Expect::Any, part };
    commands.push(Command::Write(vec![put(Part::Main), put(Part::Status)]));
    commands.push(Command::Enqueue(OutboxItem::Note(candidate.name())));
    Ok(Some(commands))
}

/// Says of the commits that waited that another one took their place.
pub(super) fn displaced(view: &View, by: &CommitId) -> Result<Vec<Command>, ObjectError> {
    let held = view.list::<Commit>(None).filter(|(object, commit)| {
        commit.status.state == CommitState::Held && object.key().name != by.as_str()
    });
    let mut commands = Vec::new();
    for (object, commit) in held {
        let mut commit = commit.clone();
        commit.status.state = CommitState::Superseded;
        commit.status.reason = "Superseded".to_owned();
        commit.status.message = format!("{} took its place while it was held", by.short());
        let put = Op::Put { object: Object::of(&commit)?, expect: Expect::Any, part: Part::Status };
        commands.push(Command::Write(vec![put]));
        let name = CommitName::parse(&object.key().name);
        commands.extend(name.map(|name| Command::Enqueue(OutboxItem::Note(name))));
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
    fn only_a_reason_overrides() {
        let trailer = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        assert!(overrides(&trailer("freeze-override", "the shop is down")));
        assert!(!overrides(&trailer("Freeze-Override", " ")));
        assert!(!overrides(&trailer("Freeze", "x")));
    }
}
