//! `x-kubernetes-validations`: the rules that a schema has at each of its levels
//! (kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions).
//!
//! [`Rules::read`] finds what is wrong with them when a definition is written, [`Rules::of`] keeps
//! them with their kind, and [`Rules::judge`] asks them about one object.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{OF_EVERY_OBJECT, field};
use crate::kinds::{
    decode::join,
    field::{Check, Reason},
    rule::{self, Failure, Given, Meter, OBJECT_COST_MAX, Rule, Scope, Type},
};

const WORD: &str = "x-kubernetes-validations";

/// Reasons that a rule may name, and ours.
const REASONS: [(&str, Reason); 4] = [
    ("FieldValueRequired", Reason::Required),
    ("FieldValueForbidden", Reason::Forbidden),
    ("FieldValueInvalid", Reason::Invalid),
    ("FieldValueDuplicate", Reason::Duplicate),
];

/// Longest message that a `messageExpression` makes, in bytes: Kubernetes' own limit.
const MESSAGE_BYTES_MAX: usize = 5120;

/// The rules of a schema.
#[derive(Debug, Default)]
pub(in crate::kinds) struct Rules {
    /// `None` when nothing in the schema has a rule.
    root: Option<Level>,
}

/// The rules of one value of a schema and of those below it.
#[derive(Debug)]
struct Level {
    type_: Type,
    rules: Vec<OneRule>,
    fields: BTreeMap<String, Level>,
    others: Option<Box<Level>>,
    items: Option<Box<Level>>,
    /// The keys by which an item is found again; `None` in lists whose items are not.
    keys: Option<Vec<String>>,
    /// Whether what is below is found again.
    is_granular: bool,
}

#[derive(Debug)]
struct OneRule {
    said: Said,
    reason: Reason,
    /// What `fieldPath` adds to the field that is told.
    path: String,
    /// Why it could not be read: a definition may be older than what checks it.
    rule: Result<Rule, String>,
    message: Option<Rule>,
    uses_old: bool,
}

/// One rule as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Said {
    rule: String,
    message: String,
    message_expression: String,
    reason: Option<String>,
    field_path: String,
    optional_old_self: Option<bool>,
}

/// The same as Kubernetes shows it in a message.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    rule: &'a str,
    message: &'a str,
    message_expression: &'a str,
    reason: &'a Option<String>,
    field_path: &'a str,
    optional_old_self: Option<bool>,
}

impl Said {
    fn shown(&self) -> String {
        let shown = Shown {
            rule: &self.rule,
            message: &self.message,
            message_expression: &self.message_expression,
            reason: &self.reason,
            field_path: &self.field_path,
            optional_old_self: self.optional_old_self,
        };
        let text = serde_json::to_string(&shown).unwrap_or_default();
        text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    }

    fn invalid(&self, at: String, why: &str, check: &mut Check) {
        check.error(at, Reason::Invalid, format!("Invalid value: {}: {why}", self.shown()));
    }

    /// What stands for the rule in a message.
    fn name(&self) -> &str {
        match self.message.is_empty() {
            true => self.rule.trim(),
            false => &self.message,
        }
    }
}

impl Rules {
    /// The rules of a schema that was admitted.
    pub(in crate::kinds) fn of(schema: &Value) -> Self {
        Self::read(schema, "", &mut Check::default())
    }

    /// As [`Rules::of`], and finds what is wrong with them; `at` is the path of the schema.
    pub(in crate::kinds) fn read(schema: &Value, at: &str, check: &mut Check) -> Self {
        Self { root: Reader { check }.level(schema, true, at, None) }
    }

    /// Whether there are none.
    pub(in crate::kinds) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Finds what of a value breaks a rule. Rules that look back are asked where `live` says what
    /// was there; the others are not asked again about what did not change.
    pub(in crate::kinds) fn judge(&self, value: &Value, ask: Ask<'_>, check: &mut Check) {
        let Some(root) = &self.root else { return };
        let old = match ask {
            Ask::First | Ask::Alone => None,
            Ask::After(live) => Some(live),
        };
        Judge { ask, check, left: OBJECT_COST_MAX }.level(root, value, old, "");
    }
}

/// What is asked of an object's rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::kinds) enum Ask<'a> {
    /// Those that do not look back: whether there is an object already is not known.
    Alone,
    /// Those that look back and have something to say of a first object, too; the others were asked
    /// alone.
    First,
    /// All, of an object that takes the place of this one.
    After(&'a Value),
}

