//! The only place that changes State: what commands do, with [`adopt`](super::adopt) for commits.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use serde_json::{Value, json};

use super::{
    allocate,
    command::{
        Adopt, Command, Entry, Expect, LOG_VERSION, NewEvent, Op, OutboxItem, Outcome, Part,
        Refusal,
    },
    event,
    index::{COOL_TOGETHER, WARM_CHANGES},
    view::{Change, Ending, HISTORY_MAX, View},
};
use crate::{
    kinds,
    model::{
        GroupKind, Key, NodeName, Object, Problem, RequestId, Revision, Timestamp, fnv1a,
        fnv1a_from, session::ObservedPod,
    },
};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Namespace, Node, Pod, Service},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};

/// How many applied request ids are remembered. A proposer retries for seconds, not for 16,384
/// proposals.
const REQUESTS_MAX: usize = 16_384;

/// State: the [`View`] and what only `apply` needs.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(super) view: View,
    /// Parts of commits that are not complete yet. At most one commit of each source at a time: a
    /// new first part drops older ones.
    pub(super) staged: Vec<Adopt>,
    pub(super) requests: OrdMap<RequestId, Vec<Outcome>>,
    pub(super) request_order: Vector<RequestId>,
    pub(super) outbox_next: u64,
    pub(super) cooled: Cooled,
}

/// Up to where what was decoded was dropped last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cooled {
    /// Of the objects of changes.
    changes: Revision,
    /// Of all objects.
    all: Revision,
}

impl Cooled {
    pub(super) fn at(revision: Revision) -> Self {
        Self { changes: revision, all: revision }
    }
}

/// Who replaces an object: its owner, who says all of it, or Git, which never says what runs
/// (owners, nodes).
#[derive(Clone, Copy)]
pub(super) enum Way {
    Owner,
    Git,
}

/// What a command sees of the entry it came in.
pub(super) struct Context {
    pub(super) at: Timestamp,
    id: RequestId,
    uids: u64,
}

impl Context {
    /// A new uid: the same on every replica, different for each object of each entry.
    fn uid(&mut self) -> String {
        self.uids += 1;
        let (high, low) = ((self.id.0 >> 64) as u64, self.id.0 as u64);
        let mix = |half: u64, salt: u64| {
            fnv1a_from(fnv1a(&half.to_be_bytes()), &(self.uids ^ salt).to_be_bytes())
        };
        let bits = u128::from(mix(high, 0)) << 64 | u128::from(mix(low, 1 << 63));
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
    }
}

impl State {
    /// The picture after the last entry.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// A State to try commands on, which is thrown away afterwards: what a dry run needs. It
    /// remembers no requests and no unfinished commits.
    pub fn trial(view: &View) -> Self {
        // Thrown away before it would be worth looking at every object to make it smaller.
        Self { view: view.clone(), cooled: Cooled::at(Revision(u64::MAX / 2)), ..Self::default() }
    }

    /// Applies one entry: every command in order, each whole or not at all.
    ///
    /// An entry whose id was applied before gives its old outcomes and changes nothing.
    pub fn apply(&mut self, entry: Entry) -> Vec<Outcome> {
        if entry.version > LOG_VERSION {
            let text = format!(
                "entry of log version {}, this server reads up to {LOG_VERSION}: update it",
                entry.version
            );
            return vec![Outcome::Refused(Refusal::Misplaced(text))];
        }
        if let Some(outcomes) = self.requests.get(&entry.id) {
            return outcomes.clone();
        }
        let mut context = Context { at: entry.at, id: entry.id, uids: 0 };
        self.view.applied_at = self.view.applied_at.max(entry.at);
        let commands = entry.commands.into_iter();
        let outcomes: Vec<_> = commands.map(|c| self.transact(c, &mut context)).collect();
        self.remember(entry.id, outcomes.clone());
        self.cool();
        outcomes
    }

