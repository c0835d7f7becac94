//! What kind of value an expression gives, and what a schema says of its values.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value as Json;

use super::parse::RESERVED;

/// The type of a value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::kinds) enum Type {
    /// Known when it is evaluated.
    Any,
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A whole number.
    Int,
    /// A whole number without a sign: `1u`.
    Uint,
    /// A number with a fraction.
    Double,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
    /// A moment.
    Time,
    /// A length of time.
    Duration,
    /// An amount: `100m`.
    Quantity,
    /// An IP address.
    Ip,
    /// A range of addresses.
    Cidr,
    /// A URL.
    Url,
    /// A type itself.
    Meta,
    /// A list of equal things.
    List(Arc<Type>),
    /// A map from texts (or other keys) to equal things.
    Map(Arc<Type>),
    /// A map whose fields are known.
    Object(Arc<Fields>),
    /// Something that may be absent.
    Optional(Arc<Type>),
}

/// The fields of an object, by the names that rules use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::kinds) struct Fields(BTreeMap<String, Field>);

/// One field of an object.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::kinds) struct Field {
    /// As it is called in the object.
    pub(super) key: String,
    pub(super) type_: Type,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Text => "string",
            Self::Bytes => "bytes",
            Self::Time => "timestamp",
            Self::Duration => "duration",
            Self::Quantity => "kubernetes.Quantity",
            Self::Ip => "net.IP",
            Self::Cidr => "net.CIDR",
            Self::Url => "kubernetes.URL",
            Self::Meta => "type",
            Self::Object(_) => "object",
            Self::List(item) => return write!(f, "list({item})"),
            Self::Map(value) => return write!(f, "map(string, {value})"),
            Self::Optional(value) => return write!(f, "optional_type({value})"),
        })
    }
}

impl Type {
    /// A list of something.
    pub(in crate::kinds) fn list(item: Type) -> Self {
        Self::List(Arc::new(item))
    }

    /// A map to something.
    pub(in crate::kinds) fn map(value: Type) -> Self {
        Self::Map(Arc::new(value))
    }

    /// Something or nothing.
    pub(in crate::kinds) fn optional(value: Type) -> Self {
        Self::Optional(Arc::new(value))
    }

    /// An object with these fields, under their own names.
    pub(in crate::kinds) fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Type)>) -> Self {
        let mut all = Fields::default();
        for (name, type_) in fields {
            all.add(name, type_);
        }
        Self::Object(Arc::new(all))
    }

    /// What a schema says; `None` for what has no type, which no rule can look at.
    pub(in crate::kinds) fn of_schema(schema: &Json) -> Option<Self> {
        Self::of(schema, schema["x-kubernetes-embedded-resource"] == true)
    }

    /// As [`Type::of_schema`], for a whole object: rules may look at what it is and is called.
    pub(in crate::kinds) fn of_resource(schema: &Json) -> Option<Self> {
        Self::of(schema, true)
    }

    fn of(schema: &Json, is_resource: bool) -> Option<Self> {
        if schema["x-kubernetes-int-or-string"] == true {
            return Some(Self::Any);
        }
        if is_resource {
            return Some(Self::Object(Arc::new(Fields::of(schema, true))));
        }
        let format = schema["format"].as_str().unwrap_or_default();
        Some(match schema["type"].as_str()? {
            "array" => Self::list(Self::of_schema(&schema["items"])?),
            "object" if schema["additionalProperties"].is_object() => {
                Self::map(Self::of_schema(&schema["additionalProperties"])?)
            }
            "object" => Self::Object(Arc::new(Fields::of(schema, false))),
            "boolean" => Self::Bool,
            "integer" => Self::Int,
            "number" => Self::Double,
            "string" => match format {
                "byte" => Self::Bytes,
                "duration" => Self::Duration,
                "date" | "date-time" | "datetime" => Self::Time,
                _ => Self::Text,
            },
            _ => return None,
        })
    }

    /// Whether a value of one type may stand where the other is wanted.
    pub(super) fn fits(&self, wanted: &Type) -> bool {
        match (self, wanted) {
            (Self::Any | Self::Null, _) | (_, Self::Any | Self::Null) => true,
            (Self::List(own), Self::List(other))
            | (Self::Map(own), Self::Map(other))
            | (Self::Optional(own), Self::Optional(other)) => own.fits(other),
            (Self::Map(_), Self::Object(_)) | (Self::Object(_), Self::Map(_)) => true,
            (Self::Object(_), Self::Object(_)) => true,
            (own, other) => own == other,
        }
    }

    /// What holds values of both types.
    pub(super) fn with(self, other: Type) -> Type {
        match self == other {
            true => self,
            false => match (self, other) {
                (Self::Null, other) => other,
                (own, Self::Null) => own,
                (Self::Optional(own), Self::Optional(other)) => {
                    Self::optional(own.as_ref().clone().with(other.as_ref().clone()))
                }
                _ => Self::Any,
            },
        }
    }
}

impl Fields {
    fn of(schema: &Json, is_resource: bool) -> Self {
        let mut all = Self::default();
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let type_ = match is_resource && name == "metadata" {
                true => None,
                false => Type::of_schema(inner),
            };
            if let Some(type_) = type_ {
                all.add(name, type_);
            }
        }
        if is_resource {
            all.add("apiVersion", Type::Text);
            all.add("kind", Type::Text);
            let named = [("name", Type::Text), ("generateName", Type::Text)];
            all.add("metadata", Type::object(named));
        }
        all
    }

    fn add(&mut self, key: &str, type_: Type) {
        self.0.insert(escaped(key), Field { key: key.to_owned(), type_ });
    }

    /// The field that a rule calls so: by its escaped name, or by its own between back quotes.
    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        self.0.get(name).or_else(|| self.0.get(&escaped(name)).filter(|field| field.key == name))
    }

    /// The field that the object calls so.
    pub(super) fn by_key(&self, key: &str) -> Option<&Field> {
        self.0.get(&escaped(key))
    }
}

/// Words that mean something in CEL.
const KEYWORDS: [&str; 4] = ["true", "false", "null", "in"];

/// The name of a field in rules, where that is no identifier.
fn escaped(name: &str) -> String {
    if KEYWORDS.contains(&name) || RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_identifiers_are_escaped() {
        for (name, in_rules) in [
            ("plain", "plain"),
            ("a.b", "a__dot__b"),
            ("a-b/c", "a__dash__b__slash__c"),
            ("namespace", "__namespace__"),
            ("a__b", "a__underscores__b"),
        ] {
            assert_eq!(escaped(name), in_rules);
        }
    }
}
