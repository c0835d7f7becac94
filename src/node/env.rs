//! Environment variables: references, `$(NAME)` and fields of the pod.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret,
};

use super::{
    NodeFacts, resources,
    service_env::service_env,
    tokens::{Tokens, Wish},
};
use crate::model::{Key, Object, Quantity, Seal};

/// What a reference may look at.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// ConfigMaps and Secrets, by key.
    pub objects: &'a BTreeMap<Key, Object>,
    /// The node.
    pub node: &'a NodeFacts,
    /// The pod's address, once it has one.
    pub pod_ip: Option<IpAddr>,
    /// The tokens that its volumes show, as far as they were given.
    pub tokens: &'a Tokens,
}

impl<'a> Scope<'a> {
    fn namespace(&self) -> &'a str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// A token of the pod's account, or why there is none yet; an empty text while it is asked for.
    pub fn token(&self, wish: &Wish) -> Result<&'a str, String> {
        match self.tokens.get(wish) {
            Some(Ok(token)) => Ok(&token.text),
            Some(Err(why)) => Err(format!("failed to fetch token: {why}")),
            None => Err(String::new()),
        }
    }

    fn service_env(&self) -> BTreeMap<String, String> {
        let links = self.pod.spec.as_ref().and_then(|spec| spec.enable_service_links);
        service_env(self.objects, self.namespace(), links != Some(false))
    }

    /// The ConfigMap of that name in the pod's namespace, or Kubernetes' words for its absence.
    pub fn config_map(&self, name: &str) -> Result<&'a ConfigMap, String> {
        let key = Key::of::<ConfigMap>(self.namespace(), name);
        let found = self.objects.get(&key);
        found.map_or(Ok(()), opened)?;
        let found = found.and_then(Object::view);
        found.ok_or_else(|| format!("configmap {name:?} not found"))
    }

    /// The Secret of that name in the pod's namespace, or Kubernetes' words for its absence.
    pub fn secret(&self, name: &str) -> Result<&'a Secret, String> {
        let key = Key::of::<Secret>(self.namespace(), name);
        let found = self.objects.get(&key);
        found.map_or(Ok(()), opened)?;
        let found = found.and_then(Object::view);
        found.ok_or_else(|| format!("secret {name:?} not found"))
    }

    /// The value of a `fieldRef` (kubernetes.io/docs/concepts/workloads/pods/downward-api).
    pub fn field(&self, selector: &ObjectFieldSelector) -> Result<String, String> {
        let (meta, spec) = (&self.pod.metadata, self.pod.spec.as_ref());
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let ip = || self.pod_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let path = selector.field_path.as_str();
        Ok(match path {
            "metadata.name" => text(&meta.name),
            "metadata.namespace" => text(&meta.namespace),
            "metadata.uid" => text(&meta.uid),
            "metadata.labels" => lines(meta.labels.as_ref()),
            "metadata.annotations" => lines(meta.annotations.as_ref()),
            "spec.nodeName" => self.node.name.as_str().to_owned(),
            "spec.serviceAccountName" => {
                spec.map(|s| text(&s.service_account_name)).unwrap_or_default()
            }
            "status.hostIP" | "status.hostIPs" => self.node.ip.clone(),
            "status.podIP" | "status.podIPs" => ip(),
            _ => return self.map_entry(path),
        })
    }

    /// `metadata.labels['app']`
    fn map_entry(&self, path: &str) -> Result<String, String> {
        let unsupported = || format!("unsupported fieldPath: {path}");
        let (map, rest) = path.split_once("['").ok_or_else(unsupported)?;
        let name = rest.strip_suffix("']").ok_or_else(unsupported)?;
        let map = match map {
            "metadata.labels" => &self.pod.metadata.labels,
            "metadata.annotations" => &self.pod.metadata.annotations,
            _ => return Err(unsupported()),
        };
        Ok(map.as_ref().and_then(|m| m.get(name)).cloned().unwrap_or_default())
    }

    /// The value of a `resourceFieldRef`: whole divisors, rounded up; an absent limit is the node's
    /// own amount.
    pub fn resource(
        &self,
        selector: &ResourceFieldSelector,
        own: &Container,
    ) -> Result<String, String> {
        let container = match &selector.container_name {
            None => own,
            Some(name) => self
                .pod
                .spec
                .iter()
                .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
                .find(|c| c.name == *name)
                .ok_or_else(|| format!("container {name} not found"))?,
        };
        let unsupported = || format!("unsupported container resource: {}", selector.resource);
        let (which, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
        let of = container.resources.as_ref();
        let node = match resource {
            "cpu" => Quantity::milli(self.node.cpu_milli),
            "memory" => Quantity::units(self.node.memory_bytes),
            _ => Quantity::ZERO,
        };
        let value = match which {
            "limits" => resources::limit(of, resource).unwrap_or(node),
            "requests" => resources::request(of, resource).unwrap_or_default(),
            _ => return Err(unsupported()),
        };
        let divisor = selector.divisor.as_ref().map_or(Quantity::ZERO, Quantity::of);
        let divisor = if divisor > Quantity::ZERO { divisor } else { Quantity::units(1) };
        let (value, divisor) = (value.as_milli(), divisor.as_milli().max(1));
        let whole = value.div_euclid(divisor) + i64::from(value.rem_euclid(divisor) != 0);
        Ok(whole.to_string())
    }

    fn source(&self, from: &EnvVarSource, own: &Container) -> Result<Option<String>, String> {
        if let Some(selector) = &from.field_ref {
            return self.field(selector).map(Some);
        }
        if let Some(selector) = &from.resource_field_ref {
            return self.resource(selector, own).map(Some);
        }
        if let Some(s) = &from.config_map_key_ref {
            let value = self.config_map(&s.name).and_then(|map| {
                let value = map.data.as_ref().and_then(|d| d.get(&s.key)).cloned();
                value.ok_or_else(|| self.no_key(&s.key, "ConfigMap", &s.name))
            });
            return optional(value, s.optional);
        }
        if let Some(s) = &from.secret_key_ref {
            let value = self.secret(&s.name).and_then(|secret| {
                let value = secret.data.as_ref().and_then(|d| d.get(&s.key));
                let value = value.map(|v| String::from_utf8_lossy(&v.0).into_owned());
                value.ok_or_else(|| self.no_key(&s.key, "Secret", &s.name))
            });
            return optional(value, s.optional);
        }
        Ok(Some(String::new()))
    }

    fn no_key(&self, key: &str, kind: &str, name: &str) -> String {
        format!("couldn't find key {key} in {kind} {}/{name}", self.namespace())
    }
}

