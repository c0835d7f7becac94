//! One object on its way through the kustomizations, and what it was called on that way.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value};

use crate::{kinds, model::GroupKind};

/// The namespace of what has none.
const DEFAULT_NAMESPACE: &str = "default";
/// Stands for the namespace of what cannot have one; no namespace may be called so.
const NO_NAMESPACE: &str = "_";

/// A file that was read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) bytes: Arc<[u8]>,
}

/// Where an object is written.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    /// The number of the document in its file.
    pub(super) document: usize,
    /// Where in the document, when it is not all of it: `items[0]`.
    pub(super) prefix: String,
    /// The line of the document, from 1.
    pub(super) line: u32,
}

/// What tells an object from others at one moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) name: String,
    /// [`DEFAULT_NAMESPACE`] for none, [`NO_NAMESPACE`] for a kind without namespaces.
    pub(super) namespace: String,
}

/// A kind, wholly or in part: what is empty fits everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gvk<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) kind: &'a str,
}

impl Gvk<'_> {
    /// Whether it stands for the kind of `id`.
    pub(super) fn selects(&self, id: &Id) -> bool {
        self.fits(&id.group, &id.version, &id.kind)
    }

    /// Whether it stands for this kind.
    pub(super) fn fits(&self, group: &str, version: &str, kind: &str) -> bool {
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        fits(self.group, group) && fits(self.version, version) && fits(self.kind, kind)
    }
}

/// Kind, name and namespace that an object had before.
#[derive(Clone, Debug)]
struct Earlier {
    kind: String,
    name: String,
    namespace: String,
}

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) value: Value,
    pub(super) place: Place,
    /// What it was called, oldest first.
    earlier: Vec<Earlier>,
    /// The prefixes and suffixes it was given, in that order.
    pub(super) prefixes: Vec<String>,
    pub(super) suffixes: Vec<String>,
    /// Whether its name ends with a hash of its content.
    pub(super) hashed: bool,
}

impl Resource {
    pub(super) fn new(value: Value, place: Place) -> Self {
        let (earlier, prefixes, suffixes) = (Vec::new(), Vec::new(), Vec::new());
        Self { value, place, earlier, prefixes, suffixes, hashed: false }
    }

    fn text(&self, field: &str) -> &str {
        self.value.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn meta_text(&self, field: &str) -> &str {
        self.value["metadata"].get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &str {
        self.text("kind")
    }

    pub(super) fn api_version(&self) -> &str {
        self.text("apiVersion")
    }

    pub(super) fn name(&self) -> &str {
        self.meta_text("name")
    }

    /// The namespace as it is written, empty for none.
    pub(super) fn namespace(&self) -> &str {
        self.meta_text("namespace")
    }

    /// Whether its kind has no namespaces.
    pub(super) fn is_cluster_scoped(&self) -> bool {
        let kind = GroupKind::from_api_version(self.api_version(), self.kind());
        kinds::lookup(&kind).is_some_and(|info| !info.namespaced)
    }

    fn effective_namespace(&self) -> &str {
        match self.namespace() {
            _ if self.is_cluster_scoped() => NO_NAMESPACE,
            "" => DEFAULT_NAMESPACE,
            namespace => namespace,
        }
    }

    fn id_with(&self, kind: &str, name: &str, namespace: &str) -> Id {
        let api_version = self.api_version();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Id {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        }
    }

    /// What it is called now.
    pub(super) fn id(&self) -> Id {
        self.id_with(self.kind(), self.name(), self.effective_namespace())
    }

    /// What it was called before, oldest first.
    pub(super) fn earlier_ids(&self) -> Vec<Id> {
        self.earlier.iter().map(|e| self.id_with(&e.kind, &e.name, &e.namespace)).collect()
    }

    /// Everything it was called, what it is called now last.
    pub(super) fn ids(&self) -> Vec<Id> {
        let mut ids = self.earlier_ids();
        ids.push(self.id());
        ids
    }

    /// What it was called at first.
    pub(super) fn first_id(&self) -> Id {
        match self.earlier.first() {
            Some(e) => self.id_with(&e.kind, &e.name, &e.namespace),
            None => self.id(),
        }
    }

    /// The names it had before.
    pub(super) fn earlier_names(&self) -> BTreeSet<&str> {
        self.earlier.iter().map(|e| e.name.as_str()).collect()
    }

    /// Keeps what it is called now, before that changes.
    pub(super) fn remember(&mut self) {
        self.earlier.push(Earlier {
            kind: self.kind().to_owned(),
            name: self.name().to_owned(),
            namespace: self.effective_namespace().to_owned(),
        });
    }

    /// Takes over the past of the object it stands in place of.
    pub(super) fn inherit(&mut self, other: &Self) {
        self.earlier = other.earlier.clone();
        self.prefixes = other.prefixes.clone();
        self.suffixes = other.suffixes.clone();
        self.hashed = self.hashed && other.hashed;
    }

    fn meta(&mut self) -> Option<&mut Map<String, Value>> {
        let object = self.value.as_object_mut()?;
        object.entry("metadata").or_insert_with(|| Map::new().into()).as_object_mut()
    }

    pub(super) fn set_kind(&mut self, kind: &str) {
        if let Some(object) = self.value.as_object_mut() {
            object.insert("kind".to_owned(), kind.into());
        }
    }

    pub(super) fn set_name(&mut self, name: &str) {
        self.set_meta("name", name);
    }

    pub(super) fn set_namespace(&mut self, namespace: &str) {
        self.set_meta("namespace", namespace);
    }

    /// Sets a field of its metadata; empty takes it away.
    fn set_meta(&mut self, field: &str, text: &str) {
        let Some(meta) = self.meta() else { return };
        match text {
            "" => meta.remove(field),
            text => meta.insert(field.to_owned(), text.into()),
        };
    }

    /// A map of its metadata (`labels`, `annotations`).
    pub(super) fn meta_map(&self, field: &str) -> Option<&Map<String, Value>> {
        self.value["metadata"].get(field)?.as_object()
    }

    /// Makes texts of numbers and the like in its annotations.
    pub(super) fn annotations_to_texts(&mut self) {
        let annotations = self.value.pointer_mut("/metadata/annotations");
        let annotations = annotations.and_then(Value::as_object_mut);
        for value in annotations.into_iter().flat_map(Map::values_mut) {
            if value.is_number() || value.is_boolean() {
                *value = value.to_string().into();
            }
        }
    }

    /// Whether its author keeps it from the cluster.
    pub(super) fn is_local(&self) -> bool {
        let mark = self.meta_map("annotations");
        let mark = mark.and_then(|map| map.get("config.kubernetes.io/local-config"));
        mark.is_some_and(|value| value != "false" && *value != false)
    }

    /// As people name it.
    pub(super) fn shown(&self) -> String {
        match self.namespace() {
            "" => format!("{} {:?}", self.kind(), self.name()),
            namespace => format!("{} {:?} in {namespace:?}", self.kind(), self.name()),
        }
    }
}

/// Adds objects to others; those that are there already are given back, with the one they meet.
pub(super) fn append(
    set: &mut Vec<Resource>,
    more: impl IntoIterator<Item = Resource>,
) -> Vec<(Resource, Place)> {
    let mut known: std::collections::BTreeMap<Id, usize> =
        set.iter().enumerate().map(|(i, resource)| (resource.id(), i)).collect();
    let mut twice = Vec::new();
    for resource in more {
        let id = resource.id();
        if let Some(at) = known.get(&id) {
            twice.push((resource, set[*at].place.clone()));
            continue;
        }
        known.insert(id, set.len());
        set.push(resource);
    }
    twice
}
