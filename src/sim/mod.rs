//! A whole cluster in one thread, from a seed.
