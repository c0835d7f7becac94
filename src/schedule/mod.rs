//! Places pods on nodes and explains why not.
