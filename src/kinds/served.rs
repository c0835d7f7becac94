//! A kind that is served under another group or version as well: one stored object, two shapes.

use k8s_openapi::Resource;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{FieldError, KindInfo, Strictness, decode, definitions, registry, schemas};

/// Another group and version at which a kind is served.
#[derive(Debug)]
pub struct ServedAs {
    /// `autoscaling`
    pub group: &'static str,
    /// `v1`
    pub version: &'static str,
    /// `autoscaling/v1`
    pub api_version: &'static str,
    read: fn(Value, Strictness) -> Result<Shaped, Vec<FieldError>>,
    schema: fn() -> Value,
    pub(super) define: fn(&mut SchemaGenerator) -> String,
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
            group: T::GROUP,
            version: T::VERSION,
            api_version: T::API_VERSION,
            read: decode::shaped::<T>,
            schema: schemas::schema_of::<T>,
            define: definitions::define::<T>,
            to_stored,
            from_stored,
        }
    }

    /// The JSON schema of this shape.
    pub fn schema(&self) -> Value {
        (self.schema)()
    }

    /// Reads a value of this shape and gives the stored one.
    pub(super) fn read(
        &self,
        info: &KindInfo,
        value: Value,
        strictness: Strictness,
    ) -> Result<Shaped, Vec<FieldError>> {
        let (mut value, warnings) = (self.read)(value, strictness)?;
        (self.to_stored)(&mut value);
        value["apiVersion"] = info.api_version.into();
        Ok((value, warnings))
    }
}

impl KindInfo {
    /// A stored value as it is shown at `api_version`; as it is when that is where it is stored, or
    /// when the kind is not served there.
    pub fn served_at(&self, api_version: &str, mut value: Value) -> Value {
        if let Some(other) = self.also.iter().find(|o| o.api_version == api_version) {
            (other.from_stored)(&mut value);
            value["apiVersion"] = api_version.into();
        }
        value
    }
}

/// A kind, and the shape it has where it was looked up; `None` for the stored one.
type Served = (&'static KindInfo, Option<&'static ServedAs>);

/// The kind that is served as `kind` at `api_version`.
pub fn lookup_served(api_version: &str, kind: &str) -> Option<Served> {
    find(|info, at| info.kind == kind && at == api_version)
}

/// The kind behind a path (`autoscaling/v1`, `horizontalpodautoscalers`).
pub fn lookup_served_resource(api_version: &str, plural: &str) -> Option<Served> {
    find(|info, at| info.plural == plural && at == api_version)
}

fn find(wanted: impl Fn(&KindInfo, &str) -> bool) -> Option<Served> {
    registry().iter().find_map(|info| {
        if wanted(info, info.api_version) {
            return Some((info, None));
        }
        let other = info.also.iter().find(|other| wanted(info, other.api_version));
        other.map(|other| (info, Some(other)))
    })
}
