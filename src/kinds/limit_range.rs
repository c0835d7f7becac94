//! LimitRanges: what the containers, pods and claims of a namespace may ask for.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{LimitRange, LimitRangeItem},
    apimachinery::pkg::api::resource::Quantity as Text,
};

use super::{Kind, amount, container, field::Check, names};
use crate::model::Quantity;

const CONTAINER: &str = "Container";
const POD: &str = "Pod";
const CLAIM: &str = "PersistentVolumeClaim";

type Amounts = BTreeMap<String, Text>;

impl Kind for LimitRange {
    const QUANTITIES: &'static [&'static str] =
        &["default", "defaultRequest", "max", "maxLimitRequestRatio", "min"];

    fn default_fields(&mut self) {
        for item in &mut self.spec.get_or_insert_default().limits {
            for list in lists_mut(item) {
                amount::round(list.as_mut());
            }
            if item.type_ == CONTAINER {
                default_container(item);
            }
        }
    }

    fn validate(&self, check: &mut Check) {
        let mut types = BTreeSet::new();
        for (i, item) in self.spec.iter().flat_map(|s| &s.limits).enumerate() {
            let at = format!("spec.limits[{i}]");
            let of_type = format!("{at}.type");
            validate_type(&of_type, &item.type_, check);
            if !types.insert(&item.type_) {
                check.duplicate(of_type, &item.type_);
            }
            validate_item(&at, item, check);
        }
    }
}

fn lists_mut(item: &mut LimitRangeItem) -> [&mut Option<Amounts>; 5] {
    let LimitRangeItem { default, default_request, max, max_limit_request_ratio, min, .. } = item;
    [default, default_request, max, max_limit_request_ratio, min]
}

/// Gives `list` what `from` has and it has not.
fn complete(list: &mut Option<Amounts>, from: Option<&Amounts>) {
    for (name, amount) in from.into_iter().flatten() {
        list.get_or_insert_default().entry(name.clone()).or_insert_with(|| amount.clone());
    }
}

/// The limit follows the maximum; the request follows the limit, then the minimum.
fn default_container(item: &mut LimitRangeItem) {
    complete(&mut item.default, item.max.as_ref());
    complete(&mut item.default_request, item.default.as_ref());
    complete(&mut item.default_request, item.min.as_ref());
}

fn validate_type(field: &str, of_type: &str, check: &mut Check) {
    check.text(field, of_type, names::qualified_name(of_type));
    if !of_type.contains('/') && ![POD, CONTAINER, CLAIM].contains(&of_type) {
        let text = "must be a standard limit type or fully qualified";
        check.invalid(field, of_type, text);
    }
}

fn validate_item(at: &str, item: &LimitRangeItem, check: &mut Check) {
    let lists = Lists::of(item);
    for (name, list) in &lists.0 {
        for resource in list.keys() {
            validate_name(&format!("{at}.{name}[{resource}]"), &item.type_, resource, check);
        }
    }
    if item.type_ == POD {
        for name in ["default", "defaultRequest"].into_iter().filter(|n| lists.0.contains_key(n)) {
            let text = "may not be specified when `type` is 'Pod'";
            check.forbidden(format!("{at}.{name}"), text);
        }
    }
    if item.type_ == CLAIM && ["min", "max"].iter().all(|n| lists.get(n, "storage").is_none()) {
        let text = "either minimum or maximum storage value is required, but neither was provided";
        check.required(format!("{at}.limits"), text);
    }
    let resources: BTreeSet<&String> = lists.0.values().flat_map(|l| l.keys()).collect();
    for resource in resources {
        validate_order(at, &lists, resource, check);
        validate_ratio(at, &lists, resource, check);
    }
}

fn validate_name(field: &str, of_type: &str, resource: &str, check: &mut Check) {
    if matches!(of_type, POD | CONTAINER) {
        container::resource_name(field, resource, check);
    } else {
        check.text(field, resource, names::qualified_name(resource));
    }
}

/// The lists of an item by the name of their field.
struct Lists<'a>(BTreeMap<&'static str, &'a Amounts>);

impl<'a> Lists<'a> {
    fn of(item: &'a LimitRangeItem) -> Self {
        let all = [
            ("default", &item.default),
            ("defaultRequest", &item.default_request),
            ("max", &item.max),
            ("maxLimitRequestRatio", &item.max_limit_request_ratio),
            ("min", &item.min),
        ];
        let given =
            |(name, list): (&'static str, &'a Option<Amounts>)| Some((name, list.as_ref()?));
        Self(all.into_iter().filter_map(given).filter(|(_, l)| !l.is_empty()).collect())
    }

    fn get(&self, list: &str, resource: &str) -> Option<&'a Text> {
        self.0.get(list)?.get(resource)
    }
}

/// What must not be more than what: the field that is refused, the list whose amount is shown, the
/// lower list, the higher list and what Kubernetes calls it there.
const ORDER: [(&str, &str, &str, &str, &str); 6] = [
    ("min", "min", "min", "max", "max value"),
    ("defaultRequest", "defaultRequest", "min", "defaultRequest", "default request value"),
    ("defaultRequest", "defaultRequest", "defaultRequest", "max", "max value"),
    ("defaultRequest", "defaultRequest", "defaultRequest", "default", "default limit value"),
    ("default", "min", "min", "default", "default value"),
    ("default", "max", "default", "max", "max value"),
];

fn validate_order(at: &str, lists: &Lists<'_>, resource: &str, check: &mut Check) {
    for (field, shown, low, high, high_called) in ORDER {
        let get = |list: &str| lists.get(list, resource);
        let (Some(low_amount), Some(high_amount)) = (get(low), get(high)) else { continue };
        if Quantity::of(low_amount) <= Quantity::of(high_amount) {
            continue;
        }
        let low_called = match low {
            "min" => "min value",
            "default" => "default value",
            _ => "default request value",
        };
        let text = format!(
            "{low_called} {} is greater than {high_called} {}",
            low_amount.0, high_amount.0
        );
        let value = get(shown).map(|a| a.0.as_str()).unwrap_or_default();
        check.invalid(format!("{at}.{field}[{resource}]"), value, text);
    }
}

fn validate_ratio(at: &str, lists: &Lists<'_>, resource: &str, check: &mut Check) {
    let Some(ratio) = lists.get("maxLimitRequestRatio", resource) else { return };
    if Quantity::of(ratio) < Quantity::units(1) {
        let text = format!("ratio {} is less than 1", ratio.0);
        check.invalid(format!("{at}.maxLimitRequestRatio[{resource}]"), &ratio.0, text);
    }
}
