//! The bare mirror: fetches what is wanted, keeps what was fetched, and is made anew when it is
//! damaged.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use git2::{ErrorCode, Oid, Repository};

use super::{
    error::{Error, Result, speaks_of_damage, speaks_of_owner},
    exchange::{Deadline, Exchange},
    remote::{Reference, Remote, check_reference, without_password},
    verify::SigningKey,
};
use crate::model::CommitId;

/// The tip that was fetched last.
const TIP: &str = "refs/mainstay/tip";

/// The file that marks a folder as a mirror of ours, which may be thrown away and made anew.
const MARK: &str = "mainstay-mirror";

/// A bare copy of a remote repository, on disk, without a work tree. Cheap to share between
/// threads.
#[derive(Debug)]
pub struct Mirror {
    pub(super) dir: PathBuf,
    pub(super) remote: Remote,
    /// Held for reading by everything, for writing while the folder is exchanged or packed.
    pub(super) swap: RwLock<()>,
    /// A reader met a damaged object: the next fetch clones afresh.
    damaged: Arc<AtomicBool>,
    /// What signs the commits written here.
    pub(super) key: Option<SigningKey>,
}

/// What a fetch found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The commit the wanted reference stands at.
    pub tip: CommitId,
    /// The one it stood at before; none the first time.
    pub previous: Option<CommitId>,
    /// How the two relate.
    pub relation: Relation,
    /// Whether the mirror was damaged and has been cloned afresh.
    pub repaired: bool,
}

/// How a tip relates to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Nothing was fetched before.
    First,
    /// Nothing changed.
    Same,
    /// The new tip has the old one among its ancestors.
    FastForward,
    /// The old tip has the new one among its ancestors: commits were taken off by force.
    Rewound,
    /// Neither has the other: history was rewritten by force.
    Rewritten,
}

impl Mirror {
    /// Opens the mirror in `dir`, making it when there is none. Contacts nobody.
    ///
    /// A damaged mirror is emptied (the next fetch fills it); a folder that is something else is
    /// refused.
    pub fn open(dir: impl Into<PathBuf>, remote: Remote) -> Result<Self> {
        remote.check()?;
        let dir = dir.into();
        remove(&beside(&dir, "fresh"))?;
        remove(&beside(&dir, "broken"))?;
        if let Err(cause) = open_repository(&dir) {
            make_anew(&dir, &cause)?;
        }
        let damaged = Arc::new(AtomicBool::new(false));
        Ok(Self { dir, remote, swap: RwLock::new(()), damaged, key: None })
    }

    /// Signs every commit that is written from now on.
    #[must_use]
    pub fn signing(self, key: Option<SigningKey>) -> Self {
        Self { key, ..self }
    }

    /// Whether what is written here is signed.
    pub fn signs(&self) -> bool {
        self.key.is_some()
    }

    /// What is mirrored.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The tip that was fetched last, without asking the remote.
    pub fn tip(&self) -> Result<Option<CommitId>> {
        let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        Ok(target(&self.repository()?, TIP)?.map(commit_id))
    }

    /// Brings the wanted reference, also when it moved by force, and says how it moved.
    ///
    /// Asks for the refs first, so that nothing moved costs one round trip. A damaged mirror is
    /// cloned afresh beside the old one and then put in its place. On an error, what was fetched
    /// before stays.
    pub fn fetch(&self, within: Duration) -> Result<Fetched> {
        let exchange = Exchange::new(&self.remote, Deadline::after(within))?;
        let fetched = if self.damaged.load(Ordering::SeqCst) {
            Err(self.corrupt("an object could not be read".into()))
        } else {
            let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
            self.repository().and_then(|repo| {
                if target(&repo, TIP)?.is_none() {
                    exchange.copy(&repo);
                }
                self.fetch_into(&repo, &exchange)
            })
        };
        match fetched {
            Err(Error::Corrupt { .. }) => self.clone_afresh(&exchange),
            other => other,
        }
    }

    /// The commit a person names: a full or abbreviated id, a branch or a tag of the remote, or how
    /// far back from one of them (`main~2`). A name is looked up at the remote, where it may have
    /// moved; an id only when the mirror does not know it.
    pub fn resolve(&self, revision: &str, within: Duration) -> Result<CommitId> {
        let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        let repo = self.repository()?;
        let found = known_revision(&repo, revision)?;
        if let Some(found) = found.filter(|id| id.as_str().starts_with(revision)) {
            return Ok(found);
        }
        let exchange = Exchange::new(&self.remote, Deadline::after(within))?;
        bring_everything(&repo, &exchange)?;
        known_revision(&repo, revision)?
            .ok_or_else(|| Error::Unknown { commit: revision.to_owned() })
    }

