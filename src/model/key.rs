//! What names an object.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// A kind within its API group, whatever the version: `Deployment.apps`, `Pod`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKind {
    /// `Deployment`
    pub kind: SmolStr,
    /// `apps`; empty for the core group
    pub group: SmolStr,
}

impl GroupKind {
    /// Names a kind; `group` is empty for the core group.
    pub fn new(group: &str, kind: &str) -> Self {
        Self { kind: kind.into(), group: group.into() }
    }

    /// The kind of a typed Kubernetes object.
    pub fn of<T: k8s_openapi::Resource>() -> Self {
        Self::new(T::GROUP, T::KIND)
    }

    /// The kind of an object that says `apiVersion` and `kind`.
    pub fn from_api_version(api_version: &str, kind: &str) -> Self {
        let group = api_version.rsplit_once('/').map_or("", |(group, _version)| group);
        Self::new(group, kind)
    }

    /// Whether this is the kind of `T`.
    pub fn is<T: k8s_openapi::Resource>(&self) -> bool {
        self.kind == T::KIND && self.group == T::GROUP
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// Kind, namespace and name: what an object is, wherever its file lies.
///
/// Ordered by kind, then namespace, then name, so that one kind (and one namespace of it) is one
/// range of a map. `Display` is for people (`Deployment shop/web`); serde uses the path form
/// `Deployment.apps/shop/web`, with an empty namespace for cluster-scoped kinds (`Node//n1`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    /// The kind, whatever its version.
    pub kind: GroupKind,
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: SmolStr,
    /// The name.
    pub name: SmolStr,
}

/// A text that is not the path form of a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a key (Kind.group/namespace/name)")]
pub struct KeyError(String);

impl Key {
    /// Names an object of a kind known by name.
    pub fn new(kind: GroupKind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// Names an object of a typed kind. `namespace` is empty for cluster-scoped kinds.
    pub fn of<T: k8s_openapi::Resource>(namespace: &str, name: &str) -> Self {
        Self::new(GroupKind::of::<T>(), namespace, name)
    }

    /// Whether this names an object of kind `T`.
    pub fn is<T: k8s_openapi::Resource>(&self) -> bool {
        self.kind.is::<T>()
    }

    /// `Deployment.apps/shop/web`, `Node//n1`: what serde writes.
    pub fn to_path(&self) -> String {
        format!("{}/{}/{}", self.kind, self.namespace, self.name)
    }

    /// Reads the path form.
    pub fn parse(path: &str) -> Result<Self, KeyError> {
        let fail = || KeyError(path.to_owned());
        let mut parts = path.splitn(3, '/');
        let (kind, namespace, name) = (
            parts.next().ok_or_else(fail)?,
            parts.next().ok_or_else(fail)?,
            parts.next().ok_or_else(fail)?,
        );
        let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        if kind.is_empty() || name.is_empty() {
            return Err(fail());
        }
        Ok(Self::new(GroupKind::new(group, kind), namespace, name))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;
    fn try_from(path: String) -> Result<Self, KeyError> {
        Self::parse(&path)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.to_path()
    }
}

/// The name of a node, as in `spec.nodeName`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub SmolStr);

impl NodeName {
    /// Names a node.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
