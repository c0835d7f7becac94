use expect_test::{Expect, expect};
use k8s_openapi::api::{
    core::v1::{Endpoints, Service},
    discovery::v1::EndpointSlice,
};

use super::world::World;

fn check(world: &World, expect: Expect) {
    let view = world.view();
    let mut text = String::new();
    for (object, service) in view.list::<Service>(Some("default")) {
        let spec = service.spec.clone().unwrap_or_default();
        let port = &spec.ports.unwrap()[0];
        let (ip, target) = (spec.cluster_ip.unwrap(), port.target_port.clone().unwrap());
        text += &format!("{} {ip}:{} -> {target:?}\n", object.key(), port.port);
    }
    for (object, found) in view.list::<Endpoints>(Some("default")) {
        for subset in found.subsets.iter().flatten() {
            let ips: Vec<_> = subset.addresses.iter().flatten().map(|a| a.ip.as_str()).collect();
            let port = subset.ports.as_ref().unwrap()[0].port;
            text += &format!("{} {} port {port}\n", object.key(), ips.join(" "));
        }
    }
    for (object, found) in view.list::<EndpointSlice>(Some("default")) {
        let ips: Vec<_> =
            found.endpoints.iter().flatten().map(|e| e.addresses[0].as_str()).collect();
        let port = found.ports.as_ref().unwrap()[0].port.unwrap();
        text += &format!("{} {} port {port}\n", object.key(), ips.join(" "));
    }
    expect.assert_eq(&text);
}

fn servers(world: &mut World, addresses: &[&str]) {
    world.servers = addresses.iter().map(|a| a.parse().unwrap()).collect();
    world.agenda = crate::plan::Agenda::default();
    world.settle();
}

#[test]
fn pods_reach_every_server_under_one_address() {
    let mut world = World::new();
    check(&world, expect![""]);
    servers(&mut world, &["192.0.2.1:6443"]);
    check(
        &world,
        expect![[r#"
            Service default/kubernetes 10.96.0.1:443 -> Int(6443)
            Endpoints default/kubernetes 192.0.2.1 port 6443
            EndpointSlice default/kubernetes 192.0.2.1 port 6443
        "#]],
    );
    servers(&mut world, &["192.0.2.2:6443", "192.0.2.1:6443", "192.0.2.3:7443"]);
    world.delete::<Service>("default", "kubernetes");
    world.delete::<EndpointSlice>("default", "kubernetes");
    world.settle();
    check(
        &world,
        expect![[r#"
            Service default/kubernetes 10.96.0.1:443 -> Int(6443)
            Endpoints default/kubernetes 192.0.2.1 192.0.2.2 port 6443
            Endpoints default/kubernetes 192.0.2.3 port 7443
            EndpointSlice default/kubernetes 192.0.2.1 192.0.2.2 port 6443
        "#]],
    );
}
