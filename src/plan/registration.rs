//! An APIService for each group and version that is served, as aggregators and old clients read
//! them. All are answered by the servers themselves.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kube_aggregator::pkg::apis::apiregistration::v1::{
        APIService, APIServiceCondition, APIServiceSpec, APIServiceStatus,
    },
};

use super::{Controller, Inputs, Plan, batch::Batch};
use crate::{
    kinds,
    model::{GroupKind, Key, Timestamp},
    state::{Change, View},
};

const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// The priority of a group that is defined while the cluster runs, and of its versions.
const CUSTOM_PRIORITY: (i32, i32) = (1000, 100);

/// Keeps an APIService for everything that is served.
pub(super) const CONTROLLER: Controller =
    Controller { name: "apiservice-registration-controller", affected, all, plan };

/// A group and a version.
type Place = (String, String);

/// How something that is served is registered.
struct Served {
    /// The word for who keeps its APIService.
    managed: &'static str,
    /// Of its group and of its version.
    priorities: (i32, i32),
}

fn key((group, version): &Place) -> Key {
    Key::of::<APIService>("", &format!("{version}.{group}"))
}

/// Groups and versions that definitions of custom kinds add.
fn custom(view: &View) -> BTreeSet<Place> {
    let all = view.kinds().custom().flat_map(|info| info.places());
    all.map(|(group, version, _)| (group.to_string(), version.to_string())).collect()
}

/// Everything that is served.
fn served(view: &View) -> BTreeMap<Place, Served> {
    let of_users = |place| (place, Served { managed: "true", priorities: CUSTOM_PRIORITY });
    let mut all: BTreeMap<_, _> = custom(view).into_iter().map(of_users).collect();
    all.extend(kinds::group_versions().into_iter().map(|(group, version)| {
        let priorities = kinds::group_priority(group, version);
        let place = (group.to_owned(), version.to_owned());
        (place, Served { managed: "onstart", priorities })
    }));
    all
}

fn all(view: &View) -> BTreeSet<Key> {
    let stored = view.of_kind(&GroupKind::of::<APIService>(), None).map(|o| o.key().clone());
    stored.chain(served(view).keys().map(key)).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    match () {
        () if change.key.is::<APIService>() => [change.key.clone()].into(),
        () if change.key.is::<CustomResourceDefinition>() => all(view),
        () => BTreeSet::new(),
    }
}

fn plan(view: &View, at: &Key, inputs: &Inputs<'_>) -> Plan {
    let mut batch = Batch::default();
    let served = served(view);
    let wanted = served.iter().find(|(place, _)| key(place) == *at);
    let live = view.object(at).and_then(|o| Some((o, o.view::<APIService>()?)));
    let Some((place, Served { managed, priorities })) = wanted else {
        let ours = live.filter(|(o, service)| !o.is_terminating() && is_local(service));
        ours.into_iter().for_each(|(object, _)| batch.delete(object));
        return batch.into_plan(None);
    };
    let spec = spec(place, *priorities);
    let Some((object, found)) = live else {
        let name = at.name.to_string();
        let labels = [(AUTOMANAGED.to_owned(), (*managed).to_owned())].into();
        let metadata =
            ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() };
        batch.create(&APIService { metadata, spec: Some(spec), status: None });
        return batch.into_plan(None);
    };
    if found.spec.as_ref() != Some(&spec) {
        batch.update(object, &APIService { spec: Some(spec), ..found.clone() });
    }
    if !is_available(found) {
        let status = Some(available(inputs.now));
        batch.status(object, &APIService { status, ..found.clone() });
    }
    batch.into_plan(None)
}

fn spec((group, version): &Place, (of_group, of_version): (i32, i32)) -> APIServiceSpec {
    APIServiceSpec {
        group: Some(group.clone()).filter(|group| !group.is_empty()),
        version: Some(version.clone()),
        group_priority_minimum: of_group,
        version_priority: of_version,
        ..APIServiceSpec::default()
    }
}

/// Whether no other server answers it.
fn is_local(service: &APIService) -> bool {
    service.spec.as_ref().is_none_or(|spec| spec.service.is_none())
}

fn is_available(service: &APIService) -> bool {
    let conditions = service.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Available" && c.status == "True")
}

fn available(now: Timestamp) -> APIServiceStatus {
    APIServiceStatus {
        conditions: Some(vec![APIServiceCondition {
            type_: "Available".to_owned(),
            status: "True".to_owned(),
            reason: Some("Local".to_owned()),
            message: Some("Local APIServices are always available".to_owned()),
            last_transition_time: Some(now.to_time()),
        }]),
    }
}
