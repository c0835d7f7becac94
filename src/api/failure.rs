//! What goes wrong, as Kubernetes says it.

use axum::{
    Json,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::model::Problem;

/// Why a request was not answered as asked: becomes a Kubernetes `Status`
/// (kubernetes.io/docs/reference/kubernetes-api/common-definitions/status).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The HTTP status.
    pub code: StatusCode,
    /// One word of Kubernetes' list (`NotFound`).
    pub reason: &'static str,
    /// What happened and what to do.
    pub message: String,
    /// What is wrong, with its places, when it is the asker's files.
    pub problems: Vec<Problem>,
}

impl Failure {
    fn of(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), problems: Vec::new() }
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
        Self::of(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
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
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if !self.problems.is_empty() {
            let causes = self.problems.iter().map(|problem| {
                json!({ "reason": "FieldValueInvalid", "field": problem.field, "message": problem.to_string() })
            });
            body["details"] = json!({ "causes": causes.collect::<Vec<_>>() });
        }
        let mut response = (self.code, Json(body)).into_response();
        if self.code == StatusCode::TOO_MANY_REQUESTS {
            let second = axum::http::HeaderValue::from_static("1");
            response.headers_mut().insert(axum::http::header::RETRY_AFTER, second);
        }
        response
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Failure {
    Failure::not_found(format!("there is nothing at {}", uri.path()))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Failure {
    let message = format!("{method} is not possible at {}", uri.path());
    Failure::of(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}
