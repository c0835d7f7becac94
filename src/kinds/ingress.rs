//! Ingresses and their classes.

use std::net::IpAddr;

use k8s_openapi::api::{
    core::v1::TypedLocalObjectReference,
    networking::v1::{
        HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressClassParametersReference,
        IngressLoadBalancerStatus, IngressServiceBackend, IngressSpec, IngressStatus,
    },
};
use serde_json::Value;

use super::{Kind, Reason, field::Check, names, pod_defaults::fill};

/// The older way to name the class of an Ingress.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
/// What a path must not contain: ways to say another path.
const BAD_IN_PATHS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS_OF_PATHS: [&str; 2] = ["/..", "/."];
/// Most bytes of the name of a controller.
const CONTROLLER_BYTES_MAX: usize = 250;

impl Kind for Ingress {
    fn default_fields(&mut self) {
        self.spec.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        let annotations = self.metadata.annotations.as_ref();
        if let Some(class) = annotations.and_then(|a| a.get(CLASS_ANNOTATION)) {
            let text = "is deprecated, please use 'spec.ingressClassName' instead";
            check.warn("", format!("annotation {CLASS_ANNOTATION:?} {text}"));
            if spec.ingress_class_name.as_ref().is_some_and(|name| name != class) {
                let text = "must match `ingressClassName` when both are specified";
                check.invalid(format!("annotations.{CLASS_ANNOTATION}"), class, text);
            }
        }
        validate_spec(&spec, check);
    }

    fn prepare_create(&mut self) {
        let load_balancer = Some(IngressLoadBalancerStatus::default());
        self.status = Some(IngressStatus { load_balancer });
    }

    /// Backends without an API group say so.
    fn written(value: &mut Value) {
        let Some(spec) = value.get_mut("spec") else { return };
        if let Some(backend) = spec.get_mut("defaultBackend") {
            write_backend(backend);
        }
        let rules = spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten();
        for rule in rules {
            let paths = rule.pointer_mut("/http/paths").and_then(Value::as_array_mut);
            for path in paths.into_iter().flatten() {
                path.get_mut("backend").into_iter().for_each(write_backend);
            }
        }
    }
}

fn write_backend(backend: &mut Value) {
    if let Some(resource) = backend.get_mut("resource").and_then(Value::as_object_mut) {
        resource.entry("apiGroup").or_insert(Value::Null);
    }
}

fn validate_spec(spec: &IngressSpec, check: &mut Check) {
    let rules = spec.rules.as_deref().unwrap_or_default();
    match &spec.default_backend {
        Some(backend) => validate_backend("spec.defaultBackend", backend, check),
        None if rules.is_empty() => {
            let text = "either `defaultBackend` or `rules` must be specified";
            check.invalid("spec", &spec.rules, text);
        }
        None => {}
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = format!("spec.rules[{i}]");
        if let Some(host) = rule.host.as_deref().filter(|h| !h.is_empty()) {
            validate_host(&format!("{at}.host"), host, check);
        }
        if let Some(http) = &rule.http {
            if http.paths.is_empty() {
                check.required(format!("{at}.http.paths"), "");
            }
            for (j, path) in http.paths.iter().enumerate() {
                validate_path(&format!("{at}.http.paths[{j}]"), path, check);
            }
        }
    }
    for (i, tls) in spec.tls.iter().flatten().enumerate() {
        let at = format!("spec.tls[{i}]");
        for (j, host) in tls.hosts.iter().flatten().enumerate() {
            check.text(&format!("{at}.hosts[{j}]"), host, host_name(host));
        }
        if let Some(secret) = tls.secret_name.as_deref().filter(|s| !s.is_empty()) {
            check.text(&format!("{at}.secretName"), secret, names::dns1123_subdomain(secret));
        }
    }
    if let Some(class) = spec.ingress_class_name.as_deref() {
        check.text("spec.ingressClassName", class, names::dns1123_subdomain(class));
    }
}

fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') { names::dns1123_wildcard(host) } else { names::dns1123_subdomain(host) }
}

fn validate_host(field: &str, host: &str, check: &mut Check) {
    if host.parse::<IpAddr>().is_ok() {
        check.invalid(field, host, "must be a DNS name, not an IP address");
    }
    check.text(field, host, host_name(host));
}

