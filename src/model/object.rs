//! One Kubernetes object.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use k8s_openapi::{
    Metadata,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use smol_str::SmolStr;

use super::{GroupKind, Key, ReadError, Revision, read, read_slice};

/// One object: canonical JSON (keys sorted, no white space) and, beside it, the typed view, decoded
/// once.
///
/// Cheap to clone. A list or a watch sends [`bytes`](Object::bytes) as they are. Two objects are
/// equal when their bytes are. What is decoded takes several times the bytes: where many objects
/// wait to be read, they are [`lean`](Object::lean).
#[derive(Clone)]
pub struct Object(Arc<Inner>);

struct Inner {
    key: Key,
    api_version: SmolStr,
    /// Shared by all copies, whatever was decoded of each.
    bytes: Arc<[u8]>,
    /// None before it was stored.
    stored: Option<Arc<Stored>>,
    revision: Revision,
    is_terminating: bool,
    is_annotated: bool,
    is_owned: bool,
    /// Empty where the typed view has it too, and in a lean object until somebody asks.
    meta: OnceLock<Box<ObjectMeta>>,
    /// `None` inside: the bytes do not decode as the type that was asked for first.
    typed: OnceLock<Option<Box<dyn Typed>>>,
}

/// The owner that controls an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Its uid.
    pub uid: SmolStr,
    /// Its kind.
    pub kind: GroupKind,
    /// Its name, in the namespace of what it controls.
    pub name: SmolStr,
}

impl Controller {
    fn of(owner: &OwnerReference) -> Self {
        let kind = GroupKind::from_api_version(&owner.api_version, &owner.kind);
        Self { uid: owner.uid.as_str().into(), kind, name: owner.name.as_str().into() }
    }
}

/// What is asked of a stored object all the time: it stays when what was decoded goes.
struct Stored {
    uid: Box<str>,
    controller: Option<Box<Controller>>,
    /// See [`Object::gist`].
    gist: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Stored {
    fn of(meta: &ObjectMeta) -> Option<Arc<Self>> {
        let uid = meta.uid.as_deref().filter(|uid| !uid.is_empty())?;
        let mut owners = meta.owner_references.iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true));
        let controller = controller.map(|owner| Box::new(Controller::of(owner)));
        Some(Arc::new(Self { uid: uid.into(), controller, gist: OnceLock::new() }))
    }
}

impl Inner {
    fn lean_copy(&self) -> Self {
        Self {
            key: self.key.clone(),
            api_version: self.api_version.clone(),
            bytes: Arc::clone(&self.bytes),
            stored: self.stored.clone(),
            revision: self.revision,
            is_terminating: self.is_terminating,
            is_annotated: self.is_annotated,
            is_owned: self.is_owned,
            meta: OnceLock::new(),
            typed: OnceLock::new(),
        }
    }
}

/// A typed view, whatever its type.
trait Typed: Any + Send + Sync {
    fn meta(&self) -> &ObjectMeta;
}

