//! What mainstay knows of each Kubernetes kind, in one registry.
