//! The rules of a ValidatingAdmissionPolicy
//! (kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy).

use std::sync::LazyLock;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec, Validation,
};
use serde_json::Value as Json;

use super::{
    field::{Check, Reason},
    rule::{Failure, Given, Meter, OBJECT_COST_MAX, Rule, Scope, Type, Value},
};

/// What may be said of who asks for what.
static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let texts = |names: [&'static str; 3]| Type::object(names.map(|name| (name, Type::Text)));
    let kind = || texts(["group", "version", "kind"]);
    let resource = || texts(["group", "version", "resource"]);
    Type::object([
        ("uid", Type::Text),
        ("kind", kind()),
        ("resource", resource()),
        ("subResource", Type::Text),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("requestSubResource", Type::Text),
        ("name", Type::Text),
        ("namespace", Type::Text),
        ("operation", Type::Text),
        (
            "userInfo",
            Type::object([
                ("username", Type::Text),
                ("uid", Type::Text),
                ("groups", Type::list(Type::Text)),
                ("extra", Type::map(Type::list(Type::Text))),
            ]),
        ),
        ("dryRun", Type::Bool),
        ("options", Type::Any),
    ])
});

/// What a policy asks of objects, read once.
#[derive(Debug)]
pub struct PolicyRules {
    conditions: Vec<(String, Result<Rule, String>)>,
    /// By the whole name, `variables.x`.
    variables: Vec<(String, Result<Rule, String>)>,
    validations: Vec<OneValidation>,
    /// Whether what cannot be evaluated refuses.
    fails: bool,
}

#[derive(Debug)]
struct OneValidation {
    said: Validation,
    rule: Result<Rule, String>,
    message: Option<Rule>,
}

/// What the rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The object as it is to become; `None` when it goes.
    pub object: Option<&'a Json>,
    /// The object as it is; `None` when it is new.
    pub old_object: Option<&'a Json>,
    /// Who asks for what.
    pub request: &'a Json,
    /// The parameters, if there are any.
    pub params: Option<&'a Json>,
    /// The namespace of the object, if it has one.
    pub namespace: Option<&'a Json>,
}

/// What a policy says against an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// In the words of its author, if they gave some.
    pub message: String,
    /// The reason of the answer: `Invalid` unless the author says something else.
    pub reason: String,
}

impl PolicyRules {
    /// The rules of a policy that was admitted.
    pub(super) fn of(policy: &ValidatingAdmissionPolicy) -> Self {
        Self::read(&policy.spec.clone().unwrap_or_default(), &mut Check::default())
    }

    /// As [`PolicyRules::of`], and finds what is wrong with them.
    pub(super) fn read(spec: &ValidatingAdmissionPolicySpec, check: &mut Check) -> Self {
        let mut scope = Scope::default();
        for name in ["object", "oldObject", "namespaceObject"] {
            scope.declare(name, Type::Any);
        }
        scope.declare("request", REQUEST.clone());
        if spec.param_kind.is_some() {
            scope.declare("params", Type::Any);
        }
        let conditions = spec.match_conditions.iter().flatten().enumerate().map(|(i, said)| {
            let at = format!("spec.matchConditions[{i}].expression");
            (said.name.clone(), compile(&said.expression, &scope, Some(&Type::Bool), &at, check))
        });
        let conditions = conditions.collect();
        let mut variables = Vec::new();
        for (i, said) in spec.variables.iter().flatten().enumerate() {
            let at = format!("spec.variables[{i}].expression");
            let rule = compile(&said.expression, &scope, None, &at, check);
            let name = format!("variables.{}", said.name);
            // The next ones may use it.
            scope.declare(&name, rule.as_ref().map_or(Type::Any, |rule| rule.type_().clone()));
            variables.push((name, rule));
        }
        let validations = spec.validations.iter().flatten().enumerate().map(|(i, said)| {
            let at = format!("spec.validations[{i}]");
            let expression = format!("{at}.expression");
            let rule = compile(&said.expression, &scope, Some(&Type::Bool), &expression, check);
            let message = said.message_expression.as_deref().filter(|text| !text.is_empty());
            let message = message.and_then(|text| {
                let at = format!("{at}.messageExpression");
                compile(text, &scope, Some(&Type::Text), &at, check).ok()
            });
            OneValidation { said: said.clone(), rule, message }
        });
        let validations = validations.collect();
        let fails = spec.failure_policy.as_deref() != Some("Ignore");
        Self { conditions, variables, validations, fails }
    }