/// Refuses what the servers could not open: its values are of no use to anybody.
fn opened(object: &Object) -> Result<(), String> {
    match Seal::of(object) {
        None => Ok(()),
        Some(seal) => Err(format!(
            "{} is sealed, and the server that leads cannot open it: give every server a key of \
             one of {} (source.decryption.ageKeyFile)",
            object.key(),
            seal.recipients()
        )),
    }
}

fn optional<T>(value: Result<T, String>, optional: Option<bool>) -> Result<Option<T>, String> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(_) if optional == Some(true) => Ok(None),
        Err(message) => Err(message),
    }
}

/// `key="value"`, a line each, as the downward API writes a map.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let line = |(k, v): (&String, &String)| format!("{k}={v:?}");
    map.into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

/// The environment of one container: Services first, then `envFrom`, then `env` in order, the later
/// winning; `$(NAME)` refers to what stands before it. Errors are the words Kubernetes uses under
/// reason `CreateContainerConfigError`.
pub fn resolve(
    container: &Container,
    scope: Scope<'_>,
) -> Result<BTreeMap<String, String>, String> {
    let mut env = scope.service_env();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(source) = &from.config_map_ref
            && let Some(map) = optional(scope.config_map(&source.name), source.optional)?
        {
            let data = map.data.iter().flatten();
            env.extend(data.map(|(k, v)| (format!("{prefix}{k}"), v.clone())));
        }
        if let Some(source) = &from.secret_ref
            && let Some(secret) = optional(scope.secret(&source.name), source.optional)?
        {
            let data = secret.data.iter().flatten();
            let text = |v: &k8s_openapi::ByteString| String::from_utf8_lossy(&v.0).into_owned();
            env.extend(data.map(|(k, v)| (format!("{prefix}{k}"), text(v))));
        }
    }
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            Some(from) => scope.source(from, container)?,
            None => Some(expand(var.value.as_deref().unwrap_or_default(), &env)),
        };
        if let Some(value) = value {
            env.insert(var.name.clone(), value);
        }
    }
    // An environment entry ends at a NUL; Docker would cut it there without a word.
    match env.iter().find(|(k, v)| k.contains(['\0', '=']) || v.contains('\0')) {
        Some((name, _)) => Err(format!("environment variable {name:?} cannot be passed on")),
        None => Ok(env),
    }
}

