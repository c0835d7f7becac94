//! The write door: which way a write goes.
//!
//! What users want of the cluster stands in Git. So a write to something Git owns becomes a commit,
//! and so does what is made anew, unless the namespace says otherwise: `mainstay.io/writes: refuse`
//! answers with the place to edit, `direct` takes what Git does not own straight into the log, as
//! always what is made while the cluster runs. Autoscalers scale what Git leaves open, and nothing
//! else (docs/adr/0034-autoscalers.md); what Git only makes once is everybody's then.

use k8s_openapi::{
    Resource as _,
    api::{
        batch::v1::{CronJob, Job},
        core::v1::{Namespace, Pod},
    },
};

use crate::{
    api::Failure,
    kinds::{self, Apply, GitSource, KindInfo},
    model::{Key, Object, Seal},
    state::{MAIN_SOURCE, View},
};

/// The annotation, or label, by which a namespace says what becomes of writes in it.
const MARK: &str = "mainstay.io/writes";

/// What becomes of writes that no namespace decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// They become commits.
    #[default]
    Commit,
    /// They are refused with the advice to commit.
    Refuse,
    /// They are taken into the log, unless Git owns the object: then they become commits.
    Direct,
}

/// Which way a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight into the log.
    Log,
    /// Through the repository.
    Git,
}

/// What a write changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub(super) info: &'a KindInfo,
    pub(super) key: &'a Key,
    /// `status`, `scale`; empty for the object itself.
    pub(super) subresource: &'a str,
    /// The object as it is stored.
    pub(super) live: Option<&'a Object>,
    /// The object as it shall be; of a namespace, its own mark counts.
    pub(super) wanted: Option<&'a Object>,
    /// Who writes.
    pub(super) user: &'a str,
}

/// Says which way a write goes, or what to do instead.
pub(super) fn judge(view: &View, writes: Writes, change: &Change<'_>) -> Result<Way, Failure> {
    let refused = |why: String| Err(Failure::refused(change.info, &change.key.name, &why));
    if change.info.group == kinds::GROUP && !is_other_source(change.key) {
        return refused(
            "it tells what the cluster does, and only the cluster writes it".to_owned(),
        );
    }
    if let Some(why) = unit(view, change) {
        return refused(why);
    }
    if change.info.group == "apiregistration.k8s.io" {
        return refused(
            "every API of this cluster is answered by its own servers, and they list what they \
             serve; other servers cannot be added"
                .to_owned(),
        );
    }
    if let Some(why) = sealed(view, change) {
        return refused(why);
    }
    let runtime = change.info.runtime || change.key.is::<Pod>() && change.live.is_some();
    let status = matches!(change.subresource, "status" | "finalize");
    if runtime || status || change.live.and_then(Object::controller_uid).is_some() {
        return Ok(Way::Log);
    }
    if let Some(origin) = view.origin(change.key).filter(|_| is_autoscaler(change)) {
        return match origin.open {
            true => Ok(Way::Log),
            false => refused(format!(
                "{} says how many replicas it has: take `replicas` out of there to leave that to \
                 an autoscaler",
                origin.place()
            )),
        };
    }
    if is_made_once(view, change) || is_started_by_hand(view, change) {
        return Ok(Way::Log);
    }
    if let Some(origin) = view.origin(change.key).filter(|o| o.source != MAIN_SOURCE) {
        return refused(format!(
            "it comes from the source {}: change {}:{} in its repository",
            origin.source, origin.file, origin.line
        ));
    }
    let said = match namespace_of(view, change).and_then(mark) {
        None => writes,
        Some("commit") => Writes::Commit,
        Some("refuse") => Writes::Refuse,
        Some("direct") => Writes::Direct,
        Some(other) => {
            return refused(format!(
                "its namespace says {MARK}: {other}, which is neither commit nor direct nor refuse"
            ));
        }
    };
    let what = &change.info.singular;
    match (said, view.origin(change.key)) {
        (Writes::Refuse, Some(origin)) => refused(format!(
            "it comes from Git: edit {}:{} and commit, or take it out of there first",
            origin.file, origin.line
        )),
        (Writes::Refuse, None) => refused(format!(
            "the cluster takes what it runs from Git: commit a manifest of this {what}, or mark \
             the namespace with {MARK}: direct"
        )),
        (Writes::Direct, None) => Ok(Way::Log),
        (Writes::Commit | Writes::Direct, _) => Ok(Way::Git),
    }
}

