//! One file: documents, lists, objects, problems with their lines.

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

use serde_json::Value;
use smol_str::SmolStr;

use super::{
    sealed::{self, SealedFile},
    suggest, yaml,
};
use crate::{
    kinds::{self, FieldError, KindInfo, Kinds, Reason, Strictness},
    model::{GroupKind, Object, Problem},
};

/// Most problems that are told of one file; the last one says that there are more.
const PROBLEMS_MAX: usize = 100;
/// Where an object without namespace goes.
const DEFAULT_NAMESPACE: &str = "default";
/// What only the cluster writes; an export of a live object carries it, so it is dropped without a
/// word.
const SERVER_SET: [&str; 7] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
];

/// One object of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileObject {
    /// Defaulted and valid.
    pub object: Object,
    /// The file it is written in, when that is another than the one that was rendered.
    pub file: Option<SmolStr>,
    /// The line its document (or list item) starts at, from 1.
    pub line: u32,
    /// See [`super::RenderedObject::digest`].
    pub digest: u128,
    /// See [`super::RenderedObject::open`].
    pub open: bool,
}

/// What one file says; depends on its path and bytes alone, or on what a kustomization names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileResult {
    /// The path inside the repository.
    pub path: String,
    /// Whether this is a kustomization, whose objects are made out of other files.
    pub built: bool,
    /// The objects that could be read, in the order of the file.
    pub objects: Vec<FileObject>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is worth knowing.
    pub warnings: Vec<Problem>,
    /// Objects of kinds that are not built in: what they may say is known when all files are.
    pub custom: Vec<Unknown>,
    /// What was sealed of it, to be proven by whoever has the key.
    pub sealed: Vec<Arc<SealedFile>>,
}

/// An object of a kind that a definition may add.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    value: Value,
    /// See [`FileObject::file`].
    file: Option<SmolStr>,
    /// See [`Spot`].
    line: u32,
    prefix: String,
    place: Arc<yaml::Place>,
}

/// Where in a file an object stands: the document and, inside a list, the path of the item.
pub(super) struct Spot<'a> {
    pub(super) document: usize,
    pub(super) prefix: String,
    /// The line of the document, when nothing more exact is known.
    pub(super) line: u32,
    pub(super) reader: &'a Reader<'a>,
}

/// A file whose lines may be asked for.
pub(super) struct Reader<'a> {
    path: &'a str,
    bytes: &'a [u8],
    /// Read at the first problem only.
    places: OnceCell<Vec<Arc<yaml::Place>>>,
    /// Problems and warnings beyond [`PROBLEMS_MAX`].
    more: Cell<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a str, bytes: &'a [u8]) -> Self {
        Self { path, bytes, places: OnceCell::new(), more: Cell::new(0) }
    }

    /// How much there is to tell beyond what is told.
    pub(super) fn more(&self) -> usize {
        self.more.get()
    }

    fn place(&self, document: usize) -> Option<&Arc<yaml::Place>> {
        let read = || yaml::places(self.bytes).into_iter().map(Arc::new).collect();
        self.places.get_or_init(read).get(document)
    }
}

/// Orders what was told, and says how much was not.
pub(super) fn finish(result: &mut FileResult, more: usize) {
    result.problems.sort();
    result.warnings.sort();
    // Most files hold one object, and all files are kept.
    result.objects.shrink_to_fit();
    if more > 0 {
        let (file, message) = (result.path.clone(), format!("and {more} more in this file"));
        result.problems.push(Problem { file, message, ..Problem::default() });
    }
}

impl Spot<'_> {
    fn line_of(&self, field: &str) -> u32 {
        // Kubernetes' name for the schema of an only version.
        let schema = field.strip_prefix("spec.validation.");
        let schema = schema.map(|rest| format!("spec.versions[0].schema.{rest}"));
        let field = schema.as_deref().unwrap_or(field);
        let field = match (self.prefix.as_str(), field) {
            ("", field) => field.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, field) => format!("{prefix}.{field}"),
        };
        self.reader.place(self.document).map_or(self.line, |p| p.line_of(&field))
    }

    fn problem(&self, field: &str, message: String) -> Problem {
        let line = self.line_of(field);
        Problem { file: self.reader.path.to_owned(), line, field: field.to_owned(), message }
    }
}

