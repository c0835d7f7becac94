//! Names of objects inside other objects, after those were renamed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    paths::visit,
    resource::{Gvk, Id, Resource},
    specs::{self, Spec},
};

/// Gives every reference the name that its object has now. `Err`: the number of the object that
/// refers, and why it is not known to which.
pub(super) fn mend(set: &mut [Resource]) -> Vec<(usize, String)> {
    let known: Vec<Known> = set.iter().map(Known::of).collect();
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, resource) in known.iter().enumerate() {
        for name in &resource.names {
            by_name.entry(name.as_str()).or_default().push(i);
        }
    }
    if by_name.is_empty() {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (i, resource) in set.iter_mut().enumerate() {
        let referrer = Referrer::new(&known, &by_name, i, resource);
        // What an object may name goes by the kind it had at first, as in kustomize.
        let first = resource.first_id();
        for names in specs::NAMES {
            for spec in places(names, &first.kind).into_iter().filter(|s| s.gvk.selects(&first)) {
                let one = Reference { referrer: &referrer, target: names.target, path: &spec.path };
                let result = visit(
                    resource,
                    &Spec { gvk: Gvk::default(), path: &spec.path, create: false },
                    None,
                    &mut |value| one.mend(value),
                );
                wrong.extend(result.err().map(|message| (i, message)));
            }
        }
    }
    wrong
}

struct Where<'a> {
    gvk: Gvk<'a>,
    path: String,
}

/// The places of a table entry that objects of a kind have.
fn places<'a>(names: &'a specs::Names<'a>, kind: &'a str) -> Vec<Where<'a>> {
    let own = names.fields.iter().filter(|spec| spec.gvk.kind == kind);
    let mut all: Vec<Where<'a>> =
        own.map(|spec| Where { gvk: spec.gvk, path: spec.path.to_owned() }).collect();
    let (templates, paths) = names.pods.unwrap_or_default();
    for (_, prefix) in templates.iter().filter(|(name, _)| *name == kind) {
        let gvk = Gvk { group: "", version: "", kind };
        all.extend(paths.iter().map(|path| Where { gvk, path: format!("{prefix}/{path}") }));
    }
    all
}

/// What is asked of an object that may be referred to.
struct Known {
    name: String,
    namespace: String,
    now: Id,
    first: Id,
    earlier: Vec<Id>,
    names: BTreeSet<String>,
    cluster_scoped: bool,
    prefixes: Vec<String>,
    suffixes: Vec<String>,
}

impl Known {
    fn of(resource: &Resource) -> Self {
        Self {
            name: resource.name().to_owned(),
            namespace: resource.namespace().to_owned(),
            now: resource.id(),
            first: resource.first_id(),
            earlier: resource.earlier_ids(),
            names: resource.earlier_names().into_iter().map(str::to_owned).collect(),
            cluster_scoped: resource.is_cluster_scoped(),
            prefixes: resource.prefixes.clone(),
            suffixes: resource.suffixes.clone(),
        }
    }

    fn was(&self, gvk: &Gvk<'_>) -> bool {
        self.earlier.iter().any(|id| gvk.selects(id))
    }
}

/// An object that may refer to others.
struct Referrer<'a> {
    known: &'a [Known],
    by_name: &'a BTreeMap<&'a str, Vec<usize>>,
    me: &'a Known,
    /// The role that a binding gives: group and kind.
    role: Option<(String, String)>,
    /// The namespaces of the accounts of a binding.
    subjects: BTreeSet<String>,
}

impl<'a> Referrer<'a> {
    fn new(
        known: &'a [Known],
        by_name: &'a BTreeMap<&'a str, Vec<usize>>,
        number: usize,
        resource: &Resource,
    ) -> Self {
        let role = &resource.value["roleRef"];
        let text = |field: &str| role.get(field).and_then(Value::as_str).map(str::to_owned);
        let subjects = match resource.kind() {
            "RoleBinding" => resource.value["subjects"].as_array().map_or(&[][..], Vec::as_slice),
            _ => &[],
        };
        let accounts = subjects.iter().filter(|subject| subject["kind"] == "ServiceAccount");
        let namespaces = accounts.filter_map(|subject| subject["namespace"].as_str());
        Self {
            known,
            by_name,
            me: &known[number],
            role: text("apiGroup").zip(text("kind")),
            subjects: namespaces.map(str::to_owned).collect(),
        }
    }

