//! What the driver keeps of one pod.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use k8s_openapi::api::core::v1::PodStatus;

use super::{Settings, retry_after};
use crate::{
    agent::runtime::Found,
    model::{Key, Object, Timestamp},
    node::{
        Assignment, Memory,
        assignment::GRACE,
        budget::Budget,
        probe::{Kind, State as ProbeState},
        tokens::{Token, Tokens, Wish},
    },
};

#[derive(Debug)]
pub(super) struct Pod {
    pub(super) key: Key,
    pub(super) object: Option<Object>,
    pub(super) want: Option<Arc<Assignment>>,
    pub(super) want_ip: Option<IpAddr>,
    pub(super) found: Found,
    pub(super) memory: Memory,
    pub(super) status: Option<PodStatus>,
    pub(super) reported: Option<PodStatus>,
    pub(super) start_time: Timestamp,
    /// A step is under way.
    pub(super) busy: bool,
    /// Something happened meanwhile.
    pub(super) again: bool,
    pub(super) wake: Option<Timestamp>,
    /// Nothing is left and that was reported.
    pub(super) gone: bool,
    /// The address of a sandbox that is being made.
    pub(super) claim: Option<Ipv4Addr>,
    /// Failed steps in a row, and when the next may be tried.
    pub(super) retry: Option<(u32, Timestamp)>,
    /// The last thing said about volumes that cannot be made.
    pub(super) unmounted: Option<String>,
    pub(super) touched: u64,
    /// The events that may still be told about it.
    pub(super) budget: Budget,
    /// The tokens it was given.
    pub(super) tokens: Tokens,
    /// When each is asked for again.
    pub(super) asking: BTreeMap<Wish, Asking>,
}

/// How a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// Just now.
    Busy {
        /// How often in a row it was not given.
        failures: u32,
    },
    /// Again at that time.
    Next {
        /// When.
        at: Timestamp,
        /// How often in a row it was not given.
        failures: u32,
    },
}

impl Pod {
    pub(super) fn new(key: Key, now: Timestamp) -> Self {
        Self {
            key,
            object: None,
            want: None,
            want_ip: None,
            found: Found::default(),
            memory: Memory::default(),
            status: None,
            reported: None,
            start_time: now,
            busy: false,
            again: false,
            wake: None,
            gone: false,
            claim: None,
            retry: None,
            unmounted: None,
            touched: 0,
            budget: Budget::new(now),
            tokens: Tokens::new(),
            asking: BTreeMap::new(),
        }
    }

    pub(super) fn address(&self, want: &Assignment) -> Option<IpAddr> {
        let sandbox = self.found.sandbox.as_ref().and_then(|s| s.ip);
        sandbox.or_else(|| Some(&want.host_ip).filter(|_| want.sandbox.host_network)?.parse().ok())
    }

    /// Reads the assignment anew. A pod that is not desired any more is to be removed, as it was
    /// last described.
    pub(super) fn refresh(
        &mut self,
        uid: &str,
        objects: &BTreeMap<Key, Object>,
        settings: &Settings,
    ) {
        self.want_ip = self.found.sandbox.as_ref().and_then(|s| s.ip);
        let want = match &self.object {
            Some(object) => {
                let (node, dns) = (&settings.node, &settings.dns);
                Assignment::of(object, objects, node, dns, self.want_ip, &self.tokens)
            }
            None => None,
        };
        let want = want.unwrap_or_else(|| match self.want.as_deref() {
            Some(before) => before.clone().gone(),
            None => {
                let grace = self.found.grace.unwrap_or(GRACE);
                Assignment::orphan(self.key.clone(), uid, grace)
            }
        });
        self.want = Some(Arc::new(want));
    }

