//! Logs of containers.

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Path, Query, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use k8s_openapi::jiff;

use super::{find, proxy};
use crate::{
    api::{Api, Failure},
    model::{NodeName, Problem},
};

/// Most bytes of an agent's words when it has no log.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Which part of which log is wanted. Absent is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogRequest {
    /// The pod's namespace.
    pub(crate) namespace: String,
    /// The pod; it exists.
    pub(crate) pod: String,
    /// The container; it is one of the pod's.
    pub(crate) container: String,
    /// Go on sending what the container writes.
    pub(crate) follow: bool,
    /// Of the container's instance before the running one.
    pub(crate) previous: bool,
    /// The time before each line.
    pub(crate) timestamps: bool,
    /// Start with the last so many lines.
    pub(crate) tail_lines: Option<i64>,
    /// Only what is not older.
    pub(crate) since_seconds: Option<i64>,
    /// Only what was written since.
    pub(crate) since_time: Option<jiff::Timestamp>,
    /// End after so many bytes.
    pub(crate) limit_bytes: Option<i64>,
    /// `Stdout` or `Stderr`.
    pub(crate) stream: Option<String>,
}

impl LogRequest {
    /// Reads the query of `pods/log`.
    fn of(query: &[(String, String)]) -> Result<Self, Failure> {
        let mut request = Self::default();
        for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
            let wrong = |what| Failure::bad_request(format!("{name}: {value:?} is not {what}"));
            let number = || value.parse::<i64>().map(Some).map_err(|_| wrong("a number"));
            let flag = || match value.as_str() {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(wrong("true or false")),
            };
            match name.as_str() {
                "container" => request.container = value.clone(),
                "follow" => request.follow = flag()?,
                "previous" => request.previous = flag()?,
                "timestamps" => request.timestamps = flag()?,
                "tailLines" => request.tail_lines = number()?,
                "sinceSeconds" => request.since_seconds = number()?,
                "limitBytes" => request.limit_bytes = number()?,
                "sinceTime" => {
                    request.since_time = Some(value.parse().map_err(|_| wrong("a time"))?);
                }
                "stream" => request.stream = Some(value.clone()).filter(|s| s != "All"),
                _ => {}
            }
        }
        Ok(request)
    }

    /// What does not make sense, in Kubernetes' words.
    fn check(&self, pod: &str) -> Result<(), Failure> {
        let mut wrong = Vec::new();
        let invalid = |value: i64, least: &str| format!("Invalid value: {value}: must be {least}");
        if let Some(lines) = self.tail_lines.filter(|n| *n < 0) {
            wrong.push(("tailLines", invalid(lines, "greater than or equal to 0")));
        }
        if let Some(bytes) = self.limit_bytes.filter(|n| *n < 1) {
            wrong.push(("limitBytes", invalid(bytes, "greater than 0")));
        }
        if self.since_seconds.is_some() && self.since_time.is_some() {
            let text = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified";
            wrong.push(("", text.to_owned()));
        } else if let Some(seconds) = self.since_seconds.filter(|n| *n < 1) {
            wrong.push(("sinceSeconds", invalid(seconds, "greater than 0")));
        }
        match self.stream.as_deref() {
            None => {}
            Some("Stdout" | "Stderr") if self.tail_lines.is_none() => {}
            Some("Stdout" | "Stderr") => {
                let text =
                    "Forbidden: `tailLines` and specific `stream` are mutually exclusive for now";
                wrong.push(("", text.to_owned()));
            }
            Some(other) => {
                let text = format!(
                    "Unsupported value: {other:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
                );
                wrong.push(("stream", text));
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let sentence = |(field, text): &(&str, String)| match *field {
            "" => text.clone(),
            field => format!("{field}: {text}"),
        };
        let all: Vec<String> = wrong.iter().map(sentence).collect();
        let all = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
        let problems = wrong.into_iter().map(|(field, message)| Problem {
            field: field.to_owned(),
            message,
            ..Problem::default()
        });
        let message = format!("PodLogOptions {pod:?} is invalid: {all}");
        Err(Failure::invalid(message, problems.collect()))
    }

    /// What the agent is asked; the names are the kubelet's.
    fn path(&self) -> String {
        let Self { namespace, pod, container, follow, previous, timestamps, .. } = self;
        let mut path = format!(
            "/containerLogs/{namespace}/{pod}/{container}?follow={follow}&previous={previous}\
             &timestamps={timestamps}"
        );
        let numbers = [
            ("tailLines", self.tail_lines),
            ("sinceSeconds", self.since_seconds),
            ("limitBytes", self.limit_bytes),
        ];
        for (name, number) in numbers {
            path += &number.map(|n| format!("&{name}={n}")).unwrap_or_default();
        }
        if let Some(time) = &self.since_time {
            path += &format!("&sinceTime={time}");
        }
        if let Some(stream) = &self.stream {
            path += &format!("&stream={stream}");
        }
        path
    }
}

/// `GET pods/{name}/log`
pub(super) async fn of_pod(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let mut request = LogRequest::of(&query)?;
    request.check(&name)?;
    let view = api.view();
    let pod = find::pod(&view, &namespace, &name)?;
    let wanted = Some(request.container.as_str());
    request.container = find::container(pod, &name, wanted)?;
    (request.namespace, request.pod) = (namespace, name);
    let body = match find::node(pod) {
        Some(node) => open(&api, node, &request).await?,
        // Nothing was written yet, and nobody will.
        None => Body::empty(),
    };
    Ok(([(header::CONTENT_TYPE, "text/plain")], body).into_response())
}

/// The bytes of a log as they come from the pod's node.
pub(crate) async fn open(api: &Api, node: NodeName, request: &LogRequest) -> Result<Body, Failure> {
    let slot = api.gate.stream()?;
    let mut asked = Request::new(Body::empty());
    *asked.uri_mut() = proxy::uri(&request.path())?;
    let answer = api.backend.ask(node, asked).await?;
    let status = answer.status();
    if status == StatusCode::OK {
        let bytes = answer.into_body().into_data_stream().map(move |part| {
            let _held = &slot;
            part
        });
        return Ok(Body::from_stream(bytes));
    }
    let text = to_bytes(answer.into_body(), REFUSAL_BYTES_MAX).await.unwrap_or(Bytes::new());
    let text = String::from_utf8_lossy(&text).into_owned();
    Err(match status {
        StatusCode::NOT_FOUND => Failure::not_found(text),
        StatusCode::BAD_REQUEST => Failure::bad_request(text),
        _ => Failure::unavailable(text),
    })
}
