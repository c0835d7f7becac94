//! One bounded conversation with a remote: its deadline, its credentials, its trust, and what its
//! errors mean.

use std::{
    cell::{Ref, RefCell},
    time::{Duration, Instant},
};

use git2::{
    CertificateCheckStatus, Cred, CredentialType, Direction, Error as GitError, ErrorClass,
    ErrorCode, FetchOptions, PushOptions, RemoteCallbacks, RemoteRedirect, Repository,
};

use super::{
    copy,
    error::{Error, Result, owner_advice, speaks_of_damage, speaks_of_owner},
    known_hosts::{self, Verdict},
    local,
    relay::{Cut, Relay, Speech, Target},
    remote::{Auth, Place, Remote, Scheme, folder_reason, ssh_user, without_password},
    silence,
};

/// Most bytes of what a remote's hooks print that we keep: a screenful for a condition.
const WORDS_BYTES_MAX: usize = 4 << 10;

/// When a call must be over, and how long it was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    until: Instant,
    within: Duration,
}

impl Deadline {
    /// So long from now.
    pub(super) fn after(within: Duration) -> Self {
        Self { until: Instant::now() + within, within }
    }
}

/// A conversation with one remote, made for one call and ended by its deadline.
pub(super) struct Exchange<'a> {
    remote: &'a Remote,
    place: Place,
    /// The address as libgit2 is told it.
    url: String,
    deadline: Deadline,
    relay: Option<Relay>,
    talk: RefCell<Talk>,
}

/// What was said during the conversation.
#[derive(Default)]
pub(super) struct Talk {
    cut: Option<Cut>,
    distrust: Option<String>,
    asked: u32,
    /// What the remote's hooks printed.
    pub(super) words: String,
    /// The refs that were refused, with the server's status.
    pub(super) refused: Vec<(String, String)>,
}

impl<'a> Exchange<'a> {
    /// Prepares a conversation. Nothing is sent yet.
    pub(super) fn new(remote: &'a Remote, deadline: Deadline) -> Result<Self> {
        silence::bound();
        remote.check()?;
        let place = Place::parse(&remote.url)?;
        let relay = start_relay(remote, &place, deadline.until)?;
        let url = address(&place, relay.as_ref());
        let talk = RefCell::default();
        Ok(Self { remote, place, url, deadline, relay, talk })
    }

    /// The folder of a local remote.
    pub(super) fn local(&self) -> Option<&std::path::Path> {
        match &self.place {
            Place::Local(path) => Some(path),
            Place::Server { .. } => None,
        }
    }

    /// A small step of a ref of a local remote, without a conversation; none when it is not one.
    pub(super) fn step(&self, repo: &Repository, full_name: &str) -> Option<git2::Oid> {
        local::bring(self.local()?, repo, full_name, self.remote.received_bytes_max)
    }

    /// Copies all that a local remote has into a repository that has nothing yet. Where that is not
    /// done, fetching does it.
    pub(super) fn copy(&self, repo: &Repository) {
        let copied = |path| copy::everything(path, repo, self.remote.received_bytes_max);
        let copied = self.local().is_some_and(copied);
        tracing::debug!(event = "first fetch", copied);
    }

