//! Requests for certificates: which the cluster's own signers sign, what they refuse, and when old
//! ones go (kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests).
//!
//! Nothing is approved by itself: machines join another way (`server::join`), so who wants a
//! certificate waits for a person. What is approved is signed by the leader's server, which has the
//! key; it asks [`due`] what to do, and writes [`signed`] or [`failed`].

use std::collections::BTreeSet;

use k8s_openapi::{
    ByteString,
    api::certificates::v1::{
        CertificateSigningRequest, CertificateSigningRequestCondition,
        CertificateSigningRequestSpec, CertificateSigningRequestStatus,
    },
};

use super::{Controller, Inputs, Plan, batch::Batch};
use crate::{
    kinds::Asked,
    model::{GroupKind, Key, Object, Timestamp},
    state::{Change, Command, View},
};

/// For those who talk to the API.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// For nodes that talk to the API.
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// For nodes that are talked to.
const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";

/// How long a certificate is valid when nobody says, and at most: a year, as Kubernetes.
const SECONDS_MAX: i64 = 365 * 86_400;
/// The least, as Kubernetes.
const SECONDS_MIN: i64 = 600;

/// How long a request stays that was answered, and one that was not: Kubernetes' hour and day.
const ANSWERED_SECONDS: i64 = 3600;
const PENDING_SECONDS: i64 = 86_400;

const CLIENT_USAGES: [&str; 3] = ["digital signature", "key encipherment", "client auth"];
const SERVER_USAGES: [&str; 3] = ["digital signature", "key encipherment", "server auth"];

/// Takes away requests that are over.
pub(super) const CONTROLLER: Controller =
    Controller { name: "certificatesigningrequest-cleaner-controller", affected, all, plan };

/// What a certificate shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The request as PEM.
    pub request: String,
    /// The user and the groups.
    pub common_name: String,
    /// The groups.
    pub organizations: Vec<String>,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// In Kubernetes' words: `client auth`.
    pub usages: Vec<String>,
    /// How long it is valid.
    pub seconds: i64,
}

/// A request that was approved and that a signer of ours has not answered.
#[derive(Debug)]
pub struct Order<'a> {
    /// The request as it is stored.
    pub object: &'a Object,
    request: &'a CertificateSigningRequest,
    /// What to sign, or why it is not signed.
    pub verdict: Result<Grant, String>,
}

/// Every request that waits for one of our signers.
pub fn due(view: &View) -> Vec<Order<'_>> {
    let all = view.list::<CertificateSigningRequest>(None);
    all.filter(|(object, request)| {
        let status = request.status.as_ref();
        let answered = status.is_some_and(|s| s.certificate.is_some()) || has(request, "Failed");
        let approved = has(request, "Approved") && !has(request, "Denied");
        approved && !answered && !object.is_terminating()
    })
    .filter_map(|(object, request)| {
        let verdict = judge(&request.spec)?;
        Some(Order { object, request, verdict })
    })
    .collect()
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == kind && c.status == "True")
}

/// What is signed for a request; `None` when its signer is none of ours.
fn judge(spec: &CertificateSigningRequestSpec) -> Option<Result<Grant, String>> {
    let rule = match spec.signer_name.as_str() {
        CLIENT => client,
        NODE_CLIENT => node_client,
        NODE_SERVING => node_serving,
        _ => return None,
    };
    Some(Asked::read(&spec.request.0).and_then(|asked| {
        let usages = spec.usages.clone().unwrap_or_default();
        rule(&asked, &usages)?;
        Ok(grant(spec, asked, usages))
    }))
}

fn grant(spec: &CertificateSigningRequestSpec, asked: Asked, usages: Vec<String>) -> Grant {
    let seconds = spec.expiration_seconds.map_or(SECONDS_MAX, i64::from);
    let addresses = asked.addresses.iter().map(ToString::to_string);
    Grant {
        request: String::from_utf8_lossy(&spec.request.0).into_owned(),
        common_name: asked.common_name,
        organizations: asked.organizations,
        names: asked.dns_names.into_iter().chain(addresses).collect(),
        usages,
        seconds: seconds.clamp(SECONDS_MIN, SECONDS_MAX),
    }
}

