//! What a kustomization does to all of its objects: namespaces, names, labels, annotations, images
//! and counts.

use regex::Regex;
use serde_json::{Map, Value};

use super::{
    fields::{Image, Label, Replica, Texts},
    paths::{Leaf, visit},
    resource::{Gvk, Resource},
    specs::{self, Spec},
};

/// Sets the namespace of what can have one, and of what names it.
pub(super) fn namespace(set: &mut [Resource], namespace: &str) -> Result<(), String> {
    for resource in set.iter_mut() {
        resource.remember();
        if !resource.is_cluster_scoped() {
            resource.set_namespace(namespace);
        }
        if ["RoleBinding", "ClusterRoleBinding"].contains(&resource.kind()) {
            default_subjects(&mut resource.value, namespace);
        }
        for spec in specs::NAMESPACES {
            visit(resource, spec, Some(Leaf::Scalar), &mut |value| {
                *value = namespace.into();
                Ok(())
            })?;
        }
    }
    distinct(set)
}

/// The account `default` of a binding is that of the namespace.
fn default_subjects(binding: &mut Value, namespace: &str) {
    let subjects = binding.get_mut("subjects").and_then(Value::as_array_mut);
    for subject in subjects.into_iter().flatten().filter_map(Value::as_object_mut) {
        if subject.get("name").is_some_and(|name| name == "default") {
            subject.insert("namespace".to_owned(), namespace.into());
        }
    }
}

fn distinct(set: &[Resource]) -> Result<(), String> {
    let mut known = std::collections::BTreeSet::new();
    match set.iter().find(|resource| !known.insert(resource.id())) {
        Some(twice) => Err(format!("with this namespace there are two of {}", twice.shown())),
        None => Ok(()),
    }
}

/// Where a name is made longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Prefix,
    Suffix,
}

/// Puts a text before or after every name.
pub(super) fn rename(set: &mut [Resource], text: &str, end: End) {
    for resource in set.iter_mut() {
        let first = resource.first_id();
        if specs::KEEP_NAMES.iter().any(|gvk| gvk.selects(&first)) {
            continue;
        }
        resource.remember();
        let name = match end {
            End::Prefix => format!("{text}{}", resource.name()),
            End::Suffix => format!("{}{text}", resource.name()),
        };
        resource.set_name(&name);
        match end {
            End::Prefix => resource.prefixes.push(text.to_owned()),
            End::Suffix => resource.suffixes.push(text.to_owned()),
        }
    }
}

/// The places of an entry of `labels`.
pub(super) fn label_specs(label: &Label) -> Vec<Spec<'_>> {
    let own = label.fields.iter().map(|field| Spec {
        gvk: Gvk { group: &field.group, version: &field.version, kind: &field.kind },
        path: &field.path,
        create: field.create,
    });
    let mut all: Vec<Spec<'_>> = own.collect();
    match (label.include_selectors, label.include_templates) {
        (true, _) => all.extend(common_label_specs()),
        (false, true) => all.extend(specs::TEMPLATE_LABELS),
        (false, false) => all.extend(specs::LABELS),
    }
    all
}

/// The places of `commonLabels`.
pub(super) fn common_label_specs() -> Vec<Spec<'static>> {
    let apps =
        |(kind, path)| Spec { gvk: Gvk { group: "apps", version: "", kind }, path, create: false };
    let pods = specs::WITH_POD_SELECTORS
        .iter()
        .flat_map(|kind| specs::POD_SELECTORS.iter().map(move |path| (*kind, *path)));
    let own = specs::SELECTORS.iter().chain(specs::TEMPLATE_LABELS).copied();
    own.chain(pods.map(apps)).collect()
}

/// Puts texts into the maps at some places.
pub(super) fn put(set: &mut [Resource], texts: &Texts, specs: &[Spec<'_>]) -> Result<(), String> {
    if texts.is_empty() {
        return Ok(());
    }
    for resource in set.iter_mut() {
        for spec in specs {
            visit(resource, spec, Some(Leaf::Map), &mut |value| {
                if value.is_null() {
                    *value = Value::Object(Map::new());
                }
                let map = value.as_object_mut().ok_or("there is no map")?;
                map.extend(texts.iter().map(|(name, text)| (name.clone(), text.clone().into())));
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Sets the count of what is or was called so.
pub(super) fn replicas(set: &mut [Resource], replica: &Replica) -> Result<(), String> {
    let mut found = false;
    for resource in set.iter_mut() {
        let ids = resource.ids();
        for spec in specs::REPLICAS {
            let is_meant = ids.iter().any(|id| id.name == replica.name && spec.gvk.selects(id));
            if is_meant {
                found = true;
                visit(resource, spec, Some(Leaf::Scalar), &mut |value| {
                    *value = replica.count.into();
                    Ok(())
                })?;
            }
        }
    }
    match found {
        true => Ok(()),
        false => Err(format!(
            "there is no Deployment, StatefulSet, ReplicaSet or ReplicationController {:?}",
            replica.name
        )),
    }
}

/// Changes the images of all containers that have this one.
pub(super) fn image(set: &mut [Resource], image: &Image) -> Result<(), String> {
    if !image.tag_suffix.is_empty() {
        let text = "tagSuffix is not supported: versions of kustomize disagree whether it is added \
                    once or twice; write newTag";
        return Err(text.to_owned());
    }
    let pattern = format!("^{}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$", image.name);
    let Ok(pattern) = Regex::new(&pattern) else {
        return Err(format!("{:?} is no name of an image", image.name));
    };
    let change = |text: &str| pattern.is_match(text).then(|| changed(text, image));
    for resource in set.iter_mut().filter(|r| r.kind() != "CustomResourceDefinition") {
        containers(&mut resource.value, &change);
    }
    Ok(())
}

/// Every list of containers, wherever it stands: objects of other kinds have them too.
fn containers(value: &mut Value, change: &dyn Fn(&str) -> Option<String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| containers(item, change)),
        Value::Object(map) => {
            for (name, inner) in map.iter_mut() {
                containers(inner, change);
                if name == "containers" || name == "initContainers" {
                    images(inner, change);
                }
            }
        }
        _ => {}
    }
}

fn images(list: &mut Value, change: &dyn Fn(&str) -> Option<String>) {
    for item in list.as_array_mut().into_iter().flatten() {
        let Some(image) = item.get_mut("image") else { continue };
        if let Some(new) = image.as_str().and_then(change) {
            *image = new.into();
        }
    }
}

fn changed(text: &str, image: &Image) -> String {
    let (name, tag, digest) = parts(text);
    let name = if image.new_name.is_empty() { name } else { &image.new_name };
    let given = |text: &str| !text.is_empty();
    let (tag, digest) = match (given(&image.new_tag), given(&image.digest)) {
        (true, true) => (image.new_tag.clone(), image.digest.as_str()),
        (true, false) => (image.new_tag.clone(), ""),
        (false, true) => (String::new(), image.digest.as_str()),
        (false, false) => (tag.to_owned(), digest),
    };
    let tag = if tag.is_empty() { tag } else { format!(":{tag}") };
    let digest = if digest.is_empty() { String::new() } else { format!("@{digest}") };
    format!("{name}{tag}{digest}")
}

/// Name, tag and digest of an image; the port of a registry is none.
fn parts(text: &str) -> (&str, &str, &str) {
    let (rest, digest) = text.split_once('@').unwrap_or((text, ""));
    let start = rest.find('/').unwrap_or(0);
    match rest[start..].find(':') {
        Some(colon) => (&rest[..start + colon], &rest[start + colon + 1..], digest),
        None => (rest, "", digest),
    }
}
