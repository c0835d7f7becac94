//! Small manifests from a few words: `deploy web image=web:1 replicas=2`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The words of one thing: `image=web:1 replicas=2`.
pub(super) type Words = BTreeMap<String, String>;

/// Reads `key=value` words; a word without `=` is true.
pub(super) fn words(text: &[&str]) -> Words {
    let pair = |word: &&str| match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => ((*word).to_owned(), "true".to_owned()),
    };
    text.iter().map(pair).collect()
}

/// Splits `shop/web`; the namespace is `default` when there is none.
pub(super) fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or(("default", name))
}

fn number(words: &Words, key: &str) -> Option<i64> {
    words.get(key)?.parse().ok()
}

/// A number as a number, anything else as text.
fn int_or_text(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
}

fn metadata(name: &str) -> Value {
    let (namespace, name) = split(name);
    json!({ "name": name, "namespace": namespace })
}

/// A Deployment.
///
/// Words: `image`, `replicas`, `strategy`, `surge`, `unavailable`, `min-ready`, `deadline`,
/// `history`, `paused`, `cpu`, `memory`, `grace`, `select=label:value`, `tolerate=key[:seconds]`,
/// `spread`, `apart`, `config=name`, `probe=no`, `liveness`, `wave`, `after`.
pub(super) fn deployment(name: &str, words: &Words) -> Value {
    let (_, app) = split(name);
    let mut spec = json!({
        "replicas": number(words, "replicas").unwrap_or(1),
        "selector": { "matchLabels": { "app": app } },
        "template": { "metadata": { "labels": { "app": app } }, "spec": pod_spec(app, words) },
    });
    for (word, field) in [
        ("min-ready", "minReadySeconds"),
        ("deadline", "progressDeadlineSeconds"),
        ("history", "revisionHistoryLimit"),
    ] {
        if let Some(value) = number(words, word) {
            spec[field] = value.into();
        }
    }
    if words.get("paused").is_some_and(|p| p == "true") {
        spec["paused"] = true.into();
    }
    if let Some(strategy) = words.get("strategy") {
        spec["strategy"]["type"] = strategy.as_str().into();
    }
    for (word, field) in [("surge", "maxSurge"), ("unavailable", "maxUnavailable")] {
        if let Some(value) = words.get(word) {
            spec["strategy"]["rollingUpdate"][field] = int_or_text(value);
        }
    }
    let mut meta = metadata(name);
    for (word, annotation) in [("wave", "mainstay.io/wave"), ("after", "mainstay.io/depends-on")] {
        if let Some(text) = words.get(word) {
            meta["annotations"][annotation] = text.as_str().into();
        }
    }
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec })
}

fn pod_spec(app: &str, words: &Words) -> Value {
    let default = format!("{app}:1");
    let image = words.get("image").unwrap_or(&default);
    let mut container = json!({
        "name": "main", "image": image, "ports": [{ "containerPort": 8080 }],
    });
    let probe = json!({ "httpGet": { "port": 8080, "path": "/ready" }, "periodSeconds": 1 });
    if words.get("probe").is_none_or(|p| p != "no") {
        container["readinessProbe"] = probe.clone();
    }
    if words.contains_key("liveness") {
        container["livenessProbe"] = probe;
    }
    for resource in ["cpu", "memory"] {
        if let Some(amount) = words.get(resource) {
            container["resources"]["requests"][resource] = amount.as_str().into();
        }
    }
    if let Some(config) = words.get("config") {
        container["envFrom"] = json!([{ "configMapRef": { "name": config } }]);
    }
    let mut spec = json!({ "containers": [container] });
    if let Some(seconds) = number(words, "grace") {
        spec["terminationGracePeriodSeconds"] = seconds.into();
    }
    if let Some((label, value)) = words.get("select").and_then(|s| s.split_once(':')) {
        spec["nodeSelector"] = json!({ label: value });
    }
    if let Some(taint) = words.get("tolerate") {
        let (key, seconds) = match taint.split_once(':') {
            Some((key, seconds)) => (key, seconds.parse::<i64>().ok()),
            None => (taint.as_str(), None),
        };
        let mut toleration = json!({ "key": key, "operator": "Exists" });
        if let Some(seconds) = seconds {
            toleration["effect"] = "NoExecute".into();
            toleration["tolerationSeconds"] = seconds.into();
        }
        spec["tolerations"] = json!([toleration]);
    }
    let selector = json!({ "matchLabels": { "app": app } });
    if words.contains_key("spread") {
        spec["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector,
        }]);
    }
    if words.contains_key("apart") {
        spec["affinity"]["podAntiAffinity"] = json!({
            "requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "kubernetes.io/hostname", "labelSelector": selector,
            }],
        });
    }
    spec
}