    /// What was said so far.
    pub(super) fn talk(&self) -> Ref<'_, Talk> {
        self.talk.borrow()
    }

    /// Connects, lets `body` talk, and says what an error means.
    pub(super) fn fetching<T>(
        &self,
        repo: &Repository,
        body: impl FnOnce(&mut git2::Remote<'_>) -> Result<T, GitError>,
    ) -> Result<T> {
        if let Some(reason) = self.local().and_then(folder_reason) {
            return Err(Error::Unreachable { url: self.shown(), reason });
        }
        let talked = repo.remote_anonymous(&self.url).and_then(|mut remote| {
            let callbacks = self.callbacks();
            let mut connection = remote.connect_auth(Direction::Fetch, Some(callbacks), None)?;
            body(connection.remote())
        });
        talked.map_err(|cause| self.meaning(cause))
    }

    /// Pushes `refspecs`, each `source:target`. A refused ref is in [`Talk::refused`], not an
    /// error.
    pub(super) fn push(
        &self,
        repo: &Repository,
        refspecs: &[String],
        expected: &dyn Fn(&str) -> git2::Oid,
    ) -> Result<()> {
        let mut callbacks = self.callbacks();
        callbacks.push_update_reference(|name, status| {
            if let Some(status) = status {
                self.talk.borrow_mut().refused.push((name.into(), status.into()));
            }
            Ok(())
        });
        // libgit2 fills in what the remote had when it listed its refs; the server checks that
        // value again under its lock, so together this is a compare-and-swap on the tip we built
        // on.
        callbacks.push_negotiation(move |updates| {
            let moved = updates.iter().any(|update| {
                update.dst_refname().is_ok_and(|name| expected(name) != update.src())
            });
            if moved {
                return Err(GitError::new(
                    ErrorCode::NotFastForward,
                    ErrorClass::Callback,
                    "the tip moved",
                ));
            }
            Ok(())
        });
        let mut options = PushOptions::new();
        options
            .remote_callbacks(callbacks)
            .packbuilder_parallelism(1)
            .follow_redirects(RemoteRedirect::None);
        repo.remote_anonymous(&self.url)
            .and_then(|mut remote| remote.push(refspecs, Some(&mut options)))
            .map_err(|cause| self.meaning(cause))
    }

    /// How to fetch inside [`Exchange::fetching`].
    pub(super) fn fetch_options(&self) -> FetchOptions<'_> {
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(self.callbacks())
            .update_fetchhead(false)
            .download_tags(git2::AutotagOption::None)
            .follow_redirects(RemoteRedirect::None);
        options
    }

    /// The address as it may be shown.
    pub(super) fn shown(&self) -> String {
        without_password(&self.remote.url)
    }

    fn callbacks(&self) -> RemoteCallbacks<'_> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.credentials(|_, user, allowed| self.credentials(user, allowed));
        callbacks.certificate_check(|certificate, _| match certificate.as_hostkey() {
            Some(key) => self.check_host(key),
            None => Ok(CertificateCheckStatus::CertificatePassthrough),
        });
        callbacks.transfer_progress(|progress| {
            let oversized = progress.received_bytes() as u64 > self.remote.received_bytes_max;
            !oversized && !self.overdue() || self.stop(oversized)
        });
        callbacks.sideband_progress(|bytes| {
            let mut talk = self.talk.borrow_mut();
            let room = WORDS_BYTES_MAX.saturating_sub(talk.words.len());
            let text = String::from_utf8_lossy(bytes);
            talk.words.extend(text.chars().take(room));
            drop(talk);
            !self.overdue() || self.stop(false)
        });
        callbacks
    }

    fn overdue(&self) -> bool {
        Instant::now() >= self.deadline.until
    }

    /// Notes why libgit2 is told to stop; false is its word for that.
    fn stop(&self, oversized: bool) -> bool {
        let why = if oversized { Cut::Oversized } else { Cut::Deadline };
        self.talk.borrow_mut().cut.get_or_insert(why);
        false
    }

    /// Presents what we have once; libgit2 asks again and again while a server says no.
    fn credentials(&self, user: Option<&str>, allowed: CredentialType) -> Result<Cred, GitError> {
        let no = |words: &str| Err(GitError::new(ErrorCode::Auth, ErrorClass::Callback, words));
        if allowed.contains(CredentialType::USERNAME) {
            return Cred::username(ssh_user(user));
        }
        let asked = {
            let mut talk = self.talk.borrow_mut();
            talk.asked += 1;
            talk.asked
        };
        match &self.remote.auth {
            Auth::None => no("it asks for credentials and none are configured"),
            _ if asked > 1 => no("it does not accept the configured credentials"),
            Auth::Password { user, password }
                if allowed.contains(CredentialType::USER_PASS_PLAINTEXT) =>
            {
                Cred::userpass_plaintext(user, password)
            }
            Auth::Key { private_key, passphrase, .. }
                if allowed.contains(CredentialType::SSH_KEY) =>
            {
                Cred::ssh_key(ssh_user(user), None, private_key, passphrase.as_deref())
            }
            _ => no("it asks for another kind of credentials than the configured one"),
        }
    }

    fn check_host(
        &self,
        key: &git2::cert::CertHostkey<'_>,
    ) -> Result<CertificateCheckStatus, GitError> {
        let reason = match (&self.remote.auth, &self.place, key.hostkey(), key.hostkey_type()) {
            (
                Auth::Key { known_hosts, .. },
                Place::Server { host, port, .. },
                Some(wire),
                Some(sort),
            ) => {
                let host = host.trim_matches(['[', ']']);
                match known_hosts::verify(known_hosts, host, *port, sort.name(), wire) {
                    Verdict::Known => return Ok(CertificateCheckStatus::CertificateOk),
                    Verdict::Changed => {
                        "its host key is not the one in known_hosts: either it was \
                                         replaced, or this is not the server"
                            .into()
                    }
                    Verdict::Revoked => "its host key is revoked in known_hosts".into(),
                    Verdict::Unnamed => format!(
                        "known_hosts has no {} key of it; add the output of ssh-keyscan after \
                         checking it",
                        sort.name()
                    ),
                }
            }
            _ => "an SSH address needs a key and known_hosts".into(),
        };
        self.talk.borrow_mut().distrust = Some(reason);
        Err(GitError::new(ErrorCode::Certificate, ErrorClass::Callback, "host key not trusted"))
    }

    /// What an error of libgit2 means to the caller.
    fn meaning(&self, cause: GitError) -> Error {
        let url = self.shown();
        let talk = self.talk.borrow();
        let cut = talk.cut.or_else(|| self.relay.as_ref().and_then(Relay::cut));
        if let Some(reason) = &talk.distrust {
            return Error::Denied { url, reason: reason.clone() };
        }
        match cut {
            Some(Cut::Deadline) => return Error::Timeout { url, after: self.deadline.within },
            Some(Cut::Oversized) => {
                return Error::Oversized { url, bytes_max: self.remote.received_bytes_max };
            }
            Some(Cut::Finished) | None => {}
        }
        if let Some(reason) = self.relay.as_ref().and_then(Relay::failure) {
            return Error::Unreachable { url, reason };
        }
        self.meaning_of_words(url, cause)
    }

    fn meaning_of_words(&self, url: String, cause: GitError) -> Error {
        let words = cause.message().to_owned();
        // OpenSSL's word for a socket that stayed silent for so long.
        let silent = words.contains("Resource temporarily unavailable");
        if silent || cause.code() == ErrorCode::Timeout {
            let after = Duration::from_millis(silence::SILENCE_MS_MAX.unsigned_abs().into());
            return Error::Timeout { url, after };
        }
        let denied = cause.code() == ErrorCode::Auth
            || words.contains("status code: 401")
            || words.contains("status code: 403")
            || words.contains("authenticat");
        let network = matches!(cause.class(), ErrorClass::Net | ErrorClass::Http | ErrorClass::Ssh);
        if words.contains("object format") {
            let reason = "its commits have SHA-256 ids, which are not supported yet; convert it to \
                          SHA-1";
            return Error::Url { url, reason: reason.into() };
        }
        if speaks_of_owner(&cause) {
            let path = self.local().unwrap_or_else(|| std::path::Path::new(""));
            return Error::Denied { url, reason: owner_advice(path) };
        }
        if denied {
            let reason = format!("{words}; check the configured credentials and their rights");
            return Error::Denied { url, reason };
        }
        if matches!(cause.class(), ErrorClass::Ssl) || cause.code() == ErrorCode::Certificate {
            let reason = format!("{words}; its certificate must be valid for this machine");
            return Error::Denied { url, reason };
        }
        let absent = cause.code() == ErrorCode::NotFound && cause.class() == ErrorClass::Repository;
        let system = cause.class() == ErrorClass::Os && self.local().is_none();
        if network || absent || system {
            return Error::Unreachable { url, reason: words };
        }
        if speaks_of_damage(&cause) {
            let path = self.local().map_or_else(|| url.into(), std::path::Path::to_path_buf);
            return Error::Corrupt { path, reason: words };
        }
        Error::Git(cause)
    }
}

