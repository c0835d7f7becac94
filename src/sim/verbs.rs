//! The commands of scripts.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{Node as CoreNode, Pod};
use serde_json::{Value, json};

use super::{
    manifest::{self, Words},
    repository::Tree,
    settle::Rest,
    world::World,
};
use crate::{
    kinds::{OnFailure, PathDeadline},
    model::{CommitId, Key, NodeName, Object, Quantity},
    state::{Command, Expect, Op, Part},
};

/// How long `settle` waits when it is not told: more than any deadline of a commit.
const SETTLE: Duration = Duration::from_secs(20 * 60);

/// A world and what people do to it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) world: World,
    /// The files as they will be committed.
    pub(super) tree: Tree,
    deployments: BTreeMap<String, Words>,
    /// The commit that the files are of, as long as nobody edits them.
    pulled: Option<CommitId>,
}

type Done = Result<(), String>;

impl Stage {
    pub(super) fn new(world: World) -> Self {
        Self { world, tree: Tree::new(), deployments: BTreeMap::new(), pulled: None }
    }

    /// What was told since the last call.
    pub(super) fn told(&mut self) -> String {
        self.world.story.take()
    }

    /// The first promise that broke.
    pub(super) fn failure(&self) -> Option<&str> {
        self.world.failure.as_deref()
    }

    /// Does one command; `body` is what stands below it.
    pub(super) fn perform(&mut self, command: &str, body: &str) -> Done {
        let words: Vec<&str> = command.split_whitespace().collect();
        let Some((verb, rest)) = words.split_first() else { return Ok(()) };
        self.pull();
        if *verb != "servers" && self.world.log.servers.is_empty() && *verb != "hide" {
            self.world.add_servers(1);
        }
        match (*verb, rest) {
            ("servers", [count]) => self.world.add_servers(parse(count)?),
            ("nodes", rest) => self.nodes(rest)?,
            ("deploy", [name, words @ ..]) => self.deploy(name, words),
            ("service", [name, words @ ..]) => {
                let value = manifest::service(name, &manifest::words(words));
                self.put(&format!("{name}-service.yaml"), &value);
            }
            ("config", [name, words @ ..]) => {
                let value = manifest::config_map(name, &manifest::words(words));
                self.put(&format!("{name}-config.yaml"), &value);
            }
            ("pod", [name, words @ ..]) => {
                let value = manifest::pod(name, &manifest::words(words));
                self.put(&format!("{name}-pod.yaml"), &value);
            }
            ("job", [name, words @ ..]) => {
                let value = manifest::job(name, &manifest::words(words));
                self.put(&format!("{name}-job.yaml"), &value);
            }
            ("cron-job", [name, words @ ..]) => {
                let value = manifest::cron_job(name, &manifest::words(words));
                self.put(&format!("{name}-cron-job.yaml"), &value);
            }
            ("namespace", [name]) => {
                self.put(&format!("{name}-namespace.yaml"), &manifest::namespace(name));
            }
            ("file", [path]) => {
                self.tree.insert((*path).to_owned(), body.as_bytes().into());
            }
            ("remove", ["*"]) => self.tree.clear(),
            ("remove", [path]) => {
                self.tree.remove(*path).ok_or_else(|| format!("there is no file {path}"))?;
            }
            ("commit", [name, ..]) => {
                let message = command.split_once(name).map_or("", |(_, rest)| rest.trim());
                self.commit(name, message);
            }
            ("revert", [bad, "as", name]) => self.revert(bad, name)?,
            ("force-push", [name]) => {
                let id = self.commit_id(name)?;
                self.push(Some(id));
            }
            ("settle", limit) => self.settle(limit)?,
            ("wait", [span]) => {
                let until = self.world.now + self::span(span)?;
                self.world.run_until(until);
            }
            ("check", []) => self.world.examine_rest(),
            ("hide", verbs) => verbs.iter().for_each(|v| self.world.story.hide(v, true)),
            ("tell", verbs) => verbs.iter().for_each(|v| self.world.story.hide(v, false)),
            ("remote", ["down"]) => self.world.repository.is_down = true,
            ("remote", ["up"]) => self.world.repository.is_down = false,
            ("remote", ["protected"]) => self.world.repository.is_protected = true,
            ("on-failure", ["revert"]) => self.world.on_failure = Some(OnFailure::Revert),
            ("on-failure", ["hold"]) => self.world.on_failure = Some(OnFailure::Hold),
            ("on-failure", ["ignore"]) => self.world.on_failure = Some(OnFailure::Ignore),
            ("path-deadline", [path, span]) => {
                let (path, seconds) = ((*path).to_owned(), self::span(span)?.as_secs());
                let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
                self.world.deadlines.push(PathDeadline { path, seconds });
            }
            ("image", [image, how @ ..]) => self.image(image, how)?,
            _ => return self.perform_fault(verb, rest),
        }
        Ok(())
    }

