//! What an object says of the order in which its commit is worked off, and of what becomes of it
//! when its file goes: in our words and in those of Argo CD, Flux and cli-utils.
//!
//! Sources: argo-cd.readthedocs.io/en/stable/user-guide/sync-waves and sync-options,
//! fluxcd.io/flux/components/kustomize/kustomizations, and `config.kubernetes.io/depends-on` of
//! kubernetes-sigs/cli-utils.

use crate::model::{GroupKind, Key, Object};

const WAVES: [&str; 2] = ["mainstay.io/wave", "argocd.argoproj.io/sync-wave"];
const DEPENDS_ON: [&str; 2] = ["mainstay.io/depends-on", "config.kubernetes.io/depends-on"];
const HOOKS: [&str; 2] = ["mainstay.io/hook", "argocd.argoproj.io/hook"];
const SYNC_OPTIONS: &str = "argocd.argoproj.io/sync-options";
const PRUNE: &str = "kustomize.toolkit.fluxcd.io/prune";
const SSA: &str = "kustomize.toolkit.fluxcd.io/ssa";
const RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";

/// Most objects that one waits for by name: more is a wave.
const AFTER_MAX: usize = 100;

/// Options of a sync that ask for what is done here anyway, or for what is not there to be asked.
const WITHOUT_EFFECT: [&str; 9] = [
    "Validate",
    "SkipDryRunOnMissingResource",
    "Replace",
    "Force",
    "ServerSideApply",
    "ApplyOutOfSyncOnly",
    "CreateNamespace",
    "FailOnSharedResource",
    "RespectIgnoreDifferences",
];

/// Whether and when an object is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Apply {
    /// As the commit says.
    #[default]
    Always,
    /// Only when it is not there.
    IfNotPresent,
    /// Never: somebody else looks after it.
    Never,
}

/// What an object says of order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// It starts when everything of a lower wave is healthy; 0 unless it says so.
    pub wave: i32,
    /// What has to be healthy before it starts, wherever that stands.
    pub after: Vec<Key>,
    /// It stays when its file goes.
    pub keep: bool,
    /// Whether and when it is written.
    pub apply: Apply,
}

impl Order {
    /// Whether it says when to start.
    pub fn is_ordered(&self) -> bool {
        self.wave != 0 || !self.after.is_empty()
    }
}

/// An annotation that says nothing we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderFault {
    /// Its name.
    pub annotation: &'static str,
    /// What is wrong, and what to write.
    pub message: String,
}

/// What an object says of order, as far as that can be read.
pub fn order(object: &Object) -> Order {
    read(object).0
}

/// What cannot be read of it.
pub fn order_faults(object: &Object) -> Vec<OrderFault> {
    read(object).1
}

fn read(object: &Object) -> (Order, Vec<OrderFault>) {
    let (mut order, mut faults) = (Order::default(), Vec::new());
    if object.meta().annotations.as_ref().is_none_or(|all| all.is_empty()) {
        return (order, faults);
    }
    let said = |names: [&'static str; 2]| {
        names.into_iter().filter_map(|name| Some((name, object.annotation(name)?)))
    };
    let mut fault = |annotation, message: String| faults.push(OrderFault { annotation, message });
    for (name, text) in said(WAVES) {
        match text.trim().parse() {
            Ok(wave) => order.wave = wave,
            Err(_) => fault(name, format!("{text:?} is no number: write \"1\" or \"-1\"")),
        }
    }
    for (name, text) in said(DEPENDS_ON) {
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            match dependency(one) {
                Some(key) if order.after.len() < AFTER_MAX => order.after.push(key),
                Some(_) => fault(name, format!("names more than {AFTER_MAX} objects: use waves")),
                None => fault(
                    name,
                    format!(
                        "{one:?} names no object: write group/namespaces/namespace/Kind/name \
                         (apps/namespaces/default/Deployment/db), or group/Kind/name for one \
                         without a namespace"
                    ),
                ),
            }
        }
    }
    for (name, text) in said(HOOKS) {
        match text.trim() {
            "Skip" => order.apply = Apply::Never,
            _ => fault(
                name,
                format!(
                    "{text:?}: hooks are not run yet: let what has to come first be of an earlier \
                     wave ({}), or an init container",
                    WAVES[0]
                ),
            ),
        }
    }
    let options = object.annotation(SYNC_OPTIONS).unwrap_or_default().split(',').map(str::trim);
    for option in options.filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("Prune" | "Delete", "false" | "confirm")) => order.keep = true,
            Some(("Prune" | "Delete" | "PruneLast", "true" | "false")) => {}
            Some((known, _)) if WITHOUT_EFFECT.contains(&known) => {}
            _ => fault(SYNC_OPTIONS, format!("{option:?} is no option we know: remove it")),
        }
    }
    let mut choice = |name: &'static str, known: &[&str]| {
        let text = object.annotation(name)?;
        if known.contains(&text) {
            return Some(text);
        }
        fault(name, format!("{text:?}: write {}", known.join(", ")));
        None
    };
    order.keep |= choice(PRUNE, &["disabled", "enabled"]) == Some("disabled");
    match choice(SSA, &["Override", "Merge", "IfNotPresent", "Ignore"]) {
        Some("IfNotPresent") => order.apply = Apply::IfNotPresent,
        Some("Ignore") => order.apply = Apply::Never,
        _ => {}
    }
    if choice(RECONCILE, &["disabled", "enabled"]) == Some("disabled") {
        order.apply = Apply::Never;
    }
    order.after.sort();
    order.after.dedup();
    (order, faults)
}