/// Reads one file. Any bytes: what is wrong is told in the result.
///
/// Costs about the parsing of its YAML; a file with problems is parsed twice.
pub fn render_file(path: &str, bytes: &[u8]) -> FileResult {
    let mut result = FileResult { path: path.to_owned(), ..FileResult::default() };
    if let Some(message) = foreign(path) {
        let file = path.to_owned();
        result.problems.push(Problem { file, message, ..Problem::default() });
        return result;
    }
    let reader = Reader::new(path, bytes);
    match yaml::read(bytes) {
        Ok(mut documents) => match sealed::take(path, bytes, &mut documents) {
            Ok(sealed) => {
                result.sealed.extend(sealed.map(Arc::new));
                read_objects(documents, &reader, &mut result);
            }
            Err(problems) => result.problems.extend(problems),
        },
        Err(yaml::Fault { line, message }) => {
            let problem = Problem { file: path.to_owned(), line, message, ..Problem::default() };
            result.problems.push(problem);
        }
    }
    sealed::check(&mut result);
    finish(&mut result, reader.more());
    result
}

fn read_objects(documents: Vec<yaml::Document>, reader: &Reader<'_>, result: &mut FileResult) {
    for (document, yaml::Document { line, value }) in documents.into_iter().enumerate() {
        let spot = Spot { document, prefix: String::new(), line, reader };
        read_object(&spot, value, result);
    }
}

/// The file with its objects of custom kinds judged by the kinds that there will be; `None` when it
/// has none.
pub(super) fn judge_custom(file: &FileResult, kinds: &Kinds) -> Option<FileResult> {
    if file.custom.is_empty() {
        return None;
    }
    let mut result = file.clone();
    let unknown = std::mem::take(&mut result.custom);
    let path = SmolStr::from(&file.path);
    let mut more = 0;
    for Unknown { value, file: other, line, prefix, place } in unknown {
        let reader = Reader {
            path: other.as_ref().unwrap_or(&path),
            bytes: &[],
            places: OnceCell::from(vec![place]),
            more: Cell::new(0),
        };
        let spot = Spot { document: 0, prefix, line, reader: &reader };
        take_object(&spot, kinds, value, &mut result);
        more += reader.more();
    }
    finish(&mut result, more);
    Some(result)
}

/// Adds a problem while there is room, and counts it when there is none: telling costs more than
/// finding.
fn push(spot: &Spot<'_>, list: &mut Vec<Problem>, problem: impl FnOnce() -> Problem) {
    if list.len() < PROBLEMS_MAX {
        list.push(problem());
    } else {
        spot.reader.more.set(spot.reader.more.get() + 1);
    }
}

/// Files of other tools, by name.
fn foreign(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let later = |what: &str| {
        format!(
            "{what} is not supported yet: commit what it renders, and name this file in {}",
            super::IGNORE_FILE
        )
    };
    match name {
        "Chart.yaml" => Some(later("Helm")),
        _ => None,
    }
}

pub(super) fn read_object(spot: &Spot<'_>, mut value: Value, result: &mut FileResult) {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
    if !value.is_object() || (api_version.is_empty() && kind.is_empty()) {
        let message = format!(
            "apiVersion and kind are required: add them, or name the file in {} if it is no \
             Kubernetes object",
            super::IGNORE_FILE
        );
        push(spot, &mut result.problems, || spot.problem("", message));
        return;
    }
    if let Some(items) = list_items(&kind, &mut value) {
        let items = match items {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            _ => {
                let text = "expected list".to_owned();
                push(spot, &mut result.problems, || spot.problem("items", text));
                return;
            }
        };
        for (i, item) in items.into_iter().enumerate() {
            let prefix = match spot.prefix.as_str() {
                "" => format!("items[{i}]"),
                outer => format!("{outer}.items[{i}]"),
            };
            let line = spot.line_of(&format!("items[{i}]"));
            let inner = Spot { document: spot.document, prefix, line, reader: spot.reader };
            read_object(&inner, item, result);
        }
        return;
    }
    if kinds::lookup(&GroupKind::from_api_version(&api_version, &kind)).is_none()
        && may_be_custom(&api_version)
    {
        // A file that was read has a place for each of its documents.
        let place = spot.reader.place(spot.document).cloned().unwrap_or_default();
        let (line, prefix) = (spot.line, spot.prefix.clone());
        let file = other_file(spot, result);
        result.custom.push(Unknown { value, file, line, prefix, place });
        return;
    }
    take_object(spot, &Kinds::default(), value, result);
}

