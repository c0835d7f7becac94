//! What is added to a write, and what of it is refused, once it is known who writes what.
//!
//! In: an [`Attempt`] and the value, or the object, that is wanted. [`mutate`] runs on the value
//! before it is decoded and fills in what follows from State; [`validate`] runs on the object after
//! it was defaulted and validated, and gives warnings and what a quota is charged. Called by the
//! write path. Everything here is pure. What holds for every writer, controllers too, stands in
//! [`policy`]; here is what depends on who writes. Never here: whether somebody may write at all
//! (`authz`).
//!
//! | rule | mutates | refuses |
//! |---|---|---|
//! | [`certificate`]: who asks for one, who approves and signs | yes | yes |
//! | [`node`]: NodeRestriction | | yes |
//! | escalation of roles (`authz`) | | yes |
//! | [`validating`]: ValidatingAdmissionPolicies, of deletions too ([`validate_deletion`]) | | yes |
//! | [`policy`], last, for it charges quotas | yes | yes |

mod certificate;
mod node;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{Failure, User, authz};
use crate::{
    kinds::KindInfo,
    model::Object,
    policy::{
        self, Ledger, Refused,
        validating::{self, Write, Writer},
    },
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

impl<'a> Attempt<'a> {
    fn is(&self, group: &str, plural: &str) -> bool {
        self.info.group == group && self.info.plural == plural
    }

    fn refused(&self, name: &str, why: &str) -> Failure {
        Failure::refused(self.info, name, why)
    }

    /// Asks the policies; gives what the asker should know. A change of a status leaves the rest.
    fn ask_policies(&self, new: Option<&Object>, dry_run: bool) -> Result<Vec<String>, Failure> {
        if !validating::concerns(self.view, self.info) {
            return Ok(Vec::new());
        }
        let as_status = self.live.zip(new).filter(|_| self.subresource == "status");
        let merged =
            as_status.and_then(|(live, new)| self.view.kinds().update_status(live, new).ok());
        let User { name, uid, groups, extra } = self.user;
        let write = Write {
            view: self.view,
            info: self.info,
            subresource: self.subresource,
            old: self.live,
            new: merged.as_ref().or(new),
            writer: Writer { name, uid, groups, extra },
            dry_run,
        };
        let key = new.or(self.live).map(Object::key);
        let name = key.map(|key| key.name.to_string()).unwrap_or_default();
        validating::judge(&write)
            .map_err(|denied| Failure::denied(self.info, &name, &denied.why, &denied.reason))
    }

    /// The same for rules that do not care who writes.
    fn of_anybody(&self) -> policy::Attempt<'a> {
        let Self { view, info, subresource, live, .. } = *self;
        policy::Attempt { view, info, subresource, live }
    }

    fn answer(&self, refused: &Refused) -> Failure {
        self.refused(&refused.name, &refused.why)
    }
}

/// Fills in what follows from State.
pub(super) fn mutate(attempt: &Attempt<'_>, value: &mut Value) -> Result<(), Failure> {
    if attempt.live.is_none() && attempt.is("certificates.k8s.io", "certificatesigningrequests") {
        certificate::asker(attempt.user, value);
    }
    policy::complete(&attempt.of_anybody(), value).map_err(|refused| attempt.answer(&refused))
}

/// Refuses what no rule lets through.
pub(super) fn validate(
    attempt: &Attempt<'_>,
    object: &Object,
    dry_run: bool,
) -> Result<Verdict, Failure> {
    // What of a pod changes while it runs counts as the pod.
    let running = matches!(attempt.subresource, "ephemeralcontainers" | "resize");
    if !attempt.subresource.is_empty() && !running {
        node::validate(attempt, object)?;
        certificate::validate(attempt, object)?;
        let warnings = match attempt.subresource {
            "status" => attempt.ask_policies(Some(object), dry_run)?,
            _ => Vec::new(),
        };
        return Ok(Verdict { warnings, ..Verdict::default() });
    }
    if attempt.live.is_none() {
        certificate::subject(attempt, object)?;
    }
    authz::may_grant(attempt.view, attempt.user, attempt.info, object)?;
    node::validate(attempt, object)?;
    let mut warnings = attempt.ask_policies(Some(object), dry_run)?;
    let mut ledger = Ledger::new(attempt.view);
    let told = policy::check(&attempt.of_anybody(), object, &mut ledger);
    warnings.extend(told.map_err(|refused| attempt.answer(&refused))?);
    Ok(Verdict { warnings, charges: ledger.charges() })
}

/// Refuses a deletion that a policy does not let through; gives what the asker should know.
pub(super) fn validate_deletion(
    attempt: &Attempt<'_>,
    dry_run: bool,
) -> Result<Vec<String>, Failure> {
    attempt.ask_policies(None, dry_run)
}
