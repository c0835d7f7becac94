//! From Git to the log: looks at the remote, renders what is new, proposes it whole or records why
//! not.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Store, clock, drift::Drift, known::Known, recall::recalled};
use crate::{
    git::{self, Keys, Mirror, Reader},
    kinds::{Commit, CommitSpec, GitSourceSpec, VerifyMode},
    model::{CommitId, CommitName, Problem, Signature, Timestamp},
    plan::{
        Timing,
        admission::{self, Candidate, Facts, admit, is_news, refuse, tell_source},
        failure::way_back,
        freeze, guest, precedence,
        recall::Recalled,
        signatures::{self, Descent},
    },
    raft::ProposeError,
    seal::Keyring,
    state::{MAIN_SOURCE, Outcome, Refusal, View},
};

/// How long one look at the remote may take, from connecting to the last byte.
const FETCH_SECONDS_MAX: u64 = 120;

/// After so many looks it is seen whether the mirror should be packed: about every hour where
/// nobody pushes, and before status commits have made much more than one pack is worth.
const LOOKS_TO_TIDY: u64 = 128;

/// Seconds between two looks when nobody tells us and the source does not say.
pub(super) const INTERVAL_SECONDS: i64 = 30;

/// Why a look did not bring a new head.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The remote or the mirror.
    #[error("{0}")]
    Git(#[from] git::Error),
    /// The log.
    #[error("log: {0}")]
    Propose(#[from] ProposeError),
    /// An object of our own could not be made.
    #[error("{0}")]
    Object(#[from] crate::model::ObjectError),
    /// A worker thread ended.
    #[error("a thread of the importer ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
    /// State refused what it should take.
    #[error("{0}")]
    Refused(Refusal),
    /// The last good commit cannot be taken as it was.
    #[error("{0}")]
    Back(String),
}

/// What the importer has done; read by metrics.
#[derive(Debug, Default)]
pub(super) struct ImportStats {
    /// Looks at the remote that it answered.
    pub answers: AtomicU64,
    /// Looks that failed.
    pub failures: AtomicU64,
}

/// Who signed the commit that all units of a source look at.
pub(super) type Vouched = Arc<Mutex<Option<Signature>>>;

/// Follows one source.
pub(super) struct Importer {
    pub(super) store: Store,
    pub(super) mirror: Arc<Mirror>,
    /// The name of the source.
    pub(super) name: String,
    pub(super) spec: GitSourceSpec,
    /// Whose signatures count.
    pub(super) keys: Arc<Keys>,
    /// Of a unit: who signed the commit that its source has judged for all of them.
    vouched: Option<Vouched>,
    /// What opens sealed files.
    pub(super) keyring: Arc<Keyring>,
    /// How long the nodes of a cluster before this one are awaited.
    return_seconds: i64,
    /// What was read last.
    pub(super) known: Arc<Mutex<Option<Known>>>,
    nudge: Arc<Notify>,
    /// Held by whoever brings something new of Git into the log: two at once would meet there.
    /// Going back waits for nobody's push; State refuses whichever of two comes second.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// What was put back.
    pub(super) drift: Arc<Drift>,
    /// The writes that wait for their turn.
    pub(super) writes: super::commit::Queue,
    /// What was done.
    pub stats: Arc<ImportStats>,
}

impl Importer {
    /// Follows the source of that name through `mirror`.
    pub(super) fn new(
        store: Store,
        mirror: Arc<Mirror>,
        (name, spec): (&str, GitSourceSpec),
        keys: Keys,
    ) -> Self {
        let name = name.to_owned();
        let (known, nudge, keys) = (Arc::default(), Arc::default(), Arc::new(keys));
        let turn = tokio::sync::Mutex::default();
        let writes = super::commit::Queue::default();
        let (stats, keyring, drift) = (Arc::default(), Arc::default(), Arc::default());
        let return_seconds = Timing::default().node_return_seconds;
        Self {
            store,
            mirror,
            name,
            spec,
            keys,
            vouched: None,
            keyring,
            return_seconds,
            known,
            nudge,
            turn,
            drift,
            writes,
            stats,
        }
    }

    /// What follows a unit of the source that this one follows, with the same mirror and keys.
    pub(super) fn unit(&self, name: &str, spec: GitSourceSpec, vouched: Vouched) -> Self {
        let (store, mirror) = (self.store.clone(), self.mirror.clone());
        let unit = Self::new(store, mirror, (name, spec), Keys::default());
        Self { vouched: Some(vouched), keyring: self.keyring.clone(), ..unit }
    }

    /// With keys that open what is sealed.
    pub(super) fn opening(self, keyring: Arc<Keyring>) -> Self {
        Self { keyring, ..self }
    }

    /// With another time for which nodes are awaited.
    pub(super) fn awaiting(self, return_seconds: i64) -> Self {
        Self { return_seconds, ..self }
    }

    /// What makes the importer look at once: a hook, a person.
    pub(super) fn nudge(&self) -> Arc<Notify> {
        self.nudge.clone()
    }

    /// Looks whenever there may be something new and this server leads, until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut roles = self.store.roles();
        let mut watch = self.watch(self.mirror.remote().reference.full_name().as_deref());
        let (mut views, mut drifting) = (self.store.views(), self.store.views());
        let mut waiting = self.store.views();
        let mut failures = 0;
        loop {
            let (mut stuck, mut again) = (false, None);
            if self.store.is_leader() && !self.spec.suspend {
                stuck = self.go_back().await;
                again = self.put_back().await;
                failures = self.look_and_tell(failures).await;
            } else if !self.spec.suspend {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = roles.changed() => if changed.is_err() { return } else { continue },
                    () = self.keep_up() => {}
                }
            }
            let pause = self.pause(failures);
            let thawed = freeze::wake_at(&self.store.view(), &self.name);
            let thawed = thawed.map(|at| at.since(clock::now()));
            let pause = thawed.filter(|left| !left.is_zero()).map_or(pause, |left| pause.min(left));
            let pause = again.map_or(pause, |again| pause.min(again));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.drifted(&mut drifting), if !self.spec.suspend => {}
                () = self.nudge.notified() => {}
                () = moved(&mut watch) => {}
                () = self.failed(&mut views), if !stuck => {}
                () = self.may_go_on(&mut waiting), if failures == 0 => {}
                changed = roles.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(tokio::time::Instant::now() + pause) => {}
            }
        }
    }

    /// Brings what runs into the mirror of a server that does not lead, without looking at it:
    /// should it lead while the remote is away, it can go back.
    async fn keep_up(&self) {
        let Some(head) = self.store.view().head_of(&self.name).map(|head| head.commit.clone())
        else {
            return;
        };
        let mirror = self.mirror.clone();
        let fetch = move || match mirror.reader().and_then(|reader| reader.commit(&head)) {
            Ok(_) => Ok(()),
            Err(_) => mirror.fetch(Duration::from_secs(FETCH_SECONDS_MAX)).map(drop),
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(fetch).await {
            tracing::debug!(event = "mirror not kept up", source = self.name, %error);
        }
    }

    /// Sees a ref of a local remote move, or any.
    pub(super) fn watch(&self, reference: Option<&str>) -> Option<git::watch::Watch> {
        let path = self.mirror.remote().local_path()?;
        match git::watch::Watch::start(&path, reference) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(event = "no watch, polling only", %error);
                None
            }
        }
    }

    /// How long to wait for the next look when nothing happens.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let every = self.spec.interval_seconds.unwrap_or(INTERVAL_SECONDS).max(1);
        let every = Duration::from_secs(every.unsigned_abs());
        git::watch::poll_after(every, failures, rand::random())
    }

    /// One look; gives how many failed in a row.
    async fn look_and_tell(&self, failures: u32) -> u32 {
        let result = {
            let _turn = self.turn.lock().await;
            self.look().await
        };
        self.note_look(result, failures).await
    }

    /// Says how a look ended; gives how many failed in a row.
    pub(super) async fn note_look(&self, result: Result<CommitId, Error>, failures: u32) -> u32 {
        let (failures, told) = match &result {
            Ok(tip) => {
                let looks = self.stats.answers.fetch_add(1, Ordering::Relaxed);
                if looks.is_multiple_of(LOOKS_TO_TIDY) {
                    self.tidy().await;
                }
                (0, self.tell(Some(tip), Ok(())).await)
            }
            Err(error) => {
                self.stats.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(event = "look failed", %error, attempt = failures + 1);
                (failures + 1, self.tell(None, Err(error)).await)
            }
        };
        if let Err(error) = told {
            tracing::warn!(event = "source status not written", %error);
        }
        failures
    }

    /// Keeps the mirror small, and in it whatever State still knows.
    async fn tidy(&self) {
        let view = self.store.view();
        let known = view.list::<Commit>(None).map(|(object, _)| &object.key().name);
        let keep = known.filter_map(|name| Some(CommitName::parse(name)?.id));
        let keep: Vec<CommitId> = keep.collect();
        let mirror = self.mirror.clone();
        match tokio::task::spawn_blocking(move || mirror.tidy(&keep)).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => tracing::info!(event = "mirror packed", source = self.name),
            Ok(Err(error)) => {
                tracing::warn!(event = "mirror not packed", source = self.name, %error);
            }
            Err(error) => tracing::warn!(event = "mirror not packed", source = self.name, %error),
        }
    }

    /// Whether it follows the source that says what else is followed.
    fn is_main(&self) -> bool {
        self.name == MAIN_SOURCE
    }

    /// Takes the cluster back to the last good commit of the source when the one it runs has
    /// failed; needs no remote. Tells whether that was not possible.
    pub(super) async fn go_back(&self) -> bool {
        let Some((bad, good)) = way_back(&self.store.view(), &self.name) else { return false };
        let source = &self.name;
        match self.take_again(&bad, &good).await {
            Ok(()) => {
                tracing::warn!(event = "went back", source, failed = %bad, commit = %good);
                false
            }
            Err(error) => {
                tracing::warn!(event = "cannot go back", source, failed = %bad, commit = %good, %error);
                true
            }
        }
    }

    async fn take_again(&self, bad: &CommitId, good: &CommitId) -> Result<(), Error> {
        let view = self.store.view();
        let candidate = self.read(good, &view, clock::now(), Scope::Again).await?;
        if let Some(problem) = candidate.problems.first() {
            return Err(Error::Back(problem.to_string()));
        }
        for command in admission::go_back(&view, &candidate, bad)? {
            done(self.store.propose(vec![command]).await?)?;
        }
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            known.admitted(good);
        }
        Ok(())
    }

    /// Fetches, and takes the tip when it is neither the head nor refused.
    pub(super) async fn look(&self) -> Result<CommitId, Error> {
        let fetched = self.fetch().await?;
        let view = self.store.view();
        let is_current = guest::is_current(&view, &self.name, &self.spec);
        if is_current && is_news(&view, &self.name, &fetched.tip, clock::now()) {
            let (source, relation) = (&self.name, fetched.relation);
            if let Some(why) = precedence::waits_for(&view, source, &fetched.tip) {
                tracing::info!(event = "commit waits", source, why);
                return Ok(fetched.tip);
            }
            tracing::info!(event = "commit seen", source, commit = %fetched.tip, ?relation);
            self.consider(&fetched.tip).await?;
        }
        Ok(fetched.tip)
    }

    /// Looks at the remote.
    pub(super) async fn fetch(&self) -> Result<git::Fetched, Error> {
        let mirror = self.mirror.clone();
        let fetch = move || mirror.fetch(Duration::from_secs(FETCH_SECONDS_MAX));
        Ok(tokio::task::spawn_blocking(fetch).await??)
    }

    /// Renders a commit and makes it the head, or records why it was refused.
    pub(super) async fn consider(&self, tip: &CommitId) -> Result<(), Error> {
        let seen_at = clock::now();
        let view = self.store.view();
        let mut candidate = self.candidate(tip, &view, seen_at).await?;
        let mut before = Recalled::default();
        if let (None, Some(config)) = (view.head(), view.config())
            && self.is_main()
        {
            let mirror = self.mirror.clone();
            before = tokio::task::spawn_blocking(move || recalled(&mirror)).await??;
            let (services, nodes) = before.counts();
            tracing::info!(event = "cluster recalled", services, nodes);
            before.give(&mut candidate.wanted, config);
        }
        self.settle(&view, candidate, &before).await
    }

    /// Makes a commit that was read the head of its source, or records what holds it or why it was
    /// refused. `before` is what is known of the cluster before this one.
    pub(super) async fn settle(
        &self,
        view: &View,
        mut candidate: Candidate,
        before: &Recalled,
    ) -> Result<(), Error> {
        let (source, tip) = (&self.name, candidate.commit.clone());
        if let Some(commands) = freeze::record_hold(view, &candidate)? {
            tracing::info!(event = "commit held", source, commit = %tip, hold = ?candidate.held);
            if !commands.is_empty() {
                done(self.store.propose(commands).await?)?;
            }
            return Ok(());
        }
        let refusal = if candidate.problems.is_empty() {
            let until = clock::now().plus_seconds(self.return_seconds);
            for command in before.await_nodes(&self.store.view(), until) {
                done(self.store.propose(vec![command]).await?)?;
            }
            self.adopt(view, &mut candidate).await?
        } else {
            Some(candidate.problems.clone())
        };
        if let Some(problems) = refusal {
            let count = problems.len();
            tracing::info!(event = "commit refused", source, commit = %tip, problems = count);
            let commands = refuse(view, &candidate, problems, clock::now())?;
            done(self.store.propose(commands).await?)?;
        }
        Ok(())
    }

    /// Proposes a candidate in its parts, which hold what it wants from then on; gives the problems
    /// when State refuses it.
    pub(super) async fn adopt(
        &self,
        view: &View,
        candidate: &mut Candidate,
    ) -> Result<Option<Vec<Problem>>, Error> {
        let commands = admit(view, candidate, clock::now())?;
        candidate.wanted = Vec::new();
        for command in commands {
            match self.store.propose(vec![command]).await?.into_iter().next() {
                Some(Outcome::Refused(Refusal::Invalid { problems })) => return Ok(Some(problems)),
                Some(Outcome::Refused(Refusal::Exhausted(message))) => {
                    return Ok(Some(vec![Problem { message, ..Problem::default() }]));
                }
                Some(Outcome::Refused(refusal)) => return Err(Error::Refused(refusal)),
                Some(Outcome::Done(_)) | None => {}
            }
        }
        tracing::info!(event = "commit admitted", commit = %candidate.commit);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_mut() {
            known.admitted(&candidate.commit);
        }
        Ok(None)
    }

    /// Reads and renders a commit against a View; remembers it, so that the next one costs what it
    /// changes.
    async fn candidate(
        &self,
        commit: &CommitId,
        view: &View,
        seen_at: Timestamp,
    ) -> Result<Candidate, Error> {
        self.read(commit, view, seen_at, Scope::Changed).await
    }

    /// Reads and renders a commit against a View, as far as the scope says.
    pub(super) async fn read(
        &self,
        commit: &CommitId,
        view: &View,
        seen_at: Timestamp,
        scope: Scope,
    ) -> Result<Candidate, Error> {
        let (mirror, shared) = (self.mirror.clone(), self.known.clone());
        let (name, spec) = (self.name.clone(), self.spec.clone());
        let (commit, view, keys) = (commit.clone(), view.clone(), self.keys.clone());
        let (keyring, vouched) = (self.keyring.clone(), self.vouched.clone());
        let read = move || {
            let before = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let reader = mirror.reader()?;
            let trust = match (scope, vouched) {
                (Scope::Again | Scope::Unsigned, _) => Trust::default(),
                (_, Some(vouched)) => Trust {
                    signature: vouched.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                    ..Trust::default()
                },
                (_, None) => {
                    let head = view.head_of(&name).map(|head| &head.commit);
                    trust(&reader, &keys, (head, &spec), &commit, seen_at)?
                }
            };
            let known = Known::read(&mirror, &commit, &spec.path, before, &keyring)?;
            let candidate =
                candidate(&reader, &known, &view, (&name, &spec), (trust, seen_at), scope)?;
            if matches!(scope, Scope::Changed | Scope::Again) {
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
            }
            Ok(candidate)
        };
        tokio::task::spawn_blocking(read).await?
    }

    /// Waits until what the cluster runs of the source has failed.
    async fn failed(&self, views: &mut tokio::sync::watch::Receiver<View>) {
        shows(views, |view| way_back(view, &self.name).is_some()).await;
    }

    /// Waits until a commit that waited for other sources, or in a freeze, waits no more.
    async fn may_go_on(&self, views: &mut tokio::sync::watch::Receiver<View>) {
        let is_due = |view: &View| {
            self.store.is_leader() && precedence::is_due(view, &self.name, clock::now())
        };
        shows(views, is_due).await;
    }

    /// Writes what was found at the remote into the GitSource, when it is something else than
    /// before.
    async fn tell(&self, tip: Option<&CommitId>, look: Result<(), &Error>) -> Result<(), Error> {
        let look = look.map_err(|error| (reason_of(error), error.to_string()));
        let source = (self.name.as_str(), &self.spec);
        match tell_source(&self.store.view(), source, tip, look, clock::now())? {
            Some(write) => done(self.store.propose(vec![write]).await?),
            None => Ok(()),
        }
    }
}

