//! Whether a version's pods will not come up by themselves, so that its rollout need not wait for
//! its deadline.
//!
//! The rule: none of the version's pods is ready, and one of them has a container that was started
//! again [`RESTARTS_MAX`] times, whose image could not be pulled [`PULLS_MAX`] times, or that was
//! not made, for what its node knows to be wrong, within [`BLOCKED_SECONDS`] of having a node. Each
//! try is told by the pod's node, so a slow cluster only decides later.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

use super::{cause, pods};
use crate::{
    model::{Object, Timestamp},
    state::View,
};

/// After so many restarts a container is given up. They are 0, 10, 20 and 40 seconds apart at
/// least: what waits for a neighbour to come up has had more than a minute.
const RESTARTS_MAX: i32 = 4;

/// After so many pulls that failed an image is given up; they are as far apart.
const PULLS_MAX: i32 = 4;

/// How long what the container names (a key of a ConfigMap, say) may be missing: a commit brings
/// all of its objects at once, so only somebody else's can still come.
const BLOCKED_SECONDS: i64 = 60;

/// Why a container waits that no try will mend.
const BLOCKED: [&str; 3] = ["CreateContainerConfigError", "ErrImageNeverPull", "InvalidImageName"];

/// What is to be expected of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It may still come up; to be asked again at this time even if nothing changes.
    Open(Option<Timestamp>),
    /// It will not.
    Hopeless {
        /// One word of Kubernetes.
        reason: String,
        /// What was tried.
        text: String,
    },
}

/// Judges the pods of one version.
pub(super) fn outlook(view: &View, all: &[&Object], now: Timestamp) -> Outlook {
    let pods: Vec<(&Object, &Pod)> = all
        .iter()
        .filter_map(|o| Some((*o, o.view::<Pod>()?)))
        .filter(|(object, pod)| pods::is_active(object, pod))
        .collect();
    if pods.iter().any(|(_, pod)| pods::is_ready(pod)) {
        return Outlook::Open(None);
    }
    let mut again: Option<Timestamp> = None;
    for (object, pod) in pods {
        match of_pod(view, object, pod, now) {
            Outlook::Open(at) => again = again.into_iter().chain(at).min(),
            hopeless => return hopeless,
        }
    }
    Outlook::Open(again)
}

fn of_pod(view: &View, object: &Object, pod: &Pod, now: Timestamp) -> Outlook {
    let Some((reason, _)) = cause::of(pod) else { return Outlook::Open(None) };
    let hopeless = |text: String| Outlook::Hopeless { reason: reason.clone(), text };
    let restarts = containers(pod).filter(|c| !c.ready).map(|c| c.restart_count).max().unwrap_or(0);
    // How often a Job's containers may be restarted, its own limit says.
    let of_job = object.owners().iter().any(|o| o.kind == "Job");
    if reason == "CrashLoopBackOff" && restarts >= RESTARTS_MAX && !of_job {
        return hopeless(format!("given up after {restarts} restarts"));
    }
    if reason == "ImagePullBackOff" {
        let pulls = pulls(view, object);
        return match pulls >= PULLS_MAX {
            true => hopeless(format!("given up after {pulls} pulls")),
            false => Outlook::Open(None),
        };
    }
    let scheduled = pods::condition(pod, "PodScheduled").filter(|c| c.status == "True");
    let since = scheduled.and_then(|c| c.last_transition_time.as_ref()).map(Timestamp::from);
    match since.filter(|_| BLOCKED.contains(&reason.as_str())) {
        Some(since) if since.plus_seconds(BLOCKED_SECONDS) <= now => {
            hopeless(format!("given up after {BLOCKED_SECONDS} seconds"))
        }
        since => Outlook::Open(since.map(|since| since.plus_seconds(BLOCKED_SECONDS))),
    }
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_ref());
    let main = status.and_then(|s| s.container_statuses.as_ref());
    init.into_iter().chain(main).flatten()
}

/// How often the pull of an image failed, as the pod's node told it.
fn pulls(view: &View, pod: &Object) -> i32 {
    let failed = |event: &Event| {
        event.involved_object.uid.as_deref() == Some(pod.uid())
            && event.message.as_deref() == Some("Error: ErrImagePull")
    };
    let events = view.list::<Event>(Some(&pod.key().namespace));
    let counts = events.filter(|(_, e)| failed(e)).map(|(_, e)| e.count.unwrap_or(1));
    counts.max().unwrap_or(0)
}
