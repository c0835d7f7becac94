//! What others are told of a commit: the statuses of Git hosts, and webhooks. From values to the
//! parts of a request; who sends it adds the credentials.

use serde_json::{Value, json};

use super::history::state_word;
use crate::{
    kinds::{CommitState, NoticeKind},
    state::{Notice, View},
};

/// Most characters of a status's description at GitHub; the others take more.
const DESCRIPTION_CHARS_MAX: usize = 140;

/// Most problems that a webhook carries; the note has them all.
const PROBLEMS_MAX: usize = 20;

/// A `POST` without its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeRequest {
    /// Behind the receiver's address.
    pub path: String,
    /// The JSON body.
    pub body: String,
}

/// What a receiver is told. `context` names us among others who set statuses.
pub fn notice(view: &View, kind: NoticeKind, context: &str, notice: &Notice) -> NoticeRequest {
    let status = format!("/statuses/{}", notice.commit.id);
    let description = described(notice);
    let (path, body) = match kind {
        NoticeKind::Github => {
            let state = github(notice.state);
            (status, json!({ "state": state, "context": context, "description": description }))
        }
        NoticeKind::Gitea => {
            let state = gitea(notice.state);
            (status, json!({ "state": state, "context": context, "description": description }))
        }
        NoticeKind::Gitlab => {
            let state = gitlab(notice.state);
            (status, json!({ "state": state, "name": context, "description": description }))
        }
        NoticeKind::Webhook => (String::new(), event(view, notice)),
        NoticeKind::Slack => (String::new(), json!({ "text": line(view, notice) })),
    };
    NoticeRequest { path, body: body.to_string() }
}

/// The same for each try of one delivery, whoever leads, so that a receiver can leave out what it
/// has.
pub fn notice_id(view: &View, notice: &Notice) -> String {
    let cluster = view.config().map(|config| config.cluster_id.as_str()).unwrap_or_default();
    format!("{cluster}-{}-{}", notice.commit.id.short(), notice.note)
}

fn github(state: CommitState) -> &'static str {
    match state {
        CommitState::Admitted | CommitState::Progressing | CommitState::Held => "pending",
        CommitState::Healthy => "success",
        CommitState::Degraded => "failure",
        CommitState::Refused | CommitState::Superseded => "error",
    }
}

fn gitea(state: CommitState) -> &'static str {
    match state {
        CommitState::Superseded => "warning",
        other => github(other),
    }
}

fn gitlab(state: CommitState) -> &'static str {
    match state {
        CommitState::Held => "pending",
        CommitState::Admitted | CommitState::Progressing => "running",
        CommitState::Healthy => "success",
        CommitState::Degraded | CommitState::Refused => "failed",
        CommitState::Superseded => "canceled",
    }
}

/// `Degraded: Deployment shop/web: 1 of 2 pods are available`, as far as it fits.
fn described(notice: &Notice) -> String {
    let word = state_word(notice.state);
    let text = match notice.message.is_empty() {
        true => word.to_owned(),
        false => format!("{word}: {}", notice.message),
    };
    match text.char_indices().nth(DESCRIPTION_CHARS_MAX - 1) {
        Some((end, _)) if text.chars().count() > DESCRIPTION_CHARS_MAX => {
            format!("{}…", &text[..end])
        }
        _ => text,
    }
}

fn event(view: &View, notice: &Notice) -> Value {
    let commit = view.commit(&notice.commit).cloned().unwrap_or_default();
    let problems: Vec<String> =
        commit.status.problems.iter().take(PROBLEMS_MAX).map(ToString::to_string).collect();
    json!({
        "delivery": notice_id(view, notice),
        "cluster": view.config().map(|config| config.cluster_id.clone()),
        "source": notice.commit.source,
        "commit": notice.commit.id.as_str(),
        "subject": commit.spec.subject,
        "author": commit.spec.author,
        "state": state_word(notice.state),
        "reason": notice.reason,
        "message": notice.message,
        "problems": problems,
        "at": notice.at.to_string(),
    })
}

/// One line for a chat. What would be a link or a mention there is text.
fn line(view: &View, notice: &Notice) -> String {
    let commit = view.commit(&notice.commit).cloned().unwrap_or_default();
    let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let (word, id) = (state_word(notice.state), notice.commit.short());
    let (subject, author) = (safe(&commit.spec.subject), safe(&commit.spec.author));
    let message = match notice.message.is_empty() {
        true => String::new(),
        false => format!(": {}", safe(&notice.message)),
    };
    format!("*{word}* {id} “{subject}” by {author}{message}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::{
        model::{CommitName, Timestamp},
        report::fixture::{Cluster, FIRST},
    };

    fn told(state: CommitState, message: &str) -> Notice {
        Notice {
            to: "x".into(),
            commit: CommitName::parse(FIRST).unwrap(),
            note: 7,
            state,
            reason: "Reason".into(),
            message: message.into(),
            at: Timestamp(1_795_219_200_000),
        }
    }

    #[test]
    fn each_host_hears_its_own_words() {
        let cluster = Cluster::web();
        let mut text = String::new();
        for state in [
            CommitState::Admitted,
            CommitState::Progressing,
            CommitState::Healthy,
            CommitState::Degraded,
            CommitState::Refused,
            CommitState::Superseded,
            CommitState::Held,
        ] {
            text += &format!("{} {} {}\n", github(state), gitlab(state), gitea(state));
        }
        for kind in [
            NoticeKind::Github,
            NoticeKind::Gitlab,
            NoticeKind::Gitea,
            NoticeKind::Webhook,
            NoticeKind::Slack,
        ] {
            let notice = told(CommitState::Degraded, "pod <web-1> & co");
            let request = super::notice(cluster.state.view(), kind, "mainstay/prod", &notice);
            text += &format!("{} {}\n", request.path, request.body);
        }
        expect![[r#"
            pending running pending
            pending running pending
            success success success
            failure failed failure
            error failed error
            error canceled warning
            pending pending pending
            /statuses/9f8e7d6000000000000000000000000000000001 {"context":"mainstay/prod","description":"Degraded: pod <web-1> & co","state":"failure"}
            /statuses/9f8e7d6000000000000000000000000000000001 {"description":"Degraded: pod <web-1> & co","name":"mainstay/prod","state":"failed"}
            /statuses/9f8e7d6000000000000000000000000000000001 {"context":"mainstay/prod","description":"Degraded: pod <web-1> & co","state":"failure"}
             {"at":"2026-11-21T00:00:00Z","author":"Ada","cluster":"test","commit":"9f8e7d6000000000000000000000000000000001","delivery":"test-9f8e7d6-7","message":"pod <web-1> & co","problems":[],"reason":"Reason","source":"main","state":"Degraded","subject":"web: change 9"}
             {"text":"*Degraded* 9f8e7d6 “web: change 9” by Ada: pod &lt;web-1&gt; &amp; co"}
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn a_description_fits() {
        assert_eq!(described(&told(CommitState::Healthy, "")), "Healthy");
        let long = described(&told(CommitState::Degraded, &"é".repeat(500)));
        assert_eq!(long.chars().count(), DESCRIPTION_CHARS_MAX);
        assert!(long.ends_with('…'));
        let just = "x".repeat(DESCRIPTION_CHARS_MAX - "Degraded: ".len());
        assert!(described(&told(CommitState::Degraded, &just)).ends_with('x'));
    }
}