/// The first refusal as an error.
pub(super) fn done(outcomes: Vec<Outcome>) -> Result<(), Error> {
    outcomes.into_iter().try_for_each(|outcome| match outcome {
        Outcome::Done(_) => Ok(()),
        Outcome::Refused(refusal) => Err(Error::Refused(refusal)),
    })
}

/// Waits for a newer picture that shows something; for ever when there are no more.
pub(super) async fn shows(
    views: &mut tokio::sync::watch::Receiver<View>,
    what: impl Fn(&View) -> bool,
) {
    while views.changed().await.is_ok() {
        let view = views.borrow_and_update().clone();
        if what(&view) {
            return;
        }
    }
    std::future::pending().await
}

/// Waits until a ref moved; for ever where nothing is watched.
pub(super) async fn moved(watch: &mut Option<git::watch::Watch>) {
    match watch {
        Some(some) => {
            if some.moved().await.is_none() {
                *watch = None;
            }
        }
        None => std::future::pending().await,
    }
}

/// One word for the condition of the source.
fn reason_of(error: &Error) -> &'static str {
    match error {
        Error::Git(git::Error::Url { .. } | git::Error::Reference { .. }) => "InvalidConfiguration",
        Error::Git(git::Error::Unreachable { .. }) => "Unreachable",
        Error::Git(git::Error::Timeout { .. }) => "Timeout",
        Error::Git(git::Error::Denied { .. }) => "AuthenticationFailed",
        Error::Git(git::Error::Missing { .. }) => "ReferenceMissing",
        Error::Git(git::Error::Corrupt { .. }) => "Corrupt",
        Error::Git(git::Error::Oversized { .. }) => "TooLarge",
        Error::Git(_) => "GitFailed",
        _ => "NotRecorded",
    }
}

