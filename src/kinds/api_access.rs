//! What a pod is given so that its programs can ask the API: a token of its account, the cluster's
//! certificates and the name of its namespace, as files.

use k8s_openapi::api::core::v1::{PodSpec, ServiceAccount, Volume};
use serde_json::{Value, json};

use crate::model::{Object, fnv1a, name_suffix};

/// Where programs look for the files (`rest.InClusterConfig` of client-go).
const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the name of the volume begins with.
const PREFIX: &str = "kube-api-access-";

/// Seconds that the token holds. By this number servers know that the pod did not choose it.
const TOKEN_SECONDS: i64 = 3607;

/// Says that a pod is only the picture of one that its node runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Gives a new pod the volume, and mounts it into every container that has nothing at its place;
/// nothing, when the pod or else its `account` does not want it.
///
/// Runs once for each pod, before it is stored: the API, commits and controllers call it. The same
/// pod gets the same name of the volume on every server. Source: Kubernetes' ServiceAccount
/// admission (kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin).
pub fn give_api_access(pod: &mut Value, account: Option<&ServiceAccount>) {
    let meta = &pod["metadata"];
    let mirror = meta["annotations"].get(MIRROR).is_some();
    let fresh = fresh_name(meta);
    let spec = &mut pod["spec"];
    let wanted = spec["automountServiceAccountToken"].as_bool();
    let wanted = wanted.or(account.and_then(|a| a.automount_service_account_token));
    if mirror || wanted == Some(false) || !spec.is_object() {
        return;
    }
    let own = items(spec, "volumes").find_map(|v| Some(volume_name(v)?.to_owned()));
    let volume = own.clone().unwrap_or(fresh);
    let mut used = false;
    for field in ["initContainers", "containers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            used |= mount(container, &volume);
        }
    }
    if own.is_none() && used {
        push(spec, "volumes", json!({ "name": volume, "projected": projection() }));
    }
}

/// A pod as it would be under another name: its volume is called after it, unless the pod chose
/// that name itself.
pub fn renamed_pod(pod: &Object, name: &str) -> Value {
    let mut value = pod.value();
    let before = fresh_name(&value["metadata"]);
    value["metadata"]["name"] = name.into();
    let after = fresh_name(&value["metadata"]);
    let spec = &mut value["spec"];
    rename(spec, "volumes", (&before, &after));
    for field in ["initContainers", "containers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            rename(container, "volumeMounts", (&before, &after));
        }
    }
    value
}

/// What the volume of a pod is called that has these metadata.
fn fresh_name(meta: &Value) -> String {
    let name = format!("{}/{}", meta["namespace"].as_str().unwrap_or_default(), meta["name"]);
    format!("{PREFIX}{}", name_suffix(fnv1a(name.as_bytes())))
}

fn rename(of: &mut Value, field: &str, (before, after): (&str, &str)) {
    let items = of.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten();
    for item in items.filter(|item| item["name"] == before) {
        item["name"] = after.into();
    }
}

/// Carries the volume over to a spec that was written without it, from the pod as it is.
pub(super) fn keep_api_access(spec: &mut PodSpec, live: &PodSpec) {
    let is_ours = |name: &str| name.starts_with(PREFIX);
    let given = live.volumes.iter().flatten().find(|v| is_ours(&v.name));
    let own = |v: &Volume| is_ours(&v.name);
    let Some(given) = given.filter(|_| !spec.volumes.iter().flatten().any(own)) else { return };
    let pairs = spec.containers.iter_mut().zip(&live.containers);
    let inits = spec.init_containers.iter_mut().flatten();
    for (new, old) in pairs.chain(inits.zip(live.init_containers.iter().flatten())) {
        let kept = old.volume_mounts.iter().flatten().filter(|m| m.name == given.name);
        let kept: Vec<_> = kept.cloned().collect();
        if !kept.is_empty() {
            new.volume_mounts.get_or_insert_default().extend(kept);
        }
    }
    spec.volumes.get_or_insert_default().push(given.clone());
}

fn volume_name(volume: &Value) -> Option<&str> {
    volume["name"].as_str().filter(|name| name.starts_with(PREFIX))
}

