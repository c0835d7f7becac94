//! Kinds that a CustomResourceDefinition adds: entries of the registry like the built-in ones.
//!
//! In: a stored definition, and values that claim to be of its kind. Out: its [`KindInfo`], and
//! what the door makes of the values: each is read by the schema of the version it names and stored
//! at the version marked `storage`. Called by the door and by [`Kinds`](super::Kinds). Never here:
//! whether a definition's names are free ([`accept`]'s caller knows the others).
//! (kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions)

mod accept;
mod path;
#[cfg(test)]
mod tests;

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, CustomResourceDefinitionVersion,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Deserialize;
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::{
    FieldError, KindInfo, Reason, ServedAs, Strictness,
    decode::{self, Decoded},
    door::{self, Pair, Updated, Way},
    field::Check,
    meta, names,
    registry::Nature,
    structural::{self, Ask, Rules},
    table::{self, Column},
};
use crate::model::{Object, Timestamp};

pub(super) use accept::approval_problem;
pub use accept::{CLEANUP, accept_names, mark_for_cleanup};
use path::JsonPath;

/// Custom objects are applied after everything that is built in.
const APPLY_ORDER: u8 = 6;

/// The versions of a custom kind.
#[derive(Debug)]
pub(super) struct Custom {
    versions: Vec<Version>,
    /// Every object is stored at the one version there is, and nothing is filled in on reading.
    is_plain: bool,
    /// The definition is going: its objects may go, none may come.
    is_terminating: bool,
}

/// One version of a custom kind.
#[derive(Debug)]
struct Version {
    api_version: SmolStr,
    is_served: bool,
    /// What is told to those who use it although it is deprecated.
    deprecation: Option<String>,
    schema: Value,
    /// What its objects must be like besides.
    rules: Rules,
    has_status: bool,
    scale: Option<ScalePaths>,
    columns: Vec<Printed>,
    /// Fields that a field selector may name.
    selectable: Vec<String>,
}

/// Where a custom object keeps what a Scale says, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The replicas that are wanted.
    pub spec: String,
    /// The replicas there are.
    pub status: String,
    /// The selector of their pods, as text.
    pub selector: Option<String>,
}

/// A printed column.
#[derive(Debug)]
struct Printed {
    name: String,
    type_: String,
    format: String,
    description: String,
    priority: i32,
    /// `None` for a path that cannot be read: its cells are empty.
    path: Option<JsonPath>,
}

/// The entry of a definition that is established; `None` for any other object.
pub(super) fn entry(definition: &Object) -> Option<KindInfo> {
    let typed: &CustomResourceDefinition = definition.view()?;
    let status = typed.status.as_ref()?;
    let established =
        status.conditions.iter().flatten().any(|c| c.type_ == "Established" && c.status == "True");
    let (spec, names) = (&typed.spec, status.accepted_names.as_ref().filter(|_| established)?);
    let value = definition.value();
    let group = SmolStr::from(&spec.group);
    let versions: Vec<Version> = spec
        .versions
        .iter()
        .zip(value["spec"]["versions"].as_array()?)
        .map(|(version, raw)| Version::of(&group, version, raw))
        .collect();
    let (stored_at, stored) = spec.versions.iter().zip(&versions).find(|(v, _)| v.storage)?;
    let one_version = status.stored_versions.as_deref().unwrap_or_default().len() <= 1;
    let has_status = stored.has_status;
    let is_plain = one_version && !structural::has_defaults(&stored.schema);
    let also = versions.iter().filter(|v| v.is_served && v.api_version != stored.api_version);
    let also = also.map(|v| ServedAs::custom(&v.api_version)).collect();
    let texts = |list: &Option<Vec<String>>| list.iter().flatten().map(SmolStr::from).collect();
    Some(KindInfo {
        version: SmolStr::from(&stored_at.name),
        api_version: stored.api_version.clone(),
        kind: SmolStr::from(&names.kind),
        plural: SmolStr::from(&names.plural),
        singular: names.singular.as_deref().unwrap_or_default().into(),
        list_kind: names.list_kind.as_deref().unwrap_or_default().into(),
        short_names: texts(&names.short_names),
        categories: texts(&names.categories),
        namespaced: spec.scope == "Namespaced",
        runtime: false,
        inert: false,
        also,
        generation: true,
        status: has_status,
        apply_order: APPLY_ORDER,
        name_rule: names::dns1123_subdomain,
        nature: Nature::Custom(Custom {
            versions,
            is_plain,
            is_terminating: definition.is_terminating(),
        }),
        group,
    })
}

