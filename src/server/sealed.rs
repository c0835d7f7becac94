//! Where what is sealed is opened: as late as can be, on the way to those who may read it.
//!
//! The log and State hold ciphertext. The leader proves a file before it takes it; every server
//! opens objects when it answers those who may read them, and the leader when it sends a pod's node
//! what the pod uses (docs/adr/0027-sealed-values.md).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::Store;
use crate::{
    model::{GroupKind, Object, Seal, session::Desired},
    render::FileResult,
    seal::Keyring,
    state::View,
};

/// What a file says, with what is wrong about its seals.
pub(super) fn proven(mut result: FileResult, keyring: &Keyring) -> FileResult {
    for file in std::mem::take(&mut result.sealed) {
        result.problems.extend(keyring.prove(&file));
    }
    result
}

/// Opens objects of State.
#[derive(Clone)]
pub(super) struct Opener {
    store: Store,
    keyring: Arc<Keyring>,
}

impl Opener {
    /// Opens with these keys what this server's State holds.
    pub(super) fn new(store: Store, keyring: Arc<Keyring>) -> Self {
        Self { store, keyring }
    }

    /// The keys.
    pub(super) fn keyring(&self) -> Arc<Keyring> {
        self.keyring.clone()
    }

    /// For whom to seal.
    pub(super) fn recipients(&self) -> Vec<String> {
        self.keyring.recipients().to_vec()
    }

    /// The object with plain values. What cannot be opened is given as it is stored; so is what Git
    /// does not own, since only files that were proven may be opened.
    pub(super) fn open(&self, object: &Object) -> Object {
        let is_sealed = object.annotation(Seal::NAME).is_some();
        let view = self.store.view();
        let Some(origin) = view.origin(object.key()).filter(|_| is_sealed) else {
            return object.clone();
        };
        self.keyring.open(object).unwrap_or_else(|why| {
            let (object_key, file, line) = (object.key(), &origin.file, origin.line);
            tracing::error!(event = "stays sealed", object = %object_key, file, line, %why);
            object.clone()
        })
    }

    /// What goes to an agent, opened.
    pub(super) fn open_for_agent(&self, mut desired: Desired) -> Desired {
        for object in &mut desired.upserts {
            if object.annotation(Seal::NAME).is_some() {
                *object = self.open(object);
            }
        }
        desired
    }

    /// Why something that the cluster runs stays sealed here, if anything does. Names nothing:
    /// anybody may ask for it.
    pub(super) fn failure(&self) -> Option<String> {
        let view = self.store.view();
        let kinds = [GroupKind::of::<Secret>(), GroupKind::of::<ConfigMap>()];
        let shut = kinds.iter().any(|kind| self.has_shut(&view, kind));
        let why = "what is sealed cannot be opened here: give the server the key of the others \
                   (source.decryption.ageKeyFile); its log names the files";
        shut.then(|| why.to_owned())
    }

    fn has_shut(&self, view: &View, kind: &GroupKind) -> bool {
        let sealed = view.origins_of(kind).filter_map(|(key, _)| view.object(key));
        let mut sealed = sealed.filter(|object| object.annotation(Seal::NAME).is_some());
        sealed.any(|object| self.keyring.open(object).is_err())
    }
}
