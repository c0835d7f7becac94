//! Which objects a patch or a replacement is for.

use regex::Regex;
use serde_json::{Map, Value};

use super::{
    fields::Target,
    resource::{Gvk, Id, Resource},
};
use crate::model::{Labels, Selector};

/// A [`Target`] of a patch, ready to be asked: its texts are regular expressions for the whole of
/// a name.
pub(super) struct Matcher {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    marks: Marks,
}

/// Conditions on labels and annotations.
pub(super) struct Marks {
    labels: Option<Selector>,
    annotations: Option<Selector>,
}

impl Matcher {
    pub(super) fn new(target: &Target) -> Result<Self, String> {
        Ok(Self {
            group: whole(&target.group)?,
            version: whole(&target.version)?,
            kind: whole(&target.kind)?,
            name: whole(&target.name)?,
            namespace: whole(&target.namespace)?,
            marks: Marks::new(target)?,
        })
    }

    /// Whether an object is meant, by what it was called at first or is called now.
    pub(super) fn matches(&self, resource: &Resource) -> bool {
        let (first, now) = (resource.first_id(), resource.id());
        let fits = |wanted: &Option<Regex>, texts: &[&str]| {
            wanted.as_ref().is_none_or(|regex| texts.iter().any(|text| regex.is_match(text)))
        };
        fits(&self.namespace, &[&first.namespace, &now.namespace])
            && fits(&self.name, &[&first.name, &now.name])
            && fits(&self.group, &[&now.group])
            && fits(&self.version, &[&now.version])
            && fits(&self.kind, &[&now.kind])
            && self.marks.match_all(resource)
    }
}

fn whole(pattern: &str) -> Result<Option<Regex>, String> {
    if pattern.is_empty() {
        return Ok(None);
    }
    let regex = Regex::new(&format!("^(?:{pattern})$"));
    regex.map(Some).map_err(|_| format!("{pattern:?} is no regular expression"))
}

impl Marks {
    pub(super) fn new(target: &Target) -> Result<Self, String> {
        let parse = |text: &str| match text {
            "" => Ok(None),
            text => Selector::parse(text).map(Some).map_err(|e| format!("{text:?}: {e}")),
        };
        Ok(Self {
            labels: parse(&target.label_selector)?,
            annotations: parse(&target.annotation_selector)?,
        })
    }

    pub(super) fn is_none(&self) -> bool {
        self.labels.is_none() && self.annotations.is_none()
    }

    pub(super) fn match_all(&self, resource: &Resource) -> bool {
        let fits = |wanted: &Option<Selector>, field: &str| {
            let texts = || resource.meta_map(field).map(labels);
            wanted.as_ref().is_none_or(|selector| selector.matches(texts().as_ref()))
        };
        fits(&self.labels, "labels") && fits(&self.annotations, "annotations")
    }
}

fn labels(map: &Map<String, Value>) -> Labels {
    let text = |(name, value): (&String, &Value)| {
        (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    map.iter().map(text).collect()
}

/// Exact conditions on what an object is or was called, as replacements have them.
pub(super) struct Exact<'a> {
    pub(super) gvk: Gvk<'a>,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
}

impl<'a> Exact<'a> {
    pub(super) fn of(target: &'a Target) -> Self {
        Self {
            gvk: Gvk { group: &target.group, version: &target.version, kind: &target.kind },
            name: &target.name,
            namespace: &target.namespace,
        }
    }

    pub(super) fn is_none(&self) -> bool {
        self.gvk == Gvk::default() && self.name.is_empty() && self.namespace.is_empty()
    }

    pub(super) fn selects(&self, id: &Id) -> bool {
        (self.name.is_empty() || self.name == id.name)
            && (self.namespace.is_empty() || self.namespace == id.namespace)
            && self.gvk.selects(id)
    }
}
