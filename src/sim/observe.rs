//! What an entry changed, as lines of the story.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::{Namespace, Node, Pod},
    discovery::v1::EndpointSlice,
};

use super::world::World;
use crate::{
    kinds::{Commit, CommitState, GitSource},
    model::{Key, Object},
    report,
    state::{Change, Command, Ending, Outcome, View},
};

impl World {
    /// Tells what one entry did to State.
    pub(super) fn observe(
        &mut self,
        before: &View,
        after: &View,
        _commands: &[Command],
        _outcomes: &[Outcome],
    ) {
        let Some(changes) = after.changes_since(before.revision()) else { return };
        let changes: Vec<&Change> = changes.collect();
        for change in &changes {
            self.give_names(after, change);
        }
        let head = |view: &View| view.head().map(|h| h.commit.clone());
        if head(before) != head(after) {
            self.tell_adopted(before, after, &changes);
        }
        for change in changes {
            let (old, new) = (change.old.as_ref(), change.new.as_ref());
            let key = &change.key;
            if key.is::<Pod>() {
                self.tell_pod(old, new);
            } else if key.is::<ReplicaSet>() {
                self.tell_set(old, new);
            } else if key.is::<Job>() {
                self.tell_job(old, new);
            } else if key.is::<Commit>() {
                self.tell_commit(old, new);
            } else if key.is::<Node>() {
                self.tell_node(old, new);
            } else if key.is::<EndpointSlice>() {
                self.tell_endpoints(old, new);
            } else if key.is::<GitSource>() {
                self.tell_source(old, new);
            } else if key.is::<Namespace>() {
                self.tell_namespace(old, new);
            }
        }
    }

    fn give_names(&mut self, view: &View, change: &Change) {
        let (None, Some(new)) = (&change.old, &change.new) else { return };
        let Some(owner) = owner(new) else { return };
        let names = &mut self.story.names;
        let name = &change.key.name;
        if change.key.is::<ReplicaSet>() {
            names.number(name, owner, "@");
        } else if change.key.is::<Job>() {
            names.number(name, owner, "-");
        } else if change.key.is::<Pod>() {
            let set = view.object(&Key::of::<ReplicaSet>(&change.key.namespace, owner));
            let stem = names.of(set.and_then(self::owner).unwrap_or(owner));
            let short = names.number(name, &stem, "-");
            names.give(new.uid(), &format!("uid of {short}"));
        } else if change.key.is::<EndpointSlice>() {
            names.give(name, &format!("{owner}-endpoints"));
        }
    }

    fn tell_adopted(&mut self, before: &View, after: &View, changes: &[&Change]) {
        let Some(head) = after.head() else { return };
        let mut parts: Vec<String> = Vec::new();
        for change in changes.iter().filter(|c| !c.key.is::<Commit>()) {
            let owned = |view: &View| view.origin(&change.key).is_some();
            let sign = match (owned(before), owned(after)) {
                (false, true) => "+",
                (true, false) => "-",
                (true, true) => "~",
                (false, false) => continue,
            };
            let text = format!("{sign}{}", called(&change.key));
            let detail = change.new.as_ref().filter(|_| sign != "-").and_then(detail);
            let text = text + &detail.unwrap_or_default();
            // What takes the place of another is two changes.
            if !parts.contains(&text) {
                parts.push(text);
            }
        }
        if parts.is_empty() {
            parts.push("changes nothing".to_owned());
        }
        let text = format!("{}: {}", head.commit.short(), parts.join(" "));
        self.story.tell(self.now, "adopt", &text);
    }

    fn tell_pod(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let now = self.now;
        let Some(object) = new.or(old) else { return };
        let name = pod_name(object);
        let Some(new) = new else {
            self.story.tell(now, "gone", &name);
            return;
        };
        let told = told_of(new);
        let was = old.map(told_of).unwrap_or_default();
        if let (None, Some(node)) = (old, self.ran_on.get(new.uid())) {
            self.story.tell(now, "keep", &format!("{name} on {node}"));
            return;
        }
        if old.is_none() {
            self.story.tell(now, "create", &name);
        }
        if let Some(node) = told.node.filter(|_| was.node.is_none()) {
            self.story.tell(now, "bind", &format!("{name} → {node}"));
        }
        if told.pending != was.pending
            && let Some(message) = told.pending
        {
            self.story.tell(now, "pending", &format!("{name}: {message}"));
        }
        if told.evicted && !was.evicted {
            self.story.tell(now, "evict", &name);
        }
        if told.stopping && !was.stopping {
            self.story.tell(now, "stop", &name);
        }
        if told.waiting != was.waiting
            && let Some(reason) = told.waiting
        {
            self.story.tell(now, "waiting", &format!("{name}: {reason}"));
        }
        if told.restarts > was.restarts {
            self.story.tell(now, "restart", &format!("{name} ({})", told.restarts));
        }
        if told.ready != was.ready && !told.stopping {
            self.story.tell(now, if told.ready { "ready" } else { "unready" }, &name);
        }
        if told.over != was.over
            && let Some(phase) = told.over
        {
            self.story.tell(now, &phase.to_lowercase(), &name);
        }
    }

