//! The functions that rules may call: those of CEL, of its extensions for texts and lists, and
//! Kubernetes' own (kubernetes.io/docs/reference/using-api/cel). One table serves the check when a
//! rule is written and its evaluation, so that no rule meets a missing function later.

mod amounts;
mod convert;
mod format;
mod lists;
mod net;
mod strings;
mod times;

use super::{Failure, Meter, types::Type, value::Value};

pub(super) use convert::as_text;
pub(super) use net::Url;
pub(super) use strings::pattern;
pub(super) use times::{duration, time};

/// What an argument has to be, or what a call gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Any,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Time,
    Duration,
    Quantity,
    Ip,
    Cidr,
    Url,
    Type,
    List,
    Map,
    Optional,
    /// A list of texts.
    Texts,
    /// What the first argument is.
    Same,
    /// What is in the first argument, a list or an optional.
    Inner,
    /// The first argument or nothing.
    OptionalSame,
    /// An item of the first argument or nothing.
    OptionalInner,
}

type Run = for<'a> fn(&[Value<'a>], &mut Meter) -> Result<Value<'a>, Failure>;

/// One way to call a function. Of a member the first argument is what it is called on.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) is_member: bool,
    pub(super) args: &'static [Shape],
    gives: Shape,
    pub(super) run: Run,
}

const fn global(name: &'static str, args: &'static [Shape], gives: Shape, run: Run) -> Function {
    Function { name, is_member: false, args, gives, run }
}

const fn member(name: &'static str, args: &'static [Shape], gives: Shape, run: Run) -> Function {
    Function { name, is_member: true, args, gives, run }
}

const TABLES: [&[Function]; 7] = [
    strings::FUNCTIONS,
    format::FUNCTIONS,
    lists::FUNCTIONS,
    convert::FUNCTIONS,
    amounts::FUNCTIONS,
    net::FUNCTIONS,
    times::FUNCTIONS,
];

/// All ways to call a name.
pub(super) fn named(name: &str, is_member: bool) -> impl Iterator<Item = &'static Function> {
    let all = TABLES.iter().flat_map(|table| table.iter());
    all.filter(move |function| function.name == name && function.is_member == is_member)
}

/// Whether a name, with its namespace, is a function that is called on nothing.
pub(super) fn is_global(name: &str) -> bool {
    named(name, false).next().is_some()
}

impl Function {
    pub(super) fn takes_types(&self, types: &[Type]) -> bool {
        self.args.len() == types.len()
            && self.args.iter().zip(types).all(|(shape, type_)| shape.fits_type(type_))
    }

    pub(super) fn takes(&self, values: &[Value<'_>]) -> bool {
        self.args.len() == values.len()
            && self.args.iter().zip(values).all(|(shape, value)| shape.fits(value))
    }

    /// The type of what it gives for arguments of these types.
    pub(super) fn gives(&self, types: &[Type]) -> Type {
        let first = types.first().cloned().unwrap_or(Type::Any);
        let inner = || match &first {
            Type::List(inner) | Type::Optional(inner) => inner.as_ref().clone(),
            _ => Type::Any,
        };
        match self.gives {
            Shape::Any => Type::Any,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Uint => Type::Uint,
            Shape::Double => Type::Double,
            Shape::Text => Type::Text,
            Shape::Bytes => Type::Bytes,
            Shape::Time => Type::Time,
            Shape::Duration => Type::Duration,
            Shape::Quantity => Type::Quantity,
            Shape::Ip => Type::Ip,
            Shape::Cidr => Type::Cidr,
            Shape::Url => Type::Url,
            Shape::Type => Type::Meta,
            Shape::List => Type::list(Type::Any),
            Shape::Map => Type::map(Type::Any),
            Shape::Optional => Type::optional(Type::Any),
            Shape::Texts => Type::list(Type::Text),
            Shape::Same => first,
            Shape::Inner => inner(),
            Shape::OptionalSame => Type::optional(first),
            Shape::OptionalInner => Type::optional(inner()),
        }
    }
}

impl Shape {
    fn fits_type(self, type_: &Type) -> bool {
        match (self, type_) {
            (_, Type::Any | Type::Null) | (Self::Any, _) => true,
            (Self::Bool, Type::Bool)
            | (Self::Int, Type::Int)
            | (Self::Uint, Type::Uint)
            | (Self::Double, Type::Double)
            | (Self::Text, Type::Text)
            | (Self::Bytes, Type::Bytes)
            | (Self::Time, Type::Time)
            | (Self::Duration, Type::Duration)
            | (Self::Quantity, Type::Quantity)
            | (Self::Ip, Type::Ip)
            | (Self::Cidr, Type::Cidr)
            | (Self::Url, Type::Url)
            | (Self::Type, Type::Meta)
            | (Self::List, Type::List(_))
            | (Self::Optional, Type::Optional(_))
            | (Self::Map, Type::Map(_) | Type::Object(_)) => true,
            (Self::Texts, Type::List(item)) => Self::Text.fits_type(item),
            _ => false,
        }
    }

    fn fits(self, value: &Value<'_>) -> bool {
        matches!(
            (self, value),
            (Self::Any, _)
                | (Self::Bool, Value::Bool(_))
                | (Self::Int, Value::Int(_))
                | (Self::Uint, Value::Uint(_))
                | (Self::Double, Value::Double(_))
                | (Self::Text, Value::Text(_))
                | (Self::Bytes, Value::Bytes(_))
                | (Self::Time, Value::Time(_))
                | (Self::Duration, Value::Duration(_))
                | (Self::Quantity, Value::Quantity(_))
                | (Self::Ip, Value::Ip(_))
                | (Self::Cidr, Value::Cidr(..))
                | (Self::Url, Value::Url(_))
                | (Self::Type, Value::Type(_))
                | (Self::List | Self::Texts, Value::List(_))
                | (Self::Map, Value::Map(_))
                | (Self::Optional, Value::Optional(_))
        )
    }
}

/// The text at a place; the table has seen to it that it is one.
fn text<'b>(args: &'b [Value<'_>], index: usize) -> Result<&'b str, Failure> {
    match args.get(index) {
        Some(Value::Text(text)) => Ok(text),
        _ => Err(Failure::no_overload()),
    }
}

fn int(args: &[Value<'_>], index: usize) -> Result<i64, Failure> {
    match args.get(index) {
        Some(Value::Int(number)) => Ok(*number),
        _ => Err(Failure::no_overload()),
    }
}

/// The items of the list at a place.
fn items<'a>(
    args: &[Value<'a>],
    index: usize,
    meter: &mut Meter,
) -> Result<Vec<Value<'a>>, Failure> {
    match args.get(index) {
        Some(Value::List(list)) => {
            meter.spend(list.len() as u64)?;
            let items = list.items()?;
            items.iter().try_for_each(|item| meter.spend_value(item))?;
            Ok(items)
        }
        _ => Err(Failure::no_overload()),
    }
}

fn count(number: usize) -> Value<'static> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}