    /// Opens the mirror for reading commits and files. Cheap; one for each thread.
    pub fn reader(&self) -> Result<Reader> {
        let _shared = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        let repo = self.repository()?;
        Ok(Reader { repo, dir: self.dir.clone(), damaged: Arc::clone(&self.damaged) })
    }

    /// Opens the repository of the mirror.
    pub(super) fn repository(&self) -> Result<Repository> {
        open_repository(&self.dir).map_err(|cause| {
            self.damaged.store(true, Ordering::SeqCst);
            self.corrupt(cause.to_string())
        })
    }

    /// Brings one ref of the remote; none when it is not there.
    pub(super) fn fetch_reference(
        &self,
        repo: &Repository,
        full_name: &str,
        deadline: Deadline,
    ) -> Result<Option<Oid>> {
        check_reference(full_name)?;
        let exchange = Exchange::new(&self.remote, deadline)?;
        bring(repo, &exchange, full_name)
    }

    fn fetch_into(&self, repo: &Repository, exchange: &Exchange<'_>) -> Result<Fetched> {
        let previous = target(repo, TIP)?;
        let brought = match (&self.remote.reference, self.remote.reference.full_name()) {
            (Reference::Commit(id), _) => bring_commit(repo, exchange, id)?,
            (_, Some(name)) => bring(repo, exchange, &name)?,
            (_, None) => None,
        };
        let Some(brought) = brought else {
            let reference = self.remote.reference.to_string();
            return Err(Error::Missing { url: exchange.shown(), reference });
        };
        let tip = self.whole(repo, brought)?;
        let relation = relation(repo, previous, tip);
        keep(repo, TIP, tip)?;
        let previous = previous.map(commit_id);
        Ok(Fetched { tip: commit_id(tip), previous, relation, repaired: false })
    }

    /// The commit behind what was brought, once it and its tree can be read.
    fn whole(&self, repo: &Repository, brought: Oid) -> Result<Oid> {
        let damage = |cause: git2::Error| self.corrupt(cause.to_string());
        let object = repo.find_object(brought, None).map_err(damage)?;
        let commit = object.peel_to_commit().map_err(|cause| match cause.code() {
            ErrorCode::Peel | ErrorCode::InvalidSpec | ErrorCode::Ambiguous => Error::Reference {
                name: self.remote.reference.to_string(),
                reason: "does not stand for a commit".into(),
            },
            _ => damage(cause),
        })?;
        commit.tree().map_err(damage)?;
        Ok(commit.id())
    }

    /// Clones into a folder beside the mirror and exchanges the two.
    fn clone_afresh(&self, exchange: &Exchange<'_>) -> Result<Fetched> {
        let _alone = self.swap.write().unwrap_or_else(PoisonError::into_inner);
        let previous = open_repository(&self.dir).ok().and_then(|old| target(&old, TIP).ok()?);
        let (fresh, broken) = (beside(&self.dir, "fresh"), beside(&self.dir, "broken"));
        remove(&fresh)?;
        init(&fresh)?;
        let repo = open_repository(&fresh)?;
        let mut fetched = self.fetch_into(&repo, exchange)?;
        let tip = target(&repo, TIP)?;
        drop(repo);
        fs::rename(&self.dir, &broken).map_err(|cause| Error::disk(&self.dir, &cause))?;
        fs::rename(&fresh, &self.dir).map_err(|cause| Error::disk(&self.dir, &cause))?;
        self.damaged.store(false, Ordering::SeqCst);
        remove(&broken)?;
        if let Some(tip) = tip {
            fetched.relation = relation(&self.repository()?, previous, tip);
        }
        fetched.previous = previous.map(commit_id);
        Ok(Fetched { repaired: true, ..fetched })
    }

    fn corrupt(&self, reason: String) -> Error {
        Error::Corrupt { path: self.dir.clone(), reason }
    }
}

/// Reads commits and files of a mirror. Belongs to one thread at a time; never touches the network.
pub struct Reader {
    pub(super) repo: Repository,
    dir: PathBuf,
    damaged: Arc<AtomicBool>,
}

