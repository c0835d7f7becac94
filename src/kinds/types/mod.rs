//! The shape of Kubernetes' types, as a table: fields, wire numbers, list types, merge keys.
//!
//! In: names of kinds and fields. Out: [`Message`]s and [`Field`]s. The API's protobuf decoder and
//! whoever merges patches ask; nothing here reads a value. `types.tsv` was made from the Go types
//! of k8s.io/api 0.37.1 and the list types of the OpenAPI that Kubernetes 1.37.1 serves.

use std::{collections::BTreeMap, sync::LazyLock};

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// Base64 in JSON.
    Bytes,
    /// A time in seconds.
    Time,
    /// A time in microseconds.
    MicroTime,
    /// A duration as Go writes it.
    Duration,
    /// `100m`, `1Gi`.
    Quantity,
    /// A number or a name.
    IntOrString,
    /// A whole object of any kind.
    Raw,
    /// Field sets of managedFields.
    Fields,
    /// A list of texts that has a message of its own on the wire.
    Wrapped,
    /// A message of the table.
    Message(&'static str),
    /// A list of the same.
    List(Box<Type>),
    /// By text.
    Map(Box<Type>),
}

impl Type {
    fn parse(text: &'static str) -> Self {
        match text {
            "string" => Self::String,
            "bool" => Self::Bool,
            "int" => Self::Int,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "time" => Self::Time,
            "microtime" => Self::MicroTime,
            "duration" => Self::Duration,
            "quantity" => Self::Quantity,
            "intorstring" => Self::IntOrString,
            "raw" => Self::Raw,
            "fields" => Self::Fields,
            "wrapped" => Self::Wrapped,
            _ => match (text.strip_prefix("[]"), text.strip_prefix("{}")) {
                (Some(item), _) => Self::List(Box::new(Self::parse(item))),
                (_, Some(item)) => Self::Map(Box::new(Self::parse(item))),
                _ => Self::Message(text),
            },
        }
    }
}

/// How a list is owned and merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// As one value.
    Atomic,
    /// Each value by itself.
    Set,
    /// Each item by its keys.
    Map,
}

/// One field of a message.
#[derive(Clone, Debug)]
pub struct Field {
    /// As in JSON.
    pub name: &'static str,
    /// On the wire; 0 for what is not sent.
    pub number: u32,
    /// What it holds.
    pub typ: Type,
    /// Absent differs from zero.
    pub pointer: bool,
    /// Zero is left out of JSON.
    pub omit_empty: bool,
    /// Its fields stand in the JSON of the message that holds it.
    pub inline: bool,
    /// How a list in it is owned.
    pub list: ListType,
    /// What tells the items of a list that is owned item by item.
    pub keys: Vec<&'static str>,
    /// Whether a map is owned as one value; as the type says when absent.
    pub atomic: Option<bool>,
    /// Lists of strategic merge patches are merged rather than replaced.
    pub merge: bool,
    /// Strategic merge patches replace the value.
    pub replace: bool,
    /// What tells the items of a list that is merged; absent: the items themselves.
    pub merge_key: Option<&'static str>,
}

/// One type.
#[derive(Debug, Default)]
pub struct Message {
    /// Owned as one value.
    pub atomic: bool,
    /// By name in JSON.
    fields: BTreeMap<&'static str, Field>,
    numbers: BTreeMap<u32, &'static str>,
    inline: Vec<&'static str>,
}

impl Message {
    /// A field by its name in JSON, those of inline messages too.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let own = self.fields.get(name).filter(|field| !field.inline);
        own.or_else(|| self.inline.iter().find_map(|inner| message(inner)?.field(name)))
    }

    /// A field by its number on the wire.
    pub fn number(&self, number: u32) -> Option<&Field> {
        self.fields.get(self.numbers.get(&number)?)
    }
}

struct Table {
    kinds: BTreeMap<(&'static str, &'static str), &'static str>,
    messages: BTreeMap<&'static str, Message>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| read(include_str!("types.tsv")));

/// The options of a deletion, which clients send with the group and version of what is deleted.
const DELETE_OPTIONS: &str = "DeleteOptions";

/// The type of a kind; `None` for kinds that Kubernetes does not bring.
pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static str> {
    let api_version = if kind == DELETE_OPTIONS { "v1" } else { api_version };
    let is = |(version, name): &(&str, &str)| *version == api_version && *name == kind;
    TABLE.kinds.iter().find(|(key, _)| is(key)).map(|(_, name)| *name)
}

/// A type by its name.
pub fn message(name: &str) -> Option<&'static Message> {
    TABLE.messages.get(name)
}

fn read(text: &'static str) -> Table {
    let mut table = Table { kinds: BTreeMap::new(), messages: BTreeMap::new() };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&'static str> = line.split('\t').collect();
        let at = |n: usize| columns.get(n).copied().unwrap_or_default();
        if at(0) == "!" {
            table.kinds.insert((at(1), at(2)), at(3));
            continue;
        }
        let message = table.messages.entry(at(0)).or_default();
        if at(1).is_empty() {
            message.atomic = at(7) == "atomic";
            continue;
        }
        let field = field(&at);
        message.numbers.insert(field.number, field.name);
        if let (true, Type::Message(inner)) = (field.inline, &field.typ) {
            message.inline.push(inner);
        }
        message.fields.insert(field.name, field);
    }
    table
}

fn field(at: &dyn Fn(usize) -> &'static str) -> Field {
    let flags = at(4);
    Field {
        name: at(1),
        number: at(2).parse().unwrap_or(0),
        typ: Type::parse(at(3)),
        pointer: flags.contains('p'),
        omit_empty: flags.contains('o'),
        inline: flags.contains('i'),
        list: match at(5) {
            "set" => ListType::Set,
            "map" => ListType::Map,
            _ => ListType::Atomic,
        },
        keys: at(6).split(',').filter(|key| !key.is_empty()).collect(),
        atomic: Some(at(7)).filter(|text| !text.is_empty()).map(|text| text == "atomic"),
        merge: at(8).split(',').any(|word| word == "merge"),
        replace: at(8).split(',').any(|word| word == "replace"),
        merge_key: Some(at(9)).filter(|key| !key.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that the table mentions and does not have would end every walk there.
    #[test]
    fn every_type_that_is_named_is_there() {
        fn named(typ: &Type) -> Option<&'static str> {
            match typ {
                Type::Message(name) => Some(name),
                Type::List(item) | Type::Map(item) => named(item),
                _ => None,
            }
        }
        let fields = TABLE.messages.values().flat_map(|message| message.fields.values());
        let names = fields.filter_map(|f| named(&f.typ)).chain(TABLE.kinds.values().copied());
        let missing: Vec<&str> = names.filter(|name| message(name).is_none()).collect();
        assert_eq!(missing, Vec::<&str>::new());
        assert!(TABLE.kinds.len() > 50, "{} kinds", TABLE.kinds.len());
    }

    #[test]
    fn fields_of_inline_messages_are_found_by_name() {
        let volume = message("core.v1.Volume").unwrap();
        assert_eq!(volume.field("hostPath").unwrap().number, 1);
        assert_eq!(volume.field("name").unwrap().number, 1);
        assert!(volume.field("nope").is_none());
    }
}
