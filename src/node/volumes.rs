//! What the files of a pod's volumes are.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, PodSpec, Secret,
    ServiceAccountTokenProjection, Volume,
};
use sha2::{Digest, Sha256};

use super::{env::Scope, tokens::Wish};

/// Most bytes all files of one volume may hold: an object holds 1.5 MiB at most, a projected volume
/// several.
pub const VOLUME_BYTES_MAX: usize = 16 << 20;

/// One volume of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its name in the pod.
    pub name: String,
    /// What it is, or why it cannot be made yet, in Kubernetes' words; an empty text when that is
    /// no fault but takes a moment.
    pub source: Result<Source, String>,
    /// The group that may read what is in it, and write what is the pod's own (`fsGroup`).
    pub group: Option<u32>,
}

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Files with given content, replaced all at once when the content changes.
    Files(Files),
    /// An empty directory that lives as long as the pod.
    Empty {
        /// In memory rather than on disk (`medium: Memory`).
        memory: bool,
    },
    /// A path of the node.
    Host {
        /// Where, absolute.
        path: String,
        /// What must be there or is made there.
        kind: HostKind,
    },
}

/// Files with given content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// By relative path.
    pub files: BTreeMap<String, File>,
    /// Holds a Secret's data or a token: kept in memory.
    pub secret: bool,
}

/// One file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Whose it is, when it is not root's.
    pub user: Option<u32>,
}

/// `hostPath.type` (kubernetes.io/docs/concepts/storage/volumes, "hostPath volume types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// No check.
    Any,
    /// Made when absent.
    DirectoryOrCreate,
    /// Must be a directory.
    Directory,
    /// Made when absent, empty; its directory must be there.
    FileOrCreate,
    /// Must be a file.
    File,
    /// Must be a UNIX socket.
    Socket,
    /// Must be a character device.
    CharDevice,
    /// Must be a block device.
    BlockDevice,
}

impl VolumeSpec {
    /// Names the wanted content: what is on disk is right when it was written under the same name.
    /// Empty when the volume cannot be made yet.
    pub fn hash(&self) -> String {
        let mut sha = Sha256::new();
        match &self.source {
            Err(_) => return String::new(),
            Ok(Source::Empty { memory }) => {
                let group = self.group.map(|g| format!("-{g}")).unwrap_or_default();
                return format!("empty-{memory}{group}");
            }
            Ok(Source::Host { path, kind }) => sha.update(format!("{kind:?} {path}")),
            Ok(Source::Files(files)) => {
                for (path, File { bytes, mode, user }) in &files.files {
                    sha.update(format!("{} {path} {mode:o} {}\n", path.len(), bytes.len()));
                    user.iter().for_each(|user| sha.update(format!("{user}\n")));
                    sha.update(bytes);
                }
                self.group.iter().for_each(|group| sha.update(format!("{group}\n")));
            }
        }
        hex(&sha.finalize())
    }
}

/// The first 16 hexadecimal digits.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// The volumes of a pod, those that no container mounts included (Kubernetes waits for them too).
pub fn volumes(spec: &PodSpec, scope: Scope<'_>) -> Vec<VolumeSpec> {
    spec.volumes.iter().flatten().map(|v| volume(v, spec, scope)).collect()
}

fn volume(volume: &Volume, spec: &PodSpec, scope: Scope<'_>) -> VolumeSpec {
    let set_up = |m: String| match m.is_empty() {
        true => m,
        false => format!("MountVolume.SetUp failed for volume {:?} : {m}", volume.name),
    };
    let source = source(volume, spec, scope).and_then(check_size).map_err(set_up);
    let group = spec.security_context.as_ref().and_then(|s| s.fs_group);
    let group = group.and_then(|group| u32::try_from(group).ok());
    VolumeSpec { name: volume.name.clone(), source, group }
}

/// The user that every container of a pod runs as, when they agree and say so.
fn user_of_all(spec: &PodSpec) -> Option<u32> {
    let pod = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let users = all.map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(pod));
    let users: std::collections::BTreeSet<_> = users.collect();
    match users.first() {
        Some(Some(user)) if users.len() == 1 => u32::try_from(*user).ok(),
        _ => None,
    }
}

