//! What a token says, and whose it is.

use std::collections::BTreeMap;

use k8s_openapi::{
    Metadata, Resource,
    api::core::v1::{Node, Pod, Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::ISSUER;
use crate::{api::User, model::Timestamp, state::View};

/// How far the clocks of two servers may lie apart, in seconds: as Kubernetes takes it. A token is
/// good for that long before its begin and after its end.
pub(super) const LEEWAY_SECONDS: i64 = 60;

/// The claims of a token, as Kubernetes writes them
/// (kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin). Times are in seconds
/// since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::api) struct Claims {
    /// For whom it is meant.
    pub(super) aud: Vec<String>,
    /// Until when it is good.
    pub(super) exp: i64,
    pub(super) iat: i64,
    pub(super) iss: String,
    /// Names this token.
    pub(super) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(super) bound: Bound,
    pub(super) nbf: i64,
    /// `system:serviceaccount:shop:web`
    pub(super) sub: String,
}

/// What a token is bound to; without it the token is worth nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) namespace: String,
    /// The node it is bound to; of a token that is bound to a pod, the node the pod was on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Named>,
    pub(super) serviceaccount: Named,
    /// From when on its holder should have taken a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) warnafter: Option<i64>,
}

/// One object and no later one of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) uid: String,
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct Holder {
    pub(in crate::api) user: User,
    /// The audiences that asked and that the token is meant for.
    pub(in crate::api) audiences: Vec<String>,
}

impl Claims {
    /// For whom the token is meant.
    pub(in crate::api) fn audiences(&self) -> &[String] {
        &self.aud
    }

    /// Whether the token is ours and this is its time.
    pub(in crate::api) fn is_current(&self, now: Timestamp) -> bool {
        let now = now.0.div_euclid(1000);
        let begins = self.nbf.max(self.iat).saturating_sub(LEEWAY_SECONDS);
        self.iss == ISSUER && (begins..=self.exp.saturating_add(LEEWAY_SECONDS)).contains(&now)
    }

    fn account(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.bound.namespace, self.bound.serviceaccount.name)
    }
}

/// Whose the claims of a token are that the cluster signed; `None` when it is not its time, when it
/// is meant for none of `audiences`, or when what it is bound to is gone.
pub(in crate::api) fn holder(
    claims: &Claims,
    view: &View,
    audiences: &[String],
    now: Timestamp,
) -> Option<Holder> {
    let audiences: Vec<String> =
        audiences.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
    let good = claims.is_current(now)
        && !audiences.is_empty()
        && claims.sub == claims.account()
        && lives(claims, view, now);
    good.then(|| Holder { user: user(claims), audiences })
}

/// Whether everything that the token is bound to is there.
fn lives(claims: &Claims, view: &View, now: Timestamp) -> bool {
    let Bound { namespace, node, pod, secret, serviceaccount, .. } = &claims.bound;
    let there = |found: bool, of: &Option<Named>| of.is_none() || found;
    let pod_lives = pod.as_ref().is_some_and(|of| is_there::<Pod>(view, namespace, of, now));
    let secret_lives =
        secret.as_ref().is_some_and(|of| is_there::<Secret>(view, namespace, of, now));
    // A pod on a node that is gone has its own end.
    let node_lives =
        pod.is_some() || node.as_ref().is_some_and(|of| is_there::<Node>(view, "", of, now));
    is_there::<ServiceAccount>(view, namespace, serviceaccount, now)
        && there(pod_lives, pod)
        && there(secret_lives, secret)
        && there(node_lives, node)
}

/// Whether the very object is there; one that is being deleted is until its time is over.
fn is_there<T>(view: &View, namespace: &str, of: &Named, now: Timestamp) -> bool
where
    T: Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    let Some(meta) = view.get::<T>(namespace, &of.name).map(Metadata::metadata) else {
        return false;
    };
    let goes = meta.deletion_timestamp.as_ref().map(Timestamp::from);
    meta.uid.as_deref() == Some(of.uid.as_str())
        && goes.is_none_or(|at| at.plus_seconds(LEEWAY_SECONDS) >= now)
}

fn user(claims: &Claims) -> User {
    let bound = &claims.bound;
    let account = "system:serviceaccounts";
    let groups = [
        account.to_owned(),
        format!("{account}:{}", bound.namespace),
        "system:authenticated".to_owned(),
    ];
    let mut extra = BTreeMap::new();
    let mut say = |what: &str, value: String| {
        extra.insert(format!("authentication.kubernetes.io/{what}"), vec![value]);
    };
    say("credential-id", format!("JTI={}", claims.jti));
    for (what, of) in [("node", &bound.node), ("pod", &bound.pod)] {
        if let Some(of) = of {
            say(&format!("{what}-name"), of.name.clone());
            say(&format!("{what}-uid"), of.uid.clone());
        }
    }
    let (name, uid) = (claims.account(), bound.serviceaccount.uid.clone());
    User { name, uid, groups: groups.into(), extra }
}