    /// Drops what was decoded of changes that are a while ago, some at a time; and, whenever a
    /// while has passed, of all that somebody has read since.
    fn cool(&mut self) {
        let until = Revision(self.view.revision.0.saturating_sub(WARM_CHANGES));
        if until.0 >= self.cooled.changes.0 + COOL_TOGETHER {
            self.view.cool_changes(self.cooled.changes, until);
            self.cooled.changes = until;
        }
        if until.0 >= self.cooled.all.0 + WARM_CHANGES {
            self.view.cool_all(until);
            self.cooled.all = until;
        }
    }

    fn remember(&mut self, id: RequestId, outcomes: Vec<Outcome>) {
        self.requests.insert(id, outcomes);
        self.request_order.push_back(id);
        while self.request_order.len() > REQUESTS_MAX {
            if let Some(oldest) = self.request_order.pop_front() {
                self.requests.remove(&oldest);
            }
        }
    }

    /// Runs one command; a refused one leaves nothing behind.
    fn transact(&mut self, command: Command, context: &mut Context) -> Outcome {
        let (view, outbox_next) = (self.view.clone(), self.outbox_next);
        match self.run(command, context) {
            Ok(()) => Outcome::Done(self.view.revision),
            Err(refusal) => {
                self.view = view;
                self.outbox_next = outbox_next;
                Outcome::Refused(refusal)
            }
        }
    }

    fn run(&mut self, command: Command, context: &mut Context) -> Result<(), Refusal> {
        match command {
            Command::Configure(config) => match &self.view.config {
                Some(_) => Err(Refusal::Misplaced("the cluster is configured already".into())),
                None => {
                    self.view.config = Some(config.into());
                    Ok(())
                }
            },
            Command::Adopt(adopt) => self.adopt(*adopt, context),
            Command::Write(ops) => ops.into_iter().try_for_each(|op| self.write(op, context)),
            Command::Bind { pod, uid, node } => self.bind(&pod, &uid, &node, context),
            Command::Keep(keep) => self.keep(*keep, context),
            Command::Observe { node, pods } => {
                pods.into_iter().try_for_each(|pod| self.observe(&node, pod, context))
            }
            Command::ObserveNode { node, labels, status, pod_range } => {
                self.observe_node(&node, labels, status, &pod_range, context)
            }
            Command::Enqueue(item) => {
                self.enqueue(item);
                Ok(())
            }
            Command::Done(id) => {
                self.view.outbox.remove(&id);
                Ok(())
            }
            Command::Exported(revision) => {
                self.view.exported = self.view.exported.max(revision);
                Ok(())
            }
        }
    }

    /// Puts an item into the outbox unless the same one still waits there.
    ///
    /// A note that waits may be on its way with what there was to tell before: the new one takes
    /// its place, so that the answer for the old one does not take it out.
    fn enqueue(&mut self, item: OutboxItem) {
        let mut waiting = self.view.outbox.iter().filter(|(_, waiting)| **waiting == item);
        match waiting.next().map(|(id, _)| *id) {
            Some(id) if matches!(item, OutboxItem::Note(_)) => self.view.outbox.remove(&id),
            Some(_) => return,
            None => None,
        };
        self.outbox_next += 1;
        self.view.outbox.insert(self.outbox_next, item);
    }

    fn write(&mut self, op: Op, context: &mut Context) -> Result<(), Refusal> {
        match op {
            Op::Put { object, expect, part: Part::Main } => {
                self.put(object.key(), object.value(), expect, Way::Owner, context)?;
                self.settle_source(object.key());
                Ok(())
            }
            Op::Put { object, expect, part: Part::Status } => self.put_status(&object, expect),
            Op::Put { object, expect: expect @ Expect::At(_), part: Part::Whole } => {
                self.expected(object.key(), expect)?;
                self.finish(object.key(), object.value(), Way::Owner, context)?;
                self.settle_source(object.key());
                Ok(())
            }
            Op::Put { object, part: Part::Whole, .. } => {
                let text = "a whole object names the version it is made of";
                Err(Refusal::Misplaced(format!("{}: {text}", object.key())))
            }
            Op::Delete { key, uid, grace_seconds } => {
                self.delete(&key, &uid, grace_seconds, context.at)?;
                self.settle_source(&key);
                Ok(())
            }
            Op::Event(new) => self.event(&new, context),
        }
    }

