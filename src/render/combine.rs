//! The files of one commit together.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Namespace;

use super::{FileResult, Rendered, RenderedObject};
use crate::{
    kinds,
    model::{Key, Problem},
};

/// Namespaces that every cluster has.
const BUILT_IN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// What a commit is rendered against.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The namespaces that exist and that this commit would not prune.
    pub live_namespaces: BTreeSet<String>,
}

/// Puts the files of one commit together: an object that is written twice and a namespace that is
/// nowhere are problems. Costs a map of the objects; their bytes are shared with the results.
pub fn combine<'a>(files: impl IntoIterator<Item = &'a FileResult>, options: &Options) -> Rendered {
    let mut rendered = Rendered::default();
    for file in files {
        rendered.problems.extend(file.problems.iter().cloned());
        rendered.warnings.extend(file.warnings.iter().cloned());
        for found in &file.objects {
            let object = RenderedObject {
                object: found.object.clone(),
                file: file.path.clone(),
                line: found.line,
                digest: found.digest,
            };
            insert(&mut rendered, object);
        }
    }
    let problems = lost(&rendered.objects, options);
    rendered.problems.extend(problems);
    settle(&mut rendered.problems);
    settle(&mut rendered.warnings);
    rendered
}

/// Most problems (and most warnings) of one commit: they are written into its status, which goes
/// through the log.
const PROBLEMS_MAX: usize = 1000;

/// Orders by file and line (what belongs to no line last) and cuts what nobody would read.
fn settle(problems: &mut Vec<Problem>) {
    let place = |p: &Problem| (p.line.wrapping_sub(1), p.field.clone());
    problems.sort_by(|a, b| a.file.cmp(&b.file).then_with(|| place(a).cmp(&place(b))));
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    if more > 0 {
        problems.truncate(PROBLEMS_MAX);
        let message = format!("and {more} more in this commit");
        problems.push(Problem { message, ..Problem::default() });
    }
}

fn insert(rendered: &mut Rendered, object: RenderedObject) {
    let key = object.object.key().clone();
    if let Some(first) = rendered.objects.get(&key) {
        let message = format!(
            "{key} is already defined at {}:{}: keep one of the two",
            first.file, first.line
        );
        let field = "metadata.name".to_owned();
        rendered.problems.push(Problem { file: object.file, line: object.line, field, message });
        return;
    }
    rendered.objects.insert(key, object);
}

/// Objects in namespaces that do not exist.
fn lost(objects: &BTreeMap<Key, RenderedObject>, options: &Options) -> Vec<Problem> {
    let exists = |namespace: &str| {
        namespace.is_empty()
            || BUILT_IN.contains(&namespace)
            || options.live_namespaces.contains(namespace)
            || objects.contains_key(&Key::of::<Namespace>("", namespace))
    };
    let problem = |(key, found): (&Key, &RenderedObject)| Problem {
        file: found.file.clone(),
        line: found.line,
        field: "metadata.namespace".to_owned(),
        message: format!(
            "namespaces {:?} not found: add a Namespace to the repository",
            key.namespace.as_str()
        ),
    };
    objects.iter().filter(|(key, _)| !exists(&key.namespace)).map(problem).collect()
}

/// The order to apply in: namespaces, accounts, configuration, services, workloads; by key inside
/// each. The reverse is the order to delete in.
pub fn apply_order(keys: &mut [Key]) {
    keys.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
}

fn rank(key: &Key) -> u8 {
    kinds::lookup(&key.kind).map_or(u8::MAX, |info| info.apply_order)
}
