//! Every kind that is served: those that are built in and those that definitions add.

use std::sync::Arc;

use imbl::OrdMap;
use k8s_openapi::{
    api::admissionregistration::v1::ValidatingAdmissionPolicy,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde_json::Value;

use super::{
    Admitted, FieldError, KindInfo, PolicyRules, ServedAs, Strictness, custom, door, lookup,
    registry, registry::Nature,
};
use crate::model::{GroupKind, Key, Object, Timestamp};

/// The kinds of a cluster. Cheap to clone; its default holds what is built in.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    /// By kind; a built-in kind never stands here.
    custom: OrdMap<GroupKind, Arc<KindInfo>>,
    /// Which definition gave which kind.
    given: OrdMap<Key, GroupKind>,
    /// The rules of each ValidatingAdmissionPolicy, read once.
    policies: OrdMap<Key, Arc<PolicyRules>>,
}

/// A kind, and the shape it has where it was looked up; `None` for the stored one.
pub type Served<'a> = (&'a Arc<KindInfo>, Option<&'a ServedAs>);

impl Kinds {
    /// What is known of a kind; `None` when it is not served.
    pub fn lookup(&self, kind: &GroupKind) -> Option<&Arc<KindInfo>> {
        match lookup(kind) {
            Some(built_in) => Some(built_in),
            None => self.custom.get(kind),
        }
    }

