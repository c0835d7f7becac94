//! What the status branch remembers of the cluster before this one: addresses of Services, and the
//! nodes with their pod ranges.

use std::{collections::BTreeMap, net::Ipv4Addr};

use k8s_openapi::api::core::v1::{Node, Service};
use serde_json::{Value, json};

use super::survivors;
use crate::{
    model::{Key, NodeName, Object, Timestamp},
    state::{ClusterConfig, Command, Desired, Expect, Op, Part, View},
};

/// What a Service had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Address {
    cluster_ip: Option<Ipv4Addr>,
    /// Node ports by `80/TCP`.
    node_ports: BTreeMap<String, u16>,
}

/// What was, as far as the branch tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// What Services had, by key.
    services: BTreeMap<Key, Address>,
    /// The pod ranges of nodes.
    nodes: BTreeMap<NodeName, String>,
}

impl Recalled {
    /// Remembers a Service, as its file on the status branch says it: an address and ports like
    /// `80:30080/TCP`. What cannot be read was not remembered.
    pub fn put_service(&mut self, namespace: &str, name: &str, cluster_ip: &str, ports: &[String]) {
        let node_port = |port: &String| {
            let (numbers, protocol) = port.split_once('/')?;
            let (port, node_port) = numbers.split_once(':')?;
            Some((format!("{port}/{protocol}"), node_port.parse().ok()?))
        };
        let node_ports = ports.iter().filter_map(node_port).collect();
        let address = Address { cluster_ip: cluster_ip.parse().ok(), node_ports };
        self.services.insert(Key::of::<Service>(namespace, name), address);
    }

    /// Remembers a node that was ready, and the range its pods had addresses from.
    pub fn put_node(&mut self, name: &str, pod_range: &str) {
        self.nodes.insert(NodeName::new(name), pod_range.to_owned());
    }

    /// How many Services and nodes are remembered.
    pub fn counts(&self) -> (usize, usize) {
        (self.services.len(), self.nodes.len())
    }

    /// Makes the nodes awaited until a moment, with their ranges as far as those are free; those
    /// that have spoken already keep what they have.
    pub fn await_nodes(&self, view: &View, until: Timestamp) -> Vec<Command> {
        let awaited = |(name, range): (&NodeName, &String)| {
            let live = view.object(&Key::of::<Node>("", name.as_str()));
            let mut value = live.map_or_else(|| node(view, name, range), Object::value);
            survivors::await_until(&mut value, until);
            let expect = live.map_or(Expect::Absent, |live| Expect::At(live.revision()));
            // It is a Node of State, or has nothing but a name.
            let object = Object::from_value(&value).ok()?;
            Some(Op::Put { object, expect, part: Part::Main })
        };
        let ops: Vec<Op> = self.nodes.iter().filter_map(awaited).collect();
        if ops.is_empty() { Vec::new() } else { vec![Command::Write(ops)] }
    }

    /// Lets Services that leave the choice to the cluster ask for what they had, as far as this
    /// cluster's ranges hold it.
    pub fn give(&self, wanted: &mut [Desired], config: &ClusterConfig) {
        for desired in wanted {
            let Some(address) = self.services.get(desired.object.key()) else { continue };
            let mut value = desired.object.value();
            address.give(&mut value, config);
            // It is what was read a moment ago, with a number more.
            if let Ok(object) = Object::from_value(&value) {
                desired.object = object;
            }
        }
    }
}

/// A node that has not spoken yet.
fn node(view: &View, name: &NodeName, range: &str) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name.as_str() }, "spec": {},
    });
    if view.is_free_pod_range(range) {
        value["spec"]["podCIDR"] = range.into();
    }
    value
}

impl Address {
    fn give(&self, value: &mut Value, config: &ClusterConfig) {
        let kind = value["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
        if kind == "ExternalName" {
            return;
        }
        let ip = self.cluster_ip.filter(|ip| config.is_service_address(*ip));
        if let (None, Some(ip)) = (value["spec"]["clusterIP"].as_str(), ip) {
            value["spec"]["clusterIP"] = ip.to_string().into();
        }
        let ports = value.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        let ports = ports.filter(|_| kind != "ClusterIP");
        for port in ports.into_iter().flatten() {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            let had = self.node_ports.get(&format!("{}/{protocol}", port["port"]));
            let had = had.filter(|port| config.is_node_port(**port));
            if let (None, Some(had)) = (port.get("nodePort"), had) {
                port["nodePort"] = (*had).into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::CommitId,
        state::{MAIN_SOURCE, Origin},
    };

    fn check(spec: Value, expect: Value) {
        let mut recalled = Recalled::default();
        let ports = ["80:30080/TCP".to_owned(), "53/UDP".to_owned(), "81:9/TCP".to_owned()];
        recalled.put_service("shop", "web", "10.96.7.7", &ports);
        recalled.put_service("shop", "far", "192.168.1.1", &[]);
        let name = if spec["far"] == true { "far" } else { "web" };
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
        });
        let origin = Origin {
            source: MAIN_SOURCE.into(),
            commit: CommitId::parse(&"a".repeat(40)).unwrap(),
            file: "a.yaml".to_owned(),
            line: 1,
            made_by: None,
            open: false,
            ended: None,
            digest: String::new(),
        };
        let mut wanted = [Desired { object: Object::from_value(&object).unwrap(), origin }];
        recalled.give(&mut wanted, &ClusterConfig::with_id("test"));
        assert_eq!(wanted[0].object.value()["spec"], expect);
    }

    #[test]
    fn services_ask_for_what_they_had_and_git_does_not_say() {
        let port = json!({ "port": 80, "protocol": "TCP" });
        let had = json!({ "port": 80, "protocol": "TCP", "nodePort": 30080 });
        check(json!({ "ports": [port] }), json!({ "ports": [port], "clusterIP": "10.96.7.7" }));
        check(
            json!({ "type": "NodePort", "ports": [port, { "port": 81 }] }),
            json!({
                "type": "NodePort", "clusterIP": "10.96.7.7", "ports": [had, { "port": 81 }],
            }),
        );
        for chosen in [
            json!({ "clusterIP": "None" }),
            json!({ "clusterIP": "10.96.1.1" }),
            json!({ "type": "ExternalName", "externalName": "a.example" }),
            json!({ "far": true }),
        ] {
            check(chosen.clone(), chosen);
        }
    }
}
