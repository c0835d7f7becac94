//! What the objects of a cluster say of new ones: defaults of a namespace, priorities, limits,
//! quotas, Pod Security Standards.
//!
//! In: an [`Attempt`] to write something, and the value that is wanted. Out: the value with what
//! follows from State filled in ([`complete`]), or why it is refused ([`Refused`]), what its author
//! should know, and what quotas are charged ([`Ledger`]). Called by the API's write path and by the
//! controllers that make pods, so that all pods are judged alike. Everything here is pure. Never
//! here: who it is that asks (`api`), or what a kind itself asks of its objects (`kinds`).
//!
//! | rule | fills in | refuses |
//! |---|---|---|
//! | [`pod`]: service account, tolerations, priority | yes | yes |
//! | [`limits`]: LimitRange | yes | yes |
//! | [`pod_security`]: Pod Security Standards | | and warns |
//! | [`quota`]: ResourceQuota, last, for it charges | | yes |
//!
//! [`validating`] asks the ValidatingAdmissionPolicies, which look at who writes as well: it is
//! asked for what users and commits write, and not for what controllers do.
//!
//! [`rbac`] says what roles and their bindings grant, whoever wants to know.

mod limits;
mod pod;
mod pod_security;
mod quota;
pub mod rbac;
pub mod validating;

use serde_json::Value;

pub use quota::Ledger;

use crate::{kinds::KindInfo, model::Object, state::View};

/// One write of one object.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The cluster.
    pub view: &'a View,
    /// The kind of the object.
    pub info: &'a KindInfo,
    /// `status`, `scale`; empty for the object itself.
    pub subresource: &'a str,
    /// The object as it is stored; `None` when this creates it.
    pub live: Option<&'a Object>,
}

/// Why something is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource} {name:?} is forbidden: {why}")]
pub struct Refused {
    /// `pods`, `deployments.apps`
    pub resource: String,
    /// The name of the object.
    pub name: String,
    /// The rule that it breaks, in Kubernetes' words.
    pub why: String,
}

impl Attempt<'_> {
    fn is(&self, group: &str, plural: &str) -> bool {
        self.info.group == group && self.info.plural == plural
    }

    fn creates_pod(&self) -> bool {
        self.is("", "pods") && self.live.is_none() && self.subresource.is_empty()
    }

    fn resizes_pod(&self) -> bool {
        self.is("", "pods") && self.subresource == "resize"
    }

    fn refused(&self, name: &str, why: &str) -> Refused {
        Refused { resource: self.info.resource(), name: name.to_owned(), why: why.to_owned() }
    }
}

/// Fills in what follows from State, before the value is decoded.
pub fn complete(attempt: &Attempt<'_>, value: &mut Value) -> Result<(), Refused> {
    if !attempt.creates_pod() || !value["spec"].is_object() {
        return Ok(());
    }
    pod::priority(attempt, value)?;
    pod::tolerations(value);
    pod::service_account(attempt, value)?;
    limits::fill(attempt, value);
    Ok(())
}

/// Refuses what no rule lets through, once the object is defaulted and valid; gives what its author
/// should know. What it uses is charged in the `ledger`.
pub fn check(
    attempt: &Attempt<'_>,
    object: &Object,
    ledger: &mut Ledger<'_>,
) -> Result<Vec<String>, Refused> {
    if !(limits::concerns(attempt) || pod_security::concerns(attempt) || quota::concerns(attempt)) {
        return Ok(Vec::new());
    }
    let value = object.value();
    limits::validate(attempt, &value)?;
    let warnings = pod_security::validate(attempt, &value)?;
    ledger.charge(attempt, object, &value)?;
    Ok(warnings)
}
