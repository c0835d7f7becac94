//! Seats that users share, and who waits for one: pure.

use std::collections::{BTreeMap, VecDeque};

/// How many may sit and wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Seats of all.
    pub(super) seats: usize,
    /// Seats of one user.
    pub(super) seats_user: usize,
    /// Who waits, of all users.
    pub(super) waiting: usize,
}

/// Seats, and a queue of each user's own. Somebody who waits is a `T`, by which it is called.
///
/// A free seat goes to the next user in turn, so that one with a thousand requests and one with a
/// single request get the next two seats. Whenever a seat is free, everybody who waits has as many
/// as one user may have.
#[derive(Debug)]
pub(super) struct Seats<T> {
    bounds: Bounds,
    seated: BTreeMap<String, usize>,
    waiting: BTreeMap<String, VecDeque<T>>,
    /// Users who wait, each once; the next seat is the first one's.
    turn: VecDeque<String>,
}

impl<T> Seats<T> {
    /// Everything free.
    pub(super) fn new(bounds: Bounds) -> Self {
        let (seated, waiting, turn) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Self { bounds, seated, waiting, turn }
    }

    /// How many sit.
    pub(super) fn seated(&self) -> usize {
        self.seated.values().sum()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Takes a seat; false when there is none for this user.
    pub(super) fn sit(&mut self, user: &str) -> bool {
        let free = self.seated() < self.bounds.seats && self.may_sit(user);
        if free {
            *self.seated.entry(user.to_owned()).or_default() += 1;
        }
        free
    }

    /// Lets somebody wait; gives the ticket back when there is no room.
    ///
    /// In a full queue the user who waits most makes room for those who wait less: `Ok` may carry
    /// the ticket of one that was turned away for it.
    pub(super) fn wait(&mut self, user: &str, ticket: T) -> Result<Option<T>, T> {
        let mut turned_away = None;
        if self.waiting() >= self.bounds.waiting {
            let own = self.waiting.get(user).map_or(0, VecDeque::len);
            let longest = self.waiting.values_mut().max_by_key(|queue| queue.len());
            match longest {
                Some(queue) if queue.len() > own + 1 => turned_away = queue.pop_back(),
                _ => return Err(ticket),
            }
        }
        let queue = self.waiting.entry(user.to_owned()).or_default();
        if queue.is_empty() {
            self.turn.push_back(user.to_owned());
        }
        queue.push_back(ticket);
        Ok(turned_away)
    }

    /// Gives a seat back; whoever is called next has it already.
    pub(super) fn leave(&mut self, user: &str) -> Option<(String, T)> {
        if let Some(seated) = self.seated.get_mut(user) {
            *seated -= 1;
            if *seated == 0 {
                self.seated.remove(user);
            }
        }
        let at = self.turn.iter().position(|user| self.may_sit(user))?;
        let next = self.turn.remove(at)?;
        let queue = self.waiting.get_mut(&next)?;
        let ticket = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&next);
        } else {
            self.turn.push_back(next.clone());
        }
        *self.seated.entry(next.clone()).or_default() += 1;
        Some((next, ticket))
    }

    /// Forgets those who do not wait any more.
    pub(super) fn prune(&mut self, gone: impl Fn(&T) -> bool) {
        self.waiting.retain(|_, queue| {
            queue.retain(|ticket| !gone(ticket));
            !queue.is_empty()
        });
        self.turn.retain(|user| self.waiting.contains_key(user));
    }

    fn may_sit(&self, user: &str) -> bool {
        self.seated.get(user).is_none_or(|seated| *seated < self.bounds.seats_user)
    }
}
