//! A handshake over a pipe: who is let in, who is not, and what a joiner sends before it knows whom
//! it talks to.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::model::Timestamp;

fn now() -> Timestamp {
    Timestamp(i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap())
}

fn leaf(name: &str, groups: &[&str], names: &[&str]) -> Leaf {
    Leaf {
        common_name: name.into(),
        organizations: groups.iter().map(|g| (*g).into()).collect(),
        names: names.iter().map(|n| (*n).into()).collect(),
        days: 1,
    }
}

/// Shakes hands; gives what each side says: the client's error, or the client as the server sees
/// it.
async fn shake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> Result<Option<Identity>, String> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let served = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await.map_err(|e| e.to_string())?;
        let peer = stream.get_ref().1.peer_certificates().and_then(|c| identity(&c[0]));
        stream.write_all(b"!").await.map_err(|e| e.to_string())?;
        Ok::<_, String>(peer)
    });
    let name = ServerName::try_from("server.test").unwrap();
    let dialed = TlsConnector::from(client).connect(name, near).await;
    let mut stream = dialed.map_err(|e| e.to_string())?;
    stream.read_exact(&mut [0]).await.map_err(|e| e.to_string())?;
    served.await.unwrap()
}

#[tokio::test]
async fn a_certificate_of_the_ca_names_its_user_and_groups() {
    let ca = Ca::generate("a", now()).unwrap();
    let listener = ca.issue(&leaf("server", &[], &["server.test"]), now()).unwrap();
    let groups = ["system:nodes", "more", "and", "more still", "größer"];
    let node = ca.issue(&leaf("system:node:n1", &groups, &[]), now()).unwrap();
    let server = server(ca.certificate(), &listener, &[ALPN_AGENT]).unwrap();
    let client = client(ca.certificate(), &node, ALPN_AGENT).unwrap();
    let identity = shake(server, client).await.unwrap().unwrap();
    assert_eq!(identity.user, "system:node:n1");
    assert_eq!(identity.groups, groups);
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (ca, other) = (Ca::generate("a", now()).unwrap(), Ca::generate("b", now()).unwrap());
    let listener = ca.issue(&leaf("server", &[], &["server.test"]), now()).unwrap();
    let stranger = other.issue(&leaf("system:node:n1", &["system:nodes"], &[]), now()).unwrap();
    let server = server(ca.certificate(), &listener, &[ALPN_AGENT]).unwrap();
    let client = client(ca.certificate(), &stranger, ALPN_AGENT).unwrap();
    shake(server, client).await.unwrap_err();
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let ca = Ca::generate("a", now()).unwrap();
    let listener = ca.issue(&leaf("server", &[], &["server.test"]), now()).unwrap();
    let old = now().plus_seconds(-3 * 86_400);
    let expired = ca.issue(&leaf("system:node:n1", &[], &[]), old).unwrap();
    let server = server(ca.certificate(), &listener, &[ALPN_AGENT]).unwrap();
    let client = client(ca.certificate(), &expired, ALPN_AGENT).unwrap();
    shake(server, client).await.unwrap_err();
}

#[tokio::test]
async fn a_joiner_goes_on_only_with_the_right_hash() {
    let (ca, other) = (Ca::generate("a", now()).unwrap(), Ca::generate("b", now()).unwrap());
    let listener = ca.issue(&leaf("server", &[], &["server.test"]), now()).unwrap();
    let config = server(ca.certificate(), &listener, &ALPN_HTTP).unwrap();
    let right = client_pinned(&ca.hash().unwrap(), b"http/1.1").unwrap();
    assert_eq!(shake(config.clone(), right).await.unwrap(), None);
    let wrong = client_pinned(&other.hash().unwrap(), b"http/1.1").unwrap();
    let error = shake(config, wrong).await.unwrap_err();
    assert!(error.contains("nothing was sent"), "{error}");
}

#[test]
fn a_request_says_nothing_of_itself() {
    let ca = Ca::generate("a", now()).unwrap();
    let request = Request::new().unwrap();
    let signed = ca.sign(&request.csr, &leaf("system:node:n2", &["system:nodes"], &[]), now());
    let der = ca::certificate_of(&signed.unwrap(), "signed").unwrap();
    assert_eq!(identity(&der).unwrap().user, "system:node:n2");
    ca.sign("garbage", &leaf("x", &[], &[]), now()).unwrap_err();
}

/// A request whose groups stand in one set, as Go writes them: no more is read of it than its key.
#[test]
fn a_key_is_certified_in_the_terms_that_were_granted() {
    let ca = Ca::generate("a", now()).unwrap();
    let csr = "-----BEGIN CERTIFICATE REQUEST-----\n\
        MIH0MIGbAgEAMDkxKDAKBgNVBAoMA2RldjAKBgNVBAoMA29wczAOBgNVBAoMB29u\n\
        LWNhbGwxDTALBgNVBAMMBGphbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQv\n\
        qMf05NRMh4B+U9zDUfjfOlplRsfWtH0n86KzqOqPOTqDVt5oJkv34AXgpNlmxLzb\n\
        dMQ1xcMR7KIEuwOI2nlsoAAwCgYIKoZIzj0EAwIDSAAwRQIhAKSNs/+LHrJ3QCgE\n\
        x/sjRQthoDHEsNKZgMkaqwQzEfUbAiBad5XjhI4NJg2MrvdYuXPKi6d3/ywzVXd+\n\
        zcGNXnYs6g==\n-----END CERTIFICATE REQUEST-----\n";
    let terms = Terms {
        common_name: "jane".into(),
        organizations: ["dev", "ops", "on-call"].map(str::to_owned).into(),
        names: vec!["10.0.0.1".into()],
        usages: vec![Usage::KeyEncipherment, Usage::ServerAuth],
        seconds: 3600,
    };
    let signed = ca.certify(csr, &terms, now()).unwrap();
    let der = ca::certificate_of(&signed, "signed").unwrap();
    let identity = identity(&der).unwrap();
    assert_eq!((identity.user.as_str(), identity.groups.len()), ("jane", 3));
    let validity = Validity::of(&signed).unwrap();
    assert_eq!((validity.until.0 - validity.from.0) / 1000, 3600 + 300);
    let (_, parsed) =
        <x509_parser::certificate::X509Certificate<'_> as x509_parser::prelude::FromDer<_>>::from_der(&der)
            .unwrap();
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth);
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.key_encipherment() && !usage.digital_signature() && !parsed.is_ca());
    let forged = csr.replace("zcGNXnYs6g==", "zcGNXnYs6w==");
    let error = ca.certify(&forged, &terms, now()).unwrap_err().to_string();
    assert_eq!(error, "request for a certificate: it is not signed with its own key");
    let long = Terms { seconds: 100 * 365 * 86_400, ..terms };
    let until = Validity::of(&ca.certify(csr, &long, now()).unwrap()).unwrap().until;
    assert_eq!(until, Validity::of(ca.certificate()).unwrap().until, "no longer than the CA");
}

