//! Join tokens in kubeadm's form (`abcdef.0123456789abcdef`): kept as Secrets of `kube-system`,
//! good for a time and a number of joins.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    model::{Object, ObjectError, Timestamp},
    state::{Command, Expect, Op, Part, View},
};

const NAMESPACE: &str = "kube-system";
/// Where the number of joins that are left stands.
const JOINS_LEFT: &str = "mainstay-joins-left";

/// A token as people pass it on.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

/// Why a token does not let anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not in the form of a token.
    #[error("a token looks like abcdef.0123456789abcdef; `mainstay token create` makes one")]
    Malformed,
    /// There is no such token, or its secret is another.
    #[error("unknown token; `mainstay token create` on a server makes one")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired; `mainstay token create` on a server makes another")]
    Expired,
    /// It was used as often as it may be.
    #[error("the token was used already; `mainstay token create` on a server makes another")]
    Used,
}

impl Token {
    /// Reads a token.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let (id, secret) = text.trim().split_once('.').ok_or(TokenError::Malformed)?;
        let plain = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'))
        };
        if !plain(id, 6) || !plain(secret, 16) {
            return Err(TokenError::Malformed);
        }
        Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// Makes a token of random bytes.
    pub fn from_random(bytes: [u8; 22]) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let text: String =
            bytes.iter().map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect();
        Self { id: text[..6].to_owned(), secret: text[6..].to_owned() }
    }

    /// The token as people pass it on. Whoever has it can join.
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    fn name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }
}

/// The command that makes a token good until `expires`, for `joins` joins.
pub fn create(token: &Token, joins: u32, expires: Timestamp) -> Result<Command, ObjectError> {
    let text = |value: String| ByteString(value.into_bytes());
    let data = BTreeMap::from([
        ("token-id".to_owned(), text(token.id.clone())),
        ("token-secret".to_owned(), text(token.secret.clone())),
        ("expiration".to_owned(), text(expires.to_string())),
        ("usage-bootstrap-authentication".to_owned(), text("true".to_owned())),
        (JOINS_LEFT.to_owned(), text(joins.to_string())),
    ]);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(token.name()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("bootstrap.kubernetes.io/token".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    Ok(put(Object::of(&secret)?, Expect::Absent))
}

/// The command that uses a token once; refused by State when another join used it at the same
/// moment.
pub fn redeem(view: &View, token: &Token, now: Timestamp) -> Result<Command, TokenError> {
    let stored: &Secret = view.get(NAMESPACE, &token.name()).ok_or(TokenError::Unknown)?;
    let field = |name: &str| {
        let bytes = stored.data.as_ref().and_then(|d| d.get(name));
        bytes.and_then(|b| std::str::from_utf8(&b.0).ok()).unwrap_or_default()
    };
    if !same(field("token-secret").as_bytes(), token.secret.as_bytes()) {
        return Err(TokenError::Unknown);
    }
    let expires = field("expiration").parse::<k8s_openapi::jiff::Timestamp>();
    if expires.map_or(i64::MIN, |t| t.as_millisecond()) <= now.0 {
        return Err(TokenError::Expired);
    }
    let left: u32 = field(JOINS_LEFT).parse().unwrap_or(0);
    let left = left.checked_sub(1).ok_or(TokenError::Used)?;
    let mut used = stored.clone();
    let data = used.data.get_or_insert_default();
    data.insert(JOINS_LEFT.to_owned(), ByteString(left.to_string().into_bytes()));
    let revision = stored.metadata.resource_version.as_deref().and_then(|r| r.parse().ok());
    let expect = Expect::At(crate::model::Revision(revision.unwrap_or_default()));
    Ok(put(Object::of(&used).map_err(|_| TokenError::Unknown)?, expect))
}

fn put(object: Object, expect: Expect) -> Command {
    Command::Write(vec![Op::Put { object, expect, part: Part::Main }])
}

/// Compares in a time that does not depend on where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::RequestId,
        state::{Entry, Outcome, State},
    };

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn apply(state: &mut State, id: u128, command: Command) -> bool {
        let outcome = state.apply(Entry::new(RequestId(id), NOW, vec![command])).remove(0);
        matches!(outcome, Outcome::Done(_))
    }

    #[test]
    fn a_token_lets_in_as_often_and_as_long_as_it_says() {
        let mut state = State::default();
        let token = Token::from_random([7; 22]);
        assert!(apply(&mut state, 1, create(&token, 1, NOW.plus_seconds(60)).unwrap()));
        let first = redeem(state.view(), &token, NOW).unwrap();
        let at_the_same_moment = redeem(state.view(), &token, NOW).unwrap();
        assert!(apply(&mut state, 2, first));
        assert!(!apply(&mut state, 3, at_the_same_moment), "used twice at once");
        assert_eq!(redeem(state.view(), &token, NOW), Err(TokenError::Used));
        assert_eq!(redeem(state.view(), &token, NOW.plus_seconds(61)), Err(TokenError::Expired));
    }

    #[test]
    fn a_wrong_secret_is_as_unknown_as_a_wrong_id() {
        let mut state = State::default();
        let token = Token::parse("abcdef.0123456789abcdef").unwrap();
        assert!(apply(&mut state, 1, create(&token, 1, NOW.plus_seconds(60)).unwrap()));
        for other in ["abcdef.0123456789abcdee", "abcdeg.0123456789abcdef"] {
            let other = Token::parse(other).unwrap();
            assert_eq!(redeem(state.view(), &other, NOW), Err(TokenError::Unknown));
        }
        for bad in
            ["", "abcdef", "abcdef.short", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde!"]
        {
            assert_eq!(Token::parse(bad).err(), Some(TokenError::Malformed), "{bad}");
        }
    }

    #[test]
    fn what_is_revealed_is_read_again() {
        let token = Token::from_random(std::array::from_fn(|i| i as u8 * 11));
        assert!(Token::parse(&token.reveal()).unwrap() == token);
    }
}