impl Version {
    fn of(group: &str, version: &CustomResourceDefinitionVersion, raw: &Value) -> Self {
        let sub = version.subresources.as_ref();
        let scale = sub.and_then(|sub| sub.scale.as_ref()).map(|scale| ScalePaths {
            spec: pointer(&scale.spec_replicas_path),
            status: pointer(&scale.status_replicas_path),
            selector: scale.label_selector_path.as_deref().filter(|p| !p.is_empty()).map(pointer),
        });
        let columns = version.additional_printer_columns.as_deref().unwrap_or_default();
        let selectable = version.selectable_fields.iter().flatten();
        let api_version = format!("{group}/{}", version.name);
        let deprecation = (version.deprecated == Some(true)).then(|| {
            let kind = format!("{api_version} is deprecated");
            version.deprecation_warning.clone().unwrap_or(kind)
        });
        let schema = raw["schema"]["openAPIV3Schema"].clone();
        Self {
            api_version: api_version.into(),
            is_served: version.served,
            deprecation,
            rules: Rules::of(&schema),
            schema,
            has_status: sub.is_some_and(|sub| sub.status.is_some()),
            scale,
            columns: if columns.is_empty() {
                vec![age_column()]
            } else {
                columns
                    .iter()
                    .map(|c| Printed {
                        name: c.name.clone(),
                        type_: c.type_.clone(),
                        format: c.format.clone().unwrap_or_default(),
                        description: c.description.clone().unwrap_or_else(|| {
                            format!("The value at {} of the object.", c.json_path)
                        }),
                        priority: c.priority.unwrap_or_default(),
                        path: JsonPath::parse(&c.json_path),
                    })
                    .collect()
            },
            selectable: selectable.map(|f| f.json_path.trim_start_matches('.').into()).collect(),
        }
    }
}

/// What is printed of a kind that says nothing about it.
fn age_column() -> Printed {
    Printed {
        name: "Age".to_owned(),
        type_: "date".to_owned(),
        format: String::new(),
        description: "How long ago the object was created.".to_owned(),
        priority: 0,
        path: JsonPath::parse(".metadata.creationTimestamp"),
    }
}

/// `.spec.replicas` as a JSON pointer.
fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