    fn tell_job(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let Some(object) = new.or(old) else { return };
        let (was, is) = (old.and_then(Ending::of), new.and_then(Ending::of));
        let name = &object.key().name;
        match (new, is.filter(|_| was.is_none())) {
            (None, _) => self.story.tell(self.now, "job", &format!("{name} is gone")),
            (Some(new), _) if old.is_none() && new.controller_uid().is_some() => {
                self.story.tell(self.now, "job", &format!("{name} starts"));
            }
            (_, Some(Ending::Succeeded)) => {
                self.story.tell(self.now, "job", &format!("{name} complete"));
            }
            (_, Some(Ending::Failed)) => {
                let conditions = object.view::<Job>().and_then(|j| j.status.clone()?.conditions);
                let failed = conditions.into_iter().flatten().find(|c| c.type_ == "Failed");
                let reason = failed.and_then(|c| c.reason).unwrap_or_default();
                self.story.tell(self.now, "job", &format!("{name} failed: {reason}"));
            }
            _ => {}
        }
    }

    fn tell_set(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let set = |o: Option<&Object>| o?.view::<ReplicaSet>().cloned();
        let (was, is) = (set(old), set(new));
        let replicas = |s: &ReplicaSet| s.spec.replicas.unwrap_or(1);
        let Some(object) = new.or(old) else { return };
        let name = &object.key().name;
        match (was, is) {
            (None, Some(is)) => {
                let spec = is.spec.template.as_ref().and_then(|t| t.spec.as_ref());
                let image = spec.and_then(|s| s.containers.first()?.image.clone());
                let image = image.unwrap_or_default();
                self.story.tell(
                    self.now,
                    "scale",
                    &format!("{name} ({image}) to {}", replicas(&is)),
                );
            }
            (Some(was), Some(is)) if replicas(&was) != replicas(&is) => {
                self.story.tell(self.now, "scale", &format!("{name} to {}", replicas(&is)));
            }
            (Some(_), None) => self.story.tell(self.now, "forget", name),
            _ => {}
        }
    }

    fn tell_commit(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let state = |o: Option<&Object>| Some(o?.view::<Commit>()?.status.state);
        let Some(commit) = new.and_then(|o| o.view::<Commit>()) else { return };
        let status = &commit.status;
        if state(old) == Some(status.state) || status.state == CommitState::Admitted {
            return;
        }
        let name = commit.metadata.name.as_deref().unwrap_or_default();
        if status.state == CommitState::Refused {
            let problems = status.problems.iter().map(|p| format!("\n         {p}"));
            let text = format!("{name}:{}", problems.collect::<String>());
            self.story.tell(self.now, "refuse", &text);
            return;
        }
        let word = report::state_word(status.state);
        let reason = match status.reason.as_str() {
            reason if reason == word || reason.is_empty() => String::new(),
            reason => format!(" ({reason})"),
        };
        let text = format!("{name} {word}{reason}: {}", status.message);
        self.story.tell(self.now, "commit", &text);
    }

    fn tell_node(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let Some(object) = new.or(old) else { return };
        let name = &object.key().name;
        let told = |o: Option<&Object>| {
            let node = o?.view::<Node>()?;
            let conditions = node.status.as_ref()?.conditions.as_ref()?;
            let ready = conditions.iter().find(|c| c.type_ == "Ready")?.status.clone();
            let spec = node.spec.clone().unwrap_or_default();
            let taints = spec.taints.into_iter().flatten().filter(|t| t.effect == "NoExecute");
            let taints: Vec<String> = taints.map(|t| format!("{}:{}", t.key, t.effect)).collect();
            Some((ready, spec.unschedulable == Some(true), taints))
        };
        let Some((ready, cordoned, taints)) = told(new) else { return };
        let (was_ready, was_cordoned, was_taints) =
            told(old).unwrap_or_else(|| (String::new(), false, Vec::new()));
        if ready != was_ready {
            let word = match ready.as_str() {
                "True" => "ready",
                "False" => "not ready",
                _ => "unknown",
            };
            self.story.tell(self.now, "node", &format!("{name} {word}"));
        }
        if cordoned != was_cordoned {
            let word = if cordoned { "cordoned" } else { "uncordoned" };
            self.story.tell(self.now, "node", &format!("{name} {word}"));
        }
        for taint in taints.iter().filter(|t| !was_taints.contains(t)) {
            self.story.tell(self.now, "taint", &format!("{name} {taint}"));
        }
    }

