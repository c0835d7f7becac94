//! How long a commit may take to become healthy: what its trailer says, else the longest of the
//! deadlines of the paths that it touches, else what its source says.

use super::Timing;
use crate::{
    kinds::{GitSourceSpec, PathDeadline},
    model::{Key, Problem},
    state::{Desired, Origin, View},
};

/// The trailer with which a commit sets its own deadline.
const TRAILER: &str = "Deploy-Deadline";

/// The deadline of a commit that changes these objects, in seconds; `None` for the usual one.
pub(super) fn of<'a>(
    view: &'a View,
    source: &GitSourceSpec,
    trailers: &[(String, String)],
    changed: impl Iterator<Item = &'a Desired>,
    gone: impl Iterator<Item = &'a Key>,
) -> Result<Option<i64>, Problem> {
    if let Some(said) = said(trailers)? {
        return Ok(Some(said));
    }
    if source.deadlines.is_empty() {
        return Ok(source.deadline_seconds);
    }
    let usual = source.deadline_seconds.unwrap_or(Timing::default().commit_deadline_seconds);
    let origins =
        changed.map(|desired| &desired.origin).chain(gone.filter_map(|key| view.origin(key)));
    let longest = origins.map(|origin| of_place(&source.deadlines, origin).unwrap_or(usual)).max();
    Ok(longest.or(source.deadline_seconds))
}

/// The deadline that the last trailer of that name sets.
fn said(trailers: &[(String, String)]) -> Result<Option<i64>, Problem> {
    let mut found = trailers.iter().rev().filter(|(k, _)| k.eq_ignore_ascii_case(TRAILER));
    let Some((_, text)) = found.next() else { return Ok(None) };
    seconds(text).map(Some).ok_or_else(|| Problem {
        message: format!("{TRAILER}: {text:?} is no duration; write 90s, 3m or 1h"),
        ..Problem::default()
    })
}

/// The longer one of where an object stands and of the kustomization that makes it.
fn of_place(deadlines: &[PathDeadline], origin: &Origin) -> Option<i64> {
    let made_by = origin.made_by.as_deref().and_then(|path| nearest(deadlines, path));
    nearest(deadlines, &origin.file).max(made_by)
}

/// What the deepest folder says that a file is in.
fn nearest(deadlines: &[PathDeadline], file: &str) -> Option<i64> {
    let holds = |deadline: &&PathDeadline| {
        let rest = file.strip_prefix(folder(deadline));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let found = deadlines.iter().filter(holds).max_by_key(|deadline| folder(deadline).len());
    found.map(|deadline| deadline.seconds)
}

fn folder(deadline: &PathDeadline) -> &str {
    deadline.path.trim_matches('/')
}

/// Reads a deadline as people write it: `90s`, `3m`, `1h`, or seconds.
fn seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let (number, unit) = match text.char_indices().next_back() {
        Some((i, 's')) => (&text[..i], 1),
        Some((i, 'm')) => (&text[..i], 60),
        Some((i, 'h')) => (&text[..i], 3600),
        _ => (text, 1),
    };
    number.parse::<i64>().ok().filter(|n| *n > 0)?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::CommitId,
        report::fixture::{Cluster, SECOND, desired},
    };

    #[test]
    fn a_deadline_is_read_as_people_write_it() {
        let texts = ["90", "90s", " 3m ", "1h", "0s", "-1m", "soon", "", "9223372036854775807h"];
        let read = texts.map(seconds);
        assert_eq!(read, [Some(90), Some(90), Some(180), Some(3600), None, None, None, None, None]);
    }

    /// What must not happen: a slow path that is given up early because a quick one changed too.
    #[test]
    fn the_longest_deadline_of_what_is_touched_counts() {
        let cluster = Cluster::web();
        let view = cluster.state.view();
        let objects = desired(&CommitId::parse(SECOND).unwrap(), 3, "web:2");
        let at = |file: &str, made_by: Option<&str>| {
            let mut one = objects[0].clone();
            one.origin.file = file.to_owned();
            one.origin.made_by = made_by.map(str::to_owned);
            one
        };
        let path = |path: &str, seconds| PathDeadline { path: path.to_owned(), seconds };
        let source = |usual: Option<i64>| GitSourceSpec {
            deadlines: vec![path("apps/slow/", 1800), path("apps", 60), path("apps/slow/x", 5)],
            deadline_seconds: usual,
            ..GitSourceSpec::default()
        };
        let check = |files: &[(&str, Option<&str>)], usual: Option<i64>, trailers: &[&str]| {
            let changed: Vec<Desired> = files.iter().map(|(f, by)| at(f, *by)).collect();
            let trailer = |text: &&str| (TRAILER.to_owned(), (*text).to_owned());
            let trailers: Vec<_> = trailers.iter().map(trailer).collect();
            let gone = std::iter::empty();
            of(view, &source(usual), &trailers, changed.iter(), gone).map_err(|p| p.message)
        };
        assert_eq!(check(&[("apps/web.yaml", None)], None, &[]), Ok(Some(60)));
        assert_eq!(check(&[("apps/slow/db.yaml", None)], None, &[]), Ok(Some(1800)));
        assert_eq!(check(&[("apps/slow/x/y.yaml", None)], None, &[]), Ok(Some(5)));
        let both = [("apps/web.yaml", None), ("apps/slow/db.yaml", None)];
        assert_eq!(check(&both, None, &[]), Ok(Some(1800)));
        assert_eq!(check(&both, None, &["20s"]), Ok(Some(20)), "its own word counts more");
        let other = [("apps/web.yaml", None), ("appsx/web.yaml", None)];
        assert_eq!(check(&other, None, &[]), Ok(Some(600)), "the other one has the usual time");
        assert_eq!(check(&other, Some(90), &[]), Ok(Some(90)));
        assert_eq!(check(&[], None, &[]), Ok(None), "nothing is touched");
        let overlay = [("base/db.yaml", Some("apps/slow/kustomization.yaml"))];
        assert_eq!(check(&overlay, None, &[]), Ok(Some(1800)));
        assert!(check(&[], None, &["soon"]).unwrap_err().contains("is no duration"));
        // What goes is touched as well: the fixture has it below apps.
        let gone = objects[0].object.key().clone();
        let went = of(view, &source(None), &[], std::iter::empty(), [&gone].into_iter());
        assert_eq!(went, Ok(Some(60)));
    }
}
