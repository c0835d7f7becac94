//! Deployments: rollouts over ReplicaSets, step by step as Kubernetes takes them.
//!
//! One plan is one step (scale up, or scale down, or clean up) and the status after it; the change
//! it makes asks for the next. Source:
//! kubernetes.io/docs/concepts/workloads/controllers/deployment.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec},
        core::v1::{Namespace, Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Controller, Inputs, Plan,
    batch::{Batch, controlled_by},
    deployment_status as status,
    order::{self, WAITING},
    owners, pods,
    rollout::{self, Limits, Part, Share},
    survivors::Survivors,
};
use crate::{
    kinds,
    model::{GroupKind, Key, Object, Selector, Timestamp},
    state::{Change, View},
};

pub(super) const NAME: &str = "deployment-controller";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";
/// Most bytes of `revision-history`, as Kubernetes keeps; the oldest revisions are dropped.
const REVISION_HISTORY_BYTES_MAX: usize = 2000;
/// Annotations of a Deployment that its ReplicaSets do not take over.
const NOT_COPIED: [&str; 6] = [
    kinds::LAST_APPLIED,
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MOST,
    "deprecated.deployment.rollback.to",
];
/// What distinguishes the pods of one ReplicaSet.
const HASH: &str = "pod-template-hash";

/// Rolls every Deployment out.
pub(super) const CONTROLLER: Controller = Controller { name: NAME, affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<Deployment>(), None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let mut found = touched(change, view);
    found.extend(order::waiters(change, view).into_iter().filter(|key| key.is::<Deployment>()));
    found
}

fn touched(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<Deployment>() {
        return super::still(&change.key, view);
    }
    if change.key.is::<Namespace>() && super::is_new(change) {
        let kind = GroupKind::of::<Deployment>();
        return view.of_kind(&kind, Some(&change.key.name)).map(|o| o.key().clone()).collect();
    }
    let versions = [&change.old, &change.new].into_iter().flatten();
    if change.key.is::<ReplicaSet>() {
        return versions.flat_map(|set| owners_of(set, view)).collect();
    }
    if change.key.is::<Pod>() {
        // Recreate waits for the last old pod.
        let sets = versions.filter_map(|pod| owner_of::<ReplicaSet>(pod, view));
        return sets.filter_map(|set| owner_of::<Deployment>(set, view)).map(of_key).collect();
    }
    BTreeSet::new()
}

fn of_key(object: &Object) -> Key {
    object.key().clone()
}

fn owner_of<'a, T: k8s_openapi::Resource>(object: &Object, view: &'a View) -> Option<&'a Object> {
    let owner = object.controller().filter(|owner| owner.kind == GroupKind::of::<T>())?;
    view.object(&Key::of::<T>(&object.key().namespace, &owner.name))
}

/// The Deployment that controls a ReplicaSet, or those that would adopt it.
fn owners_of(set: &Object, view: &View) -> Vec<Key> {
    if set.controller_uid().is_some() {
        return owner_of::<Deployment>(set, view).map(of_key).into_iter().collect();
    }
    let labels = set.meta().labels.as_ref();
    let names = |d: &Deployment| {
        Selector::from_label_selector(&d.spec.selector).is_ok_and(|s| s.matches(labels))
    };
    let deployments = view.list::<Deployment>(Some(&set.key().namespace));
    deployments.filter(|(_, d)| names(d)).map(|(object, _)| of_key(object)).collect()
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key) else { return Plan::default() };
    let Some(deployment) = object.view::<Deployment>() else { return Plan::default() };
    if object.is_terminating() || owners::is_closing(view, &key.namespace) {
        return Plan::default();
    }
    let mut rollout = Rollout::new(view, object, deployment, inputs.now);
    let held = rollout.held().filter(|_| !rollout.goes_on(inputs.survivors));
    let progress = match &held {
        Some(_) => Progress::Ignored,
        None => rollout.step(),
    };
    if status::note_wait(&mut rollout, held.as_deref())
        && let Some(why) = held
    {
        rollout.batch.event(object, NAME, WAITING, why);
    }
    rollout.finish(progress)
}

