//! Requests for certificates, bundles of trusted ones.

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestStatus, ClusterTrustBundle,
    PodCertificateRequest,
};
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    age::{age, duration},
    text::{NONE, labels, name, or_none},
};
use crate::model::{Object, Timestamp};

const SIGNER: Column = Column::text("SignerName", "Who is to sign.");
pub(in crate::kinds) const SIGNING_REQUEST: [Column; 6] = [
    NAME,
    AGE,
    SIGNER,
    Column::text("Requestor", "Who asks."),
    Column::text("RequestedDuration", "For how long the certificate is to hold."),
    Column::text("Condition", "What became of the request."),
];
pub(in crate::kinds) const TRUST_BUNDLE: [Column; 2] =
    [NAME, Column::text("SignerName", "Whose certificates it trusts.")];
pub(in crate::kinds) const POD_REQUEST: [Column; 7] = [
    NAME,
    Column::text("PodName", "The pod that asks."),
    Column::text("ServiceAccountName", "The service account of the pod."),
    Column::text("NodeName", "The node of the pod."),
    SIGNER,
    Column::text("State", "What became of the request."),
    Column::text("UnverifiedUserAnnotations", "What the pod says to the signer."),
];

pub(in crate::kinds) fn signing_request(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let request: &CertificateSigningRequest = object.view()?;
    let spec = &request.spec;
    let holds = spec.expiration_seconds.map(|s| duration(s.into()));
    Some(vec![
        name(object),
        age(object, now),
        spec.signer_name.as_str().into(),
        spec.username.as_deref().unwrap_or_default().into(),
        holds.unwrap_or_else(|| NONE.to_owned()).into(),
        condition(request.status.as_ref()).into(),
    ])
}

/// `Pending`, `Approved,Issued`, `Denied`, …
fn condition(status: Option<&CertificateSigningRequestStatus>) -> String {
    let conditions = || status.into_iter().flat_map(|s| s.conditions.iter().flatten());
    let has = |of_type: &str| conditions().any(|c| c.type_ == of_type);
    let issued = status.and_then(|s| s.certificate.as_ref()).is_some_and(|c| !c.0.is_empty());
    let decided = ["Denied", "Approved"].into_iter().find(|c| has(c)).unwrap_or("Pending");
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if issued { ",Issued" } else { "" };
    format!("{decided}{failed}{issued}")
}

pub(in crate::kinds) fn trust_bundle(object: &Object, _: Timestamp) -> Option<Vec<Value>> {
    let bundle: &ClusterTrustBundle = object.view()?;
    Some(vec![name(object), or_none(bundle.spec.signer_name.as_deref()).into()])
}

pub(in crate::kinds) fn pod_request(object: &Object, _: Timestamp) -> Option<Vec<Value>> {
    let request: &PodCertificateRequest = object.view()?;
    let spec = &request.spec;
    let conditions = || request.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let has = |of_type: &&str| conditions().any(|c| c.type_ == *of_type && c.status == "True");
    let state = ["Issued", "Denied", "Failed"].into_iter().find(has).unwrap_or("Pending");
    Some(vec![
        name(object),
        spec.pod_name.as_str().into(),
        spec.service_account_name.as_str().into(),
        spec.node_name.as_str().into(),
        spec.signer_name.as_str().into(),
        state.into(),
        labels(spec.unverified_user_annotations.as_ref()).into(),
    ])
}
