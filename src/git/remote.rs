//! Where a repository is and how to get in; hostile addresses and names end here.

use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use crate::model::CommitId;

/// Most bytes one exchange may receive, unless [`Remote::received_bytes_max`] says otherwise. 2 GiB
/// is far above any repository of manifests and below what fills a server's disk; more is
/// [`Error::Oversized`].
pub const RECEIVED_BYTES_MAX: u64 = 2 << 30;

/// Longest address in bytes, so that one can be shown in a condition.
const URL_BYTES_MAX: usize = 2048;

/// Longest reference name in bytes; what a file system allows for one name.
const REFERENCE_BYTES_MAX: usize = 255;

/// A repository that mainstay reads from and writes to.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `file://`, `http://`, `https://` or `ssh://`, or an absolute path.
    pub url: String,
    /// What of it is the desired state.
    pub reference: Reference,
    /// How to get in.
    pub auth: Auth,
    /// Most bytes one exchange may receive; [`RECEIVED_BYTES_MAX`] by default.
    pub received_bytes_max: u64,
}

/// What of a repository is the desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A branch by its short name (`main`).
    Branch(String),
    /// A tag by its short name (`v1.2.0`); an annotated tag stands for its commit.
    Tag(String),
    /// One commit for good.
    Commit(CommitId),
}

/// How to get in. `Debug` never shows a secret.
#[derive(Clone, Default)]
pub enum Auth {
    /// Nothing is presented.
    #[default]
    None,
    /// HTTP basic authentication; a token goes in as password.
    Password {
        /// The user; hosts that only look at the token take any.
        user: String,
        /// The password or token.
        password: String,
    },
    /// An SSH key, and the hosts it may be shown to.
    Key {
        /// The private key file (OpenSSH or PEM).
        private_key: PathBuf,
        /// What unlocks it.
        passphrase: Option<String>,
        /// Text of a `known_hosts` file (`ssh-keyscan HOST`). A host not in it is refused.
        known_hosts: String,
    },
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Auth::None => f.write_str("None"),
            Auth::Password { user, .. } => write!(f, "Password {{ user: {user:?} }}"),
            Auth::Key { private_key, .. } => write!(f, "Key {{ private_key: {private_key:?} }}"),
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reference::Branch(name) => write!(f, "branch {name}"),
            Reference::Tag(name) => write!(f, "tag {name}"),
            Reference::Commit(id) => write!(f, "commit {id}"),
        }
    }
}

impl Reference {
    /// The full ref name in the remote; none for a commit.
    pub fn full_name(&self) -> Option<String> {
        match self {
            Reference::Branch(name) => Some(format!("refs/heads/{name}")),
            Reference::Tag(name) => Some(format!("refs/tags/{name}")),
            Reference::Commit(_) => None,
        }
    }
}

impl Remote {
    /// A remote with the default bound, checked.
    pub fn new(url: impl Into<String>, reference: Reference, auth: Auth) -> Result<Self> {
        let remote =
            Self { url: url.into(), reference, auth, received_bytes_max: RECEIVED_BYTES_MAX };
        remote.check()?;
        Ok(remote)
    }

    /// Refuses hostile or unusable addresses and reference names, before anything is contacted.
    pub fn check(&self) -> Result<()> {
        Place::parse(&self.url)?;
        match self.reference.full_name() {
            Some(name) => check_reference(&name),
            None => Ok(()),
        }
    }

    /// The folder of a local repository (`file://` or a path): where to [`super::watch`]. None for
    /// others.
    pub fn local_path(&self) -> Option<PathBuf> {
        match Place::parse(&self.url) {
            Ok(Place::Local(path)) => Some(path),
            _ => None,
        }
    }
}

/// An address taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A folder of this machine.
    Local(PathBuf),
    /// A server.
    Server { scheme: Scheme, user: Option<String>, host: String, port: u16, path: String },
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Ssh,
}

