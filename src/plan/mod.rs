//! Controllers: from a view and the time to commands.
