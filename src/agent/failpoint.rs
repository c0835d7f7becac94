//! Places where a test may make the agent die.

use std::sync::OnceLock;

/// Dies at once, as by SIGKILL, when `MAINSTAY_FAILPOINT` names this point. There is one after
/// every side effect of starting and stopping a pod, so that a test can show that none of them
/// leaves anything behind.
pub(crate) fn reached(point: &str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("MAINSTAY_FAILPOINT").ok());
    if wanted.as_deref() == Some(point) {
        std::process::abort();
    }
}