    /// The tokens to ask for now, and when the next one is due.
    pub(super) fn due_tokens(&mut self, now: Timestamp) -> (Vec<Wish>, Option<Timestamp>) {
        let (mut due, mut wake) = (vec![], None);
        let want = self.want.clone();
        for wish in want.iter().flat_map(|w| w.wishes.iter()) {
            let failures = match self.asking.get(wish) {
                Some(Asking::Busy { .. }) => continue,
                Some(Asking::Next { at, .. }) if *at > now => {
                    wake = wake.into_iter().chain([*at]).min();
                    continue;
                }
                Some(Asking::Next { failures, .. }) => *failures,
                None => 0,
            };
            self.asking.insert(wish.clone(), Asking::Busy { failures });
            due.push(wish.clone());
        }
        (due, wake)
    }

    /// Takes in a token, or that it was not given; one that is still good stays. Gives why the pod
    /// has none.
    pub(super) fn take_token(
        &mut self,
        wish: Wish,
        result: Result<Token, String>,
        now: Timestamp,
    ) -> Option<String> {
        let failures = match self.asking.get(&wish) {
            Some(Asking::Busy { failures } | Asking::Next { failures, .. }) => *failures,
            None => 0,
        };
        let (next, kept) = match &result {
            Ok(token) => (Asking::Next { at: token.refresh_at(now), failures: 0 }, false),
            Err(_) => {
                let failures = failures.saturating_add(1);
                let at = now + retry_after(failures - 1);
                let good = |t: &Result<Token, String>| t.as_ref().is_ok_and(|t| t.expires > now);
                (Asking::Next { at, failures }, self.tokens.get(&wish).is_some_and(good))
            }
        };
        self.asking.insert(wish.clone(), next);
        let why = result.as_ref().err().cloned();
        if !kept {
            self.tokens.insert(wish, result);
        }
        why
    }

    /// Takes in what there is of the pod now.
    pub(super) fn see(
        &mut self,
        uid: &str,
        found: Found,
        objects: &BTreeMap<Key, Object>,
        settings: &Settings,
    ) {
        if found.unknown {
            // Half a picture is none: what was seen before stays.
            self.found.unknown = true;
            return;
        }
        self.found = found;
        if self.found.sandbox.is_some() {
            self.claim = None;
        }
        let containers = self.found.containers.values().flatten();
        let mut ids: Vec<&str> = containers.clone().map(|c| c.id.as_str()).collect();
        ids.extend(self.found.sandbox.iter().map(|s| s.id.as_str()));
        self.memory.probes.retain(|(id, _), _| ids.contains(&id.as_str()));
        self.memory.stopping.retain(|id, _| ids.contains(&id.as_str()));
        self.memory.resized.retain(|id, _| ids.contains(&id.as_str()));
        let newest = |name: &String| self.found.containers.get(name)?.last().map(|c| c.attempt);
        self.memory.pulled.retain(|(name, attempt)| newest(name) <= Some(*attempt));
        for container in containers.filter(|c| c.state.is_running()) {
            seed(&mut self.memory, self.status.as_ref(), &container.id);
        }
        let ip = self.found.sandbox.as_ref().and_then(|s| s.ip);
        if self.object.is_some() && self.want_ip != ip {
            self.refresh(uid, objects, settings);
        }
    }
}

/// A container that an agent before us (or a look before this one) knew as ready stays so until a
/// probe says otherwise: a restart of the agent takes no endpoint away.
fn seed(memory: &mut Memory, status: Option<&PodStatus>, id: &str) {
    let known = format!("docker://{id}");
    let lists = status
        .into_iter()
        .flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten());
    let mut lists = lists.filter(|s| s.container_id.as_ref() == Some(&known));
    let Some(status) = lists.next() else { return };
    let verdicts = [(Kind::Readiness, status.ready), (Kind::Startup, status.started == Some(true))];
    for (kind, holds) in verdicts {
        if holds {
            let state = ProbeState { verdict: Some(true), ..ProbeState::default() };
            memory.probes.entry((id.to_owned(), kind)).or_insert(state);
        }
    }
}
