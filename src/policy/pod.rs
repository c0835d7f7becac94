//! What a pod gets when it is created: its account, its tolerations, its priority.

use k8s_openapi::api::{core::v1::ServiceAccount, scheduling::v1::PriorityClass};
use serde_json::{Value, json};

use super::{Attempt, Refused};
use crate::kinds::{self, SYSTEM_PRIORITY_CLASSES};

/// Seconds that a pod stays on a node that is not ready or not reachable, when it does not say.
const TOLERATION_SECONDS: i64 = 300;

/// The account of a pod that names none. A namespace gets it a moment after it is made; a pod that
/// is faster is taken (Kubernetes lets it wait).
const DEFAULT_ACCOUNT: &str = "default";

/// The taints that every pod tolerates for a time.
const TOLERATED: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Names the account the pod runs as (one that it names itself must exist), and gives the pod what
/// it asks the API with.
pub(super) fn service_account(attempt: &Attempt<'_>, value: &mut Value) -> Result<(), Refused> {
    let (namespace, name) = place(value);
    let spec = &mut value["spec"];
    let named = text(spec, "serviceAccountName").or_else(|| text(spec, "serviceAccount"));
    let account = named.clone().unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned());
    let found: Option<&ServiceAccount> = attempt.view.get(&namespace, &account);
    if found.is_none() && account != DEFAULT_ACCOUNT {
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} \
             not found"
        );
        return Err(attempt.refused(&name, &why));
    }
    spec["serviceAccountName"] = account.into();
    let own = spec["imagePullSecrets"].as_array().is_some_and(|list| !list.is_empty());
    let secrets = found.and_then(|account| account.image_pull_secrets.as_ref());
    if let Some(secrets) = secrets.filter(|list| !own && !list.is_empty()) {
        spec["imagePullSecrets"] = json!(secrets);
    }
    kinds::give_api_access(value, found);
    Ok(())
}

/// Lets a pod stay for a while on a node that fell silent.
pub(super) fn tolerations(value: &mut Value) {
    let list = &mut value["spec"]["tolerations"];
    if list.is_null() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    for taint in TOLERATED {
        let tolerates = |toleration: &Value| {
            let effect = toleration["effect"].as_str().unwrap_or_default();
            let key = toleration["key"].as_str().unwrap_or_default();
            matches!(effect, "" | "NoExecute")
                && (key == taint || key.is_empty() && toleration["operator"] == "Exists")
        };
        if !list.iter().any(tolerates) {
            list.push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
}

/// Works out the priority of the class the pod names, or of the default one.
pub(super) fn priority(attempt: &Attempt<'_>, value: &mut Value) -> Result<(), Refused> {
    let (_, name) = place(value);
    let spec = &mut value["spec"];
    let (class, number, policy) = match text(spec, "priorityClassName") {
        Some(class) => {
            let (number, policy) = class_of(attempt, &class).ok_or_else(|| {
                attempt.refused(&name, &format!("no PriorityClass with name {class} was found"))
            })?;
            (Some(class), number, policy)
        }
        None => default_class(attempt),
    };
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != number) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority \
             admission controller computed {number} from the given PriorityClass name"
        );
        return Err(attempt.refused(&name, &why));
    }
    spec["priority"] = number.into();
    if let Some(class) = class {
        spec["priorityClassName"] = class.into();
    }
    match text(spec, "preemptionPolicy") {
        Some(given) if given != policy => {
            let why = format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
                 priority admission controller computed {policy} from the given PriorityClass name"
            );
            Err(attempt.refused(&name, &why))
        }
        _ => {
            spec["preemptionPolicy"] = policy.into();
            Ok(())
        }
    }
}

fn class_of(attempt: &Attempt<'_>, name: &str) -> Option<(i64, String)> {
    // They hold from the cluster's first moment on, before they are there to be read.
    let system = SYSTEM_PRIORITY_CLASSES.iter().find(|(class, _)| *class == name);
    if let Some((_, number)) = system {
        return Some(((*number).into(), policy(None)));
    }
    let class: &PriorityClass = attempt.view.get("", name)?;
    Some((class.value.unwrap_or_default().into(), policy(class.preemption_policy.as_ref())))
}

/// The class that says it is the default; of several the lowest, as Kubernetes does.
fn default_class(attempt: &Attempt<'_>) -> (Option<String>, i64, String) {
    let classes = attempt.view.list::<PriorityClass>(None);
    let default = classes.filter(|(_, class)| class.global_default == Some(true));
    match default.min_by_key(|(_, class)| class.value) {
        Some((object, class)) => {
            let name = object.key().name.to_string();
            (
                Some(name),
                class.value.unwrap_or_default().into(),
                policy(class.preemption_policy.as_ref()),
            )
        }
        None => (None, 0, policy(None)),
    }
}

fn policy(of: Option<&String>) -> String {
    of.cloned().unwrap_or_else(|| "PreemptLowerPriority".to_owned())
}

fn text(spec: &Value, field: &str) -> Option<String> {
    spec[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The namespace and the name of an object.
pub(super) fn place(value: &Value) -> (String, String) {
    let of = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
    (of("namespace"), of("name"))
}
