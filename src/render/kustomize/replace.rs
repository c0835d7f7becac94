//! Replacements: a value of one object is put into others.

use regex::Regex;
use serde_json::{Map, Value};

use super::{
    fields::{From, ReplaceOptions, Replacement, To},
    paths,
    resource::{Gvk, Resource},
    select::{Exact, Marks},
};
use crate::render::yaml;

/// The field that is meant when none is named.
const NAME: &str = "metadata.name";

/// Most bytes of a value that is put somewhere, 1 MiB: an object cannot be larger, and a value
/// that is added to itself again and again would double each time.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Does one replacement; gives the bytes that were written.
pub(super) fn apply(set: &mut [Resource], replacement: &Replacement) -> Result<usize, String> {
    let Some(source) = replacement.source.as_ref().filter(|_| !replacement.targets.is_empty())
    else {
        return Err("a replacement needs a source and at least one target".to_owned());
    };
    let value = taken(set, source)?;
    let bytes = value.to_string().len();
    let mut written = 0;
    for target in &replacement.targets {
        written += bytes * put(set, &value, target)?;
    }
    Ok(written)
}

/// The value of the source.
fn taken(set: &[Resource], source: &From) -> Result<Value, String> {
    let exact = Exact {
        gvk: Gvk { group: &source.group, version: &source.version, kind: &source.kind },
        name: &source.name,
        namespace: &source.namespace,
    };
    let is_meant = |resource: &&Resource| resource.ids().iter().any(|id| exact.selects(id));
    let mut meant = set.iter().filter(is_meant);
    let shown = || format!("{} {:?}", source.kind, source.name);
    let Some(found) = meant.next() else {
        return Err(format!("there is no {} to take a value from", shown()));
    };
    if meant.next().is_some() {
        return Err(format!("there are several of {}: say kind, name and namespace", shown()));
    }
    let path = if source.field_path.is_empty() { NAME } else { &source.field_path };
    let value = look(&found.value, &parts(path)).filter(|value| !is_nothing(value));
    let Some(value) = value else {
        return Err(format!("{} has no field {path:?}", found.shown()));
    };
    if source.options.delimiter.is_empty() {
        return Ok(value.clone());
    }
    let text = scalar(value).ok_or("a delimiter divides a single value, and this is none")?;
    let index = usize::try_from(source.options.index).ok();
    let part = index.and_then(|index| text.split(&source.options.delimiter).nth(index));
    part.map(Value::from)
        .ok_or_else(|| format!("index {} is beyond the parts of {text:?}", source.options.index))
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The text of a single value.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// The parts of a path: `.` divides, brackets keep one together.
fn parts(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut open: Option<String> = None;
    for part in paths::split(path, '.') {
        if let Some(mut whole) = open.take() {
            whole.push('.');
            whole.push_str(&part);
            match whole.ends_with(']') {
                true => parts.push(closed(whole)),
                false => open = Some(whole),
            }
        } else if part.starts_with('[') && !part.ends_with(']') {
            open = Some(part);
        } else {
            parts.push(part);
        }
    }
    parts.extend(open.map(closed));
    parts
}

/// `[a=b]` is a condition; other brackets only kept a key together.
fn closed(part: String) -> String {
    match part.contains('=') {
        true => part,
        false => part.trim_matches(['[', ']']).to_owned(),
    }
}

/// `[key=value]`: what an item of a list must have; no key means the item itself.
fn condition(part: &str) -> Option<(&str, &str)> {
    part.strip_prefix('[')?.strip_suffix(']')?.split_once('=')
}

fn index(part: &str) -> Option<usize> {
    part.chars().all(|c| c.is_ascii_digit()).then(|| part.parse().ok())?
}

fn look<'v>(value: &'v Value, parts: &[String]) -> Option<&'v Value> {
    let Some((part, rest)) = parts.split_first() else { return Some(value) };
    let next = match value {
        Value::Object(map) => map.get(part.as_str()),
        Value::Array(items) => match (condition(part), index(part)) {
            (Some((key, wanted)), _) => items.iter().find(|item| {
                let found = if key.is_empty() { Some(*item) } else { item.get(key) };
                found.and_then(scalar).is_some_and(|text| text == wanted)
            }),
            (None, Some(index)) => items.get(index),
            (None, None) if part == "-" => items.last(),
            (None, None) => None,
        },
        _ => None,
    };
    look(next?, rest)
}

