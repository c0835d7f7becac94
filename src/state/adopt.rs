//! Commits: their parts are gathered and become what runs all at once.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use smol_str::SmolStr;

use super::{
    apply::{Context, State, Way, has_finalizers},
    command::{Adopt, Desired, Expect, Refusal},
    view::{Head, is_hook},
};
use crate::{
    kinds::{Commit, GitSource},
    model::{CommitId, Key, Object, Problem},
    state::MAIN_SOURCE,
};

impl State {
    /// Makes a commit the head once its last part is here.
    pub(super) fn adopt(&mut self, adopt: Adopt, context: &mut Context) -> Result<(), Refusal> {
        let source = adopt.source.clone();
        let head = self.view.head_of(&source).map(|h| h.commit.clone());
        if adopt.base != head {
            self.unstage(&source);
            return Err(Refusal::HeadMoved { found: head });
        }
        if adopt.part == 0 {
            self.unstage(&source);
        }
        let staged = || self.staged.iter().filter(|p| p.source == source);
        let fits = staged().all(|p| p.commit == adopt.commit && p.parts == adopt.parts);
        if !fits || staged().count() != adopt.part as usize {
            self.unstage(&source);
            let text = format!("part {} of {} came out of order", adopt.part, adopt.parts);
            return Err(Refusal::Misplaced(text));
        }
        let last = adopt.part + 1 == adopt.parts;
        self.staged.push(lean(adopt));
        if !last {
            return Ok(());
        }
        let parts = self.unstage(&source);
        let Some(commit) = parts.first().map(|p| p.commit.clone()) else { return Ok(()) };
        self.adopt_all(source, commit, parts, context)
    }

    /// Takes the parts of a source's commit that is not complete.
    fn unstage(&mut self, source: &str) -> Vec<Adopt> {
        self.staged.extract_if(.., |part| part.source == source).collect()
    }

    fn adopt_all(
        &mut self,
        source: SmolStr,
        commit: CommitId,
        parts: Vec<Adopt>,
        context: &mut Context,
    ) -> Result<(), Refusal> {
        let mut problems = Vec::new();
        for part in parts {
            if part.part == 0 {
                let record = &part.record;
                // What the main source says of another one stays as it is.
                if record.key().is::<Commit>() {
                    self.put(record.key(), record.value(), Expect::Any, Way::Owner, context)?;
                }
                self.put_status(record, Expect::Any)?;
                part.told.iter().try_for_each(|told| self.put_status(told, Expect::Any))?;
            }
            let sources: Vec<Key> =
                part.deletes.iter().filter(|key| key.is::<GitSource>()).cloned().collect();
            for key in part.deletes {
                let owned = self.view.origins.remove(&key).is_some();
                self.view.note_drift(&key);
                if owned && self.view.objects.contains_key(&key) {
                    self.delete(&key, "", None, context.at)?;
                }
            }
            // Once what goes with them is gone.
            sources.iter().for_each(|key| self.release(&key.name));
            for key in part.left {
                self.view.origins.remove(&key);
                self.view.note_drift(&key);
            }
            for desired in part.upserts {
                match self.view.claimed(&desired) {
                    Some(problem) => problems.push(problem),
                    None => self.adopt_one(desired, &mut problems, context)?,
                }
            }
        }
        if !problems.is_empty() {
            return Err(Refusal::Invalid { problems });
        }
        let revision = self.view.revision;
        self.view.heads.insert(source, Head { commit, at: context.at, revision });
        Ok(())
    }

    /// Lets a source go whose object has just been written, when it is there no more or when its
    /// units hold what it held.
    pub(super) fn settle_source(&mut self, key: &Key) {
        if !key.is::<GitSource>() || key.name == MAIN_SOURCE {
            return;
        }
        let source = self.view.get::<GitSource>("", &key.name);
        if source.is_none_or(|source| source.spec.is_by_unit()) {
            self.release(&key.name);
        }
    }

    /// Forgets a source that is no longer followed; what it brought and nobody deleted stays, and
    /// is nobody's.
    fn release(&mut self, source: &str) {
        self.view.heads.remove(source);
        self.unstage(source);
        let left: Vec<Key> = self.view.origins_in(source).map(|(key, _)| key.clone()).collect();
        for key in left {
            self.view.origins.remove(&key);
            self.view.note_drift(&key);
        }
    }

    fn adopt_one(
        &mut self,
        desired: Desired,
        problems: &mut Vec<Problem>,
        context: &mut Context,
    ) -> Result<(), Refusal> {
        let mut value = desired.stored();
        let Desired { object, origin } = desired;
        let key = object.key().clone();
        if let Some(live) = self.view.objects.get(&key).filter(|_| origin.open) {
            // How many there are was decided while it ran, and is not for Git to say.
            value["spec"]["replicas"] = live.value()["spec"]["replicas"].clone();
        }
        if is_hook(&object) && origin.ended.is_some() {
            // It has run before, and does not run now: what is there stays what it is.
            match self.view.origins.get_mut(&key) {
                Some(known) => {
                    let known = Arc::make_mut(known);
                    known.ended = origin.ended;
                    known.digest = origin.digest;
                }
                None => drop(self.view.origins.insert(key.clone(), Arc::new(origin))),
            }
            self.view.note_drift(&key);
            return Ok(());
        }
        if self.is_made_anew(&object) {
            self.remove(&key);
        }
        match self.put(&key, value, Expect::Any, Way::Git, context) {
            Err(Refusal::Invalid { problems: found }) => {
                problems.extend(found.into_iter().map(|p| Problem {
                    file: origin.file.clone(),
                    line: origin.line,
                    ..p
                }));
            }
            other => other?,
        }
        self.view.origins.insert(key.clone(), Arc::new(origin));
        self.view.note_drift(&key);
        self.settle_source(&key);
        Ok(())
    }

    /// Whether an object takes the place of the live one instead of changing it: a hook runs again,
    /// and a Job whose template says something else is another Job. The pods go with the one that
    /// they belong to.
    fn is_made_anew(&self, object: &Object) -> bool {
        let other = |live: &Object| self.view.kinds.adopt(live, object).is_err();
        self.view.objects.get(object.key()).is_some_and(|live| {
            !has_finalizers(&live.value())
                && (is_hook(object) || object.key().is::<Job>() && other(live))
        })
    }
}

/// A part that waits for the others: a commit may have many objects, and nobody reads them yet.
fn lean(part: Adopt) -> Adopt {
    let all = part.upserts.into_iter();
    let upserts = all.map(|Desired { object, mut origin }| {
        if origin.commit == part.commit {
            // The same text, held once.
            origin.commit = part.commit.clone();
        }
        Desired { object: object.lean(), origin }
    });
    let upserts = upserts.collect();
    Adopt { upserts, ..part }
}
