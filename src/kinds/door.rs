//! The door: admit, create, update.

use std::collections::BTreeMap;

use k8s_openapi::{Metadata, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    FieldError, Kind, KindInfo, Kinds, Reason, ServedAs,
    custom::Custom,
    decode::{self, Strictness},
    field::Check,
    inert, known, lookup, meta, pod,
    registry::Nature,
    tidy,
};
use crate::model::{self, GroupKind, Object};

/// An object that came through the door.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// Defaulted and valid.
    pub object: Object,
    /// What its author should know: fields that are ignored, deprecated or not acted on yet.
    pub warnings: Vec<FieldError>,
}

/// Annotations that controllers write on objects of others; an update by the owner leaves them
/// alone.
const CONTROLLER_ANNOTATIONS: [&str; 2] =
    ["deployment.kubernetes.io/", "control-plane.alpha.kubernetes.io/"];

/// What of the metadata only the cluster says.
const KEPT: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "generation",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

/// What of it Git never says either.
const KEPT_FROM_GIT: [&str; 3] = ["finalizers", "ownerReferences", "managedFields"];

/// What `kubectl apply` wants to find again: it is nobody's wish, so no commit holds it, and a
/// commit leaves it where it is.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Reads a value as the kind it says it is: decodes strictly, defaults, validates.
///
/// All errors at once. A kind that is not served is one error on `kind` (or `apiVersion`) that says
/// what to do. Nothing is taken away: [`create`] and [`update`] do that.
pub(super) fn admit(
    kinds: &Kinds,
    value: Value,
    strictness: Strictness,
) -> Result<Admitted, Vec<FieldError>> {
    let admitted = read(kinds, value, strictness, Custom::admit)?;
    match pod::not_on_create(&admitted.object) {
        Some(error) => Err(vec![error]),
        None => Ok(admitted),
    }
}

/// As [`admit`], for a new version of what is stored: it may have what comes only later (the
/// containers for debugging of a pod).
pub(super) fn admit_change(
    kinds: &Kinds,
    value: Value,
    strictness: Strictness,
) -> Result<Admitted, Vec<FieldError>> {
    read(kinds, value, strictness, Custom::read)
}

/// How a custom object is read.
type ReadCustom =
    fn(&Custom, &KindInfo, Value, Strictness) -> Result<decode::Decoded, Vec<FieldError>>;

fn read(
    kinds: &Kinds,
    value: Value,
    strictness: Strictness,
    custom_as: ReadCustom,
) -> Result<Admitted, Vec<FieldError>> {
    let (info, other) = identify(kinds, &value).map_err(|e| vec![e])?;
    let (object, warnings) = match &info.nature {
        Nature::Custom(custom) => custom_as(custom, info, value, strictness)?,
        Nature::BuiltIn { door, .. } => {
            let (value, mut warnings) = match other {
                Some(other) => other.read(info, value, strictness)?,
                None => (value, Vec::new()),
            };
            let (object, more) = (door.admit)(info, value, strictness)?;
            warnings.extend(more);
            (object, warnings)
        }
    };
    Ok(Admitted { object, warnings })
}

/// As [`Kinds::admit`], for the built-in kinds.
pub fn admit_built_in(value: Value, strictness: Strictness) -> Result<Admitted, Vec<FieldError>> {
    admit(&Kinds::default(), value, strictness)
}

/// A new version of what is stored, as its owner sends it: [`admit_change`] and [`update`] in one.
pub(super) fn replace(
    kinds: &Kinds,
    live: &Object,
    value: Value,
    strictness: Strictness,
) -> Result<Admitted, Vec<FieldError>> {
    let (info, other) = identify(kinds, &value).map_err(|e| vec![e])?;
    let (updated, warnings) = match &info.nature {
        Nature::Custom(custom) => {
            let (object, warnings) = custom.read(info, value, strictness)?;
            (custom.update(info, Pair::of(live, object.value(), Way::Update))?, warnings)
        }
        Nature::BuiltIn { door, .. } => {
            let (value, mut warnings) = match other {
                Some(other) => other.read(info, value, strictness)?,
                None => (value, Vec::new()),
            };
            let (updated, more) = (door.replace)(info, live, value, strictness)?;
            warnings.extend(more);
            (updated, warnings)
        }
    };
    let object = written(live, updated)?;
    match object.key() == live.key() {
        true => Ok(Admitted { object, warnings }),
        false => Err(another(live, &object)),
    }
}

/// As [`Kinds::create`], for the built-in kinds.
pub fn create_built_in(object: &Object) -> Object {
    create(&Kinds::default(), object)
}

