//! From text to words.

/// One word of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    Name(String),
    /// A name between back quotes: any field.
    Quoted(String),
    /// The amount; a sign is a word of its own.
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Sign(&'static str),
    End,
}

/// What is wrong with a text, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) what: String,
}

impl Wrong {
    pub(super) fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }
}

/// Longer ones first, so that `<=` is not `<`.
const SIGNS: [&str; 26] = [
    "&&", "||", "==", "!=", "<=", ">=", ".?", "[?", "<", ">", "+", "-", "*", "/", "%", "!", "?",
    ":", ".", ",", "(", ")", "[", "]", "{", "}",
];

/// All words of a text and where each begins, with [`Word::End`] last.
pub(super) fn words(text: &str) -> Result<Vec<(usize, Word)>, Wrong> {
    let mut reader = Reader { text, at: 0 };
    let mut words = Vec::new();
    loop {
        reader.skip();
        let at = reader.at;
        let word = reader.word()?;
        let is_end = word == Word::End;
        words.push((at, word));
        if is_end {
            return Ok(words);
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, Wrong> {
        Err(Wrong::new(self.at, what))
    }

    /// Over blanks and comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n', '\x0c']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn word(&mut self) -> Result<Word, Wrong> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Word::End) };
        if let Some((prefix, quote)) = opening(rest) {
            return self.literal(prefix, quote);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            return Ok(Word::Name(name.to_owned()));
        }
        let after_dot = rest.strip_prefix('.').and_then(|rest| rest.chars().next());
        if first.is_ascii_digit() || after_dot.is_some_and(|c| c.is_ascii_digit()) {
            return self.number();
        }
        if first == '`' {
            let Some(end) = rest[1..].find('`') else { return self.wrong(unreadable(rest)) };
            let name = &rest[1..=end];
            self.at += end + 2;
            return Ok(Word::Quoted(name.to_owned()));
        }
        match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Word::Sign(sign))
            }
            None => self.wrong(unreadable(&first.to_string())),
        }
    }

    fn number(&mut self) -> Result<Word, Wrong> {
        let start = self.at;
        let hex = self.rest().strip_prefix("0x").or_else(|| self.rest().strip_prefix("0X"));
        if hex.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit())) {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return self.whole(start, u64::from_str_radix(digits, 16).ok());
        }
        self.take_while(|c| c.is_ascii_digit());
        let mut is_whole = true;
        let mut after = self.rest().chars();
        if after.next() == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit()) {
            is_whole = false;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if let Some(rest) = self.rest().strip_prefix(['e', 'E']) {
            let signed = usize::from(rest.starts_with(['+', '-']));
            if rest[signed..].starts_with(|c: char| c.is_ascii_digit()) {
                is_whole = false;
                self.at += 1 + signed;
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        let digits = &self.text[start..self.at];
        if is_whole {
            return self.whole(start, digits.parse().ok());
        }
        match digits.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Word::Double(number)),
            _ => Err(Wrong::new(start, "invalid double literal")),
        }
    }

    fn whole(&mut self, start: usize, number: Option<u64>) -> Result<Word, Wrong> {
        let unsigned = self.rest().starts_with(['u', 'U']);
        self.at += usize::from(unsigned);
        match (number, unsigned) {
            (Some(number), true) => Ok(Word::Uint(number)),
            (Some(number), false) if number <= 1 << 63 => Ok(Word::Int(number)),
            (_, true) => Err(Wrong::new(start, "invalid uint literal")),
            (_, false) => Err(Wrong::new(start, "invalid int literal")),
        }
    }

    /// A text or bytes, whose prefix (`r`, `b`) and quote are known.
    fn literal(&mut self, prefix: &str, quote: &str) -> Result<Word, Wrong> {
        let start = self.at;
        let is_raw = prefix.contains(['r', 'R']);
        let is_bytes = prefix.contains(['b', 'B']);
        self.at += prefix.len() + quote.len();
        let mut bytes = Vec::new();
        loop {
            let rest = self.rest();
            if rest.starts_with(quote) {
                self.at += quote.len();
                break;
            }
            match rest.chars().next() {
                None => return Err(Wrong::new(start, unreadable(&self.text[start..]))),
                Some('\n' | '\r') if quote.len() == 1 => {
                    return Err(Wrong::new(start, unreadable(&self.text[start..self.at])));
                }
                Some('\\') if !is_raw => self.escape(is_bytes, &mut bytes)?,
                Some(c) => {
                    self.at += c.len_utf8();
                    push(&mut bytes, c);
                }
            }
        }
        if is_bytes {
            return Ok(Word::Bytes(bytes));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Word::Text(text)),
            Err(_) => Err(Wrong::new(start, "invalid unicode code point")),
        }
    }

    fn escape(&mut self, is_bytes: bool, into: &mut Vec<u8>) -> Result<(), Wrong> {
        let start = self.at;
        let invalid = || Wrong::new(start, "unable to unescape string");
        let which = self.rest()[1..].chars().next().ok_or_else(invalid)?;
        self.at += 1 + which.len_utf8();
        let plain = match which {
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            '\\' | '\'' | '"' | '`' | '?' => Some(which),
            _ => None,
        };
        if let Some(c) = plain {
            push(into, c);
            return Ok(());
        }
        let (digits, radix) = match which {
            'x' | 'X' => (2, 16),
            'u' if !is_bytes => (4, 16),
            'U' if !is_bytes => (8, 16),
            '0'..='3' => {
                self.at -= 1;
                (3, 8)
            }
            _ => return Err(invalid()),
        };
        let code = self.rest().get(..digits).ok_or_else(invalid)?;
        // `from_str_radix` would take a sign.
        let code = Some(code).filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = code.and_then(|code| u32::from_str_radix(code, radix).ok());
        let code = code.ok_or_else(invalid)?;
        self.at += digits;
        match u8::try_from(code) {
            Ok(byte) if is_bytes => into.push(byte),
            _ => push(into, char::from_u32(code).ok_or_else(invalid)?),
        }
        Ok(())
    }
}

fn push(into: &mut Vec<u8>, c: char) {
    into.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn unreadable(text: &str) -> String {
    let shown: String = text.chars().take(20).collect();
    format!("Syntax error: token recognition error at: '{shown}'")
}

/// The prefix and the quote that a literal begins with.
fn opening(rest: &str) -> Option<(&str, &str)> {
    let end = rest.find(|c: char| !matches!(c, 'r' | 'R' | 'b' | 'B')).unwrap_or(rest.len());
    let (prefix, after) = rest.split_at(end);
    let has = |low: char| prefix.matches([low, low.to_ascii_uppercase()]).count();
    if has('r') > 1 || has('b') > 1 {
        return None;
    }
    let quote = ["'''", "\"\"\"", "'", "\""].into_iter().find(|quote| after.starts_with(quote))?;
    Some((prefix, quote))
}
