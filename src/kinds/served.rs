//! A kind that is served under another group or version as well: one stored object, two shapes.

use k8s_openapi::Resource;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use smol_str::SmolStr;

use super::{FieldError, KindInfo, Strictness, decode, definitions, registry::Nature, schemas};

/// Another group and version at which a kind is served.
#[derive(Debug)]
pub struct ServedAs {
    /// `autoscaling`
    pub group: SmolStr,
    /// `v1`
    pub version: SmolStr,
    /// `autoscaling/v1`
    pub api_version: SmolStr,
    /// How the stored shape becomes this one; `None` for a version of a custom kind, which differs
    /// by its schema alone.
    shape: Option<Shape>,
}

/// The shape of a built-in kind at another version.
#[derive(Debug)]
struct Shape {
    read: fn(Value, Strictness) -> Result<Shaped, Vec<FieldError>>,
    schema: fn() -> Value,
    define: fn(&mut SchemaGenerator) -> String,
    to_stored: fn(&mut Value),
    from_stored: fn(&mut Value),
}

/// A value of the right shape, and what its author should know.
type Shaped = (Value, Vec<FieldError>);

impl ServedAs {
    /// The shape of `T`, and how it becomes the stored one and back.
    pub(super) fn of<T>(to_stored: fn(&mut Value), from_stored: fn(&mut Value)) -> Self
    where
        T: Resource + Serialize + DeserializeOwned + JsonSchema,
    {
        Self {
            group: SmolStr::new_static(T::GROUP),
            version: SmolStr::new_static(T::VERSION),
            api_version: SmolStr::new_static(T::API_VERSION),
            shape: Some(Shape {
                read: decode::shaped::<T>,
                schema: schemas::schema_of::<T>,
                define: definitions::define::<T>,
                to_stored,
                from_stored,
            }),
        }
    }

    /// Another version of a custom kind.
    pub(super) fn custom(api_version: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            group: group.into(),
            version: version.into(),
            api_version: api_version.into(),
            shape: None,
        }
    }

    /// The JSON schema of this shape; `None` for a version of a custom kind.
    pub fn schema(&self) -> Option<Value> {
        self.shape.as_ref().map(|shape| (shape.schema)())
    }

    /// Registers this shape with a generator, and says its name.
    pub(super) fn define(&self, generator: &mut SchemaGenerator) -> Option<String> {
        self.shape.as_ref().map(|shape| (shape.define)(generator))
    }

    /// Reads a value of this shape and gives the stored one.
    pub(super) fn read(
        &self,
        info: &KindInfo,
        value: Value,
        strictness: Strictness,
    ) -> Result<Shaped, Vec<FieldError>> {
        let Some(shape) = &self.shape else { return Ok((value, Vec::new())) };
        let (mut value, warnings) = (shape.read)(value, strictness)?;
        (shape.to_stored)(&mut value);
        value["apiVersion"] = info.api_version.as_str().into();
        Ok((value, warnings))
    }
}

impl KindInfo {
    /// A stored value as it is shown at `api_version`; as it is when that is where it is stored, or
    /// when the kind is not served there.
    pub fn served_at(&self, api_version: &str, mut value: Value) -> Value {
        if let Nature::Custom(custom) = &self.nature {
            return custom.shown(api_version, value);
        }
        let other = self.also.iter().find(|other| other.api_version == api_version);
        if let Some(shape) = other.and_then(|other| other.shape.as_ref()) {
            (shape.from_stored)(&mut value);
            value["apiVersion"] = api_version.into();
        }
        value
    }

    /// Whether its objects are shown at `api_version` byte for byte as they are stored.
    pub fn is_shown_as_stored(&self, api_version: &str) -> bool {
        let plain = match &self.nature {
            Nature::BuiltIn { .. } => true,
            Nature::Custom(custom) => custom.is_plain(),
        };
        plain && self.api_version == api_version
    }

    /// Whether it is served at the version it is stored at.
    pub(super) fn is_served_as_stored(&self) -> bool {
        match &self.nature {
            Nature::BuiltIn { .. } => true,
            Nature::Custom(custom) => custom.serves(&self.api_version),
        }
    }

    /// Every group, version and both in one at which it is served.
    pub fn places(&self) -> impl Iterator<Item = (&SmolStr, &SmolStr, &SmolStr)> {
        let stored = self.is_served_as_stored();
        let stored = stored.then_some((&self.group, &self.version, &self.api_version));
        let others = self.also.iter().map(|o| (&o.group, &o.version, &o.api_version));
        stored.into_iter().chain(others)
    }
}