/// The file of a token. One that a known user or group reads is nobody else's, as the kubelet
/// writes it.
fn token(
    source: &ServiceAccountTokenProjection,
    mode: i32,
    spec: &PodSpec,
    scope: Scope<'_>,
) -> Result<FileMap, String> {
    let wish = Wish::of(source.audience.as_deref(), source.expiration_seconds);
    let bytes = scope.token(&wish)?.as_bytes().to_vec();
    let user = user_of_all(spec);
    let group = spec.security_context.as_ref().and_then(|s| s.fs_group);
    let mode = if user.is_some() || group.is_some() { 0o600 } else { bits(mode) };
    Ok([(inside(&source.path)?, File { bytes, mode, user })].into())
}

fn check_size(source: Source) -> Result<Source, String> {
    let bytes: usize = match &source {
        Source::Files(files) => files.files.values().map(|f| f.bytes.len()).sum(),
        _ => 0,
    };
    if bytes <= VOLUME_BYTES_MAX {
        return Ok(source);
    }
    Err(format!("its files hold {bytes} bytes, at most {VOLUME_BYTES_MAX} are allowed"))
}

fn source(volume: &Volume, spec: &PodSpec, scope: Scope<'_>) -> Result<Source, String> {
    const MODE: i32 = 0o644;
    if let Some(s) = &volume.config_map {
        let mode = s.default_mode.unwrap_or(MODE);
        let found = scope.config_map(&s.name);
        let files = of_config_map(found, s.items.as_deref(), s.optional, mode)?;
        return Ok(Source::Files(Files { files, secret: false }));
    }
    if let Some(s) = &volume.secret {
        let name = s.secret_name.as_deref().unwrap_or_default();
        let mode = s.default_mode.unwrap_or(MODE);
        let files = of_secret(scope.secret(name), s.items.as_deref(), s.optional, mode)?;
        return Ok(Source::Files(Files { files, secret: true }));
    }
    if let Some(s) = &volume.empty_dir {
        return Ok(Source::Empty { memory: s.medium.as_deref() == Some("Memory") });
    }
    if let Some(s) = &volume.host_path {
        return host_path(&s.path, s.type_.as_deref().unwrap_or_default());
    }
    if let Some(s) = &volume.downward_api {
        let mode = s.default_mode.unwrap_or(MODE);
        let files = downward(s.items.as_deref().unwrap_or_default(), mode, spec, scope)?;
        return Ok(Source::Files(Files { files, secret: false }));
    }
    if let Some(s) = &volume.projected {
        let mode = s.default_mode.unwrap_or(MODE);
        let mut all = Files::default();
        for part in s.sources.iter().flatten() {
            if let Some(p) = &part.config_map {
                let found = scope.config_map(&p.name);
                all.files.extend(of_config_map(found, p.items.as_deref(), p.optional, mode)?);
            } else if let Some(p) = &part.secret {
                let found = scope.secret(&p.name);
                all.files.extend(of_secret(found, p.items.as_deref(), p.optional, mode)?);
                all.secret = true;
            } else if let Some(p) = &part.downward_api {
                let items = p.items.as_deref().unwrap_or_default();
                all.files.extend(downward(items, mode, spec, scope)?);
            } else if let Some(p) = &part.service_account_token {
                all.files.extend(token(p, mode, spec, scope)?);
                all.secret = true;
            } else {
                return Err("this kind of projection is not supported".to_owned());
            }
        }
        return Ok(Source::Files(all));
    }
    Err("this kind of volume is not supported".to_owned())
}

type FileMap = BTreeMap<String, File>;

fn of_config_map(
    map: Result<&ConfigMap, String>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
) -> Result<FileMap, String> {
    let entries = match map {
        Ok(map) => {
            let text = map.data.iter().flatten();
            let text = text.map(|(k, v)| (k.clone(), v.clone().into_bytes()));
            let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
            text.chain(binary).collect()
        }
        Err(_) if optional == Some(true) => return Ok(FileMap::new()),
        Err(message) => return Err(message),
    };
    project(entries, items, optional, mode)
}

fn of_secret(
    secret: Result<&Secret, String>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
) -> Result<FileMap, String> {
    let entries = match secret {
        Ok(s) => s.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect(),
        Err(_) if optional == Some(true) => return Ok(FileMap::new()),
        Err(message) => return Err(message),
    };
    project(entries, items, optional, mode)
}

