//! The values that rules work on: JSON as it is stored, and what rules make of it.

use std::{cmp::Ordering, net::IpAddr, ops::Deref, rc::Rc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map as JsonMap, Value as Json};

use super::{
    Failure, Meter, library,
    types::{Fields, Type},
};
use crate::model::Quantity;

/// One value. JSON is not copied: it is read as its type says when something looks at it.
#[derive(Clone, Debug)]
pub(in crate::kinds) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(Rc<[u8]>),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Rc<Value<'a>>>),
    Time(Timestamp),
    Duration(SignedDuration),
    Quantity(Quantity),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Url(Rc<library::Url>),
    Type(&'static str),
}

/// A text, stored or made. To name it again costs nothing, however long it is.
#[derive(Clone, Debug)]
pub(in crate::kinds) enum Text<'a> {
    Stored(&'a str),
    Own(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Stored(text) => text,
            Self::Own(text) => text,
        }
    }
}

/// A list, stored or made.
#[derive(Clone, Debug)]
pub(in crate::kinds) enum List<'a> {
    Json(&'a [Json], &'a Type),
    Own(Rc<Vec<Value<'a>>>),
}

/// A map, stored or made.
#[derive(Clone, Debug)]
pub(in crate::kinds) enum Map<'a> {
    Json(&'a JsonMap<String, Json>, &'a Type),
    Own(Rc<Vec<(Value<'a>, Value<'a>)>>),
}

