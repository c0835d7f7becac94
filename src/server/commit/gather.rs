//! Several writes as the files of one commit: each is made on what those before it left, and proven
//! by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::words;
use crate::{
    api::{Uncommitted, Wish, adoptable},
    git::{self, Message},
    kinds::{Commit, CommitSpec, Freeze, GitSourceSpec},
    model::{Key, Object, Problem, Timestamp},
    plan::{
        admission::{self, Facts},
        freeze,
    },
    render::{
        Picture,
        edit::{self, Delta, Repository},
    },
    server::known::Known,
    state::{MAIN_SOURCE, Origin, View},
};

/// What writes are made on.
pub(super) struct Ground<'a> {
    pub(super) reader: &'a git::Reader,
    pub(super) known: &'a Known,
    pub(super) view: &'a View,
    pub(super) spec: &'a GitSourceSpec,
    pub(super) now: Timestamp,
}

/// What becomes of one of several writes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is in the commit.
    Made,
    /// It is not, whatever else is.
    Refused(Uncommitted),
    /// It does not go together with those before it: it is made after them, where the answer can
    /// name their commit.
    Later,
}

/// A commit that is to be.
#[derive(Debug)]
pub(super) struct Gathered {
    /// What becomes of each write.
    pub(super) verdicts: Vec<Verdict>,
    /// The files that change; `None` goes.
    pub(super) changes: BTreeMap<String, Option<Vec<u8>>>,
    /// Its words.
    pub(super) message: Message,
}

/// Makes writes of one author on the same ground.
pub(super) fn gather(ground: &Ground<'_>, wishes: &[Wish]) -> Gathered {
    let mut draft = Draft::on(ground);
    let verdict = |wish| match draft.add(wish) {
        Ok(()) => Verdict::Made,
        Err(_) if !draft.lines.is_empty() => Verdict::Later,
        Err(why) => Verdict::Refused(why),
    };
    let verdicts = wishes.iter().map(verdict).collect();
    let message = words::message(&draft.lines);
    Gathered { verdicts, changes: draft.changes, message }
}

/// What the files are with the writes so far.
struct Draft<'g> {
    ground: &'g Ground<'g>,
    picture: Picture,
    changes: BTreeMap<String, Option<Vec<u8>>>,
    lines: Vec<words::Line>,
    suspects: BTreeSet<Key>,
}

impl<'g> Draft<'g> {
    fn on(ground: &'g Ground<'g>) -> Self {
        let picture = ground.known.picture().clone();
        let (changes, lines, suspects) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { ground, picture, changes, lines, suspects }
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        match self.changes.get(path) {
            Some(changed) => changed.clone(),
            None => {
                let Ground { reader, known, .. } = self.ground;
                reader.read_path(known.commit(), path).ok().flatten()
            }
        }
    }

    /// Adds a write, proven to mean nothing else and to be admitted; without that, nothing of it
    /// stays.
    fn add(&mut self, wish: &Wish) -> Result<(), Uncommitted> {
        let Ground { known, view, spec, now, .. } = *self.ground;
        let kinds = admission::kinds(view, MAIN_SOURCE, &self.picture);
        let picture = self.picture.with_custom(&kinds, &mut BTreeSet::new());
        let found = picture.object(&wish.key).map(|found| found.object);
        let change = change(wish, found.as_ref(), view)?;
        let options = admission::options(view, MAIN_SOURCE);
        let repository = Repository {
            picture: &self.picture,
            options: &options,
            kinds: &kinds,
            root: &spec.path,
            read: &|path| self.read(path),
            is_wanted: &|path| known.is_wanted(path),
        };
        let made = edit::rewrite(&repository, &wish.key, &change)
            .map_err(|problem| Uncommitted::Refused(vec![problem]))?;
        let mut suspects = self.suspects.clone();
        suspects.insert(wish.key.clone());
        let line = words::Line::of(wish, &change);
        let lines = [self.lines.as_slice(), std::slice::from_ref(&line)].concat();
        let facts = Facts {
            commit: known.commit().clone(),
            spec: CommitSpec { source: MAIN_SOURCE.to_owned(), ..CommitSpec::default() },
            trailers: words::message(&lines).trailers,
            seen_at: now,
        };
        let candidate =
            admission::candidate(view, spec, facts, &made.picture, Some(&suspects), Vec::new());
        if !candidate.problems.is_empty() {
            return Err(Uncommitted::Refused(candidate.problems));
        }
        if let Some(hold) = candidate.held.filter(|_| !wish.key.is::<Freeze>()) {
            return Err(Uncommitted::Forbidden(freeze::words(&hold)));
        }
        self.changes.insert(made.path, made.bytes);
        (self.picture, self.suspects) = (made.picture, suspects);
        self.lines.push(line);
        Ok(())
    }
}

