//! ValidatingAdmissionPolicies and what their bindings make of them: whether a write is refused, or
//! its author is warned
//! (kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MatchResources, NamedRuleWithOperations, ParamKind, ParamRef,
            ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingAdmissionPolicySpec,
        },
        core::v1::Namespace,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde_json::{Value, json};

use crate::{
    kinds::{KindInfo, Objection, PolicyRules, Sight},
    model::{Key, Object, Selector},
    state::View,
};

/// One write of one object, with who asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The cluster.
    pub view: &'a View,
    /// The kind of the object.
    pub info: &'a KindInfo,
    /// `status`; empty for the object itself.
    pub subresource: &'a str,
    /// The object as it is; `None` when it is new.
    pub old: Option<&'a Object>,
    /// The object as it is to become; `None` when it goes.
    pub new: Option<&'a Object>,
    /// Who asks.
    pub writer: Writer<'a>,
    /// Whether nothing comes of it.
    pub dry_run: bool,
}

/// Who asks for a write.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// `jane`
    pub name: &'a str,
    /// Tells users of one name apart.
    pub uid: &'a str,
    /// The groups they belong to.
    pub groups: &'a [String],
    /// What else is known of them.
    pub extra: &'a BTreeMap<String, Vec<String>>,
}

/// Why a policy refuses a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Which policy, and what it says.
    pub why: String,
    /// The reason of the answer: `Invalid`, `Forbidden`.
    pub reason: String,
}

/// Whether there is anything that could have something against a write. Costs nothing when there is
/// not.
pub fn concerns(view: &View, info: &KindInfo) -> bool {
    // What is wrong with a policy must not keep it from being mended.
    view.kinds().has_policies() && info.group != "admissionregistration.k8s.io"
}

/// Asks every policy that is bound; gives what the author should know.
pub fn judge(write: &Write<'_>) -> Result<Vec<String>, Denied> {
    if !concerns(write.view, write.info) {
        return Ok(Vec::new());
    }
    let scene = Scene::of(write);
    let (mut warnings, mut denied) = (Vec::new(), None);
    for (object, policy) in write.view.list::<ValidatingAdmissionPolicy>(None) {
        let (Some(spec), Some(rules)) = (&policy.spec, write.view.kinds().policy(object.key()))
        else {
            continue;
        };
        if !spec.match_constraints.as_ref().is_some_and(|of| scene.is_matched(of)) {
            continue;
        }
        let name = &*object.key().name;
        let bindings = write.view.list::<ValidatingAdmissionPolicyBinding>(None);
        let own = bindings.filter(|(_, binding)| binding.spec.policy_name == name);
        for (at, binding) in own {
            if binding.spec.match_resources.as_ref().is_some_and(|of| !scene.is_matched(of)) {
                continue;
            }
            let of = format!("ValidatingAdmissionPolicy '{name}' with binding '{}'", at.key().name);
            let does = |action: &str| binding.spec.validation_actions.iter().any(|a| a == action);
            for objection in scene.objections(spec, rules, binding.spec.param_ref.as_ref()) {
                let said = &objection.message;
                if does("Warn") {
                    warnings.push(format!("Validation failed for {of}: {said}"));
                }
                if does("Deny") && denied.is_none() {
                    let why = format!("{of} denied request: {said}");
                    denied = Some(Denied { why, reason: objection.reason });
                }
            }
        }
    }
    denied.map_or(Ok(warnings), Err)
}

/// A write, as the rules see it.
struct Scene<'a> {
    write: &'a Write<'a>,
    old: Option<Value>,
    new: Option<Value>,
    request: Value,
    namespace: Option<&'a Object>,
    namespace_value: Option<Value>,
}

impl<'a> Scene<'a> {
    fn of(write: &'a Write<'a>) -> Self {
        let value = |object: Option<&Object>| object.map(Object::value);
        let namespace = write.key().filter(|key| !key.namespace.is_empty());
        let namespace =
            namespace.and_then(|key| write.view.object(&Key::of::<Namespace>("", &key.namespace)));
        Self {
            old: value(write.old),
            new: value(write.new),
            request: write.request(),
            namespace_value: value(namespace),
            namespace,
            write,
        }
    }

    fn is_matched(&self, of: &MatchResources) -> bool {
        let any = |rules: &Option<Vec<NamedRuleWithOperations>>| {
            rules.iter().flatten().any(|rule| self.fits(rule, of))
        };
        // A binding may leave the resources to its policy.
        let included =
            of.resource_rules.as_ref().is_none_or(Vec::is_empty) || any(&of.resource_rules);
        included && !any(&of.exclude_resource_rules) && self.is_selected(of)
    }

    fn is_selected(&self, of: &MatchResources) -> bool {
        let write = self.write;
        let in_namespace = of.namespace_selector.as_ref().is_none_or(|selector| {
            let is_namespace = write.info.kind == "Namespace" && write.info.group.is_empty();
            match (self.namespace, is_namespace) {
                (Some(namespace), _) => selects(selector, namespace),
                (None, true) => write.object().is_some_and(|object| selects(selector, object)),
                // What is in no namespace is not told apart by one.
                (None, false) => true,
            }
        });
        let objects = [write.new, write.old];
        let of_object = of.object_selector.as_ref().is_none_or(|selector| {
            objects.into_iter().flatten().any(|object| selects(selector, object))
        });
        in_namespace && of_object
    }

