//! Survivors: pods of a cluster before this one take the places of pods that have no node yet.

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::{
    apply::{Context, State, keep_scheduled},
    command::{Keep, Refusal},
};
use crate::{kinds, model::Key};

impl State {
    /// Lets a pod go on as the survivor that its node runs already: what the pod is stays, who it
    /// is and how it fares are the survivor's.
    pub(super) fn keep(&mut self, keep: Keep, context: &Context) -> Result<(), Refusal> {
        let live = self.unbound(&keep.pod, &keep.uid, &keep.node)?;
        let key = Key::of::<Pod>(&keep.pod.namespace, &keep.name);
        if key != keep.pod && self.view.objects.contains_key(&key) {
            return Err(Refusal::AlreadyExists(key));
        }
        let is_uid = |uid: uuid::Uuid| uid.to_string() == keep.survivor;
        if !uuid::Uuid::parse_str(&keep.survivor).is_ok_and(is_uid)
            || self.view.pods_on(&keep.node).any(|pod| pod.uid() == keep.survivor)
        {
            return Err(Refusal::Misplaced(format!("{key} cannot have the uid {}", keep.survivor)));
        }
        let mut value = kinds::renamed_pod(&live, &keep.name);
        let mut status = keep.status;
        // It has a node now; nothing else that servers say of it is of before.
        keep_scheduled(&mut status, &Value::Null, context);
        value["metadata"]["uid"] = keep.survivor.into();
        value["spec"]["nodeName"] = keep.node.as_str().into();
        value["status"] = status;
        self.remove(&keep.pod);
        self.set(value)
    }
}
