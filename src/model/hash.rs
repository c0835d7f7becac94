//! A hash that is the same on every machine and in every version.

/// FNV-1a over bytes, 64 bits. Not for secrets; for names, digests of our own data and spreading.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    fnv1a_from(0xcbf2_9ce4_8422_2325, bytes)
}

/// Continues a hash with more bytes.
pub fn fnv1a_from(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What Kubernetes puts behind generated names: letters and digits that make no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Characters behind a generated name.
const SUFFIX: usize = 5;

/// The five characters behind a generated name, drawn from a hash.
pub fn name_suffix(hash: u64) -> String {
    // FNV's low bits mix less than its high ones.
    let mut rest = hash ^ (hash >> 29);
    let digit = |_| {
        let digit = ALPHABET[(rest % 27) as usize];
        rest /= 27;
        char::from(digit)
    };
    (0..SUFFIX).map(digit).collect()
}
