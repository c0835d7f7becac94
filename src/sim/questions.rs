//! The questions of scripts.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Node as CoreNode, Pod, Service},
};

use super::verbs::Stage;
use crate::{
    model::{GroupKind, Key, Object},
    report::{self, LogFacts},
    state::{MAIN_SOURCE, View},
};

impl Stage {
    /// Answers a question.
    pub(super) fn ask(&mut self, verb: &str, rest: &[&str]) -> Result<(), String> {
        // What runs and what Git has can be seen without a server.
        let text = match (verb, rest) {
            ("containers", []) => self.containers(),
            ("git", ["log", "mainstay/status"]) => self.diary(),
            ("git", ["log", "main"]) => self.branches(),
            ("notes", []) => self.notes(),
            ("show", [path]) => self.show(path)?,
            ("files", []) => {
                let paths = self.world.repository.status_tree.keys();
                paths.map(|path| format!("{path}\n")).collect()
            }
            _ => {
                let view = self.world.view().ok_or("nobody leads")?;
                self.ask_view(verb, rest, &view)?
            }
        };
        self.world.story.say(if text.is_empty() { "nothing" } else { &text });
        Ok(())
    }

    fn ask_view(&self, verb: &str, rest: &[&str], view: &View) -> Result<String, String> {
        Ok(match (verb, rest) {
            ("status", []) => status(view),
            ("pods", []) => self.pods(view),
            ("services", []) => services(view),
            ("history", []) => history(view),
            ("nodes?", []) => nodes(view),
            ("why", [name]) => self.why(view, name)?,
            ("describe", ["pod", name]) => self.describe(view, name)?,
            ("get", [kind, name]) => get(view, kind, name)?,
            _ => return Err(format!("no such command: {verb} {}", rest.join(" "))),
        })
    }

    fn containers(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for (name, node) in &self.world.nodes {
            let running = node.machine.running();
            let short = |pod: &String| self.world.story.names.of(pod);
            let mut pods: Vec<String> = running.iter().map(|(pod, _, _)| short(pod)).collect();
            pods.sort();
            let text = if pods.is_empty() { "nothing".to_owned() } else { pods.join(" ") };
            lines.push(format!("{name}: {text}\n"));
        }
        lines.concat()
    }

    fn diary(&self) -> String {
        let story = &self.world.story;
        let line = |entry: &super::repository::StatusEntry| {
            let subject = entry.message.lines().next().unwrap_or_default();
            format!("{:<8} {subject}\n", story.clock(entry.at))
        };
        self.world.repository.status.iter().map(line).collect()
    }

    /// The desired branch and the reverts that were proposed, newest first, with whole messages.
    fn branches(&self) -> String {
        let repository = &self.world.repository;
        let mut text = String::new();
        let tips = repository.tip.iter().map(|tip| ("main", tip));
        let proposed = repository.proposed.iter().map(|(branch, tip)| (branch.as_str(), tip));
        for (branch, tip) in tips.chain(proposed) {
            text += &format!("{branch}\n");
            let mut next = Some(tip);
            while let Some((id, commit)) = next.and_then(|id| Some((id, repository.get(id)?))) {
                let name = self.world.story.names.of(id.as_str());
                let message = commit.message.trim_end().replace('\n', "\n    ");
                text += &format!("  {name}: {}\n", message.replace("\n    \n", "\n\n"));
                next = commit.parent.as_ref();
            }
        }
        text
    }

    fn notes(&self) -> String {
        let names = &self.world.story.names;
        let mut notes: Vec<(String, &String)> =
            self.world.repository.notes.iter().map(|(c, t)| (names.of(c.as_str()), t)).collect();
        notes.sort();
        notes.iter().map(|(name, text)| format!("{name}: {text}")).collect()
    }