/// What is wanted, made to fit what the object is now; a conflict when a commit changed the same.
pub(super) fn change(
    wish: &Wish,
    now: Option<&Object>,
    view: &View,
) -> Result<edit::Wish, Uncommitted> {
    if let (true, Some(now)) = (wish.adopt, now) {
        return drift(&wish.key, now, view);
    }
    let (before, after) = match (&wish.before, &wish.after) {
        (None, Some(after)) if now.is_none() => return Ok(edit::Wish::Create(after.clone())),
        (None, Some(_)) => return Err(Uncommitted::Exists),
        // Made through the API before its namespace belonged to Git: it moves there.
        (Some(_), Some(after)) if now.is_none() && view.origin(&wish.key).is_none() => {
            return Ok(edit::Wish::Create(after.clone()));
        }
        (_, None) => return now.map(|_| edit::Wish::Delete).ok_or(Uncommitted::Gone),
        (Some(before), Some(after)) => (before, after),
    };
    let mut now = now.ok_or(Uncommitted::Gone)?.value();
    let delta = Delta::between(before, after);
    if let Some(origin) = view.origin(&wish.key).filter(|origin| origin.open) {
        let scaled = after["spec"]["replicas"] != before["spec"]["replicas"];
        if scaled && after["spec"]["replicas"] == now["spec"]["replicas"] {
            return Err(Uncommitted::Refused(vec![left_open(origin, after)]));
        }
        now["spec"]["replicas"] = before["spec"]["replicas"].clone();
    }
    match delta.conflicts(Some(before), Some(&with_rest(&now, before))) {
        fields if fields.is_empty() => Ok(edit::Wish::Change(delta)),
        fields => Err(Uncommitted::Conflict { fields, other: last_author(view, &wish.key) }),
    }
}

/// That a number which a file leaves open cannot be set by leaving it out.
fn left_open(origin: &Origin, after: &Value) -> Problem {
    let message = format!(
        "it leaves the number of replicas to whoever scales it while it runs: write `replicas: {}` \
         there to set it",
        after["spec"]["replicas"]
    );
    Problem { file: origin.file.clone(), line: origin.line, message, ..Problem::default() }
}

/// What a live object says otherwise than Git: what adopting Git's would make of it is how it ought
/// to be, with all that others own.
fn drift(key: &Key, now: &Object, view: &View) -> Result<edit::Wish, Uncommitted> {
    let live = view.object(key).ok_or(Uncommitted::Gone)?;
    let ought = view.kinds().adopt(live, now).map_err(|errors| {
        let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Uncommitted::Forbidden(words.join("; "))
    })?;
    let (mut ought, live) = (adoptable(&ought), adoptable(live));
    if view.origin(key).is_some_and(|origin| origin.open) {
        // What Git leaves open is whatever it is.
        ought["spec"]["replicas"] = live["spec"]["replicas"].clone();
    }
    match Delta::between(&ought, &live) {
        Delta::Same => Err(Uncommitted::Exists),
        delta => Ok(edit::Wish::Change(delta)),
    }
}

/// What Git says now, with what the cluster added to the object that the writer saw: addresses and
/// the like are no change of anybody.
fn with_rest(now: &Value, before: &Value) -> Value {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            let mut whole = now.clone();
            for (key, value) in before {
                match now.get(key) {
                    Some(now) => whole.insert(key.clone(), with_rest(now, value)),
                    None => whole.insert(key.clone(), value.clone()),
                };
            }
            Value::Object(whole)
        }
        (now, _) => now.clone(),
    }
}

/// Who changed an object last, and in which commit.
fn last_author(view: &View, key: &Key) -> String {
    let Some(origin) = view.origin(key) else { return "another commit".to_owned() };
    let commit = view.get::<Commit>("", origin.commit.as_str());
    let author = commit.map_or("somebody", |commit| commit.spec.author.as_str());
    format!("{author} (commit {})", origin.commit.short())
}
