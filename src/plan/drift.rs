//! What is gone though Git says it: found at once, made again as the running commit says, noted.
//!
//! Only a few ways lead around Git: a Pod that is written there may be deleted or evicted, an owner
//! that Git does not know may take along what it owns, and a namespace ends with all that is in it.
//! Fields that others own (status, addresses, autoscalers) are no drift; nothing here looks at
//! them (docs/adr/0028-drift.md).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Event, Namespace};

use super::admission::rank;
use crate::{
    model::{Key, Object, ObjectError},
    state::{Command, DELETED, Desired, ENTRY_BYTES_MAX, Expect, NewEvent, Op, Part, View},
};

/// The word of the event.
pub const CORRECTED: &str = "DriftCorrected";

/// The objects of a source that are gone and can be made again: nothing of them is still ending,
/// and their namespace is there or comes back with them.
pub fn gone(view: &View, source: &str) -> BTreeSet<Key> {
    let is_gone = |key: &Key| view.object(key).is_none() && view.origin_in(source, key).is_some();
    let gone: BTreeSet<Key> = view.drifted().filter(|key| is_gone(key)).cloned().collect();
    let has_place = |key: &&Key| {
        let namespace = Key::of::<Namespace>("", &key.namespace);
        let stays = |namespace: &Object| !namespace.is_terminating();
        key.namespace.is_empty()
            || gone.contains(&namespace)
            || view.object(&namespace).is_some_and(stays)
    };
    gone.iter().filter(has_place).cloned().collect()
}

/// The commands that make the objects again, of those that the running commit asks for.
pub fn put_back(wanted: &[Desired], gone: &BTreeSet<Key>) -> Result<Vec<Command>, ObjectError> {
    let mut wanted: Vec<&Desired> =
        wanted.iter().filter(|desired| gone.contains(desired.object.key())).collect();
    wanted.sort_by_key(|desired| rank(&desired.object));
    let (mut commands, mut bytes) = (vec![Vec::new()], 0);
    for desired in wanted {
        let object = Object::from_value(&desired.stored())?;
        bytes += object.bytes().len();
        if bytes > ENTRY_BYTES_MAX / 2 {
            commands.push(Vec::new());
            bytes = object.bytes().len();
        }
        if let Some(last) = commands.last_mut() {
            last.push(Op::Put { object, expect: Expect::Absent, part: Part::Main });
        }
    }
    Ok(commands.into_iter().filter(|ops| !ops.is_empty()).map(Command::Write).collect())
}

/// Who deleted an object last, when that was somebody who asked the API for it.
fn deleted_by<'a>(view: &'a View, key: &Key) -> Option<&'a str> {
    let namespace = if key.namespace.is_empty() { "default" } else { &key.namespace };
    let about = |event: &&Event| {
        let object = &event.involved_object;
        event.reason.as_deref() == Some(DELETED)
            && object.kind.as_deref() == Some(key.kind.kind.as_str())
            && object.name.as_deref() == Some(key.name.as_str())
    };
    let events = view.list::<Event>(Some(namespace)).map(|(_, event)| event).filter(about);
    let last = events.max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    last?.source.as_ref()?.component.as_deref()
}

/// The command that notes what was made again, with the place that says it.
pub fn note(view: &View, gone: &BTreeSet<Key>) -> Option<Command> {
    let event = |key: &Key| {
        let (object, origin) = (view.object(key)?, view.origin(key)?);
        let who = deleted_by(view, key).map(|who| format!(" by {who}")).unwrap_or_default();
        let message = format!(
            "it was deleted behind Git's back{who}, and made again as {} of commit {} says it",
            origin.place(),
            origin.commit.short()
        );
        Some(Op::Event(NewEvent {
            regarding: key.clone(),
            uid: object.uid().to_owned(),
            warning: true,
            reason: CORRECTED.to_owned(),
            message,
            source: "drift-controller".to_owned(),
        }))
    };
    let events: Vec<Op> = gone.iter().filter_map(event).collect();
    (!events.is_empty()).then_some(Command::Write(events))
}