static ANY: Type = Type::Any;

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(items, _) => items.len(),
            Self::Own(items) => items.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Result<Value<'a>, Failure>> {
        match self {
            Self::Json(items, type_) => items.get(index).map(|item| Value::typed(item, type_)),
            Self::Own(items) => items.get(index).cloned().map(Ok),
        }
    }

    pub(super) fn items(&self) -> Result<Vec<Value<'a>>, Failure> {
        match self {
            Self::Json(items, type_) => items.iter().map(|i| Value::typed(i, type_)).collect(),
            Self::Own(items) => Ok(items.to_vec()),
        }
    }
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(map, _) => map.len(),
            Self::Own(entries) => entries.len(),
        }
    }

    fn fields(type_: &'a Type) -> Option<&'a Fields> {
        match type_ {
            Type::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// What stands under a field's name in rules.
    pub(super) fn field(&self, name: &str) -> Option<Result<Value<'a>, Failure>> {
        match self {
            Self::Json(map, type_) => match Self::fields(type_) {
                Some(fields) => {
                    let field = fields.get(name)?;
                    Some(Value::typed(map.get(&field.key)?, &field.type_))
                }
                None => Some(Value::typed(map.get(name)?, Self::value_type(type_))),
            },
            Self::Own(entries) => {
                let named = |key: &Value<'_>| matches!(key, Value::Text(text) if **text == *name);
                entries.iter().find(|(key, _)| named(key)).map(|(_, value)| Ok(value.clone()))
            }
        }
    }

    /// Whether something stands under a field's name, which is not looked at.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Json(map, type_) => match Self::fields(type_) {
                Some(fields) => fields.get(name).is_some_and(|field| map.contains_key(&field.key)),
                None => map.contains_key(name),
            },
            Self::Own(_) => self.field(name).is_some(),
        }
    }

    fn value_type(type_: &'a Type) -> &'a Type {
        match type_ {
            Type::Map(value) => value,
            _ => &ANY,
        }
    }

    /// What stands under a key.
    pub(super) fn get(&self, key: &Value<'a>, meter: &mut Meter) -> Found<'a> {
        match (self, key) {
            (Self::Json(..), Value::Text(name)) => self.field(name).transpose(),
            (Self::Json(..), _) => Ok(None),
            (Self::Own(entries), key) => {
                for (own, value) in entries.iter() {
                    if own.equals(key, meter)? {
                        return Ok(Some(value.clone()));
                    }
                }
                Ok(None)
            }
        }
    }

    /// All keys and values. Of an object those that its schema knows.
    pub(super) fn entries(&self) -> Result<Vec<(Value<'a>, Value<'a>)>, Failure> {
        match self {
            Self::Own(entries) => Ok(entries.to_vec()),
            Self::Json(map, type_) => {
                let fields = Self::fields(type_);
                let type_of = |key: &str| match fields {
                    Some(fields) => fields.by_key(key).map(|field| &field.type_),
                    None => Some(Self::value_type(type_)),
                };
                let typed = map.iter().filter_map(|(key, value)| Some((key, value, type_of(key)?)));
                typed
                    .map(|(key, value, type_)| {
                        Ok((Value::stored(key), Value::typed(value, type_)?))
                    })
                    .collect()
            }
        }
    }
}

/// What was found, if anything.
pub(super) type Found<'a> = Result<Option<Value<'a>>, Failure>;

impl<'a> Value<'a> {
    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(Text::Own(text.into()))
    }

    /// A text that is stored, or stands in a rule.
    pub(in crate::kinds) fn stored(text: &'a str) -> Self {
        Self::Text(Text::Stored(text))
    }

    pub(super) fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Own(Rc::new(items)))
    }

    pub(super) fn map(entries: Vec<(Value<'a>, Value<'a>)>) -> Self {
        Self::Map(Map::Own(Rc::new(entries)))
    }

    pub(in crate::kinds) fn optional(value: Option<Value<'a>>) -> Self {
        Self::Optional(value.map(Rc::new))
    }

    /// JSON of which nothing is known.
    pub(in crate::kinds) fn json(json: &'a Json) -> Self {
        Self::typed(json, &ANY).unwrap_or(Self::Null)
    }

    /// JSON of a type.
    pub(in crate::kinds) fn typed(json: &'a Json, type_: &'a Type) -> Result<Self, Failure> {
        Ok(match json {
            Json::Null => Self::Null,
            Json::Bool(bool) => Self::Bool(*bool),
            Json::Number(number) => match (number.as_i64(), type_) {
                (Some(whole), Type::Double) => Self::Double(whole as f64),
                (Some(whole), _) => Self::Int(whole),
                (None, Type::Int) => {
                    let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9.2e18);
                    whole.map_or(Self::Double(f64::NAN), |whole| Self::Int(whole as i64))
                }
                (None, _) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => match type_ {
                Type::Bytes => match STANDARD.decode(text) {
                    Ok(bytes) => Self::Bytes(bytes.into()),
                    Err(_) => return Err(Failure::other("invalid base64 data")),
                },
                Type::Time => library::time(text)?,
                Type::Duration => library::duration(text)?,
                _ => Self::stored(text),
            },
            Json::Array(items) => {
                let item = match type_ {
                    Type::List(item) => item,
                    _ => &ANY,
                };
                Self::List(List::Json(items, item))
            }
            Json::Object(map) => Self::Map(Map::Json(map, type_)),
        })
    }

    /// The name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Type(_) => "type",
        }
    }

    /// Whether both are the same. Numbers are compared by what they are worth.
    pub(super) fn equals(&self, other: &Value<'a>, meter: &mut Meter) -> Result<bool, Failure> {
        meter.spend(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Text(own), Self::Text(other)) => {
                meter.spend_bytes(own.len().min(other.len()))?;
                **own == **other
            }
            (Self::Bytes(own), Self::Bytes(other)) => {
                meter.spend_bytes(own.len().min(other.len()))?;
                own == other
            }
            (Self::List(own), Self::List(other)) => {
                if own.len() != other.len() {
                    return Ok(false);
                }
                for index in 0..own.len() {
                    let (Some(own), Some(other)) = (own.get(index), other.get(index)) else {
                        return Ok(false);
                    };
                    if !own?.equals(&other?, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(own), Self::Map(other)) => {
                if own.len() != other.len() {
                    return Ok(false);
                }
                for (key, value) in own.entries()? {
                    match other.get(&key, meter)? {
                        Some(other) if value.equals(&other, meter)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Self::Optional(own), Self::Optional(other)) => match (own, other) {
                (Some(own), Some(other)) => own.equals(other, meter)?,
                (own, other) => own.is_none() && other.is_none(),
            },
            (Self::Url(own), Self::Url(other)) => own == other,
            (Self::Cidr(own, length), Self::Cidr(other, others)) => {
                own == other && length == others
            }
            (Self::Type(own), Self::Type(other)) => own == other,
            _ => self.compare(other) == Some(Ordering::Equal),
        })
    }

    /// Which of both comes first; `None` where that has no meaning.
    pub(super) fn compare(&self, other: &Value<'a>) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(own), Self::Bool(other)) => Some(own.cmp(other)),
            (Self::Text(own), Self::Text(other)) => Some((**own).cmp(other)),
            (Self::Bytes(own), Self::Bytes(other)) => Some(own.cmp(other)),
            (Self::Time(own), Self::Time(other)) => Some(own.cmp(other)),
            (Self::Duration(own), Self::Duration(other)) => Some(own.cmp(other)),
            (Self::Quantity(own), Self::Quantity(other)) => Some(own.cmp(other)),
            (Self::Ip(own), Self::Ip(other)) => Some(own.cmp(other)),
            _ => compare_numbers(self, other),
        }
    }
}

fn compare_numbers<'a>(left: &Value<'a>, right: &Value<'a>) -> Option<Ordering> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(*n)),
        _ => None,
    };
    match (left, right) {
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Double(left), right) => compare_mixed(whole(right)?, *left).map(Ordering::reverse),
        (left, Value::Double(right)) => compare_mixed(whole(left)?, *right),
        (left, right) => Some(whole(left)?.cmp(&whole(right)?)),
    }
}

/// A whole number beside one with a fraction, without losing digits of either.
fn compare_mixed(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double.abs() >= 1e20 {
        return Some(if double > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let floor = double.floor();
    Some(whole.cmp(&(floor as i128)).then(match double > floor {
        true => Ordering::Less,
        false => Ordering::Equal,
    }))
}
