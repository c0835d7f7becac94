//! Logs of containers.

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use k8s_openapi::jiff;

use super::{find, parameters, proxy};
use crate::{
    api::{Api, Failure, ResourceInfo},
    kinds::{FieldError, Reason},
    model::NodeName,
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
    pub(super) fn of(query: &[(String, String)]) -> Result<Self, Failure> {
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
    pub(super) fn check(&self, pod: &str) -> Result<(), Failure> {
        let wrong: Vec<FieldError> = [
            least("tailLines", self.tail_lines, 0),
            least("limitBytes", self.limit_bytes, 1),
            self.check_since(),
            self.check_stream(),
        ]
        .into_iter()
        .flatten()
        .collect();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Failure::not_valid(("PodLogOptions", ""), pod, &wrong)),
        }
    }

    fn check_since(&self) -> Option<FieldError> {
        match (self.since_seconds, self.since_time) {
            (Some(_), Some(_)) => {
                let text =
                    "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified";
                Some(error("", Reason::Forbidden, text.to_owned()))
            }
            (seconds, _) => least("sinceSeconds", seconds, 1),
        }
    }

    fn check_stream(&self) -> Option<FieldError> {
        match self.stream.as_deref()? {
            "Stdout" | "Stderr" => self.tail_lines.map(|_| {
                let text = "Forbidden: `tailLines` and specific `stream` are mutually exclusive for \
                            now";
                error("", Reason::Forbidden, text.to_owned())
            }),
            other => {
                let known = "supported values: \"All\", \"Stderr\", \"Stdout\"";
                let text = format!("Unsupported value: {other:?}: {known}");
                Some(error("stream", Reason::NotSupported, text))
            }
        }
    }

    /// What the agent is asked; the names are the kubelet's.
    pub(super) fn path(&self) -> String {
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

fn error(field: &str, reason: Reason, detail: String) -> FieldError {
    FieldError { field: field.to_owned(), reason, detail }
}

fn least(field: &str, value: Option<i64>, least: i64) -> Option<FieldError> {
    let value = value.filter(|value| *value < least)?;
    let must = match least {
        0 => "greater than or equal to 0",
        _ => "greater than 0",
    };
    Some(error(field, Reason::Invalid, format!("Invalid value: {value}: must be {must}")))
}

/// `GET pods/{name}/log`
pub(super) async fn of_pod(
    api: &Api,
    resource: &ResourceInfo,
    uri: &Uri,
) -> Result<Response, Failure> {
    let mut request = LogRequest::of(&parameters(uri)?)?;
    request.check(&resource.name)?;
    let view = api.view();
    let pod = find::pod(&view, &resource.namespace, &resource.name)?;
    request.container = find::container(pod, &resource.name, Some(&request.container))?;
    (request.namespace, request.pod) = (resource.namespace.clone(), resource.name.clone());
    let body = match find::node(pod) {
        Some(node) => open(api, node, &request).await?,
        // Nothing was written yet.
        None => Body::empty(),
    };
    Ok(([(header::CONTENT_TYPE, "text/plain")], body).into_response())
}

/// The bytes of a log as they come from the pod's node.
pub(crate) async fn open(api: &Api, node: NodeName, request: &LogRequest) -> Result<Body, Failure> {
    let mut asked = Request::new(Body::empty());
    *asked.uri_mut() = proxy::uri(&request.path())?;
    let answer = api.backend.ask(node, asked).await?;
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(answer.into_body());
    }
    let text = to_bytes(answer.into_body(), REFUSAL_BYTES_MAX).await.unwrap_or(Bytes::new());
    let text = String::from_utf8_lossy(&text).into_owned();
    Err(match status {
        StatusCode::NOT_FOUND => Failure::not_found(text),
        StatusCode::BAD_REQUEST => Failure::bad_request(text),
        _ => Failure::unavailable(text),
    })
}
