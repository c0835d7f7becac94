//! Which files of a repository are manifests.

/// The file at the root of the repository that names what is none.
pub const IGNORE_FILE: &str = ".mainstayignore";

/// Most rules that are read; later ones are dropped. Bounds the cost of each path.
const RULES_MAX: usize = 1000;

/// The rules of [`IGNORE_FILE`]: one pattern per line, `#` starts a comment.
///
/// A pattern with a slash inside is matched from the root, one without against every folder and
/// file name; a trailing slash names folders only; `*` stands for any characters but `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    pattern: String,
    from_root: bool,
    folder: bool,
}

impl Ignore {
    /// Reads the rules; what is no text is no rule.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let rule = |line: &str| {
            let folder = line.ends_with('/');
            let bare = line.trim_end_matches('/');
            let from_root = bare.contains('/');
            Rule { pattern: bare.trim_start_matches('/').to_owned(), from_root, folder }
        };
        Self(lines.take(RULES_MAX).map(rule).collect())
    }

    /// Whether a path is read: `*.yaml`, `*.yml`, `*.json` or `Kustomization`, no part of it
    /// starting with a dot, and no rule against it. What a kustomization names is read whatever it
    /// is called.
    pub fn is_manifest(&self, path: &str) -> bool {
        let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
        let known = ["yaml", "yml", "json"].iter().any(|e| ending.eq_ignore_ascii_case(e));
        let hidden = path.split('/').any(|part| part.starts_with('.'));
        (known || path.rsplit('/').next() == Some("Kustomization"))
            && !hidden
            && !self.0.iter().any(|rule| rule.matches(path))
    }
}

impl Rule {
    fn matches(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let may_be_file = |i: usize| !self.folder || i + 1 < parts.len();
        if !self.from_root {
            let hit = |(i, part): (usize, &&str)| may_be_file(i) && glob(&self.pattern, part);
            return parts.iter().enumerate().any(hit);
        }
        let pattern: Vec<&str> = self.pattern.split('/').collect();
        pattern.len() <= parts.len()
            && may_be_file(pattern.len() - 1)
            && pattern.iter().zip(&parts).all(|(p, part)| glob(p, part))
    }
}

/// Whether `text` is `pattern`, in which `*` stands for anything. Linear in their product.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}