    /// Every kind, built-in ones first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<KindInfo>> {
        registry().iter().chain(self.custom.values())
    }

    /// The kinds that definitions add.
    pub fn custom(&self) -> impl Iterator<Item = &Arc<KindInfo>> {
        self.custom.values()
    }

    /// Whether both hold the very same kinds: what was made of one holds for the other.
    pub fn is_same(&self, other: &Self) -> bool {
        self.custom.ptr_eq(&other.custom)
    }

    /// The kind that is served as `kind` at `api_version`.
    pub fn served(&self, api_version: &str, kind: &str) -> Option<Served<'_>> {
        let group_kind = GroupKind::from_api_version(api_version, kind);
        let own = self.custom.get(&group_kind).and_then(|info| at(info, api_version));
        let built_in = || registry().iter().filter(|info| info.kind == kind);
        own.or_else(|| built_in().find_map(|info| at(info, api_version)))
    }

    /// The kind behind a path (`autoscaling/v1`, `horizontalpodautoscalers`).
    pub fn served_resource(&self, api_version: &str, plural: &str) -> Option<Served<'_>> {
        self.iter().filter(|info| info.plural == plural).find_map(|info| at(info, api_version))
    }

    /// Whether there is a policy that could have something against a write.
    pub fn has_policies(&self) -> bool {
        !self.policies.is_empty()
    }

    /// The rules of a ValidatingAdmissionPolicy.
    pub fn policy(&self, key: &Key) -> Option<&PolicyRules> {
        self.policies.get(key).map(|rules| &**rules)
    }

    /// Takes in a definition, or a policy, in place of what it said before; a definition that is
    /// not established gives nothing.
    pub fn define(&mut self, definition: &Object) {
        self.forget(definition.key());
        if let Some(policy) = definition.view::<ValidatingAdmissionPolicy>() {
            let rules = Arc::new(PolicyRules::of(policy));
            self.policies.insert(definition.key().clone(), rules);
            return;
        }
        let Some(info) = custom::entry(definition) else { return };
        let kind = info.group_kind();
        if lookup(&kind).is_none() && !self.custom.contains_key(&kind) {
            self.custom.insert(kind.clone(), Arc::new(info));
            self.given.insert(definition.key().clone(), kind);
        }
    }

    /// Takes in a definition that is about to be stored, as it will be once State has decided about
    /// its names. `live` is what is stored of it, `others` are all that are stored.
    pub fn promise<'a>(
        &mut self,
        definition: &Object,
        live: Option<&Object>,
        others: impl Iterator<Item = &'a CustomResourceDefinition>,
    ) {
        let mut value = definition.value();
        // One that stays as it is gives what it gave: its rules are not read again.
        let is_same = |live: &Object| live.value().get("spec") == value.get("spec");
        let stays = live.is_some_and(|live| !live.is_terminating() && is_same(live));
        if stays && self.given.contains_key(definition.key()) {
            return;
        }
        if let Some(status) = live.and_then(|live| live.value().get("status").cloned()) {
            value["status"] = status;
        }
        // When its names were accepted makes no difference to its kind.
        custom::accept_names(&mut value, others, Timestamp(0));
        if let Ok(promised) = Object::from_value(&value) {
            self.define(&promised);
        }
    }

    /// Takes out the kind that a definition gave, or the rules of a policy.
    pub fn forget(&mut self, definition: &Key) {
        if definition.is::<ValidatingAdmissionPolicy>() {
            self.policies.remove(definition);
        }
        if !definition.is::<CustomResourceDefinition>() {
            return;
        }
        if let Some(kind) = self.given.remove(definition) {
            self.custom.remove(&kind);
        }
    }

    /// As [`admit`](super::admit), for every kind.
    pub fn admit(&self, value: Value, strictness: Strictness) -> Result<Admitted, Vec<FieldError>> {
        door::admit(self, value, strictness)
    }

    /// As [`admit`](Self::admit), for a new version of what is stored: it may have what comes only
    /// later (the containers for debugging of a pod).
    pub fn admit_change(
        &self,
        value: Value,
        strictness: Strictness,
    ) -> Result<Admitted, Vec<FieldError>> {
        door::admit_change(self, value, strictness)
    }

    /// What the rules of a custom kind say of an object that takes the place of `live`, or of a new
    /// one besides what [`admit`](Self::admit) told. Asked by whoever lets it in, never by State:
    /// an entry of the log is applied however long its rules would take.
    pub fn judge(&self, live: Option<&Object>, new: &Object) -> Result<(), Vec<FieldError>> {
        match self.custom.get(&new.key().kind).map(|info| (info, &info.nature)) {
            Some((info, Nature::Custom(custom))) => custom.judge(info, live, new),
            _ => Ok(()),
        }
    }

    /// A new version of what is stored, as its owner sends it: [`admit_change`](Self::admit_change)
    /// and [`update`](Self::update) in one. The live object comes back when nothing changed.
    pub fn replace(
        &self,
        live: &Object,
        value: Value,
        strictness: Strictness,
    ) -> Result<Admitted, Vec<FieldError>> {
        door::replace(self, live, value, strictness)
    }

    /// As [`create`](super::create), for every kind.
    pub fn create(&self, object: &Object) -> Object {
        door::create(self, object)
    }

    /// As [`create`](Self::create), from and to a JSON value. `None` when the kind is not served or
    /// the value does not decode as it.
    pub fn create_value(&self, kind: &GroupKind, value: Value) -> Option<Value> {
        door::create_value(self, kind, value)
    }

    /// As [`update`](super::update), for every kind.
    pub fn update(&self, live: &Object, new: &Object) -> Result<Object, Vec<FieldError>> {
        door::change(self, live, new, door::Way::Update)
    }

    /// As [`adopt`](super::adopt), for every kind.
    pub fn adopt(&self, live: &Object, new: &Object) -> Result<Object, Vec<FieldError>> {
        door::change(self, live, new, door::Way::Adopt)
    }

    /// As [`update_status`](super::update_status), for every kind.
    pub fn update_status(&self, live: &Object, new: &Object) -> Result<Object, Vec<FieldError>> {
        door::change(self, live, new, door::Way::Status)
    }

    /// Whether an object decodes as the type that its kind has; `value` is what it was made of.
    pub fn decodes(&self, object: &Object, value: &Value) -> bool {
        door::decodes(self, object, value)
    }
}

/// A kind where it is served at `api_version`.
fn at<'a>(info: &'a Arc<KindInfo>, api_version: &str) -> Option<Served<'a>> {
    if info.api_version == api_version {
        return info.is_served_as_stored().then_some((info, None));
    }
    let other = info.also.iter().find(|other| other.api_version == api_version)?;
    Some((info, Some(other)))
}