/// Whether Git makes it once and leaves it to others then: a commit would change its file alone.
fn is_made_once(view: &View, change: &Change<'_>) -> bool {
    let is_left = |live: &Object| kinds::order(live).apply != Apply::Always;
    view.origin(change.key).is_some() && change.live.is_some_and(is_left)
}

/// Whether it is a run of a CronJob that somebody starts by hand (`kubectl create job --from`):
/// what it does is said already.
fn is_started_by_hand(view: &View, change: &Change<'_>) -> bool {
    let Some(wanted) = change.wanted.filter(|_| change.live.is_none()) else { return false };
    let controller = wanted.meta().owner_references.iter().flatten();
    let mut controller = controller.filter(|owner| owner.controller == Some(true));
    let named = controller.next().filter(|owner| owner.kind == CronJob::KIND);
    let cron = named.and_then(|owner| {
        let cron = view.object(&Key::of::<CronJob>(&change.key.namespace, &owner.name))?;
        (cron.uid() == owner.uid).then(|| cron.view::<CronJob>()).flatten()
    });
    let (Some(job), Some(cron)) = (wanted.view::<Job>(), cron) else { return false };
    kinds::is_run_of(job, cron)
}

/// Whether a program scales it, as autoscalers do every few seconds: that is no wish of a person,
/// and never a commit.
fn is_autoscaler(change: &Change<'_>) -> bool {
    change.subresource == "scale" && change.user.starts_with("system:serviceaccount:")
}

/// Whether it is a source that Git may name: any but the main one.
fn is_other_source(key: &Key) -> bool {
    key.is::<GitSource>() && key.name != MAIN_SOURCE
}

/// Why a unit of a source is not written: it is as its folder and its source say.
fn unit(view: &View, change: &Change<'_>) -> Option<String> {
    let source = |object: &'_ Object| object.view::<GitSource>().cloned();
    let live = change.live.and_then(source);
    if let Some((unit, parent)) = live.as_ref().and_then(|unit| Some((unit, unit.parent()?))) {
        let place = view.origin(&Key::of::<GitSource>("", parent)).map(|o| o.place().to_string());
        let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
        return Some(format!(
            "it is the unit of the source {parent} that the folder {} makes: change or remove that \
             folder, or change the source {parent}{place}",
            unit.spec.path
        ));
    }
    let wanted = change.wanted.and_then(source)?;
    wanted.parent().is_some().then(|| {
        "units of a source are made of its folders alone: take its ownerReferences away".to_owned()
    })
}

/// Why a write would break or forge a seal: what is sealed can only be changed by who can open the
/// file, and a seal that somebody brings along would open what was sealed for others.
fn sealed(view: &View, change: &Change<'_>) -> Option<String> {
    let is_sealed = |object: &&Object| object.annotation(Seal::NAME).is_some();
    if change.live.as_ref().is_some_and(is_sealed) {
        let place =
            view.origin(change.key).map(|origin| format!("{}:{}", origin.file, origin.line));
        return Some(format!(
            "it comes sealed from Git: edit {} with `sops`, or write it anew and seal it with \
             `mainstay seal`, and commit",
            place.unwrap_or_else(|| "its file".to_owned())
        ));
    }
    change.wanted.as_ref().is_some_and(is_sealed).then(|| {
        format!(
            "{} is written out of sealed files alone: seal the manifest with `mainstay seal` and \
             commit it",
            Seal::NAME
        )
    })
}

/// The namespace whose word counts: the one the object is in, or is.
fn namespace_of<'a>(view: &'a View, change: &Change<'a>) -> Option<&'a Object> {
    if change.key.is::<Namespace>() {
        return change.live.or(change.wanted);
    }
    view.object(&Key::of::<Namespace>("", &change.key.namespace))
}

fn mark(namespace: &Object) -> Option<&str> {
    let label = || namespace.meta().labels.as_ref()?.get(MARK).map(String::as_str);
    namespace.annotation(MARK).or_else(label)
}
