//! How long libgit2 waits for a server that says nothing.
//!
//! The relay ends every conversation over SSH and HTTP at its deadline. HTTPS goes without it
//! (`exchange` says why), so there the bound is libgit2's own, which is one for the whole process
//! and the only place of mainstay with unsafe code.

use std::sync::Once;

/// Longest silence of a server, in milliseconds, while we connect or wait for its next bytes. A
/// server that counts the objects of a large repository says so every second; half a minute without
/// a byte is a server that is gone.
pub(super) const SILENCE_MS_MAX: i32 = 30_000;

static BOUND: Once = Once::new();

/// Sets the bound, at the first call. Every conversation calls this before it begins.
#[expect(unsafe_code, reason = "a setting of libgit2 that has no other way in")]
pub(super) fn bound() {
    BOUND.call_once(|| {
        // SAFETY: these write two integers that libgit2 reads when it opens a connection. Each
        // connection begins behind this `Once`, so that no read meets the write.
        let set = unsafe {
            git2::opts::set_server_connect_timeout_in_milliseconds(SILENCE_MS_MAX)
                .and_then(|()| git2::opts::set_server_timeout_in_milliseconds(SILENCE_MS_MAX))
        };
        if let Err(error) = set {
            tracing::warn!(event = "a silent https server is waited for without bound", %error);
        }
    });
}