impl Custom {
    fn version(&self, api_version: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.api_version == api_version)
    }

    /// The schema of one version.
    pub(super) fn schema(&self, api_version: &str) -> Option<&Value> {
        self.version(api_version).map(|version| &version.schema)
    }

    /// Whether the version is answered for.
    pub(super) fn serves(&self, api_version: &str) -> bool {
        self.version(api_version).is_some_and(|version| version.is_served)
    }

    pub(super) fn has_status(&self, api_version: &str) -> bool {
        self.version(api_version).is_some_and(|version| version.has_status)
    }

    pub(super) fn scale(&self, api_version: &str) -> Option<&ScalePaths> {
        self.version(api_version)?.scale.as_ref()
    }

    pub(super) fn selectable(&self, api_version: &str) -> &[String] {
        self.version(api_version).map(|version| &*version.selectable).unwrap_or_default()
    }

    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.is_terminating
    }

    /// A stored value as it is shown at one version.
    pub(super) fn shown(&self, api_version: &str, mut value: Value) -> Value {
        value["apiVersion"] = api_version.into();
        if let Some(version) = self.version(api_version) {
            structural::default_fields(&mut value, &version.schema);
        }
        value
    }

    /// As [`Custom::read`], for what may be new: it is asked what its rules say of it alone.
    pub(super) fn admit(
        &self,
        info: &KindInfo,
        value: Value,
        strictness: Strictness,
    ) -> Result<Decoded, Vec<FieldError>> {
        let mut check = Check::default();
        let named = value["apiVersion"].as_str().unwrap_or_default().to_owned();
        let (object, warnings) = self.read(info, value, strictness)?;
        if let Some(version) = self.version(&named).filter(|version| !version.rules.is_empty()) {
            let mut value = object.value();
            without_status(info, &mut value);
            version.rules.judge(&value, Ask::Alone, &mut check);
        }
        match check.errors.is_empty() {
            true => Ok((object, warnings)),
            false => Err(check.errors),
        }
    }

    /// What the rules say of an object that takes the place of `live`, or of a new one besides what
    /// [`Custom::admit`] told.
    pub(super) fn judge(
        &self,
        info: &KindInfo,
        live: Option<&Object>,
        new: &Object,
    ) -> Result<(), Vec<FieldError>> {
        // What goes may go, whatever the rules have become.
        if live.is_some_and(Object::is_terminating) {
            return Ok(());
        }
        let stored = self.version(&info.api_version).filter(|version| !version.rules.is_empty());
        let Some(version) = stored else { return Ok(()) };
        let (mut value, live) = (new.value(), live.map(Object::value));
        let ask = match &live {
            Some(live) if *live == value => return Ok(()),
            Some(live) => Ask::After(live),
            None => {
                without_status(info, &mut value);
                Ask::First
            }
        };
        let mut check = Check::default();
        version.rules.judge(&value, ask, &mut check);
        if check.errors.is_empty() { Ok(()) } else { Err(check.errors) }
    }

    /// Reads a value by the schema of the version it names.
    pub(super) fn read(
        &self,
        info: &KindInfo,
        mut value: Value,
        strictness: Strictness,
    ) -> Result<Decoded, Vec<FieldError>> {
        let mut check = Check::default();
        let named = value["apiVersion"].as_str().unwrap_or_default();
        let version = self.version(named).ok_or_else(|| {
            let detail = format!("{named:?} is not served");
            vec![FieldError { field: "apiVersion".into(), reason: Reason::NotSupported, detail }]
        })?;
        if let Some(text) = &version.deprecation {
            let detail = text.clone();
            let reason = Reason::Unknown;
            check.warnings.push(FieldError { field: String::new(), reason, detail });
        }
        let metadata = read_metadata(&mut value, strictness, &mut check)?;
        let mut gone = Vec::new();
        structural::prune(&mut value, &version.schema, true, "", &mut gone);
        decode::report_unknown(gone, strictness, &mut check);
        if !check.errors.is_empty() {
            return Err(check.errors);
        }
        structural::default_fields(&mut value, &version.schema);
        meta::validate(info, &metadata, &mut check);
        structural::validate(&value, &version.schema, "", &mut check);
        if !check.errors.is_empty() {
            if !version.rules.is_empty() {
                let text = "some validation rules were not checked because the object was \
                            invalid; correct the existing errors to complete validation";
                check.invalid("", Value::Null, text);
            }
            return Err(check.errors);
        }
        value["apiVersion"] = info.api_version.as_str().into();
        let object = decode::object(&value).map_err(|e| vec![e])?;
        Ok((object, check.warnings))
    }

    /// A value that is stored for the first time.
    pub(super) fn create(&self, info: &KindInfo, mut value: Value) -> Option<Value> {
        door::start(info, &mut value)?;
        value["apiVersion"] = info.api_version.as_str().into();
        value["metadata"]["generation"] = json!(1);
        Some(value)
    }

    /// A value that takes the place of a stored one.
    pub(super) fn update(&self, info: &KindInfo, pair: Pair<'_>) -> Updated {
        let Pair { live, mut new, way, .. } = pair;
        door::merge(info, &live, &mut new, way);
        if way == Way::Status {
            // Unlike those of built-in kinds, the status path changes nothing but the status.
            new["metadata"] = live["metadata"].clone();
        } else {
            let typed = |value: &Value| ObjectMeta::deserialize(&value["metadata"]).ok();
            if let (Some(before), Some(after)) = (typed(&live), typed(&new)) {
                let mut check = Check::default();
                meta::validate_update(&before, &after, &mut check);
                if !check.errors.is_empty() {
                    return Err(check.errors);
                }
            }
        }
        new["apiVersion"] = info.api_version.as_str().into();
        if new == live {
            return Ok(None);
        }
        if way != Way::Status && content(info, &new) != content(info, &live) {
            let generation = live["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
            new["metadata"]["generation"] = generation.into();
        }
        Ok(Some(new))
    }

    /// The columns of one version, as the definitions of a table.
    pub(super) fn columns(&self, api_version: &str) -> Value {
        let name = Column {
            description: "The object's name, unique for its kind within its namespace.",
            ..table::NAME
        };
        let own = self.version(api_version).map(|v| &*v.columns).unwrap_or_default();
        let own = own.iter().map(|c| {
            json!({
                "name": c.name, "type": c.type_, "format": c.format,
                "description": c.description, "priority": c.priority,
            })
        });
        std::iter::once(name.definition()).chain(own).collect()
    }

    /// The cells of one object, as of `now`.
    pub(super) fn cells(&self, api_version: &str, object: &Object, now: Timestamp) -> Vec<Value> {
        let value = self.shown(api_version, object.value());
        let own = self.version(api_version).map(|v| &*v.columns).unwrap_or_default();
        let cell = |column: &Printed| {
            let found = column.path.as_ref().and_then(|path| path.first(&value));
            found.map_or(Value::Null, |found| cell_of(&column.type_, found, now))
        };
        std::iter::once(object.key().name.as_str().into()).chain(own.iter().map(cell)).collect()
    }
}

