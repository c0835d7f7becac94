//! The order of sources: a new commit of one is taken once those that it names run well.
//!
//! Nothing is timed: what is asked of a View changes when one of them does. What runs is never held
//! back, and neither is the commit that runs when it is judged anew.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::guest;
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
    let spec = &view.get::<GitSource>("", name)?.spec;
    if view.head_of(name).is_some_and(|head| head.commit == *tip) {
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
    let seen = first.status.observed_commit.as_deref();
    let is_shared = (&first.spec.url, &first.spec.reference) == (&spec.url, &spec.reference);
    if is_shared && seen != Some(tip.as_str()) {
        // Of one push the order is kept, whichever of the two looks first.
        return Some(format!("the source {name}, which has not seen it yet"));
    }
    let Some(head) = view.head_of(name) else {
        return Some(format!("the source {name}, which runs nothing yet"));
    };
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
    let found = picture.of_kind(GroupKind::of::<GitSource>());
    let sources: BTreeMap<SmolStr, RenderedObject> =
        found.map(|found| (found.object.key().name.clone(), found)).collect();
    let mut problems = Vec::new();
    for (name, found) in &sources {
        let known = |other: &&str| *other == MAIN_SOURCE || sources.contains_key(*other);
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

fn problem(found: &RenderedObject, message: String) -> Problem {
    Problem { file: found.file.clone(), line: found.line, field: FIELD.to_owned(), message }
}

fn before(found: &RenderedObject) -> impl Iterator<Item = &str> {
    let source = found.object.view::<GitSource>();
    source.into_iter().flat_map(|source| &source.spec.depends_on).map(String::as_str)
}

/// The way from a source over those it waits for back to itself, where there is one.
fn round<'a>(
    sources: &'a BTreeMap<SmolStr, RenderedObject>,
    start: &'a str,
) -> Option<Vec<&'a str>> {
    let mut came: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        for next in sources.get(at).into_iter().flat_map(before) {
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
