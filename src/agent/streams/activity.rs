//! When something last went over a stream.

use std::sync::{Mutex, PoisonError};

use tokio::time::{Instant, sleep_until};

use super::IDLE_MAX;

/// Remembers when something last went over a stream.
pub(super) struct Activity(Mutex<Instant>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Something goes over it.
    pub(super) fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Ends once nothing did for [`IDLE_MAX`].
    pub(super) async fn idle(&self) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + IDLE_MAX;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}
