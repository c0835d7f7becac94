//! Keeps the kernel's chains as `node::rules` wants them.
//!
//! In: a [`Ruleset`]. Out: the chains in the kernel. Jumps from built-in chains are placed one by
//! one with the `iptables` crate; the chains themselves go through one `iptables-restore
//! --noflush`, and after the first time only those that changed. `agent::proxy` calls; nothing is
//! decided here but what must be written again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::iptables::IPTables;
use sha2::{Digest, Sha256};

use super::command::{CommandError, Netns, blocking, run};
use crate::node::rules::{ChainKey, FIXED_CHAINS, JUMPS, Jump, Ruleset, Table, diff, is_ours};

/// Longest time one load may take. The first load of 5,000 services takes 1.5 s on the nft variant;
/// a host that is busy, or slow with many chains, gets much more.
const RESTORE_DEADLINE: Duration = Duration::from_secs(120);

/// Longest time for a single question or jump rule.
const QUESTION_DEADLINE: Duration = Duration::from_secs(20);

/// Seconds to wait for the lock that all users of the legacy variant share, as kube-proxy does.
const LOCK_WAIT_SECONDS: &str = "5";

/// How often a load is tried when another program holds the lock; then the caller's back-off
/// decides.
const LOCK_TRIES: usize = 3;

/// Up to this many rules the whole of our tables is read at each check (some 10 ms). Above, only
/// the chains that are always there and [`CHAINS_PER_CHECK`] others in turn, because reading 5,000
/// services takes most of a second.
const RULES_READ_WHOLE_MAX: usize = 2_000;

/// Chains of single services looked at in one check of a large rule set, at 5 ms each.
const CHAINS_PER_CHECK: usize = 16;

/// What went wrong; the rules that were there before stay unless the text says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tool is missing, hangs or refuses.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Another program holds the lock of iptables. Try again later.
    #[error("another program holds the lock of iptables")]
    Locked,
    /// A line of a load was refused; the table it belongs to is unchanged.
    #[error("iptables-restore refused line {number}, {line:?}: {stderr}")]
    Line {
        /// Counted from 1.
        number: usize,
        /// The line.
        line: String,
        /// What iptables-restore said.
        stderr: String,
    },
    /// A jump rule could not be placed or looked at.
    #[error("jump in {table} {chain}: {message}")]
    Jump {
        /// The table.
        table: Table,
        /// The built-in chain.
        chain: &'static str,
        /// What iptables said.
        message: String,
    },
}

/// Which iptables this host uses. Both at once confuse each other, so we keep to what `iptables`
/// itself is, which Docker uses too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// iptables over nf_tables.
    Nft,
    /// The old tables.
    Legacy,
}

/// The iptables of one network namespace.
pub struct Iptables {
    netns: Netns,
    backend: Backend,
    /// `iptables-nft` where the variants have their own names, so that a change of the host's
    /// default does not split our rules in two; `iptables` elsewhere.
    name: &'static str,
    /// What the kernel holds as far as we know; `None` before the first load and after a failed
    /// one.
    written: Option<Ruleset>,
    /// Whether the jumps were placed once; later it is the checks that look after them.
    jumps_placed: bool,
    /// What the kernel showed for a chain after we wrote it, hashed.
    shown: BTreeMap<ChainKey, [u8; 32]>,
    /// Held by the thread that works on jumps: there is never more than one, even if it hangs on
    /// the lock.
    jumping: Arc<Mutex<()>>,
    /// Where the next check of a large rule set goes on.
    next_chain: Option<ChainKey>,
}

impl Iptables {
    /// Looks which variant the host uses. Errors when iptables is not installed.
    pub async fn open(netns: Netns) -> Result<Self, Error> {
        let version = run(&netns, "iptables", &["-V"], "", QUESTION_DEADLINE).await?;
        let (backend, variant) = match version.contains("nf_tables") {
            true => (Backend::Nft, "iptables-nft"),
            false => (Backend::Legacy, "iptables-legacy"),
        };
        let named = run(&netns, variant, &["-V"], "", QUESTION_DEADLINE).await.is_ok();
        Ok(Self {
            netns,
            backend,
            name: if named { variant } else { "iptables" },
            written: None,
            jumps_placed: false,
            shown: BTreeMap::new(),
            jumping: Arc::default(),
            next_chain: None,
        })
    }

