//! Requests for certificates, and bundles of trusted ones.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestStatus, ClusterTrustBundle,
    PodCertificateRequest, PodCertificateRequestStatus,
};

use super::{Asked, Kind, field::Check, names};

/// What a certificate may be for. Source:
/// kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// The signer of old requests, which named none.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
/// Least seconds that somebody may ask for.
const SECONDS_MIN: i32 = 600;
/// Least seconds that a pod may ask for: an hour.
const POD_SECONDS_MIN: i32 = 3600;
/// Most seconds that a pod may ask for: 91 days.
const POD_SECONDS_MAX: i32 = 91 * 86_400;

impl Kind for CertificateSigningRequest {
    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        if let Err(text) = Asked::read(&spec.request.0) {
            check.invalid("spec.request", STANDARD.encode(&spec.request.0), text);
        }
        let usages = spec.usages.as_deref().unwrap_or_default();
        if usages.is_empty() {
            check.required("spec.usages", "");
        }
        let mut seen = BTreeSet::new();
        for (i, usage) in usages.iter().enumerate() {
            let field = format!("spec.usages[{i}]");
            check.one_of(&field, usage, &USAGES);
            if !seen.insert(usage) {
                check.duplicate(field, usage);
            }
        }
        validate_signer("spec.signerName", &spec.signer_name, check);
        if spec.signer_name == LEGACY_SIGNER {
            let text = "the legacy signerName is not allowed via this API version";
            check.invalid("spec.signerName", &spec.signer_name, text);
        }
        if let Some(seconds) = spec.expiration_seconds.filter(|s| *s < SECONDS_MIN) {
            let text = "may not specify a duration less than 600 seconds (10 minutes)";
            check.invalid("spec.expirationSeconds", seconds, text);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(CertificateSigningRequestStatus::default());
    }

    /// A request says what it said when it was made.
    fn prepare_update(&mut self, live: &Self) {
        self.spec.clone_from(&live.spec);
    }
}

/// Whether a text has one PEM block of this type with base64 in it.
fn holds_block(pem: &[u8], of_type: &str) -> bool {
    let Ok(text) = str::from_utf8(pem) else { return false };
    let body = text
        .split_once(&format!("-----BEGIN {of_type}-----"))
        .and_then(|(_, rest)| rest.split_once(&format!("-----END {of_type}-----")));
    let body: Option<String> = body.map(|(body, _)| body.split_whitespace().collect());
    body.is_some_and(|b| STANDARD.decode(b).is_ok_and(|der| !der.is_empty()))
}

/// The name of a signer: `example.com/name`.
fn validate_signer(field: &str, signer: &str, check: &mut Check) {
    if signer.is_empty() {
        check.required(field, "");
        return;
    }
    let Some((domain, path)) = signer.split_once('/').filter(|(_, path)| !path.contains('/'))
    else {
        let text =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        check.invalid(field, signer, text);
        return;
    };
    for label in domain.split('.') {
        for message in names::dns1123_label(label) {
            check.invalid(field, domain, format!("validating label {label:?}: {message}"));
        }
    }
    if !domain.contains('.') {
        let text = "should be a domain with at least two segments separated by dots";
        check.invalid(field, domain, text);
    }
    for label in path.split('.') {
        for message in names::dns1123_subdomain(label) {
            check.invalid(field, path, format!("validating label {label:?}: {message}"));
        }
    }
}

impl Kind for ClusterTrustBundle {
    fn validate(&self, check: &mut Check) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        match self.spec.signer_name.as_deref().filter(|s| !s.is_empty()) {
            Some(signer) => {
                validate_signer("spec.signerName", signer, check);
                let prefix = format!("{}:", signer.replace('/', ":"));
                if !name.starts_with(&prefix) {
                    let text = format!(
                        "ClusterTrustBundle for signerName {signer} must be named with prefix \
                         {prefix}"
                    );
                    check.invalid("metadata.name", name, text);
                }
                let rest = name.strip_prefix(&prefix).unwrap_or(name);
                check.text("metadata.name", name, names::dns1123_subdomain(rest));
            }
            None if name.contains(':') => {
                let text = "ClusterTrustBundle without signer name must not have \":\" in its name";
                check.invalid("metadata.name", name, text);
            }
            None => check.text("metadata.name", name, names::dns1123_subdomain(name)),
        }
        if !holds_block(self.spec.trust_bundle.as_bytes(), "CERTIFICATE") {
            let text = "at least one trust anchor must be provided";
            check.invalid("spec.trustBundle", "<value omitted>", text);
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("spec.signerName", &live.spec.signer_name, &self.spec.signer_name);
    }
}

impl Kind for PodCertificateRequest {
    fn default_fields(&mut self) {
        // A day.
        self.spec.max_expiration_seconds.get_or_insert(86_400);
    }

    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        validate_signer("spec.signerName", &spec.signer_name, check);
        for (field, value) in [
            ("spec.podName", &spec.pod_name),
            ("spec.serviceAccountName", &spec.service_account_name),
            ("spec.nodeName", &spec.node_name),
        ] {
            check.text(field, value, names::dns1123_subdomain(value));
        }
        for (field, value) in [
            ("spec.podUID", &spec.pod_uid),
            ("spec.serviceAccountUID", &spec.service_account_uid),
            ("spec.nodeUID", &spec.node_uid),
        ] {
            if value.is_empty() {
                check.required(field, "");
            }
        }
        let seconds = spec.max_expiration_seconds.unwrap_or_default();
        if !(POD_SECONDS_MIN..=POD_SECONDS_MAX).contains(&seconds) {
            let text = format!("must be in the range [{POD_SECONDS_MIN}, {POD_SECONDS_MAX}]");
            check.invalid("spec.maxExpirationSeconds", seconds, text);
        }
        if spec.stub_pkc_s10_request.0.is_empty() {
            check.required("spec.stubPKCS10Request", "");
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(PodCertificateRequestStatus::default());
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("spec", &live.spec, &self.spec);
    }
}