/// What a commit is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// To become the head.
    Changed,
    /// To say what it would change; it is not remembered.
    Plan,
    /// To say what it would change, whoever signs what becomes of it; it is not remembered.
    Unsigned,
    /// To become the head again: it was judged when it ran.
    Again,
}

/// Whose a commit is.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Who signed it.
    pub(super) signature: Option<Signature>,
    /// Why it is not to be trusted.
    pub(super) problems: Vec<Problem>,
}

/// Whose a commit is, and what is wrong with that, as far as the source asks; `head` is the commit
/// before it.
///
/// A key has to be valid when the commit is seen: the time in a commit is what its author says.
/// Only the first commit of a cluster, which may be as old as it likes, is taken at its word.
pub(super) fn trust(
    reader: &Reader,
    keys: &Keys,
    (head, spec): (Option<&CommitId>, &GitSourceSpec),
    commit: &CommitId,
    seen_at: Timestamp,
) -> Result<Trust, Error> {
    let mut trust = Trust::default();
    if let Some(head) = head.filter(|_| spec.fast_forward_only.unwrap_or(spec.verify.is_some())) {
        trust.problems.extend(signatures::follows(descent(reader, head, commit), Some(head)));
    }
    if let Some(verify) = &spec.verify {
        let since = verify.since.as_deref().and_then(CommitId::parse);
        let at = head.is_some().then_some(seen_at);
        let commits = || reader.signed(keys, commit, head, since.as_ref(), at);
        let signed = match (verify.mode, &spec.reference.tag) {
            (VerifyMode::Tag, Some(name)) => {
                let tag = reader.signed_tag(keys, name, commit, at)?;
                let below = if verify.approval { commits()? } else { Some(Vec::new()) };
                below.map(|below| [vec![tag], below].concat())
            }
            _ => commits()?,
        };
        trust.problems.extend(signatures::judge(verify, signed.as_deref()));
        let newest = signed.into_iter().flatten().find(|signed| signed.commit == *commit);
        trust.signature = newest.and_then(|signed| signed.by.ok());
    }
    Ok(trust)
}

