//! Whether a value fits a schema.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Map, Value};

use super::{field, flag};
use crate::kinds::{
    decode::join,
    field::{Check, Reason},
};

/// How deep a value may be judged: deeper ones are refused, so that nobody chooses our stack.
const DEPTH_MAX: usize = 64;

/// Finds what is wrong with a value.
pub(in crate::kinds) fn validate(value: &Value, schema: &Value, at: &str, check: &mut Check) {
    Judge { check, depth: 0 }.value(value, schema, at);
}

struct Judge<'a> {
    check: &'a mut Check,
    depth: usize,
}

impl Judge<'_> {
    fn value(&mut self, value: &Value, schema: &Value, at: &str) {
        if value.is_null() && flag(schema, "nullable") {
            return;
        }
        if self.depth == DEPTH_MAX {
            self.check.error(at, Reason::Invalid, format!("is nested deeper than {DEPTH_MAX}"));
            return;
        }
        self.depth += 1;
        if self.type_fits(value, schema, at) {
            match value {
                Value::String(text) => self.text(text, schema, at),
                Value::Number(number) => self.number(number.as_f64(), value, schema, at),
                Value::Array(items) => self.list(items, schema, at),
                Value::Object(map) => self.map(map, schema, at),
                Value::Null | Value::Bool(_) => {}
            }
            self.one_of_known(value, schema, at);
        }
        self.alternatives(value, schema, at);
        self.depth -= 1;
    }

    fn type_fits(&mut self, value: &Value, schema: &Value, at: &str) -> bool {
        let is = type_of(value);
        if flag(schema, "x-kubernetes-int-or-string") {
            let fits = matches!(is, "integer" | "string");
            if !fits {
                self.wrong_type(at, "integer,string", is);
            }
            return fits;
        }
        let Some(wanted) = schema.get("type").and_then(Value::as_str) else { return true };
        let fits = is == wanted || (wanted, is) == ("number", "integer");
        if !fits {
            self.wrong_type(at, wanted, is);
        }
        fits
    }

    fn wrong_type(&mut self, at: &str, wanted: &str, is: &str) {
        let detail =
            format!("Invalid value: {is:?}: {at} in body must be of type {wanted}: {is:?}");
        self.check.error(at, Reason::TypeUnfit, detail);
    }

    /// The first rule that a text breaks.
    fn text(&mut self, text: &str, schema: &Value, at: &str) {
        let length = text.chars().count() as u64;
        if let Some(most) = bound(schema, "maxLength").filter(|most| length > *most) {
            let detail = format!("Too long: may not be more than {most} bytes");
            return self.check.error(at, Reason::TooLong, detail);
        }
        if let Some(least) = bound(schema, "minLength").filter(|least| length < *least) {
            let detail = format!("{at} in body should be at least {least} chars long");
            return self.check.invalid(at, text, detail);
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
        {
            return self.check.invalid(at, text, format!("{at} in body should match '{pattern}'"));
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && !has_format(text, format)
        {
            let detail =
                format!("Invalid value: {text:?}: {at} in body must be of type {format}: {text:?}");
            self.check.error(at, Reason::TypeUnfit, detail);
        }
    }

    fn number(&mut self, number: Option<f64>, value: &Value, schema: &Value, at: &str) {
        let Some(number) = number else { return };
        let limit = |word: &str| Some((schema.get(word)?.as_f64()?, schema.get(word)?));
        if let Some((most, shown)) = limit("maximum") {
            let strict = flag(schema, "exclusiveMaximum");
            if number > most || strict && number >= most {
                let than = if strict { "less than" } else { "less than or equal to" };
                self.check.invalid(at, value, format!("{at} in body should be {than} {shown}"));
            }
        }
        if let Some((least, shown)) = limit("minimum") {
            let strict = flag(schema, "exclusiveMinimum");
            if number < least || strict && number <= least {
                let than = if strict { "greater than" } else { "greater than or equal to" };
                self.check.invalid(at, value, format!("{at} in body should be {than} {shown}"));
            }
        }
        if let Some((step, shown)) = limit("multipleOf")
            && step > 0.0
            && (number / step).fract() != 0.0
        {
            self.check.invalid(at, value, format!("{at} in body should be a multiple of {shown}"));
        }
    }

    fn list(&mut self, items: &[Value], schema: &Value, at: &str) {
        let count = items.len() as u64;
        if let Some(least) = bound(schema, "minItems").filter(|least| count < *least) {
            self.check.invalid(
                at,
                count,
                format!("{at} in body should have at least {least} items"),
            );
        }
        if let Some(most) = bound(schema, "maxItems").filter(|most| count > *most) {
            let detail = format!("Too many: {count}: must have at most {most} items");
            self.check.error(at, Reason::TooMany, detail);
        }
        if let Some(inner) = schema.get("items") {
            for (i, item) in items.iter().enumerate() {
                self.value(item, inner, &format!("{at}[{i}]"));
            }
        }
        self.unique(items, schema, at);
    }

    /// The items of a set, and the keys of a list that is a map, stand there once.
    fn unique(&mut self, items: &[Value], schema: &Value, at: &str) {
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            let Some(identity) = identity(item, schema) else { return };
            if !seen.insert(identity.to_string()) {
                self.check.duplicate(format!("{at}[{i}]"), identity);
            }
        }
    }

    fn map(&mut self, map: &Map<String, Value>, schema: &Value, at: &str) {
        let count = map.len() as u64;
        if let Some(least) = bound(schema, "minProperties").filter(|least| count < *least) {
            let text = format!("{at} in body should have at least {least} properties");
            self.check.invalid(at, count, text);
        }
        if let Some(most) = bound(schema, "maxProperties").filter(|most| count > *most) {
            let detail = format!("Too many: {count}: must have at most {most} items");
            self.check.error(at, Reason::TooMany, detail);
        }
        for name in texts(schema, "required").filter(|name| !map.contains_key(*name)) {
            self.check.required(join(at, name), "");
        }
        for (key, value) in map {
            if let Some(inner) = field(schema, key) {
                self.value(value, inner, &join(at, key));
            }
        }
    }

    fn one_of_known(&mut self, value: &Value, schema: &Value, at: &str) {
        let Some(known) = schema.get("enum").and_then(Value::as_array) else { return };
        if !known.contains(value) {
            let list: Vec<String> = known.iter().map(Value::to_string).collect();
            let text = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
            self.check.error(at, Reason::NotSupported, text);
        }
    }

    fn alternatives(&mut self, value: &Value, schema: &Value, at: &str) {
        let list = |word: &str| schema.get(word).and_then(Value::as_array);
        let fitting = |list: &Vec<Value>| list.iter().filter(|one| fits(value, one)).count();
        let mut wrong = |text: String| {
            let detail = format!("Invalid value: \"\": {at:?} {text}");
            self.check.error(at, Reason::Invalid, detail);
        };
        if let Some(all) = list("allOf")
            && fitting(all) < all.len()
        {
            wrong("must validate all the schemas (allOf)".to_owned());
        }
        if list("anyOf").is_some_and(|any| fitting(any) == 0) {
            wrong("must validate at least one schema (anyOf)".to_owned());
        }
        match list("oneOf").map(fitting) {
            None | Some(1) => {}
            Some(0) => {
                wrong("must validate one and only one schema (oneOf). Found none valid".to_owned())
            }
            Some(count) => wrong(format!(
                "must validate one and only one schema (oneOf). Found {count} valid alternatives"
            )),
        }
        if schema.get("not").is_some_and(|not| fits(value, not)) {
            wrong("must not validate the schema (not)".to_owned());
        }
    }
}

fn fits(value: &Value, schema: &Value) -> bool {
    let mut check = Check::default();
    validate(value, schema, "", &mut check);
    check.errors.is_empty()
}

/// What must be there once of an item; `None` when the list may repeat.
fn identity(item: &Value, schema: &Value) -> Option<Value> {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => Some(item.clone()),
        Some("map") => {
            let keys = texts(schema, "x-kubernetes-list-map-keys");
            let found = keys.filter_map(|key| Some((key.to_owned(), item.get(key)?.clone())));
            Some(Value::Object(found.collect()))
        }
        _ => flag(schema, "uniqueItems").then(|| item.clone()),
    }
}

fn texts<'a>(schema: &'a Value, word: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    schema.get(word).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn bound(schema: &Value, word: &str) -> Option<u64> {
    schema.get(word)?.as_u64()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The formats that are judged; of others nothing is known, as in Kubernetes.
fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "byte" => {
            use base64::{Engine, prelude::BASE64_STANDARD};
            BASE64_STANDARD.decode(text).is_ok()
        }
        _ => true,
    }
}
