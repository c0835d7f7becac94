//! The EndpointSlices of one owner: which endpoint is in which slice, and what must be written.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::batch::{Batch, controlled_by, fresh_name};
use crate::{
    model::{Key, Labels, Object},
    state::View,
};

/// Most endpoints of one slice, as Kubernetes' default.
const ENDPOINTS_MAX: usize = 100;
/// Most slices one step writes; the next step goes on. 12 full slices are about 500 kB, half of a
/// log entry.
const WRITES_MAX: usize = 12;
/// By which a slice names its Service.
pub(super) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// By which a slice names its controller.
pub(super) const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// A port of a slice in an order: name, number, protocol, application protocol.
pub(super) type Port = (Option<String>, Option<i32>, Option<String>, Option<String>);

/// Annotations of a slice.
pub(super) type Annotations = BTreeMap<String, String>;

/// The slices of one owner on their way from what is stored to what is wanted.
pub(super) struct Slices<'a> {
    view: &'a View,
    owner: &'a Object,
    labels: Labels,
    annotations: Option<Annotations>,
    identity: fn(&Endpoint) -> &str,
    /// Stored slices that no set of ports has used yet, by name.
    stored: Vec<(&'a Object, &'a EndpointSlice)>,
    created: usize,
    written: usize,
    batch: Batch,
}

impl<'a> Slices<'a> {
    /// Starts from what is stored. `labels` are those of each slice, with `manager` among them;
    /// `identity` says which endpoints of two versions are the same one.
    pub(super) fn new(
        view: &'a View,
        owner: &'a Object,
        manager: &str,
        labels: Labels,
        identity: fn(&Endpoint) -> &str,
    ) -> Self {
        let ours = |o: &&Object| {
            let labels = o.meta().labels.as_ref();
            labels.and_then(|l| l.get(MANAGER_LABEL)).is_some_and(|m| m == manager)
        };
        let owned = view.owned_by(owner.uid()).filter(|o| !o.is_terminating()).filter(ours);
        let stored = owned.filter_map(|o| Some((o, o.view::<EndpointSlice>()?))).collect();
        Self {
            view,
            owner,
            labels,
            annotations: None,
            identity,
            stored,
            created: 0,
            written: 0,
            batch: Batch::default(),
        }
    }

    /// Gives the slices annotations; without them, theirs stay as they are.
    pub(super) fn annotated(mut self, annotations: Annotations) -> Self {
        self.annotations = Some(annotations);
        self
    }

    /// Brings the slices of one set of ports to the wanted endpoints. An endpoint stays in its
    /// slice, so that a change of one pod changes one slice; new ones go where room is, fullest
    /// slice first.
    pub(super) fn reconcile(
        &mut self,
        address_type: &str,
        ports: &[Port],
        mut wanted: BTreeMap<String, Endpoint>,
    ) {
        let (stored, others) = std::mem::take(&mut self.stored)
            .into_iter()
            .partition(|(_, slice)| slice.address_type == address_type && same_ports(slice, ports));
        self.stored = others;
        let mut kept: Vec<Kept<'_>> = Vec::new();
        for (object, slice) in stored {
            let endpoints = slice.endpoints.iter().flatten();
            let endpoints: Vec<Endpoint> =
                endpoints.filter_map(|e| wanted.remove((self.identity)(e))).collect();
            kept.push(Kept { object, slice, endpoints });
        }
        kept.sort_by_key(|k| std::cmp::Reverse(k.endpoints.len()));
        let mut new = wanted.into_values();
        for slice in &mut kept {
            let room = ENDPOINTS_MAX.saturating_sub(slice.endpoints.len());
            slice.endpoints.extend(new.by_ref().take(room));
        }
        // One slice stays even when it is empty; the others go.
        for (i, slice) in kept.iter().enumerate() {
            if slice.endpoints.is_empty() && i > 0 {
                self.batch.delete(slice.object);
            } else {
                self.update(slice);
            }
        }
        let rest: Vec<Endpoint> = new.collect();
        if kept.is_empty() && rest.is_empty() {
            self.create(address_type, ports, Vec::new());
        }
        for endpoints in rest.chunks(ENDPOINTS_MAX) {
            self.create(address_type, ports, endpoints.to_vec());
        }
    }

    /// Counts a write; says whether there is no room for it.
    fn is_full(&mut self) -> bool {
        self.written += 1;
        self.written > WRITES_MAX
    }

    fn update(&mut self, kept: &Kept<'_>) {
        let mut slice = kept.slice.clone();
        slice.metadata.labels = Some(self.labels.clone());
        if let Some(annotations) = &self.annotations {
            slice.metadata.annotations = Some(annotations.clone()).filter(|a| !a.is_empty());
        }
        let same = kept.slice.endpoints.as_deref().unwrap_or_default() == kept.endpoints;
        if same && slice.metadata == kept.slice.metadata || self.is_full() {
            return;
        }
        slice.endpoints = Some(kept.endpoints.clone());
        self.batch.update(kept.object, &slice);
    }

    fn create(&mut self, address_type: &str, ports: &[Port], endpoints: Vec<Endpoint>) {
        if self.is_full() {
            return;
        }
        let owner = self.owner.key();
        let prefix = format!("{}-", owner.name);
        let kind = Key::of::<EndpointSlice>(&owner.namespace, "");
        let name = fresh_name(self.view, &kind, self.owner, &prefix, self.created);
        self.created += 1;
        let port = |(name, port, protocol, app_protocol): &Port| EndpointPort {
            name: name.clone(),
            port: *port,
            protocol: protocol.clone(),
            app_protocol: app_protocol.clone(),
        };
        self.batch.create(&EndpointSlice {
            metadata: ObjectMeta {
                name: Some(name),
                generate_name: Some(prefix),
                namespace: Some(owner.namespace.to_string()),
                labels: Some(self.labels.clone()),
                annotations: self.annotations.clone().filter(|a| !a.is_empty()),
                owner_references: Some(vec![controlled_by(self.owner)]),
                ..ObjectMeta::default()
            },
            address_type: address_type.to_owned(),
            endpoints: Some(endpoints),
            ports: Some(ports.iter().map(port).collect()),
        });
    }

    /// Deletes the slices of ports that nobody has any more.
    pub(super) fn finish(mut self) -> Batch {
        for (object, _) in std::mem::take(&mut self.stored) {
            self.batch.delete(object);
        }
        self.batch
    }
}

/// A stored slice and the endpoints it shall have.
struct Kept<'a> {
    object: &'a Object,
    slice: &'a EndpointSlice,
    endpoints: Vec<Endpoint>,
}

fn same_ports(slice: &EndpointSlice, ports: &[Port]) -> bool {
    let own = slice.ports.iter().flatten();
    let own = own.map(|p| (p.name.clone(), p.port, p.protocol.clone(), p.app_protocol.clone()));
    own.eq(ports.iter().cloned())
}
