//! How exec, attach and port-forward speak: byte formats of clients and of Docker, without a
//! socket.
//!
//! In: bytes as they come, cut anywhere. Out: what they say, or the bytes to send. The agent's
//! `streams` carries both; nothing here waits, and every buffer has its bound. Never here: what is
//! done with the words.
//!
//! | spoken by | module |
//! |---|---|
//! | kubectl's exec before 1.29, every kubectl's port-forward | [`spdy`] |
//! | kubectl's exec since 1.29, other languages' clients | [`channels`] |
//! | Docker, when it is asked to attach or to run something | [`multiplex`] |
//! | Docker's logs, with what Kubernetes asks of them beyond Docker's own words | [`log`] |

pub mod channels;
pub mod log;
pub mod multiplex;
mod resize;
pub mod spdy;
mod words;

pub use resize::{Size, Sizes};
pub use words::{Command, CommandError, Ended};
