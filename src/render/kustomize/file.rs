//! A kustomization file: its fields with their lines, and those that are not done.

use std::{cell::OnceCell, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::resource::{Place, Source};
use crate::{
    model::Problem,
    render::{suggest, yaml},
};

/// The names a kustomization may have.
pub(in crate::render) const NAMES: [&str; 3] =
    ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What a kustomization may say.
const FIELDS: [&str; 23] = [
    "apiVersion",
    "bases",
    "commonAnnotations",
    "commonLabels",
    "components",
    "configMapGenerator",
    "generatorOptions",
    "imageTags",
    "images",
    "kind",
    "labels",
    "metadata",
    "namePrefix",
    "nameSuffix",
    "namespace",
    "patches",
    "patchesJson6902",
    "patchesStrategicMerge",
    "replacements",
    "replicas",
    "resources",
    "secretGenerator",
    "sortOptions",
];

/// What kustomize does and we do not, and what to do instead.
const REFUSED: [(&str, &str); 11] = [
    ("buildMetadata", "`mainstay why` tells where an object comes from"),
    ("configurations", "write patches or replacements for those fields"),
    ("crds", "write replacements for the names in custom objects"),
    ("generators", "commit what the generator makes"),
    ("helmChartInflationGenerator", "commit what `helm template` prints"),
    ("helmCharts", "commit what `helm template` prints"),
    ("helmGlobals", "commit what `helm template` prints"),
    ("openapi", "write JSON patches for lists of custom objects"),
    ("transformers", "write the same with the fields of the kustomization, or as a patch"),
    ("validators", "run them before you commit"),
    ("vars", "write replacements"),
];

/// One kustomization file.
pub(super) struct Kustomization {
    source: Arc<Source>,
    fields: Map<String, Value>,
    line: u32,
    /// Read at the first problem only.
    places: OnceCell<Vec<yaml::Place>>,
}

impl Kustomization {
    /// Reads one.
    pub(super) fn read(source: Arc<Source>) -> Result<Self, Problem> {
        let at = |line: u32, message: String| {
            Err(Problem { file: source.path.clone(), line, field: String::new(), message })
        };
        let mut documents = match yaml::read(&source.bytes) {
            Ok(documents) => documents,
            Err(yaml::Fault { line, message }) => return at(line, message),
        };
        if documents.len() > 1 {
            let line = documents[1].line;
            return at(line, "a kustomization is one document: remove the others".to_owned());
        }
        let Some(yaml::Document { line, value }) = documents.pop() else {
            return at(0, "the kustomization is empty: name resources, or remove it".to_owned());
        };
        let Value::Object(mut fields) = without_nulls(value) else {
            return at(line, "a kustomization is a map of fields".to_owned());
        };
        fields.retain(|_, value| !value.is_null());
        if !fields.keys().any(|name| !["apiVersion", "kind"].contains(&name.as_str())) {
            return at(line, "the kustomization says nothing: name resources".to_owned());
        }
        Ok(Self { source, fields, line, places: OnceCell::new() })
    }

    fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it is one that others take in.
    pub(super) fn is_component(&self) -> bool {
        self.text("kind") == "Component"
    }

    /// The folders (or files) it names, as they are written.
    pub(super) fn references(&self) -> Vec<&str> {
        let lists = ["resources", "bases", "components"].into_iter();
        let items = lists.filter_map(|list| self.fields.get(list)?.as_array()).flatten();
        items.filter_map(Value::as_str).collect()
    }

    fn line_of(&self, field: &str) -> u32 {
        let places = self.places.get_or_init(|| yaml::places(&self.source.bytes));
        places.first().map_or(self.line, |place| place.line_of(field))
    }

    pub(super) fn problem(&self, field: &str, message: impl Into<String>) -> Problem {
        let (file, line) = (self.source.path.clone(), self.line_of(field));
        Problem { file, line, field: field.to_owned(), message: message.into() }
    }

    /// The place of a field.
    pub(super) fn place(&self, field: &str) -> Place {
        let line = self.line_of(field);
        let (source, prefix) = (self.source.clone(), field.to_owned());
        Place { source, document: 0, prefix, line }
    }

    /// Fields that nobody knows, fields that are not done, and a kind that is none of ours.
    pub(super) fn misfits(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, value) in &self.fields {
            let refused = REFUSED.iter().find(|(field, _)| field == name);
            if let Some((_, instead)) = refused.filter(|_| !is_empty(value)) {
                let message = format!("{name} is not supported: {instead}");
                problems.push(self.problem(name, message));
            } else if refused.is_none() && !FIELDS.contains(&name.as_str()) {
                let known: Vec<String> = FIELDS.iter().map(|field| (*field).to_owned()).collect();
                let message = match suggest::nearest(name, &known) {
                    Some(right) => format!("unknown field {name:?}: did you mean {right:?}?"),
                    None => format!("unknown field {name:?}: remove it"),
                };
                problems.push(self.problem(name, message));
            }
        }
        problems.extend(self.wrong_kind());
        problems
    }

    fn wrong_kind(&self) -> Option<Problem> {
        let (kind, api_version) = (self.text("kind"), self.text("apiVersion"));
        let right = match kind {
            "" | "Kustomization" => "kustomize.config.k8s.io/v1beta1",
            "Component" => "kustomize.config.k8s.io/v1alpha1",
            _ => {
                let message =
                    format!("Unsupported value: {kind:?}: write Kustomization or Component");
                return Some(self.problem("kind", message));
            }
        };
        let message = format!("Unsupported value: {api_version:?}: write {right}");
        (!api_version.is_empty() && api_version != right)
            .then(|| self.problem("apiVersion", message))
    }

    /// The value of a field, or its default.
    pub(super) fn one<T: DeserializeOwned + Default>(
        &self,
        field: &str,
        problems: &mut Vec<Problem>,
    ) -> T {
        let Some(value) = self.fields.get(field) else { return T::default() };
        serde_json::from_value(value.clone()).unwrap_or_else(|error| {
            problems.push(self.problem(field, unfit(&error)));
            T::default()
        })
    }

    /// The items of a field that is a list, each with its own path; those that cannot be read are
    /// left out.
    pub(super) fn list<T: DeserializeOwned>(
        &self,
        field: &str,
        problems: &mut Vec<Problem>,
    ) -> Vec<(String, T)> {
        let items = match self.fields.get(field) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                problems.push(self.problem(field, "expected a list"));
                return Vec::new();
            }
        };
        let mut read = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let path = format!("{field}[{i}]");
            match serde_json::from_value(item.clone()) {
                Ok(item) => read.push((path, item)),
                Err(error) => problems.push(self.problem(&path, unfit(&error))),
            }
        }
        read
    }
}

fn unfit(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.ends_with("expected a string") {
        true => format!("{text}: put it in quotes"),
        false => text,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A field without a value is as good as none.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
