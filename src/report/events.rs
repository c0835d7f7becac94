//! What happened lately, in Kubernetes' words.

use k8s_openapi::api::core::v1::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{model::Timestamp, state::View};

/// One line of `mainstay events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventLine {
    /// When it last happened (RFC 3339).
    pub last: String,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub type_: String,
    /// One word.
    pub reason: String,
    /// `Pod shop/web-1`
    pub object: String,
    /// How often it happened.
    pub count: u64,
    /// One sentence.
    pub message: String,
}

/// The events of one namespace, or of all; the latest last, as `kubectl events` has them.
pub fn events(view: &View, namespace: Option<&str>) -> Vec<EventLine> {
    let mut found: Vec<(Option<Timestamp>, EventLine)> =
        view.list::<Event>(namespace).map(|(_, event)| (at(event), line(event))).collect();
    found.sort_by(|a, b| (a.0, &a.1.object).cmp(&(b.0, &b.1.object)));
    found.into_iter().map(|(_, line)| line).collect()
}

fn at(event: &Event) -> Option<Timestamp> {
    let last = event.last_timestamp.as_ref().map(Timestamp::from);
    last.or_else(|| event.event_time.as_ref().map(Timestamp::from))
}

fn line(event: &Event) -> EventLine {
    let about = &event.involved_object;
    let (kind, name) = (about.kind.as_deref(), about.name.as_deref());
    let name = match about.namespace.as_deref() {
        Some(namespace) if !namespace.is_empty() => {
            format!("{namespace}/{}", name.unwrap_or_default())
        }
        _ => name.unwrap_or_default().to_owned(),
    };
    EventLine {
        last: at(event).map(|at| at.to_string()).unwrap_or_default(),
        type_: event.type_.clone().unwrap_or_default(),
        reason: event.reason.clone().unwrap_or_default(),
        object: format!("{} {name}", kind.unwrap_or_default()),
        count: u64::try_from(event.count.unwrap_or(1)).unwrap_or(1),
        message: event.message.clone().unwrap_or_default(),
    }
}
