//! The server's own keys: renewed in time, and taken up by whoever shows them.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clock;
use crate::trust::{self, ALPN_AGENT, ALPN_HTTP, ALPN_RAFT, Ca, KeyFiles, Validity};

/// The longest time between two looks at the certificates.
const LOOK_SECONDS_MAX: u64 = 86_400;

/// When a renewal that failed (a full disk) is tried again.
const RETRY_SECONDS: u64 = 600;

/// What a server's folder holds: its own certificate, and the administrator's of `mainstay init`.
const NAMES: [&str; 2] = ["server", "admin"];

/// The server's keys as its listener and its dialers use them.
pub(super) struct Keyring {
    keys: KeyFiles,
    ca: Ca,
    listener: watch::Sender<Arc<ServerConfig>>,
    servers: watch::Sender<Arc<ClientConfig>>,
    agents: watch::Sender<Arc<ClientConfig>>,
}

impl Keyring {
    /// Reads the keys and renews at once what is due.
    pub(super) fn open(keys: KeyFiles, ca: Ca) -> Result<Self, trust::Error> {
        if let Err(error) = renew_due(&keys, &ca) {
            tracing::warn!(event = "certificate not renewed", %error);
        }
        let (listener, servers, agents) = configs(&keys, &ca)?;
        let (listener, servers, agents) =
            (watch::Sender::new(listener), watch::Sender::new(servers), watch::Sender::new(agents));
        Ok(Self { keys, ca, listener, servers, agents })
    }

    /// For connections that come in.
    pub(super) fn listener(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.listener.subscribe()
    }

    /// For dialling other servers.
    pub(super) fn servers(&self) -> watch::Receiver<Arc<ClientConfig>> {
        self.servers.subscribe()
    }

    /// For asking nodes.
    pub(super) fn agents(&self) -> watch::Receiver<Arc<ClientConfig>> {
        self.agents.subscribe()
    }

    /// Looks daily, and when something becomes due before that, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            let pause = self.look().unwrap_or_else(|error| {
                tracing::warn!(event = "certificate not renewed", %error);
                Duration::from_secs(RETRY_SECONDS)
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Renews what is due; gives when to look again.
    fn look(&self) -> Result<Duration, trust::Error> {
        if renew_due(&self.keys, &self.ca)? {
            let (listener, servers, agents) = configs(&self.keys, &self.ca)?;
            self.listener.send_replace(listener);
            self.servers.send_replace(servers);
            self.agents.send_replace(agents);
        }
        let mut pause = Duration::from_secs(LOOK_SECONDS_MAX);
        for name in NAMES.into_iter().filter(|name| self.keys.has(name)) {
            let validity = Validity::of(&self.keys.issued(name)?.certificate)?;
            pause = pause.min(validity.renew_at().since(clock::now()));
        }
        Ok(pause)
    }
}

type Configs = (Arc<ServerConfig>, Arc<ClientConfig>, Arc<ClientConfig>);

fn configs(keys: &KeyFiles, ca: &Ca) -> Result<Configs, trust::Error> {
    let (ca, issued) = (ca.certificate(), keys.issued("server")?);
    let alpn = [ALPN_AGENT, ALPN_RAFT, ALPN_HTTP[0], ALPN_HTTP[1]];
    Ok((
        trust::server(ca, &issued, &alpn)?,
        trust::client(ca, &issued, ALPN_RAFT)?,
        trust::client(ca, &issued, ALPN_HTTP[1])?,
    ))
}

/// Renews what is due; tells whether anything was.
fn renew_due(keys: &KeyFiles, ca: &Ca) -> Result<bool, trust::Error> {
    let mut any = false;
    for name in NAMES.into_iter().filter(|name| keys.has(name)) {
        let certificate = keys.issued(name)?.certificate;
        if Validity::of(&certificate)?.renew_at() > clock::now() {
            continue;
        }
        keys.replace_issued(name, &ca.renew(&certificate, clock::now())?)?;
        tracing::info!(event = "certificate renewed", name);
        any = true;
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{Issued, Leaf};

    const DEADLINE: Duration = Duration::from_secs(60);

    fn issued(ca: &Ca, name: &str, days_ago: i64, seconds: i64) -> Issued {
        let leaf = Leaf {
            common_name: name.into(),
            organizations: vec!["mainstay:servers".into()],
            names: vec!["localhost".into()],
            days: 90,
        };
        ca.issue(&leaf, clock::now().plus_seconds(seconds - days_ago * 86_400)).unwrap()
    }

    #[test]
    fn what_is_due_at_the_start_is_renewed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyFiles::new(dir.path());
        let ca = Ca::generate("t", clock::now()).unwrap();
        keys.write_issued("server", &issued(&ca, "s", 80, 0)).unwrap();
        let fresh = issued(&ca, "a", 1, 0);
        keys.write_issued("admin", &fresh).unwrap();
        let old = keys.issued("server").unwrap();
        let _ring = Keyring::open(keys.clone(), ca).unwrap();
        let new = keys.issued("server").unwrap();
        assert_ne!((&new.key, &new.certificate), (&old.key, &old.certificate));
        let left = Validity::of(&new.certificate).unwrap().until.since(clock::now());
        assert!(left > Duration::from_secs(89 * 86_400), "{left:?}");
        assert_eq!(keys.issued("admin").unwrap().certificate, fresh.certificate);
    }

    #[tokio::test]
    async fn what_becomes_due_while_it_runs_is_renewed_then() {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyFiles::new(dir.path());
        let ca = Ca::generate("t", clock::now()).unwrap();
        // Its last third begins in about two seconds: not_before is 300 s early.
        let (third, early) = ((90 * 86_400 + 300) / 3, 300);
        let ago = 90 * 86_400 - third;
        keys.write_issued("server", &issued(&ca, "s", 0, 2 - ago)).unwrap();
        let old = keys.issued("server").unwrap();
        let due = Validity::of(&old.certificate).unwrap().renew_at().since(clock::now());
        assert!(due <= Duration::from_secs(early), "{due:?}");
        let ring = Keyring::open(keys.clone(), ca).unwrap();
        assert_eq!(keys.issued("server").unwrap().certificate, old.certificate, "not yet due");
        let (mut listener, mut dial) = (ring.listener(), ring.servers());
        let stop = CancellationToken::new();
        let running = tokio::spawn(ring.run(stop.clone()));
        tokio::time::timeout(DEADLINE, listener.changed()).await.unwrap().unwrap();
        tokio::time::timeout(DEADLINE, dial.changed()).await.unwrap().unwrap();
        assert_ne!(keys.issued("server").unwrap().certificate, old.certificate);
        stop.cancel();
        running.await.unwrap();
    }
}
