//! A write through the API as a commit: on the leader, one after the other.
//!
//! The file is edited at the commit that runs, and the push only succeeds on top of it. When the
//! branch has moved, what is new there is admitted first and the same wish is made on it, so fields
//! that others changed stay as they made them (docs/adr/0021-writes-become-commits.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::timeout;

use super::{
    clock, export,
    import::{Error, Importer},
    known::Known,
};
use crate::{
    api::{Uncommitted, Wish},
    git::{self, Message, Person},
    kinds::{Commit, CommitSpec, CommitState, Freeze, GitSourceSpec},
    model::{CommitId, Key, Object, Problem},
    plan::{
        admission::{self, Facts},
        freeze,
    },
    render::{
        self,
        edit::{self, Delta, Repository, Rewritten},
    },
    state::{MAIN_SOURCE, Origin, View},
};

/// How often a wish is made anew because the branch moved: each time it takes somebody who pushes
/// in the moment between our fetch and our push.
const TRIES_MAX: usize = 10;

/// Most writes that wait for each other: at some 50 ms each, what waits longest is done in time.
pub(super) const WAITING_MAX: usize = 256;

/// How long a write waits for those before it. Half of what a request may take, so that who asked
/// still hears why.
const WAIT_SECONDS_MAX: u64 = 30;

/// How long a push may take, from connecting to the last byte.
const PUSH_SECONDS_MAX: u64 = 30;

/// How long this server's View may take to show what its own log applied.
const SHOWN_SECONDS_MAX: u64 = 10;

/// Most characters of the first line of a commit: what `git log --oneline` shows whole.
const SUBJECT_CHARS_MAX: usize = 72;

/// What a push came to.
enum Push {
    /// It is on the branch.
    Done(CommitId),
    /// The files say it already.
    Nothing,
    /// The branch stands elsewhere.
    Moved,
}

impl Importer {
    /// Makes a wish come true by a commit and admits it. Leader only.
    pub(super) async fn commit(&self, wish: Wish) -> Result<CommitId, Uncommitted> {
        self.may_write()?;
        let _place = self.waiting.try_acquire().map_err(|_| not_now("too many writes wait"))?;
        let wait = Duration::from_secs(WAIT_SECONDS_MAX);
        let turn = timeout(wait, self.turn.lock()).await;
        let _turn = turn.map_err(|_| not_now("those before it, or the remote, took too long"))?;
        for tried in 0..TRIES_MAX {
            if tried > 0 || self.store.view().head().is_none() {
                self.look().await.map_err(unavailable)?;
            }
            let view = self.store.view();
            let head = view.head().map(|head| head.commit.clone());
            let head = head.ok_or_else(|| not_now("nothing was admitted from Git yet"))?;
            let base = self.base(&view, head, &wish).await?;
            if tried > 0 {
                self.is_admitted(&view, &base).await?;
            }
            match self.push(view, base.clone(), wish.clone()).await? {
                Push::Nothing => return Ok(base),
                Push::Moved => {}
                Push::Done(commit) => return self.admit(commit).await,
            }
        }
        Err(not_now("the branch keeps moving: try again"))
    }

    /// Refuses where a commit of ours would be refused for its signature.
    fn may_write(&self) -> Result<(), Uncommitted> {
        let refused = |why: &str| Err(Uncommitted::Forbidden(why.to_owned()));
        match &self.spec.verify {
            Some(verify) if verify.approval => {
                refused("every change needs the approval of another person: commit it")
            }
            Some(_) if !self.mirror.signs() => refused(
                "every commit has to be signed, and the servers have no key: set \
                 source.signingKeyFile, or commit it",
            ),
            _ => Ok(()),
        }
    }

    /// The commit on which a wish is made: what runs, but a freeze is prolonged or ended on the
    /// newest one, which may be held by it.
    async fn base(
        &self,
        view: &View,
        head: CommitId,
        wish: &Wish,
    ) -> Result<CommitId, Uncommitted> {
        if !wish.key.is::<Freeze>() {
            return Ok(head);
        }
        Ok(self.tip().await?.filter(|tip| is_held(view, tip)).unwrap_or(head))
    }

    async fn tip(&self) -> Result<Option<CommitId>, Uncommitted> {
        let mirror = self.mirror.clone();
        let tip = tokio::task::spawn_blocking(move || mirror.tip()).await;
        tip.map_err(|e| not_now(&e.to_string()))?.map_err(|e| of_git(&e))
    }

