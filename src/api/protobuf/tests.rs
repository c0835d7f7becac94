//! Bodies that Kubernetes' own marshaller wrote (`tests/oracle/protobuf/`), and bytes nobody wrote.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const GOLDEN: &str = include_str!("../../../tests/oracle/protobuf/bodies.tsv");

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Go prints times that are not set as null; absent is the same.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(k, v)| (k, without_nulls(v))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[test]
fn bodies_read_as_their_json() {
    let mut wrong = Vec::new();
    for line in GOLDEN.lines() {
        let (hex, json) = line.split_once('\t').unwrap();
        let ours = without_nulls(decode(&bytes(hex)).unwrap());
        let theirs = without_nulls(serde_json::from_str(json).unwrap());
        if ours != theirs {
            wrong.push(format!("ours   {ours}\ntheirs {theirs}\n"));
        }
    }
    assert!(GOLDEN.lines().count() > 50);
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_no_body_is_refused_in_words() {
    let refused = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
    expect_test::expect![[r#"
        provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]
        no kind "" is registered for version ""
        unexpected end or malformed protobuf
        the envelope holds "gzip"; only protobuf itself is read"#]]
    .assert_eq(
        &[refused(b"{}"), refused(MAGIC), refused(b"k8s\0\x0a\x7f"), refused(b"k8s\0\x1a\x04gzip")]
            .join("\n"),
    );
}

/// client-go names the group and version of what it deletes.
#[test]
fn the_options_of_a_deletion_are_those_of_every_group() {
    for api_version in ["v1", "apps/v1", "networking.k8s.io/v1", "shop.example/v1"] {
        let mut of_type = vec![0x0a, u8::try_from(api_version.len()).unwrap()];
        of_type.extend(api_version.as_bytes());
        of_type.extend(b"\x12\x0dDeleteOptions");
        let mut body = [MAGIC, &[0x0a, u8::try_from(of_type.len()).unwrap()]].concat();
        body.extend(of_type);
        body.extend(b"\x12\x02\x08\x1e");
        let expected = json!({
            "apiVersion": api_version, "kind": "DeleteOptions", "gracePeriodSeconds": 30,
        });
        assert_eq!(decode(&body).map_err(|e| e.to_string()), Ok(expected));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let mut body = MAGIC.to_vec();
        body.extend_from_slice(b"\x0a\x09\x0a\x02v1\x12\x03Pod\x12");
        body.push(u8::try_from(bytes.len().min(127)).unwrap());
        body.extend(bytes);
        drop(decode(&body));
    }

    /// A real body with one byte changed or its end missing.
    #[test]
    fn no_damaged_body_panics(line in 0_usize..50, at: prop::sample::Index, byte: u8, cut: bool) {
        let hex = GOLDEN.lines().nth(line).unwrap().split('\t').next().unwrap();
        let mut body = bytes(hex);
        let at = at.index(body.len());
        body[at] = byte;
        if cut {
            body.truncate(at);
        }
        drop(decode(&body));
    }
}
