//! The tokens that a pod shows to programs in it: which it wants, and when it wants the next.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::PodSpec;

use crate::model::Timestamp;

/// After which share of its life a token is replaced, as the kubelet does.
const REFRESH_PERCENT: u32 = 80;
/// The oldest a token gets, however long it would hold.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// The life of a token whose volume does not say.
const SECONDS: i64 = 3600;

/// One token of a pod's account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wish {
    /// For whom it is meant; empty for the API.
    pub audience: String,
    /// How long it shall hold.
    pub seconds: i64,
}

/// A token that was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token. Whoever has it is the account.
    pub text: String,
    /// Until when it is good.
    pub expires: Timestamp,
}

/// The tokens of one pod, or why there is none yet in the words of the server; nothing of one that
/// was just asked for.
pub type Tokens = BTreeMap<Wish, Result<Token, String>>;

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Wish {
    /// The token that a source of a projected volume asks for.
    pub fn of(audience: Option<&str>, seconds: Option<i64>) -> Self {
        let audience = audience.unwrap_or_default().to_owned();
        Self { audience, seconds: seconds.unwrap_or(SECONDS) }
    }
}

/// The tokens that the volumes of a pod show, each once.
pub fn wishes(spec: &PodSpec) -> Vec<Wish> {
    let volumes = spec.volumes.iter().flatten();
    let sources = volumes.flat_map(|v| v.projected.iter().flat_map(|p| p.sources.iter().flatten()));
    let tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    let mut wishes: Vec<Wish> =
        tokens.map(|t| Wish::of(t.audience.as_deref(), t.expiration_seconds)).collect();
    wishes.sort();
    wishes.dedup();
    wishes
}

impl Token {
    /// When a token that was given at `now` wants a successor.
    pub fn refresh_at(&self, now: Timestamp) -> Timestamp {
        let life = self.expires.since(now);
        now + (life * REFRESH_PERCENT / 100).min(AGE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_replaced_before_it_ends() {
        let at = |seconds: i64| Timestamp(seconds * 1000);
        for (life, next) in [(600, 480), (3607, 2885), (365 * 86_400, 86_400), (-5, 0)] {
            let token = Token { text: "t".into(), expires: at(1000 + life) };
            let seconds = token.refresh_at(at(1000)).since(at(1000)).as_secs();
            assert_eq!(seconds, next, "{life}");
        }
    }

    #[test]
    fn a_pod_asks_for_each_token_once() {
        let token = |token: serde_json::Value| json!({ "serviceAccountToken": token });
        let spec: PodSpec = serde_json::from_value(json!({ "containers": [], "volumes": [
            { "name": "a", "projected": { "sources": [
                token(json!({ "path": "t", "expirationSeconds": 3607 })),
                token(json!({ "path": "v", "audience": "vault", "expirationSeconds": 600 })),
            ] } },
            { "name": "b", "emptyDir": {} },
            { "name": "c", "projected": { "sources": [
                token(json!({ "path": "x", "expirationSeconds": 3607 })),
            ] } },
        ] }))
        .unwrap();
        let texts: Vec<_> =
            wishes(&spec).iter().map(|w| format!("{:?} {}", w.audience, w.seconds)).collect();
        assert_eq!(texts, ["\"\" 3607", "\"vault\" 600"]);
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = Token { text: "secret".into(), expires: Timestamp(0) };
        assert!(!format!("{token:?}").contains("secret"));
    }
}
