//! Follows the sources that Git names: an importer each, which begins and ends as `GitSource`
//! objects come and go.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Secret;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Store, clock, import::Importer, keys_of, reference, sealed::Opener};
use crate::{
    git::{Auth, Mirror, Remote},
    kinds::GitSourceSpec,
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

/// One of them while it is followed.
struct Followed {
    wanted: Wanted,
    /// `None` when it cannot be followed as it is.
    importer: Option<Arc<Importer>>,
    stop: CancellationToken,
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
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let importers = followed.values().filter_map(|one| one.importer.as_ref());
        importers.for_each(|importer| importer.nudge().notify_one());
    }

    /// Follows what there is to follow, until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut views = self.store.views();
        let mut running = JoinSet::new();
        loop {
            let view = views.borrow_and_update().clone();
            self.follow(&view, &stop, &mut running).await;
            tokio::select! {
                () = stop.cancelled() => break,
                changed = views.changed() => if changed.is_err() { break },
                Some(_) = running.join_next() => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn follow(&self, view: &View, stop: &CancellationToken, running: &mut JoinSet<()>) {
        let wanted: BTreeMap<String, Wanted> = guest::guests(view)
            .map(|(name, source)| (name.to_owned(), self.asks(view, &source.spec)))
            .collect();
        let gone = self.take_gone(&wanted);
        for (name, one) in gone {
            one.stop.cancel();
            if !wanted.contains_key(&name)
                && let Err(error) = self.remove(&name)
            {
                tracing::warn!(event = "mirror not removed", source = name, %error);
            }
        }
        for (name, wanted) in wanted {
            if self.is_followed(&name) {
                continue;
            }
            let stop = stop.child_token();
            let importer = match self.importer(&name, &wanted).await {
                Ok(importer) => Some(Arc::new(importer)),
                Err(why) => {
                    self.tell(&name, &wanted.spec, &why).await;
                    None
                }
            };
            if let Some(importer) = importer.clone() {
                let stop = stop.clone();
                running.spawn(async move { importer.run(stop).await });
            }
            let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
            followed.insert(name, Followed { wanted, importer, stop });
        }
    }

    /// Those that are followed and ought not to be, or not so.
    fn take_gone(&self, wanted: &BTreeMap<String, Wanted>) -> Vec<(String, Followed)> {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let other = |name: &String, one: &mut Followed| wanted.get(name) != Some(&one.wanted);
        followed.extract_if(.., other).collect()
    }

    fn is_followed(&self, name: &str) -> bool {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
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

    /// Says in the source's status why it cannot be followed as it is.
    async fn tell(&self, name: &str, spec: &GitSourceSpec, why: &str) {
        tracing::warn!(event = "source not followed", source = name, why);
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