    fn expected(&self, key: &Key, expect: Expect) -> Result<Option<Object>, Refusal> {
        let live = self.view.objects.get(key).cloned();
        match (expect, &live) {
            (Expect::Absent, Some(_)) => Err(Refusal::AlreadyExists(key.clone())),
            (Expect::At(_), None) => Err(Refusal::NotFound(key.clone())),
            (Expect::At(revision), Some(live)) if live.revision() != revision => {
                Err(Refusal::Conflict { key: key.clone(), found: live.revision() })
            }
            _ => Ok(live),
        }
    }

    /// Creates or replaces everything but status.
    pub(super) fn put(
        &mut self,
        key: &Key,
        wanted: Value,
        expect: Expect,
        way: Way,
        context: &mut Context,
    ) -> Result<(), Refusal> {
        let value = match self.expected(key, expect)? {
            None => {
                let mut value = self
                    .view
                    .kinds
                    .create_value(&key.kind, wanted)
                    .ok_or_else(|| shapeless(key))?;
                value["metadata"]["uid"] = context.uid().into();
                value["metadata"]["creationTimestamp"] = json!(context.at.to_time());
                if key.is::<Job>() {
                    value = kinds::with_own_selector(&parsed(&value, key)?).value();
                }
                value
            }
            Some(live) => {
                let object = parsed(&wanted, key)?;
                let updated = match way {
                    Way::Owner => self.view.kinds.update(&live, &object),
                    Way::Git => self.view.kinds.adopt(&live, &object),
                }
                .map_err(|errors| invalid(&errors))?;
                let mut value = updated.value();
                if key.is::<Namespace>() && live.is_terminating() {
                    // Only the namespace controller lets a namespace go, by writing it without
                    // finalizers.
                    carry(&mut value, &wanted, "spec");
                }
                if value == live.value() && !key.is::<CustomResourceDefinition>() {
                    return Ok(());
                }
                value
            }
        };
        self.finish(key, value, way, context)
    }

    /// Stores a merged object: with what only State can give, and not at all when it may go.
    fn finish(
        &mut self,
        key: &Key,
        mut value: Value,
        way: Way,
        context: &Context,
    ) -> Result<(), Refusal> {
        if key.is::<Service>() {
            allocate::service(&self.view, key, &mut value)?;
        } else if key.is::<Node>() {
            allocate::node(&self.view, &mut value)?;
        } else if key.is::<CustomResourceDefinition>() {
            let others = self.view.list::<CustomResourceDefinition>(None).map(|(_, other)| other);
            kinds::accept_names(&mut value, others, context.at);
            // Nothing but the names of another one may have changed.
            if self.view.objects.get(key).is_some_and(|live| live.value() == value) {
                return Ok(());
            }
        }
        if is_finished(&value) {
            self.remove(key);
            return Ok(());
        }
        self.store(value, way)
    }

    pub(super) fn put_status(&mut self, object: &Object, expect: Expect) -> Result<(), Refusal> {
        let key = object.key();
        let live = self.expected(key, expect)?.ok_or_else(|| Refusal::NotFound(key.clone()))?;
        let status = object.value().get("status").cloned().unwrap_or(Value::Null);
        self.set_status(&live, status)
    }

    /// Replaces an object's status; the same status again is no change.
    fn set_status(&mut self, live: &Object, status: Value) -> Result<(), Refusal> {
        let mut value = live.value();
        if value.get("status").unwrap_or(&Value::Null) == &status {
            return Ok(());
        }
        value["status"] = status;
        self.set(value)
    }

