//! Just enough of Rust's grammar to find the paths in a file: comments and texts are blanked, lines
//! and columns stay.

/// The code of a file, with comments, strings and character literals replaced by spaces.
pub(crate) fn only_code(text: &str) -> String {
    blank(text, true)
}

/// The file with comments replaced by spaces.
pub(crate) fn without_comments(text: &str) -> String {
    blank(text, false)
}

fn blank(text: &str, strings_too: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, keep) = match token(rest) {
            Some(Token::Comment(length)) => (length, false),
            Some(Token::Literal(length)) => (length, !strings_too),
            None => (first.len_utf8(), true),
        };
        let (taken, left) = rest.split_at(length);
        if keep {
            out.push_str(taken);
        } else {
            out.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = left;
    }
    out
}

enum Token {
    Comment(usize),
    Literal(usize),
}

/// The comment or literal that `rest` begins with.
fn token(rest: &str) -> Option<Token> {
    if rest.starts_with("//") {
        return Some(Token::Comment(rest.find('\n').unwrap_or(rest.len())));
    }
    if rest.starts_with("/*") {
        return Some(Token::Comment(rest.find("*/").map_or(rest.len(), |end| end + 2)));
    }
    if rest.starts_with('"') {
        return Some(Token::Literal(quoted(rest, '"')));
    }
    if rest.starts_with("r\"") || rest.starts_with("r#") {
        return raw(rest).map(Token::Literal);
    }
    character(rest).map(Token::Literal)
}

/// How long a literal is that ends at the next `quote` without a backslash before it.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"` and `r#"…"#`; a raw identifier (`r#type`) is none.
fn raw(rest: &str) -> Option<usize> {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    let open = 1 + hashes;
    rest[open..].starts_with('"').then(|| {
        let close = format!("\"{}", "#".repeat(hashes));
        let body = open + 1;
        rest[body..].find(&close).map_or(rest.len(), |end| body + end + close.len())
    })
}

/// `'x'` and `'\n'`; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    if first == '\\' {
        return Some(quoted(rest, '\''));
    }
    body[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}

/// The code of a file without its inline tests (`#[cfg(test)] mod … { … }`).
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let item = tail.find(['{', ';']).unwrap_or(tail.len() - 1);
        let end = if tail[item..].starts_with('{') { closing(tail, item) } else { item + 1 };
        out.extend(tail[..end].chars().filter(|c| *c == '\n'));
        rest = &tail[end..];
    }
    out.push_str(rest);
    out
}

/// Just behind the brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return open + at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// What follows each `crate::`, braces at the first level taken apart, with its line from 1.
pub(crate) fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, matched) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let tail = &code[at + matched.len()..];
        let names = match tail.strip_prefix('{') {
            Some(list) => first_level(list),
            None => vec![word(tail)],
        };
        found.extend(names.into_iter().map(|name| (line, name)));
    }
    found
}

/// The first words of the items of a `use` list whose opening brace was just read.
fn first_level(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && !c.is_whitespace() => {
                names.push(word(&list[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The lines (from 1) on which `path` stands as the beginning of a path or as a whole name.
pub(crate) fn lines_with(code: &str, path: &str) -> Vec<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let stands = |at: usize| {
        let (before, after) = (&code[..at], &code[at + path.len()..]);
        let begins = !before.ends_with(is_name) && !before.ends_with("::");
        begins && (path.ends_with("::") || !after.starts_with(is_name))
    };
    let at = code.match_indices(path).map(|(at, _)| at).filter(|at| stands(*at));
    at.map(|at| code[..at].matches('\n').count() + 1).collect()
}

#[test]
fn comments_and_texts_are_not_code() {
    let text = "a // b\n\"c // d\" e /* f */ 'g' '\\'' &'h i r#\"j\"# r#k";
    let code = only_code(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "e", "&'h", "i", "r#k"]);
    assert!(without_comments(text).contains("\"c // d\" e"));
}

#[test]
fn paths_are_found_in_lists_and_alone() {
    let code = "use crate::{\n    a::{b, c},\n    d,\n};\nfn f() { crate::e::g(); mycrate::h() }";
    let found: Vec<_> = crate_paths(code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, ["a", "d", "e"]);
    assert_eq!(lines_with("x::tokio::y\ntokio::z tokio", "tokio::"), [2]);
    assert_eq!(lines_with("HashMap MyHashMap HashMaps", "HashMap"), [1]);
}

#[test]
fn tests_are_left_out() {
    let code = "a\n#[cfg(test)]\nmod tests {\n  { b }\n}\nc\n#[cfg(test)]\nmod t;\nd";
    assert_eq!(without_tests(code).split_whitespace().collect::<Vec<_>>(), ["a", "c", "d"]);
    assert_eq!(without_tests(code).matches('\n').count(), code.matches('\n').count());
}
