//! Has what follows Git look at once: after a hook, or after a push of our own.
//!
//! Only the server that leads takes what is new, and a hook may reach any. So whoever hears of news
//! looks itself, for it may lead in a moment, and tells the leader.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{Store, forward, sources::Sources};

/// Where there may be something new; the later ones mean the earlier ones, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum News {
    /// The sources that Git names.
    Sources,
    /// Branches that are not merged yet, and the sources that Git names.
    Branches,
    /// Everything that is followed.
    All,
}

/// Whether the leader is being told, and of what it is to be told then. However many tell us
/// meanwhile, that is one more time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Telling {
    /// It is not.
    #[default]
    Silent,
    /// It is, and knows everything then.
    Busy,
    /// It is, and has to be told this next.
    Again(News),
}

impl Telling {
    /// Notes news; whether somebody has to begin telling.
    fn note(&mut self, news: News) -> bool {
        let begins = *self == Self::Silent;
        *self = match *self {
            Self::Silent => Self::Busy,
            Self::Busy => Self::Again(news),
            Self::Again(before) => Self::Again(before.max(news)),
        };
        begins
    }

    /// What to tell after it was told.
    fn next(&mut self) -> Option<News> {
        match std::mem::take(self) {
            Self::Again(news) => {
                *self = Self::Busy;
                Some(news)
            }
            Self::Busy | Self::Silent => None,
        }
    }
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
    pub(super) telling: Arc<Mutex<Telling>>,
}

impl Nudge {
    /// Has this server look, and the one that leads.
    pub(super) fn send(&self, news: News) {
        self.here(news);
        if self.store.is_leader() || !self.lock().note(news) {
            return;
        }
        // Whoever told us need not wait for it: what is not heard is found by the next look.
        let this = self.clone();
        tokio::spawn(async move {
            let mut news = Some(news);
            while let Some(now) = news {
                this.tell_leader(now).await;
                news = this.lock().next();
            }
        });
    }

    async fn tell_leader(&self, news: News) {
        let leader = self.store.roles().borrow().leader.clone();
        let Some(leader) = leader.filter(|_| !self.store.is_leader()) else { return };
        if let Err(error) = forward::ask_look(self.store.tls(), &leader, news).await {
            tracing::warn!(event = "leader not told to look", leader = leader.id, %error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_tell_us_the_leader_hears_it_once_more() {
        let mut telling = Telling::default();
        assert!(telling.note(News::Sources));
        for news in [News::Branches, News::All, News::Sources, News::Branches] {
            assert!(!telling.note(news));
        }
        assert_eq!((telling.next(), telling.next()), (Some(News::All), None));
        assert!(telling.note(News::Branches), "and then it begins anew");
        assert_eq!(telling.next(), None);
    }
}