/// One ReplicaSet of the Deployment.
pub(super) struct Set<'a> {
    /// As it is stored; `None` when this step makes it.
    object: Option<&'a Object>,
    pub(super) typed: ReplicaSet,
    changed: bool,
}

impl Set<'_> {
    pub(super) fn name(&self) -> &str {
        self.typed.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn size(&self) -> i32 {
        self.typed.spec.replicas.unwrap_or(1)
    }

    pub(super) fn counts(&self) -> k8s_openapi::api::apps::v1::ReplicaSetStatus {
        self.typed.status.clone().unwrap_or_default()
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.typed.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<i32> {
        self.annotation(name)?.parse().ok()
    }

    fn revision(&self) -> i64 {
        self.annotation(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
    }

    fn born(&self) -> Timestamp {
        self.typed.metadata.creation_timestamp.as_ref().map_or(Timestamp(i64::MAX), Timestamp::from)
    }

    fn annotate(&mut self, name: &str, value: &str) {
        let annotations = self.typed.metadata.annotations.get_or_insert_default();
        if annotations.get(name).map(String::as_str) != Some(value) {
            annotations.insert(name.to_owned(), value.to_owned());
            self.changed = true;
        }
    }
}

/// Whether the status of this step looks at progress and its deadline, as Kubernetes does in
/// rollouts only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Watched,
    Ignored,
}

/// One step of one Deployment.
pub(super) struct Rollout<'a> {
    view: &'a View,
    object: &'a Object,
    pub(super) deployment: Deployment,
    pub(super) status: DeploymentStatus,
    /// Every ReplicaSet of the Deployment, oldest first.
    pub(super) sets: Vec<Set<'a>>,
    /// Which of them has the Deployment's template.
    pub(super) new: Option<usize>,
    pub(super) limits: Limits,
    pub(super) now: Timestamp,
    batch: Batch,
}

impl<'a> Rollout<'a> {
    fn new(view: &'a View, object: &'a Object, deployment: &Deployment, now: Timestamp) -> Self {
        let mut batch = Batch::default();
        let spec = &deployment.spec;
        let claimed = owners::claim::<ReplicaSet>(view, object, &spec.selector, &mut batch);
        let set = |(object, typed)| Set { object: Some(object), typed, changed: false };
        let mut sets: Vec<Set<'_>> = claimed.into_iter().map(set).collect();
        sets.sort_by(|a, b| (a.born(), a.name()).cmp(&(b.born(), b.name())));
        let new = sets.iter().position(|s| same_template(&s.typed, &spec.template));
        let status = deployment.status.clone().unwrap_or_default();
        let (limits, deployment) = (limits(spec), deployment.clone());
        Self { view, object, deployment, status, sets, new, limits, now, batch }
    }

    pub(super) fn desired(&self) -> i32 {
        self.deployment.spec.replicas.unwrap_or(1)
    }

    fn is_recreate(&self) -> bool {
        is_recreate(&self.deployment.spec)
    }

    fn is_paused(&self) -> bool {
        self.deployment.spec.paused == Some(true)
    }

