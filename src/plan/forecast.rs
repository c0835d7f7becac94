//! Where the pods of a commit would run, were it admitted now: each workload's new pods placed on
//! the nodes as they are, without the pods that the commit takes away.
//!
//! It is the end of the rollout that is looked at, not the way there: a rolling update needs room
//! for its surge meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        batch::v1::Job,
        core::v1::{Namespace, Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{batch::controlled_by, bound, commit::newest_pods, offspring, pods};
use crate::{
    model::{Key, NodeName, Object, Timestamp},
    policy::Ledger,
    schedule::Cluster,
    state::{Desired, Ending, View},
};

/// Most new pods that are placed for one forecast: the rest is counted. Placing looks at every
/// node.
const PODS_MAX: usize = 1000;

/// What would become of the new pods of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// How many pods of a workload a node would get.
    pub placed: BTreeMap<(Key, NodeName), u64>,
    /// How many pods of a workload would not run, and why.
    pub unplaced: BTreeMap<(Key, String), u64>,
}

/// The new pods of one workload, and those of it that go.
struct Turnover {
    key: Key,
    new: usize,
    pod: Pod,
    gone: Vec<Key>,
}

/// Places the new pods of a commit that brings `wanted` and deletes `deletes`.
pub fn forecast(view: &View, wanted: &[Desired], deletes: &[Key], at: Timestamp) -> Forecast {
    let turnovers: Vec<Turnover> = wanted.iter().filter_map(|d| turnover(view, d)).collect();
    let pruned = deletes.iter().flat_map(|key| below(view, key));
    let gone: BTreeSet<Key> =
        turnovers.iter().flat_map(|t| t.gone.iter().cloned()).chain(pruned).collect();
    let leaving: Vec<Key> = deletes.iter().chain(&gone).cloned().collect();
    let future = bound::future(view, wanted, &leaving, at);
    let mut ledger = Ledger::new(&future);
    let mut cluster = Cluster::without(view, &gone);
    let mut forecast = Forecast::default();
    let mut left = PODS_MAX;
    for turnover in turnovers {
        let looked_at = turnover.new.min(left);
        left -= looked_at;
        for number in 0..looked_at {
            let pod = named(&turnover.pod, number);
            forecast.place(&future, &turnover.key, &pod, &mut cluster, &mut ledger);
        }
        let rest = turnover.new - looked_at;
        if rest > 0 {
            let why = format!("not looked at: a forecast places {PODS_MAX} pods at most");
            *forecast.unplaced.entry((turnover.key, why)).or_default() += rest as u64;
        }
    }
    forecast
}

impl Forecast {
    fn place(
        &mut self,
        view: &View,
        workload: &Key,
        pod: &Pod,
        cluster: &mut Cluster,
        ledger: &mut Ledger<'_>,
    ) {
        let placed = offspring::admitted(view, pod, ledger).map_err(|refused| refused.to_string());
        let placed = placed.and_then(|pod| match fixed_node(&pod) {
            Some(node) => Ok((node, pod)),
            None => cluster.place(&pod).map(|node| (node, pod)).map_err(|why| why.to_string()),
        });
        match placed {
            Ok((node, pod)) => {
                cluster.assume(&pod, &node);
                *self.placed.entry((workload.clone(), node)).or_default() += 1;
            }
            Err(why) => *self.unplaced.entry((workload.clone(), why)).or_default() += 1,
        }
    }
}

/// The node that a pod names itself.
fn fixed_node(pod: &Object) -> Option<NodeName> {
    pods::node(pod.view::<Pod>()?).map(NodeName::new)
}

