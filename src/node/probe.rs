//! When to probe a container, and what the answers mean.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::model::Timestamp;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Holds the other two back until it succeeded once; its failure kills the container.
    Startup,
    /// Its failure kills the container.
    Liveness,
    /// Says whether the container may get traffic.
    Readiness,
}

impl Kind {
    /// `Liveness`, as events write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];
}

/// One probe with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// What to ask.
    pub action: Action,
    /// How long after the container's start the first probe waits.
    pub initial_delay: Duration,
    /// From one probe to the next.
    pub period: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
    /// How many successes in a row turn a failure around.
    pub success_threshold: u32,
    /// How many failures in a row count.
    pub failure_threshold: u32,
    /// A grace period of its own for the container it kills.
    pub grace: Option<Duration>,
}

/// What a probe or a lifecycle hook does. Names of ports are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs a command in the container: exit code 0 is success.
    Exec(Vec<String>),
    /// `GET`: a status from 200 to 399 is success.
    Http {
        /// Over TLS; the certificate is not checked.
        tls: bool,
        /// `None`: the pod's address.
        host: Option<String>,
        /// The port.
        port: u16,
        /// Path and query.
        path: String,
        /// More headers, in order.
        headers: Vec<(String, String)>,
    },
    /// Opens a connection.
    Tcp {
        /// `None`: the pod's address.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// Asks a gRPC server at the pod's address whether it is healthy.
    Grpc {
        /// The port.
        port: u16,
        /// The service that is asked about; empty: the server itself.
        service: String,
    },
    /// Waits (lifecycle hooks only).
    Sleep(Duration),
    /// Something this version cannot do, with the reason; it counts as a failure.
    Unsupported(String),
}

/// What came of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered as it should.
    Success,
    /// It did not, and why.
    Failure(String),
    /// It could not be asked: nothing is concluded.
    Unknown,
}

/// What is remembered of one probe of one running container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Results of the last kind, in a row.
    pub run: u32,
    /// The last answer; `None` before the first.
    pub last: Option<bool>,
    /// What counts: the answer once its threshold was reached.
    pub verdict: Option<bool>,
    /// When the last probe was begun.
    pub begun: Option<Timestamp>,
    /// A probe is under way.
    pub busy: bool,
}

impl ProbeSpec {
    /// The probe of that kind of a container.
    pub fn of(container: &Container, kind: Kind) -> Option<Self> {
        let probe = match kind {
            Kind::Startup => &container.startup_probe,
            Kind::Liveness => &container.liveness_probe,
            Kind::Readiness => &container.readiness_probe,
        };
        probe.as_ref().map(|p| Self::new(p, container))
    }

    fn new(probe: &Probe, container: &Container) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            let given = value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
            Duration::from_secs(given.unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Self {
            action: action(probe, container),
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
            grace: probe
                .termination_grace_period_seconds
                .and_then(|s| u64::try_from(s).ok())
                .map(Duration::from_secs),
        }
    }

    /// When the next probe is due for a container that runs since `started`.
    pub fn due(&self, state: &State, started: Timestamp) -> Timestamp {
        match state.begun {
            Some(begun) => begun + self.period,
            None => started + self.initial_delay,
        }
    }

    /// Takes one answer in. Below the thresholds the verdict stays what it was.
    pub fn record(&self, state: &State, outcome: &Outcome) -> State {
        let ok = match outcome {
            Outcome::Success => true,
            Outcome::Failure(_) => false,
            Outcome::Unknown => return State { busy: false, ..state.clone() },
        };
        let run = if state.last == Some(ok) { state.run.saturating_add(1) } else { 1 };
        let threshold = if ok { self.success_threshold } else { self.failure_threshold };
        let verdict = if run >= threshold { Some(ok) } else { state.verdict };
        State { run, last: Some(ok), verdict, busy: false, ..state.clone() }
    }
}

