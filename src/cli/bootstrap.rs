//! `mainstay bootstrap <repository>`: from a repository, which may be empty, to a cluster that
//! follows it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Error, cluster, machine, output,
    server::{self, CONFIG},
};
use crate::{
    config::{ServerConfig, SourceConfig},
    git,
    server::{self as servers, PKI, check_source},
    trust::KeyFiles,
};

/// The files of a branch that begins, below the folder that is followed.
const LAYOUT: [(&str, &str); 3] = [
    (
        "README.md",
        "\
# What this cluster runs

The cluster follows this branch: what is committed runs, and `git revert` takes it back.

| where | what |
|---|---|
| `cluster/` | what is in no namespace, the namespaces first of all |
| `<namespace>/` | what is in it, `<kind>-<name>.yaml` |

That is where `kubectl` writes what it makes; any other YAML file counts as well, and a folder with a
`kustomization.yaml` is one.

`mainstay diff` says what the files in front of you would change, `mainstay status` what runs. What
happened stands on the branch `mainstay/status` and in notes: `git log --show-notes=mainstay`.
",
    ),
    (
        "cluster/namespace-apps.yaml",
        "\
apiVersion: v1
kind: Namespace
metadata:
  name: apps
",
    ),
    (
        "apps/configmap-hello.yaml",
        "\
# Something to begin with; delete it, or change it and push.
apiVersion: v1
kind: ConfigMap
metadata:
  name: hello
  namespace: apps
data:
  text: from Git
",
    ),
];

/// Begin a cluster that follows a repository, which may be empty: check it, lay it out, start the
/// first server
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// The repository: file://, http(s):// or ssh://, or a folder of this machine
    repository: String,
    /// Branch to follow
    #[arg(long, default_value = "main")]
    branch: String,
    /// Folder of the repository to follow; all of it when absent
    #[arg(long, default_value = "")]
    path: String,
    /// User for http(s)://
    #[arg(long)]
    username: Option<String>,
    /// File that holds the password or token for http(s)://
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// File that holds the private key for ssh://
    #[arg(long)]
    ssh_key_file: Option<PathBuf>,
    /// Keys of the hosts that ssh:// may speak to
    #[arg(long)]
    known_hosts_file: Option<PathBuf>,
    #[command(flatten)]
    server: cluster::First,
}

pub(super) fn run(verb: &Verb) -> Result<(), Error> {
    let dir = verb.server.dir()?;
    let config = configured(verb)?;
    if KeyFiles::new(dir.join(PKI)).has("server") {
        return there_already(&dir, &config.source);
    }
    check_source(&config.source).map_err(|e| told(&e, &config.source))?;
    let files = layout(&config.source.path);
    let begun = machine::runtime()?.block_on(servers::begin(&dir, &config.source, files));
    let begun = begun.map_err(|e| told(&e, &config.source))?;
    let (url, branch, short) = (&config.source.url, &verb.branch, begun.commit.short());
    output::say(&match begun.made {
        true => format!("{url} begins with commit {short} on branch {branch}"),
        false => format!("{url} is at {short} on branch {branch}; nothing was committed"),
    });
    cluster::begin(&dir, &config, verb.server.detach)
}

fn configured(verb: &Verb) -> Result<ServerConfig, Error> {
    let mut config = verb.server.config()?;
    let absolute = |path: &Path| {
        let full = std::path::absolute(path);
        full.map_err(|e| Error::yours(format!("{}: {e}", path.display())))
    };
    let file = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
    let url = match verb.repository.contains("://") {
        true => verb.repository.clone(),
        false => format!("file://{}", absolute(Path::new(&verb.repository))?.display()),
    };
    let SourceConfig { username, password_file, ssh_key_file, known_hosts_file, .. } =
        config.source.clone();
    config.source.url = url;
    config.source.reference.branch = Some(verb.branch.clone());
    config.source.path.clone_from(&verb.path);
    config.source.username = verb.username.clone().or(username);
    config.source.password_file = file(&verb.password_file)?.or(password_file);
    config.source.ssh_key_file = file(&verb.ssh_key_file)?.or(ssh_key_file);
    config.source.known_hosts_file = file(&verb.known_hosts_file)?.or(known_hosts_file);
    Ok(config)
}

/// A cluster is in the folder: the one that was asked for, or another.
fn there_already(dir: &Path, wanted: &SourceConfig) -> Result<(), Error> {
    let there = server::read_config(&dir.join(CONFIG))?.source;
    let branch = |source: &SourceConfig| source.reference.branch.clone().unwrap_or_default();
    let place = |source: &SourceConfig| (source.url.clone(), branch(source), source.path.clone());
    let (url, name, _) = place(&there);
    if place(&there) != place(wanted) {
        let text = format!("the cluster in {} follows {url} branch {name}", dir.display());
        return Err(Error::yours(text)
            .hint("change `source` in its server.yaml, or name another folder with --dir"));
    }
    output::say(&format!(
        "nothing to do: the cluster in {} follows {url} branch {name}; `mainstay server` starts it \
         when it does not run",
        dir.display()
    ));
    Ok(())
}

