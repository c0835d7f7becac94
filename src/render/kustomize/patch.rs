//! Patches: strategic merge patches and JSON patches, and which objects they change.

use json_patch::PatchOperation;
use serde_json::Value;

use super::{
    fields::{PatchOptions, Target},
    merge,
    paths::{bounded, depth},
    resource::{Place, Resource},
    select::Matcher,
};
use crate::kinds::json_patch::lenient;

/// Most bytes that the `copy` operations of one patch may add, 3 MiB: a few of them could
/// otherwise double a value again and again.
const COPIED_BYTES_MAX: usize = 3 << 20;

/// What the text of a patch is.
pub(super) enum Patch {
    /// Objects in part: kind and name say of which.
    Merge(Vec<Resource>),
    /// Operations.
    Json(Vec<Value>),
}

impl Patch {
    /// Takes the documents of a patch.
    pub(super) fn of(documents: Vec<Value>, place: &Place) -> Result<Self, String> {
        match documents.as_slice() {
            [] => Err("the patch is empty".to_owned()),
            [Value::Array(operations)] => Ok(Self::Json(operations.clone())),
            _ => {
                let patch = |value: Value| {
                    let patch = Resource::new(value, place.clone());
                    match patch.kind().is_empty() || patch.name().is_empty() {
                        true => Err("a patch is a list of operations, or an object with \
                                     apiVersion, kind and metadata.name"
                            .to_owned()),
                        false => Ok(patch),
                    }
                };
                documents.into_iter().map(patch).collect::<Result<_, _>>().map(Self::Merge)
            }
        }
    }
}

/// Applies a patch to what it is for.
pub(super) fn apply(
    set: &mut Vec<Resource>,
    patch: &Patch,
    target: Option<&Target>,
    options: PatchOptions,
) -> Result<(), String> {
    match (patch, target) {
        (Patch::Json(_), None) => Err("a list of operations needs a target: say which objects it \
                                       changes"
            .to_owned()),
        (Patch::Json(operations), Some(target)) => {
            let matcher = Matcher::new(target)?;
            for resource in set.iter_mut().filter(|resource| matcher.matches(resource)) {
                resource.remember();
                json(resource, operations)?;
            }
            Ok(())
        }
        (Patch::Merge(patches), Some(target)) => {
            let [patch] = patches.as_slice() else {
                return Err("with a target there is one patch to an entry: divide it".to_owned());
            };
            let matcher = Matcher::new(target)?;
            let meant = |resource: &Resource| matcher.matches(resource);
            merge_into(set, patch, options, &meant)
        }
        (Patch::Merge(patches), None) => {
            patches.iter().try_for_each(|patch| merge_one(set, patch, options))
        }
    }
}

/// A patch of the one object that it names.
fn merge_one(
    set: &mut Vec<Resource>,
    patch: &Resource,
    options: PatchOptions,
) -> Result<(), String> {
    let wanted = patch.id();
    let is_meant = |resource: &Resource| resource.ids().contains(&wanted);
    match set.iter().filter(|resource| is_meant(resource)).count() {
        0 => Err(format!(
            "there is no {} of {:?} to patch: kind, apiVersion, name and namespace must be those \
             of the object",
            patch.shown(),
            patch.api_version()
        )),
        1 => merge_into(set, patch, options, &is_meant),
        n => Err(format!("there are {n} of {}: add a target", patch.shown())),
    }
}

fn merge_into(
    set: &mut Vec<Resource>,
    patch: &Resource,
    options: PatchOptions,
    is_meant: &dyn Fn(&Resource) -> bool,
) -> Result<(), String> {
    let mut wrong = None;
    set.retain_mut(|resource| match is_meant(resource) {
        false => true,
        true => merge_object(resource, patch, options).unwrap_or_else(|message| {
            wrong.get_or_insert(format!("{}: {message}", resource.shown()));
            true
        }),
    });
    wrong.map_or(Ok(()), Err)
}

/// Merges a patch into one object; `false` when the patch deletes it.
fn merge_object(
    resource: &mut Resource,
    patch: &Resource,
    options: PatchOptions,
) -> Result<bool, String> {
    let text = |text: &str| text.to_owned();
    let (kind, name) = (text(resource.kind()), text(resource.name()));
    let namespace = text(resource.namespace());
    let mut value = patch.value.clone();
    value["apiVersion"] = resource.api_version().into();
    let merged = merge::apply(resource.value.clone(), &value)?;
    if options.allow_name_change || options.allow_kind_change {
        resource.remember();
    }
    let Some(merged) = merged else { return Ok(false) };
    resource.value = merged;
    if !options.allow_kind_change {
        resource.set_kind(&kind);
    }
    if !options.allow_name_change {
        resource.set_name(&name);
    }
    resource.set_namespace(&namespace);
    Ok(true)
}

/// A patch of `patchesJson6902`.
pub(super) fn json_only(
    set: &mut [Resource],
    patch: &Patch,
    target: Option<&Target>,
) -> Result<(), String> {
    let Patch::Json(operations) = patch else {
        return Err("a patch of patchesJson6902 is a list of operations".to_owned());
    };
    let Some(target) = target.filter(|target| !target.name.is_empty()) else {
        return Err("the target needs a name".to_owned());
    };
    let matcher = Matcher::new(target)?;
    let mut meant = set.iter_mut().filter(|resource| matcher.matches(resource));
    meant.try_for_each(|resource| json(resource, operations))
}

fn json(resource: &mut Resource, operations: &[Value]) -> Result<(), String> {
    let mut copied = 0;
    for (number, operation) in operations.iter().enumerate() {
        let shown = resource.shown();
        let wrong = |why: String| format!("{shown}: operation {number}: {why}");
        let operation: PatchOperation =
            serde_json::from_value(operation.clone()).map_err(|error| wrong(error.to_string()))?;
        let Some(operation) = lenient(&resource.value, operation) else { continue };
        shallow(&resource.value, &operation).map_err(wrong)?;
        if let PatchOperation::Copy(copy) = &operation {
            let source = resource.value.pointer(copy.from.as_str());
            copied += source.map_or(0, |source| source.to_string().len());
            if copied > COPIED_BYTES_MAX {
                return Err(wrong(format!("copies more than {COPIED_BYTES_MAX} bytes")));
            }
        }
        json_patch::patch(&mut resource.value, &[operation])
            .map_err(|error| wrong(error.kind.to_string()))?;
    }
    bounded(depth(&resource.value)).map_err(|why| format!("{}: {why}", resource.shown()))?;
    resource.annotations_to_texts();
    Ok(())
}

/// Refuses an operation that leads too deep, or that puts something deep somewhere else.
fn shallow(value: &Value, operation: &PatchOperation) -> Result<(), String> {
    let from = match operation {
        PatchOperation::Copy(copy) => value.pointer(copy.from.as_str()),
        PatchOperation::Move(moved) => value.pointer(moved.from.as_str()),
        _ => None,
    };
    bounded(operation.path().as_str().matches('/').count())?;
    bounded(from.map_or(0, depth))
}
