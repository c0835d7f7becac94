//! Which receivers still have to hear of which commits (docs/adr/0026-notices.md).

use crate::{
    kinds::Commit,
    model::{CommitId, Key, Timestamp},
    state::{Command, Notice, OutboxItem, View},
};

/// Most notices that wait for one receiver; beyond it the oldest is given up. A cluster makes a
/// handful for each commit.
const WAITING_MAX: usize = 1000;

/// Most characters of a message that is carried along.
const MESSAGE_CHARS_MAX: usize = 500;

/// What has to be put into the outbox for commits whose notes are due, and what is given up because
/// a receiver takes nothing or is no longer there.
pub fn notices(
    view: &View,
    receivers: &[String],
    notes: &[(u64, CommitId)],
    now: Timestamp,
) -> Vec<Command> {
    let unknown = view.outbox().filter_map(|(id, item)| match item {
        OutboxItem::Notice(notice) if !receivers.contains(&notice.to) => Some(Command::Done(id)),
        _ => None,
    });
    let mut commands: Vec<Command> = unknown.collect();
    for to in receivers {
        let waiting: Vec<u64> = view.due_notices(to).map(|(id, _)| id).collect();
        let surplus = (waiting.len() + notes.len()).saturating_sub(WAITING_MAX);
        commands.extend(waiting.into_iter().take(surplus).map(Command::Done));
        let all = notes.iter().filter_map(|note| of_commit(view, to, note, now));
        commands.extend(all.map(|notice| Command::Enqueue(OutboxItem::Notice(notice))));
    }
    commands
}

fn of_commit(
    view: &View,
    to: &str,
    (note, commit): &(u64, CommitId),
    now: Timestamp,
) -> Option<Notice> {
    let object = view.object(&Key::of::<Commit>("", commit.as_str()))?;
    let status = &object.view::<Commit>()?.status;
    Some(Notice {
        to: to.to_owned(),
        commit: commit.clone(),
        note: *note,
        state: status.state,
        reason: status.reason.clone(),
        message: status.message.chars().take(MESSAGE_CHARS_MAX).collect(),
        at: now,
    })
}