impl Reader {
    /// Says what an error of reading means, and has the next fetch repair a damaged mirror.
    pub(super) fn meaning(&self, cause: git2::Error) -> Error {
        if speaks_of_damage(&cause) {
            self.damaged.store(true, Ordering::SeqCst);
            return Error::Corrupt { path: self.dir.clone(), reason: cause.message().into() };
        }
        Error::Git(cause)
    }

    /// The commit of that id. One that is absent is [`Error::Unknown`], not damage.
    pub(super) fn find(&self, id: &CommitId) -> Result<git2::Commit<'_>> {
        find_commit(&self.repo, id).map_err(|error| match error {
            Error::Git(cause) => self.meaning(cause),
            other => other,
        })
    }
}

/// The id as the rest of mainstay writes it.
pub(super) fn commit_id(id: Oid) -> CommitId {
    CommitId::parse(&id.to_string()).expect("libgit2 prints full lower-case hexadecimal ids")
}

/// The commit of that id, or [`Error::Unknown`].
pub(super) fn find_commit<'r>(repo: &'r Repository, id: &CommitId) -> Result<git2::Commit<'r>> {
    let unknown = || Error::Unknown { commit: id.to_string() };
    let oid = Oid::from_str(id.as_str()).map_err(|_| unknown())?;
    repo.find_commit(oid).map_err(|cause| match cause.code() {
        ErrorCode::NotFound => unknown(),
        _ => Error::Git(cause),
    })
}

/// Where a ref of the mirror points; none when there is no such ref.
pub(super) fn target(repo: &Repository, name: &str) -> Result<Option<Oid>> {
    match repo.refname_to_id(name) {
        Ok(id) => Ok(Some(id)),
        Err(cause) if cause.code() == ErrorCode::NotFound => Ok(None),
        Err(cause) if speaks_of_damage(&cause) => {
            Err(Error::Corrupt { path: repo.path().into(), reason: cause.message().into() })
        }
        Err(cause) => Err(cause.into()),
    }
}

/// The ref of the mirror that remembers what a ref of the remote was.
pub(super) fn tracking(full_name: &str) -> String {
    let flat = full_name.strip_prefix("refs/").unwrap_or(full_name).replace('/', "%");
    format!("refs/mainstay/fetched/{flat}")
}

fn bring(repo: &Repository, exchange: &Exchange<'_>, full_name: &str) -> Result<Option<Oid>> {
    let kept = tracking(full_name);
    let stepped = match target(repo, &kept)? {
        Some(_) => exchange.step(repo, full_name),
        None => None,
    };
    let brought = match stepped {
        Some(id) => Some(id),
        None => fetched(repo, exchange, full_name, &kept)?,
    };
    if let Some(id) = brought {
        keep(repo, &kept, id)?;
    }
    Ok(brought)
}

/// Has a ref of the mirror name a commit. One at a time: two looks at once would lock each other
/// out of the file.
fn keep(repo: &Repository, name: &str, id: Oid) -> Result<()> {
    static KEEPING: Mutex<()> = Mutex::new(());
    let _alone = KEEPING.lock().unwrap_or_else(PoisonError::into_inner);
    if target(repo, name)? != Some(id) {
        repo.reference(name, id, true, "fetch")?;
    }
    Ok(())
}

/// Brings one ref in libgit2's way.
fn fetched(
    repo: &Repository,
    exchange: &Exchange<'_>,
    full_name: &str,
    kept: &str,
) -> Result<Option<Oid>> {
    exchange.fetching(repo, |remote| {
        let listed = remote.list()?.iter().find(|head| head.name() == full_name);
        let Some(id) = listed.map(git2::RemoteHead::oid) else { return Ok(None) };
        if !repo.odb()?.exists(id) {
            let refspec = format!("+{full_name}:{kept}");
            remote.fetch(&[refspec], Some(&mut exchange.fetch_options()), None)?;
        }
        Ok(Some(id))
    })
}

