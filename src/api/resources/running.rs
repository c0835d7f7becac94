//! What of a pod changes while it runs, each by a path of its own: containers for debugging
//! (`ephemeralcontainers`), and what its containers may use (`resize`).

use axum::{http::StatusCode, response::Response};
use serde_json::Value;

use super::{
    Ask,
    answer::{self, Shape},
    body, books,
    options::WriteOptions,
    patching, write,
};
use crate::{
    api::{
        Api, Failure,
        patch::{Patch, Schema},
    },
    model::Object,
    state::Part,
};

/// Takes the one part of a pod that was sent and leaves the rest as it is.
pub(super) async fn serve(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let is_patch = ask.verb == "patch";
    let name = if is_patch { "PatchOptions" } else { "UpdateOptions" };
    let options = WriteOptions::of(name, &ask.query)?;
    let (sent, patch, mut told) = match is_patch {
        true => {
            let (patch, told) = patching::read(ask, options.strictness)?;
            (Value::Null, Some(patch), told)
        }
        false => {
            let (sent, told) = body::sent(ask, options.strictness)?;
            (sent, None, told)
        }
    };
    let mut wanted = |live: &Object| {
        let mut sent = match &patch {
            Some(Patch::Apply(wish)) => books::apply(api, ask, Some(live), wish)?,
            Some(patch) => {
                let schema = Schema::of(&ask.info, &ask.api_version);
                patching::apply(schema, patch, &ask.shown(live))?
            }
            None => sent.clone(),
        };
        body::identify(ask, &mut sent)?;
        write::named_as_path(ask, &sent)?;
        Ok(with_part(&ask.resource.subresource, live, &sent))
    };
    let (written, warnings) = write::replaced(api, ask, options, Part::Main, &mut wanted).await?;
    told.extend(warnings);
    Ok(answer::warn(shape.one(StatusCode::OK, &written.object), &told))
}

/// The live pod with that part of the one that was sent.
fn with_part(part: &str, live: &Object, sent: &Value) -> Value {
    let mut value = live.value();
    for field in ["resourceVersion", "uid"] {
        value["metadata"][field] = sent["metadata"][field].clone();
    }
    if part == "ephemeralcontainers" {
        value["spec"]["ephemeralContainers"] = sent["spec"]["ephemeralContainers"].clone();
        return value;
    }
    for list in ["containers", "initContainers"] {
        let containers = value["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let same = |other: &&Value| other["name"] == container["name"];
            let named = sent["spec"][list].as_array().into_iter().flatten().find(same);
            if let Some(resources) = named.and_then(|named| named.get("resources")) {
                container["resources"] = resources.clone();
            }
        }
    }
    value
}
