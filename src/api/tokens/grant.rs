//! Who gets which token.

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequestSpec},
    core::v1::{Node, Pod, PodSpec, ServiceAccount},
};

use super::{
    ISSUER,
    claims::{Bound, Claims, Named},
    own,
};
use crate::{
    api::{Failure, User},
    kinds::{FieldError, KindInfo, Reason},
    model::{GroupKind, Key, Object, Timestamp},
    state::View,
};

/// Seconds that a token holds whose asker says nothing.
const SECONDS_DEFAULT: i64 = 3600;

/// Fewest seconds that may be asked for.
const SECONDS_MIN: i64 = 600;

/// Most seconds that may be asked for.
const SECONDS_MAX: i64 = 1 << 32;

/// What the kubelet asks for in the name of pods that did not choose: a sign that the program in
/// the pod may be one that reads its token once.
const SECONDS_OF_UNAWARE: i64 = 3607;

/// How long a token for such a pod holds: a year. It ends with its pod all the same.
const SECONDS_FOR_UNAWARE: i64 = 365 * 86_400;

/// One request for a token.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Wanted<'a> {
    pub(in crate::api) view: &'a View,
    pub(in crate::api) info: &'a KindInfo,
    /// The service account.
    pub(in crate::api) key: &'a Key,
    pub(in crate::api) spec: &'a TokenRequestSpec,
}

/// What becomes of a request that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct Granted {
    /// To be signed.
    pub(in crate::api) claims: Claims,
    pub(in crate::api) seconds: i64,
    /// When its holder should have another one.
    pub(in crate::api) expires: Timestamp,
}

/// Decides what a token will say, under the name `id`.
pub(in crate::api) fn grant(
    wanted: &Wanted<'_>,
    now: Timestamp,
    id: String,
) -> Result<Granted, Failure> {
    let (info, key) = (wanted.info, wanted.key);
    let found: Option<&ServiceAccount> = wanted.view.get(&key.namespace, &key.name);
    let account = found.ok_or_else(|| Failure::no_object(info, &key.name))?;
    let seconds = wanted.spec.expiration_seconds.unwrap_or(SECONDS_DEFAULT);
    bounded(seconds)?;
    let mut bound = match &wanted.spec.bound_object_ref {
        Some(reference) => bind(wanted, reference)?,
        None => Bound::default(),
    };
    bound.namespace = key.namespace.to_string();
    let uid = account.metadata.uid.clone().unwrap_or_default();
    bound.serviceaccount = Named { name: key.name.to_string(), uid };
    let asked = wanted.spec.audiences.iter().flatten();
    let asked: Vec<String> = asked.filter(|audience| !audience.is_empty()).cloned().collect();
    let aud = if asked.is_empty() { own() } else { asked };

    let begins = now.0.div_euclid(1000);
    let mut exp = begins + seconds;
    if bound.pod.is_some() && seconds == SECONDS_OF_UNAWARE && aud.iter().all(|a| a == ISSUER) {
        bound.warnafter = Some(exp);
        exp = begins + SECONDS_FOR_UNAWARE;
    }
    let sub = format!("system:serviceaccount:{}:{}", key.namespace, key.name);
    let (iss, iat, nbf) = (ISSUER.to_owned(), begins, begins);
    let claims = Claims { aud, exp, iat, iss, jti: id, bound, nbf, sub };
    Ok(Granted { claims, seconds, expires: now.plus_seconds(seconds) })
}

fn bounded(seconds: i64) -> Result<(), Failure> {
    let why = match seconds {
        ..SECONDS_MIN => "may not specify a duration less than 10 minutes",
        SECONDS_MIN..=SECONDS_MAX => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let error = FieldError {
        field: "spec.expirationSeconds".to_owned(),
        reason: Reason::Invalid,
        detail: format!("Invalid value: {seconds}: {why}"),
    };
    Err(Failure::not_valid(("TokenRequest", "authentication.k8s.io"), "", &[error]))
}

/// What a token is bound to beside its account: the live object of the reference.
fn bind(wanted: &Wanted<'_>, reference: &BoundObjectReference) -> Result<Bound, Failure> {
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let (version, kind) = (text(&reference.api_version), text(&reference.kind));
    let (namespace, plural) = match (version.as_str(), kind.as_str()) {
        ("v1", "Pod") => (wanted.key.namespace.as_str(), "pods"),
        ("v1", "Secret") => (wanted.key.namespace.as_str(), "secrets"),
        ("v1", "Node") => ("", "nodes"),
        _ => {
            let (group, version) = version.split_once('/').unwrap_or(("", &version));
            let text =
                format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Failure::bad_request(text));
        }
    };
    let name = text(&reference.name);
    let found = wanted.view.object(&Key::new(GroupKind::new("", &kind), namespace, &name));
    let object = found.ok_or_else(|| {
        let details = crate::api::Details {
            name: name.clone(),
            kind: plural.to_owned(),
            ..crate::api::Details::default()
        };
        Failure::not_found(format!("{plural} {name:?} not found")).with(details)
    })?;
    same_object(reference, &kind, object)?;
    let named = Some(Named { name, uid: object.uid().to_owned() });
    match plural {
        "pods" => Ok(Bound { node: node_of(wanted, object)?, pod: named, ..Bound::default() }),
        "secrets" => Ok(Bound { secret: named, ..Bound::default() }),
        _ => Ok(Bound { node: named, ..Bound::default() }),
    }
}