    /// Indexes of the old ReplicaSets, oldest first.
    fn old(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|i| Some(*i) != self.new).collect()
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(Set::size).sum()
    }

    /// Why the rollout may not start; `None` when it may or has.
    fn held(&self) -> Option<String> {
        let started = self.new.is_some_and(|new| self.sets[new].size() > 0);
        match started {
            true => order::hold_back(self.view, self.object),
            false => order::hold(self.view, self.object),
        }
    }

    /// Whether pods of the template still run that a cluster before this one started: they go on,
    /// whatever is to come first where they start.
    fn goes_on(&self, survivors: &Survivors) -> bool {
        let collisions = self.status.collision_count.unwrap_or(0);
        let hash = kinds::template_hash(&self.deployment.spec.template, collisions);
        let Key { namespace, name, .. } = self.object.key();
        let set = Key::of::<ReplicaSet>(namespace, &format!("{name}-{hash}"));
        survivors.of_set(self.view, &set) > 0
    }

    /// What Kubernetes' `syncDeployment` does in one pass.
    ///
    /// But for one case, in which Kubernetes stands still: a Deployment that became `Recreate` and
    /// got another number in the middle of a rolling update. Its ReplicaSets are not scaled in
    /// proportion then, and as long as they carry the old number nothing else is done with them.
    /// Here the old ones go, as of any `Recreate`.
    fn step(&mut self) -> Progress {
        status::note_pause(self);
        let mixed = self.is_recreate() && self.sets.iter().filter(|s| s.size() > 0).count() > 1;
        if self.is_paused() || self.is_scaled() && !mixed {
            self.sync_revision(false);
            self.scale_all();
            if self.is_paused() {
                self.clean_up();
            }
            return Progress::Ignored;
        }
        if self.is_recreate() {
            self.recreate()
        } else {
            self.roll()
        }
        Progress::Watched
    }

    /// Whether the desired number changed since the ReplicaSets were sized.
    fn is_scaled(&self) -> bool {
        let active = self.sets.iter().filter(|s| s.size() > 0);
        active.filter_map(|s| s.number(DESIRED)).any(|desired| desired != self.desired())
    }

    fn roll(&mut self) {
        self.sync_revision(true);
        let Some(new) = self.new else { return };
        let size =
            rollout::new_size(self.desired(), self.limits, self.sets[new].size(), self.total());
        if self.resize(new, size) {
            return;
        }
        let (old, shares): (Vec<usize>, Vec<Share>) =
            self.old().into_iter().map(|i| (i, self.share(&self.sets[i]))).unzip();
        let sizes =
            rollout::old_sizes(self.desired(), self.limits, self.share(&self.sets[new]), &shares);
        let mut scaled = false;
        for (i, size) in old.into_iter().zip(sizes) {
            scaled |= self.resize(i, size);
        }
        if !scaled && status::is_complete(self, &self.status) {
            self.clean_up();
        }
    }

    fn recreate(&mut self) {
        self.sync_revision(false);
        let mut scaled = false;
        for i in self.old() {
            scaled |= self.resize(i, 0);
        }
        if scaled || self.old_pods_remain() {
            return;
        }
        self.sync_revision(true);
        let Some(new) = self.new else { return };
        self.resize(new, self.desired());
        if status::is_complete(self, &self.status) {
            self.clean_up();
        }
    }

    /// Whether a pod of an old ReplicaSet may still run, terminating ones included.
    fn old_pods_remain(&self) -> bool {
        let old = self.old();
        let counted = old.iter().any(|i| self.sets[*i].counts().replicas > 0);
        let uids = old.iter().filter_map(|i| self.sets[*i].object).map(Object::uid);
        let mut pods = uids.flat_map(|uid| self.view.owned_by(uid));
        counted || pods.any(|o| o.view::<Pod>().is_some_and(|pod| !pods::is_over(pod)))
    }

    /// The numbers of a ReplicaSet. Its status may be older than its size and its pods, so the
    /// least of the three counts: nothing is taken away on the word of an old status.
    fn share(&self, set: &Set<'_>) -> Share {
        let uid = set.object.map(Object::uid).unwrap_or_default();
        let ready = |o: &&Object| {
            o.view::<Pod>().is_some_and(|p| pods::is_active(o, p) && pods::is_ready(p))
        };
        let ready = self.view.owned_by(uid).filter(ready).count();
        let ready = if uid.is_empty() { 0 } else { i32::try_from(ready).unwrap_or(i32::MAX) };
        let available = set.counts().available_replicas.unwrap_or(0);
        Share { size: set.size(), available: available.min(set.size()).min(ready) }
    }

    /// Gives the ReplicaSet of the current template its revision and annotations, and makes it when
    /// asked to.
    fn sync_revision(&mut self, create: bool) {
        let newest = self.old().iter().map(|i| self.sets[*i].revision()).max().unwrap_or(0);
        match self.new {
            Some(new) => {
                self.annotate_new(new, newest + 1);
                let min_ready = self.deployment.spec.min_ready_seconds;
                let set = &mut self.sets[new];
                if set.typed.spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
                    set.typed.spec.min_ready_seconds = min_ready;
                    set.changed = true;
                }
                let name = set.name().to_owned();
                status::note_found(self, &name);
            }
            None if create => self.create(newest + 1),
            None => return,
        }
        if let Some(new) = self.new {
            let revision = self.sets[new].revision().to_string();
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(REVISION.to_owned(), revision);
        }
    }

    /// The Deployment's annotations and the revision, which only grows.
    fn annotate_new(&mut self, new: usize, revision: i64) {
        let copied = copied_annotations(&self.deployment);
        let set = &mut self.sets[new];
        for (name, value) in copied {
            set.annotate(&name, &value);
        }
        let before = set.revision();
        if before >= revision {
            return;
        }
        if before > 0 {
            let history = set.annotation(REVISION_HISTORY).map(str::to_owned);
            set.annotate(REVISION_HISTORY, &remember(history, before));
        }
        set.annotate(REVISION, &revision.to_string());
    }

    fn create(&mut self, revision: i64) {
        let collisions = self.status.collision_count.unwrap_or(0);
        let hash = kinds::template_hash(&self.deployment.spec.template, collisions);
        let name = format!("{}-{hash}", self.object.key().name);
        if self.view.object(&Key::of::<ReplicaSet>(&self.object.key().namespace, &name)).is_some() {
            // Another template has the same hash: the next step tries another name.
            self.status.collision_count = Some(collisions + 1);
            return;
        }
        let size = match self.is_recreate() {
            true => self.desired(),
            false => rollout::new_size(self.desired(), self.limits, 0, self.total()),
        };
        let mut typed = self.replica_set(&name, &hash, size);
        let annotations = typed.metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION.to_owned(), revision.to_string());
        annotations.insert(DESIRED.to_owned(), self.desired().to_string());
        annotations.insert(MOST.to_owned(), (self.desired() + self.limits.max_surge).to_string());
        if size > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {size}");
            self.batch.event(self.object, NAME, "ScalingReplicaSet", message);
        }
        self.new = Some(self.sets.len());
        self.sets.push(Set { object: None, typed, changed: true });
        status::note_created(self, &name);
    }

    fn replica_set(&self, name: &str, hash: &str, size: i32) -> ReplicaSet {
        let spec = &self.deployment.spec;
        let hashed = |labels: Option<BTreeMap<String, String>>| {
            let mut labels = labels.unwrap_or_default();
            labels.insert(HASH.to_owned(), hash.to_owned());
            Some(labels)
        };
        let mut template = spec.template.clone();
        let meta = template.metadata.get_or_insert_default();
        meta.labels = hashed(meta.labels.take());
        let mut selector = spec.selector.clone();
        selector.match_labels = hashed(selector.match_labels.take());
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: template.metadata.as_ref().and_then(|m| m.labels.clone()),
                annotations: Some(copied_annotations(&self.deployment)),
                owner_references: Some(vec![controlled_by(self.object)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(size),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        }
    }

    /// Sizes one ReplicaSet; says whether that changed its number.
    fn resize(&mut self, index: usize, size: i32) -> bool {
        let (desired, most) = (self.desired(), self.desired() + self.limits.max_surge);
        let set = &mut self.sets[index];
        let before = set.size();
        if before > 0 || size > 0 {
            set.annotate(DESIRED, &desired.to_string());
            set.annotate(MOST, &most.to_string());
        }
        if before != size {
            set.typed.spec.replicas = Some(size);
            set.changed = true;
            let (name, way) = (set.name(), if size > before { "up" } else { "down" });
            let message = format!("Scaled {way} replica set {name} from {before} to {size}");
            self.batch.event(self.object, NAME, "ScalingReplicaSet", message);
        }
        before != size
    }

    /// Brings a new desired number to the ReplicaSets: to the only active one, or in proportion to
    /// several.
    fn scale_all(&mut self) {
        let active: Vec<usize> =
            (0..self.sets.len()).filter(|i| self.sets[*i].size() > 0).collect();
        let newest_old = self.old().last().copied();
        match (active.as_slice(), self.new.or(newest_old)) {
            ([], None) => {}
            ([], Some(only)) | (&[only], _) => {
                self.resize(only, self.desired());
            }
            _ if self.is_saturated() => {
                self.old().into_iter().for_each(|i| {
                    self.resize(i, 0);
                });
            }
            _ if !self.is_recreate() => self.scale_in_proportion(active),
            _ => {}
        }
    }

    fn is_saturated(&self) -> bool {
        self.new.map(|i| &self.sets[i]).is_some_and(|new| {
            let desired = Some(self.desired());
            new.number(DESIRED) == desired
                && Some(new.size()) == desired
                && new.counts().available_replicas.unwrap_or(0) == self.desired()
        })
    }

    fn scale_in_proportion(&mut self, mut active: Vec<usize>) {
        let most = self.desired() + self.limits.max_surge;
        let grows = self.total() < if self.desired() > 0 { most } else { 0 };
        // Indexes are ages: on a tie the newer one grows first and the older one shrinks first.
        active.sort_by_key(|i| {
            let age = i64::try_from(*i).unwrap_or(i64::MAX);
            (Reverse(self.sets[*i].size()), if grows { -age } else { age })
        });
        let part = |i: &usize| {
            let set = &self.sets[*i];
            let before = set.number(MOST).filter(|n| *n != 0);
            let most_before = before.or(self.status.replicas).unwrap_or(0);
            Part { size: set.size(), most_before }
        };
        let parts: Vec<Part> = active.iter().map(part).collect();
        let sizes = rollout::proportional(self.desired(), self.limits, &parts);
        for (i, size) in active.into_iter().zip(sizes) {
            self.resize(i, size);
        }
    }

    /// Deletes the oldest revisions beyond the limit, as far as nothing of them is left.
    fn clean_up(&mut self) {
        let limit = self.deployment.spec.revision_history_limit.unwrap_or(10);
        let old = self.old();
        let mut kept: Vec<&Set<'_>> = old.iter().map(|i| &self.sets[*i]).collect();
        kept.retain(|s| s.object.is_some_and(|o| !o.is_terminating()));
        let surplus = kept.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        kept.sort_by_key(|s| (s.revision(), s.born()));
        for set in kept.into_iter().take(surplus) {
            let counts = set.counts();
            let observed = set.typed.metadata.generation <= counts.observed_generation;
            if let (0, 0, true, Some(object)) = (counts.replicas, set.size(), observed, set.object)
            {
                self.batch.delete(object);
            }
        }
    }

    /// What changed, as one command.
    fn finish(mut self, progress: Progress) -> Plan {
        for set in self.sets.iter().filter(|s| s.changed) {
            match set.object {
                Some(live) => self.batch.update(live, &set.typed),
                None => self.batch.create(&set.typed),
            }
        }
        let wake_at = status::settle(&mut self, progress);
        let live = self.object.view::<Deployment>();
        if live.is_none_or(|live| live.metadata != self.deployment.metadata) {
            self.batch.update(self.object, &self.deployment);
        }
        if live.and_then(|live| live.status.as_ref()) != Some(&self.status) {
            self.deployment.status = Some(self.status);
            self.batch.status(self.object, &self.deployment);
        }
        self.batch.into_plan(wake_at)
    }
}

