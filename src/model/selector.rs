//! Which labels an object must carry.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A conjunction of requirements on labels.
///
/// An empty selector matches everything; where Kubernetes says that an absent one matches nothing,
/// the caller holds an `Option`. Source:
/// kubernetes.io/docs/concepts/overview/working-with-objects/labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    DoesNotExist(String),
    Above(String, i64),
    Below(String, i64),
}

/// Why a selector cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

impl Selector {
    /// Every label of `labels` with its value: the form of a Service.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let equals = |(k, v): (&String, &String)| Requirement::In(k.clone(), [v.clone()].into());
        Self(labels.into_iter().map(equals).collect())
    }

    /// The form of a Deployment: `matchLabels` and `matchExpressions`.
    pub fn from_label_selector(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut all = Self::from_labels(selector.match_labels.iter().flatten()).0;
        for expression in selector.match_expressions.iter().flatten() {
            let key = expression.key.clone();
            let values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
            all.push(match (expression.operator.as_str(), values.is_empty()) {
                ("In", false) => Requirement::In(key, values),
                ("NotIn", false) => Requirement::NotIn(key, values),
                ("Exists", true) => Requirement::Exists(key),
                ("DoesNotExist", true) => Requirement::DoesNotExist(key),
                (operator, _) => {
                    let text = format!("operator {operator:?} with {} values", values.len());
                    return Err(SelectorError(text));
                }
            });
        }
        Ok(Self(all))
    }

    /// The form of `kubectl -l`: `a=b,c!=d,e in (f,g),!h,i,j>1`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut all = Vec::new();
        for part in split_outside_parentheses(text) {
            if !part.trim().is_empty() {
                all.push(parse_requirement(part.trim())?);
            }
        }
        Ok(Self(all))
    }

    /// Whether `labels` meet every requirement. An absent label meets `NotIn` and `!=`.
    pub fn matches(&self, labels: Option<&Labels>) -> bool {
        let get = |key: &str| labels.and_then(|l| l.get(key));
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => get(key).is_none_or(|v| !values.contains(v)),
            Requirement::Exists(key) => get(key).is_some(),
            Requirement::DoesNotExist(key) => get(key).is_none(),
            Requirement::Above(key, bound) => number(get(key)).is_some_and(|n| n > *bound),
            Requirement::Below(key, bound) => number(get(key)).is_some_and(|n| n < *bound),
        })
    }

    /// Whether this has no requirement and so matches everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn number(value: Option<&String>) -> Option<i64> {
    value.and_then(|value| value.parse().ok())
}

fn parse_requirement(part: &str) -> Result<Requirement, SelectorError> {
    let fail = || SelectorError(format!("unable to parse requirement: {part:?}"));
    let one = |v: &str| label_value(v).map(|v| BTreeSet::from([v]));
    if let Some((key, values)) = part.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(fail)?;
        let values = values.split(',').map(label_value).collect::<Result<_, _>>()?;
        let (key, operator) = key.trim().rsplit_once(char::is_whitespace).ok_or_else(fail)?;
        let key = label_key(key).ok_or_else(fail)?;
        return match operator {
            "in" => Ok(Requirement::In(key, values)),
            "notin" => Ok(Requirement::NotIn(key, values)),
            _ => Err(fail()),
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(label_key(key).ok_or_else(fail)?, one(value)?));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::In(label_key(key).ok_or_else(fail)?, one(value)?));
    }
    if let Some((key, bound)) = part.split_once('>') {
        let bound = bound.trim().parse().map_err(|_| fail())?;
        return Ok(Requirement::Above(label_key(key).ok_or_else(fail)?, bound));
    }
    if let Some((key, bound)) = part.split_once('<') {
        let bound = bound.trim().parse().map_err(|_| fail())?;
        return Ok(Requirement::Below(label_key(key).ok_or_else(fail)?, bound));
    }
    match part.strip_prefix('!') {
        Some(key) => Ok(Requirement::DoesNotExist(label_key(key).ok_or_else(fail)?)),
        None => Ok(Requirement::Exists(label_key(part).ok_or_else(fail)?)),
    }
}

/// A value, in Kubernetes' words when there is an operator where one should stand.
fn label_value(text: &str) -> Result<String, SelectorError> {
    let value = text.trim();
    match value.chars().find(|c| !is_of_label(*c)) {
        Some(found) => {
            let text =
                format!("unable to parse requirement: found '{found}', expected: identifier");
            Err(SelectorError(text))
        }
        None => Ok(value.to_owned()),
    }
}

fn is_of_label(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')
}

fn label_key(text: &str) -> Option<String> {
    let key = text.trim();
    (!key.is_empty() && key.chars().all(is_of_label)).then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, labels: &[(&str, &str)], expect: bool) {
        let labels: Labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert_eq!(Selector::parse(selector).unwrap().matches(Some(&labels)), expect, "{selector}");
    }

    #[test]
    fn every_form_of_kubectl() {
        let web = &[("app", "web"), ("tier", "front")][..];
        check("app=web", web, true);
        check("app==web,tier=front", web, true);
        check("app=db", web, false);
        check("app!=db", web, true);
        check("none!=x", web, true);
        check("app in (db, web)", web, true);
        check("app notin (db,web)", web, false);
        check("app", web, true);
        check("!app", web, false);
        check("!none", web, true);
        check("", web, true);
        let numbered = &[("n", "5"), ("text", "x")][..];
        check("n>4", numbered, true);
        check("n<5", numbered, false);
        check("text>1", numbered, false);
        check("none<1", numbered, false);
        check("none in ()", web, false);
        check("none!=", web, true);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for bad in ["=x", "a b", "app in web", "app foo (x)", "!", "a in (x", "n>x"] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
        let told = Selector::parse("odd===").unwrap_err().to_string();
        assert_eq!(told, "unable to parse requirement: found '=', expected: identifier");
    }
}