    /// Whether an object is where this one may refer to.
    fn reaches(&self, other: &Known) -> bool {
        let (me, near) = (self.me, other.now.namespace == self.me.now.namespace);
        me.cluster_scoped
            || other.cluster_scoped
            || near
            || (self.subjects.contains(&other.namespace) && other.now.kind == "ServiceAccount")
    }
}

struct Reference<'a> {
    referrer: &'a Referrer<'a>,
    target: Gvk<'a>,
    path: &'a str,
}

impl Reference<'_> {
    fn mend(&self, value: &mut Value) -> Result<(), String> {
        match value {
            Value::String(_) => self.mend_name(value),
            Value::Object(_) => self.mend_map(value),
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.mend(item)),
            _ => Ok(()),
        }
    }

    fn mend_name(&self, value: &mut Value) -> Result<(), String> {
        let Some(old) = value.as_str().map(str::to_owned) else { return Ok(()) };
        let one = |a: &Known, b: &Known| a.name == b.name;
        if let Some(found) = self.find(&old, |_| true, one)? {
            *value = found.name.clone().into();
        }
        Ok(())
    }

    /// A map with a name and perhaps a namespace.
    fn mend_map(&self, value: &mut Value) -> Result<(), String> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let (Some(old), namespace) = (text("name"), text("namespace")) else { return Ok(()) };
        let in_namespace = |id: &Id| namespace.as_deref().is_none_or(|n| id.namespace == n);
        // The namespace is what it was at first, unless nothing was there at first.
        let at_first = namespace.is_some()
            && self.referrer.known.iter().any(|k| !k.cluster_scoped && in_namespace(&k.first));
        let here = |known: &Known| match (&namespace, at_first) {
            (None, _) => true,
            (Some(_), true) => !known.cluster_scoped && in_namespace(&known.first),
            (Some(_), false) => !known.cluster_scoped && in_namespace(&known.now),
        };
        let one = |a: &Known, b: &Known| a.name == b.name && a.namespace == b.namespace;
        let Some(found) = self.find(&old, here, one)? else { return Ok(()) };
        if found.name == old && found.namespace.is_empty() {
            return Ok(());
        }
        value["name"] = found.name.clone().into();
        if !found.namespace.is_empty() {
            value["namespace"] = found.namespace.clone().into();
        }
        Ok(())
    }

    /// The object that was called so.
    fn find(
        &self,
        old: &str,
        here: impl Fn(&Known) -> bool,
        one: impl Fn(&Known, &Known) -> bool,
    ) -> Result<Option<&Known>, String> {
        let referrer = self.referrer;
        let named = referrer.by_name.get(old).map_or(&[][..], Vec::as_slice);
        let all = named.iter().map(|i| &referrer.known[*i]);
        let mut found: Vec<&Known> = all
            .filter(|known| here(known) && known.was(&self.target) && referrer.reaches(known))
            .filter(|known| self.is_role(known))
            .collect();
        if found.len() > 1 {
            found.retain(|known| alike(known, referrer.me, true));
        }
        if found.len() > 1 {
            found.retain(|known| alike(known, referrer.me, false));
        }
        match found.as_slice() {
            [] => Ok(None),
            [first, rest @ ..] => match rest.iter().find(|other| !one(first, other)) {
                None => Ok(Some(first)),
                Some(other) => Err(format!(
                    "{old:?} may be {} {:?} or {:?}: give them names of their own",
                    first.now.kind, first.name, other.name
                )),
            },
        }
    }

    fn is_role(&self, known: &Known) -> bool {
        let Some((group, kind)) = &self.referrer.role else { return true };
        !self.path.ends_with("roleRef/name") || known.was(&Gvk { group, version: "", kind })
    }
}

/// Whether two objects went through the same prefixes and suffixes.
fn alike(one: &Known, other: &Known, nothing_fits: bool) -> bool {
    let same = |a: &[String], b: &[String]| {
        (nothing_fits && (a.is_empty() || b.is_empty())) || same_ending(a, b)
    };
    same(&one.prefixes, &other.prefixes) && same(&one.suffixes, &other.suffixes)
}

fn same_ending(a: &[String], b: &[String]) -> bool {
    match a.is_empty() || b.is_empty() {
        true => a.is_empty() == b.is_empty(),
        false => a.iter().rev().zip(b.iter().rev()).all(|(a, b)| a == b),
    }
}
