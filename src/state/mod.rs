//! The replicated truth.