/// Replaces `$(NAME)`; `$$` is one `$`; a reference to something unknown stays as it is written.
pub fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let named = rest.strip_prefix('(').and_then(|r| r.split_once(')'));
        match named {
            Some((name, after)) => {
                match env.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(env: Value, env_from: Value, expect: Expect) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web-0", "namespace": "shop", "uid": "u1",
                "labels": {"app": "web", "tier": "a\"b"}},
            "spec": {"containers": [
                {"name": "c", "env": env, "envFrom": env_from,
                 "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "10Mi"}}},
            ]},
        }))
        .unwrap();
        let objects = [
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "cfg", "namespace": "shop"}, "data": {"a": "1", "b": "$(X)"}}),
            json!({"apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "sec", "namespace": "shop"}, "data": {"pw": "aHVudGVyMg=="}}),
        ];
        let objects = objects.iter().map(|o| Object::from_value(o).unwrap());
        let objects = objects.map(|o| (o.key().clone(), o)).collect();
        let node = NodeFacts {
            name: crate::model::NodeName::new("n1"),
            ip: "192.0.2.1".into(),
            cpu_milli: 4000,
            memory_bytes: 1 << 30,
        };
        let pod_ip = Some("10.244.1.5".parse().unwrap());
        let tokens = Tokens::new();
        let scope = Scope { pod: &pod, objects: &objects, node: &node, pod_ip, tokens: &tokens };
        let got = match resolve(&pod.spec.as_ref().unwrap().containers[0], scope) {
            Ok(env) => env.iter().map(|(k, v)| format!("{k}={v}\n")).collect(),
            Err(message) => format!("error: {message}\n"),
        };
        expect.assert_eq(&got);
    }

    #[test]
    fn references_expand_in_order() {
        check(
            json!([
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)-$(LATER)-$$(A)-$(open"},
                {"name": "LATER", "value": "x"},
                {"name": "A", "value": "2$(A)"},
                {"name": "EMPTY"},
            ]),
            json!([]),
            expect![[r#"
                A=21
                B=1-$(LATER)-$(A)-$(open
                EMPTY=
                LATER=x
            "#]],
        );
    }

    #[test]
    fn values_come_from_maps_secrets_fields_and_resources() {
        let field = |name: &str, path: &str| {
            json!({"name": name,
            "valueFrom": {"fieldRef": {"fieldPath": path}}})
        };
        let resource = |name: &str, resource: &str, divisor: &str| {
            json!({"name": name,
            "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}})
        };
        check(
            json!([
                {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "a"}}},
                {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
                {"name": "NO", "valueFrom": {"secretKeyRef":
                    {"name": "gone", "key": "pw", "optional": true}}},
                {"name": "URL", "value": "http://$(IP)"},
                field("IP", "status.podIP"),
                {"name": "URL2", "value": "http://$(IP)"},
                field("NODE", "spec.nodeName"),
                field("HOST", "status.hostIP"),
                field("APP", "metadata.labels['app']"),
                field("LABELS", "metadata.labels"),
                resource("CPU", "limits.cpu", "0"),
                resource("CPU_M", "limits.cpu", "1m"),
                resource("MEM_NODE", "limits.memory", "1Mi"),
                resource("MEM", "requests.memory", "1Ki"),
            ]),
            json!([{"prefix": "P_", "configMapRef": {"name": "cfg"}},
                {"secretRef": {"name": "gone", "optional": true}}]),
            expect![[r#"
                APP=web
                CPU=2
                CPU_M=1500
                HOST=192.0.2.1
                IP=10.244.1.5
                KEY=1
                LABELS=app="web"
                tier="a\"b"
                MEM=10240
                MEM_NODE=1024
                NODE=n1
                PW=hunter2
                P_a=1
                P_b=$(X)
                URL=http://$(IP)
                URL2=http://10.244.1.5
            "#]],
        );
    }

    #[test]
    fn what_is_missing_is_named_as_kubernetes_names_it() {
        let map = |name: &str, key: &str| {
            json!([{"name": "A",
            "valueFrom": {"configMapKeyRef": {"name": name, "key": key}}}])
        };
        let none = json!([]);
        check(
            map("gone", "a"),
            none.clone(),
            expect![[r#"
            error: configmap "gone" not found
        "#]],
        );
        check(
            map("cfg", "z"),
            none.clone(),
            expect![[r#"
            error: couldn't find key z in ConfigMap shop/cfg
        "#]],
        );
        check(
            none.clone(),
            json!([{"secretRef": {"name": "gone"}}]),
            expect![[r#"
                error: secret "gone" not found
            "#]],
        );
        check(
            json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.magic"}}}]),
            none,
            expect![[r#"
                error: unsupported fieldPath: spec.magic
            "#]],
        );
    }
}
