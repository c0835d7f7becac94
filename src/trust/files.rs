//! Keys and certificates on disk.

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{
    ca::{Ca, Error, Issued, ca_hash, certificate_of},
    jwt::TokenKey,
};

/// The key that signs tokens of service accounts, named as kubeadm's users know it.
const TOKEN_KEY: &str = "sa.key";

/// Stands between the key and the certificate of a replacement under way.
const BETWEEN: &str = "\n----- and -----\n";

/// The `pki` folder of a server, an agent or a user: `ca.crt`, and by name `<name>.crt` with
/// `<name>.key`; a server's has `ca.key` and `sa.key` too.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    dir: PathBuf,
}

impl KeyFiles {
    /// The folder; it is made when something is written.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The CA's certificate.
    pub fn ca_certificate(&self) -> Result<String, Error> {
        self.read("ca.crt")
    }

    /// The hash of the CA's key, as a join names it.
    pub fn ca_hash(&self) -> Result<String, Error> {
        let certificate = certificate_of(&self.ca_certificate()?, "ca.crt")?;
        Ok(ca_hash(&certificate).unwrap_or_default())
    }

    /// The CA with its key; servers only.
    pub fn ca(&self) -> Result<Ca, Error> {
        Ca::from_pem(&self.read("ca.crt")?, &self.read("ca.key")?)
    }

    /// The key that signs tokens; servers only. A folder of a cluster that had none gets one.
    pub fn token_key(&self) -> Result<TokenKey, Error> {
        if self.path(TOKEN_KEY).exists() {
            return TokenKey::from_pem(&self.read(TOKEN_KEY)?);
        }
        let key = TokenKey::generate()?;
        self.write_token_key(&key)?;
        Ok(key)
    }

    /// Whether `name` has a certificate and a key.
    pub fn has(&self, name: &str) -> bool {
        ["crt", "key"].iter().all(|ending| self.path(&format!("{name}.{ending}")).exists())
    }

    /// A certificate and its key: the new ones where a replacement is under way, or was
    /// interrupted. Nothing is written, so anybody may read while the owner replaces them.
    pub fn issued(&self, name: &str) -> Result<Issued, Error> {
        loop {
            if let Some(next) = self.next(name)? {
                return Ok(next);
            }
            let certificate = || self.read(&format!("{name}.crt"));
            let found =
                Issued { certificate: certificate()?, key: self.read(&format!("{name}.key"))? };
            // Else they were replaced between the one and the other.
            if self.next(name)?.is_none() && certificate()? == found.certificate {
                return Ok(found);
            }
        }
    }

    /// The pair that is to take the place of another.
    fn next(&self, name: &str) -> Result<Option<Issued>, Error> {
        let path = self.path(&format!("{name}.next"));
        let text = match fs::read_to_string(&path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            read => {
                read.map_err(|cause| Error::File { path: path.display().to_string(), cause })?
            }
        };
        let pair = text.split_once(BETWEEN);
        Ok(pair
            .map(|(key, certificate)| Issued { certificate: certificate.into(), key: key.into() }))
    }

    /// Writes the CA's certificate.
    pub fn write_ca_certificate(&self, certificate: &str) -> Result<(), Error> {
        self.write("ca.crt", certificate)
    }

    /// Writes the CA with its key.
    pub fn write_ca(&self, ca: &Ca) -> Result<(), Error> {
        self.write("ca.key", ca.key())?;
        self.write("ca.crt", ca.certificate())
    }

    /// Writes the key that signs tokens.
    pub fn write_token_key(&self, key: &TokenKey) -> Result<(), Error> {
        self.write(TOKEN_KEY, key.pem())
    }

    /// Writes a certificate and its key.
    pub fn write_issued(&self, name: &str, issued: &Issued) -> Result<(), Error> {
        // What an interrupted replacement has left says nothing any more.
        self.forget_next(name)?;
        self.write_pair(name, issued)
    }

    /// Replaces a certificate and its key. A crash at any moment leaves the old pair or the new
    /// one, never half of each: both are written in one file first.
    pub fn replace_issued(&self, name: &str, issued: &Issued) -> Result<(), Error> {
        let both = format!("{}{BETWEEN}{}", issued.key, issued.certificate);
        self.write(&format!("{name}.next"), &both)?;
        self.write_pair(name, issued)?;
        self.forget_next(name)
    }

    fn write_pair(&self, name: &str, issued: &Issued) -> Result<(), Error> {
        self.write(&format!("{name}.key"), &issued.key)?;
        self.write(&format!("{name}.crt"), &issued.certificate)
    }

    fn forget_next(&self, name: &str) -> Result<(), Error> {
        let next = self.path(&format!("{name}.next"));
        match fs::remove_file(&next) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Err(Error::File { path: next.display().to_string(), cause })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn read(&self, name: &str) -> Result<String, Error> {
        let path = self.path(name);
        fs::read_to_string(&path)
            .map_err(|cause| Error::File { path: path.display().to_string(), cause })
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.path(name);
        let write = || {
            fs::create_dir_all(&self.dir)?;
            write_private(&path, text.as_bytes())
        };
        write().map_err(|cause| Error::File { path: path.display().to_string(), cause })
    }
}

/// Writes a file that only its owner may read: beside the old one first, synced, then in its place.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