struct Reader<'c> {
    check: &'c mut Check,
}

impl Reader<'_> {
    /// `lost` is the place above from which values are not found again in what was there before.
    fn level(
        &mut self,
        schema: &Value,
        is_root: bool,
        at: &str,
        lost: Option<&str>,
    ) -> Option<Level> {
        let map = schema.as_object()?;
        for word in ["allOf", "anyOf", "oneOf", "not"] {
            if map.get(word).is_some_and(has_rules) {
                let field = format!("{at}.{word}");
                self.check.forbidden(field, &format!("{WORD} must be empty to be structural"));
            }
        }
        let type_ = match is_root {
            true => Type::of_resource(schema),
            false => Type::of_schema(schema),
        };
        let mut level = Level {
            type_: type_.unwrap_or(Type::Any),
            rules: Vec::new(),
            fields: BTreeMap::new(),
            others: None,
            items: None,
            keys: keys(map),
            is_granular: map.get("x-kubernetes-map-type").is_none_or(|kind| kind != "atomic"),
        };
        for (i, said) in map.get(WORD).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let field = format!("{at}.{WORD}[{i}]");
            let said = Said::deserialize(said).unwrap_or_default();
            level.rules.push(self.rule(said, schema, &level.type_, &field, lost));
        }
        let inside = lost.or((!level.is_granular).then_some(at));
        for (name, inner) in map.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            let at = format!("{at}.properties[{name}]");
            let inner = self.level(inner, false, &at, inside);
            level.fields.extend(inner.map(|inner| (name.clone(), inner)));
        }
        if let Some(inner) = map.get("additionalProperties") {
            let at = format!("{at}.additionalProperties");
            level.others = self.level(inner, false, &at, inside).map(Box::new);
        }
        if let Some(inner) = map.get("items") {
            let at = format!("{at}.items");
            let inside = lost.or(level.keys.is_none().then_some(&*at));
            level.items = self.level(inner, false, &at, inside).map(Box::new);
        }
        let says_nothing = level.rules.is_empty()
            && level.fields.is_empty()
            && level.others.is_none()
            && level.items.is_none();
        (!says_nothing).then_some(level)
    }

    fn rule(
        &mut self,
        said: Said,
        schema: &Value,
        type_: &Type,
        at: &str,
        lost: Option<&str>,
    ) -> OneRule {
        let optional = said.optional_old_self == Some(true);
        let mut scope = Scope::default();
        scope.declare("self", type_.clone());
        scope.declare(
            "oldSelf",
            match optional {
                true => Type::optional(type_.clone()),
                false => type_.clone(),
            },
        );
        let rule = Rule::compile(&said.rule, &scope);
        let uses_old = rule.as_ref().is_ok_and(|rule| rule.names("oldSelf"));
        self.text(&said, &rule, at);
        if uses_old && let Some(lost) = lost {
            let text = format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
            );
            self.check.invalid(format!("{at}.rule"), &said.rule, text);
        }
        if said.optional_old_self.is_some() && rule.is_ok() && !uses_old {
            let text = "may not be set if oldSelf is not used in rule";
            self.check.invalid(format!("{at}.optionalOldSelf"), said.optional_old_self, text);
        }
        let message = self.message(&said, &scope, uses_old, at);
        let reason = said.reason.as_deref().unwrap_or("FieldValueInvalid");
        let known = REASONS.iter().find(|(name, _)| *name == reason).map(|(_, reason)| *reason);
        if known.is_none() {
            let names = REASONS.map(|(name, _)| name);
            self.check.not_supported(format!("{at}.reason"), reason, &names);
        }
        let path = match said.field_path.is_empty() {
            true => Ok(String::new()),
            false => field_path(&said.field_path, schema),
        };
        if let Err(why) = &path {
            let text = format!("fieldPath must be a valid path: {why}");
            self.check.invalid(format!("{at}.fieldPath"), &said.field_path, text);
        }
        OneRule {
            reason: known.unwrap_or(Reason::Invalid),
            path: path.unwrap_or_default(),
            rule,
            message,
            uses_old,
            said,
        }
    }

    fn text(&mut self, said: &Said, rule: &Result<Rule, String>, at: &str) {
        let field = format!("{at}.rule");
        match rule {
            _ if said.rule.trim().is_empty() => {
                self.check.required(field, "rule is not specified");
            }
            Err(error) => said.invalid(field, &format!("compilation failed: {error}"), self.check),
            Ok(rule) if !rule.may_give(&Type::Bool) => {
                said.invalid(field, "cel expression must evaluate to a bool", self.check);
            }
            Ok(_) => {}
        }
        let field = format!("{at}.message");
        let breaks = |text: &str| text.trim().contains(['\n', '\r']);
        if said.message.is_empty() && said.message_expression.is_empty() && breaks(&said.rule) {
            let text = "message must be specified if rule contains line breaks";
            self.check.required(field, text);
        } else if !said.message.is_empty() && said.message.trim().is_empty() {
            let text = "message must be non-empty if specified";
            self.check.invalid(field, &said.message, text);
        } else if breaks(&said.message) {
            self.check.invalid(field, &said.message, "message must not contain line breaks");
        }
    }

    fn message(&mut self, said: &Said, scope: &Scope, uses_old: bool, at: &str) -> Option<Rule> {
        let field = format!("{at}.messageExpression");
        if said.message_expression.is_empty() {
            return None;
        }
        if said.message_expression.trim().is_empty() {
            let text = "messageExpression must be non-empty if specified";
            self.check.required(field, text);
            return None;
        }
        match Rule::compile(&said.message_expression, scope) {
            Err(error) => {
                let text = format!("messageExpression compilation failed: {error}");
                said.invalid(field, &text, self.check);
                None
            }
            Ok(message) if !message.may_give(&Type::Text) => {
                said.invalid(field, "messageExpression must evaluate to a string", self.check);
                None
            }
            // Without what was there before it has nothing to say of it.
            Ok(message) => Some(message).filter(|m| uses_old || !m.names("oldSelf")),
        }
    }
}