    /// Removes an object, or marks it as terminating when something still holds it: a node its pod,
    /// a finalizer anything. A second deletion may shorten the grace period and never lengthens it.
    pub(super) fn delete(
        &mut self,
        key: &Key,
        uid: &str,
        grace_seconds: Option<i64>,
        at: Timestamp,
    ) -> Result<(), Refusal> {
        let live = self.view.objects.get(key).filter(|o| uid.is_empty() || o.uid() == uid);
        let live = live.cloned().ok_or_else(|| Refusal::NotFound(key.clone()))?;
        let pod_grace = live.view::<Pod>().and_then(|pod| pod_grace(&self.view, pod));
        let grace = match (pod_grace, grace_seconds) {
            (Some(own), asked) => asked.unwrap_or(own).max(0),
            (None, _) => 0,
        };
        let is_definition = key.is::<CustomResourceDefinition>() && !live.is_terminating();
        if grace == 0 && !has_finalizers(&live.value()) && !is_definition {
            self.remove(key);
            return Ok(());
        }
        let deadline = at.plus_seconds(grace);
        let before = live.meta().deletion_timestamp.as_ref().map(Timestamp::from);
        if before.is_some_and(|before| before <= deadline) {
            return Ok(());
        }
        let mut value = live.value();
        let meta = &mut value["metadata"];
        if before.is_none()
            && let Some(generation) = live.meta().generation
        {
            meta["generation"] = (generation + 1).into();
        }
        meta["deletionTimestamp"] = json!(deadline.to_time());
        meta["deletionGracePeriodSeconds"] = grace.into();
        if key.kind == GroupKind::new("", "Namespace") {
            value["status"]["phase"] = "Terminating".into();
        }
        if is_definition {
            kinds::mark_for_cleanup(&mut value, at);
        }
        self.set(value)
    }

    /// A pod that waits for a node, for one that exists.
    pub(super) fn unbound(&self, key: &Key, uid: &str, node: &NodeName) -> Result<Object, Refusal> {
        let live = self.view.objects.get(key).filter(|o| o.uid() == uid).cloned();
        let live = live.ok_or_else(|| Refusal::NotFound(key.clone()))?;
        if !self.view.objects.contains_key(&Key::of::<Node>("", node.as_str())) {
            return Err(Refusal::NotFound(Key::of::<Node>("", node.as_str())));
        }
        let bound = |pod: &Pod| pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        if live.is_terminating() || live.view::<Pod>().is_none_or(bound) {
            let text = format!("{key} is bound already, terminating, or no pod");
            return Err(Refusal::Misplaced(text));
        }
        Ok(live)
    }