    fn perform_fault(&mut self, verb: &str, rest: &[&str]) -> Done {
        let world = &mut self.world;
        match (verb, rest) {
            ("kill", ["leader"]) => {
                let leader = world.log.leader.ok_or("nobody leads")?;
                world.kill_server(leader);
            }
            ("kill", ["servers"]) => {
                (0..world.log.servers.len()).for_each(|server| world.kill_server(server));
            }
            ("lose", ["cluster"]) => world.lose_cluster(),
            ("kill", ["server", number]) => world.kill_server(parse::<usize>(number)? - 1),
            ("start", ["servers"]) => {
                (0..world.log.servers.len()).for_each(|server| world.start_server(server));
            }
            ("start", ["server", number]) => world.start_server(parse::<usize>(number)? - 1),
            ("fuse", ["push"]) => world.dies_after_push = true,
            ("fuse", [entries]) => world.fuse = Some(parse(entries)?),
            ("power", ["off", node]) => world.power_off(&known(world, node)?),
            ("power", ["on", node]) => world.power_on(&known(world, node)?),
            ("cut", [node]) => world.cut(&known(world, node)?),
            ("heal", [node]) => world.heal(&known(world, node)?),
            ("agent", ["stop", node]) => world.kill_agent(&known(world, node)?),
            ("agent", ["start", node]) => world.start_agent(&known(world, node)?),
            ("hang", [node]) => world.hang(&known(world, node)?, true),
            ("unhang", [node]) => world.hang(&known(world, node)?, false),
            ("crash", [what]) => self.crash(what, 1)?,
            ("crash", [what, code]) => self.crash(what, parse(code)?)?,
            ("cordon", [node]) => world.unschedulable(node, true)?,
            ("uncordon", [node]) => world.unschedulable(node, false)?,
            ("drain", [node]) => world.drain(node)?,
            ("taint", [node, taint]) => world.taint(node, taint)?,
            ("untaint", [node, key]) => world.untaint(node, key)?,
            ("label", [node, label]) => {
                let (key, value) = label.split_once('=').ok_or("label a key=value")?;
                world.edit_node(node, |v| v["metadata"]["labels"][key] = value.into())?;
            }
            ("delete", ["pod", pod]) => self.delete_pod(pod)?,
            _ => return self.ask(verb, rest),
        }
        Ok(())
    }

    // --- files and commits ---

    fn put(&mut self, path: &str, value: &Value) {
        self.tree.insert(path.to_owned(), manifest::yaml(value).into());
    }

    pub(super) fn put_namespace(&mut self, name: &str) {
        self.put(&format!("{name}-namespace.yaml"), &manifest::namespace(name));
    }

    pub(super) fn put_config(&mut self, name: &str, word: &str) {
        let value = manifest::config_map(name, &manifest::words(&[word]));
        self.put(&format!("{name}-config.yaml"), &value);
    }

    pub(super) fn put_service(&mut self, name: &str) {
        let value = manifest::service(name, &Words::new());
        self.put(&format!("{name}-service.yaml"), &value);
    }

    /// Words that are not said stay as they were said before.
    pub(super) fn deploy(&mut self, name: &str, words: &[&str]) {
        let said = self.deployments.entry(name.to_owned()).or_default();
        said.extend(manifest::words(words));
        let value = manifest::deployment(name, said);
        self.put(&format!("{name}.yaml"), &value);
    }

    /// Commits the files and pushes. `message` may hold trailers behind ` | `.
    pub(super) fn commit(&mut self, name: &str, message: &str) {
        let (subject, trailers) = match message.strip_prefix("| ") {
            Some(trailers) => ("", trailers),
            None => message.split_once(" | ").unwrap_or((message, "")),
        };
        let subject = if subject.is_empty() { name } else { subject };
        let trailers = trailers.replace(" | ", "\n");
        let message = match trailers.trim() {
            "" => format!("{subject}\n"),
            trailers => format!("{subject}\n\n{trailers}\n"),
        };
        let tree = self.tree.clone();
        self.commit_tree(name, tree, &message);
    }

