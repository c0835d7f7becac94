//! Writes through the API as commits: on the leader, one commit after the other.
//!
//! The file is edited at the commit that runs, and the push only succeeds on top of it. When the
//! branch has moved, what is new there is admitted first and the same wish is made on it, so fields
//! that others changed stay as they made them (docs/adr/0021-writes-become-commits.md). What one
//! author writes while a commit is under way becomes one commit behind it
//! (docs/adr/0031-writes-that-wait-become-one-commit.md).

mod gather;
mod queue;
mod words;

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::timeout,
};

use self::{
    gather::{Gathered, Ground, Verdict, gather},
    queue::Answer,
};
use super::{
    clock, export,
    import::{Error, Importer},
    known::Known,
};
use crate::{
    api::{Draft, Uncommitted, Wish},
    git::{self, Mirror},
    kinds::{Commit, CommitState, Freeze},
    model::{CommitId, Problem},
    plan::freeze,
    state::View,
};

pub(super) use queue::Queue;

/// How often a wish is made anew because the branch moved: each time it takes somebody who pushes
/// in the moment between our fetch and our push.
const TRIES_MAX: usize = 10;

/// How long a write waits for those before it. Half of what a request may take, so that who asked
/// still hears why.
const WAIT_SECONDS_MAX: u64 = 30;

/// How long a push may take, from connecting to the last byte.
const PUSH_SECONDS_MAX: u64 = 30;

/// How long this server's View may take to show what its own log applied.
const SHOWN_SECONDS_MAX: u64 = 10;

/// What is said to a write whose commit was given up half-way.
const BROKEN_OFF: &str = "it broke off: read it again, it may be done";

/// What a push came to.
enum Push {
    /// It is on the branch.
    Done(CommitId),
    /// The files say it already.
    Nothing,
    /// The branch stands elsewhere.
    Moved,
}

/// What became of several writes, and of the push of those that go together.
type Pushed = (Vec<Verdict>, Result<Push, Uncommitted>);

impl Importer {
    /// Makes a wish come true by a commit and admits it. Leader only.
    ///
    /// While a commit is under way, writes gather behind it; the first of them that has its turn
    /// makes one commit of all that its author waits for.
    pub(super) async fn commit(&self, wish: Wish) -> Answer {
        self.may_write()?;
        let (number, mut answered) = self.writes.join(wish)?;
        let wait = Duration::from_secs(WAIT_SECONDS_MAX);
        tokio::select! {
            biased;
            told = &mut answered => told.unwrap_or_else(|_| Err(not_now(BROKEN_OFF))),
            turn = timeout(wait, self.turn.lock()) => match turn {
                Ok(_turn) => self.work_off(&mut answered).await,
                Err(_) if self.writes.leave(number) => {
                    Err(not_now("those before it, or the remote, took too long"))
                }
                Err(_) => answered.await.unwrap_or_else(|_| Err(not_now(BROKEN_OFF))),
            }
        }
    }

    /// Makes what waits until one of it has its answer. The turn is held.
    async fn work_off(&self, answered: &mut oneshot::Receiver<Answer>) -> Answer {
        loop {
            match answered.try_recv() {
                Ok(told) => return told,
                Err(TryRecvError::Closed) => return Err(not_now(BROKEN_OFF)),
                Err(TryRecvError::Empty) => {}
            }
            let batch = self.writes.take();
            if batch.is_empty() {
                return Err(not_now(BROKEN_OFF));
            }
            let wishes = batch.iter().map(|waiting| waiting.wish.clone()).collect();
            let answers = self.make(wishes).await;
            let mut later = Vec::new();
            for (waiting, answer) in batch.into_iter().zip(answers) {
                match answer {
                    Some(answer) => waiting.tell(answer),
                    None => later.push(waiting),
                }
            }
            self.writes.put_back(later);
        }
    }

    /// Makes one commit of several wishes; `None` for what has to be made after it.
    async fn make(&self, wishes: Arc<[Wish]>) -> Vec<Option<Answer>> {
        let count = wishes.len();
        let made = self.try_make(wishes).await;
        made.unwrap_or_else(|why| vec![Some(Err(why)); count])
    }

