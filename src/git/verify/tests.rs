//! The texts that configurations and gpg write.

use super::{gpg, signers};
use crate::model::Timestamp;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGOcWlO8h2gyk8oA3mEVXKpmHpXJnmZQpO0OHtSm2Q1p";

fn refused(line: &str, word: &str) {
    let error = signers::allowed(&format!("# who\n\n{line}\n")).unwrap_err();
    assert!(error.starts_with("allowedSigners, line 3: ") && error.contains(word), "{error}");
}

#[test]
fn signers_are_read_as_openssh_writes_them() {
    let text = format!(
        "# who may\n\
         ann@example.org,ann {KEY} ann's laptop\n\
         \"bob b\" namespaces=\"git,file\",valid-after=\"20260101\",valid-before=\"202701010000Z\" {KEY}\n\
         eve@example.org namespaces=\"file\" {KEY}\n"
    );
    let found = signers::allowed(&text).unwrap();
    let names: Vec<&str> = found.iter().map(|signer| signer.name.as_str()).collect();
    assert_eq!(names, ["ann@example.org,ann", "bob b"]);
    refused("ann@example.org", "ssh-ed25519");
    refused(&format!("ann cert-authority {KEY}"), "list the keys");
    refused(&format!("ann no-such-option {KEY}"), "no-such-option");
    refused(&format!("ann valid-before=\"soon\" {KEY}"), "20261231");
    refused(&format!("ann valid-before=\"20261399\" {KEY}"), "20261231");
    let error = signers::keys("rubbish").unwrap_err();
    assert!(error.starts_with("revokedKeys, line 1: "), "{error}");
}

#[test]
fn a_key_counts_in_its_time() {
    let line = format!("ann valid-after=\"20260102\",valid-before=\"20260103120000\" {KEY}");
    let allowed = signers::allowed(&line).unwrap();
    let key = signers::keys(KEY).unwrap().remove(0);
    let signers = signers::Signers { allowed, revoked: Vec::new() };
    let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let counts = |text: &str| signers.who(&key, at(text)).is_ok();
    assert!(!counts("2026-01-01T23:59:59Z"));
    assert!(counts("2026-01-02T00:00:00Z") && counts("2026-01-03T11:59:59Z"));
    assert!(!counts("2026-01-03T12:00:00Z"));
    let revoked = signers::Signers { revoked: vec![key.clone()], ..signers };
    assert!(revoked.who(&key, at("2026-01-02T00:00:00Z")).unwrap_err().contains("revoked"));
}

#[test]
fn gpg_has_to_say_that_one_signature_is_good() {
    let good = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 1234 Ann A <ann@example.org>\n[GNUPG:] VALIDSIG \
                ABCD 2026-01-01 1 0 4 0 1 10 00 EF01\n";
    let found = gpg::verdict(good).unwrap();
    assert_eq!(found, ("Ann A <ann@example.org>".to_owned(), "EF01".to_owned()));
    let says = |status: &str| gpg::verdict(status).unwrap_err();
    assert!(says("").contains("cannot tell"));
    assert!(says("[GNUPG:] GOODSIG 1234 Ann\n").contains("cannot tell"));
    assert!(says(&good.repeat(2)).contains("cannot tell"));
    assert!(says(&format!("{good}[GNUPG:] EXPKEYSIG 1234 Ann\n")).contains("expired"));
    assert!(says(&format!("{good}[GNUPG:] REVKEYSIG 1234 Ann\n")).contains("revoked"));
    assert!(says("[GNUPG:] NEWSIG\n[GNUPG:] BADSIG 1234 Ann\n").contains("something else"));
    assert!(says("[GNUPG:] NO_PUBKEY 1234\n").contains("the key 1234"));
}
