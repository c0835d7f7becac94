//! Tokens that the cluster signs: JSON Web Tokens with ES256 (RFC 7515, RFC 7518 §3.4).

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use rcgen::{KeyPair, PublicKeyData};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ca::Error;

/// Bytes of a coordinate of a point on P-256.
const COORDINATE_BYTES: usize = 32;

/// The key that signs the cluster's tokens; every server has the same.
#[derive(Clone)]
pub struct TokenKey(Arc<Inner>);

struct Inner {
    pem: String,
    /// Names the key to those who verify.
    id: String,
    /// The first part of every token.
    header: String,
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl TokenKey {
    /// Draws a new key.
    pub fn generate() -> Result<Self, Error> {
        Self::of(&KeyPair::generate()?)
    }

    /// Takes up a key from its PEM text (PKCS #8, P-256).
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        Self::of(&KeyPair::from_pem(pem)?)
    }

    fn of(key: &KeyPair) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let der = key.serialize_der();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random);
        let pair = pair.map_err(|e| Error::Signing(e.to_string()))?;
        let id = BASE64.encode(Sha256::digest(key.subject_public_key_info()));
        let header = BASE64.encode(format!(r#"{{"alg":"ES256","kid":"{id}"}}"#));
        Ok(Self(Arc::new(Inner { pem: key.serialize_pem(), id, header, pair, random })))
    }

    /// The key as PEM; whoever has it is every service account.
    pub fn pem(&self) -> &str {
        &self.0.pem
    }

    /// The token that says `claims` (a JSON object).
    pub fn sign(&self, claims: &[u8]) -> Result<String, Error> {
        let signed = format!("{}.{}", self.0.header, BASE64.encode(claims));
        let signature = self.0.pair.sign(&self.0.random, signed.as_bytes());
        let signature = signature.map_err(|_| Error::Signing("no random bits".to_owned()))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    /// What a token says that this key has signed; `None` for every other text.
    ///
    /// The header is compared, not read: this key writes one header only, so a token cannot choose
    /// how it is verified (no algorithm, another one, another key). Changing a byte of the header
    /// makes every token that is out there worthless.
    pub fn open(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if header != self.0.header {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        let public = self.0.pair.public_key().as_ref();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
        key.verify(signed.as_bytes(), &signature).ok()?;
        BASE64.decode(claims).ok()
    }

    /// The public half as a JSON Web Key (RFC 7517, RFC 7518 §6.2).
    pub fn public(&self) -> Value {
        // An uncompressed point: 4, then both coordinates.
        let point = self.0.pair.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at_checked(COORDINATE_BYTES).unwrap_or_default();
        json!({
            "use": "sig", "kty": "EC", "kid": self.0.id, "crv": "P-256", "alg": "ES256",
            "x": BASE64.encode(x), "y": BASE64.encode(y),
        })
    }
}

#[cfg(test)]
mod tests {
    use ring::hmac;

    use super::*;

    const CLAIMS: &[u8] = br#"{"sub":"a"}"#;

    fn text(part: &str) -> String {
        BASE64.encode(part)
    }

    #[test]
    fn what_the_key_signed_is_read_and_by_every_server() {
        let key = TokenKey::generate().unwrap();
        let token = key.sign(CLAIMS).unwrap();
        assert_eq!(key.open(&token).as_deref(), Some(CLAIMS));
        let other_server = TokenKey::from_pem(key.pem()).unwrap();
        assert_eq!(other_server.open(&token).as_deref(), Some(CLAIMS));
        assert_eq!(TokenKey::generate().unwrap().open(&token), None, "another cluster");
        TokenKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")
            .err()
            .unwrap();
    }

    /// Whoever verifies elsewhere has only the public document.
    #[test]
    fn the_public_document_verifies_a_token() {
        let key = TokenKey::generate().unwrap();
        let token = key.sign(CLAIMS).unwrap();
        let public = key.public();
        let part = |name: &str| BASE64.decode(public[name].as_str().unwrap()).unwrap();
        let point = [&[4][..], &part("x"), &part("y")].concat();
        assert_eq!(point.len(), 65);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64.decode(signature).unwrap();
        let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        verifier.verify(signed.as_bytes(), &signature).unwrap();
        let header = BASE64.decode(token.split('.').next().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header, json!({ "alg": "ES256", "kid": public["kid"] }));
        assert!(!public.to_string().contains("\"d\""), "the private half");
    }

    #[test]
    fn hostile_tokens_are_refused() {
        let key = TokenKey::generate().unwrap();
        let good = key.sign(CLAIMS).unwrap();
        let parts: Vec<&str> = good.split('.').collect();
        let (header, claims, signature) = (parts[0], parts[1], parts[2]);
        let id = key.public()["kid"].as_str().unwrap().to_owned();
        let with_header = |header: String| format!("{}.{claims}.{signature}", text(&header));
        let other = TokenKey::generate().unwrap().sign(CLAIMS).unwrap();
        let foreign = other.rsplit('.').next().unwrap();

        // The public key taken for the secret of an HMAC.
        let hs = format!("{}.{claims}", text(&format!(r#"{{"alg":"HS256","kid":"{id}"}}"#)));
        let mut confused = Vec::new();
        for secret in [key.0.pair.public_key().as_ref(), key.public().to_string().as_bytes()] {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), hs.as_bytes());
            confused.push(format!("{hs}.{}", BASE64.encode(tag)));
        }
        let huge = "k".repeat(1 << 20);
        let table = [
            ("none", with_header(r#"{"alg":"none"}"#.into())),
            ("no signature", format!("{}.{claims}.", text(r#"{"alg":"none"}"#))),
            ("None", format!("{}.{claims}.", text(&format!(r#"{{"alg":"None","kid":"{id}"}}"#)))),
            ("HS256, point", confused[0].clone()),
            ("HS256, document", confused[1].clone()),
            ("RS256", with_header(format!(r#"{{"alg":"RS256","kid":"{id}"}}"#))),
            (
                "an own key",
                with_header(format!(r#"{{"alg":"ES256","jwk":{},"kid":"x"}}"#, id.len())),
            ),
            ("another kid", with_header(r#"{"alg":"ES256","kid":"x"}"#.into())),
            ("a huge kid", with_header(format!(r#"{{"alg":"ES256","kid":"{huge}"}}"#))),
            ("a path as kid", with_header(r#"{"alg":"ES256","kid":"../../dev/null"}"#.into())),
            ("crit", with_header(format!(r#"{{"alg":"ES256","crit":["b"],"kid":"{id}"}}"#))),
            ("other claims", format!("{header}.{}.{signature}", text(r#"{"sub":"b"}"#))),
            ("another key's signature", format!("{header}.{claims}.{foreign}")),
            ("an empty signature", format!("{header}.{claims}.")),
            ("zeroes", format!("{header}.{claims}.{}", BASE64.encode([0; 64]))),
            ("a short signature", format!("{header}.{claims}.{}", &signature[..20])),
            ("padding", format!("{good}==")),
            ("a fourth part", format!("{good}.{signature}")),
            ("a part less", format!("{header}.{claims}")),
            ("a space", format!(" {good}")),
            ("a line", format!("{good}\n")),
            ("dots", "...".to_owned()),
            ("nothing", String::new()),
        ];
        for (what, token) in table {
            assert_eq!(key.open(&token), None, "{what}");
        }
    }
}