/// Judges one object by its kind, when there is one.
fn take_object(spot: &Spot<'_>, kinds: &Kinds, mut value: Value, result: &mut FileResult) {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
    let info = kinds.lookup(&GroupKind::from_api_version(&api_version, &kind));
    if info.is_none() && may_be_custom(&api_version) {
        let message = format!(
            "Unsupported value: {kind:?}: no CustomResourceDefinition adds this kind to \
             {api_version}: add it to the repository"
        );
        push(spot, &mut result.problems, || spot.problem("kind", message));
        return;
    }
    if let Some(info) = info {
        if info.runtime {
            let message = format!(
                "Forbidden: {kind} objects are made by the cluster itself: remove this one from \
                 the repository"
            );
            push(spot, &mut result.problems, || spot.problem("kind", message));
            return;
        }
        if info.inert {
            let (field, message) = kinds::unsupported(&api_version, &kind);
            push(spot, &mut result.problems, || spot.problem(field, message));
            return;
        }
        prepare(info, &mut value);
        let given = |field: &str| value["metadata"].get(field).is_some_and(Value::is_string);
        if given("generateName") && !given("name") {
            let message = "Forbidden: a generated name would make a new object with each commit: \
                           write metadata.name";
            push(spot, &mut result.problems, || {
                spot.problem("metadata.generateName", message.to_owned())
            });
            return;
        }
    }
    admit(spot, kinds, info.map(|info| &**info), value, result);
}

/// Whether a group is one that neither Kubernetes nor we have kinds in.
fn may_be_custom(api_version: &str) -> bool {
    let Some((group, _)) = api_version.split_once('/').filter(|(group, _)| group.contains('.'))
    else {
        return false;
    };
    !group.ends_with(".k8s.io") && kinds::registry().iter().all(|info| info.group != group)
}

/// The items of a `List` (or `PodList`, …).
fn list_items(kind: &str, value: &mut Value) -> Option<Value> {
    let has_items = value.get("items").is_some();
    (kind == "List" || (kind.ends_with("List") && has_items))
        .then(|| value.get_mut("items").map(Value::take).unwrap_or_default())
}

/// Takes away what only the cluster writes and gives a namespace to what has none.
fn prepare(info: &KindInfo, value: &mut Value) {
    let Some(object) = value.as_object_mut() else { return };
    object.remove("status");
    let meta = object.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
    let Some(meta) = meta.as_object_mut() else { return };
    for field in SERVER_SET {
        meta.remove(field);
    }
    let bare = meta.get("namespace").is_none_or(|n| n.is_null() || n == "");
    if info.namespaced && bare {
        meta.insert("namespace".to_owned(), DEFAULT_NAMESPACE.into());
    }
}

fn admit(
    spot: &Spot<'_>,
    kinds: &Kinds,
    info: Option<&KindInfo>,
    value: Value,
    result: &mut FileResult,
) {
    let open = value["spec"]["replicas"].is_null() && info.is_some_and(KindInfo::is_scaled);
    match kinds.admit(value, Strictness::Strict) {
        Ok(admitted) => {
            for warning in &admitted.warnings {
                push(spot, &mut result.warnings, || tell(spot, info, warning));
            }
            for fault in kinds::order_faults(&admitted.object) {
                push(spot, &mut result.problems, || {
                    let message = format!("{}: {}", fault.annotation, fault.message);
                    spot.problem("metadata.annotations", message)
                });
            }
            let digest = digest(admitted.object.bytes());
            let line = spot.line;
            let (object, file) = (admitted.object.lean(), other_file(spot, result));
            result.objects.push(FileObject { object, file, line, digest, open });
        }
        Err(errors) => {
            for error in &errors {
                push(spot, &mut result.problems, || tell(spot, info, error));
            }
        }
    }
}

/// See [`FileObject::file`].
fn other_file(spot: &Spot<'_>, result: &FileResult) -> Option<SmolStr> {
    Some(spot.reader.path).filter(|path| *path != result.path).map(SmolStr::from)
}

fn digest(bytes: &[u8]) -> u128 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(bytes);
    hash.iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

fn tell(spot: &Spot<'_>, info: Option<&KindInfo>, error: &FieldError) -> Problem {
    let mut message = error.detail.clone();
    if error.reason == Reason::Unknown {
        let (parent, name) = error.field.rsplit_once('.').unwrap_or(("", &error.field));
        let names = info.map(|i| kinds::field_names(i, parent)).unwrap_or_default();
        message = match suggest::nearest(name, &names) {
            Some(right) => format!("unknown field {name:?}: did you mean {right:?}?"),
            None => format!("unknown field {name:?}: remove it"),
        };
    }
    spot.problem(&error.field, message)
}
