//! The `pod-template-hash` of a ReplicaSet.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// Letters and digits that make no words and cannot be mistaken for each other; Kubernetes' choice
/// as well.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Characters of a hash: 27^10 is a little less than 2^48.
const LENGTH: usize = 10;

/// Names a pod template: equal templates give equal hashes, whatever the order of their fields.
///
/// FNV-1a over the canonical JSON of the template and the Deployment's collision count, written in
/// ten characters that are safe in a name. Kubernetes promises no more than stability and a safe
/// alphabet.
pub fn template_hash(template: &PodTemplateSpec, collision_count: i32) -> String {
    // A template is plain data: turning it into JSON cannot fail.
    let value = serde_json::to_value(template).unwrap_or(Value::Null);
    let mut hash = fnv1a(0xcbf2_9ce4_8422_2325, value.to_string().as_bytes());
    if collision_count != 0 {
        hash = fnv1a(hash, &collision_count.to_le_bytes());
    }
    let digit = |_| {
        let index = usize::try_from(hash % 27).unwrap_or_default();
        hash /= 27;
        char::from(ALPHABET[index])
    };
    (0..LENGTH).map(digit).collect()
}

fn fnv1a(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}