impl<T: Metadata<Ty = ObjectMeta> + Send + Sync + 'static> Typed for T {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
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
    api_version: Option<SmolStr>,
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
        let revision = meta.resource_version.as_deref().and_then(|text| text.parse().ok());
        Ok(Self(Arc::new(Inner {
            key,
            api_version,
            bytes,
            stored: Stored::of(&meta),
            revision: Revision(revision.unwrap_or_default()),
            is_terminating: meta.deletion_timestamp.is_some(),
            is_annotated: meta.annotations.as_ref().is_some_and(|all| !all.is_empty()),
            is_owned: meta.owner_references.as_ref().is_some_and(|all| !all.is_empty()),
            meta: OnceLock::from(Box::new(meta)),
            typed: OnceLock::new(),
        })))
    }

    /// The object without what was decoded of it; whoever asks decodes it again. When somebody else
    /// holds it as well, it is a copy.
    #[must_use]
    pub fn lean(mut self) -> Self {
        match Arc::get_mut(&mut self.0) {
            Some(inner) => (inner.meta, inner.typed) = (OnceLock::new(), OnceLock::new()),
            None => self = Self(Arc::new(self.0.lean_copy())),
        }
        self
    }

    /// Whether nothing is held of it but its bytes.
    pub fn is_lean(&self) -> bool {
        self.0.meta.get().is_none() && self.0.typed.get().is_none()
    }

    /// The object for whoever looks at many once: what is decoded of it goes with it, unless it was
    /// decoded already.
    #[must_use]
    pub fn apart(&self) -> Self {
        match self.0.typed.get() {
            Some(_) => self.clone(),
            None => self.clone().lean(),
        }
    }

    /// Whether both are one and the same in memory.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The object with its metadata held once: by the typed view, where there is one.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0)
            && let Some(Some(_)) = inner.typed.get()
        {
            inner.meta = OnceLock::new();
        }
        self
    }

    /// Makes an object of a typed one; it must have a name.
    pub fn of<T>(typed: &T) -> Result<Self, ObjectError>
    where
        T: Metadata<Ty = ObjectMeta> + Serialize,
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
        match self.0.typed.get() {
            Some(Some(typed)) => (**typed).meta(),
            _ => self.0.meta.get_or_init(|| Box::new(self.decoded_meta())),
        }
    }

    fn decoded_meta(&self) -> ObjectMeta {
        let head: Option<Head> = read_slice(&self.0.bytes).ok();
        head.and_then(|head| head.metadata).unwrap_or_default()
    }

    /// The uid; empty when it was not stored yet.
    pub fn uid(&self) -> &str {
        self.0.stored.as_ref().map_or("", |stored| &stored.uid)
    }

    /// The revision at which this version was stored; zero when it was not stored yet.
    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    /// Whether it has annotations.
    pub fn is_annotated(&self) -> bool {
        self.0.is_annotated
    }

    /// The value of one annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        if !self.0.is_annotated {
            return None;
        }
        self.meta().annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// The owners it names, controlled by them or not.
    pub fn owners(&self) -> &[OwnerReference] {
        if !self.0.is_owned {
            return &[];
        }
        self.meta().owner_references.as_deref().unwrap_or_default()
    }

    /// The owner that controls this object; `None` also before the object was stored.
    pub fn controller(&self) -> Option<&Controller> {
        self.0.stored.as_ref()?.controller.as_deref()
    }

    /// The uid of the owner that controls this object.
    pub fn controller_uid(&self) -> Option<&str> {
        if self.0.stored.is_some() {
            return self.controller().map(|controller| controller.uid.as_str());
        }
        self.owners().iter().find(|o| o.controller == Some(true)).map(|o| o.uid.as_str())
    }

    /// Whether a deletion was asked for and is waiting for its grace period or its finalizers.
    pub fn is_terminating(&self) -> bool {
        self.0.is_terminating
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
        T: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
    {
        self.decoded(|| read_slice(&self.0.bytes))
    }

    /// As [`view`](Self::view), for whoever made the object of `value` and still has it: nothing is
    /// parsed again.
    pub fn view_of<T>(&self, value: &Value) -> Option<&T>
    where
        T: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
    {
        self.decoded(|| read(value))
    }

    /// As [`view`](Self::view), for whoever looks at many objects once: nothing is kept.
    pub fn read<T>(&self) -> Option<T>
    where
        T: Metadata<Ty = ObjectMeta> + DeserializeOwned,
    {
        if !self.0.key.is::<T>() {
            return None;
        }
        read_slice(&self.0.bytes).ok()
    }

    /// What `make` makes of a stored object, made once and kept also when what was decoded goes:
    /// small, for whoever looks at all objects of a kind again and again. `None` for an object that
    /// was not stored yet, and for whoever asks for something else than the first who did.
    pub fn gist<T: Send + Sync + 'static>(&self, make: impl FnOnce(&Self) -> T) -> Option<&T> {
        let gist: &dyn Any = &**self.0.stored.as_ref()?.gist.get_or_init(|| Box::new(make(self)));
        gist.downcast_ref()
    }

    fn decoded<T>(&self, decode: impl FnOnce() -> Result<T, ReadError>) -> Option<&T>
    where
        T: Metadata<Ty = ObjectMeta> + Send + Sync + 'static,
    {
        if !self.0.key.is::<T>() {
            return None;
        }
        let boxed = || decode().ok().map(|typed| Box::new(typed) as Box<dyn Typed>);
        let typed: &dyn Any = self.0.typed.get_or_init(boxed).as_deref()?;
        typed.downcast_ref()
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use serde_json::json;

    use super::*;

    fn map() -> Object {
        let value = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"word": "first"},
            "metadata": {
                "name": "web", "resourceVersion": "7", "uid": "u-1", "labels": {"app": "web"},
            },
        });
        Object::from_value(&value).unwrap()
    }

    fn holds(object: &Object) -> (bool, bool) {
        (object.0.meta.get().is_some(), object.0.typed.get().is_some())
    }

    /// What must not happen: an object that answers differently once what was decoded is dropped.
    #[test]
    fn what_is_decoded_may_go_and_comes_back() {
        let label = |object: &Object| object.meta().labels.clone().unwrap()["app"].clone();
        let word = |object: &Object| object.view::<ConfigMap>().unwrap().data.clone().unwrap();
        let whole = map();
        assert_eq!((label(&whole), word(&whole)["word"].as_str()), ("web".into(), "first"));
        assert_eq!(holds(&whole), (true, true));
        let trimmed = whole.trimmed();
        assert_eq!(holds(&trimmed), (false, true));
        assert_eq!(label(&trimmed), "web", "the view says it");
        let lean = trimmed.lean();
        assert_eq!((lean.revision(), lean.uid()), (Revision(7), "u-1"));
        assert!(lean.owners().is_empty() && lean.controller_uid().is_none());
        assert!(!lean.is_terminating() && lean.annotation("any").is_none());
        assert!(lean.read::<ConfigMap>().is_some() && lean.read::<Secret>().is_none());
        assert_eq!(holds(&lean), (false, false), "nothing of that had to be kept");
        assert_eq!((label(&lean), word(&lean)["word"].as_str()), ("web".into(), "first"));
        assert_eq!(lean, map());
    }

    #[test]
    fn what_somebody_else_holds_stays_as_it_is() {
        let one = map();
        let other = one.clone();
        let lean = one.lean();
        assert_eq!((holds(&lean), holds(&other)), ((false, false), (true, false)));
        assert!(lean == other && !lean.is_same(&other));
        // What was made of it stays, also where everything else goes.
        let made = |object: &Object| object.gist(|o| o.bytes().len()).copied();
        assert_eq!(made(&lean), Some(lean.bytes().len()));
        assert_eq!(lean.clone().lean().gist::<usize>(|_| unreachable!()), made(&lean).as_ref());
        assert_eq!(lean.gist::<String>(|_| unreachable!()), None);
        // Looked at once: nothing stays behind.
        assert!(lean.apart().view::<ConfigMap>().is_some());
        assert_eq!(holds(&lean), (false, false));
        assert!(lean.view::<ConfigMap>().is_some() && lean.apart().is_same(&lean));
    }
}