    /// Refuses while the tip of the branch is one that was refused or is held: a commit on top of
    /// it would be, too.
    async fn is_admitted(&self, view: &View, base: &CommitId) -> Result<(), Uncommitted> {
        let Some(tip) = self.tip().await?.filter(|tip| tip != base) else { return Ok(()) };
        let known = view.get::<Commit>("", tip.as_str());
        if let Some(hold) =
            known.and_then(|c| c.status.hold.as_ref()).filter(|_| is_held(view, &tip))
        {
            let why = format!("commit {} is the newest, and {}", tip.short(), freeze::words(hold));
            return Err(Uncommitted::Forbidden(why));
        }
        let mut problems = known.map(|c| c.status.problems.clone()).unwrap_or_default();
        let message =
            format!("commit {} is the newest and does not run: mend that first", tip.short());
        problems.insert(0, Problem { message, ..Problem::default() });
        Err(Uncommitted::Refused(problems))
    }

    async fn admit(&self, commit: CommitId) -> Result<CommitId, Uncommitted> {
        self.consider(&commit).await.map_err(unavailable)?;
        let is_head = |view: &View| {
            view.head().is_some_and(|head| head.commit == commit) || is_held(view, &commit)
        };
        let view = self.store.view();
        let refused = view.get::<Commit>("", commit.as_str()).filter(|_| !is_head(&view));
        if let Some(refused) = refused.filter(|c| !c.status.problems.is_empty()) {
            return Err(Uncommitted::Refused(refused.status.problems.clone()));
        }
        let mut views = self.store.views();
        let limit = Duration::from_secs(SHOWN_SECONDS_MAX);
        match timeout(limit, views.wait_for(is_head)).await {
            Ok(Ok(_)) => Ok(commit.clone()),
            _ => Err(not_now(&format!("commit {} is pushed and not admitted yet", commit.short()))),
        }
    }

    /// Edits, proves and pushes on a thread that may wait.
    async fn push(&self, view: View, head: CommitId, wish: Wish) -> Result<Push, Uncommitted> {
        let (mirror, shared, spec) = (self.mirror.clone(), self.known.clone(), self.spec.clone());
        let keyring = self.keyring.clone();
        let work = move || {
            let before = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            let known = Known::read(&mirror, &head, &spec.path, before, &keyring);
            let known = known.map_err(unavailable)?;
            let reader = mirror.reader().map_err(|e| of_git(&e))?;
            let message = message(&wish, &view);
            let made = rewritten(&reader, &known, &view, &spec, &wish, &message)?;
            let changes = BTreeMap::from([(made.path, made.bytes)]);
            let within = Duration::from_secs(PUSH_SECONDS_MAX);
            let author = author(&wish.author);
            let pushed = mirror.change(&head, &changes, &message, &author, &export::us(), within);
            match pushed {
                Ok(pushed) if pushed.attempts == 0 => Ok(Push::Nothing),
                Ok(pushed) => Ok(Push::Done(pushed.commit)),
                Err(git::Error::Moved { .. }) => Ok(Push::Moved),
                Err(error) => Err(of_git(&error)),
            }
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| not_now(&e.to_string()))?
    }
}

/// The file with the wish, proven to mean nothing else and to be admitted.
fn rewritten(
    reader: &git::Reader,
    known: &Known,
    view: &View,
    spec: &GitSourceSpec,
    wish: &Wish,
    message: &Message,
) -> Result<Rewritten, Uncommitted> {
    let kinds = admission::kinds(view, MAIN_SOURCE, known.picture());
    let picture = known.picture().with_custom(&kinds, &mut BTreeSet::new());
    let now = picture.object(&wish.key).map(|found| found.object);
    let change = change(wish, now.as_ref(), view)?;
    let options = admission::options(view, MAIN_SOURCE);
    let repository = Repository {
        picture: known.picture(),
        options: &options,
        kinds: &kinds,
        root: &spec.path,
        read: &|path| reader.read_path(known.commit(), path).ok().flatten(),
        is_wanted: &|path| known.is_wanted(path),
    };
    let made = edit::rewrite(&repository, &wish.key, &change)
        .map_err(|problem| Uncommitted::Refused(vec![problem]))?;
    let facts = Facts {
        commit: known.commit().clone(),
        spec: CommitSpec { source: MAIN_SOURCE.to_owned(), ..CommitSpec::default() },
        trailers: message.trailers.clone(),
        seen_at: clock::now(),
    };
    let suspects = std::iter::once(wish.key.clone()).collect();
    let candidate =
        admission::candidate(view, spec, facts, &made.picture, Some(&suspects), Vec::new());
    match (candidate.problems.is_empty(), candidate.held) {
        (false, _) => Err(Uncommitted::Refused(candidate.problems)),
        (_, Some(hold)) if !wish.key.is::<Freeze>() => {
            Err(Uncommitted::Forbidden(freeze::words(&hold)))
        }
        _ => Ok(made),
    }
}

