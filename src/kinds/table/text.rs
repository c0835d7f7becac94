//! Texts that several tables share.

use k8s_openapi::{
    api::core::v1::{Container, PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde_json::Value;

use crate::model::{Labels, Object};

/// What stands where there is nothing.
pub(super) const NONE: &str = "<none>";

/// The name of an object.
pub(super) fn name(object: &Object) -> Value {
    object.meta().name.as_deref().unwrap_or_default().into()
}

/// Texts with a comma between them, or `<none>`.
pub(super) fn joined<T: AsRef<str>>(texts: &[T]) -> String {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    if texts.is_empty() { NONE.to_owned() } else { texts.join(",") }
}

/// The first `most` texts with `between` between them, and how many more there are.
pub(super) fn first(texts: &[String], most: usize, between: &str) -> String {
    let (shown, more) = texts.split_at(texts.len().min(most));
    let shown = shown.join(between);
    if more.is_empty() { shown } else { format!("{shown} + {} more...", more.len()) }
}

/// A text that may be absent or empty, which is `<none>`.
pub(super) fn or_none(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty()).unwrap_or(NONE).to_owned()
}

/// `a=b,c=d`, or `<none>`.
pub(super) fn labels(labels: Option<&Labels>) -> String {
    let pairs: Vec<String> =
        labels.into_iter().flatten().map(|(k, v)| format!("{k}={v}")).collect();
    joined(&pairs)
}

/// `app=web,tier in (back,front),!old`, sorted by key, or `<none>`.
pub(super) fn selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return NONE.to_owned() };
    let equal = selector.match_labels.iter().flatten().map(|(k, v)| (k, format!("{k}={v}")));
    let other = selector.match_expressions.iter().flatten().map(|e| {
        let mut values = e.values.clone().unwrap_or_default();
        values.sort_unstable();
        let values = values.join(",");
        let text = match e.operator.as_str() {
            "In" => format!("{} in ({values})", e.key),
            "NotIn" => format!("{} notin ({values})", e.key),
            "DoesNotExist" => format!("!{}", e.key),
            _ => e.key.clone(),
        };
        (&e.key, text)
    });
    let mut all: Vec<(&String, String)> = equal.chain(other).collect();
    all.sort_by(|a, b| a.0.cmp(b.0));
    joined(&all.into_iter().map(|(_, text)| text).collect::<Vec<_>>())
}

/// The names of the containers of a template, and their images.
pub(super) fn template(template: Option<&PodTemplateSpec>) -> [Value; 2] {
    let containers = template.and_then(|t| t.spec.as_ref()).map(|s| s.containers.as_slice());
    let containers = containers.unwrap_or_default();
    let list = |text: fn(&Container) -> &str| -> Value {
        containers.iter().map(text).collect::<Vec<_>>().join(",").into()
    };
    [list(|c| &c.name), list(|c| c.image.as_deref().unwrap_or_default())]
}

/// A number or a share, as it was written.
pub(super) fn share(share: &IntOrString) -> String {
    match share {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}