/// Puts the value into every object that is meant; gives how often.
fn put(set: &mut [Resource], value: &Value, target: &To) -> Result<usize, String> {
    let Some(select) = &target.select else {
        return Err("a target needs select: say which objects".to_owned());
    };
    let (exact, marks) = (Exact::of(select), Marks::new(select)?);
    let rejects: Vec<(Exact<'_>, Marks)> = target
        .reject
        .iter()
        .map(|reject| Marks::new(reject).map(|marks| (Exact::of(reject), marks)))
        .collect::<Result<_, _>>()?;
    let name = [NAME.to_owned()];
    let fields = if target.field_paths.is_empty() { &name[..] } else { &target.field_paths };
    let mut times = 0;
    for resource in set.iter_mut() {
        let ids = resource.ids();
        let is_meant = marks.match_all(resource) && ids.iter().any(|id| exact.selects(id));
        let is_rejected = rejects.iter().any(|(exact, marks)| {
            (!exact.is_none() && ids.iter().any(|id| exact.selects(id)))
                || (!marks.is_none() && marks.match_all(resource))
        });
        if !is_meant || is_rejected {
            continue;
        }
        let shown = resource.shown();
        for field in fields {
            times += put_field(&mut resource.value, value, field, &target.options)
                .map_err(|message| format!("{shown}: {message}"))?;
        }
    }
    Ok(times)
}

fn put_field(
    object: &mut Value,
    value: &Value,
    field: &str,
    options: &ReplaceOptions,
) -> Result<usize, String> {
    let made = options.create.then(|| match value {
        Value::Object(_) => Value::Object(Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    });
    let walk = Walk { made, value, options };
    let parts = parts(field);
    paths::bounded(parts.len())?;
    let times = walk.value(object, &parts, false)?;
    paths::bounded(paths::depth(object))?;
    match times {
        0 => Err(format!("there is no field {field:?}: set create: true, or mend the path")),
        times => Ok(times),
    }
}

struct Walk<'a> {
    /// What a missing field becomes before it is set; absent: it is not made.
    made: Option<Value>,
    value: &'a Value,
    options: &'a ReplaceOptions,
}

impl Walk<'_> {
    /// Sets what the path leads to; `fresh` when that was made for it.
    fn value(&self, here: &mut Value, parts: &[String], fresh: bool) -> Result<usize, String> {
        let Some((part, rest)) = parts.split_first() else {
            return self.set(here, fresh).map(|()| 1);
        };
        if let Some(at) = index(part) {
            return self.at_index(here, at, rest, fresh);
        }
        if let Some((key, pattern)) = condition(part) {
            return self.matching(here, key, pattern, rest, fresh);
        }
        match (part.as_str(), here) {
            ("*", Value::Array(items)) => {
                items.iter_mut().try_fold(0, |n, item| Ok(n + self.value(item, rest, fresh)?))
            }
            ("*", _) => Err("'*' stands for the items of a list, and this is none".to_owned()),
            (_, Value::Object(map)) => self.field(map, part, rest, fresh),
            (_, Value::Null) => Ok(0),
            (part, _) => Err(format!("there is no map where {part:?} is looked for")),
        }
    }

    /// What a missing part becomes, by what comes after it.
    fn part(&self, rest: &[String]) -> Option<Value> {
        let made = self.made.clone()?;
        Some(match rest.first() {
            None => made,
            Some(next) if index(next).is_some() || condition(next).is_some() || next == "*" => {
                Value::Array(Vec::new())
            }
            Some(_) => Value::Object(Map::new()),
        })
    }

    fn field(
        &self,
        map: &mut Map<String, Value>,
        part: &str,
        rest: &[String],
        fresh: bool,
    ) -> Result<usize, String> {
        if let Some(found) = map.get_mut(part) {
            return self.value(found, rest, fresh);
        }
        let Some(made) = self.part(rest) else { return Ok(0) };
        self.value(map.entry(part.to_owned()).or_insert(made), rest, true)
    }

    fn at_index(
        &self,
        here: &mut Value,
        at: usize,
        rest: &[String],
        mut fresh: bool,
    ) -> Result<usize, String> {
        let Value::Array(items) = here else {
            return Err(format!("there is no list where item {at} is looked for"));
        };
        if let Some(made) = self.part(rest).filter(|_| items.len() == at) {
            items.push(made);
            fresh = true;
        }
        match items.get_mut(at) {
            Some(item) => self.value(item, rest, fresh),
            None => Err(format!("the list has no item {at}")),
        }
    }

    fn matching(
        &self,
        here: &mut Value,
        key: &str,
        pattern: &str,
        rest: &[String],
        fresh: bool,
    ) -> Result<usize, String> {
        let Value::Array(items) = here else {
            return Err(format!("there is no list where [{key}={pattern}] is looked for"));
        };
        let regex = Regex::new(pattern);
        let regex = regex.map_err(|_| format!("{pattern:?} is no regular expression"))?;
        let fits = |item: &Value| {
            let found = if key.is_empty() { Some(item) } else { item.get(key) };
            found.and_then(scalar).is_some_and(|text| regex.is_match(&text))
        };
        let mut times = 0;
        for item in items.iter_mut().filter(|item| fits(item)) {
            times += match key.is_empty() {
                true => self.set(item, fresh).map(|()| 1)?,
                false => self.value(item, rest, fresh)?,
            };
        }
        if times > 0 || self.made.is_none() {
            return Ok(times);
        }
        let mut item = match key.is_empty() {
            true => Value::from(pattern),
            false => Value::Object([(key.to_owned(), Value::from(pattern))].into_iter().collect()),
        };
        let times = match key.is_empty() {
            true => self.set(&mut item, fresh).map(|()| 1)?,
            false => self.value(&mut item, rest, fresh)?,
        };
        items.push(item);
        Ok(times)
    }

    fn set(&self, here: &mut Value, fresh: bool) -> Result<(), String> {
        let delimiter = self.options.delimiter.as_str();
        let Some(old) = scalar(here) else {
            return match delimiter {
                "" => {
                    *here = self.value.clone();
                    Ok(())
                }
                _ => Err("a delimiter divides a single value, and this is none".to_owned()),
            };
        };
        let Some(mut text) = scalar(self.value) else {
            return match fresh || here.is_null() {
                true => {
                    *here = self.value.clone();
                    Ok(())
                }
                false => Err("a map or a list cannot stand in place of a single value".to_owned()),
            };
        };
        if !delimiter.is_empty() {
            text = spliced(&old, &text, delimiter, self.options.index);
        }
        if text.len() > VALUE_BYTES_MAX {
            return Err(format!("the value grows beyond {VALUE_BYTES_MAX} bytes"));
        }
        assign(here, text, fresh)
    }
}

/// A text with one of its parts replaced, or one more in front or behind.
fn spliced(old: &str, new: &str, delimiter: &str, index: i64) -> String {
    let mut parts: Vec<&str> = old.split(delimiter).collect();
    match usize::try_from(index) {
        Err(_) => parts.insert(0, new),
        Ok(index) if index >= parts.len() => parts.push(new),
        Ok(index) => parts[index] = new,
    }
    parts.join(delimiter)
}

/// Puts a text where a single value stands; that keeps its type, a new one has that of the text.
fn assign(here: &mut Value, text: String, fresh: bool) -> Result<(), String> {
    let read = || yaml::documents(text.as_bytes()).ok().and_then(|mut all| all.pop());
    let new = match here {
        Value::Null if fresh => read().filter(|value| !value.is_object() && !value.is_array()),
        Value::Number(_) => Some(
            read()
                .filter(Value::is_number)
                .ok_or_else(|| format!("{text:?} cannot stand in place of a number"))?,
        ),
        Value::Bool(_) => Some(
            read()
                .filter(Value::is_boolean)
                .ok_or_else(|| format!("{text:?} cannot stand in place of true or false"))?,
        ),
        _ => None,
    };
    *here = new.unwrap_or_else(|| text.into());
    Ok(())
}
