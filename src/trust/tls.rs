//! TLS configurations, always both ways.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca::{Error, Issued, ca_hash, certificate_of};

/// What an agent speaks to a server.
pub const ALPN_AGENT: &[u8] = b"mainstay-agent/1";
/// What servers speak to each other.
pub const ALPN_RAFT: &[u8] = b"mainstay-raft/1";
/// What everybody else speaks.
pub const ALPN_HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Who a peer is, from its verified certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// CN
    pub user: String,
    /// every O
    pub groups: Vec<String>,
}

/// Reads user and groups of a certificate that TLS has verified; `None` when it names nobody.
pub fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization();
    Some(Identity { user, groups: groups.filter_map(|o| Some(o.as_str().ok()?.into())).collect() })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(ca: &str) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate_of(ca, "the CA file")?)?;
    Ok(Arc::new(roots))
}

/// The certificate chain (CA included, so that a joiner can check its hash) and the key.
fn own(
    ca: &str,
    issued: &Issued,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = vec![
        certificate_of(&issued.certificate, "the certificate")?,
        certificate_of(ca, "the CA")?,
    ];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).map_err(|cause| Error::Pem {
        what: "the key file".to_owned(),
        kind: "private key",
        cause: cause.to_string(),
    })?;
    Ok((chain, key))
}

/// The configuration of a listener. A peer may come without a certificate (to join, to ask for
/// health); one that shows a certificate must show one of this CA.
pub fn server(ca: &str, issued: &Issued, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, Error> {
    let clients = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let (chain, key) = own(ca, issued)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The configuration of a dialer that shows `issued`.
pub fn client(ca: &str, issued: &Issued, alpn: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    let (chain, key) = own(ca, issued)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

/// The configuration of a joiner that knows only the hash of the CA's key: the handshake fails,
/// before anything is sent, unless the server's chain ends in a CA with that hash.
pub fn client_pinned(ca_hash: &str, alpn: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    let verifier = Pinned { ca_hash: ca_hash.to_owned(), provider: provider() };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

/// Accepts a server whose chain carries the CA with the wanted hash and whose certificate that CA
/// signed.
#[derive(Debug)]
struct Pinned {
    ca_hash: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let matches = |c: &&CertificateDer<'_>| ca_hash(c).as_deref() == Some(&self.ca_hash);
        let ca = intermediates.iter().find(matches).ok_or_else(|| {
            let found: Vec<_> = intermediates.iter().filter_map(ca_hash).collect();
            rustls::Error::General(format!(
                "the server's CA does not have the hash {}: it shows {}; nothing was sent. \
                 Take the hash from the machine that ran `mainstay init`",
                self.ca_hash,
                if found.is_empty() { "no CA".to_owned() } else { found.join(", ") },
            ))
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}