fn has_rules(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.contains_key(WORD) || map.values().any(has_rules),
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

/// The keys of a list that is a map.
fn keys(schema: &Map<String, Value>) -> Option<Vec<String>> {
    schema.get("x-kubernetes-list-type").filter(|kind| *kind == "map")?;
    let keys = schema.get("x-kubernetes-list-map-keys")?.as_array()?;
    Some(keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// `.spec.a['b']` as it continues a field's path, once it leads somewhere.
fn field_path(path: &str, schema: &Value) -> Result<String, String> {
    let (mut rest, mut at, mut shown) = (path.trim(), schema, String::new());
    while !rest.is_empty() {
        let (name, after) = if let Some(inner) = rest.strip_prefix("['") {
            inner.split_once("']").ok_or("a bracket is not closed")?
        } else if let Some(inner) = rest.strip_prefix('.') {
            inner.split_at(inner.find(['.', '[']).unwrap_or(inner.len()))
        } else {
            return Err(format!("expected [ or . but got: {rest}"));
        };
        if name.is_empty() {
            return Err("a name is empty".to_owned());
        }
        let is_field = at.get("properties").is_some_and(|fields| fields.get(name).is_some());
        at = field(at, name).ok_or_else(|| format!("does not refer to a valid field: {name}"))?;
        match is_field {
            true => shown = join(&shown, name),
            false => shown.push_str(&format!("[{name}]")),
        }
        rest = after;
    }
    Ok(shown)
}

struct Judge<'a, 'c> {
    ask: Ask<'a>,
    check: &'c mut Check,
    /// What all rules of this object may still spend.
    left: u64,
}

impl Judge<'_, '_> {
    fn level(&mut self, level: &Level, value: &Value, old: Option<&Value>, at: &str) {
        // A rule that is about a value that may be null stands above it.
        if value.is_null() {
            return;
        }
        let old = old.filter(|old| !old.is_null());
        let is_same = old == Some(value);
        for rule in &level.rules {
            if self.left == 0 {
                return;
            }
            let asked = match self.ask {
                Ask::Alone => !rule.uses_old,
                Ask::First => rule.uses_old && rule.said.optional_old_self == Some(true),
                Ask::After(_) if rule.uses_old => {
                    old.is_some() || rule.said.optional_old_self == Some(true)
                }
                Ask::After(_) => !is_same,
            };
            if asked {
                self.rule(rule, &level.type_, value, old, at);
            }
        }
        self.below(level, value, old, at);
    }

    fn below(&mut self, level: &Level, value: &Value, old: Option<&Value>, at: &str) {
        match value {
            Value::Object(map) => {
                let is_root = at.is_empty();
                for (key, value) in map {
                    let inner = level.fields.get(key).or_else(|| {
                        let is_meta = is_root && OF_EVERY_OBJECT.contains(&key.as_str());
                        level.others.as_deref().filter(|_| !is_meta)
                    });
                    let Some(inner) = inner else { continue };
                    let old = old.filter(|_| level.is_granular).and_then(|old| old.get(key));
                    let at = match level.fields.contains_key(key) {
                        true => join(at, key),
                        false => format!("{at}[{key}]"),
                    };
                    self.level(inner, value, old, &at);
                }
            }
            Value::Array(items) => {
                let Some(inner) = &level.items else { return };
                let old = old.and_then(Value::as_array).map(Vec::as_slice);
                let by_keys = level.keys.as_ref().map(|keys| by_keys(keys, old));
                for (i, item) in items.iter().enumerate() {
                    let keys = level.keys.as_ref().map(|keys| identity(keys, item));
                    let old = by_keys.as_ref().zip(keys).and_then(|(all, own)| all.get(&own));
                    self.level(inner, item, old.copied(), &format!("{at}[{i}]"));
                }
            }
            _ => {}
        }
    }

    fn rule(&mut self, rule: &OneRule, type_: &Type, value: &Value, old: Option<&Value>, at: &str) {
        let compiled = match &rule.rule {
            Ok(compiled) => compiled,
            Err(error) => {
                let text = format!("rule compile error: {error}");
                return self.check.error(at, Reason::Invalid, format!("Invalid value: {text}"));
            }
        };
        let mut given = Given::default();
        given.put("self", rule::Value::typed(value, type_));
        if rule.uses_old {
            let old = old.map(|old| rule::Value::typed(old, type_)).transpose();
            given.put(
                "oldSelf",
                match rule.said.optional_old_self {
                    Some(true) => old.map(rule::Value::optional),
                    _ => old.map(|old| old.unwrap_or(rule::Value::Null)),
                },
            );
        }
        let holds = Meter::pay(&mut self.left, |meter| compiled.holds(&given, meter));
        let name = rule.said.name();
        let invalid = |text: String| (Reason::Invalid, format!("Invalid value: {text}"));
        let (reason, detail) = match holds {
            Ok(true) => return,
            Ok(false) => {
                let message = self.told(rule, &given);
                let word = match rule.reason {
                    Reason::Required => "Required value",
                    Reason::Forbidden => "Forbidden",
                    Reason::Duplicate => "Duplicate value",
                    _ => "Invalid value",
                };
                let detail = format!("{word}: {message}");
                let field = match rule.path.starts_with('[') {
                    true => format!("{at}{}", rule.path),
                    false if rule.path.is_empty() => at.to_owned(),
                    false => join(at, &rule.path),
                };
                return self.check.error(field, rule.reason, detail);
            }
            Err(Failure::Overload) => invalid(format!(
                "'no such overload': call arguments did not match a supported operator, function \
                 or macro signature for rule: {name}"
            )),
            Err(failure @ Failure::Cost) => {
                self.left = 0;
                invalid(format!(
                    "'{failure}': no further validation rules will be run due to call cost \
                     exceeds limit for rule: {name}"
                ))
            }
            Err(failure) => invalid(format!("{failure} evaluating rule: {name}")),
        };
        self.check.error(at, reason, detail);
    }

    /// What is told of a rule that does not hold.
    fn told(&mut self, rule: &OneRule, given: &Given<'_>) -> String {
        if let Some(message) = &rule.message {
            let made = Meter::pay(&mut self.left, |meter| message.text(given, meter));
            let fits = |text: &String| {
                let text = text.trim();
                !text.is_empty() && !text.contains('\n') && text.len() <= MESSAGE_BYTES_MAX
            };
            if let Some(text) = made.ok().filter(fits) {
                return text.trim().to_owned();
            }
        }
        match rule.said.message.is_empty() {
            true => format!("failed rule: {}", rule.said.rule.trim()),
            false => rule.said.message.clone(),
        }
    }
}

/// What of an item says which it is.
fn identity(keys: &[String], item: &Value) -> String {
    let each = keys.iter().map(|key| item.get(key).unwrap_or(&Value::Null).to_string());
    each.collect::<Vec<_>>().join(",")
}

fn by_keys<'v>(keys: &[String], old: Option<&'v [Value]>) -> BTreeMap<String, &'v Value> {
    old.into_iter().flatten().map(|item| (identity(keys, item), item)).collect()
}
