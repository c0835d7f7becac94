//! The subject of a certificate: one user and any number of groups.
//!
//! The library that makes certificates keeps one value for each type of attribute, so it cannot say
//! two groups. Here the subject of a certificate that it made is replaced, and the result signed
//! again (RFC 5280 §4.1).

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{KeyPair, SigningKey};
use yasna::{ASN1Error, models::ObjectIdentifier};

use super::Error;

/// `commonName` and `organizationName` (RFC 4519 §2.3, §2.19).
const COMMON_NAME: [u64; 4] = [2, 5, 4, 3];
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

/// The parts of what is signed in a certificate that has extensions, and the place of the subject
/// among them.
const PARTS: usize = 8;
const SUBJECT: usize = 5;

/// Characters of a line of PEM (RFC 7468 §2).
const LINE: usize = 64;

/// The certificate for somebody else: the same in everything but its subject.
pub(super) fn renamed(
    certificate: &[u8],
    common_name: &str,
    organizations: &[String],
    key: &KeyPair,
) -> Result<Vec<u8>, Error> {
    let (mut parts, algorithm) = taken_apart(certificate)
        .map_err(|cause| Error::Request(format!("our own certificate: {cause}")))?;
    parts[SUBJECT] = subject(common_name, organizations);
    let body = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            parts.iter().for_each(|part| writer.next().write_der(part));
        });
    });
    let signature = key.sign(&body)?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&body);
            writer.next().write_der(&algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    }))
}

/// The parts of a certificate, and the algorithm it is signed with.
fn taken_apart(certificate: &[u8]) -> Result<(Vec<Vec<u8>>, Vec<u8>), ASN1Error> {
    yasna::parse_der(certificate, |reader| {
        reader.read_sequence(|reader| {
            let parts = reader.next().read_sequence(|reader| {
                (0..PARTS).map(|_| reader.next().read_der()).collect::<Result<Vec<_>, _>>()
            })?;
            let algorithm = reader.next().read_der()?;
            reader.next().read_der()?;
            Ok((parts, algorithm))
        })
    })
}

fn subject(common_name: &str, organizations: &[String]) -> Vec<u8> {
    let groups = organizations.iter().map(|group| (&ORGANIZATION, group.as_str()));
    let attributes: Vec<_> = groups.chain([(&COMMON_NAME, common_name)]).collect();
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for (oid, text) in attributes {
                writer.next().write_set(|writer| {
                    writer.next().write_sequence(|writer| {
                        writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
                        writer.next().write_utf8_string(text);
                    });
                });
            }
        });
    })
}

/// Bytes as PEM.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    // Base64 is ASCII, so every byte is a character.
    for line in text.as_bytes().chunks(LINE) {
        lines.push_str(&String::from_utf8_lossy(line));
        lines.push('\n');
    }
    lines + &format!("-----END {label}-----\n")
}