fn validate_path(at: &str, path: &HTTPIngressPath, check: &mut Check) {
    let field = format!("{at}.path");
    let text = path.path.as_deref().unwrap_or_default();
    let absolute = text.starts_with('/');
    match path.path_type.as_str() {
        "" => {
            check.required(format!("{at}.pathType"), "pathType must be specified");
            return;
        }
        "Exact" | "Prefix" => {
            if !absolute {
                check.invalid(&field, text, "must be an absolute path");
            }
            for bad in BAD_IN_PATHS.into_iter().filter(|bad| text.contains(bad)) {
                check.invalid(&field, text, format!("must not contain '{bad}'"));
            }
            for bad in BAD_ENDS_OF_PATHS.into_iter().filter(|bad| text.ends_with(bad)) {
                check.invalid(&field, text, format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !absolute {
                check.invalid(&field, text, "must be an absolute path");
            }
        }
        other => check.not_supported(format!("{at}.pathType"), other, &PATH_TYPES),
    }
    validate_backend(&format!("{at}.backend"), &path.backend, check);
}

fn validate_backend(at: &str, backend: &IngressBackend, check: &mut Check) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            check.invalid(at, "", "cannot set both resource and service backends");
        }
        (Some(resource), None) => {
            let TypedLocalObjectReference { api_group, kind, name } = resource;
            validate_reference(&format!("{at}.resource"), api_group.as_deref(), kind, name, check);
        }
        (None, Some(service)) => validate_service(at, service, check),
        (None, None) => check.invalid(at, "", "resource or service backend is required"),
    }
}

fn validate_service(at: &str, service: &IngressServiceBackend, check: &mut Check) {
    let field = format!("{at}.service.name");
    if service.name.is_empty() {
        check.required(field, "");
    } else {
        check.text(&field, &service.name, names::dns1123_label(&service.name));
    }
    let port = service.port.clone().unwrap_or_default();
    let name = port.name.as_deref().filter(|n| !n.is_empty());
    match (name, port.number.filter(|n| *n != 0)) {
        (Some(_), Some(_)) => check.invalid(at, "", "cannot set both port name & port number"),
        (Some(name), None) => {
            check.text(&format!("{at}.service.port.name"), name, names::port_name(name));
        }
        (None, Some(number)) => {
            for message in names::port_number(number) {
                check.invalid(format!("{at}.service.port.number"), number, message);
            }
        }
        (None, None) => check.required(at, "port name or number is required"),
    }
}

/// A reference to an object of whatever kind.
fn validate_reference(at: &str, group: Option<&str>, kind: &str, name: &str, check: &mut Check) {
    if let Some(group) = group {
        check.text(&format!("{at}.apiGroup"), group, names::dns1123_subdomain(group));
    }
    for (field, value) in [("kind", kind), ("name", name)] {
        let field = format!("{at}.{field}");
        if value.is_empty() {
            check.required(field, "");
        } else {
            check.text(&field, value, names::path_segment(value));
        }
    }
}

impl Kind for IngressClass {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(parameters) = &mut spec.parameters {
            fill(&mut parameters.scope, "Cluster");
        }
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        let field = "spec.controller";
        match spec.controller.as_deref().filter(|c| !c.is_empty()) {
            None => check.required(field, ""),
            Some(controller) => {
                if controller.len() > CONTROLLER_BYTES_MAX {
                    let text =
                        format!("Too long: may not be more than {CONTROLLER_BYTES_MAX} bytes");
                    check.error(field, Reason::TooLong, text);
                }
                check.text(field, controller, names::domain_prefixed_path(controller));
            }
        }
        if let Some(parameters) = &spec.parameters {
            validate_parameters("spec.parameters", parameters, check);
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        let controller = |c: &Self| c.spec.as_ref().and_then(|s| s.controller.clone());
        check.immutable("spec.controller", &controller(live), &controller(self));
    }
}

fn validate_parameters(at: &str, of: &IngressClassParametersReference, check: &mut Check) {
    validate_reference(at, of.api_group.as_deref(), &of.kind, &of.name, check);
    let field = format!("{at}.namespace");
    match (of.scope.as_deref().unwrap_or_default(), of.namespace.as_deref()) {
        ("Namespace", None) => check.required(field, "`parameters.scope` is set to 'Namespace'"),
        ("Namespace", Some(namespace)) => {
            check.text(&field, namespace, names::dns1123_label(namespace));
        }
        ("Cluster", Some(_)) => check.forbidden(field, "`parameters.scope` is set to 'Cluster'"),
        ("Cluster", None) => {}
        (other, _) => {
            check.not_supported(format!("{at}.scope"), other, &["Cluster", "Namespace"]);
        }
    }
}
