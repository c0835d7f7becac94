//! Volumes of a pod.
