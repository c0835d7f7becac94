//! Where a rollback goes when nobody says where.

use crate::{
    kinds::{Commit, GitSource},
    model::{CommitId, CommitName},
    state::{MAIN_SOURCE, View},
};

/// What takes the cluster back to its last good state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// A plain revert of the head: its parent is the last good commit (or nothing better is known).
    Revert(CommitId),
    /// The files of an earlier commit: those between were refused or never became healthy, so
    /// reverting the head alone would bring one of them.
    Restore(CommitId),
}

/// The rollback of the head; `None` before the first commit.
pub fn rollback(view: &View) -> Option<Rollback> {
    let head = view.head()?.commit.clone();
    if let Some(good) = held(view) {
        return Some(good);
    }
    let record = view.get::<Commit>("", head.as_str());
    let good = last_good(view, &CommitName::new(MAIN_SOURCE, &head));
    let parent = record.and_then(|c| c.spec.parents.first());
    Some(match good {
        Some(good) if parent.is_some_and(|p| p != good.as_str()) => Rollback::Restore(good),
        _ => Rollback::Revert(head),
    })
}

/// What the cluster runs, when the commit at the source has failed and is held back.
fn held(view: &View) -> Option<Rollback> {
    let head = &view.head()?.commit;
    let observed = view.get::<GitSource>("", MAIN_SOURCE)?.status.observed_commit.clone()?;
    let tip = view.get::<Commit>("", &observed).filter(|_| observed != head.as_str())?;
    tip.status.failure.is_some().then(|| Rollback::Restore(head.clone()))
}

/// The newest commit of its source before `head` that became healthy.
pub(super) fn last_good(view: &View, head: &CommitName) -> Option<CommitId> {
    let before = view.commit(head).and_then(|c| c.status.timings.admitted_at).unwrap_or(i64::MAX);
    view.commits_of(&head.source)
        .filter(|(name, _, c)| {
            name != head
                && c.status.timings.healthy_at.is_some()
                && c.status.timings.admitted_at.is_some_and(|at| at <= before)
        })
        .max_by_key(|(.., c)| c.status.timings.admitted_at)
        .map(|(name, ..)| name.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kinds::{CommitState, CommitStatus, CommitTimings},
        model::{Object, RequestId, Timestamp},
        state::{Adopt, Command, Entry, Expect, Op, Outcome, Part, State},
    };

    fn id(digit: char) -> CommitId {
        CommitId::parse(&digit.to_string().repeat(40)).unwrap()
    }

    /// Commits in their order: digit, its parent, whether it was admitted, whether it became
    /// healthy.
    fn check(commits: &[(char, Option<char>, bool, bool)], expect: Option<Rollback>) {
        let mut state = State::default();
        let mut head = None;
        for (n, (digit, parent, admitted, healthy)) in commits.iter().enumerate() {
            let at = i64::try_from(n).unwrap() + 1;
            let mut record = Commit::named(id(*digit).as_str());
            record.spec.parents = parent.iter().map(|p| id(*p).to_string()).collect();
            record.status = CommitStatus {
                state: if *admitted { CommitState::Admitted } else { CommitState::Refused },
                timings: CommitTimings {
                    admitted_at: admitted.then_some(at),
                    healthy_at: healthy.then_some(at),
                    ..CommitTimings::default()
                },
                ..CommitStatus::default()
            };
            let record = Object::of(&record).unwrap();
            let command = if *admitted {
                let base = head.replace(id(*digit));
                Command::Adopt(Box::new(Adopt {
                    source: MAIN_SOURCE.into(),
                    commit: id(*digit),
                    base,
                    record,
                    told: None,
                    upserts: vec![],
                    deletes: vec![],
                    left: vec![],
                    part: 0,
                    parts: 1,
                }))
            } else {
                let put = |part| Op::Put { object: record.clone(), expect: Expect::Any, part };
                Command::Write(vec![put(Part::Main), put(Part::Status)])
            };
            let entry = Entry::new(RequestId(n as u128), Timestamp(at), vec![command]);
            assert!(matches!(state.apply(entry)[..], [Outcome::Done(_)]));
        }
        assert_eq!(rollback(state.view()), expect);
    }

    #[test]
    fn it_goes_to_the_last_commit_that_was_healthy() {
        check(&[], None);
        check(&[('a', None, true, true)], Some(Rollback::Revert(id('a'))));
        let good = ('a', None, true, true);
        let next = |parent| ('c', Some(parent), true, false);
        check(&[good, next('a')], Some(Rollback::Revert(id('c'))));
        let refused = ('b', Some('a'), false, false);
        check(&[good, refused, next('b')], Some(Rollback::Restore(id('a'))));
        let sick = ('b', Some('a'), true, false);
        check(&[good, sick, next('b')], Some(Rollback::Restore(id('a'))));
    }
}
