//! List: a collection at one revision, whole or page by page.

use axum::response::Response;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{
    Ask,
    answer::{ListMeta, Shape},
    options::{self, Asked, Filter, Match},
    read::view_at_least,
};
use crate::{
    api::{Api, Failure},
    model::{GroupKind, Object, Revision},
    state::View,
};

/// Where the next page of a list begins, and at which revision. Clients hand it back as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token {
    v: String,
    /// -1: whatever is the newest.
    rv: i64,
    /// `/name` or `namespace/name` of the last object of the page before, and a zero.
    start: String,
}

impl Token {
    fn after(revision: i64, last: &Object) -> Self {
        let key = last.key();
        let start = format!("{}/{}\0", key.namespace, key.name);
        Self { v: "meta.k8s.io/v1".to_owned(), rv: revision, start }
    }

    fn write(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn read(text: &str) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::bad_request(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        let bytes = bytes.map_err(|e| wrong(e.to_string()))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        match token.start.contains('/') && token.v == "meta.k8s.io/v1" {
            true => Ok(token),
            false => Err(wrong("it is of another server".to_owned())),
        }
    }

    /// Whether an object comes after the page this token ends.
    fn is_before(&self, object: &Object) -> bool {
        let start = self.start.trim_end_matches('\0');
        let (namespace, name) = start.split_once('/').unwrap_or_default();
        (object.key().namespace.as_str(), object.key().name.as_str()) > (namespace, name)
    }
}

/// Answers with a collection.
pub(super) async fn list(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, true, api.backend.now())?;
    let filter = Filter::of(ask)?;
    let limit = limit(ask)?;
    let matching = options::matching(&ask.query, false)?;
    let token = ask.query.get("continue").map(Token::read).transpose()?;
    let view = match &token {
        Some(token) => view_of_token(api, ask, token)?,
        None => view_as_asked(api, ask, matching).await?,
    };
    let from = token.as_ref();
    let page = page(&view, &ask.info.group_kind(), ask.namespace(), &filter, from, limit);
    Ok(shape.list(&page.meta, page.objects))
}

/// The most objects of a page; `None` is no limit.
fn limit(ask: &Ask) -> Result<Option<usize>, Failure> {
    let limit = options::number(&ask.query, "limit")?.filter(|limit| *limit > 0);
    // What is asked for "whatever its age" is answered whole, as from Kubernetes' watch cache.
    let whole = ask.takes_any() && ask.query.get("continue").is_none();
    Ok(limit.filter(|_| !whole).and_then(|limit| usize::try_from(limit).ok()))
}

async fn view_as_asked(api: &Api, ask: &Ask, matching: Match) -> Result<View, Failure> {
    let asked = options::version(&ask.query);
    let asked =
        asked.map_err(|e| Failure::bad_request(format!("invalid resource version: {e}")))?;
    let view = view_at_least(api, asked).await?;
    match (asked, matching) {
        (Asked::At(revision), Match::Exact) => view.at(revision).ok_or_else(|| {
            Failure::expired("The resourceVersion for the provided list is too old.")
        }),
        _ => Ok(view),
    }
}

/// The state a list began with, or a failure that says how to go on without it.
fn view_of_token(api: &Api, ask: &Ask, token: &Token) -> Result<View, Failure> {
    if ask.query.get("resourceVersion").is_some_and(|version| version != "0") {
        let text = "specifying resource version is not allowed when using continue";
        return Err(Failure::bad_request(text));
    }
    let view = api.view();
    let Ok(revision) = u64::try_from(token.rv) else { return Ok(view) };
    view.at(Revision(revision)).ok_or_else(|| {
        let text = "The provided continue parameter is too old to display a consistent list \
                    result. You can start a new list without the continue parameter, or use the \
                    continue token in this response to retrieve the remainder of the results. \
                    Continuing with the provided token results in an inconsistent list - objects \
                    that were created, modified, or deleted between the time the first chunk was \
                    returned and now may show up in the list.";
        let fresh = Token { rv: -1, ..token.clone() };
        Failure { continue_token: Some(fresh.write().into()), ..Failure::expired(text) }
    })
}

/// One page of a list.
pub(super) struct Page {
    pub(super) meta: ListMeta,
    pub(super) objects: Vec<Object>,
}

/// The objects of a page and where the next one begins.
pub(super) fn page(
    view: &View,
    kind: &GroupKind,
    namespace: Option<&str>,
    filter: &Filter,
    from: Option<&Token>,
    limit: Option<usize>,
) -> Page {
    let after = |object: &&Object| from.is_none_or(|token| token.is_before(object));
    let mut rest = view.of_kind(kind, namespace).filter(after).filter(|o| filter.matches(o));
    let objects: Vec<Object> = rest.by_ref().take(limit.unwrap_or(usize::MAX)).cloned().collect();
    let left = rest.count();
    let revision = view.revision();
    let mut meta = ListMeta { resource_version: revision.to_string(), ..ListMeta::default() };
    if let Some(last) = objects.last().filter(|_| left > 0) {
        let revision = i64::try_from(revision.0).unwrap_or(i64::MAX);
        meta.continue_token = Token::after(revision, last).write();
        meta.remaining_item_count = filter.is_empty().then_some(left);
    }
    Page { meta, objects }
}
