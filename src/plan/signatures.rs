//! Whether a commit is trusted: whose it must be, and that it follows what ran before.

use crate::{
    kinds::{VerifyMode, VerifySpec},
    model::{CommitId, Problem, Signature, Signed},
};

/// How a tip stands to the commit that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// Nothing runs, or the tip has it among its ancestors.
    Follows,
    /// What runs has the tip among its ancestors: an older state was pushed again.
    Older,
    /// Neither has the other.
    Rewritten,
}

/// What is wrong with how a tip stands to the head, where it has to follow.
pub fn follows(descent: Descent, head: Option<&CommitId>) -> Option<Problem> {
    let head = head.map(|head| head.short().to_owned()).unwrap_or_default();
    let message = match descent {
        Descent::Follows => return None,
        Descent::Older => format!(
            "is older than {head}, which runs: to go back, push a commit on top of it (git revert)"
        ),
        Descent::Rewritten => format!(
            "does not follow {head}, which runs: history was rewritten; put the change on top of \
             it, or allow this with fastForwardOnly: false"
        ),
    };
    Some(Problem { message, ..Problem::default() })
}

/// What is wrong with the signatures of new commits, newest first, before which stands the tag
/// where that is what has to be signed; `None` when they are too many to check.
pub fn judge(spec: &VerifySpec, commits: Option<&[Signed]>) -> Vec<Problem> {
    let problem = |message: String| Problem { message, ..Problem::default() };
    let Some(commits) = commits else {
        let text = "has more new commits than are checked at once: name the newest one that needs \
                    no signature in verify.since";
        return vec![problem(text.to_owned())];
    };
    let checked = match spec.mode {
        VerifyMode::Head | VerifyMode::Tag => commits.get(..1).unwrap_or_default(),
        VerifyMode::All => commits,
    };
    let how = match spec.mode {
        VerifyMode::Tag => "git tag -s -f",
        VerifyMode::Head | VerifyMode::All => "git commit --amend -S",
    };
    let unsigned = checked.iter().filter_map(|c| Some((c, c.by.as_ref().err()?)));
    let mut problems: Vec<Problem> = unsigned
        .map(|(c, why)| {
            let (commit, subject) = (c.commit.short(), &c.subject);
            problem(format!(
                "commit {commit} ({subject}): {why}: sign it with an allowed key ({how}) and push \
                 again"
            ))
        })
        .collect();
    if spec.approval && problems.is_empty() {
        problems.extend(unapproved(commits).map(problem));
    }
    problems
}

/// Why the tip is no approval by another key of all that is new; `None` when it is.
fn unapproved(commits: &[Signed]) -> Option<String> {
    let how = "have somebody else push: git commit --allow-empty -S -m 'Approve …', or a signed \
               merge";
    let tip = commits.first()?;
    if tip.adds {
        let (commit, subject) = (tip.commit.short(), &tip.subject);
        return Some(format!("commit {commit} ({subject}) needs an approval: {how}"));
    }
    let key = |signed: &Signed| signed.by.as_ref().ok().map(|by: &Signature| by.key.clone());
    let by = key(tip);
    let own = commits.iter().find(|c| c.adds && (key(c).is_none() || key(c) == by))?;
    let (commit, subject) = (own.commit.short(), &own.subject);
    Some(match key(own) {
        Some(_) => format!("commit {commit} ({subject}) is approved by its own key: {how}"),
        None => format!("commit {commit} ({subject}) is not signed, so nobody else can approve it"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits, newest first: `a`, `b` are signed by that key, `-` by none; `+` adds something.
    fn commits(text: &str) -> Vec<Signed> {
        let one = |(n, word): (usize, &str)| Signed {
            commit: CommitId::parse(&format!("{:040}", 10 - n)).unwrap(),
            subject: format!("change {n}"),
            adds: word.ends_with('+'),
            by: match &word[..1] {
                "-" => Err("it is not signed".to_owned()),
                key => Ok(Signature { name: key.into(), key: key.into(), is_ours: false }),
            },
        };
        text.split(' ').enumerate().map(one).collect()
    }

    fn check(mode: VerifyMode, approval: bool, text: &str, expect: &[&str]) {
        let spec = VerifySpec { mode, approval, ..VerifySpec::default() };
        let problems = judge(&spec, Some(&commits(text)));
        let found: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(found.len(), expect.len(), "{text}: {found:?}");
        for (found, expect) in found.iter().zip(expect) {
            assert!(found.contains(expect), "{text}: {found}");
        }
    }

    #[test]
    fn the_newest_or_all_have_to_be_signed() {
        check(VerifyMode::Head, false, "a+ -+", &[]);
        check(VerifyMode::Head, false, "-+ a+", &["change 0): it is not signed"]);
        check(VerifyMode::All, false, "a+ b+", &[]);
        check(VerifyMode::All, false, "a+ -+ -", &["change 1", "change 2"]);
        check(VerifyMode::Tag, false, "a -+ -+", &[]);
        check(VerifyMode::Tag, false, "- a+", &["change 0): it is not signed: sign it with an"]);
        let spec = VerifySpec::default();
        assert!(judge(&spec, None)[0].message.contains("verify.since"));
    }

    #[test]
    fn an_approval_is_by_another_key_and_comes_last() {
        check(VerifyMode::All, true, "b a+", &[]);
        check(VerifyMode::All, true, "b a+ a+", &[]);
        check(VerifyMode::All, true, "a+", &["change 0) needs an approval"]);
        check(VerifyMode::All, true, "a a+", &["change 1) is approved by its own key"]);
        // What came after the approval is not approved by it.
        check(VerifyMode::All, true, "a+ b a+", &["change 0) needs an approval"]);
        check(VerifyMode::All, true, "b a+ b+", &["change 2) is approved by its own key"]);
        check(VerifyMode::Head, true, "b -+", &["change 1) is not signed"]);
        // A tag adds nothing: whoever signs it approves.
        check(VerifyMode::Tag, true, "b a+ a+", &[]);
        check(VerifyMode::Tag, true, "a a+", &["change 1) is approved by its own key"]);
    }

    #[test]
    fn a_tip_that_does_not_follow_says_what_to_do() {
        let head = CommitId::parse(&"a".repeat(40)).unwrap();
        let says = |descent| follows(descent, Some(&head)).map(|p| p.message).unwrap_or_default();
        assert_eq!(says(Descent::Follows), "");
        assert!(says(Descent::Older).contains("git revert"));
        assert!(says(Descent::Rewritten).contains("fastForwardOnly"));
    }
}