/// The registry's entry for a value that says `apiVersion` and `kind`, and its shape when that is
/// not the stored one.
fn identify<'a>(
    kinds: &'a Kinds,
    value: &Value,
) -> Result<(&'a KindInfo, Option<&'a ServedAs>), FieldError> {
    let fail = |field: &str, reason, detail: String| {
        Err(FieldError { field: field.to_owned(), reason, detail })
    };
    if !value.is_object() {
        return fail("", Reason::TypeInvalid, "expected a map with apiVersion and kind".to_owned());
    }
    let text = |field: &str| value.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
    let Some(api_version) = text("apiVersion") else {
        return fail("apiVersion", Reason::Required, "Required value".to_owned());
    };
    let Some(kind) = text("kind") else {
        return fail("kind", Reason::Required, "Required value".to_owned());
    };
    match kinds.served(api_version, kind) {
        Some((info, other)) => Ok((info, other)),
        None => {
            let (field, detail) = known::unsupported(api_version, kind);
            fail(field, Reason::NotSupported, detail)
        }
    }
}

/// Makes an admitted object ready to be stored for the first time: what only the cluster may set is
/// taken away (uid, resourceVersion, times, status) and the status starts as Kubernetes starts it.
///
/// The caller still gives uid, creationTimestamp and allocated addresses. An object of a kind that
/// is not in the registry comes back as it is.
pub(super) fn create(kinds: &Kinds, object: &Object) -> Object {
    let created = create_value(kinds, &object.key().kind, object.value());
    created.and_then(|v| Object::from_value(&v).ok()).unwrap_or_else(|| object.clone())
}

/// As [`create`], from and to a JSON value. `None` when the kind is not in the registry or the
/// value does not decode as it.
pub(super) fn create_value(kinds: &Kinds, kind: &GroupKind, value: Value) -> Option<Value> {
    let info = kinds.lookup(kind)?;
    match &info.nature {
        Nature::BuiltIn { door, .. } => (door.create)(info, value),
        Nature::Custom(custom) => custom.create(info, value),
    }
}

/// An update of the main path by the object's owner: keeps the live status, uid, times, allocated
/// addresses and the annotations of controllers, counts the generation, and refuses what must not
/// change.
///
/// When nothing changed the live object comes back, equal in every byte.
pub fn update(live: &Object, new: &Object) -> Result<Object, Vec<FieldError>> {
    change(&Kinds::default(), live, new, Way::Update)
}

/// An update from Git: as [`update`], but what Git never says (finalizers, owners, the node of a
/// pod) is kept too.
pub fn adopt(live: &Object, new: &Object) -> Result<Object, Vec<FieldError>> {
    change(&Kinds::default(), live, new, Way::Adopt)
}

/// An update of the status: takes status, labels and annotations of `new`, keeps everything else of
/// `live`.
pub fn update_status(live: &Object, new: &Object) -> Result<Object, Vec<FieldError>> {
    change(&Kinds::default(), live, new, Way::Status)
}

/// Whether an object decodes as the type the registry has for its kind; `value` is what it was made
/// of.
pub(super) fn decodes(kinds: &Kinds, object: &Object, value: &Value) -> bool {
    kinds.lookup(&object.key().kind).is_some_and(|info| match &info.nature {
        Nature::BuiltIn { door, .. } => {
            info.api_version == object.api_version() && (door.decodes)(object, value)
        }
        // A version that was stored once may be there still; which it is shows on reading.
        Nature::Custom(_) => true,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Update,
    Adopt,
    Status,
}

/// What an update is made of.
pub(super) struct Pair<'a> {
    /// What is stored, and the value of it.
    pub(super) stored: &'a Object,
    pub(super) live: Value,
    pub(super) new: Value,
    pub(super) way: Way,
}

impl<'a> Pair<'a> {
    fn of(stored: &'a Object, new: Value, way: Way) -> Self {
        Self { stored, live: stored.value(), new, way }
    }
}

pub(super) fn change(
    kinds: &Kinds,
    live: &Object,
    new: &Object,
    way: Way,
) -> Result<Object, Vec<FieldError>> {
    let info = kinds.lookup(&live.key().kind).filter(|_| live.key() == new.key());
    let info = info.ok_or_else(|| another(live, new))?;
    let pair = Pair::of(live, new.value(), way);
    let updated = match &info.nature {
        Nature::BuiltIn { door, .. } => (door.update)(info, pair)?,
        Nature::Custom(custom) => custom.update(info, pair)?,
    };
    written(live, updated)
}

fn another(live: &Object, new: &Object) -> Vec<FieldError> {
    let detail = format!("{} is not {}", new.key(), live.key());
    vec![FieldError { field: "metadata.name".to_owned(), reason: Reason::Invalid, detail }]
}

/// The object that an update leaves.
fn written(live: &Object, updated: Option<Value>) -> Result<Object, Vec<FieldError>> {
    match updated {
        Some(value) => decode::object(&value).map_err(|e| vec![e]),
        None => Ok(live.clone()),
    }
}

/// Makes an object of a typed one as the door would write it: without fields that say nothing.
///
/// For controllers, which build typed values; equal values give equal bytes. Errors when the name
/// is missing or the kind is not in the registry.
pub fn to_object<T>(typed: &T) -> Result<Object, FieldError>
where
    T: Resource + Metadata<Ty = ObjectMeta> + Serialize,
{
    let info = lookup(&GroupKind::of::<T>()).ok_or_else(|| FieldError {
        field: "kind".to_owned(),
        reason: Reason::NotSupported,
        detail: format!("{} is not served", T::KIND),
    })?;
    decode::object(&tidy::to_value(info, typed)?)
}

/// Takes away what a new object does not bring along.
pub(super) fn start(info: &KindInfo, value: &mut Value) -> Option<()> {
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "selfLink"] {
            meta.remove(field);
        }
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            meta.remove(field);
        }
    }
    // A node brings its status along.
    if info.status && info.kind != "Node" {
        value.as_object_mut()?.remove("status");
    }
    Some(())
}

