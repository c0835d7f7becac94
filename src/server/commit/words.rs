//! The words of a commit that writes make, and the person who wrote it.

use crate::{
    api::Wish,
    git::{Message, Person},
    model::{Key, Timestamp},
    render::{self, edit},
};

/// Most characters of the first line of a commit: what `git log --oneline` shows whole.
const SUBJECT_CHARS_MAX: usize = 72;

/// What one write says in the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    verb: &'static str,
    key: Key,
    /// `Change Deployment shop/web: spec.replicas`
    text: String,
    via: String,
    deletes: bool,
}

impl Line {
    /// What a write says.
    pub(super) fn of(wish: &Wish, change: &edit::Wish) -> Self {
        let verb = match change {
            edit::Wish::Create(_) if wish.before.is_none() => "Create",
            edit::Wish::Create(_) => "Adopt",
            edit::Wish::Change(_) if wish.adopt => "Adopt",
            edit::Wish::Change(_) => "Change",
            edit::Wish::Delete => "Delete",
        };
        let fields = match change {
            edit::Wish::Change(delta) => format!(": {}", delta.fields().join(", ")),
            _ => String::new(),
        };
        let text = one_line(&format!("{verb} {}{fields}", wish.key));
        let deletes = matches!(change, edit::Wish::Delete);
        Self { verb, key: wish.key.clone(), text, via: wish.via.clone(), deletes }
    }
}

/// The words of a commit that these writes make.
pub(super) fn message(lines: &[Line]) -> Message {
    let mut trailers: Vec<(String, String)> = Vec::new();
    for line in lines {
        let via = ("Via".to_owned(), line.via.clone());
        if !trailers.contains(&via) {
            trailers.push(via);
        }
    }
    if lines.iter().any(|line| line.deletes) {
        // Somebody said exactly what shall go; the proof shows that nothing else does.
        trailers.push((render::TRAILER.to_owned(), "yes".to_owned()));
    }
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let (subject, body) = (subject(lines), texts.join("\n"));
    let is_whole = subject.chars().count() <= SUBJECT_CHARS_MAX;
    let body = if is_whole && lines.len() < 2 { String::new() } else { body };
    let subject = if is_whole { subject } else { cut(&subject) };
    Message { subject, body, trailers }
}

fn subject(lines: &[Line]) -> String {
    let [first, rest @ ..] = lines else { return String::new() };
    if rest.is_empty() {
        return first.text.clone();
    }
    let same = rest.iter().all(|line| line.verb == first.verb);
    let verb = if same { first.verb } else { "Change" };
    let keys: std::collections::BTreeSet<&Key> = lines.iter().map(|line| &line.key).collect();
    if keys.len() == 1 {
        return one_line(&format!("{verb} {}", first.key));
    }
    let named: Vec<String> = keys.iter().map(ToString::to_string).collect();
    one_line(&format!("{verb} {} objects: {}", keys.len(), named.join(", ")))
}

/// Names inside an object may hold anything; in a commit they are words of one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cut(text: &str) -> String {
    let short: String = text.chars().take(SUBJECT_CHARS_MAX - 1).collect();
    format!("{short}…")
}

/// A user as an author. What would end a name in Git is left out.
pub(super) fn author(user: &str, at: Timestamp) -> Person {
    let safe = |c: &char| !c.is_control() && !"<>".contains(*c);
    let name: String = user.chars().filter(safe).collect();
    let name = if name.trim().is_empty() { "unknown".to_owned() } else { name };
    let word = |c: char| if c.is_ascii_alphanumeric() || "._-+@".contains(c) { c } else { '.' };
    let email: String = name.chars().map(word).collect();
    let email = if email.contains('@') { email } else { format!("{email}@mainstay") };
    Person { name, email, at }
}
