//! State as bytes and back.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{
    apply::{Cooled, State},
    command::{Adopt, LOG_VERSION, OutboxItem, Outcome},
    view::{ClusterConfig, Head, Origin, View},
};
use crate::model::{Key, MAIN_SOURCE, Object, RequestId, Revision, Timestamp};

/// What the origin of an object takes in a snapshot, about.
const ORIGIN_BYTES: usize = 320;

/// Everything that indexes cannot be made from. The history is left out: a watch that was on this
/// replica lists again.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    version: u16,
    config: Option<ClusterConfig>,
    revision: Revision,
    applied_at: Timestamp,
    /// The main source's.
    head: Option<Head>,
    /// The other sources'.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    heads: BTreeMap<SmolStr, Head>,
    exported: Revision,
    outbox: Vec<(u64, OutboxItem)>,
    outbox_next: u64,
    origins: Vec<(Key, Arc<Origin>)>,
    requests: Vec<(RequestId, Vec<Outcome>)>,
    staged: Vec<Adopt>,
    objects: Vec<Object>,
}

impl State {
    /// State as bytes: JSON, so that it can be read by people and by later versions.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let view = &self.view;
        let requests = self.request_order.iter();
        let snapshot = Snapshot {
            version: LOG_VERSION,
            config: view.config.as_deref().cloned(),
            revision: view.revision,
            applied_at: view.applied_at,
            head: view.head().cloned(),
            heads: view.heads.without(MAIN_SOURCE).into_iter().collect(),
            exported: view.exported,
            outbox: view.outbox.iter().map(|(id, item)| (*id, item.clone())).collect(),
            outbox_next: self.outbox_next,
            origins: view.origins.iter().map(|(k, o)| (k.clone(), o.clone())).collect(),
            requests: requests
                .filter_map(|id| Some((*id, self.requests.get(id)?.clone())))
                .collect(),
            staged: self.staged.clone(),
            objects: view.objects.values().cloned().collect(),
        };
        // Growing by doubling would hold the whole three times for a moment.
        let objects: usize = view.objects.values().map(|object| object.bytes().len()).sum();
        let mut bytes = Vec::with_capacity(objects + view.origins.len() * ORIGIN_BYTES);
        serde_json::to_writer(&mut bytes, &snapshot).unwrap_or_else(|e| {
            panic!("a snapshot holds only values that serialize, and yet: {e}")
        });
        bytes
    }

    /// State from bytes. Errors when they are no snapshot or come from a newer version.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, String> {
        let snapshot: Snapshot =
            serde_json::from_slice(bytes).map_err(|e| format!("snapshot: {e}"))?;
        if snapshot.version > LOG_VERSION {
            return Err(format!(
                "the snapshot has version {}, this server reads up to {LOG_VERSION}: update it",
                snapshot.version
            ));
        }
        let main = snapshot.head.map(|head| (MAIN_SOURCE.into(), head));
        let mut view = View {
            config: snapshot.config.map(Into::into),
            revision: snapshot.revision,
            applied_at: snapshot.applied_at,
            heads: main.into_iter().chain(snapshot.heads).collect(),
            exported: snapshot.exported,
            outbox: snapshot.outbox.into_iter().collect(),
            origins: snapshot.origins.into_iter().collect(),
            ..View::default()
        };
        for object in snapshot.objects {
            view.index(&object);
            view.objects.insert(object.key().clone(), object.lean());
        }
        let owned: Vec<Key> = view.origins.keys().cloned().collect();
        owned.iter().for_each(|key| view.note_drift(key));
        Ok(Self {
            cooled: Cooled::at(view.revision),
            view,
            staged: snapshot.staged,
            request_order: snapshot.requests.iter().map(|(id, _)| *id).collect(),
            requests: snapshot.requests.into_iter().collect(),
            outbox_next: snapshot.outbox_next,
        })
    }
}
