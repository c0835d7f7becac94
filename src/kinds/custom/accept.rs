//! Whose names are whose: which names of a definition are accepted, and the conditions that say so.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames,
};
use serde_json::{Value, json};

use super::super::{field::Check, registry};
use crate::model::Timestamp;

/// Holds a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Who extends a group of Kubernetes says where that was agreed upon.
const APPROVED: &str = "api-approved.kubernetes.io";

/// The names of one group that are taken, but for those of one definition.
#[derive(Debug, Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn by<'a>(
        group: &str,
        name: &str,
        others: impl Iterator<Item = &'a CustomResourceDefinition>,
    ) -> Self {
        let mut taken = Self::default();
        for info in registry().iter().filter(|info| info.group == group) {
            taken.resources.extend([info.plural.to_string(), info.singular.to_string()]);
            taken.resources.extend(info.short_names.iter().map(ToString::to_string));
            taken.kinds.extend([info.kind.to_string(), info.list_kind.to_string()]);
        }
        let others = others.filter(|other| {
            other.spec.group == group && other.metadata.name.as_deref() != Some(name)
        });
        for names in others.filter_map(|other| other.status.as_ref()?.accepted_names.as_ref()) {
            taken.resources.insert(names.plural.clone());
            taken.resources.extend(names.singular.clone());
            taken.resources.extend(names.short_names.iter().flatten().cloned());
            taken.kinds.insert(names.kind.clone());
            taken.kinds.extend(names.list_kind.clone());
        }
        taken
    }
}

/// Decides which names of a definition it gets and writes that into its status: names that it had
/// it keeps, new ones it gets unless another definition of its group, or a built-in kind, has them.
///
/// `value` is the definition as it is about to be stored, `others` are all that are stored. Once
/// established, a definition stays so.
pub fn accept_names<'a>(
    value: &mut Value,
    others: impl Iterator<Item = &'a CustomResourceDefinition>,
    at: Timestamp,
) {
    let Ok(definition) = serde_json::from_value::<CustomResourceDefinition>(value.clone()) else {
        return;
    };
    let name = definition.metadata.name.as_deref().unwrap_or_default();
    let taken = Taken::by(&definition.spec.group, name, others);
    let status = definition.status.clone().unwrap_or_default();
    let had = status.accepted_names.clone().unwrap_or_default();
    let (names, conflict) = decide(&definition.spec.names, &had, &taken);
    let accepted = match conflict {
        Some((reason, message)) => ("False", reason, message),
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
    };
    let was =
        status.conditions.iter().flatten().any(|c| c.type_ == "Established" && c.status == "True");
    let established = match was || accepted.0 == "True" {
        true => ("True", "InitialNamesAccepted", "the initial names have been accepted".to_owned()),
        false => ("False", "NotAccepted", "not all names are accepted".to_owned()),
    };
    let mut stored = status.stored_versions.unwrap_or_default();
    let storage = definition.spec.versions.iter().find(|v| v.storage).map(|v| v.name.clone());
    stored.extend(storage.filter(|name| !stored.contains(name)).into_iter().collect::<Vec<_>>());
    let approval = approval(&definition);
    let status = &mut value["status"];
    status["acceptedNames"] = json!(names);
    status["storedVersions"] = json!(stored);
    set_condition(status, "NamesAccepted", accepted, at);
    set_condition(status, "Established", established, at);
    if let Some(approval) = approval {
        set_condition(status, "KubernetesAPIApprovalPolicyConformant", approval, at);
    }
}