/// `apps/namespaces/default/Deployment/db`, `/namespaces/default/Pod/db`,
/// `rbac.authorization.k8s.io/ClusterRole/admin`.
fn dependency(text: &str) -> Option<Key> {
    let parts: Vec<&str> = text.split('/').collect();
    let (group, namespace, kind, name) = match parts.as_slice() {
        [group, "namespaces", namespace, kind, name] if !namespace.is_empty() => {
            (*group, *namespace, *kind, *name)
        }
        [group, kind, name] => (*group, "", *kind, *name),
        _ => return None,
    };
    let named = !kind.is_empty() && !name.is_empty();
    named.then(|| Key::new(GroupKind::new(group, kind), namespace, name))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(annotations: &[(&str, &str)], expect: &Expect) {
        let annotations: std::collections::BTreeMap<_, _> = annotations.iter().copied().collect();
        let object = Object::from_value(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "c", "namespace": "default", "annotations": annotations },
        }))
        .unwrap();
        let Order { wave, after, keep, apply } = order(&object);
        let after: Vec<String> = after.iter().map(ToString::to_string).collect();
        let mut text = format!("wave {wave}, after {after:?}, keep {keep}, {apply:?}\n");
        for OrderFault { annotation, message } in order_faults(&object) {
            text += &format!("{annotation}: {message}\n");
        }
        expect.assert_eq(&text);
    }

    #[test]
    fn the_words_of_other_tools_are_understood() {
        check(
            &[],
            &expect![[r#"
            wave 0, after [], keep false, Always
        "#]],
        );
        check(
            &[
                ("argocd.argoproj.io/sync-wave", "-5"),
                ("argocd.argoproj.io/sync-options", "Prune=false,ServerSideApply=true"),
            ],
            &expect![[r#"
                wave -5, after [], keep true, Always
            "#]],
        );
        check(
            &[(
                "config.kubernetes.io/depends-on",
                "apps/namespaces/default/Deployment/db, /namespaces/x/Pod/p,/Namespace/x",
            )],
            &expect![[r#"
                wave 0, after ["Deployment default/db", "Namespace x", "Pod x/p"], keep false, Always
            "#]],
        );
        check(
            &[
                ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
                ("kustomize.toolkit.fluxcd.io/ssa", "IfNotPresent"),
            ],
            &expect![[r#"
                wave 0, after [], keep true, IfNotPresent
            "#]],
        );
        check(
            &[("kustomize.toolkit.fluxcd.io/reconcile", "disabled")],
            &expect![[r#"
            wave 0, after [], keep false, Never
        "#]],
        );
        check(
            &[("argocd.argoproj.io/hook", "Skip")],
            &expect![[r#"
            wave 0, after [], keep false, Never
        "#]],
        );
    }

    #[test]
    fn a_word_that_is_not_known_is_told() {
        check(
            &[
                ("mainstay.io/wave", "first"),
                ("mainstay.io/depends-on", "Deployment/db"),
                ("argocd.argoproj.io/hook", "PreSync"),
                ("argocd.argoproj.io/sync-options", "Prune=maybe"),
                ("kustomize.toolkit.fluxcd.io/ssa", "Sometimes"),
            ],
            &expect![[r#"
                wave 0, after [], keep false, Always
                mainstay.io/wave: "first" is no number: write "1" or "-1"
                mainstay.io/depends-on: "Deployment/db" names no object: write group/namespaces/namespace/Kind/name (apps/namespaces/default/Deployment/db), or group/Kind/name for one without a namespace
                argocd.argoproj.io/hook: "PreSync": hooks are not run yet: let what has to come first be of an earlier wave (mainstay.io/wave), or an init container
                argocd.argoproj.io/sync-options: "Prune=maybe" is no option we know: remove it
                kustomize.toolkit.fluxcd.io/ssa: "Sometimes": write Override, Merge, IfNotPresent, Ignore
            "#]],
        );
    }
}