    /// What the policy has against a write.
    pub fn judge(&self, sight: Sight<'_>) -> Vec<Objection> {
        let mut given = Given::default();
        let or_null = |json| Ok(Option::map_or(json, Value::Null, Value::json));
        given.put("object", or_null(sight.object));
        given.put("oldObject", or_null(sight.old_object));
        given.put("request", Value::typed(sight.request, &REQUEST));
        given.put("params", or_null(sight.params));
        given.put("namespaceObject", or_null(sight.namespace));
        let mut left = OBJECT_COST_MAX;
        match self.is_met(&given, &mut left) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(message) => return self.unless_ignored(message).into_iter().collect(),
        }
        for (name, rule) in &self.variables {
            let value = evaluate(rule, &mut left, |rule, meter| rule.run(&given, meter));
            given.put(name, value);
        }
        let judged =
            self.validations.iter().filter_map(|one| self.objection(one, &given, &mut left));
        judged.collect()
    }

    /// Whether every condition holds. One that does not hold decides, even where another fails.
    fn is_met(&self, given: &Given<'_>, left: &mut u64) -> Result<bool, String> {
        let mut failed = None;
        for (name, rule) in &self.conditions {
            match evaluate(rule, left, |rule, meter| rule.holds(given, meter)) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(failure) => {
                    let text = format!("match condition {name:?} resulted in error: {failure}");
                    failed = failed.or(Some(text));
                }
            }
        }
        failed.map_or(Ok(true), Err)
    }

    fn unless_ignored(&self, message: String) -> Option<Objection> {
        self.fails.then(|| Objection { message, reason: "Invalid".to_owned() })
    }

    fn objection(
        &self,
        one: &OneValidation,
        given: &Given<'_>,
        left: &mut u64,
    ) -> Option<Objection> {
        let expression = one.said.expression.trim();
        match evaluate(&one.rule, left, |rule, meter| rule.holds(given, meter)) {
            Ok(true) => None,
            Ok(false) => {
                let made = one.message.as_ref().and_then(|rule| {
                    let made = Meter::pay(left, |meter| rule.text(given, meter));
                    let made = made.ok()?.trim().to_owned();
                    (!made.is_empty() && !made.contains('\n')).then_some(made)
                });
                let said = one.said.message.as_deref().map(str::trim).filter(|m| !m.is_empty());
                let message = made.or_else(|| said.map(str::to_owned));
                Some(Objection {
                    message: message.unwrap_or_else(|| format!("failed expression: {expression}")),
                    reason: one.said.reason.clone().unwrap_or_else(|| "Invalid".to_owned()),
                })
            }
            Err(failure) => {
                let text = format!("expression '{expression}' resulted in error: {failure}");
                self.unless_ignored(text)
            }
        }
    }
}

/// Runs a rule with what is left to spend, which becomes less.
fn evaluate<'a, T>(
    rule: &'a Result<Rule, String>,
    left: &mut u64,
    run: impl FnOnce(&'a Rule, &mut Meter) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let rule = rule.as_ref().map_err(|error| Failure::Other(format!("compile error: {error}")))?;
    Meter::pay(left, |meter| run(rule, meter))
}

fn compile(
    text: &str,
    scope: &Scope,
    gives: Option<&Type>,
    at: &str,
    check: &mut Check,
) -> Result<Rule, String> {
    let compiled = Rule::compile(text, scope);
    let wrong = match &compiled {
        // That there is none is told elsewhere.
        _ if text.trim().is_empty() => None,
        Err(error) => Some(format!("compilation failed: {error}")),
        Ok(rule) => gives
            .filter(|wanted| !rule.may_give(wanted))
            .map(|wanted| format!("must evaluate to {wanted}")),
    };
    if let Some(wrong) = wrong {
        let shown = serde_json::to_string(text).unwrap_or_default();
        check.error(at, Reason::Invalid, format!("Invalid value: {shown}: {wrong}"));
    }
    compiled
}
