//! The certificate authority of a cluster.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::Timestamp;

/// How long the CA is valid. Its renewal is a decision of people; ten years as kubeadm's.
const CA_DAYS: i64 = 3650;

/// How far back a certificate is valid, so that a peer whose clock is late accepts it.
const BACKDATE: Duration = Duration::from_secs(300);

/// Most groups a certificate of ours carries.
const GROUPS_MAX: usize = 2;

/// `organizationName` (RFC 4519 §2.19).
const ORGANIZATION_OID: [u64; 4] = [2, 5, 4, 10];

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key or certificate cannot be made, or a request is malformed.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// More groups than a certificate of ours carries.
    #[error("{0}: a certificate carries at most {GROUPS_MAX} groups; leave some out")]
    Groups(String),
    /// The key of tokens is no P-256 key, or the machine gives no random bits to sign with.
    #[error("signing tokens: {0}")]
    Signing(String),
    /// TLS cannot be set up from the given keys.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// PEM text does not hold what it should.
    #[error("{what} holds no {kind}: {cause}")]
    Pem {
        /// The file or message.
        what: String,
        /// What should stand there.
        kind: &'static str,
        /// What the parser says.
        cause: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        cause: std::io::Error,
    },
}

/// What a certificate says.
#[derive(Clone, Debug, Default)]
pub struct Leaf {
    /// The user (`system:node:n1`).
    pub common_name: String,
    /// The groups (`system:nodes`).
    pub organizations: Vec<String>,
    /// DNS names and addresses it answers to; empty for clients.
    pub names: Vec<String>,
    /// Days it is valid.
    pub days: i64,
}

/// A certificate with its key, both as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS #8).
    pub key: String,
}

/// A key that never leaves its machine, and the request to have it certified.
pub struct Request {
    /// The private key as PEM.
    pub key: String,
    /// The certificate signing request as PEM.
    pub csr: String,
}

impl Request {
    /// Draws a key and asks for a certificate; the CA decides what it will say.
    pub fn new() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
        Ok(Self { key: key.serialize_pem(), csr })
    }
}

/// A certificate authority: its certificate and its key.
#[derive(Clone)]
pub struct Ca {
    certificate: String,
    key: String,
}

impl Ca {
    /// Makes a new CA for a cluster.
    pub fn generate(cluster: &str, now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("mainstay-ca-{cluster}"), &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        validity(&mut params, now, CA_DAYS);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem() })
    }

    /// Takes up a CA from its PEM texts.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?;
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned() })
    }

    /// The CA's certificate as PEM; public.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The CA's key as PEM; whoever has it is the cluster.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Makes a key and a certificate for it.
    pub fn issue(&self, leaf: &Leaf, now: Timestamp) -> Result<Issued, Error> {
        let key = KeyPair::generate()?;
        let certificate = params(leaf, now)?.signed_by(&key, &self.issuer()?)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }

    /// Certifies the key of a request. What the request says of itself is ignored: `leaf` says who
    /// it is.
    pub fn sign(&self, csr: &str, leaf: &Leaf, now: Timestamp) -> Result<String, Error> {
        let mut request = CertificateSigningRequestParams::from_pem(csr)?;
        request.params = params(leaf, now)?;
        Ok(request.signed_by(&self.issuer()?)?.pem())
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, Error> {
        Ok(Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?)
    }

    /// `sha256:…` over the CA's public key, as kubeadm prints it for a join.
    pub fn hash(&self) -> Result<String, Error> {
        let key = KeyPair::from_pem(&self.key)?;
        Ok(hash(&key.subject_public_key_info()))
    }
}

/// `sha256:…` over the public key of a certificate; `None` when the bytes are no certificate.
pub fn ca_hash(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(hash(parsed.public_key().raw))
}

fn hash(public_key_info: &[u8]) -> String {
    let digest = Sha256::digest(public_key_info);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn params(leaf: &Leaf, now: Timestamp) -> Result<CertificateParams, Error> {
    if leaf.organizations.len() > GROUPS_MAX {
        return Err(Error::Groups(leaf.common_name.clone()));
    }
    let mut params = CertificateParams::new(leaf.names.clone())?;
    params.distinguished_name = name(&leaf.common_name, &leaf.organizations);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !leaf.names.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, leaf.days);
    Ok(params)
}

fn validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let now = OffsetDateTime::from_unix_timestamp(now.0.div_euclid(1000))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - BACKDATE;
    params.not_after = now + time::Duration::days(days);
}

fn name(common_name: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // rcgen keeps one value a type; the same OID under its other name makes room for a second
    // group.
    let places = [DnType::OrganizationName, DnType::CustomDnType(ORGANIZATION_OID.to_vec())];
    for (place, organization) in places.into_iter().zip(organizations) {
        name.push(place, organization.as_str());
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// Reads one certificate from PEM text; `what` names the text in the error.
pub(super) fn certificate_of(pem: &str, what: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|cause| Error::Pem {
        what: what.to_owned(),
        kind: "certificate",
        cause: cause.to_string(),
    })
}