fn action(probe: &Probe, container: &Container) -> Action {
    if let Some(exec) = &probe.exec {
        return Action::Exec(exec.command.clone().unwrap_or_default());
    }
    if let Some(get) = &probe.http_get {
        return http(get, container);
    }
    if let Some(tcp) = &probe.tcp_socket {
        return match port(&tcp.port, container) {
            Ok(port) => Action::Tcp { host: given(&tcp.host), port },
            Err(why) => Action::Unsupported(why),
        };
    }
    if let Some(grpc) = &probe.grpc {
        let service = grpc.service.clone().unwrap_or_default();
        return match u16::try_from(grpc.port) {
            Ok(port) => Action::Grpc { port, service },
            Err(_) => Action::Unsupported(format!("{} is no port", grpc.port)),
        };
    }
    Action::Unsupported("this kind of probe is not supported".to_owned())
}

pub(super) fn http(get: &HTTPGetAction, container: &Container) -> Action {
    let path = get.path.as_deref().unwrap_or_default();
    let headers = get.http_headers.iter().flatten();
    match port(&get.port, container) {
        Ok(port) => Action::Http {
            tls: get.scheme.as_deref() == Some("HTTPS"),
            host: given(&get.host),
            port,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
        },
        Err(why) => Action::Unsupported(why),
    }
}

fn given(host: &Option<String>) -> Option<String> {
    host.clone().filter(|h| !h.is_empty())
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match name.parse() {
            Ok(number) => number,
            Err(_) => container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_ref() == Some(name))
                .map(|p| p.container_port)
                .ok_or_else(|| format!("container has no port named {name}"))?,
        },
    };
    u16::try_from(number).ok().filter(|p| *p > 0).ok_or(format!("invalid port number: {number}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(probe: serde_json::Value) -> ProbeSpec {
        let container = json!({"name": "c", "readinessProbe": probe,
            "ports": [{"name": "web", "containerPort": 8080}]});
        let container = serde_json::from_value(container).unwrap();
        ProbeSpec::of(&container, Kind::Readiness).unwrap()
    }

    #[test]
    fn defaults_and_named_ports() {
        let probe = spec(json!({"httpGet": {"port": "web", "path": "ready"}}));
        let seconds = [probe.initial_delay, probe.period, probe.timeout].map(|d| d.as_secs());
        assert_eq!(seconds, [0, 10, 1]);
        assert_eq!((probe.success_threshold, probe.failure_threshold), (1, 3));
        let Action::Http { port, path, host, .. } = probe.action else { panic!("not http") };
        assert_eq!((port, path.as_str(), host), (8080, "/ready", None));
        let unknown = spec(json!({"tcpSocket": {"port": "nope"}}));
        assert_eq!(
            unknown.action,
            Action::Unsupported("container has no port named nope".to_owned())
        );
    }

    #[test]
    fn due_after_the_delay_and_then_each_period() {
        let probe = spec(json!({"tcpSocket": {"port": 1}, "initialDelaySeconds": 5,
            "periodSeconds": 2}));
        let state = State::default();
        assert_eq!(probe.due(&state, Timestamp(1000)), Timestamp(6000));
        let state = State { begun: Some(Timestamp(6500)), ..state };
        assert_eq!(probe.due(&state, Timestamp(1000)), Timestamp(8500));
    }

    #[test]
    fn thresholds_hold_the_verdict() {
        let probe = spec(json!({"tcpSocket": {"port": 1}, "successThreshold": 2,
            "failureThreshold": 3}));
        let mut state = State::default();
        let mut verdicts = vec![];
        for ok in [true, true, false, false, true, false, false, false, true, true] {
            let outcome =
                if ok { Outcome::Success } else { Outcome::Failure("refused".to_owned()) };
            state = probe.record(&state, &outcome);
            verdicts.push(state.verdict);
        }
        let (y, n) = (Some(true), Some(false));
        assert_eq!(verdicts, [None, y, y, y, y, y, y, n, n, y]);
    }
}
