//! Namespaces: the built-in ones, what each is given, and their end.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{
        ConfigMap, Namespace, NamespaceCondition, NamespaceStatus, Pod, ServiceAccount,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Controller, Inputs, Plan, batch::Batch};
use crate::{
    model::{GroupKind, Key, Object, Timestamp},
    state::{Change, View},
};

/// Namespaces that exist in every cluster.
const BUILT_IN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// Most objects of a namespace that one step deletes; the next step goes on. Bounds the size of one
/// log entry.
const BATCH_MAX: usize = 500;
/// The ConfigMap by which pods know the cluster's API, and its one file.
const ROOT_CA: (&str, &str) = ("kube-root-ca.crt", "ca.crt");
/// Says what the ConfigMap is for.
const DESCRIPTION: (&str, &str) =
    ("kubernetes.io/description", "The certificates by which pods know the cluster's API.");
/// The finalizer that stands for what is in a namespace.
const CONTENT: &str = "kubernetes";

/// Keeps namespaces, and empties those that are to go.
pub(super) const CONTROLLER: Controller =
    Controller { name: "namespace-controller", affected, all, plan };

fn key(name: &str) -> Key {
    Key::of::<Namespace>("", name)
}

fn all(view: &View) -> BTreeSet<Key> {
    let stored = view.of_kind(&GroupKind::of::<Namespace>(), None).map(|o| o.key().clone());
    stored.chain(BUILT_IN.into_iter().map(key)).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<Namespace>() {
        return [change.key.clone()].into();
    }
    let namespace = key(&change.key.namespace);
    let account = change.key.is::<ServiceAccount>() && change.new.is_none();
    let root_ca = change.key.is::<ConfigMap>() && change.key.name == ROOT_CA.0;
    let closing = view.object(&namespace).is_some_and(Object::is_terminating);
    if account || root_ca || closing { [namespace].into() } else { BTreeSet::new() }
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let mut batch = Batch::default();
    match view.object(key) {
        None if BUILT_IN.contains(&key.name.as_str()) => batch.create(&built_in(&key.name)),
        None => {}
        Some(object) if object.is_terminating() => empty(view, object, inputs.now, &mut batch),
        Some(_) => {
            let account = Key::of::<ServiceAccount>(&key.name, "default");
            if view.object(&account).is_none() {
                batch.create(&default_account(&key.name));
            }
            keep_root_ca(view, &key.name, inputs.root_ca, &mut batch);
        }
    }
    batch.into_plan(None)
}

