//! What an object says of the order in which its commit is worked off, and of what becomes of it
//! when its file goes: in our words and in those of Argo CD, Flux and cli-utils.
//!
//! Sources: argo-cd.readthedocs.io/en/stable/user-guide/sync-waves and sync-options,
//! fluxcd.io/flux/components/kustomize/kustomizations, and `config.kubernetes.io/depends-on` of
//! kubernetes-sigs/cli-utils.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};

use crate::model::{GroupKind, Key, Object};

const WAVES: [&str; 2] = ["mainstay.io/wave", "argocd.argoproj.io/sync-wave"];
const DEPENDS_ON: [&str; 2] = ["mainstay.io/depends-on", "config.kubernetes.io/depends-on"];
const HOOKS: [&str; 2] = ["mainstay.io/hook", "argocd.argoproj.io/hook"];
const HOOK_DELETES: [&str; 2] =
    ["mainstay.io/hook-delete-policy", "argocd.argoproj.io/hook-delete-policy"];
const HELM_HOOK: &str = "helm.sh/hook";
const HELM_WEIGHT: &str = "helm.sh/hook-weight";
const HELM_DELETE: &str = "helm.sh/hook-delete-policy";
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

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookPhase {
    /// Before the workloads of its commit.
    PreSync,
    /// With them, in its wave.
    Sync,
    /// When they are healthy.
    PostSync,
    /// When the commit has failed.
    SyncFail,
}

impl HookPhase {
    fn parse(text: &str) -> Option<Self> {
        let all = [Self::PreSync, Self::Sync, Self::PostSync, Self::SyncFail];
        all.into_iter().find(|phase| phase.as_str() == text)
    }

    /// Its name: `PreSync`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreSync => "PreSync",
            Self::Sync => "Sync",
            Self::PostSync => "PostSync",
            Self::SyncFail => "SyncFail",
        }
    }
}

/// An object that runs once with each commit: a Job or a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// When.
    pub phase: HookPhase,
    /// It is deleted when it has succeeded.
    pub delete_succeeded: bool,
    /// It is deleted when it has failed and that was told.
    pub delete_failed: bool,
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
    /// It is a hook.
    pub hook: Option<Hook>,
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
    if !object.is_annotated() {
        return (order, faults);
    }
    let said = |names: [&'static str; 2]| {
        names.into_iter().filter_map(|name| Some((name, object.annotation(name)?)))
    };
    let kind = object.key().kind.kind.as_str();
    let may_be_hook = object.key().is::<Job>() || object.key().is::<Pod>();
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
        match (text.trim(), HookPhase::parse(text.trim())) {
            ("Skip", _) => order.apply = Apply::Never,
            (_, Some(_)) if !may_be_hook => {
                fault(name, format!("a hook is a Job or a Pod: make {kind} an object like others"));
            }
            (_, Some(phase)) => order.hook = Some(hook(phase)),
            _ => {
                let text = format!("{text:?}: write PreSync, Sync, PostSync, SyncFail or Skip");
                fault(name, text);
            }
        }
    }
    if let Some(text) = object.annotation(HELM_HOOK).filter(|_| may_be_hook) {
        match helm_phase(text) {
            Some(phase) => order.hook = Some(hook(phase)),
            // Hooks of what is not done here: tests, the removal of a chart.
            None => order.apply = Apply::Never,
        }
        if let Some(weight) = object.annotation(HELM_WEIGHT).and_then(|w| w.trim().parse().ok()) {
            order.wave = weight;
        }
    }
    if let Some(hook) = &mut order.hook {
        let helm = object.annotation(HELM_DELETE).map(|text| (HELM_DELETE, text));
        let all = said(HOOK_DELETES).chain(helm).flat_map(|(name, text)| {
            text.split(',').map(move |one| (name, one.trim())).filter(|(_, one)| !one.is_empty())
        });
        for (name, one) in all {
            match one {
                "HookSucceeded" | "hook-succeeded" => hook.delete_succeeded = true,
                "HookFailed" | "hook-failed" => hook.delete_failed = true,
                // It is made anew with each commit anyway.
                "BeforeHookCreation" | "before-hook-creation" => {}
                _ => fault(
                    name,
                    format!("{one:?}: write HookSucceeded, HookFailed or BeforeHookCreation"),
                ),
            }
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

fn hook(phase: HookPhase) -> Hook {
    Hook { phase, delete_succeeded: false, delete_failed: false }
}

/// Helm's words for the same: `pre-install,pre-upgrade`.
fn helm_phase(text: &str) -> Option<HookPhase> {
    text.split(',').find_map(|word| match word.trim() {
        "pre-install" | "pre-upgrade" => Some(HookPhase::PreSync),
        "post-install" | "post-upgrade" => Some(HookPhase::PostSync),
        _ => None,
    })
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
        check_kind(("v1", "ConfigMap"), annotations, expect);
    }

    fn check_kind((version, kind): (&str, &str), annotations: &[(&str, &str)], expect: &Expect) {
        let annotations: std::collections::BTreeMap<_, _> = annotations.iter().copied().collect();
        let object = Object::from_value(&json!({
            "apiVersion": version, "kind": kind,
            "metadata": { "name": "c", "namespace": "default", "annotations": annotations },
        }))
        .unwrap();
        let Order { wave, after, keep, apply, hook } = order(&object);
        let after: Vec<String> = after.iter().map(ToString::to_string).collect();
        let mut text = format!("wave {wave}, after {after:?}, keep {keep}, {apply:?}\n");
        if let Some(Hook { phase, delete_succeeded, delete_failed }) = hook {
            text += &format!("{phase:?}, goes {delete_succeeded} {delete_failed}\n");
        }
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
    fn jobs_and_pods_may_be_hooks() {
        let job = ("batch/v1", "Job");
        check_kind(
            job,
            &[
                ("argocd.argoproj.io/hook", "PreSync"),
                ("argocd.argoproj.io/hook-delete-policy", "HookSucceeded, BeforeHookCreation"),
                ("argocd.argoproj.io/sync-wave", "-1"),
            ],
            &expect![[r#"
                wave -1, after [], keep false, Always
                PreSync, goes true false
            "#]],
        );
        check_kind(
            ("v1", "Pod"),
            &[
                ("helm.sh/hook", "post-install,post-upgrade"),
                ("helm.sh/hook-weight", "5"),
                ("helm.sh/hook-delete-policy", "hook-failed"),
            ],
            &expect![[r#"
                wave 5, after [], keep false, Always
                PostSync, goes false true
            "#]],
        );
        check_kind(
            job,
            &[("helm.sh/hook", "test")],
            &expect![[r#"
                wave 0, after [], keep false, Never
            "#]],
        );
        check_kind(
            job,
            &[("mainstay.io/hook", "Before"), ("helm.sh/hook", "pre-upgrade")],
            &expect![[r#"
                wave 0, after [], keep false, Always
                PreSync, goes false false
                mainstay.io/hook: "Before": write PreSync, Sync, PostSync, SyncFail or Skip
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
                argocd.argoproj.io/hook: a hook is a Job or a Pod: make ConfigMap an object like others
                argocd.argoproj.io/sync-options: "Prune=maybe" is no option we know: remove it
                kustomize.toolkit.fluxcd.io/ssa: "Sometimes": write Override, Merge, IfNotPresent, Ignore
            "#]],
        );
    }
}
