//! One Kubernetes object.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use k8s_openapi::{Metadata, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{GroupKind, Key, ReadError, Revision, read, read_slice};

/// One object: canonical JSON (keys sorted, no white space) and, beside it, the typed view, decoded
/// once.
///
/// Cheap to clone. A list or a watch sends [`bytes`](Object::bytes) as they are. Two objects are
/// equal when their bytes are.
#[derive(Clone)]
pub struct Object(Arc<Inner>);

struct Inner {
    key: Key,
    api_version: Box<str>,
    meta: ObjectMeta,
    bytes: Box<[u8]>,
    /// `None` inside: the bytes do not decode as the type that was asked for first.
    typed: OnceLock<Option<Box<dyn Any + Send + Sync>>>,
}

/// Bytes that are not an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Not JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Not the shape of an object.
    #[error("{0}")]
    Shape(#[from] ReadError),
    /// A field that names the object is absent or no string.
    #[error("{0} is required")]
    Missing(&'static str),
}

/// What every object says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<Box<str>>,
    kind: Option<String>,
    metadata: Option<ObjectMeta>,
}

impl Object {
    /// Reads an object; field order and white space of the input do not matter.
    pub fn from_slice(json: &[u8]) -> Result<Self, ObjectError> {
        Self::from_value(&serde_json::from_slice(json)?)
    }

    /// Makes an object of a JSON value.
    pub fn from_value(value: &Value) -> Result<Self, ObjectError> {
        let head: Head = read(value)?;
        let api_version = head.api_version.ok_or(ObjectError::Missing("apiVersion"))?;
        let kind = head.kind.ok_or(ObjectError::Missing("kind"))?;
        let meta = head.metadata.ok_or(ObjectError::Missing("metadata"))?;
        let name = meta.name.as_deref().ok_or(ObjectError::Missing("metadata.name"))?;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let key = Key::new(GroupKind::from_api_version(&api_version, &kind), namespace, name);
        let bytes = serde_json::to_vec(value)?.into();
        Ok(Self(Arc::new(Inner { key, api_version, meta, bytes, typed: OnceLock::new() })))
    }

    /// Makes an object of a typed one; it must have a name.
    pub fn of<T>(typed: &T) -> Result<Self, ObjectError>
    where
        T: Resource + Metadata<Ty = ObjectMeta> + Serialize,
    {
        Self::from_value(&serde_json::to_value(typed)?)
    }

    /// Kind, namespace and name.
    pub fn key(&self) -> &Key {
        &self.0.key
    }

    /// `apps/v1`
    pub fn api_version(&self) -> &str {
        &self.0.api_version
    }

    /// The metadata.
    pub fn meta(&self) -> &ObjectMeta {
        &self.0.meta
    }

    /// The uid; empty when it was not stored yet.
    pub fn uid(&self) -> &str {
        self.0.meta.uid.as_deref().unwrap_or_default()
    }

    /// The revision at which this version was stored; zero when it was not stored yet.
    pub fn revision(&self) -> Revision {
        let text = self.0.meta.resource_version.as_deref();
        Revision(text.and_then(|t| t.parse().ok()).unwrap_or_default())
    }

    /// The value of one annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.0.meta.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// The uid of the owner that controls this object.
    pub fn controller_uid(&self) -> Option<&str> {
        let owners = self.0.meta.owner_references.as_ref()?;
        owners.iter().find(|o| o.controller == Some(true)).map(|o| o.uid.as_str())
    }

    /// Whether a deletion was asked for and is waiting for its grace period or its finalizers.
    pub fn is_terminating(&self) -> bool {
        self.0.meta.deletion_timestamp.is_some()
    }

    /// Canonical JSON.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The object as a JSON value (decoded anew at each call).
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.0.bytes).unwrap_or_default()
    }

    /// The typed view, decoded at the first call and kept. `None` when this is an object of another
    /// kind or its bytes do not decode as `T` (`state::apply` refuses such bytes, so in State that
    /// does not happen).
    pub fn view<T>(&self) -> Option<&T>
    where
        T: Resource + DeserializeOwned + Send + Sync + 'static,
    {
        self.decoded(|| read_slice(&self.0.bytes))
    }

    /// As [`view`](Self::view), for whoever made the object of `value` and still has it: nothing is
    /// parsed again.
    pub fn view_of<T>(&self, value: &Value) -> Option<&T>
    where
        T: Resource + DeserializeOwned + Send + Sync + 'static,
    {
        self.decoded(|| read(value))
    }

    fn decoded<T>(&self, decode: impl FnOnce() -> Result<T, ReadError>) -> Option<&T>
    where
        T: Resource + Send + Sync + 'static,
    {
        if !self.0.key.is::<T>() {
            return None;
        }
        let boxed = || decode().ok().map(|typed| Box::new(typed) as Box<dyn Any + Send + Sync>);
        self.0.typed.get_or_init(boxed).as_deref()?.downcast_ref()
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.bytes == other.0.bytes
    }
}

impl Eq for Object {}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0.bytes))
    }
}

impl Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &serde_json::value::RawValue =
            serde_json::from_slice(&self.0.bytes).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(&value).map_err(serde::de::Error::custom)
    }
}