/// All entries under their own names, or the chosen ones under the chosen paths.
fn project(
    entries: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
) -> Result<FileMap, String> {
    let mut files = FileMap::new();
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (name, bytes) in entries {
            files.insert(inside(&name)?, File { bytes, mode: bits(mode), user: None });
        }
        return Ok(files);
    };
    for item in items {
        match entries.get(&item.key) {
            Some(bytes) => {
                let mode = bits(item.mode.unwrap_or(mode));
                let bytes = bytes.clone();
                files.insert(inside(&item.path)?, File { bytes, mode, user: None });
            }
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(files)
}

fn downward(
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    spec: &PodSpec,
    scope: Scope<'_>,
) -> Result<FileMap, String> {
    let none = Container::default();
    let own = spec.containers.first().unwrap_or(&none);
    let mut files = FileMap::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(selector), _) => scope.field(selector)?,
            (None, Some(selector)) => scope.resource(selector, own)?,
            (None, None) => return Err(format!("{} refers to nothing", item.path)),
        };
        let mode = bits(item.mode.unwrap_or(mode));
        let bytes = text.into_bytes();
        files.insert(inside(&item.path)?, File { bytes, mode, user: None });
    }
    Ok(files)
}

fn bits(mode: i32) -> u32 {
    u32::try_from(mode & 0o777).unwrap_or(0o644)
}

/// The path when it stays inside the directory that it is relative to; names that begin with `..`
/// are ours (`..data`).
pub fn inside(path: &str) -> Result<String, String> {
    let bad = |part: &str| part.is_empty() || part == "." || part.starts_with("..");
    if path.split('/').any(bad) || path.contains('\0') {
        return Err(format!("invalid path {path:?}: it must stay inside the volume"));
    }
    Ok(path.to_owned())
}