    fn commit_tree(&mut self, name: &str, tree: Tree, message: &str) {
        let world = &mut self.world;
        let parent = world.repository.tip.clone();
        let id = world.repository.commit(tree, message, parent, world.now);
        world.story.names.give(id.as_str(), name);
        world.story.names.give(id.short(), name);
        self.push(Some(id));
    }

    /// Moves the branch; the servers hear of it, unless the remote is down.
    fn push(&mut self, tip: Option<CommitId>) {
        self.world.repository.tip = tip.clone();
        self.tree = self.world.repository.tip_tree();
        self.pulled = tip;
        if !self.world.repository.is_down {
            self.world.look_in(Duration::from_millis(100));
        }
    }

    /// Takes what mainstay pushed into the files, unless they were edited.
    pub(super) fn pull(&mut self) {
        let repository = &self.world.repository;
        let of = |id: &CommitId| repository.get(id).map(|c| &c.tree);
        let clean = self.pulled.as_ref().and_then(of) == Some(&self.tree);
        if clean && self.pulled != repository.tip {
            self.tree = repository.tip_tree();
            self.pulled = repository.tip.clone();
        }
    }

    pub(super) fn revert(&mut self, bad: &str, name: &str) -> Done {
        let id = self.commit_id(bad)?;
        let tree = self.world.repository.reverted(&id).ok_or_else(|| format!("no {bad}"))?;
        self.commit_tree(name, tree, &format!("Revert \"{bad}\"\n"));
        Ok(())
    }

    pub(super) fn commit_id(&self, name: &str) -> Result<CommitId, String> {
        let mut ids = self.world.repository.ids();
        ids.find(|id| self.world.story.names.of(id.as_str()) == name)
            .cloned()
            .ok_or_else(|| format!("there is no commit {name}"))
    }

    // --- time ---

    fn settle(&mut self, limit: &[&str]) -> Done {
        let limit = limit.first().map_or(Ok(SETTLE), |limit| span(limit))?;
        match self.world.settle(limit) {
            Rest::Reached => self.world.examine_rest(),
            Rest::Missed(what) => {
                let now = self.world.now;
                self.world.story.tell(now, "not settled:", &what);
            }
        }
        Ok(())
    }

    // --- machines ---

    fn nodes(&mut self, rest: &[&str]) -> Done {
        let (options, names): (Vec<&str>, Vec<&str>) = rest.iter().partition(|w| w.contains('='));
        let options = manifest::words(&options);
        let amount = |key: &str, usual: &str| {
            let text = options.get(key).map_or(usual, String::as_str);
            Quantity::parse(text).map_err(|e| format!("{key}: {e:?}"))
        };
        let (cpu, memory) = (amount("cpu", "4")?, amount("memory", "8Gi")?);
        let labels = options.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix("label.")?.to_owned(), value.clone()))
        });
        let labels: BTreeMap<String, String> = labels.collect();
        for name in names {
            self.world.add_node(name, cpu.as_milli(), memory.as_units(), labels.clone());
        }
        Ok(())
    }

    fn image(&mut self, image: &str, how: &[&str]) -> Done {
        let (behaviour, image) = (&mut self.world.behaviour, image.to_owned());
        match how {
            ["good"] => {
                behaviour.missing.remove(&image);
                behaviour.never_ready.remove(&image);
                behaviour.sick.remove(&image);
                behaviour.stubborn.remove(&image);
                behaviour.ending.remove(&image);
            }
            ["missing"] => drop(behaviour.missing.insert(image)),
            ["never-ready"] => drop(behaviour.never_ready.insert(image)),
            ["sick"] => drop(behaviour.sick.insert(image)),
            ["stubborn"] => drop(behaviour.stubborn.insert(image)),
            ["exits", code, "after", after] => {
                behaviour.ending.insert(image, (parse(code)?, span(after)?));
            }
            ["says", words @ ..] => {
                behaviour.last_words.insert(image, words.join(" "));
            }
            _ => {
                return Err(
                    "image x good|missing|never-ready|sick|stubborn|exits N after T|says WORDS"
                        .into(),
                );
            }
        }
        Ok(())
    }

    /// Ends every running container of a pod, or of the pods of a Deployment.
    fn crash(&mut self, what: &str, code: i32) -> Done {
        let mut victims = Vec::new();
        for (node, machine) in self.world.nodes.iter().map(|(name, n)| (name, &n.machine)) {
            for (pod, _, id) in machine.running() {
                let short = self.world.story.names.of(&pod);
                if short == what || short.rsplit_once('-').is_some_and(|(stem, _)| stem == what) {
                    victims.push((node.clone(), id));
                }
            }
        }
        if victims.is_empty() {
            return Err(format!("nothing of {what} runs"));
        }
        victims.iter().for_each(|(node, id)| self.world.end_container(node, id, code));
        Ok(())
    }

    pub(super) fn delete_pod(&mut self, pod: &str) -> Done {
        let key = self.pod_key(pod)?;
        self.world.write(vec![Op::Delete { key, uid: String::new(), grace_seconds: None }])
    }

    /// The pod that has this short name.
    pub(super) fn pod_key(&self, short: &str) -> Result<Key, String> {
        let view = self.world.view().ok_or("nobody leads")?;
        let mut pods = view.list::<Pod>(None).map(|(object, _)| object.key().clone());
        pods.find(|key| self.world.story.names.of(&key.name) == short)
            .ok_or_else(|| format!("there is no pod {short}"))
    }
}

