//! Whether a webhook means "look now". Pure: no HTTP here.
//!
//! The signature is checked over the raw body before anything of it is parsed, and nothing of the
//! body is trusted: it can only make us look at the remote a little earlier.

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

/// Most bytes of a body; the caller stops reading there. GitHub's push bodies are tens of KB.
pub const HOOK_BYTES_MAX: usize = 1 << 20;

/// What a webhook told us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is genuine and may concern the desired reference: fetch.
    Look,
    /// It is genuine and speaks of another branch: plan that.
    Branch,
    /// It is genuine and speaks of another ref (our own status branch, say): answer 200 and do
    /// nothing.
    Elsewhere,
    /// It carries no signature or token: answer 401.
    Unsigned,
    /// Its signature or token is wrong: answer 403.
    Forged,
    /// It is larger than [`HOOK_BYTES_MAX`]: answer 413.
    Oversized,
}

/// Judges one delivery.
///
/// `header` looks up a header by its lower-case name; `reference` is the full name of the desired
/// ref (`refs/heads/main`), none when every push counts. Understands `X-Hub-Signature-256` (GitHub,
/// Gitea, Forgejo), `X-Gitea-Signature` and `X-Gitlab-Token`. An empty secret accepts nothing.
pub fn judge<'h>(
    secret: &[u8],
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    reference: Option<&str>,
) -> Verdict {
    if body.len() > HOOK_BYTES_MAX {
        return Verdict::Oversized;
    }
    let genuine = if let Some(signature) = header("x-hub-signature-256") {
        signature.strip_prefix("sha256=").is_some_and(|hex| is_signed(secret, body, hex))
    } else if let Some(hex) = header("x-gitea-signature") {
        is_signed(secret, body, hex)
    } else if let Some(token) = header("x-gitlab-token") {
        is_token(secret, token)
    } else {
        return Verdict::Unsigned;
    };
    match genuine && !secret.is_empty() {
        false => Verdict::Forged,
        true => concerns(body, reference),
    }
}

/// What a hook of ours says of its body: `sha256=` and the HMAC, as Git hosts sign theirs.
pub fn sign(secret: &[u8], body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={hex}")
}

/// Whether `hex` is HMAC-SHA256(secret, body); compared in constant time.
fn is_signed(secret: &[u8], body: &[u8], hex: &str) -> bool {
    let Some(signature) = unhex(hex) else { return false };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

/// Whether the token is the secret. Both go through the MAC, so that neither length nor prefix
/// shows in time.
fn is_token(secret: &[u8], token: &str) -> bool {
    let keyed = || Hmac::<Sha256>::new_from_slice(secret);
    let (Ok(mut given), Ok(mut wanted)) = (keyed(), keyed()) else { return false };
    given.update(token.as_bytes());
    wanted.update(secret);
    given.verify(&wanted.finalize().into_bytes()).is_ok()
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

#[derive(Deserialize)]
struct Push {
    #[serde(rename = "ref")]
    reference: Option<String>,
}

/// A body that names another ref is not for us; one that names none, or is not JSON, may be.
fn concerns(body: &[u8], wanted: Option<&str>) -> Verdict {
    let named = serde_json::from_slice::<Push>(body).ok().and_then(|push| push.reference);
    match (named, wanted) {
        (Some(named), Some(wanted)) if named != wanted => {
            let branch = named.strip_prefix("refs/heads/");
            let foreign = branch.is_some_and(|branch| !branch.starts_with("mainstay/"));
            if foreign { Verdict::Branch } else { Verdict::Elsewhere }
        }
        _ => Verdict::Look,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"It's a Secret to Everybody";
    /// GitHub's documented example: "Validating webhook deliveries".
    const SIGNED: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    const BODY: &[u8] = b"Hello, World!";

    fn check(name: &str, value: &str, body: &[u8], expect: Verdict) {
        let header = |asked: &str| (asked == name).then_some(value);
        assert_eq!(judge(SECRET, header, body, Some("refs/heads/main")), expect, "{name}: {value}");
    }

    #[test]
    fn only_the_right_secret_makes_us_look() {
        check("x-hub-signature-256", &format!("sha256={SIGNED}"), BODY, Verdict::Look);
        check("x-gitea-signature", SIGNED, BODY, Verdict::Look);
        check("x-hub-signature-256", &sign(SECRET, BODY), BODY, Verdict::Look);
        check("x-gitlab-token", "It's a Secret to Everybody", BODY, Verdict::Look);
        check(
            "x-hub-signature-256",
            &format!("sha256={SIGNED}"),
            b"Hello, World?",
            Verdict::Forged,
        );
        check("x-hub-signature-256", SIGNED, BODY, Verdict::Forged);
        check("x-hub-signature-256", "sha256=", BODY, Verdict::Forged);
        check("x-hub-signature-256", "sha256=é", BODY, Verdict::Forged);
        check("x-gitlab-token", "It's a Secret to Everybod", BODY, Verdict::Forged);
        check("x-gitlab-token", "", BODY, Verdict::Forged);
        check("x-hub-signature", "sha1=00", BODY, Verdict::Unsigned);
        check("none", "", BODY, Verdict::Unsigned);
    }

    #[test]
    fn an_empty_secret_accepts_nothing() {
        let header = |name: &str| (name == "x-gitlab-token").then_some("");
        assert_eq!(judge(b"", header, BODY, None), Verdict::Forged);
    }

    #[test]
    fn a_large_body_is_refused_before_it_is_hashed() {
        check("x-gitlab-token", "x", &vec![b' '; HOOK_BYTES_MAX + 1], Verdict::Oversized);
    }

    #[test]
    fn pushes_to_other_refs_are_told_apart_only_after_the_signature() {
        let token = "It's a Secret to Everybody";
        check("x-gitlab-token", token, br#"{"ref":"refs/heads/main"}"#, Verdict::Look);
        check("x-gitlab-token", token, br#"{"zen":"ping"}"#, Verdict::Look);
        let other = br#"{"ref":"refs/heads/mainstay/status"}"#;
        check("x-gitlab-token", token, other, Verdict::Elsewhere);
        check("x-gitlab-token", token, br#"{"ref":"refs/heads/next"}"#, Verdict::Branch);
        check("x-gitlab-token", token, br#"{"ref":"refs/tags/v1"}"#, Verdict::Elsewhere);
        check("x-gitlab-token", "wrong", other, Verdict::Forged);
    }
}
