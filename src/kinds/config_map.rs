//! ConfigMaps.

use k8s_openapi::api::core::v1::ConfigMap;

use super::{Kind, Reason, field::Check, names};

/// Most bytes the data of a ConfigMap or a Secret may hold: 1 MiB, as Kubernetes.
pub(super) const DATA_BYTES_MAX: usize = 1 << 20;

impl Kind for ConfigMap {
    fn validate(&self, check: &mut Check) {
        let mut bytes = 0;
        for (key, value) in self.data.iter().flatten() {
            bytes += value.len();
            check.text(&format!("data[{key}]"), key, names::config_key(key));
            if self.binary_data.as_ref().is_some_and(|b| b.contains_key(key)) {
                let text = "duplicate of key present in binaryData";
                check.invalid(format!("data[{key}]"), key, text);
            }
        }
        for (key, value) in self.binary_data.iter().flatten() {
            bytes += value.0.len();
            check.text(&format!("binaryData[{key}]"), key, names::config_key(key));
        }
        size(bytes, check);
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        if live.immutable == Some(true) {
            stays(self.immutable == Some(true), "immutable", check);
            stays(self.data == live.data, "data", check);
            stays(self.binary_data == live.binary_data, "binaryData", check);
        }
    }
}

/// The limit on data that ConfigMaps and Secrets share.
pub(super) fn size(bytes: usize, check: &mut Check) {
    if bytes > DATA_BYTES_MAX {
        let text = format!("Too long: may not be more than {DATA_BYTES_MAX} bytes");
        check.error("", Reason::TooLong, text);
    }
}

/// A field of an immutable object.
pub(super) fn stays(same: bool, field: &str, check: &mut Check) {
    if !same {
        check.forbidden(field, "field is immutable when `immutable` is set");
    }
}
