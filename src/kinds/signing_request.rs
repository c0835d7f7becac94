//! What stands in a request for a certificate (PKCS #10, RFC 2986): who somebody wants to be.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const END: &str = "-----END CERTIFICATE REQUEST-----";

/// What a request for a certificate says of its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// CN: the user.
    pub common_name: String,
    /// Every O: the groups.
    pub organizations: Vec<String>,
    /// Alternative names that are DNS names.
    pub dns_names: Vec<String>,
    /// Alternative names that are addresses.
    pub addresses: Vec<IpAddr>,
    /// Alternative names of every other kind (mail, URIs, …), as text.
    pub others: Vec<String>,
}

impl Asked {
    /// Reads the PEM of a request. Says what is wrong with it; whether its signature is right is
    /// seen when it is signed.
    pub fn read(pem: &[u8]) -> Result<Self, String> {
        let der = der(pem).ok_or("PEM block type must be CERTIFICATE REQUEST")?;
        let request = match X509CertificationRequest::from_der(&der) {
            Ok(([], request)) => request,
            Ok(_) => return Err("bytes follow the request".to_owned()),
            Err(error) => return Err(format!("it is no PKCS #10 request: {error}")),
        };
        let subject = &request.certification_request_info.subject;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(str::to_owned).unwrap_or_default()
        };
        let mut asked = Self {
            common_name: subject.iter_common_name().next().map(text).unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            ..Self::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| asked.add(name));
            }
        }
        Ok(asked)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(address) => self.addresses.push(address),
                None => self.others.push(name.to_string()),
            },
            other => self.others.push(other.to_string()),
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The bytes of the one block that a request is.
fn der(pem: &[u8]) -> Option<Vec<u8>> {
    let (_, rest) = str::from_utf8(pem).ok()?.split_once(BEGIN)?;
    let (body, _) = rest.split_once(END)?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok().filter(|der| !der.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(lines: &str) -> String {
        format!("{BEGIN}\n{lines}\n{END}\n")
    }

    /// As Go writes a subject: all groups in one set.
    #[test]
    fn a_request_names_its_user_every_group_and_every_address() {
        let jane = "MIH0MIGbAgEAMDkxKDAKBgNVBAoMA2RldjAKBgNVBAoMA29wczAOBgNVBAoMB29u\n\
            LWNhbGwxDTALBgNVBAMMBGphbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQv\n\
            qMf05NRMh4B+U9zDUfjfOlplRsfWtH0n86KzqOqPOTqDVt5oJkv34AXgpNlmxLzb\n\
            dMQ1xcMR7KIEuwOI2nlsoAAwCgYIKoZIzj0EAwIDSAAwRQIhAKSNs/+LHrJ3QCgE\n\
            x/sjRQthoDHEsNKZgMkaqwQzEfUbAiBad5XjhI4NJg2MrvdYuXPKi6d3/ywzVXd+\n\
            zcGNXnYs6g==";
        let asked = Asked::read(pem(jane).as_bytes()).unwrap();
        assert_eq!(asked.common_name, "jane");
        assert_eq!(asked.organizations, ["dev", "ops", "on-call"]);
        let node = "MIIBEDCBuAIBADAwMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxFzAVBgNVBAMMDnN5\n\
            c3RlbTpub2RlOm4xMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEL6jH9OTUTIeA\n\
            flPcw1H43zpaZUbH1rR9J/Ois6jqjzk6g1beaCZL9+AF4KTZZsS823TENcXDEeyi\n\
            BLsDiNp5bKAmMCQGCSqGSIb3DQEJDjEXMBUwEwYDVR0RBAwwCoICbjGHBAoAAAEw\n\
            CgYIKoZIzj0EAwIDRwAwRAIgUCgWI/XNYSejrw0sRBpL/oVUMzvTpT3dMY5C3M0/\n\
            4RMCIHbTNZHMQ5b05Um1b+rckCBOZR7ly2RWrqcV2EDBp7g6";
        let asked = Asked::read(pem(node).as_bytes()).unwrap();
        assert_eq!(asked.dns_names, ["n1"]);
        assert_eq!(asked.addresses, [IpAddr::from([10, 0, 0, 1])]);
    }

    #[test]
    fn what_is_no_request_says_why() {
        for (text, why) in [
            ("nothing".to_owned(), "PEM block type must be CERTIFICATE REQUEST"),
            (pem("MAAwAA=="), "it is no PKCS #10 request"),
            (pem("!"), "PEM block type must be CERTIFICATE REQUEST"),
        ] {
            let error = Asked::read(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(why), "{text:?}: {error}");
        }
    }
}