/// Holds a definition that is to go until its objects are gone, and says so.
pub fn mark_for_cleanup(value: &mut Value, at: Timestamp) {
    let finalizers = &mut value["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|held| held == CLEANUP) => {}
        Some(list) => list.push(CLEANUP.into()),
        None => *finalizers = json!([CLEANUP]),
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will \
                   begin soon";
    let condition = ("True", "InstanceDeletionPending", message.to_owned());
    set_condition(&mut value["status"], "Terminating", condition, at);
}

/// Why a name was not accepted: the reason and the message of the condition.
type Conflict = (&'static str, String);

fn decide(
    wanted: &CustomResourceDefinitionNames,
    had: &CustomResourceDefinitionNames,
    taken: &Taken,
) -> (CustomResourceDefinitionNames, Option<Conflict>) {
    let mut names = had.clone();
    let mut conflict = None;
    let free =
        |name: &str, had: &str, taken: &BTreeSet<String>| name == had || !taken.contains(name);
    let in_use = |name: &str| format!("{name:?} is already in use");
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    match free(&wanted.plural, &had.plural, &taken.resources) {
        true => names.plural.clone_from(&wanted.plural),
        false => conflict = Some(("PluralConflict", in_use(&wanted.plural))),
    }
    match free(&text(&wanted.singular), &text(&had.singular), &taken.resources) {
        true => names.singular.clone_from(&wanted.singular),
        false => conflict = Some(("SingularConflict", in_use(&text(&wanted.singular)))),
    }
    let had_short = had.short_names.as_deref().unwrap_or_default();
    let clashes: Vec<String> = wanted
        .short_names
        .iter()
        .flatten()
        .filter(|name| !had_short.contains(name) && taken.resources.contains(*name))
        .map(|name| in_use(name))
        .collect();
    match clashes.as_slice() {
        [] => names.short_names.clone_from(&wanted.short_names),
        [one] => conflict = Some(("ShortNamesConflict", one.clone())),
        many => conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
    match free(&wanted.kind, &had.kind, &taken.kinds) {
        true => names.kind.clone_from(&wanted.kind),
        false => conflict = Some(("KindConflict", in_use(&wanted.kind))),
    }
    match free(&text(&wanted.list_kind), &text(&had.list_kind), &taken.kinds) {
        true => names.list_kind.clone_from(&wanted.list_kind),
        false => conflict = Some(("ListKindConflict", in_use(&text(&wanted.list_kind)))),
    }
    names.categories.clone_from(&wanted.categories);
    (names, conflict)
}

/// Whether a group is one that only Kubernetes itself extends.
fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|end| group == *end || group.ends_with(&format!(".{end}")))
}

fn approved_in(definition: &CustomResourceDefinition) -> Option<&str> {
    let annotations = definition.metadata.annotations.as_ref()?;
    annotations.get(APPROVED).map(String::as_str)
}

/// A group of Kubernetes is extended by those who say where that was agreed upon.
pub(in crate::kinds) fn approval_problem(definition: &CustomResourceDefinition, check: &mut Check) {
    let at = format!("metadata.annotations[{APPROVED}]");
    if !is_protected(&definition.spec.group) {
        return;
    }
    match approved_in(definition) {
        None | Some("") => {
            let text = format!("protected groups must have approval annotation {APPROVED:?}");
            check.required(at, &text);
        }
        Some(text) if text.starts_with("https://") || text.starts_with("http://") => {}
        Some(text) if text.starts_with("unapproved") => {}
        Some(text) => check.invalid(
            at,
            text,
            "must be the URL of where it was approved, or begin with \"unapproved\"",
        ),
    }
}

/// What a condition says: status, reason, message.
type Says = (&'static str, &'static str, String);

fn approval(definition: &CustomResourceDefinition) -> Option<Says> {
    let text = approved_in(definition).filter(|_| is_protected(&definition.spec.group))?;
    Some(match text.starts_with("unapproved") {
        true => ("False", "UnapprovedAnnotation", format!("not approved: {text:?}")),
        false => ("True", "ApprovedAnnotation", format!("approved in {text}")),
    })
}

/// Writes a condition; its time changes when its status does.
fn set_condition(status: &mut Value, type_: &str, says: Says, at: Timestamp) {
    let (state, reason, message) = says;
    let conditions = &mut status["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let found = list.iter_mut().find(|condition| condition["type"] == type_);
    let since = match &found {
        Some(before) if before["status"] == state => before["lastTransitionTime"].clone(),
        _ => json!(at.to_time()),
    };
    let condition = json!({
        "type": type_, "status": state, "reason": reason, "message": message,
        "lastTransitionTime": since,
    });
    match found {
        Some(before) => *before = condition,
        None => list.push(condition),
    }
}
