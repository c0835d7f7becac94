//! Containers of a pod.
