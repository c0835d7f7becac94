//! Exec, attach, port-forward and connections for proxies: the ends of the streams that servers
//! carry here.
//!
//! In: a request on the agent's TLS port that asks for an upgrade. Out: the process' input and
//! outputs, or a port of the pod, in the protocol that the client asked for. `agent::serve` calls.
//! What bytes mean is decided in `node::streams`; here they are only carried. Never here: who may
//! do this: servers have asked that before.
//!
//! Each stream holds a few buffers of [`CHUNK_BYTES`] for each channel. Who does not read stops
//! whoever writes, and nothing is kept meanwhile.

mod activity;
mod command;
mod forward;
mod routes;
mod spdy;
mod tunnel;
mod websocket;

use std::time::Duration;

pub use routes::router;

/// Most streams that are open at once on a node; each has a few hundred KiB of buffers at most.
pub const STREAMS_MAX: usize = 256;

/// A stream on which nothing went either way for so long is closed (the kubelet's own limit).
pub const IDLE_MAX: Duration = Duration::from_secs(4 * 60 * 60);

/// Bytes that are read from a process or port at once.
const CHUNK_BYTES: usize = 32 << 10;

/// Pieces that wait for a slow reader, in each direction of each channel.
const PIECES_MAX: usize = 4;

/// How long a client may take to take in the last words of a stream and to close it.
const LINGER: Duration = Duration::from_secs(10);

/// How long a client may take to open the streams that its request speaks of (the kubelet's limit).
const OPENING_MAX: Duration = Duration::from_secs(30);
