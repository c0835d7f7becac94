//! State as the log drives it.

use tokio::sync::watch;

use crate::{
    model::fnv1a,
    raft::Machine,
    state::{Entry, Outcome, Refusal, State, View},
};

/// Applies entries to State and publishes a View after each group of them.
pub(super) struct StateMachine {
    state: State,
    views: watch::Sender<View>,
}

impl StateMachine {
    /// An empty State, and where its Views appear.
    pub(super) fn new() -> (Self, watch::Receiver<View>) {
        let (views, seen) = watch::channel(View::default());
        (Self { state: State::default(), views }, seen)
    }
}

impl Machine for StateMachine {
    type Response = Vec<Outcome>;

    fn apply(&mut self, _index: u64, _term: u64, entry: &[u8]) -> Vec<Outcome> {
        match serde_json::from_slice::<Entry>(entry) {
            Ok(entry) => self.state.apply(entry),
            Err(e) => vec![Outcome::Refused(Refusal::Misplaced(format!("entry: {e}")))],
        }
    }

    fn applied_batch(&mut self, _index: u64) {
        self.views.send_replace(self.state.view().clone());
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let state = self.state.clone();
        Box::new(move || state.to_snapshot())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.state = State::from_snapshot(snapshot)?;
        Ok(())
    }

    fn digest(&self) -> u64 {
        let view = self.state.view();
        fnv1a(format!("{}:{}:{:?}", view.digest(), view.revision(), view.head()).as_bytes())
    }
}
