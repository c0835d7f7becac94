//! A change of an object as a change of the file it is written in.
//!
//! In: the files of a commit ([`Picture`]), their bytes, and what somebody wants of one object
//! ([`Wish`]). Out: the new bytes of one file, or why that cannot be written and where to edit
//! ([`rewrite`]). Called by the server when a write through the API becomes a commit. The text is
//! changed where the value differs and nowhere else: comments, order, quotes and indentation stay.
//! What comes out is read again, and the whole repository is put together with it, so that a commit
//! is only made when exactly the wish comes true. Never here: reading Git, deciding who may write.

mod delta;
mod emit;
mod lean;
pub(super) mod node;
mod text;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

pub use delta::Delta;

use self::{
    emit::Style,
    node::{Document, Kind, Node},
    text::{Edits, Place},
};
use super::{FileResult, Options, Picture, RenderedObject, render_file, sealed, yaml};
use crate::{
    kinds::{FieldError, Kinds, Strictness},
    model::{GroupKind, Key, Object, Problem},
};

/// What somebody wants of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// It shall be there.
    Create(Value),
    /// It changes.
    Change(Delta),
    /// It goes.
    Delete,
}

/// One file of a commit that is to be.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// Its path.
    pub path: String,
    /// What it holds; `None` when it goes.
    pub bytes: Option<Vec<u8>>,
    /// The files of the commit with it.
    pub picture: Picture,
}

/// What [`rewrite`] asks about the commit it changes.
pub struct Repository<'a> {
    /// Its files, rendered.
    pub picture: &'a Picture,
    /// What it is rendered against.
    pub options: &'a Options,
    /// The kinds that there are, those of its definitions included.
    pub kinds: &'a Kinds,
    /// The folder that is followed; empty for all.
    pub root: &'a str,
    /// The bytes of a file.
    pub read: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    /// Whether a file is rendered by itself, and read by no kustomization.
    pub is_wanted: &'a dyn Fn(&str) -> bool,
}

/// Finds the file to change, changes it, and renders all of it again.
///
/// Errors are for the person who wrote: they name the place to edit.
pub fn rewrite(repository: &Repository<'_>, key: &Key, wish: &Wish) -> Result<Rewritten, Problem> {
    let kinds = repository.kinds;
    let before = repository.picture.with_custom(kinds, &mut BTreeSet::new());
    let found = before.object(key);
    let made =
        |found: &&RenderedObject| found.made_by.is_some() || !(repository.is_wanted)(&found.file);
    if let Some(found) = found.as_ref().filter(made) {
        let by = found.made_by.as_deref().unwrap_or("a kustomization");
        return Err(told(found, &format!("{by} makes something out of it")));
    }
    let (path, bytes, wanted) = match (wish, &found) {
        (Wish::Create(value), None) => {
            let (path, bytes) = created(repository, key, value)?;
            (path, Some(bytes), Some(admitted(kinds, value.clone())?))
        }
        (Wish::Create(_), Some(found)) => return Err(told(found, "it is in Git already")),
        (_, None) => {
            return Err(Problem {
                message: format!("{key} is no longer in Git"),
                ..Problem::default()
            });
        }
        (Wish::Change(delta), Some(found)) => {
            let text = text_of(repository, found)?;
            let wanted = delta.apply(Some(&found.object.value())).unwrap_or_default();
            let wanted = admitted(kinds, wanted).map_err(|p| told(found, &p.message))?;
            let text =
                changed(&text, kinds, key, delta, &wanted).map_err(|why| told(found, &why))?;
            (found.file.clone(), Some(text.into_bytes()), Some(wanted))
        }
        (Wish::Delete, Some(found)) => {
            is_empty(&before, key, found)?;
            let text = text_of(repository, found)?;
            let text = removed(&text, kinds, key).map_err(|why| told(found, &why))?;
            (found.file.clone(), text.map(String::into_bytes), None)
        }
    };
    let picture = proven(repository, &before, key, (&path, bytes.as_deref()), wanted.as_ref())?;
    Ok(Rewritten { path, bytes, picture })
}

/// Refuses the end of a namespace that objects of Git are in.
fn is_empty(picture: &Picture, key: &Key, found: &RenderedObject) -> Result<(), Problem> {
    if !key.is::<Namespace>() {
        return Ok(());
    }
    let inside = picture.objects().find(|(other, _)| other.namespace == key.name);
    let Some((other, place)) = inside else { return Ok(()) };
    let message = format!(
        "{other} is still in it, at {}:{}: delete that, and what else is in it, first",
        place.file, place.line
    );
    let (file, line) = (found.file.clone(), found.line);
    Err(Problem { file, line, message, ..Problem::default() })
}

fn told(found: &RenderedObject, why: &str) -> Problem {
    Problem {
        file: found.file.clone(),
        line: found.line,
        message: format!("{why}: edit it there and commit"),
        ..Problem::default()
    }
}

