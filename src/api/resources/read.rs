//! Get: one object, and what all readers share about versions.

use std::time::Duration;

use axum::{http::StatusCode, response::Response};

use super::{
    Ask,
    answer::Shape,
    options::{self, Asked},
};
use crate::{
    api::{
        Api, Failure,
        failure::{Cause, Details},
    },
    model::Revision,
    state::View,
};

/// How long a reader may wait for a version that is yet to come: Kubernetes' three seconds, in
/// which a server that is behind catches up.
const FUTURE_SECONDS_MAX: u64 = 3;

/// Answers with one object.
pub(super) async fn get(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let asked = options::version(&ask.query).map_err(options::without_reason)?;
    let view = view_at_least(api, asked).await?;
    let object = view.object(&ask.key());
    let object = object.ok_or_else(|| Failure::no_object(&ask.info, &ask.resource.name))?;
    Ok(shape.one(StatusCode::OK, object))
}

/// The newest View, once it has reached what is asked for.
pub(super) async fn view_at_least(api: &Api, asked: Asked) -> Result<View, Failure> {
    let Asked::At(revision) = asked else { return Ok(api.view()) };
    let mut views = api.backend.views();
    let limit = Duration::from_secs(FUTURE_SECONDS_MAX);
    let reached = views.wait_for(|view| view.revision() >= revision);
    match tokio::time::timeout(limit, reached).await {
        Ok(Ok(view)) => Ok(view.clone()),
        Ok(Err(_)) => Err(Failure::unavailable("the server is stopping")),
        Err(_) => Err(too_large(revision, api.view().revision())),
    }
}

fn too_large(asked: Revision, current: Revision) -> Failure {
    let text = format!("Timeout: Too large resource version: {asked}, current: {current}");
    let cause = Cause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        field: String::new(),
    };
    let details =
        Details { causes: vec![cause], retry_after_seconds: Some(1), ..Details::default() };
    Failure::timeout(text).with(details)
}
