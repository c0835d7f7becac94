//! From a view to status files, commit texts and metrics.
