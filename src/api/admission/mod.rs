//! What is added to a write, and what of it is refused, once it is known who writes what.
//!
//! In: an [`Attempt`] and the value, or the object, that is wanted. [`mutate`] runs on the value
//! before it is decoded and fills in what follows from State; [`validate`] runs on the object after
//! it was defaulted and validated, and gives warnings and what a quota is charged. Called by the
//! write path. Everything here is pure. Never here: whether somebody may write at all (`authz`),
//! and what Git brings: a commit is what the owner of the cluster wants, so no quota holds it.
//!
//! | rule | mutates | refuses |
//! |---|---|---|
//! | [`pod`]: service account, tolerations, priority | yes | yes |
//! | [`limits`]: LimitRange | yes | yes |
//! | [`pod_security`]: Pod Security Standards | | and warns |
//! | [`certificate`]: who asks for one, who approves and signs | yes | yes |
//! | [`node`]: NodeRestriction | | yes |
//! | escalation of roles (`authz`) | | yes |
//! | [`quota`]: ResourceQuota, last, for it charges | | yes |

mod certificate;
mod limits;
mod node;
mod pod;
mod pod_security;
mod quota;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{Failure, User, authz};
use crate::{
    kinds::KindInfo,
    model::Object,
    state::{Op, View},
};

/// One write of one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    pub(super) user: &'a User,
    pub(super) view: &'a View,
    pub(super) info: &'a KindInfo,
    /// `status`, `scale`; empty for the object itself.
    pub(super) subresource: &'a str,
    /// The object as it is stored; `None` when this creates it.
    pub(super) live: Option<&'a Object>,
}

/// What became of a write that was let through.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What the asker should know.
    pub(super) warnings: Vec<String>,
    /// What must be written in the same command, before the object: each quota's new use, at the
    /// version it was counted at. Two servers that count the same quota at the same moment cannot
    /// both be right about its version, so one of them counts again.
    pub(super) charges: Vec<Op>,
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

    fn refused(&self, name: &str, why: &str) -> Failure {
        Failure::refused(self.info, name, why)
    }
}

/// Fills in what follows from State.
pub(super) fn mutate(attempt: &Attempt<'_>, value: &mut Value) -> Result<(), Failure> {
    if attempt.live.is_none() && attempt.is("certificates.k8s.io", "certificatesigningrequests") {
        certificate::asker(attempt.user, value);
    }
    if !attempt.creates_pod() || !value["spec"].is_object() {
        return Ok(());
    }
    pod::priority(attempt, value)?;
    pod::tolerations(value);
    pod::service_account(attempt, value)?;
    limits::fill(attempt, value);
    Ok(())
}

/// Refuses what no rule lets through.
pub(super) fn validate(attempt: &Attempt<'_>, object: &Object) -> Result<Verdict, Failure> {
    // What of a pod changes while it runs counts as the pod.
    let running = matches!(attempt.subresource, "ephemeralcontainers" | "resize");
    if !attempt.subresource.is_empty() && !running {
        node::validate(attempt, object)?;
        certificate::validate(attempt, object)?;
        return Ok(Verdict::default());
    }
    if attempt.live.is_none() {
        certificate::subject(attempt, object)?;
    }
    authz::may_grant(attempt.view, attempt.user, attempt.info, object)?;
    node::validate(attempt, object)?;
    let value = object.value();
    limits::validate(attempt, &value)?;
    let warnings = pod_security::validate(attempt, &value)?;
    let charges = quota::charge(attempt, object, &value)?;
    Ok(Verdict { warnings, charges })
}