fn is_recreate(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

fn limits(spec: &DeploymentSpec) -> Limits {
    if is_recreate(spec) {
        return Limits::NONE;
    }
    let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    let surge = rolling.and_then(|r| r.max_surge.as_ref());
    let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
    Limits::resolve(spec.replicas.unwrap_or(1), surge, unavailable)
}

/// Whether a ReplicaSet has this template, its hash label aside.
fn same_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let without_hash = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
            labels.remove(HASH);
        }
        template
    };
    set.spec.template.as_ref().is_some_and(|own| without_hash(own) == without_hash(template))
}

fn copied_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let all = deployment.metadata.annotations.iter().flatten();
    // Where a Deployment stands in Git says nothing of its ReplicaSets and changes with every
    // commit of its file.
    let copied = |name: &str| !NOT_COPIED.contains(&name) && !name.starts_with("mainstay.io/");
    all.filter(|(n, _)| copied(n)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// Adds a revision to the comma-separated history, dropping the oldest beyond the bound.
fn remember(history: Option<String>, revision: i64) -> String {
    let history = history.filter(|h| !h.is_empty());
    let mut all = history.map_or_else(|| revision.to_string(), |h| format!("{h},{revision}"));
    while all.len() > REVISION_HISTORY_BYTES_MAX {
        match all.split_once(',') {
            Some((_, rest)) => all = rest.to_owned(),
            None => break,
        }
    }
    all
}
