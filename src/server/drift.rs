//! Puts back what was deleted behind Git's back, at once and without the remote.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    clock,
    import::{Error, Importer, Scope, done},
};
use crate::{
    model::Key,
    plan::{drift, failure::way_back},
    state::View,
};

/// Least seconds between two times that one object is made again: whatever deletes it on and on
/// must not fill the log.
const AGAIN_SECONDS_MIN: u64 = 10;

/// What was put back.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// When which object was, for [`AGAIN_SECONDS_MIN`].
    recent: Mutex<BTreeMap<Key, Instant>>,
    /// How many of each kind.
    corrected: Mutex<BTreeMap<String, u64>>,
}

impl Drift {
    /// How many of each kind were put back.
    pub(super) fn corrected(&self) -> BTreeMap<String, u64> {
        self.corrected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is due of what is gone, and when the rest is.
    fn due(&self, gone: BTreeSet<Key>) -> (BTreeSet<Key>, Option<Duration>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = Duration::from_secs(AGAIN_SECONDS_MIN);
        recent.retain(|_, at| at.elapsed() < pause);
        let next = gone.iter().filter_map(|key| recent.get(key)).min();
        let wait = next.map(|at| pause.saturating_sub(at.elapsed()));
        (gone.into_iter().filter(|key| !recent.contains_key(key)).collect(), wait)
    }

    fn count(&self, gone: &BTreeSet<Key>) {
        let mut corrected = self.corrected.lock().unwrap_or_else(PoisonError::into_inner);
        for key in gone {
            *corrected.entry(key.kind.to_string()).or_default() += 1;
        }
    }

    fn remember(&self, tried: &BTreeSet<Key>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.extend(tried.iter().map(|key| (key.clone(), Instant::now())));
    }
}

impl Importer {
    /// Makes again what is gone though Git says it; gives how long the rest has to wait.
    pub(super) async fn put_back(&self) -> Option<Duration> {
        let view = self.store.view();
        let (due, wait) = self.drift.due(self.gone(&view));
        if due.is_empty() {
            return wait;
        }
        self.drift.remember(&due);
        if let Err(error) = self.put_back_now(&view, &due).await {
            tracing::warn!(event = "not put back", objects = due.len(), %error);
        }
        Some(Duration::from_secs(AGAIN_SECONDS_MIN))
    }

    /// Waits until something is gone that may be made again.
    pub(super) async fn drifted(&self, views: &mut tokio::sync::watch::Receiver<View>) {
        loop {
            let gone = self.gone(&views.borrow_and_update().clone());
            if self.store.is_leader() && !self.drift.due(gone).0.is_empty() {
                return;
            }
            if views.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Whether something is gone that may be made again.
    pub(super) fn is_missed(&self, view: &View) -> bool {
        !self.drift.due(self.gone(view)).0.is_empty()
    }

    /// What is gone; nothing while the cluster is about to go back to another commit.
    fn gone(&self, view: &View) -> BTreeSet<Key> {
        match view.head_of(&self.name).is_some() && way_back(view, &self.name).is_none() {
            true => drift::gone(view, &self.name),
            false => BTreeSet::new(),
        }
    }

    async fn put_back_now(&self, view: &View, due: &BTreeSet<Key>) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let Some(head) = view.head_of(&self.name).map(|head| head.commit.clone()) else {
            return Ok(());
        };
        let candidate = self.read(&head, view, clock::now(), Scope::Again).await?;
        if let Some(problem) = candidate.problems.first() {
            return Err(Error::Back(problem.to_string()));
        }
        for command in drift::put_back(&candidate.wanted, due)? {
            done(self.store.propose(vec![command]).await?)?;
        }
        let view = self.store.view();
        let back: BTreeSet<Key> =
            due.iter().filter(|key| view.object(key).is_some()).cloned().collect();
        self.drift.count(&back);
        for key in &back {
            tracing::warn!(event = "drift corrected", object = %key, commit = %head);
        }
        match drift::note(&view, &back) {
            Some(note) => done(self.store.propose(vec![note]).await?),
            None => Ok(()),
        }
    }
}