pub(super) fn create_as<T: Kind>(info: &KindInfo, mut value: Value) -> Option<Value> {
    start(info, &mut value)?;
    let mut typed: T = model::read(&value).ok()?;
    typed.prepare_create();
    if info.generation {
        typed.metadata_mut().generation = Some(1);
    }
    tidy::to_value(info, &typed).ok()
}

/// The new value, or `None` when nothing changed.
pub(super) type Updated = Result<Option<Value>, Vec<FieldError>>;

pub(super) fn update_as<T: Kind>(info: &KindInfo, pair: Pair<'_>) -> Updated {
    let Pair { stored, live, mut new, way } = pair;
    merge(info, &live, &mut new, way);
    let new = typed(&new)?;
    let (updated, differs) = put_together::<T>(info, stored, live, new, way)?;
    Ok(differs.then_some(updated))
}

/// What [`replace_as`] gives: the new value, as [`Updated`] has it, and what its author should
/// know.
pub(super) type Replaced = Result<(Option<Value>, Vec<FieldError>), Vec<FieldError>>;

/// Decodes, defaults and validates what was sent, put together with what stays of the live object:
/// all at once, since a client waits for each step.
pub(super) fn replace_as<T: Kind>(
    info: &KindInfo,
    stored: &Object,
    mut sent: Value,
    strictness: Strictness,
) -> Replaced {
    let (live, mut check) = (stored.value(), Check::default());
    if let Some(unheard) = unheard(info, &live, &sent) {
        decode::as_sent::<T>(unheard, strictness, &mut check);
    }
    merge(info, &live, &mut sent, Way::Update);
    let new: T = decode::admitted(info, sent, strictness, &mut check)?;
    let (updated, differs) = put_together(info, stored, live, new, Way::Update)?;
    inert::warn(info, &updated, &mut check);
    Ok((differs.then_some(updated), check.warnings))
}

/// What was sent of fields that are not the owner's to say, where it is not what is stored: it
/// counts for nothing, but has to be readable all the same.
fn unheard(info: &KindInfo, live: &Value, sent: &Value) -> Option<Value> {
    let other = |at: &Value, of: &Value, field: &str| {
        let said = at.get(field).filter(|said| Some(*said) != of.get(field))?;
        Some((field.to_owned(), said.clone()))
    };
    let (live_meta, sent_meta) = (&live["metadata"], &sent["metadata"]);
    let meta: Map<String, Value> =
        KEPT.iter().filter_map(|field| other(sent_meta, live_meta, field)).collect();
    let status = other(sent, live, "status").filter(|_| info.status);
    if meta.is_empty() && status.is_none() {
        return None;
    }
    let mut unheard = Map::from_iter(status);
    for field in ["apiVersion", "kind"] {
        unheard.insert(field.to_owned(), sent[field].clone());
    }
    unheard.insert("metadata".to_owned(), meta.into());
    Some(unheard.into())
}

