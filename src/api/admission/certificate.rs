//! Requests for certificates: who asks, and who may approve and sign
//! (kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests).

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::{Value, json};

use super::Attempt;
use crate::{
    api::{
        Failure, ResourceInfo, User,
        authz::{self, Target, Wish},
    },
    kinds::Asked,
    model::Object,
};

/// The signer for those who talk to the API.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Writes down who asks, whatever the request says of it.
pub(super) fn asker(user: &User, value: &mut Value) {
    let Some(spec) = value["spec"].as_object_mut() else { return };
    spec.insert("username".to_owned(), user.name.as_str().into());
    let told = [
        ("uid", json!(user.uid), user.uid.is_empty()),
        ("groups", json!(user.groups), user.groups.is_empty()),
        ("extra", json!(user.extra), user.extra.is_empty()),
    ];
    for (field, told, empty) in told {
        match empty {
            true => spec.remove(field),
            false => spec.insert(field.to_owned(), told),
        };
    }
}

/// Refuses a request by which somebody would become an administrator whom no role can hold.
pub(super) fn subject(attempt: &Attempt<'_>, object: &Object) -> Result<(), Failure> {
    let Some(wanted) = object.view::<CertificateSigningRequest>() else { return Ok(()) };
    let asked = Asked::read(&wanted.spec.request.0).unwrap_or_default();
    let masters = asked.organizations.iter().any(|group| group == authz::MASTERS);
    match masters && wanted.spec.signer_name == CLIENT {
        true => {
            let why =
                format!("use of {CLIENT} signer with {} group is not allowed", authz::MASTERS);
            Err(attempt.refused(&object.key().name, &why))
        }
        false => Ok(()),
    }
}

/// Refuses to approve or to sign for a signer that the user may not act for.
pub(super) fn validate(attempt: &Attempt<'_>, object: &Object) -> Result<(), Failure> {
    let Some(wanted) = object.view::<CertificateSigningRequest>() else { return Ok(()) };
    let changed = |part: fn(&Object) -> Value| attempt.live.map(part) != Some(part(object));
    let signer = wanted.spec.signer_name.as_str();
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    for (verb, part) in [("approve", decisions as fn(&Object) -> Value), ("sign", certificate)] {
        let allowed = !changed(part)
            || may(attempt, verb, signer)
            || may(attempt, verb, &format!("{domain}/*"));
        if !allowed {
            let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
            return Err(attempt.refused(&object.key().name, &why));
        }
    }
    Ok(())
}

fn certificate(request: &Object) -> Value {
    request.value()["status"]["certificate"].clone()
}

/// The conditions that say whether a request is approved.
fn decisions(request: &Object) -> Value {
    let value = request.value();
    let conditions = value["status"]["conditions"].as_array().into_iter().flatten();
    let deciding = conditions.filter(|c| c["type"] == "Approved" || c["type"] == "Denied");
    deciding.cloned().collect()
}

fn may(attempt: &Attempt<'_>, verb: &str, signer: &str) -> bool {
    let resource = ResourceInfo {
        group: "certificates.k8s.io".to_owned(),
        version: "*".to_owned(),
        resource: "signers".to_owned(),
        name: signer.to_owned(),
        ..ResourceInfo::default()
    };
    let target = Target::Resource(&resource, "");
    authz::may(attempt.view, &Wish { user: attempt.user, verb, target })
}
