//! The certificate authority of a cluster.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use super::{name, renewal::Validity};
use crate::model::Timestamp;

/// How long the CA is valid. Its renewal is a decision of people; ten years as kubeadm's.
const CA_DAYS: i64 = 3650;

/// How far back a certificate is valid, so that a peer whose clock is late accepts it.
const BACKDATE: Duration = Duration::from_secs(300);

/// One day in seconds.
const DAY_SECONDS: i64 = 86_400;

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key or certificate cannot be made, or a request is malformed.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// What should be a request for a certificate is none, or is not signed with its own key.
    #[error("request for a certificate: {0}")]
    Request(String),
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

/// What somebody may do with a certificate, as Kubernetes names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// `digital signature`
    DigitalSignature,
    /// `key encipherment`
    KeyEncipherment,
    /// `client auth`
    ClientAuth,
    /// `server auth`
    ServerAuth,
}

impl Usage {
    /// The usage of this name; `None` when we certify no such.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "digital signature" => Self::DigitalSignature,
            "key encipherment" => Self::KeyEncipherment,
            "client auth" => Self::ClientAuth,
            "server auth" => Self::ServerAuth,
            _ => return None,
        })
    }
}

/// Everything a certificate says.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The user.
    pub common_name: String,
    /// The groups.
    pub organizations: Vec<String>,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// What it is for.
    pub usages: Vec<Usage>,
    /// Seconds it is valid; never longer than the CA.
    pub seconds: i64,
}

impl From<&Leaf> for Terms {
    fn from(leaf: &Leaf) -> Self {
        let mut usages = vec![Usage::DigitalSignature, Usage::ClientAuth];
        if !leaf.names.is_empty() {
            usages.push(Usage::ServerAuth);
        }
        Self {
            common_name: leaf.common_name.clone(),
            organizations: leaf.organizations.clone(),
            names: leaf.names.clone(),
            usages,
            seconds: leaf.days * DAY_SECONDS,
        }
    }
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
        params.distinguished_name = name(&format!("mainstay-ca-{cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        validity(&mut params, now, CA_DAYS * DAY_SECONDS);
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
        let certificate = self.made(&key, &Terms::from(leaf), now)?;
        Ok(Issued { certificate, key: key.serialize_pem() })
    }

    /// Certifies the key of a request. What the request says of itself is ignored: `leaf` says who
    /// it is.
    pub fn sign(&self, csr: &str, leaf: &Leaf, now: Timestamp) -> Result<String, Error> {
        self.certify(csr, &Terms::from(leaf), now)
    }

    /// Certifies the key of a request in these terms, whatever it asks for.
    pub fn certify(&self, csr: &str, terms: &Terms, now: Timestamp) -> Result<String, Error> {
        self.made(&key_of(csr)?, terms, now)
    }

    fn made(
        &self,
        of: &impl PublicKeyData,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<String, Error> {
        let mut params = params(terms, now)?;
        let end = Validity::of(&self.certificate)?.until;
        params.not_after = params.not_after.min(moment(end));
        let key = KeyPair::from_pem(&self.key)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, &key)?;
        let plain = params.signed_by(of, &issuer)?;
        let whole = name::renamed(plain.der(), &terms.common_name, &terms.organizations, &key)?;
        Ok(name::pem("CERTIFICATE", &whole))
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

/// The key that a request is about, once it is clear that the asker has it.
fn key_of(csr: &str) -> Result<SubjectPublicKeyInfo, Error> {
    let wrong = |cause: String| Error::Request(cause);
    let der = CertificateSigningRequestDer::from_pem_slice(csr.as_bytes());
    let der = der.map_err(|cause| wrong(cause.to_string()))?;
    let (_, request) =
        X509CertificationRequest::from_der(&der).map_err(|cause| wrong(cause.to_string()))?;
    request.verify_signature().map_err(|_| wrong("it is not signed with its own key".into()))?;
    let key = request.certification_request_info.subject_pki.raw;
    Ok(SubjectPublicKeyInfo::from_der(key)?)
}

/// Everything but the groups, which [`name::renamed`] puts in.
fn params(terms: &Terms, now: Timestamp) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(terms.names.clone())?;
    params.distinguished_name = name(&terms.common_name);
    for usage in &terms.usages {
        match usage {
            Usage::DigitalSignature => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
            Usage::KeyEncipherment => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
            Usage::ClientAuth => {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
            }
            Usage::ServerAuth => {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            }
        }
    }
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, terms.seconds);
    Ok(params)
}

fn validity(params: &mut CertificateParams, now: Timestamp, seconds: i64) {
    let now = moment(now);
    params.not_before = now - BACKDATE;
    params.not_after = now + time::Duration::seconds(seconds);
}

fn moment(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
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
