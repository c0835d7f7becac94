//! What goes wrong, as Kubernetes says it.

use axum::{
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    kinds::{FieldError, KindInfo},
    model::Problem,
};

/// Why a request was not answered as asked: becomes a Kubernetes `Status`
/// (kubernetes.io/docs/reference/kubernetes-api/common-definitions/status).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The HTTP status.
    pub code: StatusCode,
    /// One word of Kubernetes' list (`NotFound`); empty where Kubernetes gives none.
    pub reason: &'static str,
    /// What happened and what to do.
    pub message: String,
    /// What is wrong, with its places, when it is the asker's files.
    pub problems: Vec<Problem>,
    /// What it is about, for programs.
    pub details: Option<Box<Details>>,
    /// Where an expired list may be taken up again.
    pub continue_token: Option<Box<str>>,
}

/// What a failure is about, for programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The group of its kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its resource (`deployments`); its kind where validation failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Each thing that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds to wait before asking again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// One word of Kubernetes' list (`FieldValueInvalid`); empty where it is no field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// Where; empty when it is no field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl From<&FieldError> for Cause {
    fn from(error: &FieldError) -> Self {
        Self {
            reason: error.reason.as_cause().to_owned(),
            message: error.detail.clone(),
            field: error.field.clone(),
        }
    }
}

impl Failure {
    /// Any other failure.
    pub fn of(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        let (problems, details, continue_token) = (Vec::new(), None, None);
        Self { code, reason, message: message.into(), problems, details, continue_token }
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// Nobody was named by a certificate, or a signature does not fit.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::of(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    /// This one may not do that.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::of(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::of(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// It cannot be done as things stand.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::of(StatusCode::CONFLICT, "Conflict", message)
    }

    /// The files of a revision are not valid.
    pub fn invalid(message: impl Into<String>, problems: Vec<Problem>) -> Self {
        Self { problems, ..Self::of(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message) }
    }

    /// Too much is asked at once; try again in a second.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::too_many_for(1, message)
    }

    /// As [`too_many`](Self::too_many), for so many seconds.
    pub fn too_many_for(seconds: u32, message: impl Into<String>) -> Self {
        let details = Details { retry_after_seconds: Some(seconds), ..Details::default() };
        Self::of(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).with(details)
    }

    /// This server cannot answer now (it does not lead, its remote is down); another or a later one
    /// may.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::of(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// The answer took too long.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::of(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    /// We erred.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::of(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The history does not reach back to what was asked.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::of(StatusCode::GONE, "Expired", message)
    }

    /// There is nothing at this path: what discovery does not list.
    pub fn no_resource() -> Self {
        Self::not_found("the server could not find the requested resource").with(Details::default())
    }

    /// The path is there, the method is not.
    pub fn no_method() -> Self {
        let text = "the server does not allow this method on the requested resource";
        Self::of(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text).with(Details::default())
    }

    /// `configmaps "x" not found`
    pub fn no_object(info: &KindInfo, name: &str) -> Self {
        let text = format!("{} {name:?} not found", qualified(&info.plural, &info.group));
        Self::not_found(text).with(Details::of(info, name))
    }

    /// `configmaps "x" already exists`
    pub fn exists(info: &KindInfo, name: &str) -> Self {
        let text = format!("{} {name:?} already exists", qualified(&info.plural, &info.group));
        Self::of(StatusCode::CONFLICT, "AlreadyExists", text).with(Details::of(info, name))
    }

    /// `Operation cannot be fulfilled on configmaps "x": …`
    pub fn modified(info: &KindInfo, name: &str) -> Self {
        let text = "the object has been modified; please apply your changes to the latest version \
                    and try again";
        Self::cannot(info, name, text)
    }

    /// `Operation cannot be fulfilled on configmaps "x": why`
    pub fn cannot(info: &KindInfo, name: &str, why: &str) -> Self {
        let of = qualified(&info.plural, &info.group);
        let text = format!("Operation cannot be fulfilled on {of} {name:?}: {why}");
        Self::conflict(text).with(Details::of(info, name))
    }

    /// As [`Failure::refused`], with the reason that a policy gives.
    pub fn denied(info: &KindInfo, name: &str, why: &str, reason: &str) -> Self {
        let (code, reason) = match reason {
            "Forbidden" => (StatusCode::FORBIDDEN, "Forbidden"),
            "Unauthorized" => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            "RequestEntityTooLarge" => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
        };
        let cause = Cause { message: why.to_owned(), ..Cause::default() };
        let details = Details { causes: vec![cause], ..Details::of(info, name) };
        let text = Self::refused(info, name, why).message;
        Self::of(code, reason, text).with(details)
    }

    /// `configmaps "x" is forbidden: why`
    pub fn refused(info: &KindInfo, name: &str, why: &str) -> Self {
        let text = format!("{} {name:?} is forbidden: {why}", qualified(&info.plural, &info.group));
        Self::forbidden(text).with(Details::of(info, name))
    }

    /// `Deployment.apps "x" is invalid: …`, with a cause for each field.
    pub fn not_valid(kind: (&str, &str), name: &str, errors: &[FieldError]) -> Self {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let all = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let text = format!("{} {name:?} is invalid: {all}", qualified(kind.0, kind.1));
        let details = Details {
            name: name.to_owned(),
            kind: kind.0.to_owned(),
            group: kind.1.to_owned(),
            causes: errors.iter().map(Cause::from).collect(),
            ..Details::default()
        };
        Self::of(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", text).with(details)
    }

    /// The same failure with what it is about.
    #[must_use]
    pub fn with(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The Kubernetes Status.
    pub fn status(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code.as_u16(),
        });
        if !self.reason.is_empty() {
            body["reason"] = self.reason.into();
        }
        if let Some(token) = &self.continue_token {
            body["metadata"]["continue"] = token.to_string().into();
        }
        if let Some(details) = &self.details {
            body["details"] = json!(details);
        }
        if !self.problems.is_empty() {
            let causes = self.problems.iter().map(|problem| Cause {
                reason: "FieldValueInvalid".to_owned(),
                message: problem.to_string(),
                field: problem.field.clone(),
            });
            body["details"]["causes"] = json!(causes.collect::<Vec<_>>());
        }
        body
    }
}

impl Details {
    /// About an object, or about a collection when it has no name.
    pub fn of(info: &KindInfo, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            group: info.group.to_string(),
            kind: info.plural.to_string(),
            ..Self::default()
        }
    }
}

/// `deployments.apps`; the core group has no name.
pub(super) fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// Why an answer is a failure, in its extensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (self.code, headers, format!("{}\n", self.status())).into_response();
        response.extensions_mut().insert(Said { reason: self.reason, message: self.message });
        let seconds = self.details.and_then(|details| details.retry_after_seconds);
        if let Some(seconds) = seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Failure {
    let message = format!("{method} is not possible at {}", uri.path());
    Failure::of(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}