fn built_in(name: &str) -> Namespace {
    let label = ("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([label].into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

fn default_account(namespace: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some("default".to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    }
}

/// Gives a namespace the certificates by which its pods know the API; what somebody made of them is
/// put right.
fn keep_root_ca(view: &View, namespace: &str, root_ca: &str, batch: &mut Batch) {
    if root_ca.is_empty() {
        return;
    }
    let data: BTreeMap<String, String> = [(ROOT_CA.1.to_owned(), root_ca.to_owned())].into();
    let live = view.object(&Key::of::<ConfigMap>(namespace, ROOT_CA.0));
    let Some((object, stored)) = live.and_then(|o| Some((o, o.view::<ConfigMap>()?))) else {
        return batch.create(&ConfigMap {
            metadata: ObjectMeta {
                name: Some(ROOT_CA.0.to_owned()),
                namespace: Some(namespace.to_owned()),
                annotations: Some([(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned())].into()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        });
    };
    let same = stored.data.as_ref() == Some(&data) && stored.binary_data.is_none();
    if same || object.is_terminating() {
        return;
    }
    if stored.immutable == Some(true) {
        // What is immutable can only be made anew.
        return batch.delete(object);
    }
    let mut stored = stored.clone();
    (stored.data, stored.binary_data) = (Some(data), None);
    batch.update(object, &stored);
}

/// Deletes what is in a namespace, pods first so that none outlives what it depends on, and then
/// lets it go. What stays for a while is told in the namespace's conditions.
fn empty(view: &View, namespace: &Object, now: Timestamp, batch: &mut Batch) {
    let Some(typed) = namespace.view::<Namespace>() else { return };
    let finalizers = typed.spec.as_ref().and_then(|s| s.finalizers.as_ref());
    if !finalizers.is_some_and(|all| all.iter().any(|f| f == CONTENT)) {
        return;
    }
    let name = namespace.key().name.as_str();
    let pods = GroupKind::of::<Pod>();
    let has_pods = view.of_kind(&pods, Some(name)).next().is_some();
    let kinds: Vec<GroupKind> = if has_pods { vec![pods] } else { view.stored_kinds().collect() };
    let left = || kinds.iter().flat_map(|kind| view.of_kind(kind, Some(name)));
    let doomed: Vec<&Object> = left().filter(|o| !o.is_terminating()).take(BATCH_MAX).collect();
    doomed.iter().for_each(|o| batch.delete(o));
    if !doomed.is_empty() {
        return;
    }
    let remains = Remains::of(view, name);
    let mut left = typed.clone();
    let others = left.spec.get_or_insert_default().finalizers.get_or_insert_default();
    others.retain(|f| f != CONTENT);
    let held = !others.is_empty() || namespace.meta().finalizers.iter().flatten().count() > 0;
    if held || !remains.objects.is_empty() {
        remains.tell(left.status.get_or_insert_default(), now);
    }
    if left.status != typed.status {
        batch.status(namespace, &left);
    }
    if remains.objects.is_empty() {
        batch.update(namespace, &left);
    }
}

/// What is still in a namespace that is to go.
struct Remains {
    /// How many objects, by `pods.` or `deployments.apps`.
    objects: BTreeMap<String, usize>,
    /// How many objects each finalizer holds.
    finalizers: BTreeMap<String, usize>,
}

impl Remains {
    fn of(view: &View, namespace: &str) -> Self {
        let mut remains = Self { objects: BTreeMap::new(), finalizers: BTreeMap::new() };
        for kind in view.stored_kinds() {
            let resource = resource(view, &kind);
            for object in view.of_kind(&kind, Some(namespace)) {
                *remains.objects.entry(resource.clone()).or_default() += 1;
                for finalizer in object.meta().finalizers.iter().flatten() {
                    *remains.finalizers.entry(finalizer.clone()).or_default() += 1;
                }
            }
        }
        remains
    }

    /// Writes the conditions that `kubectl describe namespace` shows. Kinds are known from State
    /// and deletions happen in it, so discovery and deletion themselves cannot fail.
    fn tell(&self, status: &mut NamespaceStatus, now: Timestamp) {
        let list = |counts: &BTreeMap<String, usize>, between: &str, what: &str| {
            let each = counts.iter().map(|(name, count)| format!("{name}{between}{count}{what}"));
            each.collect::<Vec<_>>().join(", ")
        };
        let objects = list(&self.objects, " has ", " resource instances");
        let finalizers = list(&self.finalizers, " in ", " resource instances");
        let no = |why: &str, text: &str| ("False", why.to_owned(), text.to_owned());
        let content = match objects.is_empty() {
            true => no("ContentRemoved", "All content successfully removed"),
            false => {
                let text = format!("Some resources are remaining: {objects}");
                ("True", "SomeResourcesRemain".to_owned(), text)
            }
        };
        let held = match finalizers.is_empty() {
            true => no("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            false => {
                let text =
                    format!("Some content in the namespace has finalizers remaining: {finalizers}");
                ("True", "SomeFinalizersRemain".to_owned(), text)
            }
        };
        let deleted = "All content successfully deleted, may be waiting on finalization";
        for (kind, (state, reason, message)) in [
            (
                "NamespaceDeletionDiscoveryFailure",
                no("ResourcesDiscovered", "All resources successfully discovered"),
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                no("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            ),
            ("NamespaceDeletionContentFailure", no("ContentDeleted", deleted)),
            ("NamespaceContentRemaining", content),
            ("NamespaceFinalizersRemaining", held),
        ] {
            set_condition(status, (kind, state, reason, message), now);
        }
    }
}

/// `pods.`, `deployments.apps`: a resource and its group, as Kubernetes counts them.
fn resource(view: &View, kind: &GroupKind) -> String {
    let plural = view.kinds().lookup(kind).map_or(kind.kind.as_str(), |info| &info.plural);
    format!("{plural}.{}", kind.group)
}

fn set_condition(
    status: &mut NamespaceStatus,
    (kind, state, reason, message): (&str, &str, String, String),
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let at = conditions.iter().position(|c| c.type_ == kind);
    let since = at.map(|at| &conditions[at]).filter(|c| c.status == state);
    let since = since.and_then(|c| c.last_transition_time.clone());
    let condition = NamespaceCondition {
        type_: kind.to_owned(),
        status: state.to_owned(),
        reason: Some(reason),
        message: Some(message),
        last_transition_time: since.or_else(|| Some(now.to_time())),
    };
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}