/// How a tip stands to what runs. What runs may be gone from the remote and from the mirror: then
/// the tip does not follow it.
fn descent(reader: &Reader, head: &CommitId, tip: &CommitId) -> Descent {
    match (reader.contains(tip, head), reader.contains(head, tip)) {
        (Ok(true), _) => Descent::Follows,
        (_, Ok(true)) => Descent::Older,
        _ => Descent::Rewritten,
    }
}

/// A commit that was read, against a View.
pub(super) fn candidate(
    reader: &Reader,
    known: &Known,
    view: &View,
    (name, spec): (&str, &GitSourceSpec),
    (trust, seen_at): (Trust, Timestamp),
    scope: Scope,
) -> Result<Candidate, Error> {
    let facts = reader.commit(known.commit())?;
    let mut facts = Facts {
        commit: known.commit().clone(),
        spec: CommitSpec {
            source: name.to_owned(),
            author: facts.author.name,
            email: facts.author.email,
            authored_at: facts.author.at.0,
            committed_at: facts.committer.at.0,
            subject: facts.subject,
            parents: facts.parents.iter().map(CommitId::to_string).collect(),
            signed_by: trust.signature.map(|signature| signature.to_string()),
        },
        trailers: facts.trailers,
        seen_at,
    };
    if scope == Scope::Again {
        admission::again(&mut facts);
    }
    let suspects = known.suspects(view, name);
    let problems = [known.problems(), &trust.problems].concat();
    let picture = known.picture();
    Ok(admission::candidate(view, spec, facts, picture, suspects.as_ref(), problems))
}
