//! The write door: whether a write may go straight into the log.
//!
//! What users want of the cluster stands in Git. So a write to something Git owns is refused with
//! the place to edit; in namespaces that say `mainstay.io/writes: direct`, and for what is made
//! while the cluster runs, it is taken. The third way, a write that becomes a commit, joins here:
//! it is one more outcome of [`judge`].

use k8s_openapi::api::core::v1::{Namespace, Pod};

use crate::{
    api::Failure,
    kinds::{self, KindInfo},
    model::{Key, Object},
    state::View,
};

/// The annotation, or label, by which a namespace says what becomes of writes in it.
const MARK: &str = "mainstay.io/writes";

/// What becomes of writes that no namespace decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// They are refused with the advice to commit.
    #[default]
    Refuse,
    /// They are taken.
    Direct,
}

/// What a write changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub(super) info: &'a KindInfo,
    pub(super) key: &'a Key,
    /// `status`, `scale`; empty for the object itself.
    pub(super) subresource: &'a str,
    /// The object as it is stored.
    pub(super) live: Option<&'a Object>,
    /// The object as it shall be; of a namespace, its own mark counts.
    pub(super) wanted: Option<&'a Object>,
}

/// Lets a write through, or says what to do instead.
pub(super) fn judge(view: &View, writes: Writes, change: &Change<'_>) -> Result<(), Failure> {
    let refused = |why: String| Err(Failure::refused(change.info, &change.key.name, &why));
    if change.info.group == kinds::GROUP {
        return refused(
            "it tells what the cluster does, and only the cluster writes it".to_owned(),
        );
    }
    if change.info.group == "apiregistration.k8s.io" {
        return refused(
            "every API of this cluster is answered by its own servers, and they list what they \
             serve; other servers cannot be added"
                .to_owned(),
        );
    }
    let runtime = change.info.runtime || change.key.is::<Pod>() && change.live.is_some();
    let status = matches!(change.subresource, "status" | "finalize");
    if runtime || status || change.live.and_then(Object::controller_uid).is_some() {
        return Ok(());
    }
    if let Some(origin) = view.origin(change.key) {
        return refused(format!(
            "it comes from Git: edit {}:{} and commit, or take it out of there first",
            origin.file, origin.line
        ));
    }
    let namespace = namespace_of(view, change);
    let what = &change.info.singular;
    match (namespace.and_then(mark), writes) {
        (Some("direct"), _) => Ok(()),
        (Some("refuse"), _) | (None, Writes::Refuse) => refused(format!(
            "the cluster takes what it runs from Git: commit a manifest of this {what}, or mark \
             the namespace with {MARK}: direct"
        )),
        (None, Writes::Direct) => Ok(()),
        (Some(other), _) => refused(format!(
            "its namespace says {MARK}: {other}, which is neither direct nor refuse"
        )),
    }
}

/// The namespace whose word counts: the one the object is in, or is.
fn namespace_of<'a>(view: &'a View, change: &Change<'a>) -> Option<&'a Object> {
    if change.key.is::<Namespace>() {
        return change.live.or(change.wanted);
    }
    view.object(&Key::of::<Namespace>("", &change.key.namespace))
}

fn mark(namespace: &Object) -> Option<&str> {
    let label = || namespace.meta().labels.as_ref()?.get(MARK).map(String::as_str);
    namespace.annotation(MARK).or_else(label)
}