/// A new object has no status yet where that has a path of its own.
fn without_status(info: &KindInfo, value: &mut Value) {
    if let Some(map) = value.as_object_mut().filter(|_| info.status) {
        map.remove("status");
    }
}

/// What a change of which counts as a new generation: everything but the metadata and a status
/// that has a path of its own.
fn content(info: &KindInfo, value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.remove("metadata");
        map.remove("apiVersion");
        if info.status {
            map.remove("status");
        }
    }
    value
}

/// Reads the metadata, which no schema describes; fields it does not have are taken away.
fn read_metadata(
    value: &mut Value,
    strictness: Strictness,
    check: &mut Check,
) -> Result<ObjectMeta, Vec<FieldError>> {
    let below = |error: FieldError| FieldError {
        field: decode::join("metadata", &error.field),
        detail: error.detail.replacen("unknown field \"", "unknown field \"metadata.", 1),
        ..error
    };
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    let read = decode::shaped::<ObjectMeta>(value["metadata"].take(), strictness);
    let (metadata, warnings) =
        read.map_err(|errors| errors.into_iter().map(below).collect::<Vec<_>>())?;
    check.warnings.extend(warnings.into_iter().map(below));
    let typed = ObjectMeta::deserialize(&metadata).unwrap_or_default();
    value["metadata"] = metadata;
    Ok(typed)
}

/// A value as a cell of a column's type.
fn cell_of(type_: &str, value: &Value, now: Timestamp) -> Value {
    match (type_, value) {
        ("integer", Value::Number(number)) => {
            let whole = number.as_i64().or_else(|| number.as_f64().map(|n| n as i64));
            whole.map_or(Value::Null, Value::from)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("string", Value::String(_)) => value.clone(),
        ("string", Value::Null) => Value::Null,
        ("string", other) => other.to_string().into(),
        ("date", Value::String(text)) => match text.parse::<jiff::Timestamp>() {
            Ok(time) => table::since(Timestamp(time.as_millisecond()), now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}