/// The value of a new version, merged already, once its kind has prepared and checked it, and
/// whether it is another than the live one.
fn put_together<T: Kind>(
    info: &KindInfo,
    stored: &Object,
    live: Value,
    mut new: T,
    way: Way,
) -> Result<(Value, bool), Vec<FieldError>> {
    let live_typed: &T = match stored.view_of(&live) {
        Some(typed) => typed,
        None => &typed(&live)?,
    };
    let mut check = Check::default();
    if way != Way::Status {
        new.prepare_update(live_typed);
        if way == Way::Adopt {
            new.prepare_adopt(live_typed);
        }
        meta::validate_update(live_typed.metadata(), new.metadata(), &mut check);
        new.validate_update(live_typed, &mut check);
    }
    if !check.errors.is_empty() {
        return Err(check.errors);
    }
    let mut updated = tidy::to_value(info, &new).map_err(|e| vec![e])?;
    // What came in by the door is tidy; what State has filled in since may not be.
    let before = match tidy::is_tidy(&live) {
        true => live,
        false => tidy::to_value(info, live_typed).map_err(|e| vec![e])?,
    };
    let differs = updated != before;
    if differs && info.generation && way != Way::Status && counts(info, &updated, &before) {
        let generation = live_typed.metadata().generation.unwrap_or(0) + 1;
        updated["metadata"]["generation"] = generation.into();
    }
    Ok((updated, differs))
}

/// Whether a change is one of those that `metadata.generation` counts: of the spec, or, where there
/// is none, of what stands beside the metadata. Of an EndpointSlice every change counts, of a
/// Deployment what people annotate too; a PriorityClass does not count at all.
fn counts(info: &KindInfo, new: &Value, old: &Value) -> bool {
    let content = |value: &Value| match value.get("spec") {
        Some(spec) => spec.clone(),
        None => {
            let mut value = value.clone();
            set(&mut value, "metadata", None);
            set(&mut value, "status", None);
            value
        }
    };
    match info.kind.as_str() {
        "EndpointSlice" => true,
        "PriorityClass" => false,
        "Deployment" => content(new) != content(old) || annotated(new) != annotated(old),
        _ => content(new) != content(old),
    }
}

/// The annotations that are not a controller's.
fn annotated(value: &Value) -> BTreeMap<&str, &Value> {
    let all = value["metadata"]["annotations"].as_object();
    let all = all.into_iter().flatten().map(|(name, text)| (name.as_str(), text));
    all.filter(|(name, _)| !is_of_controller(name)).collect()
}

fn is_of_controller(annotation: &str) -> bool {
    CONTROLLER_ANNOTATIONS.iter().any(|prefix| annotation.starts_with(prefix))
}

fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Vec<FieldError>> {
    model::read(value).map_err(|e| {
        let detail = format!("stored object: {e}");
        vec![FieldError { field: String::new(), reason: Reason::TypeInvalid, detail }]
    })
}

/// Puts together what comes from the writer and what stays of the live object.
pub(super) fn merge(info: &KindInfo, live: &Value, new: &mut Value, way: Way) {
    let empty = Map::new();
    let live_meta = live.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    if way == Way::Status {
        let status = new.get("status").cloned();
        let written = new.get("metadata").cloned().unwrap_or_default();
        *new = live.clone();
        set(new, "status", status);
        for field in ["labels", "annotations"] {
            set(&mut new["metadata"], field, written.get(field).cloned());
        }
        return;
    }
    if info.status {
        set(new, "status", live.get("status").cloned());
    }
    let Some(meta) = new.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let of_git: &[&str] = if way == Way::Adopt { &KEPT_FROM_GIT } else { &[] };
    for &field in KEPT.iter().chain(of_git) {
        put(meta, field, live_meta.get(field).cloned());
    }
    let annotations = live_meta.get("annotations").and_then(Value::as_object).unwrap_or(&empty);
    for (key, value) in annotations {
        if is_of_controller(key) || way == Way::Adopt && key == LAST_APPLIED {
            let said = meta.entry("annotations").or_insert(Value::Null);
            if said.is_null() {
                *said = Map::new().into();
            }
            // What was sent may be no map: that is told when it is decoded.
            if let Some(said) = said.as_object_mut() {
                said.entry(key).or_insert_with(|| value.clone());
            }
        }
    }
}

fn set(parent: &mut Value, field: &str, value: Option<Value>) {
    if let Some(map) = parent.as_object_mut() {
        put(map, field, value);
    }
}

fn put(map: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    match value {
        Some(value) => map.insert(field.to_owned(), value),
        None => map.remove(field),
    };
}

/// The JSON of a typed object.
pub(super) fn json<T: Serialize>(typed: &T) -> Result<Value, FieldError> {
    serde_json::to_value(typed).map_err(|e| FieldError {
        field: String::new(),
        reason: Reason::Invalid,
        detail: e.to_string(),
    })
}
