//! The variables by which a container finds Services, as Docker's links once wrote them
//! (kubernetes.io/docs/concepts/services-networking/service, "Environment variables").

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};

use crate::model::{GroupKind, Key, Object};

/// The Service by which every pod finds the API.
const API: (&str, &str) = ("default", "kubernetes");

/// The variables of a pod in `namespace`: of the API always, of the namespace's own Services when
/// the pod wants them.
pub(super) fn service_env(
    objects: &BTreeMap<Key, Object>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let api = objects.get(&Key::of::<Service>(API.0, API.1));
    api.and_then(Object::view).into_iter().for_each(|service| add(&mut env, service));
    if !links {
        return env;
    }
    let kind = GroupKind::of::<Service>();
    let own = objects.range(Key::new(kind.clone(), namespace, "")..);
    let own = own.take_while(|(key, _)| key.kind == kind && key.namespace == namespace);
    own.filter_map(|(_, object)| object.view()).for_each(|service| add(&mut env, service));
    env
}

fn add(env: &mut BTreeMap<String, String>, service: &Service) {
    let Some((spec, name)) = service.spec.as_ref().zip(service.metadata.name.as_ref()) else {
        return;
    };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (false, Some(first)) = (matches!(ip, "" | "None"), ports.first()) else { return };
    let name = variable(name);
    let mut set = |suffix: &str, value: String| {
        env.insert(format!("{name}_{suffix}"), value);
    };
    set("SERVICE_HOST", ip.to_owned());
    set("SERVICE_PORT", first.port.to_string());
    for port in ports {
        if let Some(own) = port.name.as_deref().filter(|name| !name.is_empty()) {
            set(&format!("SERVICE_PORT_{}", variable(own)), port.port.to_string());
        }
    }
    set("PORT", url(ip, first));
    for port in ports {
        let protocol = protocol(port);
        let link = format!("PORT_{}_{}", port.port, protocol.to_uppercase());
        set(&link, url(ip, port));
        set(&format!("{link}_PROTO"), protocol);
        set(&format!("{link}_PORT"), port.port.to_string());
        set(&format!("{link}_ADDR"), ip.to_owned());
    }
}

fn protocol(port: &ServicePort) -> String {
    port.protocol.as_deref().unwrap_or("TCP").to_lowercase()
}

fn url(ip: &str, port: &ServicePort) -> String {
    format!("{}://{ip}:{}", protocol(port), port.port)
}

fn variable(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(namespace: &str, links: bool, expect: Expect) {
        let service = |namespace: &str, name: &str, ip: &str, ports: Value| {
            let value = json!({ "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": name, "namespace": namespace },
                "spec": { "clusterIP": ip, "ports": ports } });
            let object = Object::from_value(&value).unwrap();
            (object.key().clone(), object)
        };
        let objects = BTreeMap::from([
            service(
                "default",
                "kubernetes",
                "10.96.0.1",
                json!([{ "name": "https", "port": 443 }]),
            ),
            service("default", "other", "10.96.0.3", json!([{ "port": 1 }])),
            service(
                "shop",
                "web-app",
                "10.96.0.2",
                json!([
                    { "port": 80 }, { "name": "dns-udp", "port": 53, "protocol": "UDP" },
                ]),
            ),
            service("shop", "headless", "None", json!([{ "port": 80 }])),
            service("shopping", "far", "10.96.0.4", json!([{ "port": 80 }])),
        ]);
        let env = service_env(&objects, namespace, links);
        let text: String = env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        expect.assert_eq(&text);
    }

    #[test]
    fn a_pod_knows_the_api_and_its_neighbours() {
        check(
            "shop",
            false,
            expect![[r#"
                KUBERNETES_PORT=tcp://10.96.0.1:443
                KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
                KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
                KUBERNETES_PORT_443_TCP_PORT=443
                KUBERNETES_PORT_443_TCP_PROTO=tcp
                KUBERNETES_SERVICE_HOST=10.96.0.1
                KUBERNETES_SERVICE_PORT=443
                KUBERNETES_SERVICE_PORT_HTTPS=443
            "#]],
        );
        check(
            "shop",
            true,
            expect![[r#"
                KUBERNETES_PORT=tcp://10.96.0.1:443
                KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
                KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
                KUBERNETES_PORT_443_TCP_PORT=443
                KUBERNETES_PORT_443_TCP_PROTO=tcp
                KUBERNETES_SERVICE_HOST=10.96.0.1
                KUBERNETES_SERVICE_PORT=443
                KUBERNETES_SERVICE_PORT_HTTPS=443
                WEB_APP_PORT=tcp://10.96.0.2:80
                WEB_APP_PORT_53_UDP=udp://10.96.0.2:53
                WEB_APP_PORT_53_UDP_ADDR=10.96.0.2
                WEB_APP_PORT_53_UDP_PORT=53
                WEB_APP_PORT_53_UDP_PROTO=udp
                WEB_APP_PORT_80_TCP=tcp://10.96.0.2:80
                WEB_APP_PORT_80_TCP_ADDR=10.96.0.2
                WEB_APP_PORT_80_TCP_PORT=80
                WEB_APP_PORT_80_TCP_PROTO=tcp
                WEB_APP_SERVICE_HOST=10.96.0.2
                WEB_APP_SERVICE_PORT=80
                WEB_APP_SERVICE_PORT_DNS_UDP=53
            "#]],
        );
    }
}
