//! The order of sources: a new commit of one is taken once those that it names run well.
//!
//! Nothing is timed: what is asked of a View changes when one of them does. What runs is never held
//! back, and neither is the commit that runs when it is judged anew.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::{guest, units};
use crate::{
    kinds::{CommitState, GitSource, GitSourceSpec},
    model::{CommitId, GroupKind, Problem, Timestamp},
    render::{Picture, RenderedObject},
    state::{MAIN_SOURCE, View},
};

/// The field that names those who come first.
const FIELD: &str = "spec.dependsOn";

/// Why the tip of a source is not taken yet; `None` when it may be.
pub fn waits_for(view: &View, name: &str, tip: &CommitId) -> Option<String> {
    let source = view.get::<GitSource>("", name)?;
    let spec = &source.spec;
    let seen = source.status.admitted_commit.as_deref().filter(|_| spec.is_by_unit());
    let runs = view.head_of(name).map(|head| head.commit.as_str());
    if seen.or(runs) == Some(tip.as_str()) {
        return None;
    }
    let why = spec.depends_on.iter().find_map(|other| lacks(view, spec, other, tip))?;
    Some(format!("{} waits for {why}", tip.short()))
}

/// Whether a source has a commit that waited, for others or in a freeze, and waits no more.
pub fn is_due(view: &View, name: &str, now: Timestamp) -> bool {
    let Some(source) = view.get::<GitSource>("", name) else { return false };
    let tip = source.status.observed_commit.as_deref().and_then(CommitId::parse);
    tip.is_some_and(|tip| {
        let known = view.commit_of(name, &tip);
        let is_held = known.is_some_and(|commit| commit.status.state == CommitState::Held);
        let waited = is_held || !source.spec.depends_on.is_empty();
        waited && guest::is_news(view, name, &tip, now) && waits_for(view, name, &tip).is_none()
    })
}

/// What is missing of a source that comes first.
fn lacks(view: &View, spec: &GitSourceSpec, name: &str, tip: &CommitId) -> Option<String> {
    let Some(first) = view.get::<GitSource>("", name) else {
        return Some(format!("the source {name}, which is nowhere"));
    };
    // Of a unit the source knows that looks at the repository, once the units have looked.
    let whole = first.parent().and_then(|parent| view.get::<GitSource>("", parent));
    let whole = whole.unwrap_or(first);
    let seen = match whole.spec.is_by_unit() {
        true => whole.status.admitted_commit.as_deref(),
        false => whole.status.observed_commit.as_deref(),
    };
    let is_shared = (&first.spec.url, &first.spec.reference) == (&spec.url, &spec.reference);
    if is_shared && seen != Some(tip.as_str()) {
        // Of one push the order is kept, whichever of the two looks first.
        return Some(format!("the source {name}, which has not seen it yet"));
    }
    if first.spec.is_by_unit() {
        let why = units::lacks(view, name, first).map(|(_, why)| why);
        return why.map(|why| format!("the source {name}, which is not ready: {why}"));
    }
    let Some(head) = view.head_of(name) else {
        return Some(format!("the source {name}, which runs nothing yet"));
    };
    let seen = first.status.observed_commit.as_deref();
    if seen != Some(head.commit.as_str()) || !guest::is_judged(name, first) {
        return Some(format!("the source {name}, whose newest commit is not what runs"));
    }
    let status = view.commit_of(name, &head.commit).map(|commit| commit.status.clone());
    let status = status.unwrap_or_default();
    (status.state != CommitState::Healthy)
        .then(|| format!("the source {name}, which is not healthy: {}", status.message))
}

/// What is wrong with the order of the sources that a commit of the main one names: those that are
/// nowhere, and a circle.
pub(super) fn problems(picture: &Picture) -> Vec<Problem> {
    let sources = sources(picture);
    let mut problems = Vec::new();
    for (name, found) in &sources {
        let known = |other: &&str| *other == MAIN_SOURCE || named(&sources, other).is_some();
        problems.extend(before(found).filter(|other| !known(other)).map(|other| {
            let text = format!("{name} waits for the source {other}, which is nowhere: add it");
            problem(found, text)
        }));
    }
    problems.extend(sources.iter().find_map(|(name, found)| {
        let round = round(&sources, name)?;
        let text = format!(
            "{}: no new commit of these is ever taken: take one of these waits away",
            round.join(" waits for ")
        );
        Some(problem(found, text))
    }));
    problems
}

/// The sources that a commit of the main one names.
fn sources(picture: &Picture) -> BTreeMap<SmolStr, RenderedObject> {
    let found = picture.of_kind(GroupKind::of::<GitSource>());
    found.map(|found| (found.object.key().name.clone(), found)).collect()
}

/// Whether a commit of the main source names a source, or the one of which it would be a unit.
pub(super) fn is_named(picture: &Picture, name: &str) -> bool {
    named(&sources(picture), name).is_some()
}

fn problem(found: &RenderedObject, message: String) -> Problem {
    Problem { file: found.file.clone(), line: found.line, field: FIELD.to_owned(), message }
}

fn before(found: &RenderedObject) -> impl Iterator<Item = &str> {
    let source = found.object.view::<GitSource>();
    source.into_iter().flat_map(|source| &source.spec.depends_on).map(String::as_str)
}

/// The source that is meant: by its name, or by that of a unit of it.
fn named<'a>(sources: &'a BTreeMap<SmolStr, RenderedObject>, name: &str) -> Option<&'a str> {
    let by_unit = |found: &RenderedObject| {
        found.object.view::<GitSource>().is_some_and(|source| source.spec.is_by_unit())
    };
    let parts = |source: &str| {
        name.strip_prefix(source)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|f| !f.is_empty())
    };
    let itself = sources.get_key_value(name).map(|(name, _)| name.as_str());
    itself.or_else(|| {
        let mut of = sources.iter().filter(|(source, found)| parts(source) && by_unit(found));
        of.next().map(|(name, _)| name.as_str())
    })
}

/// The way from a source over those it waits for back to itself, where there is one.
fn round<'a>(
    sources: &'a BTreeMap<SmolStr, RenderedObject>,
    start: &'a str,
) -> Option<Vec<&'a str>> {
    let mut came: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        let before = sources.get(at).into_iter().flat_map(before);
        for next in before.filter_map(|next| named(sources, next)) {
            if came.contains_key(next) {
                continue;
            }
            came.insert(next, at);
            if next == start {
                let back = std::iter::successors(Some(start), |at| came.get(at).copied());
                let mut round: Vec<&str> = back.skip(1).take_while(|at| *at != start).collect();
                round.insert(0, start);
                round.push(start);
                round.reverse();
                return Some(round);
            }
            open.push(next);
        }
    }
    None
}
