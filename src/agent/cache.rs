//! What the servers last said, on disk: with every server dead, an agent that starts goes on with
//! it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Key, Object, Revision,
        session::{Desired, ObservedPod, Survivor, Welcome},
    },
    trust::write_private,
};

/// Most bytes of pods that an agent brings into another cluster; those beyond are made anew. Half
/// of what a frame may hold, so that their statuses fit beside: 70 KiB for each of 110 pods.
const SURVIVOR_BYTES_MAX: usize = 8 << 20;

/// What the node shall run and know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// The generation of the last complete set.
    pub generation: Revision,
    /// What the cluster agrees on; `None` before the first session.
    pub welcome: Option<Welcome>,
    /// Every object, by key.
    pub objects: BTreeMap<Key, Object>,
    /// A set that is still coming in: the objects as they will be.
    coming: Option<BTreeMap<Key, Object>>,
    /// The welcome of another cluster than everything above is of. That one counts once its first
    /// set is whole; until then, and on disk, the node is what it was.
    other: Option<Welcome>,
}

/// A server sent an older set than the agent has: it does not lead any more, or is not of this
/// cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent generation {sent}, this node has {known} already")]
pub struct Older {
    sent: Revision,
    known: Revision,
}

impl Known {
    /// The cluster that everything here is of; empty when there is none.
    pub fn cluster(&self) -> &str {
        self.welcome.as_ref().map_or("", |welcome| &welcome.cluster)
    }

    /// Whether the server that speaks is of another cluster than what is known.
    pub fn is_elsewhere(&self) -> bool {
        self.other.is_some()
    }

    /// Takes in what the cluster agrees on; tells whether what is on disk changes.
    pub fn greet(&mut self, welcome: Welcome) -> bool {
        let (before, now) = (self.cluster(), welcome.cluster.as_str());
        if !before.is_empty() && !now.is_empty() && before != now {
            self.other = Some(welcome);
            return false;
        }
        self.other = None;
        let changed = self.welcome.as_ref() != Some(&welcome);
        self.welcome = Some(welcome);
        changed
    }

    /// What still runs of the cluster before, for the one whose server speaks, once it is known how
    /// each pod fares (`latest`, by uid); `None` before that, and to a server of one's own cluster.
    pub fn survivors(&self, latest: &BTreeMap<String, ObservedPod>) -> Option<Vec<Survivor>> {
        self.other.as_ref()?;
        let pods = self.objects.values().filter(|o| o.key().is::<Pod>() && !o.is_terminating());
        let seen = pods.map(|pod| Some((pod, latest.get(pod.uid())?)));
        let seen: Vec<(&Object, &ObservedPod)> = seen.collect::<Option<_>>()?;
        let running = seen
            .into_iter()
            .filter(|(_, seen)| !seen.gone && seen.status.phase.as_deref() == Some("Running"));
        let mut bytes = 0;
        let survivors = running.map_while(|(pod, seen)| {
            bytes += pod.bytes().len();
            let status = seen.status.clone();
            (bytes <= SURVIVOR_BYTES_MAX).then(|| Survivor { pod: pod.clone(), status })
        });
        Some(survivors.collect())
    }

    /// Takes in one part; tells whether a set is complete now. An older generation of the same
    /// cluster is refused and changes nothing.
    pub fn take(&mut self, desired: Desired) -> Result<bool, Older> {
        if desired.generation < self.generation && self.other.is_none() {
            return Err(Older { sent: desired.generation, known: self.generation });
        }
        let mut objects = match (desired.whole, self.coming.take()) {
            (true, _) => BTreeMap::new(),
            (false, Some(coming)) => coming,
            (false, None) => self.objects.clone(),
        };
        for key in &desired.deletes {
            objects.remove(key);
        }
        objects.extend(desired.upserts.into_iter().map(|object| (object.key().clone(), object)));
        if desired.more {
            self.coming = Some(objects);
            return Ok(false);
        }
        self.objects = objects;
        self.generation = desired.generation;
        self.welcome = self.other.take().or(self.welcome.take());
        Ok(true)
    }

    /// Forgets a set that did not become complete: its session ended.
    pub fn drop_coming(&mut self) {
        self.coming = None;
        self.other = None;
    }
}

/// The file of [`Known`].
#[derive(Clone, Debug)]
pub struct Cache {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    generation: Revision,
    welcome: Option<Welcome>,
    objects: Vec<Object>,
}

