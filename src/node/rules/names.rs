//! Names of chains.

use sha2::{Digest, Sha256};
use smol_str::{SmolStr, format_smolstr};

/// RFC 4648 base 32.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Letters of a hash in a chain name. 9 (`KUBE-SVC-`) and 16 stay below the 28 that iptables
/// allows.
const HASH_LETTERS: usize = 16;

/// `PREFIX` and 16 letters of the hash of what the chain is for: the same names as kube-proxy
/// makes.
pub(super) fn hashed(prefix: &str, parts: &[&str]) -> SmolStr {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    format_smolstr!("{prefix}{}", base32(&hash.finalize()))
}

/// The first letters in base 32: five bits each, highest first.
fn base32(bytes: &[u8]) -> String {
    let bit = |i: usize| bytes[i / 8] >> (7 - i % 8) & 1;
    let letter = |n: usize| (n * 5..n * 5 + 5).fold(0, |value, i| value << 1 | bit(i));
    (0..HASH_LETTERS).map(|n| char::from(ALPHABET[usize::from(letter(n))])).collect()
}

/// `shop/web:http` as it may stand between quotes in a rule. Names of objects were validated at the
/// door; a rule is no place to rely on it, so every other byte becomes `_`.
pub(super) fn in_comment(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/".contains(c);
    name.chars().map(|c| if plain(c) { c } else { '_' }).take(COMMENT_CHARS_MAX).collect()
}

/// Longest name in a comment; iptables takes 255 characters, and we add two words.
const COMMENT_CHARS_MAX: usize = 230;

#[cfg(test)]
mod tests {
    use super::*;

    /// Names every kubeadm cluster shows.
    #[test]
    fn equals_kube_proxy() {
        let chain = |name, protocol| hashed("KUBE-SVC-", &[name, protocol]);
        assert_eq!(chain("default/kubernetes:https", "tcp"), "KUBE-SVC-NPX46M4PTMTKRN6Y");
        assert_eq!(chain("kube-system/kube-dns:dns", "udp"), "KUBE-SVC-TCOU7JCQXEZGVUNU");
        assert_eq!(chain("kube-system/kube-dns:dns-tcp", "tcp"), "KUBE-SVC-ERIFXISQEP7F7OF4");
    }

    #[test]
    fn a_comment_cannot_leave_its_quotes() {
        assert_eq!(in_comment("shop/web:http"), "shop/web:http");
        assert_eq!(in_comment("a\"\n-A INPUT -j ACCEPT\\"), "a__-A_INPUT_-j_ACCEPT_");
        assert_eq!(in_comment(&"x".repeat(999)).len(), COMMENT_CHARS_MAX);
    }
}
