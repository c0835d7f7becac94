use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde_json::json;

use super::world::World;
use crate::policy::rbac::{self, What, Who};

#[test]
fn built_in_roles_are_there_and_come_back() {
    let mut world = World::new();
    let names = |world: &World| -> Vec<String> {
        world.all::<ClusterRole>().iter().map(|(o, _)| o.key().name.to_string()).collect()
    };
    let before = names(&world);
    for name in ["admin", "cluster-admin", "edit", "system:discovery", "system:node", "view"] {
        assert!(before.iter().any(|found| found == name), "{name}");
    }
    world.delete::<ClusterRole>("", "view");
    world.delete::<ClusterRoleBinding>("", "system:discovery");
    world.settle();
    assert_eq!(names(&world), before);
    let bound = world.all::<ClusterRoleBinding>();
    assert!(bound.iter().any(|(o, _)| o.key().name == "system:discovery"));
}

/// What must not happen: a Prometheus that may ask for our names and is refused the other two.
#[test]
fn who_watches_may_ask_for_every_name_of_a_metric() {
    let world = World::new();
    let groups = ["system:monitoring".to_owned()];
    let watcher = Who { name: "prometheus", groups: &groups };
    let may = |path| rbac::may(world.view(), watcher, "get", What::Path(path));
    for path in ["/metrics", "/metrics/flux", "/metrics/argocd"] {
        assert!(may(path), "{path}");
    }
    assert!(!may("/api"));
}

#[test]
fn what_people_add_stays_and_what_they_hold_is_left_alone() {
    let mut world = World::new();
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let role = |update: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "system:basic-user", "annotations":
                {"rbac.authorization.kubernetes.io/autoupdate": update}},
            "rules": rules,
        })
    };
    let count = |world: &World| {
        let all = world.all::<ClusterRole>();
        let found = all.iter().find(|(o, _)| o.key().name == "system:basic-user");
        found.and_then(|(_, role)| role.rules.as_ref().map(Vec::len))
    };
    world.put(role("true"));
    world.settle();
    assert_eq!(count(&world), Some(3), "its own two and the one that was added");
    world.put(role("false"));
    world.settle();
    assert_eq!(count(&world), Some(1));
}