    fn bind(
        &mut self,
        key: &Key,
        uid: &str,
        node: &NodeName,
        context: &Context,
    ) -> Result<(), Refusal> {
        let mut value = self.unbound(key, uid, node)?.value();
        value["spec"]["nodeName"] = node.as_str().into();
        let condition = json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": context.at.to_time(),
        });
        let conditions = &mut value["status"]["conditions"];
        match conditions.as_array_mut() {
            Some(list) => {
                list.retain(|c| c["type"] != "PodScheduled");
                list.push(condition);
            }
            None => *conditions = json!([condition]),
        }
        self.set(value)
    }

    /// Takes over what an agent saw. Reports about another uid, another node's pod or a pod that
    /// has gone are late and ignored; a phase never moves back.
    fn observe(
        &mut self,
        node: &NodeName,
        seen: ObservedPod,
        context: &Context,
    ) -> Result<(), Refusal> {
        let live = self.view.objects.get(&seen.key).filter(|o| o.uid() == seen.uid).cloned();
        let Some((live, pod)) = live.as_ref().and_then(|o| Some((o, o.view::<Pod>()?))) else {
            return Ok(());
        };
        let on = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        if on != Some(node.as_str()) {
            return Ok(());
        }
        let gone = seen.gone && live.is_terminating();
        if gone && !has_finalizers(&live.value()) {
            self.remove(&seen.key);
            return Ok(());
        }
        let phase = |status: Option<&str>| match status {
            Some("Running") => 1,
            Some("Succeeded" | "Failed") => 2,
            _ => 0,
        };
        let before = phase(pod.status.as_ref().and_then(|s| s.phase.as_deref()));
        if phase(seen.status.phase.as_deref()) < before {
            return Ok(());
        }
        let mut status = serde_json::to_value(&*seen.status).unwrap_or_default();
        keep_scheduled(&mut status, &live.value(), context);
        self.set_status(live, status)?;
        if gone { self.let_go(&seen.key) } else { Ok(()) }
    }

    /// Notes that a pod's node is done with it: the last finalizer that is taken away ends it.
    fn let_go(&mut self, key: &Key) -> Result<(), Refusal> {
        let Some(live) = self.view.objects.get(key) else { return Ok(()) };
        let mut value = live.value();
        let grace = &mut value["metadata"]["deletionGracePeriodSeconds"];
        if *grace == 0 {
            return Ok(());
        }
        *grace = 0.into();
        self.set(value)
    }

    /// Takes over what an agent says of its node, and creates the Node when it is new.
    fn observe_node(
        &mut self,
        node: &NodeName,
        labels: crate::model::Labels,
        status: Value,
        pod_range: &str,
        context: &mut Context,
    ) -> Result<(), Refusal> {
        let key = Key::of::<Node>("", node.as_str());
        let Some(live) = self.view.objects.get(&key).cloned() else {
            let mut value = json!({
                "apiVersion": "v1", "kind": "Node", "spec": {}, "status": status,
                "metadata": { "name": node.as_str(), "labels": labels },
            });
            if self.view.is_free_pod_range(pod_range) {
                value["spec"]["podCIDR"] = pod_range.into();
            }
            return self.register_node(&parsed(&value, &key)?, context);
        };
        let mut value = live.value();
        for (name, label) in labels {
            value["metadata"]["labels"][name] = label.into();
        }
        value["status"] = status;
        if value == live.value() { Ok(()) } else { self.set(value) }
    }

    fn event(&mut self, new: &NewEvent, context: &mut Context) -> Result<(), Refusal> {
        let key = event::key(new);
        let value = event::count(self.view.objects.get(&key), new, context.at);
        match self.view.objects.contains_key(&key) {
            true => self.set(value),
            false => self.put(&key, value, Expect::Absent, Way::Owner, context),
        }
    }

    fn register_node(&mut self, node: &Object, context: &mut Context) -> Result<(), Refusal> {
        self.put(node.key(), node.value(), Expect::Absent, Way::Owner, context)?;
        self.put_status(node, Expect::Any)
    }

    /// Stores an object that its owner says.
    pub(super) fn set(&mut self, value: Value) -> Result<(), Refusal> {
        self.store(value, Way::Owner)
    }

    /// Stores one object at the next revision; the only place where one enters State. What its
    /// owner changes is read at once by whoever follows it; a commit may bring more than anybody
    /// reads soon.
    fn store(&mut self, mut value: Value, way: Way) -> Result<(), Refusal> {
        let revision = self.view.revision.next();
        value["metadata"]["resourceVersion"] = revision.to_string().into();
        let object = Object::from_value(&value).map_err(|e| Refusal::Misplaced(e.to_string()))?;
        if !self.view.kinds.decodes(&object, &value) {
            return Err(shapeless(object.key()));
        }
        let old = self.unindex(object.key());
        self.view.index(&object);
        let object = match way {
            Way::Owner => object.trimmed(),
            Way::Git => object.lean(),
        };
        self.view.objects.insert(object.key().clone(), object.clone());
        self.note(object.key().clone(), old, Some(object), revision);
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(live) = self.view.objects.get(key) {
            let ending = Ending::of(live);
            // Of a hook that is not to run again it is known already.
            if let Some(origin) = self.view.origins.get_mut(key).filter(|o| o.ended.is_none()) {
                Arc::make_mut(origin).ended = ending;
            }
            let old = self.unindex(key);
            self.view.objects.remove(key);
            self.note(key.clone(), old, None, self.view.revision.next());
        }
    }

    /// Takes the stored object of a key out of every index.
    fn unindex(&mut self, key: &Key) -> Option<Object> {
        let old = self.view.objects.get(key).cloned();
        old.iter().for_each(|old| self.view.forget(old));
        old
    }

    /// Remembers a change that was made.
    fn note(&mut self, key: Key, old: Option<Object>, new: Option<Object>, revision: Revision) {
        let view = &mut self.view;
        view.revision = revision;
        view.note_drift(&key);
        view.history.push_back(Change { revision, key, old, new });
        while view.history.len() > HISTORY_MAX {
            view.history.pop_front();
        }
    }
}