/// What kubectl writes.
impl World {
    pub(super) fn write(&mut self, ops: Vec<Op>) -> Done {
        let outcomes = self.propose(vec![Command::Write(ops)]);
        match outcomes.map_err(|_| "nobody leads")?.into_iter().next() {
            Some(crate::state::Outcome::Refused(refusal)) => Err(refusal.to_string()),
            _ => Ok(()),
        }
    }

    pub(super) fn edit_node(&mut self, node: &str, edit: impl FnOnce(&mut Value)) -> Done {
        let view = self.view().ok_or("nobody leads")?;
        let key = Key::of::<CoreNode>("", node);
        let mut value = view.object(&key).ok_or_else(|| format!("no node {node}"))?.value();
        edit(&mut value);
        let object = Object::from_value(&value).map_err(|e| e.to_string())?;
        self.write(vec![Op::Put { object, expect: Expect::Any, part: Part::Main }])
    }

    pub(super) fn unschedulable(&mut self, node: &str, on: bool) -> Done {
        self.edit_node(node, |value| match on {
            true => value["spec"]["unschedulable"] = true.into(),
            false => drop(value["spec"].as_object_mut().map(|s| s.remove("unschedulable"))),
        })
    }

    pub(super) fn drain(&mut self, node: &str) -> Done {
        self.unschedulable(node, true)?;
        let view = self.view().ok_or("nobody leads")?;
        let delete = |o: &Object| {
            let (key, uid) = (o.key().clone(), o.uid().to_owned());
            Op::Delete { key, uid, grace_seconds: None }
        };
        let ops: Vec<Op> = view.pods_on(&NodeName::new(node)).map(delete).collect();
        if ops.is_empty() { Ok(()) } else { self.write(ops) }
    }

    fn taint(&mut self, node: &str, taint: &str) -> Done {
        let (key, effect) = taint.rsplit_once(':').ok_or("taint a key:NoSchedule")?;
        let at = self.now.to_time();
        let new = json!({ "key": key, "effect": effect, "timeAdded": at });
        self.edit_node(node, |value| match value["spec"]["taints"].as_array_mut() {
            Some(taints) => taints.push(new),
            None => value["spec"]["taints"] = json!([new]),
        })
    }

    fn untaint(&mut self, node: &str, key: &str) -> Done {
        self.edit_node(node, |value| {
            if let Some(taints) = value["spec"]["taints"].as_array_mut() {
                taints.retain(|t| t["key"] != key);
            }
        })
    }
}

fn known(world: &World, name: &str) -> Result<NodeName, String> {
    let name = NodeName::new(name);
    world.nodes.contains_key(&name).then_some(name).ok_or_else(|| "no such node".to_owned())
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// `100ms`, `30s`, `5m`, `2h`
fn span(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = parse(number)?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{text:?} is no time; write 100ms, 30s, 5m or 2h")),
    };
    Ok(Duration::from_millis(number * ms))
}
