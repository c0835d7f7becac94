//! Follows the sources that Git names: an importer each, which begins and ends as `GitSource`
//! objects come and go.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Secret;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Store, clock, export::take_back, import::Importer, keys_of, reference, sealed::Opener,
    units::Units,
};
use crate::{
    git::{Auth, Mirror, Remote},
    kinds::{GitSource, GitSourceSpec},
    model::Key,
    plan::{admission::tell_source, guest},
    state::View,
};

/// The folder below a server's with the mirrors of these sources.
const FOLDER: &str = "sources";

/// The sources that Git names.
pub(super) struct Sources {
    store: Store,
    opener: Opener,
    dir: PathBuf,
    /// Whether the main source is a folder of this machine: then others may be, too. Elsewhere Git
    /// must not name what lies on a server's disk.
    local: bool,
    followed: Mutex<BTreeMap<String, Followed>>,
}

/// One of them.
struct Followed {
    wanted: Wanted,
    /// What follows it, or why it cannot be followed as it is.
    follower: Result<Follower, String>,
    stop: CancellationToken,
    /// Until that has ended. What takes its place begins after that, so that nothing is admitted
    /// by a policy that is no more.
    task: Option<Id>,
}

/// What follows a source: a commit is taken whole, or by unit.
#[derive(Clone)]
enum Follower {
    Whole(Arc<Importer>),
    Units(Arc<Units>),
}

impl Follower {
    fn new(importer: Importer) -> Self {
        match importer.spec.is_by_unit() {
            true => Self::Units(Arc::new(Units::new(importer))),
            false => Self::Whole(Arc::new(importer)),
        }
    }

    fn importer(&self) -> &Importer {
        match self {
            Self::Whole(importer) => importer,
            Self::Units(units) => units.top(),
        }
    }

    async fn run(&self, stop: CancellationToken) {
        match self {
            Self::Whole(importer) => importer.run(stop).await,
            Self::Units(units) => units.run(stop).await,
        }
    }
}

/// What a source asks for; when it changes, the source is followed anew.
#[derive(Clone, PartialEq)]
struct Wanted {
    spec: GitSourceSpec,
    secret: Option<BTreeMap<String, Vec<u8>>>,
}

impl Sources {
    /// None yet; the mirrors lie below `dir`.
    pub(super) fn new(store: Store, dir: &Path, main: &Remote, opener: Opener) -> Self {
        let local = main.local_path().is_some();
        Self { store, opener, dir: dir.join(FOLDER), local, followed: Mutex::default() }
    }

    /// Has every source looked at once.
    pub(super) fn nudge(&self) {
        let followed = self.lock();
        let followers = followed.values().filter_map(|one| one.follower.as_ref().ok());
        followers.for_each(|follower| follower.importer().nudge().notify_one());
    }

    /// The mirror of a source that is followed.
    pub(super) fn mirror(&self, name: &str) -> Option<Arc<Mirror>> {
        let view = self.store.view();
        let whole = view.get::<GitSource>("", name).and_then(GitSource::parent);
        let followed = self.lock();
        let follower = followed.get(whole.unwrap_or(name))?.follower.as_ref().ok()?;
        Some(follower.importer().mirror.clone())
    }