fn start_relay(remote: &Remote, place: &Place, until: Instant) -> Result<Option<Relay>> {
    let Place::Server { scheme, host, port, .. } = place else { return Ok(None) };
    // libgit2 1.9.7 hangs for ever when it ends TLS inside a proxy connection after a failed
    // certificate check (it polls a closed socket), so HTTPS goes without the relay: its deadline
    // holds only while a pack arrives, and `silence` bounds the rest.
    if *scheme == Scheme::Https {
        return Ok(None);
    }
    let speech = match scheme {
        Scheme::Ssh => Speech::Tunnel,
        Scheme::Http | Scheme::Https => Speech::Http,
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    let target = Target { host, port: *port, speech };
    Relay::start(target, until, remote.received_bytes_max).map(Some).map_err(|cause| {
        let reason = format!("this machine cannot open a loopback port: {cause}");
        Error::Unreachable { url: without_password(&remote.url), reason }
    })
}

/// The address as libgit2 is told it: SSH and HTTP go to the relay's port.
fn address(place: &Place, relay: Option<&Relay>) -> String {
    match (place, relay) {
        (Place::Local(path), _) => path.display().to_string(),
        (Place::Server { scheme: Scheme::Ssh, user, path, .. }, Some(relay)) => {
            format!("ssh://{}@127.0.0.1:{}{path}", ssh_user(user.as_deref()), relay.port())
        }
        (Place::Server { scheme: Scheme::Http, user, path, .. }, Some(relay)) => {
            format!("http://{}127.0.0.1:{}{path}", at(user), relay.port())
        }
        (Place::Server { user, host, port, path, .. }, _) => {
            format!("https://{}{host}:{port}{path}", at(user))
        }
    }
}

fn at(user: &Option<String>) -> String {
    user.as_ref().map(|user| format!("{user}@")).unwrap_or_default()
}