fn host_path(path: &str, kind: &str) -> Result<Source, String> {
    if !path.starts_with('/') || path.split('/').any(|p| p == "..") || path.contains('\0') {
        return Err(format!("hostPath {path:?} must be absolute and without \"..\""));
    }
    let kind = match kind {
        "" => HostKind::Any,
        "DirectoryOrCreate" => HostKind::DirectoryOrCreate,
        "Directory" => HostKind::Directory,
        "FileOrCreate" => HostKind::FileOrCreate,
        "File" => HostKind::File,
        "Socket" => HostKind::Socket,
        "CharDevice" => HostKind::CharDevice,
        "BlockDevice" => HostKind::BlockDevice,
        _ => return Err(format!("hostPath type {kind:?} is unknown")),
    };
    Ok(Source::Host { path: path.to_owned(), kind })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{NodeName, Object, Timestamp},
        node::{
            NodeFacts,
            tokens::{Token, Tokens},
        },
    };

    fn spec_of(volume: Value) -> VolumeSpec {
        spec_in(json!({}), volume)
    }

    fn spec_in(security: Value, volume: Value) -> VolumeSpec {
        let mut volume = volume;
        volume["name"] = json!("v");
        let pod = json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c"}], "volumes": [volume],
                "securityContext": security},
        });
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).unwrap();
        let objects = [
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "cfg", "namespace": "shop"},
                "data": {"a": "1", "b": "2"}, "binaryData": {"bin": "aGk="}}),
            json!({"apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "sec", "namespace": "shop"}, "data": {"pw": "aHVudGVyMg=="}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "evil", "namespace": "shop"}, "data": {"..data": "x"}}),
        ];
        let objects = objects.iter().map(|o| Object::from_value(o).unwrap());
        let objects = objects.map(|o| (o.key().clone(), o)).collect();
        let node = NodeFacts {
            name: NodeName::new("n1"),
            ip: "192.0.2.1".into(),
            cpu_milli: 4000,
            memory_bytes: 1 << 30,
        };
        let given = |text: &str| Token { text: text.into(), expires: Timestamp(0) };
        let tokens = Tokens::from([
            (Wish::of(None, Some(3607)), Ok(given("api-token"))),
            (Wish::of(Some("vault"), None), Ok(given("vault-token"))),
            (Wish::of(Some("far"), None), Err("serviceaccounts \"x\" not found".into())),
        ]);
        let (objects, node, tokens) = (&objects, &node, &tokens);
        let scope = Scope { pod: &pod, objects, node, pod_ip: None, tokens };
        volumes(pod.spec.as_ref().unwrap(), scope).remove(0)
    }

    fn check(volume: Value, expect: Expect) {
        check_as(json!({}), volume, expect);
    }

    fn check_as(security: Value, volume: Value, expect: Expect) {
        let got = match spec_in(security, volume).source {
            Ok(Source::Files(files)) => {
                let mut text = format!("secret={}\n", files.secret);
                for (path, file) in files.files {
                    let user = file.user.map(|u| format!(" of {u}")).unwrap_or_default();
                    let said = String::from_utf8_lossy(&file.bytes);
                    text += &format!("{path} {:o}{user} {said}\n", file.mode);
                }
                text
            }
            other => format!("{other:?}\n"),
        };
        expect.assert_eq(&got);
    }

    #[test]
    fn config_maps_and_secrets() {
        check(
            json!({"configMap": {"name": "cfg", "defaultMode": 0o400}}),
            expect![[r#"
                secret=false
                a 400 1
                b 400 2
                bin 400 hi
            "#]],
        );
        check(
            json!({"configMap": {"name": "cfg", "items": [{"key": "a", "path": "x/y"}]}}),
            expect![[r#"
                secret=false
                x/y 644 1
            "#]],
        );
        check(
            json!({"secret": {"secretName": "sec"}}),
            expect![[r#"
                secret=true
                pw 644 hunter2
            "#]],
        );
        check(
            json!({"secret": {"secretName": "gone", "optional": true}}),
            expect![[r#"
                secret=true
            "#]],
        );
    }

    #[test]
    fn projected_and_downward() {
        check(
            json!({"projected": {"sources": [
                {"configMap": {"name": "cfg", "items": [{"key": "a", "path": "a"}]}},
                {"secret": {"name": "sec"}},
                {"downwardAPI": {"items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ]}}),
            expect![[r#"
                secret=true
                a 644 1
                labels 644 app="web"
                pw 644 hunter2
            "#]],
        );
    }

    /// As the kubelet: whoever the containers run as reads the token, and nobody else.
    #[test]
    fn tokens_are_files_of_who_reads_them() {
        let token = |audience: Value| json!({"serviceAccountToken": {"path": "token", "audience": audience}});
        let api = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}});
        let volume = |source: &Value| json!({"projected": {"sources": [source]}});
        check(
            volume(&api),
            expect![[r#"
                secret=true
                token 644 api-token
            "#]],
        );
        check_as(
            json!({"runAsUser": 65532}),
            volume(&token(json!("vault"))),
            expect![[r#"
                secret=true
                token 600 of 65532 vault-token
            "#]],
        );
        check_as(
            json!({"fsGroup": 7}),
            volume(&api),
            expect![[r#"
                secret=true
                token 600 api-token
            "#]],
        );
        assert_eq!(spec_in(json!({"fsGroup": 7}), volume(&api)).group, Some(7));
        let waits = |source: &Value| spec_of(volume(source)).source.unwrap_err();
        let refused = waits(&token(json!("far")));
        assert!(refused.ends_with("failed to fetch token: serviceaccounts \"x\" not found"));
        assert_eq!(waits(&token(json!("new"))), "", "it was just asked for");
    }

    #[test]
    fn what_cannot_be_made_says_why() {
        for (volume, message) in [
            (json!({"configMap": {"name": "gone"}}), "configmap \"gone\" not found"),
            (json!({"secret": {"secretName": "gone"}}), "secret \"gone\" not found"),
            (
                json!({"configMap": {"name": "cfg", "items": [{"key": "z", "path": "z"}]}}),
                "references non-existent config key: z",
            ),
            (
                json!({"configMap": {"name": "cfg", "items": [{"key": "a", "path": "../a"}]}}),
                "invalid path \"../a\": it must stay inside the volume",
            ),
            (
                json!({"configMap": {"name": "evil"}}),
                "invalid path \"..data\": it must stay inside the volume",
            ),
            (
                json!({"hostPath": {"path": "/var/../etc"}}),
                "hostPath \"/var/../etc\" must be absolute and without \"..\"",
            ),
            (json!({"nfs": {"server": "s", "path": "/"}}), "this kind of volume is not supported"),
        ] {
            let spec = spec_of(volume);
            let expect = format!("MountVolume.SetUp failed for volume \"v\" : {message}");
            assert_eq!(spec.source, Err(expect));
            assert_eq!(spec.hash(), "");
        }
    }

    #[test]
    fn the_hash_names_the_content() {
        let mode = |m: i32| spec_of(json!({"configMap": {"name": "cfg", "defaultMode": m}})).hash();
        assert_eq!(mode(0o644), mode(0o644));
        assert_ne!(mode(0o644), mode(0o600));
        assert_ne!(spec_of(json!({"emptyDir": {}})).hash(), mode(0o644));
    }
}