/// What adopting an object would do to pods; `None` when nothing.
fn turnover(view: &View, desired: &Desired) -> Option<Turnover> {
    let key = desired.object.key().clone();
    let live = view.object(&key);
    let next = match live {
        Some(live) => match view.kinds().adopt(live, &desired.object) {
            Ok(next) => next,
            // It takes the place of the live one.
            Err(_) if key.is::<Job>() => desired.object.clone(),
            Err(_) => return None,
        },
        None => desired.object.clone(),
    };
    if live.is_some_and(|live| Ending::of(live).is_some() && live.uid() == next.uid()) {
        return None;
    }
    if let Some(pod) = next.view::<Pod>() {
        let pod = Pod { status: None, ..pod.clone() };
        return live.is_none().then(|| Turnover { key, new: 1, pod, gone: Vec::new() });
    }
    let (template, wanted) = asked(&next)?;
    let replaced = is_rolled(live, &next);
    let running = live.map(|live| newest_pods(view, live)).unwrap_or_default();
    let active =
        running.into_iter().filter(|o| o.view::<Pod>().is_some_and(|p| pods::is_active(o, p)));
    let active: Vec<Key> = active.map(|pod| pod.key().clone()).collect();
    let kept = if replaced { 0 } else { active.len().min(wanted) };
    let pod = pod_of(&template, &next);
    Some(Turnover { key, new: wanted - kept, pod, gone: active[kept..].to_vec() })
}

/// The template and the number of pods of a workload.
fn asked(workload: &Object) -> Option<(PodTemplateSpec, usize)> {
    if let Some(spec) = workload.view::<Job>().and_then(|job| job.spec.as_ref()) {
        let parallel = if spec.suspend == Some(true) { 0 } else { spec.parallelism.unwrap_or(1) };
        let number = spec.completions.map_or(parallel, |all| all.min(parallel));
        return Some((spec.template.clone(), usize::try_from(number).unwrap_or_default()));
    }
    let (template, replicas) = match (workload.view::<Deployment>(), workload.view::<ReplicaSet>())
    {
        (Some(deployment), _) => (Some(deployment.spec.template.clone()), deployment.spec.replicas),
        (_, Some(set)) => (set.spec.template.clone(), set.spec.replicas),
        _ => return None,
    };
    Some((template?, usize::try_from(replicas.unwrap_or(1)).unwrap_or_default()))
}

/// Whether every pod of a workload is made anew. A ReplicaSet keeps its pods, and so does a
/// Deployment that is paused.
fn is_rolled(live: Option<&Object>, next: &Object) -> bool {
    if next.key().is::<Job>() {
        return live.is_some_and(|live| live.uid() != next.uid());
    }
    let (Some(was), Some(is)) =
        (live.and_then(Object::view::<Deployment>), next.view::<Deployment>())
    else {
        return false;
    };
    is.spec.paused != Some(true) && was.spec.template != is.spec.template
}

fn pod_of(template: &PodTemplateSpec, owner: &Object) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    let mut controller = controlled_by(owner);
    if controller.uid.is_empty() {
        // Pods of one owner are spread, and one that does not exist yet is an owner as well.
        controller.uid = owner.key().to_string();
    }
    Pod {
        metadata: ObjectMeta {
            namespace: Some(owner.key().namespace.to_string()),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![controller]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        ..Pod::default()
    }
}

/// One of a workload's new pods. Its id is made of its name: the same commit gives the same
/// forecast.
fn named(pod: &Pod, number: usize) -> Pod {
    let mut pod = pod.clone();
    let owner =
        pod.metadata.owner_references.iter().flatten().next().map(|owner| owner.name.clone());
    if let Some(owner) = owner {
        pod.metadata.name = Some(format!("{owner}-{number}"));
    }
    let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
    let uid = format!("{}/{}", namespace.as_deref().unwrap_or(""), name.as_deref().unwrap_or(""));
    pod.metadata.uid = Some(uid);
    pod
}

/// The pods that go with an object.
fn below(view: &View, key: &Key) -> Vec<Key> {
    let all =
        |namespace: &str| view.list::<Pod>(Some(namespace)).map(|(o, _)| o.key().clone()).collect();
    match view.object(key) {
        Some(_) if key.is::<Namespace>() => all(&key.name),
        Some(object) => newest_pods(view, object).into_iter().map(|o| o.key().clone()).collect(),
        None => Vec::new(),
    }
}
