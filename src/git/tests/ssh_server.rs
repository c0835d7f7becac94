//! Debian's `sshd` on loopback, with keys of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Serves until it is dropped. `client` is a key that it lets in, `client-other` one that it does
/// not; `host` is its own, `host-other` nobody's.
pub(super) struct Sshd {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Sshd {
    /// Starts one with its keys in `dir`; none, with a printed reason, where there is no sshd.
    pub(super) fn start(dir: &Path) -> Option<Self> {
        if !Path::new("/usr/sbin/sshd").exists() {
            println!("skipped: /usr/sbin/sshd is not installed (apt-get install openssh-server)");
            return None;
        }
        for key in ["host", "host-other", "client", "client-other"] {
            let file = dir.join(key);
            let keygen = ["-q", "-t", "ed25519", "-N", "", "-f", file.to_str().unwrap()];
            assert!(Command::new("ssh-keygen").args(keygen).status().unwrap().success());
        }
        fs::copy(dir.join("client.pub"), dir.join("authorized_keys")).unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        // sshd cannot choose a free port by itself: take one that is free now.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // A home without start-up files: what somebody's shell does at its start is not tested
        // here.
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {0}/host\nAuthorizedKeysFile \
             {0}/authorized_keys\nStrictModes no\nPermitRootLogin yes\nPidFile none\n\
             PasswordAuthentication no\nUsePAM no\n\
             SetEnv HOME={0}\n",
            dir.display()
        );
        fs::write(dir.join("sshd_config"), config).unwrap();
        let mut child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(dir.join("sshd_config"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("Server listening")), "sshd did not start");
        // Its talk must go on being read, or it blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, port, dir: dir.into() })
    }

    /// A repository on disk, as who runs this test reaches it.
    pub(super) fn url(&self, repository: &Path) -> String {
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout);
        let user = user.unwrap();
        format!("ssh://{}@127.0.0.1:{}{}", user.trim(), self.port, repository.display())
    }

    /// The file of a private key.
    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A line of known_hosts that says this server has some key.
    pub(super) fn known_host(&self, key: &str) -> String {
        let public = fs::read_to_string(self.dir.join(format!("{key}.pub"))).unwrap();
        format!("[127.0.0.1]:{} {public}", self.port)
    }
}