    fn show(&self, path: &str) -> Result<String, String> {
        let tree = &self.world.repository.status_tree;
        let names = &self.world.story.names;
        let mut files = tree.iter().filter(|(p, _)| names.shorten(p) == path);
        let (_, bytes) = files.next().ok_or_else(|| format!("no file {path}"))?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn pods(&self, view: &View) -> String {
        let names = &self.world.story.names;
        let mut lines: Vec<String> = Vec::new();
        for (object, pod) in view.list::<Pod>(None) {
            let (state, message) = report::pod_state(pod);
            let spec = pod.spec.clone().unwrap_or_default();
            let node = spec.node_name.unwrap_or_else(|| "-".to_owned());
            let image = spec.containers.first().and_then(|c| c.image.clone()).unwrap_or_default();
            let ready = if crate::plan::pods::is_ready(pod) { "ready" } else { "not ready" };
            let state = if object.is_terminating() { "Terminating".to_owned() } else { state };
            let message = if message.is_empty() { message } else { format!(": {message}") };
            let name = names.of(&object.key().name);
            lines.push(format!("{name} on {node} ({image}) {state}, {ready}{message}\n"));
        }
        lines.sort();
        lines.concat()
    }

    fn why(&self, view: &View, name: &str) -> Result<String, String> {
        let key = match name.split_once('/') {
            Some(("node", name)) => Key::of::<CoreNode>("", name),
            _ => self.pod_key(name).unwrap_or_else(|_| Key::of::<Deployment>("default", name)),
        };
        let steps = report::why(view, &key, &|_| Vec::new()).ok_or("there is no such object")?;
        let line = |s: &report::WhyStep| format!("{} {}: {}\n", s.what, s.name, s.says);
        Ok(steps.iter().map(line).collect())
    }

    fn describe(&self, view: &View, name: &str) -> Result<String, String> {
        let key = self.pod_key(name)?;
        let object = view.object(&key).ok_or("it is gone")?;
        let pod = object.view::<Pod>().cloned().unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let mut text = format!("phase {}\n", status.phase.unwrap_or_default());
        for c in status.conditions.iter().flatten() {
            let reason = c.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
            let message = c.message.as_ref().map(|m| format!(": {m}")).unwrap_or_default();
            text += &format!("{} {}{reason}{message}\n", c.type_, c.status);
        }
        for c in status.container_statuses.iter().flatten() {
            text += &format!("container {} restarted {} times\n", c.name, c.restart_count);
        }
        text += &events(view, object);
        Ok(text)
    }
}

fn events(view: &View, object: &Object) -> String {
    let events = view.list::<Event>(Some(&object.key().namespace)).map(|(_, event)| event);
    let mut events: Vec<&Event> =
        events.filter(|e| e.involved_object.uid.as_deref() == Some(object.uid())).collect();
    let first = |e: &Event| e.first_timestamp.as_ref().map(|t| t.0);
    events.sort_by_key(|e| (first(e), e.message.clone()));
    let line = |event: &&Event| {
        let (reason, message) = (event.reason.clone(), event.message.clone());
        let count = match event.count.unwrap_or(1) {
            1 => String::new(),
            n => format!(" ×{n}"),
        };
        format!("{}{count}: {}\n", reason.unwrap_or_default(), message.unwrap_or_default())
    };
    events.iter().map(line).collect()
}

fn status(view: &View) -> String {
    let status = report::status(view, LogFacts::default());
    let mut text = match (&status.commit, status.state) {
        (Some(commit), Some(state)) => {
            let reason = match status.reason.as_str() {
                "" => String::new(),
                reason => format!(" ({reason})"),
            };
            format!("{commit} {}{reason}: {}\n", report::state_word(state), status.message)
        }
        _ => "no commit yet\n".to_owned(),
    };
    if let Some(running) = &status.running
        && Some(&running.commit) != status.commit.as_ref()
    {
        text += &format!("running {} {}\n", running.commit, report::state_word(running.state));
    }
    status.problems.iter().for_each(|p| text += &format!("problem: {p}\n"));
    status.warnings.iter().for_each(|p| text += &format!("warning: {p}\n"));
    for (kind, count) in &status.counts {
        text += &format!("{kind} {}/{}\n", count.ready, count.desired);
    }
    text
}

fn nodes(view: &View) -> String {
    let status = report::status(view, LogFacts::default());
    let line = |n: &report::NodeSummary| {
        let ready = if n.ready { "ready" } else { "not ready" };
        let open = if n.schedulable { "" } else { ", cordoned" };
        format!("{} {ready}{open}, {} pods\n", n.name, n.pods)
    };
    status.nodes.iter().map(line).collect()
}

fn services(view: &View) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (object, service) in view.list::<Service>(None) {
        let spec = service.spec.clone().unwrap_or_default();
        let ports = spec.ports.iter().flatten().map(|p| match p.node_port {
            Some(node_port) => format!("{}:{node_port}", p.port),
            None => p.port.to_string(),
        });
        let ports: Vec<String> = ports.collect();
        let address = spec.cluster_ip.unwrap_or_default();
        let file = report::object_file(view, object);
        let ready = file.service.map_or(0, |s| s.ready_endpoints);
        let name = &object.key().name;
        lines.push(format!("{name} {address} {} with {ready} endpoints\n", ports.join(",")));
    }
    lines.concat()
}

fn history(view: &View) -> String {
    let line = |c: &report::CommitLine| {
        let running = if c.running { ", running" } else { "" };
        format!("{} {}{running}: {}\n", c.commit, report::state_word(c.state), c.message)
    };
    report::history(view, MAIN_SOURCE).iter().map(line).collect()
}

/// An object's own words, times and numbers that move by themselves aside.
fn get(view: &View, kind: &str, name: &str) -> Result<String, String> {
    let (namespace, name) = super::manifest::split(name);
    let kinds = [("apps", "Deployment"), ("", "Service"), ("", "ConfigMap"), ("", "Node")];
    let found = kinds.iter().find(|(_, k)| k.eq_ignore_ascii_case(kind));
    let (group, kind) = found.ok_or_else(|| format!("get {kind}: not shown here"))?;
    let namespace = if *kind == "Node" { "" } else { namespace };
    let key = Key::new(GroupKind::new(group, kind), namespace, name);
    let object = view.object(&key).ok_or_else(|| format!("there is no {key}"))?;
    let file = report::object_file(view, object);
    let mut text = format!("{} {}: {}\n", file.kind, file.name, file.state);
    if let Some(count) = file.replicas {
        text += &format!("{}/{} ready\n", count.ready, count.desired);
    }
    for c in file.conditions {
        text += &format!("{} {} ({}): {}\n", c.type_, c.status, c.reason, c.message);
    }
    Ok(text)
}