fn items<'a>(of: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    of[field].as_array().into_iter().flatten()
}

/// Mounts the volume; says whether the container had nothing there.
fn mount(container: &mut Value, volume: &str) -> bool {
    let taken = items(container, "volumeMounts").any(|m| m["mountPath"] == PATH);
    if !taken {
        push(
            container,
            "volumeMounts",
            json!({
                "name": volume, "readOnly": true, "mountPath": PATH,
            }),
        );
    }
    !taken
}

fn push(to: &mut Value, field: &str, item: Value) {
    let Some(fields) = to.as_object_mut() else { return };
    let list = fields.entry(field).or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

fn projection() -> Value {
    let field = json!({ "apiVersion": "v1", "fieldPath": "metadata.namespace" });
    json!({ "defaultMode": 0o644, "sources": [
        { "serviceAccountToken": { "path": "token", "expirationSeconds": TOKEN_SECONDS } },
        { "configMap": {
            "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }],
        } },
        { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": field }] } },
    ] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Value {
        json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": spec })
    }

    fn account(automount: Option<bool>) -> ServiceAccount {
        ServiceAccount { automount_service_account_token: automount, ..Default::default() }
    }

    fn has(mut value: Value, account: Option<&ServiceAccount>) -> bool {
        give_api_access(&mut value, account);
        items(&value["spec"], "volumes").any(|v| volume_name(v).is_some())
    }

    #[test]
    fn the_pod_decides_before_its_account() {
        let spec = |own: Value| {
            pod(json!({ "automountServiceAccountToken": own, "containers": [{ "name": "c" }] }))
        };
        let (yes, no) = (account(Some(true)), account(Some(false)));
        for (own, of_account, given) in [
            (Value::Null, None, true),
            (Value::Null, Some(&no), false),
            (json!(true), Some(&no), true),
            (json!(false), Some(&yes), false),
        ] {
            assert_eq!(has(spec(own.clone()), of_account), given, "{own} {of_account:?}");
        }
    }

    #[test]
    fn what_is_there_already_stays() {
        let taken = json!([{ "name": "own", "mountPath": PATH }]);
        let one = pod(json!({ "containers": [{ "name": "c", "volumeMounts": taken }] }));
        assert!(!has(one.clone(), None), "nobody would see it");
        let mut twice = pod(json!({ "containers": [{ "name": "c" }] }));
        give_api_access(&mut twice, None);
        let once = twice.clone();
        give_api_access(&mut twice, None);
        assert_eq!(twice, once);
        // Whatever else was sent, the door says what is wrong with it.
        for odd in [json!({ "containers": "x" }), json!({ "containers": [7], "volumes": {} })] {
            give_api_access(&mut pod(odd), None);
        }
    }

    /// What must not happen: a pod that goes on under another name and whose containers are made
    /// anew because a volume is called otherwise.
    #[test]
    fn a_pod_of_another_name_is_what_it_would_have_been() {
        let made = |name: &str| {
            let mut value = pod(json!({ "containers": [{ "name": "c" }], "volumes": [
                { "name": "kube-api-access-own", "emptyDir": {} },
            ] }));
            value["apiVersion"] = "v1".into();
            value["kind"] = "Pod".into();
            value["metadata"]["name"] = name.into();
            if name != "as it is" {
                value["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
                give_api_access(&mut value, None);
            }
            Object::from_value(&value).unwrap()
        };
        assert_eq!(renamed_pod(&made("a"), "b"), made("b").value());
        let own = renamed_pod(&made("as it is"), "b");
        assert_eq!(own["spec"], made("as it is").value()["spec"]);
    }

    /// Git says nothing of the volume; a change of the file takes nothing from the pod.
    #[test]
    fn a_spec_written_without_it_keeps_it() {
        let mut live = pod(json!({ "containers": [{ "name": "c" }] }));
        let read = |value: &Value| serde_json::from_value::<PodSpec>(value["spec"].clone());
        let mut written = read(&live).unwrap();
        give_api_access(&mut live, None);
        let live = read(&live).unwrap();
        keep_api_access(&mut written, &live);
        assert_eq!(written, live);
        keep_api_access(&mut written, &live);
        assert_eq!(written, live);
    }
}
