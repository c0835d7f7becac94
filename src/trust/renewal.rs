//! When a certificate is due for renewal, and the same one anew.

use std::net::IpAddr;

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::ca::{Ca, Error, Issued, Leaf, certificate_of};
use crate::model::Timestamp;

/// One day in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// From when until when a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub until: Timestamp,
}

impl Validity {
    /// Reads it from a PEM text.
    pub fn of(certificate: &str) -> Result<Self, Error> {
        parsed(certificate, |parsed| {
            let seconds = |time: x509_parser::time::ASN1Time| Timestamp(time.timestamp() * 1000);
            let validity = parsed.validity();
            Self { from: seconds(validity.not_before), until: seconds(validity.not_after) }
        })
    }

    /// When a third of the time is left: weeks for a server that is down to come back.
    pub fn renew_at(&self) -> Timestamp {
        Timestamp(self.until.0 - (self.until.0 - self.from.0) / 3)
    }
}

impl Ca {
    /// Makes a new key and a certificate that says what `certificate` says and is valid as long,
    /// from now on.
    pub fn renew(&self, certificate: &str, now: Timestamp) -> Result<Issued, Error> {
        let validity = Validity::of(certificate)?;
        let days = ((validity.until.0 - validity.from.0) / DAY_MS).max(1);
        let leaf = parsed(certificate, |parsed| leaf(parsed, days))?;
        self.issue(&leaf, now)
    }
}

fn parsed<T>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Result<T, Error> {
    let what = "the certificate file";
    let der = certificate_of(pem, what)?;
    let malformed = |cause: String| Error::Pem { what: what.into(), kind: "certificate", cause };
    let (_, certificate) =
        X509Certificate::from_der(&der).map_err(|cause| malformed(cause.to_string()))?;
    Ok(read(&certificate))
}

fn leaf(certificate: &X509Certificate<'_>, days: i64) -> Leaf {
    let subject = certificate.subject();
    let common_name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|found| &found.value.general_names).filter_map(name);
    Leaf {
        common_name: common_name.unwrap_or_default().to_owned(),
        organizations: groups.map(str::to_owned).collect(),
        names: names.collect(),
        days,
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| v6()).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}
