//! Probes and lifecycle hooks of a container.

use k8s_openapi::{
    api::core::v1::{
        Container, ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec,
        Probe, TCPSocketAction,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{container::port_number, field::Check, names};

/// Finds what is wrong with the hooks and probes of a container.
pub(super) fn validate_all(at: &str, c: &Container, spec: &PodSpec, check: &mut Check) {
    if let Some(Lifecycle { post_start, pre_stop, .. }) = &c.lifecycle {
        for (name, handler) in [("postStart", post_start), ("preStop", pre_stop)] {
            if let Some(handler) = handler {
                validate_lifecycle(&format!("{at}.lifecycle.{name}"), handler, spec, check);
            }
        }
    }
    for (name, probe) in [
        ("livenessProbe", &c.liveness_probe),
        ("readinessProbe", &c.readiness_probe),
        ("startupProbe", &c.startup_probe),
    ] {
        if let Some(probe) = probe {
            validate_probe(&format!("{at}.{name}"), name, probe, check);
        }
    }
}

fn validate_lifecycle(at: &str, handler: &LifecycleHandler, spec: &PodSpec, check: &mut Check) {
    let LifecycleHandler { exec, http_get, sleep, tcp_socket } = handler;
    let mut handlers = Handlers::default();
    handlers.exec(at, exec.as_ref(), check);
    handlers.http_get(at, http_get.as_ref(), check);
    handlers.tcp_socket(at, tcp_socket.as_ref(), check);
    if let Some(sleep) = sleep
        && handlers.next(&format!("{at}.sleep"), check)
    {
        let grace = spec.termination_grace_period_seconds.unwrap_or(30);
        if !(0..=grace).contains(&sleep.seconds) {
            let text = format!(
                "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            );
            check.invalid(format!("{at}.sleep"), sleep.seconds, text);
        }
    }
    handlers.end(at, check);
}

fn validate_probe(at: &str, name: &str, probe: &Probe, check: &mut Check) {
    let mut handlers = Handlers::default();
    handlers.exec(at, probe.exec.as_ref(), check);
    handlers.http_get(at, probe.http_get.as_ref(), check);
    handlers.tcp_socket(at, probe.tcp_socket.as_ref(), check);
    handlers.grpc(at, probe.grpc.as_ref(), check);
    handlers.end(at, check);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        check.not_negative(format!("{at}.{field}"), value.map(i64::from));
    }
    if let Some(grace) = probe.termination_grace_period_seconds {
        let field = format!("{at}.terminationGracePeriodSeconds");
        if name == "readinessProbe" {
            check.invalid(field, grace, "must not be set for readinessProbes");
        } else if grace <= 0 {
            check.invalid(field, grace, "must be greater than 0");
        }
    }
    let threshold = probe.success_threshold.unwrap_or(1);
    if name != "readinessProbe" && threshold > 1 {
        check.invalid(format!("{at}.successThreshold"), threshold, "must be 1");
    }
}

/// Counts the handlers of a probe or hook: exactly one may be set.
#[derive(Default)]
struct Handlers(usize);

impl Handlers {
    /// Whether this is the first one; a later one is refused.
    fn next(&mut self, field: &str, check: &mut Check) -> bool {
        self.0 += 1;
        if self.0 > 1 {
            check.forbidden(field, "may not specify more than 1 handler type");
        }
        self.0 == 1
    }

    fn end(&self, at: &str, check: &mut Check) {
        if self.0 == 0 {
            check.required(at, "must specify a handler type");
        }
    }

    fn exec(&mut self, at: &str, exec: Option<&ExecAction>, check: &mut Check) {
        let Some(exec) = exec else { return };
        if self.next(&format!("{at}.exec"), check)
            && exec.command.as_ref().is_none_or(Vec::is_empty)
        {
            check.required(format!("{at}.exec.command"), "");
        }
    }

    fn http_get(&mut self, at: &str, get: Option<&HTTPGetAction>, check: &mut Check) {
        let Some(get) = get else { return };
        let at = format!("{at}.httpGet");
        if !self.next(&at, check) {
            return;
        }
        if get.path.as_deref().is_none_or(str::is_empty) {
            check.required(format!("{at}.path"), "");
        }
        probe_port(&format!("{at}.port"), &get.port, check);
        let scheme = get.scheme.as_deref().unwrap_or_default();
        check.one_of(format!("{at}.scheme"), scheme, &["HTTP", "HTTPS"]);
        for header in get.http_headers.iter().flatten() {
            let messages = names::http_header(&header.name);
            check.text(&format!("{at}.httpHeaders"), &header.name, messages);
        }
    }

    fn tcp_socket(&mut self, at: &str, tcp: Option<&TCPSocketAction>, check: &mut Check) {
        let Some(tcp) = tcp else { return };
        let at = format!("{at}.tcpSocket");
        if self.next(&at, check) {
            probe_port(&format!("{at}.port"), &tcp.port, check);
        }
    }

    fn grpc(&mut self, at: &str, grpc: Option<&GRPCAction>, check: &mut Check) {
        let Some(grpc) = grpc else { return };
        let at = format!("{at}.grpc");
        if self.next(&at, check) {
            port_number(&format!("{at}.port"), grpc.port, check);
        }
    }
}

fn probe_port(field: &str, port: &IntOrString, check: &mut Check) {
    match port {
        IntOrString::Int(number) => port_number(field, *number, check),
        // What the type gives for an absent port.
        IntOrString::String(name) if name.is_empty() => port_number(field, 0, check),
        IntOrString::String(name) => check.text(field, name, names::port_name(name)),
    }
}