    /// Follows what there is to follow, until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let (mut views, mut roles) = (self.store.views(), self.store.roles());
        let mut running = JoinSet::new();
        loop {
            let view = views.borrow_and_update().clone();
            self.follow(&view, &stop, &mut running).await;
            tokio::select! {
                () = stop.cancelled() => break,
                changed = views.changed() => if changed.is_err() { break },
                changed = roles.changed() => if changed.is_err() { break },
                Some(ended) = running.join_next_with_id() => self.ended(ended),
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn follow(&self, view: &View, stop: &CancellationToken, running: &mut JoinSet<()>) {
        // Units are followed with the source that they are of.
        let wanted: BTreeMap<String, Wanted> = guest::guests(view)
            .filter(|(_, source)| source.parent().is_none())
            .map(|(name, source)| (name.to_owned(), self.asks(view, &source.spec)))
            .collect();
        for name in self.let_go(&wanted) {
            if !wanted.contains_key(&name)
                && let Err(error) = self.remove(&name)
            {
                tracing::warn!(event = "mirror not removed", source = name, %error);
            }
        }
        for (name, wanted) in wanted {
            if !self.is_known(&name) {
                self.begin(&name, wanted, stop.child_token(), running).await;
            }
        }
        for (name, spec, why) in self.not_followed() {
            self.tell(&name, &spec, &why).await;
        }
    }

    async fn begin(
        &self,
        name: &str,
        wanted: Wanted,
        stop: CancellationToken,
        running: &mut JoinSet<()>,
    ) {
        let follower = self.importer(name, &wanted).await.map(Follower::new);
        let task = match follower.clone() {
            Ok(follower) => {
                let (store, mirror) = (self.store.clone(), follower.importer().mirror.clone());
                let back = take_back(store, mirror, name.to_owned(), stop.clone());
                let stop = stop.clone();
                let both = async move {
                    tokio::join!(follower.run(stop), back);
                };
                Some(running.spawn(both).id())
            }
            Err(why) => {
                tracing::warn!(event = "source not followed", source = name, why);
                None
            }
        };
        let one = Followed { wanted, follower, stop, task };
        self.lock().insert(name.to_owned(), one);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops those that ought not to be followed, or not so; gives the ones that have ended.
    fn let_go(&self, wanted: &BTreeMap<String, Wanted>) -> Vec<String> {
        let mut followed = self.lock();
        for (name, one) in followed.iter() {
            if wanted.get(name) != Some(&one.wanted) {
                one.stop.cancel();
            }
        }
        let over = |_: &String, one: &mut Followed| one.stop.is_cancelled() && one.task.is_none();
        followed.extract_if(.., over).map(|(name, _)| name).collect()
    }

    /// Notes that what followed a source has ended: because it was told to, or else by a defect.
    fn ended(&self, ended: Result<(Id, ()), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        for one in self.lock().values_mut().filter(|one| one.task == Some(id)) {
            one.task = None;
            if let (Err(error), false) = (&ended, one.stop.is_cancelled()) {
                let how = "change its spec to have it followed again";
                one.follower = Err(format!("what followed it has ended ({error}): {how}"));
            }
        }
    }

    fn is_known(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    /// Those that cannot be followed as they are, and why.
    fn not_followed(&self) -> Vec<(String, GitSourceSpec, String)> {
        let followed = self.lock();
        let why = |(name, one): (&String, &Followed)| {
            let why = one.follower.as_ref().err().filter(|_| !one.stop.is_cancelled())?;
            Some((name.clone(), one.wanted.spec.clone(), why.clone()))
        };
        followed.iter().filter_map(why).collect()
    }

    async fn importer(&self, name: &str, wanted: &Wanted) -> Result<Importer, String> {
        let spec = wanted.spec.clone();
        let reference = reference(&spec.reference).map_err(|e| e.to_string())?;
        let auth = self.auth(name, wanted)?;
        let remote = Remote::new(spec.url.clone(), reference, auth).map_err(|e| e.to_string())?;
        if remote.local_path().is_some() && !self.local {
            return Err("spec.url: file:// names a folder of the servers, which Git may only do \
                        where the main source is one: use https:// or ssh://"
                .to_owned());
        }
        let keys = keys_of(&spec.verify.clone().unwrap_or_default(), None)
            .map_err(|e| format!("spec.verify.{e}"))?;
        let dir = self.dir.join(format!("{name}.git"));
        let open = move || {
            dir.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(|e| e.to_string())?;
            Mirror::open(dir, remote).map_err(|e| e.to_string())
        };
        let mirror = tokio::task::spawn_blocking(open).await.map_err(|e| e.to_string())??;
        let importer = Importer::new(self.store.clone(), Arc::new(mirror), (name, spec), keys);
        Ok(importer.opening(Arc::new(self.opener.keyring().for_guests())))
    }

    /// What is presented to the remote: what the Secret holds.
    fn auth(&self, name: &str, wanted: &Wanted) -> Result<Auth, String> {
        let Some(named) = &wanted.spec.secret else { return Ok(Auth::None) };
        let data = wanted.secret.as_ref().ok_or_else(|| {
            format!("spec.secret: there is no Secret {named} (write namespace/name)")
        })?;
        let text = |field: &str| {
            data.get(field).map(|bytes| String::from_utf8_lossy(bytes).trim_end().to_owned())
        };
        if let Some(identity) = data.get("identity") {
            let path = self.dir.join(format!("{name}.key"));
            write_private(&path, identity).map_err(|e| format!("{}: {e}", path.display()))?;
            let known_hosts = text("known_hosts").unwrap_or_default();
            return Ok(Auth::Key { private_key: path, passphrase: None, known_hosts });
        }
        let password = text("password")
            .ok_or_else(|| format!("spec.secret: {named} has neither `password` nor `identity`"))?;
        let user = text("username").unwrap_or_else(|| "git".to_owned());
        Ok(Auth::Password { user, password })
    }

    /// What a source asks for now.
    fn asks(&self, view: &View, spec: &GitSourceSpec) -> Wanted {
        let named = spec.secret.as_deref().and_then(|named| named.split_once('/'));
        let key = named.map(|(namespace, name)| Key::of::<Secret>(namespace, name));
        let object = key.and_then(|key| view.object(&key)).map(|object| self.opener.open(object));
        let secret = object.as_ref().and_then(|object| object.view::<Secret>());
        let data = secret.and_then(|secret| secret.data.clone());
        let data = data.map(|data| data.into_iter().map(|(name, bytes)| (name, bytes.0)).collect());
        Wanted { spec: spec.clone(), secret: data }
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        let absent = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        };
        std::fs::remove_file(self.dir.join(format!("{name}.key"))).or_else(absent)?;
        std::fs::remove_dir_all(self.dir.join(format!("{name}.git"))).or_else(absent)
    }

    /// Says in the source's status why it cannot be followed as it is; nothing when that stands
    /// there already.
    async fn tell(&self, name: &str, spec: &GitSourceSpec, why: &str) {
        if !self.store.is_leader() {
            return;
        }
        let look = Err(("InvalidConfiguration", why.to_owned()));
        let told = tell_source(&self.store.view(), (name, spec), None, look, clock::now());
        let Ok(Some(write)) = told else { return };
        if let Err(error) = self.store.propose(vec![write]).await {
            tracing::warn!(event = "source status not written", source = name, %error);
        }
    }
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}