fn text_of(repository: &Repository<'_>, found: &RenderedObject) -> Result<String, Problem> {
    let bytes = (repository.read)(&found.file).ok_or_else(|| told(found, "it cannot be read"))?;
    if sealed::is_sealed(&bytes) {
        let why = "its file is sealed, and only who can open the file can change it (`sops` does)";
        return Err(told(found, why));
    }
    String::from_utf8(bytes).map_err(|_| told(found, "it is not UTF-8"))
}

fn admitted(kinds: &Kinds, value: Value) -> Result<Object, Problem> {
    let problem = |errors: Vec<FieldError>| Problem {
        message: errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        ..Problem::default()
    };
    kinds.admit(value, Strictness::Strict).map(|admitted| admitted.object).map_err(problem)
}

/// The file that a new object goes to, with it: `<namespace>/<kind>-<name>.yaml`, and `cluster/…`
/// for what is in no namespace.
fn created(
    repository: &Repository<'_>,
    key: &Key,
    value: &Value,
) -> Result<(String, Vec<u8>), Problem> {
    let folder = if key.namespace.is_empty() { "cluster" } else { &key.namespace };
    let root = match repository.root.trim_matches('/') {
        "" => String::new(),
        root => format!("{root}/"),
    };
    let kind = key.kind.kind.to_lowercase();
    // Names of some kinds hold what paths must not.
    let name = key.name.replace([':', '/'], "-");
    let path = format!("{root}{folder}/{kind}-{name}.yaml");
    let problem = |message: &str| {
        let message = message.to_owned();
        Err(Problem { file: path.clone(), message, ..Problem::default() })
    };
    if !(repository.is_wanted)(&path) {
        return problem(
            "a new object would go there, and this path is not rendered by itself: \
                        commit it somewhere else",
        );
    }
    let new = fresh(&lean::of(repository.kinds, None, value));
    let text = match (repository.read)(&path) {
        None => new,
        Some(bytes) => match String::from_utf8(bytes) {
            Ok(old) => format!("{}\n---\n{new}", old.trim_end()),
            Err(_) => return problem("a new object would go there, and it is not UTF-8"),
        },
    };
    Ok((path, text.into_bytes()))
}

/// An object as a file of its own.
fn fresh(value: &Value) -> String {
    let map = value.as_object().cloned().unwrap_or_default();
    format!("{}\n", emit::block_map(&map, 0, Style::default()))
}

/// The picture with one file changed, once it shows that nothing else becomes different.
fn proven(
    repository: &Repository<'_>,
    before: &Picture,
    key: &Key,
    (path, bytes): (&str, Option<&[u8]>),
    wanted: Option<&Object>,
) -> Result<Picture, Problem> {
    let mut whole = repository.picture.clone();
    let mut touched = BTreeSet::new();
    match bytes {
        Some(bytes) => {
            let file: FileResult = render_file(path, bytes);
            whole.put(Arc::new(file), &mut touched);
        }
        None => whole.remove(path, &mut touched),
    }
    let after = whole.with_custom(repository.kinds, &mut touched);
    if let Some(problem) = after.problems(repository.options).into_iter().next() {
        return Err(problem);
    }
    touched.insert(key.clone());
    for other in &touched {
        let (old, new) = (before.object(other), after.object(other));
        let right = match other == key {
            true => new.as_ref().map(|found| &found.object) == wanted,
            false => old.as_ref().map(|o| o.digest) == new.as_ref().map(|o| o.digest),
        };
        if !right {
            let place = old.or(new);
            let message = format!(
                "{other} would become something else than was asked for: edit it there and commit"
            );
            let (file, line) = place.map_or((path.to_owned(), 0), |p| (p.file, p.line));
            return Err(Problem { file, line, message, ..Problem::default() });
        }
    }
    Ok(whole)
}

/// Why a text is left as it is.
type Fault = String;

/// A text that was read: its documents, as values and as places.
struct Read<'t> {
    text: &'t str,
    mark: &'t str,
    documents: Vec<(Document, Value)>,
}

impl<'t> Read<'t> {
    fn of(whole: &'t str) -> Result<Self, Fault> {
        let text = whole.strip_prefix('\u{feff}').unwrap_or(whole);
        let values = yaml::documents(text.as_bytes()).map_err(|fault| fault.message)?;
        let documents = node::documents(text).unwrap_or_default();
        if documents.len() != values.len() {
            return Err("it is written in a way that is not changed by a program".to_owned());
        }
        let mark = &whole[..whole.len() - text.len()];
        Ok(Self { text, mark, documents: documents.into_iter().zip(values).collect() })
    }

    /// The number of the document with an object, and the numbers of the items it is in.
    fn find(&self, kinds: &Kinds, key: &Key) -> Option<(usize, Vec<usize>)> {
        let search =
            |(at, (_, value)): (usize, &(Document, Value))| Some((at, find(kinds, value, key)?));
        self.documents.iter().enumerate().find_map(search)
    }
}

