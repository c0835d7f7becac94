//! Configuration: read once, at the start.
