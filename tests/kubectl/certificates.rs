//! Somebody asks for a certificate, an administrator approves, and the certificate lets them in.

use std::fs;

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::world::{World, kubectls};

#[test]
fn a_certificate_that_was_approved_is_signed_and_lets_its_holder_in() {
    let test = "a_certificate_that_was_approved_is_signed_and_lets_its_holder_in";
    if kubectls(test).is_empty() {
        return;
    }
    let world = World::up(1);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "dev");
    params.distinguished_name.push(DnType::CommonName, "jane");
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let request = format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\n\
         metadata: {{name: jane}}\nspec:\n  request: {}\n  usages: [client auth]\n  \
         signerName: kubernetes.io/kube-apiserver-client\n  expirationSeconds: 3600\n",
        BASE64_STANDARD.encode(csr)
    );
    world.feed(0, "kubectl", &["create", "-f", "-"], &request).unwrap();
    let read = ["get", "csr", "jane", "-o", "jsonpath={.status.certificate}"];
    assert_eq!(world.kubectl(0, "kubectl", &read).unwrap(), "", "signed before it was approved");
    world.kubectl(0, "kubectl", &["certificate", "approve", "jane"]).unwrap();
    world.until("it is signed", || world.kubectl(0, "kubectl", &read).is_ok_and(|c| !c.is_empty()));
    let certificate = world.kubectl(0, "kubectl", &read).unwrap();
    let listed = world.kubectl(0, "kubectl", &["get", "csr", "jane"]).unwrap();
    assert!(listed.contains("Approved,Issued"), "{listed}");

    let dir = tempfile::tempdir().unwrap();
    let (own, cert) = (dir.path().join("jane.key"), dir.path().join("jane.crt"));
    fs::write(&own, key.serialize_pem()).unwrap();
    fs::write(&cert, BASE64_STANDARD.decode(certificate).unwrap()).unwrap();
    let (own, cert) = (own.display().to_string(), cert.display().to_string());
    let set = ["config", "set-credentials", "jane", "--client-key", &own];
    world.kubectl(0, "kubectl", &[&set[..], &["--client-certificate", &cert]].concat()).unwrap();
    let me = world.kubectl(0, "kubectl", &["--user", "jane", "auth", "whoami"]).unwrap();
    assert!(me.contains("jane") && me.contains("[dev system:authenticated]"), "{me}");
    let secrets = world.kubectl(0, "kubectl", &["--user", "jane", "get", "secrets", "-n", "free"]);
    let refused = secrets.unwrap_err();
    assert!(refused.contains("User \"jane\" cannot list resource \"secrets\""), "{refused}");
}