impl Place {
    /// Reads an address; anything but the four schemes and absolute paths is refused.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let refuse = |reason: &str| {
            let url = url.chars().take(200).collect::<String>();
            Err(Error::Url { url: without_password(&url), reason: reason.into() })
        };
        if url.len() > URL_BYTES_MAX {
            return refuse("is longer than 2048 bytes");
        }
        if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refuse("holds a space or control character; write it percent-encoded");
        }
        if url.starts_with('/') {
            return Ok(Place::Local(PathBuf::from(url)));
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return refuse(
                "is not file://, http://, https:// or ssh://, nor an absolute path; write \
                 git@host:path as ssh://git@host/path",
            );
        };
        let scheme = match scheme {
            "file" => return local(rest).map_or_else(&refuse, Ok),
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "ssh" => Scheme::Ssh,
            _ => return refuse("use file://, http://, https://, ssh:// or an absolute path"),
        };
        server(scheme, rest).map_or_else(refuse, Ok)
    }
}

fn local(rest: &str) -> std::result::Result<Place, &'static str> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file:// address needs an absolute path, as in file:///srv/repo.git");
    }
    let decoded = percent_decoded(path).ok_or("its percent-encoding does not give UTF-8 text")?;
    if decoded.contains('\0') {
        return Err("holds a NUL byte");
    }
    Ok(Place::Local(PathBuf::from(decoded)))
}

fn server(scheme: Scheme, rest: &str) -> std::result::Result<Place, &'static str> {
    let (authority, path) = rest.split_once('/').ok_or("names no path after the host")?;
    let (user, host_port) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err(
            "holds a password; give it by the authentication settings, addresses are shown",
        );
    }
    if user.is_some_and(|user| user.is_empty() || user.starts_with('-')) {
        return Err("its user name is empty or begins with '-'");
    }
    let (host, port) = host_and_port(host_port)?;
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
        return Err("its host name is empty, begins with '-' or holds odd characters");
    }
    if path.is_empty() || path.starts_with('-') {
        return Err("its path is empty or begins with '-'");
    }
    let default = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
        Scheme::Ssh => 22,
    };
    let port = port.unwrap_or(default);
    let user = user.map(str::to_owned);
    Ok(Place::Server { scheme, user, host: host.into(), port, path: format!("/{path}") })
}

fn host_and_port(text: &str) -> std::result::Result<(&str, Option<u16>), &'static str> {
    let bracket = text.rfind(']').map_or(0, |at| at + 1);
    match text[bracket..].find(':') {
        None => Ok((text, None)),
        Some(at) => {
            let (host, port) = text.split_at(bracket + at);
            let port = port[1..].parse().map_err(|_| "its port is not a number below 65536")?;
            Ok((host, Some(port)))
        }
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%' {
            let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok())?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The address as it may be shown: a password in it is left out.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => {
            let user = rest[..at].split(':').next().unwrap_or_default();
            format!("{scheme}://{user}{}", &rest[at..])
        }
        None => url.into(),
    }
}

/// Refuses ref names that Git would refuse (git-check-ref-format), or that could be taken for an
/// option.
pub(super) fn check_reference(full_name: &str) -> Result<()> {
    let refuse = |reason: &str| {
        let name = full_name.chars().take(200).collect();
        Err(Error::Reference { name, reason: reason.into() })
    };
    if full_name.len() > REFERENCE_BYTES_MAX {
        return refuse("is longer than 255 bytes");
    }
    let short = ["refs/heads/", "refs/tags/", "refs/notes/"]
        .iter()
        .find_map(|prefix| full_name.strip_prefix(prefix));
    match short {
        None => refuse("is not a branch, a tag or a note"),
        Some(short) if short.starts_with('-') => refuse("begins with '-'"),
        Some("HEAD") => refuse("is a word of Git's own; name the branch"),
        Some(_) if !git2::Reference::is_valid_name(full_name) => {
            refuse("is no valid name (see git help check-ref-format)")
        }
        Some(_) => Ok(()),
    }
}

/// The user name that an SSH address logs in with.
pub(super) fn ssh_user(user: Option<&str>) -> &str {
    user.unwrap_or("git")
}

/// Whether a folder is a repository that we may open, as a reason when it is not.
pub(super) fn folder_reason(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some("it is not a folder".into()),
        Err(cause) => Some(cause.to_string()),
    }
}