/// A Pod of its own. Words as for a Deployment, and `restart`.
pub(super) fn pod(name: &str, words: &Words) -> Value {
    let mut spec = pod_spec(split(name).1, words);
    if let Some(policy) = words.get("restart") {
        spec["restartPolicy"] = policy.as_str().into();
    }
    let mut meta = metadata(name);
    meta["labels"] = json!({ "app": split(name).1 });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec })
}

/// A Job. Words as for a Deployment, and `completions`, `parallelism`, `limit` (of failures),
/// `ttl`, `deadline` (of the Job), `restart`, `hook`, `hook-delete`.
pub(super) fn job(name: &str, words: &Words) -> Value {
    let mut pod = pod_spec(split(name).1, words);
    pod["restartPolicy"] = words.get("restart").map_or("Never", String::as_str).into();
    if let Some(containers) = pod["containers"].as_array_mut() {
        // What ends is never ready.
        containers.iter_mut().filter_map(Value::as_object_mut).for_each(|container| {
            container.remove("readinessProbe");
        });
    }
    let mut spec = json!({ "template": { "spec": pod } });
    for (word, field) in [
        ("completions", "completions"),
        ("parallelism", "parallelism"),
        ("limit", "backoffLimit"),
        ("ttl", "ttlSecondsAfterFinished"),
        ("deadline", "activeDeadlineSeconds"),
    ] {
        if let Some(value) = number(words, word) {
            spec[field] = value.into();
        }
    }
    let mut meta = metadata(name);
    for (word, annotation) in [
        ("wave", "mainstay.io/wave"),
        ("after", "mainstay.io/depends-on"),
        ("hook", "argocd.argoproj.io/hook"),
        ("hook-delete", "argocd.argoproj.io/hook-delete-policy"),
    ] {
        if let Some(text) = words.get(word) {
            meta["annotations"][annotation] = text.as_str().into();
        }
    }
    json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec })
}

/// A CronJob. Words as for a Job, and `schedule` (with `_` for spaces), `zone`, `policy`, `late`
/// (seconds), `suspend`, `keep` (how many that succeeded).
pub(super) fn cron_job(name: &str, words: &Words) -> Value {
    let schedule = words.get("schedule").map_or("* * * * *".to_owned(), |s| s.replace('_', " "));
    let template = json!({ "spec": job(name, words)["spec"] });
    let mut spec = json!({ "schedule": schedule, "jobTemplate": template });
    for (word, field) in [("zone", "timeZone"), ("policy", "concurrencyPolicy")] {
        if let Some(text) = words.get(word) {
            spec[field] = text.as_str().into();
        }
    }
    let numbers = [("late", "startingDeadlineSeconds"), ("keep", "successfulJobsHistoryLimit")];
    for (word, field) in numbers {
        if let Some(value) = number(words, word) {
            spec[field] = value.into();
        }
    }
    if words.contains_key("suspend") {
        spec["suspend"] = true.into();
    }
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata(name), "spec": spec,
    })
}

/// A Service for the pods of a Deployment of the same name (or of `app=`). Words: `type`, `port`,
/// `node-port`.
pub(super) fn service(name: &str, words: &Words) -> Value {
    let app = words.get("app").map_or(split(name).1, String::as_str);
    let mut port = json!({ "port": number(words, "port").unwrap_or(80), "targetPort": 8080 });
    if let Some(number) = number(words, "node-port") {
        port["nodePort"] = number.into();
    }
    let mut spec = json!({ "selector": { "app": app }, "ports": [port] });
    if let Some(kind) = words.get("type") {
        spec["type"] = kind.as_str().into();
    }
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata(name), "spec": spec })
}

/// A ConfigMap with these words as its data.
pub(super) fn config_map(name: &str, words: &Words) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name), "data": words })
}

/// A Namespace.
pub(super) fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// A manifest as a person would write it.
pub(super) fn yaml(value: &Value) -> Vec<u8> {
    serde_yaml::to_string(value)
        .unwrap_or_else(|e| panic!("JSON is YAML, and yet: {e}"))
        .into_bytes()
}
