//! What changes the API server itself: webhooks, admission policies, other servers, priorities.

use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
            ParamKind, ParamRef, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration,
        },
        flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration},
        node::v1::RuntimeClass,
    },
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    age::age,
    text::{NONE, name, or_none, selector},
};
use crate::model::{Object, Timestamp};

const PARAM_KIND: Column = Column::text("ParamKind", "The kind of its parameters.");
pub(in crate::kinds) const WEBHOOKS: [Column; 3] =
    [NAME, Column::number("Webhooks", "How many webhooks there are."), AGE];
pub(in crate::kinds) const VALIDATING_POLICY: [Column; 4] =
    [NAME, Column::number("Validations", "How many rules there are."), PARAM_KIND, AGE];
pub(in crate::kinds) const MUTATING_POLICY: [Column; 4] =
    [NAME, Column::number("Mutations", "How many changes it makes."), PARAM_KIND, AGE];
pub(in crate::kinds) const POLICY_BINDING: [Column; 4] = [
    NAME,
    Column::text("PolicyName", "The policy that is put into force."),
    Column::text("ParamRef", "Its parameters."),
    AGE,
];
pub(in crate::kinds) const API_SERVICE: [Column; 4] = [
    NAME,
    Column::text("Service", "The Service that answers, or Local."),
    Column::text("Available", "Whether it answers."),
    AGE,
];
pub(in crate::kinds) const RUNTIME_CLASS: [Column; 3] =
    [NAME, Column::text("Handler", "What the node calls the runtime."), AGE];
pub(in crate::kinds) const FLOW_SCHEMA: [Column; 6] = [
    NAME,
    Column::text("PriorityLevel", "The level of the requests it matches."),
    Column::text("MatchingPrecedence", "Its place among all schemas, lower ones first."),
    Column::text("DistinguisherMethod", "What makes two requests belong to two flows."),
    AGE,
    Column::text("MissingPL", "Whether the level does not exist."),
];
pub(in crate::kinds) const PRIORITY_LEVEL: [Column; 7] = [
    NAME,
    Column::text("Type", "Whether its requests are limited."),
    Column::text("NominalConcurrencyShares", "Its share of what is served at a time."),
    Column::text("Queues", "How many queues there are."),
    Column::text("HandSize", "How many queues one flow may use."),
    Column::text("QueueLengthLimit", "How many requests one queue holds."),
    AGE,
];

/// What stands where there are no parameters.
const UNSET: &str = "<unset>";

pub(in crate::kinds) fn validating_webhooks(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let hooks: &ValidatingWebhookConfiguration = object.view()?;
    let count = hooks.webhooks.as_ref().map_or(0, Vec::len);
    Some(vec![name(object), count.into(), age(object, now)])
}

pub(in crate::kinds) fn mutating_webhooks(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let hooks: &MutatingWebhookConfiguration = object.view()?;
    let count = hooks.webhooks.as_ref().map_or(0, Vec::len);
    Some(vec![name(object), count.into(), age(object, now)])
}

pub(in crate::kinds) fn validating_policy(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let policy: &ValidatingAdmissionPolicy = object.view()?;
    let spec = policy.spec.clone().unwrap_or_default();
    let count = spec.validations.map_or(0, |v| v.len());
    let of_kind = param_kind(spec.param_kind.as_ref());
    Some(vec![name(object), count.into(), of_kind.into(), age(object, now)])
}

pub(in crate::kinds) fn mutating_policy(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let policy: &MutatingAdmissionPolicy = object.view()?;
    let spec = policy.spec.clone().unwrap_or_default();
    let count = spec.mutations.map_or(0, |m| m.len());
    let of_kind = param_kind(spec.param_kind.as_ref());
    Some(vec![name(object), count.into(), of_kind.into(), age(object, now)])
}

fn param_kind(kind: Option<&ParamKind>) -> String {
    let Some(ParamKind { api_version, kind }) = kind else { return UNSET.to_owned() };
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    format!("{}/{}", text(api_version), text(kind))
}

pub(in crate::kinds) fn validating_binding(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let spec = &object.view::<ValidatingAdmissionPolicyBinding>()?.spec;
    Some(binding(object, &spec.policy_name, spec.param_ref.as_ref(), now))
}

pub(in crate::kinds) fn mutating_binding(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let spec = object.view::<MutatingAdmissionPolicyBinding>()?.spec.clone().unwrap_or_default();
    let policy = spec.policy_name.unwrap_or_default();
    Some(binding(object, &policy, spec.param_ref.as_ref(), now))
}

fn binding(
    object: &Object,
    policy: &str,
    parameters: Option<&ParamRef>,
    now: Timestamp,
) -> Vec<Value> {
    let parameters = parameters.map(|p| {
        let place = p.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or("*");
        let which = p.name.clone().filter(|n| !n.is_empty());
        format!("{place}/{}", which.unwrap_or_else(|| selector(p.selector.as_ref())))
    });
    let parameters = parameters.unwrap_or_else(|| UNSET.to_owned());
    vec![name(object), policy.into(), parameters.into(), age(object, now)]
}

pub(in crate::kinds) fn api_service(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let service: &APIService = object.view()?;
    let behind = service.spec.as_ref().and_then(|s| s.service.as_ref()).map(|s| {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        format!("{}/{}", text(&s.namespace), text(&s.name))
    });
    let mut conditions = service.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let available = conditions.find(|c| c.type_ == "Available").map(|c| match &c.reason {
        Some(reason) if c.status != "True" => format!("{} ({reason})", c.status),
        _ => c.status.clone(),
    });
    Some(vec![
        name(object),
        behind.unwrap_or_else(|| "Local".to_owned()).into(),
        available.unwrap_or_else(|| "Unknown".to_owned()).into(),
        age(object, now),
    ])
}

pub(in crate::kinds) fn runtime_class(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let class: &RuntimeClass = object.view()?;
    Some(vec![name(object), class.handler.as_str().into(), age(object, now)])
}

pub(in crate::kinds) fn flow_schema(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let schema: &FlowSchema = object.view()?;
    let spec = &schema.spec;
    let method = spec.distinguisher_method.as_ref().map(|m| m.type_.as_str());
    let mut conditions = schema.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let dangling = conditions.find(|c| c.type_ == "Dangling").and_then(|c| c.status.as_deref());
    Some(vec![
        name(object),
        spec.priority_level_configuration.name.as_str().into(),
        spec.matching_precedence.unwrap_or(0).into(),
        or_none(method).into(),
        age(object, now),
        dangling.unwrap_or("?").into(),
    ])
}

pub(in crate::kinds) fn priority_level(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let spec = &object.view::<PriorityLevelConfiguration>()?.spec;
    let limited = spec.limited.as_ref();
    let exempt = spec.exempt.as_ref().and_then(|e| e.nominal_concurrency_shares);
    let queuing = limited.and_then(|l| l.limit_response.queuing.as_ref());
    let number = |n: Option<i32>| n.map_or_else(|| NONE.into(), Value::from);
    Some(vec![
        name(object),
        spec.type_.as_str().into(),
        number(limited.and_then(|l| l.nominal_concurrency_shares).or(exempt)),
        number(queuing.and_then(|q| q.queues)),
        number(queuing.and_then(|q| q.hand_size)),
        number(queuing.and_then(|q| q.queue_length_limit)),
        age(object, now),
    ])
}