    /// Which variant this is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// `iptables-restore` of the variant.
    fn program(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.name)
    }

    /// Brings the kernel to `want`: the chains that differ from what was written last, or after a
    /// failure all, and then the jumps. Costs nothing when nothing changed and the jumps were
    /// placed.
    pub async fn sync(&mut self, want: &Ruleset) -> Result<(), Error> {
        let text = match &self.written {
            Some(written) => diff(written, want),
            None => self.whole(want).await?,
        };
        if !text.is_empty() {
            let before = self.written.take();
            self.restore(&text).await?;
            let same = |key: &ChainKey| {
                before.as_ref().is_some_and(|b| b.chains().get(key) == want.chains().get(key))
            };
            self.shown.retain(|key, _| same(key));
            self.written = Some(want.clone());
        }
        if !self.jumps_placed {
            self.place_jumps().await?;
            self.jumps_placed = true;
        }
        Ok(())
    }

    /// A load of everything, with the removal of chains that an earlier run left.
    async fn whole(&self, want: &Ruleset) -> Result<String, Error> {
        let there = self.chains_of_ours().await?;
        let stale: Vec<_> = there.iter().filter(|key| !want.chains().contains_key(*key)).collect();
        Ok(want.to_restore_of(want.chains().keys(), stale))
    }

    /// Our chains in the kernel.
    async fn chains_of_ours(&self) -> Result<BTreeSet<ChainKey>, Error> {
        let mut found = BTreeSet::new();
        for table in Table::ALL {
            let saved = self.save(table).await?;
            let names = saved.lines().filter_map(|line| line.strip_prefix(':')?.split(' ').next());
            found.extend(names.filter(|c| is_ours(table, c)).map(|c| (table, c.into())));
        }
        Ok(found)
    }

    async fn save(&self, table: Table) -> Result<String, Error> {
        let (program, args) = (self.program("-save"), ["-t", table.as_str()]);
        Ok(run(&self.netns, &program, &args, "", QUESTION_DEADLINE).await?)
    }

    /// Loads a text; tries again a few times when only the lock was missing.
    pub(super) async fn restore(&self, text: &str) -> Result<(), Error> {
        let program = self.program("-restore");
        let args = ["--noflush", "-w", LOCK_WAIT_SECONDS];
        for _ in 0..LOCK_TRIES {
            match run(&self.netns, &program, &args, text, RESTORE_DEADLINE).await {
                Err(CommandError::Failed { stderr, .. }) if stderr.contains("xtables lock") => {}
                Err(cause) => return Err(explain(cause, text)),
                Ok(_) => return Ok(()),
            }
        }
        Err(Error::Locked)
    }

    /// Looks whether somebody changed what we wrote, and repairs it. Returns a sentence for each
    /// repair.
    pub async fn check(&mut self) -> Result<Vec<String>, Error> {
        let Some(written) = self.written.clone() else { return Ok(vec![]) };
        let damaged = if written.rule_count() <= RULES_READ_WHOLE_MAX {
            self.damaged_of_all(&written).await?
        } else {
            self.damaged_of_some(&written).await?
        };
        let mut done = vec![];
        if !damaged.is_empty() {
            // A large set is only sampled: one bad chain stands for others.
            let text = if written.rule_count() <= RULES_READ_WHOLE_MAX {
                written.to_restore_of(&damaged, [])
            } else {
                self.whole(&written).await?
            };
            self.restore(&text).await?;
            let names: Vec<_> =
                damaged.iter().map(|(table, chain)| format!("{table} {chain}")).collect();
            done.push(format!("wrote again what somebody changed: {}", names.join(", ")));
        }
        done.extend(self.place_jumps().await?);
        Ok(done)
    }

    async fn damaged_of_all(&mut self, written: &Ruleset) -> Result<Vec<ChainKey>, Error> {
        let mut damaged = vec![];
        for table in Table::ALL {
            let mut found: BTreeMap<ChainKey, Vec<String>> = BTreeMap::new();
            for line in self.save(table).await?.lines() {
                if let Some(chain) = line.strip_prefix(':').and_then(|l| l.split(' ').next()) {
                    found.entry((table, chain.into())).or_default();
                } else if let Some(rule) = line.strip_prefix("-A ") {
                    let chain = rule.split(' ').next().unwrap_or_default();
                    found.entry((table, chain.into())).or_default().push(line.to_owned());
                }
            }
            for (key, rules) in written.chains().iter().filter(|((t, _), _)| *t == table) {
                if !self.is_intact(key, rules.len(), found.get(key).map(Vec::as_slice)) {
                    damaged.push(key.clone());
                }
            }
        }
        Ok(damaged)
    }

    async fn damaged_of_some(&mut self, written: &Ruleset) -> Result<Vec<ChainKey>, Error> {
        let fixed = FIXED_CHAINS.map(|(table, chain)| (table, chain.into()));
        let own = |key: &&ChainKey| !FIXED_CHAINS.contains(&(key.0, key.1.as_str()));
        let from = self.next_chain.take();
        let later = written.chains().keys().filter(own);
        let mut later = later.skip_while(|key| from.as_ref().is_some_and(|from| *key < from));
        let mut keys: Vec<ChainKey> = fixed.into_iter().collect();
        keys.extend(later.by_ref().take(CHAINS_PER_CHECK).cloned());
        self.next_chain = later.next().cloned();
        let mut damaged = vec![];
        for key in keys {
            let Some(rules) = written.chains().get(&key) else { continue };
            let (program, table) = (self.program(""), key.0.as_str());
            let args = ["-w", LOCK_WAIT_SECONDS, "-t", table, "-S", key.1.as_str()];
            let found = match run(&self.netns, &program, &args, "", QUESTION_DEADLINE).await {
                Ok(text) => Some(text),
                Err(CommandError::Failed { .. }) => None,
                Err(other) => return Err(other.into()),
            };
            let lines = found.map(|text| {
                let rules = text.lines().filter(|line| line.starts_with("-A "));
                rules.map(str::to_owned).collect::<Vec<_>>()
            });
            if !self.is_intact(&key, rules.len(), lines.as_deref()) {
                damaged.push(key);
            }
        }
        Ok(damaged)
    }

    /// Whether a chain is as we wrote it: as many rules as we wrote, and the same text as the first
    /// time we looked after writing. (iptables prints a rule in its own words, so ours cannot be
    /// compared with it directly.)
    fn is_intact(&mut self, key: &ChainKey, count: usize, found: Option<&[String]>) -> bool {
        let Some(lines) = found.filter(|lines| lines.len() == count) else {
            self.shown.remove(key);
            return false;
        };
        let hash: [u8; 32] = Sha256::digest(lines.join("\n")).into();
        let same = *self.shown.entry(key.clone()).or_insert(hash) == hash;
        if !same {
            self.shown.remove(key);
        }
        same
    }

    /// Puts the jumps at the head of their chains where they are not. Returns a sentence for each
    /// chain that was changed.
    async fn place_jumps(&self) -> Result<Vec<String>, Error> {
        let (jumping, name) = (self.jumping.clone(), self.name);
        let work = move || {
            let _held = match jumping.try_lock() {
                Ok(held) => held,
                Err(std::sync::TryLockError::WouldBlock) => return Err(Error::Locked),
                Err(std::sync::TryLockError::Poisoned(held)) => PoisonError::into_inner(held),
            };
            place_all(&open_crate(name)?)
        };
        blocking(&self.netns, "iptables", QUESTION_DEADLINE, work).await?
    }

    /// Removes all that is ours from the kernel: jumps, then chains.
    pub async fn remove_all(&mut self) -> Result<(), Error> {
        self.written = None;
        self.jumps_placed = false;
        self.shown.clear();
        let name = self.name;
        let work = move || remove_jumps(&open_crate(name)?);
        blocking(&self.netns, "iptables", QUESTION_DEADLINE, work).await??;
        let there = self.chains_of_ours().await?;
        let text = Ruleset::default().to_restore_of([], &there);
        if text.is_empty() { Ok(()) } else { self.restore(&text).await }
    }
}

