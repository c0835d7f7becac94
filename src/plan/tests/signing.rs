use expect_test::expect;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::json;

use super::world::World;
use crate::{
    model::{Key, Object},
    plan::signing::{self, due},
    state::{Command, Expect, Op, Part},
};

/// jane of dev, ops and on-call.
const JANE: &str = "MIH0MIGbAgEAMDkxKDAKBgNVBAoMA2RldjAKBgNVBAoMA29wczAOBgNVBAoMB29u\
    LWNhbGwxDTALBgNVBAMMBGphbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQvqMf05NRMh4B+U9zDUfjfOlplRsfW\
    tH0n86KzqOqPOTqDVt5oJkv34AXgpNlmxLzbdMQ1xcMR7KIEuwOI2nlsoAAwCgYIKoZIzj0EAwIDSAAwRQIhAKSNs/+L\
    HrJ3QCgEx/sjRQthoDHEsNKZgMkaqwQzEfUbAiBad5XjhI4NJg2MrvdYuXPKi6d3/ywzVXd+zcGNXnYs6g==";
/// The node n1 with a DNS name and an address.
const NODE: &str = "MIIBEDCBuAIBADAwMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxFzAVBgNVBAMMDnN5\
    c3RlbTpub2RlOm4xMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEL6jH9OTUTIeAflPcw1H43zpaZUbH1rR9J/Ois6jq\
    jzk6g1beaCZL9+AF4KTZZsS823TENcXDEeyiBLsDiNp5bKAmMCQGCSqGSIb3DQEJDjEXMBUwEwYDVR0RBAwwCoICbjGH\
    BAoAAAEwCgYIKoZIzj0EAwIDRwAwRAIgUCgWI/XNYSejrw0sRBpL/oVUMzvTpT3dMY5C3M0/4RMCIHbTNZHMQ5b05Um1\
    b+rckCBOZR7ly2RWrqcV2EDBp7g6";
/// The same with a URI and a mail address.
const ODD: &str = "MIIBHTCBxAIBADAwMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxFzAVBgNVBAMMDnN5\
    c3RlbTpub2RlOm4xMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEL6jH9OTUTIeAflPcw1H43zpaZUbH1rR9J/Ois6jq\
    jzk6g1beaCZL9+AF4KTZZsS823TENcXDEeyiBLsDiNp5bKAyMDAGCSqGSIb3DQEJDjEjMCEwHwYDVR0RBBgwFoICbjGG\
    CWh0dHBzOi8veIEFYUBiLmMwCgYIKoZIzj0EAwIDSAAwRQIgTepNtTsypPrUIVXf44hZQrPM03Qu0bHBTK0u3wIw8ZEC\
    IQDKR+isP2t6BoDyZQOKCJgtkoW5RHNhz9j66qJ0O3kQoQ==";

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";

/// A request in which somebody decided so; `Pending` when nobody did.
fn ask(world: &mut World, name: &str, signer: &str, body: &str, usages: &[&str], decided: &str) {
    let pem =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    world.put(json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": { "name": name },
        "spec": {
            "request": base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pem),
            "signerName": signer, "usages": usages, "expirationSeconds": 3600,
        },
    }));
    if decided != "Pending" {
        status(world, name, decided);
    }
}

fn status(world: &mut World, name: &str, decided: &str) {
    let key = Key::of::<CertificateSigningRequest>("", name);
    let mut value = world.view().object(&key).unwrap().value();
    value["status"]["conditions"] = json!([{
        "type": decided, "status": "True", "lastUpdateTime": world.now.to_time(),
        "lastTransitionTime": world.now.to_time(),
    }]);
    let object = Object::from_value(&value).unwrap();
    let put = Op::Put { object, expect: Expect::Any, part: Part::Status };
    world.apply(vec![Command::Write(vec![put])]);
}

/// What is done about a request: what is signed, why it is not, or nothing.
fn told(signer: &str, body: &str, usages: &[&str], decided: &str) -> String {
    let mut world = World::new();
    ask(&mut world, "r", signer, body, usages, decided);
    let orders = due(world.view());
    match orders.first().map(|order| &order.verdict) {
        None => "nothing".to_owned(),
        Some(Err(why)) => format!("refused: {why}"),
        Some(Ok(grant)) => format!(
            "{} of {:?}, {:?}, {:?}, {} s",
            grant.common_name, grant.organizations, grant.names, grant.usages, grant.seconds
        ),
    }
}

#[test]
fn each_signer_signs_what_it_is_for() {
    let client = ["client auth"];
    let serving = ["digital signature", "server auth"];
    let lines = [
        told(CLIENT, JANE, &client, "Approved"),
        told(CLIENT, JANE, &client, "Pending"),
        told(CLIENT, JANE, &client, "Denied"),
        told(CLIENT, JANE, &serving, "Approved"),
        told(NODE_CLIENT, JANE, &client, "Approved"),
        told(NODE_CLIENT, NODE, &client, "Approved"),
        told(SERVING, NODE, &serving, "Approved"),
        told(SERVING, NODE, &["digital signature"], "Approved"),
        told(SERVING, ODD, &serving, "Approved"),
        told("example.com/own", JANE, &client, "Approved"),
    ];
    expect![[r#"
        jane of ["dev", "ops", "on-call"], [], ["client auth"], 3600 s
        nothing
        nothing
        refused: usages must be "client auth" and may be "digital signature" and "key encipherment" beside it
        refused: subject organization is not system:nodes
        refused: a node's client certificate has no subject alternative names
        system:node:n1 of ["system:nodes"], ["n1", "10.0.0.1"], ["digital signature", "server auth"], 3600 s
        refused: usages must be "server auth" and may be "digital signature" and "key encipherment" beside it
        refused: only DNS names and addresses are allowed as alternative names
        nothing
    "#]]
    .assert_eq(&lines.map(|line| line + "\n").concat());
}

#[test]
fn what_was_answered_is_not_answered_again_and_goes_after_an_hour() {
    let mut world = World::new();
    ask(&mut world, "signed", CLIENT, JANE, &["client auth"], "Approved");
    ask(&mut world, "failed", NODE_CLIENT, JANE, &["client auth"], "Approved");
    ask(&mut world, "pending", CLIENT, JANE, &["client auth"], "Pending");
    let answers: Vec<Command> = due(world.view())
        .iter()
        .flat_map(|order| match &order.verdict {
            Ok(_) => signing::signed(order, "the certificate"),
            Err(why) => signing::failed(order, why, world.now),
        })
        .collect();
    assert_eq!(answers.len(), 2);
    world.apply(answers);
    assert!(due(world.view()).is_empty());
    let request = |world: &World, name: &str| {
        world.view().get::<CertificateSigningRequest>("", name).cloned()
    };
    let signed = request(&world, "signed").unwrap().status.unwrap();
    assert_eq!(signed.certificate.unwrap().0, b"the certificate");
    assert_eq!(signed.conditions.unwrap()[0].type_, "Approved", "what was decided stays");
    let failed = request(&world, "failed").unwrap().status.unwrap();
    assert_eq!(failed.conditions.unwrap()[1].reason.as_deref(), Some("SignerValidationFailure"));
    let left =
        |world: &World| ["signed", "failed", "pending"].map(|name| request(world, name).is_some());
    world.wait(3599);
    world.settle();
    assert_eq!(left(&world), [true, true, true]);
    world.wait(1);
    world.settle();
    assert_eq!(left(&world), [false, false, true]);
    world.wait(86_400 - 3600);
    world.settle();
    assert_eq!(left(&world), [false, false, false]);
}