fn layout(folder: &str) -> BTreeMap<String, Option<Vec<u8>>> {
    let root = folder.trim_matches('/');
    let below = |path: &str| match root.is_empty() {
        true => path.to_owned(),
        false => format!("{root}/{path}"),
    };
    LAYOUT.iter().map(|(path, text)| (below(path), Some(text.as_bytes().to_vec()))).collect()
}

/// What is wrong with the repository, and what to do there.
fn told(error: &servers::Error, source: &SourceConfig) -> Error {
    let told = Error::yours(format!("{error}"));
    let servers::Error::Git(error) = error else { return told };
    match advice(error, source) {
        Some(advice) => told.hint(advice),
        None => told,
    }
}

fn advice(error: &git::Error, source: &SourceConfig) -> Option<String> {
    let is_ssh = source.url.starts_with("ssh://");
    match error {
        git::Error::Denied { .. } if is_ssh => Some(for_ssh(source)),
        git::Error::Denied { .. } if source.url.starts_with("http") => Some(
            "give --username and --password-file, with a token that may read and write".to_owned(),
        ),
        git::Error::Rejected { .. } => Some(
            "mainstay writes refs/notes/* and the branch mainstay/status, and reverts on the branch \
             it follows: allow its user that, also where the branch is protected"
                .to_owned(),
        ),
        git::Error::Unreachable { .. } if source.url.starts_with("file://") => {
            Some("make an empty one with `git init --bare`".to_owned())
        }
        _ => None,
    }
}

/// The keys that both sides have to know.
fn for_ssh(source: &SourceConfig) -> String {
    let host = source.url.trim_start_matches("ssh://");
    let host = host.split('/').next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let (host, port) = host.rsplit_once(':').unwrap_or((host, "22"));
    let key = source.ssh_key_file.as_deref().and_then(|path| git::public_key(path).ok());
    let key = match key {
        Some(key) => format!("add this deploy key there, with the right to write:\n  {key}"),
        None => "make a deploy key with `ssh-keygen -t ed25519 -N '' -f deploy_key`, add \
                 deploy_key.pub there with the right to write, and give --ssh-key-file deploy_key"
            .to_owned(),
    };
    if source.known_hosts_file.is_some() {
        return key;
    }
    format!(
        "{key}\nname the host's own key with --known-hosts-file: `ssh-keyscan -p {port} {host} > \
         known_hosts` prints it, and the host publishes what it has to be"
    )
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::render;

    fn check(url: &str, known_hosts: bool, error: &git::Error, expected: Expect) {
        let source = SourceConfig {
            url: url.to_owned(),
            known_hosts_file: known_hosts.then(|| PathBuf::from("known_hosts")),
            ..SourceConfig::default()
        };
        expected.assert_eq(&advice(error, &source).unwrap_or_default());
    }

    #[test]
    fn who_is_not_let_in_hears_which_key_to_add() {
        let denied = git::Error::Denied { url: String::new(), reason: String::new() };
        check(
            "ssh://git@git.example.org:2222/team/cluster.git",
            false,
            &denied,
            expect![[r#"
                make a deploy key with `ssh-keygen -t ed25519 -N '' -f deploy_key`, add deploy_key.pub there with the right to write, and give --ssh-key-file deploy_key
                name the host's own key with --known-hosts-file: `ssh-keyscan -p 2222 git.example.org > known_hosts` prints it, and the host publishes what it has to be"#]],
        );
        check(
            "ssh://git.example.org/team/cluster.git",
            true,
            &denied,
            expect![
                "make a deploy key with `ssh-keygen -t ed25519 -N '' -f deploy_key`, add deploy_key.pub there with the right to write, and give --ssh-key-file deploy_key"
            ],
        );
        check(
            "https://git.example.org/team/cluster.git",
            false,
            &denied,
            expect!["give --username and --password-file, with a token that may read and write"],
        );
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "cluster", "-f"])
            .arg(&key)
            .status();
        if made.is_ok_and(|status| status.success()) {
            let source =
                SourceConfig { ssh_key_file: Some(key.clone()), ..SourceConfig::default() };
            let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
            assert!(for_ssh(&source).contains(public.trim()), "{public}");
        }
    }

    /// What must not happen: a first commit that the cluster refuses.
    #[test]
    fn what_a_branch_begins_with_is_admitted() {
        for folder in ["", "clusters/one/"] {
            let files = layout(folder);
            let files: Vec<(&str, &[u8])> = files
                .iter()
                .filter(|(path, _)| path.ends_with(".yaml"))
                .map(|(path, bytes)| (path.as_str(), bytes.as_deref().unwrap_or_default()))
                .collect();
            let results: Vec<_> =
                files.iter().map(|(path, bytes)| render::render_file(path, bytes)).collect();
            let results: Vec<_> = results.into_iter().map(std::sync::Arc::new).collect();
            let mut picture = render::Picture::default();
            let mut touched = std::collections::BTreeSet::new();
            results.into_iter().for_each(|result| picture.put(result, &mut touched));
            assert_eq!(picture.problems(&render::Options::default()), []);
            assert_eq!(picture.len(), 2);
        }
        assert!(layout("clusters/one/").contains_key("clusters/one/README.md"));
    }
}