pub(super) fn node_of(pod: &Pod) -> Option<NodeName> {
    pod.spec.as_ref()?.node_name.as_deref().map(NodeName::new)
}

fn invalid(errors: &[kinds::FieldError]) -> Refusal {
    let problem = |e: &kinds::FieldError| Problem {
        field: e.field.clone(),
        message: e.detail.clone(),
        ..Problem::default()
    };
    Refusal::Invalid { problems: errors.iter().map(problem).collect() }
}

/// Gives `to` the field as `from` has it, present or absent.
fn carry(to: &mut Value, from: &Value, field: &str) {
    match (from.get(field), to.as_object_mut()) {
        (Some(kept), Some(to)) => {
            to.insert(field.to_owned(), kept.clone());
        }
        (None, Some(to)) => {
            to.remove(field);
        }
        (_, None) => {}
    }
}

/// Whether a terminating object has nothing left that holds it. Pods on a node are held by their
/// node until it says that they are gone, or until they were given no time to go.
fn is_finished(value: &Value) -> bool {
    let meta = &value["metadata"];
    let terminating = !meta["deletionTimestamp"].is_null();
    let in_time = meta["deletionGracePeriodSeconds"] != 0;
    let held = value["kind"] == "Pod" && !value["spec"]["nodeName"].is_null() && in_time;
    terminating && !held && !has_finalizers(value)
}

pub(super) fn has_finalizers(value: &Value) -> bool {
    let any = |list: &Value| list.as_array().is_some_and(|l| !l.is_empty());
    let namespace = value["kind"] == "Namespace" && any(&value["spec"]["finalizers"]);
    namespace || any(&value["metadata"]["finalizers"])
}

/// The seconds a pod gets to stop; `None` when no node holds it.
fn pod_grace(view: &View, pod: &Pod) -> Option<i64> {
    let node = node_of(pod)?;
    view.object(&Key::of::<Node>("", node.as_str()))?;
    Some(pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30))
}

/// The agent does not know when its pod was scheduled nor why it is evicted; those conditions stay
/// as they are.
pub(super) fn keep_scheduled(status: &mut Value, live: &Value, context: &Context) {
    let ours = |c: &Value| c["type"] == "PodScheduled" || c["type"] == "DisruptionTarget";
    let conditions = live["status"]["conditions"].as_array().into_iter().flatten();
    let mut kept: Vec<Value> = conditions.filter(|c| ours(c)).cloned().collect();
    if !kept.iter().any(|c| c["type"] == "PodScheduled") {
        kept.push(json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": context.at.to_time(),
        }));
    }
    match status["conditions"].as_array_mut() {
        Some(list) => {
            list.retain(|c| !ours(c));
            list.extend(kept);
        }
        None => status["conditions"] = kept.into(),
    }
}

fn parsed(value: &Value, key: &Key) -> Result<Object, Refusal> {
    Object::from_value(value).map_err(|e| Refusal::Misplaced(format!("{key}: {e}")))
}

fn shapeless(key: &Key) -> Refusal {
    Refusal::Misplaced(format!("{key} does not decode as its kind"))
}