#[test]
fn a_renewed_certificate_says_the_same_for_as_long() {
    let ca = Ca::generate("a", now()).unwrap();
    let names = ["localhost", "127.0.0.1", "fd00::1"];
    let mut wanted = leaf("mainstay:server", &["mainstay:servers", "system:masters"], &names);
    wanted.days = 90;
    let then = now().plus_seconds(-80 * 86_400);
    let old = ca.issue(&wanted, then).unwrap();
    let before = Validity::of(&old.certificate).unwrap();
    assert!(before.renew_at() < now(), "two thirds of 90 days are over after 60");
    assert!(before.renew_at() > then.plus_seconds(59 * 86_400));

    let new = ca.renew(&old.certificate, now()).unwrap();
    let after = Validity::of(&new.certificate).unwrap();
    assert_eq!(after.until.0 - after.from.0, before.until.0 - before.from.0);
    assert!(after.until > now().plus_seconds(89 * 86_400));
    assert_ne!(new.key, old.key);
    let identity_of = |issued: &Issued| {
        identity(&ca::certificate_of(&issued.certificate, "test").unwrap()).unwrap()
    };
    assert_eq!(identity_of(&new), identity_of(&old));
    for name in ["localhost", "127.0.0.1", "::1"] {
        let known = new_names(&new.certificate).iter().any(|n| n.ends_with(name));
        assert!(known, "{name}");
    }
}

fn new_names(pem: &str) -> Vec<String> {
    let der = ca::certificate_of(pem, "test").unwrap();
    let (_, parsed) =
        <x509_parser::certificate::X509Certificate<'_> as x509_parser::prelude::FromDer<_>>::from_der(&der)
            .unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let text = |name: &x509_parser::prelude::GeneralName<'_>| match name {
        x509_parser::prelude::GeneralName::IPAddress(b) if b.len() == 16 => {
            std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*b).unwrap()).to_string()
        }
        x509_parser::prelude::GeneralName::IPAddress(b) => {
            std::net::Ipv4Addr::from(<[u8; 4]>::try_from(*b).unwrap()).to_string()
        }
        x509_parser::prelude::GeneralName::DNSName(name) => (*name).to_owned(),
        other => panic!("{other:?}"),
    };
    names.value.general_names.iter().map(text).collect()
}

/// The key and the certificate that are found.
fn found(keys: &KeyFiles) -> (String, String) {
    pair(&keys.issued("node").unwrap())
}

fn pair(issued: &Issued) -> (String, String) {
    (issued.key.clone(), issued.certificate.clone())
}

#[test]
fn a_replacement_that_was_interrupted_counts() {
    let dir = tempfile::tempdir().unwrap();
    let keys = KeyFiles::new(dir.path());
    let ca = Ca::generate("a", now()).unwrap();
    let [old, new, last] = [0, 1, 2].map(|_| ca.issue(&leaf("x", &[], &[]), now()).unwrap());
    keys.write_issued("node", &old).unwrap();
    assert_eq!(found(&keys), pair(&old));

    // A crash behind the first file: the key is new, the certificate old, the pair lies beside.
    let crash = || {
        let next = format!("{}\n----- and -----\n{}", new.key, new.certificate);
        write_private(&dir.path().join("node.next"), next.as_bytes()).unwrap();
        write_private(&dir.path().join("node.key"), new.key.as_bytes()).unwrap();
        assert_eq!(found(&keys), pair(&new));
    };
    crash();
    keys.replace_issued("node", &last).unwrap();
    assert_eq!(found(&keys), pair(&last));
    crash();
    keys.write_issued("node", &old).unwrap();
    assert_eq!(found(&keys), pair(&old));
    assert!(!dir.path().join("node.next").exists());
}

/// What must not happen: who reads finds half of each, or keeps the owner from writing.
#[test]
fn a_pair_may_be_read_while_it_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let keys = KeyFiles::new(dir.path());
    let ca = Ca::generate("a", now()).unwrap();
    let pairs = [0, 1].map(|_| ca.issue(&leaf("x", &[], &[]), now()).unwrap());
    keys.write_issued("node", &pairs[0]).unwrap();
    std::thread::scope(|scope| {
        let owner = scope.spawn(|| {
            (0..200).for_each(|n| keys.replace_issued("node", &pairs[n % 2]).unwrap());
        });
        while !owner.is_finished() {
            let found = found(&keys);
            assert!(pairs.iter().any(|issued| pair(issued) == found), "half of each");
        }
    });
}