    fn fits(&self, rule: &NamedRuleWithOperations, of: &MatchResources) -> bool {
        let info = self.write.info;
        let has = |list: &Option<Vec<String>>, wanted: &str| {
            list.iter().flatten().any(|one| one == "*" || one == wanted)
        };
        let scope = match rule.scope.as_deref() {
            Some("Cluster") => !info.namespaced,
            Some("Namespaced") => info.namespaced,
            _ => true,
        };
        let name = self.write.key().map(|key| key.name.as_str()).unwrap_or_default();
        let names = rule.resource_names.as_deref().unwrap_or_default();
        // A rule about one version is about the same objects at another.
        let exact = of.match_policy.as_deref() == Some("Exact");
        let other = info.also.iter().filter(|_| !exact);
        let mut shapes = other.map(|other| (other.group.as_str(), other.version.as_str()));
        let at = |group: &str, version: &str| {
            has(&rule.api_groups, group) && has(&rule.api_versions, version)
        };
        scope
            && (names.is_empty() || names.iter().any(|one| one == name))
            && has(&rule.operations, self.write.operation())
            && (at(&info.group, &info.version) || shapes.any(|(group, version)| at(group, version)))
            && rule.resources.iter().flatten().any(|one| self.is_named(one))
    }

    /// `pods`, `pods/status`, `*/status`, `pods/*`, `*`, `*/*`
    fn is_named(&self, resource: &str) -> bool {
        let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        (plural == "*" || plural == self.write.info.plural)
            && (subresource == self.write.subresource || subresource == "*")
    }

    /// What a policy, bound with these parameters, has against the write.
    fn objections(
        &self,
        spec: &ValidatingAdmissionPolicySpec,
        rules: &PolicyRules,
        by: Option<&ParamRef>,
    ) -> Vec<Objection> {
        let judge = |params: Option<&Value>| {
            rules.judge(Sight {
                object: self.new.as_ref(),
                old_object: self.old.as_ref(),
                request: &self.request,
                params,
                namespace: self.namespace_value.as_ref(),
            })
        };
        let (Some(kind), Some(by)) = (&spec.param_kind, by) else { return judge(None) };
        let refused = |message: String| {
            let ignored = spec.failure_policy.as_deref() == Some("Ignore");
            let one = Objection { message, reason: "Invalid".to_owned() };
            if ignored { Vec::new() } else { vec![one] }
        };
        let found = match self.parameters(kind, by) {
            Ok(found) => found,
            Err(why) => return refused(format!("failed to configure binding: {why}")),
        };
        let allowed = by.parameter_not_found_action.as_deref() == Some("Allow");
        match found.is_empty() {
            true if allowed => Vec::new(),
            true => refused(
                "failed to configure binding: no params found for policy binding with `Deny` \
                 parameterNotFoundAction"
                    .to_owned(),
            ),
            false => found.iter().flat_map(|params| judge(Some(&params.value()))).collect(),
        }
    }

    /// The objects that a binding names as parameters.
    fn parameters(&self, kind: &ParamKind, by: &ParamRef) -> Result<Vec<&'a Object>, String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (api_version, kind) = (text(&kind.api_version), text(&kind.kind));
        let view = self.write.view;
        let (info, _) = view.kinds().served(&api_version, &kind).ok_or_else(|| {
            format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'")
        })?;
        let own = self.write.key().map(|key| key.namespace.to_string()).unwrap_or_default();
        let namespace = match (info.namespaced, text(&by.namespace)) {
            (false, _) => String::new(),
            (true, named) if !named.is_empty() => named,
            (true, _) if own.is_empty() => {
                return Err("cannot use namespaced paramRef in policy binding that matches \
                            cluster-scoped resources"
                    .to_owned());
            }
            (true, _) => own,
        };
        let within = Some(namespace.as_str()).filter(|_| info.namespaced);
        let name = by.name.as_deref().filter(|name| !name.is_empty());
        let all = view.of_kind(&info.group_kind(), within);
        Ok(all
            .filter(|object| match (name, &by.selector) {
                (Some(name), _) => object.key().name == name,
                (None, Some(selector)) => selects(selector, object),
                (None, None) => false,
            })
            .collect())
    }
}

fn selects(selector: &LabelSelector, object: &Object) -> bool {
    let labels = object.meta().labels.as_ref();
    Selector::from_label_selector(selector).is_ok_and(|selector| selector.matches(labels))
}

impl<'a> Write<'a> {
    fn object(&self) -> Option<&'a Object> {
        self.new.or(self.old)
    }

    fn key(&self) -> Option<&'a Key> {
        self.object().map(Object::key)
    }

    fn operation(&self) -> &'static str {
        match (self.old, self.new) {
            (_, None) => "DELETE",
            (None, Some(_)) => "CREATE",
            (Some(_), Some(_)) => "UPDATE",
        }
    }

    fn request(&self) -> Value {
        let Self { info, writer, .. } = self;
        let (group, version) = (info.group.as_str(), info.version.as_str());
        let kind = json!({ "group": group, "version": version, "kind": info.kind.as_str() });
        let resource =
            json!({ "group": group, "version": version, "resource": info.plural.as_str() });
        let of_key = |part: fn(&Key) -> String| self.key().map(part).unwrap_or_default();
        json!({
            "uid": "",
            "kind": kind,
            "resource": resource,
            "subResource": self.subresource,
            "requestKind": kind,
            "requestResource": resource,
            "requestSubResource": self.subresource,
            "name": of_key(|key| key.name.to_string()),
            "namespace": of_key(|key| key.namespace.to_string()),
            "operation": self.operation(),
            "userInfo": {
                "username": writer.name, "uid": writer.uid, "groups": writer.groups,
                "extra": writer.extra,
            },
            "dryRun": self.dry_run,
            "options": {},
        })
    }
}