/// Anybody may be certified whom somebody approves.
fn client(asked: &Asked, usages: &[String]) -> Result<(), String> {
    if asked.common_name.is_empty() {
        return Err("a certificate of a client names its user: the subject has no CN".to_owned());
    }
    used_as(usages, &CLIENT_USAGES)
}

fn node_client(asked: &Asked, usages: &[String]) -> Result<(), String> {
    is_node(asked)?;
    let none = asked.dns_names.is_empty() && asked.addresses.is_empty() && asked.others.is_empty();
    match none {
        true => used_as(usages, &CLIENT_USAGES),
        false => Err("a node's client certificate has no subject alternative names".to_owned()),
    }
}

fn node_serving(asked: &Asked, usages: &[String]) -> Result<(), String> {
    is_node(asked)?;
    if !asked.others.is_empty() {
        return Err("only DNS names and addresses are allowed as alternative names".to_owned());
    }
    match asked.dns_names.is_empty() && asked.addresses.is_empty() {
        true => Err("at least one DNS name or address is required".to_owned()),
        false => used_as(usages, &SERVER_USAGES),
    }
}

fn is_node(asked: &Asked) -> Result<(), String> {
    if asked.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".to_owned());
    }
    match asked.common_name.strip_prefix("system:node:") {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err("subject common name does not begin with system:node:".to_owned()),
    }
}

/// Whether usages are among those that are allowed, the last of which must be there.
fn used_as(usages: &[String], allowed: &[&str; 3]) -> Result<(), String> {
    let [.., needed] = allowed;
    let fits = usages.iter().all(|usage| allowed.contains(&usage.as_str()));
    match fits && usages.iter().any(|usage| usage == needed) {
        true => Ok(()),
        false => Err(format!(
            "usages must be {needed:?} and may be {:?} and {:?} beside it",
            allowed[0], allowed[1]
        )),
    }
}

/// Writes the certificate down.
pub fn signed(order: &Order<'_>, certificate: &str) -> Vec<Command> {
    let certificate = Some(ByteString(certificate.as_bytes().to_vec()));
    let status = order.request.status.clone().unwrap_or_default();
    told(order, CertificateSigningRequestStatus { certificate, ..status })
}

/// Writes down why there is none, once and for good.
pub fn failed(order: &Order<'_>, why: &str, now: Timestamp) -> Vec<Command> {
    let mut status = order.request.status.clone().unwrap_or_default();
    status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
        type_: "Failed".to_owned(),
        status: "True".to_owned(),
        reason: Some("SignerValidationFailure".to_owned()),
        message: Some(why.to_owned()),
        last_update_time: Some(now.to_time()),
        last_transition_time: Some(now.to_time()),
    });
    told(order, status)
}

fn told(order: &Order<'_>, status: CertificateSigningRequestStatus) -> Vec<Command> {
    let mut batch = Batch::default();
    let status = Some(status);
    batch.status(order.object, &CertificateSigningRequest { status, ..order.request.clone() });
    batch.into_commands()
}

fn all(view: &View) -> BTreeSet<Key> {
    let kind = GroupKind::of::<CertificateSigningRequest>();
    view.of_kind(&kind, None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    match change.key.is::<CertificateSigningRequest>() {
        true => super::still(&change.key, view),
        false => BTreeSet::new(),
    }
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let found = view.object(key).and_then(|o| Some((o, o.view::<CertificateSigningRequest>()?)));
    let Some((object, request)) = found.filter(|(object, _)| !object.is_terminating()) else {
        return Plan::default();
    };
    let over = over_at(object, request);
    let mut batch = Batch::default();
    if over <= inputs.now {
        batch.delete(object);
    }
    batch.into_plan((over > inputs.now).then_some(over))
}

/// When nobody waits for a request any more.
fn over_at(object: &Object, request: &CertificateSigningRequest) -> Timestamp {
    let made = object.meta().creation_timestamp.as_ref().map_or(Timestamp(0), Timestamp::from);
    let conditions = request.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let answered = conditions.into_iter().filter_map(|c| c.last_update_time.as_ref()).max();
    match answered {
        Some(at) => Timestamp::from(at).plus_seconds(ANSWERED_SECONDS),
        None => made.plus_seconds(PENDING_SECONDS),
    }
}
