//! How little a kubectl asks that has never seen the cluster.

use std::path::Path;

use crate::world::{World, kubectls};

/// The first version that asks for all groups at once: without that each group is a request.
const AGGREGATED: (u32, u32) = (1, 27);

/// Requests of a cold `kubectl get pods`: the two discovery documents, the pods, and two to spare
/// for what newer versions may ask first.
const REQUESTS_MAX: u64 = 5;

#[test]
fn a_cold_kubectl_needs_few_requests() {
    let test = "a_cold_kubectl_needs_few_requests";
    let kubectls = kubectls(test);
    if kubectls.is_empty() {
        return;
    }
    let world = World::up(1);
    for kubectl in kubectls {
        let version = version(&world, &kubectl);
        if version < AGGREGATED {
            continue;
        }
        let cache = tempfile::tempdir().unwrap();
        let cache = cache.path().to_str().unwrap();
        let program = kubectl.to_str().unwrap();
        let before = answered(&world, program);
        world.kubectl(0, program, &["get", "pods", "-n", "free", "--cache-dir", cache]).unwrap();
        // The first look is answered after it counted.
        let requests = answered(&world, program) - before - 1;
        assert!(requests >= 2, "{version:?} asked {requests} times: was it cold?");
        assert!(requests <= REQUESTS_MAX, "{version:?} asked {requests} times");
    }
}

/// How many requests the server has answered; asking is one.
fn answered(world: &World, kubectl: &str) -> u64 {
    let metrics = world.kubectl(0, kubectl, &["get", "--raw", "/metrics"]).unwrap();
    let counts = metrics.lines().filter(|line| line.starts_with("mainstay_api_requests_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Major and minor version of a kubectl.
fn version(world: &World, kubectl: &Path) -> (u32, u32) {
    let args = ["version", "--client", "-o", "json"];
    let said = world.kubectl(0, kubectl.to_str().unwrap(), &args).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let number = |field: &str| {
        let text = said["clientVersion"][field].as_str().unwrap();
        text.trim_end_matches('+').parse().unwrap()
    };
    (number("major"), number("minor"))
}
