//! What the servers last said, on disk: with every server dead, an agent that starts goes on with
//! it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Key, Object, Revision,
        session::{Desired, Welcome},
    },
    trust::write_private,
};

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
    /// Takes in one part; tells whether a set is complete now. An older generation is refused and
    /// changes nothing.
    pub fn take(&mut self, desired: Desired) -> Result<bool, Older> {
        if desired.generation < self.generation {
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
        Ok(true)
    }

    /// Forgets a set that did not become complete: its session ended.
    pub fn drop_coming(&mut self) {
        self.coming = None;
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
        Ok(Some(Known { generation, welcome, objects, coming: None }))
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