fn same_object(
    reference: &BoundObjectReference,
    kind: &str,
    object: &Object,
) -> Result<(), Failure> {
    match reference.uid.as_deref().filter(|uid| !uid.is_empty()) {
        Some(uid) if uid != object.uid() => {
            let name = &object.key().name;
            let text = format!(
                "Operation cannot be fulfilled on {kind} {:?}: {}",
                name.as_str(),
                other_object(uid)
            );
            Err(Failure::conflict(text))
        }
        _ => Ok(()),
    }
}

fn other_object(uid: &str) -> String {
    format!(
        "the UID in the bound object reference ({uid}) does not match the UID in record. The object \
         might have been deleted and then recreated"
    )
}

/// The node of a pod that runs as this account.
fn node_of(wanted: &Wanted<'_>, pod: &Object) -> Result<Option<Named>, Failure> {
    let spec = spec_of(pod);
    let account = spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default();
    if account != wanted.key.name.as_str() {
        return Err(Failure::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount \
             name.",
            wanted.key.name.as_str()
        )));
    }
    let Some(name) = spec.and_then(|spec| spec.node_name.clone()) else { return Ok(None) };
    let node: Option<&Node> = wanted.view.get("", &name);
    let uid = node.and_then(|node| node.metadata.uid.clone()).unwrap_or_default();
    Ok(Some(Named { name, uid }))
}

fn spec_of(pod: &Object) -> Option<&PodSpec> {
    pod.view::<Pod>()?.spec.as_ref()
}

/// Refuses a node a token that none of its pods needs: one that is not bound to a pod on it by uid,
/// or meant for an audience that no volume of the pod names
/// (kubernetes.io/docs/reference/access-authn-authz/admission-controllers, NodeRestriction).
pub(in crate::api) fn may_node(wanted: &Wanted<'_>, user: &User) -> Result<(), Failure> {
    let Some(node) = user.node() else { return Ok(()) };
    let refused = |why: &str| Failure::refused(wanted.info, &wanted.key.name, why);
    let reference = wanted.spec.bound_object_ref.as_ref();
    let to_pod = |of: &&BoundObjectReference| {
        of.api_version.as_deref() == Some("v1") && of.kind.as_deref() == Some("Pod")
    };
    let unbound = || refused("node requested token not bound to a pod");
    let reference = reference.filter(to_pod).ok_or_else(unbound)?;
    let uid = reference.uid.as_deref().filter(|uid| !uid.is_empty());
    let uid =
        uid.ok_or_else(|| refused("node requested token with a pod binding without a uid"))?;
    let name = reference.name.as_deref().unwrap_or_default();
    let key = Key::new(GroupKind::new("", "Pod"), &wanted.key.namespace, name);
    let pod = wanted.view.object(&key).ok_or_else(unbound)?;
    if pod.uid() != uid {
        return Err(refused(&other_object(uid)));
    }
    let spec = spec_of(pod);
    if spec.and_then(|spec| spec.node_name.as_deref()) != Some(node) {
        let why = "node requested token bound to a pod scheduled on a different node";
        return Err(refused(why));
    }
    let audience = match wanted.spec.audiences.as_deref().unwrap_or_default() {
        [] => "",
        [one] => one.as_str(),
        _ => return Err(refused("node may only request 0 or 1 audiences")),
    };
    match spec.is_some_and(|spec| names_audience(spec, audience)) {
        true => Ok(()),
        false => {
            let text = format!("audience {audience:?} not found in pod spec volume");
            Err(refused(&text))
        }
    }
}

/// Whether a volume of a pod shows a token for an audience; the API's own has no name.
fn names_audience(spec: &PodSpec, audience: &str) -> bool {
    let plain = |text: &str| if text == ISSUER { String::new() } else { text.to_owned() };
    let volumes = spec.volumes.iter().flatten();
    let projected = volumes.filter_map(|volume| volume.projected.as_ref()?.sources.as_ref());
    let tokens = projected.flatten().filter_map(|source| source.service_account_token.as_ref());
    let mut audiences = tokens.map(|token| token.audience.as_deref().unwrap_or_default());
    audiences.any(|named| plain(named) == plain(audience))
}
