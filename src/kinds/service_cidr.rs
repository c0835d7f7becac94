//! IPAddresses and ServiceCIDRs: which addresses Services may have, and which are taken.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR, ServiceCIDRStatus};

use super::{Kind, field::Check, names};

/// Most ranges: one of each family.
const RANGES_MAX: usize = 2;
const RANGES: &str = "spec.cidrs";
const IMMUTABLE: &str = "field is immutable";

impl Kind for IPAddress {
    const NEEDED: &'static [&'static str] = &["/spec/parentRef"];

    fn validate(&self, check: &mut Check) {
        let at = "spec.parentRef";
        if !check.absent.is_empty() {
            check.required(at, "");
            return;
        }
        let parent = &self.spec.parent_ref;
        if let Some(group) = parent.group.as_deref().filter(|g| !g.is_empty()) {
            check.text(&format!("{at}.group"), group, names::dns1123_subdomain(group));
        }
        for (field, value) in [("resource", &parent.resource), ("name", &parent.name)] {
            if value.is_empty() {
                check.required(format!("{at}.{field}"), "");
            }
        }
        let namespace = parent.namespace.as_deref().unwrap_or_default();
        for (field, value) in [
            ("resource", parent.resource.as_str()),
            ("name", parent.name.as_str()),
            ("namespace", namespace),
        ] {
            check.text(&format!("{at}.{field}"), value, names::path_segment(value));
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("spec.parentRef", &live.spec.parent_ref, &self.spec.parent_ref);
    }
}

fn ranges_of(service: &ServiceCIDR) -> &[String] {
    service.spec.as_ref().and_then(|s| s.cidrs.as_deref()).unwrap_or_default()
}

impl Kind for ServiceCIDR {
    fn default_fields(&mut self) {
        self.spec.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let ranges = ranges_of(self);
        if ranges.is_empty() {
            check.required(RANGES, "at least one CIDR required");
        }
        if ranges.len() > RANGES_MAX {
            check.invalid(RANGES, &self.spec, "may only hold up to 2 values");
            return;
        }
        for (i, range) in ranges.iter().enumerate() {
            check.text(&format!("{RANGES}[{i}]"), range, names::cidr(range));
        }
        let family = |range: &String| {
            let address = range.split_once('/').and_then(|(a, _)| a.parse::<IpAddr>().ok());
            address.map(|a| a.is_ipv4())
        };
        if let [first, second] = ranges
            && family(first).is_some()
            && family(first) == family(second)
        {
            let text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 \
                        and 2001:db8::/64";
            check.invalid(RANGES, ranges, text);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(ServiceCIDRStatus::default());
    }

    /// A second range may be added, nothing else may change.
    fn validate_update(&self, live: &Self, check: &mut Check) {
        let (before, after) = (ranges_of(live), ranges_of(self));
        let grows = before.len() == 1 && after.len() == RANGES_MAX;
        if before.len() != after.len() && !grows {
            check.invalid(RANGES, after, IMMUTABLE);
            return;
        }
        for (i, (_, new)) in before.iter().zip(after).enumerate().filter(|(_, (a, b))| a != b) {
            check.invalid(format!("{RANGES}[{i}]"), new, IMMUTABLE);
        }
    }
}