    fn tell_endpoints(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let ready = |o: Option<&Object>| {
            let endpoints = o.and_then(|o| o.view::<EndpointSlice>()?.endpoints.clone());
            let ready = endpoints.into_iter().flatten();
            let conditions = |c: &k8s_openapi::api::discovery::v1::EndpointConditions| c.ready;
            ready.filter(|e| e.conditions.as_ref().and_then(conditions) != Some(false)).count()
        };
        let Some(object) = new.or(old) else { return };
        let (was, is) = (ready(old), ready(new));
        if was != is {
            let service = owner(object).unwrap_or_default().to_owned();
            self.story.tell(self.now, "endpoints", &format!("{service} {is}"));
        }
    }

    fn tell_source(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let told = |o: Option<&Object>| {
            let source = o?.view::<GitSource>()?;
            let condition = source.status.conditions.first()?;
            Some((condition.status.clone(), condition.reason.clone(), condition.message.clone()))
        };
        let (was, is) = (told(old), told(new));
        let status = |t: &Option<(String, String, String)>| t.as_ref().map(|t| t.0.clone());
        if status(&was) == status(&is) || was.is_none() {
            return;
        }
        if let Some((_, reason, message)) = is {
            let text = format!("{reason}{}{message}", if message.is_empty() { "" } else { ": " });
            self.story.tell(self.now, "source", &text);
        }
    }

    fn tell_namespace(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let ends = |o: Option<&Object>| o.is_some_and(Object::is_terminating);
        let Some(object) = new.or(old) else { return };
        let name = format!("Namespace/{}", object.key().name);
        match new {
            None => self.story.tell(self.now, "gone", &name),
            Some(_) if ends(new) && !ends(old) => self.story.tell(self.now, "stop", &name),
            Some(_) => {}
        }
    }
}

/// What is told of a pod.
#[derive(Default)]
struct Told {
    node: Option<String>,
    pending: Option<String>,
    evicted: bool,
    stopping: bool,
    waiting: Option<String>,
    restarts: i32,
    ready: bool,
    over: Option<String>,
}

fn told_of(object: &Object) -> Told {
    let Some(pod) = object.view::<Pod>() else { return Told::default() };
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let condition = |kind: &str, status: &str| {
        conditions.iter().find(|c| c.type_ == kind && c.status == status)
    };
    let quiet = ["ContainerCreating", "PodInitializing"];
    let inits = status.init_container_statuses.into_iter().flatten();
    let all: Vec<_> = inits.chain(status.container_statuses.into_iter().flatten()).collect();
    let waiting = all.iter().find_map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let phase = status.phase.filter(|p| p == "Failed" || p == "Succeeded");
    Told {
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        pending: condition("PodScheduled", "False").and_then(|c| c.message.clone()),
        evicted: condition("DisruptionTarget", "True").is_some(),
        stopping: object.is_terminating(),
        waiting: waiting.filter(|w| !quiet.contains(&w.as_str())),
        restarts: all.iter().map(|c| c.restart_count).sum(),
        ready: condition("Ready", "True").is_some(),
        over: phase,
    }
}

/// The name of the object that controls this one.
fn owner(object: &Object) -> Option<&str> {
    object.owners().iter().find(|o| o.controller == Some(true)).map(|o| o.name.as_str())
}

fn pod_name(object: &Object) -> String {
    match object.key().namespace.as_str() {
        "default" => object.key().name.to_string(),
        namespace => format!("{namespace}/{}", object.key().name),
    }
}

/// `Deployment/web`, `Deployment/shop/web`
fn called(key: &Key) -> String {
    match key.namespace.as_str() {
        "" | "default" => format!("{}/{}", key.kind.kind, key.name),
        namespace => format!("{}/{namespace}/{}", key.kind.kind, key.name),
    }
}

fn detail(object: &Object) -> Option<String> {
    let deployment = object.view::<Deployment>()?;
    let spec = deployment.spec.template.spec.as_ref()?;
    let image = spec.containers.first()?.image.clone()?;
    Some(format!("({} × {image})", deployment.spec.replicas.unwrap_or(1)))
}