    async fn try_make(&self, wishes: Arc<[Wish]>) -> Result<Vec<Option<Answer>>, Uncommitted> {
        for tried in 0..TRIES_MAX {
            if tried > 0 || self.store.view().head().is_none() {
                self.look().await.map_err(unavailable)?;
            }
            let view = self.store.view();
            let head = view.head().map(|head| head.commit.clone());
            let head = head.ok_or_else(|| not_now("nothing was admitted from Git yet"))?;
            let base = self.base(&view, head, &wishes).await?;
            if tried > 0 {
                self.is_admitted(&view, &base).await?;
            }
            let (verdicts, push) = self.push(view, base.clone(), wishes.clone()).await?;
            let told = match push {
                Ok(Push::Moved) => continue,
                Ok(Push::Nothing) => Ok(base),
                Ok(Push::Done(commit)) => self.admit(commit).await,
                Err(why) => Err(why),
            };
            let answer = |verdict| match verdict {
                Verdict::Made => Some(told.clone()),
                Verdict::Refused(why) => Some(Err(why)),
                Verdict::Later => None,
            };
            return Ok(verdicts.into_iter().map(answer).collect());
        }
        Err(not_now("the branch keeps moving: try again"))
    }

    /// What a wish would make of the file it belongs to, on what runs.
    pub(super) async fn draft(&self, wish: Wish) -> Result<Draft, Uncommitted> {
        self.may_write()?;
        let view = self.store.view();
        let head = view.head().map(|head| head.commit.clone());
        let head = head.ok_or_else(|| not_now("nothing was admitted from Git yet"))?;
        let base = self.base(&view, head, std::slice::from_ref(&wish)).await?;
        let drafted = move |ground: &Ground<'_>, _: &Mirror| {
            let gathered = gather(ground, &[wish]);
            if let Some(Verdict::Refused(why)) = gathered.verdicts.into_iter().next() {
                return Err(why);
            }
            let changed = gathered.changes.into_iter().next();
            let (file, new) = changed.ok_or(Uncommitted::Exists)?;
            let old = ground.reader.read_path(ground.known.commit(), &file);
            let old = old.map_err(|e| of_git(&e))?;
            let patch = git::patch(&file, old.as_deref(), new.as_deref());
            Ok(Draft { patch: patch.map_err(|e| of_git(&e))?, file })
        };
        self.on_ground(view, base, drafted).await
    }

    /// Refuses where a commit of ours would be refused for its signature.
    fn may_write(&self) -> Result<(), Uncommitted> {
        let refused = |why: &str| Err(Uncommitted::Forbidden(why.to_owned()));
        match &self.spec.verify {
            Some(verify) if verify.approval => {
                refused("every change needs the approval of another person: commit it")
            }
            Some(_) if !self.mirror.signs() => refused(
                "every commit has to be signed, and the servers have no key: set \
                 source.signingKeyFile, or commit it",
            ),
            _ => Ok(()),
        }
    }

    /// The commit on which wishes are made: what runs, but a freeze is prolonged or ended on the
    /// newest one, which may be held by it.
    async fn base(
        &self,
        view: &View,
        head: CommitId,
        wishes: &[Wish],
    ) -> Result<CommitId, Uncommitted> {
        if !wishes.iter().any(|wish| wish.key.is::<Freeze>()) {
            return Ok(head);
        }
        Ok(self.tip().await?.filter(|tip| is_held(view, tip)).unwrap_or(head))
    }

    async fn tip(&self) -> Result<Option<CommitId>, Uncommitted> {
        let mirror = self.mirror.clone();
        let tip = tokio::task::spawn_blocking(move || mirror.tip()).await;
        tip.map_err(|e| not_now(&e.to_string()))?.map_err(|e| of_git(&e))
    }

    /// Refuses while the tip of the branch is one that was refused or is held: a commit on top of
    /// it would be, too.
    async fn is_admitted(&self, view: &View, base: &CommitId) -> Result<(), Uncommitted> {
        let Some(tip) = self.tip().await?.filter(|tip| tip != base) else { return Ok(()) };
        let known = view.get::<Commit>("", tip.as_str());
        if let Some(hold) =
            known.and_then(|c| c.status.hold.as_ref()).filter(|_| is_held(view, &tip))
        {
            let why = format!("commit {} is the newest, and {}", tip.short(), freeze::words(hold));
            return Err(Uncommitted::Forbidden(why));
        }
        let mut problems = known.map(|c| c.status.problems.clone()).unwrap_or_default();
        let message =
            format!("commit {} is the newest and does not run: mend that first", tip.short());
        problems.insert(0, Problem { message, ..Problem::default() });
        Err(Uncommitted::Refused(problems))
    }

    async fn admit(&self, commit: CommitId) -> Result<CommitId, Uncommitted> {
        self.consider(&commit).await.map_err(unavailable)?;
        let is_head = |view: &View| {
            view.head().is_some_and(|head| head.commit == commit) || is_held(view, &commit)
        };
        let view = self.store.view();
        let refused = view.get::<Commit>("", commit.as_str()).filter(|_| !is_head(&view));
        if let Some(refused) = refused.filter(|c| !c.status.problems.is_empty()) {
            return Err(Uncommitted::Refused(refused.status.problems.clone()));
        }
        let mut views = self.store.views();
        let limit = Duration::from_secs(SHOWN_SECONDS_MAX);
        match timeout(limit, views.wait_for(is_head)).await {
            Ok(Ok(_)) => Ok(commit.clone()),
            _ => Err(not_now(&format!("commit {} is pushed and not admitted yet", commit.short()))),
        }
    }

    /// Edits, proves and pushes.
    async fn push(
        &self,
        view: View,
        base: CommitId,
        wishes: Arc<[Wish]>,
    ) -> Result<Pushed, Uncommitted> {
        let pushed = move |ground: &Ground<'_>, mirror: &Mirror| {
            let Gathered { verdicts, changes, message } = gather(ground, &wishes);
            let Some(first) = wishes.first().filter(|_| verdicts.contains(&Verdict::Made)) else {
                return Ok((verdicts, Ok(Push::Nothing)));
            };
            let (within, base) = (Duration::from_secs(PUSH_SECONDS_MAX), ground.known.commit());
            let author = words::author(&first.author, clock::now());
            let push = mirror.change(base, &changes, &message, &author, &export::us(), within);
            let push = match push {
                Ok(pushed) if pushed.attempts == 0 => Ok(Push::Nothing),
                Ok(pushed) => Ok(Push::Done(pushed.commit)),
                Err(git::Error::Moved { .. }) => Ok(Push::Moved),
                Err(error) => Err(of_git(&error)),
            };
            Ok((verdicts, push))
        };
        self.on_ground(view, base, pushed).await
    }

    /// Does something with the files of a commit, on a thread that may wait.
    async fn on_ground<T: Send + 'static>(
        &self,
        view: View,
        base: CommitId,
        work: impl FnOnce(&Ground<'_>, &Mirror) -> Result<T, Uncommitted> + Send + 'static,
    ) -> Result<T, Uncommitted> {
        let (mirror, shared, spec) = (self.mirror.clone(), self.known.clone(), self.spec.clone());
        let keyring = self.keyring.clone();
        let work = move || {
            let before = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let known = Known::read(&mirror, &base, &spec.path, before, &keyring);
            let known = known.map_err(unavailable)?;
            let reader = mirror.reader().map_err(|e| of_git(&e))?;
            let now = clock::now();
            let ground = Ground { reader: &reader, known: &known, view: &view, spec: &spec, now };
            work(&ground, &mirror)
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| not_now(&e.to_string()))?
    }
}

fn is_held(view: &View, commit: &CommitId) -> bool {
    let known = view.get::<Commit>("", commit.as_str());
    known.is_some_and(|known| known.status.state == CommitState::Held)
}

fn not_now(why: &str) -> Uncommitted {
    Uncommitted::Unavailable(why.to_owned())
}

fn unavailable(error: Error) -> Uncommitted {
    match &error {
        Error::Git(error) => of_git(error),
        other => not_now(&other.to_string()),
    }
}

/// What a remote's answer means to whoever writes.
fn of_git(error: &git::Error) -> Uncommitted {
    match error {
        git::Error::Rejected { .. } | git::Error::Denied { .. } | git::Error::Reference { .. } => {
            Uncommitted::Forbidden(error.to_string())
        }
        other => not_now(&other.to_string()),
    }
}

#[cfg(test)]
mod tests;