/// Finds the line that iptables-restore complained about.
fn explain(cause: CommandError, text: &str) -> Error {
    let CommandError::Failed { stderr, .. } = &cause else { return Error::Command(cause) };
    let digits = |rest: &str| -> String { rest.chars().take_while(char::is_ascii_digit).collect() };
    let mut numbers =
        stderr.split("line").skip(1).map(|rest| digits(rest.trim_start_matches([':', ' '])));
    let number: Option<usize> = numbers.find_map(|number| number.parse().ok());
    let line = number.and_then(|n| text.lines().nth(n.checked_sub(1)?));
    match number.zip(line) {
        Some((number, line)) => {
            Error::Line { number, line: line.to_owned(), stderr: stderr.clone() }
        }
        None => Error::Command(cause),
    }
}

/// The crate's handle on the variant of this host.
fn open_crate(name: &'static str) -> Result<IPTables, Error> {
    let mut handle = ::iptables::new(false).map_err(|cause| Error::Jump {
        table: Table::Filter,
        chain: "FORWARD",
        message: format!("{cause}; is iptables installed?"),
    })?;
    handle.cmd = name;
    Ok(handle)
}

/// A built-in chain and what jumps from it to us.
type JumpsFrom = ((Table, &'static str), Vec<&'static Jump>);

/// The built-in chains that jump to us in the order of [`JUMPS`], each with its jumps in order.
fn jumps_by_chain() -> Vec<JumpsFrom> {
    let mut all: Vec<JumpsFrom> = Vec::new();
    for jump in &JUMPS {
        let chain = (jump.table, jump.from);
        match all.iter_mut().find(|(known, _)| *known == chain) {
            Some((_, jumps)) => jumps.push(jump),
            None => all.push((chain, vec![jump])),
        }
    }
    all
}

fn place_all(handle: &IPTables) -> Result<Vec<String>, Error> {
    let mut done = vec![];
    for ((table, chain), jumps) in jumps_by_chain() {
        let fail = |cause: Box<dyn std::error::Error>| Error::Jump {
            table,
            chain,
            message: cause.to_string(),
        };
        let there = rules_of(handle, table, chain).map_err(fail)?;
        let wanted: Vec<String> = jumps.iter().map(|j| format!("-A {chain} {}", j.rule)).collect();
        let ours = there.iter().filter(|rule| is_jump_of_ours(table, rule)).count();
        if there.starts_with(&wanted) && ours == wanted.len() {
            continue;
        }
        // New ones first, then the old ones go, from the last up: at no moment is there none.
        for jump in jumps.iter().rev() {
            handle.insert(table.as_str(), chain, jump.rule, 1).map_err(fail)?;
        }
        let old = wanted.len() + 1;
        for (i, _) in there.iter().enumerate().rev().filter(|(_, r)| is_jump_of_ours(table, r)) {
            delete_at(handle, table, chain, old + i).map_err(fail)?;
        }
        done.push(format!("placed our jumps at the head of {table} {chain}"));
    }
    Ok(done)
}

fn remove_jumps(handle: &IPTables) -> Result<(), Error> {
    // What rewrites goes before what makes rewritten packets come back.
    for ((table, chain), _) in jumps_by_chain().into_iter().rev() {
        let fail = |cause: Box<dyn std::error::Error>| Error::Jump {
            table,
            chain,
            message: cause.to_string(),
        };
        let there = rules_of(handle, table, chain).map_err(fail)?;
        for (i, _) in there.iter().enumerate().rev().filter(|(_, r)| is_jump_of_ours(table, r)) {
            delete_at(handle, table, chain, i + 1).map_err(fail)?;
        }
    }
    Ok(())
}

/// The rules of a built-in chain, without its policy.
fn rules_of(
    handle: &IPTables,
    table: Table,
    chain: &str,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let lines = handle.list(table.as_str(), chain)?;
    Ok(lines.into_iter().filter(|line| line.starts_with("-A ")).collect())
}

fn delete_at(
    handle: &IPTables,
    table: Table,
    chain: &str,
    number: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let output = handle.execute(table.as_str(), &format!("-D {chain} {number}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().into())
}

/// Whether a printed rule jumps to a chain of ours.
fn is_jump_of_ours(table: Table, rule: &str) -> bool {
    let target = rule.rsplit_once("-j ").map_or("", |(_, target)| target);
    JUMPS.iter().any(|jump| jump.table == table && jump.to == target)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No connection is sent to a pod before it is let through and masqueraded: the kernel keeps to
    /// what it did with the first packet.
    #[test]
    fn what_lets_through_and_masquerades_is_placed_before_what_translates() {
        let chains: Vec<_> = jumps_by_chain().into_iter().map(|(chain, _)| chain).collect();
        let (raw, filter, nat) = (Table::Raw, Table::Filter, Table::Nat);
        let order = [
            (raw, "PREROUTING"),
            (filter, "INPUT"),
            (filter, "FORWARD"),
            (filter, "OUTPUT"),
            (nat, "POSTROUTING"),
            (nat, "PREROUTING"),
            (nat, "OUTPUT"),
        ];
        assert_eq!(chains, order);
        let placed: usize = jumps_by_chain().iter().map(|(_, jumps)| jumps.len()).sum();
        assert_eq!(placed, JUMPS.len());
    }
}