fn is_held(view: &View, commit: &CommitId) -> bool {
    let known = view.get::<Commit>("", commit.as_str());
    known.is_some_and(|known| known.status.state == CommitState::Held)
}

/// What is wanted, made to fit what the object is now; a conflict when a commit changed the same.
fn change(wish: &Wish, now: Option<&Object>, view: &View) -> Result<edit::Wish, Uncommitted> {
    let (before, after) = match (&wish.before, &wish.after) {
        (None, Some(after)) if now.is_none() => return Ok(edit::Wish::Create(after.clone())),
        (None, Some(_)) => return Err(Uncommitted::Exists),
        // Made through the API before its namespace belonged to Git: it moves there.
        (Some(_), Some(after)) if now.is_none() && view.origin(&wish.key).is_none() => {
            return Ok(edit::Wish::Create(after.clone()));
        }
        (_, None) => return now.map(|_| edit::Wish::Delete).ok_or(Uncommitted::Gone),
        (Some(before), Some(after)) => (before, after),
    };
    let mut now = now.ok_or(Uncommitted::Gone)?.value();
    let delta = Delta::between(before, after);
    if let Some(origin) = view.origin(&wish.key).filter(|origin| origin.open) {
        let scaled = after["spec"]["replicas"] != before["spec"]["replicas"];
        if scaled && after["spec"]["replicas"] == now["spec"]["replicas"] {
            return Err(Uncommitted::Refused(vec![left_open(origin, after)]));
        }
        now["spec"]["replicas"] = before["spec"]["replicas"].clone();
    }
    match delta.conflicts(Some(before), Some(&with_rest(&now, before))) {
        fields if fields.is_empty() => Ok(edit::Wish::Change(delta)),
        fields => Err(Uncommitted::Conflict { fields, other: last_author(view, &wish.key) }),
    }
}

/// That a number which a file leaves open cannot be set by leaving it out.
fn left_open(origin: &Origin, after: &serde_json::Value) -> Problem {
    let message = format!(
        "it leaves the number of replicas to whoever scales it while it runs: write `replicas: {}` \
         there to set it",
        after["spec"]["replicas"]
    );
    Problem { file: origin.file.clone(), line: origin.line, message, ..Problem::default() }
}

/// What Git says now, with what the cluster added to the object that the writer saw: addresses and
/// the like are no change of anybody.
fn with_rest(now: &serde_json::Value, before: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            let mut whole = now.clone();
            for (key, value) in before {
                match now.get(key) {
                    Some(now) => whole.insert(key.clone(), with_rest(now, value)),
                    None => whole.insert(key.clone(), value.clone()),
                };
            }
            Value::Object(whole)
        }
        (now, _) => now.clone(),
    }
}

/// Who changed an object last, and in which commit.
fn last_author(view: &View, key: &Key) -> String {
    let Some(origin) = view.origin(key) else { return "another commit".to_owned() };
    let commit = view.get::<Commit>("", origin.commit.as_str());
    let author = commit.map_or("somebody", |commit| commit.spec.author.as_str());
    format!("{author} (commit {})", origin.commit.short())
}

/// The words of the commit.
fn message(wish: &Wish, view: &View) -> Message {
    let mut trailers = vec![("Via".to_owned(), wish.via.clone())];
    let subject = match (&wish.before, &wish.after) {
        (None, _) => format!("Create {}", wish.key),
        (_, None) => {
            // Somebody said exactly what shall go; the proof shows that nothing else does.
            trailers.push((render::TRAILER.to_owned(), "yes".to_owned()));
            format!("Delete {}", wish.key)
        }
        (Some(_), Some(_)) if view.origin(&wish.key).is_none() => format!("Adopt {}", wish.key),
        (Some(before), Some(after)) => {
            let fields = Delta::between(before, after).fields();
            format!("Change {}: {}", wish.key, fields.join(", "))
        }
    };
    // Names inside an object may hold anything; in a commit they are words of one line.
    let subject = subject.split_whitespace().collect::<Vec<_>>().join(" ");
    if subject.chars().count() <= SUBJECT_CHARS_MAX {
        return Message { subject, body: String::new(), trailers };
    }
    let short: String = subject.chars().take(SUBJECT_CHARS_MAX - 1).collect();
    Message { subject: format!("{short}…"), body: subject, trailers }
}

/// A user as an author. What would end a name in Git is left out.
fn author(user: &str) -> Person {
    let safe = |c: &char| !c.is_control() && !"<>".contains(*c);
    let name: String = user.chars().filter(safe).collect();
    let name = if name.trim().is_empty() { "unknown".to_owned() } else { name };
    let word = |c: char| if c.is_ascii_alphanumeric() || "._-+@".contains(c) { c } else { '.' };
    let email: String = name.chars().map(word).collect();
    let email = if email.contains('@') { email } else { format!("{email}@mainstay") };
    Person { name, email, at: clock::now() }
}

