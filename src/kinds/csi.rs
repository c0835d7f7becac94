//! What storage drivers and the cluster say to each other: drivers, nodes, free capacity,
//! attachments.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::storage::v1::{
        CSIDriver, CSINode, CSINodeDriver, CSINodeStatus, CSIStorageCapacity, VolumeAttachment,
        VolumeAttachmentStatus,
    },
    apimachinery::pkg::api::resource::Quantity as Text,
};

use super::{
    Kind,
    field::Check,
    meta, names,
    persistent_volume::{self, validate_csi_driver},
    pod_defaults::fill,
};
use crate::model::Quantity;

/// Least seconds that a token for a driver holds.
const TOKEN_SECONDS_MIN: i64 = 600;
/// Most seconds that a token for a driver holds.
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
/// Most characters of what a driver calls a node.
const NODE_ID_MAX: usize = 256;

impl Kind for CSIDriver {
    fn default_fields(&mut self) {
        let spec = &mut self.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
        fill(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType");
        let modes = spec.volume_lifecycle_modes.get_or_insert_default();
        if modes.is_empty() {
            modes.push("Persistent".to_owned());
        }
    }

    fn validate(&self, check: &mut Check) {
        if let Some(name) = self.metadata.name.as_deref().filter(|n| !n.is_empty()) {
            validate_csi_driver("metadata.name", name, check);
        }
        let policy = self.spec.fs_group_policy.as_deref().unwrap_or_default();
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        check.one_of("spec.fsGroupPolicy", policy, &policies);
        for mode in self.spec.volume_lifecycle_modes.iter().flatten() {
            check.one_of("spec.volumeLifecycleModes", mode, &["Ephemeral", "Persistent"]);
        }
        let mut audiences = BTreeSet::new();
        for (i, token) in self.spec.token_requests.iter().flatten().enumerate() {
            let at = format!("spec.tokenRequests[{i}]");
            if !audiences.insert(&token.audience) {
                check.duplicate(format!("{at}.audience"), &token.audience);
            }
            let field = format!("{at}.expirationSeconds");
            if token.expiration_seconds.is_some_and(|s| s < TOKEN_SECONDS_MIN) {
                let text = "may not specify a duration less than 10 minutes";
                check.invalid(field, token.expiration_seconds, text);
            } else if token.expiration_seconds.is_some_and(|s| s > TOKEN_SECONDS_MAX) {
                let text = "may not specify a duration larger than 2^32 seconds";
                check.invalid(field, token.expiration_seconds, text);
            }
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        let (before, after) = (&live.spec, &self.spec);
        let required = "spec.attachedRequired";
        check.immutable(required, &before.attach_required, &after.attach_required);
        let modes = "spec.volumeLifecycleModes";
        check.immutable(modes, &before.volume_lifecycle_modes, &after.volume_lifecycle_modes);
    }
}

impl Kind for CSINode {
    fn validate(&self, check: &mut Check) {
        let mut names = BTreeSet::new();
        for (i, driver) in self.spec.drivers.iter().enumerate() {
            let at = format!("spec.drivers[{i}]");
            validate_driver(&at, driver, check);
            if !names.insert(&driver.name) {
                check.duplicate(format!("{at}.name"), &driver.name);
            }
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(CSINodeStatus::default());
    }

    /// A driver may come or go, it does not change.
    fn validate_update(&self, live: &Self, check: &mut Check) {
        let before = |new: &&CSINodeDriver| {
            live.spec.drivers.iter().find(|old| old.name == new.name).is_some_and(|old| old != *new)
        };
        for changed in self.spec.drivers.iter().filter(before) {
            check.invalid("spec.drivers", changed, "field is immutable");
        }
    }
}

fn validate_driver(at: &str, driver: &CSINodeDriver, check: &mut Check) {
    validate_csi_driver(&format!("{at}.name"), &driver.name, check);
    let field = format!("{at}.nodeID");
    if driver.node_id.is_empty() {
        check.required(&field, "");
    }
    if driver.node_id.len() > NODE_ID_MAX {
        let text = format!("must be {NODE_ID_MAX} characters or less");
        check.invalid(field, &driver.node_id, text);
    }
    let count = driver.allocatable.as_ref().and_then(|a| a.count);
    check.not_negative(format!("{at}.allocatable.count"), count.map(i64::from));
    let mut keys = BTreeSet::new();
    for key in driver.topology_keys.iter().flatten() {
        let field = format!("{at}.topologyKeys");
        if key.is_empty() {
            check.required(&field, "");
        }
        if !keys.insert(key) {
            check.duplicate(&field, key);
        }
        check.text(&field, key, names::qualified_name(key));
    }
}

impl Kind for CSIStorageCapacity {
    const QUANTITIES: &'static [&'static str] = &["capacity", "maximumVolumeSize"];

    fn validate(&self, check: &mut Check) {
        let class = &self.storage_class_name;
        check.text("storageClassName", class, names::dns1123_subdomain(class));
        if let Some(topology) = &self.node_topology {
            meta::validate_selector("nodeTopology", topology, check);
        }
        let negative = |amount: &&Text| Quantity::of(amount).is_negative();
        for (field, amount) in
            [("capacity", &self.capacity), ("maximumVolumeSize", &self.maximum_volume_size)]
        {
            if let Some(amount) = amount.as_ref().filter(negative) {
                check.invalid(field, &amount.0, "must be greater than or equal to 0");
            }
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("nodeTopology", &live.node_topology, &self.node_topology);
        check.immutable("storageClassName", &live.storage_class_name, &self.storage_class_name);
    }
}

impl Kind for VolumeAttachment {
    fn default_fields(&mut self) {
        if let Some(spec) = &mut self.spec.source.inline_volume_spec {
            persistent_volume::default_spec(spec);
        }
    }

    fn validate(&self, check: &mut Check) {
        validate_csi_driver("spec.attacher", &self.spec.attacher, check);
        let node = &self.spec.node_name;
        check.text("spec.nodeName", node, names::dns1123_subdomain(node));
        let source = &self.spec.source;
        let field = "spec.source";
        match (&source.inline_volume_spec, source.persistent_volume_name.as_deref()) {
            (None, None) => {
                let text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
                check.required(field, text);
            }
            (Some(_), Some(_)) => {
                let text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
                check.forbidden(field, text);
            }
            (None, Some("")) => {
                check.required(
                    "spec.source.persistentVolumeName",
                    "must specify non empty \
                                persistentVolumeName",
                );
            }
            _ => {}
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(VolumeAttachmentStatus::default());
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("spec", &live.spec, &self.spec);
    }
}
