//! The files of one commit together, in one go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{FileResult, Picture, Rendered};
use crate::{
    kinds::{self, Kinds},
    model::Key,
};

/// What a commit is rendered against.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The namespaces that exist and that this commit would not prune.
    pub live_namespaces: BTreeSet<String>,
}

/// Puts the files of one commit together: an object that is written twice and a namespace that is
/// nowhere are problems. Custom kinds are those that the files define. Costs a map of the objects;
/// their bytes are shared with the results.
pub fn combine<'a>(files: impl IntoIterator<Item = &'a FileResult>, options: &Options) -> Rendered {
    let (mut picture, mut touched) = (Picture::default(), BTreeSet::new());
    files.into_iter().for_each(|file| picture.put(Arc::new(file.clone()), &mut touched));
    let mut kinds = Kinds::default();
    picture.definitions().for_each(|d| kinds.promise(&d.object, None, std::iter::empty()));
    let picture = picture.with_custom(&kinds, &mut touched);
    let objects: BTreeMap<_, _> = picture.objects().map(|(k, o)| (k.clone(), o)).collect();
    let (problems, warnings) = (picture.problems(options), picture.warnings());
    Rendered { objects, problems, warnings }
}

/// The order to apply in: namespaces, accounts, configuration, services, workloads; by key inside
/// each. The reverse is the order to delete in.
pub fn apply_order(keys: &mut [Key]) {
    keys.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
}

fn rank(key: &Key) -> u8 {
    kinds::lookup(&key.kind).map_or(u8::MAX, |info| info.apply_order)
}
