//! A rendered commit against State: is it taken, and what does it change?

use std::collections::BTreeMap;

use crate::{
    kinds::{Commit, CommitChanges, CommitSpec, CommitState, CommitStatus, CommitTimings},
    model::{CommitId, Key, Object, ObjectError, Problem, Timestamp},
    state::{Adopt, Command, Desired, ENTRY_BYTES_MAX, Expect, Op, OutboxItem, Part, View},
};

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
    /// How many objects it asks for, by kind.
    pub counts: BTreeMap<String, u64>,
    /// The objects it asks for that may differ from State, by key; the others are known to be as they were.
    pub wanted: Vec<Desired>,
    /// The objects it may delete: those Git owned and it no longer holds, let through by the prune guard.
    pub deletes: Vec<Key>,
    /// Everything that is wrong with it. One is enough to refuse it whole.
    pub problems: Vec<Problem>,
    /// What its author should know though it is taken.
    pub warnings: Vec<Problem>,
}

/// Everything to propose so that the commit becomes the head, in order, one entry each; the last makes it visible.
pub fn admit(
    view: &View,
    candidate: &Candidate,
    now: Timestamp,
) -> Result<Vec<Command>, ObjectError> {
    let head = view.head().map(|h| h.commit.clone());
    let changed: Vec<&Desired> = candidate.wanted.iter().filter(|d| differs(view, d)).collect();
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
            seen_at: Some(candidate.seen_at.0),
            admitted_at: Some(now.0),
            ..CommitTimings::default()
        },
        ..status_of(candidate)
    };
    let record = record(candidate, status)?;
    let chunks = chunks(&changed);
    let parts = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    let adopt = |(i, upserts): (usize, Vec<Desired>)| {
        Command::Adopt(Box::new(Adopt {
            commit: candidate.commit.clone(),
            base: head.clone(),
            record: record.clone(),
            upserts,
            deletes: if i == 0 { candidate.deletes.clone() } else { Vec::new() },
            part: u32::try_from(i).unwrap_or(u32::MAX),
            parts,
        }))
    };
    Ok(chunks.into_iter().enumerate().map(adopt).collect())
}

/// The commands that record why a commit was not taken; nothing else changes.
pub fn refuse(
    candidate: &Candidate,
    problems: Vec<Problem>,
    now: Timestamp,
) -> Result<Vec<Command>, ObjectError> {
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    let status = CommitStatus {
        state: CommitState::Refused,
        reason: "Invalid".to_owned(),
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
        ..status_of(candidate)
    };
    let object = record(candidate, status)?;
    let put = |part| Op::Put { object: object.clone(), expect: Expect::Any, part };
    Ok(vec![
        Command::Write(vec![put(Part::Main), put(Part::Status)]),
        Command::Enqueue(OutboxItem::Note(candidate.commit.clone())),
    ])
}

/// The commit as an object, as a plan would show it.
fn record(candidate: &Candidate, status: CommitStatus) -> Result<Object, ObjectError> {
    let mut commit = Commit::named(candidate.commit.as_str());
    commit.spec = candidate.spec.clone();
    commit.status = status;
    Object::of(&commit)
}

fn status_of(candidate: &Candidate) -> CommitStatus {
    CommitStatus {
        counts: candidate.counts.clone(),
        warnings: candidate.warnings.clone(),
        deadline_seconds: candidate.deadline_seconds,
        ..CommitStatus::default()
    }
}

/// Whether adopting this object would change anything.
fn differs(view: &View, desired: &Desired) -> bool {
    let key = desired.object.key();
    let same = |o: &crate::state::Origin| {
        o.digest == desired.origin.digest
            && o.file == desired.origin.file
            && o.line == desired.origin.line
    };
    view.object(key).is_none_or(Object::is_terminating) || !view.origin(key).is_some_and(same)
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

/// Reads a deadline as people write it: `90s`, `3m`, `1h`, or seconds.
pub fn deadline_seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let (number, unit) = match text.char_indices().next_back() {
        Some((i, 's')) => (&text[..i], 1),
        Some((i, 'm')) => (&text[..i], 60),
        Some((i, 'h')) => (&text[..i], 3600),
        _ => (text, 1),
    };
    number.parse::<i64>().ok().filter(|n| *n > 0)?.checked_mul(unit)
}