/// The way to an object: none when this is it, else through lists.
fn find(kinds: &Kinds, value: &Value, key: &Key) -> Option<Vec<usize>> {
    if let Some(items) = value.get("items").and_then(Value::as_array) {
        let found = |(at, item): (usize, &Value)| Some((at, find(kinds, item, key)?));
        let (at, mut way) = items.iter().enumerate().find_map(found)?;
        way.insert(0, at);
        return Some(way);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = GroupKind::from_api_version(&text(&value["apiVersion"]), &text(&value["kind"]));
    let meta = &value["metadata"];
    let namespaced = kinds.lookup(&kind).is_none_or(|info| info.namespaced);
    let namespace = match text(&meta["namespace"]) {
        _ if !namespaced => String::new(),
        namespace if namespace.is_empty() => "default".to_owned(),
        namespace => namespace,
    };
    (Key::new(kind, &namespace, &text(&meta["name"])) == *key).then(Vec::new)
}

/// What a way leads to: the list around it, itself, and its value.
fn step<'n>(
    node: &'n Node,
    value: &'n Value,
    at: usize,
) -> Option<(&'n Node, &'n Node, &'n Value)> {
    let Kind::Map { entries, .. } = &node.kind else { return None };
    let list = &entries.iter().find(|entry| entry.key == "items")?.value;
    let Kind::List { items, .. } = &list.kind else { return None };
    Some((list, items.get(at)?, value.get("items")?.get(at)?))
}

const UNSUITED: &str = "it is written in a way that is not changed by a program";

/// A text with one of its objects changed.
fn changed(
    whole: &str,
    kinds: &Kinds,
    key: &Key,
    delta: &Delta,
    wanted: &Object,
) -> Result<String, Fault> {
    let read = Read::of(whole)?;
    let (at, way) =
        read.find(kinds, key).ok_or_else(|| "it is made there from other files".to_owned())?;
    let (document, root) = &read.documents[at];
    let (mut node, mut value) = (&document.root, root);
    let mut place = Place::Document;
    let style = Style { lists_at_key: text::lists_at_key(read.text, node), quoted: false };
    let mut edits = Edits::new(read.text, style);
    for at in way {
        let (list, item, inner) = step(node, value, at).ok_or(UNSUITED)?;
        place = match list.is_flow() {
            true => Place::Flow,
            false => Place::Item { dash: edits.dash(item).ok_or(UNSUITED)? },
        };
        (node, value) = (item, inner);
    }
    let new = delta.apply(Some(value)).ok_or(UNSUITED)?;
    let new = lean::of(kinds, Some(value), &new);
    // A field that is a default in one place and written in another may have been left out.
    let new = match kinds.admit(new.clone(), Strictness::Ignore) {
        Ok(admitted) if same(&admitted.object, wanted) => new,
        _ => delta.apply(Some(value)).ok_or(UNSUITED)?,
    };
    if node.is_marked {
        return Err(UNSUITED.to_owned());
    }
    edits.value(node, value, &new, &place);
    Ok(read.mark.to_owned() + &edits.finish())
}

/// Whether two objects say the same but for the namespace that is given to what has none.
fn same(one: &Object, other: &Object) -> bool {
    let plain = |object: &Object| {
        let mut value = object.value();
        if let Some(meta) = value["metadata"].as_object_mut() {
            meta.remove("namespace");
        }
        value
    };
    plain(one) == plain(other)
}

/// A text without one of its objects; `None` when nothing is left in it.
fn removed(whole: &str, kinds: &Kinds, key: &Key) -> Result<Option<String>, Fault> {
    let read = Read::of(whole)?;
    let (at, mut way) =
        read.find(kinds, key).ok_or_else(|| "it is made there from other files".to_owned())?;
    let mut edits = Edits::new(read.text, Style::default());
    let (document, root) = &read.documents[at];
    let last = way.pop();
    let (mut node, mut value) = (&document.root, root);
    for at in way {
        let (_, item, inner) = step(node, value, at).ok_or(UNSUITED)?;
        (node, value) = (item, inner);
    }
    if let Some(at) = last {
        let mut new = value.clone();
        if let Some(items) = new["items"].as_array_mut() {
            items.remove(at);
        }
        edits.value(node, value, &new, &Place::Document);
        return Ok(Some(read.mark.to_owned() + &edits.finish()));
    }
    if read.documents.len() == 1 {
        return Ok(None);
    }
    let start = if at == 0 { 0 } else { document.start };
    let end = read.documents.get(at + 1).map_or(read.text.len(), |(next, _)| next.start);
    // The first document needs no marker before it, and none is left behind the last one.
    let end = match at == 0 && read.text[end..].starts_with("---") {
        true => edits.next_line(end),
        false => end,
    };
    edits.cut(edits.line_start(start)..end);
    Ok(Some(read.mark.to_owned() + &edits.finish()))
}