fn not_now(why: &str) -> Uncommitted {
    Uncommitted::Unavailable(why.to_owned())
}

fn unavailable(error: Error) -> Uncommitted {
    match &error {
        Error::Git(error) => of_git(error),
        other => not_now(&other.to_string()),
    }
}

/// What a remote's answer means to whoever writes.
fn of_git(error: &git::Error) -> Uncommitted {
    match error {
        git::Error::Rejected { .. } | git::Error::Denied { .. } | git::Error::Reference { .. } => {
            Uncommitted::Forbidden(error.to_string())
        }
        other => not_now(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::Value;

    use super::*;
    use crate::report::fixture::{Cluster, FIRST, SECOND};

    /// The wish of somebody who saw the first commit, when the second one runs, which has five
    /// replicas of `web:1`.
    fn check(change: impl Fn(&mut Value), expected: Expect) {
        let mut cluster = Cluster::web();
        let key = Key::parse("Deployment.apps/shop/web").unwrap();
        let before = cluster.state.view().object(&key).unwrap().value();
        cluster.adopt(SECOND, Some(FIRST), 5, "web:1");
        let view = cluster.state.view();
        let mut after = before.clone();
        change(&mut after);
        let wish = Wish {
            key: key.clone(),
            before: Some(before),
            after: Some(after).filter(|after| !after.is_null()),
            author: "ada".to_owned(),
            via: "kubectl/v1.33.2 (patch)".to_owned(),
        };
        let text = match super::change(&wish, view.object(&key), view) {
            Ok(edit::Wish::Change(delta)) => {
                let now = view.object(&key).unwrap().value();
                let next = delta.apply(Some(&now)).unwrap();
                let containers = &next["spec"]["template"]["spec"]["containers"];
                format!("{} of {}", next["spec"]["replicas"], containers[0]["image"])
            }
            other => format!("{other:?}"),
        };
        let message = message(&wish, view);
        expected.assert_eq(&format!("{text}\n{}", message.render()));
    }

    /// What must not happen: a write that undoes what somebody pushed, or is refused for what
    /// nobody else touched.
    #[test]
    fn a_write_is_made_on_what_was_pushed_meanwhile_field_by_field() {
        let image = |v: &mut Value| {
            v["spec"]["template"]["spec"]["containers"][0]["image"] = "web:9".into();
        };
        check(
            image,
            expect![[r#"
            5 of "web:9"
            Change Deployment shop/web: spec.template.spec.containers[web].image

            Via: kubectl/v1.33.2 (patch)
        "#]],
        );
        check(
            |v| v["spec"]["replicas"] = 5.into(),
            expect![[r#"
            5 of "web:1"
            Change Deployment shop/web: spec.replicas

            Via: kubectl/v1.33.2 (patch)
        "#]],
        );
        check(
            |v| v["spec"]["replicas"] = 7.into(),
            expect![[r#"
            Err(Conflict { fields: ["spec.replicas"], other: "Ada (commit 1a2b3c4)" })
            Change Deployment shop/web: spec.replicas

            Via: kubectl/v1.33.2 (patch)
        "#]],
        );
        check(
            |v| *v = Value::Null,
            expect![[r#"
            Ok(Delete)
            Delete Deployment shop/web

            Via: kubectl/v1.33.2 (patch)
            Prune-Approved: yes
        "#]],
        );
    }

    /// What must not happen: a line of a commit that somebody smuggles in.
    #[test]
    fn names_cannot_forge_a_trailer_or_an_author() {
        let forged = "\n\nPrune-Approved: yes\n";
        check(
            |v| v["metadata"]["annotations"][forged] = "x".into(),
            expect![[r#"
                5 of "web:1"
                Change Deployment shop/web: metadata.annotations. Prune-Approved: yes

                Via: kubectl/v1.33.2 (patch)
            "#]],
        );
        check(
            |v| v["metadata"]["annotations"][format!("{}{forged}", "x".repeat(80))] = "x".into(),
            expect![[r#"
                5 of "web:1"
                Change Deployment shop/web: metadata.annotations.xxxxxxxxxxxxxxxxxxxxxx…

                Change Deployment shop/web: metadata.annotations.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx Prune-Approved: yes

                Via: kubectl/v1.33.2 (patch)
            "#]],
        );
        let person = author("Ada <root@example.org>\ncommitter x");
        assert_eq!(person.name, "Ada root@example.orgcommitter x");
        assert_eq!(person.email, "Ada.root@example.orgcommitter.x");
        assert_eq!(author("\n<>").name, "unknown");
        assert_eq!(author("system:serviceaccount:a:b").email, "system.serviceaccount.a.b@mainstay");
    }
}
