//! `mainstay kubeconfig`: lets somebody in with kubectl.

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;

use super::{Error, dev::Endpoints, machine, output};
use crate::{
    server::PKI,
    trust::{Issued, KeyFiles, Leaf},
};

/// The administrator's kubeconfig in a cluster's folder.
const ADMIN: &str = "kubeconfig";

/// Make a kubeconfig for a user, on a machine that has the cluster's CA
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// Folder of the server, with the CA's key
    #[arg(long, env = "MAINSTAY_DIR")]
    dir: Option<PathBuf>,
    /// Name of the user
    #[arg(long)]
    user: String,
    /// Group the user is in; may be given several times
    #[arg(long = "group")]
    groups: Vec<String>,
    /// Days until the certificate expires
    #[arg(long, default_value_t = 365)]
    days: i64,
    /// Address to reach the cluster at; that of this server when absent
    #[arg(long)]
    server: Option<String>,
}

pub(super) fn run(verb: &Verb) -> Result<(), Error> {
    let dir = super::cluster_dir(verb.dir.as_deref())?;
    if verb.user.is_empty() || verb.days < 1 {
        return Err(Error::yours("a user has a name, and a certificate lasts at least a day"));
    }
    let keys = KeyFiles::new(dir.join(PKI));
    let ca = keys.ca().map_err(|e| {
        Error::yours(format!("there is no CA in {}: {e}", dir.display()))
            .hint("run this on a server, or name its folder with --dir")
    })?;
    let leaf = Leaf {
        common_name: verb.user.clone(),
        organizations: verb.groups.clone(),
        names: Vec::new(),
        days: verb.days,
    };
    let issued = ca.issue(&leaf, machine::now()).map_err(|e| Error::ours(e.to_string()))?;
    let server = match &verb.server {
        Some(server) => server.clone(),
        None => own_address(&dir)?,
    };
    output::write(text(&server, ca.certificate(), &issued, &verb.user)?.as_bytes())
        .map_err(|e| Error::ours(e.to_string()))
}

/// Where the server of a folder said it answers.
fn own_address(dir: &Path) -> Result<String, Error> {
    let path = dir.join("endpoints.json");
    let missing = |e: String| {
        Error::yours(format!("{}: {e}", path.display()))
            .hint("start the server, or say where it is with --server https://HOST:6443")
    };
    let bytes = std::fs::read(&path).map_err(|e| missing(e.to_string()))?;
    let endpoints: Endpoints =
        serde_json::from_slice(&bytes).map_err(|e| missing(e.to_string()))?;
    Ok(endpoints.api)
}

/// Writes the administrator's kubeconfig into a cluster's folder; again at each start, with the
/// newest certificate.
pub(super) fn write_admin(dir: &Path, server: &str) -> Result<(), Error> {
    let keys = KeyFiles::new(dir.join(PKI));
    let read = keys.ca_certificate().and_then(|ca| Ok((ca, keys.issued("admin")?)));
    let (ca, admin) = read.map_err(|e| Error::ours(e.to_string()))?;
    let text = text(server, &ca, &admin, "kubernetes-admin")?;
    machine::write(&dir.join(ADMIN), text.as_bytes())
}

/// A kubeconfig that holds everything it needs.
fn text(server: &str, ca: &str, issued: &Issued, user: &str) -> Result<String, Error> {
    let encoded = |pem: &str| BASE64_STANDARD.encode(pem);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "mainstay",
        "clusters": [{
            "name": "mainstay",
            "cluster": { "server": server, "certificate-authority-data": encoded(ca) },
        }],
        "users": [{
            "name": user,
            "user": {
                "client-certificate-data": encoded(&issued.certificate),
                "client-key-data": encoded(&issued.key),
            },
        }],
        "contexts": [{ "name": "mainstay", "context": { "cluster": "mainstay", "user": user } }],
    });
    serde_yaml::to_string(&config).map_err(|e| Error::ours(e.to_string()))
}
