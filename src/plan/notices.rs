//! Which receivers still have to hear of which commits (docs/adr/0026-notices.md).

use crate::{
    kinds::NoticeKind,
    model::{CommitName, Timestamp},
    state::{Command, Notice, OutboxItem, View},
};

/// Most notices that wait for one receiver; beyond it the oldest is given up. A cluster makes a
/// handful for each commit.
const WAITING_MAX: usize = 1000;

/// Most characters of a message that is carried along.
const MESSAGE_CHARS_MAX: usize = 500;

/// One who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hearer {
    /// Its name in the servers' configuration.
    pub name: String,
    /// Whose words it understands.
    pub kind: NoticeKind,
}

impl Hearer {
    /// Whether it is told of a commit: a host that sets statuses knows one repository, which is the
    /// main source's.
    fn hears(&self, commit: &CommitName) -> bool {
        commit.is_main() || matches!(self.kind, NoticeKind::Webhook | NoticeKind::Slack)
    }
}

/// What has to be put into the outbox for commits whose notes are due, and what is given up because
/// a receiver takes nothing or is no longer there.
pub fn notices(
    view: &View,
    receivers: &[Hearer],
    notes: &[(u64, CommitName)],
    now: Timestamp,
) -> Vec<Command> {
    let unknown = view.outbox().filter_map(|(id, item)| match item {
        OutboxItem::Notice(notice) if receivers.iter().all(|to| to.name != notice.to) => {
            Some(Command::Done(id))
        }
        _ => None,
    });
    let mut commands: Vec<Command> = unknown.collect();
    for to in receivers {
        let waiting: Vec<u64> = view.due_notices(&to.name).map(|(id, _)| id).collect();
        let surplus = (waiting.len() + notes.len()).saturating_sub(WAITING_MAX);
        commands.extend(waiting.into_iter().take(surplus).map(Command::Done));
        let heard = notes.iter().filter(|(_, commit)| to.hears(commit));
        let all = heard.filter_map(|note| of_commit(view, &to.name, note, now));
        commands.extend(all.map(|notice| Command::Enqueue(OutboxItem::Notice(notice))));
    }
    commands
}

fn of_commit(
    view: &View,
    to: &str,
    (note, commit): &(u64, CommitName),
    now: Timestamp,
) -> Option<Notice> {
    let status = &view.commit(commit)?.status;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CommitId, MAIN_SOURCE};

    /// What must not happen: the status of a team's commit at a host that does not have it.
    #[test]
    fn hosts_hear_of_the_main_source_and_chats_of_all() {
        let id = CommitId::parse(&"a".repeat(40)).unwrap();
        let hears = |kind, source| {
            let to = Hearer { name: "x".to_owned(), kind };
            to.hears(&CommitName::new(source, &id))
        };
        for host in [NoticeKind::Github, NoticeKind::Gitlab, NoticeKind::Gitea] {
            assert_eq!([hears(host, MAIN_SOURCE), hears(host, "team")], [true, false], "{host:?}");
        }
        for chat in [NoticeKind::Webhook, NoticeKind::Slack] {
            assert_eq!([hears(chat, MAIN_SOURCE), hears(chat, "team")], [true, true], "{chat:?}");
        }
    }
}