/// Brings one commit. Servers need not serve an id by itself, so every branch and tag is fetched
/// once.
fn bring_commit(repo: &Repository, exchange: &Exchange<'_>, id: &CommitId) -> Result<Option<Oid>> {
    if let Ok(commit) = find_commit(repo, id) {
        return Ok(Some(commit.id()));
    }
    bring_everything(repo, exchange)?;
    match find_commit(repo, id) {
        Ok(commit) => Ok(Some(commit.id())),
        Err(Error::Unknown { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Brings every branch and tag.
fn bring_everything(repo: &Repository, exchange: &Exchange<'_>) -> Result<()> {
    exchange.fetching(repo, |remote| {
        let everything =
            ["+refs/heads/*:refs/mainstay/all/heads/*", "+refs/tags/*:refs/mainstay/all/tags/*"];
        let mut options = exchange.fetch_options();
        options.prune(git2::FetchPrune::On);
        remote.fetch(&everything, Some(&mut options), None)
    })
}

/// What a person's word for a commit stands for in the mirror. Branches and tags are looked up
/// where the mirror keeps the remote's; words with which libgit2 would search messages or logs
/// (`:/text`, `@{1}`) mean nothing here.
fn known_revision(repo: &Repository, revision: &str) -> Result<Option<CommitId>> {
    if revision.is_empty() || revision.starts_with('-') || revision.contains([':', '{', '\0']) {
        let reason = "name a commit by its id, a branch, a tag, or as main~2".to_owned();
        return Err(Error::Argument { what: format!("revision {revision:?}"), reason });
    }
    let end = revision.find(['~', '^']).unwrap_or(revision.len());
    let (name, steps) = revision.split_at(end);
    let places =
        [format!("refs/mainstay/all/heads/{name}"), format!("refs/mainstay/all/tags/{name}")];
    let id = name.len() >= 4 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let candidates = places.into_iter().chain(id.then(|| name.to_owned()));
    for candidate in candidates {
        let found = repo.revparse_single(&format!("{candidate}{steps}"));
        if let Ok(commit) = found.and_then(|object| object.peel_to_commit()) {
            return Ok(Some(commit_id(commit.id())));
        }
    }
    Ok(None)
}

/// How two tips relate. One that is gone from the mirror cannot be an ancestor of the other.
fn relation(repo: &Repository, previous: Option<Oid>, tip: Oid) -> Relation {
    let descends = |new, old| repo.graph_descendant_of(new, old).unwrap_or(false);
    match previous {
        None => Relation::First,
        Some(old) if old == tip => Relation::Same,
        Some(old) if descends(tip, old) => Relation::FastForward,
        Some(old) if descends(old, tip) => Relation::Rewound,
        Some(_) => Relation::Rewritten,
    }
}

/// Opens the folder with its own configuration only: what the user's `~/.gitconfig` says
/// (`insteadOf`, proxies) must not change where a cluster's commits come from.
fn open_repository(dir: &Path) -> Result<Repository, git2::Error> {
    let repo = Repository::open_bare(dir)?;
    let mut config = git2::Config::new()?;
    config.add_file(&dir.join("config"), git2::ConfigLevel::Local, false)?;
    // Off-site redirects could collect credentials; the relay refuses them as well.
    if config.get_bool("http.followRedirects").unwrap_or(true) {
        config.set_bool("http.followRedirects", false)?;
    }
    repo.set_config(&config)?;
    Ok(repo)
}

fn init(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|cause| Error::disk(dir, &cause))?;
    let mark = dir.join(MARK);
    fs::write(&mark, "This folder is a cache: mainstay throws it away when it is damaged.\n")
        .map_err(|cause| Error::disk(&mark, &cause))?;
    let mut options = git2::RepositoryInitOptions::new();
    options.bare(true).external_template(false);
    Repository::init_opts(dir, &options)?;
    Ok(())
}

/// Makes the mirror when there is none, or when what is there is ours and cannot be opened.
fn make_anew(dir: &Path, cause: &git2::Error) -> Result<()> {
    let in_use = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if in_use && !dir.join(MARK).exists() {
        let reason = "it is neither empty nor a mirror of mainstay; give another folder".into();
        return Err(Error::Disk { path: dir.into(), reason });
    }
    if speaks_of_owner(cause) {
        let reason = "it belongs to another user; give it to the user mainstay runs as".into();
        return Err(Error::Disk { path: dir.into(), reason });
    }
    remove(dir)?;
    init(dir)
}

fn beside(dir: &Path, word: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(format!(".{word}"));
    name.into()
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(Error::disk(dir, &cause)),
        _ => Ok(()),
    }
}

impl std::fmt::Display for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.remote.reference, without_password(&self.remote.url))
    }
}
