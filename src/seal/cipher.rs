//! One value: AES-256-GCM in the words of SOPS.

use aes_gcm::{
    AesGcm, KeyInit,
    aead::{
        Aead, Payload,
        consts::{U12, U16, U32},
        generic_array::GenericArray,
    },
    aes::Aes256,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Bytes of a data key, and of the nonces that SOPS draws.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes of the tag that proves a value.
const TAG_BYTES: usize = 16;

/// A data key. Never shown.
#[derive(Clone, Copy)]
pub(super) struct DataKey(pub(super) [u8; KEY_BYTES]);

impl DataKey {
    /// The text behind a ciphertext that is bound to `place`; `None` when the key, the place or the
    /// value is another.
    pub(super) fn open(&self, value: &str, place: &str) -> Option<Vec<u8>> {
        if value.is_empty() {
            return Some(Vec::new());
        }
        let inner = value.strip_prefix("ENC[AES256_GCM,")?.strip_suffix(']')?;
        let part = |name: &str| {
            let found = inner.split(',').find_map(|part| part.strip_prefix(name));
            STANDARD.decode(found?).ok()
        };
        let (mut data, nonce, tag) = (part("data:")?, part("iv:")?, part("tag:")?);
        data.extend(tag);
        let payload = Payload { msg: &data, aad: place.as_bytes() };
        let key = GenericArray::from_slice(&self.0);
        match nonce.len() {
            32 => {
                AesGcm::<Aes256, U32>::new(key).decrypt(GenericArray::from_slice(&nonce), payload)
            }
            16 => {
                AesGcm::<Aes256, U16>::new(key).decrypt(GenericArray::from_slice(&nonce), payload)
            }
            12 => {
                AesGcm::<Aes256, U12>::new(key).decrypt(GenericArray::from_slice(&nonce), payload)
            }
            _ => return None,
        }
        .ok()
    }

    /// A text as a ciphertext bound to `place`; what is empty stays so, as SOPS has it.
    pub(super) fn close(&self, text: &str, kind: &str, place: &str) -> Option<String> {
        if text.is_empty() {
            return Some(String::new());
        }
        let nonce: [u8; 32] = rand::random();
        let payload = Payload { msg: text.as_bytes(), aad: place.as_bytes() };
        let cipher = AesGcm::<Aes256, U32>::new(GenericArray::from_slice(&self.0));
        let sealed = cipher.encrypt(GenericArray::from_slice(&nonce), payload).ok()?;
        let (data, tag) = sealed.split_at(sealed.len().checked_sub(TAG_BYTES)?);
        let [data, nonce, tag] = [data, &nonce, tag].map(|bytes| STANDARD.encode(bytes));
        Some(format!("ENC[AES256_GCM,data:{data},iv:{nonce},tag:{tag},type:{kind}]"))
    }
}
