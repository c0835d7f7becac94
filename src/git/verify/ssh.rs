//! Signatures by SSH keys (PROTOCOL.sshsig of OpenSSH), with ring's arithmetic.

use ring::{
    digest::{SHA256, digest},
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, Ed25519KeyPair,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents,
        UnparsedPublicKey, VerificationAlgorithm,
    },
};
use ssh_key::{
    Algorithm, EcdsaCurve, HashAlg, PrivateKey, Signature, SshSig,
    private::KeypairData,
    public::{EcdsaPublicKey, KeyData, RsaPublicKey},
};

use super::signers::NAMESPACE;

/// What a security key adds to its signature: one byte of flags, four of a counter.
const TOUCH_BYTES: usize = 5;

/// The flag that says somebody touched the security key.
const TOUCHED: u8 = 1;

/// Whether a signature is that of its key over these bytes, made for Git.
pub(super) fn holds(signature: &SshSig, bytes: &[u8]) -> bool {
    if signature.namespace() != NAMESPACE {
        return false;
    }
    let Ok(data) = SshSig::signed_data(NAMESPACE, signature.hash_alg(), bytes) else {
        return false;
    };
    let made = signature.signature();
    match signature.public_key() {
        KeyData::Ed25519(key) => is_by(&ED25519, &key.0, &data, made.as_bytes()),
        KeyData::Ecdsa(key) => is_by_ecdsa(key, &data, made.as_bytes()),
        KeyData::Rsa(key) => is_by_rsa(key, &data, made),
        KeyData::SkEd25519(key) => touched(made, key.application(), &data)
            .is_some_and(|(data, made)| is_by(&ED25519, &key.public_key().0, &data, made)),
        KeyData::SkEcdsaSha2NistP256(key) => {
            touched(made, key.application(), &data).is_some_and(|(data, made)| {
                let key = EcdsaPublicKey::NistP256(*key.ec_point());
                is_by_ecdsa(&key, &data, made)
            })
        }
        _ => false,
    }
}

fn is_by(
    how: &'static dyn VerificationAlgorithm,
    key: &[u8],
    data: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(how, key).verify(data, signature).is_ok()
}

fn is_by_ecdsa(key: &EcdsaPublicKey, data: &[u8], signature: &[u8]) -> bool {
    let (how, size): (&dyn VerificationAlgorithm, usize) = match key.curve() {
        EcdsaCurve::NistP256 => (&ECDSA_P256_SHA256_FIXED, 32),
        EcdsaCurve::NistP384 => (&ECDSA_P384_SHA384_FIXED, 48),
        EcdsaCurve::NistP521 => return false,
    };
    fixed(signature, size).is_some_and(|fixed| is_by(how, key.as_sec1_bytes(), data, &fixed))
}

/// The two numbers of an ECDSA signature, each as wide as the curve's.
fn fixed(mut signature: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut fixed = Vec::with_capacity(2 * size);
    for _ in 0..2 {
        let (length, rest) = signature.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
        fixed.resize(fixed.len() + size.checked_sub(number.len())?, 0);
        fixed.extend_from_slice(number);
        signature = rest;
    }
    Some(fixed)
}

/// SHA-1 signatures of RSA keys (`ssh-rsa`) hold for nothing.
fn is_by_rsa(key: &RsaPublicKey, data: &[u8], signature: &Signature) -> bool {
    let how = match signature.algorithm() {
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) } => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) } => &RSA_PKCS1_2048_8192_SHA512,
        _ => return false,
    };
    let (Some(n), Some(e)) = (key.n.as_positive_bytes(), key.e.as_positive_bytes()) else {
        return false;
    };
    RsaPublicKeyComponents { n, e }.verify(how, data, signature.as_bytes()).is_ok()
}

/// What a security key has signed, and its signature; `None` when nobody touched it.
fn touched<'a>(
    signature: &'a Signature,
    application: &str,
    data: &[u8],
) -> Option<(Vec<u8>, &'a [u8])> {
    let bytes = signature.as_bytes();
    let (made, touch) = bytes.split_at_checked(bytes.len().checked_sub(TOUCH_BYTES)?)?;
    let hash = |bytes: &[u8]| digest(&SHA256, bytes);
    let signed = [hash(application.as_bytes()).as_ref(), touch, hash(data).as_ref()].concat();
    (touch[0] & TOUCHED != 0).then_some((signed, made))
}

/// Signs for Git with an Ed25519 key; the key's own words for why not.
pub(super) fn sign(key: &PrivateKey, bytes: &[u8]) -> Result<SshSig, String> {
    let KeypairData::Ed25519(pair) = key.key_data() else {
        return Err(format!(
            "is a {} key: ssh-keygen -t ed25519 makes a fitting one",
            key.algorithm()
        ));
    };
    let ring = Ed25519KeyPair::from_seed_unchecked(&pair.private.to_bytes())
        .map_err(|e| format!("cannot sign: {e}"))?;
    let text = |e: ssh_key::Error| e.to_string();
    let data = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, bytes).map_err(text)?;
    let signature = Signature::new(Algorithm::Ed25519, ring.sign(&data).as_ref()).map_err(text)?;
    let public = key.public_key().key_data().clone();
    SshSig::new(public, NAMESPACE, HashAlg::Sha512, signature).map_err(text)
}
