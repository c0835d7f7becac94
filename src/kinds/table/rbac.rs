//! Bindings of roles, and what a namespace may use.

use k8s_openapi::api::{
    core::v1::ResourceQuota,
    rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject},
};
use serde_json::Value;

use super::{AGE, Column, NAME, age::age, text::name};
use crate::model::{Object, Timestamp};

pub(in crate::kinds) const BINDING: [Column; 6] = [
    NAME,
    Column::text("Role", "The role that is given."),
    AGE,
    Column::text("Users", "The users who get it.").wide(),
    Column::text("Groups", "The groups that get it.").wide(),
    Column::text("ServiceAccounts", "The service accounts that get it.").wide(),
];
pub(in crate::kinds) const RESOURCE_QUOTA: [Column; 4] = [
    NAME,
    Column::text("Request", "What is used, of how much may be asked for."),
    Column::text("Limit", "What is used, of how much may be the limit."),
    AGE,
];

pub(in crate::kinds) fn role_binding(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let binding: &RoleBinding = object.view()?;
    Some(row(object, &binding.role_ref, binding.subjects.as_deref().unwrap_or_default(), now))
}

pub(in crate::kinds) fn cluster_role_binding(
    object: &Object,
    now: Timestamp,
) -> Option<Vec<Value>> {
    let binding: &ClusterRoleBinding = object.view()?;
    Some(row(object, &binding.role_ref, binding.subjects.as_deref().unwrap_or_default(), now))
}

fn row(object: &Object, role: &RoleRef, subjects: &[Subject], now: Timestamp) -> Vec<Value> {
    let of_kind = |kind: &str| -> Value {
        let of_kind = subjects.iter().filter(|s| s.kind == kind);
        let names = of_kind.map(|s| match s.namespace.as_deref() {
            Some(namespace) if kind == "ServiceAccount" => format!("{namespace}/{}", s.name),
            _ => s.name.clone(),
        });
        names.collect::<Vec<_>>().join(", ").into()
    };
    vec![
        name(object),
        format!("{}/{}", role.kind, role.name).into(),
        age(object, now),
        of_kind("User"),
        of_kind("Group"),
        of_kind("ServiceAccount"),
    ]
}

pub(in crate::kinds) fn resource_quota(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let quota: &ResourceQuota = object.view()?;
    let status = quota.status.clone().unwrap_or_default();
    let (hard, used) = (status.hard.unwrap_or_default(), status.used.unwrap_or_default());
    let list = |limits: bool| -> Value {
        let of_list = hard.iter().filter(|(key, _)| key.starts_with("limits.") == limits);
        let shares = of_list.map(|(key, hard)| {
            let used = used.get(key).map_or("0", |q| q.0.as_str());
            format!("{key}: {used}/{}", hard.0)
        });
        shares.collect::<Vec<_>>().join(", ").into()
    };
    Some(vec![name(object), list(false), list(true), age(object, now)])
}