impl Cache {
    /// The cache in an agent's folder.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("desired.json") }
    }

    /// Reads what was known; nothing when there is no file. A file that cannot be read is an error
    /// the caller tells: the agent then starts knowing nothing, and so stops nothing, until a
    /// server speaks.
    pub fn load(&self) -> io::Result<Option<Known>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let file: File = serde_json::from_slice(&bytes)?;
        let objects = file.objects.into_iter().map(|o| (o.key().clone(), o)).collect();
        let (generation, welcome) = (file.generation, file.welcome);
        Ok(Some(Known { generation, welcome, objects, coming: None, other: None }))
    }

    /// Writes what is known; only root may read it, for it holds Secrets of this node's pods.
    pub fn save(&self, known: &Known) -> io::Result<()> {
        let file = File {
            generation: known.generation,
            welcome: known.welcome.clone(),
            objects: known.objects.values().cloned().collect(),
        };
        write_private(&self.path, &serde_json::to_vec(&file)?)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodStatus;
    use serde_json::json;

    use super::*;

    fn object(name: &str) -> Object {
        let value =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
        Object::from_value(&value).unwrap()
    }

    fn part(generation: u64, whole: bool, more: bool, names: &[&str]) -> Desired {
        let upserts = names.iter().map(|n| object(n)).collect();
        Desired { generation: Revision(generation), whole, more, upserts, deletes: vec![] }
    }

    fn names(known: &Known) -> Vec<&str> {
        known.objects.keys().map(|k| k.name.as_str()).collect()
    }

    #[test]
    fn parts_count_together_or_not_at_all() {
        let mut known = Known::default();
        assert_eq!(known.take(part(5, true, false, &["a"])), Ok(true));
        assert_eq!(known.take(part(6, true, true, &["b"])), Ok(false));
        assert_eq!(names(&known), ["a"]);
        assert_eq!(known.take(part(6, false, false, &["c"])), Ok(true));
        assert_eq!(names(&known), ["b", "c"]);
    }

    #[test]
    fn a_session_that_ended_leaves_no_half_set() {
        let mut known = Known::default();
        known.take(part(5, true, true, &["a"])).unwrap();
        known.drop_coming();
        known.take(part(6, false, false, &["b"])).unwrap();
        assert_eq!(names(&known), ["b"]);
    }

    #[test]
    fn an_older_generation_is_refused() {
        let mut known = Known::default();
        known.take(part(5, true, false, &["a"])).unwrap();
        known.take(part(4, true, false, &["b"])).unwrap_err();
        assert_eq!(names(&known), ["a"]);
    }

    fn welcome(cluster: &str) -> Welcome {
        Welcome { cluster: cluster.into(), cluster_cidr: String::new(), servers: vec![] }
    }

    /// What must not happen: a node that lets go of what it runs before the new cluster has said
    /// what that is, or that refuses the new cluster's first word as old.
    #[test]
    fn another_cluster_counts_once_its_first_set_is_whole() {
        let mut known = Known::default();
        assert!(known.greet(welcome("one")));
        assert!(!known.greet(welcome("one")), "nothing new");
        known.take(part(50, true, false, &["a"])).unwrap();
        assert!(!known.greet(welcome("two")));
        assert_eq!((known.cluster(), known.is_elsewhere()), ("one", true));
        assert_eq!(known.take(part(3, true, true, &["b"])), Ok(false));
        known.drop_coming();
        assert_eq!((known.cluster(), names(&known)), ("one", vec!["a"]));
        known.take(part(3, true, false, &["b"])).unwrap_err();
        known.greet(welcome("two"));
        known.take(part(3, true, true, &["b"])).unwrap();
        assert_eq!(known.take(part(3, false, false, &["c"])), Ok(true));
        assert_eq!((known.cluster(), names(&known)), ("two", vec!["b", "c"]));
        assert_eq!(known.generation, Revision(3));
        known.take(part(2, true, false, &["b"])).unwrap_err();
        // An agent of before knows no name of its cluster: it stays with whoever certified it.
        let mut nameless = Known { welcome: Some(welcome("")), ..known };
        assert!(nameless.greet(welcome("three")));
        assert!(!nameless.is_elsewhere());
    }

    #[test]
    fn what_runs_is_brought_once_all_of_it_was_seen() {
        let pod = |name: &str| {
            let value = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "uid": name },
            });
            Object::from_value(&value).unwrap()
        };
        let seen = |pod: &Object, phase: &str, gone| {
            let status = PodStatus { phase: Some(phase.into()), ..PodStatus::default() };
            let (key, uid) = (pod.key().clone(), pod.uid().to_owned());
            (uid.clone(), ObservedPod { key, uid, status: Box::new(status), gone })
        };
        let pods = [pod("runs"), pod("waits"), pod("ended"), pod("gone")];
        let mut known = Known::default();
        known.greet(welcome("one"));
        let upserts = pods.to_vec();
        known.take(Desired { upserts, ..part(1, true, false, &["a"]) }).unwrap();
        let mut latest = BTreeMap::from([
            seen(&pods[0], "Running", false),
            seen(&pods[1], "Pending", false),
            seen(&pods[2], "Succeeded", false),
        ]);
        assert_eq!(known.survivors(&latest), None, "it is of this cluster");
        known.greet(welcome("two"));
        assert_eq!(known.survivors(&latest), None, "one was not seen yet");
        latest.extend([seen(&pods[3], "Running", true)]);
        let brought = known.survivors(&latest).unwrap();
        let names: Vec<&str> = brought.iter().map(|s| s.pod.key().name.as_str()).collect();
        assert_eq!(names, ["runs"]);
    }

    #[test]
    fn what_was_saved_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        assert_eq!(cache.load().unwrap(), None);
        let mut known = Known::default();
        known.take(part(5, true, false, &["a"])).unwrap();
        cache.save(&known).unwrap();
        assert_eq!(cache.load().unwrap(), Some(known));
        std::fs::write(dir.path().join("desired.json"), b"{").unwrap();
        cache.load().unwrap_err();
    }
}
