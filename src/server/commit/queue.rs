//! The writes that wait to become a commit.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::not_now;
use crate::{
    api::{Uncommitted, Wish},
    kinds::Freeze,
    model::CommitId,
};

/// Most writes that wait for each other: at some 50 ms each, what waits longest is done in time.
const WAITING_MAX: usize = 256;

/// Most writes of one commit: what a person still reads.
const GATHERED_MAX: usize = 64;

/// What becomes of a write.
pub(super) type Answer = Result<CommitId, Uncommitted>;

/// One write, and who waits for it.
pub(super) struct Waiting {
    number: u64,
    pub(super) wish: Wish,
    answer: oneshot::Sender<Answer>,
}

impl Waiting {
    /// Tells who waits. That one may have gone, which changes nothing.
    pub(super) fn tell(self, answer: Answer) {
        drop(self.answer.send(answer));
    }
}

/// The writes that wait, in the order in which they came.
#[derive(Default)]
pub(in crate::server) struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    next: u64,
}

impl Queue {
    /// Puts a write at the end; gives its number, and where its answer comes.
    pub(super) fn join(&self, wish: Wish) -> Result<(u64, oneshot::Receiver<Answer>), Uncommitted> {
        let mut inner = self.lock();
        if inner.waiting.len() >= WAITING_MAX {
            return Err(not_now("too many writes wait"));
        }
        let (answer, answered) = oneshot::channel();
        let number = inner.next;
        inner.next += 1;
        inner.waiting.push_back(Waiting { number, wish, answer });
        Ok((number, answered))
    }

    /// Takes a write out again; false when it is being made already.
    pub(super) fn leave(&self, number: u64) -> bool {
        let mut inner = self.lock();
        let before = inner.waiting.len();
        inner.waiting.retain(|waiting| waiting.number != number);
        inner.waiting.len() < before
    }

    /// Takes what becomes one commit: the first that waits, and what its author wrote since. A
    /// freeze is a commit of its own: it may stand on another one than what runs.
    pub(super) fn take(&self) -> Vec<Waiting> {
        let mut inner = self.lock();
        let Some(first) = inner.waiting.pop_front() else { return Vec::new() };
        let mut taken = vec![first];
        let is_alone = |waiting: &Waiting| waiting.wish.key.is::<Freeze>();
        if is_alone(&taken[0]) {
            return taken;
        }
        let all = std::mem::take(&mut inner.waiting);
        for waiting in all {
            let same = waiting.wish.author == taken[0].wish.author && !is_alone(&waiting);
            match same && taken.len() < GATHERED_MAX {
                true => taken.push(waiting),
                false => inner.waiting.push_back(waiting),
            }
        }
        taken
    }

    /// Puts back what was not made, before everything that came later.
    pub(super) fn put_back(&self, later: Vec<Waiting>) {
        let mut inner = self.lock();
        for waiting in later.into_iter().rev() {
            inner.waiting.push_front(waiting);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Key;

    fn wish(key: &str, author: &str) -> Wish {
        let key = Key::parse(key).unwrap();
        let author = author.to_owned();
        Wish { key, before: None, after: None, author, via: String::new(), adopt: false }
    }

    fn names(taken: &[Waiting]) -> Vec<&str> {
        taken.iter().map(|waiting| waiting.wish.key.name.as_str()).collect()
    }

    /// What must not happen: a commit whose author wrote only a part of it, a write that is made
    /// twice, or one that waits for ever behind others.
    #[test]
    fn writes_of_one_author_are_taken_together_in_their_order() {
        let queue = Queue::default();
        let numbers: Vec<u64> = [
            ("ConfigMap/shop/a", "ada"),
            ("ConfigMap/shop/b", "bob"),
            ("ConfigMap/shop/c", "ada"),
            ("Freeze.mainstay.io//f", "ada"),
            ("ConfigMap/shop/d", "ada"),
            ("ConfigMap/shop/e", "bob"),
        ]
        .into_iter()
        .map(|(key, author)| queue.join(wish(key, author)).unwrap().0)
        .collect();
        assert!(queue.leave(numbers[4]), "whoever waits too long goes");
        assert!(!queue.leave(numbers[4]));
        let mut taken = queue.take();
        assert_eq!(names(&taken), ["a", "c"]);
        assert!(!queue.leave(numbers[0]), "it is being made");
        queue.put_back(taken.split_off(1));
        assert_eq!(names(&queue.take()), ["c"], "the freeze is a commit of its own");
        assert_eq!(names(&queue.take()), ["b", "e"]);
        assert_eq!(names(&queue.take()), ["f"]);
        assert!(queue.take().is_empty());
        for _ in 0..WAITING_MAX {
            queue.join(wish("ConfigMap/shop/a", "ada")).unwrap();
        }
        assert!(queue.join(wish("ConfigMap/shop/a", "ada")).is_err());
        assert_eq!(queue.take().len(), GATHERED_MAX);
    }
}
