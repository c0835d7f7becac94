//! Has what follows Git look at once: after a hook, or after a push of our own.
//!
//! Only the server that leads takes what is new, and a hook may reach any. So whoever hears of news
//! looks itself, for it may lead in a moment, and tells the leader.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{Store, forward, sources::Sources};

/// Where there may be something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum News {
    /// Everything that is followed.
    All,
    /// Branches that are not merged yet, and the sources that Git names.
    Branches,
    /// The sources that Git names.
    Sources,
}

/// Whom to wake.
#[derive(Clone)]
pub(super) struct Nudge {
    pub(super) store: Store,
    /// What follows the main source.
    pub(super) main: Arc<Notify>,
    /// What looks at branches.
    pub(super) branches: Arc<Notify>,
    pub(super) sources: Arc<Sources>,
}

impl Nudge {
    /// Has this server look, and the one that leads.
    pub(super) fn send(&self, news: News) {
        self.here(news);
        let leader = self.store.roles().borrow().leader.clone();
        let Some(leader) = leader.filter(|_| !self.store.is_leader()) else { return };
        let tls = self.store.tls();
        // Whoever told us need not wait for it: what is not heard is found by the next look.
        tokio::spawn(async move {
            if let Err(error) = forward::ask_look(tls, &leader, news).await {
                tracing::warn!(event = "leader not told to look", leader = leader.id, %error);
            }
        });
    }

    /// Has this server look.
    pub(super) fn here(&self, news: News) {
        if news == News::All {
            self.main.notify_one();
        }
        if news != News::Sources {
            self.branches.notify_one();
        }
        self.sources.nudge();
    }
}
