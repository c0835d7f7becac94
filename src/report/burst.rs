//! When the status branch is to show what changed: once a burst of changes is over.

use super::files::touched;
use crate::{
    kinds::CommitState,
    model::{Revision, Timestamp},
    state::View,
};

/// How long nothing may change until a burst counts as over, in milliseconds: a commit, what the
/// controllers make of it and what agents say of that follow each other faster.
const QUIET_MS: i64 = 1000;

/// The same for what somebody waits for and nothing follows, in milliseconds: what is said of the
/// source in the same breath comes along.
const BRIEF_MS: i64 = 100;

/// The longest that a change waits for its burst to be over, in milliseconds: a rollout of minutes
/// is one burst, and whoever reads the branch sees how far it is.
const GATHER_MS_MAX: i64 = 5000;

/// What the status branch does not show yet, and since when that gathers.
///
/// Holds nothing that must survive: a new leader starts with an empty one, and finds in State what
/// is still to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Burst {
    /// Up to where changes were looked at.
    seen: Revision,
    /// The newest outbox entry that was looked at.
    noted: u64,
    span: Option<Span>,
}

/// When a burst began and when it went on last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: Timestamp,
    last: Timestamp,
    /// Somebody waits for what it holds, and nothing will follow that could be gathered.
    is_final: bool,
}

impl Burst {
    /// Takes notice of what changed. Costs what changed since the last time.
    pub fn see(&mut self, view: &View, now: Timestamp) {
        let is_fresh = self.is_fresh(view);
        self.seen = view.revision();
        self.noted = newest_note(view).max(self.noted);
        if is_fresh {
            let first = self.span.map_or(now, |span| span.first);
            self.span = Some(Span { first, last: now, is_final: is_final(view) });
        }
    }

    /// When the branch is to show it; `None` when it shows everything.
    pub fn due(&self) -> Option<Timestamp> {
        let Span { first, last, is_final } = self.span?;
        let quiet = if is_final { BRIEF_MS } else { QUIET_MS };
        Some(Timestamp((last.0 + quiet).min(first.0 + GATHER_MS_MAX)))
    }

    /// The branch shows this View. What changed since is a burst of its own.
    pub fn shown(&mut self, view: &View) {
        *self = Self { seen: view.revision(), noted: newest_note(view), span: None };
    }

    /// Whether there is something that it has not seen yet and the branch does not show. Before the
    /// first commit there is no branch.
    fn is_fresh(&self, view: &View) -> bool {
        if newest_note(view) > self.noted {
            return true;
        }
        let since = self.seen.max(view.exported());
        view.head().is_some()
            && view
                .changes_since(since)
                .is_none_or(|mut changes| changes.any(|change| !touched(view, change).is_empty()))
    }
}

/// The outbox entry of the newest note; 0 when none is due.
fn newest_note(view: &View) -> u64 {
    view.due_notes().map(|(id, _)| id).max().unwrap_or(0)
}

/// Whether a commit that will not run has yet to be told of.
fn is_final(view: &View) -> bool {
    view.due_notes().any(|(_, commit)| {
        let status = view.commit(commit).map(|commit| commit.status.state);
        matches!(status, Some(CommitState::Refused | CommitState::Held))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::CommitName,
        report::fixture::{Cluster, SECOND},
        state::{Command, Expect, Op, OutboxItem},
    };

    fn at(ms: i64) -> Timestamp {
        Timestamp(ms)
    }

    fn shown() -> (Cluster, Burst) {
        let cluster = Cluster::web();
        let mut burst = Burst::default();
        burst.shown(cluster.state.view());
        (cluster, burst)
    }

    #[test]
    fn a_burst_is_due_once_it_is_quiet_and_never_later_than_the_longest_wait() {
        let (mut cluster, mut burst) = shown();
        assert_eq!(burst.due(), None);
        cluster.node("n2");
        burst.see(cluster.state.view(), at(100));
        assert_eq!(burst.due(), Some(at(1100)));
        // Looking again is no change.
        burst.see(cluster.state.view(), at(900));
        assert_eq!(burst.due(), Some(at(1100)));
        for (node, now, due) in [("n3", 1000, 2000), ("n4", 1900, 2900), ("n5", 4800, 5100)] {
            cluster.node(node);
            burst.see(cluster.state.view(), at(now));
            assert_eq!(burst.due(), Some(at(due)), "{node}");
        }
    }

    #[test]
    fn what_comes_while_the_branch_is_written_is_a_burst_of_its_own() {
        let (mut cluster, mut burst) = shown();
        cluster.node("n2");
        burst.see(cluster.state.view(), at(0));
        let written = cluster.state.view().clone();
        cluster.node("n3");
        burst.shown(&written);
        assert_eq!(burst.due(), None);
        burst.see(cluster.state.view(), at(7000));
        assert_eq!(burst.due(), Some(at(8000)));
    }

    #[test]
    fn what_has_no_file_neither_begins_a_burst_nor_prolongs_it() {
        let (mut cluster, mut burst) = shown();
        let event = |cluster: &mut Cluster| {
            let regarding = crate::report::fixture::key("Deployment.apps/shop/web");
            let reason = "Something".to_owned();
            let new = crate::state::NewEvent {
                regarding,
                uid: String::new(),
                warning: false,
                reason,
                message: String::new(),
                source: "test".to_owned(),
            };
            cluster.run(Command::Write(vec![Op::Event(new)]));
        };
        event(&mut cluster);
        burst.see(cluster.state.view(), at(0));
        assert_eq!(burst.due(), None);
        cluster.node("n2");
        burst.see(cluster.state.view(), at(100));
        event(&mut cluster);
        burst.see(cluster.state.view(), at(900));
        assert_eq!(burst.due(), Some(at(1100)));
    }

    #[test]
    fn a_note_is_told_with_what_it_speaks_of_and_a_refusal_at_once() {
        let (mut cluster, mut burst) = shown();
        let second = CommitName::parse(SECOND).unwrap();
        let mut note = |cluster: &mut Cluster, state: &str, now: i64| {
            let record = Cluster::record(SECOND, &json!({ "state": state }));
            let object = crate::model::Object::from_value(&record).unwrap();
            let put = |part| Op::Put { object: object.clone(), expect: Expect::Any, part };
            let parts = vec![put(crate::state::Part::Main), put(crate::state::Part::Status)];
            cluster.run(Command::Write(parts));
            cluster.run(Command::Enqueue(OutboxItem::Note(second.clone())));
            burst.see(cluster.state.view(), at(now));
            burst.due()
        };
        assert_eq!(note(&mut cluster, "Progressing", 0), Some(at(1000)));
        assert_eq!(note(&mut cluster, "Refused", 300), Some(at(400)));
        assert_eq!(note(&mut cluster, "Held", 350), Some(at(450)));
    }

    #[test]
    fn before_the_first_commit_only_a_refusal_is_told() {
        let mut cluster = Cluster::empty();
        let mut burst = Burst::default();
        burst.see(cluster.state.view(), at(0));
        assert_eq!(burst.due(), None);
        cluster.run(Command::Enqueue(OutboxItem::Note(CommitName::parse(SECOND).unwrap())));
        burst.see(cluster.state.view(), at(50));
        assert_eq!(burst.due(), Some(at(1050)));
    }

    #[test]
    fn a_new_leader_finds_what_is_still_to_be_shown() {
        let cluster = Cluster::web();
        let mut burst = Burst::default();
        burst.see(cluster.state.view(), at(0));
        assert_eq!(burst.due(), Some(at(1000)));
    }
}
